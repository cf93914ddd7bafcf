-- SPDX-License-Identifier: MIT
--
-- from_sqlite.lua - a policy that warms what a query names, out of the database that its rule loads
-- from.
--
--     WARM_DB=shop.db perilune warm --trusted -p from_sqlite.lua --redis redis://localhost
--
-- It is a trusted policy, since it needs a library (luasql, Debian's lua-sql-sqlite3). Copy it, and
-- put your own queries in the place of these: a table `products` with the columns `id`, `value` and
-- `sold`, of which the best selling are warmed first.

local sqlite = require "luasql.sqlite3"

-- The file is read once for each thread that loads, and each gets a connection of its own.
local db = assert(sqlite.sqlite3():connect((assert(os.getenv "WARM_DB", "WARM_DB names no file"))))

cache.rule "product:{id}" {
    ttl = "6h", jitter = "20%", refresh = 0.9, stale_if_error = "1d", negative = "1m",
    load = function(_, m)
        local cursor = assert(db:execute(("select value from products where id = '%s'"):format(
            db:escape(m.id))))
        local value = cursor:fetch()
        cursor:close()
        return value
    end,
}

cache.warm {
    keys(function() -- called when the keys are wanted; rows are fetched as they are taken
        local cursor = assert(db:execute "select id from products order by sold desc")
        return function()
            local id = cursor:fetch()
            return id and "product:" .. id
        end
    end),
    concurrency = 8, ready_at = 0.9,
}
