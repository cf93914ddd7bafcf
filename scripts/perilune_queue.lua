-- SPDX-License-Identifier: MIT
--
-- perilune_queue.lua - `perilune queue`, `flush` and `deadletters`: what was written behind, and is
-- not stored yet or could not be.
--
-- It is part of the program: called with the table that perilune_program.lua is called with, it
-- returns the commands by name, which are there as program.queue.

local program = ...
local arguments = program.arguments
local complain, refuse, open, check, try = arguments.complain, arguments.refuse, arguments.open,
  arguments.check, arguments.try

local OK, FAILED = 0, 1

local commands = {}

local function plural(n, one, more)
  return ("%d %s"):format(n, n == 1 and one or more)
end

---------------------------------------------------------------------------------------------------
-- the queue

commands.queue = {
  options = { ["--json"] = "flag" },
  run = function(given, rest)
    if #rest > 0 then
      refuse "queue takes no arguments"
    end
    local cache <close> = open(given, true)
    local queue = check(cache:queue())
    local lead = cache:name "x":gsub("d:x$", "queue:lead")
    local now = check(cache:redis "TIME")
    local held = cache:redis("GET", lead) or "" -- a token, and when its lead ends
    local left = #held == 24 and
      (">I8"):unpack(held, 17) - now[1] * 1000 - now[2] // 1000 or 0
    queue.ours, queue.led = nil, left > 0
    if given["--json"] then
      print(program.json(queue))
      return OK
    end
    print(("waiting       %d"):format(queue.depth))
    print(("oldest        %.1f s"):format(queue.lag))
    print(("dead letters  %d"):format(queue.dead))
    print("stored by     " .. (queue.led and
      ("an instance, whose lead ends in %.1f s unless it goes on"):format(left / 1000) or "nobody"))
    return OK
  end,
}

commands.flush = {
  options = { ["--policy"] = "value", ["--trusted"] = "flag", ["--wait"] = "value",
    ["--json"] = "flag" },
  run = function(given, rest)
    if #rest > 0 then
      refuse "flush takes no arguments"
    elseif given["--trusted"] and not given["--policy"] then
      refuse "option '--trusted' is for a policy: -p FILE"
    elseif given["--wait"] and (program.duration(given["--wait"]) or 0) <= 0 then
      refuse("option '--wait' must be a duration such as \"20s\", got '%s'", given["--wait"])
    end
    local cache <close> = open(given, true)
    if given["--policy"] then
      check(cache:load_policy(given["--policy"], given["--trusted"]))
    end
    local done, message, code = cache:flush(given["--wait"])
    local queue = cache:queue()
    if given["--json"] then
      print(program.json { flushed = done or false, depth = queue and queue.depth,
        dead = queue and queue.dead })
    end
    check(done, message, code)
    if not given["--json"] then
      print("all is stored" .. (queue and queue.dead > 0 and
        ", but " .. plural(queue.dead, "dead letter", "dead letters") or ""))
    end
    return OK
  end,
}

---------------------------------------------------------------------------------------------------
-- dead letters

-- A key or an error as one line.
local function printable(text)
  return (text:gsub("[%c\x7f]", function(c)
    return ("\\x%02x"):format(c:byte())
  end))
end

local function print_letter(letter)
  print(("%s  %s %s  %s, %.0f s ago: %s"):format(letter.id, letter.op, printable(letter.key),
    plural(letter.attempts, "attempt", "attempts"), letter.age, printable(letter.error)))
end

commands["deadletters list"] = {
  options = { ["--most"] = "value", ["--json"] = "flag" },
  run = function(given, rest)
    local most = math.tointeger(tonumber(given["--most"] or "1000"))
    if #rest > 0 then
      refuse "deadletters list takes no arguments"
    elseif not most or most < 1 then
      refuse("option '--most' must be a positive number, got '%s'", given["--most"])
    end
    local cache <close> = open(given, true)
    local letters = check(cache:deadletters(most))
    if given["--json"] then
      print(program.json(program.as_list(letters)))
      return OK
    end
    for _, letter in ipairs(letters) do
      print_letter(letter)
    end
    return OK
  end,
}

-- A command that does something to the letters named, or to all.
local function for_letters(word, method, done)
  return {
    options = { ["--all"] = "flag", ["--json"] = "flag" },
    run = function(given, rest)
      if given["--all"] and #rest > 0 or not given["--all"] and #rest == 0 then
        refuse("deadletters %s wants the ids of letters, or --all", word)
      end
      local cache <close> = open(given, true)
      local n, missing = 0, 0
      for _, id in ipairs(given["--all"] and { "all" } or rest) do
        local count, code = check(try(cache[method], cache, id))
        n = n + (count or 0)
        if code == "miss" and not given["--all"] then
          missing = missing + 1
          complain("there is no dead letter '%s'", id)
        end
      end
      print(given["--json"] and program.json { [word] = n, missing = missing }
        or plural(n, "letter", "letters") .. " " .. done)
      return missing == 0 and OK or FAILED
    end,
  }
end

commands["deadletters retry"] = for_letters("retry", "retry_deadletter", "put back into the queue")
commands["deadletters drop"] = for_letters("drop", "drop_deadletter", "dropped")

return commands
