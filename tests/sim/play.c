/* SPDX-License-Identifier: MIT
 *
 * play.c - see play.h. The plan is drawn first; then the fleet plays, and one task makes trouble
 * (trouble.c) until the last thread of the fleet has ended.
 */
#include "play.h"
#include "fleet.h"

/* ---- the plan ---- */

static pln_ms one_of(const pln_ms *choices, size_t n) {
    return choices[sim_upto(n - 1)];
}

#define ONE_OF(...)                                                                                \
    one_of((const pln_ms[]){__VA_ARGS__}, sizeof((const pln_ms[]){__VA_ARGS__}) / sizeof(pln_ms))

static struct sim_pace draw_pace(void) {
    struct sim_pace pace = {
        .switches = (unsigned) ONE_OF(20, 100, 300),
        .pauses = (unsigned) ONE_OF(0, 5, 20),
        .longest_ms = ONE_OF(2, 20, 200),
    };
    sim_set_pace(&pace);
    return pace;
}

static void draw_terms(struct pln_options *options) {
    options->timeout_ms = ONE_OF(20, 100, 250);
    options->ttl_ms = ONE_OF(30, 300, 300000, 300000);
    options->l1_ttl_ms = ONE_OF(20, 3600000, 3600000);
    options->stale_ms = ONE_OF(0, 0, 30);
    options->stale_if_error_ms = ONE_OF(0, 0, 1000);
    options->negative_ms = ONE_OF(10, 10000);
    options->lease_ms = ONE_OF(5, 30, 200);
    options->load_timeout_ms = 1000;
    options->refresh = sim_chance(300) ? 0.5 : 0;
    options->jitter = sim_chance(300) ? 0.3 : 0;
    options->ping_ms = ONE_OF(10, 100);
    options->max_staleness_ms = ONE_OF(2, 30, 1000);
    options->bus_log = sim_chance(300) ? PLN_NONE : (size_t) ONE_OF(3, 10000);
    options->recovery = sim_chance(250) ? PLN_NONE : (size_t) ONE_OF(1, 2, 4, 10000);
    options->workers = 1 + (unsigned) sim_upto(1);
    options->max_bytes = (size_t) 1 << 20;
}

static void draw_plan(struct sim_plan *plan) {
    *plan = (struct sim_plan){.n_nodes = 2 + (unsigned) sim_upto(1),
                              .n_actors = 1 + (unsigned) sim_upto(1),
                              .n_acts = 8 + (unsigned) sim_upto(16),
                              .load_ms = ONE_OF(0, 1, 20),
                              .load_faults = (unsigned) ONE_OF(0, 20, 300),
                              .think_us = ONE_OF(0, 200, 3000),
                              .has_policy = sim_chance(400),
                              .has_touches = sim_chance(200),
                              .trouble = sim_chance(150) ? 0 : (unsigned) sim_upto(UINT16_MAX)};
    plan->shape.n_source = 1 + (unsigned) sim_upto(2);
    plan->shape.n_record = (unsigned) sim_upto(2);
    draw_terms(&plan->options);
    plan->shape.serves_stale = plan->options.stale_ms > 0 || plan->options.stale_if_error_ms > 0;
    struct sim_pace pace = draw_pace();
    /* the bound begins when a value is stored: so long after its source was read */
    pln_ms before = plan->load_ms + plan->options.timeout_ms +
                    (pace.pauses > 0 ? 4 * pace.longest_ms : 1);
    plan->shape.gap_bound = (plan->options.max_staleness_ms + before) * 1000000;
}

/* ---- the end ---- */

/* Nothing is wrong from here on, and nobody acts: what is on its way arrives. */
static void calm(struct sim_fleet *fleet) {
    struct pln_memory_stats stats;
    pln_ns until = sim_now() + 60 * (pln_ns) 1000000000;
    fleet->is_calm = true;
    pln_memory_faults(fleet->memory, NULL, NULL);
    pln_memory_cut(fleet->memory, NULL, PLN_MEMORY_UNCUT);
    pln_memory_link(fleet->memory, NULL, true);
    sim_trace("all is healed");
    do {
        sim_sleep(fleet->plan.options.ping_ms * 2 * 1000 * 1000); /* lost messages are missed */
        pln_memory_stats(fleet->memory, &stats);
        if (sim_now() > until) {
            sim_fail("nothing is wrong any more, and still something waits");
        }
    } while (stats.waiting > 0 || sim_keeps(fleet));
}

static void drop(struct sim_fleet *fleet, unsigned slot, unsigned key) {
    const struct sim_slot *node = &fleet->slots[slot];
    if (sim_delete(node, key) != PLN_OK) {
        sim_fail("node %d cannot delete though nothing is wrong any more: %s", node->node,
                 pln_error_text());
    }
}

static void expect_last(const struct sim_slot *slot, unsigned key, uint32_t flags) {
    struct pln_result result = {0};
    int status = PLN_MISS;
    /* what was fetched may be past its end when a task that was left goes on: who asks again loads
     */
    for (int i = 0; i < 10 && status == PLN_MISS && (i == 0 || !sim_is_record(key)); i++) {
        status = sim_get(slot, key, PLN_GET_NO_STALE | flags, &result);
    }
    sim_read_must_be_last(slot->node, key, status, &result);
    pln_release(slot->cache, result.value);
}

/* In every node, and in the server. */
static void expect_truth(struct sim_fleet *fleet) {
    for (unsigned slot = 0; slot < fleet->plan.n_nodes; slot++) {
        for (unsigned key = 0; key < sim_n_keys(); key++) {
            expect_last(&fleet->slots[slot], key, 0);
            expect_last(&fleet->slots[slot], key, PLN_GET_NO_L1); /* which may mend what L1 has */
        }
    }
}

/* Every node has the truth, and after one more change has it again. */
static void end(struct sim_fleet *fleet) {
    calm(fleet);
    for (unsigned key = 0; key < fleet->plan.shape.n_source; key++) {
        if (sim_is_behind(key)) { /* its writer failed to tell, or died; a program tries again */
            drop(fleet, 0, key);
        }
    }
    calm(fleet);
    expect_truth(fleet);
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        unsigned slot = (unsigned) sim_upto(fleet->plan.n_nodes - 1);
        if (!sim_is_record(key)) {
            sim_source_commit(key);
        }
        drop(fleet, slot, key);
    }
    calm(fleet);
    expect_truth(fleet);
}

uint64_t sim_play(uint64_t seed) {
    static struct sim_fleet fleet;
    fleet = (struct sim_fleet){0};
    sim_begin(seed);
    draw_plan(&fleet.plan);
    sim_history_begin(&fleet.plan.shape);
    sim_fleet_open(&fleet);
    struct sim_task *trouble = sim_start(sim_make_trouble, &fleet);
    for (unsigned slot = 0; slot < fleet.plan.n_nodes; slot++) {
        sim_slot_start(&fleet, slot);
    }
    sim_join(trouble); /* which waits for them, since it may put others in their place */
    end(&fleet);
    sim_fleet_close(&fleet);
    return sim_end();
}
