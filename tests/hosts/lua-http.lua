-- SPDX-License-Identifier: MIT
--
-- lua-http.lua - the example for lua-http, whose coroutines are those of cqueues.

local host = require "host"
host.need_module("http.server", "lua-http")

require "front".check("lua-http", "max-age=60")
require "spec".finish()
