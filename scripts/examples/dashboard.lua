-- SPDX-License-Identifier: MIT
--
-- dashboard.lua - figures on many screens: results of queries are cached by their SQL and
-- arguments, and void when a table is written that they read.
--
-- usage: perilune run dashboard.lua [REDIS_URL]
-- needs lua-sql-sqlite3; makes orders.db in the folder that it is run in, and removes it

local perilune = require "perilune"
local sql = require "perilune.sql"

os.remove "orders.db"
local db <close> = sql.open("sqlite3", "orders.db")
assert(db:exec "CREATE TABLE orders (id INTEGER PRIMARY KEY, city TEXT, total INTEGER)")
assert(db:exec "CREATE TABLE visits (city TEXT, n INTEGER)")
assert(db:exec "INSERT INTO orders (city, total) VALUES ('Linz', 30), ('Linz', 12), ('Bern', 25)")
assert(db:exec "INSERT INTO visits VALUES ('Linz', 50), ('Bern', 20)")

-- Renewed behind while somebody looks; a database that is being restarted leaves the last figures
-- on the wall, for an hour.
local cache <close> = assert(perilune.open {
    redis = arg[1] or "redis://localhost", ns = "examples",
    ttl = "30s", refresh = 0.7, stale_if_error = "1h",
})
assert(cache:changed("orders", "visits")) -- what an earlier run left is void

local function show(what, text, args)
    local rows, err, how = cache:query(db, text, args)
    assert(rows, err)
    local figures = {}
    for i, row in ipairs(rows) do
        figures[i] = row.city .. " " .. row.figure
    end
    print(("  %-13s %-16s (%s)"):format(what, table.concat(figures, ", "), how))
end

local BY_CITY = "SELECT city, sum(total) AS figure FROM orders GROUP BY city ORDER BY city"
local LARGE = "SELECT city, total AS figure FROM orders WHERE total >= ? ORDER BY total"

local function show_all()
    show("sold", BY_CITY)
    show("large orders", LARGE, { 25 })
    show("visits", "SELECT city, n AS figure FROM visits ORDER BY city")
    show("per visit", [[SELECT o.city, round(1.0 * sum(total) / max(n), 2) AS figure
        FROM orders o JOIN visits v ON v.city = o.city GROUP BY o.city ORDER BY o.city]])
end

print "a screen"
show_all()
print "another screen; how a query is written does not matter"
show_all()
show("sold", "select city, sum(total) as figure from orders group by city\n  order by city")

print "an order comes in: what reads the orders is void, the visits are not"
assert(cache:execute(db, "INSERT INTO orders (city, total) VALUES (?, ?)", { "Bern", 40 }))
show_all()

print "somebody else writes visits, and says so"
assert(db:exec("UPDATE visits SET n = n + 10"))
assert(cache:changed "visits")
show_all()

os.remove "orders.db"
