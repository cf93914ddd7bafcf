-- SPDX-License-Identifier: MIT
--
-- forms.lua - in which form values lie in Redis: JSON, compressed, and plain bytes that other
-- programs read and write.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local function open(options)
  options = options or {}
  options.log, options.workers = false, 1
  return assert(perilune.open(options))
end

---------------------------------------------------------------------------------------------------
-- JSON

spec.test("values are stored as JSON where a call, a rule or the cache says so", function()
  local values = { 1, -1, 1.5, true, false, {}, { 1, 2 }, { a = { b = "ü" } }, math.maxinteger }
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/policy.lua", [[cache.rule "json:{id}" { codec = "json" }]])
  local by_cache <close> = open { codec = "json" }
  local by_rule <close> = open { policy = path }
  for i, value in ipairs(values) do
    by_cache:set("k", value)
    spec.same(by_cache:get "k", value, "value " .. i)
    by_rule:set("json:1", value)
    spec.same(by_rule:get "json:1", value, "value " .. i)
    by_rule:set("other", value, { codec = "json" })
    spec.same(by_rule:get "other", value, "value " .. i)
  end
  by_cache:set("s", '{"a":1}')
  spec.same(by_cache:get "s", '{"a":1}') -- a string stays one
  spec.same(by_rule:explain("json:1"):match "codec +(%l+)", "json")
  remove()
end)

spec.test("what cannot be JSON is refused, with its place", function()
  local cache <close> = open { codec = "json" }
  for what, value in pairs {
    ["value.f: a function cannot be cached"] = { f = print },
    ["value[2]: nan and infinities cannot be JSON"] = { 1, 0 / 0 },
    ["value.x: nan and infinities"] = { x = math.huge },
    ["value[7]: in JSON only a string can be a key"] = { [7] = 1, a = 2 },
    ["value.s: a string that is not UTF-8 cannot be JSON"] = { s = "\xff" },
    ["a key that is not UTF-8"] = { ["\xff"] = 1 },
  } do
    spec.raises(what, cache.set, cache, "k", value)
  end
  local loop = {}
  loop.self = loop
  spec.raises("contains itself", cache.set, cache, "k", loop)
  spec.raises("option 'codec' must be 'msgpack' or 'json'", cache.set, cache, "k", 1,
    { codec = "xml" })
  spec.raises("codec: must be one of msgpack, json", perilune.open, { codec = "xml" })
end)

spec.test("a loader's table follows the rule, in a policy and in a program", function()
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/policy.lua", [[
    cache.rule "json:{id}" { codec = "json", load = function(key, c) return { c.id } end }
    cache.rule "mine:{id}" { codec = "json" }
  ]])
  local _ <close> = perilune.memory "json"
  local cache <close> = open { policy = path, redis = "memory:json" }
  spec.same(cache:get "json:7", { "7" })
  local _, message, code = cache:get("mine:1", function() return { [3] = "no JSON" } end)
  spec.contains(message, "in JSON only a string can be a key")
  spec.same(code, "loader")
  spec.same(cache:get("mine:1", function() return { "x" } end), { "x" })
  remove()
end)

---------------------------------------------------------------------------------------------------
-- compression, and plain values, over Redis

local redis <close> = spec.redis()

local function over(options)
  options.redis, options.timeout = redis.url, "10s"
  return open(options)
end

spec.test("long values take less of Redis, and come back", function()
  local text = ("all work and no play "):rep(500)
  for _, compression in ipairs { "lz4", "zstd" } do
    local good, one = pcall(over, { ns = compression, compress = "1k", compression = compression })
    if good then
      local two = over { ns = compression }
      spec.wait_until("L1 keeps what is read", function() return two:stats().bus_ok == 1 end)
      one:set("k", text)
      one:set("t", { text, text })
      one:set("short", "short")
      assert(tonumber((redis.command("strlen " .. compression .. ":v:k"))) < 1000)
      spec.same(two:get "k", text)
      spec.same(two:get "t", { text, text })
      spec.same(two:get "short", "short")
      spec.same(two:get("l", function() return "loaded" end), "loaded")
      spec.same(one:stats().compressed, 2)
      assert(one:stats().compress_percent < 10)
      spec.same(two:stats().decompressed, 2)
      one:touch("k", "1h")
      spec.same(two:get("k", { l1 = false }), text)
      one:expire "k"
      spec.same(select(3, two:get("k", { l1 = false })), "miss")
      one:set("k", text, { nx = true })
      one:close()
      two:close()
    else
      spec.contains(one, "this build has no " .. compression)
    end
  end
end)

spec.test("a rule says what is compressed, and how", function()
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/policy.lua", [[
    cache.class "big" { compress = "100" }
    cache.rule "big:{id}" { class = "big" }
  ]])
  local cache <close> = over { ns = "rules", policy = path }
  cache:set("big:1", ("x"):rep(5000))
  cache:set("other:1", ("x"):rep(5000))
  assert(tonumber((redis.command "strlen rules:v:big:1")) < 500)
  assert(tonumber((redis.command "strlen rules:v:other:1")) > 5000)
  spec.same(cache:explain("big:1"):match "compress +(%d+ +class big)", "100          class big")
  spec.write(path, [[cache.rule "big:{id}" { compression = "snappy" }]])
  local _, message = cache:load_policy(path)
  spec.contains(message, 'compression: "lz4" or "zstd", got')
  remove()
end)

local function plain(more)
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/policy.lua", [[
    cache.rule "plain:{id}" { plain = true, ttl = "10m" }
    cache.rule "json:{id}" { plain = true, codec = "json" }
  ]])
  local options = { ns = "shared", policy = path }
  for name, value in pairs(more or {}) do
    options[name] = value
  end
  local cache = over(options)
  remove()
  return cache
end

spec.test("plain values are what other programs read and write", function()
  local cache <close> = plain()
  spec.same(cache:set("plain:1", "bytes"), true)
  spec.same((redis.command "get shared:v:plain:1"), "bytes\n")
  local left = tonumber((redis.command "pttl shared:v:plain:1"))
  assert(left > 500000 and left <= 600000, left)
  redis.command "set shared:v:plain:2 foreign px 30000"
  local value, _, how = cache:get "plain:2"
  spec.same(value, "foreign")
  spec.same(how, "l2")
  local _, _, _, _, until_stale = cache:peek "plain:2"
  assert(until_stale <= 30 and until_stale > 10, until_stale)
  redis.command "set shared:v:plain:3 forever"
  spec.same(cache:get "plain:3", "forever")
  _, _, _, _, until_stale = cache:peek "plain:3"
  assert(until_stale <= 600 and until_stale > 500, until_stale)
  spec.same(cache:delete "plain:3", true)
  spec.same((redis.command "exists shared:v:plain:3"), "0\n")
  spec.returns({ null, null, "miss" }, cache:get "plain:3")
  redis.command "set shared:v:plain:4 '{\"a\":1}'"
  spec.same(cache:get "plain:4", '{"a":1}')
  redis.command "lpush shared:v:plain:5 list"
  spec.same((cache:get "plain:5"), nil)
end)

spec.test("a plain value can be JSON", function()
  local cache <close> = plain()
  cache:set("json:1", { a = { 1, 2 } })
  spec.same((redis.command "get shared:v:json:1"), '{"a":[1,2]}\n')
  cache:set("json:2", "text")
  spec.same((redis.command "get shared:v:json:2"), '"text"\n')
  spec.same(cache:get("json:2", { l1 = false }), "text")
  redis.command [[set shared:v:json:3 '{"b":[true,null]}']]
  spec.same(cache:get "json:3", { b = { true } })
  redis.command [[set shared:v:json:4 '{"b":']]
  local value, message, code = cache:get "json:4"
  spec.same(value, nil)
  spec.contains(message, "damaged JSON")
  spec.same(code, "l2_error")
end)

spec.test("what plain values cannot be is refused", function()
  local cache <close> = plain()
  spec.raises("takes strings, got a table", cache.set, cache, "plain:1", {})
  spec.raises("has no tags", cache.set, cache, "plain:1", "v", { tags = "t" })
  spec.raises("says in which form", cache.set, cache, "plain:1", "v", { codec = "json" })
  cache:set("plain:1", "v")
  cache:set("plain:1", nil) -- there are no bytes for it
  spec.same((redis.command "exists shared:v:plain:1"), "0\n")
  for body, what in pairs {
    ["plain = true, tags = { \"t\" }"] = "plain: not with tags",
    ["plain = true, sliding = true"] = "plain: not with sliding",
  } do
    local folder, remove = spec.folder()
    local path = spec.write(folder .. "/policy.lua", 'cache.rule "p" { ' .. body .. " }")
    local _, message = cache:load_policy(path)
    spec.contains(message, what)
    remove()
  end
end)

spec.test("loaded, conditional and many plain values", function()
  local cache <close> = plain()
  spec.same(cache:get("plain:10", function() return "loaded" end), "loaded")
  spec.same((redis.command "get shared:v:plain:10"), "loaded\n")
  spec.returns({ null, null, "not_stored" }, cache:set("plain:10", "no", { nx = true }))
  spec.same(cache:set("plain:10", "yes", { xx = true }), true)
  spec.returns({ null, null, "not_stored" }, cache:set("plain:11", "no", { xx = true }))
  redis.command "set shared:v:plain:12 foreign"
  cache:set("ours", { 1 })
  local values, hows = cache:get_many({ "plain:12", "ours", "none", "plain:10" }, { l1 = false })
  spec.same(values[1], "foreign")
  spec.same(values[2], { 1 })
  spec.same(values[4], "yes")
  spec.same(hows, { "l2", "l2", "miss", "l2" })
  spec.same(cache:stats().l2_bad_values, 0)
  cache:expire "plain:12"
  spec.same((redis.command "exists shared:v:plain:12"), "0\n")
end)

spec.test("with tracking a foreign write is seen at once", function()
  local cache <close> = plain { tracking = true }
  redis.command "set shared:v:plain:20 old"
  spec.same(cache:get "plain:20", "old")
  spec.wait_until("it is in L1, with the link live", function()
    return select(3, cache:get "plain:20") == "l1" and cache:stats().bus_ok == 1
  end)
  redis.command "set shared:v:plain:20 new"
  spec.wait_until("the new one is seen", function()
    return cache:get "plain:20" == "new"
  end)
end)

spec.test("what is added to and swapped keeps its form", function()
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/policy.lua", [[
    cache.rule "json:{id}" { codec = "json", compress = "100" }
    cache.rule "packed:{id}" { compress = "100" }
    cache.rule "plain:{id}" { plain = true, codec = "json" }
  ]])
  local cache <close> = over { ns = "swapped", policy = path }
  local function stored(key)
    return (redis.command("get swapped:v:" .. key))
  end
  local long = { text = ("all work and no play "):rep(100), n = 1 }
  local next_one = { text = long.text .. "!", n = 2 }
  for _, key in ipairs { "json:1", "packed:1" } do
    spec.same(cache:set(key, long), true)
    assert(#stored(key) < 1000, key) -- compressed
    spec.returns({ null, null, "not_stored", long }, cache:cas(key, { "other" }, next_one))
    spec.same(cache:cas(key, long, next_one), true)
    assert(#stored(key) < 1000, key)
    spec.same(cache:get(key, { l1 = false }), next_one)
    spec.same(select(3, cache:incr(key)), "wrong_type")
  end
  cache:set("json:2", 41)
  spec.returns({ 42 }, cache:incr "json:2")
  spec.contains(stored "json:2", "42")
  spec.same(cache:cas("json:2", 42, { 43 }), true)
  spec.contains(stored "json:2", "[43]")
  cache:set("plain:1", 1)
  spec.raises("a plain value changes by set alone", cache.incr, cache, "plain:1")
  spec.raises("a plain value changes by set alone", cache.cas, cache, "plain:1", 1, 2)
  spec.same(stored "plain:1", "1\n")
  remove()
end)

spec.test("a value of ours under a rule that has become plain is loaded anew", function()
  local before <close> = over { ns = "shared" }
  before:set("plain:30", "enveloped")
  local cache <close> = plain()
  spec.returns({ null, null, "miss" }, cache:get "plain:30")
  spec.same(cache:get("plain:30", function() return "bytes" end), "bytes")
  spec.same((redis.command "get shared:v:plain:30"), "bytes\n")
end)

spec.finish()
