-- SPDX-License-Identifier: MIT
--
-- perilune/copas.lua - a cache whose calls wait in the loop of copas.
--
--     local cache = require "perilune.copas".wrap(assert(perilune.open { ... }))
--
-- It has the methods of the cache. One that waits stops the thread of copas that it is called in,
-- and the others go on. An op is shown to copas as a socket that is read from: LuaSocket's select
-- asks it for its descriptor, and before that whether there is news already, so that it is found
-- also where none comes by the descriptor.
--
-- Only threads of copas can wait: a coroutine of the program's own is not known to its loop.

local copas = require "copas"
local waiting = require "perilune.waiting"

local adapter = {}

local Source = {}
Source.__index = Source

function Source:getfd()
    return self.op:pollfd()
end

function Source:dirty()
    return self.state.is_closing or self.op:ready() or self.op:wants_load()
end

function Source:receive()
    if self:dirty() then
        return true
    end
    return nil, "timeout"
end

-- copas may call them; an op keeps its own time, and the descriptor is the cache's.
function Source.settimeout()
    return true
end

function Source.close()
    return true
end

-- A thread that has copas's loop turn in so many seconds.
local function alarm(seconds)
    return copas.addthread(function()
        copas.sleep(seconds)
    end)
end

--- The same methods, which wait by copas.receive.
---@param cache perilune.Cache
---@return perilune.Cache
function adapter.wrap(cache)
    local state = { is_closing = false }
    return waiting.wrap(cache, function(op)
        local seconds = op:timeout()
        local thread = seconds and alarm(seconds)
        copas.receive(setmetatable({ op = op, state = state }, Source), 1)
        if thread then
            copas.wakeup(thread)
        end
    end, {
        wake = function()
            state.is_closing = true
        end,
    })
end

return adapter
