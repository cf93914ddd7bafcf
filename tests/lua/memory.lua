-- SPDX-License-Identifier: MIT
--
-- memory.lua - perilune.memory: instances over a server in memory, and what a test can make go
-- wrong with it, each told by what the instances then answer.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null
local MISS = { null, null, "miss" }

local function open(name, options)
  local all = { name = name, redis = "memory:spec", ns = "spec", log = false, timeout = "50ms" }
  return assert(perilune.open(spec.over(all, options)))
end

-- Runs a test with a fresh memory and two instances of it.
local function test(title, body)
  spec.test(title, function()
    local memory <close> = perilune.memory "spec"
    local a <close> = open "a"
    local b <close> = open "b"
    body(memory, a, b)
  end)
end

test("instances that name one memory share it, and hear of each other at once", function(_, a, b)
  spec.returns({ true }, a:set("k", { 1 }, { tags = { "t" } }))
  spec.same(b:get "k", { 1 })
  spec.same(select(3, b:get "k"), "l1")
  a:set("k", "2", { tags = { "t" } })
  spec.same(b:get "k", "2")
  b:invalidate_tag "t"
  spec.returns(MISS, a:get "k")
  a:set("k", "3")
  b:clear()
  spec.returns(MISS, a:get "k")
  spec.same(a:stats().bus_ok, 1)
  spec.same(a:nodes()[1].up, true)
end)

spec.test("a memory is gone with its last user, and a handle is one", function()
  local memory = perilune.memory "spec"
  local a = open("a", { redis = "memory://spec" })
  a:set("k", "v")
  a:close()
  a = open "a"
  spec.same(a:get "k", "v")
  memory:close()
  memory:close()
  a:close()
  a = open "a"
  spec.returns(MISS, a:get "k")
  a:close()
  spec.raises("attempt to use a closed memory", memory.stats, memory)
  spec.same(tostring(memory), "perilune.memory (closed)")
end)

test("a long value that L1 does not keep is read once", function(_, a, b)
  local folder, remove = spec.folder()
  local long = ("x"):rep(20000)
  assert(b:load_policy(spec.write(folder .. "/policy.lua", 'cache.rule "far:{id}" { l1 = false }')))
  remove()
  a:set("far:1", long)
  a:set("near:1", long)
  local before = b:stats()
  spec.returns({ long, null, "l2" }, b:get "far:1")
  spec.returns({ long, null, "l2" }, b:get "far:1")
  spec.returns({ long, null, "l2" }, b:get "near:1")
  spec.returns({ long, null, "l1" }, b:get "near:1")
  local after = b:stats()
  spec.same({ after.gets - before.gets, after.l2_hits - before.l2_hits,
    after.peeks - before.peeks }, { 4, 3, 0 })
end)

test("held messages are delivered by hand", function(memory, a, b)
  a:set("k", "old")
  b:get "k"
  memory:faults { hold = true }
  a:set("k", "new")
  a:set("k", "newer")
  spec.same(b:get "k", "old")
  spec.same(memory:stats().waiting, 2)
  spec.same(memory:deliver(5, a), 0)
  spec.same(memory:deliver(1), 1)
  spec.same(memory:deliver(), 1)
  spec.same(b:get "k", "newer")
  memory:faults {}
end)

test("late messages come by themselves, doubled and in another order", function(memory, a, b)
  memory:faults { seed = 1, message_delay = "2ms", message_random = 0.003, duplicate = "50%",
    reorder = 4 }
  for i = 1, 50 do
    a:set(i % 5, i)
    b:get((i + 2) % 5)
  end
  spec.wait_until("all is heard", function()
    return memory:stats().waiting == 0
  end)
  for i = 46, 50 do
    spec.same(b:get(i % 5), i)
  end
  assert(memory:stats().duplicated > 0, "none came twice")
end)

test("a message that is lost is noticed with the next, one lost with the link when it is back",
  function(memory, a, b)
    a:set("k", "old")
    b:get "k"
    memory:faults({ lose = 1 }, b)
    a:set("k", "new")
    spec.same(b:get "k", "old")
    spec.same(memory:stats().lost, 1)
    memory:faults()
    a:set("other", 1)
    spec.same(b:get "k", "new")
    spec.same(b:stats().bus_gaps, 1)
    memory:part(b)
    a:set("k", "newer")
    memory:join(b)
    spec.same(b:get "k", "newer")
    spec.same(b:stats().bus_losses, 2)
    spec.same(b:stats().bus_repairs, 2)
    spec.same(a:stats().bus_losses, 0)
  end)

test("cut off, an instance serves what it has as stale", function(memory, a)
  a:set("k", "v")
  spec.same(memory:cut(), memory)
  spec.wait_until("what L1 has is in doubt", function()
    return select(3, a:get("k", { max_staleness = "1ms" })) == "stale"
  end)
  local value, message, code = a:get "other"
  spec.same(value, nil)
  spec.contains(message, "memory:spec")
  spec.same(code, "l2_down")
  memory:cut("hang", a)
  spec.same(select(3, a:get "other"), "timeout")
  memory:heal()
  spec.returns({ "v", null, "l1" }, a:get "k")
end)

test("only the cache that is named is cut off", function(memory, a, b)
  memory:cut(b)
  spec.returns({ true }, a:set("k", "v"))
  spec.same(select(3, b:set("k", "w")), "l2_down")
end)

test("a command that comes too late may have been carried out", function(memory, a, b)
  memory:faults({ delay = 60, carried_out = 1 }, a)
  spec.same(select(3, a:set("k", "v")), "timeout")
  spec.same(b:get "k", "v")
  memory:faults({ delay = 60 }, a)
  spec.same(select(3, a:set("k", "w")), "timeout")
  spec.same(b:get "k", "v")
  memory:faults { delay = "1ms", delay_random = "1ms" }
  spec.returns({ true }, a:set("k", "w"))
  local stats = memory:stats()
  spec.same(stats.late, 2)
  spec.same(stats.carried_out, 1)
end)

test("writes may be refused", function(memory, a)
  memory:faults { out_of_memory = true }
  local stored, message, code = a:set("k", "v")
  spec.same(stored, nil)
  spec.contains(message, "OOM")
  spec.same(code, "l2_error")
  spec.returns({ true }, a:delete "k")
  memory:faults { read_only = true }
  spec.contains(select(2, a:delete "k"), "READONLY")
end)

test("a memory forgets, and evicts", function(memory, a, b)
  for i = 1, 20 do
    a:set(i, i)
  end
  memory:faults { seed = 3 }
  local evicted = memory:evict "50%"
  assert(evicted > 0 and evicted < 20, evicted)
  spec.same(memory:stats().values, 20 - evicted)
  spec.same(a:get "1", 1) -- of an eviction nobody is told
  b:get "1" -- so that it listens
  memory:forget()
  spec.returns(MISS, a:get "1")
  spec.same(memory:stats().values, 0)
  spec.same(b:stats().bus_losses, 1)
end)

test("what is misspelt raises", function(memory, a)
  spec.raises("unknown option 'los', did you mean 'lose'?", memory.faults, memory, { los = 1 })
  spec.raises("option 'delay' must be a duration, such as 0.5 or \"20ms\", got string 'soon'",
    memory.faults, memory, { delay = "soon" })
  spec.raises("option 'hold' must be true or false, got number '1'", memory.faults, memory,
    { hold = 1 })
  spec.raises("option 'reorder' must be a whole number", memory.faults, memory, { reorder = -1 })
  spec.raises("option 'seed' must be a whole number", memory.faults, memory, { seed = "7" })
  spec.raises("lose: must be a share from 0 to 1, got 2", memory.faults, memory, { lose = 2 })
  spec.raises("invalid option 'hung'", memory.cut, memory, "hung")
  spec.raises("perilune.cache expected, got nil", memory.part, memory, nil)
  spec.raises("perilune.cache expected, got table", memory.part, memory, {})
  spec.raises("n must not be negative", memory.deliver, memory, -1)
  spec.raises("expected a share", memory.evict, memory)
  spec.raises("a name has 1 to 64 letters", perilune.memory, "no/name")
  spec.raises("a name has 1 to 64 letters", perilune.open, { redis = "memory:" })
  local other <close> = open("other", { redis = "memory:other" })
  spec.raises("memory:spec: cache 'other' does not use it", memory.part, memory, other)
  a:close()
  spec.raises("attempt to use a closed cache", memory.part, memory, a)
end)

spec.finish()
