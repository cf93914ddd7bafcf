-- SPDX-License-Identifier: MIT
--
-- front.lua - what the servers of scripts/hosts that keep a slow one's answers have in common: two
-- of them, over one Redis, in front of one source.
--
--     front.check("luv")      -- runs scripts/hosts/luv/server.lua

local host = require "host"
local spec = require "spec"

local front = {}

local function urls(server, format)
  local list = {}
  for i = 1, 4 do
    list[i] = server.url .. format:format(i)
  end
  return list
end

function front.check(name)
  local redis = spec.redis()
  local source = host.upstream()

  local function start()
    local port = host.port()
    local server = host.start { "lua5.4", ("%sscripts/hosts/%s/server.lua"):format(host.root, name),
      port, "127.0.0.1:" .. source.port, redis.url, port = port }
    server.url = "http://127.0.0.1:" .. port
    return server
  end

  local a, b = start(), start()

  -- Its status, body, and where it came from.
  local function get(server, path)
    local answer = host.get(server.url .. path)
    return answer.status, answer.body, answer.headers["x-cache"]
  end

  local function until_l1(server, path)
    spec.wait_until("L1 has " .. path, function()
      return select(3, get(server, path)) == "l1"
    end)
  end

  spec.test("four loads are under way at once, and a hit is answered meanwhile", function()
    spec.returns({ 200, "hit 1", "loaded" }, get(a, "/hit"))
    until_l1(a, "/hit")
    local wait = host.begin(urls(a, "/held/%d"))
    source.wait_for(4)
    spec.returns({ 200, "hit 1", "l1" }, get(a, "/hit"))
    spec.same(source.waiting(), 4)
    source.release()
    for i, answer in ipairs(wait()) do
      spec.same({ answer.status, answer.body, answer.headers["x-cache"] },
        { 200, i .. " 1", "loaded" })
    end
  end)

  spec.test("four loads of 300 ms each come at once", function()
    local longest = 0
    for i, answer in ipairs(host.begin(urls(a, "/slow/%d"))()) do
      spec.same(answer.body, i .. " 1")
      longest = math.max(longest, answer.seconds)
    end
    print(("# the longest of four took %.0f ms"):format(longest * 1000))
  end)

  spec.test("four who ask for one thing have it loaded once", function()
    local wait = host.begin { a.url .. "/held/one", a.url .. "/held/one", a.url .. "/held/one",
      a.url .. "/held/one" }
    source.wait_for(1)
    source.release()
    for _, answer in ipairs(wait()) do
      spec.same(answer.body, "one 1")
    end
    spec.same(source.asked "/held/one", 1)
  end)

  spec.test("what is not there is kept as that", function()
    spec.same(get(a, "/nobody"), 404)
    spec.same(get(a, "/nobody"), 404)
    spec.same(source.asked "/nobody", 1)
  end)

  spec.test("what one process deletes the other loads anew", function()
    get(a, "/page")
    until_l1(a, "/page")
    source.set_version(2)
    spec.same(host.get(b.url .. "/page", { method = "DELETE" }).status, 204)
    spec.wait_until("the other has heard", function()
      return select(2, get(a, "/page")) == "page 2"
    end)
  end)

  spec.test("so it is when the program perilune deletes it", function()
    until_l1(a, "/page")
    source.set_version(3)
    local _, code, said = spec.run(("%s del --redis %s --ns pages /page"):format(
      os.getenv "PERILUNE", redis.url))
    spec.same(said, "")
    spec.same(code, 0)
    spec.wait_until("the server has heard", function()
      return select(2, get(a, "/page")) == "page 3"
    end)
  end)

  spec.test("where the source is gone one is told, and what is kept is served", function()
    until_l1(a, "/page")
    source.stop(source)
    spec.same(get(a, "/another"), 502)
    spec.returns({ 200, "page 3", "l1" }, get(a, "/page"))
  end)

  a:stop()
  b:stop()
  redis.stop()
end

return front
