-- SPDX-License-Identifier: MIT
--
-- catalog_policy.lua - the products of a shop, and the pages of their categories: see catalog.lua.
-- A trusted policy: it loads from a database, by perilune.sql.

local db = require "perilune.sql".open("sqlite3", "shop.db")

cache.class "catalog" {
    ttl = "6h", jitter = "20%", -- what was loaded together does not end together
    refresh = "80%",            -- a hit in the last fifth is answered, and loads behind
    stale_if_error = "3d",      -- the database is away: old is better than nothing
    negative = "30s",
}

-- One product by a statement, or all that a page misses by one.
local load, load_many = db:loader { table = "products", key = "id", from = "product:{id}" }
cache.rule "product:{id}" {
    class = "catalog", tags = { "catalog" }, load = load, load_many = load_many,
}

cache.rule "category:{name}" {
    class = "catalog", tags = { "catalog", "category:{name}" },
    load = function(_, m)
        return db:query("SELECT id FROM products WHERE category = ? ORDER BY price", { m.name })
    end,
}

-- What whoever changes a product has to say, and what that makes void.
cache.on "product.changed" { keys = { "product:{id}" }, tags = { "category:{category}" } }
cache.on "catalog.imported" { tags = { "catalog" } }
