/* SPDX-License-Identifier: MIT
 *
 * acts.c - what a thread of a node does: reads, and writes as the protocol wants them (after a
 * source's commit an invalidation, R8; a set where the server is the store of record, R9).
 */
#include "fleet.h"

/* ---- the source ---- */

static void dawdle(const struct sim_plan *plan) {
    if (plan->load_ms > 0 && sim_chance(700)) {
        sim_sleep((pln_ns) sim_upto((uint64_t) plan->load_ms * 1000000));
    } else {
        sim_point();
    }
}

static int load(const struct sim_fleet *fleet, struct pln_bytes name, struct pln_load *load) {
    unsigned key = sim_key_of(name);
    char text[SIM_VALUE];
    dawdle(&fleet->plan);
    uint64_t version = sim_source_version(key);
    sim_trace("the source has version %llu of %.*s", (unsigned long long) version, (int) name.len,
              (const char *) name.data);
    dawdle(&fleet->plan);
    if (!fleet->is_calm && sim_chance(fleet->plan.load_faults)) {
        return pln_load_error(load, "the source is out of order");
    }
    int status = pln_load_tag(load, sim_tag_of(key));
    if (status == PLN_OK && sim_is_absent(version)) {
        return PLN_ABSENT;
    }
    return status == PLN_OK ? pln_load_value(load, sim_value(key, version, text), 0) : status;
}

int sim_load(void *fleet, unsigned worker, const struct pln_match *match, struct pln_bytes key,
             struct pln_load *asked) {
    (void) worker;
    (void) match;
    return load(fleet, key, asked);
}

static int load_for_call(void *fleet, struct pln_bytes key, struct pln_load *asked) {
    return load(fleet, key, asked);
}

/* ---- reads ---- */

int sim_get(const struct sim_slot *slot, unsigned key, uint32_t flags, struct pln_result *result) {
    const struct pln_get_options options = {.flags = flags};
    bool has_loader = !sim_is_record(key) && !slot->fleet->plan.has_policy;
    return pln_get_or_load(slot->cache, sim_key_name(key), &options,
                           has_loader ? load_for_call : NULL, slot->fleet, result);
}

static void trace_read(unsigned key, int status, const struct pln_result *result) {
    sim_trace("read %s: %s, '%.*s' from %s", (const char *) sim_key_name(key).data,
              pln_status_name(status), status == PLN_OK ? (int) result->len : 0,
              (const char *) pln_value_data(result->value), pln_source_name(result->source));
}

static void read_one(const struct sim_slot *slot, unsigned key) {
    struct sim_read read;
    struct pln_result result = {0};
    uint32_t flags = sim_chance(100) ? PLN_GET_NO_L1 : sim_chance(100) ? PLN_GET_NO_STALE : 0;
    sim_trace("reads %s", (const char *) sim_key_name(key).data);
    sim_read_begin(&read, slot->node, key);
    int status = sim_get(slot, key, flags, &result);
    trace_read(key, status, &result);
    sim_read_end(&read, status, &result);
    sim_point();
    pln_release(slot->cache, result.value);
}

static void read_all(const struct sim_slot *slot) {
    struct sim_read reads[SIM_KEYS];
    struct pln_bytes keys[SIM_KEYS];
    struct pln_result results[SIM_KEYS];
    int statuses[SIM_KEYS];
    memset(results, 0, sizeof results);
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        keys[key] = sim_key_name(key);
        sim_read_begin(&reads[key], slot->node, key);
    }
    sim_trace("reads all");
    int status = pln_get_many(slot->cache, keys, sim_n_keys(), NULL, results, statuses);
    for (unsigned key = 0; status == PLN_OK && key < sim_n_keys(); key++) {
        trace_read(key, statuses[key], &results[key]);
        sim_read_end(&reads[key], statuses[key], &results[key]);
        pln_release(slot->cache, results[key].value);
    }
}

/* ---- writes ---- */

static int end_write(const struct sim_slot *slot, struct sim_write *write, int status) {
    sim_set_note(NULL);
    sim_trace("write: %s", pln_status_name(status));
    sim_tally.writes++;
    sim_tally.writes_failed += status < 0;
    if (status == PLN_OK) {
        sim_write_ok(slot->node, write);
    }
    return status;
}

int sim_delete(const struct sim_slot *slot, unsigned key) {
    struct sim_write write = {0};
    sim_set_note(&write);
    sim_trace("deletes %s", (const char *) sim_key_name(key).data);
    return end_write(slot, &write, pln_delete(slot->cache, sim_key_name(key)));
}

static void set(const struct sim_slot *slot, unsigned key) {
    struct sim_write write = {.set = sim_next_set()};
    struct pln_set_options options = {.ttl_ms = 3600000, .flags = sim_chance(100) ? PLN_SET_NX : 0};
    char text[SIM_VALUE];
    sim_set_note(&write);
    sim_trace("sets %s to %llu", (const char *) sim_key_name(key).data,
              (unsigned long long) write.set);
    end_write(slot, &write,
              pln_set(slot->cache, sim_key_name(key), sim_value(key, write.set, text), &options));
}

static void invalidate(const struct sim_slot *slot, unsigned key) {
    struct sim_write write = {0};
    if (sim_chance(300)) {
        sim_set_note(&write);
        sim_trace("invalidates %s", (const char *) sim_tag_of(key).data);
        end_write(slot, &write, pln_invalidate_tag(slot->cache, sim_tag_of(key)));
    } else if (sim_chance(200) && !slot->fleet->plan.has_touches) {
        sim_set_note(&write);
        sim_trace("expires %s", (const char *) sim_key_name(key).data);
        end_write(slot, &write, pln_expire(slot->cache, sim_key_name(key)));
    } else {
        sim_delete(slot, key);
    }
}

static void clear(const struct sim_slot *slot) {
    struct sim_write write = {0};
    sim_set_note(&write);
    sim_trace("clears");
    end_write(slot, &write, pln_clear(slot->cache));
}

static void write_one(const struct sim_slot *slot, unsigned key) {
    if (!sim_is_record(key)) {
        uint64_t version = sim_source_commit(key);
        sim_trace("commits version %llu of %s", (unsigned long long) version,
                  (const char *) sim_key_name(key).data);
        sim_point();
        invalidate(slot, key);
    } else if (sim_chance(800)) {
        set(slot, key);
    } else {
        sim_delete(slot, key);
    }
}

/* ---- a thread ---- */

static void act(const struct sim_slot *slot) {
    unsigned key = (unsigned) sim_upto(sim_n_keys() - 1);
    if (sim_chance(20)) {
        clear(slot);
    } else if (sim_chance(80)) {
        read_all(slot);
    } else if (slot->fleet->plan.has_touches && sim_chance(60)) {
        sim_trace("touches %s", (const char *) sim_key_name(key).data);
        (void) pln_touch(slot->cache, sim_key_name(key), 3600000);
    } else if (sim_chance(300)) {
        write_one(slot, key);
    } else {
        read_one(slot, key);
    }
}

void *sim_act(void *arg) {
    struct sim_slot *slot = arg;
    const struct sim_plan *plan = &slot->fleet->plan;
    for (unsigned i = 0; i < plan->n_acts && !slot->is_dying; i++) {
        act(slot);
        if (plan->think_us > 0 && sim_chance(500)) {
            sim_sleep((pln_ns) sim_upto((uint64_t) plan->think_us * 1000));
        } else {
            sim_point();
        }
    }
    slot->n_running--;
    return NULL;
}
