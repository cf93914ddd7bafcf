-- edge.lua - one of many regions, far from the origin: content served near its readers.
--
-- Each region has a Redis of its own (or a replica near by, with read = "nearest"), and the
-- origin tells all of them what changed, by events over a stream. What it gives: reads that
-- never cross the ocean while there is anything to serve; at most one load per region for what
-- is missing; a region that is cut off from the origin goes on with what it has, for a day.
-- What to change: the stream's name, and how long a region may live on its own.

cache.class "content" {
  ttl = "1h", jitter = "20%",
  l1_ttl = "5m",
  early = 1,                       -- loads are far away, so they begin early
  stale = "10m",
  soft_timeout = "50ms",           -- an ocean is 80 ms: serve what there is, and let the load go on
  stale_if_error = "1d", retry = "10s",
  read = "nearest", replica_ttl = "5s",
  negative = "1m",
}

cache.rule "page:{site}:*" { class = "content", max_bytes = "512k", tags = { "site:{site}" } }
-- Named by what is in it: it never changes.
cache.rule "asset:{hash}" { class = "content", ttl = "30d", max_bytes = "2m" }
cache.rule "object:{kind}:{id}" { class = "content", tags = { "{kind}", "{kind}:{id}" } }

-- What belongs to one person is not content: this region only, and not for long.
cache.rule "visitor:{id}" { ttl = "5m", sliding = true, max_age = "1h", negative = "0s" }

cache.rule "*" { ttl = "1m", stale = "10m" }

-- Each region is a group of its own, so each hears every event, also those from while it was
-- away.
cache.events { stream = "origin:changes", idle = "1m" }
cache.on "page.published" { tags = { "site:{site}" } }
cache.on "object.changed" { keys = { "object:{kind}:{id}" }, tags = { "{kind}:{id}" } }

-- The hottest of the last run of this region, before the first visitor comes.
cache.warm {
  previous { top = 10000 },
  concurrency = 16, rate = "2000/s", deadline = "20s", ready_at = "90%",
}

cache.test "page:news:/2026/11/moon" { class = "content", tags = { "site:news" } }
cache.test "object:author:7" { soft_timeout = "50ms", tags = { "author", "author:7" } }
cache.test "asset:9f3c" { ttl = "30d", read = "nearest" }
