/* SPDX-License-Identifier: MIT
 *
 * history.c - see history.h.
 */
#include "history.h"

#include "../../l2/internal.h"
#include "../../l2/removes.h"

enum {
    MOST_VERSIONS = 1024, /* of one key */
    MOST_SETS = 4096,
    MOST_PENDING = 1024, /* messages on their way to one node */
};

struct sim_tally sim_tally;

struct message {
    enum sim_change kind;
    unsigned keys;
    struct sim_floors floors;
};

struct node {
    struct sim_floors floors;
    struct sim_floors others; /* what others had carried out */
    struct message pending[MOST_PENDING];
    unsigned n_pending;
    bool is_linked;
    unsigned link;
    uint64_t promised[SIM_KEYS]; /* the newest version whose invalidation it has kept */
    uint64_t told[SIM_KEYS];     /* when the last write of the key began that returned PLN_OK */
};

static struct {
    struct sim_shape shape;
    char names[SIM_KEYS][4], tags[SIM_TAGS][4];
    uint64_t versions[SIM_KEYS];
    bool is_none[SIM_KEYS][MOST_VERSIONS]; /* of record: the version is a delete */
    uint64_t version_of_set[MOST_SETS];    /* 0: not carried out */
    uint64_t n_sets;
    struct sim_floors executed;
    uint64_t n_events;             /* so far: the order in which writes begin and end */
    uint64_t begun_last[SIM_KEYS]; /* when the last write of it that was carried out began */
    pln_ns executed_at[SIM_KEYS][MOST_VERSIONS]; /* what made all older ones void; 0: nothing did */
    struct node nodes[SIM_NODES];
} world;

void sim_history_begin(const struct sim_shape *shape) {
    memset(&world, 0, offsetof(typeof(world), nodes));
    for (int i = 0; i < SIM_NODES; i++) {
        struct node *node = &world.nodes[i];
        memset(&node->floors, 0, sizeof node->floors);
        memset(&node->others, 0, sizeof node->others);
        memset(node->promised, 0, sizeof node->promised);
        memset(node->told, 0, sizeof node->told);
        node->n_pending = 0;
        node->is_linked = false;
        node->link = 0;
    }
    world.shape = *shape;
    for (unsigned key = 0; key < SIM_KEYS; key++) {
        bool is_record = key >= shape->n_source;
        snprintf(world.names[key], sizeof world.names[key], "%c%u", is_record ? 'r' : 's', key);
        world.versions[key] = 1;
        world.is_none[key][1] = is_record;
    }
    for (unsigned tag = 0; tag < SIM_TAGS; tag++) {
        snprintf(world.tags[tag], sizeof world.tags[tag], "t%u", tag);
    }
}

unsigned sim_n_keys(void) {
    return world.shape.n_source + world.shape.n_record;
}

struct pln_bytes sim_key_name(unsigned key) {
    return pln_key(world.names[key]);
}

unsigned sim_key_of(struct pln_bytes name) {
    unsigned key = 0;
    while (key < SIM_KEYS && !pln_bytes_equal(sim_key_name(key), name)) {
        key++;
    }
    return key;
}

bool sim_is_record(unsigned key) {
    return key >= world.shape.n_source;
}

struct pln_bytes sim_tag_name(unsigned tag) {
    return pln_key(world.tags[tag]);
}

struct pln_bytes sim_tag_of(unsigned key) {
    return sim_tag_name(key % SIM_TAGS);
}

/* ---- versions ---- */

static uint64_t next_version(unsigned key) {
    if (world.versions[key] + 1 == MOST_VERSIONS) {
        sim_fail("more than %d versions of %s", MOST_VERSIONS, world.names[key]);
    }
    return ++world.versions[key];
}

uint64_t sim_source_commit(unsigned key) {
    return next_version(key);
}

uint64_t sim_source_version(unsigned key) {
    return world.versions[key];
}

void sim_versions(uint64_t versions[SIM_KEYS]) {
    memcpy(versions, world.versions, sizeof world.versions);
}

bool sim_is_behind(unsigned key) {
    const uint64_t *told = world.executed.of[key];
    bool is_behind = told[SIM_GONE] < world.versions[key] && told[SIM_STALE] < world.versions[key];
    for (int i = 0; is_behind && i < SIM_NODES; i++) {
        if (world.nodes[i].promised[key] == world.versions[key]) {
            sim_fail("node %d kept what it was to tell of version %llu of %s, and never told", i,
                     (unsigned long long) world.versions[key], world.names[key]);
        }
    }
    return is_behind;
}

bool sim_is_absent(uint64_t version) {
    return version % 5 == 4;
}

struct pln_bytes sim_value(unsigned key, uint64_t number, char text[SIM_VALUE]) {
    int len = snprintf(text, SIM_VALUE, "%s:%llu", world.names[key], (unsigned long long) number);
    return pln_bytes_of(text, (size_t) len);
}

/* The version that a value is of; 0 where it is of none. */
static uint64_t version_of(unsigned key, struct pln_bytes value) {
    char text[SIM_VALUE] = "";
    char expected[SIM_VALUE];
    size_t prefix = strlen(world.names[key]) + 1;
    memcpy(text, value.data, value.len < sizeof text - 1 ? value.len : sizeof text - 1);
    uint64_t number = value.len > prefix ? strtoull(text + prefix, NULL, 10) : 0;
    if (!pln_bytes_equal(sim_value(key, number, expected), value)) {
        return 0;
    }
    if (sim_is_record(key)) {
        return number < MOST_SETS ? world.version_of_set[number] : 0;
    }
    return number;
}

/* True where a version from `floor` on says that there is nothing. */
static bool may_be_nothing(unsigned key, uint64_t floor) {
    for (uint64_t version = floor; version <= world.versions[key]; version++) {
        if (sim_is_record(key) ? world.is_none[key][version] : sim_is_absent(version)) {
            return true;
        }
    }
    return false;
}

static void show(unsigned key, struct pln_bytes value, char *text, size_t size) {
    snprintf(text, size, "'%.*s' (version %llu)", (int) value.len, (const char *) value.data,
             (unsigned long long) version_of(key, value));
}

static void check_version(unsigned key, uint64_t floor, bool is_nothing, struct pln_bytes value,
                          const char *who) {
    char text[96] = "nothing";
    if (is_nothing ? may_be_nothing(key, floor)
                   : version_of(key, value) >= floor && version_of(key, value) > 0 &&
                         version_of(key, value) <= world.versions[key]) {
        return;
    }
    if (!is_nothing) {
        show(key, value, text, sizeof text);
    }
    sim_fail("%s got %s of %s, which must be from version %llu to %llu", who, text,
             world.names[key], (unsigned long long) floor,
             (unsigned long long) world.versions[key]);
}

/* ---- the server ---- */

uint64_t sim_next_set(void) {
    if (world.n_sets + 1 == MOST_SETS) {
        sim_fail("more than %d sets", MOST_SETS);
    }
    return ++world.n_sets;
}

static bool has_key(struct pln_bytes payload, struct pln_bytes name) {
    struct pln_bytes key;
    while (pln_message_next_key(&payload, &key)) {
        if (pln_bytes_equal(key, name)) {
            return true;
        }
    }
    return false;
}

static bool concerns(enum sim_change kind, struct pln_bytes payload, unsigned key) {
    const char *bytes = payload.data;
    switch (kind) {
    case SIM_KEY:
    case SIM_EXPIRE:
        return pln_bytes_equal(payload, sim_key_name(key));
    case SIM_LIST:
        return has_key(payload, sim_key_name(key));
    case SIM_MATCH:
        return pln_mask_fits(&(struct pln_mask){(enum pln_mask_kind) bytes[0],
                                                pln_bytes_of(bytes + 1, payload.len - 1)},
                             sim_key_name(key));
    case SIM_TAG:
        return !sim_is_record(key) && pln_bytes_equal(payload, sim_tag_of(key));
    case SIM_CLEAR:
        return true;
    }
    return false;
}

unsigned sim_keys_of(enum sim_change kind, struct pln_bytes payload) {
    unsigned keys = 0;
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        keys |= (unsigned) concerns(kind, payload, key) << key;
    }
    return keys;
}

static enum sim_floor floor_of(enum sim_change kind) {
    return kind == SIM_EXPIRE ? SIM_STALE : SIM_GONE;
}

static void raise_floor(uint64_t *floor, uint64_t to) {
    *floor = *floor < to ? to : *floor;
}

/* What is of record gets a version, unless what is there stays. */
static void change_record(unsigned key, const struct sim_write *write) {
    bool is_there = write->set != 0 && world.version_of_set[write->set] == world.versions[key];
    if (write->stays || (write->is_redo && is_there)) {
        return;
    }
    if (write->is_redo && write->set != 0 && world.begun_last[key] > write->ended) {
        sim_fail("node %d stores the kept value %llu of %s after a newer change of it", write->node,
                 (unsigned long long) write->set, world.names[key]);
    }
    uint64_t version = next_version(key);
    world.is_none[key][version] = write->set == 0;
    world.version_of_set[write->set] = write->set == 0 ? 0 : version;
}

static void check_order(unsigned key, const struct sim_write *redo) {
    if (redo->ended != 0 && !redo->stays && !redo->is_back &&
        world.nodes[redo->node].told[key] > redo->ended) {
        sim_fail("node %d does what it had kept of %s after a later write of its own", redo->node,
                 world.names[key]);
    }
}

void sim_carried_out(enum sim_change kind, struct pln_bytes payload, struct sim_write *write) {
    unsigned keys = sim_keys_of(kind, payload);
    write->is_carried_out = true;
    sim_tally.redone += write->is_redo;
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        if ((keys >> key & 1) == 0) {
            continue;
        }
        if (write->is_redo) {
            check_order(key, write);
        }
        if (sim_is_record(key)) {
            change_record(key, write);
        }
        uint64_t version = write->stays && !sim_is_record(key) ? write->versions[key]
                           : write->stays                      ? 0
                                                               : world.versions[key];
        raise_floor(&world.executed.of[key][floor_of(kind)], version);
        for (int i = 0; i < SIM_NODES; i++) {
            if (i != write->node) {
                raise_floor(&world.nodes[i].others.of[key][floor_of(kind)], version);
            }
        }
        write->floors.of[key][floor_of(kind)] = version;
        if (floor_of(kind) == SIM_GONE && world.executed_at[key][version] == 0) {
            world.executed_at[key][version] = sim_now();
        }
        if (!write->is_redo && world.begun_last[key] < write->begun) {
            world.begun_last[key] = write->begun;
        }
    }
}

void sim_lost_records(void) {
    world.shape.may_vanish = true;
}

void sim_executed(struct sim_floors *floors) {
    *floors = world.executed;
}

void sim_executed_by_others(int node, struct sim_floors *floors) {
    *floors = world.nodes[node].others;
}

void sim_check_stored(const struct sim_floors *then, unsigned key, const struct pln_l2_item *item,
                      const char *who) {
    uint64_t floor = then->of[key][SIM_GONE];
    if (item->fresh_left > 0) {
        raise_floor(&floor, then->of[key][SIM_STALE]);
    }
    check_version(key, floor, item->is_absent, item->value, who);
}

/* ---- the bus ---- */

static void raise_floors(struct sim_floors *floors, const struct sim_floors *to) {
    for (unsigned key = 0; key < SIM_KEYS; key++) {
        for (int i = 0; i < SIM_FLOORS; i++) {
            raise_floor(&floors->of[key][i], to->of[key][i]);
        }
    }
}

void sim_sent(int number, enum sim_change kind, struct pln_bytes payload) {
    struct node *node = &world.nodes[number];
    if (node->n_pending == MOST_PENDING) {
        sim_fail("more than %d messages wait for one node", MOST_PENDING);
    }
    struct message *message = &node->pending[node->n_pending++];
    *message = (struct message){.kind = kind, .keys = sim_keys_of(kind, payload)};
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        if ((message->keys >> key & 1) != 0) {
            message->floors.of[key][floor_of(kind)] = world.executed.of[key][floor_of(kind)];
        }
    }
}

/* Messages that say the same cannot be told apart: the oldest is taken for the one that came. */
void sim_heard(int number, enum sim_change kind, struct pln_bytes payload) {
    struct node *node = &world.nodes[number];
    unsigned i = 0, keys = sim_keys_of(kind, payload);
    sim_tally.messages++;
    while (i < node->n_pending &&
           (node->pending[i].kind != kind || node->pending[i].keys != keys)) {
        i++;
    }
    if (i == node->n_pending) {
        return; /* of before the link was lost */
    }
    raise_floors(&node->floors, &node->pending[i].floors);
    node->n_pending--;
    memmove(&node->pending[i], &node->pending[i + 1],
            (node->n_pending - i) * sizeof node->pending[i]);
}

void sim_link_down(int number) {
    struct node *node = &world.nodes[number];
    node->is_linked = false;
    node->link++;
    node->n_pending = 0;
    sim_tally.losses++;
}

void sim_link_up(int number, const struct sim_floors *then) {
    struct node *node = &world.nodes[number];
    raise_floors(&node->floors, then);
    node->is_linked = true;
    node->link++;
}

bool sim_is_linked(int number) {
    return world.nodes[number].is_linked;
}

/* ---- nodes ---- */

uint64_t sim_event(void) {
    return ++world.n_events;
}

void sim_write_begin(struct sim_write *write, int number, enum sim_change kind,
                     struct pln_bytes payload) {
    *write = (struct sim_write){.node = number,
                                .keys = sim_keys_of(kind, payload),
                                .is_of_keys = kind <= SIM_LIST,
                                .begun = sim_event()};
    sim_versions(write->versions);
}

void sim_write_end(const struct sim_write *write, int status, bool is_kept) {
    struct node *node = &world.nodes[write->node];
    sim_tally.writes++;
    sim_tally.writes_failed += status < 0;
    sim_tally.kept += is_kept;
    if (status == PLN_OK && !write->is_carried_out) {
        sim_fail("a write of node %d returned ok, and the server never carried it out",
                 write->node);
    }
    for (unsigned key = 0; key < sim_n_keys(); key++) {
        bool is_about = (write->keys >> key & 1) != 0;
        if (is_about && is_kept) {
            raise_floor(&node->promised[key], write->versions[key]);
        } else if (is_about && status == PLN_OK && write->is_of_keys) {
            raise_floor(&node->told[key], write->begun);
        }
    }
    if (status == PLN_OK) {
        raise_floors(&node->floors, &write->floors);
    }
}

void sim_redo_end(const struct sim_write *redo) {
    if (redo->is_carried_out) {
        raise_floors(&world.nodes[redo->node].floors, &redo->floors);
    }
}

void sim_node_dies(int number) {
    memset(world.nodes[number].promised, 0, sizeof world.nodes[number].promised);
}

/* The newest version that was told of before a point in time. */
static uint64_t told_before(unsigned key, pln_ns point) {
    uint64_t version = world.versions[key];
    while (version > 0 &&
           (world.executed_at[key][version] == 0 || world.executed_at[key][version] > point)) {
        version--;
    }
    return version;
}

void sim_read_begin(struct sim_read *read, int number, unsigned key) {
    const struct node *node = &world.nodes[number];
    *read = (struct sim_read){.node = number, .key = key};
    memcpy(read->floor, node->floors.of[key], sizeof read->floor);
    read->link = node->link;
    read->gap_floor = node->is_linked ? 0 : told_before(key, sim_now() - world.shape.gap_bound);
}

void sim_read_end(const struct sim_read *read, int status, const struct pln_result *result) {
    struct pln_bytes value = pln_bytes_of(pln_value_data(result->value), result->len);
    uint64_t floor = read->floor[SIM_GONE];
    char who[48];
    sim_tally.reads++;
    if (status < 0) {
        sim_tally.failures++;
        return;
    }
    sim_tally.from[result->source]++;
    if (status == PLN_MISS && (world.shape.may_vanish || !sim_is_record(read->key))) {
        return;
    }
    bool may_be_stale = result->source == PLN_FROM_STALE ||
                        (status == PLN_ABSENT && world.shape.serves_stale);
    if (!may_be_stale) {
        raise_floor(&floor, read->floor[SIM_STALE]);
    }
    if (result->source == PLN_FROM_L1 && read->gap_floor > 0 &&
        world.nodes[read->node].link == read->link) {
        sim_tally.gap_hits++;
        raise_floor(&floor, read->gap_floor);
    }
    snprintf(who, sizeof who, "node %d, from %s,", read->node, pln_source_name(result->source));
    check_version(read->key, floor, status != PLN_OK, value, who);
}

void sim_read_must_be_last(int number, unsigned key, int status, const struct pln_result *result) {
    struct pln_bytes value = pln_bytes_of(pln_value_data(result->value), result->len);
    char who[64];
    if (status < 0) {
        sim_fail("node %d cannot read %s though nothing is wrong any more: %s", number,
                 world.names[key], pln_error_text());
    }
    if (status == PLN_MISS && world.shape.may_vanish && sim_is_record(key)) {
        return;
    }
    snprintf(who, sizeof who, "at the end node %d, from %s,", number,
             pln_source_name(result->source));
    check_version(key, world.versions[key], status != PLN_OK, value, who);
}
