-- SPDX-License-Identifier: MIT
--
-- views.lua - view counters, written behind: each view is a step in Redis, and the sums reach the
-- database in batches, as views_policy.lua says. Two caches stand for two processes.
--
-- usage: perilune run views.lua [REDIS_URL]
-- needs lua-sql-sqlite3; makes views.db in the folder that it is run in, and removes it

local perilune = require "perilune"
local sql = require "perilune.sql"

os.remove "views.db"
local db <close> = sql.open("sqlite3", "views.db")
assert(db:exec "CREATE TABLE views (page TEXT PRIMARY KEY, n INTEGER, version INTEGER)")
assert(db:exec "INSERT INTO views VALUES ('home', 1000000, 0)") -- it has been seen before

local policy = (arg[0]:match "^(.*/)" or "") .. "views_policy.lua"
local function open(name)
    return assert(perilune.open { name = name, ns = "examples", policy = policy, trusted = true,
        redis = arg[1] or "redis://localhost" })
end
local first <close> = open "first"
local second <close> = open "second"
assert(first:clear()) -- of an earlier run

-- A count that no tier has is loaded before it is added to.
for i = 1, 1000 do
    assert((i % 2 == 0 and first or second):incr "views:home")
    assert(first:incr("views:page " .. i % 10))
end
print(("2000 views, %d of them of home"):format(assert(first:get "views:home") - 1000000))

assert(first:flush()) -- waits for the database; nobody needs to, but to look into it
for _, row in ipairs(assert(db:query [[
    SELECT page, n FROM views WHERE page < 'page 2' ORDER BY page]])) do
    print(("the database has %d for %s"):format(row.n, row.page))
end

local function sum(name)
    return first:stats()[name] + second:stats()[name]
end
print(("%d rows were written, by %d statements"):format(sum "stores", sum "store_batches"))

os.remove "views.db"
