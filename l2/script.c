/* SPDX-License-Identifier: MIT
 *
 * script.c - what runs inside Redis, where a change, the end of a lease and the message about both
 * are one step that nobody can come between.
 *
 * Keys of a script on a value: V the value, L the lease, T the tags' hash; else T alone. Those that
 * tell the others of a change have the log as one more, where one is kept; all that tell have the
 * channel, the message and the log's length as their first three arguments. Most answer with a
 * number; those that have told of a change, with the message's. Those of writes that wait have more
 * keys, after V and L, or in the place of all: see queue_scripts.h.
 *
 * T holds "#" the clock, "<" the clock when the hash was made, "*" the time of the last clear, "@"
 * the number of the last message, "!" the server (its run id) that was found to have lost writes,
 * "~" the masks in force (drops.h), "%" the time of the last of them ever, and "t:TAG" the times of
 * tags. A loaded value whose lease is older than "%" is not stored, whatever its key: it may come
 * when the mask is off the list. It is made when first needed, and its clock and numbers then start
 * at the server's microseconds: far above anything an older, lost hash can have counted to, so that
 * what was written under that one is void. Numbers stay below 2^53, where Lua's doubles are exact.
 *
 * In a cluster T is on one server and V and L on any, so a script on a value has no T: whether the
 * value is void it decides by the floor, its last argument, and who reads the value looks at its
 * tags and at the masks (so "nx" and the like take what only these have voided for a value); a
 * lease brings no clock, its holder reads it before. There each server tells of the keys that
 * change on it by tracking, and only what tracking does not see (the end of a value that is not
 * there) is published: that goes to all servers of a cluster.
 *
 * The text of a script is sent when a connection is made; then its hash is enough. A server that
 * has forgotten it (SCRIPT FLUSH) is sent the text again.
 */
#include "internal.h"
#include "queue_scripts.h"

#include <inttypes.h>
#include <stdio.h>

static const struct {
    const char *name; /* of the operation, for failures */
    const char *text;
} scripts[PLN_N_SCRIPTS] = {
    /* 4: 'nx', 'xx' or ''; 5: the tag clock, 0 for now */
    [PLN_SCRIPT_SET] = {"set", TELL HEAD PUT
                        "local c = tonumber(ARGV[5])\n"
                        "if ARGV[4] ~= '' then\n"
                        "  local h = head()\n"
                        "  local exists = h ~= nil and string.byte(h, 3) % 2 == 0\n"
                        "  if ARGV[6] == '' then exists = redis.call('EXISTS', V) == 1 end\n"
                        "  if exists == (ARGV[4] == 'nx') then return 0 end\n"
                        "end\n"
                        "if c == 0 then c = clock(T)\n"
                        "elseif is_late(c) or is_void(c, fields()) then return 0 end\n"
                        "put(c)\n"
                        "redis.call('DEL', L)\n"
                        "return changed(false)\n"},
    /* DEL first, which Redis takes when it is out of memory; after it, it takes the rest, too */
    [PLN_SCRIPT_REMOVE] = {"remove", TELL "redis.call('DEL', L)\n"
                                          "return changed(redis.call('DEL', V) == 0)\n"},
    /* Values, as many leases, T and LOG; 4: how many */
    [PLN_SCRIPT_REMOVE_MANY] = {"remove",
                                TELL "local n = tonumber(ARGV[4])\n"
                                     "T, LOG = KEYS[2 * n + 1], KEYS[2 * n + 2]\n"
                                     "redis.call('DEL', unpack(KEYS, n + 1, 2 * n))\n"
                                     "return changed(redis.call('DEL', unpack(KEYS, 1, n)) < n)\n"},
    [PLN_SCRIPT_EXPIRE] = {"expire", TELL HEAD STALE "local h = head()\n"
                                                     "redis.call('DEL', L)\n"
                                                     "local n = changed(not h)\n"
                                                     "if not h then return 0 end\n"
                                                     "expire(h)\n"
                                                     "return n\n"},
    /* 4: fresh; 5: life; 6: 0, or how long at least it must be fresh in all, and be so still */
    [PLN_SCRIPT_TOUCH] = {"touch", TELL HEAD STALE
                          "local h, t = head(), now()\n"
                          "if not h then return 0 end\n"
                          "local made, stale = struct.unpack('>I8I8', h, 9)\n"
                          "if ARGV[6] ~= '0' and (string.byte(h, 3) >= 2 or stale <= t or\n"
                          "    stale - made < tonumber(ARGV[6])) then return 0 end\n"
                          "redis.call('SETRANGE', V, 16, at(t, ARGV[4]) .. at(t, ARGV[5]))\n"
                          "set_expired(h, false)\n"
                          "if ARGV[5] == '' then redis.call('PERSIST', V)\n"
                          "else redis.call('PEXPIRE', V, ARGV[5]) end\n"
                          "return changed(false)\n"},
    /* 1: token; 2: length. A lease that somebody waits for is one byte longer. Granted, it comes
     * with the clock and with whether there is a value. */
    [PLN_SCRIPT_LEASE] = {"lease", CLOCK
                          "local left = redis.call('PTTL', L)\n"
                          "if left == -2 then\n"
                          "  redis.call('SET', L, ARGV[1], 'PX', ARGV[2])\n"
                          "  return {1, T and clock(T) or 0, redis.call('EXISTS', V)}\n"
                          "end\n"
                          "if redis.call('STRLEN', L) == 16 then redis.call('APPEND', L, '!') end\n"
                          "return {0, left}\n"},
    /* 4: token; 5: the tag clock of when the source was read */
    [PLN_SCRIPT_COMMIT] = {"commit", NAMES TIME VOID LEASE PUT
                           "local c = tonumber(ARGV[5])\n"
                           "if not end_lease(ARGV[4]) or is_late(c) then return 0 end\n"
                           "if is_void(c, fields()) then return 0 end\n"
                           "put(c)\n"
                           "return 1\n"},
    [PLN_SCRIPT_RELEASE] = {"release", NAMES LEASE "return end_lease(ARGV[4]) and 1 or 0\n"},
    /* 4: the tag's field */
    [PLN_SCRIPT_DROP_TAG] = {"drop_tag", TELL "T, LOG = KEYS[1], KEYS[2]\n" IN_NEED "clock(T)\n"
                                              "local c = redis.call('HINCRBY', T, '#', 1)\n"
                                              "redis.call('HSET', T, ARGV[4], c)\n"
                                              "return tell()\n"},
    /* 4: the mask; 5: how many are listed at most; 6: in how many bytes. Answers with the clock, or
     * 0 where there is no room: then nothing was done. */
    [PLN_SCRIPT_DROP_MATCH] = {"drop_match", TELL LIST
                               "T, LOG = KEYS[1], KEYS[2]\n"
                               "clock(T)\n"
                               "local kept, mask = {}, ARGV[4]\n"
                               "for _, drop in ipairs(listed()) do\n"
                               "  if string.sub(drop, 19) ~= mask then kept[#kept + 1] = drop end\n"
                               "end\n"
                               "local list = table.concat(kept)\n"
                               "if #kept >= tonumber(ARGV[5]) or\n"
                               "  #list + #mask + 18 > tonumber(ARGV[6]) then return 0 end\n"
                               "local c = redis.call('HINCRBY', T, '#', 1)\n"
                               "list = list .. struct.pack('>I8I8I2', c, now(), #mask) .. mask\n"
                               "redis.call('HSET', T, '~', list, '%', whole(c))\n"
                               "tell(struct.pack('>I8', c))\n"
                               "return c\n"},
    /* What is older than the clear is void anyway, so the tags' times before it need not be kept.
     * Answers with the clock. */
    [PLN_SCRIPT_CLEAR] = {"clear", CLEAR "T, LOG = KEYS[1], KEYS[2]\n" IN_NEED "clock(T)\n"
                                         "return clear()\n"},
    /* The same once in the life of a server that has lost writes, but where its values are kept;
     * its numbers go on from what is known. 4: its run id; 5: the number of the last message that
     * is known; 6: 'keep' or 'clear'. Answers with the clock, or 0. */
    [PLN_SCRIPT_CLEAR_LOST] = {"clear", CLEAR
                               "T, LOG = KEYS[1], KEYS[2]\n" IN_NEED "clock(T)\n"
                               "local n = tonumber(redis.call('HGET', T, '@') or 0)\n"
                               "local is_known = n >= tonumber(ARGV[5])\n" /* or lost once more */
                               "if ARGV[4] ~= '' and is_known and\n"
                               "    redis.call('HGET', T, '!') == ARGV[4] then\n"
                               "  return 0\n"
                               "end\n"
                               "redis.call('HSET', T, '!', ARGV[4],\n"
                               "  '@', whole(math.max(n, tonumber(ARGV[5]))))\n"
                               "return ARGV[6] == 'keep' and 0 or clear()\n"},
    [PLN_SCRIPT_TIMES] = {"times", CLOCK "T = KEYS[1]\n"
                                         "clock(T)\n"
                                         "return redis.call('HMGET', T, '<', '*', '#')\n"},
    /* 2: the peers, each with when it is none. 1: who beats; 2: for how many ms it counts. A server
     * that takes no writes, or not these, still says how far it is. */
    [PLN_SCRIPT_BEAT] = {"beat",
                         CLOCK "local P, t = KEYS[2], now()\n"
                               "T = KEYS[1]\n"
                               "redis.pcall('ZREMRANGEBYSCORE', P, '-inf', t)\n"
                               "local e = redis.pcall('ZADD', P, t + ARGV[2], ARGV[1])\n"
                               "if type(e) == 'table' and string.find(e.err, 'READONLY') then\n"
                               "  return e\n"
                               "end\n"
                               "clock(T)\n"
                               "local r = redis.call('HMGET', T, '<', '*', '#', '@')\n"
                               "local n = redis.pcall('ZCARD', P)\n"
                               "r[5] = type(n) == 'number' and whole(n) or '0'\n"
                               "r[6] = redis.call('HGET', T, '~') or ''\n"
                               "return r\n"},
    /* 4: when it was to be done, on this server's clock, and by how much that may be wrong; 5:
     * what, of a set with the message up to which its client has heard that nobody ended the key.
     * A value keeps the tag clock of the one in whose place it comes: what was dropped since then
     * holds for it too. One in the place of none comes only where no message is still on its way to
     * the client: else the answer is -1, and nothing is done. */
    [PLN_SCRIPT_RECOVER] = {"recover", TELL HEAD STALE PUT
                            "local moment, doubt = string.match(ARGV[4], '(%S+) (%S+)')\n"
                            "local what, heard = string.match(ARGV[5], '(%a+) ?(%d*)')\n"
                            "local h = head()\n"
                            "local creates = not h and heard ~= ''\n"
                            "local later = h and struct.unpack('>I8', h, 9) - moment\n"
                            "doubt = tonumber(doubt)\n"
                            "if creates and redis.call('HGET', T, '@') ~= heard then\n"
                            "  return -1\n"
                            "end\n"
                            "redis.call('DEL', L)\n"
                            "if h and later > doubt then changed(true) return 0 end\n"
                            "if what == 'expire' then\n"
                            "  if h then expire(h) end\n"
                            "  return changed(not h)\n"
                            "elseif creates or (h and later < -doubt and what == 'set') then\n"
                            "  put(h and struct.unpack('>I8', h, 33) or clock(T))\n"
                            "  return changed(false)\n"
                            "end\n"
                            "return changed(redis.call('DEL', V) == 0)\n"},
    /* what is no string is none of ours, and no failure */
    [PLN_SCRIPT_PLAIN] = {"get", NAMES "local v = redis.pcall('GET', V)\n"
                                       "if type(v) == 'table' then v = false end\n"
                                       "return {v, redis.call('PTTL', V)}\n"},
    [PLN_SCRIPT_SWAP] = {"swap", TELL HEAD PUT SWAP("")},
    [PLN_SCRIPT_WRITE_SET] = {"write", WRITE_SET},
    [PLN_SCRIPT_WRITE_IF] = {"write", WRITE_IF},
    [PLN_SCRIPT_WRITE_REMOVE] = {"write", WRITE_REMOVE},
    [PLN_SCRIPT_WRITE_SWAP] = {"write", WRITE_SWAP},
    [PLN_SCRIPT_THROUGH] = {"through", THROUGH_WRITE},
    [PLN_SCRIPT_TAKE] = {"take", QUEUE_TAKE},
    [PLN_SCRIPT_HOLD] = {"hold", QUEUE_HOLD},
    [PLN_SCRIPT_LEAVE] = {"leave", QUEUE_LEAVE},
    [PLN_SCRIPT_END] = {"end", QUEUE_END},
    [PLN_SCRIPT_BURY] = {"bury", QUEUE_BURY},
    [PLN_SCRIPT_LETTERS] = {"letters", QUEUE_LETTERS},
    [PLN_SCRIPT_LETTER_END] = {"letter_end", QUEUE_LETTER_END},
    [PLN_SCRIPT_FIND] = {"find", QUEUE_FIND},
    [PLN_SCRIPT_STATE] = {"state", QUEUE_STATE},
};

void pln_script_load(struct pln_batch *batch) {
    for (size_t i = 0; i < PLN_N_SCRIPTS; i++) {
        pln_batch_texts(batch, "SCRIPT", "LOAD", scripts[i].text, NULL);
    }
}

const char *pln_script_text(enum pln_script script) {
    return scripts[script].text;
}

/* ---- arguments ---- */

void pln_script_add(struct pln_script_call *call, struct pln_bytes arg) {
    assert(call->n_args < PLN_SCRIPT_MAX_ARGS);
    call->args[call->n_args++] = arg;
}

void pln_script_add_number(struct pln_script_call *call, int64_t number) {
    assert(call->n_numbers < PLN_SCRIPT_MAX_NUMBERS);
    char *text = call->numbers[call->n_numbers++];
    snprintf(text, sizeof call->numbers[0], "%lld", (long long) number);
    pln_script_add(call, pln_key(text));
}

void pln_script_add_duration(struct pln_script_call *call, pln_ms duration) {
    if (duration > PLN_L2_LONGEST) {
        pln_script_add(call, pln_key(""));
    } else {
        pln_script_add_number(call, duration < -PLN_L2_LONGEST ? -PLN_L2_LONGEST : duration);
    }
}

size_t pln_script_item_bytes(const struct pln_l2_item *item) {
    size_t bytes = PLN_ENVELOPE_BEFORE + 4;
    for (size_t i = 0; i < item->n_tags; i++) {
        bytes += 1 + 2 + 2 * item->tags[i].len;
    }
    return bytes;
}

/* The field that has a tag's time. */
static uint8_t *add_field(struct pln_script_call *call, struct pln_bytes tag, uint8_t *at) {
    uint8_t *name = at + 2;
    at[0] = 't';
    at[1] = ':';
    if (tag.len > 0) {
        memcpy(name, tag.data, tag.len);
    }
    pln_script_add(call, pln_bytes_of(at, 2 + tag.len));
    return name + tag.len;
}

uint8_t *pln_script_add_envelope(struct pln_script_call *call, const struct pln_l2_item *item,
                                 uint8_t *memory) {
    pln_ms age = item->age < 0 ? 0 : item->age;
    uint8_t *after = memory + PLN_ENVELOPE_BEFORE;
    size_t n_after = pln_envelope_after(item, after);
    pln_envelope_before(item, memory);
    pln_script_add(call, pln_bytes_of(memory, call->key->is_plain ? 0 : PLN_ENVELOPE_BEFORE));
    pln_script_add_number(call, age < PLN_L2_LONGEST ? age : PLN_L2_LONGEST);
    pln_script_add_duration(call, item->fresh_left);
    pln_script_add_duration(call, item->life_left < 1 ? 1 : item->life_left);
    pln_script_add(call, pln_bytes_of(after, n_after));
    pln_script_add(call, item->value);
    return after + n_after;
}

void pln_script_add_item(struct pln_script_call *call, const struct pln_l2_item *item,
                         uint8_t *memory) {
    uint8_t *fields = pln_script_add_envelope(call, item, memory);
    for (size_t i = 0; i < item->n_tags; i++) {
        fields = add_field(call, item->tags[i], fields);
    }
}

/* ---- running ---- */

/* Which keys a call has. */
struct call_keys {
    bool has_value, has_tags, has_log, has_peers;
};

static struct call_keys keys_of(const struct pln_redis *redis, const struct pln_script_call *call) {
    return (struct call_keys){
        .has_value = call->key != NULL,
        .has_tags = call->key == NULL ? call->n_names == 0 : redis->slots == NULL,
        .has_log = pln_redis_has_log(redis) && call->kind != 0 &&
                   pln_message_is_numbered(call->kind),
        .has_peers = call->script == PLN_SCRIPT_BEAT,
    };
}

static size_t count_keys(const struct pln_script_call *call, struct call_keys keys) {
    return (keys.has_value ? 2u : 0u) + call->n_names + keys.has_tags + keys.has_log +
           keys.has_peers;
}

static void write_keys(const struct pln_redis *redis, const struct pln_script_call *call,
                       struct call_keys keys, struct pln_batch *batch) {
    pln_batch_number(batch, (int64_t) count_keys(call, keys));
    if (keys.has_value) {
        pln_names_write_value(&redis->names, call->key->key, batch);
        pln_names_write_lease(&redis->names, call->key->key, batch);
    }
    for (size_t i = 0; i < call->n_names; i++) {
        pln_batch_text(batch, call->names[i]);
    }
    if (keys.has_tags) {
        pln_batch_text(batch, redis->names.tags);
    }
    if (keys.has_log || keys.has_peers) {
        pln_batch_text(batch, keys.has_log ? redis->names.log : redis->names.peers);
    }
}

static void write_moment(const struct pln_script_call *call, const struct pln_conn *conn,
                         struct pln_batch *batch) {
    char text[48];
    snprintf(text, sizeof text, "%" PRId64 " %" PRId64, call->moment + conn->clock_offset,
             conn->clock_doubt + PLN_REDO_DOUBT);
    pln_batch_text(batch, text);
}

/* EVALSHA, or EVAL where the server does not have the script. */
static void write_call(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    struct pln_script_running *running = arg;
    const struct pln_script_call *call = running->call;
    const struct pln_redis *redis = running->node->redis;
    running->by_text = running->by_text || slot->hashes[call->script][0] == 0;
    const char *text = running->by_text ? scripts[call->script].text : slot->hashes[call->script];
    bool is_apart = redis->slots != NULL && call->key != NULL; /* from its tags */
    struct call_keys keys = keys_of(redis, call);
    size_t n_message = call->kind == 0 ? 0 : 3;
    pln_batch_command(batch, 3 + count_keys(call, keys) + n_message + call->has_moment +
                                 (call->since != 0) + call->n_args + call->n_more + is_apart);
    pln_batch_text(batch, running->by_text ? "EVAL" : "EVALSHA");
    pln_batch_text(batch, text);
    write_keys(redis, call, keys, batch);
    if (call->kind != 0) {
        uint8_t bytes[PLN_MESSAGE_MAX];
        /* relaxed: written by whoever leads the connection, and that is this thread */
        uint32_t incarnation = atomic_load_explicit(&slot->incarnation, memory_order_relaxed);
        struct pln_message message = {
            .kind = call->kind, .origin = {redis->instance, incarnation}, .payload = call->payload};
        pln_batch_text(batch, redis->names.channel);
        pln_batch_bytes(batch, pln_bytes_of(bytes, pln_message_write(&message, bytes)));
        pln_batch_number(batch, (int64_t) redis->log_length);
    }
    if (call->has_moment) {
        write_moment(call, &slot->conn, batch);
    }
    if (call->since != 0) {
        pln_batch_number(batch, (pln_clock_precise() - call->since + 999) / 1000);
    }
    for (size_t i = 0; i < call->n_args; i++) {
        pln_batch_bytes(batch, call->args[i]);
    }
    for (size_t i = 0; i < call->n_more; i++) {
        pln_batch_bytes(batch, call->more[i]);
    }
    if (is_apart) {
        pln_batch_number(batch, (int64_t) running->floor);
    }
}

/* Removals of one key each, as one command. */
static void write_joined(void *const *args, size_t n, const struct pln_slot *slot,
                         struct pln_batch *batch) {
    struct pln_bytes keys[PLN_MOST_JOINED];
    const struct pln_script_running *first = args[0];
    for (size_t i = 0; i < n; i++) {
        keys[i] = ((const struct pln_script_running *) args[i])->call->key->key;
    }
    pln_removes_write(first->node->redis, slot, keys, n, false, batch);
}

/* Whether it answers with an array; else it does with a number. */
static bool has_array(enum pln_script script) {
    switch (script) {
    case PLN_SCRIPT_LEASE:
    case PLN_SCRIPT_TIMES:
    case PLN_SCRIPT_BEAT:
    case PLN_SCRIPT_PLAIN:
    case PLN_SCRIPT_SWAP:
    case PLN_SCRIPT_WRITE_SWAP:
    case PLN_SCRIPT_THROUGH:
    case PLN_SCRIPT_TAKE:
    case PLN_SCRIPT_LETTERS:
    case PLN_SCRIPT_FIND:
    case PLN_SCRIPT_STATE:
        return true;
    default:
        return false;
    }
}

static void prepare(struct pln_node *node, const struct pln_script_call *call,
                    struct pln_script_running *running) {
    *running = (struct pln_script_running){
        .node = node,
        .call = call,
        .floor = pln_floor_now(pln_node_of_tags(node)),
        .index = call->key == NULL ? 0 : pln_node_slot(node, call->key),
        .request = {
            .write = write_call,
            .arg = running,
            .kinds = PLN_KIND(has_array(call->script) ? PLN_REPLY_ARRAY : PLN_REPLY_INTEGER),
            .is_link = call->is_link,
            .is_bulk = call->is_bulk}};
    if (call->script == PLN_SCRIPT_REMOVE && call->key != NULL) {
        running->request.join = node->redis->slots == NULL ? write_joined : NULL;
        running->request.n_bytes = call->key->key.len;
    }
    for (size_t i = 0; i < call->n_args; i++) {
        running->request.n_bytes += call->args[i].len;
    }
    for (size_t i = 0; i < call->n_more; i++) {
        running->request.n_bytes += call->more[i].len;
    }
}

static int ask(struct pln_script_running *running, pln_ns deadline, struct pln_reply **got) {
    return pln_route_ask(&running->node, running->index, &running->request, deadline, got);
}

/* Takes a reply that is no server's word on its way; the script is sent as a text where the server
 * has forgotten it. */
static int conclude(struct pln_script_running *running, pln_ns deadline, struct pln_reply *got,
                    struct pln_reply **reply) {
    int result = PLN_OK;
    if (!running->by_text && pln_reply_is(got, "NOSCRIPT")) {
        pln_reply_free(got);
        running->by_text = true;
        running->request.join = NULL;
        result = ask(running, deadline, &got);
    }
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR) {
        result = pln_pool_refused(&running->node->pool, scripts[running->call->script].name, got);
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

int pln_script_run(struct pln_node *node, const struct pln_script_call *call, pln_ns deadline,
                   struct pln_reply **reply) {
    struct pln_script_running running;
    struct pln_reply *got;
    prepare(node, call, &running);
    int result = ask(&running, deadline, &got);
    return result == PLN_OK ? conclude(&running, deadline, got, reply) : result;
}

void pln_script_post(struct pln_node *node, const struct pln_script_call *call, pln_ns deadline,
                     struct pln_script_running *running) {
    prepare(node, call, running);
    pln_line_post(&node->pool, running->index, &running->request, deadline);
}

void pln_script_flush(const struct pln_script_running *running) {
    pln_line_flush(&running->node->pool, running->index);
}

int pln_script_finish(struct pln_script_running *running, pln_ns deadline,
                      struct pln_reply **reply) {
    struct pln_reply *got;
    int result = pln_line_finish(&running->node->pool, running->index, &running->request, &got);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR && !pln_reply_is(got, "NOSCRIPT")) {
        pln_reply_free(got); /* it may be that another server has the key, or that it is to wait */
        result = ask(running, deadline, &got);
    }
    return result == PLN_OK ? conclude(running, deadline, got, reply) : result;
}
