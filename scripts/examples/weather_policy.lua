-- SPDX-License-Identifier: MIT
--
-- weather_policy.lua - what a service of other people's said: see weather.lua.

cache.rule "weather:{place}" {
    ttl = "15m",
    stale_if_error = "1d",  -- the service is away: its last answer, a day old at most
    retry = "1s",           -- and it is asked again after a second, not by every caller
    negative = "1m",        -- "no such place" is believed for a minute
    load_timeout = "5s",    -- who has no old answer waits so long,
    soft_timeout = "250ms", -- who has one no longer than this
    load = loader "weather",
}
