-- SPDX-License-Identifier: MIT
--
-- loop.lua - calls that wait, in the plainest host there is: coroutines that are resumed in turn.

local spec = require "spec"
local waiting = require "perilune.waiting"

local n_turns = 0

require "calls".check {
  wrap = function(cache)
    return waiting.wrap(cache, function()
      n_turns = n_turns + 1
      coroutine.yield()
    end)
  end,
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

spec.test("the example of the reference prints what it shows", function()
  spec.example(assert(arg[0]:match "^(.*)tests/lua/") .. "lua/reference/adapters.md")
end)

spec.finish()
