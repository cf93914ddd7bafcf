-- SPDX-License-Identifier: MIT
--
-- perilune/cqueues.lua - a cache whose calls wait in cqueues.poll; for lua-http as well.
--
--     local cache = require "perilune.cqueues".wrap(assert(perilune.open { ... }))
--
-- It has the methods of the cache. One that waits stops the coroutine of a controller that it is
-- called in, and the others go on. cqueues asks an op itself for its descriptor and its time.
--
-- A controller remembers a descriptor until the coroutine that polled it has yielded again; so that
-- it is not closed under it, it is cancelled first.

local cqueues = require "cqueues"
local waiting = require "perilune.waiting"

local adapter = {}

--- The same methods, which wait by cqueues.poll.
---@param cache perilune.Cache
---@return perilune.Cache
function adapter.wrap(cache)
    local descriptor

    local function cancel()
        if descriptor then
            cqueues.cancel(descriptor)
        end
    end

    return waiting.wrap(cache, function(op)
        descriptor = op:pollfd()
        cqueues.poll(op)
    end, { wake = cancel, leave = cancel })
end

return adapter
