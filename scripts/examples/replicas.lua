-- SPDX-License-Identifier: MIT
--
-- replicas.lua - reads that may lag a little go to Redis's replicas, and leave the primary to what
-- may not. With a Redis that has none, all of it is read from the primary.
--
-- usage: perilune run replicas.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local cache <close> = assert(perilune.open { redis = url, ns = "examples", replica_ttl = "500ms" })

-- Which keys: a rule of a policy says it for all of them with read = "replica" (or "nearest"); here
-- each call says it for itself. l1 = false so that each one asks Redis: a program leaves that out.
local lagging = { read = "replica", l1 = false }

for i = 1, 20 do
    assert(cache:set("article:" .. i, "text " .. i, { ttl = "1m" }))
end

-- The first such read has replicas looked for; until one is found well, the primary answers.
cache:get("article:1", lagging)
local began = perilune.clock()
while cache:stats().l2_replicas == 0 and perilune.clock() - began < 5 do
    cache:get("article:1", lagging)
end

local before, n_right = cache:stats().replica_hits, 0
for i = 1, 20 do
    -- whatever becomes of the replicas, there is an answer
    n_right = n_right + (cache:get("article:" .. i, lagging) == "text " .. i and 1 or 0)
end
print(("of 20 articles %d were right, %d of them from %d replicas"):format(n_right,
    cache:stats().replica_hits - before, cache:stats().l2_replicas))

-- What has to be current says so, or says nothing.
print(cache:get("article:7", { read = "primary", l1 = false }))
