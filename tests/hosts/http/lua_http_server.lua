-- SPDX-License-Identifier: MIT
--
-- lua_http_server.lua PORT - those pages served by lua-http; started by http_hosts.lua.

local pages = require "http.pages"
local perilune = require "perilune"
local serve = require "perilune.http.hosts.lua_http"
local servers = require "http.server"

local cache = assert(perilune.open { name = "pages" })

local server = assert(servers.listen {
  host = "127.0.0.1", port = tonumber(arg[1]), tls = false,
  onstream = function(_, stream)
    serve(cache, stream, pages.fetch, pages.options)
  end,
  onerror = function(_, _, _, message)
    io.stderr:write(tostring(message), "\n")
  end,
})
assert(server:listen())
assert(server:loop())
