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
    while #threads > 0 do
      for i = #threads, 1, -1 do
        local thread = threads[i]
        local good, message = coroutine.resume(thread)
        assert(good, good or debug.traceback(thread, message))
        if coroutine.status(thread) == "dead" then
          table.remove(threads, i)
        end
      end
    end
  end,
  pause = coroutine.yield,
  turns = function()
    return n_turns
  end,
}
spec.finish()
