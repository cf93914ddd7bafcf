-- SPDX-License-Identifier: MIT
--
-- with_cqueues.lua - the adapter for cqueues, and its example.

local host = require "host"
local cqueues = host.need_module("cqueues", "lua-cqueues")
local spec = require "spec"

local n_polls, poll = 0, cqueues.poll
cqueues.poll = function(...) -- which the adapter calls by its name
  n_polls = n_polls + 1
  return poll(...)
end

require "calls".check {
  wrap = require "perilune.cqueues".wrap,
  run = function(...)
    local loop = cqueues.new()
    for _, f in ipairs { ... } do
      loop:wrap(f)
    end
    assert(loop:loop())
  end,
  pause = function()
    poll(0.001)
  end,
  turns = function()
    return n_polls
  end,
}
require "front".check_program "cqueues"
require "front".check "cqueues"
spec.finish()
