-- SPDX-License-Identifier: MIT
--
-- limiter.lua - so many requests in so long, counted for all processes together.
--
-- usage: perilune run limiter.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local cache <close> = assert(perilune.open { redis = url, ns = "examples" })
local caller = ("192.0.2.%d:%.9f"):format(1, perilune.clock()) -- a new one at each run

-- Which kind: "fixed" is cheapest; "sliding" has no edges, and estimates; "log" is exact in any
-- span, for small rates; "bucket" lets a burst through, and then goes steadily.
local per_caller = { rate = 5, per = "10m", kind = "bucket", on_error = "allow" }

local function handle()
    local allowed, remaining, retry_after, _, guess = cache:limit(caller, per_caller)
    if guess then
        print "Redis is away; nobody is refused meanwhile"
    end
    if not allowed then
        return 429, { ["Retry-After"] = math.ceil(retry_after) }
    end
    return 200, { ["RateLimit-Remaining"] = remaining }
end

local n_allowed = 0
for i = 1, 20 do
    local status, headers = handle()
    n_allowed = n_allowed + (status == 200 and 1 or 0)
    if i == 1 or i == 20 then
        local name, value = next(headers)
        print(("request %d: %d, %s: %s"):format(i, status, name, value))
    end
end
print(("of 20 requests %d were let through"):format(n_allowed))

-- A counter without a limit; its hour begins with the first.
print("requests in this hour: " .. assert(cache:count("requests:" .. caller, 20, { ttl = "1h" })))
