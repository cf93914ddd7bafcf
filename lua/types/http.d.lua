---@meta perilune.http

---@class perilune.Terms
---@field ttl number seconds; math.huge: forever
---@field stale number
---@field stale_if_error number
---@field negative number

---@class perilune.LoaderTerms what a loader returns as its third result
---@field ttl? number|string how long the value is fresh; negative: it is not stored
---@field stale? number|string how long past that it is kept
---@field tags? string[]

---@class perilune.Cache
local Cache = {}

---What the key's rule, or the cache's options, say of its life. Neither blocks nor yields.
---@param key string|integer
---@return perilune.Terms? terms, string? message, string? code
function Cache:terms(key) end

---@class perilune
local perilune = {}

---A name for bytes, the same in every process: 32 hexadecimal digits. Neither blocks nor yields.
---@param bytes string
---@return string
function perilune.hash(bytes) end

---@class perilune.http.Request
---@field method string
---@field path string the target as it was sent
---@field headers table<string, string|string[]> names in lower case
---@field host? string
---@field scheme? string
---@field body? string

---@alias perilune.http.Headers table<string, string|string[]>
---@alias perilune.http.Fetch fun(request: perilune.http.Request): integer?, perilune.http.Headers|string|nil, string?

---@class perilune.http.Options
---@field shared? boolean
---@field default? "rule"|{ ttl: number|string, stale?: number|string, stale_if_error?: number|string, negative?: number|string }
---@field heuristic? boolean|number
---@field keep? number|string
---@field pass? number|string
---@field retry? number|string
---@field etag? "strong"|"weak"|false
---@field cookies? "pass"|"strip"
---@field prefix? string
---@field key? fun(request: perilune.http.Request): string
---@field normalize? table<string, fun(value: string): string>
---@field tags? string[]|fun(request: perilune.http.Request, status: integer, headers: perilune.http.Headers): string[]
---@field tag_fields? string[]
---@field surrogate? string
---@field cache_control? string|perilune.http.Directives
---@field targeted? string[]
---@field statuses? integer[]
---@field origin? boolean
---@field obey_client? boolean
---@field cache_status? string
---@field get? table
---@field now? fun(): number

---@class perilune.http.Directives
---@field max_age? number|string
---@field s_maxage? number|string
---@field stale_while_revalidate? number|string
---@field stale_if_error? number|string
---@field public? boolean
---@field private? boolean
---@field no_store? boolean
---@field no_cache? boolean
---@field must_revalidate? boolean
---@field proxy_revalidate? boolean
---@field must_understand? boolean
---@field no_transform? boolean
---@field immutable? boolean

---@alias perilune.http.How "l1"|"l2"|"loaded"|"stale"|"confirmed"|"pass"|"error"

---@class perilune.http
local http = {}

---Answers a request from the cache, or by `fetch` through it. May block as cache:get and fetch do;
---may yield where the cache is an adapter's object.
---@async
---@param cache perilune.Cache
---@param request perilune.http.Request
---@param fetch perilune.http.Fetch
---@param options? perilune.http.Options
---@return integer status, perilune.http.Headers headers, string body, perilune.http.How how, string? message
function http.serve(cache, request, fetch, options) end

---Forgets all answers of a request's path. May block as cache:delete.
---@param cache perilune.Cache
---@param request perilune.http.Request
---@param options? perilune.http.Options
---@return boolean? done, string? message, string? code
function http.invalidate(cache, request, options) end

---@param method string
---@param headers perilune.http.Headers
---@param current { etag?: string, last_modified?: number, exists?: boolean }
---@param now? number
---@return 304|412|nil
function http.evaluate(method, headers, current, now) end

---@param bytes string
---@param weak? boolean
---@return string
function http.etag(bytes, weak) end

---@param directives perilune.http.Directives
---@return string
function http.cache_control(directives) end

---@param header string|string[]|nil
---@return table<string, string|boolean>
function http.parse_cache_control(header) end

---@param terms perilune.Terms
---@param ttl? number
---@return perilune.http.Directives
function http.of_terms(terms, ttl) end

---@param seconds number
---@return string
function http.date(seconds) end

---@param text string
---@param now? number
---@return integer?
function http.parse_date(text, now) end

---@param field string
---@param tags string[]
---@return string? value, string? message, string? code
function http.surrogate_keys(field, tags) end

---@param field string
---@param value string|string[]|nil
---@return string[]
function http.read_surrogate_keys(field, value) end

---@param tags string[]
---@param options? { field?: string, most_bytes?: integer, most_keys?: integer }
---@return { headers: table<string, string>, keys: string[], tags: string[] }[]
function http.purges(tags, options) end

---@param cache perilune.Cache
---@param hook fun(void: { tags?: string[], keys?: string[], prefix?: string, pattern?: string, all?: boolean })
---@return perilune.Cache
function http.with_purge(cache, hook) end

return http
