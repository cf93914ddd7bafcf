-- SPDX-License-Identifier: MIT
--
-- mod_pages.lua - those pages served by Prosody.

local pages = require "http.pages"
local perilune = require "perilune"
local serve = require "perilune.http.hosts.prosody"

local cache = assert(perilune.open { name = "pages" })

local function answer(event)
  return serve(cache, event, pages.fetch, pages.options)
end

module:depends "http"
module:provides("http", { route = {
  ["GET /*"] = answer, ["HEAD /*"] = answer, ["POST /*"] = answer,
} })
