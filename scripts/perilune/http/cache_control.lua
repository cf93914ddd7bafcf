-- SPDX-License-Identifier: MIT
--
-- cache_control.lua - Cache-Control as a table of directives, and the other way (RFC 9111, 5.2;
-- RFC 5861; RFC 8246).
--
-- What cannot be understood is read in the way that caches less: a bad number is 0, a number that
-- is said twice in two ways is 0, and a header that is too long to be honest is no-store, as is one
-- with a quoted string that does not end: what comes after its beginning may be anything.

local given = require "perilune.http.given"

local cache_control = {}

local MOST_BYTES, MOST_DIRECTIVES = 8192, 64
local MOST_SECONDS = 2147483648 -- what RFC 9111, 1.2.2 has in the place of more
local YEAR = 31536000

-- A quoted string from `at` on, its opening quote; returns its text and what comes after it.
local function quoted(text, at)
  local parts, from = {}, at + 1
  while true do
    local stop = text:find('["\\]', from)
    if not stop then
      return nil
    end
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:byte(stop) == 34 then -- '"'
      return table.concat(parts), stop + 1
    end
    parts[#parts + 1] = text:sub(stop + 1, stop + 1)
    from = stop + 2
  end
end

-- The next comma that is in no quoted string, or the end; nil where such a string does not end.
local function next_comma(text, at)
  while true do
    local stop = text:find('[",]', at)
    if not stop or text:byte(stop) == 44 then -- ','
      return stop or #text + 1
    end
    local _, after = quoted(text, stop)
    if not after then
      return nil
    end
    at = after
  end
end

-- One directive from `at` on: name, value (true where it has none), what comes after it, or nil as
-- above. A name of nil is an element that could not be read, and was skipped.
local function directive(text, at)
  local name, after = text:match("^([%w!#$%%&'*+.^_`|~-]+)()", at)
  if not name then
    return nil, nil, next_comma(text, at)
  end
  local value = true
  if text:byte(after) == 61 then -- '='
    if text:byte(after + 1) == 34 then
      value, after = quoted(text, after + 1)
    else
      value, after = text:match("^([^,%s\"]*)()", after + 1)
    end
  end
  local stop = after and text:match("^[ \t]*()", after)
  if not stop or (stop <= #text and text:byte(stop) ~= 44) then -- ','
    return name:lower(), false, next_comma(text, stop or at)
  end
  return name:lower(), value, stop
end

-- parse(header) -> a table: true for a directive without a value, a text for one with it, and false
-- for one that could not be read, or was said twice in two ways. `header` is a text, a list of
-- texts, or nil.
function cache_control.parse(header)
  local directives = {}
  local text = type(header) == "table" and table.concat(header, ",") or header or ""
  if #text > MOST_BYTES then
    return { ["no-store"] = true }
  end
  local at, n = 1, 0
  while true do
    at = text:match("^[ \t,]*()", at)
    if at > #text then
      return directives
    end
    local name, value
    name, value, at = directive(text, at)
    n = n + 1
    if not at or n > MOST_DIRECTIVES then
      return { ["no-store"] = true }
    elseif name and directives[name] ~= nil and directives[name] ~= value then
      directives[name] = false
    elseif name then
      directives[name] = value
    end
  end
end

-- The whole number of a text of digits, nil where it is none.
function cache_control.digits(text)
  if type(text) ~= "string" or not text:find "^%d+$" then
    return nil
  end
  text = text:gsub("^0+(%d)", "%1")
  return #text > 10 and MOST_SECONDS or math.min(math.tointeger(tonumber(text)), MOST_SECONDS)
end

-- The seconds that a directive says; 0 where it is there and says none, nil where it is not.
function cache_control.seconds(directives, name)
  local value = directives[name]
  if value == nil then
    return nil
  end
  return cache_control.digits(value) or 0
end

-- The order in which they are written, and what each may be.
local fields = {
  { "no_store", "flag" }, { "no_cache", "flag" }, { "private", "flag" }, { "public", "flag" },
  { "max_age", "seconds" }, { "s_maxage", "seconds" }, { "must_revalidate", "flag" },
  { "proxy_revalidate", "flag" }, { "must_understand", "flag" }, { "no_transform", "flag" },
  { "immutable", "flag" }, { "stale_while_revalidate", "seconds" },
  { "stale_if_error", "seconds" },
}
local known = {}
for _, field in ipairs(fields) do
  known[field[1]] = true
end

-- build{ max_age = "1m", public = true, ... } -> "public, max-age=60". Raises for what is no
-- directive. Durations that have no end are a year, as RFC 2616 had it.
function cache_control.build(directives)
  if type(directives) ~= "table" then
    error(("a table of directives was expected, got a %s"):format(type(directives)), 2)
  end
  given.check_names(directives, known, 2)
  local parts = {}
  for _, field in ipairs(fields) do
    local name, value = field[1], directives[field[1]]
    if field[2] == "flag" then
      given.typed(directives, name, "boolean")
      parts[#parts + 1] = value and name:gsub("_", "-") or nil
    elseif value ~= nil then
      local seconds = given.duration(directives, name)
      parts[#parts + 1] = ("%s=%d"):format(name:gsub("_", "-"),
        math.floor(math.min(seconds, YEAR)))
    end
  end
  return table.concat(parts, ", ")
end

-- What a rule has for a key (cache:terms) as directives for build().
function cache_control.of_terms(terms, ttl)
  local fresh, stale = ttl or terms.ttl, terms.stale or 0
  local on_error = terms.stale_if_error or 0
  return {
    max_age = fresh,
    stale_while_revalidate = stale > 0 and stale or nil,
    stale_if_error = on_error > 0 and on_error or nil,
  }
end

return cache_control
