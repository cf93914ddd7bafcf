-- SPDX-License-Identifier: MIT
--
-- profiles.lua - users' profiles, written through: a set is in the database when it returns, in
-- Redis and in all processes; one that the database refuses changes nothing. profiles_policy.lua
-- has the rule, and two caches stand for two processes.
--
-- usage: perilune run profiles.lua [REDIS_URL]
-- needs lua-sql-sqlite3; makes users.db in the folder that it is run in, and removes it

local perilune = require "perilune"
local sql = require "perilune.sql"

os.remove "users.db"
local db <close> = sql.open("sqlite3", "users.db")
assert(db:exec [[CREATE TABLE profiles
    (id TEXT PRIMARY KEY, name TEXT NOT NULL CHECK (name <> ''), city TEXT)]])

local policy = (arg[0]:match "^(.*/)" or "") .. "profiles_policy.lua"
local function open(name)
    return assert(perilune.open { name = name, ns = "examples", policy = policy, trusted = true,
        redis = arg[1] or "redis://localhost" })
end
local website <close> = open "website"
local app <close> = open "app"
assert(website:clear()) -- of an earlier run

local function show(who, cache)
    local profile, err, how = cache:get "profile:7"
    print(("  %s reads %s (%s)"):format(who, profile and profile.name .. ", " .. profile.city
        or err or "no such user", how))
end

print "Ada signs up"
assert(website:set("profile:7", { name = "Ada", city = "Turin" }))
for _, row in ipairs(assert(db:query "SELECT * FROM profiles")) do
    print(("  the database has %s, %s, %s"):format(row.id, row.name, row.city))
end
show("the website", website)
show("the app", app)

print "Ada moves, by the app"
assert(app:set("profile:7", { name = "Ada", city = "London" }))
local stop = perilune.clock() + 10
repeat -- the message takes a moment
until website:get "profile:7".city == "London" or perilune.clock() > stop
show("the website", website)

print "a profile without a name"
local _, err, code = website:set("profile:7", { name = "", city = "London" })
print(("  %s (%s)"):format(err, code))
show("the website", website)

print "Ada leaves"
assert(website:delete "profile:7")
print(("  the database has %d rows"):format(#assert(db:query "SELECT * FROM profiles")))
show("the website", website)

os.remove "users.db"
