-- SPDX-License-Identifier: MIT
--
-- haproxy.lua - perilune.http for an applet of HAProxy's ("use-service lua.pages"):
--
--     local serve = require "perilune.http.hosts.haproxy"
--     core.register_service("pages", "http", function(applet)
--       serve(cache, applet, fetch, options)
--     end)
--
-- With require "perilune.haproxy".wrap(cache) in the place of the cache others go on meanwhile.

local http = require "perilune.http"

return function(cache, applet, fetch, options)
  local headers = {}
  for name, values in pairs(applet.headers) do -- lists that begin at 0
    local list = { values[0] }
    for i = 1, #values do
      list[#list + 1] = values[i]
    end
    headers[name:lower()] = list
  end
  local path = applet.path
  if applet.qs and applet.qs ~= "" then
    path = path .. "?" .. applet.qs
  end
  local status, sent, body = http.serve(cache, {
    method = applet.method, path = path, headers = headers,
    body = applet.length and applet.length > 0 and applet:receive() or nil,
  }, fetch, options)
  applet:set_status(status)
  for name, value in pairs(sent) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      applet:add_header(name, one)
    end
  end
  applet:start_response()
  if body ~= "" then
    applet:send(body)
  end
end
