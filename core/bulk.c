/* SPDX-License-Identifier: MIT
 *
 * bulk.c - loading many missing keys by one call of the program's loader, or of the policy's: of
 * each rule that has one (load_many), on a worker, for its own keys. The rest of them is not
 * loaded.
 *
 * Each key goes the way of fill.c, side by side with the others: a flight, a lease, the loader,
 * commit, install. Nobody is waited for before the loader has run: not other threads, whose flights
 * are followed, nor other processes, whose leases are looked at again afterwards. So no two callers
 * with some keys in common can wait for each other.
 */
#include "bulk.h"

#include "fills.h"
#include "nested.h"
#include "shadow.h"

/* ---- beginning ---- */

static void fail_part(struct bulk_read *read, struct part *part, int status) {
    part->state = ENDED;
    read->statuses[part->at] = status;
    pln_count(read->cache->counts, PLN_COUNT_FAILURES, 1);
}

static void begin(struct bulk_read *read, struct part *part, struct pln_bytes key) {
    struct pln_cache *cache = read->cache;
    struct pln_request *request = &part->request;
    struct pln_hashed hashed;
    bool leads;
    int status = pln_cache_key(cache, key, &hashed);
    assert(status == PLN_OK); /* it was looked for already */
    pln_request_begin(request, cache, &hashed, read->options);
    pln_admit_note(cache, &request->key, request->terms);
    status = pln_nested_check(cache, key);
    if (status < 0) {
        fail_part(read, part, status);
        return;
    }
    part->flight = pln_cache_join(request, &leads);
    if (part->flight == NULL) {
        fail_part(read, part, PLN_ENOMEM);
        return;
    }
    if (!leads) {
        pln_count(cache->counts, PLN_COUNT_LOAD_WAITS, 1);
        return;
    }
    part->state = LOADS;
    part->fill = (struct fill){.request = request,
                               .cache = cache,
                               .flight = part->flight,
                               .is_l2_away = read->statuses[part->at] < 0,
                               .worker = -1};
    pln_flight_begin(cache->flights, part->flight);
}

/* What L2 had of a key once its lease was asked for. */
static void look_again(struct part *part, int status, struct pln_l2_value *value) {
    struct pln_outcome outcome = {0};
    status = pln_fill_answered(&part->fill, pln_clock_precise(), status, value, &outcome);
    if (status == PLN_OK) {
        pln_fill_end_lease(&part->fill);
        pln_fill_end(&part->fill, PLN_OK, &outcome);
        part->state = ENDED;
    } else if (!part->fill.has_lease && !part->fill.is_l2_away) {
        part->state = WAITS;
    }
}

/* A plain key, which is read by itself. */
static void lease_alone(struct part *part) {
    struct pln_outcome outcome = {0};
    int status = pln_fill_try_lease(&part->fill, &outcome);
    if (status == PLN_PENDING) {
        part->state = WAITS;
    } else if (status == PLN_OK) {
        pln_fill_end(&part->fill, status, &outcome);
        part->state = ENDED;
    }
}

/* The parts that L2 has a part in, with a stamp: what is loaded under the lease may be kept. */
static size_t choose_leased(struct bulk_read *read, pln_ns *deadline) {
    size_t n = 0;
    *deadline = 0;
    for (size_t i = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        const struct pln_request *request = &part->request;
        if (part->state != LOADS) {
            continue;
        }
        if (request->key.is_plain) {
            lease_alone(part);
            continue;
        }
        pln_fill_stamp(&part->fill);
        if (pln_fill_uses_l2(&part->fill)) {
            *deadline = request->deadline > *deadline ? request->deadline : *deadline;
            read->which[n] = i;
            read->lengths[n] = request->terms->lease_ms;
            read->hashed[n++] = request->key;
        }
    }
    return n;
}

/* Asks for the right to load all keys, then for those values once more of which L2 has any: who had
 * the right just before may have stored one. */
static void lease_all(struct bulk_read *read) {
    pln_ns deadline;
    size_t n_asked = choose_leased(read, &deadline), n = 0;
    if (n_asked == 0) {
        return;
    }
    struct pln_l2 *l2 = pln_cache_l2(read->cache);
    deadline = pln_cache_l2_deadline(read->cache, deadline);
    pln_l2_lease_many(l2, read->hashed, read->lengths, n_asked, deadline, read->leases,
                      read->loaded);
    for (size_t i = 0; i < n_asked; i++) {
        struct fill *fill = &read->parts[read->which[i]].fill;
        fill->lease = read->leases[i];
        int status = pln_fill_leased(fill, read->loaded[i]);
        if (status == PLN_PENDING || (status == PLN_OK && !fill->lease.is_empty)) {
            read->which[n] = read->which[i];
            read->hashed[n++] = read->hashed[i];
        }
    }
    int status = n == 0
                     ? PLN_OK
                     : pln_l2_get_many(l2, read->hashed, n, deadline, read->values, read->loaded);
    for (size_t i = 0; i < n; i++) {
        look_again(&read->parts[read->which[i]], status == PLN_OK ? read->loaded[i] : status,
                   &read->values[i]);
    }
}

/* Waits for the process that loads a key. */
static void wait_for_lease(struct part *part) {
    struct pln_outcome outcome = {0};
    int status = pln_fill_get_lease(&part->fill, &outcome);
    part->state = LOADS;
    if (status != PLN_MISS) {
        outcome.is_leaders_own = status < 0;
        pln_fill_end(&part->fill, status, &outcome);
        part->state = ENDED;
    }
}

/* ---- what comes of it ---- */

/* One key by itself: who led it had no loader, or less time. */
static int load_alone(void *arg, struct pln_bytes key, struct pln_load *load) {
    const struct part *part = arg;
    const struct bulk_read *read = part->request.loader_arg;
    int status = PLN_ABSENT;
    struct pln_bulk bulk = {1, &key, &part->at, &load, &status};
    int called = pln_bulk_call(read, &part->request, &bulk);
    return called != PLN_OK ? called : status;
}

static bool may_do_better(const struct part *part, const struct pln_outcome *outcome) {
    return part->state == FOLLOWS && (outcome->status < 0 || outcome->status == PLN_MISS) &&
           (outcome->is_leaders_own || outcome->lacked_loader) &&
           pln_clock_precise() < part->request.deadline;
}

static int give_up(const struct part *part, int flown) {
    return flown == PLN_EBUSY
               ? pln_fail(PLN_EBUSY, "get_many: a key is being loaded by this thread, in a call "
                                     "that goes on once this one has returned")
               : pln_fail(PLN_ETIMEOUT, "get_many: no value within %lld ms",
                          (long long) part->request.timeout_ms);
}

static void deliver(struct bulk_read *read, struct part *part) {
    struct pln_cache *cache = read->cache;
    struct pln_result *result = &read->results[part->at];
    int *status = &read->statuses[part->at];
    bool takes_stale = (read->options->flags & PLN_GET_NO_STALE) == 0;
    struct pln_outcome outcome = {0};
    struct pln_patience patience = {.deadline = part->request.deadline,
                                    .soft_ms = part->request.soft_ms,
                                    .takes_stale = takes_stale};
    int flown = pln_flight_wait(cache->flights, part->flight, &patience, &outcome);
    if (flown == PLN_OK && may_do_better(part, &outcome)) {
        pln_outcome_fini(&outcome);
        part->request.loader_arg = read;
        *status = pln_get_or_load(cache, part->request.key.key, read->options, load_alone, part,
                                  result);
        return;
    }
    if (flown != PLN_OK && outcome.value == NULL) {
        outcome.status = give_up(part, flown);
    } else if (outcome.status < 0) {
        pln_fail(outcome.status, "%s", outcome.text);
    }
    if (outcome.status < 0 &&
        pln_many_keep(cache, &part->request.key, read->options, result, status)) {
        return;
    }
    if (outcome.source == PLN_FROM_STALE && !takes_stale &&
        pln_now(&cache->host) >= outcome.life.stale) {
        pln_outcome_fini(&outcome);
        outcome.status = PLN_MISS;
    }
    *status = pln_cache_deliver(cache, &outcome, result);
}

/* ---- all of it ---- */

static bool is_missing(int status) {
    return status == PLN_MISS || status == PLN_EL2DOWN || status == PLN_ETIMEOUT ||
           status == PLN_EL2;
}

static int read_init(struct bulk_read *read, size_t n_parts) {
    read->parts = calloc(n_parts + 1, sizeof *read->parts);
    read->keys = calloc(n_parts + 1, sizeof *read->keys);
    read->which = calloc(n_parts + 1, sizeof *read->which);
    read->loads = calloc(n_parts + 1, sizeof *read->loads);
    read->loaded = calloc(n_parts + 1, sizeof *read->loaded);
    read->hashed = calloc(n_parts + 1, sizeof *read->hashed);
    read->lengths = calloc(n_parts + 1, sizeof *read->lengths);
    read->leases = calloc(n_parts + 1, sizeof *read->leases);
    read->values = calloc(n_parts + 1, sizeof *read->values);
    read->items = calloc(n_parts + 1, sizeof *read->items);
    read->packed = calloc(n_parts + 1, sizeof *read->packed);
    if (read->parts == NULL || read->keys == NULL || read->which == NULL || read->loads == NULL ||
        read->loaded == NULL || read->hashed == NULL || read->lengths == NULL ||
        read->leases == NULL || read->values == NULL || read->items == NULL ||
        read->packed == NULL) {
        return pln_fail(PLN_ENOMEM, "get_many: no memory to load %zu keys", n_parts);
    }
    return PLN_OK;
}

/* Whether a key is one to load. */
static bool is_ours(const struct bulk_read *read, const struct pln_ruleset *ruleset,
                    struct pln_bytes key, int status) {
    struct pln_match match;
    if (!is_missing(status) || read->loader != NULL) {
        return is_missing(status);
    }
    if (ruleset == NULL) {
        return false;
    }
    pln_ruleset_match(ruleset, key, &match);
    return pln_rule_loads_many(match.rule);
}

/* Finds the keys that are to be loaded, and counts the others that are missing or have failed.
 * False where there are none, or no memory for them. */
static bool find_parts(struct bulk_read *read, const struct pln_bytes *keys, size_t n,
                       const struct pln_ruleset *ruleset) {
    size_t n_parts = 0;
    for (size_t i = 0; i < n; i++) {
        n_parts += is_ours(read, ruleset, keys[i], read->statuses[i]);
    }
    bool has_memory = n_parts > 0 && read_init(read, n_parts) == PLN_OK;
    for (size_t i = 0; i < n; i++) {
        int *status = &read->statuses[i];
        bool is_part = is_ours(read, ruleset, keys[i], *status);
        if (is_part && has_memory) {
            read->parts[read->n_parts++].at = i;
            continue;
        }
        *status = is_part && *status == PLN_MISS ? PLN_ENOMEM : *status;
        if (*status == PLN_MISS || *status < 0) {
            pln_count(read->cache->counts, *status < 0 ? PLN_COUNT_FAILURES : PLN_COUNT_MISSES, 1);
        }
    }
    return has_memory;
}

static void read_fini(struct bulk_read *read) {
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].flight != NULL) {
            pln_flight_leave(read->cache->flights, read->parts[i].flight);
        }
        pln_ruleset_unref(read->parts[i].request.ruleset);
    }
    free(read->parts);
    free(read->keys);
    free(read->which);
    free(read->loads);
    free(read->loaded);
    free(read->hashed);
    free(read->lengths);
    free(read->leases);
    free(read->values);
    free(read->items);
    free(read->packed);
}

static void load_missing(struct bulk_read *read, const struct pln_bytes *keys) {
    for (size_t i = 0; i < read->n_parts; i++) {
        begin(read, &read->parts[i], keys[read->parts[i].at]);
    }
    lease_all(read);
    pln_bulk_bring(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].state == WAITS) {
            wait_for_lease(&read->parts[i]);
        }
    }
    pln_bulk_bring(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].flight != NULL) {
            deliver(read, &read->parts[i]);
        }
    }
}

void pln_many_load(struct pln_many *many) {
    struct bulk_read read = {.cache = many->cache,
                             .options = many->options,
                             .loads_as = many->loads_as,
                             .results = many->results,
                             .statuses = many->statuses};
    struct pln_ruleset *ruleset = pln_many_may_load(many) ? pln_cache_policy(many->cache) : NULL;
    bool has_parts = find_parts(&read, many->keys, many->n, ruleset);
    pln_ruleset_unref(ruleset);
    if (has_parts) {
        pln_fills_yield(); /* others' loads may be waited for */
        load_missing(&read, many->keys);
    }
    read_fini(&read);
}

int pln_get_or_load_many(struct pln_cache *cache, const struct pln_bytes *keys, size_t n,
                         const struct pln_get_options *options, pln_bulk_loader loader, void *arg,
                         struct pln_result *results, int *statuses) {
    static const struct pln_get_options no_options = {0};
    options = options != NULL ? options : &no_options;
    if (n == 0 || loader == NULL || (options->flags & PLN_GET_NO_LOAD) != 0) {
        return pln_get_many(cache, keys, n, options, results, statuses);
    }
    struct bulk_read read = {.cache = cache,
                             .options = options,
                             .loader = loader,
                             .arg = arg,
                             .results = results,
                             .statuses = statuses};
    struct pln_many many = {.cache = cache,
                            .keys = keys,
                            .n = n,
                            .options = options,
                            .results = results,
                            .statuses = statuses};
    pln_fills_yield(); /* others' loads may be waited for */
    int status = pln_many_look(&many);
    if (status == PLN_OK) {
        pln_many_fetch(&many);
    }
    pln_many_end(&many);
    if (status < 0) {
        return status;
    }
    if (find_parts(&read, keys, n, NULL)) {
        load_missing(&read, keys);
    }
    read_fini(&read);
    if (pln_shadow_is_there(cache)) {
        pln_shadow_saw_many(cache, keys, n, options, statuses, results);
    }
    return PLN_OK;
}
