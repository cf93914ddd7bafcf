/* SPDX-License-Identifier: MIT
 *
 * letters.c - what a program can see of the queue, and do about it: how long it is, waiting until
 * it is stored, and what could not be stored.
 */
#include "drain.h"

#include <stdio.h>

enum {
    PAGE = 100, /* letters of one round trip */
    FLUSH_MS = 60000,
    ID_LENGTH = 48,
};

int pln_queue_client(struct pln_cache *cache, const char *verb, struct pln_l2 **l2) {
    if (!cache->has_l2) {
        return pln_fail(PLN_EINVAL, "%s: the cache has no Redis, and so no queue", verb);
    }
    *l2 = pln_cache_l2(cache);
    if (*l2 == pln_l2_gone()) {
        return pln_fail(PLN_EL2DOWN, "%s: there is no client of Redis in this process", verb);
    }
    return pln_l2_queue_check(*l2);
}

static pln_ns deadline_of(const struct pln_cache *cache) {
    return pln_cache_l2_deadline(cache, PLN_FOREVER);
}

int pln_queue_state(struct pln_cache *cache, struct pln_queue_state *state) {
    struct pln_l2_queue_state now;
    struct pln_l2 *l2;
    int status = pln_queue_client(cache, "queue_state", &l2);
    if (status == PLN_OK) {
        status = pln_queue_look(cache, deadline_of(cache), &now);
    }
    if (status == PLN_OK) {
        pln_drain_show(cache, state);
        state->depth = now.depth; /* another may have looked since */
        state->lag_ms = now.oldest;
        state->dead = now.dead;
    }
    return status;
}

/* ---- flush ---- */

static bool is_past(const struct pln_l2_queue_state *now, const struct pln_l2_queue_state *then) {
    bool is_empty = now->first_ms == 0 && now->first_seq == 0;
    return is_empty || now->first_ms > then->last_ms ||
           (now->first_ms == then->last_ms && now->first_seq > then->last_seq);
}

int pln_flush(struct pln_cache *cache, pln_ms timeout_ms) {
    struct pln_l2_queue_state then, now;
    struct pln_l2 *l2;
    if (timeout_ms < 0) {
        return pln_fail(PLN_EINVAL, "flush: timeout must not be negative");
    }
    struct pln_rest rest = {.until = pln_deadline(timeout_ms > 0 ? timeout_ms : FLUSH_MS)};
    int status = pln_queue_client(cache, "flush", &l2);
    if (status == PLN_OK) {
        status = pln_queue_look(cache, pln_cache_l2_deadline(cache, rest.until), &then);
    }
    if (status != PLN_OK) {
        return status;
    }
    now = then;
    pln_drain_haste(cache, true);
    while (status == PLN_OK && !is_past(&now, &then)) {
        if (!pln_drain_rest(cache, &rest)) {
            status = pln_fail(PLN_ETIMEOUT, "flush: %llu writes wait to be stored",
                              (unsigned long long) now.depth);
            break;
        }
        status = pln_queue_look(cache, deadline_of(cache), &now);
    }
    pln_drain_haste(cache, false);
    return status;
}

/* ---- dead letters ---- */

static void write_id(uint64_t ms, uint64_t seq, char id[ID_LENGTH]) {
    snprintf(id, ID_LENGTH, "%llu-%llu", (unsigned long long) ms, (unsigned long long) seq);
}

static int read_id(const char *verb, const char *id, uint64_t *ms, uint64_t *seq) {
    unsigned long long numbers[2];
    int end = 0;
    bool is_id = id[0] >= '0' && id[0] <= '9' &&
                 sscanf(id, "%20llu-%20llu%n", &numbers[0], &numbers[1], &end) == 2 && id[end] == 0;
    if (!is_id) {
        return pln_fail(PLN_EINVAL, "%s: '%.60s' is no letter's id, which is two numbers: 12-0",
                        verb, id);
    }
    *ms = numbers[0];
    *seq = numbers[1];
    return PLN_OK;
}

static bool show(const struct pln_l2_letter *letter, pln_letter_visit visit, void *arg) {
    char id[ID_LENGTH], write[ID_LENGTH], error[PLN_STORE_TEXT];
    const struct pln_l2_entry *entry = &letter->entry;
    write_id(entry->ms, entry->seq, id);
    write_id(letter->write_ms, letter->write_seq, write);
    snprintf(error, sizeof error, "%.*s", (int) letter->error.len,
             letter->error.len > 0 ? (const char *) letter->error.data : "");
    struct pln_dead_letter shown = {
        .id = id,
        .op = entry->is_removal ? PLN_STORE_DELETE : PLN_STORE_SET,
        .key = entry->key,
        .value = entry->value,
        .format = entry->format,
        .is_absent = entry->is_absent,
        .write_id = write,
        .attempts = letter->attempts,
        .age_ms = letter->age,
        .error = error,
    };
    return visit(arg, &shown);
}

/* One page after another, of at most `most` letters in all (0: of all). */
struct pages {
    struct pln_cache *cache;
    struct pln_l2 *l2;
    uint64_t ms, seq;
    size_t most, n;
    struct pln_l2_letters page;
};

/* Returns: PLN_OK, with the next page, which may be empty: that was all. */
static int next_page(struct pages *pages) {
    size_t left = pages->most == 0 ? PAGE : pages->most - pages->n;
    pages->page = (struct pln_l2_letters){.n = 0};
    if (left == 0) {
        return PLN_OK;
    }
    int status = pln_l2_letters(pages->l2, pages->ms, pages->seq, left < PAGE ? left : PAGE,
                                deadline_of(pages->cache), &pages->page);
    if (status == PLN_OK && pages->page.n > 0) {
        const struct pln_l2_entry *last = &pages->page.letters[pages->page.n - 1].entry;
        pages->ms = last->ms;
        pages->seq = last->seq;
        pages->n += pages->page.n;
    } else {
        pln_l2_letters_fini(&pages->page); /* of none, too, there may be memory */
    }
    return status;
}

int pln_dead_letters(struct pln_cache *cache, size_t most, pln_letter_visit visit, void *arg) {
    struct pages pages = {.cache = cache, .most = most};
    int status = pln_queue_client(cache, "dead_letters", &pages.l2);
    bool goes_on = status == PLN_OK;
    while (goes_on && (status = next_page(&pages)) == PLN_OK && pages.page.n > 0) {
        for (size_t i = 0; i < pages.page.n && goes_on; i++) {
            goes_on = show(&pages.page.letters[i], visit, arg);
        }
        pln_l2_letters_fini(&pages.page);
    }
    return status;
}

/* Ends one letter; what was put back, or removed, is counted. What waits again is the truth about
 * its key, of which the tiers may have what the store had meanwhile: so that goes. */
static int end_one(struct pln_cache *cache, struct pln_l2 *l2, const struct pln_l2_entry *letter,
                   bool again, size_t *n) {
    int status = pln_l2_letter_end(l2, letter->ms, letter->seq, again, deadline_of(cache));
    *n += status == PLN_OK;
    if (status == PLN_OK && again) {
        (void) pln_cache_forget_many(cache, &letter->key, 1); /* else it is done later */
    }
    return status == PLN_NOT_STORED ? PLN_OK : status;
}

static int end_by_id(struct pln_cache *cache, struct pln_l2 *l2, uint64_t ms, uint64_t seq,
                     bool again, size_t *n) {
    struct pln_l2_letters found;
    int status = ms == 0 && seq == 0
                     ? PLN_MISS
                     : pln_l2_letters(l2, ms - (seq == 0), seq - 1, 1, deadline_of(cache), &found);
    if (status != PLN_OK) {
        return status;
    }
    const struct pln_l2_entry *letter = found.n > 0 ? &found.letters[0].entry : NULL;
    status = letter != NULL && letter->ms == ms && letter->seq == seq
                 ? end_one(cache, l2, letter, again, n)
                 : PLN_MISS;
    pln_l2_letters_fini(&found);
    return status;
}

static int end_all(struct pln_cache *cache, struct pln_l2 *l2, bool again, size_t *n) {
    struct pln_l2_queue_state state;
    int status = pln_queue_look(cache, deadline_of(cache), &state);
    /* not those that come back meanwhile */
    struct pages pages = {.cache = cache, .l2 = l2, .most = state.dead};
    if (status != PLN_OK || state.dead == 0) {
        return status;
    }
    while ((status = next_page(&pages)) == PLN_OK && pages.page.n > 0) {
        for (size_t i = 0; i < pages.page.n && status >= 0; i++) {
            status = end_one(cache, l2, &pages.page.letters[i].entry, again, n);
            status = status == PLN_EINVAL ? PLN_OK : status; /* no write of ours: it stays */
        }
        pln_l2_letters_fini(&pages.page);
        if (status < 0) {
            break;
        }
    }
    return status;
}

static int end_letters(struct pln_cache *cache, const char *verb, const char *id, bool again,
                       size_t *n) {
    uint64_t ms = 0, seq = 0;
    struct pln_l2 *l2 = NULL;
    size_t count = 0;
    int status = pln_queue_client(cache, verb, &l2);
    if (status == PLN_OK && id == NULL) {
        status = end_all(cache, l2, again, &count);
    } else if (status == PLN_OK && (status = read_id(verb, id, &ms, &seq)) == PLN_OK) {
        status = end_by_id(cache, l2, ms, seq, again, &count);
    }
    if (count > 0 && again) {
        pln_drain_tell(cache->drain);
    }
    if (n != NULL) {
        *n = count;
    }
    return status;
}

int pln_retry_letter(struct pln_cache *cache, const char *id, size_t *n) {
    return end_letters(cache, "retry_letter", id, true, n);
}

int pln_drop_letter(struct pln_cache *cache, const char *id, size_t *n) {
    return end_letters(cache, "drop_letter", id, false, n);
}
