-- SPDX-License-Identifier: MIT
--
-- engine.lua - engines that a process shares by name, a cache that sleeps, and what the module
-- leaves alone.

local spec = require "spec"
local perilune = require "perilune"
local null = spec.null

spec.test("all who open a name share one engine", function()
  local a <close> = assert(perilune.open("users", { ttl = "5m" }))
  local b <close> = assert(perilune.open("users", { ttl = "5m" }))
  local c <close> = assert(perilune.open "users")
  local own <close> = perilune.open { name = "users" }
  a:set("k", "v")
  spec.returns({ "v", null, "l1" }, b:get "k")
  spec.returns({ "v", null, "l1" }, c:get "k")
  spec.returns({ null, null, "miss" }, own:get "k")
  spec.same(tostring(c), "perilune.cache: users (open)")
end)

spec.test("an engine stays when its handles are closed, until it is ended by name", function()
  do
    local cache <close> = assert(perilune.open "stays")
    cache:set("k", "v")
    spec.returns({ null, null, "pending" }, perilune.shutdown "stays")
  end
  spec.returns({ null, null, "miss" }, perilune.shutdown "stays") -- it was told to go with the last
  perilune.open("stays"):close()
  local cache = perilune.open "stays"
  cache:set("k", "v")
  cache:close()
  cache = perilune.open "stays"
  spec.same(cache:get "k", "v")
  cache:close()
  spec.returns({ true }, perilune.shutdown "stays")
  spec.returns({ null, null, "miss" }, perilune.shutdown "stays")
end)

spec.test("options that differ are told with both values", function()
  local cache <close> = assert(perilune.open("opts", { ttl = "5m", max_bytes = "8m" }))
  cache:set("k", "v")
  local none, message, code = perilune.open("opts", { ttl = "6m" })
  spec.same(none, nil)
  spec.same(code, "invalid")
  spec.contains(message, "engine 'opts' runs with other options: ttl is 300000 ms, not 360000 ms")
  spec.same(select(3, perilune.open("opts", { redis = "unix:/nowhere" })), "invalid")
  spec.same(select(3, perilune.open("none", { jitter = "99%" })), "invalid")
  spec.raises("unknown option 'tll'", perilune.open, "opts", { tll = 1 })
  spec.raises("is not for an engine", perilune.open, "opts", { name = "other" })
  spec.raises("string expected", perilune.shutdown)
end)

spec.test("an engine's policy is read once, and another one is refused", function()
  local folder, remove = spec.folder()
  local one = spec.write(folder .. "/one.lua",
    "cache.rule '*' { load = function(key) return 'one ' .. key end }")
  local bad = spec.write(folder .. "/bad.lua", "cache.rool '*' {}")
  local cache, message, code = perilune.open("policies", { policy = bad, log = false })
  spec.same(cache, nil)
  spec.same(code, "policy")
  spec.contains(message, "bad.lua:1")
  local a <close> = assert(perilune.open("policies", { policy = one, log = false }))
  spec.returns({ "one k", null, "loaded" }, a:get "k")
  local b <close> = assert(perilune.open("policies", { policy = one, log = false }))
  spec.returns({ "one k", null, "l1" }, b:get "k")
  spec.same(b:stats().policy_reloads, 0)
  cache, message, code = perilune.open("policies", { policy = bad, log = false })
  spec.same(cache, nil)
  spec.same(code, "invalid")
  spec.contains(message, "one.lua, not policy")
  remove()
end)

spec.test("a request's open and close leave the engine as it is", function()
  for i = 1, 1000 do
    local cache <close> = assert(perilune.open("requests", { max_bytes = "8m" }))
    assert(i == 1 or cache:get "k" == i - 1)
    cache:set("k", i)
  end
  spec.same(perilune.open("requests"):stats().sets, 1000)
end)

spec.test("with threads there is nothing to do for a step", function()
  local cache <close> = perilune.open {}
  spec.same(cache:stats().mode, "threads")
  spec.same(cache:step(), math.huge)
  spec.same(cache:step(0), math.huge)
  spec.same(cache:step "10ms", math.huge)
  spec.raises("seconds", cache.step, cache, -1)
  spec.raises("seconds", cache.step, cache, {})
end)

-- Runs a text in another process of the interpreter; returns what it printed, and its exit code.
local function run(text)
  local folder, remove = spec.folder()
  local path = spec.write(folder .. "/text.lua", text)
  local words = { os.getenv "PERILUNE", "run", path }
  local output, code, said = spec.run(("'%s' %s '%s'"):format(table.unpack(words)))
  remove()
  return output, code, said
end

local use = [[
  local perilune = require "perilune"
  local memory = perilune.memory "quiet"
  for _, options in ipairs { {}, { redis = "memory:quiet" } } do
    local cache = perilune.open(options)
    cache:set("k", { 1 }, { tags = { "t" } })
    cache:get "k"
    cache:get("other", function() return 1 end)
    cache:invalidate_tag "t"
    cache:stats()
    cache:prometheus()
    cache:close()
  end
  assert(perilune.open "users"):set("k", "v")
]]

spec.test("the module prints nothing, sets no global and no hook", function()
  local output, code, said = run([[
    local before = {}
    for name in pairs(_G) do before[name] = true end
    local loaded, registry = {}, debug.getregistry()
    for name in pairs(package.loaded) do loaded[name] = true end
    local sought = string.format
    ]] .. use .. [[
    for name in pairs(_G) do assert(before[name], name) end
    for name in pairs(package.loaded) do assert(loaded[name] or name:find "^perilune", name) end
    for key in pairs(registry) do
      assert(type(key) ~= "string" or key:find "^_" or key:find "^perilune" or key == "FILE*", key)
    end
    assert(debug.gethook() == nil and string.format == sought)
    assert(debug.getmetatable("").__index == string and debug.getmetatable(nil) == nil)
  ]])
  spec.same({ output, code, said }, { "", 0, "" })
end)

spec.test("a process ends well with all left open", function()
  local output, code, said = run(use .. [[
    kept = { perilune.open "users", perilune.open {}, perilune.open { redis = "unix:/nowhere",
      log = false } }
    kept[2]:set("k", "v")
    kept[3]:get "k"
    os.exit(7, false)
  ]])
  spec.same({ output, code, said }, { "", 7, "" })
end)

spec.test("finalizers may use or close caches, in any order", function()
  for _, order in ipairs { "cache, first", "first, cache" } do
    local output, code, said = run(([[
      local perilune = require "perilune"
      local function with_finalizer(f) return setmetatable({}, { __gc = f }) end
      local cache, first
      cache = perilune.open {}
      first = with_finalizer(function()
        pcall(cache.set, cache, "k", "v")
        pcall(cache.close, cache)
        pcall(cache.get, cache, "k")
        pcall(function() perilune.open("at the end"):set("k", "v") end)
      end)
      kept = { %s }
      cache:set("k", "v")
    ]]):format(order))
    spec.same({ output, code, said }, { "", 0, "" })
  end
end)

spec.test("a finalizer cannot close a cache in the midst of a method", function()
  for _, call in ipairs { "cache:get(1000000 + i)", "cache:keys()", "cache:hottest()",
    "cache:stats()", "cache:delete(1000000 + i)", "cache:explain(1000000 + i)" } do
    local output, code, said = run(([[
      local perilune = require "perilune"
      collectgarbage("setpause", 100)
      collectgarbage("setstepmul", 1000)
      for try = 1, 40 do
        local cache = perilune.open {}
        local is_over = false
        setmetatable({}, { __gc = function() -- it comes anywhere: in the loop, or in the method
          local good, message = pcall(cache.close, cache)
          assert(good or message:find "cannot close a cache in the midst", message)
          is_over = true
        end })
        for i = 1, 100000 do
          local good, message = pcall(function() %s end)
          assert(good or message:find "closed cache", message)
          if is_over then break end
        end
        assert(is_over)
        cache:close()
      end
    ]]):format(call))
    spec.same({ output, code, said }, { "", 0, "" }, call)
  end
end)

spec.finish()
