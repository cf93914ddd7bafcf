-- SPDX-License-Identifier: MIT
--
-- surrogates.lua - a cache's tags told to the CDNs and proxies in front of it, as surrogate keys,
-- and what is made void told to them too.
--
-- Names of fields differ (Surrogate-Key of Fastly, parted by blanks; Cache-Tag of Cloudflare, by
-- commas; xkey of Varnish), and so do the requests that purge. So this makes the data of a request,
-- and the program sends it.

local fields = require "perilune.http.fields"
local given = require "perilune.http.given"

local surrogates = {}

local separators = { ["surrogate-key"] = " ", ["xkey"] = " ", ["cache-tag"] = ",",
  ["edge-cache-tag"] = "," }
local MOST_BYTES = 16384 -- of the field; what Fastly and Cloudflare take
local MOST_KEY = 1024 -- of one key, likewise

-- A tag as a key that none of them takes for two, or for something else: blanks, commas, quotes and
-- what is not visible ASCII are written as %2C.
function surrogates.escape(tag)
  if type(tag) ~= "string" then
    error(("a tag is a string, got a %s"):format(type(tag)), 2)
  end
  return (tag:gsub('[\0-\x20"%%,\\\x7f-\xff]', function(byte)
    return ("%%%02X"):format(byte:byte())
  end))
end

local function separator_of(name)
  return separators[name:lower()] or " "
end

-- field(name, tags) -> its value | nil, message, "too_big" where it does not take them all: one
-- that is left out would not be found by a purge.
function surrogates.field(name, tags)
  local keys = {}
  for i, tag in ipairs(tags) do
    keys[i] = surrogates.escape(tag)
    if #keys[i] > MOST_KEY then
      return nil, ("tag %d is over %d bytes as a surrogate key"):format(i, MOST_KEY), "too_big"
    end
  end
  local value = table.concat(keys, separator_of(name))
  if #value > MOST_BYTES then
    return nil, ("%d tags are over %d bytes as surrogate keys"):format(#keys, MOST_BYTES),
      "too_big"
  end
  return value
end

-- read(name, value) -> a list of the tags in such a field of an upstream's, each once
function surrogates.read(name, value)
  local tags, seen = {}, {}
  local text = type(value) == "table" and table.concat(value, separator_of(name)) or value or ""
  for key in text:gmatch(separator_of(name) == "," and "[^,]+" or "%S+") do
    local tag = fields.trim(key):gsub("%%(%x%x)", function(digits)
      return string.char(tonumber(digits, 16))
    end)
    if tag ~= "" and not seen[tag] then
      seen[tag] = true
      tags[#tags + 1] = tag
    end
  end
  return tags
end

local known = { field = true, most_bytes = true, most_keys = true }

-- purges(tags, [{ field = "surrogate-key", most_bytes =, most_keys = }]) -> a list of requests, as
-- many as the bounds ask for: { tags = {...}, keys = {...}, headers = { [field] = "a b" } }
function surrogates.purges(tags, options)
  options = options or {}
  given.check_names(options, known, 2)
  local field = given.typed(options, "field", "string") or "surrogate-key"
  local most_bytes = given.typed(options, "most_bytes", "number") or MOST_BYTES
  local most_keys = given.typed(options, "most_keys", "number") or 256
  local separator, requests, n_bytes = separator_of(field), {}, 0
  for _, tag in ipairs(tags) do
    local key = surrogates.escape(tag)
    local last = requests[#requests]
    if not last or #last.keys >= most_keys or n_bytes + #separator + #key > most_bytes then
      last, n_bytes = { tags = {}, keys = {} }, -#separator
      requests[#requests + 1] = last
    end
    n_bytes = n_bytes + #separator + #key
    last.tags[#last.tags + 1] = tag
    last.keys[#last.keys + 1] = key
  end
  for _, request in ipairs(requests) do
    request.headers = { [field] = table.concat(request.keys, separator) }
  end
  return requests
end

-- What each method makes void, of its arguments.
local voids = {
  delete = function(key) return { keys = { key } } end,
  delete_many = function(keys) return { keys = keys } end,
  expire = function(key) return { keys = { key } } end,
  invalidate_tag = function(tag) return { tags = { tag } } end,
  invalidate_prefix = function(prefix) return { prefix = prefix } end,
  invalidate_pattern = function(pattern) return { pattern = pattern } end,
  clear = function() return { all = true } end,
}

-- with_purge(cache, hook) -> an object with the same methods; those that make something void call
-- hook({ tags =, keys =, prefix =, pattern =, all = }) when they have. It is called after the cache
-- has forgotten, so that a CDN that asks at once gets what is new; also where the cache could not
-- tell Redis, since here it is gone. What the hook raises is raised.
function surrogates.with_purge(cache, hook)
  if type(hook) ~= "function" then
    error(("a function was expected as the hook, got a %s"):format(type(hook)), 2)
  end
  local object = {}
  return setmetatable(object, {
    __name = "perilune.http.purging",
    __index = function(_, name)
      local method, void = cache[name], voids[name]
      local function call(_, ...)
        if not void then
          return method(cache, ...)
        end
        local done, message, code = method(cache, ...)
        hook(void(...))
        return done, message, code
      end
      if type(method) ~= "function" then
        return method
      end
      object[name] = call
      return call
    end,
  })
end

return surrogates
