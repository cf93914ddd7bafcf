/* SPDX-License-Identifier: MIT
 *
 * fleet.c - nodes begin and end; see fleet.h.
 */
#include "fleet.h"

#include "../../core/engine.h"

static pln_ms now(void *arg) {
    (void) arg;
    return sim_now() / 1000000;
}

static void keep_quiet(void *arg, int level, const char *line) {
    (void) arg;
    (void) level;
    sim_trace("log: %s", line);
}

static void set_policy(struct sim_fleet *fleet, struct pln_cache *cache) {
    struct pln_ruleset *ruleset = pln_ruleset_new();
    struct pln_rule rule = {.terms = *pln_cache_terms(cache), .hooks = PLN_RULE_LOAD, .line = 1};
    int status = pln_template_new("s*", NULL, &rule.pattern);
    assert(status == PLN_OK);
    rule.class_name = strdup("");
    rule.file = strdup("sim");
    rule.origins = strdup("");
    ruleset->rules = malloc(sizeof rule);
    ruleset->rules[0] = rule;
    ruleset->n_rules = 1;
    ruleset->hooks = (struct pln_hooks){.load = sim_load};
    ruleset->hooks_arg = fleet;
    pln_cache_set_policy_take(cache, ruleset);
}

void sim_slot_open(struct sim_fleet *fleet, unsigned number) {
    struct sim_slot *slot = &fleet->slots[number];
    struct pln_options options = fleet->plan.options;
    int before = sim_node();
    *slot = (struct sim_slot){.fleet = fleet, .node = fleet->n_opened++};
    options.redis = "memory:sim";
    options.clock = now;
    options.log = keep_quiet;
    sim_set_node(slot->node);
    if (pln_open(&options, &slot->cache) < 0) {
        sim_fail("node %d cannot be opened: %s", slot->node, pln_error_text());
    }
    if (fleet->plan.has_policy) {
        set_policy(fleet, slot->cache);
    }
    sim_trace("opened");
    sim_set_node(before);
}

void sim_slot_start(struct sim_fleet *fleet, unsigned number) {
    struct sim_slot *slot = &fleet->slots[number];
    int before = sim_node();
    sim_set_node(slot->node);
    for (unsigned i = 0; i < fleet->plan.n_actors; i++) {
        slot->n_running++;
        slot->actors[i] = sim_start(sim_act, slot);
        assert(slot->actors[i] != NULL);
    }
    sim_set_node(before);
}

void sim_slot_join(struct sim_slot *slot) {
    for (unsigned i = 0; i < SIM_ACTORS; i++) {
        if (slot->actors[i] != NULL) {
            sim_join(slot->actors[i]);
            slot->actors[i] = NULL;
        }
    }
}

void sim_slot_close(struct sim_slot *slot) {
    pln_close(slot->cache);
    slot->cache = NULL;
    sim_trace("node %d is closed", slot->node);
}

bool sim_keeps(const struct sim_fleet *fleet) {
    bool keeps = false;
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        keeps = keeps || pln_recovery_waiting(fleet->slots[slot].cache->recovery) > 0;
    }
    return keeps;
}

void sim_fleet_open(struct sim_fleet *fleet) {
    if (pln_memory_open("sim", &fleet->memory) < 0) {
        sim_fail("no memory: %s", pln_error_text());
    }
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        sim_slot_open(fleet, slot);
    }
}

void sim_fleet_close(struct sim_fleet *fleet) {
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        sim_slot_close(&fleet->slots[slot]);
    }
    pln_memory_close(fleet->memory);
}
