/* SPDX-License-Identifier: MIT
 *
 * kept.c - what failed and is carried out later, seen from both sides: which call it was of, and
 * what becomes of what is there by then. See seams.h.
 */
#include "history.h"
#include "seams.h"

#include "../../l2/mem.h"

enum { MOST_TICKETS = 512 }; /* of one node */

/* A write that may be kept. */
struct ticket {
    uint64_t versions[SIM_KEYS], set, ended;
    bool is_back; /* another write of the key had taken its place, and failed */
};

static struct ticket tickets[SIM_NODES][MOST_TICKETS];

/* A cache carries one out at a time. */
static struct sim_write redos[SIM_NODES];

static struct ticket *ticket_of(int number, uint64_t ticket) {
    if (ticket >= MOST_TICKETS) {
        sim_fail("more than %d writes of node %d", MOST_TICKETS, number);
    }
    return &tickets[number][ticket];
}

void sim_ticket(const struct sim_write *write, uint64_t number, const uint64_t versions[SIM_KEYS]) {
    struct ticket *ticket = ticket_of(write->node, number);
    *ticket = (struct ticket){.set = write->set, .ended = UINT64_MAX};
    memcpy(ticket->versions, versions, sizeof ticket->versions);
}

void sim_ticket_end(int node, uint64_t ticket) {
    ticket_of(node, ticket)->ended = sim_event();
}

void sim_ticket_back(int node, uint64_t ticket) {
    ticket_of(node, ticket)->is_back = true;
}

static void begin_redo(struct sim_write *redo, int node, uint64_t number) {
    *redo = (struct sim_write){.node = node, .is_redo = true};
    if (number != 0) {
        const struct ticket *ticket = ticket_of(node, number);
        redo->set = ticket->set;
        redo->ended = ticket->ended;
        redo->is_back = ticket->is_back;
        memcpy(redo->versions, ticket->versions, sizeof redo->versions);
    }
}

static struct sim_write *begin(int node, uint64_t ticket, const char *what) {
    struct sim_write *redo = &redos[node];
    begin_redo(redo, node, ticket);
    sim_set_note(redo);
    sim_trace("node %d carries out what was kept: %s", node, what);
    return redo;
}

int sim_redo(struct pln_l2 *l2, int node, const struct pln_hashed *key,
             const struct pln_l2_redo *what, pln_ns deadline) {
    static const char *const names[] = {"a set", "a delete", "an expire"};
    struct pln_l2_redo own = *what;
    struct sim_write *redo = begin(node, sim_kept_ticket(key), names[what->kind]);
    redo->set = what->kind == PLN_REDO_SET ? redo->set : 0;
    if (sim_mutant == SIM_REDO_AGELESS) {
        own.age = 0;
    }
    int status = pln_mem_ops.redo(l2, key, &own, deadline);
    sim_trace("it is done: %s", pln_status_name(status));
    return status;
}

void sim_redo_without_key(int node, const char *what) {
    if (sim_note() == NULL) { /* no actor's */
        begin(node, 0, what);
    }
}

void sim_redo_judge(struct sim_write *redo, enum sim_change kind, const struct record *record) {
    struct pln_l2_value value;
    char text[SIM_VALUE];
    if (!redo->is_redo || redo->ended == 0) {
        return;
    }
    uint64_t set = redo->set;
    redo->set = 0;
    if (record == NULL || record->envelope == NULL ||
        pln_envelope_read(pln_bytes_of(record->envelope, record->envelope_bytes),
                          sim_now() / 1000000, &value) != PLN_OK) {
        return;
    }
    struct pln_bytes name = pln_bytes_of(record->key, record->key_len);
    if (set != 0 && pln_bytes_equal(sim_value(sim_key_of(name), set, text), value.item.value)) {
        redo->set = set;
    } else {
        redo->stays = kind != SIM_EXPIRE || value.item.fresh_left > 0;
    }
    pln_l2_value_fini(&value);
}

void sim_redo_heard(void) {
    const struct sim_write *redo = sim_note();
    if (redo != NULL && redo->is_redo) {
        sim_redo_end(redo);
        sim_set_note(NULL);
    }
}
