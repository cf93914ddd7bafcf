-- default.lua - a policy to start from. Copy it, keep what fits, delete the rest.
--
-- A policy says for each key how long its value lives and how it is loaded. The first rule that
-- matches a key, from top to bottom, is the key's. What no rule says comes from its class, and what
-- that does not say from the options the cache was opened with. Times are "250ms", "30s", "15m",
-- "6h", "1d", "forever" or a number of seconds; sizes "64k", "2m" or a number of bytes; shares
-- "10%" or 0.1. See perilune-policy(5) for every field.
--
-- The file is read when the cache opens and at each reload. A mistake is reported with its line and
-- leaves the policy in force as it was.

-- Short-lived things: sessions, counters, fragments. At most half a minute out of date.
cache.class "short" {
  ttl = "30s",
  jitter = "10%",       -- 27 to 30 s, so that keys set together do not end together
  negative = "5s",      -- how long "there is no such thing" is believed
}

-- What people look at: refreshed before it ends, and served a little longer while that runs.
cache.class "page" {
  ttl = "15m",
  jitter = "10%",
  refresh = "80%",      -- a hit in the last fifth of the ttl refreshes behind the caller
  stale = "2m",         -- after the ttl: served at once, refreshed behind
  negative = "10s",
}

-- What changes seldom and must be there even when its source is not.
cache.class "catalog" {
  ttl = "6h",
  jitter = "20%",
  refresh = "90%",
  stale = "1h",
  stale_if_error = "3d", -- served that long while loading fails
  priority = 1,          -- when L1 is full, anything of a lower one (0) goes first
}

-- {id} takes the bytes up to the next byte of the pattern; tags are filled with it. Everything with
-- one tag is made void by one call: cache:invalidate_tag("user:7").
cache.rule "user:{id}" {
  class = "page",
  max_bytes = "64k",     -- larger values are handed out, but not stored
  tags = { "users", "user:{id}" },
}

cache.rule "product:{id}" {
  class = "catalog",
  tags = { "products" },
  -- A function of (key, captures, value) may decide instead; nil leaves the class's. It runs when a
  -- value is stored, never when it is read.
  ttl = function(_, _, value)
    if type(value) == "string" and #value > 100000 then
      return "1h"
    end
  end,
}

-- Sessions stay in this process: no copy in Redis, and so no other process to tell.
cache.rule "session:{id}" { class = "short", l2 = false }

-- Hashes in Redis, by cache:hset("cart:7", { apples = 2 }), are kept in L1 as a whole: to read
-- another field costs nothing. Who writes one tells the others.
cache.rule "cart:{id}" { class = "page", hash_l1 = true }

-- Everything else. `*` takes the rest of a key.
cache.rule "*" { class = "short" }

-- An event makes keys and tags void: cache:raise("user.deleted", { id = 7 }).
cache.on "user.deleted" { keys = { "session:{id}" }, tags = { "user:{id}" } }
cache.on "prices.changed" { tags = { "products" } }
