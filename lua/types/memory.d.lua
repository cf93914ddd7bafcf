---@meta perilune

-- A server in memory, for tests.

---@class perilune.Faults
---@field seed? integer
---@field delay? perilune.Duration
---@field delay_random? perilune.Duration
---@field carried_out? perilune.Share
---@field out_of_memory? boolean
---@field read_only? boolean
---@field message_delay? perilune.Duration
---@field message_random? perilune.Duration
---@field hold? boolean
---@field reorder? integer
---@field duplicate? perilune.Share
---@field lose? perilune.Share

---@class perilune.Memory
local Memory = {}

---@param faults perilune.Faults
---@param cache? perilune.Cache
---@return nil
function Memory:faults(faults, cache) end

---@param n? integer
---@param cache? perilune.Cache
---@return integer delivered
function Memory:deliver(n, cache) end

---@param cache? perilune.Cache
---@return nil
function Memory:part(cache) end

---@param cache? perilune.Cache
---@return nil
function Memory:join(cache) end

---@param how? "fail"|"hang"
---@param cache? perilune.Cache
---@return nil
function Memory:cut(how, cache) end

---@param cache? perilune.Cache
---@return nil
function Memory:heal(cache) end

---@return nil
function Memory:forget() end

---@param share perilune.Share
---@return integer evicted
function Memory:evict(share) end

---@return table<string, integer>
function Memory:stats() end

---@return nil
function Memory:close() end
