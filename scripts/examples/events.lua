-- SPDX-License-Identifier: MIT
--
-- events.lua - values that become void by what other programs say, over a stream and a channel of
-- Redis: events_policy.lua says what each event makes void. `perilune policy events` prints that
-- for those who write such programs.
--
-- usage: perilune run events.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local policy = (arg[0]:match "^(.*/)" or "") .. "events_policy.lua"
local cache <close> = assert(perilune.open { redis = url, ns = "examples", policy = policy })

-- What these do any program can, in any language: no perilune is needed to send an event.
local function add(...)
    assert(cache:redis("XADD", "shop:events", "MAXLEN", "~", 10000, "*", ...))
end
local function publish(message)
    assert(cache:redis("PUBLISH", "shop-events", message))
end

local function wait_until(condition)
    local deadline = perilune.clock() + 10
    while not condition() do
        assert(perilune.clock() < deadline, "nothing came in 10 seconds")
        os.execute "sleep 0.01"
    end
end

local function is_gone(key)
    return cache:get(key) == nil
end

for i = 1, 3 do
    cache:set("product:" .. i, "price " .. i)
end

-- kept until somebody has carried it out, though all processes were away
add("event", "product.changed", "id", 1, "shop", 9)
wait_until(function() return is_gone "product:1" end)
print("product:1 is void", cache:get "product:2")

-- heard by those who listen at this moment, as JSON or as words
wait_until(function() return cache:redis("PUBSUB", "NUMSUB", "shop-events")[2] > 0 end)
publish '{"event": "product.changed", "id": 2, "shop": 9}'
wait_until(function() return is_gone "product:2" end)
publish "products.imported"
wait_until(function() return is_gone "product:3" end)
print "product:2 is void, then all that carry the tag"

-- what can never be carried out is kept aside, with its reason
add("event", "product.chagned", "id", 3)
wait_until(function() return cache:redis("XLEN", "shop:events:dead") > 0 end)
local entry = cache:redis("XREVRANGE", "shop:events:dead", "+", "-", "COUNT", 1)[1]
print(entry[2][3], entry[2][4])
