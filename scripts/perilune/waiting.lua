-- SPDX-License-Identifier: MIT
--
-- perilune/waiting.lua - a cache whose calls wait in the way of a host: what its adapters share.
--
--     local cache = waiting.wrap(cache, function(op)
--         -- returns once op:pollfd() may be read, or op:timeout() seconds are over, or earlier
--     end)
--
-- The object has the methods of the cache. Those that may have to wait begin an op (get_async and
-- its neighbours) and wait for it by that function, which stops the coroutine it is called in; so
-- the others go on. What L1 answers is there at once, and the host does not hear of it. A loader
-- runs in the coroutine that asked, and may wait as that may. Outside of a coroutine nothing can be
-- stopped: there a method blocks, as the cache's own does.
--
-- A coroutine that ends while it waits (by coroutine.close, or by an error of the host's) cancels
-- what it waited for. Lua 5.3 reads this file too; there the collector does that, later.

local waiting = {}

-- Methods that wait and have no op of their own: a worker of the engine runs them.
local CALLED = {
    "set", "delete", "delete_many", "expire", "touch", "invalidate_tag", "invalidate_prefix",
    "invalidate_pattern", "clear", "flush", "raise", "incr", "cas", "count", "counter",
    "reset_counter", "limit",
    "redis", "drop", "hget", "hmget", "hgetall", "hlen", "hset", "hdel", "hincr", "sadd", "srem",
    "sismember", "smembers", "scard", "lpush", "rpush", "lpop", "rpop", "lrange", "ltrim", "llen",
    "xadd", "xrange", "xlen", "xdel",
}
local OF_BOARDS = { "add", "incr", "remove", "size", "top", "rank", "around" }
local OF_SESSIONS = { "create", "get", "touch", "update", "destroy", "of", "destroy_all" }
local OF_LOCKS = { "release", "extend" }
-- Iterators, and how many values each of their steps gives.
local SCANS = { hscan = 2, sscan = 1, zscan = 2 }

local function always()
    return true
end

local function copy(options)
    local all = {}
    for name, value in pairs(options or {}) do
        all[name] = value
    end
    return all
end

-- Options of a wrapped function without those that are not get's.
local function options_of_get(options)
    local rest = copy(options)
    rest.prefix, rest.key = nil, nil
    return rest
end

-- Makes `object` stand before `inner`, whose methods it has where it has none of its own.
local function stand_before(inner, object, close)
    return setmetatable(object, {
        __index = function(_, name)
            local method = inner[name]
            if type(method) ~= "function" then
                return method
            end
            object[name] = function(_, ...)
                return method(inner, ...)
            end
            return object[name]
        end,
        __close = close,
        __tostring = function()
            return tostring(inner)
        end,
        __name = "perilune.waiting",
        __metatable = false,
    })
end

-- wrap(cache, wait, [host]): the object. What else a host may do, each a function or nil:
--   can_wait()   whether who calls could be stopped now (coroutine.isyieldable)
--   wake()       has all that wait look again; the cache is being closed
--   forget(op)   nobody waits for this op any more: its coroutine was closed
--   leave()      lets go of the descriptor, which is closed next
---@param cache perilune.Cache
---@param wait fun(op: perilune.Op)
---@param host? table<string, function>
---@return perilune.Cache
function waiting.wrap(cache, wait, host)
    host = host or {}
    local can_wait = host.can_wait or coroutine.isyieldable
    local busy = setmetatable({}, { __mode = "k" }) -- ops that somebody waits for
    local loading = setmetatable({}, { __mode = "k" }) -- by coroutine, the set of keys it loads
    local is_closing, is_closed = false, false
    local object = {}

    local function shut()
        is_closed = true
        if host.leave then
            host.leave()
        end
        return cache:close()
    end

    -- An op is over. The last one closes a cache that is to be closed.
    local function let_go(op, ...)
        busy[op] = nil
        if is_closing and not is_closed and next(busy) == nil then
            shut()
        end
        return ...
    end

    local guard_class = {
        __close = function(guard)
            local op = guard.op
            if busy[op] then
                if host.forget then
                    host.forget(op)
                end
                op:cancel()
                let_go(op)
            end
        end,
    }

    -- Runs the loader, in this coroutine.
    local function load(op, key)
        local thread = coroutine.running()
        local keys = loading[thread] or {}
        loading[thread] = keys
        keys[tostring(key)] = true
        op:load()
        keys[tostring(key)] = nil
    end

    -- The results of an op, when they are there; `key` is that of a get. Given false in the place
    -- of an op it returns those that follow; given nil, message, code it returns those.
    local function settle(key, op, ...)
        if op == false then
            return ...
        elseif not op then
            return op, ...
        end
        local own = loading[coroutine.running()]
        if own and key ~= nil and own[tostring(key)] then -- it would wait for itself
            op:cancel()
            error(("the loader of '%s' asks for '%s' itself"):format(key, key), 3)
        end
        busy[op] = true
        -- the fourth value of a for is closed with it, which also Lua 5.3 can read
        for _ in always, nil, nil, setmetatable({ op = op }, guard_class) do
            if op:ready() then
                return let_go(op, op:result())
            elseif is_closing then
                op:cancel()
                return let_go(op, nil, "the cache was closed meanwhile", "closed")
            elseif op:wants_load() then
                load(op, key)
            else
                wait(op)
            end
        end
    end

    local function check_open()
        if is_closing then
            error("attempt to use a closed cache", 3)
        end
    end

    function object.get(_, key, ...)
        check_open()
        if can_wait() then
            return settle(key, cache:get_or_async(key, ...))
        end
        return cache:get(key, ...)
    end

    function object.get_many(_, keys, options, ...)
        check_open()
        if can_wait() and type(options) ~= "function" and (...) == nil then
            return settle(nil, cache:get_many_async(keys, options))
        end
        -- a loader of many keys blocks, and must not yield
        return cache:get_many(keys, options, ...)
    end

    -- Gives the object the methods of `inner` that have these names and may have to wait.
    local function add_methods(inner, names, to)
        for _, name in ipairs(names) do
            to[name] = function(_, ...)
                check_open()
                if can_wait() then
                    return settle(nil, inner:call_async(name, ...))
                end
                return inner[name](inner, ...)
            end
        end
        return to
    end

    add_methods(cache, CALLED, object)

    function object.board(_, name)
        local board = cache:board(name)
        return stand_before(board, add_methods(board, OF_BOARDS, {}))
    end

    function object.sessions(_, options)
        local sessions = cache:sessions(options)
        return stand_before(sessions, add_methods(sessions, OF_SESSIONS, {}))
    end

    -- The results of a lock; its end waits where it can, or lets a worker give it back.
    local function lock_of(lock, ...)
        if not lock then
            return lock, ...
        end
        return stand_before(lock, add_methods(lock, OF_LOCKS, {}), function()
            local op = lock:call_async "release"
            if not op then
                lock:release()
            elseif coroutine.isyieldable() and can_wait() then
                settle(nil, op)
            end
        end)
    end

    function object.lock(_, ...)
        check_open()
        if can_wait() then
            return lock_of(settle(nil, cache:call_async("lock", ...)))
        end
        return lock_of(cache:lock(...))
    end

    -- Waits at those steps that fetch a page.
    for name, step in pairs(SCANS) do
        object[name] = function(_, key, options)
            check_open()
            local iterator = cache[name](cache, key, options) -- checks them
            if not can_wait() then
                return iterator
            end
            local all, page, cursor, at = copy(options), {}, "0", 1
            return function()
                while at > #page do
                    if not cursor then
                        return nil
                    end
                    page, cursor = settle(nil, cache:call_async(name, key, all, cursor))
                    if not page then
                        error(cursor, 2)
                    end
                    at = 1
                end
                at = at + step
                return table.unpack(page, at - step, at - 1)
            end
        end
    end

    -- wrap(function, options): called, it waits as get does.
    function object.wrap(_, f, options)
        local wrapped = cache:wrap(f, options) -- checks the options
        local rest = options_of_get(options)
        local function call(_, ...) -- is given the key first; a wrapped function gives no ttl
            local value, err = f(...)
            return value, err
        end
        return setmetatable({
            invalidate = function(...)
                return object:delete(wrapped.key(...))
            end,
        }, {
            __index = wrapped,
            __call = function(_, ...)
                return object:get(wrapped.key(...), rest, call, ...)
            end,
            __name = "perilune.wrapped",
            __metatable = false,
        })
    end

    -- Results of SQL: the statement blocks, as LuaSQL does, but what the cache does with it waits.
    for _, name in ipairs { "query", "execute", "changed" } do
        object[name] = function(_, ...)
            check_open()
            return require "perilune.query"[name](object, ...)
        end
    end

    -- Those who wait are told nil, message, "closed", and the last of them closes the cache.
    function object.close()
        if is_closing then
            return true
        end
        is_closing = true
        if next(busy) == nil then
            return shut()
        end
        if host.wake then
            host.wake()
        end
        return true
    end

    return stand_before(cache, object, function()
        object.close()
    end)
end

return waiting
