-- SPDX-License-Identifier: MIT
--
-- prosody.lua - the cache in Prosody, as scripts/hosts/prosody.md shows it: its handlers and its
-- loaders wait by util.async, and the server goes on meanwhile.

local host = require "host"
local page = require "page"
local spec = require "spec"

host.need_program("prosody", "prosody")
host.need_program("curl", "curl")
host.need_module("socket", "lua-socket")

local redis = spec.redis()
local slow = host.slow()
local folder, remove = spec.folder()
local variables = { PORT = host.port(), DIR = folder, REDIS = redis.url,
  PROFILES = slow.url .. "/", AS_ROOT = "yes" }
local server

local function url(name)
  return ("http://127.0.0.1:%d/profiles/%s"):format(variables.PORT, name)
end

local function get(name)
  local answer = host.get(url(name))
  return answer.status, answer.body, answer.headers["x-cache"]
end

spec.test("what the page shows goes as shown", function()
  server = page.play("prosody", variables, { port = variables.PORT })
end)

spec.test("four loads are under way at once, and a hit does not wait for them", function()
  spec.wait_until("L1 has a value", function()
    return select(3, get "ada") == "l1"
  end)
  local names = { "held/a", "held/b", "held/c", "held/d" }
  local urls = {}
  for i, name in ipairs(names) do
    urls[i] = url(name)
  end
  local finish = host.begin(urls)
  slow.wait_for(4)
  local status, _, how = get "ada"
  spec.same({ status, how }, { 200, "l1" })
  spec.same(slow.seen(), 4)
  slow.release()
  for i, answer in ipairs(finish()) do
    spec.same({ answer.status, answer.headers["x-cache"] }, { 200, "loaded" })
    spec.contains(answer.body, "/" .. names[i] .. ", load ")
  end
end)

spec.test("four that ask for one key share one load", function()
  local _, _, before = slow.seen()
  local finish = host.begin { url "held/one", url "held/one", url "held/one", url "held/one" }
  slow.wait_for(1)
  spec.same(select(3, get "ada"), "l1")
  slow.release()
  local body
  for _, answer in ipairs(finish()) do
    spec.same(answer.status, 200)
    body = body or answer.body
    spec.same(answer.body, body)
  end
  spec.same(select(3, slow.seen()), before + 1)
end)

spec.test("what another process makes void is loaded anew", function()
  local _, old = get "ada"
  page.run("perilune del --redis $REDIS --name profiles profile:ada", variables)
  spec.wait_until("the notice arrives", function()
    return select(2, get "ada") ~= old
  end)
end)

spec.test("a source that fails is told, and fails nobody else", function()
  spec.same(get "broken", 503)
  spec.same(get "ada", 200)
  spec.contains(server:said(), "no profile of 'broken'")
end)

spec.test("Prosody has nothing to complain of, and ends", function()
  server:signal "TERM"
  spec.wait_until("Prosody has ended", function()
    return not server:is_running()
  end)
  for _, word in ipairs { "traceback", "error\t", "perilune:" } do
    spec.same(server:said():find(word, 1, true), nil, server:said())
  end
end)

if server then
  server:stop()
end
slow:stop()
redis.stop()
remove()
spec.finish()
