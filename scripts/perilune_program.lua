-- SPDX-License-Identifier: MIT
--
-- perilune_program.lua - the commands of the program perilune, but for `run`, which is C
-- (lua/run.c).
--
-- It is part of the program: called with a table of what Lua lacks (lua/main.c) and the command
-- line; what it returns is the exit code. Results go to standard output, all else to standard
-- error. A command is an entry of `commands`; its options are those it names and all of a cache's:
-- perilune_arguments.lua reads them.

local program = ...
local perilune = require "perilune"

local OK, FAILED, USAGE = 0, 1, 2
local NO_ANSWER = 3 -- of get, where 1 is a miss
local complain, refuse, fail = program.arguments.complain, program.arguments.refuse,
  program.arguments.fail
local parse, open, check, try = program.arguments.parse, program.arguments.open,
  program.arguments.check, program.arguments.try

local usage = [==[
usage: perilune COMMAND [OPTIONS] ...

  [-p POLICY] [--redis URL] without a command: a prompt on a terminal, else a script from standard
                          input; with options their cache is there as 'cache'
  run [-e chunk] [-l module] [-i] [-v] [-W] [-E] [script.lua [arguments]]
                          runs a script as lua does, with perilune at hand
  warm -p POLICY --redis URL
                          loads into Redis what the policy's cache.warm names, or a list
      [--list FILE] [--top 5000] [--deadline 20s] [--rate 2000/s] [--concurrency 8]
      [--trusted] [--json]
  get KEY                 prints a value; exits with 1 where there is none
      [--json]
  set KEY VALUE           stores a value; VALUE - reads standard input
      [--ttl 15m] [--stale 1m] [--tag TAG]... [--nx | --xx]
  del KEY...              removes keys, everywhere
  invalidate TAG...       removes the values that carry a tag, everywhere
      [--prefix | --pattern]
                          or whose keys begin with it, or fit it ('*' is any bytes)
  stats                   what a new instance sees: its link, its counts
      [--json | --prometheus]
  queue                   what was written behind and waits to be stored: how much, since when,
      [--json]            and whether an instance is at it
  flush                   waits until all of it is stored; does so itself by a policy's stores
      [-p POLICY] [--trusted] [--wait 1m] [--json]
  deadletters list        what could not be stored, and why
      [--most 1000] [--json]
  deadletters retry|drop ID... | --all
      [--json]            puts such writes back into the queue, or gives them up
  policy check FILE       says whether a policy file is right, and if not, where
      [--trusted]
  policy test FILE        runs the tests (cache.test) that a policy file brings along
      [--trusted] [--json]
  policy explain -p FILE KEY
      [--trusted] [--json]
                          says what a policy has for a key, and where it says so
  policy events FILE      says what events a policy carries out: the fields each needs, what it
      [--trusted] [--json] makes void, and the channels and streams they come from

  simulate -p POLICY --trace FILE
                          plays recorded requests (KEY, KEY SIZE or KEY SIZE TIME a line) through a
      [--budget 64m,256m] [--compare POLICY] [--rate 1000/s] [--value-size 1k] [--l2]
      [--svg FILE] [--json] [--trusted]
                          policy: hit ratio, loads and bytes at each budget of L1

  watch                   writes and reads in several processes, and tells of every stale read
      [--processes 4] [--threads 8] [--keys 200] [--for 60s] [--pace 5ms] [--writes 10%]
      [--delivery 100ms] [--bound DURATION] [--json]

  --redis URL             redis://[user[:password]@]host[:port][/db] or unix:PATH[?db=N];
                          rediss:// for TLS, with --tls-ca, --tls-cert, --tls-key, --tls-name
  --ns NAME               the namespace, as the cache's option ns; default perilune
  --OPTION VALUE          any other option of perilune.open, as --timeout 1s
  help, --help, --version

exit codes: 0 done; 1 failed, or nothing found; 2 wrong usage; of warm: 3 ready in part,
4 the deadline came first; of get: 3 there was no answer.
]==]

---------------------------------------------------------------------------------------------------
-- JSON, to print values with

local escapes = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function json_text(text)
  if not utf8.len(text) then
    text = text:gsub("[\x80-\xff]", "?") -- JSON has no bytes
  end
  return '"' .. text:gsub('[%c"\\\x7f]', function(c)
    return escapes[c] or ("\\u%04x"):format(c:byte())
  end) .. '"'
end

-- With as few digits, of 15 to 17, as read back the same.
local function json_number(number)
  if math.type(number) == "integer" then
    return ("%d"):format(number)
  elseif number ~= number or number == math.huge or number == -math.huge then
    return "null" -- JSON has none of these
  end
  local text
  for digits = 15, 17 do
    text = ("%." .. digits .. "g"):format(number)
    if tonumber(text) == number then
      break
    end
  end
  return text
end

-- Marks a table that is a list also where it is empty.
local list = {}

local function as_list(value)
  return setmetatable(value, list)
end

local function json(value)
  if type(value) == "string" then
    return json_text(value)
  elseif type(value) == "number" then
    return json_number(value)
  elseif type(value) ~= "table" then
    return tostring(value == nil and "null" or value)
  end
  local parts = {}
  if #value > 0 or getmetatable(value) == list then
    for i, item in ipairs(value) do
      parts[i] = json(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for name, item in pairs(value) do
    parts[#parts + 1] = json_text(tostring(name)) .. ":" .. json(item)
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

program.json, program.as_list = json, as_list -- for the commands in files of their own

---------------------------------------------------------------------------------------------------
-- commands

local commands = program.queue
commands.simulate = program.simulate

commands.get = {
  options = { ["--json"] = "flag" },
  run = function(given, rest)
    if #rest ~= 1 then
      refuse "get wants one key"
    end
    local cache <close> = open(given, true)
    local value, message, how = try(cache.get, cache, rest[1])
    if message then
      fail(("%s (%s)"):format(message, how), NO_ANSWER)
    end
    if given["--json"] then
      print(json { key = rest[1], value = value, how = how })
    elseif value ~= nil then
      print(type(value) == "table" and json(value) or tostring(value))
    end
    return value == nil and FAILED or OK
  end,
}

commands.set = {
  options = { ["--ttl"] = "value", ["--stale"] = "value", ["--tag"] = "list", ["--nx"] = "flag",
    ["--xx"] = "flag" },
  run = function(given, rest)
    if #rest ~= 2 then
      refuse "set wants a key and a value"
    end
    local cache <close> = open(given, true)
    local value = rest[2] == "-" and io.read "a" or rest[2]
    local stored, message, code = try(cache.set, cache, rest[1], value, {
      ttl = given["--ttl"], stale = given["--stale"], tags = given["--tag"],
      nx = given["--nx"], xx = given["--xx"],
    })
    if code == "not_stored" then
      complain("not stored: the key %s", given["--nx"] and "is there" or "is not there")
    end
    return check(stored, message, code) and OK or FAILED
  end,
}

-- A command that does one thing to each of its arguments.
local function for_each(method, what)
  return {
    options = {},
    run = function(given, rest)
      if #rest == 0 then
        refuse("%s", what)
      end
      local cache <close> = open(given, true)
      for _, name in ipairs(rest) do
        check(try(cache[method], cache, name))
      end
      return OK
    end,
  }
end

commands.del = for_each("delete", "del wants at least one key")

commands.invalidate = {
  options = { ["--prefix"] = "flag", ["--pattern"] = "flag" },
  run = function(given, rest)
    if given["--prefix"] and given["--pattern"] then
      refuse "invalidate takes --prefix or --pattern, not both"
    end
    for _, name in ipairs(rest) do
      if given["--prefix"] and name == "" then
        refuse "an empty prefix is that of all keys: where these are meant, --pattern '*'"
      end
    end
    local what = given["--prefix"] and "prefix" or given["--pattern"] and "pattern" or "tag"
    local each = for_each("invalidate_" .. what, "invalidate wants at least one " .. what)
    return each.run(given, rest)
  end,
}

commands.stats = {
  options = { ["--json"] = "flag", ["--prometheus"] = "flag" },
  run = function(given, rest)
    if #rest > 0 then
      refuse "stats takes no arguments"
    end
    local cache <close> = open(given, true)
    -- a read, so that there is a connection to tell about
    local _, message, code = cache:get("perilune:stats", { no_load = true, l1 = false })
    if given["--prometheus"] then
      io.write(cache:prometheus())
    elseif given["--json"] then
      print(json(cache:stats()))
    else
      local names, stats = {}, cache:stats()
      for name in pairs(stats) do
        names[#names + 1] = name
      end
      table.sort(names)
      for _, name in ipairs(names) do
        print(("%-22s %s"):format(name, stats[name]))
      end
      for _, node in ipairs(cache:nodes()) do
        print(("%-22s %s, breaker %s, %d connections, %d timeouts, %d errors"):format(
          node.address, node.up and "up" or "down", node.breaker, node.connections, node.timeouts,
          node.errors))
      end
    end
    if message then
      fail(("%s (%s)"):format(message, code))
    end
    return OK
  end,
}

-- A cache that is there for its policy only.
local function open_for_policy(given, path)
  given.open.redis = nil
  local cache = open(given)
  local loaded, message = cache:load_policy(path, given["--trusted"])
  if not loaded then
    fail(message)
  end
  return cache
end

commands["policy check"] = {
  options = { ["--trusted"] = "flag" },
  run = function(given, rest)
    if #rest ~= 1 then
      refuse "policy check wants one file"
    end
    local _ <close> = open_for_policy(given, rest[1])
    print(rest[1] .. ": ok")
    return OK
  end,
}

commands["policy test"] = {
  options = { ["--trusted"] = "flag", ["--json"] = "flag" },
  run = function(given, rest)
    if #rest ~= 1 then
      refuse "policy test wants one file"
    end
    given.open.redis = nil
    local cache <close> = open(given)
    local tests = check(cache:test_policy(rest[1], given["--trusted"]))
    local n_failed = 0
    for _, test in ipairs(tests) do
      n_failed = n_failed + (test.failure and 1 or 0)
      if not given["--json"] then
        print(test.failure and "FAILED  " .. test.failure or "ok      " .. test.key)
      end
    end
    print(given["--json"] and json { tests = as_list(tests), failed = n_failed } or
      ("%s: %d test%s, %d failed"):format(rest[1], #tests, #tests == 1 and "" or "s", n_failed))
    return n_failed == 0 and OK or FAILED
  end,
}

-- What explain's text says, as a table: its lines are columns, two blanks apart. A value may have
-- as many within, so what follows the last ones is where it is from.
local function explained(text)
  local result = { fields = {} }
  result.rule, result.file, result.line = text:match "^rule '([^\n]*)' at ([^\n]*):(%d+)"
  result.line = math.tointeger(tonumber(result.line))
  result.class = text:match "^rule [^\n]*:%d+, class ([^\n]*)"
  for name, value, where in text:gmatch "\n  ([^%s{]%S*) +([^\n]*)  +([^ \n][^\n]*)" do
    result.fields[name] = { value = value:match "^(.-) *$", from = where }
  end
  return result
end

commands["policy explain"] = {
  options = { ["--policy"] = "value", ["--trusted"] = "flag", ["--json"] = "flag" },
  run = function(given, rest)
    if #rest ~= 1 or not given["--policy"] then
      refuse "policy explain wants -p FILE and one key"
    end
    local cache <close> = open_for_policy(given, given["--policy"])
    local text = cache:explain(rest[1])
    io.write(given["--json"] and json(explained(text)) .. "\n" or text)
    return OK
  end,
}

commands["policy events"] = {
  options = { ["--trusted"] = "flag", ["--json"] = "flag" },
  run = function(given, rest)
    if #rest ~= 1 then
      refuse "policy events wants one file"
    end
    local cache <close> = open_for_policy(given, rest[1])
    io.write(cache:explain_events(given["--json"]))
    return OK
  end,
}

commands.warm = program.warm

commands.watch = {
  options = { ["--processes"] = "value", ["--threads"] = "value", ["--keys"] = "value",
    ["--for"] = "value", ["--pace"] = "value", ["--writes"] = "value", ["--delivery"] = "value",
    ["--bound"] = "value", ["--json"] = "flag" },
  run = function(given, rest)
    if #rest > 0 or not given.open.redis then
      refuse "watch wants --redis URL, and no arguments"
    end
    program.catch_interrupt()
    local code, message = program.watch(given)
    return code or refuse("%s", message)
  end,
}

-- Without a command: the options' cache, and a prompt, which is C (lua/prompt.c).
local prompt = {
  options = { ["--policy"] = "value", ["--trusted"] = "flag" },
  run = function(given, rest)
    if #rest > 0 then
      refuse("options come after the command; to run '%s' as a script: perilune run", rest[1])
    end
    given.open.policy, given.open.trusted = given["--policy"], given["--trusted"]
    _G.cache = open(given)
    return "prompt"
  end,
}

---------------------------------------------------------------------------------------------------
-- the command line

-- Commands of two words, and what the second may be.
local doubles = { policy = "check, test, explain or events", deadletters = "list, retry or drop" }

-- Takes the command off the arguments.
local function find_command(arguments)
  if arguments[1]:find "^%-" then
    return prompt
  end
  local name = table.remove(arguments, 1)
  if doubles[name] and arguments[1] and not arguments[1]:find "^%-" then
    name = name .. " " .. table.remove(arguments, 1)
  elseif doubles[name] then
    refuse("%s wants %s", name, doubles[name])
  end
  if commands[name] then
    return commands[name]
  end
  local known = { "run", "help" }
  for _, named in ipairs { commands, doubles } do
    for command in pairs(named) do
      known[#known + 1] = command
    end
  end
  local nearest = program.nearest(name, known)
  refuse("unknown command '%s'%s", name,
    nearest and (", did you mean '%s'?"):format(nearest) or "")
end

local function main(arguments)
  if arguments[1] == "help" then
    arguments[1] = "--help"
  end
  if arguments[1] == "--version" then
    print("perilune " .. perilune._VERSION .. ", " .. _VERSION)
    return OK
  end
  for _, argument in ipairs(arguments) do
    if argument == "--" then
      break
    elseif argument == "--help" then
      io.write(usage)
      return OK
    end
  end
  local command = find_command(arguments)
  return command.run(parse(command, arguments))
end

local good, result = xpcall(main, function(problem)
  return type(problem) == "table" and problem or debug.traceback(problem, 2)
end, { select(2, ...) })
if good then
  return result
elseif type(result) == "table" and result.usage then
  complain("%s\nperilune --help lists the commands and their options", result.usage)
  return USAGE
elseif type(result) == "table" then
  complain("%s", result.failure)
  return result.code
end
error(result, 0)
