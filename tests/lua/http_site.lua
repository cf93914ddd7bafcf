-- SPDX-License-Identifier: MIT
--
-- http_site.lua - for the specs of perilune.http.serve: a cache, an upstream that is a table, and
-- time that is a number.

local spec = require "spec"
local http = require "perilune.http"
local perilune = require "perilune"

local sites = { now = 1700000000 }
local n_caches = 0

-- A site of one test's own: a cache, and an upstream that answers what `site.answers` has for a
-- path (a table, or a function of the request), and notes what it was asked.
function sites.new(raw, open_options)
  n_caches = n_caches + 1
  local opened = { name = "http" .. n_caches, log = false, stale = "1d", stale_if_error = "1d",
    retry = "1ms" }
  for name, value in pairs(open_options or {}) do
    opened[name] = value or nil -- false: what is said here is left out
  end
  local site = { cache = assert(perilune.open(opened)), answers = {}, asked = {}, options = {} }
  for name, value in pairs(raw or {}) do
    site.options[name] = value
  end
  site.options.now = function()
    return sites.now
  end
  function site.fetch(request)
    site.asked[#site.asked + 1] = request
    local answer = site.answers[request.path:match "^[^?]*"]
    if type(answer) == "function" then
      answer = answer(request)
    end
    if answer == nil then
      return nil, "the upstream is away"
    end
    local headers = { date = http.date(sites.now) }
    for name, value in pairs(answer) do
      if type(name) == "string" then
        headers[name] = value
      end
    end
    return answer[1], headers, answer[2]
  end
  -- Returns a table of the answer, and whether the upstream was asked.
  function site.request(method, path, headers, more)
    local request = { method = method, path = path, host = "h", headers = headers or {} }
    for name, value in pairs(more or {}) do
      request[name] = value
    end
    local n_asked = #site.asked
    local status, got, body, how, message = http.serve(site.cache, request, site.fetch,
      site.options)
    return { status = status, headers = got, body = body, how = how, message = message,
      was_asked = #site.asked > n_asked }
  end
  function site.get(path, headers)
    return site.request("GET", path, headers)
  end
  -- Time passes for HTTP; what is stale then is so for the cache too.
  function site.pass(seconds, key)
    sites.now = sites.now + seconds
    if key then
      assert(site.cache:expire(key))
    end
  end
  return setmetatable(site, { __close = function()
    site.cache:close()
  end })
end

function sites.expect(answer, status, body, how, was_asked)
  spec.same({ answer.status, answer.body, answer.how }, { status, body, how },
    answer.message or "answer")
  if was_asked ~= nil then
    spec.same(answer.was_asked, was_asked, "whether the upstream was asked")
  end
  return answer
end

function sites.page(text, cache_control, more)
  local answer = { 200, text, ["cache-control"] = cache_control or "max-age=60" }
  for name, value in pairs(more or {}) do
    answer[name] = value
  end
  return answer
end

return sites
