/* SPDX-License-Identifier: MIT
 *
 * crash_check.c - what the database has at the end of a run of crash.c, beside what was
 * acknowledged.
 *
 * Of each key the last value must be the last one acknowledged, or a later one: a write whose
 * outcome nobody was told may have been carried out. In order, the log must have every acknowledged
 * number too, as they grow; what stands there twice counts where it stands first.
 */
#include "crash.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* A key in the log: what is there for the first time, in order. */
struct trail {
    uint64_t *versions;
    uint32_t *numbers; /* 0: a delete */
    size_t n, room;
};

struct check {
    const struct crash *crash;
    struct trail trails[CRASH_ALL_KEYS];
    bool is_there[CRASH_ALL_KEYS];
    uint64_t n_rows, n_doubled;
};

/* The key's number, or CRASH_ALL_KEYS where it is none that was written. */
static unsigned key_of(const struct check *check, const char *name) {
    unsigned key;
    if (sscanf(name, "key:%u", &key) == 1 && key < CRASH_ALL_KEYS) {
        return key;
    }
    crash_fault(check->crash, "%s is in the database", name);
    return CRASH_ALL_KEYS;
}

/* ---- the last values ---- */

static void check_last(void *arg, const char *name, const char *value, uint64_t version) {
    struct check *check = arg;
    unsigned key = key_of(check, name);
    (void) version;
    if (key == CRASH_ALL_KEYS) {
        return;
    }
    const struct crash_key *known = &check->crash->board->keys[key];
    uint32_t acked = atomic_load(&known->acked), tried = atomic_load(&known->tried);
    uint32_t number = value != NULL ? (uint32_t) strtoul(value, NULL, 10)
                                    : tried - tried % CRASH_DELETES;
    check->is_there[key] = true;
    if (number < acked || number > tried) {
        crash_fault(check->crash,
                    "%s: the database has number %" PRIu32 "%s, the last one acknowledged is "
                    "%" PRIu32 ", the last one tried %" PRIu32,
                    name, number, value == NULL ? " at most, a delete" : "", acked, tried);
    }
}

/* ---- the log ---- */

static bool was_there(const struct trail *trail, uint64_t version) {
    size_t low = 0, high = trail->n;
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (trail->versions[middle] < version) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < trail->n && trail->versions[low] == version;
}

static void follow(struct trail *trail, uint64_t version, uint32_t number) {
    if (trail->n == trail->room) {
        trail->room = trail->room == 0 ? 64 : 2 * trail->room;
        trail->versions = realloc(trail->versions, trail->room * sizeof *trail->versions);
        trail->numbers = realloc(trail->numbers, trail->room * sizeof *trail->numbers);
        if (trail->versions == NULL || trail->numbers == NULL) {
            abort();
        }
    }
    trail->versions[trail->n] = version;
    trail->numbers[trail->n++] = number;
}

static void check_log(void *arg, const char *name, const char *value, uint64_t version) {
    struct check *check = arg;
    unsigned key = key_of(check, name);
    check->n_rows++;
    if (key == CRASH_ALL_KEYS) {
        return;
    }
    struct trail *trail = &check->trails[key];
    if (was_there(trail, version)) {
        check->n_doubled++;
    } else if (trail->n > 0 && version < trail->versions[trail->n - 1]) {
        crash_fault(check->crash, "%s: %s of version %" PRIu64 " was stored first after %" PRIu64,
                    name, value == NULL ? "a delete" : value, version,
                    trail->versions[trail->n - 1]);
    } else {
        follow(trail, version, value == NULL ? 0 : (uint32_t) strtoul(value, NULL, 10));
    }
}

static bool is_acked(const struct crash_key *known, uint32_t number) {
    return (atomic_load(&known->is_acked[number / 8]) >> number % 8 & 1) != 0;
}

/* Walks the trail beside the acknowledged numbers from `from` up to one below `to`, which stand
 * between two sets in the log: those that are missing there can only have been deletes. */
static void check_between(const struct check *check, unsigned key, uint32_t from, uint32_t to,
                          unsigned n_deletes) {
    const struct crash_key *known = &check->crash->board->keys[key];
    unsigned n_acked = 0;
    for (uint32_t number = from; number < to; number++) {
        if (!is_acked(known, number)) {
            continue;
        }
        if (crash_is_counter(key) || number % CRASH_DELETES != 0 || ++n_acked > n_deletes) {
            crash_fault(check->crash,
                        "key:%u: number %" PRIu32 " is acknowledged and not in the log", key,
                        number);
        }
    }
}

static void check_trail(const struct check *check, unsigned key) {
    const struct trail *trail = &check->trails[key];
    uint32_t last = 0;
    unsigned n_deletes = 0;
    for (size_t i = 0; i < trail->n; i++) {
        uint32_t number = trail->numbers[i];
        if (number == 0) {
            n_deletes++;
        } else if (number <= last) {
            crash_fault(check->crash,
                        "key:%u: number %" PRIu32 " comes after %" PRIu32 " in the log", key,
                        number, last);
        } else {
            check_between(check, key, last + 1, number, n_deletes);
            last = number;
            n_deletes = 0;
        }
    }
    check_between(check, key, last + 1, atomic_load(&check->crash->board->keys[key].tried) + 1,
                  n_deletes);
}

/* ---- poison ---- */

static void check_poison(const struct crash *crash) {
    for (unsigned writer = 0; writer < CRASH_WORKERS * CRASH_WRITERS; writer++) {
        const struct crash_poison *poison = &crash->board->poisons[writer];
        uint32_t tried = atomic_load(&poison->tried);
        for (uint32_t number = 0; number < CRASH_POISONS; number++) {
            unsigned least = atomic_load(&poison->is_acked[number]);
            unsigned most = number >= 1 && number <= tried;
            if (poison->n_letters[number] < least || poison->n_letters[number] > most) {
                crash_fault(crash,
                            "poison:%u:%" PRIu32 " has %u dead letters, and %u to %u are due",
                            writer, number, poison->n_letters[number], least, most);
            }
        }
    }
}

/* ---- all ---- */

static void check_database(struct check *check) {
    const struct crash *crash = check->crash;
    struct database *database = database_open(crash->where, false);
    if (database == NULL || !database_each(database, false, check_last, check) ||
        (crash->in_order && !database_each(database, true, check_log, check))) {
        crash_fault(crash, "the database cannot be read");
    }
    database_close(database);
    for (unsigned key = 0; key < CRASH_ALL_KEYS; key++) {
        if (atomic_load(&crash->board->keys[key].acked) > 0 && !check->is_there[key]) {
            crash_fault(crash, "key:%u is acknowledged and not in the database", key);
        }
        if (crash->in_order) {
            check_trail(check, key);
        }
        free(check->trails[key].versions);
        free(check->trails[key].numbers);
    }
}

/* What the queue is made of must be gone as well; of a dead letter a mark stays, an x. */
static void check_left(const struct crash *crash) {
    char *entries = pln_test_redis_command((struct server *) &crash->server, "XLEN t:queue");
    char *marks = pln_test_redis_command((struct server *) &crash->server, "HVALS t:queue:last");
    unsigned n_left = 0;
    for (const char *mark = marks; *mark != 0; mark += strcspn(mark, "\n")) {
        mark += *mark == '\n';
        n_left += *mark != 'x';
    }
    if (strcmp(entries, "0") != 0 || n_left > 0) {
        crash_fault(crash, "Redis still has %s entries in the queue, and %u keys with a last one",
                    entries, n_left);
    }
    free(entries);
    free(marks);
}

void crash_check(const struct crash *crash) {
    struct check *check = calloc(1, sizeof *check);
    if (check == NULL) {
        abort();
    }
    check->crash = crash;
    check_database(check);
    check_poison(crash);
    check_left(crash);
    if (crash->in_order) {
        printf("crash: %" PRIu64 " rows in the log, %" PRIu64 " of them again\n", check->n_rows,
               check->n_doubled);
    }
    free(check);
}
