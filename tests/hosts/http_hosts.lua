-- SPDX-License-Identifier: MIT
--
-- http_hosts.lua - perilune.http in real servers, asked by curl: argument 1 is which.

local host = require "host"
local spec = require "spec"

host.need_program("curl", "curl")

local port = host.port()
local at = "http://127.0.0.1:" .. port
local name = arg[1]
local folder, remove = spec.folder()
local server

local starts = {}

-- The whole path of something beside this file.
local function here(path)
  local pipe <close> = assert(io.popen(("realpath '%stests/hosts/%s'"):format(host.root, path)))
  return pipe:read "l"
end

function starts.lua_http()
  host.need_module("http.server", "lua-http")
  server = host.start { "lua5.4", host.root .. "tests/hosts/http/lua_http_server.lua", port,
    port = port }
end

function starts.lighttpd()
  host.need_program("lighttpd", "lighttpd")
  host.need_file("/usr/lib/lighttpd/mod_magnet.so", "lighttpd-modules-lua")
  local config = spec.write(folder .. "/lighttpd.conf", ([[
    server.modules = ("mod_magnet")
    server.bind = "127.0.0.1"
    server.port = %d
    server.document-root = "%s"
    magnet.attract-raw-url-to = (env.MAGNET)
  ]]):format(port, folder))
  server = host.start { "lighttpd", "-D", "-f", config, port = port, env = {
    PATHS = package.path, CPATHS = package.cpath, MAGNET = here "http/magnet.lua",
  } }
end

function starts.prosody()
  host.need_program("prosody", "prosody")
  local config = spec.write(folder .. "/prosody.cfg.lua", ([[
    run_as_root = true
    pidfile, data_path = "%s/prosody.pid", "%s"
    log = { info = "*console" }
    plugin_paths = { "%s" }
    modules_disabled = { "c2s", "s2s", "offline" }
    http_ports, http_interfaces, https_ports = { %d }, { "127.0.0.1" }, {}
    http_default_host, http_paths = "localhost", { pages = "/" }
    VirtualHost "localhost"
    modules_enabled = { "pages" }
  ]]):format(folder, folder, here "http", port))
  server = host.start { "prosody", "-F", "--config", config, port = port, env = {
    LUA_PATH_5_4 = package.path, LUA_CPATH_5_4 = package.cpath,
  } }
end

function starts.haproxy()
  host.need_program("haproxy", "haproxy")
  local module = os.getenv "PERILUNE_LUA53" or host.skip "the module for Lua 5.3 is not built"
  local config = spec.write(folder .. "/haproxy.cfg", ([[
global
  lua-load %s
defaults
  mode http
  timeout client 5s
  timeout connect 5s
  timeout server 5s
frontend pages
  bind 127.0.0.1:%d
  http-request use-service lua.pages
]]):format(here "http/haproxy_pages.lua", port))
  server = host.start { "haproxy", "-f", config, "-db", port = port, env = {
    LUA_PATH_5_3 = package.path, LUA_CPATH_5_3 = module .. "/?.so;;",
  } }
end

starts[name]()

local function get(path, headers, method, body)
  local answer = host.get(at .. path, { headers = headers, method = method, body = body })
  if answer.status == 0 or not answer.status then
    error(answer.errors .. "\n" .. server:said(), 2)
  end
  answer.from = (answer.headers["cache-status"] or ""):gsub("ttl=%d+", "ttl")
  return answer
end

local STORED, MISS = "perilune; fwd=miss; stored", "perilune; fwd=miss"
local HIT = "perilune; hit; ttl; detail=l1"

local function expect(answer, status, body, from)
  spec.same({ answer.status, answer.body, answer.from }, { status, body, from })
  return answer
end

spec.test(name .. ": a page is fetched once, and a client that has it is told so", function()
  local first = expect(get "/page", 200, "/page, fetched 1\n", STORED)
  spec.same(first.headers["content-type"], "text/plain")
  spec.same(first.headers["surrogate-key"], "pages")
  local second = expect(get "/page", 200, "/page, fetched 1\n", HIT)
  spec.same(second.headers["content-length"], "17")
  assert(tonumber(second.headers.age) < 60)
  local tag = second.headers.etag
  local third = expect(get("/page", { ["If-None-Match"] = '"x", W/' .. tag }), 304, "", HIT)
  spec.same({ third.headers.etag, third.headers["cache-control"] }, { tag, "max-age=600" })
  expect(get("/page", { ["If-None-Match"] = '"x"' }), 200, "/page, fetched 1\n", HIT)
  expect(get("/page?query", {}), 200, "/page, fetched 2\n", STORED)
end)

spec.test(name .. ": dates are compared, and HEAD has no body", function()
  get "/dated"
  local since = { ["If-Modified-Since"] = "Sunday, 06-Nov-94 08:49:37 GMT" }
  expect(get("/dated", since), 304, "", HIT)
  since = { ["If-Modified-Since"] = "Sun Nov  6 08:49:36 1994" }
  expect(get("/dated", since), 200, "/dated, fetched 3\n", HIT)
  local head = get("/dated", nil, "HEAD")
  spec.same({ head.status, head.headers.etag, head.headers["content-length"] },
    { 200, '"dated"', "18" })
end)

spec.test(name .. ": what is private is not shared, and what varies is kept apart", function()
  local own = expect(get "/private", 200, "/private, fetched 4\n", MISS)
  table.sort(own.cookies)
  spec.same(own.cookies, { "a=1", "b=2; Expires=Sun, 06 Nov 2094 08:49:37 GMT" })
  expect(get "/private", 200, "/private, fetched 5\n", "perilune; fwd=miss")
  local en, de = { ["Accept-Language"] = "en" }, { ["Accept-Language"] = "de" }
  get("/varies", en)
  expect(get("/varies", en), 200, "for en\n", STORED)
  expect(get("/varies", de), 200, "for de\n", STORED)
  expect(get("/varies", en), 200, "for en\n", HIT)
end)

spec.test(name .. ": a change makes the page void", function()
  get "/changed"
  spec.same(get "/changed".from, HIT)
  local changed = get("/changed", nil, "POST", "x")
  spec.same({ changed.status, changed.headers["x-method"] }, { 204, "POST" })
  spec.same(get "/changed".from, STORED)
end)

spec.test(name .. ": hostile and damaged fields are harmless", function()
  for _ = 1, 2 do
    local answer = get "/hostile"
    spec.same({ answer.status, answer.headers["x-split"] }, { 200, "1  set-cookie: stolen=1" })
    spec.same(answer.cookies, {})
    spec.same(answer.from:find("hit", 1, true), nil)
  end
  local body = get "/page".body
  for _, headers in ipairs { { ["If-None-Match"] = "W/W/\"" },
    { ["If-None-Match"] = ("x"):rep(4000) }, { ["If-Modified-Since"] = "never" },
    { ["Cache-Control"] = "max-age=9, =,," },
    { Connection = "keep-alive, Host" } } do
    expect(get("/page", headers), 200, body, HIT)
  end
  expect(get "/away", 502, "Bad Gateway\n", "perilune; fwd=bypass")
end)

server:stop()
remove()
spec.finish()
