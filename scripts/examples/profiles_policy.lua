-- SPDX-License-Identifier: MIT
--
-- profiles_policy.lua - the profiles of users, written through to a database: see profiles.lua. A
-- trusted policy, for it uses perilune.sql.

local db = require "perilune.sql".open("sqlite3", "users.db", { timeout = "2s" })

local profiles = {
    table = "profiles", key = "id", columns = { "name", "city" }, from = "profile:{id}",
}
local load, load_many = db:loader(profiles)

cache.rule "profile:{id}" {
    ttl = "1h", negative = "30s",
    load = load, load_many = load_many,
    write = through { store = db:store(profiles), timeout = "3s" }, -- longer than the database's
}
