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

local module = assert(package.searchpath("perilune", package.cpath))

for _, blocking in ipairs { "no", "yes" } do
  local redis = spec.redis()
  local folder, remove = spec.folder()
  -- who looks up is not root: the module and the Redis are where all can come
  spec.run(("cp '%s' '%s'; chmod 755 '%s'; chmod 777 '%s'"):format(module, folder,
    redis.socket:match "^(.*)/", redis.socket))
  local variables = { DIR = folder, BLOCKING = blocking, REDIS = redis.url,
    LUA_CPATH_5_4 = folder .. "/?.so;;" }
  local server

  local function test(name, body)
    spec.test(("blocking=%s: %s"):format(blocking, name), body)
  end

  -- Dovecot logs as an error whatever a process of its own writes to standard error.
  local function no_complaints()
    local said = server:said():gsub("master: Warning: Killed with signal 15", "")
    spec.contains(said, "starting up")
    for _, word in ipairs { "Error", "Warning", "Panic", "Fatal" } do
      spec.same(said:find(word, 1, true), nil, said)
    end
  end

  test("what the page shows goes as shown", function()
    server = page.play("dovecot", variables, { says = "starting up" })
  end)

  test("lookups are where they should be", function()
    local _, is_worker = spec.run(("ps -o args= --ppid %d | grep -q 'auth -w'"):format(server.pid))
    spec.same(is_worker == 0, blocking == "yes")
  end)

  test("with Redis gone logins go on", function()
    redis.stop()
    spec.contains(page.run("doveadm -c $DIR/dovecot.conf auth test ada byron", variables),
      "ada auth succeeded")
    spec.contains(page.run("doveadm -c $DIR/dovecot.conf auth test bob builder", variables),
      "bob auth succeeded")
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
