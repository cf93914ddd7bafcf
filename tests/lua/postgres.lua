-- SPDX-License-Identifier: MIT
--
-- postgres.lua - a real PostgreSQL whose changes make void what caches hold of it: the example of
-- scripts/examples: postgres_events.sql, postgres_bridge.c, events_policy.lua.
--
-- usage: lua5.4 postgres.lua BRIDGE

local spec = require "spec"
local perilune = require "perilune"
local postgres_server = require "postgres_server"

local bridge = arg[1]
local examples = assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/"
local program = assert(os.getenv "PERILUNE")

local server = bridge and postgres_server.start()
if not server then
  print "1..0 # SKIP PostgreSQL, or its library, is not installed"
  os.exit(0)
end
local keep, sql, psql, folder = postgres_server.keep, server.sql, server.psql, server.folder
local conninfo = server.conninfo
local redis = spec.redis()

spec.run(psql .. "-f " .. examples .. "postgres_events.sql")
sql [[CREATE TABLE product (id integer PRIMARY KEY, shop integer, name text)]]
sql [[CREATE TRIGGER tell_perilune AFTER INSERT OR UPDATE OR DELETE ON product
  FOR EACH ROW EXECUTE FUNCTION perilune_changed('product.changed', 'id', 'shop')]]

local function start_bridge(url)
  return keep(("exec %s '%s' %s shop:events 2>>%s/bridge.log"):format(bridge, conninfo,
    url or redis.url, folder), "TERM")
end

-- ---- two processes ----

local function load_name(key)
  local name = sql("SELECT name FROM product WHERE id = " .. key:match "%d+")
  return name ~= "" and name or nil
end

-- Prints the name whenever it is another one than before; to standard output, a line each.
local reader = spec.write(folder .. "/reader.lua", ([[
  local perilune = require "perilune"
  local cache <close> = assert(perilune.open { redis = %q, ns = "shop", policy = %q, negative = 0 })
  io.stdout:setvbuf "line"
  local last
  while true do
    local name = cache:get("product:7", function()
      local pipe = io.popen(%q)
      local name = pipe:read "l"
      pipe:close()
      return name
    end)
    if tostring(name) ~= last then
      last = tostring(name)
      print(last)
    end
    os.execute "sleep 0.01"
  end
]]):format(redis.url, examples .. "events_policy.lua",
  psql .. "-c 'SELECT name FROM product WHERE id = 7'"))
local said = folder .. "/said"
local stop_reader

local cache = assert(perilune.open { redis = redis.url, ns = "shop", negative = 0,
  policy = examples .. "events_policy.lua" })

local function read_here()
  local value, _, how = cache:get("product:7", load_name)
  return value, how
end

-- Both processes serve this name; here out of memory.
local function await(name)
  spec.wait_until("it is " .. tostring(name) .. " here", function()
    return tostring(read_here()) == tostring(name)
  end)
  spec.wait_until("it is " .. tostring(name) .. " there", function()
    local last
    for line in io.lines(said) do
      last = line
    end
    return last == tostring(name)
  end)
end

local function await_in_memory(name)
  spec.wait_until("it is in memory", function()
    local value, how = read_here()
    return value == name and how == "l1"
  end)
end

sql "INSERT INTO product VALUES (7, 3, 'old')"
local stop_bridge = start_bridge()
spec.write(said, "")
stop_reader = keep(("exec %s run %s >%s"):format(program, reader, said), "TERM")

spec.test("a row that plain SQL updates is not served in its old form by two processes", function()
  await "old"
  await_in_memory "old"
  sql "UPDATE product SET name = 'new' WHERE id = 7"
  await "new"
end)

spec.test("deleted and inserted rows are told of, and those that change their key twice", function()
  await_in_memory "new"
  sql "DELETE FROM product WHERE id = 7"
  await(nil)
  sql "INSERT INTO product VALUES (7, 3, 'again')"
  await "again"
  await_in_memory "again"
  sql "UPDATE product SET id = 8 WHERE id = 7"
  await(nil)
  sql "UPDATE product SET id = 7 WHERE id = 8"
  await "again"
end)

spec.test("a change that is rolled back is no event", function()
  spec.wait_until("the outbox is empty", function()
    return sql "SELECT count(*) FROM perilune_outbox" == "0"
  end)
  local before = redis.command "XLEN shop:events"
  sql "BEGIN; UPDATE product SET name = 'never' WHERE id = 7; ROLLBACK"
  spec.same(sql "SELECT count(*) FROM perilune_outbox", "0")
  spec.same(redis.command "XLEN shop:events", before)
end)

spec.test("what changed while the bridge was away is handed on when it is back", function()
  await_in_memory "again"
  stop_bridge()
  sql "UPDATE product SET name = 'later' WHERE id = 7"
  spec.same(sql "SELECT event, fields FROM perilune_outbox",
    'product.changed|{"id": 7, "shop": 3}')
  stop_bridge = start_bridge "unix:/nowhere.sock" -- one that cannot hand it on keeps it
  spec.wait_until("it complains", function()
    local file <close> = io.open(folder .. "/bridge.log")
    return file:read "a":find("redis: ", 1, true)
  end)
  stop_bridge()
  spec.same(sql "SELECT count(*) FROM perilune_outbox", "1")
  stop_bridge = start_bridge()
  await "later"
  spec.same(sql "SELECT count(*) FROM perilune_outbox", "0")
end)

spec.test("a database that dies and comes back is listened to again", function()
  await_in_memory "later"
  server.stop()
  server.start()
  sql "UPDATE product SET name = 'reborn' WHERE id = 7"
  await "reborn"
end)

spec.test("an event of one's own makes void what no trigger tells of", function()
  await_in_memory "reborn"
  sql [[ALTER TABLE product DISABLE TRIGGER tell_perilune;
    UPDATE product SET name = 'imported' WHERE id = 7;
    ALTER TABLE product ENABLE TRIGGER tell_perilune]]
  sql "SELECT perilune_raise('products.imported')"
  await "imported"
  spec.same(redis.command "XLEN shop:events:dead", "0\n")
end)

cache:close()
stop_reader()
stop_bridge()
redis.stop()
server.remove()
spec.finish()
