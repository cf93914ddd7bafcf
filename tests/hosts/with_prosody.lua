-- SPDX-License-Identifier: MIT
--
-- with_prosody.lua - the adapter for Prosody, in Prosody's own loop and coroutines, without the
-- rest of it.

local host = require "host"
host.need_program("prosody", "prosody")
host.need_module("socket", "lua-socket")

package.path = "/usr/lib/prosody/?.lua;" .. package.path
package.cpath = "/usr/lib/prosody/?.so;" .. package.cpath

package.loaded["net.server"] = require "net.server_epoll" -- which the program would choose

local async = require "util.async"
local server = require "net.server"
local timer = require "util.timer"
local perilune = require "perilune"
local spec = require "spec"

local adapter = require "perilune.prosody"

local n_turns, waiter = 0, async.waiter
async.waiter = function(...)
  n_turns = n_turns + 1
  return waiter(...)
end

-- Functions run as handlers do, until all have ended.
local function run(...)
  local n_running, raised = 0, nil
  for _, f in ipairs { ... } do
    n_running = n_running + 1
    async.runner(function()
      local good, message = xpcall(f, debug.traceback)
      raised = raised or not good and message
      n_running = n_running - 1
    end):run(true)
  end
  local function tick() -- a turn of the loop may end the last one, and then wait
    return 0.01
  end
  local ticking = timer.add_task(0.01, tick)
  while n_running > 0 do
    server.loop(true)
  end
  timer.stop(ticking)
  assert(not raised, raised)
end

local function pause()
  local sleep, done = waiter()
  timer.add_task(0.001, done)
  sleep()
end

require "calls".check {
  wrap = adapter.wrap,
  run = run,
  pause = pause,
  turns = function()
    return n_turns
  end,
}

spec.test("a cache that is closed takes its descriptor out of the loop", function()
  local redis <close> = spec.redis()
  local cache = adapter.wrap(assert(perilune.open { redis = redis.url, log = false }))
  local is_loading, is_closed = false, false
  run(function()
    cache:get("k", function()
      is_loading = true
      while not is_closed do
        pause()
      end
      return "v"
    end)
  end, function()
    while not is_loading do
      pause()
    end
    local _, _, code = cache:get("k", error)
    spec.same(code, "closed")
  end, function()
    while not is_loading do
      pause()
    end
    cache:close()
    is_closed = true
  end)
  server.setquitting(true) -- ends, since nothing is watched
  server.loop()
end)

spec.finish()
