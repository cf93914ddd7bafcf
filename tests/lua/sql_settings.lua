-- SPDX-License-Identifier: MIT
--
-- sql_settings.lua - what perilune.sql has to bear: the process's locale, the settings of
-- connections, tables that are altered while they are read, and wrong use.

local spec = require "spec"
local databases = require "databases"
local sql = require "perilune.sql"

local each, table_of = databases.each, databases.table_of
local server = databases.server

-- ---- settings ----

each("numbers have a point, whatever the locale", function(db)
  local real = string.format
  rawset(string, "format", function(...) -- as with os.setlocale "de_DE", which may not be there
    return (real(...):gsub("^(-?%d)%.(%d+[^,]*)$", "%1,%2"))
  end)
  spec.same(("%.17g"):format(0.5), "0,5")
  local rows, message = db:query("SELECT 1 WHERE ? > 0.25", { 0.5 })
  local quoted = table.concat({ db:quote(-1.5), db:quote(1e300), db:quote(2.0) }, " ")
  rawset(string, "format", real)
  spec.same(#assert(rows, message), 1)
  spec.same(quoted, "(-1.5) 1.0000000000000001e+300 2.0")
end)

if databases.postgres then
  spec.test("text is text also on a connection on which backslashes are special", function()
    local connection = assert(require("luasql.postgres").postgres():connect(server.conninfo))
    local db = sql.of(connection)
    connection:execute "SET standard_conforming_strings = off"
    local text = "a\\'; SELECT 1 --"
    spec.same(db:query("SELECT ? AS a, ? AS b", { text, sql.blob(text .. "\0") }), {
      { a = text, b = text .. "\0" } })
    -- to the database the first placeholder is in a string, which what takes its place would end
    local rows, message = db:query([[SELECT 'a\'?', ?, 'c\'?']], { " AS x, version() --" })
    spec.same(rows, nil)
    spec.contains(message, "standard_conforming_strings off")
    connection:execute "SET standard_conforming_strings = on"
    spec.same(db:query([[SELECT '\' AS a, ? AS b]], { "\\" }), { { a = "\\", b = "\\" } })
    connection:close()
  end)
end

databases.finish()
