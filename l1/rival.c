/* SPDX-License-Identifier: MIT
 *
 * rival.c - the entries of one key among each other: storing, overwriting and removing.
 *
 * An entry is linked into one slot, lives there, and is unlinked from it (resize.c alone moves it).
 * Its state goes PENDING -> VISIBLE -> SETTLED -> DEAD, or straight to DEAD, which is for good.
 *
 * One key, one value. While a key is replaced two entries of it are linked, its rivals. Each has a
 * version, taken after it was linked from a counter that only grows, by its own thread or by
 * whoever meets it without one (help, so that nobody's rank is ever in doubt). A put
 *
 *   1. links its entry, PENDING, which no reader returns,
 *   2. takes a version, and collects the rivals. Each older one is among them: it was linked
 *      before its version was taken, hence before ours (P9),
 *   3. ends older rivals that are still PENDING: from here on nothing older can become visible,
 *   4. shows its entry: PENDING -> VISIBLE, which fails where a remove or a newer put was there,
 *   5. ends the older rivals that are visible, oldest first,
 *   6. settles: no older entry is left, so the version has served; its place takes the time of
 *      last use. Of two visible entries the settled one is the older.
 *
 * Entries become visible in the order of their versions (3), and whoever ends an entry first ends
 * the older ones (settled entries have none). The value of a key is the newest visible entry in its
 * home half, or else in the away half. It never goes back: an entry that becomes visible is newer
 * than all that were, so it cannot lift an older one over them; where the value ends, the older
 * ones are dead already. A put takes effect when its entry becomes the value, or, where it is
 * shadowed from home until a newer one shows, immediately before that one.
 *
 * Memory: an entry is retired by the one who emptied its slot, inside a section, and freed after
 * the sections of all who may have seen it there.
 *
 * Every loop is over the slots of a bucket; retries are after another thread's success.
 */
#include "internal.h"

enum {
    MOST_RIVALS = 4 * PLN_L1_HALF,
    LINK_TRIES = 64, /* each failed try is another thread's success on this bucket */
};

/* ---- ending ---- */

/* The state is looked at before the slot is emptied: an entry that is MOVING then is retired by the
 * one who moves it, and none begins to move once it is dead (resize.c). */
void pln_l1_unlink(struct pln_l1 *l1, struct thread_record *record, struct place place,
                   struct entry *entry) {
    _Atomic uint64_t *at = &place.half->slots[place.at];
    bool is_moving = (pln_l1_state(entry) & ENTRY_MOVING) != 0;
    /* relaxed: the exchange decides; addresses cannot be reused while our section lasts */
    uint64_t slot = atomic_load_explicit(at, memory_order_relaxed);
    if (pln_l1_slot_entry(slot) == entry &&
        /* acq_rel: the unlinked entry is ours alone to retire. relaxed on failure: another has
         * unlinked it. no test: x86 */
        atomic_compare_exchange_strong_explicit(at, &slot, 0, memory_order_acq_rel,
                                                memory_order_relaxed)) {
        PLN_POINT(unlinked);
        if (!is_moving) {
            pln_l1_retire(l1, record, entry);
        }
    }
}

/* Linearization: DEAD set. Returns whether it was visible, to one caller. */
static bool kill_one(struct pln_l1 *l1, struct thread_record *record, struct place place,
                     struct entry *entry, enum pln_count why) {
    /* P2 release: seen dead before it is unlinked; pairs with pln_l1_state. P2 acquire: its
     * version and times. no test: x86 */
    uint8_t before = atomic_fetch_or_explicit(&entry->state, ENTRY_DEAD, memory_order_acq_rel);
    PLN_POINT(killed);
    bool was_visible = pln_l1_is_visible(before);
    if (was_visible) {
        pln_count(l1->counts, why, 1);
    }
    pln_l1_unlink(l1, record, place, entry);
    return was_visible;
}

struct rival {
    struct entry *entry;
    struct place place;
    uint32_t version;
};

/* All entries of a key that were linked when it was called, but for `self`; oldest first. */
static size_t collect(struct pln_l1 *l1, const struct pln_hashed *key, const struct entry *self,
                      struct rival rivals[MOST_RIVALS]) {
    const struct view *view;
    size_t n;
    do { /* again where a new table may have taken some over: once in a section at most */
        view = pln_l1_view(l1);
        PLN_POINT(viewed);
        struct places places = pln_l1_places(view, key->hash);
        n = 0;
        for (unsigned i = 0; i < places.n; i++) {
            struct half *half = places.halves[i];
            for (unsigned left = pln_l1_tag_matches(half, key->hash); left != 0; left &= left - 1) {
                unsigned at = (unsigned) __builtin_ctz(left);
                struct entry *entry = pln_l1_match(half, at, key);
                if (entry == NULL || entry == self) {
                    continue;
                }
                uint32_t version = pln_l1_version_of(l1, key->hash, entry);
                size_t to = n++;
                for (; to > 0 && rivals[to - 1].version != 0 &&
                       (version == 0 || pln_l1_is_newer(rivals[to - 1].version, version));
                     to--) {
                    rivals[to] = rivals[to - 1];
                }
                rivals[to] = (struct rival){entry, {half, at}, version};
            }
        }
    } while (!PLN_RECHECK(pln_l1_view(l1) == view));
    return n;
}

static bool is_older(const struct rival *rival, uint32_t version) {
    return rival->version == 0 || pln_l1_is_newer(version, rival->version);
}

/* All entries of a key that were linked when it was called, oldest first; some may be newer.
 *
 * A slot may be filled anew between the look at the tags and the look at the entry. So the newest
 * rival collected may have come after that first look, and with it older ones, in other slots, that
 * were not seen. All of these were linked before its version was taken: a second look has them.
 * What is newer still came after this began, and is left out. */
static size_t collect_linked(struct pln_l1 *l1, const struct pln_hashed *key,
                             struct rival rivals[MOST_RIVALS]) {
    size_t n = collect(l1, key, NULL, rivals);
    uint32_t newest = n > 0 ? rivals[n - 1].version : 0;
    if (newest != 0) { /* else it is settled, and the last of all */
        n = collect(l1, key, NULL, rivals);
    }
    while (n > 0 && newest != 0 && !is_older(&rivals[n - 1], newest + 1)) {
        n--;
    }
    return n;
}

unsigned pln_l1_kill_key(struct pln_l1 *l1, struct thread_record *record,
                         const struct pln_hashed *key) {
    struct rival rivals[MOST_RIVALS];
    unsigned n_visible = 0;
    size_t n = collect_linked(l1, key, rivals);
    for (size_t i = 0; i < n; i++) {
        n_visible += kill_one(l1, record, rivals[i].place, rivals[i].entry, PLN_COUNT_L1_REMOVES);
    }
    return n_visible;
}

/* Should it die meanwhile, nobody reads what is written. */
static void make_stale(struct entry *entry, pln_ms now) {
    /* relaxed both: points of time */
    pln_ms stale = pln_l1_unpack_stale(atomic_load_explicit(&entry->times, memory_order_relaxed));
    pln_ms end = pln_l1_has_extra(entry) ? atomic_load_explicit(&entry->end, memory_order_relaxed)
                                         : now;
    if (stale > now) {
        pln_l1_retime_entry(entry, now, now, end);
    }
}

/* An entry that is not yet visible has no time to be shown by: it is ended, and its put reports
 * that it was. */
unsigned pln_l1_expire_key(struct pln_l1 *l1, struct thread_record *record,
                           const struct pln_hashed *key, pln_ms now) {
    struct rival rivals[MOST_RIVALS];
    unsigned n_visible = 0;
    size_t n = collect_linked(l1, key, rivals);
    for (size_t i = 0; i < n; i++) {
        uint8_t state = pln_l1_state(rivals[i].entry);
        if (pln_l1_is_visible(state)) {
            make_stale(rivals[i].entry, now);
            n_visible++;
        } else if ((state & ENTRY_DEAD) == 0) {
            kill_one(l1, record, rivals[i].place, rivals[i].entry, PLN_COUNT_L1_REMOVES);
        }
    }
    return n_visible;
}

/* Ends the visible rivals that are older than a version. */
static unsigned kill_older(struct pln_l1 *l1, struct thread_record *record,
                           const struct rival *rivals, size_t n, uint32_t version,
                           enum pln_count why) {
    unsigned n_visible = 0;
    for (size_t i = 0; i < n && is_older(&rivals[i], version); i++) {
        n_visible += kill_one(l1, record, rivals[i].place, rivals[i].entry, why);
    }
    return n_visible;
}

static struct pln_hashed hashed(const struct pln_l1 *l1, const struct entry *entry) {
    struct pln_bytes key = pln_l1_key(entry);
    return (struct pln_hashed){key, l1->hash(key, l1->seed)};
}

void pln_l1_kill(struct pln_l1 *l1, struct thread_record *record, struct place place,
                 struct entry *entry, enum pln_count why) {
    if ((pln_l1_state(entry) & ENTRY_SETTLED) == 0) {
        struct rival rivals[MOST_RIVALS];
        struct pln_hashed key = hashed(l1, entry);
        size_t n = collect(l1, &key, entry, rivals);
        uint32_t version = pln_l1_version_of(l1, key.hash, entry);
        if (version != 0) { /* 0: settled meanwhile */
            kill_older(l1, record, rivals, n, version, why);
        }
    }
    kill_one(l1, record, place, entry, why);
}

/* Looks for the slot of an entry. */
static bool find_place(struct pln_l1 *l1, const struct entry *entry, struct place *place) {
    uint64_t hash = hashed(l1, entry).hash;
    struct places places = pln_l1_places(pln_l1_view(l1), hash);
    for (unsigned i = 0; i < places.n; i++) {
        for (unsigned at = 0; at < PLN_L1_HALF; at++) {
            /* relaxed: only whether it is this one, which the caller has already */
            uint64_t slot = atomic_load_explicit(&places.halves[i]->slots[at],
                                                 memory_order_relaxed);
            if (pln_l1_slot_entry(slot) == entry) {
                *place = (struct place){places.halves[i], at};
                return true;
            }
        }
    }
    return false;
}

void pln_l1_kill_anywhere(struct pln_l1 *l1, struct thread_record *record, struct entry *entry,
                          enum pln_count why) {
    struct place place;
    if (find_place(l1, entry, &place)) {
        pln_l1_kill(l1, record, place, entry, why);
    }
}

/* One that was shown, or ended, is as good as any other; whoever ended it, if not the vanished
 * thread, retired it. */
void pln_l1_withdraw(struct pln_l1 *l1, struct thread_record *record, struct entry *entry) {
    struct place place;
    if ((pln_l1_state(entry) & (ENTRY_VISIBLE | ENTRY_DEAD)) != 0) {
        return;
    }
    if (find_place(l1, entry, &place)) {
        kill_one(l1, record, place, entry, PLN_COUNT_L1_REMOVES);
    } else { /* not yet linked */
        pln_l1_retire(l1, record, entry);
    }
}

/* ---- linking ---- */

static uint64_t slot_of(const struct entry *entry, uint64_t hash) {
    return (uint64_t) (uintptr_t) entry | (hash & ~(UINT64_MAX >> 16));
}

/* Puts an entry into an empty slot. */
static bool link_at(struct place place, struct entry *entry, uint64_t hash) {
    uint64_t expected = 0;
    /* P1 release: pairs with match. relaxed on failure: another slot is looked for */
    return atomic_compare_exchange_strong_explicit(&place.half->slots[place.at], &expected,
                                                   slot_of(entry, hash), memory_order_release,
                                                   memory_order_relaxed);
}

static bool find_empty(struct half *half, struct place *place) {
    for (unsigned i = 0; i < PLN_L1_HALF; i++) {
        /* relaxed: the exchange decides */
        if (atomic_load_explicit(&half->slots[i], memory_order_relaxed) == 0) {
            *place = (struct place){half, i};
            return true;
        }
    }
    return false;
}

/* Empties a slot whose entry is dead (its thread stopped half way) or gone. */
static bool make_empty(struct pln_l1 *l1, struct thread_record *record, struct half *half,
                       pln_ms now, struct place *place) {
    for (unsigned i = 0; i < PLN_L1_HALF; i++) {
        struct entry *entry = pln_l1_entry_at(half, i);
        *place = (struct place){half, i};
        uint8_t state = entry != NULL ? pln_l1_state(entry) : ENTRY_DEAD;
        if (entry != NULL && (state & ENTRY_DEAD) != 0) {
            pln_l1_unlink(l1, record, *place, entry);
        } else if (pln_l1_is_visible(state) && pln_l1_is_gone(l1, entry, now)) {
            pln_l1_kill(l1, record, *place, entry, PLN_COUNT_L1_EXPIRATIONS);
            state = ENTRY_DEAD;
        }
        if ((state & ENTRY_DEAD) != 0) {
            return true;
        }
    }
    return false;
}

bool pln_l1_link(struct pln_l1 *l1, struct thread_record *record, const struct index *table,
                 uint64_t hash, struct entry *entry, pln_ms now, struct place *place) {
    struct bucket *bucket = pln_l1_bucket(table, hash);
    struct half *home = pln_l1_home(bucket, hash), *away = pln_l1_home(bucket, ~hash);
    for (int i = 0; i < LINK_TRIES; i++) {
        bool has_room = find_empty(home, place) || find_empty(away, place) ||
                        make_empty(l1, record, home, now, place) ||
                        make_empty(l1, record, away, now, place);
        if (has_room && link_at(*place, entry, hash)) {
            PLN_POINT(linked);
            return true;
        }
        if (!has_room && !pln_l1_evict_one(l1, record, bucket, now, PLN_COUNT_L1_CROWDED)) {
            return false;
        }
    }
    return false;
}

/* ---- storing ---- */

/* Says that no older entry of its key is left, and puts a time where the version was. */
static void settle(struct entry *entry, pln_ms now) {
    /* P2 release: as in show; whether it is still visible does not matter. no test: x86 */
    uint8_t before = atomic_fetch_or_explicit(&entry->state, ENTRY_SETTLED, memory_order_release);
    if ((before & ENTRY_SETTLED) == 0) {
        /* P10 release: SETTLED before the time; pairs with version_of. no test: fence */
        atomic_thread_fence(memory_order_release);
        /* relaxed: ordered by the fence */
        atomic_store_explicit(&entry->stamp, (uint32_t) now, memory_order_relaxed);
    }
}

void pln_l1_settle(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                   struct entry *entry, pln_ms now) {
    struct rival rivals[MOST_RIVALS];
    size_t n = collect(l1, key, entry, rivals);
    uint32_t version = pln_l1_version_of(l1, key->hash, entry);
    if (version != 0) {
        kill_older(l1, record, rivals, n, version, PLN_COUNT_L1_REPLACES);
        settle(entry, now);
    }
}

/* Linearization: the exchange of the state. */
static bool show(struct entry *entry) {
    /* relaxed: these bits never change */
    uint8_t made = atomic_load_explicit(&entry->state, memory_order_relaxed) & ENTRY_MADE;
    uint8_t pending = made | ENTRY_PENDING;
    /* P2 release: version and bytes before VISIBLE; pairs with pln_l1_state. relaxed on failure:
     * it is dead, nothing of it is used. no test: x86 */
    return atomic_compare_exchange_strong_explicit(&entry->state, &pending, made | ENTRY_VISIBLE,
                                                   memory_order_release, memory_order_relaxed);
}

int pln_l1_store(struct pln_l1 *l1, struct thread_record *record, const struct pln_hashed *key,
                 struct entry *entry, uint32_t generation, pln_ms now, pln_l1_check check,
                 const void *check_arg) {
    struct rival rivals[MOST_RIVALS];
    struct place place;
    if (!pln_l1_link(l1, record, &pln_l1_view(l1)->present, key->hash, entry, now, &place)) {
        return pln_fail(PLN_EBUSY, "l1: the key's bucket is full%s",
                        l1->eviction == PLN_L1_NONE ? ", and the budget has no room for a larger "
                                                      "table (eviction is \"none\")"
                                                    : "");
    }
    uint32_t version = pln_l1_version_of(l1, key->hash, entry);
    PLN_POINT(versioned);
    size_t n = collect(l1, key, entry, rivals);
    PLN_POINT(collected);
    /* seq_cst: the link before the look at the stamp (store, then load); pairs with the fence of
     * whoever raises the stamp before it looks for entries. no test: fence */
    atomic_thread_fence(memory_order_seq_cst);
    PLN_POINT(fenced);
    pln_l1_note_change(l1, key->hash);
    bool holds = PLN_RECHECK(pln_l1_is_served(l1, generation)) &&
                 PLN_RECHECK(check == NULL || check(check_arg));
    PLN_POINT(checked);
    for (size_t i = 0; holds && i < n && is_older(&rivals[i], version); i++) {
        if (!pln_l1_is_visible(pln_l1_state(rivals[i].entry))) {
            kill_one(l1, record, rivals[i].place, rivals[i].entry, PLN_COUNT_L1_REPLACES);
        }
    }
    if (holds && l1->eviction == PLN_L1_ADAPTIVE) {
        bool has_older = n > 0 && is_older(&rivals[0], version);
        pln_l1_adapt_admit(l1, entry, key->hash, has_older ? rivals[0].entry : NULL);
    }
    PLN_POINT(unrivalled);
    if (!holds || !show(entry)) {
        kill_one(l1, record, place, entry, PLN_COUNT_L1_REMOVES);
        return PLN_NOT_STORED;
    }
    PLN_POINT(visible);
    unsigned n_older = kill_older(l1, record, rivals, n, version, PLN_COUNT_L1_REPLACES);
    if (n_older == 0) {
        pln_count(l1->counts, PLN_COUNT_L1_INSERTS, 1);
    }
    settle(entry, now);
    return PLN_OK;
}
