/* SPDX-License-Identifier: MIT
 *
 * parts.h - what the scripts that run inside Redis are put together from; included where these are.
 *
 * Each script is given what it calls, and no more, since all of that is made anew each time it
 * runs. Who uses a part that stands on others gets these, too. Offsets are those of codec.c,
 * counted from one.
 */
#ifndef PLN_L2_PARTS_H
#define PLN_L2_PARTS_H

#define NAMES "local V, L, T, LOG = KEYS[1], KEYS[2], KEYS[3], KEYS[4]\n"

/* The server's time, a whole number as text, and a point in time as stored; '' is forever. */
#define TIME                                                                                       \
    "local function micros()\n"                                                                    \
    "  local t = redis.call('TIME')\n"                                                             \
    "  return t[1] * 1000000 + t[2]\n"                                                             \
    "end\n"                                                                                        \
    "local function now() return math.floor(micros() / 1000) end\n"                                \
    "local function whole(n) return string.format('%.0f', n) end\n"                                \
    "local function at(t, left)\n"                                                                 \
    "  if left == '' then return '\\127' .. string.rep('\\255', 7) end\n"                          \
    "  return struct.pack('>I8', math.max(0, t + left))\n"                                         \
    "end\n"

#define CLOCK                                                                                      \
    NAMES TIME "local function clock(T)\n"                                                         \
               "  local c = redis.call('HGET', T, '#')\n"                                          \
               "  if not c then\n"                                                                 \
               "    c = whole(micros())\n"                                                         \
               "    redis.call('HSET', T, '#', c, '<', c, '@', c)\n"                               \
               "  end\n"                                                                           \
               "  return tonumber(c)\n"                                                            \
               "end\n"

/* A list of masks (drops.h) taken apart, and the one in force. */
#define DROPS                                                                                      \
    "local function drops(list)\n"                                                                 \
    "  local all, from = {}, 1\n"                                                                  \
    "  while from + 17 < #list do\n"                                                               \
    "    local to = from + 17 + struct.unpack('>I2', list, from + 16)\n"                           \
    "    all[#all + 1] = string.sub(list, from, to)\n"                                             \
    "    from = to + 1\n"                                                                          \
    "  end\n"                                                                                      \
    "  return all\n"                                                                               \
    "end\n"

#define LIST DROPS "local function listed() return drops(redis.call('HGET', T, '~') or '') end\n"

/* Whether what has a time is void. */
#define VOID                                                                                                 \
    LIST                                                                                                     \
        "local function fits(mask, key)\n"                                                                   \
        "  local text, from, at = string.sub(mask, 2), 1, 1\n"                                               \
        "  if string.sub(mask, 1, 1) == 'p' then return string.sub(key, 1, #text) == text end\n"             \
        "  while true do\n"                                                                                  \
        "    local star = string.find(text, '*', from, true)\n"                                              \
        "    local piece = string.sub(text, from, star and star - 1)\n"                                      \
        "    if from == 1 and not star then return piece == key end\n"                                       \
        "    if not star then\n"                                                                             \
        "      return #key - #piece + 1 >= at and string.sub(key, #key - #piece + 1) == piece\n"             \
        "    end\n"                                                                                          \
        "    local first, last = string.find(key, piece, at, true)\n"                                        \
        "    if not first or (from == 1 and first > 1) then return false end\n"                              \
        "    at, from = last + 1, star + 1\n"                                                                \
        "  end\n"                                                                                            \
        "end\n"                                                                                              \
        "local function is_dropped(c)\n"                                                                     \
        "  for _, drop in ipairs(listed()) do\n"                                                             \
        "    if struct.unpack('>I8', drop) > c and fits(string.sub(drop, 19), string.sub(V, #T - 1)) then\n" \
        "      return true\n"                                                                                \
        "    end\n"                                                                                          \
        "  end\n"                                                                                            \
        "  return false\n"                                                                                   \
        "end\n"                                                                                              \
        "local function is_late(c) return T and tonumber(redis.call('HGET', T, '%') or 0) > c end\n"         \
        "local function is_void(c, fields)\n"                                                                \
        "  if not T then return c < tonumber(ARGV[#ARGV]) end\n"                                             \
        "  local times = redis.call('HMGET', T, '<', '*', '%', unpack(fields))\n"                            \
        "  if not times[1] then return true end\n"                                                           \
        "  for i = 1, #fields + 3 do\n"                                                                      \
        "    if times[i] and tonumber(times[i]) > c and (i ~= 3 or is_dropped(c)) then return true end\n"    \
        "  end\n"                                                                                            \
        "  return false\n"                                                                                   \
        "end\n"

/* The head of the value, if it has one of ours and it is not void. */
#define HEAD                                                                                         \
    VOID                                                                                             \
        "local function head()\n"                                                                    \
        "  local h = redis.pcall('GETRANGE', V, 0, 43)\n"                                            \
        "  if type(h) ~= 'string' or #h < 44 or string.sub(h, 1, 2) ~= 'P\\1' then return nil end\n" \
        "  local n, bytes = string.byte(h, 6), struct.unpack('>I2', h, 7)\n"                         \
        "  local names, from, fields = redis.call('GETRANGE', V, 44, 43 + bytes), 1, {}\n"           \
        "  if n > 64 then return nil end\n"                                                          \
        "  for i = 1, n do\n"                                                                        \
        "    local len = string.byte(names, from)\n"                                                 \
        "    if not len then return nil end\n"                                                       \
        "    fields[i] = 't:' .. string.sub(names, from + 1, from + len)\n"                          \
        "    from = from + 1 + len\n"                                                                \
        "  end\n"                                                                                    \
        "  if is_void(struct.unpack('>I8', h, 33), fields) then return nil end\n"                    \
        "  return h\n"                                                                               \
        "end\n"

#define STALE                                                                                      \
    "local function set_expired(h, is_expired)\n"                                                  \
    "  local flags = string.byte(h, 3) % 2\n"                                                      \
    "  redis.call('SETRANGE', V, 2, string.char(is_expired and flags + 2 or flags))\n"             \
    "end\n"                                                                                        \
    "local function expire(h)\n"                                                                   \
    "  local t = now()\n"                                                                          \
    "  if struct.unpack('>I8', h, 17) > t then redis.call('SETRANGE', V, 16, at(t, 0)) end\n"      \
    "  set_expired(h, true)\n"                                                                     \
    "end\n"

#define TELL                                                                                       \
    CLOCK                                                                                          \
    "local function add(id, m)\n"                                                                  \
    "  return redis.pcall('XADD', LOG, 'MAXLEN', '~', ARGV[3], id, 'm', m)\n"                      \
    "end\n"                                                                                        \
    "local function is_no_log(r)\n"                                                                \
    "  if type(r) ~= 'table' then return false end\n"                                              \
    "  return string.find(r.err, 'WRONGTYPE') or string.find(r.err, 'equal or smaller')\n"         \
    "end\n"                                                                                        \
    "local function tell(more)\n"                                                                  \
    "  local n = 0\n"                                                                              \
    "  if T then\n"                                                                                \
    "    n = redis.call('HINCRBY', T, '@', 1)\n"                                                   \
    "    if n == 1 then n = clock(T) + 1 redis.call('HSET', T, '@', whole(n)) end\n"               \
    "  end\n"                                                                                      \
    "  local m = ARGV[2] .. (more or '') .. struct.pack('>I8', n)\n"                               \
    "  if LOG then\n" /* one that is ahead of us is of another hash, or no log */                  \
    "    local id = whole(n) .. '-0'\n"                                                            \
    "    if is_no_log(add(id, m)) then redis.call('DEL', LOG) add(id, m) end\n"                    \
    "  end\n"                                                                                      \
    "  redis.call('PUBLISH', ARGV[1], m)\n"                                                        \
    "  return n > 0 and n or 1\n"                                                                  \
    "end\n"                                                                                        \
    "local function changed(is_unseen) return (T or is_unseen) and tell() or 1 end\n"

#define CLEAR                                                                                            \
    TELL                                                                                                 \
        "local function clear()\n"                                                                       \
        "  local c = whole(math.max(redis.call('HINCRBY', T, '#', 1), micros()))\n"                      \
        "  local kept = redis.call('HMGET', T, '<', '@', '!')\n"                                         \
        "  redis.call('UNLINK', T)\n"                                                                    \
        "  redis.call('HSET', T, '#', c, '*', c, '<', kept[1], '@', kept[2] or c, '!', kept[3] or '')\n" \
        "  tell(struct.pack('>I8', c))\n"                                                                \
        "  return c + 0\n"                                                                               \
        "end\n"

/* Whether this is the lease's token, which ends with it. */
#define LEASE                                                                                      \
    "local function say() redis.call('PUBLISH', ARGV[1], ARGV[2]) end\n"                           \
    "local function end_lease(token)\n"                                                            \
    "  local held = redis.call('GET', L)\n"                                                        \
    "  if not held or string.sub(held, 1, 16) ~= token then return false end\n"                    \
    "  redis.call('DEL', L)\n"                                                                     \
    "  if #held > 16 then say() end\n"                                                             \
    "  return true\n"                                                                              \
    "end\n"

/* Arguments 6 to 11 are the item's, the rest its tags' fields. What has nothing before the value is
 * plain: the value and nothing besides. */
#define PUT                                                                                        \
    "local function fields() return {unpack(ARGV, 12)} end\n"                                      \
    "local function put(c)\n"                                                                      \
    "  local before, age, fresh, life, after, value = unpack(ARGV, 6, 11)\n"                       \
    "  local t = now()\n"                                                                          \
    "  local v = value\n"                                                                          \
    "  if before ~= '' then\n"                                                                     \
    "    v = before .. at(t, -age) .. at(t, fresh) .. at(t, life) .. struct.pack('>I8', c) ..\n"   \
    "      after .. value\n"                                                                       \
    "  end\n"                                                                                      \
    "  if life == '' then redis.call('SET', V, v) else redis.call('SET', V, v, 'PX', life) end\n"  \
    "end\n"

/* 4: what becomes of the life and tags of the value in whose place it comes: 'keep', 'renew' (the
 * tags go on), 'void' (likewise the item's), 'none' where none is expected; the format and packing
 * that are expected; the tag clock of what is new, 0 for now; 5: the value that is expected.
 * Answers with 0 and what is there, -1 where nothing is, or as the others do and with what is there
 * now. It begins, where it swaps, with `first`. */
#define SWAP(first)                                                                                \
    "local how, format, packing, c =\n"                                                            \
    "  string.match(ARGV[4], '(%a+) (%d+) (%d+) (%d+)')\n"                                         \
    "local h, t, v, from = head(), now(), '', 0\n"                                                 \
    "local is_there = h and string.byte(h, 3) % 2 == 0 and\n"                                      \
    "  struct.unpack('>I8', h, 17) > t\n"                                                          \
    "if is_there then\n"                                                                           \
    "  v, from = redis.call('GET', V), 45 + struct.unpack('>I2', h, 7)\n"                          \
    "  if how == 'none' or string.byte(h, 4) ~= tonumber(format) or\n"                             \
    "    string.byte(h, 5) ~= tonumber(packing) or\n"                                              \
    "    string.sub(v, from) ~= ARGV[5] then return {0, v} end\n"                                  \
    "elseif how ~= 'none' then return {-1, ''} end\n"                                              \
    "c = not is_there and c == '0' and clock(T) or tonumber(c)\n" first                            \
    "if not is_there or how == 'void' then put(c)\n"                                               \
    "else\n"                                                                                       \
    "  local before, age, fresh, life, after, value = unpack(ARGV, 6, 11)\n"                       \
    "  local ends, left = string.sub(h, 17, 32), redis.call('PTTL', V)\n"                          \
    "  if how == 'renew' then\n"                                                                   \
    "    ends, left = at(t, fresh) .. at(t, life), tonumber(life) or -1\n"                         \
    "  end\n"                                                                                      \
    "  v = string.sub(before, 1, 5) .. string.sub(h, 6, 8) .. at(t, 0) ..\n"                       \
    "    ends .. string.sub(h, 33, 40) .. string.sub(after, 1, 4) ..\n"                            \
    "    string.sub(v, 45, from - 1) .. value\n"                                                   \
    "  redis.call('SET', V, v)\n"                                                                  \
    "  if left >= 0 then redis.call('PEXPIRE', V, math.max(left, 1)) end\n"                        \
    "end\n"                                                                                        \
    "redis.call('DEL', L)\n"                                                                       \
    "return {changed(false), redis.call('GET', V) or ''}\n"

/* A full server refuses what may need memory, unless the script has written before: so first what
 * needs none, and changes nothing. */
#define IN_NEED "redis.call('PERSIST', T)\n"

#endif
