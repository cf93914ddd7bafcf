/* SPDX-License-Identifier: MIT
 *
 * acts.c - what a thread of a node does: reads, and writes as the protocol wants them (after a
 * source's commit an invalidation, R8; a set where the server is the store of record, R9).
 */
#include "fleet.h"

#include "../../l2/internal.h"
#include "../../l2/removes.h"

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

static void begin_write(const struct sim_slot *slot, struct sim_write *write, enum sim_change kind,
                        struct pln_bytes payload) {
    sim_write_begin(write, slot->node, kind, payload);
    sim_set_note(write);
}

static int end_write(const struct sim_write *write, int status) {
    bool is_kept = status < 0 && strstr(pln_error_text(), "; kept, ") != NULL;
    sim_set_note(NULL);
    sim_trace("write: %s%s", pln_status_name(status), is_kept ? ", kept" : "");
    sim_write_end(write, status, is_kept);
    return status;
}

int sim_delete(const struct sim_slot *slot, unsigned key) {
    struct pln_bytes name = sim_key_name(key);
    struct sim_write write;
    sim_trace("deletes %s", (const char *) name.data);
    begin_write(slot, &write, SIM_KEY, name);
    return end_write(&write, pln_delete(slot->cache, name));
}

static void set(const struct sim_slot *slot, unsigned key) {
    struct pln_set_options options = {.ttl_ms = 3600000, .flags = sim_chance(100) ? PLN_SET_NX : 0};
    struct pln_bytes name = sim_key_name(key);
    struct sim_write write;
    char text[SIM_VALUE];
    begin_write(slot, &write, SIM_KEY, name);
    write.set = sim_next_set();
    sim_trace("sets %s to %llu", (const char *) name.data, (unsigned long long) write.set);
    end_write(&write, pln_set(slot->cache, name, sim_value(key, write.set, text), &options));
}

static void invalidate_tag(const struct sim_slot *slot, struct pln_bytes tag) {
    struct sim_write write;
    sim_trace("invalidates %s", (const char *) tag.data);
    begin_write(slot, &write, SIM_TAG, tag);
    end_write(&write, pln_invalidate_tag(slot->cache, tag));
}

static void expire(const struct sim_slot *slot, struct pln_bytes name) {
    struct sim_write write;
    sim_trace("expires %s", (const char *) name.data);
    begin_write(slot, &write, SIM_EXPIRE, name);
    end_write(&write, pln_expire(slot->cache, name));
}

/* The key, and some others; a prefix or pattern that fits it, and maybe others. */
static void delete_many(const struct sim_slot *slot, unsigned which) {
    struct pln_bytes keys[SIM_KEYS];
    uint8_t payload[PLN_MESSAGE_KEYS_MAX];
    struct sim_write write;
    size_t n = 0, len = 0;
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        if (key == which || sim_chance(300)) {
            keys[n] = sim_key_name(key);
            len = pln_message_add_key(payload, len, keys[n++]);
        }
    }
    sim_trace("deletes %zu keys, with %s", n, (const char *) sim_key_name(which).data);
    begin_write(slot, &write, SIM_LIST, pln_bytes_of(payload, len));
    end_write(&write, pln_delete_many(slot->cache, keys, n));
}

static void match(const struct sim_slot *slot, unsigned key) {
    const char *name = sim_key_name(key).data;
    bool is_pattern = sim_chance(500);
    char payload[8];
    struct sim_write write;
    int len = sim_chance(500)
                  ? snprintf(payload + 1, sizeof payload - 1, "%.*s", sim_chance(500) ? 1 : 2, name)
                  : snprintf(payload + 1, sizeof payload - 1, "*%s", name + 1);
    struct pln_bytes text = pln_bytes_of(payload + 1, (size_t) len);
    is_pattern = is_pattern || payload[1] == '*';
    payload[0] = (char) (is_pattern ? PLN_MASK_PATTERN : PLN_MASK_PREFIX);
    if (is_pattern && payload[1] != '*') {
        payload[1 + text.len++] = '*';
    }
    sim_trace("ends all that fits %s %.*s", is_pattern ? "pattern" : "prefix", (int) text.len,
              payload + 1);
    begin_write(slot, &write, SIM_MATCH, pln_bytes_of(payload, 1 + text.len));
    end_write(&write, is_pattern ? pln_invalidate_pattern(slot->cache, text)
                                 : pln_invalidate_prefix(slot->cache, text));
}

static void clear(const struct sim_slot *slot) {
    struct sim_write write;
    sim_trace("clears");
    begin_write(slot, &write, SIM_CLEAR, pln_bytes_of(NULL, 0));
    end_write(&write, pln_clear(slot->cache));
}

static void end_value(const struct sim_slot *slot, unsigned key) {
    if (sim_chance(150)) {
        delete_many(slot, key);
    } else if (sim_chance(150)) {
        match(slot, key);
    } else {
        sim_delete(slot, key);
    }
}

static void invalidate(const struct sim_slot *slot, unsigned key) {
    if (sim_chance(300)) {
        invalidate_tag(slot, sim_tag_of(key));
    } else if (sim_chance(200) && !slot->fleet->plan.has_touches) {
        expire(slot, sim_key_name(key));
    } else {
        end_value(slot, key);
    }
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
        end_value(slot, key);
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
