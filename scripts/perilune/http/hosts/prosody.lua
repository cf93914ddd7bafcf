-- SPDX-License-Identifier: MIT
--
-- prosody.lua - perilune.http for a route of Prosody's mod_http:
--
--     local serve = require "perilune.http.hosts.prosody"
--     module:provides("http", { route = {
--       ["GET /*"] = function(event) return serve(cache, event, fetch, options) end,
--     } })
--
-- With require "perilune.prosody".wrap(cache) in the place of the cache others go on meanwhile.

local http = require "perilune.http"
local fields = require "perilune.http.fields"

return function(cache, event, fetch, options)
  local request, response = event.request, event.response
  local headers = {}
  for name, value in pairs(request.headers) do
    headers[name:gsub("_", "-")] = value -- Prosody's are as variables are named
  end
  local path = request.path
  if request.url and request.url.query then
    path = path .. "?" .. request.url.query
  end
  local status, sent, answer = http.serve(cache, {
    method = request.method == "HEAD" and "GET" or request.method, -- Prosody takes the body off
    path = path, headers = headers, body = request.body ~= "" and request.body or nil,
  }, fetch, options)
  sent["content-length"] = nil -- and counts it
  response.status_code = status
  for name, value in pairs(sent) do
    response.headers[name:gsub("%-", "_")] = fields.lines(name, value)
  end
  return answer
end
