-- SPDX-License-Identifier: MIT
--
-- values.lua - the form of values: read-only tables that are decoded once, copies, JSON,
-- compression, and plain bytes that other programs read and write.

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
  local memory <close> = perilune.memory "values"
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
      cache:get("t" .. (i % 7 + 1))
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
  local memory <close> = perilune.memory "json"
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

spec.test("a value of ours under a rule that has become plain is loaded anew", function()
  local before <close> = over { ns = "shared" }
  before:set("plain:30", "enveloped")
  local cache <close> = plain()
  spec.returns({ null, null, "miss" }, cache:get "plain:30")
  spec.same(cache:get("plain:30", function() return "bytes" end), "bytes")
  spec.same((redis.command "get shared:v:plain:30"), "bytes\n")
end)

spec.finish()
