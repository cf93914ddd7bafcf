-- SPDX-License-Identifier: MIT
--
-- simulate.lua - perilune simulate: what it reads, refuses and prints. PERILUNE names the program;
-- the traces are made here.

local spec = require "spec"

local program = assert(os.getenv "PERILUNE", "PERILUNE must name the program")
local folder, remove_folder = spec.folder()

local function file(name, text)
  return spec.write(folder .. "/" .. name, text)
end

local function simulate(arguments)
  return spec.run(("env -u LUA_PATH -u LUA_CPATH -u LUA_INIT '%s' simulate %s"):format(program,
    arguments))
end

local function succeed(arguments)
  local output, code, said = simulate(arguments)
  spec.same(said, "", "standard error")
  spec.same(code, 0, "exit code")
  return output
end

-- The number that follows a name in JSON, in the n-th place where it does.
local function number(json, name, n)
  local found = 0
  for value in json:gmatch('"' .. name .. '":([%d.]+)') do
    found = found + 1
    if found == (n or 1) then
      return tonumber(value)
    end
  end
  error(("%s is not there %d times: %s"):format(name, n or 1, json), 2)
end

local loading = file("loading.lua", [[
cache.rule "*" { ttl = "10s", load = function() error "a simulation loads nothing" end }
]])
local lasting = file("lasting.lua", [[
cache.rule "*" {
  ttl = "1h",
  load_many = function() error "a simulation loads nothing" end,
  write = through(function() error "a simulation stores nothing" end),
}
]])
local stale = file("stale.lua", [[
cache.rule "*" { ttl = "10s", stale = "1m", load = function() return "" end }
]])

---------------------------------------------------------------------------------------------------

spec.test("the virtual clock is that of the trace's times, or goes by the rate", function()
  local timed = file("timed", "a 100 5\na 100 14.999\na,100,15\nb\t100  \t15.5 \r\n")
  local json = succeed(("-p %s --trace %s --budget 1m --json"):format(loading, timed))
  spec.same(number(json, "l1_hits"), 1)
  spec.same(number(json, "waited"), 3)
  spec.same(number(json, "loaded_bytes"), 300)
  spec.same(number(json, "keys"), 2)
  json = succeed(("-p %s --trace %s --budget 1m --json --rate 1/s"):format(loading, timed))
  spec.same(number(json, "l1_hits"), 2)
  local keys = file("keys", ("a\n"):rep(21))
  json = succeed(("-p %s --trace %s --budget 1m --json --rate 1 --value-size 2k"):format(loading,
    keys))
  spec.same(number(json, "loads"), 3)
  spec.same(number(json, "loaded_bytes"), 3 * 2048)
end)

spec.test("each budget has a row, and the curve a bar", function()
  local lines = {}
  for i = 1, 20000 do
    lines[i] = ("key:%d 500\n"):format(i * i % 1009)
  end
  local trace = file("squares", table.concat(lines))
  local output = succeed(("-p %s --trace %s --budget 1m,64k,256k"):format(lasting, trace))
  spec.contains(output, "squares: 20000 requests of 505 keys within 20.0 seconds")
  spec.contains(output, "\n     64k ")
  spec.contains(output, "\n      1m    97.47 %")
  spec.contains(output, "      1m |" .. ("#"):rep(58) .. " 97.47 %\n")
  spec.same(succeed(("-p %s --trace %s --budget 1m,64k,256k"):format(lasting, trace)), output)
  local json = succeed(("-p %s --trace %s --json"):format(lasting, trace))
  spec.same(number(json, "budget"), 65536)
  spec.same(number(json, "budget", 4), 524288)
  spec.same(select(2, json:gsub('"budget"', "")), 4)
  spec.same(number(json, "waited", 4), 505)
  spec.same(number(json, "evictions", 4), 0)
end)

spec.test("a trace may be packed by xz, where the program was built with liblzma", function()
  if spec.run "command -v xz" == "" then
    return
  end
  local trace = file("packed", "a 10\nb 20\na 10\n")
  spec.run("xz -k " .. trace)
  local output, code, said = simulate(("-p %s --trace %s.xz --budget 64k"):format(loading, trace))
  if said:find("without liblzma", 1, true) then
    return
  end
  spec.same(code, 0, said)
  spec.contains(output, "packed.xz: 3 requests of 2 keys")
  local _, _, cut = simulate(("-p %s --trace %s"):format(loading, file("cut.xz",
    io.open(trace .. ".xz", "rb"):read "a":sub(1, -9))))
  spec.contains(cut, "cut.xz: its xz data is cut short")
end)

spec.test("two policies stand side by side, in text, JSON and SVG", function()
  local trace = file("again", "a 100 0\na 100 12\na 100 13\n")
  local both = ("-p %s --compare %s --trace %s --budget 64k,1m"):format(loading, stale, trace)
  local picture = folder .. "/curve.svg"
  local output = succeed(both .. " --svg " .. picture)
  spec.contains(output, "stale.lua less loading.lua")
  spec.contains(output, "      1m   +33.33 %        +1        -1        +0         +0\n")
  local json = succeed(both .. " --json")
  spec.same(number(json, "stale", 1), 0)
  spec.same(number(json, "stale", 3), 1)
  spec.same(number(json, "refreshes", 3), 1)
  local svg = assert(io.open(picture)):read "a"
  for _, wanted in ipairs { "<svg xmlns=", ">loading.lua</text>", ">stale.lua</text>",
    ">64k</text>",
    ">1m</text>", ">hit ratio</text>", ">budget of L1", ">100 %</text>", "stroke-dasharray",
    "</svg>\n" } do
    spec.contains(svg, wanted)
  end
  spec.same(select(2, svg:gsub("<circle", "")), 3, "a mark for each point, one in the legend")
end)

spec.test("with --l2, what L1 gave up is not loaded again", function()
  local lines = {}
  for i = 0, 1999 do
    lines[i + 1] = ("%d 1000\n"):format(i % 400)
  end
  local trace = file("round", table.concat(lines))
  local arguments = ("-p %s --trace %s --budget 128k"):format(lasting, trace)
  local alone, over = succeed(arguments .. " --json"), succeed(arguments .. " --l2 --json")
  assert(number(alone, "loads") > 1000, alone)
  spec.same(number(over, "loads"), 400)
  spec.same(number(over, "l2_hits"), 1600 - number(over, "l1_hits"))
  spec.contains(succeed(arguments .. " --l2"), "l2 hits")
end)

spec.test("options of the cache hold, and a rule without a load function is loaded too", function()
  local none = file("none.lua", 'cache.rule "a" { ttl = "2s" }\n')
  local trace = file("three", "a 10 0\nb 10 0\na 10 3\nb 10 3\n")
  local json = succeed(("-p %s --trace %s --budget 1m --json --ttl 5s"):format(none, trace))
  spec.same(number(json, "l1_hits"), 1)
  spec.same(number(json, "waited"), 3)
end)

spec.test("functions of a policy that fail on zeros are told", function()
  local picky = file("picky.lua", [[
cache.rule "*" { ttl = function(_, _, value) return value.of.life end,
  load = function() return { ttl = 5 } end }
]])
  local trace = file("one", "a\n")
  local _, code, said = simulate(("-p %s --trace %s --budget 1m"):format(picky, trace))
  spec.same(code, 0)
  spec.contains(said, "picky.lua: its functions failed up to 1 times")
end)

spec.test("alerts of a policy are not for what is simulated", function()
  local alarming = file("alarming.lua", [[
cache.rule "*" { ttl = "1s", load = function() return "" end }
cache.alert "hit-ratio" { below = 0.99, over = "1s", min_requests = 1,
  call = function() io.stderr:write "an alert" end }
]])
  local trace = file("misses", "a 10 0\na 10 5\na 10 10\na 10 15\na 10 20\n")
  succeed(("-p %s --trusted --trace %s --budget 64k"):format(alarming, trace))
end)

---------------------------------------------------------------------------------------------------

spec.test("a bad line is refused by its number", function()
  for text, complaint in pairs {
    ["a\n\nb\n"] = ":2: an empty line",
    ["a 1\nb\n"] = ":2: 1 field, where the lines above have 2",
    ["a\nb 1\n"] = ":2: 2 fields, where the lines above have 1",
    ["a 1 2 3\n"] = ":1: more than a key, a size and a time",
    ["a 12x\n"] = ":1: a size is whole bytes in digits, at most 1 GiB, got '12x'",
    ["a -1\n"] = "got '-1'",
    ["a 1\na 2000000000\n"] = ":2: a size",
    ["a,,1\n"] = ":1: a size is whole bytes in digits, at most 1 GiB, got ''",
    [",1\n"] = ":1: a key of 0 bytes",
    [("k"):rep(4097) .. "\n"] = ":1: a key of 4097 bytes",
    ["a 1 5\na 1 4.5\n"] = ":2: 4.500 s is earlier than the line above, 5.000 s",
    ["a 1 5.\n"] = ":1: a time is seconds, such as 12.5, got '5.'",
    ["a 1 1e3\n"] = "got '1e3'",
    [""] = ":1: empty",
  } do
    local trace = file("bad", text)
    local output, code, said = simulate(("-p %s --trace %s"):format(loading, trace))
    spec.same(output, "")
    spec.same(code, 1, text)
    spec.contains(said, trace)
    spec.contains(said, complaint)
  end
end)

spec.test("wrong usage, and what cannot be read or written, is told", function()
  local trace = file("good", "a\n")
  local good = ("-p %s --trace %s "):format(loading, trace)
  for arguments, complaint in pairs {
    ["-p x"] = "simulate wants -p POLICY and --trace FILE",
    [good .. "more"] = "simulate wants",
    [good .. "--budget 1x"] = "option '--budget' must be a size such as \"64m\" or bytes, got '1x'",
    [good .. "--budget 1k"] = "1k is less than 64k",
    [good .. "--rate fast"] = "option '--rate' must be requests per second",
    [good .. "--rate 0.0000009/s"] = "'--rate' must be requests per second from 1e-6 to 1e9",
    [good .. "--value-size 0"] = "option '--value-size' must be from 1 byte to 1g, got '0'",
    [good .. "--value-size 4294967297"] = "option '--value-size' must be from 1 byte to 1g",
    [good .. "--ttl fast"] = "ttl: must be a duration",
    [("-p %s --trace /no/trace --pool many"):format(loading)] = "pool: must be a whole number",
    [good .. "--redis redis://x"] = "--l2 gives it one in memory",
    [good .. "--max-bytes 1m"] = "given by --budget",
    [good .. "--buget 1m"] = "did you mean '--budget'?",
  } do
    local _, code, said = simulate(arguments)
    spec.same(code, 2, arguments)
    spec.contains(said, complaint)
  end
  for arguments, complaint in pairs {
    ["-p no.lua --trace " .. trace] = "no.lua",
    [("-p %s --trace %s/no"):format(loading, folder)] = "/no: No such file",
    [good .. "--svg /no/where.svg"] = "cannot write /no/where.svg",
    [("-p %s --trace %s"):format(loading, file("cut.xz", "\xfd7zXZ\0"))] = "cut.xz: ",
  } do
    local _, code, said = simulate(arguments)
    spec.same(code, 1, arguments)
    spec.contains(said, complaint)
  end
end)

remove_folder()
spec.finish()
