-- SPDX-License-Identifier: MIT
--
-- lua5.4.lua - the module in the plain lua5.4, as scripts/hosts/lua5.4.md shows it, and what makes
-- it fit for every program that embeds a Lua: no liblua of its own, one name shown, and a place
-- that Debian's interpreter looks at. No script of ours needs `perilune run`.

local host = require "host"
local page = require "page"
local spec = require "spec"

host.need_program("lua5.4", "lua5.4")

local redis = spec.redis()
local module = assert(package.searchpath("perilune", package.cpath))

spec.test("what the page shows goes as shown", function()
  page.play("lua5.4", { REDIS = redis.url, LUA_CPATH_5_4 = package.cpath }, {})
end)

spec.test("the module brings no Lua along, and shows one name", function()
  host.need_program("readelf", "binutils")
  local needed = spec.run("readelf -d " .. module)
  spec.contains(needed, "libc.so")
  spec.same(needed:find "liblua", nil, needed)
  local names = {}
  for name in spec.run("readelf --dyn-syms -W " .. module):gmatch
    " GLOBAL DEFAULT +%d+ ([%w_]+)" do
    names[#names + 1] = name
  end
  spec.same(names, { "luaopen_perilune" })
end)

spec.test("it is installed where Debian's lua5.4 looks by itself", function()
  local build = assert(module:match "^(.*)/lua/perilune%.so$")
  local installed = spec.run("meson introspect --installed " .. build):match(
    '"' .. module:gsub("%p", "%%%0") .. '": "([^"]*)"')
  local looks = spec.run "env -u LUA_CPATH -u LUA_CPATH_5_4 lua5.4 -e 'print(package.cpath)'"
  spec.contains(";" .. looks, ";" .. assert(installed):match "^(.*)/" .. "/?.so;")
end)

-- A script runs here as it does by `perilune run`.
for name, arguments in pairs {
  ["examples/leaderboard.lua"] = redis.url,
  ["examples/sessions.lua"] = redis.url,
  ["examples/test_without_redis.lua"] = "",
} do
  spec.test(name .. " runs in the plain lua5.4", function()
    local script = host.root .. "scripts/" .. name
    local _, wanted = spec.run(("%s run %s %s"):format(os.getenv "PERILUNE", script, arguments))
    local _, code, errors = spec.run(("lua5.4 %s %s"):format(script, arguments))
    spec.same(errors, "")
    spec.same({ code, wanted }, { 0, 0 })
  end)
end

redis.stop()
spec.finish()
