---@meta perilune

-- Redis's data structures --------------------------------------------------------------------

---@class perilune.Cache
local Cache = {}

---@class perilune.ReadOptions
---@field timeout? perilune.Duration

---@class perilune.WriteOptions
---@field timeout? perilune.Duration
---@field ttl? perilune.Duration

---@param name string
---@return string name
function Cache:name(name) end

---@param name string
---@param options? perilune.ReadOptions
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:drop(name, options) end

---@param command string
---@param ... string|number
---@return any answer
---@return string? err
---@return perilune.Code? code
function Cache:redis(command, ...) end

---@param name string
---@param field string
---@param options? perilune.ReadOptions
---@return string? value
---@return string? err
---@return perilune.How|perilune.Code how
function Cache:hget(name, field, options) end

---@param name string
---@param fields string[]
---@param options? perilune.ReadOptions
---@return table<string, string>? values
---@return string? err
---@return perilune.How|perilune.Code how
function Cache:hmget(name, fields, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return table<string, string>? values
---@return string? err
---@return perilune.How|perilune.Code how
function Cache:hgetall(name, options) end

---@param name string
---@param values table<string, string|number>
---@param options? perilune.WriteOptions
---@return integer? new
---@return string? err
---@return perilune.Code? code
function Cache:hset(name, values, options) end

---@param name string
---@param fields string|string[]
---@param options? perilune.WriteOptions
---@return integer? removed
---@return string? err
---@return perilune.Code? code
function Cache:hdel(name, fields, options) end

---@param name string
---@param field string
---@param by? integer
---@param options? perilune.WriteOptions
---@return integer? number
---@return string? err
---@return perilune.Code? code
function Cache:hincr(name, field, by, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:hlen(name, options) end

---@param name string
---@param members string|number|(string|number)[]
---@param options? perilune.WriteOptions
---@return integer? new
---@return string? err
---@return perilune.Code? code
function Cache:sadd(name, members, options) end

---@param name string
---@param members string|number|(string|number)[]
---@param options? perilune.WriteOptions
---@return integer? removed
---@return string? err
---@return perilune.Code? code
function Cache:srem(name, members, options) end

---@param name string
---@param member string|number
---@param options? perilune.ReadOptions
---@return boolean? is_member
---@return string? err
---@return perilune.Code? code
function Cache:sismember(name, member, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return string[]? members
---@return string? err
---@return perilune.Code? code
function Cache:smembers(name, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:scard(name, options) end

---@param name string
---@param values string|number|(string|number)[]
---@param options? perilune.WriteOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:lpush(name, values, options) end

---@param name string
---@param values string|number|(string|number)[]
---@param options? perilune.WriteOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:rpush(name, values, options) end

---With a count a list.
---@param name string
---@param options? {count: integer, ttl: perilune.Duration, timeout: perilune.Duration}
---@return string|string[]|nil value
---@return string? err
---@return perilune.Code? code
function Cache:lpop(name, options) end

---With a count a list.
---@param name string
---@param options? {count: integer, ttl: perilune.Duration, timeout: perilune.Duration}
---@return string|string[]|nil value
---@return string? err
---@return perilune.Code? code
function Cache:rpop(name, options) end

---@param name string
---@param first integer
---@param last integer
---@param options? perilune.ReadOptions
---@return string[]? values
---@return string? err
---@return perilune.Code? code
function Cache:lrange(name, first, last, options) end

---@param name string
---@param first integer
---@param last integer
---@param options? perilune.WriteOptions
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:ltrim(name, first, last, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:llen(name, options) end

---@param name string
---@param fields table<string, string|number>
---@param options? {maxlen: integer, ttl: perilune.Duration, timeout: perilune.Duration}
---@return string? id
---@return string? err
---@return perilune.Code? code
function Cache:xadd(name, fields, options) end

---@param name string
---@param from? string
---@param to? string
---@param options? {count: integer, timeout: perilune.Duration}
---@return {id: string, fields: table<string, string>}[]? entries
---@return string? err
---@return perilune.Code? code
function Cache:xrange(name, from, to, options) end

---@param name string
---@param options? perilune.ReadOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:xlen(name, options) end

---@param name string
---@param ids string|string[]
---@param options? perilune.WriteOptions
---@return integer? removed
---@return string? err
---@return perilune.Code? code
function Cache:xdel(name, ids, options) end

---For `for field, value in`; a failure raises.
---@param name string
---@param options? {match: string, count: integer, timeout: perilune.Duration}
---@return fun(): string?, string? iterator
---@return any
---@return any
---@return any closing
function Cache:hscan(name, options) end

---For `for member in`; a failure raises.
---@param name string
---@param options? {match: string, count: integer, timeout: perilune.Duration}
---@return fun(): string? iterator
---@return any
---@return any
---@return any closing
function Cache:sscan(name, options) end

---For `for member, score in`; a failure raises.
---@param name string
---@param options? {match: string, count: integer, timeout: perilune.Duration}
---@return fun(): string?, number? iterator
---@return any
---@return any
---@return any closing
function Cache:zscan(name, options) end

---@class perilune.Entry
---@field member string
---@field score number
---@field rank integer

---@class perilune.Board
local Board = {}

---@param member string
---@param score number
---@param options? perilune.WriteOptions
---@return true? done
---@return string? err
---@return perilune.Code? code
function Board:add(member, score, options) end

---@param member string
---@param by? number
---@param options? perilune.WriteOptions
---@return number? score
---@return string? err
---@return perilune.Code? code
function Board:incr(member, by, options) end

---@param members string|string[]
---@param options? perilune.WriteOptions
---@return integer? removed
---@return string? err
---@return perilune.Code? code
function Board:remove(members, options) end

---@param n? integer
---@param options? perilune.ReadOptions
---@return perilune.Entry[]? entries
---@return string? err
---@return perilune.Code? code
function Board:top(n, options) end

---@param member string
---@param options? perilune.ReadOptions
---@return integer? rank
---@return number|string|nil score
---@return perilune.Code? code
function Board:rank(member, options) end

---@param member string
---@param n? integer
---@param options? perilune.ReadOptions
---@return perilune.Entry[]? entries
---@return string? err
---@return perilune.Code? code
function Board:around(member, n, options) end

---@param options? perilune.ReadOptions
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Board:size(options) end

---Has a method of the board's carried out by a worker; the op's result is the method's.
---@param method "add"|"incr"|"remove"|"size"|"top"|"rank"|"around"
---@param ... any its arguments
---@return perilune.Op? op
---@return string? message
---@return string? code
function Board:call_async(method, ...) end

---A sorted set as a leaderboard.
---@param name string
---@return perilune.Board
function Cache:board(name) end
