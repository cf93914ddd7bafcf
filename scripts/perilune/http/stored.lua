-- SPDX-License-Identifier: MIT
--
-- stored.lua - answers as they lie in the cache: made of an upstream's, renewed by its 304, and
-- what is known of one later: its age, and whether it may still be served.
--
-- Beside answers there are two other things under a key: a marker of what answers vary by, and one
-- that says "each asks for himself", of an answer that is not for others.

local conditional = require "perilune.http.conditional"
local control = require "perilune.http.cache_control"
local dates = require "perilune.http.dates"
local etags = require "perilune.http.etags"
local fields = require "perilune.http.fields"
local storing = require "perilune.http.storing"
local surrogates = require "perilune.http.surrogates"
local variants = require "perilune.http.variants"

local stored = {}

local FORM = 1 -- of these tables; another one is not ours
local SHORTEST = 0.001 -- of a life: 0 would be the rule's
local MOST_TAGS, MOST_TAG = 64, 250 -- of a value in the cache

local function is_ours(value, kind)
  return type(value) == "table" and value.http == FORM and value.kind == kind
end

function stored.is_answer(value)
  return is_ours(value, "answer") and type(value.headers) == "table" and
    math.type(value.status) == "integer" and type(value.body) == "string" and
    type(value.at) == "number" and type(value.age) == "number" and type(value.ttl) == "number"
end

function stored.is_marker(value)
  return is_ours(value, "varies") and type(value.names) == "table" and type(value.id) == "string"
end

stored.pass = { http = FORM, kind = "pass" }

function stored.marker(first, names)
  return { http = FORM, kind = "varies", names = names, id = variants.new_id(first) }
end

-- How old an answer is, and how long it is fresh: negative since when it is not.
function stored.age(answer, now)
  local since = math.max(0, now - answer.at)
  return answer.age + since, answer.ttl - since
end

-- Adds the conditions that ask an upstream about an answer; false where it gave nothing to ask
-- with. A tag of our own making says nothing to it.
function stored.ask(answer, request_headers)
  return conditional.ask(request_headers, {
    etag = not answer.own_etag and answer.headers.etag or nil,
    ["last-modified"] = answer.headers["last-modified"],
  })
end

-- What the value is stored with: as a loader's third result; nil where it is of no use to anybody.
-- Past its time it is kept for as long as it may be served, or its upstream asked about it.
function stored.terms(answer, options)
  local kept = math.max(answer.swr, answer.sie, stored.ask(answer, {}) and options.keep or 0)
  if answer.ttl <= 0 and kept <= 0 then
    return nil
  end
  return { ttl = math.max(answer.ttl, SHORTEST), stale = kept, tags = answer.tags }
end

-- Likewise of one that is served once more because its upstream fails, which is asked again after
-- `retry` seconds, or when it may be served no more.
function stored.terms_of_stale(answer, options, now)
  local _, left = stored.age(answer, now)
  local kept = math.max(SHORTEST, answer.sie + left)
  return { ttl = math.min(options.retry, kept), stale = kept, tags = answer.tags }
end

-- The tags of an answer: the options', and those in fields of its own; nil where there are more
-- than a value may have, since one that is left out would be missed.
function stored.tags(request, status, headers, options)
  local tags = {}
  local said = options.tags
  if type(said) == "function" then
    said = said(request, status, headers)
  end
  for _, tag in ipairs(type(said) == "table" and said or { said }) do
    tags[#tags + 1] = tag
  end
  for _, name in ipairs(options.tag_fields) do
    for _, tag in ipairs(surrogates.read(name, headers[name])) do
      tags[#tags + 1] = tag
    end
  end
  for _, tag in ipairs(tags) do
    if type(tag) ~= "string" then
      error(("a tag of an answer must be a string, got a %s"):format(type(tag)))
    elseif #tag > MOST_TAG then
      return nil
    end
  end
  return #tags <= MOST_TAGS and tags or nil
end

-- Tells clients the terms that an answer does not say itself; returns what it said, or false.
local function add_terms(headers, lifetime, terms)
  local said = fields.text(headers["cache-control"]) or false
  local added = said and { max_age = lifetime } or control.of_terms(terms or {}, lifetime)
  headers["cache-control"] = (said and said .. ", " or "") .. control.build(added)
  return said
end

-- What an answer says of itself where the options or a rule say it in its place. Returns whether
-- its tag is of our own making, and its Cache-Control where that was added to.
local function complete(status, headers, body, judged, options, terms, now)
  headers["content-length"] = nil -- of the body as it is sent
  headers.age = nil
  headers.date = dates.parse(headers.date, now) and headers.date or dates.format(now)
  if options.cookies == "strip" then
    headers["set-cookie"] = nil
  end
  local said = nil
  if not judged.is_own then
    said = add_terms(headers, judged.ttl + judged.age, terms)
  end
  if not headers.etag and options.etag and status == 200 then
    headers.etag = etags.make(body, options.etag == "weak")
    return true, said
  end
  return nil, said
end

-- answer(request, status, headers, body, options, terms, now, delay, [old]) -> a table to be stored
-- | nil, why not. `old` is the one that it renews.
function stored.answer(request, status, headers, body, options, terms, now, delay, old)
  local judged, why = storing.judge(request, status, headers, options, terms, now, delay)
  local tags = judged and stored.tags(request, status, headers, options)
  if not judged then
    return nil, why
  elseif not tags then
    return nil, "tags"
  elseif request.headers.cookie and options.cookies ~= "strip" and not judged.is_own and
    not old then
    return nil, "cookie" -- it may be of this client, and does not say that it is not
  end
  local own_etag, said = complete(status, headers, body, judged, options, terms, now)
  return {
    http = FORM, kind = "answer", status = status, headers = headers, body = body, at = now,
    age = judged.age, ttl = judged.ttl, swr = judged.swr, sie = judged.sie,
    no_cache = judged.no_cache, authorized = judged.authorized, tags = tags, said = said,
    own_etag = own_etag or old and old.own_etag or nil,
  }
end

-- An old answer that its upstream has confirmed, with what the 304 says; nil where that is about
-- another one. | nil, why it must not be stored any more, and the fields to hand it out with.
function stored.renewed(old, request, of_304, options, terms, now, delay)
  local headers = conditional.renew(old.headers, of_304)
  if not headers then
    return nil
  end
  headers.date = of_304.date -- not the old one, which would make it old
  if old.said ~= nil and not of_304["cache-control"] then
    headers["cache-control"] = old.said or nil -- so that terms of ours do not become its own
  end
  local answer, why = stored.answer(request, old.status, headers, old.body, options, terms, now,
    delay, old)
  return answer, why, headers
end

-- Whether an answer may be served past its time: `window` is "swr" or "sie".
function stored.may_be_stale(answer, window, now)
  local _, left = stored.age(answer, now)
  return not answer.no_cache and (left > 0 or -left < answer[window])
end

return stored
