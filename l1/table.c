/* SPDX-License-Identifier: MIT
 *
 * table.c - reading: where a key may be, who of its entries is the newest, what it says.
 *
 * The value of a key is the newest visible entry in its home half, or else in the away half
 * (rival.c says why that never goes back).
 *
 * A reader that finds a match at home returns it: at that moment it was the value. One that goes on
 * to the away half and finds a match there looks at home once more; if home is still empty the
 * match was the value at that second look, provided that it is visible after it (read_hit).
 * A reader may pass a slot before a new entry is linked there and come to the old one's slot after
 * that was emptied: a miss, as if the old one had been evicted before the new one was put, for the
 * put is still under way or began after the reader did.
 *
 * Every loop is over the slots of a bucket; retries are after another thread's success.
 */
#include "internal.h"

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    TAG_SHIFT = 48,
    READ_TRIES = 4,
    BATCH = 32, /* keys whose memory is asked for together */
};

#define ADDRESS_MASK (((uint64_t) 1 << TAG_SHIFT) - 1)

/* ---- places ---- */

/* The old table comes first: what is moved from it goes down in precedence, and is seen on its way
 * by whoever looks in this order. */
struct places pln_l1_places(const struct view *view, uint64_t hash) {
    struct places places = {.n = 0};
    if (view->old.n_buckets > 0) {
        struct bucket *bucket = pln_l1_bucket(&view->old, hash);
        places.halves[places.n++] = pln_l1_home(bucket, hash);
        places.halves[places.n++] = pln_l1_home(bucket, ~hash);
    }
    struct bucket *bucket = pln_l1_bucket(&view->present, hash);
    places.halves[places.n++] = pln_l1_home(bucket, hash);
    places.halves[places.n++] = pln_l1_home(bucket, ~hash);
    return places;
}

/* The slots of a half whose tag is that of a hash, one bit each; without a branch, so that a
 * processor may go on to the entry before it knows where it stood. Only a hint which slots to look
 * at: match() loads them anew. */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
/* The upper halves of four slots, each made a tag. */
static __m128i four_tags(const __m128i *slots) {
    __m128 low = _mm_castsi128_ps(_mm_load_si128(slots));
    __m128 high = _mm_castsi128_ps(_mm_load_si128(slots + 1));
    return _mm_srai_epi32(_mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1))), 16);
}

static inline unsigned tag_matches(const struct half *half, uint64_t hash) {
    const __m128i *slots = (const void *) half->slots;
    __m128i wanted = _mm_set1_epi16((short) (hash >> TAG_SHIFT));
    __m128i tags = _mm_packs_epi32(four_tags(slots), four_tags(slots + 2));
    __m128i equal = _mm_cmpeq_epi16(tags, wanted);
    return (unsigned) _mm_movemask_epi8(_mm_packs_epi16(equal, _mm_setzero_si128()));
}
#else
static inline unsigned tag_matches(const struct half *half, uint64_t hash) {
    unsigned matches = 0;
    for (unsigned i = 0; i < PLN_L1_HALF; i++) {
        /* relaxed: a hint */
        uint64_t slot = atomic_load_explicit(&half->slots[i], memory_order_relaxed);
        matches |= (unsigned) (((slot ^ hash) >> TAG_SHIFT) == 0) << i;
    }
    return matches;
}
#endif

/* Most keys are short: two words that may overlap, without a call. */
static bool is_same(const char *a, const char *b, size_t len) {
    uint64_t a_words[2], b_words[2];
    if (len < sizeof a_words[0] || len > sizeof a_words) {
        return memcmp(a, b, len) == 0;
    }
    memcpy(&a_words[0], a, sizeof a_words[0]);
    memcpy(&b_words[0], b, sizeof b_words[0]);
    memcpy(&a_words[1], a + len - sizeof a_words[1], sizeof a_words[1]);
    memcpy(&b_words[1], b + len - sizeof b_words[1], sizeof b_words[1]);
    return ((a_words[0] ^ b_words[0]) | (a_words[1] ^ b_words[1])) == 0;
}

/* The entry of a slot if it is of this key, else NULL. */
static inline struct entry *match(const struct half *half, unsigned at,
                                  const struct pln_hashed *key) {
    PLN_POINT(match);
    /* P1 acquire: pairs with link_at */
    uint64_t slot = atomic_load_explicit(&half->slots[at], memory_order_acquire);
    if (slot == 0 || ((slot ^ key->hash) & ~ADDRESS_MASK) != 0) {
        return NULL;
    }
    struct entry *entry = pln_l1_slot_entry(slot);
    __builtin_prefetch((const char *) entry + PLN_CACHE_LINE);
    __builtin_prefetch((const char *) entry + 2 * PLN_CACHE_LINE);
    struct pln_bytes found = pln_l1_key(entry);
    return found.len == key->key.len && is_same(found.data, key->key.data, found.len) ? entry
                                                                                      : NULL;
}

unsigned pln_l1_tag_matches(const struct half *half, uint64_t hash) {
    return tag_matches(half, hash);
}

struct entry *pln_l1_match(const struct half *half, unsigned at, const struct pln_hashed *key) {
    return match(half, at, key);
}

/* ---- versions ---- */

static uint32_t give_version(struct pln_l1 *l1, uint64_t hash, struct entry *entry) {
    _Atomic uint32_t *counter = &l1->versions[hash % PLN_L1_VERSIONS];
    uint32_t version, present = 0;
    do { /* twice at most: 0 means none */
        /* P9 release and P9 acquire: all links before it, all searches after it. no test: x86 */
        version = atomic_fetch_add_explicit(counter, 1, memory_order_acq_rel) + 1;
    } while (version == 0);
    /* P9 release: who gets a version from us has it after what was linked before. P9 acquire, on
     * failure too: the same, where somebody else gave it. no test: x86 */
    return atomic_compare_exchange_strong_explicit(&entry->stamp, &present, version,
                                                   memory_order_acq_rel, memory_order_acquire)
               ? version
               : present;
}

/* An entry's version; 0 where it is settled, and older than all that have one. */
uint32_t pln_l1_version_of(struct pln_l1 *l1, uint64_t hash, struct entry *entry) {
    /* P9 acquire: pairs with give_version. no test: x86 */
    uint32_t stamp = atomic_load_explicit(&entry->stamp, memory_order_acquire);
    /* P10 acquire: not a time in its place; pairs with settle. no test: fence */
    atomic_thread_fence(memory_order_acquire);
    if ((pln_l1_state(entry) & ENTRY_SETTLED) != 0) {
        return 0;
    }
    return stamp != 0 ? stamp : give_version(l1, hash, entry);
}

/* ---- what an entry says ---- */

static inline uint32_t generation_of(const struct pln_l1 *l1) {
    /* P5 acquire: pairs with pln_l1_set_generation. no test: x86 */
    return atomic_load_explicit(&l1->generation, memory_order_acquire);
}

static bool is_marked(const struct pln_l1 *l1, const struct entry *entry) {
    uint64_t stamp;
    uint16_t mark;
    const char *at = (const char *) entry + entry->value.offset + entry->value.len;
    memcpy(&stamp, at, sizeof stamp);
    at += sizeof stamp;
    for (size_t i = 0; i < entry->n_marks; i++, at += sizeof mark) {
        memcpy(&mark, at, sizeof mark);
        /* acquire, no pair in this folder: the caller raises marks; see l1.h. no test: x86 */
        if (atomic_load_explicit(&l1->marks[mark], memory_order_acquire) > stamp) {
            return true;
        }
    }
    return false;
}

bool pln_l1_is_served(const struct pln_l1 *l1, uint32_t generation) {
    uint32_t present = generation_of(l1);
    return generation == present || (present % 2 == 1 && generation == present - 1);
}

/* By how many generations an entry is behind; more than it may be where it is of a dropped one. The
 * low half is enough: pln_l1_set_generation ends what a later one could be taken for. */
static inline uint32_t behind(const struct entry *entry, uint32_t present) {
    return (uint16_t) (present - entry->generation);
}

/* What few entries say beside what all do; false where the entry is gone. What is stale is due for
 * refresh: an expiry in the middle of a prolongation leaves it a point of refresh that is later. */
static __attribute__((noinline)) bool read_extra(const struct pln_l1 *l1, const struct entry *entry,
                                                 pln_ms now, struct pln_l1_hit *hit) {
    /* relaxed both: the state, looked at afterwards, decides whether they count */
    pln_ms refresh = atomic_load_explicit(&entry->refresh, memory_order_relaxed);
    hit->life.refresh = refresh < hit->life.stale ? refresh : hit->life.stale;
    hit->life.end = atomic_load_explicit(&entry->end, memory_order_relaxed);
    return now < hit->life.end && (entry->n_marks == 0 || !is_marked(l1, entry));
}

/* Copies what a hit says; false where the entry is gone: past its end, of a dropped generation, or
 * with a mark against it. */
static inline bool read_hit(const struct pln_l1 *l1, const struct entry *entry, pln_ms now,
                            struct pln_l1_hit *hit) {
    PLN_POINT(found);
    /* relaxed: the state, looked at afterwards, decides whether it counts */
    uint64_t times = atomic_load_explicit(&entry->times, memory_order_relaxed);
    uint32_t present = generation_of(l1), dropped = behind(entry, present);
    pln_ms stale = pln_l1_unpack_stale(times);
    hit->life.created = pln_l1_unpack_created(times);
    hit->kept_as = (uint32_t) (times & PLN_MADE_MASK); /* few ask what step that is */
    hit->life.refresh = stale;
    hit->life.stale = stale;
    hit->life.end = stale;
    hit->len = entry->value.len;
    hit->generation = present - dropped;
    hit->format = entry->value.format;
    if (__builtin_expect(dropped > (present & 1), 0)) {
        return false;
    }
    return __builtin_expect(pln_l1_has_extra(entry), 0) ? read_extra(l1, entry, now, hit)
                                                        : now < stale;
}

bool pln_l1_is_gone(const struct pln_l1 *l1, const struct entry *entry, pln_ms now) {
    struct pln_l1_hit hit;
    return !read_hit(l1, entry, now, &hit);
}

/* ---- finding ---- */

static __attribute__((noinline)) struct entry *newer_of(struct pln_l1 *l1, uint64_t hash,
                                                        struct entry *a, struct entry *b) {
    uint32_t version_a = pln_l1_version_of(l1, hash, a), version_b = pln_l1_version_of(l1, hash, b);
    if (version_a == 0 || version_b == 0) {
        /* both settled: one was ended since it was seen */
        return version_b != 0 || !pln_l1_is_visible(pln_l1_state(a)) ? b : a;
    }
    return pln_l1_is_newer(version_b, version_a) ? b : a;
}

static inline struct entry *newest_in(struct pln_l1 *l1, const struct half *half,
                                      const struct pln_hashed *key) {
    struct entry *newest = NULL;
    for (unsigned left = tag_matches(half, key->hash); left != 0; left &= left - 1) {
        struct entry *entry = match(half, (unsigned) __builtin_ctz(left), key);
        if (entry != NULL && pln_l1_is_visible(pln_l1_state(entry))) {
            newest = newest == NULL ? entry : newer_of(l1, key->hash, newest, entry);
        }
    }
    return newest;
}

/* The newest of the first of `n` places that has one; *at tells which. */
static struct entry *first_in(struct pln_l1 *l1, const struct places *places, unsigned n,
                              const struct pln_hashed *key, unsigned *at) {
    for (*at = 0; *at < n; ++*at) {
        PLN_POINT(place);
        struct entry *entry = newest_in(l1, places->halves[*at], key);
        if (entry != NULL) {
            return entry;
        }
    }
    return NULL;
}

/* Not at home, or there are two tables. Each further try is after another thread's success. */
static __attribute__((noinline)) struct entry *find_elsewhere(struct pln_l1 *l1,
                                                              const struct pln_hashed *key) {
    for (int i = 0; i < READ_TRIES; i++) {
        unsigned at, above;
        const struct view *view = pln_l1_view(l1);
        PLN_POINT(viewed);
        struct places places = pln_l1_places(view, key->hash);
        struct entry *entry = first_in(l1, &places, places.n, key, &at);
        bool is_value = entry != NULL &&
                        PLN_RECHECK(first_in(l1, &places, at, key, &above) == NULL);
        /* a table that came meanwhile may have taken the key's entry over */
        if (is_value || (entry == NULL && PLN_RECHECK(pln_l1_view(l1) == view))) {
            return entry;
        }
    }
    return NULL;
}

/* Linearization: the load of the state of the match at home, or the second look at home. Wait-free:
 * a bounded number of looks at the slots. */
struct entry *pln_l1_find(struct pln_l1 *l1, const struct pln_hashed *key) {
    const struct view *view = pln_l1_view(l1);
    if (view->old.n_buckets == 0) {
        const struct bucket *bucket = pln_l1_bucket(&view->present, key->hash);
        struct entry *entry = newest_in(l1, pln_l1_home(bucket, key->hash), key);
        if (entry != NULL) {
            return entry;
        }
    }
    return find_elsewhere(l1, key);
}

/* The same where it is easy, as it is for most: one slot at home has the tag, and it is the key's.
 * NULL says nothing. */
static inline struct entry *find_alone(const struct pln_l1 *l1, const struct pln_hashed *key) {
    const struct view *view = pln_l1_view(l1);
    if (view->old.n_buckets > 0) {
        return NULL;
    }
    const struct half *home = pln_l1_home(pln_l1_bucket(&view->present, key->hash), key->hash);
    unsigned matches = tag_matches(home, key->hash);
    if (matches == 0 || (matches & (matches - 1)) != 0) {
        return NULL;
    }
    struct entry *entry = match(home, (unsigned) __builtin_ctz(matches), key);
    return entry != NULL && pln_l1_is_visible(pln_l1_state(entry)) ? entry : NULL;
}

/* True where an entry is still visible after it was read: what was read is of it then. */
static inline bool is_still_visible(const struct entry *entry, struct pln_l1_hit *hit,
                                    uint8_t *state) {
    /* P3 acquire: not an address in the place of its times; pairs with pln_l1_retire. no test:
     * fence */
    atomic_thread_fence(memory_order_acquire);
    *state = pln_l1_state(entry);
    hit->is_absent = (*state & ENTRY_ABSENT) != 0;
    return PLN_RECHECK(pln_l1_is_visible(*state));
}

/* An entry that dies while it is read is looked for anew: its successor may be there; a bounded
 * number of times. */
static __attribute__((noinline)) struct entry *look_on(struct pln_l1 *l1,
                                                       const struct pln_hashed *key, pln_ms now,
                                                       struct pln_l1_hit *hit, uint8_t *state) {
    for (int i = 0; i < READ_TRIES; i++) {
        struct entry *entry = pln_l1_find(l1, key);
        if (entry == NULL || !read_hit(l1, entry, now, hit)) {
            return NULL;
        }
        if (is_still_visible(entry, hit, state)) {
            return entry;
        }
    }
    return NULL;
}

static inline struct entry *look_up(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                                    struct pln_l1_hit *hit, uint8_t *state) {
    struct entry *entry = find_alone(l1, key);
    if (__builtin_expect(entry == NULL, 0)) {
        return look_on(l1, key, now, hit, state);
    }
    if (!read_hit(l1, entry, now, hit)) {
        return NULL;
    }
    return __builtin_expect(is_still_visible(entry, hit, state), 1)
               ? entry
               : look_on(l1, key, now, hit, state);
}

struct entry *pln_l1_look_up(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                             struct pln_l1_hit *hit) {
    uint8_t state;
    return look_up(l1, key, now, hit, &state);
}

/* ---- reading ---- */

/* A hit's only store to what others see, at most once a tick and entry (see pln_l1_set_tick). */
static inline void touch(struct pln_l1 *l1, struct thread_record *record, uint64_t hash,
                         struct entry *entry, uint8_t state, pln_ms now, unsigned flags) {
    if ((flags & PLN_L1_QUIET) != 0) {
        return;
    }
    if (l1->hot != NULL) {
        pln_hot_hit(l1->hot, &record->turn, hash);
    }
    /* relaxed each: a guess for eviction. Not settled: the stamp is a version */
    uint32_t tick = atomic_load_explicit(&l1->tick, memory_order_relaxed);
    uint32_t age = (uint32_t) now - atomic_load_explicit(&entry->stamp, memory_order_relaxed);
    if (l1->eviction == PLN_L1_ADAPTIVE) {
        pln_l1_adapt_hit(l1, entry, age);
    } else if (l1->eviction != PLN_L1_LRU) {
        return;
    }
    if (age > tick && (state & ENTRY_SETTLED) != 0) {
        /* relaxed: as above */
        atomic_store_explicit(&entry->stamp, (uint32_t) now, memory_order_relaxed);
    }
}

int pln_l1_get(struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now, unsigned flags,
               void *buffer, size_t size, struct pln_l1_hit *hit) {
    struct thread_record *record = pln_l1_record(l1);
    if (record == NULL) {
        return PLN_MISS;
    }
    pln_l1_enter(l1, record);
    uint8_t state;
    struct entry *entry = look_up(l1, key, now, hit, &state);
    if (entry != NULL) {
        touch(l1, record, key->hash, entry, state, now, flags);
        size_t n = hit->len < size ? hit->len : size;
        if (n > 0) {
            memcpy(buffer, (const char *) entry + entry->value.offset, n);
        }
    }
    pln_l1_leave(record);
    return entry != NULL ? PLN_OK : PLN_MISS;
}

static inline int borrow(struct pln_l1 *l1, struct thread_record *record,
                         const struct pln_hashed *key, pln_ms now, unsigned flags,
                         struct pln_l1_hit *hit, struct pln_value **value) {
    uint8_t state;
    struct entry *entry = look_up(l1, key, now, hit, &state);
    if (entry == NULL) {
        return PLN_MISS;
    }
    touch(l1, record, key->hash, entry, state, now, flags);
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
    int status = borrow(l1, record, key, now, flags, hit, value);
    pln_l1_leave(record);
    return status;
}

void pln_l1_release(struct pln_l1 *l1, struct pln_value *value) {
    assert(value->home == PLN_HOME_L1);
    pln_l1_unref(l1, PLN_CONTAINER_OF(value, struct entry, value));
}

static const struct half *home_of(const struct pln_l1 *l1, const struct pln_hashed *key) {
    return pln_l1_home(pln_l1_bucket(&pln_l1_view(l1)->present, key->hash), key->hash);
}

/* Asks for the first lines of the entry that a key's tag points to. */
static void prefetch_entry(const struct pln_l1 *l1, const struct pln_hashed *key) {
    const struct half *home = home_of(l1, key);
    for (size_t i = 0; i < PLN_L1_HALF; i++) {
        /* relaxed: only an address to ask for */
        uint64_t slot = atomic_load_explicit(&home->slots[i], memory_order_relaxed);
        if (((slot ^ key->hash) >> 48) == 0) {
            const char *entry = (const char *) pln_l1_slot_entry(slot);
            __builtin_prefetch(entry);
            __builtin_prefetch(entry + PLN_CACHE_LINE);
            __builtin_prefetch(entry + 2 * PLN_CACHE_LINE);
        }
    }
}

void pln_l1_borrow_many(struct pln_l1 *l1, const struct pln_hashed *keys, size_t n, pln_ms now,
                        struct pln_l1_hit *hits, struct pln_value **values, int *statuses) {
    struct thread_record *record = pln_l1_record(l1);
    for (size_t begin = 0; begin < n; begin += BATCH) {
        size_t end = begin + BATCH < n ? begin + BATCH : n;
        for (size_t i = begin; i < end; i++) {
            statuses[i] = PLN_MISS;
        }
        if (record == NULL) {
            continue;
        }
        pln_l1_enter(l1, record);
        for (size_t i = begin; i < end; i++) {
            __builtin_prefetch(home_of(l1, &keys[i]));
        }
        for (size_t i = begin; i < end; i++) {
            prefetch_entry(l1, &keys[i]);
        }
        for (size_t i = begin; i < end; i++) {
            statuses[i] = borrow(l1, record, &keys[i], now, 0, &hits[i], &values[i]);
        }
        pln_l1_leave(record);
    }
}
