-- SPDX-License-Identifier: MIT
--
-- spec.lua - what the specs of the Lua module share: a test with a name, comparisons that say what
-- they saw, and a Redis server of a spec's own. Output is TAP.
--
--     local spec = require "spec"
--     spec.test("a miss is nil, nil, miss", function()
--       spec.equal({ cache:get "no" }, { nil, nil, "miss" }, 3)
--     end)
--     spec.finish()

local spec = {}

local n_tests, n_failed = 0, 0

local function shown(value)
  return type(value) == "string" and ("%q"):format(value) or tostring(value)
end

-- Runs one test. What it raises is its failure; the others still run.
function spec.test(name, body)
  n_tests = n_tests + 1
  local good, message = xpcall(body, debug.traceback)
  if not good then
    n_failed = n_failed + 1
    print("# " .. tostring(message):gsub("\n", "\n# "))
  end
  print(("%sok %d - %s"):format(good and "" or "not ", n_tests, name))
end

function spec.finish()
  print("1.." .. n_tests)
  os.exit(n_failed == 0, true)
end

-- Compares two values; tables by their contents.
function spec.same(got, wanted, where)
  where = where or "value"
  if type(got) == "table" and type(wanted) == "table" then
    for key, value in pairs(wanted) do
      spec.same(got[key], value, where .. "." .. tostring(key))
    end
    for key in pairs(got) do
      if wanted[key] == nil then
        error(("%s.%s is there, and should not be"):format(where, tostring(key)), 2)
      end
    end
  elseif got ~= wanted or math.type(got) ~= math.type(wanted) then
    error(("%s: got %s, wanted %s"):format(where, shown(got), shown(wanted)), 2)
  end
end

-- results(f(...)) are these, and no more.
function spec.returns(wanted, ...)
  local got = table.pack(...)
  for i = 1, math.max(got.n, #wanted) do
    local want = wanted[i]
    if want == spec.null then
      want = nil
    end
    spec.same(got[i], want, "result " .. i)
  end
end
spec.null = setmetatable({}, { __name = "nil in a list" })

-- The call raises, and its message contains `wanted`.
function spec.raises(wanted, f, ...)
  local good, message = pcall(f, ...)
  if good then
    error("did not raise; wanted " .. shown(wanted), 2)
  elseif not tostring(message):find(wanted, 1, true) then
    error(("raised %s, wanted %s in it"):format(shown(message), shown(wanted)), 2)
  end
end

-- The text contains this.
function spec.contains(text, wanted)
  if not tostring(text):find(wanted, 1, true) then
    error(("%s does not contain %s"):format(shown(text), shown(wanted)), 2)
  end
end

-- Waits until the condition holds; a failure after 30 seconds.
function spec.wait_until(what, condition)
  local clock = require("perilune").clock
  local deadline = clock() + 30
  repeat
    if condition() then
      return
    end
    os.execute "sleep 0.01"
  until clock() > deadline
  error("waited 30 s: " .. what, 2)
end

local function read_line(command)
  local pipe = assert(io.popen(command))
  local line = pipe:read "l"
  pipe:close()
  return line
end

-- Options of a test's own over those that all of its tests have; in the table of the latter.
function spec.over(all, options)
  for name, value in pairs(options or {}) do
    all[name] = value
  end
  return all
end

-- A folder of the spec's own; removed by remove().
function spec.folder()
  local path = assert(read_line "mktemp -d")
  return path, function()
    os.execute("rm -rf '" .. path .. "'")
  end
end

function spec.write(path, text)
  local file = assert(io.open(path, "w"))
  file:write(text)
  assert(file:close())
  return path
end

-- Runs a command; returns its standard output, exit code, and standard error.
function spec.run(command)
  local errors = os.tmpname()
  local pipe = assert(io.popen(command .. " 2>" .. errors))
  local output = pipe:read "a"
  local _, _, code = pipe:close()
  local file = assert(io.open(errors))
  local said = file:read "a"
  file:close()
  os.remove(errors)
  return output, code, said
end

-- Runs the first program in Lua of a page, which a block of text follows, and compares what it
-- prints with that, in any order of lines. `redis` takes the place of redis://localhost.
function spec.example(path, redis)
  local file = assert(io.open(path))
  local program, wanted = file:read "a":match "\n```lua\n(.-)```\n\n```text\n(.-)```"
  file:close()
  local script = os.tmpname()
  spec.write(script, (program:gsub("redis://localhost", redis or "%0")))
  local output, _, said = spec.run(("timeout 60 %s run %s"):format(os.getenv "PERILUNE", script))
  os.remove(script)
  local function lines(text)
    local list = {}
    for line in text:gmatch "[^\n]+" do
      list[#list + 1] = line
    end
    table.sort(list)
    return list
  end
  spec.same(said, "")
  spec.same(lines(output), lines(wanted))
end

-- Starts a redis-server on a socket of its own. It lives as long as the pipe to its keeper, so it
-- ends with the spec, however that ends. Use: local redis <close> = spec.redis()
function spec.redis()
  local folder = assert(read_line "mktemp -d")
  local socket = folder .. "/redis.sock"
  local program = os.getenv "PLN_REDIS_SERVER" or "redis-server"
  local keeper = assert(io.popen(([[
    %s --port 0 --unixsocket %s --save '' --appendonly no --dir %s >%s/log 2>&1 &
    read -r _
    kill -9 $!
    wait $! 2>/dev/null
    rm -rf %s]]):format(program, socket, folder, folder, folder), "w"))
  local redis = { url = "unix:" .. socket, socket = socket }
  function redis.command(words)
    return spec.run(("redis-cli -s %s %s"):format(socket, words))
  end
  function redis.stop()
    if keeper then
      keeper:close()
      keeper = nil
    end
  end
  -- Has it do nothing until go_on(), and keep its connections.
  function redis.stall()
    redis.pid = redis.pid or redis.command "info server":match "process_id:(%d+)"
    os.execute("kill -STOP " .. redis.pid)
  end
  function redis.go_on()
    os.execute("kill -CONT " .. redis.pid)
  end
  spec.wait_until("redis-server answers", function()
    return redis.command "ping" == "PONG\n"
  end)
  return setmetatable(redis, { __close = redis.stop })
end

return spec
