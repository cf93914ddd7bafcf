-- SPDX-License-Identifier: MIT
--
-- leaderboard_policy.lua - a board goes a week after its first score, a player's profile an hour
-- after its last change; profiles are read whole, and kept in the process: see leaderboard.lua.

cache.rule "board:{day}" { ttl = "7d" }
cache.rule "player:{name}" { ttl = "1h", hash_l1 = true }
