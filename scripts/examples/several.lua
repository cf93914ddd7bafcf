-- SPDX-License-Identifier: MIT
--
-- several.lua - one cache over several servers of Redis: where keys go, how the servers fare, and
-- what becomes of reads when one of them is away.
--
-- usage: perilune run several.lua URL     URL: redis+ring://..., redis+cluster://..., of sentinels

local perilune = require "perilune"
local url = assert(arg[1], "usage: perilune run several.lua URL")
local cache <close> = assert(perilune.open { ns = "several", redis = url, log = false })

local keys = {}
for i = 1, 60 do
  keys[i] = "article:" .. i
  assert(cache:set(keys[i], "text " .. i))
end

-- Reads all of them past this process's own memory, and counts the answers.
local function read()
  local values, hows = cache:get_many(keys, { l1 = false })
  local right, away = 0, 0
  for i in ipairs(keys) do
    right = right + (values[i] == "text " .. i and 1 or 0)
    away = away + (hows[i] == "l2_down" and 1 or 0)
  end
  print(("of %d articles %d were right, %d were away"):format(#keys, right, away))
end

read()
for _, node in ipairs(cache:nodes()) do
  print(("%s: breaker %s, %d timeouts"):format(node.address, node.breaker, node.timeouts))
end
print "press enter to read again"
io.read()
read()
