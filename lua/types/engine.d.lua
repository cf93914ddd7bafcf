---@meta perilune
-- luacheck: ignore 212 241

---@class perilune
local perilune = {}

---Opens a cache of one's own. Starts no thread and connects nowhere until it is needed.
---@param options? perilune.OpenOptions
---@return perilune.Cache? cache
---@return string? message
---@return string? code
---@overload fun(name: string, options?: perilune.OpenOptions): perilune.Cache?, string?, string?
function perilune.open(options) end

---Ends the process's engine of a name: now, or when its last handle is closed.
---@param name string
---@return true? done
---@return nil
---@return "pending"|"miss"|nil code
function perilune.shutdown(name) end

---@class perilune.Cache
local Cache = {}

---Gives the handle back; a cache of one's own ends with it, an engine stays.
---@return true
function Cache:close() end

---Does some of the engine's work where the system starts no threads for it.
---@param seconds? number|string # 0 or nothing: one piece
---@return number seconds # until it is of use again; 0: more waits; math.huge: threads do it
function Cache:step(seconds) end

---@class perilune.Stats
---@field mode "threads"|"caller" # who does the engine's work
---@field [string] integer
