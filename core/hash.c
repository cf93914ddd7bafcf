/* SPDX-License-Identifier: MIT
 *
 * hash.c - hashes of Redis, read by their fields; where a rule says hash_l1, read whole and kept in
 * L1, so that the next field costs no round trip.
 *
 * The copy is an entry of L1 under the key "\0h:NAME", guarded as any other: a stamp is taken
 * before the hash is asked for, and who writes the hash sends the message "that key was changed"
 * after it. A copy read before the write is therefore either not kept, or ended by the message.
 * The order is all there is: write and message are two steps. Where the writer dies between them,
 * others may serve their copies until the l1_ttl ends.
 *
 * One fill runs at a time for a hash and process. No lease is needed: what is asked for lies in
 * Redis itself, and is not stored there again.
 *
 * A hash as bytes: for each field its length, the field, the value's length, the value; lengths are
 * 32 bits of this machine's order, since it never leaves the process. No fields, no bytes: to Redis
 * a hash without fields is one that does not exist.
 */
#include "flight.h"

enum { LEN_BYTES = sizeof(uint32_t) };

static const struct pln_data_options no_options = {0};

static const char before_name[] = {0, 'h', ':'};

/* ---- hashes as bytes ---- */

/* A text at *at; false where the bytes end before it does. */
static bool take_text(const char *bytes, size_t len, size_t *at, struct pln_bytes *text) {
    uint32_t n;
    if (*at > len || len - *at < LEN_BYTES) {
        return false;
    }
    memcpy(&n, bytes + *at, LEN_BYTES);
    if (len - *at - LEN_BYTES < n) {
        return false;
    }
    *text = pln_bytes_of(bytes + *at + LEN_BYTES, n);
    *at += LEN_BYTES + n;
    return true;
}

bool pln_hash_next(const struct pln_value *hash, size_t *at, struct pln_bytes *field,
                   struct pln_bytes *text) {
    const char *bytes = pln_value_data(hash);
    size_t len = pln_value_len(hash);
    return take_text(bytes, len, at, field) && take_text(bytes, len, at, text);
}

bool pln_hash_field(const struct pln_value *hash, struct pln_bytes field, struct pln_bytes *text) {
    struct pln_bytes name;
    size_t at = 0;
    while (pln_hash_next(hash, &at, &name, text)) {
        if (pln_bytes_equal(name, field)) {
            return true;
        }
    }
    return false;
}

static char *put_text(char *to, struct pln_bytes text) {
    uint32_t n = (uint32_t) text.len; /* Redis ends at 512 MiB */
    memcpy(to, &n, LEN_BYTES);
    if (n > 0) {
        memcpy(to + LEN_BYTES, text.data, n);
    }
    return to + LEN_BYTES + n;
}

/* Fields and values in turn, or values: a map, in RESP3. */
static bool is_list(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_ARRAY || reply->kind == PLN_REPLY_MAP;
}

/* Makes a value of n fields: the i-th is fields[i], or, without such a list, the elements in turn
 * are fields and values. Those whose value is nil are left out. */
static int make_hash(const struct pln_bytes *fields, size_t n, const struct pln_reply *elements,
                     struct pln_value **value) {
    size_t step = fields == NULL ? 2 : 1, size = 0;
    for (size_t pass = 0; pass < 2; pass++) {
        char *bytes = pass == 0 ? NULL : malloc(size + 1), *to = bytes;
        if (pass == 1 && bytes == NULL) {
            return pln_fail(PLN_ENOMEM, "hash: no memory for %zu bytes", size);
        }
        for (size_t i = 0; i < n; i++) {
            const struct pln_reply *text = &elements[i * step + step - 1];
            struct pln_bytes field = fields == NULL ? elements[i * step].bytes : fields[i];
            if (text->kind != PLN_REPLY_STRING) {
                continue;
            }
            if (pass == 0) {
                size += 2 * (size_t) LEN_BYTES + field.len + text->bytes.len;
            } else {
                to = put_text(put_text(to, field), text->bytes);
            }
        }
        if (pass == 1) {
            *value = size > UINT32_MAX ? NULL : pln_value_new(pln_bytes_of(bytes, size), 0);
            free(bytes);
        }
    }
    return *value != NULL ? PLN_OK
                          : pln_fail(size > UINT32_MAX ? PLN_ETOOBIG : PLN_ENOMEM,
                                     "hash: no memory for %zu bytes in one piece", size);
}

/* ---- the key in L1 ---- */

/* The bytes go to `buffer`; the name is a valid one. */
static struct pln_hashed copy_key(const struct pln_cache *cache, struct pln_bytes name,
                                  char buffer[PLN_MAX_KEY]) {
    assert(name.len > 0 && name.len <= PLN_MAX_DATA_NAME);
    memcpy(buffer, before_name, sizeof before_name);
    memcpy(buffer + 3, name.data, name.len);
    struct pln_bytes key = pln_bytes_of(buffer, 3 + name.len);
    return (struct pln_hashed){key, pln_hash(key, cache->seed)};
}

void pln_hash_forget(struct pln_cache *cache, struct pln_bytes name) {
    char buffer[PLN_MAX_KEY];
    struct pln_hashed key = copy_key(cache, name, buffer);
    pln_inval_key(cache->inval, &key); /* R8: before it is sent */
}

int pln_hash_tell(struct pln_cache *cache, struct pln_bytes name) {
    char buffer[PLN_MAX_KEY];
    struct pln_hashed key = copy_key(cache, name, buffer);
    struct pln_attempt attempt = {.kind = PLN_ATTEMPT_REMOVE, .key = key};
    pln_recovery_begin(cache->recovery, &attempt);
    int status = pln_l2_remove(pln_cache_l2(cache), &key,
                               pln_cache_l2_deadline(cache, PLN_FOREVER));
    pln_inval_key(cache->inval, &key); /* and again at the reply */
    return pln_recovery_end(cache->recovery, &attempt, status);
}

/* ---- reading ---- */

/* A read on its way. */
struct hash_read {
    struct pln_cache *cache;
    struct pln_bytes name, key; /* the key in Redis */
    const struct pln_terms *terms;
    pln_ms timeout_ms;
};

static int not_a_hash(struct pln_reply *reply) {
    pln_reply_free(reply);
    return pln_fail(PLN_EL2, "hash: Redis answered with something that is no hash");
}

/* Reads the whole hash, and keeps it in L1 if nothing was heard of it meanwhile. */
static int fetch(const struct hash_read *read, const struct pln_hashed *key,
                 struct pln_outcome *outcome) {
    static const struct pln_remote_script script = {
        "HGETALL", "return {redis.call('PTTL', KEYS[1]), redis.call('HGETALL', KEYS[1])}"};
    struct pln_reply *reply;
    struct pln_stamp stamp;
    pln_stamp_take(read->cache->inval, key->hash, &stamp); /* R2 */
    int status = pln_remote_run(read->cache, &script, &read->key, 1, NULL, 0, read->timeout_ms,
                                &reply);
    if (status < 0) {
        return status;
    }
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 || !is_list(&reply->elements[1])) {
        return not_a_hash(reply);
    }
    const struct pln_reply *pairs = &reply->elements[1];
    pln_ms left = reply->elements[0].integer;
    left = pairs->n_elements == 0 ? read->terms->negative_ms : left < 0 ? PLN_FOREVER : left;
    status = make_hash(NULL, pairs->n_elements / 2, pairs->elements, &outcome->value);
    pln_reply_free(reply);
    if (status == PLN_OK) {
        struct pln_l2_item item = {
            .value = {pln_value_data(outcome->value), pln_value_len(outcome->value)},
            .fresh_left = left,
            .life_left = left,
        };
        size_t limit = read->terms->max_bytes;
        pln_ms now = pln_now(&read->cache->host);
        outcome->life = pln_life_of(read->terms, now, 0, item.fresh_left, item.life_left);
        if (left > 0 && (limit == 0 || item.value.len <= limit)) {
            pln_life_keep(read->cache, key, read->terms, &stamp, &item, &outcome->life);
        }
        outcome->source = PLN_FROM_L2;
    }
    return status;
}

/* Fetches the hash, or waits for who does. */
static int fly(const struct hash_read *read, const struct pln_hashed *key,
               struct pln_outcome *outcome) {
    struct pln_flights *flights = read->cache->flights;
    pln_ns deadline = pln_deadline(read->timeout_ms);
    struct pln_stamp stamp;
    bool leads;
    pln_stamp_take(read->cache->inval, key->hash, &stamp);
    struct pln_flight *flight = pln_flight_join(flights, &stamp, key, false, &leads);
    if (flight == NULL) {
        return PLN_ENOMEM;
    }
    if (leads) {
        struct pln_outcome fetched = {0};
        int status = fetch(read, key, &fetched);
        if (status < 0) {
            pln_outcome_fail(&fetched, status);
        }
        pln_flight_finish_take(flights, flight, &fetched);
    } else {
        pln_count(read->cache->counts, PLN_COUNT_LOAD_WAITS, 1);
    }
    struct pln_patience patience = {.deadline = deadline};
    int waited = pln_flight_wait(flights, flight, &patience, outcome);
    pln_flight_leave(flights, flight);
    if (waited != PLN_OK) {
        return pln_fail(PLN_ETIMEOUT, "hash: no answer within %lld ms",
                        (long long) read->timeout_ms);
    }
    return outcome->status < 0 ? pln_fail(outcome->status, "%s", outcome->text) : PLN_OK;
}

static void answer(struct pln_value *value, enum pln_source source, const struct pln_l1_life *life,
                   pln_ms now, struct pln_result *result) {
    *result = (struct pln_result){
        .value = value, .len = pln_value_len(value), .source = (uint8_t) source};
    if (life != NULL) {
        pln_life_describe(life, now, result);
    }
}

static bool keeps_hashes(const struct pln_cache *cache, const struct pln_terms *terms) {
    return terms->hash_l1 && terms->use_l1 && cache->has_l2;
}

/* Answers with what L1 has, where that is fresh. */
static bool serve_kept(struct pln_cache *cache, const struct pln_hashed *key,
                       const struct pln_l1_hit *hit, struct pln_value *kept, pln_ms now,
                       struct pln_result *result) {
    if (now >= hit->life.stale || pln_cache_in_doubt(cache, key->key, NULL, hit, now)) {
        return false;
    }
    pln_count(cache->counts, PLN_COUNT_HASH_L1_HITS, 1);
    answer(kept, PLN_FROM_L1, &hit->life, now, result);
    return true;
}

int pln_hash_peek(struct pln_cache *cache, struct pln_bytes name, struct pln_result *result) {
    char buffer[PLN_MAX_KEY];
    struct pln_ruleset *ruleset;
    struct pln_match match;
    struct pln_value *kept = NULL;
    struct pln_l1_hit hit;
    *result = (struct pln_result){.source = PLN_FROM_MISS};
    if (name.len == 0 || name.len > PLN_MAX_DATA_NAME) {
        return PLN_MISS;
    }
    const struct pln_terms *terms = pln_cache_match(cache, name, &match, &ruleset);
    bool is_kept = keeps_hashes(cache, terms);
    pln_ruleset_unref(ruleset);
    pln_ms now = pln_now(&cache->host);
    struct pln_hashed key = copy_key(cache, name, buffer);
    if (!is_kept || pln_l1_borrow(cache->l1, &key, now, 0, &hit, &kept) != PLN_OK) {
        return PLN_MISS;
    }
    if (!serve_kept(cache, &key, &hit, kept, now, result)) {
        pln_release(cache, kept);
        return PLN_MISS;
    }
    pln_count(cache->counts, PLN_COUNT_DATA_CALLS, 1);
    return PLN_OK;
}

/* From L1, or the whole of it from Redis; with Redis away, what L1 has within its life. */
static int read_whole(const struct hash_read *read, struct pln_result *result) {
    char buffer[PLN_MAX_KEY];
    struct pln_cache *cache = read->cache;
    struct pln_hashed key = copy_key(cache, read->name, buffer);
    struct pln_outcome outcome = {0};
    struct pln_value *kept = NULL;
    struct pln_l1_hit hit;
    pln_ms now = pln_now(&cache->host);
    bool is_there = pln_l1_borrow(cache->l1, &key, now, 0, &hit, &kept) == PLN_OK;
    if (is_there && serve_kept(cache, &key, &hit, kept, now, result)) {
        return PLN_OK;
    }
    int status = fly(read, &key, &outcome);
    now = pln_now(&cache->host);
    if (status == PLN_OK) {
        answer(outcome.value, PLN_FROM_L2, &outcome.life, now, result);
    } else if (is_there && status != PLN_EL2 && now < hit.life.stale) {
        answer(kept, PLN_FROM_STALE, &hit.life, now, result);
        return PLN_OK;
    }
    pln_release(cache, is_there ? kept : NULL);
    return status;
}

/* Only the fields asked for (none: all), from Redis. */
static int read_fields(const struct hash_read *read, const struct pln_bytes *fields,
                       size_t n_fields, struct pln_result *result) {
    struct pln_value *value = NULL;
    struct pln_reply *reply;
    struct pln_bytes *words = malloc((2 + n_fields) * sizeof *words);
    if (words == NULL) {
        return pln_fail(PLN_ENOMEM, "hash: no memory for %zu fields", n_fields);
    }
    words[0] = pln_key(n_fields == 0 ? "HGETALL" : "HMGET");
    words[1] = read->key;
    for (size_t i = 0; i < n_fields; i++) {
        words[2 + i] = fields[i];
    }
    int status = pln_remote_command(read->cache, &read->key, words, 2 + n_fields, read->timeout_ms,
                                    &reply);
    free(words);
    if (status < 0) {
        return status;
    }
    if (!is_list(reply) || (n_fields > 0 && reply->n_elements != n_fields)) {
        return not_a_hash(reply);
    }
    status = make_hash(n_fields == 0 ? NULL : fields,
                       n_fields == 0 ? reply->n_elements / 2 : n_fields, reply->elements, &value);
    pln_reply_free(reply);
    if (status == PLN_OK) {
        answer(value, PLN_FROM_L2, NULL, 0, result);
    }
    return status;
}

int pln_hash_get(struct pln_cache *cache, struct pln_bytes name, const struct pln_bytes *fields,
                 size_t n_fields, const struct pln_data_options *options,
                 struct pln_result *result) {
    struct hash_read read = {.cache = cache, .name = name};
    struct pln_ruleset *ruleset;
    struct pln_match match;
    options = options != NULL ? options : &no_options;
    *result = (struct pln_result){.source = PLN_FROM_MISS};
    if (options->ttl_ms != 0 || options->timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "hash: a read takes no ttl, and no negative timeout");
    }
    int status = pln_data_key(cache, name, &read.key);
    if (status < 0) {
        return status;
    }
    pln_count(cache->counts, PLN_COUNT_DATA_CALLS, 1);
    read.timeout_ms = options->timeout_ms > 0 ? options->timeout_ms : cache->timeout_ms;
    read.terms = pln_cache_match(cache, name, &match, &ruleset);
    status = keeps_hashes(cache, read.terms) ? read_whole(&read, result)
                                             : read_fields(&read, fields, n_fields, result);
    pln_ruleset_unref(ruleset);
    free((void *) read.key.data);
    return status;
}
