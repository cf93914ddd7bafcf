-- SPDX-License-Identifier: MIT
--
-- perilune/prosody.lua - a cache whose calls wait as Prosody's own do, in util.async.
--
--     local cache = require "perilune.prosody".wrap(assert(perilune.open { ... }))
--
-- It has the methods of the cache. One that waits stops the coroutine of its handler, and the
-- server goes on. Outside of util.async (while a module loads, in a timer; async.ready() says so)
-- nothing can be stopped: there a method blocks, as the cache's own does.
--
-- A cache has one descriptor for all that wait. It is watched only while somebody does, since it is
-- readable as long as there is news that nobody has looked at. Who is woken is found by looking.

local async = require "util.async"
local server = require "net.server"
local timer = require "util.timer"
local waiting = require "perilune.waiting"

local adapter = {}

--- The same methods, which wait by util.async.
---@param cache perilune.Cache
---@return perilune.Cache
function adapter.wrap(cache)
    local sleepers = {} -- by op, the function that wakes who waits for it
    local alarms = setmetatable({}, { __mode = "k" }) -- by op, a task of the timer's
    local watch

    local function rest()
        if watch and next(sleepers) == nil then
            watch:close()
            watch = nil
        end
    end

    -- Wakes those for whose op is_due(op) is true: each runs here, until it waits again. Where one
    -- raises, those after it sleep on, and the descriptor is still readable: they are found at the
    -- loop's next turn.
    local function wake(is_due)
        local due = {}
        for op in pairs(sleepers) do
            if is_due(op) then
                due[#due + 1] = op
            end
        end
        for _, op in ipairs(due) do
            if sleepers[op] then
                sleepers[op]()
            end
        end
        rest()
    end

    -- Has who waits for the op woken when it is to be looked at, where it says when. It may say so
    -- only later: a lock that is to be tried again, say.
    local function set_alarm(op)
        local seconds = not alarms[op] and op:timeout()
        alarms[op] = seconds and timer.add_task(seconds, function()
            alarms[op] = nil
            wake(function(each)
                return each == op
            end)
        end) or alarms[op]
    end

    local function look()
        wake(function(op)
            return op:ready() or op:wants_load()
        end)
        for op in pairs(sleepers) do
            set_alarm(op)
        end
    end

    local function wait(op)
        local sleep, done = async.waiter()
        sleepers[op] = function()
            sleepers[op] = nil
            done()
        end
        set_alarm(op)
        watch = watch or server.watchfd(op:pollfd(), look)
        sleep()
        if alarms[op] then
            timer.stop(alarms[op])
            alarms[op] = nil
        end
    end

    return waiting.wrap(cache, wait, {
        can_wait = async.ready,
        wake = function()
            wake(function()
                return true
            end)
        end,
        forget = function(op)
            sleepers[op] = nil
            rest()
        end,
        leave = function()
            if watch then
                watch:close()
                watch = nil
            end
        end,
    })
end

return adapter
