-- SPDX-License-Identifier: MIT
--
-- host.lua - what the tests of hosts share, beside spec.lua: programs that are started and stopped,
-- ports, requests by curl, and a source that is slow. Output is TAP; what is not installed is
-- named, and the test ends with 77, by which meson counts it as skipped.
--
--     local host = require "host"
--     host.need_program("lighttpd", "lighttpd")      -- a program, and the package that has it
--     host.need_module("cqueues", "lua-cqueues")     -- a module of Lua
--     local port = host.port()
--     local server <close> = host.start { "lighttpd", "-D", "-f", file, port = port }
--     local answer = host.get(("http://127.0.0.1:%d/"):format(port))
--     spec.same(answer.status, 200)
--
-- A program is started in a process group of its own and lives as long as a pipe to its keeper, so
-- it ends with the test, however that ends.

local spec = require "spec"

local host = {}

-- The top of the source tree, ending in a slash.
host.root = assert(arg[0]:match "^(.*)tests/hosts/")

local function quoted(word)
  return "'" .. tostring(word):gsub("'", "'\\''") .. "'"
end

local function read(path)
  local file = io.open(path)
  if not file then
    return ""
  end
  local text = file:read "a"
  file:close()
  return text
end

-- ---- what is installed ----

function host.skip(why)
  print("1..0 # SKIP " .. why)
  os.exit(77, true)
end

-- Each ends the test where what it asks for is not there.
function host.need_program(name, package)
  local _, code = spec.run("command -v " .. quoted(name))
  if code ~= 0 then
    host.skip(("%s is not installed; its package is %s"):format(name, package))
  end
end

function host.need_file(path, package)
  local file = io.open(path)
  if not file then
    host.skip(("%s is not installed; its package is %s"):format(path, package))
  end
  file:close()
end

function host.need_module(name, package)
  local found, module = pcall(require, name)
  if not found then
    host.skip(("the module %s of %s is not installed; its package is %s"):format(name, _VERSION,
      package))
  end
  return module
end

-- ---- ports ----

-- Whether somebody listens on a port, as the kernel tells.
function host.listens(port)
  local wanted = (":%04X "):format(port)
  for _, table_of in ipairs { "tcp", "tcp6" } do
    for line in read("/proc/net/" .. table_of):gmatch "[^\n]+" do
      -- sl local_address remote_address state; 0A: listening
      local here, state = line:match "^%s*%d+: %x+(:%x+ )%S+ (%x+)"
      if here == wanted and state == "0A" then
        return true
      end
    end
  end
  return false
end

local taken = {}

-- A port that nobody has, below those that the kernel gives away by itself.
function host.port()
  for _ = 1, 1000 do
    local port = math.random(20000, 32000)
    if not taken[port] and not host.listens(port) then
      taken[port] = true
      return port
    end
  end
  error "no port is free"
end

-- ---- programs ----

local Program = {}
Program.__index = Program

-- What it has written so far, to its output and its errors.
function Program:said()
  return read(self.log)
end

function Program:is_running()
  local state = read(("/proc/%d/stat"):format(self.pid)):match "%) (%u)"
  return state ~= nil and state ~= "Z"
end

-- Sends a signal (a name, as TERM) to it alone.
function Program:signal(name)
  return spec.run(("kill -%s %d"):format(name, self.pid))
end

-- Ends it and all of its group: asks, and after ten seconds kills. Twice is fine.
function Program:stop()
  if self.keeper then
    self.keeper:close()
    self.keeper = nil
    os.execute("rm -rf " .. quoted(self.folder))
  end
end
Program.__close = Program.stop

-- Starts a program: { program, words..., env = { NAME = value }, folder = where it runs,
-- port = it is ready when this is listened on, says = or when it has written this }.
function host.start(command)
  local words = {}
  for i, word in ipairs(command) do
    words[i] = quoted(word)
  end
  local sets = {}
  for name, value in pairs(command.env or {}) do
    sets[#sets + 1] = name .. "=" .. quoted(value)
  end
  local folder = spec.folder()
  local self = setmetatable({ folder = folder, log = folder .. "/log", name = command[1] }, Program)
  self.keeper = assert(io.popen(([[
    cd %s || exit 1
    trap : TERM INT HUP # who ends the test ends its whole group
    env %s setsid %s >%s 2>&1 </dev/null &
    pid=$!
    echo $pid >%s/pid
    read -r _
    kill -TERM -$pid 2>/dev/null
    for _ in $(seq 1000); do # neither gone nor a zombie
      grep -q '^State:.[^Z]' /proc/$pid/status 2>/dev/null || break
      sleep 0.01
    done
    kill -KILL -$pid 2>/dev/null
    wait $pid 2>/dev/null]]):format(quoted(command.folder or "."), table.concat(sets, " "),
    table.concat(words, " "), self.log, folder), "w"))
  spec.wait_until(command[1] .. " is started", function()
    self.pid = tonumber((read(folder .. "/pid")))
    return self.pid ~= nil
  end)
  host.wait_for(self, command)
  return self
end

-- Waits until a program listens or has said something; shows what it said where it ended instead.
function host.wait_for(program, what)
  spec.wait_until(program.name .. " is ready", function()
    local is_running = program:is_running()
    if (not what.port or host.listens(what.port))
      and (not what.says or program:said():find(what.says, 1, true)) then
      return true
    elseif not is_running then
      error(("%s has ended, and said:\n%s"):format(program.name, program:said()), 0)
    end
    return false
  end)
end

-- ---- requests ----

-- A request as words for the shell; its answer goes to files in `folder` that begin with `name`.
local function curl(folder, name, url, options)
  local words = { "curl -sS --max-time 60 -o", folder .. "/" .. name .. ".body",
    "-D", folder .. "/" .. name .. ".head", "-w '%{http_code} %{time_total}'",
    "-X", options.method or "GET" }
  for key, value in pairs(options.headers or {}) do
    words[#words + 1] = "-H " .. quoted(key .. ": " .. value)
  end
  if options.method == "HEAD" then
    words[#words + 1] = "-I"
  end
  if options.body then
    words[#words + 1] = "--data-binary " .. quoted(options.body)
  end
  words[#words + 1] = quoted(url)
  return table.concat(words, " ") .. (" >%s/%s.code 2>%s/%s.errors"):format(folder, name, folder,
    name)
end

local function answer_of(folder, name)
  local path = folder .. "/" .. name
  local status, seconds = read(path .. ".code"):match "^(%d+) (%S+)"
  local answer = { status = tonumber(status), seconds = tonumber(seconds),
    headers = {}, cookies = {}, body = read(path .. ".body"), errors = read(path .. ".errors") }
  for key, value in read(path .. ".head"):gmatch "([%w-]+):[ \t]*([^\r\n]*)" do
    answer.headers[key:lower()] = value
    if key:lower() == "set-cookie" then
      table.insert(answer.cookies, value)
    end
  end
  return answer
end

-- Requests that run by themselves, all at once; the function returned waits for the answers, in
-- the order of the URLs: { status = (0: none), headers = { [lower case] = }, cookies = a list,
-- body =, seconds =, errors = }.
function host.begin(urls, options)
  local folder, remove = spec.folder()
  local lines = {}
  for i, url in ipairs(urls) do
    lines[i] = curl(folder, i, url, options or {}) .. " &"
  end
  local pipe = assert(io.popen(table.concat(lines, "\n") .. "\nwait", "w"))
  return function()
    pipe:close()
    local answers = {}
    for i in ipairs(urls) do
      answers[i] = answer_of(folder, i)
    end
    remove()
    return answers
  end
end

-- One request, and its answer.
function host.get(url, options)
  return host.begin({ url }, options)()[1]
end

-- Where an answer came from: by X-Cache, or by a Cache-Status of perilune.http's.
function host.source(answer)
  local said = answer.headers["cache-status"]
  return answer.headers["x-cache"] or said and
    (said:match "detail=(%w+)" or said:find("stored", 1, true) and "loaded") or nil
end

-- Asks for what is there once more with the ETag that it has: a 304 with this Cache-Control.
function host.check_conditional(url, cache_control)
  local first = host.get(url)
  spec.same({ first.status, first.headers["cache-control"] }, { 200, cache_control })
  local again = host.get(url, { headers = { ["If-None-Match"] = first.headers.etag } })
  spec.same({ again.status, again.body, again.headers["cache-control"], again.headers.etag },
    { 304, "", cache_control, first.headers.etag })
  local other = host.get(url, { headers = { ["If-None-Match"] = '"another"' } })
  spec.same({ other.status, other.body }, { 200, first.body })
end

-- ---- a slow source ----

-- Starts slow.lua, whose head says what it answers to which path: { url =, port = }, and what it
-- has seen: how many requests are under way, the most at once, and the total.
function host.slow()
  host.need_module("socket", "lua-socket")
  local port = host.port()
  local slow = host.start { "lua5.4", host.root .. "tests/hosts/slow.lua", port, port = port }
  slow.port = port
  slow.url = "http://127.0.0.1:" .. port
  function slow.seen()
    local numbers = {}
    for number in host.get(slow.url .. "/seen").body:gmatch "%d+" do
      numbers[#numbers + 1] = tonumber(number)
    end
    return table.unpack(numbers)
  end
  -- Waits until so many requests are under way.
  function slow.wait_for(n)
    spec.wait_until(n .. " requests are under way", function()
      return slow.seen() == n
    end)
  end
  -- Answers what it holds.
  function slow.release()
    host.get(slow.url .. "/release")
  end
  return slow
end

return host
