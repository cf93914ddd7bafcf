-- SPDX-License-Identifier: MIT
--
-- page.lua - runs what the page of a host shows, so that the page is true.
--
-- A block "console" of a page is a session: after "$ " stands a command (which goes on after a line
-- that ends in "\"), under it what it prints, in which "..." is any text. A command that ends in
-- " &" is a program that stays: it is started, and is the result. Commands run at the top of the
-- tree, with the variables that are given; `perilune` is the program that was built.

local host = require "host"
local spec = require "spec"

local page = {}

-- The steps of a page's sessions, in order: { command, what it prints }.
local function steps_of(text)
  local list = {}
  for body in text:gmatch "\n```console\n(.-\n)```\n" do
    for line in body:gsub("\\\n%s*", ""):gmatch "(.-)\n" do
      if line:find "^%$ " then
        list[#list + 1] = { line:sub(3), "" }
      else
        list[#list][2] = list[#list][2] .. line .. "\n"
      end
    end
  end
  return list
end

local function is_like(text, wanted)
  local pattern = wanted:gsub("%p", "%%%0"):gsub("%%%.%%%.%%%.", ".-")
  return text:find("^" .. pattern .. "$") ~= nil
end

-- Before each command: where it runs, and what it finds there.
local function preamble(variables)
  local lines = {
    ("cd '%s' || exit"):format(host.root == "" and "." or host.root),
    ("perilune() { '%s' \"$@\"; }"):format(os.getenv "PERILUNE"),
  }
  for name, value in pairs(variables) do
    lines[#lines + 1] = ("export %s='%s'"):format(name, value)
  end
  return table.concat(lines, "\n") .. "\n"
end

-- Runs a command as the pages mean it; returns what it prints, standard error as well. One that
-- waits for what never comes is ended after a minute.
function page.run(command, variables)
  local script = (preamble(variables) .. command):gsub("'", "'\\''")
  return (spec.run(("timeout 60 sh -c '%s' 2>&1"):format(script)))
end

-- Plays scripts/hosts/NAME.md. `ready` says when a program that it starts is, as host.start wants
-- it: { port = } or { says = }. Returns what it started last.
function page.play(name, variables, ready)
  local program
  local file <close> = assert(io.open(host.root .. "scripts/hosts/" .. name .. ".md"))
  for _, step in ipairs(steps_of(file:read "a")) do
    local command, wanted = step[1], step[2]
    local stays = command:match "^(.*) &$"
    if stays then
      program = host.start { "sh", "-c", preamble(variables) .. "exec env " .. stays,
        port = ready.port, says = ready.says }
    else
      local output = page.run(command, variables)
      if not is_like(output, wanted) then
        local said = program and "its program said:\n" .. program:said() or ""
        if program then
          program:stop()
        end
        error(("%s.md: $ %s\nprinted:\n%swanted:\n%s%s"):format(name, command, output, wanted,
          said), 2)
      end
    end
  end
  return program
end

return page
