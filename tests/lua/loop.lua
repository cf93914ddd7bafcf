-- SPDX-License-Identifier: MIT
--
-- loop.lua - calls that wait, in the plainest host there is: coroutines that are resumed in turn.

local spec = require "spec"
local perilune = require "perilune"
local waiting = require "perilune.waiting"

local n_turns = 0

local function wrap(cache)
  return waiting.wrap(cache, function()
    n_turns = n_turns + 1
    coroutine.yield()
  end)
end

require "calls".check {
  wrap = wrap,
  run = function(...)
    local threads = {}
    for i, f in ipairs { ... } do
      threads[i] = coroutine.create(f)
    end
    repeat
      local n_left = 0
      for _, thread in ipairs(threads) do
        if coroutine.status(thread) ~= "dead" then
          n_left = n_left + 1
          local good, message = coroutine.resume(thread)
          assert(good, good or debug.traceback(thread, message))
        end
      end
    until n_left == 0
  end,
  pause = coroutine.yield,
  turns = function()
    return n_turns
  end,
}

spec.test("a coroutine that is closed gives its lock back, and waits for nothing", function()
  local redis <close> = spec.redis()
  local cache <close> = wrap(assert(perilune.open { redis = redis.url, log = false }))
  local has_lock = false
  local thread = coroutine.create(function()
    local _ <close> = assert(cache:lock("held", "60s"))
    has_lock = true
    coroutine.yield()
  end)
  while not has_lock do
    assert(coroutine.resume(thread))
  end
  spec.same(select(3, cache:lock "held"), "busy")
  assert(coroutine.close(thread))
  spec.wait_until("it is given back", function()
    local lock = cache:lock "held"
    return lock and lock:release()
  end)
end)

spec.test("the example of the reference prints what it shows", function()
  spec.example(assert(arg[0]:match "^(.*)tests/lua/") .. "lua/reference/adapters.md")
end)

spec.finish()
