-- SPDX-License-Identifier: MIT
--
-- locks.lua - locks, counters, limits and sessions as Lua programs see them, over a Redis, and the
-- examples that show them.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local redis = spec.redis()

local function open(options)
  local all = { redis = redis.url, ns = "spec", log = false, timeout = 5 }
  return assert(perilune.open(spec.over(all, options)))
end

local cache = open()

-- ---- locks ----

spec.test("a lock is held by one, told its time, and given back", function()
  local lock = assert(cache:lock("a", "60s"))
  local left = lock:left()
  assert(left > 50 and left <= 60, left)
  local other, message, code, busy = cache:lock("a")
  spec.returns({ null, null, "busy" }, other, message, code)
  assert(busy > 50 and busy <= 60, busy)
  spec.returns({ true }, lock:release())
  spec.returns({ null, null, "lost" }, lock:release())
  spec.returns({ null, null, "lost" }, lock:extend "5s")
  spec.same(lock:left(), 0.0)
  spec.same(lock:fence(), nil)
end)

spec.test("a lock ends with its block, also by an error", function()
  pcall(function()
    local lock <close> = assert(cache:lock("b", "60s"))
    error(lock)
  end)
  local lock <close> = assert(cache:lock("b", "60s"))
  assert(lock:left() > 0)
end)

spec.test("a lock that nobody knows of any more is given back by the collector", function()
  assert(cache:lock("c", "60s"))
  collectgarbage()
  collectgarbage()
  assert(cache:lock("c", "60s")):release()
end)

spec.test("waiting ends with the lock, or when its own time is over", function()
  local brief = assert(cache:lock("d", 0.5))
  local lock <close> = assert(cache:lock("d", "60s", { wait = "20s", retry = "20ms" }))
  assert(lock:fence() > brief:fence())
  spec.returns({ null, null, "lost" }, brief:extend())
  spec.returns({ null, null, "lost" }, brief:release())
  spec.returns({ true }, lock:extend "100s")
  assert(lock:left() > 60)
  spec.same(select(3, cache:lock("d", 1, { wait = "30ms" })), "busy")
end)

spec.test("a cache that is closed first leaves its locks to their ttl", function()
  local other = open()
  local lock = assert(other:lock("e", "60s"))
  other:close()
  spec.raises("closed cache", lock.extend, lock)
  local good, message, code = lock:release()
  spec.same(good, nil)
  spec.same(code, "closed")
  spec.contains(message, "ends with its ttl")
  spec.same(select(3, cache:lock "e"), "busy")
end)

spec.test("most of several servers keep a lock, without the rest", function()
  local servers, urls = {}, {}
  for i = 1, 3 do
    servers[i] = spec.redis()
    urls[i] = servers[i].url
  end
  local nodes = perilune.nodes { urls[1], urls[2], urls[3], timeout = 5 }
  servers[1].stop()
  local lock = assert(cache:lock("f", "60s", { nodes = nodes }))
  spec.same(select(3, cache:lock("f", "60s", { nodes = nodes })), "busy")
  spec.returns({ true }, lock:extend "50s")
  spec.returns({ true }, lock:release())
  servers[3].stop()
  local none, message, code = cache:lock("f", "60s", { nodes = nodes })
  spec.same(none, nil)
  spec.same(code, "l2_down")
  spec.contains(message, "1 of 3 servers answered, 2 are needed")
  spec.same(servers[2].command "keys '*f}'", "\n")
  servers[2].stop()
end)

spec.test("what makes no sense raises", function()
  spec.raises("must be a duration", cache.lock, cache, "x", "60s", { wait = true })
  spec.raises("did you mean 'wait'", cache.lock, cache, "x", "60s", { wiat = 1 })
  spec.raises("ttl", cache.lock, cache, "x", -1)
  spec.raises("perilune.nodes", cache.lock, cache, "x", 1, { nodes = { "redis://a" } })
  spec.raises("1 to 15", perilune.nodes, {})
  spec.raises("server 1 of 1", perilune.nodes, { "http://a" })
  local alone <close> = assert(perilune.open {})
  spec.same(select(3, alone:lock "x"), "l2_down")
end)

-- ---- counters and limits ----

spec.test("a counter counts, and is forgotten", function()
  spec.same(cache:counter "n", 0)
  spec.same(cache:count "n", 1)
  spec.same(cache:count("n", 41, { ttl = "1h" }), 42)
  spec.same(cache:count("n", -2), 40)
  spec.same(cache:counter "n", 40)
  spec.returns({ true }, cache:reset_counter "n")
  spec.same(cache:counter "n", 0)
end)

spec.test("every kind of limit lets so many through, and says when to come again", function()
  for _, kind in ipairs { "fixed", "sliding", "log", "bucket" } do
    local limit = { rate = 3, per = "1d", kind = kind }
    for i = 1, 3 do
      local allowed, remaining, retry = cache:limit("l", limit)
      spec.same({ allowed, remaining, retry }, { true, 3 - i, 0.0 })
    end
    local allowed, remaining, retry, reset, guess = cache:limit("l", limit)
    spec.same({ allowed, remaining, guess }, { false, 0 })
    assert(retry > 0 and retry <= 172800 and reset > 0, kind)
  end
end)

spec.test("a bucket holds its burst, and a request may cost more than one", function()
  local limit = { rate = 10, per = "1d", kind = "bucket", burst = 5, cost = 4 }
  spec.same(select(2, cache:limit("m", limit)), 1)
  spec.same(cache:limit("m", limit), false)
  limit.cost = 1
  spec.same(cache:limit("m", limit), true)
end)

spec.test("with Redis away a limit answers as it was told, and says so", function()
  local server = spec.redis()
  local other <close> = open { redis = server.url }
  server.stop()
  local limit = { rate = 1 }
  local allowed, message, code = other:limit("x", limit)
  spec.same(allowed, nil)
  spec.same(code, "l2_down", message)
  limit.on_error = "allow"
  spec.returns({ true, 0, 0.0, 0.0, "guess" }, other:limit("x", limit))
  limit.on_error = "deny"
  spec.returns({ false, 0, 0.0, 0.0, "guess" }, other:limit("x", limit))
end)

spec.test("a limit that makes no sense raises", function()
  spec.raises("rate: 0, must be", cache.limit, cache, "x", {})
  spec.raises("positive whole number", cache.limit, cache, "x", { rate = 0.5 })
  spec.raises("one of fixed, sliding, log, bucket", cache.limit, cache, "x",
    { rate = 1, kind = "leaky" })
  spec.raises("one of allow, deny", cache.limit, cache, "x", { rate = 1, on_error = true })
end)

-- ---- sessions ----

spec.test("a session keeps a table for a user, until it is ended", function()
  local sessions = cache:sessions { ttl = "1h" }
  local id = assert(sessions:create("ada", { cart = { 1, 2 } }))
  local data, err, info = sessions:get(id)
  spec.same(data, { cart = { 1, 2 } })
  spec.same(err, nil)
  spec.same({ info.user, info.id }, { "ada", id })
  assert(info.left > 3500 and info.left <= 3600 and info.age < 60 and info.idle < 60)
  spec.returns({ true }, sessions:update(id, "text"))
  spec.same(sessions:get(id), "text")
  spec.returns({ true }, sessions:touch(id))
  spec.returns({ true }, sessions:destroy(id))
  spec.returns({ null, null, "miss" }, sessions:get(id))
  spec.returns({ null, null, "miss" }, sessions:touch(id))
  spec.returns({ null, null, "miss" }, sessions:update(id, 1))
  spec.returns({ null, null, "miss" }, sessions:destroy(id))
  spec.returns({ null, null, "miss" }, sessions:get "no id")
end)

spec.test("a session may stand for nobody, and hold nothing", function()
  local sessions = cache:sessions()
  local id = assert(sessions:create())
  local data, _, info = sessions:get(id)
  spec.same(data, nil)
  spec.same({ type(info), info.user }, { "table" })
end)

spec.test("all of a user's sessions are known, and end together", function()
  local sessions = cache:sessions { ttl = "1h", sliding = false }
  local ids = {}
  for i = 1, 40 do
    ids[i] = assert(sessions:create("bob", i))
  end
  local other = assert(sessions:create("eve", 1))
  local list = sessions:of "bob"
  spec.same(#list, 40)
  table.sort(ids)
  table.sort(list, function(a, b) return a.id < b.id end)
  for i, info in ipairs(list) do
    spec.same(info.id, ids[i])
    assert(info.left > 3500 and info.age < 60)
  end
  spec.same(sessions:destroy_all "bob", 40)
  spec.same(#sessions:of "bob", 0)
  spec.returns({ null, null, "miss" }, sessions:get(ids[1]))
  spec.same(sessions:get(other), 1)
end)

spec.test("what cannot be kept raises", function()
  local sessions = cache:sessions()
  spec.raises("a function cannot be cached", sessions.create, sessions, "ada", { print })
  spec.raises("true or false", cache.sessions, cache, { sliding = 1 })
  spec.raises("did you mean 'ttl'", cache.sessions, cache, { tl = 1 })
  local closed = open()
  sessions = closed:sessions()
  closed:close()
  spec.raises("closed cache", sessions.create, sessions, "ada")
end)

-- ---- the example; those of limits and sessions are in examples.lua ----

local examples = assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/"
local program = assert(os.getenv "PERILUNE")

spec.test("the example of a lock runs", function()
  local output, code, errors = spec.run(("%s run %slock.lua %s"):format(program, examples,
    redis.url))
  spec.same(errors, "")
  spec.same(code, 0)
  spec.contains(output, "the report was written 4 times, never by two at once")
end)

cache:close()
redis.stop()
spec.finish()
