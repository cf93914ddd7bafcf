-- SPDX-License-Identifier: MIT
--
-- catalog.lua - a shop's products, and the pages of its categories: the program writes its database
-- itself, and then says what it changed; catalog_policy.lua says where values come from, and what a
-- change makes void.
--
-- usage: perilune run catalog.lua [REDIS_URL]
-- needs lua-sql-sqlite3; makes shop.db in the folder that it is run in, and removes it

local perilune = require "perilune"
local sql = require "perilune.sql"

os.remove "shop.db"
local db <close> = sql.open("sqlite3", "shop.db")
assert(db:exec [[CREATE TABLE products
    (id INTEGER PRIMARY KEY, name TEXT, category TEXT, price INTEGER)]])
assert(db:upsert("products", {
    { id = 1, name = "sencha", category = "tea", price = 9 },
    { id = 2, name = "assam", category = "tea", price = 7 },
    { id = 3, name = "arabica", category = "coffee", price = 8 },
}, { key = "id" }))

local policy = (arg[0]:match "^(.*/)" or "") .. "catalog_policy.lua"
local cache <close> = assert(perilune.open {
    redis = arg[1] or "redis://localhost", ns = "examples", policy = policy, trusted = true,
})
assert(cache:raise "catalog.imported") -- what an earlier run left is void

-- A page is a list of ids, and the products themselves: what is missing is loaded by one statement.
local function show(category)
    local page, err, how = cache:get("category:" .. category)
    assert(page, err)
    local keys = {}
    for i, row in ipairs(page) do
        keys[i] = "product:" .. row.id
    end
    local products, hows = cache:get_many(keys)
    print(("%s (%s)"):format(category, how))
    for i, product in ipairs(products) do
        print(("  %-8s %2d (%s)"):format(product.name, product.price, hows[i]))
    end
end

show "tea"
show "tea"
show "coffee"

-- The database first, the cache then: in the other order a reader could load the old price, and
-- keep it. Who moves a product says so for both of its categories.
print "assam costs 12 now"
assert(db:exec("UPDATE products SET price = ? WHERE id = ?", { 12, 2 }))
assert(cache:raise("product.changed", { id = 2, category = "tea" }))
show "tea"
show "coffee"

os.remove "shop.db"
