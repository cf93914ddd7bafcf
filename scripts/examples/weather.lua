-- SPDX-License-Identifier: MIT
--
-- weather.lua - answers of a third-party API: asked for once by all processes, and the last one
-- served while the service is away, as weather_policy.lua says.
--
-- usage: perilune run weather.lua [REDIS_URL]

local perilune = require "perilune"

local url = arg[1] or "redis://localhost"
local policy = (arg[0]:match "^(.*/)" or "") .. "weather_policy.lua"
local cache <close> = assert(perilune.open { redis = url, ns = "examples", policy = policy })

-- Stands for the service; in a program this is an HTTP request. nil says "no such place", nil with
-- a message that the service could not answer.
local places, is_away, n_requests = { oslo = "rain", rome = "sun" }, false, 0
local function fetch(key)
    n_requests = n_requests + 1
    if is_away then
        return nil, "weather.example: connection refused"
    end
    return places[key:match "^weather:(.*)"]
end
assert(cache:register_loader("weather", fetch)) -- the rule calls for it by this name

local function show(place)
    local before = n_requests
    local weather, err, how = cache:get("weather:" .. place)
    print(("%-8s %-14s %-10s %s"):format(place, weather or err and "?" or "no such place", how,
        n_requests > before and "asked the service" or "did not ask"))
    if err then
        print("  " .. err:match "[^\n]*")
    end
end

cache:invalidate_prefix "weather:" -- of an earlier run

show "oslo"
show "oslo"
show "atlantis"
show "atlantis"

print "the service goes away, and what is there becomes old"
is_away = true
cache:expire "weather:oslo"
show "oslo" -- asks in vain, and serves what was said last
show "oslo" -- does not even ask
show "rome" -- never heard of: there is nothing to serve

print "it is back, with other weather"
is_away, places.oslo = false, "snow"
local stop = perilune.clock() + 10
repeat -- until retry is over
    os.execute "sleep 0.1"
until cache:get "weather:oslo" == "snow" or perilune.clock() > stop
show "oslo"
