-- SPDX-License-Identifier: MIT
--
-- behind.lua - what waits to be stored, and what could not be: flush, the queue and its dead
-- letters by the module and by the program. Policies say what is stored, into a file.

local spec = require "spec"
local perilune = require "perilune"
local waiting = require "perilune.waiting"
local null = spec.null

local program = assert(os.getenv "PERILUNE")
local folder, remove = spec.folder()
local stored = folder .. "/stored"
local redis = spec.redis()

-- A trusted policy: each write of item:* becomes a line; those of `bad` keys never, of `slow` ones
-- not yet.
local function policy(bad, slow)
  return spec.write(folder .. "/policy.lua", ([[
    cache.rule "item:{id}" { ttl = "1h", write = behind {
      every = "1ms", backoff = "1ms", attempts = 1000000,
      store = function(items)
        local failed, file = {}, assert(io.open(%q, "a"))
        for i, item in ipairs(items) do
          if item.key:find %q then
            failed[i] = { "no\nplace", "never" }
          elseif item.key:find %q then
            failed[i] = "not yet"
          else
            file:write(item.op, " ", item.key, " ", tostring(item.value and item.value[1]), "\n")
          end
        end
        file:close()
        return failed
      end } }]]):format(stored, bad or "^none", slow or "^none"))
end

local function lines()
  local list = {}
  for line in io.lines(stored) do
    list[#list + 1] = line
  end
  return list
end

local function open(ns, path)
  spec.write(stored, "")
  return assert(perilune.open { redis = redis.url, ns = ns, log = false, timeout = "10s",
    policy = path, trusted = true })
end

spec.test("flush waits until all is stored", function()
  local cache <close> = open("flush", policy())
  for i = 1, 20 do
    assert(cache:set("item:" .. i, { i }))
  end
  assert(cache:delete "item:20")
  spec.returns({ true }, cache:flush())
  local list = lines()
  spec.same(list[#list], "delete item:20 nil")
  assert(#list >= 20, #list)
  local queue = cache:queue()
  spec.same({ queue.depth, queue.lag, queue.dead, type(queue.ours) }, { 0, 0.0, 0, "boolean" })
  assert(cache:stats().stores >= 20)
end)

spec.test("flush tells when its time is over, and the queue what waits", function()
  local cache <close> = open("late", policy(nil, "1$"))
  assert(cache:set("item:1", { 1 }))
  local done, message, code = cache:flush(0.05)
  spec.same({ done, code }, { nil, "timeout" })
  assert(#message > 0)
  local queue = cache:queue()
  spec.same({ queue.depth, queue.dead }, { 1, 0 })
  spec.same(queue.lag > 0, true)
  assert(cache:load_policy(policy(), true))
  spec.returns({ true }, cache:flush())
  spec.same(lines(), { "set item:1 1" })
end)

spec.test("flush is an op as well, and waits in the way of a host", function()
  local cache = open("op", policy())
  assert(cache:set("item:1", { 1 }))
  local op = assert(cache:call_async("flush", "30s"))
  spec.wait_until("it is over", function()
    return op:ready()
  end)
  spec.returns({ true }, op:result())
  local wrapped = waiting.wrap(cache, coroutine.yield)
  local result
  local thread = coroutine.create(function()
    result = table.pack(wrapped:flush())
  end)
  spec.wait_until("it is over", function()
    assert(coroutine.resume(thread))
    return coroutine.status(thread) == "dead"
  end)
  spec.same(result, { true, n = 1 })
  spec.raises("the timeout of flush must be", cache.flush, cache, "soon")
  spec.raises("the timeout of flush must be", cache.call_async, cache, "flush", -1)
  wrapped:close()
end)

-- A cache with two dead letters.
local function with_letters(ns)
  local cache = open(ns, policy "bad")
  assert(cache:set("item:bad1", { "a", "\0" }))
  assert(cache:delete "item:bad2")
  assert(cache:set("item:3", { 3 }))
  spec.returns({ true }, cache:flush())
  return cache
end

spec.test("dead letters are listed, put back and dropped", function()
  local cache <close> = with_letters "dead"
  local letters = assert(cache:deadletters())
  spec.same(#letters, 2)
  local first, second = letters[1], letters[2]
  if first.key ~= "item:bad1" then
    first, second = second, first
  end
  spec.same({ first.key, first.op, first.value, first.attempts }, { "item:bad1", "set",
    { "a", "\0" }, 1 })
  spec.contains(first.error, "no")
  assert(first.age >= 0 and #first.write_id > 0 and first.id ~= second.id)
  spec.same({ second.key, second.op, second.value }, { "item:bad2", "delete" })
  spec.same(#cache:deadletters(1), 1)
  spec.same(cache:queue().dead, 2)
  spec.returns({ null, null, "miss" }, cache:retry_deadletter "1-1")
  spec.returns({ null, null, "miss" }, cache:drop_deadletter "1-1")
  spec.returns({ 1 }, cache:drop_deadletter(second.id))
  spec.same(#cache:deadletters(), 1)
  assert(cache:load_policy(policy(), true))
  spec.returns({ 1 }, cache:retry_deadletter(first.id))
  spec.returns({ true }, cache:flush())
  spec.same(lines(), { "set item:3 3", "set item:bad1 a" })
  spec.same(cache:deadletters(), {})
  spec.raises("string expected", cache.drop_deadletter, cache)
  spec.raises("the id of a dead letter", cache.retry_deadletter, cache, "")
  spec.raises("the number of letters must be positive", cache.deadletters, cache, 0)
end)

spec.test("all letters may be meant, and one that was overtaken is dropped", function()
  local cache <close> = with_letters "all"
  assert(cache:load_policy(policy(), true))
  assert(cache:set("item:bad1", { "newer" }))
  spec.returns({ true }, cache:flush())
  spec.returns({ 1 }, cache:retry_deadletter "all")
  spec.returns({ true }, cache:flush())
  spec.same(cache:queue().dead, 0)
  local list = lines()
  spec.same({ list[2], list[3], #list }, { "set item:bad1 newer", "delete item:bad2 nil", 3 })
end)

spec.test("without a Redis there is no queue", function()
  local cache <close> = assert(perilune.open { log = false })
  spec.raises("the cache has no Redis, and so no queue", cache.queue, cache)
  spec.raises("the cache has no Redis, and so no queue", cache.deadletters, cache)
  spec.raises("the cache has no Redis, and so no queue", cache.drop_deadletter, cache, "all")
end)

-- ---- the program ----

local function run(words, ns)
  return spec.run(("env -u LUA_INIT '%s' %s --redis %s --ns %s"):format(program, words, redis.url,
    ns))
end

spec.test("perilune queue says what waits, and whether an instance stores", function()
  local _ <close> = with_letters "seen"
  local output, code, said = run("queue", "seen")
  spec.same({ code, said }, { 0, "" })
  spec.contains(output, "waiting       0\noldest        0.0 s\ndead letters  2\nstored by     ")
  output, code = run("queue --json", "nobody")
  spec.same({ code, output }, { 0, '{"dead":0,"depth":0,"lag":0,"led":false}\n' })
  local leading <close> = open("led", policy(nil, "1$"))
  assert(leading:set("item:1", { 1 }))
  spec.wait_until("it has the lead", function()
    return leading:queue().ours
  end)
  spec.contains(run("queue", "led"), "stored by     an instance, whose lead ends in")
  spec.contains(spec.run(("'%s' queue --redis %s --name led"):format(program, redis.url)),
    "stored by     an instance, whose lead ends in") -- else the namespace is the name
  local refused, usage, why = run("queue now", "seen")
  spec.same({ refused, usage }, { "", 2 })
  spec.contains(why, "queue takes no arguments")
end)

spec.test("perilune deadletters lists, puts back and drops", function()
  local cache <close> = with_letters "letters"
  assert(cache:delete "item:bad\t3")
  spec.returns({ true }, cache:flush())
  local output, code, said = run("deadletters list", "letters")
  spec.same({ code, said }, { 0, "" })
  spec.contains(output, "set item:bad1  1 attempt, ")
  spec.contains(output, "delete item:bad2  1 attempt, ")
  spec.contains(output, "delete item:bad\\x093  1 attempt, ")
  spec.contains(output, "no\\nplace")
  output, code = run("deadletters list --most 1 --json", "letters")
  spec.same(code, 0)
  local id = output:match '"id":"([^"]+)"'
  spec.same(select(2, output:gsub('"id"', "")), 1)
  output, code, said = run("deadletters drop 1-1 " .. id, "letters")
  spec.same({ output, code }, { "1 letter dropped\n", 1 })
  spec.contains(said, "there is no dead letter '1-1'")
  assert(cache:load_policy(policy(), true))
  spec.returns({ '{"missing":0,"retry":2}\n', 0, "" }, run("deadletters retry --all --json",
    "letters"))
  spec.returns({ "all is stored\n", 0, "" }, run("flush", "letters"))
  spec.returns({ "", 0, "" }, run("deadletters list", "letters"))
  spec.returns({ "0 letters dropped\n", 0, "" }, run("deadletters drop --all", "letters"))
  for words, why in pairs {
    ["deadletters"] = "deadletters wants list, retry or drop",
    ["deadletters lsit"] = "did you mean 'deadletters list'?",
    ["deadletters drop"] = "deadletters drop wants the ids of letters, or --all",
    ["deadletters retry --all 1-1"] = "deadletters retry wants the ids of letters, or --all",
    ["deadletters retry x"] = "perilune: retry_letter: 'x' is no letter's id",
    ["deadletters drop ''"] = "perilune: the id of a dead letter, or \"all\"",
    ["deadletters list --most x"] = "option '--most' must be a positive number, got 'x'",
    ["deadletters list 1-1"] = "deadletters list takes no arguments",
  } do
    local printed, exit, complaint = run(words, "letters")
    spec.same({ printed, exit }, { "", 2 }, words)
    spec.contains(complaint, why)
  end
end)

spec.test("perilune flush waits for others, or stores by a policy", function()
  local cache = open("flushed", policy(nil, "1$"))
  assert(cache:set("item:1", { 1 }))
  local output, code, said = run("flush --wait 50ms", "flushed")
  spec.same({ output, code }, { "", 1 })
  spec.contains(said, "(timeout)")
  output, code = run("flush --wait 50ms --json", "flushed")
  spec.same({ output, code }, { '{"dead":0,"depth":1,"flushed":false}\n', 1 })
  cache:close()
  spec.returns({ "all is stored\n", 0, "" }, run("flush --trusted -p " .. policy(), "flushed"))
  spec.same(lines(), { "set item:1 1" })
  for _, words in ipairs { "--wait soon", "--wait 0", "--trusted" } do
    spec.same(select(2, run("flush " .. words, "flushed")), 2, words)
  end
end)

spec.test("without an answer the commands say so", function()
  local away = spec.redis()
  away.stop()
  for _, words in ipairs { "queue", "flush --wait 100ms", "deadletters list",
    "deadletters drop --all" } do
    local output, code, said = spec.run(("'%s' %s --redis %s --timeout 100ms"):format(program,
      words, away.url))
    spec.same({ output, code }, { "", 1 }, words)
    assert(said:find("l2_down", 1, true) or said:find("timeout", 1, true), said)
  end
  spec.same(select(2, spec.run(("'%s' queue"):format(program))), 2)
end)

redis.stop()
remove()
spec.finish()
