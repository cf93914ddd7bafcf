-- SPDX-License-Identifier: MIT
--
-- lighttpd.lua - the cache in lighttpd's mod_magnet, as scripts/hosts/lighttpd.md shows it, with
-- workers and without. A slow source is a fifo: who opens it waits until the test writes.

local host = require "host"
local page = require "page"
local spec = require "spec"
local null = spec.null

host.need_program("lighttpd", "lighttpd")
host.need_file("/usr/lib/lighttpd/mod_magnet.so", "lighttpd-modules-lua")
host.need_program("curl", "curl")

local redis = spec.redis()
local articles, remove = spec.folder()

local function write(name, text)
  spec.write(articles .. "/" .. name .. ".html", text)
end

local function variables_of(workers)
  return { PORT = host.port(), WORKERS = workers, ARTICLES = articles, REDIS = redis.url }
end

-- Answers of one server: article(name) -> status, body, where from.
local function articles_of(variables)
  return function(name)
    local answer = host.get(("http://127.0.0.1:%d/articles/%s"):format(variables.PORT, name))
    local body = answer.status == 200 and answer.body or nil -- else a page of lighttpd's
    return answer.status, body, answer.headers["x-cache"], answer.headers["retry-after"]
  end
end

local function plain(program)
  local said = program:said()
  spec.same(said:find("(error)", 1, true) or said:find("perilune", 1, true), nil, said)
end

-- ---- the page, and what it says of waiting ----

local variables = variables_of(0)
local server

spec.test("what the page shows goes as shown, without workers", function()
  server = page.play("lighttpd", variables, { port = variables.PORT })
end)
local article = articles_of(variables)

spec.test("a client that has an article is told so, and how long it may keep it", function()
  host.check_conditional(("http://127.0.0.1:%d/articles/greeting"):format(variables.PORT),
    "max-age=600, stale-while-revalidate=3600, stale-if-error=86400")
end)

spec.test("a load that takes long keeps a request for 50 ms, and nobody else", function()
  spec.run("mkfifo " .. articles .. "/slow.html")
  spec.wait_until("L1 has the greeting", function()
    return select(3, article "greeting") == "l1"
  end)
  spec.returns({ 503, null, "timeout", "1" }, article "slow")
  spec.returns({ 200, "Good night.\n", "l1" }, article "greeting")
  spec.returns({ 503, null, "timeout", "1" }, article "slow") -- it joins the load that is under way
  write("slow", "At last.\n")
  spec.wait_until("the load has ended", function()
    return article "slow" == 200
  end)
  spec.returns({ 200, "At last.\n", "l1" }, article "slow")
end)

spec.test("what is old is served while the new one is loaded", function()
  spec.run(("rm %s/slow.html && mkfifo %s/slow.html"):format(articles, articles))
  page.run([[perilune run -e '
    local cache <close> = require "perilune".open { name = "articles", redis = os.getenv "REDIS" }
    assert(cache:expire "article:slow")']], variables)
  spec.wait_until("the worker has heard of it", function()
    return select(3, article "slow") == "stale"
  end)
  spec.returns({ 200, "At last.\n", "stale" }, article "slow")
  write("slow", "Anew.\n")
  spec.wait_until("the new one is there", function()
    return select(2, article "slow") == "Anew.\n"
  end)
end)

spec.test("it wrote nothing to lighttpd's log, and ends with it", function()
  plain(server)
  server:signal "TERM"
  spec.wait_until("lighttpd has ended", function()
    return not server:is_running()
  end)
  plain(server)
  server:stop()
end)

spec.test("scripts have states of their own, and one cache", function()
  local folder, remove_folder = spec.folder()
  local example = spec.run("realpath " .. host.root .. "scripts/hosts/lighttpd"):match "%S+"
  local own = variables_of(0)
  own.SITE = example
  spec.write(folder .. "/probe.lua", [[
    local articles <close> = assert(require "perilune".open "articles") -- takes what runs
    lighty.r.resp_body.set(("%s"):format(articles:peek "article:greeting"))
    return 200]])
  spec.write(folder .. "/lighttpd.conf", ([[
    include "%s/lighttpd.conf"
    $HTTP["url"] == "/probe" {
      magnet.attract-raw-url-to = ("%s/probe.lua")
    }]] .. "\n"):format(example, folder))
  local program <close> = host.start { "lighttpd", "-D", "-f", folder .. "/lighttpd.conf",
    env = own, port = own.PORT }
  local ask = articles_of(own)
  spec.wait_until("L1 has the greeting", function()
    return select(3, ask "greeting") == "l1"
  end)
  spec.same(host.get(("http://127.0.0.1:%d/probe"):format(own.PORT)).body, "Good night.\n")
  plain(program)
  remove_folder()
end)

-- ---- workers ----

-- The processes of a server that serve; not its parent.
local function workers_of(program)
  local list = {}
  for pid in spec.run("ps -o pid= --ppid " .. program.pid):gmatch "%d+" do
    list[#list + 1] = pid
  end
  return list
end

-- Calls `ask` with all workers stopped but one, so that this one answers.
local function only(worker, workers, ask)
  for _, pid in ipairs(workers) do
    spec.run(("kill -%s %s"):format(pid == worker and "CONT" or "STOP", pid))
  end
  local good, message = pcall(ask)
  spec.run("kill -CONT " .. table.concat(workers, " "))
  assert(good, message)
end

spec.test("a change that another program tells of reaches all workers", function()
  redis.command "flushall"
  variables = variables_of(2)
  server = page.play("lighttpd", variables, { port = variables.PORT })
  article = articles_of(variables)
  local workers
  spec.wait_until("two workers run", function()
    workers = workers_of(server)
    return #workers == 2
  end)
  write("news", "old\n")
  local function all_have(body)
    for _, worker in ipairs(workers) do
      spec.wait_until("the worker's L1 has " .. body, function()
        local _, got, how
        only(worker, workers, function()
          _, got, how = article "news"
        end)
        return got == body and how == "l1"
      end)
    end
  end
  all_have "old\n"
  write("news", "new\n")
  all_have "old\n" -- nobody has said so yet
  page.run("perilune del --redis $REDIS --name articles article:news", variables)
  all_have "new\n"
end)

spec.test("workers end with their parent, in silence", function()
  local workers = workers_of(server)
  plain(server)
  spec.same(#workers, 2)
  server:signal "TERM"
  spec.wait_until("all have ended", function()
    return select(2, spec.run("kill -0 " .. table.concat(workers, " "))) ~= 0
      and not server:is_running()
  end)
  plain(server)
end)

if server then
  server:stop()
end
redis.stop()
remove()
spec.finish()
