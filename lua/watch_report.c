/* SPDX-License-Identifier: MIT
 * watch_report.c - what `perilune watch` tells: see watch.h. What goes on goes to standard error,
 * the result to standard output. */
#include "watch.h"

#include "internal.h"

enum { MAX_TOLD = 5, MAX_KINDS = 32, MAX_TIMES = 4096 };

static double ms(pln_ns time) {
    return (double) time / 1e6;
}

static double seconds_since_start(const struct pln_watch *watch, pln_ns at) {
    return (double) (at - watch->began) / 1e9;
}

void pln_watch_sum(struct pln_watch *watch, struct pln_watch_counts *counts) {
    *counts = (struct pln_watch_counts){0};
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        struct pln_watch_process *process = &watch->processes[i];
        pln_watch_lock(&process->lock);
        counts->reads += process->counts.reads;
        counts->unanswered += process->counts.unanswered;
        counts->writes += process->counts.writes;
        counts->refused += process->counts.refused;
        counts->wrong += process->counts.wrong;
        pln_watch_unlock(&process->lock);
    }
}

/* ---- each second ---- */

/* The longest that a thread of the children overslept since it was asked last. */
static pln_ns take_stall(struct pln_watch *watch) {
    pln_ns longest = 0;
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        struct pln_watch_process *process = &watch->processes[i];
        pln_watch_lock(&process->lock);
        longest = process->stalled > longest ? process->stalled : longest;
        process->stalled = 0;
        pln_watch_unlock(&process->lock);
    }
    return longest;
}

static uint64_t stale_in_all(const struct pln_watch *watch, pln_ns *longest) {
    uint64_t n = 0;
    *longest = 0;
    for (int i = 0; i < PLN_N_PHASES; i++) {
        const struct pln_tally *tally = pln_judge_tally(watch->judge, (enum pln_phase) i);
        n += tally->stale;
        *longest = tally->longest > *longest ? tally->longest : *longest;
    }
    return n;
}

void pln_watch_tell_second(struct pln_watch *watch, pln_ns now) {
    struct pln_watch_counts counts;
    unsigned in_phase[PLN_N_PHASES] = {0};
    pln_ns longest, stall = take_stall(watch), took = now - watch->told.at;
    uint64_t n_stale = stale_in_all(watch, &longest);
    pln_watch_sum(watch, &counts);
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        in_phase[pln_judge_phase(watch->judge, i, now)]++;
    }
    fprintf(stderr,
            "%6.1f  %u connected, %u gap, %u recovered; %.0f reads/s, %.0f writes/s; "
            "stale %llu, oldest %.1f ms; longest stall %.1f ms\n",
            seconds_since_start(watch, now), in_phase[PLN_CONNECTED], in_phase[PLN_GAP],
            in_phase[PLN_RECOVERED],
            (double) (counts.reads - watch->told.counts.reads) * 1e9 / (double) took,
            (double) (counts.writes - watch->told.counts.writes) * 1e9 / (double) took,
            (unsigned long long) n_stale, ms(longest), ms(stall));
    watch->told.at = now;
    watch->told.counts = counts;
    watch->told.stall = stall > watch->told.stall ? stall : watch->told.stall;
}

/* ---- a stale read ---- */

/* What was going on for the process when it read, or the last that was. */
static const struct pln_fault *fault_at(const struct pln_watch *watch,
                                        const struct pln_old_read *read) {
    const struct pln_fault *fault, *found = NULL;
    for (size_t i = 0; (fault = pln_judge_fault_at(watch->judge, i)) != NULL; i++) {
        bool is_its = fault->process == PLN_EVERYWHERE || fault->process == (int) read->process;
        bool is_better = found == NULL || found->ended < fault->ended;
        if (is_its && fault->began <= read->began && is_better) {
            found = fault;
        }
    }
    return found;
}

void pln_watch_tell_read(struct pln_watch *watch, const struct pln_old_read *read) {
    const struct pln_ack *first = &read->missed.first;
    const struct pln_fault *fault = fault_at(watch, read);
    enum pln_phase phase = pln_judge_phase(watch->judge, read->process, read->began);
    if (++watch->n_told[phase] > MAX_TOLD) {
        return;
    }
    fprintf(stderr,
            "STALE   key %u (%s): process %u (life %u) read version %llu from %s at %.3f s, in "
            "%.3f ms;\n        version %llu was acknowledged to life %u at %.3f s, %.1f ms "
            "before%s; committed: %llu; phase %s, last fault %s\n",
            read->key, pln_watch_kind_name(pln_watch_kind_of(read->key)), read->process,
            read->reader, (unsigned long long) read->version, pln_source_name(read->source),
            seconds_since_start(watch, read->began), ms(read->took),
            (unsigned long long) first->version, first->writer,
            seconds_since_start(watch, first->at), ms(read->began - first->at),
            read->missed.is_own ? ", one of them by the reader itself" : "",
            (unsigned long long) read->newest, pln_phase_name(phase),
            fault == NULL ? "none" : fault->name);
}

/* ---- the end ---- */

/* Faults of one name. */
struct kind {
    const char *name;
    size_t n, n_recovered;
    pln_ns recovered_in[MAX_TIMES];
};

static int by_time(const void *a, const void *b) {
    pln_ns x = *(const pln_ns *) a, y = *(const pln_ns *) b;
    return (x > y) - (x < y);
}

static size_t gather_kinds(const struct pln_judge *judge, struct kind *kinds) {
    const struct pln_fault *fault;
    size_t n = 0;
    for (size_t i = 0; (fault = pln_judge_fault_at(judge, i)) != NULL; i++) {
        size_t k = 0;
        while (k < n && strcmp(kinds[k].name, fault->name) != 0) {
            k++;
        }
        if (k == MAX_KINDS) {
            continue;
        }
        n = k == n ? n + 1 : n;
        kinds[k].name = fault->name;
        kinds[k].n++;
        pln_ns time = pln_judge_recovered_in(judge, fault);
        if (time != PLN_FOREVER && kinds[k].n_recovered < MAX_TIMES) {
            kinds[k].recovered_in[kinds[k].n_recovered++] = time;
        }
    }
    for (size_t k = 0; k < n; k++) {
        qsort(kinds[k].recovered_in, kinds[k].n_recovered, sizeof(pln_ns), by_time);
    }
    return n;
}

static double median(const struct kind *kind) {
    return kind->n_recovered > 0 ? ms(kind->recovered_in[kind->n_recovered / 2]) : 0;
}

static double slowest(const struct kind *kind) {
    return kind->n_recovered > 0 ? ms(kind->recovered_in[kind->n_recovered - 1]) : 0;
}

static void print_tables(const struct pln_watch *watch, const struct kind *kinds, size_t n) {
    printf("%-10s %10s %9s %9s %8s %9s %7s %7s  %9s %8s %8s %8s\n", "phase", "reads", "no answer",
           "writes", "refused", "old", "marked", "STALE", "oldest", "p50", "p99", "p99.9 ms");
    for (int i = 0; i < PLN_N_PHASES; i++) {
        const struct pln_tally *tally = pln_judge_tally(watch->judge, (enum pln_phase) i);
        printf("%-10s %10llu %9llu %9llu %8llu %9llu %7llu %7llu  %9.1f %8.1f %8.1f %8.1f\n",
               pln_phase_name((enum pln_phase) i), (unsigned long long) tally->reads,
               (unsigned long long) tally->unanswered, (unsigned long long) tally->writes,
               (unsigned long long) tally->refused, (unsigned long long) tally->old,
               (unsigned long long) tally->marked, (unsigned long long) tally->stale,
               ms(tally->longest), ms(pln_tally_age(tally, 0.5)), ms(pln_tally_age(tally, 0.99)),
               ms(pln_tally_age(tally, 0.999)));
    }
    if (n > 0) {
        printf("\n%-16s %6s %14s %14s\n", "fault", "times", "links up after", "longest, ms");
    }
    for (size_t i = 0; i < n; i++) {
        printf("%-16s %6zu %14.1f %14.1f%s\n", kinds[i].name, kinds[i].n, median(&kinds[i]),
               slowest(&kinds[i]), kinds[i].n_recovered < kinds[i].n ? "  (not all)" : "");
    }
}

static void print_json(const struct pln_watch *watch, const struct kind *kinds, size_t n) {
    printf("{\"phases\":{");
    for (int i = 0; i < PLN_N_PHASES; i++) {
        const struct pln_tally *tally = pln_judge_tally(watch->judge, (enum pln_phase) i);
        printf("%s\"%s\":{\"reads\":%llu,\"unanswered\":%llu,\"writes\":%llu,\"refused\":%llu,"
               "\"old\":%llu,\"marked\":%llu,\"stale\":%llu,\"oldest_ms\":%.3f,\"p50_ms\":%.3f,"
               "\"p99_ms\":%.3f,\"p999_ms\":%.3f}",
               i == 0 ? "" : ",", pln_phase_name((enum pln_phase) i),
               (unsigned long long) tally->reads, (unsigned long long) tally->unanswered,
               (unsigned long long) tally->writes, (unsigned long long) tally->refused,
               (unsigned long long) tally->old, (unsigned long long) tally->marked,
               (unsigned long long) tally->stale, ms(tally->longest), ms(pln_tally_age(tally, 0.5)),
               ms(pln_tally_age(tally, 0.99)), ms(pln_tally_age(tally, 0.999)));
    }
    printf("},\"faults\":{");
    for (size_t i = 0; i < n; i++) {
        printf("%s\"%s\":{\"times\":%zu,\"recovered\":%zu,\"median_ms\":%.3f,\"longest_ms\":%.3f}",
               i == 0 ? "" : ",", kinds[i].name, kinds[i].n, kinds[i].n_recovered,
               median(&kinds[i]), slowest(&kinds[i]));
    }
}

/* What the run comes to, and whether that is good. */
static bool print_verdict(struct pln_watch *watch) {
    struct pln_watch_counts counts;
    pln_ns longest;
    uint64_t n_stale = stale_in_all(watch, &longest);
    const struct pln_bounds *bounds = &watch->settings.bounds;
    bool was_up = pln_judge_tally(watch->judge, PLN_CONNECTED)->reads > 0 ||
                  pln_judge_tally(watch->judge, PLN_RECOVERED)->reads > 0;
    pln_watch_sum(watch, &counts);
    bool is_good = n_stale == 0 && counts.wrong == 0 && watch->n_crashes == 0 &&
                   watch->n_hung == 0 && was_up;
    if (watch->settings.wants_json) {
        printf("},\"stale\":%llu,\"wrong\":%llu,\"crashes\":%llu,\"hung\":%llu,"
               "\"stall_ms\":%.3f,\"delivery_ms\":%.0f,\"bound_ms\":%.0f,\"good\":%s}\n",
               (unsigned long long) n_stale, (unsigned long long) counts.wrong,
               (unsigned long long) watch->n_crashes, (unsigned long long) watch->n_hung,
               ms(watch->told.stall), ms(bounds->delivery), ms(bounds->gap),
               is_good ? "true" : "false");
        return is_good;
    }
    printf("\n%llu stale reads of %llu (bounds: %.0f ms, in a gap %.0f ms), %llu wrong values, "
           "%llu crashes, %llu hung; longest stall %.1f ms\n",
           (unsigned long long) n_stale, (unsigned long long) counts.reads, ms(bounds->delivery),
           ms(bounds->gap), (unsigned long long) counts.wrong,
           (unsigned long long) watch->n_crashes, (unsigned long long) watch->n_hung,
           ms(watch->told.stall));
    if (!was_up) {
        printf("the link was never up: nothing was checked\n");
    }
    return is_good;
}

bool pln_watch_tell_all(struct pln_watch *watch) {
    struct kind *kinds = calloc(MAX_KINDS, sizeof *kinds);
    size_t n = kinds == NULL ? 0 : gather_kinds(watch->judge, kinds);
    for (int i = 0; i < PLN_N_PHASES; i++) {
        if (watch->n_told[i] > MAX_TOLD) {
            fprintf(stderr, "STALE   and %zu more, %s\n", watch->n_told[i] - MAX_TOLD,
                    pln_phase_name((enum pln_phase) i));
        }
    }
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        if (watch->processes[i].wrong[0] != 0) {
            fprintf(stderr, "WRONG   process %u: %s\n", i, watch->processes[i].wrong);
        }
    }
    if (watch->settings.wants_json) {
        print_json(watch, kinds, n);
    } else {
        print_tables(watch, kinds, n);
    }
    free(kinds);
    return print_verdict(watch);
}
