-- SPDX-License-Identifier: MIT
--
-- storing.lua - whether an answer may be stored, how long it is fresh, and how long after that it
-- may be served (RFC 9111, 3 and 4.2; RFC 5861).
--
-- Of two readings the one that stores less holds. What an answer does not say of itself is nobody's
-- guess: it is stored where the program says so (default, heuristic), and else handed out only.

local control = require "perilune.http.cache_control"
local dates = require "perilune.http.dates"
local fields = require "perilune.http.fields"

local storing = {}

-- May be stored where they say how long; the second kind also where only the program says so.
local with_own_terms = { [200] = true, [203] = true, [204] = true, [300] = true, [301] = true,
  [302] = true, [303] = true, [307] = true, [308] = true, [404] = true, [405] = true, [410] = true,
  [414] = true, [501] = true }
local by_default = { [200] = true, [203] = true, [204] = true, [300] = true, [301] = true,
  [308] = true, [404] = true, [410] = true }
local is_negative = { [404] = true, [410] = true }

local HEURISTIC_SHARE, HEURISTIC_MOST = 0.1, 86400
local FOREVER = 2147483648

-- A field with one date; nil where it is not there, 0 where it cannot be read, or came twice: a
-- time long past.
local function date_of(headers, name, now)
  if headers[name] == nil then
    return nil
  end
  return dates.parse(headers[name], now) or 0
end

-- How old an answer is on arrival (4.2.3). A bad Age is 0, of several the greatest.
local function age_on_arrival(headers, now, delay)
  local said = 0
  for text in (fields.text(headers.age) or ""):gmatch "[^%s,]+" do
    said = math.max(said, control.digits(text) or 0)
  end
  local date = dates.parse(headers.date, now)
  local apparent = date and math.max(0, now - date) or 0
  return math.max(apparent, said + delay)
end

-- How long it is fresh from its making on, as it says itself (4.2.1); nil where it says nothing.
-- Beside directives for caches such as this one Expires is not for it (RFC 9213, 2.1).
local function own_lifetime(directives, is_targeted, headers, is_shared, now)
  local seconds = is_shared and control.seconds(directives, "s-maxage") or
    control.seconds(directives, "max-age")
  if seconds then
    return seconds
  end
  local expires = not is_targeted and date_of(headers, "expires", now)
  if not expires then
    return nil
  end
  return math.max(0, expires - (dates.parse(headers.date, now) or now))
end

-- A tenth of its age when it was made, a day at most (4.2.2); nil where it does not say when.
local function heuristic_lifetime(headers, options, now)
  local modified = dates.parse(headers["last-modified"], now)
  if not options.heuristic or not modified then
    return nil
  end
  local share = type(options.heuristic) == "number" and options.heuristic or HEURISTIC_SHARE
  local date = dates.parse(headers.date, now) or now
  return math.min(math.floor(math.max(0, date - modified) * share), HEURISTIC_MOST)
end

-- The windows after that (RFC 5861), which must-revalidate and its kind close. What it does not say
-- is as the program's terms have it, unless there is an s-maxage, which asks for the origin's word
-- (RFC 9111, 5.2.2.10): beside it only windows that the answer names itself are open.
local function stale_windows(directives, is_shared, terms)
  if directives["must-revalidate"] ~= nil or directives["no-cache"] ~= nil or
    (is_shared and directives["proxy-revalidate"] ~= nil) then
    return 0, 0
  elseif is_shared and directives["s-maxage"] ~= nil then
    terms = nil
  end
  local while_revalidate = control.seconds(directives, "stale-while-revalidate")
  local if_error = control.seconds(directives, "stale-if-error")
  return while_revalidate or terms and terms.stale or 0,
    if_error or terms and terms.stale_if_error or 0
end

-- Whether anything forbids storing; why.
local function forbidden(request, status, directives, headers, options)
  if status < 200 or status == 206 or status == 304 then
    return "status"
  elseif directives["no-store"] ~= nil then
    return "no-store"
  elseif options.shared and directives.private ~= nil then
    return "private" -- also where it names fields: all of the answer is kept out
  elseif headers["set-cookie"] and options.cookies ~= "strip" then
    return "set-cookie"
  elseif (fields.text(headers.vary) or ""):find("*", 1, true) then
    return "vary"
  elseif options.shared and request.headers.authorization and
    not storing.allows_authorized(directives) then
    return "authorization"
  end
  return nil
end

-- Whether a shared cache may give a stored answer to a request that has an Authorization (3.5).
function storing.allows_authorized(directives)
  return directives.public == true or directives["must-revalidate"] == true or
    control.digits(directives["s-maxage"]) ~= nil
end

-- The directives that hold: of a field for caches such as this one, where the options name it and
-- the answer has it, and not empty (RFC 9213), else of Cache-Control. Then true, or false.
function storing.directives(headers, options)
  for _, name in ipairs(options.targeted or {}) do
    if (fields.text(headers[name]) or ""):find "[^ \t,]" then
      return control.parse(headers[name]), true
    end
  end
  return control.parse(headers["cache-control"]), false
end

-- judge(request, status, headers, options, terms, now, delay) -> { ttl =, swr =, sie =, age =,
-- no_cache =, authorized = } | nil, why it must not be stored
-- `terms` are the program's, of a rule or of its options, for what says nothing of itself; or nil.
-- ttl is what is left of it on arrival, perhaps nothing. `delay`: so long did the request take.
function storing.judge(request, status, headers, options, terms, now, delay)
  local directives, is_targeted = storing.directives(headers, options)
  local why = forbidden(request, status, directives, headers, options)
  if why then
    return nil, why
  end
  local lifetime = own_lifetime(directives, is_targeted, headers, options.shared, now)
  local statuses = options.statuses or (lifetime and with_own_terms or by_default)
  if not statuses[status] then
    return nil, "status"
  end
  local is_own = lifetime ~= nil
  lifetime = lifetime or heuristic_lifetime(headers, options, now)
  if not lifetime and terms then
    lifetime = is_negative[status] and terms.negative or terms.ttl
  end
  local no_cache = directives["no-cache"] ~= nil
  if not lifetime and not no_cache then
    return nil, "no-terms"
  end
  local age = age_on_arrival(headers, now, delay)
  local swr, sie = stale_windows(directives, options.shared, terms)
  return {
    ttl = no_cache and 0 or math.max(0, math.min(lifetime, FOREVER) - age),
    swr = math.min(swr, FOREVER), sie = math.min(sie, FOREVER), age = age,
    no_cache = no_cache or nil,
    authorized = storing.allows_authorized(directives) or nil,
    is_own = is_own or no_cache, -- it said so itself
  }
end

-- What a client wants of a stored answer (RFC 9111, 5.2.1), for who obeys: false where it will not
-- do. `left`: so long is it fresh, negative where it is not.
function storing.contents_client(headers, age, left)
  local directives = control.parse(headers["cache-control"])
  if headers["cache-control"] == nil and
    (fields.text(headers.pragma) or ""):lower():find "no%-cache" then
    return false
  end
  local max_age = control.seconds(directives, "max-age")
  local min_fresh = control.seconds(directives, "min-fresh")
  return directives["no-cache"] == nil and (not max_age or age <= max_age) and
    (not min_fresh or left >= min_fresh)
end

return storing
