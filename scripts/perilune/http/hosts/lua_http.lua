-- SPDX-License-Identifier: MIT
--
-- lua_http.lua - perilune.http for lua-http's server, as what its option `onstream` calls:
--
--     local serve = require "perilune.http.hosts.lua_http"
--     onstream = function(_, stream) serve(cache, stream, fetch, options) end
--
-- With require "perilune.cqueues".wrap(cache) in the place of the cache other streams go on while
-- one waits for Redis or a loader.

local http = require "perilune.http"
local new_headers = require("http.headers").new

return function(cache, stream, fetch, options)
  local got = assert(stream:get_headers())
  local headers = {}
  for name, value in got:each() do
    if name:sub(1, 1) ~= ":" then
      headers[name] = headers[name] or {}
      table.insert(headers[name], value)
    end
  end
  local method = got:get ":method"
  local status, sent, body = http.serve(cache, {
    method = method, path = got:get ":path", scheme = got:get ":scheme",
    host = got:get ":authority" or got:get "host", headers = headers,
    body = method ~= "GET" and method ~= "HEAD" and stream:get_body_as_string() or nil,
  }, fetch, options)
  local answer = new_headers()
  answer:append(":status", ("%d"):format(status))
  for name, value in pairs(sent) do
    for _, one in ipairs(type(value) == "table" and value or { value }) do
      answer:append(name, one)
    end
  end
  assert(stream:write_headers(answer, body == ""))
  if body ~= "" then
    assert(stream:write_chunk(body, true))
  end
end
