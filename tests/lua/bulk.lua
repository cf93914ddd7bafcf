-- SPDX-License-Identifier: MIT
--
-- bulk.lua - get_many with a loader: one call for all keys that are missing.

local spec = require "spec"
local perilune = require "perilune"

local cache = assert(perilune.open { name = "bulk", log = false, negative = "1h" })

-- A loader that notes what it was asked for, and knows every key but those that begin with "no".
local function source()
  local asked = {}
  return function(keys)
    asked[#asked + 1] = table.concat(keys, " ")
    local values = {}
    for _, key in ipairs(keys) do
      if not tostring(key):find "^no" then
        values[key] = { name = key }
      end
    end
    return values
  end, asked
end

-- Values by key.
local function names(keys, values)
  local list = {}
  for i = 1, #keys do
    list[i] = values[i] and values[i].name or "-"
  end
  return table.concat(list, " ")
end

spec.test("the loader is called once, with what is missing", function()
  local load, asked = source()
  cache:set("u:2", { name = "two" })
  local keys = { "u:1", "u:2", "u:3", "nobody" }
  local values, hows, message = cache:get_many(keys, load)
  spec.same(names(keys, values), "u:1 two u:3 -")
  spec.same(hows, { "loaded", "l1", "loaded", "negative" })
  spec.same(message, nil)
  values, hows = cache:get_many(keys, nil, load)
  spec.same(names(keys, values), "u:1 two u:3 -")
  spec.same(hows, { "l1", "l1", "l1", "negative" })
  spec.same(asked, { "u:1 u:3 nobody" })
end)

spec.test("a key is what the caller has written, also a number", function()
  local values, hows = cache:get_many({ 71, "72" }, function(keys)
    spec.same(keys, { 71, "72" })
    return { [71] = "by number", ["72"] = "by text" }
  end)
  spec.same(values, { "by number", "by text" })
  spec.same(hows, { "loaded", "loaded" })
  spec.same(cache:get "71", "by number")
end)

spec.test("ttls are of all, or by key", function()
  local function left(key)
    return select(5, cache:peek(key))
  end
  cache:get_many({ "t:1", "t:2" }, function()
    return { ["t:1"] = 1, ["t:2"] = 2 }, nil, "50s"
  end)
  assert(left "t:1" <= 50 and left "t:2" <= 50)
  cache:get_many({ "t:3", "t:4", "t:5" }, function()
    return { ["t:3"] = 1, ["t:4"] = 2, ["t:5"] = 3 }, nil, { ["t:3"] = 40, ["t:5"] = -1 }
  end)
  assert(left "t:3" <= 40 and left "t:4" > 50)
  spec.same(cache:peek "t:5", nil)
  local _, hows = cache:get_many({ "t:6" }, { ttl = 30, tags = { "bulk" } }, function()
    return { ["t:6"] = 1 }
  end)
  spec.same(hows, { "loaded" })
  assert(left "t:6" <= 30)
  cache:invalidate_tag "bulk"
  spec.same(cache:peek "t:6", nil)
end)

spec.test("a failure is told, and what was there is there", function()
  cache:set("e:1", "here")
  local values, hows, message = cache:get_many({ "e:1", "e:2" }, function()
    return nil, "the database is away"
  end)
  spec.same(values, { "here" })
  spec.same(hows, { "l1", "loader" })
  spec.same(message, "the database is away")
  values, hows, message = cache:get_many({ "e:1", "e:2" }, function()
    error "broken"
  end)
  spec.same(values, { "here" })
  spec.same(hows, { "l1", "loader" })
  spec.contains(message, "broken")
  spec.contains(message, "stack traceback")
  spec.contains(select(3, cache:get_many({ "e:2" }, function() end)), "must return a table by key")
  spec.contains(select(3, cache:get_many({ "e:2" }, function()
    return { ["e:2"] = print }
  end)), "key 'e:2': value: a function cannot be cached")
  spec.contains(select(3, cache:get_many({ "e:2" }, function()
    return { ["e:2"] = 1 }, nil, "soon"
  end)), "must be a positive duration")
  spec.same(select(3, cache:get "e:2"), "miss")
end)

spec.test("a failure of a rule's loader is told as well", function()
  local folder, remove = spec.folder()
  local policy = spec.write(folder .. "/p.lua", [[
    cache.rule "f:{id}" { load_many = function() return nil, "the database is away" end }]])
  local other <close> = assert(perilune.open { log = false, policy = policy })
  other:set("here", 1)
  local values, hows, message = other:get_many { "here", "f:1", "f:2" }
  spec.same({ values, hows }, { { 1 }, { "l1", "loader", "loader" } })
  spec.contains(message, "rule 'f:{id}': load_many: the database is away")
  spec.same(select("#", other:get_many { "here", "nowhere" }), 2)
  remove()
end)

spec.test("the loader may use the cache, but for its own keys", function()
  local values = cache:get_many({ "w:1", "w:2" }, function(keys)
    spec.same(select(3, cache:get "w:2"), "loader")
    spec.raises("while a function that it called is running", cache.close, cache)
    local inner = cache:get_many({ "v:1" }, function()
      return { ["v:1"] = "inner" }
    end)
    return { [keys[1]] = inner[1], [keys[2]] = "outer" }
  end)
  spec.same(values, { "inner", "outer" })
end)

spec.test("many keys, some of them twice", function()
  local load, asked = source()
  local keys = {}
  for i = 1, 3000 do
    keys[i] = "m:" .. i % 2000
  end
  local values, hows = cache:get_many(keys, load)
  spec.same(#asked, 1)
  for i = 1, 3000 do
    spec.same(values[i].name, keys[i])
    spec.same(hows[i], "loaded")
  end
end)

spec.test("wrong arguments raise", function()
  spec.raises("the loader must be a function", cache.get_many, cache, { "k" }, {}, 1)
  spec.raises("key 2 is a table", cache.get_many, cache, { "k", {} }, print)
  spec.raises("unknown option 'tll'", cache.get_many, cache, { "k" }, { tll = 1 }, print)
  spec.raises("0 bytes", cache.get_many, cache, { "k", "" }, print)
  spec.same({ cache:get_many({}, print) }, { {}, {} })
end)

spec.test("what one process has loaded the other reads", function()
  local redis <close> = spec.redis()
  local a <close> = assert(perilune.open { redis = redis.url, ns = "s", log = false })
  local b <close> = assert(perilune.open { redis = redis.url, ns = "s", log = false })
  local load, asked = source()
  a:get_many({ "k:1", "k:2", "no" }, load)
  local values, hows = b:get_many({ "k:1", "k:2", "k:3", "no" }, load)
  spec.same(names({ "k:1", "k:2", "k:3" }, values), "k:1 k:2 k:3")
  spec.same(hows, { "l2", "l2", "loaded", "negative" })
  spec.same(asked, { "k:1 k:2 no", "k:3" })
  redis.stop()
  values, hows = b:get_many({ "k:4" }, load) -- nobody to share it with
  spec.same({ values[1].name, hows[1] }, { "k:4", "loaded" })
end)

cache:close()
spec.finish()
