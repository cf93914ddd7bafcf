-- SPDX-License-Identifier: MIT
--
-- put_off.lua - call_async of what Redis keeps beside values: the op has the method's results, and
-- nothing is left behind, however it ends.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local redis = spec.redis()

local function open(options)
  local all = { redis = redis.url, ns = "spec", log = false, timeout = 5 }
  return assert(perilune.open(spec.over(all, options)))
end

local cache = open()

local function finish(op, ...)
  assert(op, ...)
  spec.wait_until("the op is ready", function()
    return op:ready()
  end)
  return op:result()
end

-- Calls the method of one, and puts that of the other off; the results are the same.
local function both(one, other, name, ...)
  local wanted = table.pack(one[name](one, ...))
  spec.same(table.pack(finish(other:call_async(name, ...))), wanted, name)
  return table.unpack(wanted, 1, wanted.n)
end

local other = open { ns = "other" } -- another namespace: structures of the same names

spec.test("what is put off returns what the method does", function()
  local function on_both(...)
    return both(cache, other, ...)
  end
  spec.same(on_both("hset", "h", { a = 1, b = "two", [3] = 0.5 }), 3)
  spec.same(on_both("hget", "h", "b"), "two")
  spec.same(select(3, on_both("hget", "h", "none")), "miss")
  spec.same(on_both("hmget", "h", { "a", 3, "none" }), { a = "1", ["3"] = "0.5" })
  spec.same(on_both("hgetall", "h"), { a = "1", b = "two", ["3"] = "0.5" })
  spec.same(on_both("hgetall", "nothing"), {})
  spec.same(on_both("hlen", "h"), 3)
  spec.same(on_both("hincr", "h", "a", 4), 5)
  spec.same(on_both("hdel", "h", { "a", "b" }), 2)
  spec.same(on_both("sadd", "s", { "x", "y" }, { ttl = "1h" }), 2)
  spec.same(on_both("sadd", "s", "x"), 0)
  spec.same(on_both("srem", "s", "y"), 1)
  spec.same(on_both("sismember", "s", "x"), true)
  spec.same(on_both("smembers", "s"), { "x" })
  spec.same(on_both("scard", "s"), 1)
  spec.same(on_both("rpush", "l", { "b", "c" }), 2)
  spec.same(on_both("lpush", "l", "a"), 3)
  spec.same(on_both("lrange", "l", 0, -1), { "a", "b", "c" })
  spec.same(on_both("ltrim", "l", 0, 1), true)
  spec.same(on_both("llen", "l"), 2)
  spec.same(on_both("lpop", "l"), "a")
  spec.same(on_both("rpop", "l", { count = 2 }), { "b" })
  spec.same(select(3, on_both("lpop", "l")), "miss")
  local id = finish(other:call_async("xadd", "x", { n = 1 }, { maxlen = 5 }))
  spec.same(finish(other:call_async("xrange", "x")), { { id = id, fields = { n = "1" } } })
  spec.same(finish(other:call_async("xlen", "x")), 1)
  spec.same(finish(other:call_async("xdel", "x", id)), 1)
  spec.same(on_both("redis", "ECHO", "hello"), "hello")
  spec.same(on_both("redis", "GET", "nothing", { key = "nothing" }), nil)
  spec.same(on_both("drop", "s"), true)
  spec.same(select(3, on_both("drop", "s")), "miss")
end)

spec.test("a board's methods are put off, too", function()
  local one, two = cache:board "b", other:board "b"
  local function on_both(...)
    return both(one, two, ...)
  end
  spec.same(on_both("add", "ada", 1.5), true)
  spec.same(on_both("add", "bob", 3), true)
  spec.same(on_both("incr", "ada", 1), 2.5)
  spec.same(on_both "top", {
    { member = "bob", score = 3, rank = 1 }, { member = "ada", score = 2.5, rank = 2 } })
  spec.same(on_both("rank", "ada"), 2)
  spec.same(select(3, on_both("rank", "nobody")), "miss")
  spec.same(#on_both("around", "ada", 1), 2)
  spec.same(on_both "size", 2)
  spec.same(on_both("remove", { "ada", "bob" }), 2)
  spec.raises("no method 'ad' to be called so, did you mean 'add'?", two.call_async, two, "ad")
  spec.raises("n must be positive", two.call_async, two, "top", 0)
end)

spec.test("a scan is put off page by page", function()
  local scores = cache:board "pages"
  for i = 1, 300 do
    scores:add("member " .. i, i)
  end
  scores:add("last", math.huge)
  local cursor, sum, n, n_pages = "0", 0, 0, 0
  repeat
    local page
    page, cursor = finish(cache:call_async("zscan", "pages", { count = 50 }, cursor))
    for i = 2, #page, 2 do
      n = n + 1
      sum = page[i] == math.huge and sum or sum + page[i]
    end
    n_pages = n_pages + 1
  until not cursor
  spec.same({ n, sum }, { 301, 45150 })
  assert(n_pages > 2, n_pages)
  spec.same(finish(cache:call_async("sscan", "nothing")), {})
  spec.raises("unknown option 'mtach'", cache.call_async, cache, "hscan", "h", { mtach = "*" })
end)

spec.test("arguments are checked when it is called, and what Redis refuses is told", function()
  spec.raises("Redis takes strings and numbers, got a function", cache.call_async, cache, "sadd",
    "s", print)
  spec.raises("the list is empty", cache.call_async, cache, "sadd", "s", {})
  spec.raises("unknown option 'tll'", cache.call_async, cache, "sadd", "s", 1, { tll = 1 })
  spec.raises("string or integer", cache.call_async, cache, "hlen")
  spec.raises("did you mean 'sadd'", cache.call_async, cache, "saddd", "s")
  spec.raises("to be called so, only set, delete,", cache.call_async, cache, "frobnicate")
  finish(cache:call_async("sadd", "a set", 1))
  local value, message, code = finish(cache:call_async("lpush", "a set", 1))
  spec.same({ value, code }, { nil, "l2_error" })
  spec.contains(message, "WRONGTYPE")
  local op = cache:call_async("redis", "SUBSCRIBE", "x")
  spec.wait_until("it is refused", function()
    return op:ready()
  end)
  spec.raises("SUBSCRIBE", op.result, op)
end)

spec.test("a hash that L1 has is there at once", function()
  local path, remove = spec.folder()
  local own <close> = open()
  assert(own:load_policy(spec.write(path .. "/policy.lua",
    'cache.rule "h1:{id}" { ttl = "1h", hash_l1 = true }')))
  remove()
  finish(own:call_async("hset", "h1:1", { a = 1, b = 2 }))
  spec.wait_until("L1 has it", function()
    return select(3, finish(own:call_async("hget", "h1:1", "a"))) == "l1"
  end)
  local op = own:call_async("hgetall", "h1:1")
  spec.same(op:ready(), true)
  spec.returns({ { a = "1", b = "2" }, null, "l1" }, op:result())
  spec.returns({ { a = "1", b = "2" }, null, "l1" }, op:result())
  spec.returns({ null, null, "miss" }, own:call_async("hget", "h1:1", "none"):result())
end)

spec.test("what is begun is done, dropped or not, and a closed cache's ops say so", function()
  local own = open()
  own:call_async("sadd", "dropped", 1)
  own:call_async("sadd", "dropped", 2):cancel()
  local op = own:call_async("sadd", "dropped", 3)
  collectgarbage()
  own:close()
  spec.same(cache:scard "dropped", 3)
  spec.same(select(3, op:result()), "closed")
  spec.raises("closed cache", own.call_async, own, "scard", "dropped")
  local board = own.board
  spec.raises("closed cache", board, own, "b")
end)

spec.test("sessions are put off", function()
  local sessions = cache:sessions { ttl = "1h" }
  local function call(...)
    return finish(sessions:call_async(...))
  end
  local id = call("create", "ada", { cart = { 1 } })
  local data, err, info = call("get", id)
  spec.same({ data, err, info.user, info.id }, { { cart = { 1 } }, nil, "ada", id })
  spec.returns({ true }, call("update", id, "text"))
  spec.same(sessions:get(id), "text")
  spec.returns({ true }, call("touch", id))
  spec.returns({ null, null, "miss" }, call("get", "no id"))
  spec.returns({ null, null, "miss" }, call("update", "no id", 1))
  for i = 1, 40 do
    call("create", "bob", i)
  end
  spec.same(#call("of", "bob"), 40)
  spec.same(call("destroy_all", "bob"), 40)
  spec.same(call("of", "bob"), {})
  spec.returns({ true }, call("destroy", id))
  spec.returns({ null, null, "miss" }, call("touch", id))
  spec.raises("a function cannot be cached", sessions.call_async, sessions, "create", "ada", print)
  spec.raises("did you mean 'create'", sessions.call_async, sessions, "creat")
end)

spec.test("a lock is taken, prolonged and given back without waiting", function()
  local lock = finish(cache:call_async("lock", "a", "60s"))
  assert(lock:left() > 50)
  local none, message, code, left = finish(cache:call_async("lock", "a", "60s"))
  spec.returns({ null, null, "busy" }, none, message, code)
  assert(left > 50 and left <= 60)
  spec.returns({ true }, finish(lock:call_async("extend", "200s")))
  assert(lock:left() > 150)
  spec.returns({ true }, finish(lock:call_async "release"))
  spec.returns({ null, null, "lost" }, lock:release())
  spec.returns({ null, null, "lost" }, finish(lock:call_async "release"))
  spec.returns({ null, null, "lost" }, finish(lock:call_async "extend"))
  spec.raises("invalid option 'steal'", lock.call_async, lock, "steal")
  spec.raises("ttl", cache.call_async, cache, "lock", "a", -1)
  spec.raises("must not begin with '}'", cache.call_async, cache, "lock", "}")
  local alone <close> = assert(perilune.open {})
  spec.same(select(3, finish(alone:call_async("lock", "x"))), "l2_down")
end)

spec.test("who waits for a lock holds no worker", function()
  local own <close> = open { workers = 1 }
  local holder = assert(cache:lock("wanted", "60s"))
  local op = own:call_async("lock", "wanted", "60s", { wait = "30s", retry = "20ms" })
  for i = 1, 20 do
    spec.same(finish(own:call_async("sadd", "meanwhile", i)), 1)
    spec.same(op:ready(), false)
  end
  assert(op:timeout(), "it says when it wants to be looked at")
  holder:release()
  local lock = finish(op)
  assert(lock:left() > 50)
  assert(rawequal(op:result(), lock))
  local told = finish(own:call_async("lock", "wanted", 1, { wait = "30ms" }))
  spec.same(told, nil)
  lock:release()
end)

spec.test("a lock that nobody takes from its op is given back", function()
  local own = open { workers = 1 }
  local function is_free(what)
    spec.wait_until(what, function()
      local lock = cache:lock("untaken", "60s")
      return lock and lock:release()
    end)
  end
  own:call_async("lock", "untaken", "60s"):cancel()
  is_free "cancelled at once"
  local op = own:call_async("lock", "untaken", "60s")
  spec.wait_until("the op is ready", function()
    return op:ready()
  end)
  spec.same(select(3, cache:lock "untaken"), "busy")
  op:cancel()
  is_free "cancelled when it was granted"
  own:call_async("lock", "untaken", "60s")
  collectgarbage()
  is_free "collected"
  local under_way = own:call_async("lock", "untaken", "60s")
  own:close()
  is_free "closed"
  spec.same(select(3, under_way:result()), "closed")
end)

spec.test("a lock's servers stay as long as somebody wants it", function()
  local servers = { spec.redis(), spec.redis(), spec.redis() }
  local nodes = perilune.nodes { servers[1].url, servers[2].url, servers[3].url, timeout = 5 }
  cache:call_async("lock", "n", "60s", { nodes = nodes })
  local lock = finish(cache:call_async("lock", "m", "60s", { nodes = nodes }))
  nodes = nil -- luacheck: ignore 311
  collectgarbage()
  collectgarbage()
  spec.returns({ true }, finish(lock:call_async "extend"))
  spec.returns({ true }, lock:release())
  for _, server in ipairs(servers) do
    server.stop()
  end
end)

spec.test("a lock of a closed cache is left to its ttl", function()
  local own = open()
  local lock = finish(own:call_async("lock", "left", "60s"))
  own:close()
  spec.raises("closed cache", lock.call_async, lock, "extend")
  spec.same(select(3, lock:call_async("release"):result()), "closed")
end)

spec.test("a finalizer that runs amid a call uses the cache as ever", function()
  local n, wrong = 0, nil
  local function make()
    setmetatable({}, { __gc = function()
      local good, size = pcall(cache.scard, cache, "finalized")
      n, wrong = n + 1, not good and size or math.type(size) ~= "integer" and "no number" or wrong
    end })
  end
  local members = {}
  for i = 1, 200 do
    members[i] = "member " .. i
  end
  for _ = 1, 20 do
    make()
    finish(cache:call_async("sadd", "finalized", members))
    collectgarbage()
  end
  assert(n > 0)
  spec.same(wrong, nil)
end)

cache:close()
other:close()
redis.stop()
spec.finish()
