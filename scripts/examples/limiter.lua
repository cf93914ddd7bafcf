-- SPDX-License-Identifier: MIT
--
-- limiter.lua - so many requests in so long, of each caller, counted for all processes together.
--
-- usage: perilune run limiter.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local cache <close> = assert(perilune.open { redis = url, ns = "examples" })

-- Which kind: "fixed" is cheapest; "sliding" has no edges, and estimates; "log" is exact in any
-- span, for small rates; "bucket" lets a burst through, and then goes steadily.
-- With Redis away nobody is refused; on_error = "deny" would refuse everybody.
local per_caller = { rate = 5, per = "10m", kind = "bucket", on_error = "allow" }

-- What a server does first with a request: the status, and what it tells the caller.
local function admit(caller)
    local allowed, remaining, retry_after = cache:limit(caller, per_caller)
    if allowed then
        return 200, ("%d more at once"):format(remaining)
    end
    return 429, ("come back in %d s"):format(math.ceil(retry_after))
end

local caller = ("192.0.2.1:%.9f"):format(perilune.clock()) -- a new one at each run
for i = 1, 7 do
    local status, message = admit(caller)
    print(("request %d: %d, %s"):format(i, status, message))
end

-- Another caller has a limit of its own.
print(("another caller: %d"):format((admit(caller .. ":2"))))

-- A counter without a limit; its hour begins with the first.
print("requests in this hour: " .. assert(cache:count("requests:" .. caller, 8, { ttl = "1h" })))
