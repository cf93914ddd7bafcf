---@meta

---A value that can be cached. A table that is read is read-only, but with `copy`, or
---`decoded = "none"`.
---@alias perilune.Value string|number|boolean|table|nil

---@class perilune.OpenOptions
---@field decoded? string|integer bytes of values remembered with their tables; "none"
---@field codec? "msgpack"|"json" of what is no string
---@field compress? string|integer values from so many bytes on are compressed in Redis
---@field compression? "lz4"|"zstd"

---@class perilune.GetOptions
---@field copy? boolean a table is the caller's own

---@class perilune.SetOptions
---@field codec? "msgpack"|"json"

---@class perilune.Cache
local Cache = {}

---A table's copy, all the way down, that may be changed; any other value as it is. Neither blocks
---nor yields.
---@generic T
---@param value T
---@return T
function Cache:copy(value) end

---@class perilune
local perilune = {}

---As cache:copy().
---@generic T
---@param value T
---@return T
function perilune.copy(value) end
