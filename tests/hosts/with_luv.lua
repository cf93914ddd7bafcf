-- SPDX-License-Identifier: MIT
--
-- with_luv.lua - the adapter for luv, and its example.

local host = require "host"
local uv = host.need_module("luv", "lua-luv")
local perilune = require "perilune"
local spec = require "spec"

local adapter = require "perilune.luv"

local n_yields, yield = 0, coroutine.yield
coroutine.yield = function(...) -- luacheck: ignore 122
  -- which the adapter calls by its name
  n_yields = n_yields + 1
  return yield(...)
end

-- Coroutines run until all have ended.
local function run(...)
  local raised
  for _, f in ipairs { ... } do
    coroutine.wrap(function()
      local good, message = xpcall(f, debug.traceback)
      raised = raised or not good and message
    end)()
  end
  uv.run()
  assert(not raised, raised)
end

local function pause()
  local thread = coroutine.running()
  local timer = uv.new_timer()
  timer:start(1, 0, function()
    timer:close()
    assert(coroutine.resume(thread))
  end)
  yield()
end

require "calls".check {
  wrap = adapter.wrap,
  run = run,
  pause = pause,
  turns = function()
    return n_yields
  end,
}

spec.test("a coroutine that is closed keeps neither the key nor the loop", function()
  local redis <close> = spec.redis()
  local cache <close> = adapter.wrap(assert(perilune.open { redis = redis.url, log = false }))
  local n_loads = 0
  local function load()
    n_loads = n_loads + 1
    if n_loads == 1 then
      yield()
    end
    return "from load " .. n_loads
  end
  local first = coroutine.create(function()
    cache:get("k", load)
  end)
  run(function()
    coroutine.resume(first)
    while n_loads == 0 do
      pause()
    end
    assert(coroutine.close(first))
    spec.same(cache:get("k", load), "from load 2")
  end)
  local second = coroutine.create(function()
    cache:set("k", "v")
  end)
  coroutine.resume(second)
  assert(coroutine.close(second))
  uv.run() -- ends, since nobody waits
end)

require "front".check_program "luv"
require "front".check "luv"
spec.finish()
