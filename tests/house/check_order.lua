-- SPDX-License-Identifier: MIT
--
-- check_order.lua - keeps the rule that every atomic operation says why its order is right.
--
-- An operation names its memory order. A relaxed one has a comment near with the word "relaxed"
-- and the reason; any other has one with its label, as in "P3 release: ...". Near means: on its
-- lines, or ending at most six lines above. Both sides of a label stand in one folder: an acquire
-- without its release, or the other way round, is a finding. acq_rel and seq_cst are both sides,
-- so there the order's name with the reason will do. Where the other side is not in the folder, or
-- no atomic (a system call), "no pair" and the reason say so.
--
-- usage: lua5.4 check_order.lua ROOT

local root = arg[1] or "."
package.path = root .. "/tests/house/?.lua;" .. package.path
local tree = require "tree"

local REACH = 6 -- lines between a comment's end and the operation it speaks of
local SIDES = {
    release = { "release" }, acquire = { "acquire" }, consume = { "acquire" },
    acq_rel = { "release", "acquire" }, seq_cst = { "release", "acquire" },
}

-- The string literal that begins at a place, or nil.
local function text_at(text, at)
    local stop = at
    if text:sub(at, at) ~= '"' then
        return nil
    end
    repeat
        stop = text:find('[\\"\n]', stop + 1)
        local is_escape = stop and text:sub(stop, stop) == "\\"
        if is_escape then
            stop = stop + 1
        end
    until not is_escape
    return stop and text:sub(at, stop)
end

-- Splits a text into code with the comments and strings blanked, and the list of comments, each
-- with its first and last line.
local function split(text)
    local comments, code, at, line = {}, {}, 1, 1
    local function keep(piece, as_code)
        code[#code + 1] = as_code and piece or piece:gsub("[^\n]", " ")
        line = line + select(2, piece:gsub("\n", ""))
    end
    while at <= #text do
        local piece = text:match("^/%*.-%*/", at) or text:match("^//[^\n]*", at)
        if piece then
            comments[#comments + 1] = { first = line, text = piece }
            keep(piece, false)
            comments[#comments].last = line
        else
            piece = text:match("^'\\?.'", at) or text_at(text, at)
            if piece then
                keep(piece, false)
            else
                piece = text:match("^[^/\"']+", at) or text:sub(at, at)
                keep(piece, true)
            end
        end
        at = at + #piece
    end
    return table.concat(code), comments
end

-- What is said near the lines first..last.
local function said_near(comments, first, last)
    local texts = {}
    for _, comment in ipairs(comments) do
        if comment.first <= last and comment.last >= first - REACH then
            texts[#texts + 1] = comment.text
        end
    end
    return table.concat(texts, " ")
end

-- Calls visit(label, side) for each "P3 release" in a text.
local function each_label(text, visit)
    for label, word in text:gmatch "%f[%w](%u%d+) (%l+_?%l*)" do
        for _, side in ipairs(SIDES[word] or {}) do
            visit(label, side)
        end
    end
end

local function has_label(text, order)
    local is_said = false
    each_label(text, function(_, side)
        is_said = is_said or side == SIDES[order][1] or side == SIDES[order][2]
    end)
    return is_said
end

local function is_explained(said, order)
    local is_both = order == "acq_rel" or order == "seq_cst"
    return has_label(said, order) or said:find "[Nn]o pair" or is_both and said:find(order, 1, true)
end

-- The strongest order among those of one call: a compare-and-swap names two.
local function strongest(orders)
    for _, order in ipairs { "seq_cst", "acq_rel", "release", "acquire", "consume" } do
        if orders:find("memory_order_" .. order, 1, true) then
            return order
        end
    end
    return "relaxed"
end

local function check_call(file, comments, name, arguments, line, found)
    local where = ("%s:%d: %s"):format(file.path, line, name)
    if not arguments:find "memory_order" and not arguments:find "%f[%w]order%f[%W]" then
        found[#found + 1] = where .. " names no memory order"
        return
    end
    local order = strongest(arguments)
    local last = line + select(2, arguments:gsub("\n", ""))
    local said = said_near(comments, line, last)
    if order == "relaxed" and not said:find "[Rr]elaxed" then
        found[#found + 1] = where .. " is relaxed, and no comment near says why that is enough"
    elseif order ~= "relaxed" and not is_explained(said, order) then
        found[#found + 1] = where .. " (" .. order .. ") has no label near, such as \"P3 " ..
            SIDES[order][1] .. "\""
    end
end

local function check_file(file, labels, found)
    local code, comments = split(file.text)
    local folder = file.path:match "^(.*)/"
    labels[folder] = labels[folder] or {}
    local line, from = 1, 1
    for at, name, arguments in code:gmatch "()%f[%w_](atomic_[%w_]+)%s*(%b())" do
        line = line + select(2, code:sub(from, at - 1):gsub("\n", ""))
        from = at
        if name ~= "atomic_init" and name ~= "atomic_is_lock_free" then
            check_call(file, comments, name, arguments, line, found)
        end
    end
    for _, comment in ipairs(comments) do
        each_label(comment.text, function(label, side)
            local sides = labels[folder][label] or { where = file.path .. ":" .. comment.first }
            sides[side] = true
            labels[folder][label] = sides
        end)
    end
end

local function check(files)
    local found, labels = {}, {}
    for _, file in ipairs(files) do
        check_file(file, labels, found)
    end
    for folder, of_folder in pairs(labels) do
        for label, sides in pairs(of_folder) do
            for _, pair in ipairs { { "release", "acquire" }, { "acquire", "release" } } do
                if sides[pair[1]] and not sides[pair[2]] then
                    found[#found + 1] = ("%s: %s %s has no %s in %s"):format(sides.where, label,
                        pair[1], pair[2], folder)
                end
            end
        end
    end
    table.sort(found)
    return found
end

local function sample(text)
    return { ["l1/x.c"] = text }
end

local STORE = "atomic_store_explicit(&a, 1, memory_order_release);\n"
local LOAD = "x = atomic_load_explicit(&a, memory_order_acquire);\n"
local RELAXED = "x = atomic_load_explicit(&a, memory_order_relaxed);\n"
local PAIR = "/* P3 release: pairs with f */\n" .. STORE .. "/* P3 acquire */\n" .. LOAD
local samples = {
    { "a labelled pair is fine", sample(PAIR) },
    { "a label's other side may stand in another file of the folder",
        { ["l1/x.c"] = "/* P3 release */\n" .. STORE, ["l1/y.c"] = "/* P3 acquire */\n" .. LOAD } },
    { "a label's other side in another folder does not count",
        { ["l1/x.c"] = PAIR .. "/* P4 release */\n" .. STORE, ["l2/x.c"] = "/* P4 acq_rel */\n" },
        "P4 release has no acquire in l1" },
    { "a release without a label is found", sample(STORE), "has no label" },
    { "a label of the wrong side does not count", sample(PAIR .. ("\n"):rep(9) ..
        "/* P3 acquire */\n" .. STORE), "has no label" },
    { "a label too far above does not count", sample(PAIR .. ("\n"):rep(9) .. LOAD),
        "has no label" },
    { "a label without its partner is found", sample("/* P3 release */\n" .. STORE), "no acquire" },
    { "an acquire may say why it has no pair", sample("/* no pair: a call orders */\n" .. LOAD) },
    { "an order that is both sides may be explained by name",
        sample("/* acq_rel: the owner */\n" ..
            "x = atomic_exchange_explicit(&a, 1, memory_order_acq_rel);\n") },
    { "a relaxed access with its reason is fine", sample("/* relaxed: a count */\n" .. RELAXED) },
    { "a relaxed access without a reason is found", sample(RELAXED), "relaxed" },
    { "a call without an order is found", sample("/* P3 seq_cst */\nx = atomic_load(&a);\n"),
        "names no memory order" },
    { "a call in a comment or a text is none",
        sample('/* atomic_load(&a) */ f("\\"atomic_load(a)");\n') },
}

tree.run(check, samples, "every atomic operation of the tree says why its order is right",
    tree.read(root, "core l1 l2 lua", { c = true, h = true }))
