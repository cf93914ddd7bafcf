-- shop_catalog.lua - a web shop: products, prices, stock, category pages, search.
--
-- What it gives: a product page that survives its database (three days old is better than none),
-- a price that is never more than half a minute off, stock that is never sold from a stale page,
-- and searches that do not fill the memory with what nobody asks for twice.
-- What to change: the names of your keys, and the ttl of "price" if yours are law.
-- Who loads: your program, with a function given to get, or by name (load = loader "catalog"),
-- which keep_hot needs: nobody else loads between two requests.

cache.class "catalog" {
  ttl = "6h", jitter = "20%",      -- 4.8 to 6 h: what was loaded together does not end together
  refresh = "80%",                 -- a hit in the last fifth is answered, and loads behind
  stale = "1h",
  stale_if_error = "3d", retry = "5s", -- the database is away: serve, and ask it each 5 s at most
  negative = "30s",
  priority = 1,                    -- when memory is short, searches go first
}
cache.class "price" {
  ttl = "30s", refresh = "50%", stale = "0s", stale_if_error = "5m", negative = "5s",
}

-- A change of one product reaches its page, its category and every list it is in, by tags.
cache.rule "product:{id}" {
  class = "catalog",
  max_bytes = "256k",
  tags = { "products", "product:{id}" },
  keep_hot = "10m",                -- what is popular is refreshed even between two requests
}

cache.rule "price:{id}" { class = "price", tags = { "prices", "product:{id}" } }

-- Truth is in the database when money changes hands: stock is for pages, so it is short and never
-- served when it is old.
cache.rule "stock:{id}" { ttl = "5s", stale = "0s", stale_if_error = "0s", negative = "1s" }

cache.rule "category:{name}:{page}" {
  class = "catalog", ttl = "10m",
  tags = { "products", "category:{name}" },
}

-- Most searches are made once: only what is asked for a second time is kept.
cache.rule "search:*" {
  ttl = "2m", stale = "10m", min_uses = 2, max_bytes = "64k", tags = { "products" },
}

cache.rule "*" { ttl = "1m" }

-- What your back office says, and what it makes void. `perilune policy events` prints the
-- contract.
cache.on "product.changed" {
  keys = { "product:{id}", "price:{id}", "stock:{id}" },
  tags = { "product:{id}", "category:{category}" },
}
cache.on "prices.changed" { tags = { "prices" } }
cache.on "catalog.imported" { tags = { "products", "prices" } }

cache.test "product:7" { class = "catalog", ttl = "6h", tags = { "products", "product:7" } }
cache.test "price:7" { class = "price", ttl = "30s", stale = "0s" }
cache.test "category:books:1" { ttl = "10m", stale_if_error = "3d" }
cache.test "stock:7" { stale_if_error = "0s" }
