-- SPDX-License-Identifier: MIT
--
-- perilune/prosody.lua - a cache whose calls wait as Prosody's own do, in util.async.
--
--     local cache = require "perilune.prosody".wrap(assert(perilune.open { ... }))
--
-- It has the methods of the cache that it was given. A call that waits stops the coroutine of its
-- handler, and the server goes on. Loaders run in that coroutine, so they may wait as well. Outside
-- of one (while a module loads, in a timer; async.ready() says so) there is nothing to stop: a call
-- that would have to wait raises there, and one that L1 answers does not.
--
-- All that wait for one cache share its one descriptor. It is readable as long as there is news
-- that nobody has looked at, so it is watched only while somebody waits, and who is woken is found
-- by looking.
local async = require "util.async"
local server = require "net.server"
local timer = require "util.timer"
local waiting = require "perilune.waiting"

local prosody = {}

-- A function that waits until an op of this cache has news, or its time has come.
local function waiter_of()
    local sleepers, watch = {}, nil -- sleepers: by the function that wakes one, its op

    local function stop_watching()
        if watch and next(sleepers) == nil then
            watch:close()
            watch = nil
        end
    end

    -- A woken coroutine runs here, until it waits again. Should one raise, those after it are still
    -- asleep, and the descriptor is still readable: they are found at the loop's next turn.
    local function look()
        local woken = {}
        for wake, op in pairs(sleepers) do
            if op:ready() or op:wants_load() then
                woken[#woken + 1] = wake
            end
        end
        for _, wake in ipairs(woken) do
            wake()
        end
        stop_watching()
    end

    return function(op)
        local sleep, done = async.waiter()
        local alarm
        local function wake()
            sleepers[wake] = nil
            if alarm then
                timer.stop(alarm)
            end
            done()
        end
        local seconds = op:timeout()
        if seconds then
            alarm = timer.add_task(seconds, function()
                alarm = nil
                wake()
                stop_watching()
            end)
        end
        sleepers[wake] = op
        watch = watch or server.watchfd(op:pollfd(), look)
        sleep()
    end
end

-- wrap(cache): the same methods, which wait by util.async.
function prosody.wrap(cache)
    return waiting.wrap(cache, waiter_of())
end

return prosody
