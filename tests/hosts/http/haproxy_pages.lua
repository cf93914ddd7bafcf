-- SPDX-License-Identifier: MIT
--
-- haproxy_pages.lua - those pages served by HAProxy, in Lua 5.3.

local pages = require "http.pages"
local perilune = require "perilune"
local serve = require "perilune.http.hosts.haproxy"

local cache = assert(perilune.open { name = "pages" })

core.register_service("pages", "http", function(applet)
  serve(cache, applet, pages.fetch, pages.options)
end)
