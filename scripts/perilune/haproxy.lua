-- SPDX-License-Identifier: MIT
--
-- perilune/haproxy.lua - a cache whose calls wait as HAProxy's own do, by core.msleep.
--
--     local cache = require "perilune.haproxy".wrap(assert(perilune.open("pages", { ... })))
--
-- To be called while the configuration is read. The methods are those of the cache. A call that
-- waits gives the processor back, so requests go on; loaders run in the coroutine of their request,
-- and may use core.tcp and core.msleep. Converters and fetches must not wait: they have peek.
--
-- HAProxy has no event that a descriptor could raise in Lua, so whoever waits looks again after a
-- while. An answer of Redis is mostly there at the first look.
--
-- To whom is not root it refuses new threads once it serves, as the system's limit of them. Then
-- what threads would do behind is done by a task of HAProxy's, a piece at a time.
local waiting = require "perilune.waiting"

-- luacheck: read_globals core
local haproxy = {}

local LOOK_MS = 2 -- a wait's length, and so the most that an answer may lie there
local LEAST_MS, MOST_MS = 5, 1000 -- between two pieces of work

local function wait()
    core.msleep(LOOK_MS)
end

--- The same methods, which wait by core.msleep.
---@param cache perilune.Cache
---@return perilune.Cache
function haproxy.wrap(cache)
    local is_closed = false
    core.register_task(function()
        while not is_closed do
            local seconds = cache:step() -- none where threads do it: then it looks again some time
            core.msleep(math.tointeger(math.max(LEAST_MS, math.min(seconds * 1000, MOST_MS)) // 1))
        end
    end)
    return waiting.wrap(cache, wait, {
        leave = function()
            is_closed = true
        end,
    })
end

return haproxy
