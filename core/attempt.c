/* SPDX-License-Identifier: MIT
 *
 * attempt.c - a batch on its way to the store, and what becomes of it: stored, to be tried again,
 * given up. The rules stand in batch.c.
 */
#include "batch_parts.h"

#include <stdio.h>

#include <utlist.h>

enum { MOST_PAUSES = 5 /* that a group's wait doubles: to 16 times the backoff */ };

/* A batch on its way. */
struct run {
    struct pln_batches *batches;
    struct group *group;
    size_t number;
    pln_batch_store store;
    void *arg;
    struct pln_store_item *items;
    struct item **picked;
    bool is_broken_off;
};

/* The groups take turns. */
static struct group *choose(struct pln_batches *batches, pln_ns now, size_t *n) {
    pln_ns due;
    for (size_t i = 0; i < batches->n_groups; i++) {
        size_t number = (batches->next + i) % batches->n_groups;
        struct group *group = &batches->groups[number];
        if (group->n > 0 && (*n = pln_batch_pick(group, now, &due)) > 0 && due <= now) {
            batches->next = number + 1;
            return group;
        }
    }
    return NULL;
}

static void show(struct item *item, struct pln_store_item *shown) {
    const struct pln_l2_entry *entry = &item->entry;
    item->n_tried = (entry->n_taken > 0 ? entry->n_taken : 1) + item->n_failed;
    uint64_t seq = entry->seq < (1 << 20) ? entry->seq : (1 << 20) - 1;
    snprintf(item->id, sizeof item->id, "%llu-%llu", (unsigned long long) entry->ms,
             (unsigned long long) entry->seq);
    *shown = (struct pln_store_item){
        .op = entry->is_removal ? PLN_STORE_DELETE : PLN_STORE_SET,
        .key = entry->key,
        .value = entry->value,
        .format = entry->format,
        .is_absent = entry->is_absent,
        .id = item->id,
        .version = (entry->ms << 20 | seq) & INT64_MAX,
        .attempt = item->n_tried,
    };
}

/* ---- storing ---- */

/* B3: puts what must not be stored before others of its key to the end. Returns how many may. */
static size_t put_back_held(struct run *run, size_t at, size_t n) {
    size_t n_good = 0;
    for (size_t i = at; i < at + n; i++) {
        struct item *item = run->picked[i];
        const struct item *ahead = item->ahead;
        item->has_failed = ahead != NULL && ahead->has_failed;
        item->is_blamed = false;
        if (!item->has_failed) {
            struct pln_store_item shown = run->items[i];
            run->items[i] = run->items[at + n_good];
            run->picked[i] = run->picked[at + n_good];
            run->items[at + n_good] = shown;
            run->picked[at + n_good++] = item;
        }
    }
    return n_good;
}

enum verdict { SOME, NONE, NEVER, BROKEN };

/* Calls the store for items from `at` on. */
static enum verdict call(struct run *run, size_t at, size_t n) {
    size_t n_stored = 0, n_never = 0;
    for (size_t i = at; i < at + n; i++) {
        run->items[i].status = PLN_OK;
        run->items[i].error[0] = 0;
    }
    if (!run->store(run->arg, run->number, run->items + at, n)) {
        run->is_broken_off = true;
        return BROKEN;
    }
    for (size_t i = at; i < at + n; i++) {
        struct item *item = run->picked[i];
        item->has_failed = run->items[i].status < 0 ||
                           (item->ahead != NULL && item->ahead->has_failed);
        n_stored += !item->has_failed;
        n_never += run->items[i].status == PLN_EINVAL;
    }
    for (size_t i = at; i < at + n; i++) {
        struct item *item = run->picked[i];
        int status = run->items[i].status;
        item->is_blamed = status == PLN_EINVAL || (status < 0 && (n_stored > 0 || n == 1));
        item->is_alone = item->is_alone || (status < 0 && n == 1);
    }
    return n_stored > 0 ? SOME : n_never == n ? NEVER : NONE;
}

/* Tries the halves of what has failed as a whole, and theirs, as long as one of two is stored or
 * the store says that its items never can be: then each is to have a verdict of its own. */
static enum verdict halve(struct run *run, size_t at, size_t n, bool is_never) {
    size_t sizes[2] = {n - n / 2, n / 2}, places[2] = {at, at + n - n / 2};
    enum verdict verdicts[2] = {NONE, NONE};
    for (int i = 0; i < 2; i++) {
        sizes[i] = put_back_held(run, places[i], sizes[i]);
        verdicts[i] = sizes[i] == 0 ? NONE : call(run, places[i], sizes[i]);
        if (verdicts[i] == BROKEN) {
            return BROKEN;
        }
    }
    bool has_life = verdicts[0] == SOME || verdicts[1] == SOME;
    for (int i = 0; i < 2; i++) {
        bool goes_on = has_life || (is_never && verdicts[i] == NEVER);
        if (verdicts[i] != SOME && sizes[i] > 1 && goes_on) {
            verdicts[i] = halve(run, places[i], sizes[i], verdicts[i] == NEVER);
        }
        if (verdicts[i] == BROKEN) {
            return BROKEN;
        }
    }
    return verdicts[0] == SOME || verdicts[1] == SOME     ? SOME
           : verdicts[0] == NEVER && verdicts[1] == NEVER ? NEVER
                                                          : NONE;
}

/* ---- what becomes of it ---- */

static void to_list(struct run *run, struct item *item, struct item **list) {
    DL_DELETE(run->group->items, item);
    DL_APPEND(*list, item);
    run->group->n--;
}

/* Whether it is to be tried no more: see the head of this file. */
static bool is_hopeless(struct group *group, const struct item *item, int status, pln_ns now) {
    if (status == PLN_EINVAL) {
        return true;
    }
    /* of former instances it is known how often they took it, but not whether they tried it */
    unsigned attempts = group->terms->attempts, former = item->n_tried - item->n_failed;
    former = former < attempts / 2 ? former : attempts / 2;
    if (former + item->n_failed < attempts) {
        return false;
    }
    bool has_life = group->stored_at >= item->failed_at;
    if (!has_life && now < group->bury_at) {
        return false;
    }
    group->bury_at = has_life ? group->bury_at
                              : now + pln_batch_pause(group->terms, item->n_failed);
    return true;
}

static void settle_failed(struct run *run, struct item *item, const struct pln_store_item *shown,
                          pln_ns now) {
    struct pln_batch_report *report = &run->batches->report;
    report->n_again++;
    if (report->error[0] == 0 && shown->status < 0) {
        snprintf(report->error, sizeof report->error, "%s", shown->error);
    }
    if (!item->is_blamed) {
        return;
    }
    item->n_failed++;
    item->failed_at = item->failed_at == 0 ? now : item->failed_at;
    item->due = now + pln_batch_pause(run->group->terms, item->n_failed);
    if (is_hopeless(run->group, item, shown->status, now)) {
        item->is_given_up = true;
        item->dead = run->group->terms->dead;
        item->error = strdup(shown->error);
        to_list(run, item, &run->batches->given_up);
        report->n_again--;
        report->n_given_up++;
    }
}

static void settle(struct run *run, size_t n, bool has_life, pln_ns now) {
    struct group *group = run->group;
    struct pln_batches *batches = run->batches;
    if (has_life) {
        group->stored_at = now;
        group->n_down = 0;
        group->limit = 0;
        group->held_until = 0;
    } else if (n > 1 || group->limit == 1) {
        group->n_down += group->n_down < MOST_PAUSES;
        group->limit = n > 1 ? n / 2 : 1;
        group->held_until = now + pln_batch_pause(group->terms, group->n_down);
    }
    for (size_t i = 0; i < n; i++) {
        run->picked[i]->is_picked = false;
    }
    for (size_t i = 0; i < n; i++) {
        struct item *item = run->picked[i];
        if (item->has_failed) {
            settle_failed(run, item, &run->items[i], now);
        } else {
            to_list(run, item, &batches->over);
            pln_batch_leave_chain(batches, item);
            batches->report.n_stored++;
        }
    }
}

int pln_batches_store(struct pln_batches *batches, const pln_ns *now, pln_batch_store store,
                      void *arg) {
    size_t n = 0, i = 0;
    struct run run = {.batches = batches, .store = store, .arg = arg};
    struct item *item = NULL;
    run.group = choose(batches, *now, &n);
    if (run.group == NULL) {
        return PLN_MISS;
    }
    run.number = (size_t) (run.group - batches->groups);
    batches->report = (struct pln_batch_report){.group = run.number};
    run.items = malloc(n * sizeof *run.items);
    run.picked = malloc(n * sizeof(struct item *));
    if (run.items == NULL || run.picked == NULL) {
        free(run.items);
        free(run.picked);
        return pln_fail(PLN_ENOMEM, "queue: no memory for a batch of %zu writes", n);
    }
    DL_FOREACH(run.group->items, item) {
        if (item->is_picked) {
            item->has_failed = false;
            run.picked[i] = item;
            show(item, &run.items[i++]);
        }
    }
    assert(i == n);
    enum verdict verdict = call(&run, 0, n);
    if (n > 1 && (verdict == NONE || verdict == NEVER)) {
        verdict = halve(&run, 0, n, verdict == NEVER);
    }
    if (!run.is_broken_off) {
        settle(&run, n, verdict == SOME || verdict == NEVER, *now);
    }
    free(run.items);
    free(run.picked);
    return run.is_broken_off ? PLN_PENDING : PLN_OK;
}

/* ---- what is over, and what is given up ---- */

static void item_end(struct pln_batches *batches, struct item *item) {
    batches->n_held--;
    batches->n_bytes -= item->entry.key.len + item->entry.value.len;
    batches->n_count -= 1 + item->n_older;
    pln_batch_item_free(item);
}

/* Those that an item stands for have its key. */
static size_t list_older(const struct item *item, struct pln_l2_entry *list) {
    for (size_t i = 0; i < item->n_older; i++) {
        list[i] = item->older[i];
        list[i].key = item->entry.key;
        list[i].value = pln_bytes_of(NULL, 0);
    }
    return item->n_older;
}

const struct pln_l2_entry *pln_batches_over(struct pln_batches *batches, size_t *n) {
    const struct item *item = NULL;
    size_t n_all = 0;
    *n = 0;
    DL_FOREACH(batches->over, item) {
        n_all += 1 + item->n_older;
    }
    free(batches->listed);
    batches->listed = n_all == 0 ? NULL : malloc(n_all * sizeof *batches->listed);
    if (batches->listed != NULL) { /* else another time */
        DL_FOREACH(batches->over, item) {
            *n += list_older(item, batches->listed + *n);
            batches->listed[(*n)++] = item->entry;
        }
    }
    return batches->listed;
}

void pln_batches_ended(struct pln_batches *batches) {
    struct item *item = NULL, *next;
    DL_FOREACH_SAFE(batches->over, item, next) {
        item_end(batches, item);
    }
    batches->over = NULL;
}

bool pln_batches_given_up(struct pln_batches *batches, struct pln_given_up *given_up) {
    struct item *item = batches->given_up;
    if (item == NULL || batches->over != NULL) {
        return false;
    }
    list_older(item, item->older);
    *given_up = (struct pln_given_up){.entry = &item->entry,
                                      .older = item->older,
                                      .n_older = item->n_older,
                                      .dead = item->dead,
                                      .attempts = item->n_tried,
                                      .error = item->error != NULL ? item->error : ""};
    return true;
}

void pln_batches_buried(struct pln_batches *batches) {
    struct item *item = batches->given_up;
    DL_DELETE(batches->given_up, item);
    pln_batch_leave_chain(batches, item);
    item_end(batches, item);
}
