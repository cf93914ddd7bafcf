-- SPDX-License-Identifier: MIT
--
-- async.lua - get_async, get_or_async, get_many_async: ops, and loaders that yield.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

local open, test = require "pair"("async")

local function spin(what, condition)
  local deadline = perilune.clock() + 10
  repeat
    if condition() then
      return
    end
  until perilune.clock() > deadline
  error("waited 10 s: " .. what, 2)
end

-- What an adapter does, in a loop that waits by looking.
local function finish(op)
  spin("the op is ready", function()
    if op:wants_load() then
      op:load()
    end
    return op:ready()
  end)
  return op:result()
end

-- The same in a coroutine, which yields in the place of waiting.
local function fetch(cache, ...)
  local op <close> = cache:get_async(...)
  while not op:ready() do
    if op:wants_load() then
      op:load()
    else
      coroutine.yield()
    end
  end
  return op:result()
end

-- Resumes coroutines in turn until all have ended; returns what each returned.
local function run_all(...)
  local threads, results = table.pack(...), {}
  spin("all coroutines have ended", function()
    local n_alive = 0
    for i = 1, threads.n do
      if coroutine.status(threads[i]) ~= "dead" then
        n_alive = n_alive + 1
        local all = table.pack(coroutine.resume(threads[i]))
        assert(all[1], all[2])
        results[i] = table.pack(table.unpack(all, 2, all.n))
      end
    end
    return n_alive == 0
  end)
  return table.unpack(results)
end

test("a hit in L1 is ready at once, and may be asked for its result again", function(a)
  a:set("k", { 1, "two" })
  local op <close> = a:get_async "k"
  spec.same(op:ready(), true)
  spec.same(op:wants_load(), false)
  spec.same(op:timeout(), 0.0)
  spec.same(op:events(), "r")
  local value, err, how = op:result()
  spec.same(value, { 1, "two" })
  spec.returns({ null, "l1" }, err, how)
  spec.same(op:result() == value, true)
  spec.returns({ null, null, "miss" }, a:get_async("none"):result())
end)

test("a miss waits for L2 and not for its caller", function(a, b, memory)
  b:set("k", "value")
  memory:faults { delay = "30ms" }
  local op <close> = a:get_async "k"
  spec.same(op:ready(), false)
  spec.raises("the op is not ready", op.result, op)
  spec.same(math.type(op:timeout()), "float")
  spec.returns({ "value", null, "l2" }, finish(op))
  memory:heal()
end)

test("all ops of a cache have one descriptor, which stays", function(a, b)
  local fd = a:get_async("x"):pollfd()
  spec.same(math.type(fd), "integer")
  spec.same(a:get_async("y"):pollfd(), fd)
  spec.same(b:get_async("y"):pollfd() ~= fd, true)
  local op = a:get_async "x"
  a:close()
  spec.returns({ null, "the cache was closed, and the descriptor with it", "closed" }, op:pollfd())
end)

test("a loader gets key and arguments, and its results are taken as get takes them", function(a)
  spec.returns({ "k/x/nil/z", null, "loaded" }, finish(a:get_async("k", function(key, x, y, z)
    return ("%s/%s/%s/%s"):format(key, x, y, z)
  end, "x", nil, "z")))
  spec.returns({ "k/x/nil/z", null, "l1" }, a:get "k")
  spec.returns({ null, null, "negative" }, finish(a:get_async("nil", nil, function() end)))
  spec.returns({ 7, null, "loaded" }, finish(a:get_async(7, { ttl = 5 }, function(key)
    return math.tointeger(tonumber(key)), nil, 100
  end)))
  local _, _, _, _, left = a:peek(7)
  assert(left > 90, left)
end)

test("what a loader returns or raises as an error is the op's", function(a)
  spec.returns({ null, "broken", "loader" }, finish(a:get_async("e", nil, function()
    return nil, "broken"
  end)))
  local _, message, code = finish(a:get_async("f", nil, function()
    error(("long "):rep(500))
  end))
  spec.same(code, "loader")
  spec.contains(message, ("long "):rep(500))
  spec.contains(message, "stack traceback")
  _, message, code = finish(a:get_async("g", nil, function()
    return print
  end))
  spec.same(code, "loader")
  spec.contains(message, "function cannot be cached")
end)

test("with_old shows a loader what is there, and it may say that it is the same", function(a)
  a:set("k", "old", { ttl = 60, stale = 60 })
  a:expire "k"
  local op = a:get_async("k", { with_old = true }, function(_, old)
    spec.same(old, "old")
    return perilune.not_modified
  end)
  spec.returns({ "old", null, "loaded" }, finish(op))
end)

test("a loader may yield, and one loads for all coroutines", function(a)
  local n_loads, gate = 0, false
  local function load(key)
    n_loads = n_loads + 1
    while not gate do
      coroutine.yield()
    end
    return key .. "!"
  end
  local waiters = {}
  for i = 1, 10 do
    waiters[i] = coroutine.create(function()
      return fetch(a, "k", nil, load)
    end)
  end
  spin("one loads", function()
    for i = 1, 10 do
      assert(coroutine.resume(waiters[i]))
    end
    return n_loads > 0
  end)
  gate = true
  for i, result in ipairs { run_all(table.unpack(waiters)) } do
    spec.same({ result[1], result[3] }, { "k!", "loaded" }, "coroutine " .. i)
  end
  spec.same(n_loads, 1)
end)

test("a get that would wait for a coroutine of its own thread says so", function(a)
  local op <close> = a:get_async("k", nil, function(key)
    spec.same(select(3, a:get(key)), "pending")
    spec.same(select(3, a:get("other", nil, function()
      return "v"
    end)), "loaded")
    coroutine.yield()
    return "mine"
  end)
  spin("the load is wanted", function()
    return op:wants_load()
  end)
  local value, message, code = a:get("k", nil, function()
    error "not to be called"
  end)
  spec.same(value, nil)
  spec.contains(message, "being loaded by this thread")
  spec.same(code, "pending")
  local loader = coroutine.wrap(function()
    return op:load()
  end)
  loader()
  spec.same(select(3, a:get "k"), "pending")
  spec.same(op:load(), false) -- it runs already
  spec.same(loader(), true)
  spec.returns({ "mine", null, "loaded" }, finish(op))
  spec.returns({ "mine", null, "l1" }, a:get "k")
end)

-- Begins a get whose loader is under way, in a coroutine that does not go on by itself.
local function begin_load(cache, key)
  local op = cache:get_async(key, nil, function()
    coroutine.yield()
    error "not to be reached"
  end)
  local run = coroutine.wrap(function()
    local own <close> = op
    own:load()
  end)
  spin("the load is wanted", function()
    return op:wants_load()
  end)
  run()
  return op, run
end

test("an op that is cancelled while it loads leaves that to the next", function(a)
  local op = begin_load(a, "k")
  local next <close> = a:get_async("k", nil, function()
    return "v"
  end)
  op:cancel()
  spec.same(op:ready(), true)
  spec.same(op:load(), false)
  spec.returns({ null, "the op was cancelled", "cancelled" }, op:result())
  spec.returns({ "v", null, "loaded" }, finish(next))
end)

test("so does one that is collected with its coroutine", function(a)
  begin_load(a, "k")
  local next <close> = a:get_async("k", nil, function()
    return "v"
  end)
  collectgarbage()
  spec.returns({ "v", null, "loaded" }, finish(next))
end)

test("and one whose variable is closed", function(a)
  local next
  do
    local op <close> = a:get_async("k", nil, function() end)
    next = a:get_async("k", nil, function()
      return "v"
    end)
    spin("the load is wanted", function()
      return op:wants_load()
    end)
  end
  spec.returns({ "v", null, "loaded" }, finish(next))
end)

test("what was deleted while a loader ran is not kept", function(a, b)
  local op = a:get_async("k", nil, function()
    b:delete "k"
    return "old"
  end)
  spec.returns({ "old", null, "loaded" }, finish(op))
  spec.returns({ null, null, "miss" }, a:get "k")
  spec.returns({ null, null, "miss" }, b:get "k")
end)

test("of two instances one loads", function(a, b)
  local n_loads = 0
  local function load()
    n_loads = n_loads + 1
    for _ = 1, 100 do
      coroutine.yield()
    end
    return "v"
  end
  local one, two = run_all(coroutine.create(function()
    return fetch(a, "k", nil, load)
  end), coroutine.create(function()
    return fetch(b, "k", nil, load)
  end))
  spec.same({ one[1], two[1] }, { "v", "v" })
  spec.same(n_loads, 1)
end)

test("closing the cache ends what is under way", function(a, _, memory)
  memory:faults { delay = "50ms" }
  local asking = a:get_async "k"
  local loader = coroutine.create(function(op)
    return op:load()
  end)
  local closed = open "closed"
  local wanting = closed:get_async("k", nil, function()
    coroutine.yield()
    return "v"
  end)
  spin("the load is wanted", function()
    return wanting:wants_load()
  end)
  assert(coroutine.resume(loader, wanting))
  closed:close()
  a:close()
  spec.same({ coroutine.resume(loader) }, { true, false })
  spec.returns({ null, "op: the cache was closed", "closed" }, wanting:result())
  spec.returns({ null, "op: the cache was closed", "closed" }, asking:result())
  spec.raises("closed cache", a.get_async, a, "k")
  memory:heal()
end)

test("loaders by name are the op's too", function(a)
  local path, remove = spec.folder()
  a:register_loader("users", function(key)
    coroutine.yield()
    return { key = key }
  end)
  assert(a:load_policy(spec.write(path .. "/policy.lua", [[
    cache.rule "user:{id}" { ttl = "1m", load = loader "users" }
    cache.rule "none:{id}" { ttl = "1m", load = loader "none" }
  ]])))
  local result = run_all(coroutine.create(function()
    return fetch(a, "user:7")
  end))
  spec.same(result[1], { key = "user:7" })
  spec.same(result[3], "loaded")
  local _, message, code = finish(a:get_async "none:7")
  spec.same(code, "loader")
  spec.contains(message, "no loader 'none' is registered")
  remove()
end)

test("get_many_async answers as get_many", function(a, b, memory)
  a:set("m:1", "one")
  b:set("m:2", { 2 })
  memory:faults { delay = "20ms" }
  local op <close> = a:get_many_async { "m:1", "m:2", "m:3", 4 }
  spec.same(op:ready(), false)
  local values, hows = finish(op)
  spec.same(values, { "one", { 2 } })
  spec.same(hows, { "l1", "l2", "miss", "miss" })
  spec.same(op:result() == values, true)
  memory:heal()
  local none, none_hows = a:get_many_async({}):result()
  spec.same({ none, none_hows }, { {}, {} })
  spec.raises("key 1 is a table", a.get_many_async, a, { {} })
end)

test("misuse raises", function(a)
  spec.raises("function expected", a.get_async, a, "k", nil, {})
  spec.raises("unknown option 'tll'", a.get_async, a, "k", { tll = 1 })
  spec.raises("string or integer expected", a.get_async, a, {})
  spec.raises("perilune.op expected", a:get_async("k").ready, {})
end)

spec.test("a cache without Redis has ops too", function()
  local cache <close> = assert(perilune.open { name = "alone", log = false })
  spec.returns({ "v", null, "loaded" }, finish(cache:get_async("k", nil, function()
    return "v"
  end)))
  spec.returns({ true }, finish(cache:call_async("delete", "k")))
  spec.returns({ null, null, "miss" }, cache:get_async("k"):result())
end)

test("get_or_async makes an op only where one has to wait", function(a)
  a:set("k", { 1 })
  for _ = 1, 3 do -- the second time the table is known
    spec.returns({ false, { 1 }, null, "l1" }, a:get_or_async "k")
  end
  spec.returns({ false, "gone", null, "l1" }, (function()
    a:set("k", "gone")
    return a:get_or_async("k", error)
  end)())
  local function load(key, more)
    return key .. more
  end
  local one, two = a:get_or_async("one", load, 1), a:get_or_async("two", load, 2)
  assert(one and two and one ~= two)
  spec.returns({ false, "gone", null, "l1" }, a:get_or_async "k")
  spec.returns({ "two2", null, "loaded" }, finish(two))
  spec.returns({ "one1", null, "loaded" }, finish(one))
  spec.raises("string or integer expected", a.get_or_async, a, {})
  a:close()
  spec.raises("attempt to use a closed cache", a.get_or_async, a, "k")
end)

spec.test("what a loader that yields returns is encoded as the cache's codec says", function()
  local redis <close> = spec.redis()
  local cache <close> = open("json", { redis = redis.url, codec = "json" })
  local op = cache:get_async("j", function()
    return { 1, 2 }
  end)
  spec.same(finish(op), { 1, 2 })
  spec.contains(redis.command "--scan", "j")
  local key = redis.command "--scan --pattern '*:v:j'":match "[^\n]+"
  spec.contains(redis.command("get " .. key), "[1,2]")
end)

spec.test("over a Redis a hundred reads are under way at once", function()
  local redis <close> = spec.redis()
  local a <close> = open("a", { redis = redis.url })
  local b <close> = open("b", { redis = redis.url })
  local ops = {}
  for i = 1, 100 do
    a:set(i, i)
  end
  for i = 1, 100 do
    ops[i] = b:get_async(i)
  end
  for i = 1, 100 do
    spec.same(finish(ops[i]), i)
  end
  local op = b:get_async("loaded", nil, function()
    return "v"
  end)
  spec.returns({ "v", null, "loaded" }, finish(op))
  spec.same(a:get "loaded", "v")
  ops[1] = b:get_async("under way", { l1 = false })
  b:close()
end)

spec.finish()
