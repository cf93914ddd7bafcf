-- SPDX-License-Identifier: MIT
--
-- pages.lua - the pages that the servers of http_hosts.lua have behind perilune.http.

local n_fetched = 0

local function fetch(request)
  n_fetched = n_fetched + 1
  local path = request.path:match "^[^?]*"
  local body = ("%s, fetched %d\n"):format(path, n_fetched)
  local headers = { ["content-type"] = "text/plain", ["cache-control"] = "max-age=600" }
  if request.method ~= "GET" then
    return 204, { ["x-method"] = request.method }
  elseif path == "/private" then
    headers["cache-control"] = "private"
    headers["set-cookie"] = { "a=1", "b=2; Expires=Sun, 06 Nov 2094 08:49:37 GMT" }
  elseif path == "/varies" then
    headers.vary = "accept-language"
    body = "for " .. (request.headers["accept-language"] or "all") .. "\n"
  elseif path == "/dated" then
    headers["last-modified"] = "Sun, 06 Nov 1994 08:49:37 GMT"
    headers.etag = '"dated"'
  elseif path == "/hostile" then
    headers["x-split"] = "1\r\nset-cookie: stolen=1"
    headers["cache-control"] = { "max-age=600", "no-store=(" }
    headers.expires = "\1\2"
  elseif path == "/away" then
    return nil, "it is away"
  end
  return 200, headers, body
end

return { fetch = fetch, options = { cache_status = "perilune", tags = { "pages" },
  surrogate = "surrogate-key" } }
