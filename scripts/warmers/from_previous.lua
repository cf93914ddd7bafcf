-- SPDX-License-Identifier: MIT
--
-- from_previous.lua - a policy for a fleet that is replaced while it serves: each instance says in
-- Redis what is hot in it, and a new one begins with that.
--
--     perilune policy check from_previous.lua
--     cache = perilune.open { redis = "redis://localhost", policy = "from_previous.lua" }
--     cache:warm()
--
-- What is hot is known only of L1s of 2 MiB and more. The very first instance finds no such keys,
-- and begins with those that are known to be wanted; later ones read these last, if at all: the
-- deadline comes first, and a cache is ready when nine in ten keys are there.

cache.rule "user:{id}" {
    ttl = "15m", jitter = "10%", refresh = 0.8, stale = "2m", negative = "10s",
    load = function(_, m) -- in the place of a look into the users' database
        return { id = m.id, name = "user " .. m.id }
    end,
}

cache.warm {
    previous { top = 10000, priority = 1 },
    keys { "user:1", "user:2", "user:3" },
    concurrency = 16, rate = "2000/s", deadline = "20s", ready_at = "90%",
}
