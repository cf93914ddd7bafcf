-- SPDX-License-Identifier: MIT
--
-- serve.lua - a request answered from the cache, or by its upstream through the cache.
--
--     GET ─► the key's answer ── fresh, or stale and allowed ──────────────────► the client's
--             │ none, or stale            ▲ stored                               conditions
--             ▼                           │
--            fetch, with the old answer's conditions ── not for others ─► to this client only
--
-- Who comes for a key that is being fetched waits for that fetch. An answer that is not for others
-- is given to none of them: they find a mark in its place, and fetch for themselves.
--
-- The cache decides whether an answer is fresh, by the ttl that it was stored with. Whether one
-- that is not may be served is said by the answer, and bounded by the key's rule where that has a
-- stale.

local perilune = require "perilune"
local conditional = require "perilune.http.conditional"
local control = require "perilune.http.cache_control"
local dates = require "perilune.http.dates"
local fields = require "perilune.http.fields"
local options_of = require("perilune.http.options").of
local stored = require "perilune.http.stored"
local storing = require "perilune.http.storing"
local surrogates = require "perilune.http.surrogates"
local variants = require "perilune.http.variants"

local MARKER_LIFE = 86400 -- of what answers vary by, at least
local NEVER = -1 -- as a ttl: hand out, do not store

---------------------------------------------------------------------------------------------------
-- keys

local function first_key(request, options)
  local key = options.key and options.key(request)
  return key and variants.bounded(key) or variants.first(request, options.prefix)
end

-- The request for another path of the same place.
local function request_for(request, path)
  return { method = "GET", path = path, host = request.host, scheme = request.scheme,
    headers = request.headers }
end

-- Of a URL in a field of an answer, the path, where it is of the same place; else nil.
local function path_of(request, url)
  if type(url) ~= "string" then
    return nil
  end
  local host, path = url:match "^%a[%w+.-]*://([^/?#]*)([^#]*)"
  local own = (request.host or fields.text(request.headers.host) or ""):lower()
  if host then
    return host:lower() == own and (path:find "^/" and path or "/" .. path) or nil
  end
  return url:match "^/[^/#][^#]*" or url:match "^/$"
end

-- invalidate(cache, request, [options]): forgets all answers to GET of a request's path.
local function invalidate(cache, request, raw)
  local options = options_of(raw)
  local asked = request_for({ host = request.host, scheme = request.scheme,
    headers = fields.copy(request.headers) }, request.path)
  return cache:delete(first_key(asked, options))
end

-- What a change has made void (RFC 9111, 4.4).
local function invalidate_changed(call, status, headers)
  if status < 200 or status >= 400 then
    return
  end
  for _, path in pairs { call.request.path, path_of(call.request, headers.location) or nil,
    path_of(call.request, headers["content-location"]) } do
    local request = request_for(call.request, path)
    if call.options.key or variants.has_key(request) then
      call.cache:delete(first_key(request, call.options))
    end
  end
end

---------------------------------------------------------------------------------------------------
-- the upstream

-- The request as it goes to the upstream for all who wait: a GET without the client's conditions,
-- and with those that ask about `old`, if any. Also whether it asks so.
local function outgoing(call, old)
  local request = {}
  for name, value in pairs(call.request) do
    request[name] = value
  end
  request.method, request.headers = "GET", fields.copy(call.request.headers)
  conditional.strip(request.headers)
  if call.options.cookies == "strip" then
    request.headers.cookie = nil
  end
  return request, old ~= nil and stored.ask(old, request.headers)
end

-- Calls fetch; returns status, headers, body as they should be, or nil, message.
local function ask(call, request)
  local good, status, headers, body = xpcall(call.fetch, debug.traceback, request)
  if not good or not status then
    return nil, tostring(good and headers or status)
  end
  status = math.type(status) and math.tointeger(status)
  body = body == nil and "" or body
  if not status or status < 200 or status > 599 then
    return nil, "the upstream's status is no number from 200 to 599"
  elseif type(body) ~= "string" then
    return nil, ("the upstream's body is a %s, must be a string"):format(type(body))
  end
  return status, fields.copy(headers), body
end

local unasked_304 = "the upstream answered 304 to a request without conditions"

local function is_failure(status)
  return not status or status == 500 or (status >= 502 and status <= 504)
end

-- An answer for this client only.
local function own(status, headers, body)
  return { status = status, headers = headers, body = body }
end

local function failed(call, status, message)
  call.message = message
  return own(status, { ["content-type"] = "text/plain", ["cache-control"] = "no-store" },
    status == 504 and "Gateway Timeout\n" or "Bad Gateway\n"), "error"
end

-- Fetches for this client alone; `old`, where given, is asked about, and served where it is still
-- right.
local function fetch_alone(call, old)
  local request, is_asked = outgoing(call, old)
  local status, headers, body = ask(call, request)
  if not status then
    return failed(call, 502, headers)
  elseif status == 304 and is_asked then
    local renewed = conditional.renew(old.headers, headers)
    if renewed then
      return own(old.status, renewed, old.body), "confirmed"
    end
    return fetch_alone(call)
  elseif status == 304 then
    return failed(call, 502, unasked_304)
  end
  return own(status, headers, body), "pass"
end

---------------------------------------------------------------------------------------------------
-- the loader

-- The terms for answers that say none of their own.
local function terms_of(call)
  if call.options.by_rule then
    return call.cache:terms(call.key)
  end
  return call.options.default
end

-- Nobody else gets this answer. What one client is not to share is no word about the others.
local function keep_out(call, answer, why)
  local lasts = why ~= "authorization" and why ~= "cookie" and answer.status < 500 and
    call.options.pass > 0
  call.mine, call.how = answer, "pass"
  return stored.pass, nil, lasts and call.options.pass or NEVER
end

-- An answer that may be stored goes under its key, or leaves the names of what it varies by.
local function keep(call, answer)
  local terms = stored.terms(answer, call.options)
  local names = variants.names(answer.headers.vary)
  if not terms or not names then
    return keep_out(call, answer, "terms")
  elseif variants.are_among(names, call.names or {}) then
    call.mine, call.how = answer, "loaded"
    return answer, nil, terms
  end
  call.mine, call.how = answer, "pass"
  if call.names then
    call.is_marker_wrong = true
    return stored.pass, nil, NEVER
  end
  return stored.marker(call.first, names), nil, math.max(terms.ttl + terms.stale, MARKER_LIFE)
end

local function renew(call, old, of_304, delay)
  local now = call.options.now()
  local answer, why, headers = stored.renewed(old, call.request, of_304, call.options,
    terms_of(call), now, delay)
  if answer then
    return keep(call, answer)
  end
  return keep_out(call, own(old.status, headers, old.body), why)
end

-- What cache:get calls where there is no fresh answer.
local function load(call, old)
  local options = call.options
  old = stored.is_answer(old) and old or nil
  local request, is_asked = outgoing(call, old)
  local began = options.now()
  local status, headers, body = ask(call, request)
  local now = options.now()
  if is_failure(status) and old and stored.may_be_stale(old, "sie", now) then
    call.mine, call.how, call.message = old, "stale", not status and headers or nil
    return perilune.not_modified, nil, stored.terms_of_stale(old, options, now)
  elseif not status then
    return nil, headers
  elseif status == 304 and is_asked and conditional.renew(old.headers, headers) then
    return renew(call, old, headers, math.max(0, now - began))
  elseif status == 304 and is_asked then
    return load(call) -- it is about something else: once more, without conditions
  elseif status == 304 then
    return nil, unasked_304
  end
  local answer, why = stored.answer(call.request, status, headers, body, options, terms_of(call),
    now, math.max(0, now - began))
  if not answer then
    return keep_out(call, own(status, headers, body), why)
  end
  return keep(call, answer)
end

---------------------------------------------------------------------------------------------------
-- finding an answer

-- cache:get for a key, and once more where what it serves is staler than the answer allows.
local function look_up(call, key)
  local function loader(_, old)
    return load(call, old)
  end
  call.key = key
  local value, message, how = call.cache:get(key, call.options.get, loader)
  if how == "stale" and not call.mine and stored.is_answer(value) and
    not stored.may_be_stale(value, "swr", call.options.now()) then
    value, message, how = call.cache:get(key, call.options.get_fresh, loader)
  end
  return value, message, how
end

-- The answer to a request, and where it is from.
local function find(call)
  local value, message, how = look_up(call, call.first)
  if not call.mine and stored.is_marker(value) then
    call.names = value.names
    value, message, how = look_up(call, variants.key(call.first, value.id, call.request,
      value.names, call.options.normalize))
    if call.is_marker_wrong then
      call.cache:delete(call.first)
    end
  end
  if call.mine then
    return call.mine, call.how
  elseif value == nil and (how == "loader" or how == "timeout") then
    return failed(call, how == "timeout" and 504 or 502, message)
  elseif not stored.is_answer(value) or
    (call.request.headers.authorization and call.options.shared and not value.authorized) then
    call.message = value == nil and message or nil
    return fetch_alone(call)
  end
  local age, left = stored.age(value, call.options.now())
  if value.no_cache or (value.ttl <= 0 and value.swr <= 0) or -- kept to be asked about
    (call.options.obey_client and
      not storing.contents_client(call.request.headers, age, left)) then
    return fetch_alone(call, value)
  end
  return value, how
end

---------------------------------------------------------------------------------------------------
-- the reply

local function cache_status(call, answer, how)
  local said = "; fwd=bypass"
  if how == "loaded" or how == "pass" then
    said = how == "loaded" and "; fwd=miss; stored" or "; fwd=miss"
  elseif how == "confirmed" then
    said = "; fwd=stale; fwd-status=304"
  elseif stored.is_answer(answer) then
    local _, left = stored.age(answer, call.options.now())
    said = ("; hit; ttl=%d; detail=%s"):format(math.floor(left), how)
  end
  local before = fields.text(answer.headers["cache-status"])
  return (before and before .. ", " or "") .. call.options.cache_status .. said
end

-- The fields of an answer as this client gets them.
local function fields_of(call, answer, how)
  local options, headers = call.options, {}
  for name, value in pairs(answer.headers) do
    headers[name] = value
  end
  if options.cache_status then
    headers["cache-status"] = cache_status(call, answer, how)
  end
  if not stored.is_answer(answer) then
    return headers
  end
  local age = math.floor((stored.age(answer, options.now())))
  headers.age = (how ~= "loaded" or age > 0) and ("%d"):format(age) or nil
  if options.cache_control then
    headers["cache-control"], headers.expires, headers.age = options.cache_control, nil, nil
  end
  if options.surrogate and answer.tags and #answer.tags > 0 then
    local keys = surrogates.field(options.surrogate, answer.tags)
    headers[options.surrogate] = keys
    if not keys then -- what cannot be purged is not to be kept
      headers["surrogate-control"], headers["cdn-cache-control"] = "no-store", "no-store"
    end
  end
  return headers
end

-- What the client's conditions make of it.
local function judged(call, answer, headers)
  if answer.status < 200 or answer.status > 299 then
    return nil
  end
  local now = call.options.now()
  return conditional.evaluate(call.request.method, call.request.headers, {
    etag = type(headers.etag) == "string" and headers.etag or nil,
    last_modified = dates.parse(headers["last-modified"], now) or
      dates.parse(headers.date, now) or answer.at,
  }, now)
end

local function reply(call, answer, how)
  local headers = fields_of(call, answer, how)
  local verdict = judged(call, answer, headers)
  if verdict == 304 then
    return 304, conditional.not_modified(headers), "", how, call.message
  elseif verdict == 412 then
    return 412, { date = dates.format(call.options.now()), ["content-length"] = "0" }, "", how,
      call.message
  end
  headers["content-length"] = answer.status ~= 204 and ("%d"):format(#answer.body) or nil
  return answer.status, headers, call.request.method == "HEAD" and "" or answer.body, how,
    call.message
end

---------------------------------------------------------------------------------------------------
-- requests

local is_safe = { GET = true, HEAD = true, OPTIONS = true, TRACE = true, PROPFIND = true,
  REPORT = true, SEARCH = true, QUERY = true }

-- Whether an answer to a request may be looked for in the cache.
local function is_for_cache(call, raw_headers)
  local request, options = call.request, call.options
  local length = fields.text(request.headers["content-length"])
  if (request.method ~= "GET" and request.method ~= "HEAD") or request.headers.range then
    return false
  elseif (request.body and request.body ~= "") or (length and length ~= "0") or
    (raw_headers and raw_headers["transfer-encoding"]) then
    return false -- the answer may be to the body, which is not in the key
  elseif conditional.is_for_origin(request.headers) and not options.origin then
    return false
  elseif options.obey_client and
    control.parse(request.headers["cache-control"])["no-store"] ~= nil then
    return false
  end
  return options.key ~= nil or variants.has_key(request)
end

-- Hands a request on as it is, and its answer back.
local function pass(call)
  local status, headers, body = ask(call, call.request)
  if not status then
    local answer, how = failed(call, 502, headers)
    headers, body = answer.headers, answer.body
    headers["content-length"] = ("%d"):format(#body)
    return answer.status, headers, call.request.method == "HEAD" and "" or body, how, call.message
  end
  if not is_safe[call.request.method] then
    invalidate_changed(call, status, headers)
  end
  if call.options.cache_status then
    headers["cache-status"] = cache_status(call, own(status, headers, body), "bypass")
  end
  return status, headers, call.request.method == "HEAD" and "" or body, "pass"
end

local function check_request(request, fetch)
  if type(request) ~= "table" or type(request.method) ~= "string" or
    type(request.path) ~= "string" or type(request.headers) ~= "table" then
    error("a request is a table with method, path and headers", 3)
  elseif type(fetch) ~= "function" then
    error(("a function was expected to fetch with, got a %s"):format(type(fetch)), 3)
  end
end

-- serve(cache, request, fetch, [options]) -> status, headers, body, how, message
local function serve(cache, request, fetch, raw)
  check_request(request, fetch)
  local call = { cache = cache, fetch = fetch, options = options_of(raw), request = {} }
  for name, value in pairs(request) do
    call.request[name] = value
  end
  call.request.headers = fields.copy(request.headers)
  if not is_for_cache(call, request.headers) then
    return pass(call)
  end
  call.first = first_key(call.request, call.options)
  return reply(call, find(call))
end

return { serve = serve, invalidate = invalidate }
