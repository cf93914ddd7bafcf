-- SPDX-License-Identifier: MIT
--
-- lock.lua - one of several programs at a time: a lock that ends with its block, by itself when its
-- holder dies, and comes with a number by which late writers are known.
--
-- usage: perilune run lock.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local cache <close> = assert(perilune.open { redis = url, ns = "examples" })

-- Stands for what the lock guards, say a table in a database. A holder that was stopped for longer
-- than its ttl goes on as if nothing had been; here its number is smaller than the last one, and
-- what it writes is refused. Without that, no lock with a ttl keeps two from writing.
local report = { fence = 0, n_written = 0, n_refused = 0 }

local function write_report(fence)
    if fence < report.fence then
        report.n_refused = report.n_refused + 1
        return
    end
    report.fence, report.n_written = fence, report.n_written + 1
end

for _ = 1, 3 do
    local lock <close> = assert(cache:lock("report", "10s", { wait = "5s" }))
    write_report(lock:fence())
    assert(lock:extend "20s") -- there is more to do than was thought
end

-- This one sleeps past its ttl, and another takes over.
local late = assert(cache:lock("report", 0.5))
local late_fence = late:fence()
local lock <close> = assert(cache:lock("report", "10s", { wait = "5s" }))
write_report(lock:fence())
write_report(late_fence)
local _, _, outcome = late:release()
print("the late one gives back what is " .. outcome)

-- Who does not want to wait is told at once.
local _, _, code, left = cache:lock("report", "10s")
print(("a third one finds it %s, for %d s at most"):format(code, math.ceil(left)))
print(("the report was written %d times, never by two at once; %d late write was refused"):format(
    report.n_written, report.n_refused))
