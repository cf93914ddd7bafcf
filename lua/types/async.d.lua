---@meta perilune

---What was begun and is looked at until it is ready.
---@class perilune.Op
local Op = {}

---Whether there is a result. Never waits, but in a cache without threads.
---@return boolean
function Op:ready() end

---What the method that was begun returns. Raises while the op is not ready.
---@return any value
---@return any err
---@return string? how a source ("l1", "l2", "loaded", "stale"), an outcome ("miss", "negative") or the code of a failure
function Op:result() end

---Whether the loader is to be run, by `load`.
---@return boolean
function Op:wants_load() end

---Calls the loader in the calling coroutine, where it may yield, and hands over what it returned.
---@async
---@return boolean has_loaded
function Op:load() end

---The one descriptor of the cache's ops: readable as long as one of them has news.
---@return integer? descriptor
---@return string? message
---@return string? code
function Op:pollfd() end

---@return "r"
function Op:events() end

---Seconds until it has to be looked at again; nil: only the descriptor need be waited for.
---@return number?
function Op:timeout() end

---Ends the op; a load that it has begun is left to others.
function Op:cancel() end

---@class perilune.Cache
local Cache = {}

---Begins a get, and does not wait. The options may be left out before a function.
---@param key string|integer
---@param options? perilune.GetOptions
---@param loader? fun(key: string, ...): any, any, (number|string)?
---@param ... any further arguments of the loader
---@return perilune.Op? op
---@return string? message
---@return string? code
---@overload fun(self: perilune.Cache, key: string|integer, loader: function, ...: any): perilune.Op?, string?, string?
function Cache:get_async(key, options, loader, ...) end

---As get_async, but without an op where the answer is known at once: false, and what get returns.
---@param key string|integer
---@param options? perilune.GetOptions
---@param loader? fun(key: string, ...): any, any, (number|string)?
---@param ... any further arguments of the loader
---@return perilune.Op|false op
---@return any value
---@return string? err
---@return string? how
function Cache:get_or_async(key, options, loader, ...) end

---Begins a get of many keys; its result is values and hows, each by the key's position.
---@param keys (string|integer)[]
---@param options? perilune.GetOptions
---@return perilune.Op? op
---@return string? message
---@return string? code
function Cache:get_many_async(keys, options) end

---Has a method that goes to Redis carried out by a worker; the op's result is the method's.
---@param method perilune.Async
---@param ... any its arguments
---@return perilune.Op? op
---@return string? message
---@return string? code
function Cache:call_async(method, ...) end

---@alias perilune.Async
---| "set"|"delete"|"delete_many"|"expire"|"touch"|"invalidate_tag"|"invalidate_prefix"|"invalidate_pattern"|"clear"|"flush"|"raise"|"incr"|"cas"|"count"|"counter"|"reset_counter"|"limit"
---| "redis"|"drop"|"hget"|"hmget"|"hgetall"|"hlen"|"hset"|"hdel"|"hincr"|"hscan"|"sscan"|"zscan"
---| "lock"
---| "sadd"|"srem"|"sismember"|"smembers"|"scard"|"lpush"|"rpush"|"lpop"|"rpop"|"lrange"|"ltrim"|"llen"|"xadd"|"xrange"|"xlen"|"xdel"
