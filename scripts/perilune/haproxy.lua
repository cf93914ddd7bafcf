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
-- It also refuses new threads once it has given up root, and serves in a child where it runs as
-- master and worker. Then the cache's work (what other processes have changed, refreshing) is done
-- by a task of HAProxy's, a little at a time.
local waiting = require "perilune.waiting"

-- luacheck: read_globals core
local haproxy = {}

local LOOK_MS = 2 -- a wait's length, and so the most that an answer may lie there
local STEP_MS = 10 -- between two pieces of the cache's work, where no thread does it
local ASK_MS = 1000 -- between two questions whether it is so

-- wrap(cache): the same methods, which wait by core.msleep.
function haproxy.wrap(cache)
    local is_ours, is_closed = false, false -- is_ours: whether the cache's work is left to us

    local function work()
        while not is_closed do
            is_ours = cache:stats().mode == "caller"
            if is_ours then
                cache:step(0)
            end
            core.msleep(is_ours and STEP_MS or ASK_MS)
        end
    end

    local function wait()
        if is_ours then
            cache:step(0)
        end
        core.msleep(LOOK_MS)
    end

    core.register_task(work)
    return waiting.wrap(cache, wait, {
        leave = function()
            is_closed = true
        end,
    })
end

return haproxy
