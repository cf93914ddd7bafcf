-- SPDX-License-Identifier: MIT
--
-- postgres_server.lua - a PostgreSQL of a spec's own: in a folder of its own, on a socket there and
-- no port. It ends with the spec, however that ends.
--
--     local server = require("postgres_server").start()   -- nil: it is not installed
--     server.conninfo, server.sql "SELECT 1", server.stop(), server.start(), server.remove()

local spec = require "spec"

local postgres_server = {}

local function line_of(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read "l"
  pipe:close()
  return line
end

local bin = line_of "ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -n 1"

-- A command in the background that ends with the spec, or by the function returned.
function postgres_server.keep(command, signal)
  local keeper = io.popen(([[%s &
    read -r _
    kill -%s $!
    wait $! 2>/dev/null]]):format(command, signal), "w")
  return function()
    if keeper then
      keeper:close()
      keeper = nil
    end
  end
end

function postgres_server.start()
  if not bin then
    return nil
  end
  local server = {}
  local folder, remove = spec.folder()
  local as = "" -- PostgreSQL does not run as root
  if line_of "id -u" == "0" then
    as = "setpriv --reuid=postgres --regid=postgres --clear-groups "
    os.execute("chown postgres " .. folder)
  end
  server.folder = folder
  server.conninfo = "host=" .. folder .. " user=postgres dbname=postgres"
  server.psql = ("%s/psql -qAtX -v ON_ERROR_STOP=1 -d '%s' "):format(bin, server.conninfo)

  -- Runs a statement, and returns what it prints.
  function server.sql(text)
    local output, code, said = spec.run(server.psql .. "-c \"" .. text .. "\"")
    spec.same(said, "", text)
    spec.same(code, 0, text)
    return output:match "^(.-)\n?$"
  end

  local stop

  function server.start()
    stop = postgres_server.keep(
      ("cd %s && exec %s%s/postgres -D data -k %s -h '' -F 2>>postgres.log"):format(folder, as, bin,
        folder), "QUIT")
    spec.wait_until("PostgreSQL answers", function()
      return select(2, spec.run(server.psql .. "-c 'SELECT 1'")) == 0
    end)
  end

  function server.stop()
    stop()
  end

  function server.remove()
    stop()
    remove()
  end

  local _, made = spec.run(
    ("cd %s && %s%s/initdb -D data -A trust -U postgres --no-sync >/dev/null"):format(folder, as,
      bin))
  spec.same(made, 0, "initdb")
  server.start()
  return server
end

return postgres_server
