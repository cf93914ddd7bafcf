-- SPDX-License-Identifier: MIT
--
-- conditional.lua - what a client's conditions make of an answer (RFC 9110, 13), and what of it is
-- sent where it is "not modified".

local dates = require "perilune.http.dates"
local etags = require "perilune.http.etags"
local fields = require "perilune.http.fields"

local conditional = {}

-- What only the origin may judge: a cache hands such a request on (RFC 9111, 4.3.2).
local for_origin = { "if-match", "if-unmodified-since" }
local all = { "if-match", "if-unmodified-since", "if-none-match", "if-modified-since", "if-range" }

function conditional.is_for_origin(headers)
  return headers[for_origin[1]] ~= nil or headers[for_origin[2]] ~= nil
end

-- Takes a request's conditions away: the cache has its own.
function conditional.strip(headers)
  for _, name in ipairs(all) do
    headers[name] = nil
  end
end

-- A field with one date. More than one of them, or none that can be read, is as if it were not
-- there (13.1.3, 13.1.4).
local function date_of(value, now)
  return dates.parse(value, now)
end

-- 412 where what only the origin may judge says so: steps 1 and 2 of 13.2.2.
local function judge_first(headers, current, now)
  local if_match = fields.text(headers["if-match"])
  if if_match then
    local tag = current.exists ~= false and (current.etag or "") or nil
    local fits = tag and etags.matches(if_match, tag, etags.same_strong)
    return not fits and 412 or nil
  end
  local since = date_of(headers["if-unmodified-since"], now)
  if since and current.last_modified and current.last_modified > since then
    return 412
  end
  return nil
end

-- evaluate(method, headers, current, [now]) -> nil (do it) | 304 | 412
-- `current` is what there is: { etag = '"…"', last_modified = seconds, exists = false where there
-- is nothing }. The order is that of RFC 9110, 13.2.2. Only of what would be answered with 2xx.
function conditional.evaluate(method, headers, current, now)
  local failed = judge_first(headers, current, now)
  if failed then
    return failed
  end
  local is_read = method == "GET" or method == "HEAD"
  local if_none_match = fields.text(headers["if-none-match"])
  if if_none_match then
    local exists = current.exists ~= false
    local fits = exists and etags.matches(if_none_match, current.etag, etags.same_weak)
    if fits then
      return is_read and 304 or 412
    end
    return nil
  end
  if not is_read then
    return nil
  end
  local since = date_of(headers["if-modified-since"], now)
  if since and current.last_modified and current.last_modified <= since then
    return 304
  end
  return nil
end

-- Of a 304: what a cache needs to renew what it has (RFC 9110, 15.4.5), and where the answer has no
-- tag, the date to ask with; and a cookie for this client, which is no part of what it has.
local kept_by_304 = { "cache-control", "content-location", "date", "etag", "expires", "vary", "age",
  "cache-status", "cdn-cache-control", "surrogate-control", "surrogate-key", "cache-tag",
  "set-cookie" }

-- not_modified(headers) -> those of the fields that a 304 carries
function conditional.not_modified(headers)
  local kept = {}
  for _, name in ipairs(kept_by_304) do
    kept[name] = headers[name]
  end
  if not kept.etag then
    kept["last-modified"] = headers["last-modified"]
  end
  return kept
end

-- Of a request that asks an upstream whether what is at hand is still right (RFC 9111, 4.3.1).
-- `headers` are those of what is at hand. False where there is nothing to ask with.
function conditional.ask(request_headers, headers)
  if etags.read(headers.etag) then
    request_headers["if-none-match"] = headers.etag
  end
  if type(headers["last-modified"]) == "string" then
    request_headers["if-modified-since"] = headers["last-modified"]
  end
  return request_headers["if-none-match"] ~= nil or request_headers["if-modified-since"] ~= nil
end

-- Of one representation only, and right also for a body that has stayed (RFC 9111, 3.2).
local not_renewed = { "content-encoding", "content-length", "content-range", "content-type" }

-- renew(headers, of_304) -> what is at hand with what a 304 says now. A 304 that names another
-- strong tag is not about what is at hand: nil.
function conditional.renew(headers, of_304)
  if of_304.etag and headers.etag and not etags.same_weak(of_304.etag, headers.etag) then
    return nil
  end
  local renewed = {}
  for name, value in pairs(headers) do
    renewed[name] = value
  end
  renewed.age = nil
  for name, value in pairs(of_304) do
    renewed[name] = value
  end
  for _, name in ipairs(not_renewed) do
    renewed[name] = headers[name]
  end
  return renewed
end

return conditional
