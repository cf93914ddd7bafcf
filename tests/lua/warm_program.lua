-- SPDX-License-Identifier: MIT
--
-- warm_program.lua - `perilune warm`: what it loads, shows, prints, tells the service manager, and
-- how it exits. PERILUNE names the program.

local spec = require "spec"

local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
local folder, remove_folder = spec.folder()

local function perilune(arguments, before)
  return spec.run(("%s env -u LUA_PATH -u LUA_CPATH -u LUA_INIT '%s' %s"):format(before or "",
    program, arguments))
end

local function file(name, text)
  return spec.write(folder .. "/" .. name, text)
end

local redis = spec.redis()
local at = "warm --redis " .. redis.url .. " "

local policy = file("policy.lua", [[
cache.rule "user:{id}" { ttl = "1h", load = function(_, m) return "user " .. m.id end }
cache.rule "slow:{id}" { ttl = "1h", load = function(key) return key end }
cache.rule "bad:{id}" { ttl = "1h", load = function() error "no such source" end }
cache.rule "here:{id}" { ttl = "1h", l2 = false, load = function(key) return key end }
cache.warm {
  keys { "user:1", "user:2" },
  keys(function() return { "user:3" } end),
}
]])

spec.test("the summary has a row for each source, and all of them", function()
  local output, code, said = perilune(at .. "--ns a -p " .. policy)
  spec.same(said, "")
  spec.same(code, 0)
  spec.contains(output, "source      wanted    loaded   present    failed\n")
  spec.contains(output, "keys             2         2         0         0\n")
  spec.contains(output, "function         1         1         0         0\n")
  spec.contains(output, "3 keys: 3 loaded, 0 were there, 0 failed, in ")
end)

spec.test("--list loads a list in the place of the policy's, --top its first keys", function()
  local list = file("keys", "# hot\nuser:7\nuser:8\nuser:9\n")
  local output, code = perilune(at .. "--ns b --top 2 --list " .. list .. " -p " .. policy)
  spec.contains(output, "2 keys: 2 loaded")
  spec.same(code, 0)
  output, code = perilune(at .. "--ns b --json --rate 500/s --concurrency 2 --list " .. list ..
    " -p " .. policy)
  spec.contains(output, '"loaded":1,')
  spec.contains(output, '"present":2,')
  spec.contains(output, '"sources":[{"failed":0,"loaded":1,"present":2,"source":"file ' .. list)
  spec.same(code, 0)
  local _, exit, said = perilune(at .. "--list /nowhere/keys -p " .. policy)
  spec.same(exit, 1)
  spec.contains(said, "/nowhere/keys: No such file")
end)

spec.test("what failed is told, with the reason of the first", function()
  local output, code = perilune(at .. "--ns c -p " .. policy .. " --list " ..
    file("broken", "bad:1\nuser:1\n"))
  spec.contains(output, "1 failed")
  spec.contains(output, "the first failure: bad:1: policy.lua:3: rule 'bad:{id}': load: ")
  spec.same(code, 1)
end)

spec.test("it exits with 0 only where all is in Redis", function()
  local list = file("mixed", "user:1\nhere:1\n")
  for ns, option in pairs { d = "", d2 = "--l2-only" } do
    local output, code = perilune(("%s --ns %s %s --list %s -p %s"):format(at, ns, option, list,
      policy))
    spec.contains(output, "1 keys: 1 loaded")
    spec.same(code, 0)
    output, code = perilune(("warm --redis unix:/nowhere.sock %s -p %s"):format(option, policy))
    spec.contains(output, "3 keys: 0 loaded, 0 were there, 3 failed")
    spec.same(code, 1)
    local _, exit, said = perilune(("warm %s -p %s"):format(option, policy))
    spec.same(exit, 2)
    spec.contains(said, "warm wants --redis URL")
  end
end)

spec.test("values that Redis has no room for have failed", function()
  local cli = "redis-cli -s " .. redis.socket .. " config set maxmemory "
  spec.run(cli .. "1")
  local output, code = perilune(at .. "--ns full -p " .. policy)
  spec.run(cli .. "0")
  spec.contains(output, "3 keys: 0 loaded, 0 were there, 3 failed")
  spec.contains(output, "the first failure: user:")
  spec.same(code, 1)
end)

spec.test("the sources are a list also where the policy names none", function()
  local output, code = perilune(at .. "--json -p " .. file("none.lua", 'cache.rule "*" {}'))
  spec.contains(output, '"sources":[]')
  spec.same(code, 0)
end)

spec.test("a deadline is any duration", function()
  for i, deadline in ipairs { "1d", "2w", "3min", "0.5h", "90000" } do
    local output, code = perilune(("%s --ns w%d --deadline %s -p %s"):format(at, i, deadline,
      policy))
    spec.contains(output, "3 keys: 3 loaded")
    spec.same(code, 0)
  end
end)

spec.test("a wrong value is wrong usage", function()
  for option, message in pairs {
    ["--rate fast"] = "'--rate' must be keys per second from 1e-6 to 1e9",
    ["--rate 9e-7/s"] = "'--rate' must be keys per second from 1e-6 to 1e9",
    ["--rate 1e400"] = "'--rate' must be keys per second from 1e-6 to 1e9",
    ["--top 0"] = "'--top' must be a whole number from 1",
    ["--concurrency 300"] = "'--concurrency' must be a whole number from 1 to 256",
    ["--deadline 0s"] = "'--deadline' must be a duration of at least 1 ms",
    ["--deadline 0.0001"] = "'--deadline' must be a duration of at least 1 ms",
    ["--deadline 1y"] = "'--deadline' must be a duration",
    ["--deadline 1..2s"] = "'--deadline' must be a duration",
    ["--deadline forever"] = "'--deadline' must be a duration",
    ["keys.txt"] = "warm takes no arguments; a list is given by --list FILE",
    ["--l2only"] = "did you mean '--l2-only'?",
  } do
    local _, code, said = perilune(at .. "-p " .. policy .. " " .. option)
    spec.same(code, 2, option)
    spec.contains(said, message)
  end
end)

-- Keys that take about a second, at 40 a second.
local slow = file("slow", (function()
  local keys = {}
  for i = 1, 40 do
    keys[i] = "slow:" .. i
  end
  return table.concat(keys, "\n")
end)())

spec.test("a terminal sees one line that is drawn anew, and wiped in the end", function()
  local typescript = folder .. "/typescript"
  local output, code = spec.run(("script -qec '%s %s' %s </dev/null"):format(program,
    at .. "--ns e --rate 40 --list " .. slow .. " -p " .. policy, typescript))
  spec.same(code, 0, output)
  local n = 0
  for done, share in output:gmatch "\r\27%[K(%d+)/40 (%d+)%% [%d.k]+/s 0 failed " do
    n = n + 1
    spec.same(tonumber(done) * 100 // 40, tonumber(share))
  end
  spec.same(n >= 2, true, n .. " lines")
  spec.contains(output, "\r\27[Ksource")
  spec.contains(output, "40 keys: 40 loaded")
end)

spec.test("Ctrl-C ends it with what was done", function()
  local output = spec.run(([[
    %s %s >%s/out 2>&1 &
    pid=$!
    until redis-cli -s %s --raw exists f:v:slow:1 | grep -q 1; do sleep 0.02; done
    kill -INT $pid
    wait $pid
    echo "exit $?"]]):format(program, at .. "--ns f --rate 10 --list " .. slow .. " -p " .. policy,
    folder, redis.socket))
  spec.contains(output, "exit 3")
  spec.contains(io.open(folder .. "/out"):read "a", ", interrupted")
end)

spec.test("two that run at once load once, and the second says whom it waits for", function()
  local again = at .. "--ns g --rate 40 --list " .. slow .. " -p " .. policy
  local output = spec.run(([[
    %s %s >%s/first &
    until redis-cli -s %s --raw exists g:v:slow:1 | grep -q 1; do sleep 0.02; done
    script -qec '%s %s' %s/typescript </dev/null
    wait]]):format(program, again, folder, redis.socket, program, again, folder))
  spec.contains(output, "another instance loads")
  spec.contains(output, "40 keys: 0 loaded, 40 were there")
  spec.contains(io.open(folder .. "/first"):read "a", "40 keys: 40 loaded")
end)

redis.stop()
remove_folder()
spec.finish()
