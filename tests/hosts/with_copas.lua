-- SPDX-License-Identifier: MIT
--
-- with_copas.lua - the adapter for copas, and its example.

local host = require "host"
local socket = host.need_module("socket", "lua-socket")
local copas = host.need_module("copas", "lua-copas")
local spec = require "spec"

-- What is always ready, for a thread that lets others go on: copas of Debian has no sleep().
local Pause = { socket = assert(socket.udp()) }
Pause.__index = Pause
assert(Pause.socket:setsockname("127.0.0.1", 0)) -- it has a descriptor from then on
function Pause:getfd()
  return self.socket:getfd()
end
function Pause.dirty()
  return true
end
function Pause:receive()
  if self.is_over then
    return true
  end
  self.is_over = true
  return nil, "timeout"
end
function Pause.close() end

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
      copas.step(0.1)
    end
    assert(not raised, raised)
  end,
  pause = function()
    socket.sleep(0.001)
    receive(setmetatable({}, Pause))
  end,
  turns = function()
    return n_receives
  end,
}
require "front".check "copas"
spec.finish()
