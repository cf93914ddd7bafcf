-- SPDX-License-Identifier: MIT
--
-- front.lua - what the servers of scripts/hosts that keep a slow one's answers have in common: two
-- of them, over one Redis, in front of one source; the first as the host's page starts it.
--
--     front.check "luv"      -- plays scripts/hosts/luv.md, runs scripts/hosts/luv/server.lua
--     front.check("lua-http", "max-age=60")  -- one that speaks HTTP, and says this of its answers

local host = require "host"
local page = require "page"
local spec = require "spec"

local front = {}

local function urls(server, format)
  local list = {}
  for i = 1, 4 do
    list[i] = server.url .. format:format(i)
  end
  return list
end

-- Its status, body, and where it came from.
local function get(server, path)
  local answer = host.get(server.url .. path)
  return answer.status, answer.body, host.source(answer)
end

local function until_l1(server, path)
  spec.wait_until("L1 has " .. path, function()
    return select(3, get(server, path)) == "l1"
  end)
end

-- Runs the program that the page begins with.
function front.check_program(name)
  spec.test("the program on the page prints what is shown", function()
    local redis <close> = spec.redis()
    spec.example(("%sscripts/hosts/%s.md"):format(host.root, name), redis.url)
  end)
end

-- Deletes in one process by `delete`, and waits until another has loaded the page anew.
local function check_anew(server, path, delete)
  until_l1(server, path)
  local _, old = get(server, path)
  delete()
  spec.wait_until("the server has heard", function()
    local status, body = get(server, path)
    assert(status == 200, server:said())
    return body ~= old
  end)
end

function front.check(name, cache_control)
  host.need_program("curl", "curl")
  local redis = spec.redis()
  local slow = host.slow()
  local variables = { PORT = host.port(), REDIS = redis.url, SOURCE = "127.0.0.1:" .. slow.port }
  local server, other

  spec.test("what the page shows goes as shown", function()
    server = page.play(name, variables, { port = variables.PORT })
    server.url = "http://127.0.0.1:" .. variables.PORT
    local port = host.port()
    other = host.start { "lua5.4", ("%sscripts/hosts/%s/server.lua"):format(host.root, name), port,
      variables.SOURCE, redis.url, port = port }
    other.url = "http://127.0.0.1:" .. port
  end)

  spec.test("four loads are under way at once, and a hit is answered meanwhile", function()
    get(server, "/hit")
    until_l1(server, "/hit")
    local wait = host.begin(urls(server, "/held/%d"))
    slow.wait_for(4)
    local status, _, how = get(server, "/hit")
    spec.same({ status, how }, { 200, "l1" })
    spec.same(slow.seen(), 4)
    slow.release()
    for i, answer in ipairs(wait()) do
      spec.same({ answer.status, host.source(answer) }, { 200, "loaded" })
      spec.contains(answer.body, ("/held/%d, load "):format(i))
    end
  end)

  spec.test("four loads of 300 ms each come at once", function()
    local longest = 0
    for i, answer in ipairs(host.begin(urls(server, "/%d?with=4"))()) do
      spec.contains(answer.body, ("/%d?with=4, load "):format(i))
      longest = math.max(longest, answer.seconds)
    end
    print(("# the longest of four took %.0f ms"):format(longest * 1000))
  end)

  spec.test("four who ask for one thing have it loaded once", function()
    local _, _, before = slow.seen()
    local url = server.url .. "/held/one"
    local wait = host.begin { url, url, url, url }
    slow.wait_for(1)
    slow.release()
    local answers = wait()
    for _, answer in ipairs(answers) do
      spec.same({ answer.status, answer.body }, { 200, answers[1].body })
    end
    spec.same(select(3, slow.seen()), before + 1)
  end)

  spec.test("what is not there is kept as that, and a failure is not", function()
    local _, _, before = slow.seen()
    spec.same(get(server, "/nobody"), 404)
    spec.same(get(server, "/nobody"), 404)
    spec.same(select(3, slow.seen()), before + 1)
    spec.same(get(server, "/broken"), 502)
    spec.same(get(server, "/broken"), 502)
    spec.same(select(3, slow.seen()), before + 3)
    spec.contains(server:said(), "the source answered with 500")
  end)

  if cache_control then
    spec.test("a client that has it is told so, and how long it may keep it", function()
      host.check_conditional(server.url .. "/hit", cache_control)
    end)
  end

  spec.test("what one process deletes another loads anew", function()
    check_anew(server, "/page", function()
      spec.same(host.get(other.url .. "/page", { method = "DELETE" }).status, 204)
    end)
  end)

  spec.test("so it is when the program perilune deletes it", function()
    check_anew(server, "/page", function()
      spec.same(page.run("perilune del --redis $REDIS --ns pages /page", variables), "")
    end)
  end)

  spec.test("where the source is gone one is told, and what is kept is served", function()
    until_l1(server, "/page")
    slow:stop()
    spec.same(get(server, "/another"), 502)
    local status, _, how = get(server, "/page")
    spec.same({ status, how }, { 200, "l1" })
  end)

  spec.test("a server that is told to end does", function()
    for _, each in ipairs { server, other } do
      each:signal "TERM"
      spec.wait_until("it has ended", function()
        return not each:is_running()
      end)
      each:stop()
    end
  end)

  slow:stop()
  redis.stop()
end

return front
