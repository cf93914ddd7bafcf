-- SPDX-License-Identifier: MIT
--
-- swaps.lua - cached values that change by what they are: incr and cas, in one process, in several
-- instances, and in two processes at once.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local MISS = { null, null, "miss" }

local cache = assert(perilune.open { name = "swaps", log = false })

spec.test("a number is added to, and read as any other value", function()
  spec.returns(MISS, cache:incr "n")
  spec.returns({ 1 }, cache:incr("n", 1, { initial = 0 }))
  spec.returns({ 2 }, cache:incr "n")
  spec.returns({ -40 }, cache:incr("n", -42, { initial = 7 }))
  spec.returns({ -40, null, "l1" }, cache:get "n")
  cache:set("n", 5)
  spec.returns({ 6 }, cache:incr "n")
end)

spec.test("a string of digits stays a string", function()
  cache:set("text", "41")
  spec.returns({ 42 }, cache:incr "text")
  spec.returns({ "42", null, "l1" }, cache:get "text")
  cache:set("text", "-9223372036854775808")
  spec.returns({ math.mininteger + 1 }, cache:incr "text")
end)

spec.test("every integer is added to, at the edges of its form", function()
  for _, edge in ipairs { 0, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, -32, -33,
    -128, -129, -32768, -32769, -2147483648, -2147483649, math.maxinteger - 1,
    math.mininteger + 1 } do
    for _, delta in ipairs { 1, -1 } do
      cache:set("edge", edge - delta)
      spec.returns({ edge }, cache:incr("edge", delta))
      spec.returns({ edge, null, "l1" }, cache:get "edge")
      spec.returns({ true }, cache:cas("edge", edge, "next")) -- the same bytes as of set
    end
  end
end)

spec.test("what is no whole number is told, and stays", function()
  for _, value in ipairs { "x", "", "1.5", "-", 1.5, true, { 1 } } do
    cache:set("other", value)
    local sum, message, code = cache:incr "other"
    spec.same(sum, nil)
    spec.same(code, "wrong_type")
    spec.contains(message, "no whole number")
    spec.same(cache:get "other", value)
  end
  cache:set("other", math.maxinteger)
  spec.same(select(3, cache:incr "other"), "too_big")
  spec.same(cache:get "other", math.maxinteger)
end)

spec.test("a life goes on, unless a ttl is given", function()
  local function left(key)
    return select(5, cache:peek(key))
  end
  cache:set("life", 1, { ttl = 1000 })
  cache:incr "life"
  assert(left "life" > 900 and left "life" <= 1000)
  cache:incr("life", 1, { ttl = "2h" })
  assert(left "life" > 7000)
  cache:cas("life", 3, 4, { ttl = 50 })
  assert(left "life" <= 50)
  cache:incr("young", 1, { initial = 0, ttl = 70 })
  assert(left "young" <= 70)
end)

spec.test("cas stores where the old value is there, and tells what is", function()
  spec.returns(MISS, cache:cas("c", "old", "new"))
  spec.returns({ true }, cache:cas("c", nil, "old"))
  spec.returns({ null, null, "not_stored", "old" }, cache:cas("c", nil, "new"))
  spec.returns({ null, null, "not_stored", "old" }, cache:cas("c", "other", "new"))
  spec.returns({ true }, cache:cas("c", "old", "new"))
  spec.returns({ "new", null, "l1" }, cache:get "c")
  spec.returns({ true }, cache:cas("c", "new", 5))
  spec.returns({ null, null, "not_stored", 5 }, cache:cas("c", "5", 6))
  spec.returns({ true }, cache:cas("c", 5.0, 6)) -- equal, though not the same bytes
end)

spec.test("tables are the same where their contents are, in whatever order", function()
  local a, b = {}, {}
  for i = 1, 40 do
    a["field" .. i] = { i }
    b["field" .. 41 - i] = { 41 - i }
  end
  for i = 100, 200 do -- another order in memory
    b["gone" .. i] = i
    b["gone" .. i] = nil
  end
  cache:set("t", a)
  spec.returns({ true }, cache:cas("t", b, { "next" }))
  local _, _, code, present = cache:cas("t", { "next", "more" }, 1)
  spec.same(code, "not_stored")
  spec.same(present, { "next" })
  spec.same(select(3, cache:cas("t", {}, 1)), "not_stored")
  spec.returns({ true }, cache:cas("t", { "next" }, 1))
end)

spec.test("wrong arguments raise", function()
  spec.raises("closed cache", function()
    local own = perilune.open {}
    own:close()
    own:incr "n"
  end)
  spec.raises("number expected", cache.incr, cache, "n", "x")
  spec.raises("no integer representation", cache.incr, cache, "n", 1.5)
  spec.raises("did you mean 'initial'", cache.incr, cache, "n", 1, { inital = 1 })
  spec.raises("'initial' must be a whole number", cache.incr, cache, "n", 1, { initial = 1.5 })
  spec.raises("option 'ttl' must be", cache.incr, cache, "n", 1, { ttl = "soon" })
  spec.raises("the new value is nil", cache.cas, cache, "n", 1)
  spec.raises("a function cannot be cached", cache.cas, cache, "n", 1, print)
  spec.raises("a function cannot be cached", cache.cas, cache, "n", print, 1)
  spec.raises("did you mean 'ttl'", cache.cas, cache, "n", 1, 2, { tll = 1 })
end)

spec.test("counters are other things, by the same names", function()
  local redis <close> = spec.redis()
  local own <close> = assert(perilune.open { redis = redis.url, log = false })
  spec.returns({ 3 }, own:count("name", 3))
  spec.returns(MISS, own:incr "name")
  spec.returns({ 11 }, own:incr("name", 1, { initial = 10 }))
  spec.same(own:counter "name", 3)
end)

spec.test("two processes add at the same time, and every addition counts", function()
  local redis <close> = spec.redis()
  local folder, remove = spec.folder()
  local script = spec.write(folder .. "/add.lua", [[
    local options = { redis = arg[1], ns = "s", timeout = "2s" }
    local cache <close> = assert(require "perilune".open(options))
    for _ = 1, 300 do
      assert(cache:incr("sum", 2, { initial = 0, timeout = "30s" }))
    end]])
  local command = ("%s run %s %s"):format(assert(os.getenv "PERILUNE"), script, redis.url)
  local both = "(%s & a=$!; %s; b=$?; wait $a && exit $b)"
  local _, code, said = spec.run(both:format(command, command))
  remove()
  spec.same(code, 0, said)
  local own <close> = assert(perilune.open { redis = redis.url, ns = "s", log = false })
  spec.same(own:get "sum", 1200)
end)

spec.test("with Redis gone it is nil, message, code, and nothing comes of it later", function()
  local redis <close> = spec.redis()
  local own <close> = assert(perilune.open { redis = redis.url, log = false })
  own:set("n", 1)
  redis.stop()
  for _, try in ipairs {
    function() return own:incr "n" end,
    function() return own:cas("n", 1, 2) end,
    function() return own:cas("m", nil, 2) end,
  } do
    local done, message, code = try()
    spec.same(done, nil)
    spec.same(type(message), "string")
    assert(code == "l2_down" or code == "timeout", code)
  end
  spec.same(own:stats().recovery_kept, 0)
end)

cache:close()
spec.finish()
