-- SPDX-License-Identifier: MIT
--
-- pair.lua - two instances over a server in memory, new for each test: pair(NAME) of the server
-- gives what opens one more, and what runs a test with them.

local spec = require "spec"
local perilune = require "perilune"

return function(server)
  local function open(name, options)
    local all = { name = name, redis = "memory:" .. server, ns = "spec", log = false }
    return assert(perilune.open(spec.over(all, options)))
  end

  local function test(title, body)
    spec.test(title, function()
      local memory <close> = perilune.memory(server)
      local a <close> = open "a"
      local b <close> = open "b"
      body(a, b, memory)
    end)
  end

  return open, test
end
