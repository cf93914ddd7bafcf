-- SPDX-License-Identifier: MIT
--
-- databases.lua - what the specs of perilune.sql share: a SQLite and a PostgreSQL of a spec's own,
-- and tests that run on each that is there.

local spec = require "spec"
local postgres_server = require "postgres_server"
local sql = require "perilune.sql"

local databases = {}

local folder, remove = spec.folder()
if pcall(require, "luasql.sqlite3") then
  databases.sqlite3 = sql.open("sqlite3", folder .. "/test.db")
end
local server = pcall(require, "luasql.postgres") and postgres_server.start()
if server then
  databases.postgres = sql.open("postgres", server.conninfo)
elseif not databases.sqlite3 then
  print "1..0 # SKIP neither lua-sql-sqlite3 nor lua-sql-postgres is installed"
  os.exit(0)
end
databases.folder, databases.server = folder, server

-- A test on each of the databases.
function databases.each(name, body)
  for _, dialect in ipairs { "sqlite3", "postgres" } do
    if databases[dialect] then
      spec.test(name .. ", with " .. dialect, function()
        body(databases[dialect], dialect)
      end)
    else
      spec.test(name .. ", with " .. dialect .. " # SKIP it is not installed", function() end)
    end
  end
end

-- An empty table of this form.
function databases.table_of(db, name, columns)
  assert(db:exec('DROP TABLE IF EXISTS "' .. name .. '"'))
  assert(db:exec(('CREATE TABLE "%s" (%s)'):format(name, columns)))
end

-- The names of all users, in order.
function databases.names_in(db)
  local names = {}
  for i, row in ipairs(assert(db:query "SELECT name FROM users ORDER BY id")) do
    names[i] = row.name
  end
  return table.concat(names, " ")
end

function databases.finish()
  if server then
    databases.postgres:close()
    server.remove()
  end
  remove()
  spec.finish()
end

return databases
