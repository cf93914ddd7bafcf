/* SPDX-License-Identifier: MIT
 *
 * command.c - any command of Redis, as a program gives it, and its answer.
 *
 * Two things are known of commands here. Which ones are refused: connections are shared by all
 * callers, so a command that blocks one, or changes what it is, would be felt by the others. And
 * which word names the key, which says what server a command is for; where that is not known, the
 * first word after the command's name is taken, as for most of them.
 *
 * An answer is the reply of l2 under another name: programs see it through functions alone, so
 * that its layout stays ours.
 */
#include "engine.h"

#include <stdio.h>

/* ---- what is refused ---- */

#define SHARED "connections are shared by all callers, and it "
#define BLOCKS SHARED "would keep one from them; ask without blocking, and again later"
#define SUBSCRIBES SHARED "would make one useless to them; subscribe on a connection of your own"
#define GATHERS SHARED "could not keep them apart; use EVAL, which runs as one step"
#define LOGIN "the login is chosen at open, by the options 'redis', 'username' and 'password'"
#define CHANGES SHARED "changes one under them; use a connection of your own"
#define STOPS "it is an operator's command; use redis-cli"

static const struct {
    const char *name;
    const char *second; /* only with this word after it */
    const char *why;
} refused[] = {
    {"SUBSCRIBE", NULL, SUBSCRIBES},
    {"PSUBSCRIBE", NULL, SUBSCRIBES},
    {"SSUBSCRIBE", NULL, SUBSCRIBES},
    {"UNSUBSCRIBE", NULL, SUBSCRIBES},
    {"PUNSUBSCRIBE", NULL, SUBSCRIBES},
    {"SUNSUBSCRIBE", NULL, SUBSCRIBES},
    {"MONITOR", NULL, SUBSCRIBES},
    {"MULTI", NULL, GATHERS},
    {"EXEC", NULL, GATHERS},
    {"DISCARD", NULL, GATHERS},
    {"WATCH", NULL, GATHERS},
    {"UNWATCH", NULL, GATHERS},
    {"SELECT", NULL, "the database is chosen at open, by the URL in the option 'redis'"},
    {"AUTH", NULL, LOGIN},
    {"HELLO", NULL, LOGIN},
    {"RESET", NULL, CHANGES},
    {"QUIT", NULL, CHANGES},
    {"READONLY", NULL, CHANGES},
    {"READWRITE", NULL, CHANGES},
    {"ASKING", NULL, CHANGES},
    {"SCRIPT", "DEBUG", CHANGES},
    {"BLPOP", NULL, BLOCKS},
    {"BRPOP", NULL, BLOCKS},
    {"BLMOVE", NULL, BLOCKS},
    {"BLMPOP", NULL, BLOCKS},
    {"BRPOPLPUSH", NULL, BLOCKS},
    {"BZPOPMIN", NULL, BLOCKS},
    {"BZPOPMAX", NULL, BLOCKS},
    {"BZMPOP", NULL, BLOCKS},
    {"WAIT", NULL, BLOCKS},
    {"WAITAOF", NULL, BLOCKS},
    {"SYNC", NULL, CHANGES},
    {"PSYNC", NULL, CHANGES},
    {"REPLCONF", NULL, CHANGES},
    {"SHUTDOWN", NULL, STOPS},
    {"FAILOVER", NULL, STOPS},
    {"DEBUG", NULL, STOPS},
};

static bool is_word(struct pln_bytes bytes, const char *word) {
    return bytes.len == strlen(word) && strncasecmp(bytes.data, word, bytes.len) == 0;
}

/* Of CLIENT only what looks: the rest is about a connection, and which one it would be is chance.
 */
static bool is_harmless_client(const struct pln_bytes *args, size_t n_args) {
    return n_args > 1 && (is_word(args[1], "LIST") || is_word(args[1], "INFO") ||
                          is_word(args[1], "ID") || is_word(args[1], "GETNAME"));
}

static bool has_word(const struct pln_bytes *args, size_t n_args, const char *word) {
    for (size_t i = 1; i < n_args; i++) {
        if (is_word(args[i], word)) {
            return true;
        }
    }
    return false;
}

enum { NO_KEY = 0, AFTER_STREAMS = -1, IF_COUNTED = -2 };

/* Where the names of an XREAD or XREADGROUP begin, or NO_KEY; and whether it would wait. An
 * option's values are passed over, since a group or a consumer may be called as options are. */
static size_t find_streams(const struct pln_bytes *args, size_t n_args, bool *waits) {
    *waits = false;
    for (size_t i = 1; i < n_args; i++) {
        if (is_word(args[i], "STREAMS")) {
            return i + 1;
        }
        *waits = *waits || is_word(args[i], "BLOCK");
        if (is_word(args[i], "BLOCK") || is_word(args[i], "COUNT")) {
            i += 1;
        } else if (is_word(args[i], "GROUP")) {
            i += 2;
        }
    }
    return NO_KEY;
}

static bool waits_for_streams(const struct pln_bytes *args, size_t n_args) {
    bool waits;
    find_streams(args, n_args, &waits);
    return waits;
}

static int refuse(const char *name, const char *second, const char *why) {
    return pln_fail(PLN_EINVAL, "redis: %s%s%s is not for a cache: %s", name,
                    second == NULL ? "" : " ", second == NULL ? "" : second, why);
}

static int check(const struct pln_bytes *args, size_t n_args) {
    if (n_args == 0 || args[0].len == 0) {
        return pln_fail(PLN_EINVAL, "redis: a command is wanted, and got none");
    }
    for (size_t i = 0; i < PLN_ARRAY_LEN(refused); i++) {
        const char *second = refused[i].second;
        if (is_word(args[0], refused[i].name) &&
            (second == NULL || (n_args > 1 && is_word(args[1], second)))) {
            return refuse(refused[i].name, second, refused[i].why);
        }
    }
    if (is_word(args[0], "CLIENT") && !is_harmless_client(args, n_args)) {
        return refuse("CLIENT", NULL,
                      "of its commands only LIST, INFO, ID and GETNAME are; " STOPS);
    }
    if ((is_word(args[0], "XREAD") || is_word(args[0], "XREADGROUP")) &&
        waits_for_streams(args, n_args)) {
        return refuse("XREAD", "BLOCK", BLOCKS);
    }
    return PLN_OK;
}

/* ---- which word is the key ---- */

/* Those whose key is not the first word after their name. */
static const struct {
    const char *name;
    int place;
} places[] = {
    {"ACL", NO_KEY},
    {"BGREWRITEAOF", NO_KEY},
    {"BGSAVE", NO_KEY},
    {"BITOP", 2},
    {"CLIENT", NO_KEY},
    {"CLUSTER", NO_KEY},
    {"COMMAND", NO_KEY},
    {"CONFIG", NO_KEY},
    {"DBSIZE", NO_KEY},
    {"ECHO", NO_KEY},
    {"EVAL", IF_COUNTED},
    {"EVALSHA", IF_COUNTED},
    {"EVALSHA_RO", IF_COUNTED},
    {"EVAL_RO", IF_COUNTED},
    {"FCALL", IF_COUNTED},
    {"FCALL_RO", IF_COUNTED},
    {"FLUSHALL", NO_KEY},
    {"FLUSHDB", NO_KEY},
    {"FUNCTION", NO_KEY},
    {"INFO", NO_KEY},
    {"KEYS", NO_KEY},
    {"LASTSAVE", NO_KEY},
    {"LATENCY", NO_KEY},
    {"LMPOP", 2},
    {"LOLWUT", NO_KEY},
    {"MEMORY", 2},
    {"MIGRATE", 3},
    {"MODULE", NO_KEY},
    {"OBJECT", 2},
    {"PING", NO_KEY},
    {"PUBLISH", NO_KEY},
    {"PUBSUB", NO_KEY},
    {"RANDOMKEY", NO_KEY},
    {"REPLICAOF", NO_KEY},
    {"ROLE", NO_KEY},
    {"SAVE", NO_KEY},
    {"SCAN", NO_KEY},
    {"SCRIPT", NO_KEY},
    {"SINTERCARD", 2},
    {"SLAVEOF", NO_KEY},
    {"SLOWLOG", NO_KEY},
    {"SWAPDB", NO_KEY},
    {"TIME", NO_KEY},
    {"XGROUP", 2},
    {"XINFO", 2},
    {"XREAD", AFTER_STREAMS},
    {"XREADGROUP", AFTER_STREAMS},
    {"ZDIFF", 2},
    {"ZINTER", 2},
    {"ZINTERCARD", 2},
    {"ZMPOP", 2},
    {"ZUNION", 2},
};

/* The first key of a command, or NULL where it has none. */
static const struct pln_bytes *key_of(const struct pln_bytes *args, size_t n_args) {
    size_t place = 1;
    bool waits;
    for (size_t i = 0; i < PLN_ARRAY_LEN(places); i++) {
        if (!is_word(args[0], places[i].name)) {
            continue;
        }
        if (places[i].place == AFTER_STREAMS) {
            place = find_streams(args, n_args, &waits);
        } else if (places[i].place == IF_COUNTED) {
            place = n_args > 2 && !is_word(args[2], "0") ? 3 : NO_KEY;
        } else {
            place = (size_t) places[i].place;
        }
    }
    if (is_word(args[0], "MEMORY") && !has_word(args, n_args < 2 ? n_args : 2, "USAGE")) {
        place = NO_KEY;
    }
    return place == NO_KEY || place >= n_args ? NULL : &args[place];
}

int pln_command(struct pln_cache *cache, const struct pln_bytes *key, const struct pln_bytes *args,
                size_t n_args, pln_ms timeout_ms, struct pln_answer **answer) {
    struct pln_reply *reply;
    int status = check(args, n_args);
    if (status == PLN_OK && timeout_ms < 0) {
        status = pln_fail(PLN_EINVAL, "redis: the timeout must not be negative");
    }
    if (status == PLN_OK) {
        pln_count(cache->counts, PLN_COUNT_DATA_CALLS, 1);
        status = pln_remote_command(cache, key != NULL ? key : key_of(args, n_args), args, n_args,
                                    timeout_ms, &reply);
    }
    if (status == PLN_OK) {
        *answer = (struct pln_answer *) reply;
    }
    return status;
}

/* ---- answers ---- */

static const struct pln_reply *reply_of(const struct pln_answer *answer) {
    return (const struct pln_reply *) answer;
}

int pln_answer_kind(const struct pln_answer *answer) {
    static const int kinds[] = {
        [PLN_REPLY_NIL] = PLN_ANSWER_NIL,       [PLN_REPLY_STATUS] = PLN_ANSWER_STRING,
        [PLN_REPLY_ERROR] = PLN_ANSWER_ERROR,   [PLN_REPLY_INTEGER] = PLN_ANSWER_INTEGER,
        [PLN_REPLY_STRING] = PLN_ANSWER_STRING, [PLN_REPLY_ARRAY] = PLN_ANSWER_ARRAY,
        [PLN_REPLY_DOUBLE] = PLN_ANSWER_NUMBER, [PLN_REPLY_BOOL] = PLN_ANSWER_BOOLEAN,
        [PLN_REPLY_MAP] = PLN_ANSWER_ARRAY,     [PLN_REPLY_SET] = PLN_ANSWER_ARRAY,
        [PLN_REPLY_PUSH] = PLN_ANSWER_ARRAY,
    };
    return answer == NULL ? PLN_ANSWER_NIL : kinds[reply_of(answer)->kind];
}

int64_t pln_answer_integer(const struct pln_answer *answer) {
    return reply_of(answer)->integer;
}

double pln_answer_number(const struct pln_answer *answer) {
    return reply_of(answer)->number;
}

struct pln_bytes pln_answer_bytes(const struct pln_answer *answer) {
    return reply_of(answer)->bytes;
}

size_t pln_answer_len(const struct pln_answer *answer) {
    return reply_of(answer)->n_elements;
}

const struct pln_answer *pln_answer_at(const struct pln_answer *answer, size_t i) {
    const struct pln_reply *reply = reply_of(answer);
    return i < reply->n_elements ? (const struct pln_answer *) &reply->elements[i] : NULL;
}

void pln_answer_free(struct pln_answer *answer) {
    pln_reply_free((struct pln_reply *) answer);
}
