-- SPDX-License-Identifier: MIT
--
-- views_policy.lua - how often pages were seen, written behind: see views.lua. A trusted policy,
-- for it uses perilune.sql.

local db = require "perilune.sql".open("sqlite3", "views.db")

cache.rule "views:{page}" {
    ttl = "1d",

    -- A page that nobody saw has 0, which can be added to.
    load = function(_, m)
        local rows, err = db:query("SELECT n FROM views WHERE page = ?", { m.page })
        return rows and (rows[1] and rows[1].n or 0), err
    end,

    -- At most 500 pages by one statement, or what a second has brought. With a version an older
    -- sum never takes the place of a newer one, whoever comes late or twice.
    write = behind {
        store = db:store { table = "views", key = "page", columns = "n", version = "version",
            from = "views:{page}" },
        batch = 500, every = "1s",
    },
}
