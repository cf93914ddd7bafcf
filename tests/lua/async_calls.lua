-- SPDX-License-Identifier: MIT
--
-- async_calls.lua - call_async: what it writes, changes and counts is what the methods do.

local spec = require "spec"
local null = spec.null

local open, test = require "pair"("calls")

local function finish(op)
  spec.wait_until("the op is ready", function()
    return op:ready()
  end)
  return op:result()
end

test("call_async writes as the methods do", function(a, b, memory)
  local function call(...)
    return finish(a:call_async(...))
  end
  memory:faults { delay = "5ms" }
  local op <close> = a:call_async("set", "k", { 1 }, { ttl = "1m", tags = { "t" } })
  spec.same(op:ready(), false)
  spec.returns({ true }, finish(op))
  spec.returns({ true }, op:result())
  spec.same(b:get "k", { 1 })
  spec.returns({ null, null, "not_stored" }, call("set", "k", 2, { nx = true }))
  spec.returns({ true }, call("touch", "k", "2m"))
  spec.returns({ null, null, "miss" }, call("touch", "none", 5))
  spec.returns({ true }, call("invalidate_tag", "t"))
  spec.same(select(3, b:get "k"), "miss")
  for _, how in ipairs { { "delete", "p:1" }, { "delete_many", { "p:1" } }, { "clear" },
    { "invalidate_prefix", "p:" }, { "invalidate_pattern", "p:*" } } do
    spec.returns({ true }, call("set", "p:1", "v"))
    spec.same(b:get "p:1", "v")
    spec.returns({ true }, call(table.unpack(how)))
    spec.same(select(3, b:get "p:1"), "miss")
  end
  spec.returns({ true }, call("expire", "p:1"))
  spec.returns({ true }, call("set", "absent", nil))
  spec.same(select(3, a:get "absent"), "negative")
  spec.raises("no method 'sett' to be called so, did you mean 'set'?", a.call_async, a, "sett")
  spec.raises("no method 'frobnicate' to be called so, only set, delete,", a.call_async, a,
    "frobnicate")
  spec.raises("ttl", a.call_async, a, "touch", "k", "15 parsecs")
  memory:cut "fail"
  local _, message, code = call("delete", "k")
  spec.same({ type(message), code }, { "string", "l2_down" })
  memory:heal()
end)

test("call_async changes values by what they are, and counts", function(a, b)
  local function call(...)
    return finish(a:call_async(...))
  end
  spec.returns({ null, null, "miss" }, call("incr", "n"))
  spec.returns({ 5 }, call("incr", "n", 2, { initial = 3 }))
  spec.returns({ 6 }, call("incr", "n"))
  spec.same(b:get "n", 6)
  spec.returns({ true }, call("cas", "n", 6, 7))
  spec.returns({ null, null, "not_stored", 7 }, call("cas", "n", 6, 8))
  spec.returns({ null, null, "miss" }, call("cas", "none", 1, 2))
  spec.returns({ true }, call("cas", "new", nil, { 1, two = { 2 } }))
  spec.returns({ null, null, "not_stored", { 1, two = { 2 } } }, call("cas", "new", nil, "other"))
  spec.returns({ true }, call("cas", "new", b:get "new", "other"))
  spec.raises("the new value is nil", a.call_async, a, "cas", "new", 1)
  spec.raises("unknown option 'initail', did you mean 'initial'?", a.call_async, a, "incr", "n", 1,
    { initail = 1 })
  a:set("text", "no number")
  spec.same(select(3, call("incr", "text")), "wrong_type")
  local path, remove = spec.folder()
  assert(a:load_policy(spec.write(path .. "/policy.lua",
    'cache.on "renamed" { keys = { "u:{id}" } }')))
  remove()
  b:set("u:7", "Ada")
  spec.returns({ true }, call("raise", "renamed", { id = 7 }))
  spec.returns({ null, null, "miss" }, b:get "u:7")
  spec.returns({ null, null, "miss" }, call("raise", "nothing of the kind"))
  spec.raises("field 'id' is a table", a.call_async, a, "raise", "renamed", { id = {} })
end)

test("equal tables are swapped however their fields are ordered", function(a, b)
  local names, old, same = {}, {}, {}
  for i = 1, 40 do
    names[i] = "field " .. i
    old[names[i]] = i
  end
  for i = 40, 1, -1 do
    same[names[i]] = i
  end
  a:set("k", old)
  spec.returns({ true }, finish(b:call_async("cas", "k", same, "new")))
  spec.same(a:get "k", "new")
end)

test("what was begun and dropped is written all the same", function(a, b)
  a:call_async("set", "k", "v")
  collectgarbage()
  a:close()
  spec.same(b:get "k", "v")
end)

spec.test("call_async encodes what it is given as the key's rule says", function()
  local path, remove = spec.folder()
  local redis <close> = spec.redis()
  local cache <close> = open("forms", { redis = redis.url })
  assert(cache:load_policy(spec.write(path .. "/policy.lua", [[
    cache.rule "json:{id}" { ttl = "1m", codec = "json" }
    cache.rule "plain:{id}" { ttl = "1m", plain = true, codec = "json" }
  ]])))
  remove()
  local function stored(key)
    local name = redis.command(("--scan --pattern '*:%s'"):format(key)):match "[^\n]+"
    return redis.command("get " .. name)
  end
  spec.returns({ true }, finish(cache:call_async("set", "json:1", { 1, 2 })))
  spec.contains(stored "json:1", "[1,2]")
  spec.returns({ true }, finish(cache:call_async("set", "plain:1", { a = 1 })))
  spec.same(stored "plain:1", '{"a":1}\n')
  spec.returns({ true }, finish(cache:call_async("set", "other:1", { 3 }, { codec = "json" })))
  spec.contains(stored "other:1", "[3]")
  spec.returns({ true }, finish(cache:call_async("cas", "json:1", { 1, 2 }, { 4 })))
  spec.contains(stored "json:1", "[4]")
  spec.returns({ 1 }, finish(cache:call_async("incr", "json:n", 1, { initial = 0 })))
  spec.contains(stored "json:n", "1")
  spec.raises("the key's rule is plain", cache.call_async, cache, "set", "plain:1", { 1 },
    { codec = "msgpack" })
end)

spec.test("counters and limits are counted by call_async, too", function()
  local redis <close> = spec.redis()
  local cache <close> = open("counts", { redis = redis.url })
  local function call(...)
    return finish(cache:call_async(...))
  end
  spec.returns({ 2 }, call("count", "hits", 2, { ttl = "1m" }))
  spec.returns({ 2 }, call("counter", "hits"))
  spec.returns({ true }, call("reset_counter", "hits"))
  spec.returns({ 0 }, call("counter", "hits"))
  local allowed, remaining, retry, reset = call("limit", "ada", { rate = 2, per = "1h" })
  spec.same({ allowed, remaining, retry }, { true, 1, 0.0 })
  spec.same(math.type(reset), "float")
  spec.raises("unknown option 'rat', did you mean 'rate'?", cache.call_async, cache, "limit", "ada",
    { rat = 1 })
end)

spec.finish()
