/* SPDX-License-Identifier: MIT
 *
 * bulk.c - loading many missing keys by one call of the program's loader.
 *
 * Each key goes the way of fill.c, side by side with the others: a flight, a lease, the loader,
 * commit, install. Nobody is waited for before the loader has run: not other threads, whose flights
 * are followed, nor other processes, whose leases are looked at again afterwards. So no two callers
 * with some keys in common can wait for each other.
 */
#include "fills.h"
#include "way.h"

#include "alert.h"
#include "nested.h"
#include "shadow.h"

enum state {
    FOLLOWS, /* another thread leads, or it has not begun */
    LOADS,   /* the loader is to bring it */
    BROUGHT, /* and has: it is stored with others */
    WAITS,   /* another process loads it */
    ENDED,   /* its flight has */
};

/* A key that is missing. */
struct part {
    size_t at; /* in the caller's arrays */
    enum state state;
    struct pln_request request;
    struct pln_flight *flight; /* NULL: it failed before there was one */
    struct fill fill;
    struct pln_load load;
    struct pln_outcome outcome; /* of the load */
    int loaded;                 /* its status */
    struct pln_l2_item item;    /* to be stored: its bytes are the outcome's, its tags the load's */
};

struct bulk_read {
    struct pln_cache *cache;
    const struct pln_get_options *options;
    pln_bulk_loader loader;
    void *arg;
    struct pln_result *results;
    int *statuses;
    struct part *parts;
    size_t n_parts;
    /* what the loader is given, with room for all parts */
    struct pln_bytes *keys;
    size_t *which;
    struct pln_load **loads;
    int *loaded;
    struct pln_hashed *hashed;
    pln_ms *lengths;
    struct pln_l2_lease *leases;
    struct pln_l2_value *values;
    struct pln_l2_item *items;
    void **packed;
};

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

/* ---- loading ---- */

static int call_loader(struct bulk_read *read, size_t n) {
    struct pln_bulk bulk = {n, read->keys, read->which, read->loads, read->loaded};
    struct pln_nested nested;
    pln_count(read->cache->counts, PLN_COUNT_LOADS, n);
    pln_nested_enter_many(&nested, read->cache, read->keys, n);
    pln_fail(PLN_ELOADER, "get_many: the loader failed and gave no reason");
    pln_ns began = pln_clock_precise();
    int status = read->loader(read->arg, &bulk);
    pln_alerts_note_load(read->cache->alerts, pln_clock_precise() - began);
    pln_nested_leave(&nested);
    return status > 0 ? pln_fail(PLN_ELOADER, "get_many: the loader returned status %d", status)
                      : status;
}

static void end_load(struct part *part) {
    pln_fill_end(&part->fill, part->loaded, &part->outcome);
    pln_load_fini(&part->load);
    part->state = ENDED;
}

/* What its loader brought. Where that is to be stored, it is so with the others'. */
static void take(struct part *part, int status, const char *text, pln_ms began) {
    part->outcome = (struct pln_outcome){0};
    part->fill.load_began = began;
    part->fill.has_old = part->fill.fallback.value != NULL;
    if (status < 0) {
        pln_fail(status, "%s", text);
    }
    status = pln_fill_check(part->request.options, &part->load, status);
    part->fill.later = part->request.key.is_plain ? NULL : &part->item;
    part->fill.has_later = false;
    part->loaded = pln_fill_store(&part->fill, &part->load, status, &part->outcome);
    part->fill.later = NULL;
    part->state = BROUGHT;
    if (part->loaded < 0) { /* while its text is there */
        end_load(part);
    }
}

static bool is_later(const struct part *part) {
    return part->state == BROUGHT && part->fill.has_later;
}

/* Stores all that was brought, in one round trip, and ends its flights. */
static void store(struct bulk_read *read) {
    size_t n = 0;
    for (size_t i = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (is_later(part)) {
            read->hashed[n] = part->request.key;
            read->leases[n] = part->fill.lease;
            read->items[n] = pln_fill_packed(&part->fill, &part->item, &read->packed[n]);
            n++;
        }
    }
    if (n > 0) {
        pln_l2_commit_many(pln_cache_l2(read->cache), read->hashed, read->leases, read->items, n,
                           pln_cache_l2_deadline(read->cache, PLN_FOREVER), read->loaded);
    }
    for (size_t i = 0, j = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (is_later(part)) {
            pln_fill_committed(&part->fill, &part->item, read->loaded[j], &part->outcome.life);
            free(read->packed[j++]);
        }
        if (part->state == BROUGHT) {
            end_load(part);
        }
    }
}

/* Has the loader bring all keys that are left to it. */
static void load(struct bulk_read *read) {
    char text[PLN_ERROR_TEXT];
    size_t n = 0;
    for (size_t i = 0; i < read->n_parts; i++) {
        struct part *part = &read->parts[i];
        if (part->state == LOADS) {
            read->keys[n] = part->request.key.key;
            read->which[n] = part->at;
            read->loads[n] = &part->load;
            read->loaded[n++] = PLN_ABSENT;
        }
    }
    if (n == 0) {
        return;
    }
    pln_ms began = pln_now(&read->cache->host);
    int status = call_loader(read, n);
    memcpy(text, pln_error_text(), sizeof text);
    for (size_t i = 0, j = 0; i < read->n_parts; i++) {
        if (read->parts[i].state == LOADS) {
            take(&read->parts[i], status < 0 ? status : read->loaded[j], text, began);
            j++;
        }
    }
    store(read);
}

/* ---- what comes of it ---- */

/* One key by itself: who led it had no loader, or less time. */
static int load_alone(void *arg, struct pln_bytes key, struct pln_load *load) {
    const struct part *part = arg;
    const struct bulk_read *read = part->request.loader_arg;
    int status = PLN_ABSENT;
    struct pln_bulk bulk = {1, &key, &part->at, &load, &status};
    int called = read->loader(read->arg, &bulk);
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

static int read_init(struct bulk_read *read, size_t n) {
    size_t n_parts = 0;
    for (size_t i = 0; i < n; i++) {
        n_parts += is_missing(read->statuses[i]);
    }
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
    for (size_t i = 0; i < n; i++) {
        if (is_missing(read->statuses[i])) {
            read->parts[read->n_parts++].at = i;
        }
    }
    return PLN_OK;
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
    load(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].state == WAITS) {
            wait_for_lease(&read->parts[i]);
        }
    }
    load(read);
    for (size_t i = 0; i < read->n_parts; i++) {
        if (read->parts[i].flight != NULL) {
            deliver(read, &read->parts[i]);
        }
    }
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
    bool has_memory = read_init(&read, n) == PLN_OK;
    for (size_t i = 0; i < n; i++) {
        bool goes_on = has_memory && is_missing(statuses[i]);
        if (statuses[i] == PLN_MISS && !has_memory) {
            statuses[i] = PLN_ENOMEM;
        }
        if (statuses[i] < 0 && !goes_on) {
            pln_count(cache->counts, PLN_COUNT_FAILURES, 1);
        }
    }
    if (has_memory) {
        load_missing(&read, keys);
    }
    read_fini(&read);
    if (pln_shadow_is_there(cache)) {
        pln_shadow_saw_many(cache, keys, n, options, statuses, results);
    }
    return PLN_OK;
}
