/* SPDX-License-Identifier: MIT
 *
 * fills.c - see fills.h. A load under a lease is three round trips: the lease, the loader's own,
 * the commit. A thread that loads many keys in a row, as one that warms does, makes the first and
 * the last of them for all together:
 *
 *     stamps ─► leases of all ─► load ─► load ─► ... ─► commits of all ─► install in L1
 *
 * Each load is a flight of its own, and has ended for those who wait for it when its loader has;
 * what it brought is stored a little later. Who asks for the key in between waits for the lease, as
 * for any that is held elsewhere.
 *
 * Such a thread holds leases that it is not at yet, so it must not wait for another's while it
 * does: the two might wait for each other until a lease ends. Before it waits, for a key that
 * another has or since a loader of its own asks for one (a page that loads its parts), everything
 * is stored and given back.
 */
#include "compress.h"
#include "fills.h"
#include "own.h"

enum state {
    WANTED, /* nothing is held */
    HELD,   /* the lease is, and the load has yet to come */
    IN_USE, /* the load is under way */
    BROUGHT /* to be stored */
};

struct one {
    enum state state;
    struct pln_hashed key;
    struct pln_stamp stamp;
    struct pln_l2_lease lease;
    struct pln_ruleset
        *ruleset; /* of what was brought: a reference; likewise the value, the tags */
    const struct pln_terms *terms;
    struct pln_l2_item item;
    struct pln_value *value;
    struct pln_load load;
    pln_ms brought_at;
};

struct pln_fills {
    struct pln_cache *cache;
    size_t n, next; /* the loads come in the order of the keys */
    struct one ones[];
};

static struct pln_fills *own(void) {
    return (struct pln_fills *) *pln_own(PLN_OWN_FILLS);
}

/* ---- leases ---- */

/* Of the keys that L2 has something of, tells which have no more than what is void. */
static void look_again(struct pln_fills *fills) {
    struct pln_hashed keys[PLN_FILLS_MOST];
    struct pln_l2_value values[PLN_FILLS_MOST];
    int statuses[PLN_FILLS_MOST];
    struct one *ones[PLN_FILLS_MOST];
    size_t n = 0;
    for (size_t i = 0; i < fills->n; i++) {
        if (fills->ones[i].state == HELD && !fills->ones[i].lease.is_empty) {
            keys[n] = fills->ones[i].key;
            ones[n++] = &fills->ones[i];
        }
    }
    if (n == 0 || pln_l2_get_many(pln_cache_l2(fills->cache), keys, n,
                                  pln_cache_l2_deadline(fills->cache, PLN_FOREVER), values,
                                  statuses) != PLN_OK) {
        return;
    }
    for (size_t i = 0; i < n; i++) {
        ones[i]->lease.is_empty = statuses[i] == PLN_MISS;
        if (statuses[i] == PLN_OK) {
            pln_l2_value_fini(&values[i]);
        }
    }
}

/* Those of keys whose values go to L2. */
static void take_leases(struct pln_fills *fills) {
    struct pln_hashed keys[PLN_FILLS_MOST];
    struct pln_l2_lease leases[PLN_FILLS_MOST];
    pln_ms lengths[PLN_FILLS_MOST];
    int statuses[PLN_FILLS_MOST];
    size_t places[PLN_FILLS_MOST], n = 0;
    for (size_t i = 0; i < fills->n; i++) {
        struct one *one = &fills->ones[i];
        struct pln_match match;
        struct pln_ruleset *ruleset;
        const struct pln_terms *terms = pln_cache_match(fills->cache, one->key.key, &match,
                                                        &ruleset);
        if (terms->use_l2 && !terms->is_denied && !terms->is_plain) {
            pln_stamp_take(fills->cache->inval, one->key.hash, &one->stamp);
            keys[n] = one->key;
            lengths[n] = terms->lease_ms;
            places[n++] = i;
        }
        pln_ruleset_unref(ruleset);
    }
    pln_l2_lease_many(pln_cache_l2(fills->cache), keys, lengths, n,
                      pln_cache_l2_deadline(fills->cache, PLN_FOREVER), leases, statuses);
    for (size_t i = 0; i < n; i++) {
        if (statuses[i] == PLN_OK) {
            fills->ones[places[i]].lease = leases[i];
            fills->ones[places[i]].state = HELD;
        }
    }
}

struct pln_fills *pln_fills_begin(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) {
    struct pln_fills *fills = NULL;
    pln_wake(cache);
    if (cache->has_l2 && n > 1 && n <= PLN_FILLS_MOST && own() == NULL) {
        fills = calloc(1, sizeof *fills + n * sizeof fills->ones[0]);
    }
    for (size_t i = 0; fills != NULL && i < n; i++) {
        if (pln_cache_key(cache, keys[i], &fills->ones[i].key) < 0) {
            free(fills);
            fills = NULL;
        }
    }
    if (fills != NULL) {
        fills->cache = cache;
        fills->n = n;
        take_leases(fills);
        look_again(fills);
        *pln_own(PLN_OWN_FILLS) = fills;
    }
    return fills;
}

static struct one *find(struct pln_fills *fills, const struct pln_cache *cache,
                        const struct pln_hashed *key, enum state state) {
    if (fills == NULL || fills->cache != cache) {
        return NULL;
    }
    for (size_t i = 0; i < fills->n; i++) {
        struct one *one = &fills->ones[(fills->next + i) % fills->n];
        if (one->key.hash == key->hash && pln_bytes_equal(one->key.key, key->key)) {
            fills->next = (size_t) (one - fills->ones);
            return one->state == state ? one : NULL;
        }
    }
    return NULL;
}

bool pln_fills_grant(struct fill *fill) {
    struct one *one = find(own(), fill->cache, &fill->request->key, HELD);
    if (one == NULL) {
        return false;
    }
    one->state = IN_USE;
    fill->stamp = one->stamp;
    fill->lease = one->lease;
    fill->has_lease = true;
    return true;
}

/* ---- what they bring ---- */

bool pln_fills_take(struct fill *fill, const struct pln_l2_item *item, struct pln_load *load) {
    struct one *one = find(own(), fill->cache, &fill->request->key, IN_USE);
    if (one == NULL || !fill->has_lease) {
        return false;
    }
    pln_value_ref(load->value);
    pln_ruleset_ref(fill->request->ruleset);
    one->state = BROUGHT;
    one->stamp = fill->stamp;
    one->item = *item;
    one->value = load->value;
    one->terms = fill->request->terms;
    one->ruleset = fill->request->ruleset;
    one->load.n_tags = load->n_tags;
    memcpy(one->load.tags, load->tags, load->n_tags * sizeof load->tags[0]);
    load->n_tags = 0;
    one->item.tags = one->load.tags;
    one->brought_at = pln_now(&fill->cache->host);
    fill->has_lease = false;
    return true;
}

/* An item as it is now. */
static struct pln_l2_item aged(const struct one *one, pln_ms now) {
    struct pln_l2_item item = one->item;
    pln_ms since = now - one->brought_at;
    item.age += pln_life_since(one->terms, since);
    item.fresh_left -= item.fresh_left == PLN_FOREVER ? 0 : since;
    item.life_left -= item.life_left == PLN_FOREVER ? 0 : since;
    return item;
}

static void finish(struct pln_fills *fills, struct one *one, int status, pln_ms now) {
    struct pln_l1_life life;
    if (status == PLN_OK) {
        struct pln_l2_item item = aged(one, now);
        pln_life_keep(fills->cache, &one->key, one->terms, &one->stamp, &item, &life);
    } else if (status == PLN_NOT_STORED) {
        pln_count(fills->cache->counts, PLN_COUNT_LEASES_LOST, 1);
    }
    pln_value_drop(one->value);
    pln_load_fini(&one->load);
    pln_ruleset_unref(one->ruleset);
    one->state = WANTED;
}

static void store(struct pln_fills *fills) {
    struct pln_hashed keys[PLN_FILLS_MOST];
    struct pln_l2_lease leases[PLN_FILLS_MOST];
    struct pln_l2_item items[PLN_FILLS_MOST];
    void *packed[PLN_FILLS_MOST];
    int statuses[PLN_FILLS_MOST] = {0};
    size_t n = 0;
    pln_ms now = pln_now(&fills->cache->host);
    for (size_t i = 0; i < fills->n; i++) {
        struct one *one = &fills->ones[i];
        if (one->state == BROUGHT) {
            struct pln_l2_item item = aged(one, now);
            keys[n] = one->key;
            leases[n] = one->lease;
            items[n] = pln_life_shared(one->terms, &item);
            pln_compress_item(fills->cache, one->terms, &items[n], &packed[n]);
            n++;
        }
    }
    if (n == 0) {
        return;
    }
    pln_l2_commit_many(pln_cache_l2(fills->cache), keys, leases, items, n,
                       pln_cache_l2_deadline(fills->cache, PLN_FOREVER), statuses);
    for (size_t i = 0, at = 0; i < fills->n; i++) {
        if (fills->ones[i].state == BROUGHT) {
            free(packed[at]);
            finish(fills, &fills->ones[i], statuses[at++], now);
        }
    }
}

static void settle(struct pln_fills *fills) {
    store(fills);
    for (size_t i = 0; i < fills->n; i++) {
        struct one *one = &fills->ones[i];
        if (one->state == HELD) {
            /* should this fail the lease ends by itself */
            (void) pln_l2_release(pln_cache_l2(fills->cache), &one->key, &one->lease,
                                  pln_cache_l2_deadline(fills->cache, PLN_FOREVER));
            one->state = WANTED;
        }
    }
}

void pln_fills_end(struct pln_fills *fills) {
    if (fills != NULL) {
        *pln_own(PLN_OWN_FILLS) = NULL;
        settle(fills);
        free(fills);
    }
}

void pln_fills_yield(void) {
    struct pln_fills *fills = own();
    if (fills != NULL) {
        settle(fills);
    }
}
