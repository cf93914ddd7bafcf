-- SPDX-License-Identifier: MIT
--
-- calls.lua - what calls through an adapter do in any host that has coroutines: they wait in its
-- way, and not for each other.
--
--     calls.check {
--       wrap = the adapter's,
--       run = function(f, ...)  runs functions as coroutines of the host's, until all have ended;
--                               raises what one raised
--       pause = function()      lets the others go on for a moment
--       turns = function()      how often the host was asked to wait so far
--     }

local perilune = require "perilune"
local spec = require "spec"

local calls = {}

local null = spec.null

function calls.check(driver)
  local redis = spec.redis()

  local function open(options)
    local all = { redis = redis.url, ns = "calls", log = false, timeout = "10s" }
    local cache = assert(perilune.open(spec.over(all, options)))
    spec.wait_until("the link is live", function()
      return cache:stats().bus_ok == 1
    end)
    return driver.wrap(cache)
  end

  -- Lets the others go on until the condition holds.
  local function pause_until(what, condition)
    local deadline = perilune.clock() + 30
    while not condition() do
      assert(perilune.clock() < deadline, "waited 30 s: " .. what)
      driver.pause()
    end
  end

  local function until_l1(cache, key)
    spec.wait_until("L1 has " .. key, function()
      return select(3, cache:get(key)) == "l1"
    end)
  end

  spec.test("four loads are under way at once, and a hit does not wait for them", function()
    local cache <close> = open()
    cache:set("hit", "v")
    until_l1(cache, "hit")
    local under_way, is_over, functions = 0, false, {}
    for i = 1, 4 do
      functions[i] = function()
        spec.returns({ "value " .. i, null, "loaded" }, cache:get("k" .. i, function()
          under_way = under_way + 1
          pause_until("the hit was answered", function()
            return is_over
          end)
          return "value " .. i
        end))
      end
    end
    functions[5] = function()
      pause_until("four loads are under way", function()
        return under_way == 4
      end)
      local turns = driver.turns()
      spec.returns({ "v", null, "l1" }, cache:get "hit")
      spec.same(driver.turns(), turns, "the host was asked")
      is_over = true
    end
    driver.run(table.unpack(functions))
    spec.same(under_way, 4)
  end)

  spec.test("two coroutines want one key, and its loader waits", function()
    local cache <close> = open()
    local n_loads, n_asked, n_got = 0, 0, 0
    local function get()
      n_asked = n_asked + 1
      local value = cache:get("shared", function()
        n_loads = n_loads + 1
        pause_until("both have asked", function()
          return n_asked == 2
        end)
        for _ = 1, 20 do
          driver.pause()
        end
        return "v"
      end)
      spec.same(value, "v")
      n_got = n_got + 1
    end
    driver.run(get, get)
    spec.same({ n_loads, n_got }, { 1, 2 })
  end)

  spec.test("a loader may ask for what another coroutine loads", function()
    local cache <close> = open()
    local has_begun = false
    driver.run(function()
      cache:get("inner", function()
        has_begun = true
        for _ = 1, 20 do
          driver.pause()
        end
        return "inner"
      end)
    end, function()
      pause_until("the inner load has begun", function()
        return has_begun
      end)
      spec.same(cache:get("outer", function()
        return "outer of " .. cache:get("inner", error)
      end), "outer of inner")
    end)
  end)

  spec.test("a loader that asks for its own key is told so", function()
    local cache <close> = open()
    driver.run(function()
      local value, message, code = cache:get(7, function()
        driver.pause()
        return cache:get "7"
      end)
      spec.same({ value, code }, { nil, "loader" })
      spec.contains(message, "the loader of '7' asks for '7' itself")
    end)
  end)

  spec.test("what a loader raises comes back with where, and what it returns as it is", function()
    local cache <close> = open()
    driver.run(function()
      local value, message, code = cache:get("raises", function()
        driver.pause()
        error "no luck"
      end)
      spec.same({ value, code }, { nil, "loader" })
      spec.contains(message, "no luck")
      spec.contains(message, "stack traceback")
      spec.returns({ null, "no database", "loader" }, cache:get("returns", function()
        driver.pause()
        return nil, "no database"
      end))
      spec.returns({ null, null, "negative" }, cache:get("nothing", function()
        driver.pause()
      end))
    end)
  end)

  spec.test("the loader is given key and arguments, and may say how long it lives", function()
    local cache <close> = open()
    driver.run(function()
      spec.same(cache:get("given", { ttl = "1h" }, function(key, a, b)
        driver.pause()
        return { key, a, b }, nil, 100
      end, 1, "two"), { "given", 1, "two" })
      local left = select(5, cache:peek "given")
      assert(left > 90 and left <= 100, left)
    end)
  end)

  spec.test("who waits for a load that lasts is told so in time, and the load goes on", function()
    local cache <close> = open()
    local has_begun, is_told, first = false, false, nil
    driver.run(function()
      first = table.pack(cache:get("long", function()
        has_begun = true
        pause_until("the other was told", function()
          return is_told
        end)
        return "v"
      end))
    end, function()
      pause_until("the load has begun", function()
        return has_begun
      end)
      local value, message, code = cache:get("long", { timeout = "50ms" }, error)
      spec.same({ value, code }, { nil, "timeout" })
      assert(message)
      is_told = true
    end)
    spec.same({ first[1], first[3] }, { "v", "loaded" })
  end)

  spec.test("who may be served what is stale does not wait for a load that lasts", function()
    local cache <close> = open { ttl = "50ms", stale = "1h" }
    cache:set("old", "old")
    spec.wait_until("it is stale", function()
      return select(3, cache:peek "old") == "stale"
    end)
    local has_begun, is_served = false, false
    driver.run(function()
      spec.returns({ "new", null, "loaded" }, cache:get("old", function()
        has_begun = true
        pause_until("the other is served", function()
          return is_served
        end)
        return "new"
      end))
    end, function()
      pause_until("the load has begun", function()
        return has_begun
      end)
      spec.returns({ "old", null, "stale" }, cache:get("old", { soft_timeout = "10ms" }, error))
      is_served = true
    end)
  end)

  spec.test("an op that is cancelled leaves the others be", function()
    local cache <close> = open()
    local n_got, has_begun = 0, false
    driver.run(function()
      spec.same(cache:get("cancel", function()
        has_begun = true
        pause_until("the other gave up", function()
          return n_got == 1
        end)
        return "v"
      end), "v")
    end, function()
      pause_until("the load has begun", function()
        return has_begun
      end)
      local op = cache:get_async("cancel", error)
      spec.same(op:ready(), false)
      op:cancel()
      n_got = 1
    end)
  end)

  spec.test("a write that Redis keeps waiting keeps nobody else", function()
    local cache <close> = open()
    local turns, has_begun, is_let_go = driver.turns(), false, false
    redis.command "client pause 60000 write"
    driver.run(function()
      has_begun = true
      spec.returns({ true }, cache:set("w", "v"))
      assert(is_let_go and driver.turns() > turns)
    end, function()
      pause_until("the write has begun", function()
        return has_begun
      end)
      is_let_go = true
      redis.command "client unpause"
    end)
  end)

  -- Runs `call` in a coroutine while Redis is stopped; another one goes on, and has it go on.
  local function while_stopped(call)
    local has_begun, is_let_go = false, false
    local turns = driver.turns()
    redis.stall()
    driver.run(function()
      has_begun = true
      call()
      assert(is_let_go, "it did not wait")
      assert(driver.turns() > turns, "the host was not asked to wait")
    end, function()
      pause_until("the call has begun", function()
        return has_begun
      end)
      is_let_go = true
      redis.go_on()
    end)
  end

  spec.test("data structures, boards and scans wait in the host's way", function()
    local cache <close> = open()
    local board = cache:board "board"
    while_stopped(function()
      spec.same(cache:sadd("set", { "a", "b" }), 2)
      spec.same(cache:redis("ECHO", "hello"), "hello")
    end)
    while_stopped(function()
      spec.same(cache:hset("hash", { f = "v" }), 1)
      spec.returns({ "v", null, "l2" }, cache:hget("hash", "f"))
    end)
    while_stopped(function()
      spec.returns({ true }, board:add("ada", 2))
      spec.returns({ 1, 2 }, board:rank "ada")
    end)
    while_stopped(function()
      local members = {}
      for member in cache:sscan "set" do
        members[member] = true
      end
      spec.same(members, { a = true, b = true })
      for member, score in cache:zscan("board", { match = "a*" }) do
        spec.same({ member, score }, { "ada", 2 })
      end
      spec.raises("unknown option 'mtach'", cache.hscan, cache, "hash", { mtach = "f*" })
      local good, message = pcall(function()
        for _ in cache:hscan "set" do
          error "a set is no hash"
        end
      end)
      spec.same(good, false)
      spec.contains(message, "WRONGTYPE")
    end)
    spec.same(cache:hlen "hash", 1) -- outside of a coroutine it blocks
    for field, value in cache:hscan "hash" do
      spec.same({ field, value }, { "f", "v" })
    end
    spec.contains(tostring(board), "perilune.board: board")
  end)

  spec.test("sessions and locks wait in the host's way", function()
    local cache <close> = open()
    local sessions = cache:sessions { ttl = "1h" }
    local lock
    while_stopped(function()
      local id = assert(sessions:create("ada", { 1 }))
      spec.same(sessions:get(id), { 1 })
      spec.same(sessions:destroy_all "ada", 1)
    end)
    while_stopped(function()
      lock = assert(cache:lock("l", "60s"))
      assert(lock:left() > 50 and lock:fence())
    end)
    while_stopped(function()
      spec.returns({ true }, lock:extend "90s")
      spec.returns({ true }, lock:release())
      spec.returns({ null, null, "lost" }, lock:release())
    end)
    lock = cache:lock("l", "60s") -- outside of a coroutine it blocks
    spec.returns({ true }, lock:release())
  end)

  spec.test("who waits for a lock keeps nobody else waiting", function()
    local cache <close> = open()
    local holder = assert(cache:lock("wanted", "60s"))
    local has_begun, n_sets = false, 0
    driver.run(function()
      has_begun = true
      local lock = assert(cache:lock("wanted", "60s", { wait = "30s", retry = "20ms" }))
      spec.same(n_sets, 5)
      spec.returns({ true }, lock:release())
      spec.same(select(3, lock:extend()), "lost")
    end, function()
      pause_until("it waits", function()
        return has_begun
      end)
      for i = 1, 5 do
        spec.same(cache:set("k" .. i, i), true)
        n_sets = i
      end
      spec.same(select(3, cache:lock("wanted", "60s", { wait = "20ms" })), "busy")
      spec.returns({ true }, holder:release())
    end)
  end)

  spec.test("a lock behind an adapter ends with its block", function()
    local cache <close> = open()
    local function is_free()
      local lock = cache:lock("block", "60s")
      return lock and lock:release()
    end
    driver.run(function()
      for _ = 1, 5 do
        local lock <close> = assert(cache:lock("block", "60s"))
        assert(lock:left() > 50)
      end
      local good, message = pcall(function()
        local _ <close> = assert(cache:lock("block", "60s"))
        driver.pause()
        error "in it"
      end)
      spec.same(good, false)
      spec.contains(message, "in it")
      assert(is_free())
    end)
  end)

  spec.test("writes are carried out in turn, and many keys come at once", function()
    local cache <close> = open()
    driver.run(function()
      spec.returns({ true }, cache:set("w:1", "one", { ttl = "1m", tags = { "w" } }))
      spec.returns({ true }, cache:set("w:2", { 2 }))
      spec.same(cache:get_many { "w:1", "w:2", "w:3" }, { "one", { 2 } })
      spec.returns({ true }, cache:invalidate_tag "w")
      spec.returns({ null, null, "miss" }, cache:get "w:1")
      spec.returns({ true }, cache:delete "w:2")
      spec.returns({ null, null, "miss" }, cache:get "w:2")
    end)
  end)

  spec.test("a function is wrapped", function()
    local cache <close> = open()
    local n_calls = 0
    local square = cache:wrap(function(n)
      n_calls = n_calls + 1
      driver.pause()
      return n * n
    end, { prefix = "square" })
    driver.run(function()
      spec.same(square(3), 9)
    end, function()
      spec.same(square(3), 9)
      spec.returns({ true }, square.invalidate(3))
      spec.same(square(3), 9)
    end)
    spec.same(n_calls, 2)
  end)

  spec.test("another process's delete is heard", function()
    local cache <close> = open()
    cache:set("shared", "v")
    until_l1(cache, "shared")
    local _, code = spec.run(("%s del --redis %s --ns calls shared"):format(os.getenv "PERILUNE",
      redis.url))
    spec.same(code, 0)
    driver.run(function()
      pause_until("it is heard", function()
        return select(3, cache:get "shared") == "miss"
      end)
    end)
  end)

  spec.test("a cache is closed under those who wait", function()
    local cache = open()
    local has_begun, told = false, nil
    driver.run(function()
      cache:get("closing", function()
        has_begun = true
        pause_until("the other is told", function()
          return told ~= nil
        end)
        return "v"
      end)
    end, function()
      pause_until("the load has begun", function()
        return has_begun
      end)
      told = select(3, cache:get("closing", error))
    end, function()
      pause_until("the load has begun", function()
        return has_begun
      end)
      for _ = 1, 20 do
        driver.pause()
      end
      cache:close()
    end)
    spec.same(told, "closed")
    spec.raises("closed cache", cache.get, cache, "k")
    -- nothing of it is left in the loop
    local another <close> = open()
    driver.run(function()
      spec.same(another:get("k", function()
        driver.pause()
        return "v"
      end), "v")
    end)
  end)

  spec.test("outside of a coroutine a call blocks", function()
    local cache <close> = open()
    spec.returns({ true }, cache:set("main", "v"))
    spec.same(cache:get "main", "v")
  end)

  redis.stop()
end

return calls
