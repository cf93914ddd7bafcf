-- SPDX-License-Identifier: MIT
--
-- options.lua - the options of perilune.http.serve: checked once for each table, and completed.

local control = require "perilune.http.cache_control"
local given = require "perilune.http.given"

local options = {}

local known = {
  shared = "boolean", prefix = "string", key = "function", default = "string table",
  heuristic = "boolean number", etag = "string boolean", tags = "function table",
  tag_fields = "table", surrogate = "string", keep = "string number", pass = "string number",
  retry = "string number", normalize = "table", cookies = "string",
  statuses = "table", targeted = "table", obey_client = "boolean", origin = "boolean",
  cache_control = "table string", cache_status = "string", get = "table", now = "function",
}
local known_terms = { ttl = true, stale = true, stale_if_error = true, negative = true }

local function one_of(raw, name, choices)
  local value = raw[name]
  if value ~= nil and not choices[value] then
    local names = {}
    for choice in pairs(choices) do
      names[#names + 1] = ("'%s'"):format(tostring(choice))
    end
    table.sort(names)
    error(("option '%s' must be %s, got '%s'"):format(name, table.concat(names, " or "),
      tostring(value)), 4)
  end
  return value
end

-- A list of names of fields, in lower case.
local function field_names(raw, name)
  local list = {}
  for i, field in ipairs(raw[name] or {}) do
    if type(field) ~= "string" then
      error(("option '%s' must be a list of names, got a %s in it"):format(name, type(field)), 4)
    end
    list[i] = field:lower()
  end
  return list
end

local function default_terms(default)
  if type(default) ~= "table" then
    return nil
  end
  given.check_names(default, known_terms, 4)
  local ttl = given.duration(default, "ttl")
  if not ttl then
    error("option 'default' wants a ttl", 4)
  end
  local stale = given.duration(default, "stale", 0)
  return {
    ttl = ttl, stale = stale,
    stale_if_error = given.duration(default, "stale_if_error", stale),
    negative = given.duration(default, "negative", math.min(ttl, 10)),
  }
end

local function statuses(raw)
  local set = nil
  for _, status in ipairs(raw.statuses or {}) do
    set = set or {}
    set[status] = true
  end
  return set
end

-- What is given to cache:get besides what serve needs there itself.
local function get_options(raw)
  local get = {}
  for name, value in pairs(raw.get or {}) do
    get[name] = value
  end
  get.with_old = true
  get.own_stale = true -- serve looks at what the answer says of that
  local no_stale = {}
  for name, value in pairs(get) do
    no_stale[name] = value
  end
  no_stale.no_stale = true
  return get, no_stale
end

local function complete(raw)
  given.check_names(raw, known, 3)
  for name, types in pairs(known) do
    given.typed(raw, name, types)
  end
  one_of(raw, "etag", { strong = true, weak = true, [false] = true })
  one_of(raw, "cookies", { pass = true, strip = true })
  if type(raw.default) == "string" then
    one_of(raw, "default", { rule = true })
  end
  if raw.cache_status and not raw.cache_status:find "^[%a*][%w!#$%%&'*+.^_`|~:/-]*$" then
    error("option 'cache_status' must be a name of letters, digits and dashes", 3)
  end
  local get, get_fresh = get_options(raw)
  local etag = "strong"
  if raw.etag ~= nil then
    etag = raw.etag
  end
  return {
    shared = raw.shared ~= false,
    prefix = raw.prefix or "http:",
    key = raw.key,
    by_rule = raw.default == "rule",
    default = default_terms(raw.default),
    heuristic = raw.heuristic,
    etag = etag,
    tags = raw.tags,
    tag_fields = field_names(raw, "tag_fields"),
    surrogate = raw.surrogate and raw.surrogate:lower(),
    keep = given.duration(raw, "keep", 3600),
    pass = given.duration(raw, "pass", 2),
    retry = math.max(0.001, given.duration(raw, "retry", 1)),
    normalize = raw.normalize,
    cookies = raw.cookies or "pass",
    statuses = statuses(raw),
    targeted = field_names(raw, "targeted"),
    obey_client = raw.obey_client or false,
    origin = raw.origin or false,
    cache_control = type(raw.cache_control) == "table" and control.build(raw.cache_control) or
      raw.cache_control,
    cache_status = raw.cache_status,
    get = get,
    get_fresh = get_fresh,
    now = raw.now or os.time,
  }
end

local completed = setmetatable({}, { __mode = "k" })
local defaults = nil

-- of(table or nil) -> the options, completed. A table is checked once: it must not be changed after
-- that.
function options.of(raw)
  if raw == nil then
    defaults = defaults or complete {}
    return defaults
  elseif type(raw) ~= "table" then
    error(("a table of options was expected, got a %s"):format(type(raw)), 3)
  end
  local known_as = completed[raw]
  if not known_as then
    known_as = complete(raw)
    completed[raw] = known_as
  end
  return known_as
end

return options
