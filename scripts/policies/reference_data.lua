-- reference_data.lua - what changes by the day: countries, currencies, tax rates, translations,
-- flags.
--
-- What it gives: everything is in memory before the first request and stays there; a day or
-- three of life, renewed behind long before the end; a source that is away for a week is not
-- noticed.
-- What to change: the keys to warm, and the events that your imports raise.

cache.class "reference" {
  ttl = "3d", jitter = "20%",
  l1_ttl = "1h",                   -- the longest that a lost message could matter
  refresh = "50%", keep_hot = "1d",
  stale = "1d", stale_if_error = "14d", retry = "30s",
  negative = "1h",
  priority = 2,                    -- the last to leave memory
}

cache.rule "ref:{kind}:{id}" { class = "reference", tags = { "ref", "ref:{kind}" } }
cache.rule "i18n:{language}:{bundle}" {
  class = "reference", max_bytes = "1m", tags = { "i18n", "i18n:{language}" },
}

-- Switches are reference data that people turn: five seconds here, whatever Redis holds.
cache.rule "flag:{name}" { class = "reference", ttl = "1d", l1_ttl = "5s", tags = { "flags" } }

cache.rule "*" { ttl = "1m" }

cache.warm {
  keys { "ref:countries:all", "ref:currencies:all", "ref:tax:all", "i18n:en:core" },
  concurrency = 4, deadline = "30s", ready_at = "100%",
}

cache.on "reference.imported" { tags = { "ref:{kind}" } }
cache.on "translations.published" { tags = { "i18n:{language}" } }
cache.on "flag.turned" { keys = { "flag:{name}" } }

cache.test "ref:countries:all" {
  class = "reference", ttl = "3d", tags = { "ref", "ref:countries" },
}
cache.test "flag:new-checkout" { l1_ttl = "5s", ttl = "1d" }
