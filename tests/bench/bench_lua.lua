-- SPDX-License-Identifier: MIT
--
-- bench_lua.lua - what a hit costs a Lua program, beside what it could cost at least (a C function
-- that pushes a string) and what Lua programs use instead (a table, an LRU written in Lua, under
-- LuaJIT lua-resty-lrucache); what a table costs that is known already, and one that is decoded.
--
-- usage: perilune run bench_lua.lua [10k] [1m] [--build FOLDER]
--
-- All are called in the same loop, in turn, over the same sequence of keys: 16 bytes, Zipf 0.99.
-- The loop's own cost is in every figure. One line per measurement goes to standard output; a ratio
-- that has a goal shows it.

local perilune = require "perilune"

local sizes, build = {}, (arg[-2] or ""):match "^(.*)/lua/perilune$" or "build"
do
  local i = 1
  while arg[i] do
    if arg[i] == "--build" then
      build, i = arg[i + 1], i + 1
    else
      sizes[#sizes + 1] = arg[i]
    end
    i = i + 1
  end
end
if #sizes == 0 then
  sizes = { "10k", "1m" }
end
package.cpath = build .. "/tests/bench/?.so;" .. package.cpath
local floor = require "floor"

local RUNS = 7
local SETUPS = {
  ["10k"] = { keys = 10000, ops = 400000, budget = "8m" }, -- as in the benchmark of L1
  ["1m"] = { keys = 1000000, ops = 600000, budget = "512m" },
}
local VALUE_BYTES = 100

local function note(format, ...)
  io.stderr:write(format:format(...), "\n")
end

---------------------------------------------------------------------------------------------------
-- the machine

local function first_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read "l"
  pipe:close()
  return line or "?"
end

local function print_machine()
  print(('machine cores=%s cpu="%s" kernel=%s compiler="%s"'):format(first_line "nproc",
    first_line "sed -n 's/^model name[^:]*: //p' /proc/cpuinfo", first_line "uname -r",
    first_line "cc --version"))
end

-- Seconds that all cores together have been busy since the start of the machine.
local function busy_seconds()
  local file = assert(io.open "/proc/stat")
  local line = file:read "l"
  file:close()
  local user, nice, system = line:match "^cpu%s+(%d+) (%d+) (%d+)"
  return (user + nice + system) / 100
end

---------------------------------------------------------------------------------------------------
-- the work

-- A sequence of key numbers: Zipf 0.99 by the sums of the weights, ranks scattered over the keys.
local function sequence(n_keys, n_ops)
  local sums, total, order = {}, 0.0, {}
  for i = 1, n_keys do
    total = total + 1 / i ^ 0.99
    sums[i], order[i] = total, i
  end
  for i = n_keys, 2, -1 do
    local j = math.random(i)
    order[i], order[j] = order[j], order[i]
  end
  local chosen = {}
  for op = 1, n_ops do
    local wanted, low, high = math.random() * total, 1, n_keys
    while low < high do
      local middle = (low + high) // 2
      if sums[middle] < wanted then
        low = middle + 1
      else
        high = middle
      end
    end
    chosen[op] = order[low]
  end
  return chosen
end

-- An LRU as one writes it in Lua: a table, and a list through its entries.
local function plain_lru(max)
  local entries, head, n = {}, {}, 0
  head.next, head.previous = head, head
  local function unlink(entry)
    entry.previous.next, entry.next.previous = entry.next, entry.previous
  end
  local function link(entry)
    entry.next, entry.previous = head.next, head
    head.next.previous, head.next = entry, entry
  end
  local lru = {}
  function lru.get(_, key)
    local entry = entries[key]
    if entry then
      unlink(entry)
      link(entry)
      return entry.value
    end
  end
  function lru.set(_, key, value)
    if n == max then
      local last = head.previous
      unlink(last)
      entries[last.key] = nil
      n = n - 1
    end
    n = n + 1
    entries[key] = { key = key, value = value }
    link(entries[key])
  end
  return lru
end

-- Each loop is written out, so that all pay for the same: an index, and a call where there is one.
local function loop_floor(push)
  return function(ops)
    for i = 1, #ops do
      local _ = push(ops[i])
    end
  end
end

local function loop_get(cache)
  return function(ops)
    for i = 1, #ops do
      local _ = cache:get(ops[i])
    end
  end
end

-- A program of its own, which takes its turn when it is told to; nil where it cannot run.
local function start_resty(n_keys, chosen)
  -- where ./dev has put it: Debian 12's package wants a LuaJIT that Debian 12 has not
  local luajit = ("LUA_PATH='%s/resty/usr/share/lua/5.1/?.lua;;' luajit"):format(build)
  local probe = luajit .. [[ -e 'ngx = {} print((pcall(require, "resty.lrucache")))' 2>&1]]
  if first_line(probe) ~= "true" then
    note "no lua-resty-lrucache under LuaJIT: left out"
    return nil
  end
  local folder = first_line "mktemp -d"
  local file = assert(io.open(folder .. "/requests", "w"))
  file:write(table.concat(chosen, "\n"), "\n")
  file:close()
  assert(os.execute("mkfifo " .. folder .. "/answers"))
  local script = arg[0]:gsub("bench_lua%.lua$", "bench_resty.lua")
  local program = assert(io.popen(("%s %s %d %s/requests >%s/answers"):format(luajit, script,
    n_keys, folder, folder), "w"))
  local answers = assert(io.open(folder .. "/answers"))
  local resty = {}
  function resty.run()
    program:write "go\n"
    program:flush()
    return assert(tonumber(answers:read "l"))
  end
  function resty.stop()
    program:close()
    answers:close()
    os.execute("rm -rf " .. folder)
  end
  return resty
end

local function loop_table(values)
  return function(ops)
    for i = 1, #ops do
      local _ = values[ops[i]]
    end
  end
end

---------------------------------------------------------------------------------------------------
-- measuring

-- Nanoseconds per operation of one run, and whether other programs were busy meanwhile.
local function measure(contestant, ops)
  collectgarbage()
  local busy, own, start, child_ns = busy_seconds(), os.clock(), perilune.clock(), nil
  if contestant.run then
    child_ns = contestant.run()
  else
    contestant.loop(ops)
  end
  local took = perilune.clock() - start
  local others = busy_seconds() - busy - (child_ns and took or os.clock() - own)
  return child_ns or took / #ops * 1e9, others > 0.05 * took + 0.02
end

local function median(list)
  local sorted = table.move(list, 1, #list, 1, {})
  table.sort(sorted)
  return sorted[(#sorted + 1) // 2], sorted[1], sorted[#sorted]
end

-- Measures all contestants in turn, RUNS times; returns the medians by name.
local function compare(contestants, ops)
  local times, noisy, medians = {}, {}, {}
  for _, contestant in ipairs(contestants) do
    times[contestant.name] = {}
    measure(contestant, ops) -- warm up
  end
  for run = 1, RUNS do
    for _, contestant in ipairs(contestants) do
      local ns, is_noisy = measure(contestant, ops)
      times[contestant.name][run] = ns
      noisy[contestant.name] = noisy[contestant.name] or is_noisy
    end
  end
  for _, contestant in ipairs(contestants) do
    local name = contestant.name
    local middle, least, most = median(times[name])
    medians[name] = middle
    print(("%s ns=%.1f min=%.1f max=%.1f runs=%d%s"):format(name, middle, least, most, RUNS,
      noisy[name] and " noisy=1" or ""))
  end
  return medians
end

-- Caches of the same keys, each with values of its kind.
local function open_caches(setup)
  local function open(more)
    local options = { max_bytes = setup.budget, ttl = "1h" }
    for name, value in pairs(more or {}) do
      options[name] = value
    end
    return assert(perilune.open(options))
  end
  return { strings = open(), short = open(), same = open(), decode = open { decoded = "none" } }
end

local function print_ratio(name, medians, of, to, goal)
  print(("%s ratio=%.2f%s"):format(name, medians[of] / medians[to],
    goal and (" goal=%.1f"):format(goal) or ""))
end

local function fill(setup, caches, has_tables)
  local values, lru, keys = {}, plain_lru(setup.keys), {}
  for i = 1, setup.keys do
    local key = ("key:%012d"):format(i)
    local value = ("%08d"):format(i) .. ("v"):rep(VALUE_BYTES - 8)
    keys[i], values[key] = key, value
    lru:set(key, value)
    assert(caches.strings:set(key, value))
    if has_tables then
      local object = { id = i, name = "name of " .. i, tags = { "one", "two" } }
      assert(caches.short:set(key, ("%016d"):format(i)))
      assert(caches.same:set(key, object))
      assert(caches.decode:set(key, object))
    end
  end
  return keys, values, lru
end

local function bench(size)
  local setup, has_tables = assert(SETUPS[size], "sizes are 10k and 1m"), size == "10k"
  note("%s: making keys and values", size)
  local caches = open_caches(setup)
  local keys, values, lru = fill(setup, caches, has_tables)
  local chosen, ops = sequence(setup.keys, setup.ops), {}
  for i = 1, #chosen do
    ops[i] = keys[chosen[i]]
  end
  for _, key in ipairs { ops[1], ops[#ops] } do
    local value, _, how = caches.strings:get(key)
    assert(value == values[key] and how == "l1", "the cache does not hold what it was given")
  end
  local contestants = {
    { name = "lua.floor.string." .. size, loop = loop_floor(floor.pusher(values[keys[1]])) },
    { name = "lua.get.string." .. size, loop = loop_get(caches.strings) },
    { name = "lua.table." .. size, loop = loop_table(values) },
    { name = "lua.plainlru." .. size, loop = loop_get(lru) },
  }
  local resty = start_resty(setup.keys, chosen)
  if resty then
    contestants[#contestants + 1] = { name = "lua.resty." .. size, run = resty.run }
  end
  if has_tables then
    contestants[#contestants + 1] = { name = "lua.get.short.10k", loop = loop_get(caches.short) }
    contestants[#contestants + 1] = { name = "lua.get.table.same", loop = loop_get(caches.same) }
    contestants[#contestants + 1] = { name = "lua.get.table.decode",
      loop = loop_get(caches.decode) }
  end
  local medians = compare(contestants, ops)
  print_ratio("lua.get.string." .. size .. ".vs.floor", medians, "lua.get.string." .. size,
    "lua.floor.string." .. size, size == "10k" and 1.3 or 1.5)
  if has_tables then
    print_ratio("lua.get.table.same.vs.string", medians, "lua.get.table.same",
      "lua.get.string.10k")
    print_ratio("lua.get.table.same.vs.short", medians, "lua.get.table.same", "lua.get.short.10k",
      1.3)
  end
  if resty then
    resty.stop()
  end
  for _, cache in pairs(caches) do
    cache:close()
  end
end

math.randomseed(42)
print_machine()
for _, size in ipairs(sizes) do
  bench(size)
end
