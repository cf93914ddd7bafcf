-- SPDX-License-Identifier: MIT
--
-- run.lua - the models of this folder, each as it is and without each of its guards.
--
--     lua5.4 run.lua small MODELS FOLDER     what ./dev test runs: small configurations, and every
--                                            guard taken out, which must break the invariant named
--     lua5.4 run.lua large MODELS FOLDER     what ./dev model runs: as large as 4 GB allow, and
--                                            with bitstate hashing beyond (may miss states)
--
-- MODELS is this folder. A folder of its own is made in FOLDER, and removed where all is well.

-- The configurations, by model. ALL stands for all invariants of a model at once.
local SMALL = {
    { "fill", "-DREADERS=1 -DWRITES=2", "a reader, two writes of another instance" },
    { "fill", "-DREADERS=1 -DWRITES=1 -DTRACKED=true",
        "the server tracks, and deletes are silent" },
    { "fill", "-DREADERS=1 -DWRITES=0 -DOWN_WRITER=true", "a reader and a writer of one instance" },
    { "set", "-DCUTS=0 -DFAILURES=1", "sets of two instances, one fails" },
    { "set", "-DCUTS=1 -DFAILURES=0", "sets of two instances, the link is lost" },
    { "tags", "-DWRITES=1", "a reader, and a tag or a clear of another instance" },
    { "repair", "-DCUTS=2 -DWRITES=1", "two gaps, both repaired: the same generation comes back" },
    { "repair", "-DCUTS=1 -DWRITES=1 -DTRIMS=1", "a gap that the log may not cover" },
    { "repair", "-DCUTS=1 -DWRITES=1 -DTRIMS=1 -DWALK=true", "the same in a ring of servers" },
    { "repair", "-DCUTS=1 -DWRITES=0 -DREADS=2 -DCLEARS=1", "a clear in a gap" },
    { "repair", "-DCUTS=0 -DWRITES=2 -DREADS=1 -DLOSSES=1 -DOTHERS=true",
        "a message is lost on a live link" },
    { "repair", "-DCUTS=0 -DWRITES=2 -DREADS=0 -DBEATS=0 -DRESTORES=1 -DOTHERS=true",
        "the server comes back with an older state" },
    { "fence", "", "a put and an invalidation with late stores" },
}

-- Guards: model, what is taken out, flags, the invariant that then fails.
local MUTANTS = {
    { "fill", "EPOCH_CHECK", "-DWRITES=1", "I2" },
    { "fill", "SECOND_CHECK", "-DWRITES=1", "I2" },
    { "fill", "KILL_PENDING", "-DWRITES=1", "I3" },
    { "fill", "GENERATION_ON_LOSS", "-DWRITES=1", "I2" },
    { "fill", "UP_AFTER_CONFIRMED", "-DWRITES=1", "I2" },
    { "fill", "LEASE_COMPARED", "-DWRITES=1", "I5" },
    { "fill", "LEASE_COMPARED", "-DWRITES=1", "I1" },
    { "fill", "DELETE_ENDS_LEASE", "-DWRITES=1", "I1" },
    { "fill", "KEEP_IF_COMMITTED", "-DWRITES=1 -DTRACKED=true", "I2" },
    { "fill", "NO_TRUST_IN_TRACKING", "-DWRITES=1 -DTRACKED=true", "I2" },
    { "fill", "FOREIGN_APPLIED", "-DWRITES=1", "I3" },
    { "fill", "STAMP_FIRST", "-DWRITES=1", "I2" },
    { "fill", "OWN_R4", "-DWRITES=0 -DOWN_WRITER=true", "I6" },
    { "fill", "OWN_R4", "-DWRITES=0 -DOWN_WRITER=true", "I2" },
    { "set", "REPLY_RAISES", "-DCUTS=0 -DFAILURES=0", "I6" },
    { "set", "REPLY_CHECKS", "-DCUTS=0 -DFAILURES=0", "I2" },
    { "set", "ECHO_BY_CONNECTION", "-DCUTS=0 -DFOREIGN=0", "I2" },
    { "set", "FAILURE_FORGETS", "-DCUTS=0 -DFOREIGN=0", "I2" },
    { "set", "LOSER_FORGETS", "-DCUTS=0 -DFAILURES=0", "I6" },
    { "set", "KEPT_OR_FORGOTTEN", "-DCUTS=0 -DFAILURES=0", "I6" },
    { "set", "KEPT_OR_FORGOTTEN", "-DFAILURES=0", "I2" },
    { "set", "RIVALS_ENDED", "-DCUTS=0 -DFAILURES=0", "I6" },
    { "set", "FOREIGN_APPLIED", "-DCUTS=0 -DFAILURES=0", "I3" },
    { "set", "GENERATION_ON_LOSS", "-DFAILURES=0", "I2" },
    { "tags", "COMMIT_LOOKS CLOCK_CARRIED", "-DWRITES=1", "I1" },
    { "tags", "CLOCK_FIRST", "-DWRITES=1", "I1" },
    { "tags", "MARK_AT_HIT", "-DWRITES=1", "I3" },
    { "tags", "CLOCK_RAISED", "-DWRITES=1", "I3" },
    { "tags", "CLEAR_STEPS", "-DWRITES=1", "I3" },
    { "tags", "READ_LOOKS", "-DWRITES=1 -DREADERS=2 -DCUTS=0 -DENDS=0", "I3" },
    { "tags", "OWN_MARK", "-DWRITES=0 -DOWN_WRITER=true -DCUTS=0", "I6" },
    { "repair", "GENERATION_ON_LOSS", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0", "I4" },
    { "repair", "SUBSCRIBED_FIRST", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0", "I2" },
    { "repair", "APPLIED_FIRST", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0", "I4" },
    { "repair", "EARLY_APPLIED", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0", "I2" },
    { "repair", "LOG_COVERS", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0 -DTRIMS=1", "I2" },
    { "repair", "CERTAIN_LAST", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0 -DTRIMS=1", "I4" },
    { "repair", "WALK_RAISES", "-DCUTS=1 -DWRITES=1 -DREADS=1 -DBEATS=0 -DTRIMS=1 -DWALK=true",
        "I2" },
    { "repair", "BACK_BY_ONE", "-DCUTS=1 -DWRITES=0 -DREADS=1 -DBEATS=0 -DCLEARS=1", "I2" },
    { "repair", "SKIP_NOTICED", "-DCUTS=0 -DWRITES=2 -DREADS=1 -DLOSSES=1 -DOTHERS=true", "I2" },
    { "repair", "NUMBERS_IN_ROW", "-DCUTS=0 -DWRITES=2 -DREADS=1 -DLOSSES=1 -DOTHERS=true", "I2" },
    { "repair", "BEAT_COMPARED", "-DCUTS=0 -DWRITES=1 -DREADS=1 -DLOSSES=1", "I4" },
    { "repair", "CERTAIN_AS_ASKED", "-DCUTS=0 -DWRITES=1 -DREADS=1 -DLOSSES=1", "I4" },
    { "repair", "OWN_MOVE", "-DCUTS=0 -DWRITES=0 -DREADS=0 -DOWN_WRITES=1", "N2" },
    { "repair", "SAME_HISTORY", "-DCUTS=0 -DWRITES=2 -DREADS=0 -DBEATS=0 -DRESTORES=1", "N1" },
    { "repair", "BACKWARDS_NOTICED", "-DCUTS=0 -DWRITES=1 -DREADS=0 -DBEATS=0 -DRESTORES=1",
        "N1" },
    { "repair", "LOSS_CLEARS", "-DCUTS=0 -DWRITES=1 -DREADS=0 -DBEATS=0 -DRESTORES=1", "N1" },
    { "repair", "ANSWERS_REMEMBERED",
        "-DCUTS=1 -DWRITES=1 -DREADS=0 -DBEATS=0 -DRESTORES=1 -DOWN_WRITES=1", "N1" },
    { "repair", "UNSURE_IS_LOST",
        "-DCUTS=0 -DWRITES=2 -DREADS=0 -DBEATS=0 -DRESTORES=1 -DTRIMS=1", "N1" },
    { "fence", "PUT_FENCE", "", "C2" },
    { "fence", "RAISE_FENCE REMOVE_FENCE", "", "C2" },
}

-- Guards behind which another one stands: without the first alone all still holds.
local SPARE = {
    { "tags", "COMMIT_LOOKS", "-DWRITES=1 -DCUTS=0", "CLOCK_CARRIED" },
    { "tags", "MARK_AT_STAMP", "-DWRITES=1 -DCUTS=0", "MARK_AT_HIT" },
    { "fence", "REMOVE_FENCE", "", "RAISE_FENCE" },
}

local LARGE = {
    { "fill", "-DREADERS=2 -DWRITES=1", "two readers" },
    { "fill", "-DREADERS=2 -DWRITES=2", "two readers, two writes" },
    { "fill", "-DREADERS=2 -DWRITES=1 -DTRACKED=true", "two readers, the server tracks" },
    { "fill", "-DREADERS=1 -DWRITES=1 -DOWN_WRITER=true", "writers here and there" },
    { "fill", "-DREADERS=1 -DWRITES=2 -DCUTS=2 -DENDS=2", "more misfortunes" },
    { "set", "-DFOREIGN=2", "two foreign sets" },
    { "set", "-DOWN_WRITERS=2 -DCUTS=0 -DFAILURES=0", "two own sets" },
    { "set", "-DOWN_WRITERS=2", "two own sets, a failure and a cut" },
    { "tags", "-DREADERS=2 -DWRITES=1", "two readers" },
    { "tags", "-DREADERS=1 -DWRITES=1 -DOWN_WRITER=true", "writers here and there" },
    { "tags", "-DREADERS=1 -DWRITES=3", "three writes" },
    { "repair", "-DCUTS=2 -DWRITES=2", "two gaps, two writes" },
    { "repair", "-DCUTS=2 -DWRITES=3 -DREADS=1", "two gaps, more writes than the log keeps" },
    { "repair", "-DCUTS=2 -DWRITES=2 -DREADERS=2", "two gaps, two readers" },
    { "repair", "-DCUTS=2 -DWRITES=1 -DTRIMS=1 -DREADS=3", "two gaps, one not covered" },
    { "repair", "-DCUTS=1 -DWRITES=2 -DTRIMS=1 -DWALK=true", "a gap in a ring of servers" },
    { "repair", "-DCUTS=2 -DWRITES=2 -DTRIMS=1 -DWALK=true", "two gaps in a ring of servers" },
    { "repair", "-DCUTS=1 -DWRITES=1 -DOWN_WRITES=1", "writers here and there" },
    { "repair", "-DCUTS=1 -DWRITES=1 -DCLEARS=1", "a clear in a gap" },
    { "repair", "-DCUTS=1 -DWRITES=2 -DLOSSES=1 -DOTHERS=true -DBEATS=2", "losses, and a gap" },
    { "repair", "-DCUTS=0 -DWRITES=3 -DREADS=1 -DRESTORES=1 -DOTHERS=true", "an older state" },
    { "repair", "-DCUTS=0 -DWRITES=2 -DREADS=1 -DRESTORES=1 -DOTHERS=true -DTRIMS=1",
        "an older state, and a log cut short" },
    { "repair", "-DCUTS=0 -DWRITES=1 -DREADS=1 -DRESTORES=1 -DOTHERS=true -DOWN_WRITES=1",
        "an older state, and own writes" },
}

local mode, models, folder = arg[1], arg[2], arg[3]

local function output(command)
    local pipe = assert(io.popen(command .. " 2>&1"))
    local text = pipe:read "a"
    pipe:close()
    return text
end

if output "command -v spin" == "" then
    print "1..0 # SKIP there is no spin here"
    os.exit(mode == "small")
end

local work = output(("mktemp -d '%s/model.XXXXXX'"):format(folder)):gsub("%s+$", "")
assert(work:find "^/", "no folder could be made in " .. folder)

-- A model's guards and their numbers, those it shares with others included. A guard is defined with
-- what it does beside it; a setting has its #ifndef before it.
local function guards_of(model)
    local numbers = {}
    for _, name in ipairs { "instance", model } do
        local before = ""
        for line in io.lines(models .. "/" .. name .. ".pml") do
            local guard, number = line:match "^#define ([%u%d_]+) (%d+) +/%*"
            if guard and not before:find "^#ifndef" then
                numbers[guard] = number
            end
            before = line
        end
    end
    return numbers
end

-- Makes a verifier; says why where that fails.
local function make(model, flags, options)
    local made = output(("cd '%s' && rm -f pan* && spin %s -a '%s/%s.pml'"):format(work, flags,
        models, model))
    local built = output(("cd '%s' && cc -w -DSAFETY %s -o pan pan.c"):format(work, options))
    local is_made = not made:find "rror" and built == ""
    return is_made, not is_made and made .. built or nil
end

-- Runs it: what was found, states, the whole text. "error", "holds", or why neither is known.
local function search(claim, options)
    local said = output(("cd '%s' && ./pan -m100000 -E -N %s %s"):format(work, claim,
        options or ""))
    local states = said:match "([%d.e+]+) states, stored" or "?"
    if said:find "assertion violated" then
        return "error", states, said
    elseif said:find("errors: 0", 1, true) and not said:find "Search not completed" and
        not said:find "too small" and not said:find "MEMLIM bound" then
        return "holds", states, said
    end
    return "incomplete", states, said
end

-- The end of a counterexample's steps, as remarks.
local function trail(model, flags)
    local steps = output(("cd '%s' && spin %s -p -g -k %s.pml.trail '%s/%s.pml'"):format(work,
        flags, model, models, model))
    print("# " .. steps:sub(-6000):gsub("\n", "\n# "))
end

-- ---- small ----

local n_lines, n_bad = 0, 0

local function say(is_good, title, remarks)
    n_lines = n_lines + 1
    n_bad = n_bad + (is_good and 0 or 1)
    print(("%s %d - %s"):format(is_good and "ok" or "not ok", n_lines, title))
    if not is_good and remarks then
        print("# " .. remarks:gsub("\n", "\n# "))
    end
    io.flush()
end

local function out_flags(model, guards)
    local first, second = guards:match "^(%S+) ?(%S*)$"
    local numbers = guards_of(model)
    return "-DOUT=" .. numbers[first] .. (second ~= "" and " -DAND_OUT=" .. numbers[second] or "")
end

local function holds(model, flags, title)
    local is_made, why = make(model, flags, "-O0")
    local result, states, said = "not made", "?", why
    if is_made then
        result, states, said = search "ALL"
    end
    say(result == "holds", ("%s: %s (%s states)"):format(model, title, states),
        result .. "\n" .. said)
    if result == "error" then
        trail(model, flags)
    end
end

local function falls(model, guards, flags, invariant)
    flags = flags .. " " .. out_flags(model, guards)
    local is_made, why = make(model, flags, "-O0")
    local result, _, said = "not made", nil, why
    if is_made then
        result, _, said = search(invariant)
    end
    say(result == "error", ("%s: without %s %s fails"):format(model, guards:gsub(" ", " and "),
        invariant), result .. "\n" .. said)
end

-- Every guard that a model defines is in the table: the list cannot fall behind.
local function check_table()
    local tried, forgotten = {}, {}
    for _, list in ipairs { MUTANTS, SPARE } do
        for _, row in ipairs(list) do
            for guard in row[2]:gmatch "%S+" do
                tried[guard] = true
            end
        end
    end
    for _, model in ipairs { "fill", "set", "tags", "repair", "fence" } do
        for guard in pairs(guards_of(model)) do
            if not tried[guard] then
                forgotten[#forgotten + 1] = model .. ": " .. guard
            end
        end
    end
    say(#forgotten == 0, "every guard is taken out by a row of the table",
        table.concat(forgotten, "\n"))
end

local function run_small()
    print("1.." .. 1 + #SMALL + #MUTANTS + #SPARE)
    check_table()
    for _, row in ipairs(SMALL) do
        holds(row[1], row[2], row[3])
    end
    for _, row in ipairs(MUTANTS) do
        falls(row[1], row[2], row[3], row[4])
    end
    for _, row in ipairs(SPARE) do
        holds(row[1], row[3] .. " " .. out_flags(row[1], row[2]),
            ("without %s alone all holds, since %s stands behind it"):format(row[2], row[4]))
    end
end

-- ---- large ----

local function run_large()
    for _, row in ipairs(LARGE) do
        local model, flags, title = row[1], row[2], row[3]
        assert(make(model, flags, "-O2 -DCOLLAPSE -DMEMLIM=4000"))
        local result, states, said = search "ALL"
        local how = "exhaustive"
        if result == "incomplete" then
            assert(make(model, flags, "-O2 -DBITSTATE"))
            result, states, said = search("ALL", "-w31 -k3")
            how = "bitstate: some states may be missed"
        end
        n_bad = n_bad + (result == "holds" and 0 or 1)
        print(("%-10s %12s states, %s; %s: %s (%s)"):format(result, states, how, model, title,
            flags))
        io.flush()
        if result == "error" then
            trail(model, flags)
        elseif result ~= "holds" then
            print(said)
        end
    end
end

if mode == "small" then
    run_small()
else
    run_large()
end
if n_bad == 0 then
    os.execute(("rm -rf '%s'"):format(work))
end
os.exit(n_bad == 0)
