/* SPDX-License-Identifier: MIT
 *
 * shared.c - numbers by name that the functions of a policy share, whichever worker they run on.
 *
 * A table of fixed size with open addressing. A name's place is given once, by a compare-and-swap,
 * and never given back before the cache is closed: so who found it may use it without a lock, and
 * a forked child finds the table whole. That is why the names are bounded.
 */
#include "hosts.h"

/* A power of two; half of them stay empty, so that looks are short. */
enum { N_PLACES = 2 * PLN_MAX_SHARED };

struct number {
    _Atomic int64_t value;
    size_t len;
    char name[];
};

struct pln_shared {
    _Atomic uint32_t n;
    _Atomic(struct number *) places[N_PLACES];
};

int pln_shared_new(struct pln_shared **shared) {
    *shared = calloc(1, sizeof **shared);
    return *shared != NULL ? PLN_OK : pln_fail(PLN_ENOMEM, "open: no memory for shared numbers");
}

void pln_shared_free(struct pln_shared *shared) {
    for (size_t i = 0; shared != NULL && i < N_PLACES; i++) {
        /* relaxed: nobody else is there any more */
        free(atomic_load_explicit(&shared->places[i], memory_order_relaxed));
    }
    free(shared);
}

static struct number *new_number(struct pln_bytes name) {
    struct number *created = malloc(sizeof *created + name.len);
    if (created != NULL) {
        atomic_init(&created->value, 0);
        created->len = name.len;
        memcpy(created->name, name.data, name.len);
    }
    return created;
}

/* Where the name is, or would be; *number is NULL there. The table is never full. */
static size_t find(struct pln_shared *shared, uint64_t hash, struct pln_bytes name,
                   struct number **number) {
    size_t i = hash & (N_PLACES - 1);
    for (;; i = (i + 1) & (N_PLACES - 1)) {
        /* S1 acquire: pairs with add(): the name is whole */
        *number = atomic_load_explicit(&shared->places[i], memory_order_acquire);
        if (*number == NULL ||
            pln_bytes_equal(pln_bytes_of((*number)->name, (*number)->len), name)) {
            return i;
        }
    }
}

/* Adds a name that was not found. Whoever loses the place to another looks on from there. */
static int add(struct pln_shared *shared, uint64_t hash, struct pln_bytes name,
               struct number **number) {
    /* relaxed, likewise below: a count, which orders nothing */
    if (atomic_fetch_add_explicit(&shared->n, 1, memory_order_relaxed) >= PLN_MAX_SHARED) {
        atomic_fetch_sub_explicit(&shared->n, 1, memory_order_relaxed);
        return pln_fail(PLN_EBUSY, "shared: a cache has at most %d names", PLN_MAX_SHARED);
    }
    struct number *created = new_number(name);
    while (created != NULL) {
        struct number *found;
        size_t i = find(shared, hash, name, &found);
        /* S1 release: the name before its place; pairs with find() */
        if (found == NULL &&
            atomic_compare_exchange_strong_explicit(&shared->places[i], &found, created,
                                                    memory_order_release, memory_order_relaxed)) {
            *number = created;
            return PLN_OK;
        }
        if (found != NULL && pln_bytes_equal(pln_bytes_of(found->name, found->len), name)) {
            break;
        }
    }
    atomic_fetch_sub_explicit(&shared->n, 1, memory_order_relaxed); /* relaxed: as above */
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "shared: no memory for a name");
    }
    free(created);
    find(shared, hash, name, number);
    return PLN_OK;
}

/* Finds the name's number; makes it where `is_wanted`, else *number may be NULL. */
static int look(struct pln_cache *cache, struct pln_bytes name, bool is_wanted,
                struct number **number) {
    if (name.len == 0 || name.len > PLN_MAX_SHARED_NAME) {
        return pln_fail(PLN_EINVAL, "shared: a name of %zu bytes, must be 1 to %d", name.len,
                        PLN_MAX_SHARED_NAME);
    }
    uint64_t hash = pln_hash(name, cache->seed);
    find(cache->shared, hash, name, number);
    return *number != NULL || !is_wanted ? PLN_OK : add(cache->shared, hash, name, number);
}

int pln_shared_add(struct pln_cache *cache, struct pln_bytes name, int64_t by, int64_t *sum) {
    struct number *number;
    int status = look(cache, name, true, &number);
    if (status == PLN_OK) {
        /* relaxed: the number alone is shared, and nothing with it */
        int64_t before = atomic_fetch_add_explicit(&number->value, by, memory_order_relaxed);
        *sum = (int64_t) ((uint64_t) before + (uint64_t) by);
    }
    return status;
}

int pln_shared_get(struct pln_cache *cache, struct pln_bytes name, int64_t *value) {
    struct number *number;
    int status = look(cache, name, false, &number);
    if (status == PLN_OK) {
        /* relaxed: as in pln_shared_add() */
        *value = number == NULL ? 0 : atomic_load_explicit(&number->value, memory_order_relaxed);
    }
    return status;
}

int pln_shared_set(struct pln_cache *cache, struct pln_bytes name, int64_t value) {
    struct number *number;
    int status = look(cache, name, true, &number);
    if (status == PLN_OK) {
        /* relaxed: as in pln_shared_add() */
        atomic_store_explicit(&number->value, value, memory_order_relaxed);
    }
    return status;
}
