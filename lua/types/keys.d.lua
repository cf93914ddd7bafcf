---@meta

---@alias perilune.key_part string|number|boolean
---@alias perilune.how "l1"|"l2"|"loaded"|"stale"|"negative"|"miss"

---Makes keys of parts: `perilune.key("user", 7)` is "user:7".
---@class perilune.KeyMaker
---@overload fun(part: perilune.key_part, ...: perilune.key_part): string
local KeyMaker = {}

---The parts of a key, with `n`; or nil, message, "invalid".
---@param key string
---@return (perilune.key_part?)[]? parts
---@return string? message
---@return string? code
function KeyMaker.parse(key) end

---@class perilune.OpenOptions
---@field key_schema? string the parts of every key, "env:service:version:entity:id"

---@class perilune.Wrapped
---@overload fun(...): any, string?, string
---@field invalidate fun(...): boolean?, string?, string? deletes the result for these arguments
---@field refresh fun(...): any, string?, string calls the function anew
---@field peek fun(...): any, string?, string, number?, number? what is in memory
---@field key fun(...): string the key for these arguments

---@class perilune.WrapOptions: perilune.GetOptions
---@field prefix? string the first part of all keys
---@field key? fun(...): string|integer makes the key of the arguments

---@class perilune.IncrOptions
---@field initial? integer where nothing is there
---@field ttl? number|string a new life
---@field timeout? number|string

---@class perilune.CasOptions
---@field ttl? number|string a new life
---@field timeout? number|string

---@class perilune.CountOptions
---@field ttl? number|string from the addition that makes the counter

---@class perilune.KeyInfo
---@field age number seconds
---@field left number seconds until it is stale
---@field bytes integer of the value

---@class perilune.HotKey
---@field key string
---@field requests integer
---@field share number

---@class perilune.Event
---@field kind "key"|"expire"|"tag"|"prefix"|"pattern"|"clear"|"down"|"up"|"gap"
---@field key? string
---@field tag? string
---@field text? string
---@field cut? true
---@field lost integer events that found no room before this one

---@class perilune.Cache
---@field key perilune.KeyMaker
local Cache = {}

---Reads many keys; results are by a key's place in the list. The loader is called once, with all
---keys that are missing, and returns their values in a table by key.
---@param keys (string|integer)[]
---@param options? perilune.GetOptions
---@param loader? fun(keys: (string|integer)[]): table?, any, number|string|table|nil
---@return any[]? values
---@return string[] hows
---@return string? message
---@overload fun(self, keys: (string|integer)[], loader: fun(keys: (string|integer)[]): table?, any, any): any[]?, string[], string?
function Cache:get_many(keys, options, loader) end

---A function whose first result is cached by its arguments.
---@param f function
---@param options perilune.WrapOptions
---@return perilune.Wrapped
function Cache:wrap(f, options) end

---Adds to a cached value that is a whole number. Nothing there: nil, nil, "miss".
---@param key string|integer
---@param delta? integer
---@param options? perilune.IncrOptions
---@return integer? sum
---@return string? message
---@return string? code
function Cache:incr(key, delta, options) end

---Stores a value if another one is there; old nil: if nothing is. Else nil, nil, "not_stored", value.
---@param key string|integer
---@param old any
---@param new any
---@param options? perilune.CasOptions
---@return boolean? done
---@return string? message
---@return string? code
---@return any present
function Cache:cas(key, old, new, options) end

---Adds to a counter in Redis, which is no cached value.
---@param name string|integer
---@param by? integer
---@param options? perilune.CountOptions
---@return integer? sum
---@return string? message
---@return string? code
function Cache:count(name, by, options) end

---@param name string|integer
---@return integer? number
---@return string? message
---@return string? code
function Cache:counter(name) end

---@param name string|integer
---@return boolean? done
---@return string? message
---@return string? code
function Cache:reset_counter(name) end

---The keys in memory that begin so, or fit a pattern with '*', for a for loop.
---@param pattern? string
---@return fun(): string?, perilune.KeyInfo?
function Cache:each(pattern) end

---The keys in memory that begin so.
---@param prefix? string
---@param limit? integer
---@return string[]? keys
---@return string? message
---@return string? code
function Cache:keys(prefix, limit) end

---@param n? integer
---@return perilune.HotKey[]? keys
---@return string? message
---@return string? code
function Cache:hottest(n) end

---Keeps what is heard of other instances from now on.
---@param most? integer
---@return boolean done
function Cache:events(most) end

---The oldest event that is kept; nil, nil, "miss" where there is none.
---@return perilune.Event? event
---@return nil
---@return string? code
function Cache:poll_event() end
