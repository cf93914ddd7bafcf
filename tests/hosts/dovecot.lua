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

  -- Dovecot logs as an error whatever a process of its own writes to standard error.
  local function no_complaints()
    local said = server:said()
    spec.contains(said, "starting up")
    for _, word in ipairs { "Error", "Warning", "Panic", "Fatal" } do
      spec.same(said:find(word, 1, true), nil, said)
    end
  end

  test("what the page shows goes as shown", function()
    server = page.play("dovecot", variables, { says = "starting up" })
  end)

  test("it has nothing to complain of, and ends", function()
    no_complaints()
    server:signal "TERM"
    spec.wait_until("Dovecot has ended", function()
      return not server:is_running()
    end)
    no_complaints()
  end)

  if server then
    server:stop()
  end
  redis.stop()
  remove()
end
spec.finish()
