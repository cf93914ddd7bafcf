/* SPDX-License-Identifier: MIT
 *
 * session.c - sessions: an id that cannot be guessed, who it stands for, and what is known of them;
 * with "end all of this user's", which must not miss one.
 *
 * A session is a hash with a ttl: u user, d data, f its format, c and s when it was created and
 * last seen. A user's sessions stand in a sorted set, each with the time after which it is gone for
 * sure. Both may lie on different servers, so no script writes both. The order does instead: a
 * session is in the set before it is there, and prolonged there before it is prolonged, so whatever
 * dies in between leaves at worst an id in the set that stands for nothing, until its time is over.
 * For the same reason an id for which there is no session is left in the set: it may be one whose
 * second half is still on its way. Servers' clocks may differ by the margin.
 *
 * Nothing of this goes through L1: a session that was ended is gone for all at once.
 */
#include "named.h"

#include <stdio.h>

#define LONGEST_TTL ((pln_ms) 3650 * 24 * 3600 * 1000)

enum {
    TTL = 30 * 60 * 1000,
    MARGIN = 60 * 1000,
    SEEN_SHARE = 10, /* noting a use once in a tenth of the ttl spares a write at the others */
    ID_LEN = PLN_SESSION_ID - 1,
};

#define NOW                                                                                        \
    "local t = redis.call('TIME')\n"                                                               \
    "local now = t[1] * 1000 + math.floor(t[2] / 1000)\n"                                          \
    "local function ms(n) return string.format('%.0f', n) end\n"

static const struct pln_remote_script
    /* on the set: 1 id, 2 how long it may live */
    enlist_script = {"session",
                     NOW "local ends = now + ARGV[2]\n"
                         "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms(now))\n"
                         "local had = tonumber(redis.call('ZSCORE', KEYS[1], ARGV[1]) or 0)\n"
                         "redis.call('ZADD', KEYS[1], ms(math.max(ends, had)), ARGV[1])\n"
                         "if redis.call('PTTL', KEYS[1]) < tonumber(ARGV[2]) then\n"
                         "  redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
                         "end\n"
                         "return 1\n"},
    list_script = {"session_of", NOW "redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', ms(now))\n"
                                     "return redis.call('ZRANGE', KEYS[1], 0, -1)\n"},
    /* on the session: 1 ttl, 2 user, 3 data, 4 format */
    create_script = {"session_create",
                     NOW "redis.call('HSET', KEYS[1], 'u', ARGV[2], 'd', ARGV[3], 'f', ARGV[4],\n"
                         "  'c', ms(now), 's', ms(now))\n"
                         "redis.call('PEXPIRE', KEYS[1], ARGV[1])\n"
                         "return 1\n"},
    read_script = {"session_get", NOW
                   "local h = redis.call('HMGET', KEYS[1], 'c', 's', 'f', 'u', 'd')\n"
                   "if not h[1] then return {} end\n"
                   "return {now - h[1], now - h[2], redis.call('PTTL', KEYS[1]), tonumber(h[3]),\n"
                   "  h[4], h[5]}\n"},
    /* 1 ttl, 0 to leave it */
    note_script = {"session_get",
                   NOW "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
                       "redis.call('HSET', KEYS[1], 's', ms(now))\n"
                       "if ARGV[1] ~= '0' then redis.call('PEXPIRE', KEYS[1], ARGV[1]) end\n"
                       "return 1\n"},
    update_script = {"session_update", "if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end\n"
                                       "redis.call('HSET', KEYS[1], 'd', ARGV[1], 'f', ARGV[2])\n"
                                       "return 1\n"},
    destroy_script = {"session_destroy", "local user = redis.call('HGET', KEYS[1], 'u')\n"
                                         "redis.call('DEL', KEYS[1])\n"
                                         "return user\n"};

/* ---- ids ---- */

static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

/* 256 random bits in base64 as URLs take it: 42 characters of six, and one of four. */
static void make_id(char id[PLN_SESSION_ID]) {
    uint64_t words[4];
    const uint8_t *bytes = (const uint8_t *) words;
    unsigned bits = 0, n_bits = 0;
    for (size_t i = 0; i < PLN_ARRAY_LEN(words); i++) {
        words[i] = pln_random64();
    }
    for (size_t i = 0; i < ID_LEN; i++) {
        if (n_bits < 6) {
            bits = bits << 8 | (bytes < (const uint8_t *) (words + 4) ? *bytes++ : 0);
            n_bits += 8;
        }
        n_bits -= 6;
        id[i] = alphabet[bits >> n_bits & 63];
    }
    id[ID_LEN] = 0;
}

/* Ids come from cookies: one that none of ours can be is not worth a question. */
static bool is_id(struct pln_bytes id) {
    const char *text = id.data;
    if (id.len != ID_LEN) {
        return false;
    }
    for (size_t i = 0; i < id.len; i++) {
        if (text[i] == 0 || strchr(alphabet, text[i]) == NULL) {
            return false;
        }
    }
    return true;
}

/* ---- scripts ---- */

static int run(struct pln_cache *cache, const struct pln_remote_script *script, const char *before,
               struct pln_bytes name, const struct pln_bytes *args, size_t n_args,
               struct pln_reply **reply) {
    struct pln_named named;
    int status = pln_named_make(cache, before, name, "", &named);
    if (status == PLN_OK) {
        struct pln_bytes key = pln_named_bytes(&named);
        status = pln_remote_run(cache, script, &key, 1, args, n_args, 0, reply);
    }
    return status;
}

/* Runs a script that answers 1, or 0 where there is no such session. */
static int run_for_flag(struct pln_cache *cache, const struct pln_remote_script *script,
                        const char *before, struct pln_bytes name, const struct pln_bytes *args,
                        size_t n_args) {
    struct pln_reply *reply;
    int status = run(cache, script, before, name, args, n_args, &reply);
    if (status == PLN_OK) {
        status = reply->kind == PLN_REPLY_INTEGER && reply->integer == 1 ? PLN_OK : PLN_MISS;
        pln_reply_free(reply);
    }
    return status;
}

/* Puts an id among a user's for so long, and a margin. */
static int enlist(struct pln_cache *cache, struct pln_bytes user, struct pln_bytes id, pln_ms ttl) {
    char number[PLN_NAMED_NUMBER];
    struct pln_bytes args[] = {id, pln_named_number(ttl + MARGIN, number)};
    return user.len == 0 ? PLN_OK : run_for_flag(cache, &enlist_script, ":su:", user, args, 2);
}

static int check_ttl(const struct pln_session_options *options, pln_ms *ttl) {
    *ttl = options != NULL && options->ttl_ms != 0 ? options->ttl_ms : TTL;
    return *ttl > 0 && *ttl <= LONGEST_TTL
               ? PLN_OK
               : pln_fail(PLN_EINVAL, "ttl: %lld ms, must be 1 ms to ten years", (long long) *ttl);
}

/* ---- create and change ---- */

int pln_session_create(struct pln_cache *cache, const struct pln_session_options *options,
                       struct pln_bytes user, struct pln_bytes data, uint8_t format,
                       char id[PLN_SESSION_ID]) {
    char made[PLN_SESSION_ID], numbers[2][PLN_NAMED_NUMBER];
    pln_ms ttl;
    int status = check_ttl(options, &ttl);
    if (status < 0) {
        return status;
    }
    make_id(made);
    struct pln_bytes args[] = {pln_named_number(ttl, numbers[0]), user, data,
                               pln_named_number(format, numbers[1])};
    status = enlist(cache, user, pln_key(made), ttl);
    if (status == PLN_OK) {
        status = run_for_flag(cache, &create_script, ":s:", pln_key(made), args, 4);
    }
    if (status == PLN_OK) {
        memcpy(id, made, sizeof made);
    }
    return status;
}

int pln_session_update(struct pln_cache *cache, struct pln_bytes id, struct pln_bytes data,
                       uint8_t format) {
    char number[PLN_NAMED_NUMBER];
    struct pln_bytes args[] = {data, pln_named_number(format, number)};
    return is_id(id) ? run_for_flag(cache, &update_script, ":s:", id, args, 2) : PLN_MISS;
}

/* ---- read ---- */

static void drop(struct pln_session *session) {
    struct pln_value *values[] = {session->user, session->data};
    for (size_t i = 0; i < PLN_ARRAY_LEN(values); i++) {
        if (values[i] != NULL) {
            pln_value_drop(values[i]);
        }
    }
}

/* What the read script says: nothing, or three durations, the format, user and data. */
static int take_session(struct pln_bytes id, const struct pln_reply *reply, bool is_whole,
                        struct pln_session *session) {
    const struct pln_reply *said = reply->elements;
    if (reply->kind != PLN_REPLY_ARRAY || (reply->n_elements != 0 && reply->n_elements != 6)) {
        return pln_fail(PLN_EL2, "session: redis: an answer of an unexpected kind");
    }
    if (reply->n_elements == 0) {
        return PLN_MISS;
    }
    struct pln_session read = {.created_ms = said[0].integer,
                               .seen_ms = said[1].integer,
                               .left_ms = said[2].integer < 0 ? PLN_FOREVER : said[2].integer,
                               .format = (uint8_t) said[3].integer};
    memcpy(read.id, id.data, ID_LEN);
    if (is_whole) {
        read.user = pln_value_new(said[4].bytes, 0);
        read.data = pln_value_new(said[5].bytes, read.format);
        if (read.user == NULL || read.data == NULL) {
            drop(&read);
            return pln_fail(PLN_ENOMEM, "session: no memory");
        }
    }
    *session = read;
    return PLN_OK;
}

static int read_session(struct pln_cache *cache, struct pln_bytes id, bool is_whole,
                        struct pln_session *session) {
    struct pln_reply *reply;
    if (!is_id(id)) {
        return PLN_MISS;
    }
    int status = run(cache, &read_script, ":s:", id, NULL, 0, &reply);
    if (status == PLN_OK) {
        status = take_session(id, reply, is_whole, session);
        pln_reply_free(reply);
    }
    return status;
}

/* Notes a use. Returns PLN_MISS where the session has ended meanwhile; that Redis did not take it
 * is no reason to refuse what was just read. */
static int note_use(struct pln_cache *cache, const struct pln_session_options *options, pln_ms ttl,
                    struct pln_session *session) {
    bool is_fixed = options != NULL && options->is_fixed;
    char number[PLN_NAMED_NUMBER];
    struct pln_bytes id = pln_key(session->id), arg = pln_named_number(is_fixed ? 0 : ttl, number);
    struct pln_bytes user = {pln_value_data(session->user), pln_value_len(session->user)};
    if (!is_fixed && enlist(cache, user, id, ttl) != PLN_OK) {
        return PLN_OK;
    }
    int status = run_for_flag(cache, &note_script, ":s:", id, &arg, 1);
    if (status == PLN_OK) {
        session->seen_ms = 0;
        session->left_ms = is_fixed ? session->left_ms : ttl;
    }
    return status == PLN_MISS ? PLN_MISS : PLN_OK;
}

int pln_session_get(struct pln_cache *cache, const struct pln_session_options *options,
                    struct pln_bytes id, struct pln_session *session) {
    struct pln_session read;
    pln_ms ttl;
    int status = check_ttl(options, &ttl);
    if (status == PLN_OK) {
        status = read_session(cache, id, true, &read);
    }
    if (status != PLN_OK) {
        return status;
    }
    if (read.seen_ms >= ttl / SEEN_SHARE) {
        status = note_use(cache, options, ttl, &read);
    }
    if (status == PLN_OK) {
        *session = read;
    } else {
        drop(&read);
    }
    return status;
}

/* ---- end ---- */

/* Ends a session and takes it off the list of `user`, or of whom it says. */
static int destroy(struct pln_cache *cache, struct pln_bytes id) {
    struct pln_named set;
    struct pln_reply *reply, *removed = NULL;
    int status = run(cache, &destroy_script, ":s:", id, NULL, 0, &reply);
    if (status != PLN_OK) {
        return status;
    }
    if (reply->kind != PLN_REPLY_STRING) {
        status = PLN_MISS;
    } else if (reply->bytes.len > 0 &&
               pln_named_make(cache, ":su:", reply->bytes, "", &set) == PLN_OK) {
        struct pln_bytes key = pln_named_bytes(&set);
        struct pln_bytes args[] = {pln_key("ZREM"), key, id};
        if (pln_remote_command(cache, &key, args, 3, 0, &removed) == PLN_OK) {
            pln_reply_free(removed); /* where not, the id goes with its time */
        }
    }
    pln_reply_free(reply);
    return status;
}

int pln_session_destroy(struct pln_cache *cache, struct pln_bytes id) {
    return is_id(id) ? destroy(cache, id) : PLN_MISS;
}

/* ---- all of a user ---- */

/* The ids that a user may have; the caller frees the answer. */
static int list(struct pln_cache *cache, struct pln_bytes user, struct pln_reply **ids) {
    int status = run(cache, &list_script, ":su:", user, NULL, 0, ids);
    if (status == PLN_OK && (*ids)->kind != PLN_REPLY_ARRAY) {
        pln_reply_free(*ids);
        status = pln_fail(PLN_EL2, "session_of: redis: an answer of an unexpected kind");
    }
    return status;
}

int pln_session_of(struct pln_cache *cache, struct pln_bytes user, pln_session_visit visit,
                   void *arg) {
    struct pln_reply *ids;
    bool goes_on = true;
    int status = list(cache, user, &ids);
    if (status != PLN_OK) {
        return status;
    }
    for (size_t i = 0; status == PLN_OK && goes_on && i < ids->n_elements; i++) {
        struct pln_session session;
        status = read_session(cache, ids->elements[i].bytes, false, &session);
        goes_on = status != PLN_OK || visit(arg, &session);
        status = status == PLN_MISS ? PLN_OK : status;
    }
    pln_reply_free(ids);
    return status;
}

int pln_session_destroy_all(struct pln_cache *cache, struct pln_bytes user, size_t *n) {
    struct pln_reply *ids;
    size_t n_ended = 0;
    int status = list(cache, user, &ids);
    if (status != PLN_OK) {
        return status;
    }
    for (size_t i = 0; status == PLN_OK && i < ids->n_elements; i++) {
        status = pln_session_destroy(cache, ids->elements[i].bytes);
        n_ended += status == PLN_OK;
        status = status == PLN_MISS ? PLN_OK : status;
    }
    pln_reply_free(ids);
    if (status == PLN_OK) {
        *n = n_ended;
    }
    return status;
}
