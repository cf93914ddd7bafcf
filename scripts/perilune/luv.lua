-- SPDX-License-Identifier: MIT
--
-- perilune/luv.lua - a cache whose calls wait in the loop of luv.
--
--     local cache = require "perilune.luv".wrap(assert(perilune.open { ... }))
--
--     server:listen(128, function()
--         coroutine.wrap(function()
--             local value, err, how = cache:get(key, loader)
--         end)()
--     end)
--
-- It has the methods of the cache. One that waits stops the coroutine it is called in, which the
-- loop goes on with; what is raised there then is raised in the loop, as by any callback. In a
-- callback itself nothing can be stopped: there a method blocks, as the cache's own does.
--
-- A cache has one descriptor for all that wait, so there is one poll handle, which is active while
-- somebody waits, and one timer. Who is woken is found by looking.

local uv = require "luv"
local waiting = require "perilune.waiting"

local adapter = {}

local function resume(thread)
    if coroutine.status(thread) == "suspended" then
        local good, message = coroutine.resume(thread)
        if not good then
            error(debug.traceback(thread, tostring(message)), 0)
        end
    end
end

--- The same methods, which wait by a poll handle.
---@param cache perilune.Cache
---@return perilune.Cache
function adapter.wrap(cache)
    local sleepers = {} -- by op, the coroutine that waits for it
    local poll, timer -- made when first used
    local is_polling, due = false, nil -- due: when the timer rings, by the loop's clock
    local look

    -- Has the timer ring where an op is to be looked at earlier than it would by now.
    local function set_alarm(op)
        local seconds = op:timeout()
        if seconds then
            local ms = math.ceil(seconds * 1000)
            if not due or uv.now() + ms < due then
                due = uv.now() + ms
                timer:start(ms, 0, look)
            end
        end
    end

    local function rest()
        if is_polling and next(sleepers) == nil then
            poll:stop()
            timer:stop()
            is_polling, due = false, nil
        end
    end

    -- Wakes those whose op is one of `woken`. Where a coroutine raises, those after it sleep on,
    -- and the descriptor is still readable: they are found at the loop's next turn.
    local function wake(woken)
        for _, op in ipairs(woken) do
            local thread = sleepers[op]
            sleepers[op] = nil
            if thread then
                resume(thread)
            end
        end
    end

    function look()
        due = nil
        local woken = {}
        for op in pairs(sleepers) do
            if op:ready() or op:wants_load() then
                woken[#woken + 1] = op
            else
                set_alarm(op)
            end
        end
        wake(woken)
        rest()
    end

    local function wait(op)
        poll = poll or assert(uv.new_poll(op:pollfd()))
        timer = timer or assert(uv.new_timer())
        if not is_polling then
            assert(poll:start("r", look))
            is_polling = true
        end
        sleepers[op] = coroutine.running()
        set_alarm(op)
        coroutine.yield()
        if sleepers[op] then -- it was somebody else who woke it
            sleepers[op] = nil
            rest()
        end
    end

    return waiting.wrap(cache, wait, {
        wake = function()
            local all = {}
            for op in pairs(sleepers) do
                all[#all + 1] = op
            end
            wake(all)
        end,
        forget = function(op)
            sleepers[op] = nil
            rest()
        end,
        leave = function()
            if poll then
                is_polling = false
                poll:close()
                timer:close()
                -- luv 1.44 crashes where the state is closed before the loop has seen that
                if not uv.loop_mode() then
                    uv.run "nowait"
                end
            end
        end,
    })
end

return adapter
