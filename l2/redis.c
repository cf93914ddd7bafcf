/* SPDX-License-Identifier: MIT
 *
 * redis.c - a client of Redis: its life, and what changes a value. Each such operation is one
 * script (script.c); reading is in read.c.
 */
#include "async.h"

#include <stdio.h>

enum {
    DEFAULT_POOL = 4,
    MOST_POOL = 256,
    MAX_NAMESPACE = 256,
};

int pln_redis_check_key(const struct pln_hashed *key) {
    if (key->key.len > PLN_MAX_KEY) {
        return pln_fail(PLN_ETOOBIG, "l2: a key of %zu bytes, %d at most", key->key.len,
                        PLN_MAX_KEY);
    }
    return PLN_OK;
}

/* ---- the floor ---- */

void pln_floor_server(struct pln_redis *redis, const char *run_id) {
    pthread_mutex_lock(&redis->floor_lock);
    if (strcmp(redis->floor_run_id, run_id) != 0) {
        snprintf(redis->floor_run_id, sizeof redis->floor_run_id, "%s", run_id);
        redis->own_clear = 0;
    }
    pthread_mutex_unlock(&redis->floor_lock);
}

static void set_floor_locked(struct pln_redis *redis, uint64_t floor) {
    /* relaxed, as all that touch it: a number by itself. A reader that still sees the old one is
     * one that asked before the clear was answered */
    atomic_store_explicit(&redis->floor, floor, memory_order_relaxed);
}

uint64_t pln_floor_now(struct pln_redis *redis) {
    return atomic_load_explicit(&redis->floor, memory_order_relaxed); /* relaxed: as above */
}

void pln_floor_raise(struct pln_redis *redis, uint64_t clock, bool is_own) {
    pthread_mutex_lock(&redis->floor_lock);
    if (is_own && clock > redis->own_clear) {
        redis->own_clear = clock;
    }
    if (pln_floor_now(redis) != 0 && clock > pln_floor_now(redis)) {
        set_floor_locked(redis, clock);
    }
    pthread_mutex_unlock(&redis->floor_lock);
}

void pln_floor_forget(struct pln_redis *redis) {
    pthread_mutex_lock(&redis->floor_lock);
    set_floor_locked(redis, 0);
    pthread_mutex_unlock(&redis->floor_lock);
}

static uint64_t number_in(const struct pln_reply *reply) {
    return reply->kind == PLN_REPLY_STRING ? strtoull(pln_reply_text(reply), NULL, 10) : 0;
}

int pln_floor_read(struct pln_redis *redis, pln_ns deadline) {
    struct pln_script_call call = {.script = PLN_SCRIPT_TIMES, .is_link = true};
    struct pln_reply *reply;
    int result = pln_script_run(redis, &call, deadline, &reply);
    if (result != PLN_OK) {
        return result;
    }
    if (reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 2) {
        uint64_t base = number_in(&reply->elements[0]);
        uint64_t cleared = number_in(&reply->elements[1]);
        pthread_mutex_lock(&redis->floor_lock);
        cleared = cleared > redis->own_clear ? cleared : redis->own_clear;
        set_floor_locked(redis, cleared > base ? cleared : base);
        pthread_mutex_unlock(&redis->floor_lock);
    } else {
        result = pln_fail(PLN_EL2, "l2: redis at %s: the tags' clock is damaged (%s)",
                          redis->url.label, redis->names.tags);
    }
    pln_reply_free(reply);
    return result;
}

/* ---- plain commands ---- */

static void write_batch(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    (void) slot;
    pln_batch_add(batch, arg);
}

int pln_redis_ask(struct pln_redis *redis, size_t index, struct pln_batch *batch,
                  const char *command, pln_ns deadline, struct pln_reply **reply) {
    struct pln_request request = {.write = write_batch, .arg = batch};
    struct pln_reply *got;
    int result = pln_line_ask(&redis->pool, index, &request, deadline, &got);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR && !pln_reply_is(got, "WRONGTYPE")) {
        result = pln_pool_refused(&redis->pool, command, got);
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

/* ---- what changes a value ---- */

/* Runs a script that answers with a number. */
static int run_for_number(struct pln_redis *redis, const struct pln_script_call *call,
                          pln_ns deadline, long long *number) {
    struct pln_reply *reply;
    int result = call->key == NULL ? PLN_OK : pln_redis_check_key(call->key);
    if (result == PLN_OK) {
        result = pln_script_run(redis, call, deadline, &reply);
    }
    if (result == PLN_OK) {
        *number = reply->kind == PLN_REPLY_INTEGER ? reply->integer : 0;
        pln_reply_free(reply);
    }
    return result;
}

/* Runs a script that answers with 1, or with 0 for the outcome `otherwise`. */
static int run(struct pln_redis *redis, const struct pln_script_call *call, int otherwise,
               pln_ns deadline) {
    long long number;
    int result = run_for_number(redis, call, deadline, &number);
    return result != PLN_OK ? result : number == 1 ? PLN_OK : otherwise;
}

/* Stores an item by `call`, whose third and fourth arguments are set. */
static int run_item(struct pln_redis *redis, struct pln_script_call *call,
                    const struct pln_l2_item *item, pln_ns deadline) {
    uint8_t before[PLN_ENVELOPE_BEFORE], after[PLN_ENVELOPE_AFTER_MAX];
    char fields[PLN_MAX_TAGS][2 + PLN_MAX_TAG];
    pln_script_add_item(call, item, before, after);
    for (size_t i = 0; i < item->n_tags; i++) {
        memcpy(fields[i], "t:", 2);
        if (item->tags[i].len > 0) {
            memcpy(fields[i] + 2, item->tags[i].data, item->tags[i].len);
        }
        pln_script_add(call, pln_bytes_of(fields[i], 2 + item->tags[i].len));
    }
    return run(redis, call, PLN_NOT_STORED, deadline);
}

static int redis_set(struct pln_l2 *l2, const struct pln_hashed *key,
                     const struct pln_l2_item *item, uint32_t flags, pln_ns deadline) {
    const char *mode = (flags & PLN_SET_NX) != 0 ? "nx" : (flags & PLN_SET_XX) != 0 ? "xx" : "";
    struct pln_script_call call = {
        .script = PLN_SCRIPT_SET, .key = key, .kind = PLN_MESSAGE_KEY, .payload = key->key};
    int result = pln_envelope_check(item);
    if (result != PLN_OK) {
        return result;
    }
    pln_script_add(&call, pln_key(mode));
    pln_script_add_number(&call, (int64_t) item->tag_clock);
    return run_item(pln_redis_of(l2), &call, item, deadline);
}

static int redis_remove(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_REMOVE, .key = key, .kind = PLN_MESSAGE_KEY, .payload = key->key};
    return run(pln_redis_of(l2), &call, PLN_OK, deadline);
}

static int redis_expire(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_EXPIRE, .key = key, .kind = PLN_MESSAGE_EXPIRE, .payload = key->key};
    return run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}

static int redis_touch(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms fresh, pln_ms life,
                       pln_ns deadline) {
    struct pln_script_call call = {.script = PLN_SCRIPT_TOUCH, .key = key};
    pln_script_add_duration(&call, fresh);
    pln_script_add_duration(&call, life < 1 ? 1 : life);
    return run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}

/* ---- leases ---- */

static int redis_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length,
                       pln_ns deadline, struct pln_l2_lease *lease) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {.script = PLN_SCRIPT_LEASE, .key = key};
    struct pln_l2_lease taken = {.tag_clock = 0};
    struct pln_reply *reply;
    pln_put_big(taken.token, pln_random64(), 8);
    pln_put_big(taken.token + 8, pln_random64(), 8);
    pln_script_add(&call, pln_bytes_of(taken.token, sizeof taken.token));
    pln_script_add_number(&call, length < 1                ? 1
                                 : length > PLN_L2_LONGEST ? PLN_L2_LONGEST
                                                           : length);
    int result = pln_redis_check_key(key);
    if (result == PLN_OK) {
        result = pln_script_run(redis, &call, deadline, &reply);
    }
    if (result != PLN_OK) {
        return result;
    }
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        reply->elements[0].kind != PLN_REPLY_INTEGER ||
        reply->elements[1].kind != PLN_REPLY_INTEGER) {
        pln_reply_free(reply);
        return pln_fail(PLN_EL2, "l2: redis at %s: lease: an answer of an unexpected kind",
                        redis->url.label);
    }
    long long number = reply->elements[1].integer;
    if (reply->elements[0].integer == 1) {
        taken.tag_clock = (uint64_t) number;
    } else {
        result = PLN_PENDING;
        taken.left = number < 0 ? PLN_FOREVER : number; /* not by us, if it has no end */
    }
    pln_reply_free(reply);
    *lease = taken;
    return result;
}

static int redis_commit(struct pln_l2 *l2, const struct pln_hashed *key,
                        const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                        pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_COMMIT, .key = key, .kind = PLN_MESSAGE_FILLED, .payload = key->key};
    int result = pln_envelope_check(item);
    if (result != PLN_OK) {
        return result;
    }
    pln_script_add(&call, pln_bytes_of(lease->token, sizeof lease->token));
    pln_script_add_number(&call, (int64_t) lease->tag_clock);
    return run_item(pln_redis_of(l2), &call, item, deadline);
}

static int redis_release(struct pln_l2 *l2, const struct pln_hashed *key,
                         const struct pln_l2_lease *lease, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_RELEASE, .key = key, .kind = PLN_MESSAGE_FILLED, .payload = key->key};
    pln_script_add(&call, pln_bytes_of(lease->token, sizeof lease->token));
    return run(pln_redis_of(l2), &call, PLN_MISS, deadline);
}

/* ---- all of a tag, all of everything ---- */

static int redis_drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    struct pln_script_call call = {
        .script = PLN_SCRIPT_DROP_TAG, .kind = PLN_MESSAGE_TAG, .payload = tag};
    char field[2 + PLN_MAX_TAG] = "t:";
    long long clock;
    if (tag.len > PLN_MAX_TAG) {
        return pln_fail(PLN_EINVAL, "l2: a tag of %zu bytes, %d at most", tag.len, PLN_MAX_TAG);
    }
    if (tag.len > 0) {
        memcpy(field + 2, tag.data, tag.len);
    }
    pln_script_add(&call, pln_bytes_of(field, 2 + tag.len));
    return run_for_number(pln_redis_of(l2), &call, deadline, &clock);
}

static int redis_clear(struct pln_l2 *l2, pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    uint8_t database[2]; /* the script appends the clock */
    long long clock = 0;
    pln_put_big(database, (uint64_t) redis->url.database, sizeof database);
    struct pln_script_call call = {.script = PLN_SCRIPT_CLEAR,
                                   .kind = PLN_MESSAGE_CLEAR,
                                   .payload = pln_bytes_of(database, sizeof database)};
    int result = run_for_number(redis, &call, deadline, &clock);
    if (result == PLN_OK) {
        pln_floor_raise(redis, (uint64_t) clock, true);
    }
    return result;
}

/* ---- the rest ---- */

static int redis_command(struct pln_l2 *l2, const struct pln_bytes *key,
                         const struct pln_bytes *args, size_t n_args, pln_ns deadline,
                         struct pln_reply **reply) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_batch batch;
    char name[32];
    struct pln_reply *got;
    assert(n_args > 0);
    pln_batch_init(&batch);
    pln_batch_command(&batch, n_args);
    for (size_t i = 0; i < n_args; i++) {
        pln_batch_bytes(&batch, args[i]);
    }
    snprintf(name, sizeof name, "%.*s", args[0].len > 24 ? 24 : (int) args[0].len,
             (const char *) args[0].data);
    size_t index = key == NULL ? 0 : pln_hash(*key, 0) % redis->pool.n_slots;
    int result = pln_redis_ask(redis, index, &batch, name, deadline, &got);
    pln_batch_fini(&batch);
    if (result == PLN_OK && got->kind == PLN_REPLY_ERROR) {
        result = pln_pool_refused(&redis->pool, name, got);
        pln_reply_free(got);
    }
    if (result == PLN_OK) {
        *reply = got;
    }
    return result;
}

struct ping {
    const struct pln_redis *redis;
    uint8_t payload[8];
};

static void write_ping(void *arg, const struct pln_slot *slot, struct pln_batch *batch) {
    const struct ping *ping = arg;
    uint8_t bytes[PLN_MESSAGE_MAX];
    /* relaxed: written by whoever leads the connection, and that is this thread */
    uint32_t incarnation = atomic_load_explicit(&slot->incarnation, memory_order_relaxed);
    struct pln_message message = {PLN_MESSAGE_PING,
                                  {ping->redis->instance, incarnation},
                                  pln_bytes_of(ping->payload, sizeof ping->payload)};
    pln_batch_command(batch, 3);
    pln_batch_text(batch, "PUBLISH");
    pln_batch_text(batch, ping->redis->names.channel);
    pln_batch_bytes(batch, pln_bytes_of(bytes, pln_message_write(&message, bytes)));
}

int pln_redis_ping(struct pln_redis *redis, uint64_t number, pln_ns deadline) {
    struct ping ping = {.redis = redis};
    struct pln_request request = {.write = write_ping, .arg = &ping, .is_link = true};
    struct pln_reply *reply;
    pln_put_big(ping.payload, number, sizeof ping.payload);
    int result = pln_line_ask(&redis->pool, 0, &request, deadline, &reply);
    if (result == PLN_OK) {
        result = reply->kind == PLN_REPLY_INTEGER
                     ? PLN_OK
                     : pln_pool_refused(&redis->pool, "PUBLISH", reply);
        pln_reply_free(reply);
    }
    return result;
}

static void redis_health(struct pln_l2 *l2, struct pln_l2_health *health) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_l2_health now = {.breaker_open = pln_pool_is_open(&redis->pool),
                                .connections = (unsigned) pln_pool_connections(&redis->pool)};
    now.bus_ok = pln_link_is_ok(redis, &now.beat_age);
    *health = now;
}

static int redis_start(struct pln_l2 *l2) {
    return pln_link_start(pln_redis_of(l2));
}

/* ---- life ---- */

static void redis_close(struct pln_l2 *l2) {
    struct pln_redis *redis = pln_redis_of(l2);
    pln_async_stop(&redis->pool);
    pln_link_stop(redis);
    pln_pool_fini(&redis->pool);
    pln_url_fini(&redis->url);
    free(redis->names.value);
    free(redis->names.lease);
    free(redis->names.tags);
    free(redis->names.channel);
    free(redis->client_name);
    pthread_mutex_destroy(&redis->floor_lock);
    free(redis);
}

static const struct pln_l2_ops redis_ops = {
    .close = redis_close,
    .start = redis_start,
    .get = pln_redis_get,
    .get_many = pln_redis_get_many,
    .get_async = pln_redis_get_async,
    .set = redis_set,
    .remove = redis_remove,
    .expire = redis_expire,
    .touch = redis_touch,
    .lease = redis_lease,
    .commit = redis_commit,
    .release = redis_release,
    .drop_tag = redis_drop_tag,
    .clear = redis_clear,
    .command = redis_command,
    .health = redis_health,
};

static int join(char **to, const char *a, const char *b) {
    if (asprintf(to, "%s%s", a, b) < 0) {
        *to = NULL;
        return pln_fail(PLN_ENOMEM, "l2: no memory for names");
    }
    return PLN_OK;
}

static int make_names(struct pln_redis *redis, const char *ns) {
    if (strlen(ns) > MAX_NAMESPACE) {
        return pln_fail(PLN_EINVAL, "ns: a namespace of %zu bytes, %d at most", strlen(ns),
                        MAX_NAMESPACE);
    }
    if (join(&redis->names.value, ns, ":v:") != PLN_OK ||
        join(&redis->names.lease, ns, ":l:") != PLN_OK ||
        join(&redis->names.tags, ns, ":tags") != PLN_OK ||
        join(&redis->names.channel, ns, ":inv:1") != PLN_OK ||
        join(&redis->client_name, "perilune:", redis->host.name) != PLN_OK) {
        return PLN_ENOMEM;
    }
    for (char *c = redis->client_name; *c != 0; c++) {
        *c = *c > ' ' && *c < 0x7f ? *c : '_'; /* what CLIENT SETNAME takes */
    }
    return PLN_OK;
}

static pln_ns ns_of(pln_ms duration, pln_ms otherwise) {
    pln_ms day = 24 * 3600 * 1000;
    duration = duration <= 0 ? otherwise : duration > day ? day : duration;
    return duration * 1000000;
}

static int make_pool(struct pln_redis *redis, unsigned n_slots) {
    if (n_slots > MOST_POOL) {
        return pln_fail(PLN_EINVAL, "pool: %u connections, %d at most", n_slots, MOST_POOL);
    }
    redis->pool = (struct pln_pool){.url = &redis->url,
                                    .client_name = redis->client_name,
                                    .host = &redis->host,
                                    .counts = redis->counts,
                                    .connect_timeout = redis->connect_timeout,
                                    .timeout = redis->timeout,
                                    .clock_period = redis->ping,
                                    .on_other_server = pln_link_drop,
                                    .arg = redis,
                                    .n_slots = n_slots == 0 ? DEFAULT_POOL : n_slots};
    return pln_pool_init(&redis->pool);
}

int pln_l2_redis_new(const struct pln_l2_options *options, struct pln_l2 **l2) {
    struct pln_redis *redis = calloc(1, sizeof *redis);
    if (redis == NULL) {
        return pln_fail(PLN_ENOMEM, "l2: no memory for a client");
    }
    redis->l2.ops = &redis_ops;
    redis->instance = pln_random64();
    redis->connect_timeout = ns_of(options->connect_timeout_ms, 1000);
    redis->timeout = ns_of(options->timeout_ms, 250);
    redis->ping = ns_of(options->ping_ms, 1000);
    redis->tracking = options->tracking;
    redis->host = *options->host;
    redis->counts = options->counts;
    redis->events = options->events;
    redis->link.wake_fd = -1;
    pthread_mutex_init(&redis->floor_lock, NULL);
    int result = pln_url_read(options->url, &redis->url);
    if (result == PLN_OK) {
        result = pln_url_login(&redis->url, options->username, options->password);
    }
    if (result == PLN_OK) {
        result = make_names(redis, options->ns);
    }
    if (result == PLN_OK) {
        result = make_pool(redis, options->pool);
    }
    if (result == PLN_OK) {
        result = pln_link_init(redis);
    }
    if (result != PLN_OK) {
        redis_close(&redis->l2);
        return result;
    }
    *l2 = &redis->l2;
    return PLN_OK;
}
