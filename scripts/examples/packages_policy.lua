-- SPDX-License-Identifier: MIT
--
-- packages_policy.lua - the policy of the demonstration: this machine's packages, kept in SQLite.
--
-- It is a trusted policy (perilune.open { trusted = true }), so it may use any Lua library. Each
-- worker thread runs the file in a Lua state of its own, and so has a connection of its own.
-- PACKAGES is the folder of the database and of the list to warm; ./dev run sets it.

local sqlite = require "luasql.sqlite3"

local folder = assert(os.getenv "PACKAGES", "PACKAGES must name the folder of packages.db")
local db = assert(sqlite.sqlite3():connect(folder .. "/packages.db"))

-- All rows of a query; each ? stands for an argument, quoted.
local function rows(sql, ...)
    local arguments, n, found = { ... }, 0, {}
    local cursor = assert(db:execute((sql:gsub("?", function()
        n = n + 1
        return "'" .. db:escape(arguments[n]) .. "'"
    end))))
    for row in function() return cursor:fetch({}, "a") end do
        found[#found + 1] = row
    end
    cursor:close()
    return found
end

-- The packages that a "Depends:" line names first among alternatives, as keys.
local function depended_on(depends)
    local list = {}
    for name in ("," .. depends):gmatch ",%s*([%w.+-]+)" do
        list[#list + 1] = "package:" .. name
    end
    return list
end

cache.class "record" {
    ttl = "10m", jitter = "10%", refresh = 0.8, -- a hit after 8 of 10 minutes loads behind
    stale = "1m", stale_if_error = "1h",        -- old beats nothing while the source is away
    negative = "30s",                           -- so long "no such package" is believed
}
cache.class "list" { ttl = "2s", jitter = "20%", refresh = 0.5, stale = "10s", negative = "2s" }

cache.rule "package:{name}" {
    class = "record",
    load = function(_, m) return rows("select * from packages where name = ?", m.name)[1] end,
    related = function(_, _, package) return depended_on(package.depends) end,
}

cache.rule "section:{name}" {
    class = "list",
    tags = { "section:{name}" },
    load = function(_, m)
        local list = rows("select name, size from packages where section = ? order by name", m.name)
        return #list > 0 and list or nil -- nil: there is no such section
    end,
}

-- A search is void when a package in it changes. One that starts to match is seen at the ttl's end.
cache.rule "search:{text}" {
    class = "list",
    load = function(_, m)
        return rows([[select name, section, changed from packages
            where description like '%' || ? || '%' order by name limit 50]], m.text)
    end,
    tags = function(_, _, list)
        local tags, is_there = {}, {}
        for _, package in ipairs(list) do
            if not is_there[package.section] then
                is_there[package.section] = true
                tags[#tags + 1] = "section:" .. package.section
            end
        end
        return tags
    end,
}

cache.warm { file(folder .. "/hot.txt"), concurrency = 4, deadline = "20s" }

cache.on "package.changed" { keys = { "package:{name}" }, tags = { "section:{section}" } }
