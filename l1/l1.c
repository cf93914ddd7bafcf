/* SPDX-License-Identifier: MIT
 *
 * l1.c - the facade: limits, sections, the two-phase store, sweep and iteration.
 *
 * Each operation is: the thread's record, a section, a few calls into table.c. No section is held
 * across a caller's code, but for the check of a put and the visit of an iteration, which must not
 * use the table.
 */
#include "internal.h"

#include <errno.h>
#include <malloc.h>
#include <sys/mman.h>

enum {
    /* One slot for so many bytes of budget: with entries of 100-byte values (some 180 bytes here)
     * the buckets are then 7 in 10 full and 4 % of the budget is slots. */
    BYTES_PER_SLOT = 144,
    WAITING_SHARE = 20, /* a 20th of the budget may wait for readers */
    WAITING_LEAST = 32768,
    BATCH = 32, /* keys whose memory is asked for together */
};

/* ---- life ---- */

static int map_table(struct pln_l1 *l1) {
    size_t n = l1->max_bytes / BYTES_PER_SLOT / PLN_L1_SLOTS;
    l1->n_buckets = n > 0 ? n : 1;
    l1->map_bytes = l1->n_buckets * sizeof(struct bucket);
    /* pages: aligned for any bucket, zeroed, and counted whole since hashing touches them all */
    void *table = mmap(NULL, l1->map_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
                       0);
    if (table == MAP_FAILED) {
        l1->buckets = NULL;
        return pln_fail(PLN_ENOMEM, "l1: no memory for a table of %zu bytes", l1->map_bytes);
    }
    madvise(table, l1->map_bytes, MADV_HUGEPAGE); /* where the system grants them */
    l1->buckets = table;
    l1->table_bytes = l1->map_bytes + sizeof *l1;
    return PLN_OK;
}

int pln_l1_new(const struct pln_l1_options *options, struct pln_l1 **l1) {
    struct pln_l1 *created = aligned_alloc(128, (sizeof *created + 127) / 128 * 128);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory");
    }
    assert(options->counts != NULL);
    memset(created, 0, sizeof *created);
    created->max_bytes = options->max_bytes;
    created->max_item_bytes = options->max_item_bytes;
    created->max_waiting_bytes = options->max_bytes / WAITING_SHARE > WAITING_LEAST
                                     ? options->max_bytes / WAITING_SHARE
                                     : WAITING_LEAST;
    created->eviction = options->eviction;
    created->counts = options->counts;
    created->marks = options->marks;
    int status = map_table(created);
    if (status == PLN_OK &&
        created->table_bytes + created->max_waiting_bytes >= options->max_bytes) {
        status = pln_fail(PLN_EINVAL, "l1: a budget of %zu bytes leaves nothing for entries",
                          options->max_bytes);
    }
    if (status == PLN_OK) {
        status = pln_l1_epoch_init(created);
    }
    if (status < 0) {
        if (created->buckets != NULL) {
            munmap(created->buckets, created->map_bytes);
        }
        free(created);
        return status;
    }
    *l1 = created;
    return PLN_OK;
}

void pln_l1_free(struct pln_l1 *l1) {
    if (l1 == NULL) {
        return;
    }
    pln_l1_epoch_fini(l1);
    for (size_t i = 0; i < l1->n_buckets * PLN_L1_SLOTS; i++) {
        /* relaxed: no other thread uses the table any more */
        free(pln_l1_slot_entry(atomic_load_explicit(
            &l1->buckets[i / PLN_L1_SLOTS].slots[i % PLN_L1_SLOTS], memory_order_relaxed)));
    }
    /* a value that is still lent would be read after this */
    assert(atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed) == 0);
    munmap(l1->buckets, l1->map_bytes);
    free(l1);
}

uint32_t pln_l1_generation(const struct pln_l1 *l1) {
    /* P5 acquire: pairs with pln_l1_set_generation */
    return atomic_load_explicit(&l1->generation, memory_order_acquire);
}

void pln_l1_set_generation(struct pln_l1 *l1, uint32_t generation) {
    /* P5 release: pairs with pln_l1_generation */
    atomic_store_explicit(&l1->generation, generation, memory_order_release);
    /* seq_cst: before any look at entries that follows, as in a remove (store, then load) */
    atomic_thread_fence(memory_order_seq_cst);
}

/* ---- reading ---- */

/* A hit's only store, at most once a tick and entry. */
static void touch(struct entry *entry, pln_ms now, unsigned flags) {
    /* relaxed both: a guess for eviction */
    if ((flags & PLN_L1_QUIET) == 0 &&
        atomic_load_explicit(&entry->touched, memory_order_relaxed) != (uint32_t) now) {
        atomic_store_explicit(&entry->touched, (uint32_t) now, memory_order_relaxed);
    }
}

int pln_l1_get(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
               void *buffer, size_t size, struct pln_l1_hit *hit) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return PLN_MISS;
    }
    __builtin_prefetch(pln_l1_bucket(l1, key->hash));
    __builtin_prefetch((const char *) pln_l1_bucket(l1, key->hash) + PLN_CACHE_LINE);
    pln_l1_enter(l1, record);
    struct entry *entry = pln_l1_look_up(l1, key, now, hit);
    if (entry != NULL) {
        touch(entry, now, flags);
        size_t n = hit->len < size ? hit->len : size;
        if (n > 0) {
            memcpy(buffer, entry->bytes + pln_l1_key_len(entry), n);
        }
    }
    pln_l1_leave(record);
    return entry != NULL ? PLN_OK : PLN_MISS;
}

static int borrow(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
                  struct pln_l1_hit *hit, struct pln_value **value) {
    struct entry *entry = pln_l1_look_up(l1, key, now, hit);
    if (entry == NULL) {
        return PLN_MISS;
    }
    touch(entry, now, flags);
    pln_value_ref(&entry->value); /* the table's own reference lasts as long as this section */
    *value = &entry->value;
    return PLN_OK;
}

int pln_l1_borrow(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
                  struct pln_l1_hit *hit, struct pln_value **value) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return PLN_MISS;
    }
    pln_l1_enter(l1, record);
    int status = borrow(l1, key, now, flags, hit, value);
    pln_l1_leave(record);
    return status;
}

void pln_l1_release(struct pln_l1 *l1, struct pln_value *value) {
    assert(value->home == PLN_HOME_L1);
    pln_l1_unref(l1, PLN_CONTAINER_OF(value, struct entry, value));
}

/* Asks for the first line of the entry that a key's tag points to. */
static void prefetch_entry(const struct pln_l1 *l1, const struct pln_hashed *key) {
    const struct bucket *bucket = pln_l1_bucket(l1, key->hash);
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* relaxed: only an address to ask for */
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
        if (((slot ^ key->hash) >> 48) == 0) {
            __builtin_prefetch(pln_l1_slot_entry(slot));
            __builtin_prefetch((const char *) pln_l1_slot_entry(slot) + PLN_CACHE_LINE);
        }
    }
}

void pln_l1_borrow_many(struct pln_l1 *l1, const struct pln_hashed *keys, size_t n, pln_ms now,
                        struct pln_l1_hit *hits, struct pln_value **values, int *statuses) {
    struct thread_record *record = pln_l1_record(l1);
    for (size_t begin = 0; begin < n; begin += BATCH) {
        size_t end = begin + BATCH < n ? begin + BATCH : n;
        for (size_t i = begin; i < end; i++) {
            const char *bucket = (const char *) pln_l1_bucket(l1, keys[i].hash);
            __builtin_prefetch(bucket);
            __builtin_prefetch(bucket + PLN_CACHE_LINE);
            statuses[i] = PLN_MISS;
        }
        if (record == NULL) {
            continue;
        }
        pln_l1_enter(l1, record);
        for (size_t i = begin; i < end; i++) {
            prefetch_entry(l1, &keys[i]);
        }
        for (size_t i = begin; i < end; i++) {
            statuses[i] = borrow(l1, &keys[i], now, 0, &hits[i], &values[i]);
        }
        pln_l1_leave(record);
    }
}

/* ---- storing ---- */

static struct entry *entry_new(const struct pln_hashed *key, const struct pln_l1_item *item,
                               pln_ms now) {
    size_t marks_bytes = item->n_marks > 0
                             ? sizeof item->mark_stamp + item->n_marks * sizeof *item->marks
                             : 0;
    size_t data_bytes = key->key.len + item->value.len;
    struct entry *entry = malloc(offsetof(struct entry, bytes) + data_bytes + marks_bytes);
    if (entry == NULL) {
        return NULL;
    }
    atomic_init(&entry->value.refs, 1);
    entry->value.len = (uint32_t) item->value.len;
    entry->value.offset = (uint16_t) (offsetof(struct entry, bytes) + key->key.len);
    entry->value.format = item->format;
    entry->value.home = PLN_HOME_L1;
    atomic_init(&entry->created, item->life.created);
    pln_l1_write_times(entry, &item->life);
    atomic_init(&entry->touched, (uint32_t) now);
    atomic_init(&entry->version, 0);
    entry->generation = item->generation;
    atomic_init(&entry->state, ENTRY_PENDING);
    entry->n_marks = item->n_marks;
    entry->cost = item->cost;
    entry->is_absent = item->is_absent;
    memcpy(entry->bytes, key->key.data, key->key.len);
    if (item->value.len > 0) {
        memcpy(entry->bytes + key->key.len, item->value.data, item->value.len);
    }
    if (marks_bytes > 0) {
        char *at = entry->bytes + data_bytes;
        memcpy(at, &item->mark_stamp, sizeof item->mark_stamp);
        memcpy(at + sizeof item->mark_stamp, item->marks, item->n_marks * sizeof *item->marks);
    }
    return entry;
}

/* Makes a linked entry visible, unless the check or a remove forbids it.
 * Linearization: the exchange of the state. */
static bool show(struct entry *entry, pln_l1_check check, const void *check_arg) {
    /* seq_cst: the link before the look at the stamp (store, then load); pairs with the fence of
     * whoever raises the stamp before it looks for entries */
    atomic_thread_fence(memory_order_seq_cst);
    PLN_POINT(fenced);
    if (check != NULL && !check(check_arg)) {
        return false;
    }
    PLN_POINT(checked);
    uint8_t pending = ENTRY_PENDING;
    /* P2 release: version and bytes before VISIBLE; pairs with state_of. relaxed on failure: it is
     * dead, nothing of it is used */
    return atomic_compare_exchange_strong_explicit(&entry->state, &pending, ENTRY_VISIBLE,
                                                   memory_order_release, memory_order_relaxed);
}

/* Links, checks and shows; false where it was withdrawn. Inside a section. */
static int store(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                 struct entry *entry, pln_ms now, pln_l1_check check, const void *check_arg) {
    struct bucket *bucket = pln_l1_bucket(l1, key->hash);
    size_t bytes = pln_l1_entry_bytes(entry);
    int status = pln_l1_make_room(l1, record, bucket, bytes, now);
    if (status == PLN_OK) {
        /* relaxed both: sums. Before the link: from then on others may retire it */
        atomic_fetch_add_explicit(&l1->live_bytes, bytes, memory_order_relaxed);
        atomic_fetch_add_explicit(&l1->entries, 1, memory_order_relaxed);
        status = pln_l1_link(l1, record, key, entry, now);
        if (status < 0) {
            atomic_fetch_sub_explicit(&l1->live_bytes, bytes, memory_order_relaxed);
            atomic_fetch_sub_explicit(&l1->entries, 1, memory_order_relaxed);
        }
    }
    if (status < 0) {
        free(entry);
        return status;
    }
    if (!show(entry, check, check_arg)) {
        pln_l1_withdraw(l1, record, bucket, entry);
        return PLN_NOT_STORED;
    }
    PLN_POINT(visible);
    unsigned n_older = pln_l1_kill_key(l1, record, key, entry, PLN_COUNT_L1_REPLACES);
    if (n_older == 0) {
        pln_count(l1->counts, PLN_COUNT_L1_INSERTS, 1);
    }
    return PLN_OK;
}

int pln_l1_put(struct pln_l1 *l1, const struct pln_hashed *key, const struct pln_l1_item *item,
               pln_ms now, pln_l1_check check, const void *check_arg) {
    assert(key->key.len <= PLN_MAX_KEY && item->n_marks <= PLN_MAX_TAGS);
    if (item->value.len > l1->max_item_bytes || item->value.len > UINT32_MAX) {
        pln_count(l1->counts, PLN_COUNT_L1_REFUSALS, 1);
        return pln_fail(PLN_ETOOBIG, "l1: a value of %zu bytes, at most %zu", item->value.len,
                        l1->max_item_bytes);
    }
    if (check != NULL && !check(check_arg)) {
        return PLN_NOT_STORED;
    }
    struct thread_record *record = pln_l1_record(l1);
    struct entry *entry = record != NULL ? entry_new(key, item, now) : NULL;
    if (entry == NULL) {
        pln_count(l1->counts, PLN_COUNT_L1_REFUSALS, 1);
        return pln_fail(PLN_ENOMEM, "l1: no memory for a value of %zu bytes", item->value.len);
    }
    pln_l1_enter(l1, record);
    int status = store(l1, record, key, entry, now, check, check_arg);
    pln_l1_leave(record);
    if (status < 0) {
        pln_count(l1->counts, PLN_COUNT_L1_REFUSALS, 1);
    }
    /* relaxed: a sum; a quarter of what may wait is time to look */
    if (atomic_load_explicit(&l1->waiting_bytes, memory_order_relaxed) >
        l1->max_waiting_bytes / 4) {
        pln_l1_reclaim(l1);
    }
    return status;
}

int pln_l1_remove(struct pln_l1 *l1, const struct pln_hashed *key) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return pln_fail(PLN_ENOMEM, "l1: no memory to look for a key that is to be removed");
    }
    pln_l1_enter(l1, record);
    /* seq_cst: the caller's raised stamp before this search (store, then load); pairs with show */
    atomic_thread_fence(memory_order_seq_cst);
    unsigned n = pln_l1_kill_key(l1, record, key, NULL, PLN_COUNT_L1_REMOVES);
    pln_l1_leave(record);
    return n > 0 ? PLN_OK : PLN_MISS;
}
