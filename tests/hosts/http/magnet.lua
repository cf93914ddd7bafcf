-- SPDX-License-Identifier: MIT
--
-- magnet.lua - those pages served by lighttpd's mod_magnet; named in the configuration that
-- http_hosts.lua writes. PATHS and CPATHS are where Lua looks.

if not _G.pages then
  package.path, package.cpath = os.getenv "PATHS", os.getenv "CPATHS"
  _G.cache = assert(require "perilune".open { name = "pages" })
  _G.serve, _G.pages = require "perilune.http.hosts.lighttpd", require "http.pages"
end
return _G.serve(_G.cache, lighty, _G.pages.fetch, _G.pages.options)
