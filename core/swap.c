/* SPDX-License-Identifier: MIT
 *
 * swap.c - a value in the place of another one, if that is there; and numbers that are added to.
 *
 * With Redis the look and the write are one script of the server's, and what comes back with its
 * answer is kept in L1 as after a set.
 *
 * Without it, who looks first has the lock of the key. The stripe is raised, then the value looked
 * at, then the new one stored, if the stripe was not raised again. So of two that look the second
 * finds what the first has stored. A plain set takes no lock. One that has raised the stripe before
 * us and is seen by nobody yet could be missed by our look: but it looks at the stripe once more
 * when its value can be seen, finds it raised, and stores it again, behind ours. One that raises it
 * after us ends ours, and we look anew. Either way one order of the two is true.
 */
#include "store.h"

#include "compress.h"
#include "shadow.h"

#include <errno.h>
#include <stdio.h>

enum {
    N_LOCKS = 64,
    MOST_TRIES = 64, /* without Redis, each ended by another writer of the stripe within 1 us */
};

struct pln_swaps {
    pthread_mutex_t locks[N_LOCKS];
};

/* What the caller wants there. */
struct want {
    const struct pln_bytes *old; /* NULL: nothing */
    uint8_t format;
    bool keeps_life;
    struct pln_result *present; /* where something else is there; may be NULL */
};

/* ---- the locks ---- */

int pln_swaps_new(struct pln_swaps **swaps) {
    struct pln_swaps *created = malloc(sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "open: no memory for locks");
    }
    for (size_t i = 0; i < N_LOCKS; i++) {
        pthread_mutex_init(&created->locks[i], NULL);
    }
    *swaps = created;
    return PLN_OK;
}

void pln_swaps_free(struct pln_swaps *swaps) {
    for (size_t i = 0; swaps != NULL && i < N_LOCKS; i++) {
        pthread_mutex_destroy(&swaps->locks[i]);
    }
    free(swaps);
}

void pln_swaps_lock(struct pln_swaps *swaps, uint64_t hash) {
    pthread_mutex_lock(&swaps->locks[hash % N_LOCKS]);
}

void pln_swaps_unlock(struct pln_swaps *swaps, uint64_t hash) {
    pthread_mutex_unlock(&swaps->locks[hash % N_LOCKS]);
}

void pln_swaps_freeze(struct pln_swaps *swaps) {
    for (size_t i = 0; i < N_LOCKS; i++) {
        pthread_mutex_lock(&swaps->locks[i]);
    }
}

void pln_swaps_thaw(struct pln_swaps *swaps) {
    for (size_t i = 0; i < N_LOCKS; i++) {
        pthread_mutex_unlock(&swaps->locks[i]);
    }
}

/* ---- without Redis ---- */

static pln_ms left_of(pln_ms end, pln_ms now) {
    return end == PLN_FOREVER ? PLN_FOREVER : end - now;
}

/* Looks at what is there. PLN_OK: what is wanted, and what goes on of it is the write's and the
 * stamp's. */
static int look_at_l1(struct write *write, const struct want *want, struct pln_stamp *stamp) {
    struct pln_cache *cache = write->cache;
    struct pln_l1_hit hit;
    struct pln_value *value = NULL;
    pln_ms now = pln_now(&cache->host);
    bool is_there = pln_l1_borrow(cache->l1, &write->key, now, PLN_L1_QUIET, &hit, &value) ==
                        PLN_OK &&
                    !hit.is_absent && now < hit.life.stale;
    int status = is_there == (want->old != NULL) ? PLN_OK : is_there ? PLN_NOT_STORED : PLN_MISS;
    if (status == PLN_OK && is_there &&
        (hit.format != want->format ||
         !pln_bytes_equal(*want->old, pln_bytes_of(pln_value_data(value), hit.len)))) {
        status = PLN_NOT_STORED;
    }
    if (status == PLN_OK && is_there) {
        uint64_t former;
        if ((stamp->n_marks = (uint8_t) pln_l1_marks(cache->l1, &write->key, now, &former,
                                                     stamp->marks)) > 0) {
            stamp->mark_clock = former;
        }
        if (want->keeps_life) {
            write->item.fresh_left = left_of(hit.life.stale, now);
            write->item.life_left = left_of(hit.life.end, now);
        }
    }
    if (status == PLN_NOT_STORED && want->present != NULL) {
        *want->present = (struct pln_result){
            .value = value, .len = hit.len, .format = hit.format, .source = PLN_FROM_L1};
        pln_life_describe(&hit.life, now, want->present);
        value = NULL;
    }
    pln_release(cache, value);
    return status;
}

static int swap_l1(struct write *write, const struct want *want) {
    struct pln_cache *cache = write->cache;
    struct pln_stamp stamp;
    int status = PLN_PENDING;
    pln_swaps_lock(cache->swaps, write->key.hash);
    for (int i = 0; i < MOST_TRIES && status == PLN_PENDING; i++) {
        pln_stamp_raise(cache->inval, write->key.hash, &stamp);
        pln_stamp_tags(&stamp, write->item.tags, write->item.n_tags);
        status = look_at_l1(write, want, &stamp);
        if (status == PLN_OK) {
            status = pln_write_keep(write, &stamp);
            status = status == PLN_NOT_STORED ? PLN_PENDING : status;
        }
    }
    pln_swaps_unlock(cache->swaps, write->key.hash);
    return status == PLN_PENDING
               ? pln_fail(PLN_EBUSY, "swap: others write all the time, and came first %d times",
                          MOST_TRIES)
               : status;
}

/* ---- with Redis ---- */

static void lend(struct pln_cache *cache, const struct pln_terms *terms,
                 const struct pln_l2_value *value, struct pln_result *present) {
    const struct pln_l2_item *item = &value->item;
    pln_ms now = pln_now(&cache->host);
    struct pln_l1_life life = pln_life_of(terms, now, item->age, item->fresh_left, item->life_left);
    *present = (struct pln_result){.value = pln_value_new(item->value, item->format),
                                   .len = item->value.len,
                                   .format = item->format,
                                   .source = PLN_FROM_L2};
    pln_life_describe(&life, now, present);
}

/* As in a set: Redis has it, so L1 may do without, but nothing older may be left there. */
static void keep(struct write *write, struct pln_stamp *stamp, const struct pln_l2_value *value) {
    struct pln_cache *cache = write->cache;
    bool is_known = value->memory != NULL;
    if (is_known) {
        write->item = value->item;
        pln_stamp_tags(stamp, write->item.tags, write->item.n_tags);
    }
    if (!pln_stamp_advance(stamp, &write->key) || !is_known || !write->terms->use_l1 ||
        write->item.value.len > cache->max_item_bytes || pln_write_keep(write, stamp) != PLN_OK) {
        pln_inval_key(cache->inval, &write->key);
    }
}

static int check_strategy(int strategy) {
    return strategy == PLN_WRITE_THROUGH || strategy == PLN_WRITE_AROUND
               ? pln_fail(PLN_EINVAL, "swap: cas and incr are for keys that are written aside or "
                                      "behind: the store is written first here, and knows of no "
                                      "condition")
               : PLN_OK;
}

/* With its place in the queue, where the rule writes behind. */
static int send(struct write *write, struct pln_l2_swap *swap, struct pln_l2_value *value) {
    struct pln_cache *cache = write->cache;
    return pln_store_terms(cache, write->match.rule)->strategy == PLN_WRITE_BEHIND
               ? pln_queued_swap(cache, &write->key, &write->match, swap, write->item.value,
                                 write->deadline, value)
               : pln_l2_swap(pln_cache_l2(cache), &write->key, swap,
                             pln_cache_l2_deadline(cache, write->deadline), value);
}

/* What lies in Redis may be compressed in another way than ours of the same value. So where what is
 * there is not what is expected, byte for byte, but stands for it, those bytes are expected next.
 */
static int swap_bytes(struct write *write, const struct want *want, struct pln_l2_swap *swap,
                      struct pln_l2_value *value) {
    struct pln_cache *cache = write->cache;
    struct pln_l2_value former = {.memory = NULL};
    int status = PLN_PENDING;
    for (int i = 0; i < MOST_TRIES && status == PLN_PENDING; i++) {
        status = send(write, swap, value);
        pln_l2_value_fini(&former);
        swap->expected = value->item.value;
        swap->packing = value->item.packing;
        if (value->memory != NULL) { /* where it cannot be opened it is told of without */
            (void) pln_compress_open(cache, write->terms, value);
        }
        if (status == PLN_NOT_STORED && want->old != NULL && value->memory != NULL &&
            value->item.format == want->format && pln_bytes_equal(value->item.value, *want->old)) {
            former = *value;
            *value = (struct pln_l2_value){.memory = NULL};
            status = PLN_PENDING;
        }
    }
    pln_l2_value_fini(&former);
    return status != PLN_PENDING
               ? status
               : pln_fail(PLN_EBUSY, "swap: others write all the time, and came first %d times",
                          MOST_TRIES);
}

static int swap_l2(struct write *write, const struct want *want) {
    struct pln_cache *cache = write->cache;
    struct pln_stamp stamp;
    struct pln_l2_value value;
    struct pln_l2_item shared = pln_life_shared(write->terms, &write->item);
    struct pln_l2_item old = {.value = want->old != NULL ? *want->old : pln_bytes_of("", 0)};
    void *packed, *packed_old;
    pln_compress_item(cache, write->terms, &shared, &packed);
    pln_compress_item(cache, write->terms, &old, &packed_old);
    struct pln_l2_swap swap = {.item = &shared,
                               .expects = want->old != NULL,
                               .expected = old.value,
                               .packing = old.packing,
                               .format = want->format,
                               .keeps_life = want->keeps_life};
    struct pln_attempt attempt = {.kind = PLN_ATTEMPT_SET,
                                  .key = write->key,
                                  .item = &shared,
                                  .stamp = &stamp,
                                  .is_conditional = true};
    pln_stamp_take(cache->inval, write->key.hash, &stamp); /* R2 */
    pln_recovery_begin(cache->recovery, &attempt);
    int status = swap_bytes(write, want, &swap, &value);
    status = pln_recovery_end(cache->recovery, &attempt, status);
    free(packed);
    free(packed_old);
    if (status == PLN_OK) {
        keep(write, &stamp, &value);
    } else if (status < 0) {
        pln_inval_key(cache->inval, &write->key); /* R4: it may have happened */
    } else if (status == PLN_NOT_STORED && want->present != NULL && value.memory != NULL) {
        lend(cache, write->terms, &value, want->present);
    }
    pln_l2_value_fini(&value);
    return status;
}

/* ---- swap ---- */

static bool uses_l2(const struct write *write) {
    return write->cache->has_l2 && write->terms->use_l2;
}

/* The life of what takes the place of another one; its tags are the other's. */
static void succeed(struct write *write, pln_ms ttl) {
    write->item.fresh_left = ttl;
    write->item.life_left = pln_after(ttl, pln_life_grace(write->terms));
}

static int swap_begun(struct write *write, const struct want *want,
                      const struct pln_set_options *options) {
    int status = pln_write_check_size(write, "swap");
    if (status == PLN_OK && want->old == NULL) {
        status = pln_write_shape(write, options);
    } else {
        succeed(write, options->ttl_ms);
    }
    if (status == PLN_OK && write->item.fresh_left < 0) {
        status = pln_fail(PLN_EDENIED, "swap: the key's rule says that this value is not stored");
    }
    if (status == PLN_OK && write->key.is_plain && uses_l2(write)) {
        status = pln_fail(PLN_EINVAL, "swap: the key's rule is plain, and a plain value changes by "
                                      "set alone");
    }
    int strategy = status == PLN_OK ? pln_store_strategy(write->cache, write->match.rule, "swap")
                                    : status;
    status = strategy < 0 ? strategy : check_strategy(strategy);
    if (status == PLN_OK) {
        status = uses_l2(write) ? swap_l2(write, want) : swap_l1(write, want);
    }
    if (status == PLN_OK) {
        pln_count(write->cache->counts, PLN_COUNT_SETS, 1);
        if (pln_shadow_samples(write->cache, write->key.hash)) {
            pln_shadow_set(write->cache, &write->key, options);
        }
    }
    return status;
}

int pln_swap(struct pln_cache *cache, struct pln_bytes key, const struct pln_bytes *old,
             struct pln_bytes value, const struct pln_swap_options *options,
             struct pln_result *present) {
    static const struct pln_swap_options no_options = {0};
    options = options != NULL ? options : &no_options;
    struct write write = {.cache = cache};
    struct pln_set_options set = {
        .format = options->format, .ttl_ms = options->ttl_ms, .timeout_ms = options->timeout_ms};
    struct want want = {.old = old,
                        .format = options->old_format,
                        .keeps_life = options->ttl_ms == 0,
                        .present = present};
    if (present != NULL) {
        *present = (struct pln_result){.source = PLN_FROM_MISS};
    }
    if (options->ttl_ms < 0 || options->timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "swap: ttl and timeout must not be negative");
    }
    int status = pln_write_begin(&write, key, value, &set, "swap");
    if (status == PLN_OK) {
        status = swap_begun(&write, &want, &set);
    }
    pln_write_fini(&write);
    pln_step_a_little(cache, options->timeout_ms == 0);
    return status;
}

/* ---- numbers ---- */

static bool read_decimal(struct pln_bytes value, uint8_t format, int64_t *number) {
    char text[PLN_NUMERAL], *end;
    const char *bytes = value.data;
    if (format != 0 || value.len == 0 || value.len >= sizeof text ||
        (bytes[0] != '-' && (bytes[0] < '0' || bytes[0] > '9'))) {
        return false;
    }
    memcpy(text, bytes, value.len);
    text[value.len] = 0;
    errno = 0;
    *number = strtoll(text, &end, 10);
    return errno == 0 && end == text + value.len && end[-1] != '-';
}

static size_t write_decimal(int64_t number, uint8_t format, char text[PLN_NUMERAL]) {
    (void) format;
    return (size_t) snprintf(text, PLN_NUMERAL, "%lld", (long long) number);
}

/* An addition under way. */
struct addition {
    struct pln_cache *cache;
    struct pln_bytes key;
    const struct pln_incr_options *options;
    const struct pln_numerals *numerals;
    int64_t delta, sum;
    pln_ns deadline;
    struct pln_result
        present; /* what was there when it was last looked at; without value: nothing */
};

/* Of a key that is written behind the store may have the number though no tier has: what is taken
 * for nothing would be counted from the beginning, and take the store's place. */
static int load(struct addition *addition) {
    pln_ns left = addition->deadline - pln_clock_precise();
    struct pln_get_options options = {.flags = PLN_GET_NO_L1 | PLN_GET_NO_STALE | PLN_GET_KEEP};
    if (addition->options->timeout_ms > 0) { /* else as long as a load may take */
        options.timeout_ms = left > 1000000 ? left / 1000000 : 1;
    }
    int status = pln_get(addition->cache, addition->key, &options, &addition->present);
    if (status != PLN_OK) { /* that there is none may have a value, too */
        pln_release(addition->cache, addition->present.value);
        addition->present.value = NULL;
    }
    return status < 0 ? status : PLN_OK;
}

/* What is there now. To begin with that may be a copy in L1: an old one costs one more try. */
static int look(struct addition *addition, bool takes_copy) {
    struct pln_cache *cache = addition->cache;
    struct write write = {.cache = cache};
    struct pln_l2_value value;
    int status = takes_copy ? pln_peek(cache, addition->key, &addition->present) : PLN_MISS;
    if (status == PLN_OK && addition->present.source == PLN_FROM_L1) {
        return PLN_OK;
    }
    pln_release(cache, addition->present.value);
    addition->present.value = NULL;
    if (status < 0) {
        return status;
    }
    static const struct pln_set_options no_options = {0};
    status = pln_write_begin(&write, addition->key, pln_bytes_of("", 0), &no_options, "incr");
    int strategy = status == PLN_OK ? pln_store_terms(cache, write.match.rule)->strategy : 0;
    status = status == PLN_OK ? check_strategy(strategy) : status;
    if (strategy == PLN_WRITE_BEHIND) {
        status = load(addition);
    } else if (status == PLN_OK && uses_l2(&write)) {
        status = pln_l2_get(pln_cache_l2(cache), &write.key,
                            pln_cache_l2_deadline(cache, addition->deadline), &value);
        if (status == PLN_OK) {
            status = pln_compress_open(cache, write.terms, &value);
        }
        if (status == PLN_OK && !value.item.is_absent && value.item.fresh_left > 0) {
            lend(cache, write.terms, &value, &addition->present);
        }
        if (status == PLN_OK) {
            pln_l2_value_fini(&value);
        }
    }
    pln_write_fini(&write);
    return status < 0 ? status : PLN_OK;
}

/* Adds to what is there. */
static int add(struct addition *addition) {
    const struct pln_result *present = &addition->present;
    int64_t number = addition->options->initial;
    struct pln_bytes value = {NULL, 0};
    if (present->value != NULL) {
        value = pln_bytes_of(pln_value_data(present->value), present->len);
    } else if (!addition->options->has_initial) {
        return PLN_MISS;
    }
    if (present->value != NULL && !addition->numerals->read(value, present->format, &number)) {
        return pln_fail(PLN_ETYPE, "incr: what is there is no whole number");
    }
    if (__builtin_add_overflow(number, addition->delta, &addition->sum)) {
        return pln_fail(PLN_ETOOBIG, "incr: %lld and %lld are over 64 bits", (long long) number,
                        (long long) addition->delta);
    }
    return PLN_OK;
}

/* Stores the sum, if what is there is still the same; else that is what is there now. */
static int store(struct addition *addition) {
    char text[PLN_NUMERAL];
    struct pln_result former = addition->present;
    bool is_new = former.value == NULL;
    uint8_t format = is_new ? addition->options->format : former.format;
    struct pln_bytes old = {is_new ? NULL : pln_value_data(former.value), former.len};
    pln_ns left = addition->deadline - pln_clock_precise();
    struct pln_swap_options swap = {.format = format,
                                    .old_format = former.format,
                                    .ttl_ms = addition->options->ttl_ms,
                                    .timeout_ms = left > 1000000 ? left / 1000000 : 1};
    struct pln_bytes value = {text, addition->numerals->write(addition->sum, format, text)};
    int status = pln_swap(addition->cache, addition->key, is_new ? NULL : &old, value, &swap,
                          &addition->present);
    pln_release(addition->cache, former.value);
    if ((status == PLN_NOT_STORED || status == PLN_MISS) && addition->present.value == NULL) {
        status = look(addition, false); /* it went, or there was no memory to tell it */
        return status == PLN_OK ? PLN_NOT_STORED : status;
    }
    return status;
}

int pln_incr(struct pln_cache *cache, struct pln_bytes key, int64_t delta,
             const struct pln_incr_options *options, int64_t *sum) {
    static const struct pln_incr_options no_options = {0};
    static const struct pln_numerals decimal = {read_decimal, write_decimal};
    options = options != NULL ? options : &no_options;
    struct addition addition = {.cache = cache, .key = key, .options = options, .delta = delta};
    if (options->ttl_ms < 0 || options->timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "incr: ttl and timeout must not be negative");
    }
    addition.numerals = options->numerals != NULL ? options->numerals : &decimal;
    addition.deadline = pln_deadline(options->timeout_ms > 0 ? options->timeout_ms
                                                             : cache->timeout_ms);
    int status = look(&addition, true);
    if (options->timeout_ms == 0) { /* what has been loaded may have taken its time */
        addition.deadline = pln_deadline(cache->timeout_ms);
    }
    while (status == PLN_OK) {
        status = add(&addition);
        if (status == PLN_OK) {
            status = store(&addition);
            if (status == PLN_OK) {
                *sum = addition.sum;
                return PLN_OK;
            }
        }
        if (status == PLN_NOT_STORED) {
            status = pln_clock_precise() < addition.deadline
                         ? PLN_OK
                         : pln_fail(PLN_EBUSY, "incr: others came first until the deadline");
        }
    }
    pln_release(cache, addition.present.value);
    return status;
}
