---@meta perilune

-- What editors know of the module; tests/lua/documented.lua compares it with the module itself.
-- A duration is a number of seconds or a text such as "15m", a size a number of bytes or "64m".

---@alias perilune.Duration number|string
---@alias perilune.Size integer|string
---@alias perilune.Share number|string
---@alias perilune.Key string|integer
---@alias perilune.Value string|number|boolean|table|nil
---@alias perilune.How "l1"|"l2"|"loaded"|"stale"|"negative"|"miss"
---@alias perilune.Code "miss"|"negative"|"pending"|"not_stored"|"truncated"|"invalid"|"no_memory"|"timeout"|"l2_down"|"l2_error"|"too_big"|"loader"|"policy"|"closed"|"busy"|"system"|"denied"|"wrong_type"|"codec"|"lost"|"store"
---@alias perilune.Loader fun(key: string, ...: any): perilune.Value, any, perilune.Duration?

---@class perilune
---@field _VERSION string
---@field _NAME string
---@field key perilune.KeyMaker Makes keys of parts.
---@field not_modified userdata What a loader returns where its source still has the old value.
local perilune = {}

---@class perilune.OpenOptions
---@field name? string Shown in logs and statistics; default: ns, else "perilune".
---@field ns? string Prefix of all names in Redis; default: name.
---@field log? boolean false: no line is logged.
---@field policy? string A policy file to load.
---@field trusted? boolean The policy gets all of Lua's libraries, and no limits.
---@field max_bytes? perilune.Size
---@field max_item_bytes? perilune.Size
---@field max_entries? integer
---@field eviction? "lru"|"adaptive"|"fifo"|"random"|"none"
---@field weigh? "entries"|"bytes"
---@field redis? string
---@field username? string
---@field password? string
---@field tls_ca? string
---@field tls_cert? string
---@field tls_key? string
---@field tls_name? string
---@field tls_verify? boolean
---@field connect_timeout? perilune.Duration
---@field timeout? perilune.Duration
---@field pool? integer
---@field bulk_pool? integer
---@field tracking? boolean
---@field ping? perilune.Duration
---@field bus_log? integer|"none"
---@field on_lost_writes? "clear"|"keep"
---@field workers? integer
---@field ttl? perilune.Duration
---@field l1_ttl? perilune.Duration
---@field l2_ttl? perilune.Duration
---@field stale? perilune.Duration
---@field stale_if_error? perilune.Duration
---@field negative? perilune.Duration
---@field negative_share? perilune.Share
---@field jitter? perilune.Share
---@field refresh? perilune.Share
---@field early? number
---@field sliding? boolean
---@field lease? perilune.Duration
---@field load_timeout? perilune.Duration
---@field soft_timeout? perilune.Duration
---@field retry? perilune.Duration
---@field max_age? perilune.Duration
---@field max_staleness? perilune.Duration
---@field read? "primary"|"replica"|"nearest"
---@field replica_ttl? perilune.Duration
---@field recovery? integer|"none"
---@field policy_watch? perilune.Duration
---@field policy_budget? perilune.Duration
---@field close_timeout? perilune.Duration

---Opens a cache. A Redis that is away is no error.
---@param options? perilune.OpenOptions
---@return perilune.Cache? cache
---@return string? err
---@return perilune.Code? code
function perilune.open(options) end

---Independent servers that keep locks together.
---@param urls string[]|{timeout: perilune.Duration}
---@return perilune.Nodes
function perilune.nodes(urls) end

---A handle on the server in memory behind "memory:NAME".
---@param name string
---@return perilune.Memory
function perilune.memory(name) end

---Sends a message to the service manager (systemd).
---@param message string
---@return true? sent
---@return string? err
---@return perilune.Code? code
function perilune.notify(message) end

---@return number seconds On a clock that is never set.
function perilune.clock() end

---Reads the policies of all caches of this state's process again.
---@return integer? n How many are in force anew.
---@return string? err
function perilune.reload_policies() end

---@class perilune.Nodes

---@class perilune.Cache
local Cache = {}

function Cache:close() end

-- reading ------------------------------------------------------------------------------------

---@class perilune.GetOptions
---@field ttl? perilune.Duration
---@field stale? perilune.Duration
---@field negative? perilune.Duration
---@field timeout? perilune.Duration
---@field soft_timeout? perilune.Duration
---@field tags? string|string[]
---@field no_stale? boolean
---@field own_stale? boolean
---@field no_load? boolean
---@field l1? boolean
---@field l2? boolean
---@field read? "primary"|"replica"|"nearest"
---@field max_staleness? perilune.Duration
---@field keep? boolean
---@field with_old? boolean

---@param key perilune.Key
---@param options? perilune.GetOptions
---@param loader? perilune.Loader
---@param ... any For the loader.
---@return any value
---@return string? err
---@return perilune.How|perilune.Code how
---@overload fun(self: perilune.Cache, key: perilune.Key, loader: perilune.Loader, ...: any): any, string?, perilune.How|perilune.Code
function Cache:get(key, options, loader, ...) end

---Looks into the process's memory only; never waits.
---@param key perilune.Key
---@return any value
---@return nil
---@return perilune.How how
---@return number? age Seconds.
---@return number? left Seconds.
function Cache:peek(key) end

-- writing ------------------------------------------------------------------------------------

---@class perilune.SetOptions
---@field ttl? perilune.Duration
---@field stale? perilune.Duration
---@field timeout? perilune.Duration
---@field tags? string|string[]
---@field weight? integer
---@field priority? integer
---@field nx? boolean
---@field xx? boolean

---nil as the value stores "there is no such thing".
---@param key perilune.Key
---@param value perilune.Value
---@param options? perilune.SetOptions
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:set(key, value, options) end

---@param key perilune.Key
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:delete(key) end

---@param keys perilune.Key[]
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:delete_many(keys) end

---@param key perilune.Key
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:expire(key) end

---@param key perilune.Key
---@param ttl perilune.Duration
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:touch(key, ttl) end

---@param tag string
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:invalidate_tag(tag) end

---@param prefix string
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:invalidate_prefix(prefix) end

---@param pattern string
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:invalidate_pattern(pattern) end

---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:clear() end

---Carries out what the policy says of an event.
---@param event string
---@param fields? table<string, string|integer|boolean>
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:raise(event, fields) end

-- policies -----------------------------------------------------------------------------------

---@param path string
---@param trusted? boolean
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:load_policy(path, trusted) end

---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:reload_policy() end

---@param path string
---@param trusted? boolean
---@return {key: string, file: string, line: integer, failure: string?}[]? tests
---@return string? err
---@return perilune.Code? code
function Cache:test_policy(path, trusted) end

---For the rules whose load is `loader "name"`.
---@param name string
---@param loader perilune.Loader?
---@return true
function Cache:register_loader(name, loader) end

---@param key perilune.Key
---@return string text
function Cache:explain(key) end

---@param as_json? boolean
---@return string text
function Cache:explain_events(as_json) end

---@param path string
---@param options? {sample: perilune.Share, trusted: boolean}
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:shadow(path, options) end

---@return table? report
---@return nil
---@return perilune.Code? code
function Cache:shadow_report() end

---@return true
function Cache:shadow_end() end

-- warming ------------------------------------------------------------------------------------

---@class perilune.WarmOptions
---@field keys? perilune.Key[]|fun(): perilune.Key?
---@field file? string
---@field concurrency? integer
---@field rate? number|string
---@field deadline? perilune.Duration
---@field ready_at? perilune.Share
---@field background? boolean
---@field notify? boolean
---@field progress? fun(report: perilune.WarmReport): boolean?

---@class perilune.WarmReport
---@field wanted integer
---@field loaded integer
---@field present integer
---@field failed integer
---@field error? string The first failure.

---@param options? perilune.WarmOptions
---@return perilune.WarmReport|true|nil report
---@return string? err
---@return perilune.Code? code
function Cache:warm(options) end

---@return boolean is_warm
---@return perilune.WarmReport? report
function Cache:ready() end

-- seeing -------------------------------------------------------------------------------------

---@return table<string, integer>
function Cache:stats() end

---@return string text
function Cache:prometheus() end

---@class perilune.Node
---@field address string
---@field up boolean
---@field breaker "open"|"closed"
---@field connections integer
---@field beat_age? number
---@field timeouts integer
---@field errors integer

---@return perilune.Node[]
function Cache:nodes() end

---@param max_bytes perilune.Size
---@return true
function Cache:resize(max_bytes) end

-- locks, limits, sessions --------------------------------------------------------------------

---@class perilune.Lock
local Lock = {}

---@param ttl? perilune.Duration
---@return true? held
---@return string? err
---@return perilune.Code? code
function Lock:extend(ttl) end

---@return true? released
---@return string? err
---@return perilune.Code? code
function Lock:release() end

---Has it prolonged or given back by a worker; the op's result is the method's.
---@param method "extend"|"release"
---@param ... any its arguments
---@return perilune.Op? op
---@return string? message
---@return string? code
function Lock:call_async(method, ...) end

---@return number seconds
function Lock:left() end

---@return integer? fence
function Lock:fence() end

---@param name string
---@param ttl perilune.Duration
---@param options? {wait: perilune.Duration, retry: perilune.Duration, nodes: perilune.Nodes}
---@return perilune.Lock? lock
---@return string? err
---@return perilune.Code|"busy"? code
---@return number? left Seconds that the holder has left.
function Cache:lock(name, ttl, options) end

---@class perilune.LimitOptions
---@field rate integer
---@field per? perilune.Duration
---@field kind? "fixed"|"sliding"|"log"|"bucket"
---@field burst? integer
---@field cost? integer
---@field on_error? "allow"|"deny"

---@param name string
---@param options perilune.LimitOptions
---@return boolean? allowed
---@return integer|string? remaining Or the message.
---@return number|perilune.Code? retry_after Seconds; or the code.
---@return number? reset Seconds.
---@return "guess"? guess
function Cache:limit(name, options) end

---@class perilune.Sessions
local Sessions = {}

---Has a method carried out by a worker; the op's result is the method's.
---@param method "create"|"get"|"touch"|"update"|"destroy"|"of"|"destroy_all"
---@param ... any its arguments
---@return perilune.Op? op
---@return string? message
---@return string? code
function Sessions:call_async(method, ...) end

---@class perilune.SessionInfo
---@field id string
---@field user? string
---@field age number
---@field idle number
---@field left number

---@param user? string
---@param data? perilune.Value
---@return string? id
---@return string? err
---@return perilune.Code? code
function Sessions:create(user, data) end

---@param id string
---@return any data
---@return string? err
---@return perilune.SessionInfo|perilune.Code info
function Sessions:get(id) end

---@param id string
---@return true? done
---@return string? err
---@return perilune.Code? code
function Sessions:touch(id) end

---@param id string
---@param data perilune.Value
---@return true? done
---@return string? err
---@return perilune.Code? code
function Sessions:update(id, data) end

---@param id string
---@return true? done
---@return string? err
---@return perilune.Code? code
function Sessions:destroy(id) end

---@param user string
---@return perilune.SessionInfo[]? sessions
---@return string? err
---@return perilune.Code? code
function Sessions:of(user) end

---@param user string
---@return integer? ended
---@return string? err
---@return perilune.Code? code
function Sessions:destroy_all(user) end

---@param options? {ttl: perilune.Duration, sliding: boolean}
---@return perilune.Sessions
function Cache:sessions(options) end

return perilune
