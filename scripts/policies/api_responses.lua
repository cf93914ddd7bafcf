-- api_responses.lua - answers of other people's services: slow, limited, and away now and then.
--
-- What it gives: each answer is fetched once for all processes; a slow service makes nobody wait
-- longer than a quarter of a second while there is an older answer; one that is down is asked
-- once every few seconds, and its last answer served for a day; what it says does not exist is
-- believed for a minute, so that wrong links do not use up your quota.
-- What to change: ttl by what each service allows, and load_timeout by what your users bear.

cache.class "api" {
  ttl = "5m", jitter = "10%",
  early = 1,                       -- the slower a service, the earlier one request renews ahead
  stale = "5m",
  soft_timeout = "250ms",          -- with an old answer at hand no caller waits longer
  load_timeout = "5s",
  stale_if_error = "1d", retry = "5s",
  negative = "1m",
  max_bytes = "512k",
}

cache.rule "api:weather:{place}" { class = "api", ttl = "15m", tags = { "weather" } }

-- Paid by the call: an hour, and nothing is kept that was asked for only once.
cache.rule "api:geocode:{place}" { class = "api", ttl = "30d", jitter = "20%", min_uses = 2 }

-- Money: short, and an old rate is no rate after ten minutes.
cache.rule "api:rates:{pair}" { class = "api", ttl = "1m", stale = "30s", stale_if_error = "10m" }

cache.rule "api:{service}:*" { class = "api", tags = { "api:{service}" } }

cache.rule "*" { ttl = "1m" }

-- A service has published something new: cache:raise("service.changed", { service = "weather" }).
cache.on "service.changed" { tags = { "api:{service}" } }

cache.test "api:weather:oslo" { class = "api", ttl = "15m", soft_timeout = "250ms" }
cache.test "api:rates:eur-usd" { stale_if_error = "10m", retry = "5s" }
cache.test "api:maps:tiles/7/3" { rule = "api:{service}:*", tags = { "api:maps" } }
