-- SPDX-License-Identifier: MIT
--
-- site_policy.lua - how articles live. The loader reads a file, in the place of whatever takes its
-- time: a template, a database, another server.

local folder = os.getenv "ARTICLES"

cache.rule "article:{name}" {
    ttl = "10m", refresh = 0.8, -- read often, it is loaded anew before it ends, behind a hit
    stale = "1h", stale_if_error = "1d",
    soft_timeout = "1ms", -- who can be served an old one does not wait for the new one
    negative = "30s",
    load = function(_, m)
        local file <close> = io.open(folder .. "/" .. m.name .. ".html")
        return file and file:read "a" -- nil: there is no such article, and that is cached too
    end,
}
cache.rule "*" { ttl = "1m" }
