---@meta perilune

-- What waits to be stored ----------------------------------------------------------------------

---@class perilune.Queue
---@field depth integer
---@field lag number Seconds.
---@field dead integer
---@field ours boolean

---@class perilune.DeadLetter
---@field id string
---@field key string
---@field op "set"|"delete"
---@field value perilune.Value
---@field error string
---@field attempts integer
---@field age number Seconds.
---@field write_id string

---@class perilune.Cache
local Cache = {}

---@param timeout? perilune.Duration
---@return true? done
---@return string? err
---@return perilune.Code? code
function Cache:flush(timeout) end

---@return perilune.Queue? queue
---@return string? err
---@return perilune.Code? code
function Cache:queue() end

---@param most? integer
---@return perilune.DeadLetter[]? letters
---@return string? err
---@return perilune.Code? code
function Cache:deadletters(most) end

---@param id string An id, or "all".
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:retry_deadletter(id) end

---@param id string An id, or "all".
---@return integer? n
---@return string? err
---@return perilune.Code? code
function Cache:drop_deadletter(id) end
