/* SPDX-License-Identifier: MIT
 *
 * limit.c - counters, and limits of a rate, exact for all processes: one script on one name, by the
 * server's clock, so that no two requests can both be the last that is allowed.
 *
 * A request that is refused is not counted. Nothing has to be cleaned up: every name carries a ttl
 * after which it is as if it had never been.
 *
 *   fixed    a number; its window begins with the first request. Two windows that meet can let
 *            through twice the rate around that moment.
 *   sliding  "window current last": windows are cut by the clock; the last one counts by the share
 *            of it that is less than `per` ago, as if its requests had come evenly. After a burst
 *            at the end of a window some span of `per` may see more than the rate, twice at worst.
 *   log      a sorted set with the time of every request: never more than the rate in any span.
 *   bucket   "time level": what was taken and has not yet flowed back, which is GCRA with its
 *            theoretical arrival time counted from now, so that a double is exact enough at any
 *            rate. At most `burst` at once, then one each per/rate.
 */
#include "named.h"

#include <errno.h>
#include <stdio.h>

#define MOST_RATE ((int64_t) 1000000000)
#define LONGEST_PER ((pln_ms) 365 * 24 * 3600 * 1000)

enum { MOST_LOGGED = 10000, PER = 1000 };

/* Arguments of all: 1 rate, 2 per, 3 cost, 4 burst, 5 the time in microseconds or 0, 6 a random
 * text. Answers: 1 or 0; what remains; retry and reset in milliseconds, rounded up. */
#define PRELUDE                                                                                     \
    "local K, rate, per, cost = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])\n" \
    "local burst, now = tonumber(ARGV[4]), tonumber(ARGV[5])\n"                                     \
    "if now == 0 then\n"                                                                            \
    "  local t = redis.call('TIME')\n"                                                              \
    "  now = t[1] * 1000000 + t[2]\n"                                                               \
    "end\n"                                                                                         \
    "local up = math.ceil\n"

static const char fixed_text[] = PRELUDE
    "local n, left = tonumber(redis.call('GET', K) or 0), redis.call('PTTL', K)\n"
    "local fits = n + cost <= rate\n"
    "if fits then\n"
    "  n = redis.call('INCRBY', K, cost)\n"
    "  if left < 0 then redis.call('PEXPIRE', K, per) left = per end\n"
    "end\n"
    "left = math.max(left, 0)\n"
    "return {fits and 1 or 0, math.max(rate - n, 0), fits and 0 or math.max(left, 1), left}\n";

static const char sliding_text[] = PRELUDE
    "local span = per * 1000\n"
    "local w, c, p = string.match(redis.call('GET', K) or '', '^(%d+) (%d+) (%d+)$')\n"
    "local window, into = math.floor(now / span), now % span\n"
    "w, c, p = tonumber(w), tonumber(c), tonumber(p)\n"
    "if w == window - 1 then c, p = 0, c elseif w ~= window then c, p = 0, 0 end\n"
    "local used = c + p * (span - into) / span\n"
    "local fits, retry = used + cost <= rate, 0\n"
    "if fits then\n"
    "  c, used = c + cost, used + cost\n"
    "  redis.call('SET', K, string.format('%.0f %.0f %.0f', window, c, p), 'PX', 2 * per)\n"
    "elseif c + cost <= rate then\n" /* when the last window has faded enough */
    "  retry = span * (1 - (rate - c - cost) / p) - into\n"
    "else\n" /* in the next one, when this one has */
    "  retry = span - into + math.max(0, span * (1 - (rate - cost) / c))\n"
    "end\n"
    "local reset = c > 0 and 2 * span - into or p > 0 and span - into or 0\n"
    "return {fits and 1 or 0, math.max(math.floor(rate - used), 0),\n"
    "  fits and 0 or math.max(up(retry / 1000), 1), up(reset / 1000)}\n";

static const char log_text[] = PRELUDE
    "local span = per * 1000\n"
    "redis.call('ZREMRANGEBYSCORE', K, '-inf', string.format('%.0f', now - span))\n"
    "local n = redis.call('ZCARD', K)\n"
    "local fits, retry, reset = n + cost <= rate, 0, span\n"
    "if fits then\n"
    "  for i = 1, cost do\n"
    "    redis.call('ZADD', K, string.format('%.0f', now), ARGV[6] .. i)\n"
    "  end\n"
    "  n = n + cost\n"
    "  redis.call('PEXPIRE', K, per)\n"
    "else\n" /* when so many of the oldest have gone that this one fits */
    "  local k = n + cost - rate - 1\n"
    "  retry = redis.call('ZRANGE', K, k, k, 'WITHSCORES')[2] + span - now\n"
    "  reset = redis.call('ZRANGE', K, -1, -1, 'WITHSCORES')[2] + span - now\n"
    "end\n"
    "return {fits and 1 or 0, math.max(rate - n, 0),\n"
    "  fits and 0 or math.max(up(retry / 1000), 1), up(reset / 1000)}\n";

static const char bucket_text[] = PRELUDE
    "local each = per * 1000 / rate\n" /* microseconds in which one flows back */
    "local t, level = string.match(redis.call('GET', K) or '', '^(%d+) (%S+)$')\n"
    "level = tonumber(level or 0)\n"
    "if t then level = math.max(0, level - math.max(0, now - t) / each) end\n"
    "local fits, retry = level + cost <= burst + 1e-6, 0\n" /* of the doubles' rounding */
    "if fits then\n"
    "  level = level + cost\n"
    "  redis.call('SET', K, string.format('%.0f %.17g', now, level), 'PX',\n"
    "    math.max(1, up(level * each / 1000)))\n"
    "else\n"
    "  retry = (level + cost - burst) * each\n"
    "end\n"
    "return {fits and 1 or 0, math.max(math.floor(burst - level + 1e-6), 0),\n"
    "  fits and 0 or math.max(up(retry / 1000), 1), up(level * each / 1000)}\n";

static const struct kind {
    const char *before; /* in the name */
    struct pln_remote_script script;
} kinds[] = {
    [PLN_LIMIT_FIXED] = {":rf:", {"limit", fixed_text}},
    [PLN_LIMIT_SLIDING] = {":rs:", {"limit", sliding_text}},
    [PLN_LIMIT_LOG] = {":rl:", {"limit", log_text}},
    [PLN_LIMIT_BUCKET] = {":rb:", {"limit", bucket_text}},
};

/* ---- limits ---- */

static int check(const struct pln_limit_options *limit) {
    if (limit->kind >= PLN_ARRAY_LEN(kinds)) {
        return pln_fail(PLN_EINVAL, "kind: there is no limit of kind %u", limit->kind);
    }
    if (limit->on_away > PLN_LIMIT_DENY) {
        return pln_fail(PLN_EINVAL, "on_away: %u is none of its values", limit->on_away);
    }
    bool is_log = limit->kind == PLN_LIMIT_LOG, is_bucket = limit->kind == PLN_LIMIT_BUCKET;
    int64_t most = is_log ? MOST_LOGGED : MOST_RATE;
    if (limit->rate < 1 || limit->rate > most) {
        return pln_fail(PLN_EINVAL, "rate: %lld, must be 1 to %lld", (long long) limit->rate,
                        (long long) most);
    }
    if (limit->per_ms < 1 || limit->per_ms > LONGEST_PER) {
        return pln_fail(PLN_EINVAL, "per: %lld ms, must be 1 ms to 365 days",
                        (long long) limit->per_ms);
    }
    if (limit->burst < 1 || limit->burst > MOST_RATE ||
        (!is_bucket && limit->burst != limit->rate)) {
        return pln_fail(PLN_EINVAL, "burst: %lld, must be 1 to %lld, and is of buckets alone",
                        (long long) limit->burst, (long long) MOST_RATE);
    }
    if (limit->cost < 1 || limit->cost > limit->burst) {
        return pln_fail(PLN_EINVAL, "cost: %lld, must be 1 to %lld, or it is never allowed",
                        (long long) limit->cost, (long long) limit->burst);
    }
    return PLN_OK;
}

static int ask(struct pln_cache *cache, struct pln_bytes name,
               const struct pln_limit_options *limit, int64_t now, int64_t said[4]) {
    struct pln_named named;
    char numbers[5][PLN_NAMED_NUMBER], unique[PLN_NAMED_NUMBER];
    const struct kind *kind = &kinds[limit->kind];
    struct pln_reply *reply;
    int status = pln_named_make(cache, kind->before, name, "", &named);
    if (status < 0) {
        return status;
    }
    snprintf(unique, sizeof unique, "%016llx:", (unsigned long long) pln_random64());
    struct pln_bytes key = pln_named_bytes(&named);
    struct pln_bytes args[] = {
        pln_named_number(limit->rate, numbers[0]), pln_named_number(limit->per_ms, numbers[1]),
        pln_named_number(limit->cost, numbers[2]), pln_named_number(limit->burst, numbers[3]),
        pln_named_number(now, numbers[4]),         pln_key(unique)};
    status = pln_remote_run(cache, &kind->script, &key, 1, args, PLN_ARRAY_LEN(args),
                            limit->timeout_ms, &reply);
    if (status == PLN_OK) {
        status = pln_named_integers(reply, "limit", said, 4);
        pln_reply_free(reply);
    }
    return status;
}

int pln_limit_at(struct pln_cache *cache, struct pln_bytes name,
                 const struct pln_limit_options *options, int64_t now,
                 struct pln_limit_result *result) {
    struct pln_limit_options limit = *options;
    int64_t said[4];
    limit.per_ms = limit.per_ms != 0 ? limit.per_ms : PER;
    limit.cost = limit.cost != 0 ? limit.cost : 1;
    limit.burst = limit.burst != 0 ? limit.burst : limit.rate;
    int status = check(&limit);
    if (status == PLN_OK) {
        status = ask(cache, name, &limit, now, said);
    }
    if (status == PLN_OK) {
        *result = (struct pln_limit_result){.is_allowed = said[0] == 1,
                                            .remaining = said[1],
                                            .retry_ms = said[2],
                                            .reset_ms = said[3]};
    } else if (status != PLN_EINVAL && limit.on_away != PLN_LIMIT_FAIL) {
        *result = (struct pln_limit_result){.is_allowed = limit.on_away == PLN_LIMIT_ALLOW,
                                            .is_guess = true};
        status = PLN_OK;
    }
    return status;
}

int pln_limit(struct pln_cache *cache, struct pln_bytes name,
              const struct pln_limit_options *options, struct pln_limit_result *result) {
    return options == NULL ? pln_fail(PLN_EINVAL, "limit: needs a rate")
                           : pln_limit_at(cache, name, options, 0, result);
}

/* ---- counters ---- */

/* The value goes as text, for numbers of Lua are exact to 2^53 only. */
static const struct pln_remote_script add_script = {"counter_add",
                                                    "redis.call('INCRBY', KEYS[1], ARGV[1])\n"
                                                    "if redis.call('PTTL', KEYS[1]) < 0 then\n"
                                                    "  redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
                                                    "end\n"
                                                    "return redis.call('GET', KEYS[1])\n"};

/* Takes the number out of an answer, and frees that. Nothing there is 0. */
static int take_value(struct pln_reply *reply, int64_t *value) {
    int64_t number = reply->kind == PLN_REPLY_INTEGER ? reply->integer : 0;
    bool is_good = reply->kind == PLN_REPLY_INTEGER || reply->kind == PLN_REPLY_NIL;
    if (reply->kind == PLN_REPLY_STRING && reply->bytes.len > 0) {
        const char *text = reply->bytes.data;
        char *end;
        errno = 0;
        number = strtoll(text, &end, 10);
        is_good = errno == 0 && end == text + reply->bytes.len;
    }
    pln_reply_free(reply);
    if (!is_good) {
        return pln_fail(PLN_EL2, "counter: redis has something else under its name");
    }
    *value = number;
    return PLN_OK;
}

static int command(struct pln_cache *cache, const char *verb, struct pln_bytes name,
                   const char *number, int64_t *value) {
    struct pln_named named;
    struct pln_reply *reply;
    int status = pln_named_make(cache, ":c:", name, "", &named);
    if (status == PLN_OK) {
        struct pln_bytes key = pln_named_bytes(&named);
        struct pln_bytes args[] = {pln_key(verb), key, pln_key(number != NULL ? number : "")};
        status = pln_remote_command(cache, &key, args, number != NULL ? 3 : 2, 0, &reply);
    }
    return status == PLN_OK ? take_value(reply, value) : status;
}

int pln_counter_add(struct pln_cache *cache, struct pln_bytes name, int64_t by, pln_ms ttl_ms,
                    int64_t *value) {
    struct pln_named named;
    char number[PLN_NAMED_NUMBER], ttl[PLN_NAMED_NUMBER];
    struct pln_reply *reply;
    if (ttl_ms < 0 || ttl_ms > LONGEST_PER) {
        return pln_fail(PLN_EINVAL, "ttl: %lld ms, must be up to 365 days", (long long) ttl_ms);
    }
    struct pln_bytes args[] = {pln_named_number(by, number), pln_named_number(ttl_ms, ttl)};
    if (ttl_ms == 0) {
        return command(cache, "INCRBY", name, number, value);
    }
    int status = pln_named_make(cache, ":c:", name, "", &named);
    if (status == PLN_OK) {
        struct pln_bytes key = pln_named_bytes(&named);
        status = pln_remote_run(cache, &add_script, &key, 1, args, 2, 0, &reply);
    }
    return status == PLN_OK ? take_value(reply, value) : status;
}

int pln_counter_get(struct pln_cache *cache, struct pln_bytes name, int64_t *value) {
    return command(cache, "GET", name, NULL, value);
}

int pln_counter_reset(struct pln_cache *cache, struct pln_bytes name) {
    int64_t n;
    return command(cache, "DEL", name, NULL, &n);
}
