-- SPDX-License-Identifier: MIT
--
-- dovecot.lua - the cache behind Dovecot's logins, as scripts/hosts/dovecot.md shows it: in the
-- auth process itself (blocking=no), and in its workers (blocking=yes).

local host = require "host"
local page = require "page"
local spec = require "spec"

host.need_program("dovecot", "dovecot-core")
host.need_file("/usr/lib/dovecot/modules/auth/libauthdb_lua.so", "dovecot-auth-lua")
if spec.run "id -u" ~= "0\n" then
  host.skip "Dovecot runs as several users, and is started by root"
end

for _, blocking in ipairs { "no", "yes" } do
  local redis = spec.redis()
  local folder, remove = spec.folder()
  local variables = { DIR = folder, BLOCKING = blocking, REDIS = redis.url }
  local server

  local function test(name, body)
    spec.test(("blocking=%s: %s"):format(blocking, name), body)
  end

  local function log()
    local file <close> = assert(io.open(folder .. "/dovecot.log"))
    return file:read "a"
  end

  test("what the page shows goes as shown", function()
    server = page.play("dovecot", variables, {})
  end)

  test("nothing is logged but that it runs", function()
    spec.contains(log(), "starting up")
    for _, word in ipairs { "Error", "Warning", "Panic", "Fatal" } do
      spec.same(log():find(word, 1, true), nil, log())
    end
  end)

  test("it ends without a word", function()
    server:signal "TERM"
    spec.wait_until("Dovecot has ended", function()
      return not server:is_running()
    end)
    for _, word in ipairs { "Error", "Panic", "Fatal" } do
      spec.same(log():find(word, 1, true), nil, log())
    end
  end)

  if server then
    server:stop()
  end
  redis.stop()
  remove()
end
spec.finish()
