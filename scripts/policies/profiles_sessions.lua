-- profiles_sessions.lua - users: profiles, settings, rights, sessions.
--
-- What it gives: profiles at once, five to fifteen minutes old at most and made void by the
-- user's own change; sessions that live as long as they are used, and end for certain after a
-- day; rights that are never older than a minute, and passwords and tokens that cannot be cached
-- even by mistake.
-- What to change: the names of your keys, how long a session may idle, and where profiles are
-- stored: with a store that the program registers as "users" (pln_register_store), or a function in
-- a trusted policy, "user:{id}" may say write = through(store "users"). What the program sets is
-- then in the database first, and in all processes after that.

cache.class "profile" {
  ttl = "15m", jitter = "30%",
  refresh = "80%", stale = "1m", stale_if_error = "1h", retry = "2s",
  negative = "30s",
}

-- First of all: what must never be cached. A set or load of such a key is refused, and logged.
cache.rule "user:{id}:password" { deny = true }
cache.rule "user:{id}:token:*" { deny = true }

cache.rule "user:{id}:settings" { class = "profile", tags = { "user:{id}" } }

-- Who may do what: short, and never served when it is old. Better slow than wrong.
cache.rule "user:{id}:rights" {
  ttl = "1m", stale = "0s", stale_if_error = "0s", negative = "5s",
  max_staleness = "1s",            -- also while messages from other processes may be missing
  tags = { "user:{id}", "rights" },
}

cache.rule "user:{id}" { class = "profile", max_bytes = "64k", tags = { "user:{id}" } }

-- Each use prolongs it; a day after it was made it ends, used or not.
cache.rule "session:{id}" { sliding = true, ttl = "30m", max_age = "1d", negative = "0s" }

cache.rule "*" { ttl = "1m" }

cache.on "user.changed" { keys = { "user:{id}", "user:{id}:settings" } }
cache.on "user.deleted" { tags = { "user:{id}" } }
cache.on "roles.changed" { tags = { "rights" } }

cache.test "user:7" { class = "profile", ttl = "15m", tags = { "user:7" } }
cache.test "user:7:password" { denied = true }
cache.test "user:7:rights" { ttl = "1m", stale_if_error = "0s" }
cache.test "session:ab12" { ttl = "30m", sliding = true, max_age = "1d" }
