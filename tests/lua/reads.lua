-- SPDX-License-Identifier: MIT
--
-- reads.lua - get, peek, get_many and loaders, without a Redis.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local cache = assert(perilune.open { name = "reads", log = false })

spec.test("a miss is nil, nil, miss", function()
  spec.returns({ null, null, "miss" }, cache:get "nothing")
end)

spec.test("a value comes back with nil and the tier", function()
  cache:set("a", "value")
  spec.returns({ "value", null, "l1" }, cache:get "a")
end)

spec.test("a cached nil is nil, nil, negative", function()
  cache:set("absent", nil)
  spec.returns({ null, null, "negative" }, cache:get "absent")
end)

spec.test("values of every kind come back as they were", function()
  local values = { "", "with \0 byte", ("x"):rep(2048), ("x"):rep(2049), ("y"):rep(100000), 0, -1,
    math.maxinteger, math.mininteger, 1.0, 0.1, math.huge, true, false, {}, { 1, 2, 3 },
    { a = { b = { c = "deep" } } }, { [1] = "one", [3] = "three", x = true, [2.5] = "f" } }
  for i, value in ipairs(values) do
    spec.same(cache:set("value", value), true, "set " .. i)
    spec.same(cache:get "value", value, "value " .. i)
  end
end)

spec.test("a table that is read cannot be changed", function()
  cache:set("table", { 1 })
  spec.raises("read-only", function()
    cache:get("table")[1] = 2
  end)
  spec.same(cache:get "table", { 1 })
end)

spec.test("integers are keys", function()
  cache:set(17, "seventeen")
  spec.same(cache:get "17", "seventeen")
  spec.same(cache:get(17), "seventeen")
end)

spec.test("keys may have any bytes", function()
  cache:set("a\0b", "1")
  cache:set("a\0c", "2")
  spec.same(cache:get "a\0b", "1")
end)

spec.test("what is no key raises", function()
  for _, key in ipairs { {}, true, 1.5, print } do
    spec.raises("string or integer expected", cache.get, cache, key)
  end
  spec.raises("string or integer expected", cache.get, cache)
  spec.raises("key", cache.get, cache, "")
  spec.raises("4097", cache.get, cache, ("k"):rep(4097))
end)

spec.test("a misspelt option of a call raises", function()
  spec.raises("unknown option 'ttll', did you mean 'ttl'?", cache.get, cache, "k", { ttll = 1 })
  spec.raises("unknown option 'nostale', did you mean 'no_stale'?", cache.get, cache, "k",
    { nostale = true })
end)

spec.test("a wrong value of a call's option raises", function()
  spec.raises("option 'ttl' must be a positive duration", cache.get, cache, "k", { ttl = 0 })
  spec.raises("'-3'", cache.get, cache, "k", { ttl = -3 })
  spec.raises("option 'l1' must be true or false", cache.get, cache, "k", { l1 = 1 })
  spec.raises("option 'read' must be 'primary', 'replica' or 'nearest', got string 'near'",
    cache.get, cache, "k", { read = "near" })
  spec.raises("option 'read' must be", cache.get, cache, "k", { read = 1 })
  spec.raises("option 'tags' must be a list", cache.get, cache, "k", { tags = { {} } })
  spec.raises("function expected", cache.get, cache, "k", nil, 5)
  local tags = {}
  for i = 1, 65 do
    tags[i] = "t" .. i
  end
  spec.raises("at most 64", cache.get, cache, "k", { tags = tags })
end)

spec.test("l1 = false looks past L1", function()
  cache:set("a", "value")
  spec.returns({ null, null, "miss" }, cache:get("a", { l1 = false }))
end)

---------------------------------------------------------------------------------------------------
-- loaders

spec.test("a loader's value is handed out and kept", function()
  local n = 0
  local function load(key, ...)
    n = n + 1
    return key .. table.concat({ ... }, ",")
  end
  spec.returns({ "load:1x,y", null, "loaded" }, cache:get("load:1", nil, load, "x", "y"))
  spec.returns({ "load:1x,y", null, "l1" }, cache:get("load:1", nil, load, "x", "y"))
  spec.same(n, 1)
end)

spec.test("the options may be left out before a loader", function()
  spec.returns({ "load:2!", null, "loaded" }, cache:get("load:2", function(key, more)
    return key .. more
  end, "!"))
end)

spec.test("an object that can be called is a loader", function()
  local loader = setmetatable({}, { __call = function(_, key)
    return "called for " .. key
  end })
  spec.same(cache:get("load:3", nil, loader), "called for load:3")
end)

spec.test("a loader may bring tables, and nil for what does not exist", function()
  spec.same(cache:get("load:4", nil, function()
    return { list = { 1, 2 } }
  end), { list = { 1, 2 } })
  spec.returns({ null, null, "negative" }, cache:get("load:5", nil, function() end))
  spec.returns({ null, null, "negative" }, cache:get "load:5")
end)

spec.test("nil, err of a loader is nil, err, loader, and is not kept", function()
  spec.returns({ null, "no database", "loader" }, cache:get("load:6", nil, function()
    return nil, "no database"
  end))
  spec.returns({ null, null, "miss" }, cache:get "load:6")
end)

spec.test("what a loader raises comes back with a traceback", function()
  local value, message, code = cache:get("load:7", nil, function()
    error "it broke"
  end)
  spec.same(value, nil)
  spec.contains(message, "it broke")
  spec.contains(message, "stack traceback")
  spec.contains(message, "reads.lua")
  spec.same(code, "loader")
end)

spec.test("an error that is no string becomes one", function()
  local odd = setmetatable({}, { __tostring = function()
    return "an odd error"
  end })
  local _, message = cache:get("load:8", nil, function()
    error(odd)
  end)
  spec.contains(message, "an odd error")
  _, message = cache:get("load:8", nil, function()
    return nil, odd
  end)
  spec.same(message, "an odd error")
  _, message = cache:get("load:8", nil, function()
    error(setmetatable({}, { __tostring = error }))
  end)
  spec.same(type(message), "string")
end)

spec.test("a value that cannot be stored is the loader's failure", function()
  local _, message, code = cache:get("load:9", nil, function()
    return { file = io.stdout }
  end)
  spec.contains(message, "value.file")
  spec.same(code, "loader")
end)

spec.test("a loader's third result is its ttl; a negative one keeps nothing", function()
  cache:get("load:10", nil, function()
    return "v", nil, 1000
  end)
  local _, _, _, _, left = cache:peek "load:10"
  assert(left > 900 and left <= 1000, left)
  spec.returns({ "v", null, "loaded" }, cache:get("load:11", nil, function()
    return "v", nil, -1
  end))
  spec.returns({ null, null, "miss" }, cache:get "load:11")
  local _, message, code = cache:get("load:12", nil, function()
    return "v", nil, "soon"
  end)
  spec.contains(message, "ttl")
  spec.same(code, "loader")
end)

spec.test("the call's ttl and negative hold for what its loader brings", function()
  cache:get("load:13", { ttl = 500 }, function()
    return "v"
  end)
  local _, _, _, _, left = cache:peek "load:13"
  assert(left > 400 and left <= 500, left)
  cache:get("load:14", { negative = "200s" }, function() end)
  _, _, _, _, left = cache:peek "load:14"
  assert(left > 100 and left <= 200, left)
end)

spec.test("the call's tags are those of the loaded value", function()
  cache:get("load:15", { tags = { "blue", 7 } }, function()
    return "v"
  end)
  cache:invalidate_tag "7"
  spec.returns({ null, null, "miss" }, cache:get "load:15")
end)

spec.test("tags that the loader takes away from the table still count", function()
  local options = { tags = { ("long tag "):rep(20) .. "1" } }
  cache:get("load:16", options, function()
    options.tags[1] = nil
    collectgarbage()
    return "v"
  end)
  cache:invalidate_tag(("long tag "):rep(20) .. "1")
  spec.returns({ null, null, "miss" }, cache:get "load:16")
end)

spec.test("a loader may use the cache for other keys", function()
  spec.same(cache:get("outer", nil, function()
    return "outer of " .. cache:get("inner", nil, function()
      return "inner"
    end)
  end), "outer of inner")
end)

spec.test("a loader that asks for its own key is told so at once", function()
  for _, loader in ipairs { function() end, false } do
    local _, message = cache:get("mine", nil, function()
      return cache:get("mine", nil, loader or nil)
    end)
    spec.contains(message, "asks for 'mine' itself")
  end
  spec.returns({ null, null, "miss" }, cache:get "mine")
end)

spec.test("a loader cannot close its cache", function()
  local _, message = cache:get("closing", nil, function()
    cache:close()
  end)
  spec.contains(message, "cannot close a cache")
  spec.contains(tostring(cache), "open")
end)

spec.test("a loader cannot yield, and works in a coroutine", function()
  local co = coroutine.wrap(function()
    local _, message = cache:get("yield", nil, coroutine.yield)
    return message, cache:get("coroutine", nil, function()
      return "fine"
    end)
  end)
  local message, value = co()
  spec.contains(message, "yield")
  spec.same(value, "fine")
end)

spec.test("a stale value is served when the loader fails", function()
  local stale <close> = perilune.open { ttl = 60, stale_if_error = 3600, log = false }
  stale:set("k", "old")
  stale:expire "k"
  spec.returns({ "old", null, "stale" }, stale:get("k", nil, function()
    return nil, "down"
  end))
  spec.returns({ null, "down", "loader" }, stale:get("k", { no_stale = true }, function()
    return nil, "down"
  end))
end)

spec.test("a loader that asks for it sees the old value, and may say not_modified", function()
  local old <close> = assert(perilune.open { name = "old", stale_if_error = "10m", log = false })
  local seen = {}
  local function load(...)
    seen = table.pack(...)
    return seen[seen.n] == nil and { version = 1 } or perilune.not_modified
  end
  local with_old = { with_old = true, no_stale = true }
  spec.returns({ { version = 1 }, null, "loaded" }, old:get("k", with_old, load, "extra"))
  spec.same(seen, { "k", "extra", nil, n = 3 })
  old:expire "k"
  spec.returns({ { version = 1 }, null, "loaded" }, old:get("k", with_old, load, "extra"))
  spec.same(seen, { "k", "extra", { version = 1 }, n = 3 })
  spec.returns({ { version = 1 }, null, "l1" }, old:get "k") -- fresh again
  spec.same(old:stats().loads_same, 1)
  local _, message, code = old:get("other", function()
    return perilune.not_modified
  end)
  spec.contains(message, "not modified, but there is no old value")
  spec.same(code, "loader")
end)

---------------------------------------------------------------------------------------------------
-- peek

spec.test("peek tells value, tier, age and what is left, and does not load", function()
  cache:set("peek", "v", { ttl = 100 })
  local value, err, how, age, left = cache:peek "peek"
  spec.same(value, "v")
  spec.same(err, nil)
  spec.same(how, "l1")
  assert(age >= 0 and age < 10, age)
  assert(left > 90 and left <= 100, left)
  spec.returns({ null, null, "miss" }, cache:peek "never")
  cache:set("peek:nil", nil)
  spec.same(select(3, cache:peek "peek:nil"), "negative")
  local ever <close> = perilune.open { ttl = math.huge, l1_ttl = math.huge, log = false }
  ever:set("k", "v")
  spec.same(select(5, ever:peek "k"), math.huge)
end)

spec.test("peek is no get", function()
  local before = cache:stats().gets
  cache:peek "peek"
  spec.same(cache:stats().gets, before)
end)

---------------------------------------------------------------------------------------------------
-- get_many

spec.test("get_many answers by position, with a how for each", function()
  cache:set("m:1", "one")
  cache:set("m:2", { 2 })
  cache:set("m:3", nil)
  local values, hows = cache:get_many { "m:1", "m:nothing", "m:2", "m:3", "m:1" }
  spec.same(values, { [1] = "one", [3] = { 2 }, [5] = "one" })
  spec.same(hows, { "l1", "miss", "l1", "negative", "l1" })
end)

spec.test("get_many takes none, integers, and a thousand keys", function()
  local values, hows = cache:get_many {}
  spec.same(values, {})
  spec.same(hows, {})
  local keys = {}
  for i = 1, 1000 do
    keys[i] = 100000 + i
    cache:set(keys[i], "v" .. i)
  end
  values, hows = cache:get_many(keys, { timeout = 1 })
  for i = 1, 1000 do
    spec.same(values[i], "v" .. i)
    spec.same(hows[i], "l1")
  end
  spec.same(keys[1], 100001)
end)

spec.test("get_many names the key that is none", function()
  spec.raises("key 2 is a table", cache.get_many, cache, { "a", {} })
  spec.raises("key 1 is a boolean", cache.get_many, cache, { true })
  spec.raises("key 2", cache.get_many, cache, { "a", "" })
  spec.raises("table expected", cache.get_many, cache, "a")
  spec.raises("unknown option 'l3'", cache.get_many, cache, {}, { l3 = true })
end)

cache:close()
spec.finish()
