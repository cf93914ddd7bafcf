-- SPDX-License-Identifier: MIT
--
-- data.lua - any command, and Redis's data structures, over a Redis: what they answer, how long
-- they live, and hashes that two instances hold in L1.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local MISS = { null, null, "miss" }

local redis = spec.redis()
local folder, remove_folder = spec.folder()
local policy = spec.write(folder .. "/policy.lua", [[
cache.rule "cart:{id}" { ttl = "1m", hash_l1 = true }
cache.rule "short:{x}" { ttl = "20s" }
cache.rule "always:{x}" { ttl = "forever" }
]])

local function open(name)
  local cache = assert(perilune.open {
    name = name, redis = redis.url, ns = "spec", log = false, timeout = "5s", policy = policy,
  })
  spec.wait_until("the link is live", function()
    return cache:stats().bus_ok == 1
  end)
  return cache
end

local cache <close> = open "cache"

-- Milliseconds that a structure has left; -1: forever, -2: it is not there.
local function left(name)
  return cache:redis("PTTL", cache:name(name))
end

---------------------------------------------------------------------------------------------------
-- any command

spec.test("redis() answers as Redis does", function()
  spec.returns({ "OK" }, cache:redis("SET", "plain", 7))
  spec.returns({ "7" }, cache:redis("get", "plain"))
  spec.returns({ 8 }, cache:redis("INCR", "plain"))
  spec.returns(MISS, cache:redis("GET", "nothing"))
  spec.same(cache:redis("MGET", "plain", "nothing", "plain"), { "8", false, "8" })
  spec.same(cache:redis("EVAL", "return {1, {'a', {err = 'E no'}}, false}", 0),
    { 1, { "a", { err = "E no" } }, false })
  spec.returns({ "8" }, cache:redis("GET", "plain", { timeout = "1s", key = "plain" }))
  spec.same(redis.command "get plain", "8\n")
end)

spec.test("answers have the same shape and numbers in each protocol", function()
  cache:redis("ZADD", "sorted", 3, "a", 4.5, "b", "inf", "c")
  local flat = cache:redis("ZRANGE", "sorted", 0, -1, "WITHSCORES")
  spec.same(#flat, 6)
  spec.same(math.type(tonumber(flat[2])), "integer")
  spec.same({ flat[1], tonumber(flat[2]), flat[3], tonumber(flat[4]), flat[5] },
    { "a", 3, "b", 4.5, "c" })
  spec.same(tostring(flat[6]), "inf")
  spec.same(tonumber(cache:redis("ZSCORE", "sorted", "a")), 3)
  cache:redis("HSET", "hash", "f", "v")
  spec.same(cache:redis("HGETALL", "hash"), { "f", "v" })
  cache:redis("SADD", "set", "m")
  spec.same(cache:redis("SMEMBERS", "set"), { "m" })
  cache:redis("XADD", "stream", "1-1", "f", "v")
  spec.same(cache:redis("XREAD", "STREAMS", "stream", 0),
    { { "stream", { { "1-1", { "f", "v" } } } } })
  local truth = cache:redis("EVAL", "redis.setresp(3) return true", 0)
  assert(truth == true or truth == 1)
end)

spec.test("numbers reach Redis as they are", function()
  cache:redis("SET", "f", 0.1)
  spec.same(cache:redis("GET", "f"), "0.1")
  cache:redis("SET", "f", 1 / 3)
  spec.same(tonumber(cache:redis("GET", "f")), 1 / 3)
  cache:redis("SET", "f", math.mininteger)
  spec.same(cache:redis("GET", "f"), "-9223372036854775808")
  cache:redis("SET", "f", "\0\r\n")
  spec.same(cache:redis("GET", "f"), "\0\r\n")
end)

spec.test("what Redis refuses is nil, message, l2_error", function()
  local value, message, code = cache:redis("LPUSH", "plain", 1)
  spec.returns({ null, "l2_error" }, value, code)
  spec.contains(message, "WRONGTYPE")
end)

spec.test("what would block or change a connection raises, and says what to use", function()
  for words, reason in pairs {
    ["SUBSCRIBE x"] = "subscribe on a connection of your own",
    ["multi"] = "use EVAL",
    ["BLPOP q 0"] = "ask without blocking",
    ["SELECT 1"] = "chosen at open",
    ["AUTH x"] = "chosen at open",
    ["CLIENT KILL x"] = "redis-cli",
    ["XREAD BLOCK 0 STREAMS s $"] = "ask without blocking",
  } do
    local list = {}
    for word in words:gmatch "%S+" do
      list[#list + 1] = word
    end
    spec.raises(reason, cache.redis, cache, table.unpack(list))
  end
  spec.returns({ "PONG" }, cache:redis "PING")
end)

spec.test("wrong arguments raise and are named", function()
  spec.raises("Redis takes strings and numbers, got a boolean", cache.redis, cache, "SET", "k",
    true)
  spec.raises("Redis takes strings and numbers, got a nil", cache.redis, cache, "SET", "k", nil)
  spec.raises("unknown option 'timeot', did you mean 'timeout'?", cache.redis, cache, "PING",
    { timeot = 1 })
  spec.raises("nan", cache.redis, cache, "SET", "k", 0 / 0)
  spec.raises("the list is empty", cache.sadd, cache, "s", {})
  spec.raises("the table is empty", cache.hset, cache, "h", {})
  spec.raises("table expected", cache.hset, cache, "h", "f")
  spec.raises("got a table", cache.hset, cache, "h", { f = {} })
  spec.raises("unknown option 'ttl'", cache.hget, cache, "h", "f", { ttl = 1 })
  spec.raises("name: 0 bytes", cache.hset, cache, "", { f = 1 })
  spec.raises("name: 0 bytes", cache.name, cache, "")
  spec.raises("option 'maxlen' must be an integer", cache.xadd, cache, "x", { a = 1 },
    { maxlen = 0 })
end)

spec.test("a cache without Redis says so", function()
  local alone <close> = assert(perilune.open { log = false })
  for _, call in ipairs {
    function() return alone:redis "PING" end,
    function() return alone:hset("h", { f = 1 }) end,
    function() return alone:hget("h", "f") end,
    function() return alone:board("b"):top() end,
    function() return alone:drop "h" end,
  } do
    local value, message, code = call()
    spec.returns({ null, "l2_down" }, value, code)
    spec.contains(message, "this cache has no Redis")
  end
end)

---------------------------------------------------------------------------------------------------
-- lives

spec.test("a structure lives as its rule says, from the write that makes it", function()
  cache:sadd("short:1", "a")
  assert(left "short:1" > 0 and left "short:1" <= 20000)
  cache:redis("PEXPIRE", cache:name "short:1", 5000)
  cache:sadd("short:1", "b")
  assert(left "short:1" <= 5000)
  cache:sadd("short:1", "c", { ttl = "1h" })
  assert(left "short:1" > 20000)
  cache:rpush("always:1", "a")
  spec.same(left "always:1", -1)
  cache:rpush("short:2", "a", { ttl = math.huge })
  spec.same(left "short:2", -1)
  cache:hset("no rule", { f = 1 })
  assert(left "no rule" > 20000 and left "no rule" <= 300000)
end)

spec.test("what fails leaves nothing behind", function()
  local value, message, code = cache:hincr("short:3", "f", 1, { timeout = "1s" })
  spec.returns({ 1 }, value, message, code)
  cache:hset("short:3", { f = "text" })
  value, message, code = cache:hincr("short:3", "f")
  spec.returns({ null, "l2_error" }, value, code)
  spec.contains(message, "HINCRBY")
  value, message, code = cache:sadd("short:3", "x")
  spec.returns({ null, "l2_error" }, value, code)
  spec.contains(message, "WRONGTYPE")
end)

spec.test("drop removes a structure", function()
  cache:sadd("d", "a")
  spec.returns({ true }, cache:drop "d")
  spec.returns(MISS, cache:drop "d")
end)

---------------------------------------------------------------------------------------------------
-- hashes

spec.test("a hash is read and written by its fields", function()
  spec.returns({ 3 }, cache:hset("h", { name = "Ada", born = 1815, [7] = 0.5 }))
  spec.returns({ 0 }, cache:hset("h", { born = 1815 }))
  spec.returns({ "Ada", null, "l2" }, cache:hget("h", "name"))
  spec.returns({ "0.5", null, "l2" }, cache:hget("h", 7))
  spec.returns(MISS, cache:hget("h", "died"))
  spec.returns(MISS, cache:hget("no such hash", "died"))
  local some, none, how = cache:hmget("h", { "name", "died", "born" })
  spec.same(some, { name = "Ada", born = "1815" })
  spec.returns({ null, "l2" }, none, how)
  spec.same(cache:hgetall "h", { name = "Ada", born = "1815", ["7"] = "0.5" })
  spec.same(cache:hgetall "no such hash", {})
  spec.returns({ 3 }, cache:hlen "h")
  spec.returns({ 1816 }, cache:hincr("h", "born"))
  spec.returns({ 1806 }, cache:hincr("h", "born", -10))
  spec.returns({ 1.0 }, (cache:hincr("h", "7", 0.25)) + 0.25)
  spec.returns({ 2 }, cache:hdel("h", { "name", "7", "died" }))
  spec.returns({ 1 }, cache:hdel("h", "born"))
  spec.same(left "h", -2)
end)

spec.test("a hash whose rule says hash_l1 is in L1 until another instance writes it", function()
  local other <close> = open "other"
  cache:hset("cart:1", { apples = 1, pears = 2 })
  local function reads(field, wanted, source)
    spec.wait_until(field .. " is " .. tostring(wanted), function()
      local value, _, how = other:hget("cart:1", field)
      return value == wanted and (source == nil or how == source)
    end)
  end
  reads("apples", "1", "l1")
  spec.returns({ "2", null, "l1" }, other:hget("cart:1", "pears"))
  spec.returns(MISS, other:hget("cart:1", "plums"))
  local all, _, how = other:hgetall "cart:1"
  spec.same(all, { apples = "1", pears = "2" })
  spec.same(how, "l1")
  spec.same(other:hmget("cart:1", { "pears", "plums" }), { pears = "2" })
  cache:hset("cart:1", { apples = 5 })
  reads("apples", "5")
  reads("apples", "5", "l1")
  cache:hdel("cart:1", "apples")
  reads("apples", nil)
  reads("pears", "2", "l1")
  cache:drop "cart:1"
  reads("pears", nil)
  assert(other:stats().hash_l1_hits > 0)
end)

spec.test("who writes a hash reads it so at once", function()
  for i = 1, 100 do
    cache:hset("cart:2", { n = i })
    spec.same(cache:hget("cart:2", "n"), tostring(i))
    spec.same(cache:hget("cart:2", "n"), tostring(i))
  end
end)

spec.test("a hash of thousands of fields is written and read whole", function()
  local fields, n = {}, 0
  for i = 1, 10000 do
    fields["field " .. i] = ("x"):rep(i % 40)
  end
  spec.returns({ 10000 }, cache:hset("cart:3", fields))
  spec.same(cache:hgetall "cart:3", fields)
  for field, value in cache:hscan("cart:3", { count = 100 }) do
    assert(fields[field] == value)
    n = n + 1
  end
  assert(n >= 10000)
end)

---------------------------------------------------------------------------------------------------
-- boards

spec.test("a board ranks from the highest score on, and ties as Redis does", function()
  local board = cache:board "game"
  spec.same(tostring(board), "perilune.board: game")
  for member, score in pairs { ada = 30, bob = 20, cyd = 20, dan = 10.5 } do
    spec.returns({ true }, board:add(member, score))
  end
  spec.same(board:top(2), {
    { member = "ada", score = 30, rank = 1 },
    { member = "cyd", score = 20, rank = 2 },
  })
  spec.same(#board:top(), 4)
  spec.returns({ 3, 20 }, board:rank "bob")
  spec.returns({ 4, 10.5 }, board:rank "dan")
  spec.returns(MISS, board:rank "eve")
  spec.returns({ 4 }, board:size())
  spec.same(board:around("cyd", 1), {
    { member = "ada", score = 30, rank = 1 },
    { member = "cyd", score = 20, rank = 2 },
    { member = "bob", score = 20, rank = 3 },
  })
  spec.same(board:around("dan", 1), {
    { member = "bob", score = 20, rank = 3 },
    { member = "dan", score = 10.5, rank = 4 },
  })
  spec.same(#board:around("ada", 1), 2)
  spec.same(board:around("ada", 0), { { member = "ada", score = 30, rank = 1 } })
  spec.returns(MISS, board:around "eve")
  spec.returns({ 20 }, board:incr("dan", 9.5))
  spec.returns({ 1 }, board:incr "eve")
  spec.returns({ 21 }, board:incr("bob", 1))
  spec.returns({ 2, 21 }, board:rank "bob")
  spec.returns({ 2 }, board:remove { "ada", "eve", "nobody" })
  spec.returns({ 1, 21 }, board:rank "bob")
  board:add("top", math.huge)
  spec.returns({ 1, math.huge }, board:rank "top")
end)

spec.test("a board lives as its rule says, and one that is not there is empty", function()
  local board = cache:board "short:board"
  spec.same(board:top(), {})
  spec.returns({ 0 }, board:size())
  board:add("a", 1)
  assert(left "short:board" > 0 and left "short:board" <= 20000)
  board:add("a", 2, { ttl = "1h" })
  assert(left "short:board" > 20000)
  spec.raises("number expected", board.add, board, "a", "1")
  spec.raises("n must be positive", board.top, board, 0)
  spec.raises("perilune.board expected", board.top, cache)
  spec.raises("perilune.cache expected", cache.hget, board, "h", "f")
end)

spec.test("a board of a closed cache raises", function()
  local closed = open "closed"
  local board = closed:board "b"
  local scan = closed:sscan "s"
  closed:close()
  spec.raises("closed cache", board.top, board)
  spec.raises("closed cache", scan)
end)

---------------------------------------------------------------------------------------------------
-- sets, lists, streams

spec.test("sets", function()
  spec.returns({ 2 }, cache:sadd("set", { "a", 7 }))
  spec.returns({ 0 }, cache:sadd("set", "a"))
  spec.returns({ true }, cache:sismember("set", "a"))
  spec.returns({ false }, cache:sismember("set", "b"))
  spec.returns({ 2 }, cache:scard "set")
  local members = cache:smembers "set"
  table.sort(members)
  spec.same(members, { "7", "a" })
  spec.returns({ 1 }, cache:srem("set", { "a", "b" }))
  spec.same(cache:smembers "no set", {})
end)

spec.test("lists", function()
  spec.returns({ 2 }, cache:rpush("list", { "b", "c" }))
  spec.returns({ 3 }, cache:lpush("list", "a"))
  spec.same(cache:lrange("list", 0, -1), { "a", "b", "c" })
  spec.returns({ 3 }, cache:llen "list")
  spec.returns({ true }, cache:ltrim("list", 0, 1))
  spec.returns({ "a" }, cache:lpop "list")
  spec.returns({ "b" }, cache:rpop "list")
  spec.returns(MISS, cache:lpop "list")
  cache:rpush("list", { 1, 2, 3 })
  spec.same(cache:lpop("list", { count = 2 }), { "1", "2" })
end)

spec.test("streams", function()
  local first = cache:xadd("stream", { a = 1, b = "two" })
  local second = cache:xadd("stream", { n = 2 })
  assert(first:find "^%d+%-%d+$")
  spec.returns({ 2 }, cache:xlen "stream")
  spec.same(cache:xrange "stream", {
    { id = first, fields = { a = "1", b = "two" } },
    { id = second, fields = { n = "2" } },
  })
  spec.same(#cache:xrange("stream", "-", "+", { count = 1 }), 1)
  spec.same(cache:xrange("stream", second)[1].id, second)
  spec.returns({ 1 }, cache:xdel("stream", first))
  for i = 1, 10 do
    cache:xadd("stream", { n = i }, { maxlen = 3 })
  end
  spec.returns({ 3 }, cache:xlen "stream")
end)

spec.test("scans come by everything", function()
  local all, n = {}, 0
  for i = 1, 1000 do
    all[i] = "member " .. i
  end
  cache:sadd("scanned", all)
  local seen = {}
  for member in cache:sscan("scanned", { count = 10 }) do
    seen[member] = true
  end
  for i = 1, 1000 do
    assert(seen[all[i]], all[i])
  end
  for member in cache:sscan("scanned", { match = "*9" }) do
    assert(member:find "9$")
    n = n + 1
  end
  assert(n >= 100)
  cache:board("scores"):add("a", 1.5)
  cache:board("scores"):add("b", 2)
  local scores = {}
  for member, score in cache:zscan "scores" do
    scores[member] = score
  end
  spec.same(scores, { a = 1.5, b = 2 })
  for _ in cache:hscan "no such hash" do
    error "nothing is there"
  end
  spec.raises("WRONGTYPE", cache:hscan "scores")
end)

spec.test("names are the namespace's", function()
  spec.same(cache:name "x", "spec:d:x")
  spec.same(redis.command "exists spec:d:scanned", "1\n")
end)

spec.test("with Redis gone a call is nil, message, code", function()
  cache:hset("cart:9", { a = 1 })
  spec.wait_until("L1 has it", function()
    return select(3, cache:hget("cart:9", "a")) == "l1"
  end)
  redis.stop()
  spec.wait_until("the loss is noticed", function()
    return cache:stats().bus_ok == 0
  end)
  local value, message, code = cache:hset("h", { f = 1 }, { timeout = "200ms" })
  spec.same(value, nil)
  spec.same(type(message), "string")
  assert(code == "l2_down" or code == "timeout", code)
  spec.wait_until("what L1 has is in doubt", function()
    return select(3, cache:hget("cart:9", "a")) == "stale"
  end)
  spec.returns({ "1", null, "stale" }, cache:hget("cart:9", "a"))
end)

redis.stop()
remove_folder()
spec.finish()
