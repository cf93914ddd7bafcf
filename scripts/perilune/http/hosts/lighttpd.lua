-- SPDX-License-Identifier: MIT
--
-- lighttpd.lua - perilune.http for lighttpd's mod_magnet (1.4.60 and later):
--
--     local serve = require "perilune.http.hosts.lighttpd"
--     return serve(cache, lighty, fetch, options) -- the last line of the script
--
-- The script and its fetch run in lighttpd's one loop, so what takes long holds up all others.

local http = require "perilune.http"
local fields = require "perilune.http.fields"

return function(cache, lighty, fetch, options)
  local r = lighty.r
  local attributes, headers = r.req_attr, {}
  for name, value in pairs(r.req_header) do
    headers[name:lower()] = value
  end
  local method = attributes["request.method"]
  -- HEAD as GET: lighttpd takes the body off, and tells its length, which it lets nobody else tell
  local status, sent, body = http.serve(cache, {
    method = method == "HEAD" and "GET" or method,
    path = attributes["request.orig-uri"] or attributes["request.uri"],
    scheme = attributes["uri.scheme"],
    host = attributes["uri.authority"],
    headers = headers,
  }, fetch, options)
  sent["content-length"] = nil
  for name, value in pairs(sent) do
    r.resp_header[name] = fields.lines(name, value)
  end
  if status ~= 304 and status ~= 204 then
    r.resp_body.set(body)
  end
  return status
end
