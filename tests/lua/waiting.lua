-- SPDX-License-Identifier: MIT
--
-- waiting.lua - what the adapters for hosts share: who waits, who loads, and what is left behind
-- when a coroutine ends. The host is a list of coroutines that are woken in order, the cache one
-- that answers what the test says.

local spec = require "spec"
local perilune = require "perilune"
local waiting = require "perilune.waiting"
local null = spec.null

-- ---- a host ----

local Host = {}
Host.__index = Host

local function new_host()
  return setmetatable({ threads = {}, waits = 0 }, Host)
end

-- What is given to waiting.wrap.
function Host:wait()
  return function()
    self.waits = self.waits + 1
    coroutine.yield()
  end
end

-- Starts a coroutine; it runs until it waits.
function Host:go(f, ...)
  local thread = coroutine.create(f)
  self.threads[#self.threads + 1] = thread
  assert(coroutine.resume(thread, ...))
  return thread
end

-- Wakes each that waits, once.
function Host:turn()
  for _, thread in ipairs(self.threads) do
    if coroutine.status(thread) == "suspended" then
      assert(coroutine.resume(thread))
    end
  end
end

-- Until none is left.
function Host:run()
  for _ = 1, 1000 do
    local is_over = true
    for _, thread in ipairs(self.threads) do
      is_over = is_over and coroutine.status(thread) == "dead"
    end
    if is_over then
      return
    end
    self:turn()
  end
  error "they wait for ever"
end

-- ---- a cache ----

local Op = {}
Op.__index = Op

function Op:ready()
  return self.results ~= nil
end

function Op:result()
  assert(self.results, "not ready")
  return table.unpack(self.results, 1, self.results.n)
end

-- One loads: the first of the key's ops that is left.
function Op:wants_load()
  return self.loader ~= nil and not self.results and not self.flight.is_loading
    and self.flight[1] == self
end

function Op:load()
  local flight = self.flight
  flight.is_loading = true
  local value, err = self.loader(self.key, table.unpack(self.more))
  if flight.is_loading then
    flight.is_loading = false
    for i, op in ipairs(flight) do
      local how = i == 1 and "loaded" or "l1"
      op.results = err and table.pack(nil, err, "loader") or table.pack(value, nil, how)
    end
    self.cache.values[self.key] = value
    self.cache.flights[self.key] = nil
  end
end

function Op:cancel()
  self.is_cancelled = true
  for i, op in ipairs(self.flight or {}) do
    if op == self then
      self.flight.is_loading = i ~= 1 and self.flight.is_loading
      table.remove(self.flight, i)
      break
    end
  end
end

local Cache = {}
Cache.__index = Cache

local function new_cache(values)
  return setmetatable({ values = values or {}, flights = {}, ops = {}, calls = {} }, Cache)
end

function Cache:get_async(key, options, loader, ...)
  if type(options) == "function" then
    loader = options
  end
  local op = setmetatable({ cache = self, key = key, loader = loader, more = { ... } }, Op)
  self.ops[#self.ops + 1] = op
  if self.values[key] ~= nil then
    op.results = table.pack(self.values[key], nil, "l1")
  else
    op.flight = self.flights[key] or {}
    self.flights[key] = op.flight
    table.insert(op.flight, op)
  end
  return op
end

function Cache:get_or_async(...)
  local op = self:get_async(...)
  if op:ready() then
    return false, op:result()
  end
  return op
end

function Cache:call_async(method, ...)
  local op = setmetatable({}, Op)
  self.calls[#self.calls + 1] = { method, ... }
  self.ops[#self.ops + 1] = op
  return op
end

function Cache.get(_, key)
  return "blocking " .. key, nil, "l2"
end

function Cache:stats()
  return { of = self }
end

function Cache:close()
  self.is_closed = true
  return true
end

-- ---- ----

spec.test("what L1 has is answered without the host", function()
  local host, cache = new_host(), new_cache { k = "v" }
  local wrapped = waiting.wrap(cache, host:wait())
  host:go(function()
    spec.returns({ "v", null, "l1" }, wrapped:get "k")
  end)
  host:run()
  spec.same(host.waits, 0)
end)

spec.test("two coroutines want a key, one loads and waits in its loader, both have it", function()
  local host, cache = new_host(), new_cache()
  local wrapped = waiting.wrap(cache, host:wait())
  local n_loads, got = 0, {}
  local function load(key)
    n_loads = n_loads + 1
    coroutine.yield()
    coroutine.yield()
    return "value of " .. key
  end
  for i = 1, 2 do
    host:go(function()
      got[i] = table.pack(wrapped:get("k", load))
    end)
  end
  host:run()
  spec.same(n_loads, 1)
  spec.same(got, { { "value of k", nil, "loaded", n = 3 }, { "value of k", nil, "l1", n = 3 } })
end)

spec.test("a loader may ask for another key, which another coroutine loads", function()
  local host, cache = new_host(), new_cache()
  local wrapped = waiting.wrap(cache, host:wait())
  local got
  host:go(function()
    wrapped:get("b", function()
      coroutine.yield()
      return "b"
    end)
  end)
  host:go(function()
    got = wrapped:get("a", function()
      return "a and " .. wrapped:get("b", error)
    end)
  end)
  host:run()
  spec.same(got, "a and b")
end)

spec.test("what a loader reports, all who wait are told", function()
  local host, cache = new_host(), new_cache()
  local wrapped = waiting.wrap(cache, host:wait())
  local n = 0
  for _ = 1, 3 do
    host:go(function()
      spec.returns({ null, "no database", "loader" }, wrapped:get("k", function()
        coroutine.yield()
        return nil, "no database"
      end))
      n = n + 1
    end)
  end
  host:run()
  spec.same(n, 3)
end)

spec.test("a write is an op as well", function()
  local host, cache = new_host(), new_cache()
  local wrapped = waiting.wrap(cache, host:wait())
  local thread = host:go(function()
    spec.returns({ true }, wrapped:set("k", "v", { ttl = 1 }))
  end)
  spec.same(coroutine.status(thread), "suspended")
  spec.same(cache.calls, { { "set", "k", "v", { ttl = 1 } } })
  cache.ops[1].results = table.pack(true)
  host:run()
end)

spec.test("where an op cannot begin, its message comes back", function()
  local host, cache = new_host(), new_cache()
  function cache.get_or_async()
    return false, nil, "out of memory", "no_memory"
  end
  function cache.call_async()
    return nil, "too many calls wait", "busy"
  end
  local wrapped = waiting.wrap(cache, host:wait())
  host:go(function()
    spec.returns({ null, "out of memory", "no_memory" }, wrapped:get "k")
    spec.returns({ null, "too many calls wait", "busy" }, wrapped:delete "k")
  end)
end)

spec.test("outside of a coroutine a call blocks, and all else is the cache's own", function()
  local host, cache = new_host(), new_cache()
  local wrapped = waiting.wrap(cache, host:wait())
  spec.returns({ "blocking k", null, "l2" }, wrapped:get "k")
  assert(rawequal(wrapped:stats().of, cache))
  spec.same(wrapped.stats, wrapped.stats)
  spec.same(wrapped.no_such_method, nil)
end)

spec.test("a coroutine that is closed cancels, and the next one loads", function()
  local host, cache = new_host(), new_cache()
  local forgotten
  local wrapped = waiting.wrap(cache, host:wait(), {
    forget = function(op)
      forgotten = op
    end,
  })
  local n_loads, got = 0, nil
  local function load()
    n_loads = n_loads + 1
    coroutine.yield()
    return "from load " .. n_loads
  end
  local first = host:go(wrapped.get, wrapped, "k", load)
  host:go(function()
    got = wrapped:get("k", load)
  end)
  assert(coroutine.close(first))
  spec.same(cache.ops[1].is_cancelled, true)
  assert(rawequal(forgotten, cache.ops[1]))
  host:run()
  spec.same(got, "from load 2")
  spec.same(cache.ops[2].is_cancelled, nil)
end)

spec.test("an error of the host's comes through, and cancels", function()
  local cache = new_cache()
  local wrapped = waiting.wrap(cache, function()
    error "the loop is gone"
  end)
  local thread = coroutine.create(wrapped.get)
  local good, message = coroutine.resume(thread, wrapped, "k")
  spec.same(good, false)
  spec.contains(message, "the loop is gone")
  coroutine.close(thread)
  spec.same(cache.ops[1].is_cancelled, true)
end)

spec.test("close: those who wait are told, the last of them closes, new calls raise", function()
  local host, cache = new_host(), new_cache()
  local left, woken = 0, 0
  local wrapped = waiting.wrap(cache, host:wait(), {
    wake = function()
      woken = woken + 1
    end,
    leave = function()
      spec.same(cache.is_closed, nil)
      left = left + 1
    end,
  })
  local n_told = 0
  for i = 1, 2 do
    host:go(function()
      spec.returns({ null, "the cache was closed meanwhile", "closed" }, wrapped:get("k" .. i))
      n_told = n_told + 1
    end)
  end
  spec.returns({ true }, wrapped:close())
  spec.same({ cache.is_closed, woken }, { nil, 1 })
  spec.raises("attempt to use a closed cache", wrapped.get, wrapped, "k")
  spec.raises("attempt to use a closed cache", wrapped.set, wrapped, "k", 1)
  host:run()
  spec.same({ n_told, cache.is_closed, left, woken }, { 2, true, 1, 1 })
  spec.returns({ true }, wrapped:close())
end)

spec.test("a cache in which nobody waits is closed at once, and by its block", function()
  local cache = new_cache()
  do
    local _ <close> = waiting.wrap(cache, error)
    spec.same(cache.is_closed, nil)
  end
  spec.same(cache.is_closed, true)
end)

-- ---- with a cache of the module's ----

spec.test("a wrapped function is called by its arguments, and invalidated by them", function()
  local real <close> = assert(perilune.open { log = false })
  local cache = setmetatable({}, { __index = function(_, name)
    return Cache[name] or function(_, ...)
      return real[name](real, ...)
    end
  end })
  for name, value in pairs(new_cache()) do
    cache[name] = value
  end
  local host = new_host()
  local wrapped = waiting.wrap(cache, host:wait())
  local find = wrapped:wrap(function(id, kind)
    coroutine.yield()
    return { id = id, kind = kind }, nil, -1
  end, { prefix = "user", ttl = "1m" })
  host:go(function()
    spec.same(find(7, "a"), { id = 7, kind = "a" })
  end)
  host:go(function()
    spec.same(find(7, "a"), { id = 7, kind = "a" })
  end)
  host:run()
  spec.same({ cache.ops[1].key, cache.ops[2].key }, { "user:7:a", "user:7:a" })
  host:go(function()
    find.invalidate(7, "a")
  end)
  spec.same(cache.calls, { { "delete", "user:7:a" } })
  spec.raises("an option 'prefix' is needed", wrapped.wrap, wrapped, print, {})
end)

spec.finish()
