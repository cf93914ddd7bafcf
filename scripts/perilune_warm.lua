-- SPDX-License-Identifier: MIT
--
-- perilune_warm.lua - `perilune warm`: loads what a policy, or a list, names, and tells how far it
-- is: people by a line on a terminal, the service manager by messages, programs by an exit code.
--
-- It is part of the program: called with the table that perilune_program.lua is called with, it
-- returns the command, which is there as program.warm.

local program = ...
local arguments = program.arguments
local refuse, open, check = arguments.refuse, arguments.open, arguments.check

local OK, FAILED, PARTLY, LATE = 0, 1, 3, 4
local LINE_EVERY = 5 -- seconds between two lines where there is no terminal

---------------------------------------------------------------------------------------------------
-- options

local function check_duration(text)
  local ms = program.duration(text)
  if not ms or ms < 1 then
    refuse("option '--deadline' must be a duration of at least 1 ms, such as \"20s\", got '%s'",
      text)
  end
  return text
end

local function to_count(name, text, most)
  local count = math.tointeger(tonumber(text))
  if not count or count < 1 or count > most then
    refuse("option '%s' must be a whole number from 1 to %d, got '%s'", name, most, text)
  end
  return count
end

local function check_given(given, rest)
  if #rest > 0 then
    refuse "warm takes no arguments; a list is given by --list FILE"
  elseif not given["--policy"] then
    refuse "warm wants -p POLICY"
  elseif not given.open.redis then
    refuse "warm wants --redis URL: what is loaded is for there"
  end
end

-- The options of cache:warm() that the command line asks for. Of Redis alone, since what this
-- process has in its own memory ends with it: a value that did not get there has failed.
local function wanted(given)
  return {
    deadline = given["--deadline"] and check_duration(given["--deadline"]),
    rate = given["--rate"] and arguments.rate(given["--rate"], "keys", "2000/s"),
    top = given["--top"] and to_count("--top", given["--top"], 10000000),
    concurrency = given["--concurrency"] and
      to_count("--concurrency", given["--concurrency"], 256),
    file = given["--list"],
    l2_only = true,
    notify = true,
  }
end

---------------------------------------------------------------------------------------------------
-- telling

-- "4120/5000 82% 1.9k/s 12 failed 4 s left"
local function progress_line(report)
  local done = report.loaded + report.present + report.failed
  local rate = report.took > 0 and done / report.took or 0
  local left = rate > 0 and ("%d s left"):format(math.ceil((report.wanted - done) / rate)) or ""
  return ("%d/%d %d%% %s/s %d failed %s"):format(done, report.wanted,
    report.wanted > 0 and done * 100 // report.wanted or 100,
    rate >= 1000 and ("%.1fk"):format(rate / 1000) or ("%.0f"):format(rate), report.failed,
    report.following and "another instance loads" or left)
end

-- Returns a function that shows progress: one line drawn anew on a terminal, else one each 5 s.
local function make_display()
  local is_terminal = program.is_terminal()
  local last = 0
  return function(report)
    if is_terminal then
      io.stderr:write("\r\27[K", progress_line(report))
    elseif report.took - last >= LINE_EVERY then
      last = report.took
      io.stderr:write(progress_line(report), "\n")
    end
  end, function()
    if is_terminal then
      io.stderr:write "\r\27[K"
    end
  end
end

local function print_summary(report)
  local widest = #"source"
  for _, row in ipairs(report.sources) do
    widest = math.max(widest, #row.source)
  end
  local form = "%-" .. math.min(widest, 60) .. "s %9s %9s %9s %9s"
  print(form:format("source", "wanted", "loaded", "present", "failed"))
  for _, row in ipairs(report.sources) do
    print(form:format(row.source, row.wanted, row.loaded, row.present, row.failed))
  end
  print(("%d keys: %d loaded, %d were there, %d failed, in %.1f s%s"):format(report.wanted,
    report.loaded, report.present, report.failed, report.took,
    report.deadline_passed and ", stopped by the deadline" or
    report.interrupted and ", interrupted" or ""))
  if report.error then
    print("the first failure: " .. report.error)
  end
end

---------------------------------------------------------------------------------------------------
-- the command

-- Warms until all is done, the deadline comes, or Ctrl-C.
local function warm(cache, options)
  local show, wipe = make_display()
  program.catch_interrupt()
  function options.progress(report)
    show(report)
    return not program.interrupted()
  end
  local report, message, code = cache:warm(options)
  wipe()
  check(report, message, code)
  report.interrupted = program.interrupted()
  return report
end

local function exit_code(report)
  if report.deadline_passed then
    return LATE
  elseif report.interrupted then
    return PARTLY
  elseif report.failed == 0 then
    return OK
  end
  return report.ready and PARTLY or FAILED
end

return {
  options = { ["--policy"] = "value", ["--trusted"] = "flag", ["--list"] = "value",
    ["--top"] = "value", ["--deadline"] = "value", ["--rate"] = "value",
    ["--concurrency"] = "value", ["--l2-only"] = "flag", ["--json"] = "flag" },
  run = function(given, rest)
    check_given(given, rest)
    local options = wanted(given)
    local cache <close> = open(given)
    check(cache:load_policy(given["--policy"], given["--trusted"]))
    local report = warm(cache, options)
    if given["--json"] then
      program.as_list(report.sources)
      print(program.json(report))
    else
      print_summary(report)
    end
    return exit_code(report)
  end,
}
