/* SPDX-License-Identifier: MIT
 *
 * trouble.c - what goes wrong in a run: commands and messages that are late, lost links, nodes cut
 * off or dying, a server that forgets or evicts. The plan says which of these may come.
 */
#include "fleet.h"

enum trouble {
    LATE_COMMANDS = 1,
    REFUSALS = 2,
    LATE_MESSAGES = 4,
    HELD_MESSAGES = 8,
    MIXED_MESSAGES = 16, /* passed by others, doubled */
    LOST_LINKS = 32,
    CUTS = 64,
    FORGETTING = 128,
    EVICTING = 256,
    CRASHES = 512,
    LOST_MESSAGES = 1024,
};

static bool may(const struct sim_fleet *fleet, enum trouble kind) {
    return (fleet->plan.trouble & kind) != 0;
}

static bool is_over(const struct sim_fleet *fleet) {
    unsigned n_running = 0;
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        n_running += fleet->slots[slot].n_running;
    }
    return n_running == 0;
}

static void draw_faults(struct sim_fleet *fleet, struct pln_cache *cache) {
    struct pln_memory_faults faults = {.seed = sim_random()};
    if (may(fleet, LATE_COMMANDS) && sim_chance(600)) {
        faults.delay_ms = (pln_ms) sim_upto(sim_chance(200) ? 150 : 3);
        faults.delay_random_ms = (pln_ms) sim_upto(sim_chance(200) ? 300 : 5);
        faults.carried_out = 0.5;
    }
    if (may(fleet, REFUSALS) && sim_chance(200)) {
        faults.out_of_memory = sim_chance(500);
        faults.read_only = sim_chance(500);
    }
    if (may(fleet, LATE_MESSAGES) && sim_chance(700)) {
        faults.message_delay_ms = (pln_ms) sim_upto(3);
        faults.message_random_ms = (pln_ms) sim_upto(sim_chance(300) ? 50 : 3);
    }
    faults.hold = may(fleet, HELD_MESSAGES) && sim_chance(300);
    if (may(fleet, MIXED_MESSAGES) && sim_chance(600)) {
        faults.reorder = (unsigned) sim_upto(4);
        faults.duplicate = 0.2;
    }
    if (may(fleet, LOST_MESSAGES) && sim_chance(600)) {
        faults.lose = 0.1;
    }
    sim_trace("faults: commands %lld..%lld ms late, messages %lld..%lld%s%s",
              (long long) faults.delay_ms, (long long) faults.delay_ms + faults.delay_random_ms,
              (long long) faults.message_delay_ms,
              (long long) faults.message_delay_ms + faults.message_random_ms,
              faults.hold ? ", held" : "", faults.reorder > 0 ? ", mixed" : "");
    pln_memory_faults(fleet->memory, cache, &faults);
}

/* Its commands in flight end, or not; its lease stays; nothing it knew is left. */
static void crash(struct sim_fleet *fleet, unsigned number) {
    struct sim_slot *slot = &fleet->slots[number];
    if (fleet->n_opened == SIM_NODES || slot->n_running == 0) {
        return;
    }
    sim_trace("node %d dies", slot->node);
    slot->is_dying = true;
    pln_memory_cut(fleet->memory, slot->cache,
                   sim_chance(500) ? PLN_MEMORY_FAILS : PLN_MEMORY_HANGS);
    sim_slot_join(slot);
    sim_slot_close(slot);
    sim_node_dies(slot->node);
    sim_slot_open(fleet, number);
    sim_slot_start(fleet, number);
    sim_tally.crashes++;
}

static void link_or_cut(struct sim_fleet *fleet, struct pln_cache *cache) {
    if (may(fleet, CUTS) && sim_chance(300)) {
        enum pln_memory_cut cut = (enum pln_memory_cut) sim_upto(PLN_MEMORY_HANGS);
        sim_trace("cut: %d", (int) cut);
        pln_memory_cut(fleet->memory, cache, cut);
    } else if (may(fleet, LOST_LINKS)) {
        bool is_up = sim_chance(500);
        sim_trace("link: %s", is_up ? "up" : "down");
        pln_memory_link(fleet->memory, cache, is_up);
    }
}

static void forget_or_evict(struct sim_fleet *fleet) {
    if (may(fleet, FORGETTING) && sim_chance(300)) {
        sim_trace("the server forgets");
        sim_lost_records();
        pln_memory_forget(fleet->memory);
        sim_tally.forgotten++;
    } else if (may(fleet, EVICTING)) {
        sim_trace("the server evicts");
        sim_lost_records();
        pln_memory_evict(fleet->memory, 0.5, NULL);
    }
}

static void make_some(struct sim_fleet *fleet) {
    unsigned number = (unsigned) sim_upto(fleet->plan.n_nodes - 1);
    struct pln_cache *cache = sim_chance(700) ? fleet->slots[number].cache : NULL;
    switch (sim_upto(5)) {
    case 0:
    case 1:
        draw_faults(fleet, cache);
        break;
    case 2:
        link_or_cut(fleet, cache);
        break;
    case 3:
        pln_memory_deliver(fleet->memory, cache, sim_upto(3), NULL);
        break;
    case 4:
        forget_or_evict(fleet);
        break;
    default:
        if (may(fleet, CRASHES) && sim_chance(500)) {
            crash(fleet, number);
        }
    }
}

void *sim_make_trouble(void *arg) {
    struct sim_fleet *fleet = arg;
    sim_set_node(-1);
    while (!is_over(fleet)) {
        if (fleet->plan.trouble != 0) {
            make_some(fleet);
        }
        sim_sleep((pln_ns) sim_upto(sim_chance(300) ? 30000000 : 2000000));
    }
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        sim_slot_join(&fleet->slots[slot]);
    }
    return NULL;
}
