/* SPDX-License-Identifier: MIT
 * watch_judge.c - see watch_judge.h. Links and faults are lists in order of time, searched from
 * their ends: what is asked for is seconds old. */
#include "watch_judge.h"

#include "internal.h"

struct change {
    pln_ns at;
    bool is_up;
};

struct link {
    struct change *changes;
    size_t n, room;
};

struct pln_judge {
    struct pln_bounds bounds;
    unsigned n_processes;
    struct link *links;
    struct pln_fault *faults;
    size_t n_faults, room;
    struct pln_tally tallies[PLN_N_PHASES];
};

/* ---- the truth of a key ---- */

void pln_truth_ack(struct pln_truth *truth, uint64_t version, pln_ns at, uint32_t writer) {
    truth->acks[truth->n_acks % PLN_ACKS] = (struct pln_ack){version, at, writer};
    truth->n_acks++;
}

bool pln_truth_missed(const struct pln_truth *truth, uint64_t version, pln_ns began,
                      uint32_t reader, struct pln_missed *missed) {
    size_t oldest = truth->n_acks > PLN_ACKS ? truth->n_acks - PLN_ACKS : 0;
    bool has_missed = false;
    *missed = (struct pln_missed){0};
    for (size_t i = truth->n_acks; i > oldest; i--) {
        const struct pln_ack *ack = &truth->acks[(i - 1) % PLN_ACKS];
        if (ack->version <= version) {
            break;
        }
        if (ack->at < began) {
            has_missed = true;
            missed->first = *ack;
            missed->is_own = missed->is_own || ack->writer == reader;
        }
    }
    return has_missed;
}

bool pln_truth_knows(const struct pln_truth *truth, uint64_t version) {
    size_t oldest = truth->n_acks > PLN_ACKS ? truth->n_acks - PLN_ACKS : 0;
    for (size_t i = truth->n_acks; i > oldest; i--) {
        if (truth->acks[(i - 1) % PLN_ACKS].version <= version) {
            return truth->acks[(i - 1) % PLN_ACKS].version == version;
        }
    }
    return oldest > 0;
}

/* ---- what happened ---- */

int pln_judge_new(struct pln_judge **judge, unsigned n_processes, const struct pln_bounds *bounds) {
    struct pln_judge *created = calloc(1, sizeof *created);
    struct link *links = calloc(n_processes, sizeof *links);
    if (created == NULL || links == NULL) {
        free(created);
        free(links);
        return pln_fail(PLN_ENOMEM, "watch: no memory for the judge");
    }
    created->bounds = *bounds;
    created->n_processes = n_processes;
    created->links = links;
    *judge = created;
    return PLN_OK;
}

void pln_judge_free(struct pln_judge *judge) {
    if (judge != NULL) {
        for (unsigned i = 0; i < judge->n_processes; i++) {
            free(judge->links[i].changes);
        }
        free(judge->links);
        free(judge->faults);
        free(judge);
    }
}

/* Makes room for one more; the list is the first argument's. */
static int make_room(void **list, size_t n, size_t *room, size_t size) {
    if (n < *room) {
        return PLN_OK;
    }
    size_t wanted = *room == 0 ? 64 : 2 * *room;
    void *larger = realloc(*list, wanted * size);
    if (larger == NULL) {
        return pln_fail(PLN_ENOMEM, "watch: no memory for what happened");
    }
    *list = larger;
    *room = wanted;
    return PLN_OK;
}

int pln_judge_link(struct pln_judge *judge, unsigned process, bool is_up, pln_ns at) {
    struct link *link = &judge->links[process];
    void *list = link->changes;
    assert(process < judge->n_processes);
    int status = make_room(&list, link->n, &link->room, sizeof link->changes[0]);
    link->changes = list;
    if (status == PLN_OK) {
        link->changes[link->n++] = (struct change){at, is_up};
    }
    return status;
}

int pln_judge_fault(struct pln_judge *judge, const char *name, int process, pln_ns at) {
    void *list = judge->faults;
    int status = make_room(&list, judge->n_faults, &judge->room, sizeof judge->faults[0]);
    judge->faults = list;
    if (status == PLN_OK) {
        struct pln_fault *fault = &judge->faults[judge->n_faults++];
        *fault = (struct pln_fault){.process = process, .began = at, .ended = PLN_FOREVER};
        strncat(fault->name, name, sizeof fault->name - 1);
    }
    return status;
}

bool pln_judge_end(struct pln_judge *judge, const char *name, pln_ns at) {
    for (size_t i = judge->n_faults; i > 0; i--) {
        struct pln_fault *fault = &judge->faults[i - 1];
        if (fault->ended == PLN_FOREVER &&
            strncmp(fault->name, name, sizeof fault->name - 1) == 0) {
            fault->ended = at;
            return true;
        }
    }
    return false;
}

/* ---- phases ---- */

static bool concerns(const struct pln_fault *fault, unsigned process) {
    return fault->process == PLN_EVERYWHERE || fault->process == (int) process;
}

/* Until when a fault may be felt, its end included. */
static pln_ns felt_until(const struct pln_judge *judge, const struct pln_fault *fault) {
    return pln_after(fault->ended, judge->bounds.delivery);
}

/* Is a fault felt at that time? Else *end becomes the latest end before it, if it is later. */
static bool is_felt(const struct pln_judge *judge, unsigned process, pln_ns at, pln_ns *end) {
    for (size_t i = judge->n_faults; i > 0; i--) {
        const struct pln_fault *fault = &judge->faults[i - 1];
        pln_ns until = felt_until(judge, fault);
        if (!concerns(fault, process) || fault->began > at) {
            continue;
        }
        if (at <= until) {
            return true;
        }
        *end = until > *end ? until : *end;
    }
    return false;
}

/* How many changes of the link there were up to that time. */
static size_t changes_until(const struct link *link, pln_ns at) {
    size_t n = link->n;
    while (n > 0 && link->changes[n - 1].at > at) {
        n--;
    }
    return n;
}

static bool is_up_after(const struct link *link, size_t n_changes) {
    return n_changes > 0 && link->changes[n_changes - 1].is_up;
}

/* Was the link dead at that time, and found to be soon after, with no fault to explain it? */
static bool was_dead_unnoticed(const struct pln_judge *judge, unsigned process, size_t n_changes,
                               pln_ns at) {
    const struct link *link = &judge->links[process];
    pln_ns end = 0;
    for (size_t i = n_changes; i < link->n; i++) {
        const struct change *change = &link->changes[i];
        if (change->at - at > judge->bounds.detection) {
            return false;
        }
        if (!change->is_up && !is_felt(judge, process, change->at, &end)) {
            return true;
        }
    }
    return false;
}

enum pln_phase pln_judge_phase(const struct pln_judge *judge, unsigned process, pln_ns at) {
    const struct link *link = &judge->links[process];
    size_t n = changes_until(link, at);
    pln_ns gap_end = INT64_MIN / 2;
    assert(process < judge->n_processes);
    if (!is_up_after(link, n) || is_felt(judge, process, at, &gap_end) ||
        was_dead_unnoticed(judge, process, n, at)) {
        return PLN_GAP;
    }
    pln_ns up_at = link->changes[n - 1].at;
    gap_end = up_at > gap_end ? up_at : gap_end;
    return at - gap_end < judge->bounds.recovery ? PLN_RECOVERED : PLN_CONNECTED;
}

const char *pln_phase_name(enum pln_phase phase) {
    static const char *const names[PLN_N_PHASES] = {"connected", "gap", "recovered"};
    return names[phase];
}

/* ---- tallies ---- */

/* Where an age is counted: below 8 microseconds one by one, then 8 to a power of two. */
static size_t place_of(pln_ns age) {
    uint64_t us = (uint64_t) age / 1000;
    if (us < 8) {
        return (size_t) us;
    }
    unsigned power = 63 - (unsigned) __builtin_clzll(us);
    size_t place = (power - 2) * 8 + (us >> (power - 3) & 7);
    return place < PLN_AGES ? place : PLN_AGES - 1;
}

/* The first age past those that are counted there. */
static pln_ns age_past(size_t place) {
    if (place < 8) {
        return (pln_ns) (place + 1) * 1000;
    }
    return (pln_ns) ((8 + place % 8 + 1) << (place / 8 - 1)) * 1000;
}

bool pln_judge_read(struct pln_judge *judge, const struct pln_old_read *read) {
    enum pln_phase phase = pln_judge_phase(judge, read->process, read->began);
    struct pln_tally *tally = &judge->tallies[phase];
    pln_ns age = read->began - read->missed.first.at;
    pln_ns bound = phase == PLN_GAP ? judge->bounds.gap : judge->bounds.delivery;
    bool is_marked = read->source == PLN_FROM_STALE;
    bool is_beyond = read->missed.is_own || (!is_marked && age > bound);
    tally->old++;
    tally->marked += is_marked;
    tally->stale += is_beyond;
    if (!is_marked) {
        tally->longest = age > tally->longest ? age : tally->longest;
        tally->ages[place_of(age)]++;
    }
    return is_beyond;
}

void pln_judge_count(struct pln_judge *judge, unsigned process, pln_ns at,
                     const struct pln_tally *counts) {
    struct pln_tally *tally = &judge->tallies[pln_judge_phase(judge, process, at)];
    tally->reads += counts->reads;
    tally->unanswered += counts->unanswered;
    tally->writes += counts->writes;
    tally->refused += counts->refused;
}

const struct pln_tally *pln_judge_tally(const struct pln_judge *judge, enum pln_phase phase) {
    return &judge->tallies[phase];
}

pln_ns pln_tally_age(const struct pln_tally *tally, double share) {
    uint64_t n = 0, seen = 0;
    for (size_t i = 0; i < PLN_AGES; i++) {
        n += tally->ages[i];
    }
    for (size_t i = 0; i < PLN_AGES; i++) {
        seen += tally->ages[i];
        if (seen > 0 && (double) seen >= share * (double) n) {
            return age_past(i) < tally->longest ? age_past(i) : tally->longest;
        }
    }
    return 0;
}

/* ---- faults ---- */

const struct pln_fault *pln_judge_fault_at(const struct pln_judge *judge, size_t i) {
    return i < judge->n_faults ? &judge->faults[i] : NULL;
}

/* When the link was up again. The end of a fault may itself take a link down, so what happens
 * while it may still be felt counts. */
static pln_ns up_again(const struct pln_judge *judge, unsigned process,
                       const struct pln_fault *fault) {
    const struct link *link = &judge->links[process];
    size_t n = changes_until(link, felt_until(judge, fault));
    if (is_up_after(link, n)) {
        return link->changes[n - 1].at > fault->ended ? link->changes[n - 1].at : fault->ended;
    }
    while (n < link->n && !link->changes[n].is_up) {
        n++;
    }
    return n < link->n ? link->changes[n].at : PLN_FOREVER;
}

/* Did another fault befall the process between the end of this one and that time? */
static bool is_disturbed(const struct pln_judge *judge, unsigned process,
                         const struct pln_fault *fault, pln_ns until) {
    for (const struct pln_fault *other = fault + 1; other < judge->faults + judge->n_faults;
         other++) {
        if (concerns(other, process) && other->began < until && other->ended > fault->ended) {
            return true;
        }
    }
    return false;
}

pln_ns pln_judge_recovered_in(const struct pln_judge *judge, const struct pln_fault *fault) {
    pln_ns latest = fault->ended;
    for (unsigned i = 0; i < judge->n_processes; i++) {
        if (latest != PLN_FOREVER && concerns(fault, i)) {
            pln_ns up = up_again(judge, i, fault);
            up = is_disturbed(judge, i, fault, up) ? PLN_FOREVER : up;
            latest = up > latest ? up : latest;
        }
    }
    return latest == PLN_FOREVER ? PLN_FOREVER : latest - fault->ended;
}
