/* SPDX-License-Identifier: MIT
 *
 * batch.c - see batch.h.
 *
 * What is promised of a key: its writes reach the store in the order in which they were
 * acknowledged, but for those that a later one stands for. This room keeps it by these rules:
 *
 *   B1  Entries come in the order of the queue, and those of a key stand in a chain in that order.
 *       Only the first of a chain is stored; with "in order" also those behind it in the same call.
 *   B2  Else a new write takes the place of the one that waits, which is ended with it. So a chain
 *       has one write, or one behind another that is given up and not buried yet.
 *   B3  What failed stays where it is in its chain: what is behind it waits. Where an item of a
 *       call fails, those of its key behind it count as not tried, whatever the store says.
 *   B4  No write is ended before an older one of its key, and nothing is buried before what is
 *       over is ended. So what is left in the queue, whenever this instance dies, is of each key
 *       its last writes: who takes them up stores them again from there on, in order, and ends at
 *       the same value.
 *   B5  What is given up holds its chain until it is buried. Were it not, a later write could be
 *       stored and ended, and the one given up, should this instance die now, be stored behind it.
 *
 * A call that fails as a whole does not tell which items are bad, or whether the store is away. Its
 * halves are tried; where one of them is stored the other is halved again, until what fails fails
 * alone. Where neither is, the store is away: then the group waits, longer and longer, and the next
 * call is for half as many, so that in the end one is tried alone. Only what fails alone, or in a
 * call that stores others, counts as an attempt of its own. An outage is no reason to give up what
 * was acknowledged: where a store shows no sign of life since an item first failed, items are given
 * up no faster than one in the longest pause of theirs.
 */
#include "batch_parts.h"

#include <utlist.h>

/* ---- items ---- */

void pln_batch_item_free(struct item *item) {
    free(item->memory);
    free(item->older);
    free(item->error);
    free(item);
}

/* Key and value in one piece. */
static void *copy_entry(const struct pln_l2_entry *entry, struct pln_l2_entry *copy) {
    char *memory = malloc(entry->key.len + entry->value.len + 1);
    if (memory != NULL) {
        *copy = *entry;
        memcpy(memory, entry->key.data, entry->key.len);
        if (entry->value.len > 0) {
            memcpy(memory + entry->key.len, entry->value.data, entry->value.len);
        }
        copy->key.data = memory;
        copy->value.data = memory + entry->key.len;
    }
    return memory;
}

static size_t bytes_of(const struct item *item) {
    return item->entry.key.len + item->entry.value.len;
}

pln_ns pln_batch_pause(const struct pln_write_options *terms, unsigned n_failed) {
    pln_ms pause = terms->backoff_ms;
    for (unsigned i = 1; i < n_failed && pause < PLN_LONGEST_BACKOFF_MS; i++) {
        pause *= 2;
    }
    return (pause < PLN_LONGEST_BACKOFF_MS ? pause : PLN_LONGEST_BACKOFF_MS) * 1000000;
}

void pln_batch_leave_chain(struct pln_batches *batches, struct item *item) {
    struct chain *chain = item->chain;
    assert(chain->first == item && item->ahead == NULL);
    chain->first = item->behind;
    if (item->behind != NULL) {
        item->behind->ahead = NULL;
        item->behind = NULL;
    } else {
        HASH_DEL(batches->chains, chain);
        free(chain);
    }
    item->chain = NULL;
}

static struct chain *find_chain(struct pln_batches *batches, struct pln_bytes key) {
    struct chain *chain;
    HASH_FIND(hh, batches->chains, key.data, key.len, chain);
    return chain;
}

static struct chain *new_chain(struct pln_batches *batches, struct pln_bytes key) {
    struct chain *chain = calloc(1, sizeof *chain + key.len);
    if (chain != NULL) {
        memcpy(chain->key, key.data, key.len);
        chain->len = key.len;
        HASH_ADD_KEYPTR(hh, batches->chains, chain->key, chain->len, chain);
        if (chain->hh.tbl == NULL) {
            free(chain);
            chain = NULL;
        }
    }
    return chain;
}

/* ---- life ---- */

int pln_batches_new(pln_batch_terms terms, void *arg, struct pln_batches **batches) {
    struct pln_batches *created = calloc(1, sizeof *created);
    if (created == NULL) {
        return pln_fail(PLN_ENOMEM, "queue: no memory");
    }
    created->terms = terms;
    created->arg = arg;
    *batches = created;
    return PLN_OK;
}

static void free_list(struct item *list) {
    struct item *item = NULL, *next;
    DL_FOREACH_SAFE(list, item, next) {
        pln_batch_item_free(item);
    }
}

void pln_batches_clear(struct pln_batches *batches) {
    struct chain *chain = batches->chains, *next;
    for (size_t i = 0; i < batches->n_groups; i++) {
        free_list(batches->groups[i].items);
    }
    free_list(batches->over);
    free_list(batches->given_up);
    HASH_CLEAR(hh, batches->chains);
    for (; chain != NULL; chain = next) {
        next = chain->hh.next;
        free(chain);
    }
    free(batches->groups);
    free(batches->listed);
    *batches = (struct pln_batches){
        .terms = batches->terms, .arg = batches->arg, .is_hasty = batches->is_hasty};
}

void pln_batches_free(struct pln_batches *batches) {
    if (batches != NULL) {
        pln_batches_clear(batches);
        free(batches);
    }
}

size_t pln_batches_count(const struct pln_batches *batches) {
    return batches->n_count;
}

bool pln_batches_are_full(const struct pln_batches *batches) {
    return batches->n_held >= PLN_HELD_MOST || batches->n_bytes >= PLN_HELD_MOST_BYTES;
}

const struct pln_batch_report *pln_batches_report(const struct pln_batches *batches) {
    return &batches->report;
}

/* ---- what comes ---- */

static struct group *group_of(struct pln_batches *batches, size_t number,
                              const struct pln_write_options *terms) {
    if (number >= batches->n_groups) {
        struct group *grown = realloc(batches->groups, (number + 1) * sizeof *grown);
        if (grown == NULL) {
            return NULL;
        }
        memset(grown + batches->n_groups, 0, (number + 1 - batches->n_groups) * sizeof *grown);
        batches->groups = grown;
        batches->n_groups = number + 1;
    }
    batches->groups[number].terms = terms;
    return &batches->groups[number];
}

/* B2. Its time stays: a key that is written all the time is stored all the same. */
static bool take_place(struct pln_batches *batches, struct item *item,
                       const struct pln_l2_entry *entry, pln_ns fresh_due) {
    struct pln_l2_entry copy, *grown = item->older;
    if (item->n_older == item->room) {
        size_t room = item->room == 0 ? 4 : item->room * 2;
        grown = realloc(item->older, room * sizeof *grown);
        if (grown == NULL) {
            return false;
        }
        item->older = grown;
        item->room = room;
    }
    void *memory = copy_entry(entry, &copy);
    if (memory == NULL) {
        return false;
    }
    batches->n_bytes -= bytes_of(item);
    grown[item->n_older++] = item->entry;
    free(item->memory);
    item->memory = memory;
    item->entry = copy;
    batches->n_bytes += bytes_of(item);
    if (item->n_failed > 0) { /* what failed was another value */
        item->due = fresh_due;
        item->n_failed = 0;
        item->failed_at = 0;
        item->is_alone = false;
    }
    return true;
}

static bool append(struct pln_batches *batches, struct group *group, struct chain *chain,
                   const struct pln_l2_entry *entry, pln_ns due) {
    struct item *item = calloc(1, sizeof *item);
    if (item == NULL || (item->memory = copy_entry(entry, &item->entry)) == NULL ||
        (chain == NULL && (chain = new_chain(batches, entry->key)) == NULL)) {
        free(item != NULL ? item->memory : NULL);
        free(item);
        return false;
    }
    item->due = due;
    item->chain = chain;
    item->ahead = chain->last;
    if (chain->first == NULL) {
        chain->first = item;
        item->ahead = NULL;
    } else {
        chain->last->behind = item;
    }
    chain->last = item;
    DL_APPEND(group->items, item);
    group->n++;
    batches->n_held++;
    batches->n_bytes += bytes_of(item);
    return true;
}

int pln_batches_add(struct pln_batches *batches, const struct pln_l2_entry *entry, pln_ns now) {
    size_t number = 0;
    const struct pln_write_options *terms = batches->terms(batches->arg, entry->key, &number);
    if (terms == NULL) {
        return PLN_MISS;
    }
    struct group *group = group_of(batches, number, terms);
    struct chain *chain = find_chain(batches, entry->key);
    pln_ns due = now + (batches->is_hasty ? 0 : terms->every_ms * 1000000);
    bool takes_place = chain != NULL && !terms->in_order && !chain->last->is_given_up;
    if (group == NULL || !(takes_place ? take_place(batches, chain->last, entry, due)
                                       : append(batches, group, chain, entry, due))) {
        return pln_fail(PLN_ENOMEM, "queue: no memory for a write of %zu bytes", entry->value.len);
    }
    batches->n_count++;
    return PLN_OK;
}

void pln_batches_set_hasty(struct pln_batches *batches, bool is_hasty) {
    struct item *item = NULL;
    for (size_t i = 0; is_hasty && !batches->is_hasty && i < batches->n_groups; i++) {
        DL_FOREACH(batches->groups[i].items, item) {
            item->due = item->n_failed == 0 ? 0 : item->due;
        }
    }
    batches->is_hasty = is_hasty;
}

void pln_batches_hurry(struct pln_batches *batches, pln_ns now) {
    struct item *item = NULL;
    for (size_t i = 0; i < batches->n_groups; i++) {
        batches->groups[i].held_until = 0;
        DL_FOREACH(batches->groups[i].items, item) {
            item->due = item->due < now ? item->due : now;
        }
    }
}

/* ---- the next batch ---- */

static size_t most_of(const struct group *group) {
    return group->limit > 0 && group->limit < group->terms->batch ? group->limit
                                                                  : group->terms->batch;
}

size_t pln_batch_pick(struct group *group, pln_ns now, pln_ns *due) {
    size_t n = 0, most = most_of(group);
    struct item *item = NULL;
    *due = PLN_FOREVER;
    DL_FOREACH(group->items, item) {
        bool is_free = item->ahead == NULL || (item->ahead->is_picked && group->terms->in_order);
        bool waits = item->n_failed > 0 && item->due > now;
        item->is_picked = false;
        if (!is_free) {
            continue;
        }
        *due = item->due < *due ? item->due : *due;
        if (waits || n == most || (item->is_alone && n > 0)) {
            continue;
        }
        item->is_picked = true;
        n++;
        if (item->is_alone) {
            most = n;
        }
    }
    if (n > 0 && n == most_of(group)) {
        *due = now < *due ? now : *due;
    }
    if (*due < group->held_until) {
        *due = group->held_until;
    }
    return n;
}

pln_ns pln_batches_due(struct pln_batches *batches, pln_ns now) {
    pln_ns first = batches->given_up != NULL || batches->over != NULL ? now : PLN_FOREVER, due;
    for (size_t i = 0; i < batches->n_groups; i++) {
        if (batches->groups[i].n > 0) {
            pln_batch_pick(&batches->groups[i], now, &due);
            first = due < first ? due : first;
        }
    }
    return first;
}
