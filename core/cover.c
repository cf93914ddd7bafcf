/* SPDX-License-Identifier: MIT
 *
 * cover.c - whether one pattern takes every key of another, so that the other's rule, standing
 * below, could never match.
 *
 * A pattern is a machine each of whose states takes one byte. EXACT takes its byte and goes on;
 * FIRST takes any byte but the capture's stop and goes on; MORE stays on any byte but the stop, and
 * leaves with the stop to beyond the EXACT that follows (or never, where nothing follows). Every
 * state can still reach the end, so a key that leads `earlier` nowhere while `later` is under way
 * can be completed to one that only `later` matches. Hence: walk the states of `later` with the set
 * of all places where `earlier` may be by then; the answer is yes unless some place has no way on.
 * Exact, no search.
 */
#include "policy.h"

enum { MAX_STATES = PLN_MAX_STEPS + PLN_MAX_CAPTURES };

enum state_kind { EXACT, FIRST, MORE };

struct state {
    enum state_kind kind;
    int byte; /* EXACT: the byte; else the stop, -1 for none */
};

struct machine {
    size_t n;
    struct state states[MAX_STATES];
};

struct places {
    bool is_at[MAX_STATES + 1];
};

static void build_machine(const struct pln_template *pattern, struct machine *machine) {
    uint16_t steps[PLN_MAX_STEPS];
    size_t n_steps = pln_template_steps(pattern, steps);
    machine->n = 0;
    for (size_t i = 0; i < n_steps && steps[i] != PLN_STEP_END; i++) {
        int step = steps[i];
        if (step < PLN_STEP_FIELD) {
            machine->states[machine->n++] = (struct state){EXACT, step};
            continue;
        }
        int stop = step < PLN_STEP_LAST ? step - PLN_STEP_FIELD : -1;
        if (step != PLN_STEP_REST) {
            machine->states[machine->n++] = (struct state){FIRST, stop};
        }
        machine->states[machine->n++] = (struct state){MORE, stop};
    }
    assert(machine->n <= MAX_STATES);
}

/* Where a byte leads from a place; SIZE_MAX: nowhere. */
static size_t next_place(const struct machine *machine, size_t place, int byte) {
    if (place == machine->n) {
        return SIZE_MAX;
    }
    const struct state *state = &machine->states[place];
    switch (state->kind) {
    case EXACT:
        return byte == state->byte ? place + 1 : SIZE_MAX;
    case FIRST:
        return byte != state->byte ? place + 1 : SIZE_MAX;
    default:
        return byte != state->byte ? place : place + 2;
    }
}

static bool is_end(const struct machine *machine, size_t place) {
    return place == machine->n ||
           (machine->states[place].kind == MORE && machine->states[place].byte < 0);
}

/* Adds to `to` where a byte leads from a place; false: nowhere. */
static bool lead(const struct machine *earlier, size_t place, int byte, struct places *to,
                 bool *has_grown) {
    size_t next = next_place(earlier, place, byte);
    if (next == SIZE_MAX) {
        return false;
    }
    *has_grown = *has_grown || !to->is_at[next];
    to->is_at[next] = true;
    return true;
}

/* The same for all bytes that a state of `later` takes, from all places. Of those that are neither
 * its stop nor the place's own byte one stands for all: they lead to the same. */
static bool advance(const struct machine *earlier, const struct state *state,
                    const struct places *from, struct places *to, bool *has_grown) {
    for (size_t place = 0; place <= earlier->n; place++) {
        int own = place < earlier->n ? earlier->states[place].byte : -1;
        int other = 0;
        if (!from->is_at[place]) {
            continue;
        }
        if (state->kind == EXACT) {
            if (!lead(earlier, place, state->byte, to, has_grown)) {
                return false;
            }
            continue;
        }
        while (other == state->byte || other == own) {
            other++;
        }
        if (!lead(earlier, place, other, to, has_grown) ||
            (own >= 0 && own != state->byte && !lead(earlier, place, own, to, has_grown))) {
            return false;
        }
    }
    return true;
}

static bool walk(const struct machine *earlier, const struct machine *later,
                 struct places *places) {
    for (size_t i = 0; i < later->n; i++) {
        const struct state *state = &later->states[i];
        bool has_grown = false;
        struct places next = {{false}};
        if (state->kind != MORE) {
            if (!advance(earlier, state, places, &next, &has_grown)) {
                return false;
            }
            *places = next;
            continue;
        }
        do {
            has_grown = false;
            if (!advance(earlier, state, places, places, &has_grown)) {
                return false;
            }
        } while (has_grown);
    }
    return true;
}

static bool covers_all(const struct pln_template *earlier, const struct pln_template *later) {
    struct machine first, second;
    struct places places = {{true}};
    build_machine(earlier, &first);
    build_machine(later, &second);
    if (!walk(&first, &second, &places)) {
        return false;
    }
    for (size_t place = 0; place <= first.n; place++) {
        if (places.is_at[place] && !is_end(&first, place)) {
            return false;
        }
    }
    return true;
}

bool pln_template_covers(const struct pln_template *earlier, const struct pln_template *later) {
    struct pln_bytes captures[PLN_MAX_CAPTURES];
    unsigned n_captures;
    /* most pairs are told apart by one key, without building machines */
    return pln_template_match(earlier, pln_template_sample(later), captures, &n_captures) &&
           covers_all(earlier, later);
}
