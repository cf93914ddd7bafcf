-- SPDX-License-Identifier: MIT
--
-- redis.lua - the module over a Redis: what two instances see of each other, and what is answered
-- when the server goes.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local MISS = { null, null, "miss" }

local redis = spec.redis()

local function open(options)
  local all = { redis = redis.url, ns = "spec", log = false }
  return assert(perilune.open(spec.over(all, options)))
end

-- Opens an instance, and waits until it hears of others' writes.
local function open_live(name)
  local cache = open { name = name }
  spec.wait_until("the link is live", function()
    return cache:stats().bus_ok == 1
  end)
  return cache
end

spec.test("nodes shows the server, and how it fares", function()
  local cache <close> = open_live "shown"
  cache:get "k"
  local nodes = cache:nodes()
  spec.same(#nodes, 1)
  spec.contains(nodes[1].address, redis.socket)
  spec.same({ nodes[1].up, nodes[1].breaker, nodes[1].timeouts, nodes[1].errors },
    { true, "closed", 0, 0 })
  assert(nodes[1].connections > 0)
  spec.same(math.type(nodes[1].beat_age), "float")
  spec.same(cache:stats().l2_nodes, 1)
  spec.same(cache:stats().l2_nodes_up, 1)
  spec.contains(cache:prometheus(),
    ('perilune_node_up{cache="shown",node="%s"} 1\n'):format(nodes[1].address))
end)

spec.test("a server that is not there is shown as down, and its breaker as open", function()
  local cache <close> = open { redis = "unix:/nowhere.sock", name = "away" }
  cache:get "k"
  local node = cache:nodes()[1]
  spec.same({ node.up, node.breaker, node.connections }, { false, "open", 0 })
  assert(node.errors > 0)
  spec.same(node.beat_age, nil)
  spec.same(cache:stats().l2_nodes_up, 0)
  assert(cache:stats().l2_breaks > 0)
  spec.contains(cache:prometheus(), "# TYPE perilune_node_errors_total counter\n")
end)

spec.test("a value that one instance sets another reads, first from L2, then from L1", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  spec.returns({ true }, a:set("k", { 1, "two" }))
  local value, _, how = b:get "k"
  spec.same(value, { 1, "two" })
  spec.same(how, "l2")
  -- the notice of the write may come after the first read, which then was not kept
  spec.wait_until("L1 has it", function()
    return select(3, b:get "k") == "l1"
  end)
end)

spec.test("delete, a new value and a tag reach the other's L1", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("k", "1", { tags = { "t" } })
  spec.same(b:get "k", "1")
  a:set("k", "2", { tags = { "t" } })
  spec.wait_until("the new value arrives", function()
    return b:get "k" == "2"
  end)
  a:invalidate_tag "t"
  spec.wait_until("the tag's value goes", function()
    return select(3, b:get "k") == "miss"
  end)
  b:set("k", "3")
  spec.wait_until("the third value arrives", function()
    return a:get "k" == "3"
  end)
  b:delete "k"
  spec.wait_until("the deleted value goes", function()
    return select(3, a:get "k") == "miss"
  end)
  a:set("k", "4")
  spec.same(b:get "k", "4")
  a:clear()
  spec.wait_until("the cleared value goes", function()
    return select(3, b:get "k") == "miss"
  end)
end)

spec.test("nil is cached for all", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("absent", nil)
  spec.returns({ null, null, "negative" }, b:get "absent")
end)

spec.test("what one instance loads the other reads", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  spec.returns({ "v", null, "loaded" }, a:get("loaded", nil, function()
    return "v"
  end))
  spec.returns({ "v", null, "l2" }, b:get("loaded", nil, function()
    error "not to be called"
  end))
end)

spec.test("l2 = false looks at L1 alone, l1 = false at L2 alone", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("tiers", "v")
  spec.returns(MISS, b:get("tiers", { l2 = false }))
  spec.returns({ "v", null, "l2" }, a:get("tiers", { l1 = false }))
end)

spec.test("get_many reads what L1 lacks from L2", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("m:1", "one")
  a:set("m:2", 2)
  spec.wait_until("L1 has one of them", function()
    return select(3, b:get "m:1") == "l1"
  end)
  local values, hows = b:get_many { "m:1", "m:2", "m:3" }
  spec.same(values, { "one", 2 })
  spec.same(hows, { "l1", "l2", "miss" })
end)

spec.test("nx and xx look at what Redis has", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("cond", "1")
  spec.returns({ null, null, "not_stored" }, b:set("cond", "2", { nx = true }))
  spec.returns({ true }, b:set("cond", "3", { xx = true }))
  spec.returns({ true }, b:touch("cond", 60))
  spec.returns(MISS, b:touch("nothing", 60))
end)

spec.test("a long value comes from L2 too", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  local long = ("long"):rep(10000)
  a:set("long", long)
  spec.same(b:get "long", long)
  spec.same(b:get "long", long)
end)

spec.test("bytes in Redis that are none of ours are a miss", function()
  local a <close> = open()
  a:set("bad", "v")
  local keys = redis.command "--scan --pattern '*bad*'"
  local found = 0
  for key in keys:gmatch "[^\n]+" do
    found = found + 1
    redis.command(("set '%s' rubbish"):format(key))
  end
  assert(found > 0, "no key of ours in Redis")
  spec.returns(MISS, a:get("bad", { l1 = false }))
end)

spec.test("the statistics tell the tiers apart", function()
  local a <close> = open_live "a"
  local b <close> = open_live "b"
  a:set("s", "v")
  local count = { l1 = 0, l2 = 0 }
  spec.wait_until("L1 has it", function()
    local _, _, how = b:get "s"
    count[how] = count[how] + 1
    return how == "l1"
  end)
  b:get "s:nothing"
  local stats = b:stats()
  spec.same(stats.gets, count.l1 + count.l2 + 1)
  spec.same(stats.l1_hits, 1)
  spec.same(stats.l2_hits, count.l2)
  spec.same(stats.misses, 1)
  spec.contains(b:prometheus(), 'perilune_l1_hits_total{cache="b"} 1\n')
end)

spec.test("with Redis gone a set is nil, message, code, and what L1 has is served", function()
  local a <close> = open { stale_if_error = "1h" }
  spec.wait_until("the link is live", function()
    return a:stats().bus_ok == 1
  end)
  a:set("kept", "v")
  a:get "kept"
  redis.stop()
  spec.wait_until("the loss is noticed", function()
    return a:stats().bus_ok == 0
  end)
  local stored, message, code = a:set("k", "v")
  spec.same(stored, nil)
  spec.same(type(message), "string")
  assert(code == "l2_down" or code == "timeout", code)
  spec.same(a:get "kept", "v")
end)

-- ---- replicas ----

-- A server that others can follow: at a port, which is found by trying.
local function at_a_port()
  local server = spec.redis()
  for _ = 1, 100 do
    local port = math.random(20000, 30000)
    if server.command("config set port " .. port) == "OK\n" then
      return server, port
    end
  end
  error "no port"
end

spec.test("reads go to a replica where the call or the policy says so", function()
  local primary <close>, port = at_a_port()
  local replica <close> = at_a_port()
  replica.command("replicaof 127.0.0.1 " .. port)
  spec.wait_until("the replica is linked", function()
    return replica.command("role"):find "connected" ~= nil
  end)
  local cache <close> = open { redis = primary.url }
  spec.returns({ true }, cache:set("article:1", "text"))
  spec.wait_until("the replica is read from", function()
    return cache:get("article:1", { read = "replica", l1 = false }) == "text"
      and cache:stats().replica_hits > 0
  end)
  spec.same(cache:stats().l2_replicas, 1)
  local output, code, errors = spec.run(("%s run %s %s"):format(assert(os.getenv "PERILUNE"),
    assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/replicas.lua", primary.url))
  spec.same(errors, "")
  spec.same(code, 0)
  spec.contains(output, "of 20 articles 20 were right")
  spec.contains(output, "from 1 replicas")
  spec.contains(output, "text 7")
end)

spec.test("the example of events runs", function()
  local server <close> = spec.redis()
  local output, code, errors = spec.run(("%s run %s %s"):format(os.getenv "PERILUNE",
    assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/events.lua", server.url))
  spec.same(code, 0, errors)
  spec.contains(errors, "events: stream 'shop:events', entry ")
  spec.contains(output, "product:1 is void\tprice 2")
  spec.contains(output, "product:2 is void, then all that carry the tag")
  spec.contains(output, "reason\tno cache.on of the policy names the event 'product.chagned'")
end)

spec.test("the example of several servers runs, and a dead one costs its own keys alone", function()
  local ring = { spec.redis(), spec.redis(), spec.redis() }
  local example = assert(arg[0]:match "^(.*)tests/lua/") .. "scripts/examples/several.lua"
  local output = os.tmpname()
  local program = assert(io.popen(("%s run %s redis+ring://%s,%s,%s >%s 2>&1"):format(
    os.getenv "PERILUNE", example, ring[1].url, ring[2].url, ring[3].url, output), "w"))
  local function said()
    local file <close> = assert(io.open(output))
    return file:read "a"
  end
  spec.wait_until("the example waits", function()
    return said():find "press enter" ~= nil
  end)
  ring[2].stop()
  program:write "\n"
  spec.returns({ true, "exit", 0 }, program:close())
  local text = said()
  os.remove(output)
  ring[1].stop()
  ring[3].stop()
  spec.contains(text, "of 60 articles 60 were right, 0 were away")
  spec.contains(text, ring[2].socket .. ": breaker closed, 0 timeouts")
  local right, away = text:match ".*of 60 articles (%d+) were right, (%d+) were away"
  spec.same(tonumber(right) + tonumber(away), 60)
  spec.same(tonumber(away) > 0 and tonumber(right) > 0, true)
end)

redis.stop()
spec.finish()
