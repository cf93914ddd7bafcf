-- SPDX-License-Identifier: MIT
--
-- values.lua - tables that are read: read-only, decoded once for as long as they do not change, and
-- copied where that is asked for.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local function open(options)
  options = options or {}
  options.log, options.workers = false, 1
  return assert(perilune.open(options))
end

---------------------------------------------------------------------------------------------------
-- tables that are read-only

local function sample()
  return { id = 7, name = "ada", tags = { "a", "b", "c" }, address = { city = { zip = "1" } } }
end

spec.test("a table reads as any other", function()
  local cache <close> = open()
  cache:set("t", sample())
  local t = cache:get "t"
  spec.same(type(t), "table")
  spec.same(t, sample())
  spec.same(t.address.city.zip, "1")
  spec.same(t.none, nil)
  spec.same(#t.tags, 3)
  spec.same(table.concat(t.tags, ","), "a,b,c")
  spec.same({ table.unpack(t.tags) }, { "a", "b", "c" })
  local seen = {}
  for i, tag in ipairs(t.tags) do
    seen[i] = tag
  end
  spec.same(seen, { "a", "b", "c" })
  seen = {}
  for key, value in pairs(t) do
    seen[key] = value
  end
  spec.same(seen, sample())
end)

spec.test("nothing in it can be changed", function()
  local cache <close> = open()
  cache:set("t", sample())
  local t = cache:get "t"
  local function changes(f)
    spec.raises("read-only: take cache:copy(t)", f)
  end
  changes(function() t.id = 8 end)
  changes(function() t.new = 8 end)
  changes(function() t.tags[1] = "x" end)
  changes(function() t.tags[4] = "x" end)
  changes(function() t.address.city.zip = nil end)
  changes(function() table.insert(t.tags, "d") end)
  changes(function() table.remove(t.tags) end)
  changes(function() table.sort(t.tags, function(a, b) return a > b end) end)
  spec.raises("'id'", function() t.id = 8 end)
  spec.same(getmetatable(t), false)
  spec.raises("protected", setmetatable, t, {})
  local _, state = pairs(t)
  spec.same(rawequal(state, t), true) -- and not what the loop reads
end)

spec.test("a copy is one's own, all the way down", function()
  local cache <close> = open()
  cache:set("t", sample())
  for _, copy in ipairs { cache:copy(cache:get "t"), perilune.copy(cache:get "t"),
    (cache:get("t", { copy = true })) } do
    spec.same(getmetatable(copy), nil)
    copy.id, copy.address.city.zip, copy.tags[4] = 8, "2", "d"
    spec.same(copy.tags, { "a", "b", "c", "d" })
    spec.same(next(copy) ~= nil, true)
  end
  spec.same(cache:get "t", sample())
  spec.same(perilune.copy(17), 17)
  local own = { { 1 } }
  local copied = perilune.copy(own)
  own[1][1] = 2
  spec.same(copied, { { 1 } })
  own[1] = own
  spec.raises("contains itself", perilune.copy, own)
  spec.raises("value expected", perilune.copy)
end)

spec.test("a read-only table is stored by its contents", function()
  local cache <close> = open()
  cache:set("t", sample())
  local t = cache:get "t"
  cache:set("u", t)
  cache:set("v", { inner = t, list = { t.tags } })
  cache:set("j", t, { codec = "json" })
  spec.same(cache:get "u", sample())
  spec.same(cache:get "v", { inner = sample(), list = { { "a", "b", "c" } } })
  spec.same(cache:get "j", sample())
  spec.same(cache:get("w", function() return { t } end), { sample() })
end)

---------------------------------------------------------------------------------------------------
-- tables that are known

local function is_same(a, b)
  return rawequal(a, b) and a ~= nil
end

spec.test("a table that has not changed is not decoded again", function()
  local cache <close> = open()
  cache:set("t", sample())
  local t, _, how = cache:get "t"
  spec.same(how, "l1")
  spec.same(is_same(t, cache:get "t"), true)
  spec.same(is_same(t, (cache:peek "t")), true)
  spec.same(is_same(t, cache:get_many({ "none", "t" })[2]), true)
  spec.same(is_same(t, (cache:get("t", function() error "not called" end))), true)
  spec.same(is_same(t, (cache:get("t", { copy = true }))), false)
  spec.returns({ t, null, "l1" }, cache:get "t")
end)

spec.test("one of many bytes is known again, too", function()
  local cache <close> = open()
  local many = {}
  for i = 1, 3000 do
    many[i] = "number " .. i
  end
  cache:set("t", many)
  local t = cache:get "t"
  spec.same(t, many)
  spec.same(is_same(t, cache:get "t"), true)
  many[2999] = "another"
  cache:set("t", many)
  spec.same(cache:get "t", many)
  spec.same(t[2999], "number 2999")
end)

spec.test("what is replaced, deleted or of another kind is not handed out", function()
  local cache <close> = open()
  cache:set("t", { 1 })
  local t = cache:get "t"
  cache:set("t", { 2 })
  spec.same(cache:get "t", { 2 })
  spec.same(t, { 1 })
  cache:set("t", "string")
  spec.same(cache:get "t", "string")
  cache:set("t", 5)
  spec.same(cache:get "t", 5)
  cache:set("t", { 1 }, { codec = "json" })
  spec.same(cache:get "t", { 1 })
  cache:delete "t"
  spec.returns({ null, null, "miss" }, cache:get "t")
  cache:set("t", { 3 }, { tags = { "tag" } })
  cache:get "t"
  cache:invalidate_tag "tag"
  spec.returns({ null, null, "miss" }, cache:get "t")
  cache:set("t", { 3 })
  spec.same(cache:get "t", { 3 })
  cache:clear()
  spec.returns({ null, null, "miss" }, cache:get "t")
end)

spec.test("another instance's word ends it", function()
  local _ <close> = perilune.memory "values"
  local one <close> = open { redis = "memory:values", ns = "v" }
  local two <close> = open { redis = "memory:values", ns = "v" }
  one:set("t", { 1 })
  local t = two:get "t"
  spec.same(is_same(t, two:get "t"), true)
  one:set("t", { 2 })
  spec.wait_until("the word comes", function()
    return two:get("t")[1] == 2
  end)
  one:delete "t"
  spec.wait_until("the word comes", function()
    return two:get "t" == nil
  end)
  spec.same(select(3, two:get "t"), "miss")
end)

spec.test("how old it is decides the cache as ever", function()
  local cache <close> = open { ttl = 0.05, stale = "1h" }
  cache:set("t", { 1 })
  local t = cache:get "t"
  spec.wait_until("it is stale", function()
    local again, _, how = cache:get "t"
    spec.same(is_same(t, again), true)
    return how == "stale"
  end)
  spec.same(select(3, cache:get("t", { no_stale = true })), "miss")
  local n = 0
  local loaded, _, how = cache:get("t", { no_stale = true }, function()
    n = n + 1
    return { 2 }
  end)
  spec.same(loaded, { 2 })
  spec.same(how, "loaded")
  spec.same(n, 1)
end)

spec.test("as many are known as have room", function()
  local cache <close> = open { decoded = "4k" }
  local function value(i)
    return { ("x"):rep(100), i }
  end
  local first = {}
  for i = 1, 200 do
    cache:set("t" .. i, value(i))
    first[i] = cache:get("t" .. i)
  end
  local n = 0
  for i = 1, 200 do
    local again = cache:get("t" .. i)
    spec.same(again, value(i))
    n = n + (is_same(first[i], again) and 1 or 0)
  end
  assert(n <= 40, n .. " are known")
  cache:set("large", { ("x"):rep(2000) }) -- more than a quarter of all
  spec.same(is_same(cache:get "large", cache:get "large"), false)
  spec.same(is_same(cache:get "t200", cache:get "t200"), true)
end)

spec.test("what is used stays, what is not goes", function()
  local cache <close> = open { decoded = "4k" }
  cache:set("hot", { ("x"):rep(100) })
  local hot = cache:get "hot"
  for i = 1, 500 do
    cache:set("t" .. i, { ("y"):rep(100), i })
    cache:get("t" .. i)
    spec.same(is_same(hot, cache:get "hot"), true)
  end
end)

spec.test("many small ones are known", function()
  local cache <close> = open()
  local first = {}
  for i = 1, 5000 do
    cache:set("t" .. i, { i })
    first[i] = cache:get("t" .. i)
  end
  for i = 1, 5000 do
    spec.same(is_same(first[i], cache:get("t" .. i)), true)
  end
end)

spec.test("with none known, each get gives its table away", function()
  local cache <close> = open { decoded = "none" }
  cache:set("t", sample())
  local t = cache:get "t"
  t.id = 8
  spec.same(cache:get "t", sample())
  spec.same(getmetatable(t), nil)
  for _, wrong in ipairs { "lots", true, -1, {} } do
    spec.raises("option 'decoded' must be a size", perilune.open, { decoded = wrong })
  end
end)

spec.test("closing forgets, and tables live on", function()
  local cache = open()
  cache:set("t", sample())
  local t = cache:get "t"
  cache:close()
  cache:close()
  spec.same(t, sample())
  spec.raises("read-only", function() t.id = 1 end)
  local memory = setmetatable({}, { __mode = "v" })
  do
    local short = open()
    short:set("t", { 1 })
    memory[1] = short:get "t"
    short:close()
  end
  collectgarbage()
  collectgarbage()
  spec.same(memory[1], nil)
end)

spec.test("a finalizer may read and close while a table is read", function()
  local cache = open()
  for i = 1, 100 do
    cache:set("t" .. i, { i, { i } })
  end
  for i = 1, 100 do
    setmetatable({}, { __gc = function()
      pcall(cache.get, cache, "t" .. (i % 7 + 1)) -- Lua 5.3 raises again what a finalizer raises
      if i == 90 then
        cache:close()
      end
    end })
    local good, value = pcall(cache.get, cache, "t" .. i)
    if good then
      spec.same(value, { i, { i } })
    end
    collectgarbage("step", 1)
  end
  cache:close()
end)

spec.test("wrapped functions hand out known tables, or copies", function()
  local cache <close> = open()
  local find = cache:wrap(function(id) return { id } end, { prefix = "w" })
  local own = cache:wrap(function(id) return { id } end, { prefix = "o", copy = true })
  find(1)
  spec.same(is_same(find(1), find(1)), true)
  spec.raises("read-only", function() find(1)[1] = 2 end)
  own(1)[1] = 2
  spec.same(own(1), { 1 })
end)

spec.finish()
