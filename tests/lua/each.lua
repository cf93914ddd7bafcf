-- SPDX-License-Identifier: MIT
--
-- each.lua - the keys in memory one after the other, and what is heard of other instances.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local function all(cache, pattern)
  local list = {}
  for key in cache:each(pattern) do
    list[#list + 1] = key
  end
  table.sort(list)
  return list
end

spec.test("keys come one by one, by prefix or pattern, with what is known of them", function()
  local cache <close> = assert(perilune.open { log = false })
  for i = 1, 3 do
    cache:set("user:" .. i, ("x"):rep(i), { ttl = 100 * i })
    cache:set("page:" .. i, i)
  end
  cache:set("user:none", nil)
  spec.same(all(cache, "user:"), { "user:1", "user:2", "user:3" })
  spec.same(all(cache, "*:2"), { "page:2", "user:2" })
  spec.same(all(cache, "u*r:*"), { "user:1", "user:2", "user:3" })
  spec.same(all(cache, "user:1*"), { "user:1" })
  spec.same(#all(cache), 6)
  spec.same(all(cache, "nothing"), {})
  for key, info in cache:each "user:2" do
    spec.same(key, "user:2")
    spec.same(info.bytes, 2)
    assert(info.left > 150 and info.left <= 200 and info.age < 50)
  end
  cache:set("user:1", 1, { ttl = "forever" })
  for _, info in cache:each "user:1" do
    spec.same(info.left, math.huge)
  end
end)

spec.test("many keys, and those that go meanwhile are passed over", function()
  local cache <close> = assert(perilune.open { log = false, max_bytes = "16m" })
  for i = 1, 5000 do
    cache:set("k:" .. i, i)
  end
  local n = 0
  for _ in cache:each "k:" do
    n = n + 1
    if n == 1 then
      cache:clear()
      cache:set("k:new", 1)
    end
  end
  spec.same(n, 1)
end)

spec.test("a loop that is left gives up what it held", function()
  local cache <close> = assert(perilune.open { log = false })
  cache:set("a", 1)
  cache:set("b", 2)
  local next_key, _, _, walk = cache:each()
  do
    local closed <close> = walk -- as a for loop does
    assert(closed and next_key())
  end
  spec.returns({}, next_key())
  spec.raises("string expected", cache.each, cache, {})
  local iterate = cache:each()
  cache:close()
  spec.raises("closed cache", iterate)
  spec.raises("closed cache", cache.each, cache)
end)

-- ---- events ----

local function heard(cache)
  local list = {}
  for event in function() return (cache:poll_event()) end do
    local what = event.key or event.tag or event.text
    list[#list + 1] = what and event.kind .. " " .. what or event.kind
  end
  return table.concat(list, ", ")
end

spec.test("what others do is told to who asks, in its order", function()
  local server <close> = assert(perilune.memory "each")
  local a <close> = assert(perilune.open { redis = "memory:each", ns = "s", log = false })
  local b <close> = assert(perilune.open { redis = "memory:each", ns = "s", log = false })
  a:set("before", 1)
  spec.returns({ null, null, "miss" }, b:poll_event())
  spec.returns({ true }, b:events())
  a:set("k", 1, { tags = { "t" } })
  a:expire "k"
  a:delete "k"
  b:set("own", 1)
  a:invalidate_tag "t"
  a:invalidate_prefix "user:"
  a:invalidate_pattern "u*r"
  a:clear()
  spec.same(heard(b), "key k, expire k, key k, tag t, prefix user:, pattern u*r, clear")
  spec.returns({ null, null, "miss" }, b:poll_event())
  assert(server)
end)

spec.test("events are bounded, and the lost ones counted", function()
  local server <close> = assert(perilune.memory "each")
  local a <close> = assert(perilune.open { redis = "memory:each", ns = "s", log = false })
  local b <close> = assert(perilune.open { redis = "memory:each", ns = "s", log = false })
  b:events(2)
  for i = 1, 5 do
    a:set("k:" .. i, i)
  end
  spec.same(b:poll_event(), { kind = "key", key = "k:1", lost = 0 })
  spec.same(b:poll_event(), { kind = "key", key = "k:2", lost = 0 })
  a:delete(("x"):rep(300))
  spec.same(b:poll_event(), { kind = "key", key = ("x"):rep(255), cut = true, lost = 3 })
  spec.raises("they are kept already", b.events, b)
  spec.raises("must be positive", a.events, a, 0)
  spec.raises("must be from 1 to 65536", a.events, a, 65537)
  assert(server)
end)

spec.test("the link's loss and return are told", function()
  local redis <close> = spec.redis()
  local cache <close> = assert(perilune.open { redis = redis.url, log = false, ping = "100ms" })
  cache:events()
  spec.wait_until("the link is live", function()
    return cache:stats().bus_ok == 1
  end)
  redis.stop()
  local last
  spec.wait_until("its loss is told", function()
    local event = cache:poll_event()
    last = event and event.kind or last
    return last == "down"
  end)
end)

spec.finish()
