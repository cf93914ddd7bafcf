/* SPDX-License-Identifier: MIT
 *
 * through.c - writes that are stored now: the store of record first, and once that has them the
 * tiers.
 *
 * A store that fails leaves all tiers as they were. One of which nobody knows whether it has the
 * write (it took too long) has the key removed from all tiers, so that the next reader asks. Where
 * the store has it and Redis cannot be told, the caller is told of success, for the record is
 * written; the key goes from L1, and recover.c keeps its removal from Redis until that is done.
 */
#include "store.h"

#include "compress.h"
#include "schema.h"

/* L2 shows the end of a write for a minute (queue.h); less what clocks may drift. */
static const pln_ms mark_ms = 55000;

/* ---- the key goes ---- */

/* The store has what Redis was not told; once per outage. */
static void tell(struct pln_cache *cache, int status) {
    /* relaxed: at worst it is said twice */
    bool has_told = atomic_load_explicit(&cache->has_told_through, memory_order_relaxed);
    if (status < 0 && !has_told) {
        pln_logf(&cache->host, PLN_LOG_WARN,
                 "the store took a write of which Redis could not be told: %s", pln_error_text());
    }
    if (has_told != (status < 0)) {
        /* relaxed: as above */
        atomic_store_explicit(&cache->has_told_through, status < 0, memory_order_relaxed);
    }
}

int pln_through_forget(struct pln_cache *cache, const struct pln_hashed *key) {
    struct pln_attempt attempt = {.kind = PLN_ATTEMPT_REMOVE, .key = *key};
    pln_inval_key(cache->inval, key); /* R8: before it is sent, and again at the reply */
    pln_recovery_begin(cache->recovery, &attempt);
    int status = pln_l2_through(pln_cache_l2(cache), key, NULL, pln_clock_precise(),
                                pln_cache_l2_deadline(cache, PLN_FOREVER));
    pln_inval_key(cache->inval, key);
    return pln_recovery_end(cache->recovery, &attempt, status == PLN_NOT_STORED ? PLN_OK : status);
}

static bool uses_l2(const struct pln_cache *cache, const struct pln_terms *terms) {
    return cache->has_l2 && terms->use_l2;
}

/* After its store: everywhere. */
static void forget(struct pln_cache *cache, const struct pln_hashed *key,
                   const struct pln_terms *terms) {
    if (uses_l2(cache, terms)) {
        tell(cache, pln_through_forget(cache, key));
    } else {
        pln_inval_key(cache->inval, key);
    }
}

/* ---- the tiers have it ---- */

/* Keeps it in L1, if nothing was heard of the key since the stamp. */
static void keep(struct write *write, struct pln_stamp *stamp) {
    struct pln_cache *cache = write->cache;
    pln_stamp_tags(stamp, write->item.tags, write->item.n_tags);
    if (!pln_stamp_advance(stamp, &write->key) || !write->terms->use_l1 ||
        write->item.value.len > cache->max_item_bytes || pln_write_keep(write, stamp) != PLN_OK) {
        pln_inval_key(cache->inval, &write->key);
    }
}

/* Whether L2 can still show that another write ended while this one was stored: not once what that
 * left there may have gone by itself. What a loader brought in its place lives as long as the rule
 * says. */
static bool would_be_seen(const struct write *write, pln_ns began) {
    const struct pln_terms *terms = write->terms;
    pln_ms elapsed = (pln_clock_precise() - began) / 1000000;
    pln_ms shortest = terms->ttl_ms < terms->negative_ms ? terms->ttl_ms : terms->negative_ms;
    struct pln_l2_item brought = {.life_left = shortest};
    pln_ms left = pln_life_shared(terms, &brought).life_left;
    return elapsed < mark_ms && (double) elapsed < (double) left * (1 - terms->jitter);
}

/* Whether something was heard of the key since the stamp, or done here: that its link has come up
 * is another matter. */
static bool has_heard(const struct write *write, const struct pln_stamp *before) {
    struct pln_stamp stamp = *before;
    stamp.generation = pln_l1_generation(write->cache->l1);
    return !pln_stamp_holds(&stamp);
}

/* Tells Redis; PLN_NOT_STORED: the key was removed there, for whatever reason. */
static int send(const struct write *write, const struct pln_stamp *stamp, pln_ns began) {
    struct pln_cache *cache = write->cache;
    struct pln_l2_item shared = pln_life_shared(write->terms, &write->item);
    pln_ns deadline = pln_cache_l2_deadline(cache, PLN_FOREVER);
    void *packed;
    int status;
    if (!write->key.is_plain && !has_heard(write, stamp) && would_be_seen(write, began)) {
        pln_compress_item(cache, write->terms, &shared, &packed);
        status = pln_l2_through(pln_cache_l2(cache), &write->key, &shared, began, deadline);
        free(packed);
        if (status == PLN_NOT_STORED) {
            pln_count(cache->counts, PLN_COUNT_THROUGH_CONFLICTS, 1);
        }
        if (status >= 0 || pln_l2_may_pass(status)) {
            return status;
        } /* else this is nothing that it takes, and the old value must go */
    }
    status = pln_l2_through(pln_cache_l2(cache), &write->key, NULL, began, deadline);
    return status < 0 ? status : PLN_NOT_STORED;
}

static void share(struct write *write, struct pln_stamp *stamp, pln_ns began) {
    struct pln_cache *cache = write->cache;
    struct pln_attempt attempt = {.kind = PLN_ATTEMPT_REMOVE, .key = write->key};
    pln_recovery_begin(cache->recovery, &attempt);
    int status = send(write, stamp, began);
    tell(cache,
         pln_recovery_end(cache->recovery, &attempt, status == PLN_NOT_STORED ? PLN_OK : status));
    if (status == PLN_OK) {
        keep(write, stamp);
    } else {
        pln_inval_key(cache->inval, &write->key); /* R4 */
    }
}

/* ---- set ---- */

static struct pln_store_item item_of(const struct write *write) {
    return (struct pln_store_item){.op = PLN_STORE_SET,
                                   .key = write->key.key,
                                   .value = write->item.value,
                                   .format = write->item.format,
                                   .is_absent = write->item.is_absent,
                                   .id = "",
                                   .attempt = 1};
}

/* Calls the store. Returns: PLN_OK; PLN_ESTORE, also for what can never be stored, since that is
 * no misuse of the call; PLN_ETIMEOUT. */
static int run_store(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                     const struct pln_rule *rule, struct pln_store_item *items, size_t n) {
    int status = pln_store_run(cache, ruleset, rule, items, n);
    return status == PLN_EINVAL ? PLN_ESTORE : status;
}

/* The store, and what becomes of the key where that fails. Returns: as run_store(). */
static int store(struct write *write) {
    struct pln_cache *cache = write->cache;
    char text[PLN_ERROR_TEXT];
    struct pln_store_item item = item_of(write);
    int status = run_store(cache, write->ruleset, write->match.rule, &item, 1);
    if (status == PLN_ETIMEOUT) {
        memcpy(text, pln_error_text(), sizeof text);
        forget(cache, &write->key, write->terms);
        pln_fail(status, "%s", text);
    }
    return status;
}

/* Why no reader keeps a value that the store no longer has. Of a write W: b it begins, c the store
 * has it, e Redis has carried out its step (without Redis: the stripe is raised); b < c < e.
 *
 * Readers. Who reads between c and e may be given the value before W; W has not returned. What is
 * kept of that ends at e, or is never kept:
 * - In Redis, and so in any instance: a load asks its source under a lease that it had before (R7).
 *   If it asked before c, it may bring the value before W. It has committed before e: then W's step
 *   replaces what it stored, and tells all instances, which forget it (R4). Or it commits after e:
 *   W's step has ended its lease, so neither Redis nor L1 keep it. A load whose lease is from after
 *   e asks after c.
 * - In the L1 of the writer: such a load has a stamp from before e, and e raises the stripe, here
 *   or at the reply (R9); in that of another instance the message does. So the check before it
 *   becomes visible refuses it, or the entry is there to be ended (R3, C2).
 * - Copies that L1 takes of Redis follow the stamp as ever: what was asked of Redis before e is
 *   refused or ended by the message.
 *
 * Writers. Of V and W at once nobody knows which the store has last, since c is not seen here. But
 * if the store has V last, then c(W) < c(V) and so b(W) < e(V). Should Redis carry out W's step
 * last, e(V) < e(W), it finds what V left there: a value or a mark made at e(V), which is after
 * b(W). So it removes the key, and leaves a mark made at e(W). Where V's step is
 * the last one, its value stays, or goes by the same rule; either way nothing that the store no
 * longer has is left. By a third writer U, b(U) < e(W), what W left is found likewise, be it a
 * value or a mark; and what a load put in its place was made later than that (pln_life_since(): by
 * no clock's step earlier). L2 takes b(W) to be
 * as early as it can have been; where it is earlier, a value is removed in vain, and the next
 * reader loads it. What somebody left can be looked for as long as it is there (would_be_seen());
 * beyond that the key is removed unseen. A removal by an event, which the store knows nothing of,
 * leaves a mark as well (pln_through_forget()); and W's own stamp tells of most such things before
 * it is sent.
 *
 * Without Redis the stripe is all of that: W takes it before b and raises it at e, if it is still
 * the same; that fails where any V of the stripe ended in between, e(V) > b(W), and the key is
 * forgotten, which raises it once more, for U to see.
 *
 * Redis fails. The value there may be the one before W. It is removed later by the same step as a
 * delete, which leaves a mark (redo.c): whatever ended before that goes, and what ends after it and
 * began before is seen. Until then this instance has no such value in L1, and those which can ask
 * Redis may have it: that is the window, as long as this instance is cut off.
 *
 * The store's outcome is unknown. The key is removed by the same step; should the store take the
 * write even later, a reader in between keeps the value before it until its life ends. Hence the
 * store's own bound, shorter than the rule's. */
static int store_then(struct write *write, bool keeps_value) {
    struct pln_cache *cache = write->cache;
    struct pln_stamp stamp;
    int status = pln_queued_yield(cache, &write->key, write->deadline);
    if (status < 0) {
        return status;
    }
    pln_stamp_take(cache->inval, write->key.hash, &stamp); /* R2 */
    pln_ns began = pln_clock_precise();
    status = store(write);
    if (status == PLN_OK && !keeps_value) {
        forget(cache, &write->key, write->terms);
    } else if (status == PLN_OK && uses_l2(cache, write->terms)) {
        share(write, &stamp, began);
    } else if (status == PLN_OK) {
        keep(write, &stamp);
    }
    return status;
}

int pln_through_set(struct write *write) {
    return store_then(write, true);
}

int pln_around_set(struct write *write) {
    return store_then(write, false);
}

/* ---- delete ---- */

struct gone {
    struct pln_hashed key;
    const struct pln_rule *rule;
};

/* Rules side by side, and of each the same keys. */
static int compare(const void *left, const void *right) {
    const struct gone *a = left, *b = right;
    if (a->rule != b->rule) {
        return (uintptr_t) a->rule < (uintptr_t) b->rule ? -1 : 1;
    }
    if (a->key.key.len != b->key.key.len) {
        return a->key.key.len < b->key.key.len ? -1 : 1;
    }
    return memcmp(a->key.key.data, b->key.key.data, a->key.key.len);
}

/* Sorts the keys, each once; their number is what is left. */
static size_t sort(struct gone *gone, size_t n) {
    size_t n_left = 0;
    qsort(gone, n, sizeof *gone, compare);
    for (size_t i = 0; i < n; i++) {
        if (n_left == 0 || compare(&gone[n_left - 1], &gone[i]) != 0) {
            gone[n_left++] = gone[i];
        }
    }
    return n_left;
}

/* Those of one rule. Returns: as run_store(). */
static int delete_of_rule(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                          const struct gone *gone, struct pln_store_item *items, size_t n) {
    const struct pln_rule *rule = gone->rule;
    const struct pln_terms *terms = rule != NULL ? &rule->terms : &cache->terms;
    char text[PLN_ERROR_TEXT] = "";
    for (size_t i = 0; i < n; i++) {
        int yielded = pln_queued_yield(cache, &gone[i].key, PLN_FOREVER);
        if (yielded < 0) {
            return yielded;
        }
        items[i] = (struct pln_store_item){
            .op = PLN_STORE_DELETE, .key = gone[i].key.key, .id = "", .attempt = 1};
    }
    int status = run_store(cache, ruleset, rule, items, n);
    if (status < 0) {
        memcpy(text, pln_error_text(), sizeof text);
    }
    for (size_t i = 0; i < n; i++) {
        if (items[i].status == PLN_OK || items[i].status == PLN_ETIMEOUT) {
            struct pln_hashed key = gone[i].key;
            key.is_plain = terms->is_plain;
            forget(cache, &key, terms);
        }
    }
    return status < 0 ? pln_fail(status, "%s", text) : PLN_OK;
}

static int delete_sorted(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                         const struct gone *gone, struct pln_store_item *items, size_t n) {
    char text[PLN_ERROR_TEXT] = "";
    int first = PLN_OK;
    for (size_t from = 0, to; from < n; from = to) {
        for (to = from; to < n && gone[to].rule == gone[from].rule; to++) {
        }
        int status = delete_of_rule(cache, ruleset, gone + from, items + from, to - from);
        if (status < 0 && first == PLN_OK) {
            first = status;
            memcpy(text, pln_error_text(), sizeof text);
        }
    }
    return first < 0 ? pln_fail(first, "%s", text) : PLN_OK;
}

int pln_through_delete(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    struct gone *gone = calloc(n + 1, sizeof *gone);
    struct pln_store_item *items = calloc(n + 1, sizeof *items);
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    int status = gone != NULL && items != NULL
                     ? PLN_OK
                     : pln_fail(PLN_ENOMEM, "delete: no memory for %zu keys", n);
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        struct pln_match match;
        status = pln_schema_key(cache, keys[i], &gone[i].key);
        pln_ruleset_match(ruleset, keys[i], &match);
        gone[i].rule = match.rule;
    }
    if (status == PLN_OK) {
        pln_wake(cache);
        n = sort(gone, n);
        status = delete_sorted(cache, ruleset, gone, items, n);
    }
    pln_ruleset_unref(ruleset);
    free(gone);
    free(items);
    return status;
}
