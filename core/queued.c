/* SPDX-License-Identifier: MIT
 *
 * queued.c - writes that are stored later: Redis has them first, value and a place in the queue in
 * one step, and that is when they are acknowledged.
 *
 * Until a write has been stored, what waits in the queue is the truth about its key, and not what
 * the store has. A load looks there first, after it has its lease and before its loader runs: a
 * write that comes after that look voids the lease, so what is loaded is not kept; one that was
 * there is found, or has been stored, since it leaves the queue only then.
 *
 * Where Redis cannot be asked, a loader's value may lack writes. It is handed to those who wait for
 * it, and kept nowhere: L1 would go on with it when Redis is back.
 *
 * A write that is not acknowledged, since Redis failed, is not kept for later: nobody is told that
 * it is. Where its outcome is unknown it may be in the queue, as it may be in Redis.
 */
#include "drain.h"
#include "fill.h"
#include "hosts.h"

/* ---- writing ---- */

/* A write that may have to wait for room. */
struct putting {
    struct pln_cache *cache;
    const struct pln_hashed *key;
    const struct pln_write_options *terms;
    struct pln_l2_write write;
    struct pln_stamp *stamp; /* taken anew before each try; or NULL */
    const char *verb;
    pln_ns deadline;            /* of the caller's call; PLN_FOREVER: of one of the cache's */
    struct pln_l2_value *value; /* of a swap */
};

static int try_put(const struct putting *putting) {
    struct pln_cache *cache = putting->cache;
    if (putting->stamp != NULL) {
        pln_stamp_take(cache->inval, putting->key->hash, putting->stamp); /* R2 */
    }
    return pln_l2_write(pln_cache_l2(cache), putting->key, &putting->write,
                        pln_cache_l2_deadline(cache, putting->deadline), putting->value);
}

static pln_ns end_of_wait(const struct pln_cache *cache, pln_ns deadline) {
    return deadline != PLN_FOREVER ? deadline : pln_deadline(cache->timeout_ms);
}

static int refuse(const struct putting *putting) {
    pln_count(putting->cache->counts, PLN_COUNT_QUEUE_REFUSED, 1);
    return pln_fail(PLN_EBUSY, "%s: %zu writes wait to be stored, and the rule allows no more",
                    putting->verb, putting->terms->most);
}

/* PLN_EBUSY: there is no room in time. */
static int put(const struct putting *putting, bool may_wait) {
    struct pln_cache *cache = putting->cache;
    struct pln_l2 *l2;
    int status = pln_queue_client(cache, putting->verb, &l2);
    if (status < 0) {
        return status;
    }
    status = try_put(putting);
    if (status == PLN_EBUSY && may_wait) {
        struct pln_rest rest = {.until = end_of_wait(cache, putting->deadline)};
        pln_count(cache->counts, PLN_COUNT_QUEUE_WAITS, 1);
        pln_drain_tell(cache->drain); /* should it have been told of none of them */
        while (status == PLN_EBUSY && pln_drain_rest(cache, &rest)) {
            status = try_put(putting);
        }
    }
    if (status == PLN_OK) {
        pln_drain_tell(cache->drain);
    }
    return status;
}

/* Waits until no write of the key is in the queue. */
static int await_stored(struct pln_cache *cache, const struct pln_hashed *key, pln_ns deadline) {
    struct pln_rest rest = {.until = end_of_wait(cache, deadline)};
    int status;
    do {
        struct pln_l2_entries found = {.n = 0};
        status = pln_l2_queue_find(pln_cache_l2(cache), key,
                                   pln_cache_l2_deadline(cache, rest.until), &found);
        pln_l2_entries_fini(&found);
    } while (status == PLN_OK && pln_drain_rest(cache, &rest));
    return status == PLN_OK ? pln_fail(PLN_EBUSY, "set: an earlier write of the key waits in the "
                                                  "queue to be stored")
                            : status;
}

int pln_queued_yield(struct pln_cache *cache, const struct pln_hashed *key, pln_ns deadline) {
    int status = pln_drain_may_hold(cache) ? await_stored(cache, key, deadline) : PLN_MISS;
    return status == PLN_EBUSY ? status : PLN_OK; /* with Redis away it goes as it can */
}

static bool goes_through(const struct putting *putting) {
    return putting->terms->when_full == PLN_FULL_THROUGH && !putting->terms->in_order;
}

static bool may_wait(const struct putting *putting) {
    return putting->terms->when_full != PLN_FULL_REFUSE;
}

int pln_queued_set(struct write *write, struct pln_stamp *stamp, const struct pln_l2_item *shared,
                   bool *is_through) {
    struct pln_l2_value none;
    struct putting putting = {
        .cache = write->cache,
        .key = &write->key,
        .terms = pln_store_terms(write->cache, write->match.rule),
        .write = {.kind = PLN_L2_WRITE_SET,
                  .item = shared,
                  .value = write->item.value,
                  .set_flags = write->flags},
        .stamp = stamp,
        .verb = "set",
        .deadline = write->deadline,
        .value = &none,
    };
    putting.write.most = putting.terms->most;
    bool is_bypassed = goes_through(&putting) && write->flags == 0; /* a condition has to wait */
    int status = put(&putting, may_wait(&putting) && !is_bypassed);
    if (status != PLN_EBUSY) {
        return status;
    }
    if (is_bypassed) {
        status = await_stored(putting.cache, putting.key, putting.deadline);
        *is_through = status == PLN_MISS;
        return *is_through ? pln_through_set(write) : status;
    }
    return refuse(&putting);
}

int pln_queued_delete(struct pln_cache *cache, const struct pln_hashed *key,
                      const struct pln_match *match) {
    struct pln_l2_value none;
    struct putting putting = {
        .cache = cache,
        .key = key,
        .terms = pln_store_terms(cache, match->rule),
        .write = {.kind = PLN_L2_WRITE_REMOVE},
        .verb = "delete",
        .deadline = PLN_FOREVER,
        .value = &none,
    };
    putting.write.most = putting.terms->most;
    int status = put(&putting, may_wait(&putting) && !goes_through(&putting));
    if (status != PLN_EBUSY) {
        return status;
    }
    if (goes_through(&putting)) {
        status = await_stored(putting.cache, putting.key, putting.deadline);
        return status == PLN_MISS ? pln_through_delete(cache, &key->key, 1) : status;
    }
    return refuse(&putting);
}

int pln_queued_swap(struct pln_cache *cache, const struct pln_hashed *key,
                    const struct pln_match *match, const struct pln_l2_swap *swap,
                    struct pln_bytes value, pln_ns deadline, struct pln_l2_value *now) {
    struct putting putting = {
        .cache = cache,
        .key = key,
        .terms = pln_store_terms(cache, match->rule),
        .write = {.kind = PLN_L2_WRITE_SWAP, .value = value, .swap = swap},
        .verb = "swap",
        .deadline = deadline,
        .value = now,
    };
    putting.write.most = putting.terms->most;
    *now = (struct pln_l2_value){.memory = NULL};
    int status = put(&putting, may_wait(&putting)); /* it cannot be written through */
    return status == PLN_EBUSY ? refuse(&putting) : status;
}

/* ---- reading ---- */

bool pln_queued_is_used(const struct pln_cache *cache, const struct pln_terms *terms) {
    return terms->write == PLN_WRITE_BEHIND && cache->has_l2 && cache->stand_in == NULL;
}

/* Or were, until a moment ago: then it is empty soon. */
static bool may_wait_there(struct pln_cache *cache, const struct pln_terms *terms) {
    bool is_stored = terms->write == PLN_WRITE_THROUGH || terms->write == PLN_WRITE_AROUND;
    return pln_queued_is_used(cache, terms) || (is_stored && pln_drain_may_hold(cache));
}

/* The queue's word on a key, shaped by the key's rule as a set's value is. */
static int take_found(struct pln_cache *cache, const struct pln_hashed *key,
                      const struct pln_l2_entry *entry, struct pln_load *load) {
    const uint32_t shaping = PLN_RULE_TTL | PLN_RULE_TAGS;
    struct pln_ruleset *ruleset;
    struct pln_match match;
    if (entry->is_removal || entry->is_absent) {
        return PLN_ABSENT;
    }
    int status = pln_load_value(load, entry->value, entry->format);
    pln_cache_match(cache, key->key, &match, &ruleset);
    if (status == PLN_OK && match.rule != NULL && (match.rule->hooks & shaping) != 0) {
        status = pln_shape_by_rule(cache, ruleset, &match, key->key, entry->value, entry->format,
                                   load);
    }
    pln_ruleset_unref(ruleset);
    return status;
}

int pln_queued_find(struct pln_cache *cache, const struct pln_hashed *key, struct pln_load *load) {
    struct pln_l2_entries found = {.n = 0};
    struct pln_l2 *l2;
    int status = pln_queue_client(cache, "load", &l2);
    if (status == PLN_OK) {
        status = pln_l2_queue_find(l2, key, pln_cache_l2_deadline(cache, PLN_FOREVER), &found);
    }
    if (status == PLN_OK) {
        status = found.n > 0 ? take_found(cache, key, &found.entries[0], load) : PLN_MISS;
    }
    pln_l2_entries_fini(&found);
    return status;
}

int pln_fill_find_queued(struct fill *fill, struct pln_load *load) {
    const struct pln_request *request = fill->request;
    if (!may_wait_there(fill->cache, request->terms)) {
        return PLN_MISS;
    }
    fill->load_began = pln_now(&fill->cache->host);
    int status = pln_queued_find(fill->cache, &request->key, load);
    if (status < 0 && load->value == NULL) { /* else it is there, and has failed to be shaped */
        fill->may_lag = true;
        status = PLN_MISS;
    }
    return status;
}

bool pln_queued_is_empty(struct pln_cache *cache) {
    struct pln_l2_queue_state state;
    struct pln_l2 *l2;
    return pln_queue_client(cache, "load", &l2) == PLN_OK &&
           pln_queue_look(cache, pln_cache_l2_deadline(cache, PLN_FOREVER), &state) == PLN_OK &&
           state.depth == 0;
}
