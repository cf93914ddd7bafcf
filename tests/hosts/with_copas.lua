-- SPDX-License-Identifier: MIT
--
-- with_copas.lua - the adapter for copas, and its example.

local host = require "host"
host.need_module("socket", "lua-socket")
local copas = host.need_module("copas", "lua-copas")
local spec = require "spec"

local n_receives, receive = 0, copas.receive
copas.receive = function(...) -- which the adapter calls by its name
  n_receives = n_receives + 1
  return receive(...)
end

require "calls".check {
  wrap = require "perilune.copas".wrap,
  run = function(...)
    local n_left, raised = select("#", ...), nil
    for _, f in ipairs { ... } do
      copas.addthread(function()
        local good, message = xpcall(f, debug.traceback)
        raised = raised or not good and message
        n_left = n_left - 1
      end)
    end
    while n_left > 0 do
      copas.step(1)
    end
    assert(not raised, raised)
  end,
  pause = function()
    copas.sleep(0.001)
  end,
  turns = function()
    return n_receives
  end,
}
require "front".check "copas"
spec.finish()
