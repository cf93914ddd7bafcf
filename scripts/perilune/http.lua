-- SPDX-License-Identifier: MIT
--
-- http.lua - HTTP's rules of caching over a cache of perilune, for every host.
--
--     local http = require "perilune.http"
--     local status, headers, body = http.serve(cache, request, fetch, { default = "rule" })
--
-- A request is { method =, path =, headers = {} }, names of fields in lower case; perhaps host and
-- scheme. fetch(request) answers status, headers, body, or nil and a message. The rooms are in
-- http/, and may be used by themselves; none of them knows a host: hosts/ has the few lines that
-- each of them needs.

local cache_control = require "perilune.http.cache_control"
local conditional = require "perilune.http.conditional"
local dates = require "perilune.http.dates"
local etags = require "perilune.http.etags"
local serving = require "perilune.http.serve"
local surrogates = require "perilune.http.surrogates"

return {
  serve = serving.serve,
  invalidate = serving.invalidate,
  evaluate = conditional.evaluate,
  etag = etags.make,
  cache_control = cache_control.build,
  parse_cache_control = cache_control.parse,
  of_terms = cache_control.of_terms,
  date = dates.format,
  parse_date = dates.parse,
  surrogate_keys = surrogates.field,
  read_surrogate_keys = surrogates.read,
  purges = surrogates.purges,
  with_purge = surrogates.with_purge,
}
