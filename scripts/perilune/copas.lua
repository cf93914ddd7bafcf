-- SPDX-License-Identifier: MIT
--
-- perilune/copas.lua - a cache whose calls wait in the loop of copas.
--
--     local cache = require "perilune.copas".wrap(assert(perilune.open { ... }))
--
-- It has the methods of the cache. One that waits stops the thread of copas that it is called in,
-- and the others go on. An op is shown to copas as a socket that is read from: LuaSocket's select
-- asks it for its descriptor, and before that whether there is news already. That is how the end of
-- a time is found, when the loop turns: by a thread that sleeps so long, where copas has sleep().
-- Older ones (Debian's) have no clock; there a loop has to turn by itself: copas.loop(0.1).
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

-- An op may say only by now when it is to be looked at; then who waits for it sets an alarm.
function Source:receive()
    if self:dirty() or (copas.sleep and not self.has_alarm and self.op:timeout()) then
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

-- A thread that has the loop turn in so many seconds; nil where there is no need, or no way.
local function alarm(seconds)
    return seconds and copas.sleep and copas.addthread(function()
        copas.sleep(seconds)
    end)
end

--- The same methods, which wait by copas.receive.
---@param cache perilune.Cache
---@return perilune.Cache
function adapter.wrap(cache)
    local state = { is_closing = false }
    return waiting.wrap(cache, function(op)
        local thread = alarm(op:timeout())
        copas.receive(setmetatable({ op = op, state = state, has_alarm = thread }, Source), 1)
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
