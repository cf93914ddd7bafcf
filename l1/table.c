/* SPDX-License-Identifier: MIT
 *
 * table.c - buckets: find, link, kill and unlink, each with its argument.
 *
 * An entry never moves: it is linked into one slot, lives there, and is unlinked from it. Its state
 * goes PENDING -> VISIBLE -> DEAD, or PENDING -> DEAD; DEAD is for good.
 *
 * One key, one value. While a key is replaced two entries of it are linked. Each is given a version
 * after it was linked and before it becomes visible, from a counter that only grows, and
 *
 *   - a reader takes the newest of the visible matches of a bucket,
 *   - whoever ends an entry first ends the older ones of its key, oldest first.
 *
 * So an older value can never show again: when an entry of version v is ended, every entry with a
 * lower version had been linked before (a version is taken after linking), so the search that
 * precedes the ending has seen it. Two racing puts take effect in the order of their versions; the
 * one that becomes visible second with the lower version was overwritten in the moment it took
 * effect. After Michael's hazard of reuse: addresses cannot come back while a section lasts.
 *
 * A reader that passes a slot before a new entry is linked there, and the old one's slot after that
 * was emptied, finds nothing: a miss, as if the old entry had been evicted a moment earlier.
 *
 * Every loop is over the 16 slots of a bucket; the only retries are after another thread's success.
 */
#include "internal.h"

#include <malloc.h>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif
#if defined(__SSE2__)
#include <emmintrin.h>
#endif

enum {
    TAG_SHIFT = 48,
    READ_TRIES = 4,
    LINK_TRIES = 64, /* each failed try is another thread's success on this bucket */
};

#define ADDRESS_MASK (((uint64_t) 1 << TAG_SHIFT) - 1)

struct bucket *pln_l1_bucket(const struct pln_l1 *l1, uint64_t hash) {
    return &l1->buckets[((hash & UINT32_MAX) * l1->n_buckets) >> 32];
}

static uint64_t slot_of(const struct entry *entry, uint64_t hash) {
    return (uint64_t) (uintptr_t) entry | (hash & ~ADDRESS_MASK);
}

struct entry *pln_l1_slot_entry(uint64_t slot) {
    return (struct entry *) (uintptr_t) (slot & ADDRESS_MASK);
}

static _Atomic uint32_t *version_counter(struct pln_l1 *l1, const struct bucket *bucket) {
    return &l1->versions[(size_t) (bucket - l1->buckets) % PLN_L1_VERSIONS];
}

/* Versions wrap: of two in one bucket the newer is less than 2^31 ahead. */
static bool is_newer(uint32_t a, uint32_t b) {
    return (int32_t) (a - b) > 0;
}

size_t pln_l1_entry_bytes(const struct entry *entry) {
    return malloc_usable_size((void *) (uintptr_t) entry) + sizeof(size_t);
}

static uint8_t state_of(const struct entry *entry) {
    /* P2 acquire: version and everything else of a VISIBLE entry; pairs with show and kill_one */
    return (uint8_t) (atomic_load_explicit(&entry->state, memory_order_acquire) & 3);
}

static uint32_t version_of(const struct entry *entry) {
    /* relaxed: ordered by the state for visible ones; a pending one's may be 0, not yet given */
    return atomic_load_explicit(&entry->version, memory_order_relaxed);
}

/* The slots whose tag is that of a hash, one bit each; without a branch, so that a processor may
 * go on to the entry before it knows where it stood. Only a hint which slots to look at: match()
 * loads them anew. */
#if defined(__SSE2__) && !defined(__SANITIZE_THREAD__)
/* The upper halves of four slots, each made a tag. */
static __m128i four_tags(const __m128i *slots) {
    __m128 low = _mm_castsi128_ps(_mm_load_si128(slots));
    __m128 high = _mm_castsi128_ps(_mm_load_si128(slots + 1));
    return _mm_srai_epi32(_mm_castps_si128(_mm_shuffle_ps(low, high, _MM_SHUFFLE(3, 1, 3, 1))), 16);
}

static unsigned tag_matches(const struct bucket *bucket, uint64_t hash) {
    const __m128i *slots = (const void *) bucket->slots;
    __m128i wanted = _mm_set1_epi16((short) (hash >> TAG_SHIFT));
    __m128i first = _mm_packs_epi32(four_tags(slots), four_tags(slots + 2));
    __m128i second = _mm_packs_epi32(four_tags(slots + 4), four_tags(slots + 6));
    return (unsigned) _mm_movemask_epi8(
        _mm_packs_epi16(_mm_cmpeq_epi16(first, wanted), _mm_cmpeq_epi16(second, wanted)));
}
#else
static unsigned tag_matches(const struct bucket *bucket, uint64_t hash) {
    unsigned matches = 0;
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* relaxed: a hint */
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
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
static struct entry *match(const struct bucket *bucket, size_t i, const struct pln_hashed *key) {
    /* P1 acquire: pairs with link_at */
    uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_acquire);
    if (slot == 0 || ((slot ^ key->hash) & ~ADDRESS_MASK) != 0) {
        return NULL;
    }
    struct entry *entry = pln_l1_slot_entry(slot);
    __builtin_prefetch((const char *) entry + PLN_CACHE_LINE);
    __builtin_prefetch((const char *) entry + 2 * PLN_CACHE_LINE);
    return pln_l1_key_len(entry) == key->key.len &&
                   is_same(entry->bytes, key->key.data, key->key.len)
               ? entry
               : NULL;
}

/* Linearization: the load of the newest match's state. Wait-free: 16 steps. */
struct entry *pln_l1_find(const struct pln_l1 *l1, const struct pln_hashed *key) {
    const struct bucket *bucket = pln_l1_bucket(l1, key->hash);
    struct entry *newest = NULL;
    for (unsigned left = tag_matches(bucket, key->hash); left != 0; left &= left - 1) {
        struct entry *entry = match(bucket, (size_t) __builtin_ctz(left), key);
        if (entry != NULL && state_of(entry) == ENTRY_VISIBLE &&
            (newest == NULL || is_newer(version_of(entry), version_of(newest)))) {
            newest = entry;
        }
    }
    return newest;
}

/* ---- an entry's life ---- */

static uint32_t offset_of(pln_ms time, pln_ms created) {
    if (time == PLN_FOREVER) {
        return UINT32_MAX;
    }
    pln_ms offset = time - created;
    if (offset < 0) {
        return 0;
    }
    return offset < UINT32_MAX - 1 ? (uint32_t) offset : UINT32_MAX - 1; /* 49 days, then anew */
}

static pln_ms time_of(uint32_t offset, pln_ms created) {
    return offset == UINT32_MAX ? PLN_FOREVER : created + offset;
}

void pln_l1_write_times(struct entry *entry, const struct pln_l1_life *life) {
    /* relaxed each: before publication ordered by it; in a retime any mix of old and new points
     * is one that was or will be true */
    pln_ms created = life->created;
    atomic_store_explicit(&entry->refresh, offset_of(life->refresh, created), memory_order_relaxed);
    atomic_store_explicit(&entry->stale, offset_of(life->stale, created), memory_order_relaxed);
    atomic_store_explicit(&entry->end, offset_of(life->end, created), memory_order_relaxed);
}

bool pln_l1_read_hit(const struct entry *entry, struct pln_l1_hit *hit) {
    /* relaxed each: the fence and the state decide whether they count */
    pln_ms created = atomic_load_explicit(&entry->created, memory_order_relaxed);
    uint32_t refresh = atomic_load_explicit(&entry->refresh, memory_order_relaxed);
    uint32_t stale = atomic_load_explicit(&entry->stale, memory_order_relaxed);
    uint32_t end = atomic_load_explicit(&entry->end, memory_order_relaxed);
    *hit = (struct pln_l1_hit){.life = {.created = created,
                                        .refresh = time_of(refresh, created),
                                        .stale = time_of(stale, created),
                                        .end = time_of(end, created)},
                               .len = entry->value.len,
                               .generation = entry->generation,
                               .format = entry->value.format,
                               .is_absent = entry->is_absent};
    /* P3 acquire: not an address in its place; pairs with pln_l1_retire */
    atomic_thread_fence(memory_order_acquire);
    return state_of(entry) == ENTRY_VISIBLE;
}

static bool is_marked(const struct pln_l1 *l1, const struct entry *entry) {
    uint64_t stamp;
    uint16_t mark;
    const char *at = entry->bytes + pln_l1_key_len(entry) + entry->value.len;
    memcpy(&stamp, at, sizeof stamp);
    at += sizeof stamp;
    for (size_t i = 0; i < entry->n_marks; i++, at += sizeof mark) {
        memcpy(&mark, at, sizeof mark);
        /* acquire, no pair in this folder: the caller raises marks; see l1.h */
        if (atomic_load_explicit(&l1->marks[mark], memory_order_acquire) > stamp) {
            return true;
        }
    }
    return false;
}

bool pln_l1_is_gone(const struct pln_l1 *l1, const struct entry *entry, pln_ms now) {
    uint32_t present = pln_l1_generation(l1);
    /* relaxed both: as in pln_l1_read_hit; a dead one's may be anything, and it is gone too */
    pln_ms created = atomic_load_explicit(&entry->created, memory_order_relaxed);
    uint32_t end = atomic_load_explicit(&entry->end, memory_order_relaxed);
    bool is_served = entry->generation == present ||
                     (present % 2 == 1 && entry->generation + 1 == present);
    return !is_served || now >= time_of(end, created) ||
           (entry->n_marks > 0 && is_marked(l1, entry));
}

/* An entry that dies while it is read is looked for anew: its successor may be there; a bounded
 * number of times. */
struct entry *pln_l1_look_up(const struct pln_l1 *l1, const struct pln_hashed *key, pln_ms now,
                             struct pln_l1_hit *hit) {
    for (int i = 0; i < READ_TRIES; i++) {
        struct entry *entry = pln_l1_find(l1, key);
        if (entry == NULL || pln_l1_is_gone(l1, entry, now)) {
            return NULL;
        }
        if (pln_l1_read_hit(entry, hit)) {
            return entry;
        }
    }
    return NULL;
}

/* ---- ending ---- */

bool pln_l1_unlink(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                   struct entry *entry) {
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* relaxed: the exchange decides; addresses cannot be reused while our section lasts */
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_relaxed);
        if (pln_l1_slot_entry(slot) == entry &&
            /* acq_rel: the unlinked entry is ours alone to retire. relaxed on failure: another
             * has unlinked it */
            atomic_compare_exchange_strong_explicit(&bucket->slots[i], &slot, 0,
                                                    memory_order_acq_rel, memory_order_relaxed)) {
            PLN_POINT(unlinked);
            pln_l1_retire(l1, record, entry);
            return true;
        }
    }
    return false;
}

/* Linearization: the exchange of the state. Returns whether it was visible, to one caller. */
static bool kill_one(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     struct entry *entry, enum pln_count why) {
    /* P2 acq_rel: seen dead before it is unlinked; pairs with state_of */
    uint8_t before = atomic_exchange_explicit(&entry->state, ENTRY_DEAD, memory_order_acq_rel);
    PLN_POINT(killed);
    bool was_visible = (before & ENTRY_VISIBLE) != 0;
    if (was_visible) {
        pln_count(l1->counts, why, 1);
    }
    pln_l1_unlink(l1, record, bucket, entry);
    return was_visible;
}

unsigned pln_l1_kill_key(struct pln_l1 *l1, struct thread_record *record,
                         const struct pln_hashed *key, const struct entry *newest,
                         enum pln_count why) {
    struct bucket *bucket = pln_l1_bucket(l1, key->hash);
    struct entry *victims[PLN_L1_SLOTS];
    size_t n = 0;
    unsigned n_visible = 0;
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        struct entry *entry = match(bucket, i, key);
        uint32_t version = entry != NULL ? version_of(entry) : 0;
        bool is_older = newest == NULL || (version != 0 && is_newer(version_of(newest), version));
        if (entry == NULL || entry == newest || !is_older) {
            continue;
        }
        /* kept in order of age; one without a version is newer than all that have one */
        size_t at = n++;
        while (
            at > 0 && version != 0 &&
            (version_of(victims[at - 1]) == 0 || is_newer(version_of(victims[at - 1]), version))) {
            victims[at] = victims[at - 1];
            at--;
        }
        victims[at] = entry;
    }
    for (size_t i = 0; i < n; i++) {
        n_visible += kill_one(l1, record, bucket, victims[i], why);
    }
    return n_visible;
}

void pln_l1_kill(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                 struct entry *entry, enum pln_count why) {
    uint32_t version = version_of(entry);
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* P1 acquire: pairs with link_at */
        struct entry *other = pln_l1_slot_entry(
            atomic_load_explicit(&bucket->slots[i], memory_order_acquire));
        if (other != NULL && other != entry && other->value.offset == entry->value.offset &&
            version_of(other) != 0 && is_newer(version, version_of(other)) &&
            memcmp(other->bytes, entry->bytes, pln_l1_key_len(entry)) == 0) {
            kill_one(l1, record, bucket, other, why);
        }
    }
    kill_one(l1, record, bucket, entry, why);
}

void pln_l1_withdraw(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     struct entry *entry) {
    kill_one(l1, record, bucket, entry, PLN_COUNT_L1_REMOVES);
}

/* ---- linking ---- */

/* Puts an entry into a slot that holds `expected`. */
static bool link_at(struct pln_l1 *l1, struct bucket *bucket, size_t i, uint64_t expected,
                    struct entry *entry, uint64_t hash) {
    /* P1 release: pairs with match. relaxed on failure: the slot is looked at anew */
    if (!atomic_compare_exchange_strong_explicit(&bucket->slots[i], &expected, slot_of(entry, hash),
                                                 memory_order_acq_rel, memory_order_relaxed)) {
        return false;
    }
    PLN_POINT(linked);
    uint32_t version =
        /* acq_rel: after the link, before anything that shows the entry (P2) */
        atomic_fetch_add_explicit(version_counter(l1, bucket), 1, memory_order_acq_rel) + 1;
    /* relaxed: ordered by the state that makes it visible; 0 is kept for "none yet" */
    atomic_store_explicit(&entry->version, version != 0 ? version : 1, memory_order_relaxed);
    PLN_POINT(versioned);
    return true;
}

/* A free slot, one whose entry is dead or gone, or -1. */
static int free_slot(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                     pln_ms now) {
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* P1 acquire: pairs with link_at */
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_acquire);
        if (slot == 0) {
            return (int) i;
        }
    }
    for (size_t i = 0; i < PLN_L1_SLOTS; i++) {
        /* P1 acquire: pairs with link_at */
        uint64_t slot = atomic_load_explicit(&bucket->slots[i], memory_order_acquire);
        struct entry *entry = pln_l1_slot_entry(slot);
        if (entry == NULL) {
            return (int) i;
        }
        if (state_of(entry) == ENTRY_DEAD) {
            pln_l1_unlink(l1, record, bucket, entry); /* help a thread that stopped half way */
            return (int) i;
        }
        if (state_of(entry) == ENTRY_VISIBLE && pln_l1_is_gone(l1, entry, now)) {
            pln_l1_kill(l1, record, bucket, entry, PLN_COUNT_L1_EXPIRATIONS);
            return (int) i;
        }
    }
    return -1;
}

/* Takes the slot of the key's present entry, in a bucket that has no other to give. */
static bool replace_present(struct pln_l1 *l1, struct thread_record *record, struct bucket *bucket,
                            const struct pln_hashed *key) {
    struct entry *present = pln_l1_find(l1, key);
    if (present != NULL) {
        pln_l1_kill(l1, record, bucket, present, PLN_COUNT_L1_REPLACES);
    }
    return present != NULL;
}

int pln_l1_link(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                struct entry *entry, pln_ms now) {
    struct bucket *bucket = pln_l1_bucket(l1, key->hash);
    for (int i = 0; i < LINK_TRIES; i++) {
        int at = free_slot(l1, record, bucket, now);
        if (at >= 0 && link_at(l1, bucket, (size_t) at, 0, entry, key->hash)) {
            return PLN_OK;
        }
        if (at < 0 && !replace_present(l1, record, bucket, key) &&
            !pln_l1_evict_one(l1, record, bucket, now)) {
            break;
        }
    }
    return pln_fail(PLN_EBUSY, "l1: no room in the key's bucket%s",
                    l1->eviction == PLN_L1_NONE ? " (eviction is \"none\")" : "");
}
