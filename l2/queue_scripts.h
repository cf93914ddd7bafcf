/* SPDX-License-Identifier: MIT
 *
 * queue_scripts.h - what runs inside Redis for writes that wait (queue.h) and for those that were
 * stored first; a part of script.c, put together from parts.h.
 *
 * Keys: V and L as everywhere; Q the queue, H the last write of each key, D who stores just now, X
 * the dead letters; T and LOG at the end, where they are.
 *
 * An entry of Q has three fields, always these and in this order, so that Redis packs them well: k
 * the key, v the value, f what it is: "s4" a set of format 4, "a0" of "there is no such thing", "r"
 * a removal. One of X has w, the entry's id there, n the attempts and e the error besides; its f is
 * "?" where the entry was no write of ours.
 *
 * H has, for each key with a write in Q, its last one's id. Where that has become a dead letter and
 * nothing was written since, the id stands there behind an x: so a letter that is tried again
 * undoes nothing. Who writes the key by another way of ours (through) takes that out.
 */
#ifndef PLN_L2_QUEUE_SCRIPTS_H
#define PLN_L2_QUEUE_SCRIPTS_H

#include "parts.h"

/* ---- into the queue ---- */

/* What is not acknowledged must not wait: where H is no hash, the entry is taken out again. */
#define NOTE_LAST                                                                                  \
    "local noted = redis.pcall('HSET', H, key, id)\n"                                              \
    "if type(noted) == 'table' then\n"                                                             \
    "  redis.call('XDEL', Q, id)\n"                                                                \
    "  error(noted.err)\n"                                                                         \
    "end\n"

/* The usual set, of which each microsecond counts: no functions, and the time is the entry's, where
 * that is the first of its millisecond (others may be of a clock that was set back since). 4: how
 * many may wait; 5: f; 6 to 11: the item; 12: the value for the queue, where it is another one. -2:
 * the queue is full. */
#define WRITE_SET                                                                                  \
    "local V, L, Q, H, T, LOG = unpack(KEYS)\n"                                                    \
    "local channel, m, length, most, f, before, age, fresh, life, after, value, own = "            \
    "unpack(ARGV)\n"                                                                               \
    "local call, max, pack = redis.call, math.max, struct.pack\n"                                  \
    "local c, key = call('HGET', T, '#'), string.sub(m, 15)\n"                                     \
    "if call('XLEN', Q) >= tonumber(most) then return -2 end\n"                                    \
    "local id = call('XADD', Q, '*', 'k', key, 'v', own or value, 'f', f)\n" NOTE_LAST             \
    "local t, seq = string.match(id, '(%d+)-(%d+)')\n"                                             \
    "if seq ~= '0' then\n"                                                                         \
    "  local now = call('TIME')\n"                                                                 \
    "  t = now[1] * 1000 + math.floor(now[2] / 1000)\n"                                            \
    "end\n"                                                                                        \
    "if not c then\n"                                                                              \
    "  c = string.format('%.0f', t * 1000 + 999)\n"                                                \
    "  call('HSET', T, '#', c, '<', c, '@', c)\n"                                                  \
    "end\n"                                                                                        \
    "if before ~= '' then\n"                                                                       \
    "  local forever = '\\127\\255\\255\\255\\255\\255\\255\\255'\n"                               \
    "  value = before .. pack('>I8', max(0, t - age)) ..\n"                                        \
    "    (fresh == '' and forever or pack('>I8', max(0, t + fresh))) ..\n"                         \
    "    (life == '' and forever or pack('>I8', t + life)) .. pack('>I8', c) .. after .. value\n"  \
    "end\n"                                                                                        \
    "if life == '' then call('SET', V, value) else call('SET', V, value, 'PX', life) end\n"        \
    "call('DEL', L)\n"                                                                             \
    "local n = call('HINCRBY', T, '@', 1)\n"                                                       \
    "if n == 1 then n = c + 1 call('HSET', T, '@', string.format('%.0f', n)) end\n"                \
    "m = m .. pack('>I8', n)\n"                                                                    \
    "if LOG then\n"                                                                                \
    "  local at = string.format('%.0f-0', n)\n"                                                    \
    "  local r = redis.pcall('XADD', LOG, 'MAXLEN', '~', length, at, 'm', m)\n"                    \
    "  if type(r) == 'table' and (string.find(r.err, 'WRONGTYPE') or\n"                            \
    "      string.find(r.err, 'equal or smaller')) then\n"                                         \
    "    call('DEL', LOG)\n"                                                                       \
    "    redis.pcall('XADD', LOG, 'MAXLEN', '~', length, at, 'm', m)\n"                            \
    "  end\n"                                                                                      \
    "end\n"                                                                                        \
    "call('PUBLISH', channel, m)\n"                                                                \
    "return n\n"

/* The message is its head, of 14 bytes, and the key. */
#define QUEUED                                                                                     \
    "local Q, H = KEYS[3], KEYS[4]\n"                                                              \
    "T, LOG = KEYS[5], KEYS[6]\n"                                                                  \
    "local function is_full(most) return redis.call('XLEN', Q) >= tonumber(most) end\n"            \
    "local function queue(v, f)\n"                                                                 \
    "  local key = string.sub(ARGV[2], 15)\n"                                                      \
    "  local id = redis.call('XADD', Q, '*', 'k', key, 'v', v, 'f', f)\n" NOTE_LAST "end\n"

/* With a condition, or the clock from another server. 4: 'nx', 'xx' or 'any'; the tag clock, 0 for
 * now; how many may wait; f; whether (1) 5 is the value for the queue; 6: the item. */
#define WRITE_IF                                                                                   \
    TELL HEAD PUT QUEUED                                                                           \
        "local mode, c, most, f, own = string.match(ARGV[4], '(%a+) (%d+) (%d+) (%w+) (%d)')\n"    \
        "c = tonumber(c)\n"                                                                        \
        "if is_full(most) then return -2 end\n"                                                    \
        "if mode ~= 'any' then\n"                                                                  \
        "  local h = head()\n"                                                                     \
        "  local exists = h ~= nil and string.byte(h, 3) % 2 == 0\n"                               \
        "  if ARGV[6] == '' then exists = redis.call('EXISTS', V) == 1 end\n"                      \
        "  if exists == (mode == 'nx') then return 0 end\n"                                        \
        "end\n"                                                                                    \
        "if c == 0 then c = clock(T)\n"                                                            \
        "elseif is_late(c) or is_void(c, fields()) then return 0 end\n"                            \
        "queue(own == '1' and ARGV[5] or ARGV[11], f)\n"                                           \
        "put(c)\n"                                                                                 \
        "redis.call('DEL', L)\n"                                                                   \
        "return changed(false)\n"

/* 4: how many may wait. DEL first, as in the usual remove. */
#define WRITE_REMOVE                                                                               \
    TELL QUEUED "if is_full(ARGV[4]) then return -2 end\n"                                         \
                "redis.call('DEL', L)\n"                                                           \
                "queue('', 'r')\n"                                                                 \
                "return changed(redis.call('DEL', V) == 0)\n"

/* As the usual swap; 4 goes on: how many may wait; f; whether (1) 12 is the value for the queue. */
#define WRITE_SWAP                                                                                 \
    TELL HEAD PUT QUEUED "local most, f, own = string.match(ARGV[4], '(%d+) (%w+) (%d)$')\n"       \
                         "if is_full(most) then return {-2, ''} end\n" SWAP(                       \
                             "queue(own == '1' and ARGV[12] or ARGV[11], f)\n")

/* ---- out of it ---- */

/* Reads in steps, so that big entries are few, also behind small ones: next(step) returns a list of
 * at most so many. 'all' is what was read, from `most` entries and `bytes` on no more. */
#define STEPS                                                                                      \
    "local all, n, size = {}, 0, 0\n"                                                              \
    "local function read(most, bytes, next)\n"                                                     \
    "  while n < most and size < bytes do\n"                                                       \
    "    local step = math.min(n, 16, math.floor((bytes - size) * n / (size + 1)))\n"              \
    "    step = math.min(most - n, math.max(1, step))\n"                                           \
    "    local list = next(step)\n"                                                                \
    "    for _, e in ipairs(list) do\n"                                                            \
    "      if e[2] then\n"                                                                         \
    "        n = n + 1\n"                                                                          \
    "        all[n] = e\n"                                                                         \
    "        for _, field in ipairs(e[2]) do size = size + #field end\n"                           \
    "      end\n"                                                                                  \
    "    end\n"                                                                                    \
    "    if #list < step then break end\n"                                                         \
    "  end\n"                                                                                      \
    "end\n"

/* D has the token of who leads, and when that ends: Redis may drop what has a life of its own when
 * its memory is full, and who leads would not know. leader() says who, and for how long; begin()
 * that it is 1 for 2 from now on, also where there is no memory. */
#define LEAD                                                                                       \
    TIME "local function leader(D)\n"                                                              \
         "  local held = redis.call('GET', D) or ''\n"                                             \
         "  local left = #held == 24 and struct.unpack('>I8', held, 17) - now() or 0\n"            \
         "  if left <= 0 then return nil, 0 end\n"                                                 \
         "  return string.sub(held, 1, 16), left\n"                                                \
         "end\n"                                                                                   \
         "local function begin(D)\n"                                                               \
         "  redis.call('PERSIST', D)\n"                                                            \
         "  redis.call('SET', D, ARGV[1] .. at(now(), ARGV[2]))\n"                                 \
         "  return true\n"                                                                         \
         "end\n"

/* Q, D. 1: who asks; 2: for how long; 3: after which entry, of those that were taken before; '' is
 * of new ones; 4: how many; 5: in how many bytes. A full server refuses what may need memory,
 * unless the script has written before: so first what needs none. */
#define QUEUE_TAKE                                                                                 \
    STEPS LEAD                                                                                     \
        "local Q, D = KEYS[1], KEYS[2]\n"                                                          \
        "local token, lead, from, most, bytes = unpack(ARGV)\n"                                    \
        "local holder, left = leader(D)\n"                                                         \
        "redis.call('PERSIST', Q)\n"                                                               \
        "if holder ~= token and (holder or from == '') then return {0, left} end\n"                \
        "begin(D)\n"                                                                               \
        "local is_new, first, last, gone = from == '', nil, nil, {}\n"                             \
        "local function next(step)\n"                                                              \
        "  local r = redis.pcall('XREADGROUP', 'GROUP', 'store', 'store', 'COUNT', step,\n"        \
        "    'STREAMS', Q, is_new and '>' or from)\n"                                              \
        "  if r and r.err and string.find(r.err, 'NOGROUP') then\n"                                \
        "    if redis.call('EXISTS', Q) == 0 then return {} end\n"                                 \
        "    redis.call('XGROUP', 'CREATE', Q, 'store', '0')\n"                                    \
        "    return is_new and next(step) or {}\n"                                                 \
        "  end\n"                                                                                  \
        "  if r and r.err then error(r.err) end\n"                                                 \
        "  local list = r and r[1][2] or {}\n"                                                     \
        "  for _, e in ipairs(list) do\n"                                                          \
        "    first, last, from = first or e[1], e[1], e[1]\n"                                      \
        "    if not e[2] then gone[#gone + 1] = e[1] end\n"                                        \
        "    e[3] = 1\n"                                                                           \
        "  end\n"                                                                                  \
        "  return list\n"                                                                          \
        "end\n"                                                                                    \
        "read(tonumber(most), tonumber(bytes), next)\n"                                            \
        "for i = 1, #gone, 1000 do\n"                                                              \
        "  redis.call('XACK', Q, 'store', unpack(gone, i, math.min(i + 999, #gone)))\n"            \
        "end\n"                                                                                    \
        "if not is_new and n > 0 then\n"                                                           \
        "  local times = {}\n"                                                                     \
        "  for _, p in ipairs(redis.call('XPENDING', Q, 'store', first, last, n + #gone)) do\n"    \
        "    times[p[1]] = p[4]\n"                                                                 \
        "  end\n"                                                                                  \
        "  for _, e in ipairs(all) do e[3] = times[e[1]] or 1 end\n"                               \
        "end\n"                                                                                    \
        "return {1, all}\n"

/* Whether the lead is that of 1 still; then it is prolonged by 2. */
#define LEADS                                                                                      \
    LEAD "local function leads(D)\n"                                                               \
         "  return leader(D) == ARGV[1] and begin(D)\n"                                            \
         "end\n"

/* D. */
#define QUEUE_HOLD LEADS "return leads(KEYS[1]) and 1 or 0\n"
/* D; 1: who had it. */
#define QUEUE_LEAVE LEAD "return leader(KEYS[1]) == ARGV[1] and redis.call('DEL', KEYS[1]) or 0\n"

/* Q, D, H. 3: how many; so many ids, as many keys. */
#define QUEUE_END                                                                                  \
    LEADS "local Q, D, H, n = KEYS[1], KEYS[2], KEYS[3], tonumber(ARGV[3])\n"                      \
          "if not leads(D) then return 0 end\n"                                                    \
          "local last, over = redis.call('HMGET', H, unpack(ARGV, 4 + n, 3 + 2 * n)), {}\n"        \
          "for i = 1, n do\n"                                                                      \
          "  if last[i] == ARGV[3 + i] then over[#over + 1] = ARGV[3 + n + i] end\n"               \
          "end\n"                                                                                  \
          "if #over > 0 then redis.call('HDEL', H, unpack(over)) end\n"                            \
          "redis.call('XACK', Q, 'store', unpack(ARGV, 4, 3 + n))\n"                               \
          "redis.call('XDEL', Q, unpack(ARGV, 4, 3 + n))\n"                                        \
          "return 1\n"

/* ---- dead letters ---- */

#define LETTERS                                                                                    \
    "local function fields(e)\n"                                                                   \
    "  local a = {k = '', v = '', f = '?', w = ''}\n"                                              \
    "  for i = 1, #e[2] - 1, 2 do a[e[2][i]] = e[2][i + 1] end\n"                                  \
    "  return a\n"                                                                                 \
    "end\n"                                                                                        \
    "local function is_last(H, e)\n"                                                               \
    "  local a = fields(e)\n"                                                                      \
    "  return redis.call('HGET', H, a.k) == 'x' .. a.w, a\n"                                       \
    "end\n"                                                                                        \
    "local function drop(H, X, e)\n"                                                               \
    "  local is_last, a = is_last(H, e)\n"                                                         \
    "  if is_last then redis.call('HDEL', H, a.k) end\n"                                           \
    "  redis.call('XDEL', X, e[1])\n"                                                              \
    "end\n"

/* Q, D, H, X. 3: id; 4: attempts; 5: error; 6: how many letters are kept; 7: 'ours', or that it is
 * none of ours: then it takes the place of no letter. */
#define QUEUE_BURY                                                                                 \
    LEADS LETTERS                                                                                  \
        "local Q, D, H, X = unpack(KEYS)\n"                                                        \
        "local id, attempts, why, most, whose = unpack(ARGV, 3)\n"                                 \
        "if not leads(D) then return 0 end\n"                                                      \
        "local e = redis.call('XRANGE', Q, id, id)[1]\n"                                           \
        "if e and (whose == 'ours' or redis.call('XLEN', X) < tonumber(most)) then\n"              \
        "  local a = fields(e)\n"                                                                  \
        "  redis.call('XADD', X, '*', 'k', a.k, 'v', a.v, 'f', whose == 'ours' and a.f or '?',\n"  \
        "    'w', id, 'n', attempts, 'e', why)\n"                                                  \
        "  if redis.call('HGET', H, a.k) == id then redis.call('HSET', H, a.k, 'x' .. id) end\n"   \
        "  while redis.call('XLEN', X) > tonumber(most) do\n"                                      \
        "    drop(H, X, redis.call('XRANGE', X, '-', '+', 'COUNT', 1)[1])\n"                       \
        "  end\n"                                                                                  \
        "end\n"                                                                                    \
        "redis.call('XACK', Q, 'store', id)\n"                                                     \
        "redis.call('XDEL', Q, id)\n"                                                              \
        "return 1\n"

/* X. 1: from which on; 2: how many; 3: in how many bytes. */
#define QUEUE_LETTERS                                                                              \
    STEPS TIME "local from = ARGV[1]\n"                                                            \
               "read(tonumber(ARGV[2]), tonumber(ARGV[3]), function(step)\n"                       \
               "  local list = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', step)\n"          \
               "  if #list > 0 then\n"                                                             \
               "    local ms, seq = string.match(list[#list][1], '(%d+)-(%d+)')\n"                 \
               "    from = ms .. '-' .. whole(seq + 1)\n"                                          \
               "  end\n"                                                                           \
               "  return list\n"                                                                   \
               "end)\n"                                                                            \
               "return {now(), all}\n"

/* Q, H, X. 1: id; 2: 'again' or 'drop'. -1: there is none; -2: what is none of ours cannot be tried
 * again. */
#define QUEUE_LETTER_END                                                                           \
    LETTERS "local Q, H, X = unpack(KEYS)\n"                                                       \
            "local e = redis.call('XRANGE', X, ARGV[1], ARGV[1])[1]\n"                             \
            "if not e then return -1 end\n"                                                        \
            "if ARGV[2] == 'again' and fields(e).f == '?' then return -2 end\n"                    \
            "redis.call('PERSIST', X)\n"                                                           \
            "local is_last, a = is_last(H, e)\n"                                                   \
            "local id = ARGV[2] == 'again' and is_last and\n"                                      \
            "  redis.call('XADD', Q, '*', 'k', a.k, 'v', a.v, 'f', a.f)\n"                         \
            "drop(H, X, e)\n"                                                                      \
            "if id then redis.call('HSET', H, a.k, id) end\n"                                      \
            "return (id or ARGV[2] == 'drop') and 1 or 0\n"

/* ---- what is there ---- */

/* Q, H. 1: the key. */
#define QUEUE_FIND                                                                                 \
    "local id = redis.call('HGET', KEYS[2], ARGV[1])\n"                                            \
    "if not id or string.sub(id, 1, 1) == 'x' then return {} end\n"                                \
    "return redis.call('XRANGE', KEYS[1], id, id)\n"

/* Q, X. Answers with the depth, the letters, the first id, the last ever, the time, and whether the
 * server may drop what is here: not all users may ask it that, then it is taken for no. */
#define QUEUE_STATE                                                                                \
    TIME "local Q, X = KEYS[1], KEYS[2]\n"                                                         \
         "local depth, last = redis.call('XLEN', Q), '0-0'\n"                                      \
         "local first = redis.call('XRANGE', Q, '-', '+', 'COUNT', 1)[1]\n"                        \
         "if redis.call('EXISTS', Q) == 1 then\n"                                                  \
         "  local about = redis.call('XINFO', 'STREAM', Q)\n"                                      \
         "  for i = 1, #about, 2 do\n"                                                             \
         "    if about[i] == 'last-generated-id' then last = about[i + 1] end\n"                   \
         "  end\n"                                                                                 \
         "end\n"                                                                                   \
         "local info = redis.pcall('INFO', 'memory')\n"                                            \
         "info = type(info) == 'string' and info or ''\n"                                          \
         "local bound = string.match(info, 'maxmemory:(%d+)') or '0'\n"                            \
         "local evicts = bound ~= '0' and string.find(info, 'maxmemory_policy:allkeys')\n"         \
         "return {depth, redis.call('XLEN', X), first and first[1] or '0-0', last, now(),\n"       \
         "  evicts and 1 or 0}\n"

/* ---- the store first ---- */

/* V, L, H and T where these are on this server, LOG. 4: how many microseconds ago the store was
 * begun; 5: 'set', 'remove' or, of a plain key, 'delete'; what clock was known by then; in a
 * cluster the clock, else 0; 6: the item, of a set.
 *
 * Here each value has a clock of its own, so what was known when the store was begun is told apart
 * from what came since, even within a millisecond. Where T is elsewhere there is the time alone:
 * what was made in the millisecond in which the store was begun counts as later.
 *
 * A write of the key that waits in the queue came while this one was stored; whether the store has
 * it first or last nobody knows. It stays what a load finds, and no value is left beside it. A dead
 * letter ('x') has been written over.
 *
 * The mark is like an envelope without a value, with another letter in front: nobody takes it for
 * one. Answers with 1 or, where the value was removed instead, 0; the message's number; the value's
 * clock; and by how many microseconds what was there is older than the store's begin: -1, it is no
 * matter. */
#define THROUGH_WRITE                                                                              \
    TELL PUT                                                                                       \
        "local H, S = KEYS[3], KEYS[4]\n"                                                          \
        "local what, known, c = string.match(ARGV[5], '(%a+) (%d+) (%d+)')\n"                      \
        "T, LOG = c == '0' and S or nil, KEYS[5]\n"                                                \
        "local h, margin, is_mixed = redis.pcall('GETRANGE', V, 0, 43), -1, false\n"               \
        "if what == 'set' and type(h) == 'string' and #h == 44 and\n"                              \
        "    string.find(h, '^[PT]\\1') and\n"                                                     \
        "    not (S and struct.unpack('>I8', h, 33) <= tonumber(known)) then\n"                    \
        "  margin = micros() - ARGV[4] - (struct.unpack('>I8', h, 9) + 1) * 1000\n"                \
        "  is_mixed = margin < 0\n"                                                                \
        "  margin = is_mixed and -1 or margin\n"                                                   \
        "end\n"                                                                                    \
        "local w = H and redis.call('HGET', H, string.sub(ARGV[2], 15))\n"                         \
        "if w and string.byte(w) == 120 then redis.call('HDEL', H, string.sub(ARGV[2], 15))\n"     \
        "elseif w and what == 'set' then margin, is_mixed = -1, true end\n"                        \
        "local function stamp()\n"                                                                 \
        "  if not S then return tonumber(c) end\n"                                                 \
        "  local n = redis.call('HINCRBY', S, '#', 1)\n"                                           \
        "  if n == 1 then redis.call('HDEL', S, '#') n = clock(S) end\n"                           \
        "  return n\n"                                                                             \
        "end\n"                                                                                    \
        "local n = 0\n"                                                                            \
        "if what == 'set' and not is_mixed then\n"                                                 \
        "  n = stamp()\n"                                                                          \
        "  put(n)\n"                                                                               \
        "  if ARGV[9] ~= '' and tonumber(ARGV[9]) < 60000 then\n"                                  \
        "    redis.call('PEXPIRE', V, 60000)\n"                                                    \
        "  end\n"                                                                                  \
        "end\n"                                                                                    \
        "redis.call('DEL', L)\n"                                                                   \
        "local was_there = true\n"                                                                 \
        "if what == 'delete' then was_there = redis.call('DEL', V) == 1\n"                         \
        "elseif what == 'remove' or is_mixed then\n"                                               \
        "  n = stamp()\n"                                                                          \
        "  local zeros = string.rep('\\0', 16)\n"                                                  \
        "  redis.call('SET', V, 'T\\1' .. string.sub(zeros, 1, 6) .. at(now(), 0) .. zeros ..\n"   \
        "    struct.pack('>I8', n) .. string.sub(zeros, 1, 4), 'PX', 60000)\n"                     \
        "end\n"                                                                                    \
        "return {is_mixed and 0 or 1, changed(not was_there), n, margin}\n"

#endif
