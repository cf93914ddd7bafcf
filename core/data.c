/* SPDX-License-Identifier: MIT
 *
 * data.c - Redis's data structures (hashes, sorted sets, sets, lists, streams) as parts of a cache:
 * under its namespace, with the life that its rules give to their names.
 *
 * A structure named NAME is the key N:d:NAME of Redis. Nothing written here lives longer than was
 * meant because its writer died in between: a write and the beginning of its life are one script.
 * The rule's ttl counts from the write that makes the structure; a ttl given with a call counts
 * from that call.
 *
 * Only commands are taken whose one key follows their name: what else they may do to other keys
 * would be outside of the rules. pln_command() has the rest.
 */
#include "engine.h"

#include <stdio.h>

enum {
    WRITES = 1,
    OF_HASH = 2, /* of what L1 may hold: whoever does is told */
    SINGLES = 4, /* the rest of its words are any number of single ones; may be cut anywhere */
    PAIRS = 8,   /* likewise, of pairs */
    SUMS = 16,   /* what its parts answer is added up; else the last one's answer counts */

    MOST_UNPACKED = 4000, /* words that Lua in Redis hands to one command; its bound is near 8000 */
    LIFE_MAX = 1000000000, /* seconds: what lives longer lives forever */
};

static const struct data_command {
    const char *name;
    unsigned flags;
} commands[] = {
    {"HGET", 0},
    {"HMGET", 0},
    {"HGETALL", 0},
    {"HKEYS", 0},
    {"HVALS", 0},
    {"HLEN", 0},
    {"HEXISTS", 0},
    {"HSTRLEN", 0},
    {"HRANDFIELD", 0},
    {"HSCAN", 0},
    {"HSET", WRITES | OF_HASH | PAIRS | SUMS},
    {"HSETNX", WRITES | OF_HASH},
    {"HDEL", WRITES | OF_HASH | SINGLES | SUMS},
    {"HINCRBY", WRITES | OF_HASH},
    {"HINCRBYFLOAT", WRITES | OF_HASH},
    {"ZADD", WRITES},
    {"ZINCRBY", WRITES},
    {"ZREM", WRITES | SINGLES | SUMS},
    {"ZPOPMIN", WRITES},
    {"ZPOPMAX", WRITES},
    {"ZREMRANGEBYRANK", WRITES},
    {"ZREMRANGEBYSCORE", WRITES},
    {"ZREMRANGEBYLEX", WRITES},
    {"ZSCORE", 0},
    {"ZMSCORE", 0},
    {"ZRANK", 0},
    {"ZREVRANK", 0},
    {"ZRANGE", 0},
    {"ZREVRANGE", 0},
    {"ZRANGEBYSCORE", 0},
    {"ZREVRANGEBYSCORE", 0},
    {"ZRANGEBYLEX", 0},
    {"ZREVRANGEBYLEX", 0},
    {"ZCARD", 0},
    {"ZCOUNT", 0},
    {"ZLEXCOUNT", 0},
    {"ZRANDMEMBER", 0},
    {"ZSCAN", 0},
    {"SADD", WRITES | SINGLES | SUMS},
    {"SREM", WRITES | SINGLES | SUMS},
    {"SPOP", WRITES},
    {"SISMEMBER", 0},
    {"SMISMEMBER", 0},
    {"SMEMBERS", 0},
    {"SCARD", 0},
    {"SRANDMEMBER", 0},
    {"SSCAN", 0},
    {"LPUSH", WRITES | SINGLES},
    {"RPUSH", WRITES | SINGLES},
    {"LPUSHX", WRITES | SINGLES},
    {"RPUSHX", WRITES | SINGLES},
    {"LPOP", WRITES},
    {"RPOP", WRITES},
    {"LTRIM", WRITES},
    {"LSET", WRITES},
    {"LREM", WRITES},
    {"LINSERT", WRITES},
    {"LRANGE", 0},
    {"LLEN", 0},
    {"LINDEX", 0},
    {"LPOS", 0},
    {"XADD", WRITES},
    {"XDEL", WRITES | SINGLES | SUMS},
    {"XTRIM", WRITES},
    {"XRANGE", 0},
    {"XREVRANGE", 0},
    {"XLEN", 0},
    {"DEL", WRITES | OF_HASH},
    {"UNLINK", WRITES | OF_HASH},
    {"PEXPIRE", WRITES | OF_HASH},
    {"PERSIST", WRITES | OF_HASH},
    {"PTTL", 0},
    {"TYPE", 0},
    {"EXISTS", 0},
};

/* 1: the life in ms, '' for one without end; 2: '1' where it begins anew, '0' where only a new
 * structure gets it; 3: how many words at once, 0 for all; 4: '1' where the answers are added up;
 * 5: the command; then its words after the key. */
static const char write_text[] =
    "local K, life, anew, step, sums = KEYS[1], ARGV[1], ARGV[2] == '1', tonumber(ARGV[3]),\n"
    "  ARGV[4] == '1'\n"
    "local was_there = redis.call('EXISTS', K) == 1\n"
    "local answer\n"
    "if step == 0 or #ARGV - 5 <= step then\n"
    "  answer = redis.call(ARGV[5], K, unpack(ARGV, 6))\n"
    "else\n"
    "  for i = 6, #ARGV, step do\n"
    "    local part = redis.call(ARGV[5], K, unpack(ARGV, i, math.min(i + step - 1, #ARGV)))\n"
    "    answer = sums and answer and answer + part or part\n"
    "  end\n"
    "end\n"
    "if life == '' then\n"
    "  if anew then redis.call('PERSIST', K) end\n"
    "elseif anew or not was_there then\n"
    "  redis.call('PEXPIRE', K, life)\n"
    "end\n"
    "return answer\n";

static const struct pln_data_options no_options = {0};

static const char before_name[] = {':', 'd', ':'};

/* ---- names ---- */

int pln_data_key(const struct pln_cache *cache, struct pln_bytes name, struct pln_bytes *key) {
    size_t len = strlen(cache->ns);
    if (name.len == 0 || name.len > PLN_MAX_DATA_NAME || name.data == NULL) {
        return pln_fail(PLN_EINVAL, "name: %zu bytes, must be 1 to %d", name.len,
                        PLN_MAX_DATA_NAME);
    }
    char *bytes = malloc(len + 3 + name.len);
    if (bytes == NULL) {
        return pln_fail(PLN_ENOMEM, "name: no memory");
    }
    memcpy(bytes, cache->ns, len);
    memcpy(mempcpy(bytes + len, before_name, 3), name.data, name.len);
    *key = pln_bytes_of(bytes, len + 3 + name.len);
    return PLN_OK;
}

int pln_data_name(struct pln_cache *cache, struct pln_bytes name, char *buffer, size_t size,
                  size_t *len) {
    struct pln_bytes key = {NULL, 0};
    int status = pln_data_key(cache, name, &key);
    if (status < 0) {
        return status;
    }
    memcpy(buffer, key.data, key.len < size ? key.len : size);
    *len = key.len;
    free((void *) key.data);
    return key.len > size ? PLN_TRUNCATED : PLN_OK;
}

/* ---- calls ---- */

/* A call on its way. */
struct call {
    struct pln_cache *cache;
    const struct data_command *command;
    struct pln_bytes name, key;
    const struct pln_bytes *args; /* the command's name, then its words after the key */
    size_t n_args;
    const struct pln_data_options *options;
};

static const struct data_command *find_command(struct pln_bytes name) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(commands); i++) {
        if (name.len == strlen(commands[i].name) &&
            strncasecmp(name.data, commands[i].name, name.len) == 0) {
            return &commands[i];
        }
    }
    return NULL;
}

static int check(const struct call *call) {
    const struct data_command *command = call->command;
    if (command == NULL) {
        size_t len = call->n_args == 0 ? 0 : call->args[0].len;
        return pln_fail(PLN_EINVAL, "data: '%.*s' is no command on one data structure",
                        len < 40 ? (int) len : 40,
                        len == 0 ? "" : (const char *) call->args[0].data);
    }
    if (call->options->ttl_ms < 0 || call->options->timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "%s: ttl and timeout must not be negative", command->name);
    }
    if ((command->flags & WRITES) == 0 && call->options->ttl_ms != 0) {
        return pln_fail(PLN_EINVAL, "%s: it reads, so there is nothing to give a ttl to",
                        command->name);
    }
    if ((command->flags & WRITES) != 0 && (command->flags & (SINGLES | PAIRS)) == 0 &&
        call->n_args > MOST_UNPACKED) {
        return pln_fail(PLN_EINVAL, "%s: %zu words at once, at most %d", command->name,
                        call->n_args, MOST_UNPACKED);
    }
    if ((command->flags & PAIRS) != 0 && call->n_args % 2 == 0) {
        return pln_fail(PLN_EINVAL, "%s: wants pairs, and the last has no second half",
                        command->name);
    }
    return PLN_OK;
}

static int read_it(const struct call *call, struct pln_reply **reply) {
    struct pln_bytes *words = malloc((call->n_args + 1) * sizeof *words);
    if (words == NULL) {
        return pln_fail(PLN_ENOMEM, "%s: no memory for its words", call->command->name);
    }
    words[0] = call->args[0];
    words[1] = call->key;
    for (size_t i = 1; i < call->n_args; i++) {
        words[i + 1] = call->args[i];
    }
    int status = pln_remote_command(call->cache, &call->key, words, call->n_args + 1,
                                    call->options->timeout_ms, reply);
    free(words);
    return status;
}

static int write_it(const struct call *call, const struct pln_terms *terms,
                    struct pln_reply **reply) {
    const struct pln_remote_script script = {call->command->name, write_text};
    unsigned flags = call->command->flags;
    pln_ms ttl = call->options->ttl_ms;
    bool is_anew = ttl > 0;
    char life[24] = "";
    struct pln_bytes *words = malloc((call->n_args + 4) * sizeof *words);
    if (words == NULL) {
        return pln_fail(PLN_ENOMEM, "%s: no memory for its words", script.name);
    }
    ttl = is_anew ? ttl : pln_life_jittered(terms, terms->ttl_ms);
    if (ttl / 1000 < LIFE_MAX) {
        snprintf(life, sizeof life, "%lld", (long long) ttl);
    }
    words[0] = pln_key(life);
    words[1] = pln_key(is_anew ? "1" : "0");
    words[2] = pln_key((flags & (SINGLES | PAIRS)) != 0 ? "4000" : "0");
    words[3] = pln_key((flags & SUMS) != 0 ? "1" : "0");
    memcpy(words + 4, call->args, call->n_args * sizeof *words);
    int status = pln_remote_run(call->cache, &script, &call->key, 1, words, call->n_args + 4,
                                call->options->timeout_ms, reply);
    free(words);
    if (status == PLN_EL2) { /* its words speak of a script: which command it was is said here */
        char text[PLN_ERROR_TEXT];
        memcpy(text, pln_error_text(), sizeof text);
        return pln_fail(status, "%s: %s", script.name, text);
    }
    return status;
}

/* A write of what instances may hold in L1. They are told whatever became of it: where it failed
 * without an answer, it may have happened all the same. */
static int write_and_tell(const struct call *call, const struct pln_terms *terms,
                          struct pln_reply **reply) {
    char text[PLN_ERROR_TEXT];
    pln_hash_forget(call->cache, call->name);
    int status = write_it(call, terms, reply);
    if (status < 0) {
        memcpy(text, pln_error_text(), sizeof text);
    }
    int told = pln_hash_tell(call->cache, call->name);
    if (status < 0) {
        return pln_fail(status, "%s", text);
    }
    if (told < 0) {
        memcpy(text, pln_error_text(), sizeof text);
        pln_reply_free(*reply);
        return pln_fail(told,
                        "%s: written, but other instances could not be told, and may serve "
                        "what they had until its l1_ttl ends: %s",
                        call->command->name, text);
    }
    return PLN_OK;
}

static int carry_out(const struct call *call, struct pln_reply **reply) {
    struct pln_match match;
    struct pln_ruleset *ruleset;
    if ((call->command->flags & WRITES) == 0) {
        return read_it(call, reply);
    }
    const struct pln_terms *terms = pln_cache_match(call->cache, call->name, &match, &ruleset);
    bool is_held = terms->hash_l1 && (call->command->flags & OF_HASH) != 0 && call->cache->has_l2;
    int status = (is_held ? write_and_tell : write_it)(call, terms, reply);
    pln_ruleset_unref(ruleset);
    return status;
}

int pln_data(struct pln_cache *cache, struct pln_bytes name, const struct pln_bytes *args,
             size_t n_args, const struct pln_data_options *options, struct pln_answer **answer) {
    struct call call = {.cache = cache,
                        .command = n_args == 0 ? NULL : find_command(args[0]),
                        .name = name,
                        .args = args,
                        .n_args = n_args,
                        .options = options != NULL ? options : &no_options};
    struct pln_reply *reply;
    int status = check(&call);
    if (status == PLN_OK) {
        status = pln_data_key(cache, name, &call.key);
    }
    if (status == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_DATA_CALLS, 1);
        status = carry_out(&call, &reply);
        free((void *) call.key.data);
    }
    if (status == PLN_OK) {
        *answer = (struct pln_answer *) reply;
    }
    return status;
}
