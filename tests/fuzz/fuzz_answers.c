/* SPDX-License-Identifier: MIT
 *
 * fuzz_answers.c - whatever Redis answers to the core's own commands and scripts, the core reads it
 * without harm: sessions, limits, counters, locks, hashes, structures.
 *
 * The input's first byte says what is asked, and how the answers lie in memory; the rest are the
 * answers, in RESP, one to a command. When they are over, Redis is away.
 */
#include "../../core/engine.h"
#include "said.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* ---- a Redis that says what the input says ---- */

static struct said *said;
static uint64_t seen; /* so that reading is not taken for needless */

static int answer(struct pln_l2 *l2, const struct pln_bytes *key, const struct pln_bytes *args,
                  size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    struct pln_reply *got = said_next(said);
    (void) l2, (void) key, (void) deadline;
    assert(n_args > 0);
    if (got == NULL) {
        return pln_fail(PLN_EL2DOWN, "fuzz: it said no more");
    }
    if (got->kind == PLN_REPLY_ERROR) {
        int status = pln_fail(PLN_EL2, "fuzz: %.*s: %s", (int) args[0].len,
                              (const char *) args[0].data, (const char *) got->bytes.data);
        pln_reply_free(got);
        return status;
    }
    *reply = got;
    return PLN_OK;
}

static int remove_nothing(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    (void) l2, (void) key, (void) deadline;
    return PLN_OK;
}

static void close_nothing(struct pln_l2 *l2) {
    (void) l2;
}

static int start_nothing(struct pln_l2 *l2) {
    (void) l2;
    return PLN_OK;
}

static int make_l2(void *arg, const struct pln_l2_options *options, struct pln_l2 **l2) {
    static const struct pln_l2_ops ops = {.close = close_nothing,
                                          .start = start_nothing,
                                          .remove = remove_nothing,
                                          .command = answer};
    static struct pln_l2 made = {&ops};
    (void) arg;
    options->events.on_up(options->events.arg, false); /* else L1 would keep nothing */
    *l2 = &made;
    return PLN_OK;
}

static void log_nothing(void *arg, int level, const char *line) {
    (void) arg, (void) level, (void) line;
}

static struct pln_cache *open_cache(void) {
    struct pln_options options = {.ns = "t", .log = log_nothing, .workers = 1};
    struct pln_cache *cache = NULL;
    int status = pln_open_over(&options, make_l2, NULL, &cache);
    assert(status == PLN_OK);
    return cache;
}

/* ---- what is asked ---- */

static void see(struct pln_bytes bytes) {
    const uint8_t *at = bytes.data;
    for (size_t i = 0; i < bytes.len; i++) {
        seen += at[i];
    }
}

static void see_value(struct pln_cache *cache, struct pln_value *value) {
    if (value != NULL) {
        see(pln_bytes_of(pln_value_data(value), pln_value_len(value)));
        pln_release(cache, value);
    }
}

static bool visit(void *arg, const struct pln_session *session) {
    (void) arg;
    assert(strlen(session->id) == PLN_SESSION_ID - 1 && session->user == NULL);
    return true;
}

static void ask_session(struct pln_cache *cache) {
    static const char id[] = "0123456789-0123456789_0123456789abcdefghijk";
    struct pln_session session;
    if (pln_session_get(cache, NULL, pln_key(id), &session) == PLN_OK) {
        assert(strcmp(session.id, id) == 0);
        see_value(cache, session.user);
        see_value(cache, session.data);
    }
    pln_session_update(cache, pln_key(id), pln_key("data"), 0);
    pln_session_destroy(cache, pln_key(id));
}

static void ask_sessions(struct pln_cache *cache) {
    char id[PLN_SESSION_ID];
    size_t n = 0;
    pln_session_of(cache, pln_key("user"), visit, NULL);
    pln_session_destroy_all(cache, pln_key("user"), &n);
    pln_session_create(cache, NULL, pln_key("user"), pln_key("data"), 0, id);
}

static void ask_numbers(struct pln_cache *cache) {
    struct pln_limit_options options = {.rate = 10};
    struct pln_limit_result result;
    int64_t value;
    for (int kind = PLN_LIMIT_FIXED; kind <= PLN_LIMIT_BUCKET; kind++) {
        options.kind = (uint8_t) kind;
        pln_limit(cache, pln_key("limit"), &options, &result);
    }
    pln_counter_get(cache, pln_key("counter"), &value);
    pln_counter_add(cache, pln_key("counter"), 1, 0, &value);
    pln_counter_add(cache, pln_key("counter"), 1, 1000, &value);
    pln_counter_reset(cache, pln_key("counter"));
}

static void ask_lock(struct pln_cache *cache) {
    static const struct pln_lock_options options = {.ttl_ms = 60000};
    struct pln_lock *lock;
    pln_ms held = 0;
    int status = pln_lock(cache, pln_key("lock"), &options, &held, &lock);
    if (status == PLN_OK) {
        assert(pln_lock_left(lock) > 0 && pln_lock_left(lock) <= 60000);
        assert(pln_lock_fence(lock) >= 0);
        pln_lock_extend(lock, 30000);
        assert(pln_lock_left(lock) <= 60000);
        pln_unlock(lock);
    }
    assert(status != PLN_PENDING || held >= 0);
}

/* All of a hash; whatever it is, its bytes lead from field to field and end with the last. */
static void ask_hash(struct pln_cache *cache, bool in_l1) {
    struct pln_bytes fields[] = {pln_key("a"), pln_key("b")}, field, text;
    struct pln_result first, again;
    cache->terms.hash_l1 = in_l1;
    if (pln_hash_get(cache, pln_key("hash"), NULL, 0, NULL, &first) == PLN_OK) {
        size_t at = 0;
        while (pln_hash_next(first.value, &at, &field, &text)) {
            see(field);
            see(text);
        }
        assert(at == pln_value_len(first.value));
        see_value(cache, first.value);
    }
    if (pln_hash_get(cache, pln_key("hash"), fields, 2, NULL, &again) == PLN_OK) {
        if (pln_hash_field(again.value, fields[1], &text)) {
            see(text);
        }
        see_value(cache, again.value);
    }
    pln_hash_forget(cache, pln_key("hash"));
}

static void ask_structures(struct pln_cache *cache) {
    struct pln_bytes read[] = {pln_key("ZRANGE"), pln_key("0"), pln_key("-1")};
    struct pln_bytes write[] = {pln_key("HSET"), pln_key("f"), pln_key("v")};
    struct pln_answer *got;
    struct tree_sum sum = {0};
    if (pln_data(cache, pln_key("z"), read, 3, NULL, &got) == PLN_OK) {
        tree_read((const struct pln_reply *) got, &sum);
        for (size_t i = 0; i < pln_answer_len(got); i++) {
            assert(pln_answer_kind(pln_answer_at(got, i)) <= PLN_ANSWER_ERROR);
        }
        pln_answer_free(got);
    }
    if (pln_data(cache, pln_key("h"), write, 3, NULL, &got) == PLN_OK) {
        tree_read((const struct pln_reply *) got, &sum);
        pln_answer_free(got);
    }
    seen += sum.mark;
}

static void ask(struct pln_cache *cache, uint8_t what) {
    switch (what % 7) {
    case 0:
        ask_session(cache);
        break;
    case 1:
        ask_sessions(cache);
        break;
    case 2:
        ask_numbers(cache);
        break;
    case 3:
        ask_lock(cache);
        break;
    case 4:
        ask_hash(cache, false);
        break;
    case 5:
        ask_hash(cache, true);
        break;
    default:
        ask_structures(cache);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static struct pln_cache *cache;
    if (cache == NULL) {
        cache = open_cache();
    }
    if (size == 0 || tree_is_dear(data, size)) {
        return 0;
    }
    said = said_new(data + 1, size - 1, data[0] < 128);
    ask(cache, data[0]);
    said_free(said);
    return 0;
}
