-- SPDX-License-Identifier: MIT
--
-- scarce.lua - every method of a cache, in pieces: test_scarce.c runs each under allocators that
-- fail, and sees to it that none is left out. A piece begins at a line of dashes, and is given the
-- module, the name of an engine over a Redis that others keep open, and a policy's path.
-- luacheck: ignore 211 411 431 432

---- opening and closing
local perilune, name = ...
local a <close> = assert(perilune.open(name))
local b = assert(perilune.open(name, { ttl = "5m" }))
local own <close> = perilune.open { name = "own", max_bytes = "1m", workers = 1, log = false }
tostring(a)
b:close()
assert(select(3, perilune.open(name, { ttl = "7m" })) == "invalid")
assert(select(3, perilune.shutdown "nobody") == "miss")
a:step()
a:step(0.001)
pcall(perilune.open, { tll = 1 })
perilune.clock()
perilune.notify "READY=1"
perilune.reload_policies()

---- values
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:set("short", ("x"):rep(100), { ttl = "1m", tags = { "a", "b" } })
cache:set("long", ("x"):rep(5000), { xx = true })
cache:set("table", { 1, { a = "b" } })
assert(cache:get "short" == ("x"):rep(100) and cache:get("table")[1] == 1)
cache:get("long", { timeout = 1 })
cache:copy(cache:get "table")[1] = 2
perilune.copy(cache:get("table", { copy = true }))
cache:peek "long"
for key in cache:each "lo" do
  assert(key == "long")
end
cache:terms "long"
cache:cas("number", nil, 1)
cache:cas("number", 1, 2)
pcall(function() cache:events() end) -- once in a cache's life
cache:poll_event()
assert(cache.key("user", 7) == perilune.key("user", 7))
perilune.key.parse(perilune.key("a:b", 1))
perilune.hash "bytes"
cache:get_many({ "short", "long", "table", 1 }, { no_stale = true })
cache:touch("short", "1m")
cache:expire "short"
cache:delete "short"
cache:delete_many { "long", "other" }
cache:invalidate_tag "a"
cache:invalidate_prefix "tab"
cache:invalidate_pattern "t*e"
pcall(cache.get, cache, "k", { ttll = 1 })
pcall(cache.set, cache, "k", print)

---- loaders
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:get("k", { tags = { "a", "b" } }, function(key, x) return { key, x } end, 1)
cache:get("e", nil, function() error "broken" end)
cache:get("f", nil, function() return nil, "soft" end)
cache:get("g", nil, function() return cache:get("h", nil, function() return 1 end) end)
cache:register_loader("source", function(key) return key end)
cache:register_loader("source", nil)
local f = cache:wrap(function(a) return ("y"):rep(4000) .. a end, { prefix = "f", ttl = 9 })
f(1)
f "x"
f.invalidate(1)

---- not waiting
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
local function finish(op)
  while not op:ready() do
    if op:wants_load() then
      op:load()
    end
  end
  return op:result()
end
finish(cache:call_async("set", "k", { 1 }, { tags = { "a", "b" }, ttl = 60 }))
assert(finish(cache:get_async("k", { l1 = false }))[1] == 1)
local op = cache:get_async("l", { tags = { "a" } }, function(key, x) return { key, x } end, 1)
op:pollfd()
op:events()
op:timeout()
finish(op)
finish(cache:get_async("e", function() error "broken" end))
finish(cache:get_many_async { "k", "l", 1 })
finish(cache:call_async("delete_many", { "k", "l", 2 }))
cache:delete "y"
local run = coroutine.wrap(function()
  local op <close> = cache:get_async("y", function()
    coroutine.yield()
    return "y"
  end)
  return finish(op)
end)
run()
run()
cache:get_async("z", function() end):cancel()
cache:get_or_async "k"
pcall(cache.call_async, cache, "sett")

---- seeing
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:set("k", "v")
assert(cache:stats().mode == "threads")
cache:prometheus()
cache:nodes()
cache:explain "k"
cache:explain_events()
cache:explain_events(true)
cache:keys "k"
cache:keys("", 5)
cache:hottest(3)
cache:resize "2m"

---- policies
local perilune, _, policy = ...
local cache <close> = perilune.open { max_bytes = "1m", workers = 1, log = false }
assert(cache:load_policy(policy))
cache:reload_policy()
cache:test_policy(policy)
cache:get "user:1"
cache:raise("changed", { id = 1 })
cache:load_policy "/nowhere"

---- a shadow
local perilune, _, policy = ...
local cache <close> = perilune.open { max_bytes = "1m", workers = 1, log = false }
cache:shadow(policy, { sample = 1 })
cache:get "user:1"
cache:shadow_report()
cache:shadow_end()

---- warming
local perilune = ...
local cache <close> = perilune.open { max_bytes = "1m", workers = 1, log = false }
cache:warm { keys = { "a", 1 }, concurrency = 1, progress = function() end }
cache:warm { keys = ("a b"):gmatch "%a", top = 1, rate = 1000, concurrency = 1 }
cache:ready()

---- commands
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:redis("SET", cache:name "x", 0.5, { timeout = 9 })
cache:redis("MGET", cache:name "x", "none")
cache:drop "x"
cache:hset("h", { f = "v", [1] = 2 })
cache:hget("h", "f")
cache:hmget("h", { "f", 1 })
cache:hgetall "h"
cache:hlen "h"
cache:hincr("h", 1, 2)
for _ in cache:hscan("h", { match = "*", count = 5 }) do end
cache:hdel("h", "f")
pcall(cache.sadd, cache, "s", print)

---- commands, put off
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
local function finish(op)
  repeat until op:ready()
  return op:result()
end
finish(cache:call_async("hset", "h", { f = "v", [1] = 2 }))
assert(finish(cache:call_async("hget", "h", "f")) == "v")
finish(cache:call_async("hgetall", "h"))
finish(cache:call_async("redis", "MGET", cache:name "x", "none"))
finish(cache:call_async("hscan", "h", { match = "*" }))
assert(cache:call_async("name", "h"):result())
cache:call_async("sadd", "s", { "a", 1 }):cancel()
cache:call_async("smembers", "s")
pcall(cache.call_async, cache, "sadd", "s", print)
local board = cache:board "b"
finish(board:call_async("add", "ada", 1.5))
finish(board:call_async("around", "ada"))
pcall(board.call_async, board, "ad")

---- lists, sets and streams
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:sadd("s", { "a", 1 })
cache:sismember("s", "a")
cache:smembers "s"
cache:scard "s"
for _ in cache:sscan "s" do end
cache:srem("s", "a")
cache:lpush("l", { "a", "b" })
cache:rpush("l", "c")
cache:llen "l"
cache:lrange("l", 1, -1)
cache:ltrim("l", 1, 2)
cache:lpop "l"
cache:rpop "l"
local id = cache:xadd("x", { a = 1 }, { maxlen = 2 })
cache:xrange "x"
cache:xlen "x"
cache:xdel("x", id)
local board = cache:board "b"
board:add("ada", 1.5)
board:incr("ada", 1)
board:top()
board:rank "ada"
board:around "ada"
board:size()
for _ in cache:zscan "b" do end
board:remove "ada"
tostring(board)

---- locks, limits and sessions
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
do
  local lock <close> = cache:lock("x", 5, { wait = 0 })
  if lock then
    lock:extend(6)
    lock:fence()
    lock:left()
    tostring(lock)
    lock:release()
  end
end
local nodes = perilune.nodes { "unix:/nowhere/1", "unix:/nowhere/2", timeout = 1 }
cache:lock("x", 5, { nodes = nodes })
cache:count("n", 2, { ttl = 5 })
cache:incr("i", 2, { initial = 1, ttl = 5 })
cache:counter "n"
cache:reset_counter "n"
cache:limit("l", { rate = 5, kind = "log", on_error = "allow" })
pcall(cache.limit, cache, "l", { rate = 5, kind = "none" })
local sessions = cache:sessions { ttl = 5 }
local session = sessions:create("ada", { 1 })
sessions:get(session)
sessions:update(session, { 2 })
sessions:touch(session)
sessions:of "ada"
sessions:destroy(session)
sessions:destroy_all "ada"

---- locks, put off
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
local function finish(op)
  repeat until op:ready()
  return op:result()
end
local mine = "z" .. perilune.clock() -- where memory ends, a lock may stay until its ttl ends
local lock <close> = assert(finish(cache:call_async("lock", mine, "9s")))
assert(not finish(cache:call_async("lock", mine, "9s", { wait = 0.002, retry = 0.001 })))
finish(lock:call_async("extend", "3s"))
finish(lock:call_async "release")
finish(lock:call_async "release")
cache:call_async("lock", mine, 2):cancel()
pcall(cache.call_async, cache, "lock", "}")

---- sessions, put off
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
local function finish(op)
  repeat until op:ready()
  return op:result()
end
local sessions = cache:sessions { ttl = 5 }
local mine = "u" .. perilune.clock() -- where memory ends, a session may stay
local session = finish(sessions:call_async("create", mine, { 1 }))
finish(sessions:call_async("get", session))
finish(sessions:call_async("update", session, { 2 }))
finish(sessions:call_async("of", mine))
finish(sessions:call_async("destroy_all", mine))
pcall(sessions.call_async, sessions, "of")

---- what waits to be stored
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
cache:flush()
cache:flush "1s"
cache:queue()
cache:deadletters()
cache:deadletters(5)
cache:retry_deadletter "1-1"
cache:drop_deadletter "all"
pcall(cache.flush, cache, "soon")
pcall(cache.drop_deadletter, cache)

---- results of queries
local perilune, name = ...
local cache <close> = assert(perilune.open(name))
package.loaded["perilune.query"] = { query = select, execute = rawlen, changed = rawequal }
pcall(cache.query, cache, "connection", "SELECT 1")
pcall(cache.execute, cache)
cache:changed "table"
pcall(function() cache:query() cache:execute() end)

---- a memory, and the end of all
local perilune = ...
local memory <close> = perilune.memory "scarce"
local cache <close> = perilune.open {
  redis = "memory:scarce", max_bytes = "1m", workers = 1, log = false }
memory:faults { seed = 1, delay_random = "1ms", hold = true }
cache:set("k", { 1 })
memory:cut("fail", cache)
memory:heal()
memory:deliver()
memory:evict(1)
memory:stats()
cache:clear()
