-- SPDX-License-Identifier: MIT
--
-- page.lua - runs what the page of a host shows, so that the page is true.
--
-- A block "console" of a page is a session: after "$ " stands a command (which goes on after a line
-- that ends in "\"), under it what it prints, in which "..." is any text. A command that ends in
-- " &" is a server: it is started, and goes on behind. Commands run in the tree's folder, with the
-- environment that the test was given; `perilune` is the program that was built.

local spec = require "spec"

local page = {}

local root = assert(arg[0]:match "^(.*)tests/hosts/")
root = root == "" and "." or root
page.root = root

local function read(path)
  local file = assert(io.open(path))
  local text = file:read "a"
  file:close()
  return text
end

-- The sessions of a page, each a list of { command, what it prints }.
local function sessions(text)
  local list = {}
  for body in text:gmatch "\n```console\n(.-\n)```\n" do
    local session = {}
    for line in body:gsub("\\\n%s*", ""):gmatch "(.-)\n" do
      if line:find "^%$ " then
        session[#session + 1] = { line:sub(3), "" }
      else
        local step = assert(session[#session], "a session begins with a command")
        step[2] = step[2] .. line .. "\n"
      end
    end
    list[#list + 1] = session
  end
  return list
end

local function is_like(text, wanted)
  local pattern = wanted:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".-")
  return text:find("^" .. pattern .. "$") ~= nil
end

-- Runs a command as the pages mean it; returns what it prints, standard error as well.
function page.run(command)
  return (spec.run(("{ cd '%s'; perilune() { '%s' \"$@\"; }; %s\n} 2>&1"):format(root,
    os.getenv "PERILUNE", command)))
end

-- Plays the sessions of scripts/hosts/NAME.md, in order. start(command): starts a server, and waits
-- until it answers.
function page.play(name, start)
  local list = sessions(read(root .. "/scripts/hosts/" .. name .. ".md"))
  assert(#list > 0, name .. ".md shows no session")
  for _, session in ipairs(list) do
    for _, step in ipairs(session) do
      local command, wanted = step[1], step[2]
      local server = command:match "^(.*) &$"
      if server then
        start(server)
      else
        local output = page.run(command)
        if not is_like(output, wanted) then
          error(("%s.md: $ %s\nprinted:\n%swanted:\n%s"):format(name, command, output, wanted), 2)
        end
      end
    end
  end
end

return page
