-- dashboards.lua - figures that many look at and nobody needs to the second.
--
-- What it gives: at most one query per panel and half minute, however many screens show it; a
-- screen never waits for a query it has shown before; a database that is being restarted leaves
-- the last figures on the wall, for an hour.
-- What to change: ttl by how old a figure may be, load_timeout by your slowest query.

cache.class "panel" {
  ttl = "30s", jitter = "10%",
  refresh = "70%",                 -- renewed behind while somebody looks
  stale = "10m",                   -- who comes back after minutes sees the last figures at once
  soft_timeout = "100ms",
  stale_if_error = "1h", retry = "10s",
  load_timeout = "2m", lease = "2m", -- a report may take its time; nobody else starts it meanwhile
  negative = "10s",
}

-- On walls: kept fresh while somebody looked within the last five minutes, so no screen shows old
-- figures first.
cache.rule "panel:wall:{id}" { class = "panel", keep_hot = "5m", tags = { "panels" } }
cache.rule "panel:{board}:{id}" { class = "panel", tags = { "panels", "board:{board}" } }

-- Closed periods do not change any more.
cache.rule "report:month:{month}" {
  ttl = "30d", stale_if_error = "30d", max_bytes = "4m", tags = { "reports" },
}

cache.rule "*" { ttl = "30s", stale = "1m" }

cache.on "board.edited" { tags = { "board:{board}" } }
cache.on "books.reopened" { tags = { "reports" } }

cache.test "panel:wall:sales" { class = "panel", ttl = "30s", keep_hot = "5m" }
cache.test "panel:ops:queue" { stale = "10m", tags = { "panels", "board:ops" } }
cache.test "report:month:2026-10" { ttl = "30d" }
