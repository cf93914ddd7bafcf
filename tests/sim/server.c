/* SPDX-License-Identifier: MIT
 *
 * server.c - the seam between engine and server: the events that a client reports, the commands
 * that it is given, and what the server carries out. See seams.h.
 */
#include "seams.h"
#include "history.h"

#include "../../l2/mem.h"
#include "../../l2/removes.h"

/* NOLINTBEGIN(bugprone-reserved-identifier): these names are the linker's */

int __real_pln_l2_mem_new(const struct pln_l2_options *options, struct pln_l2_mem_server *server,
                          struct pln_l2 **l2);
int __wrap_pln_l2_mem_new(const struct pln_l2_options *options, struct pln_l2_mem_server *server,
                          struct pln_l2 **l2);
void __real_pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                                struct pln_bytes payload);
void __wrap_pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                                struct pln_bytes payload);
void __real_pln_mem_send_locked(struct mem_client *to, const struct queued *message,
                                struct pln_bytes payload);
void __wrap_pln_mem_send_locked(struct mem_client *to, const struct queued *message,
                                struct pln_bytes payload);
struct logged *__real_pln_mem_missed_locked(struct mem_client *client, bool *is_whole);
struct logged *__wrap_pln_mem_missed_locked(struct mem_client *client, bool *is_whole);
/* ---- messages ---- */

/* False for what concerns no value: the end of a load, new durations. */
static bool is_change(enum pln_message_kind kind, enum sim_change *change) {
    static const struct {
        enum pln_message_kind kind;
        enum sim_change change;
    } changes[] = {
        {PLN_MESSAGE_KEY, SIM_KEY},   {PLN_MESSAGE_EXPIRE, SIM_EXPIRE},
        {PLN_MESSAGE_KEYS, SIM_LIST}, {PLN_MESSAGE_MATCH, SIM_MATCH},
        {PLN_MESSAGE_TAG, SIM_TAG},   {PLN_MESSAGE_CLEAR, SIM_CLEAR},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(changes); i++) {
        if (changes[i].kind == kind) {
            *change = changes[i].change;
            return true;
        }
    }
    return false;
}

/* ---- what a client reports ---- */

/* Between a client and its cache. */
struct seam {
    struct pln_l2_events real;
    struct sim_floors when_up; /* carried out before the link came up, and so to be replayed */
    bool is_replaying;
};

static struct seam seams[SIM_NODES];

static int node_of(const struct mem_client *client) {
    const struct seam *seam = client->events.arg;
    return (int) (seam - seams);
}

static void pass(struct seam *seam, void (*real)(void *, struct pln_bytes), bool is_deaf,
                 enum sim_change kind, struct pln_bytes payload) {
    static const char *const names[] = {
        [SIM_KEY] = "key", [SIM_EXPIRE] = "stale", [SIM_TAG] = "tag"};
    int node = (int) (seam - seams);
    sim_point();
    sim_trace("node %d is told of %s %.*s", node, names[kind], (int) payload.len,
              (const char *) payload.data);
    if (!is_deaf && (sim_mutant != SIM_NO_REPLAY || !seam->is_replaying)) {
        void *note = sim_note();
        sim_set_note(NULL); /* the writer's task brings it, and is not the one concerned */
        real(seam->real.arg, payload);
        sim_set_note(note);
    }
    sim_heard(node, kind, payload);
}

static void on_key(void *arg, struct pln_bytes key) {
    struct seam *seam = arg;
    pass(seam, seam->real.on_key, sim_mutant == SIM_DEAF_TO_KEYS, SIM_KEY, key);
}

static void on_expire(void *arg, struct pln_bytes key) {
    struct seam *seam = arg;
    pass(seam, seam->real.on_expire, sim_mutant == SIM_DEAF_TO_EXPIRES, SIM_EXPIRE, key);
}

static void on_tag(void *arg, struct pln_bytes tag) {
    struct seam *seam = arg;
    pass(seam, seam->real.on_tag, sim_mutant == SIM_DEAF_TO_TAGS, SIM_TAG, tag);
}

static void on_match(void *arg, const struct pln_mask *mask) {
    struct seam *seam = arg;
    uint8_t payload[1 + PLN_MAX_KEY] = {(uint8_t) mask->kind};
    void *note = sim_note();
    int node = (int) (seam - seams);
    memcpy(payload + 1, mask->text.data, mask->text.len);
    sim_point();
    sim_trace("node %d is told of all that fits %.*s", node, (int) mask->text.len,
              (const char *) mask->text.data);
    sim_set_note(NULL);
    if (sim_mutant == SIM_MATCH_WALKS) {
        sim_walk(seam->real.arg, mask);
    } else if (sim_mutant != SIM_DEAF_TO_MATCHES) {
        seam->real.on_match(seam->real.arg, mask);
    }
    sim_set_note(note);
    sim_heard(node, SIM_MATCH, pln_bytes_of(payload, 1 + mask->text.len));
}

static void on_filled(void *arg, struct pln_bytes key) {
    struct seam *seam = arg;
    seam->real.on_filled(seam->real.arg, key);
}

static void on_clear(void *arg) {
    struct seam *seam = arg;
    int node = (int) (seam - seams);
    sim_point();
    sim_trace("node %d is told to clear", node);
    if (sim_mutant != SIM_DEAF_TO_CLEARS) {
        void *note = sim_note();
        sim_set_note(NULL);
        seam->real.on_clear(seam->real.arg);
        sim_set_note(note);
    }
    sim_heard(node, SIM_CLEAR, pln_bytes_of(NULL, 0));
}

static void on_extend(void *arg, struct pln_bytes key, pln_ms fresh, pln_ms life) {
    struct seam *seam = arg;
    seam->real.on_extend(seam->real.arg, key, fresh, life);
}

static void on_certain(void *arg, pln_ms at) {
    struct seam *seam = arg;
    seam->real.on_certain(seam->real.arg, at);
}

static void on_down(void *arg) {
    struct seam *seam = arg;
    sim_trace("node %d loses its link", (int) (seam - seams));
    if (sim_mutant != SIM_NO_DOWN) {
        seam->real.on_down(seam->real.arg);
    }
    sim_link_down((int) (seam - seams));
}

static void on_up(void *arg, bool is_whole) {
    struct seam *seam = arg;
    bool is_taken_for_whole = is_whole || sim_mutant == SIM_SAME_GENERATION;
    seam->is_replaying = false;
    seam->real.on_up(seam->real.arg, is_taken_for_whole);
    sim_trace("node %d has its link%s", (int) (seam - seams),
              is_whole ? ", and missed nothing" : "");
    sim_link_up((int) (seam - seams), &seam->when_up);
    sim_tally.repairs += is_whole;
}

/* ---- what a client is asked ---- */

static int ask(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
               struct pln_l2_value *value) {
    struct sim_floors then;
    sim_executed(&then);
    int status = pln_mem_ops.get(l2, key, deadline, value);
    if (status == PLN_OK) {
        sim_trace("the server has %.*s of %.*s", (int) value->item.value.len,
                  (const char *) value->item.value.data, (int) key->key.len,
                  (const char *) key->key.data);
        sim_check_stored(&then, sim_key_of(key->key), &value->item, "who asked the server");
    }
    sim_point();
    if (sim_mutant == SIM_LATE_STAMP) {
        sim_stamp_again(key);
    }
    return status;
}

static struct record *find_locked(struct mem_client *client, struct pln_bytes key) {
    struct record *record = NULL;
    HASH_FIND(hh, client->space->records, key.data, key.len, record);
    return record;
}

/* Makes the lease the one that is valid. */
static void forge(struct mem_client *client, struct pln_bytes key, struct pln_l2_lease *lease) {
    pthread_mutex_lock(&client->server->lock);
    struct record *record = find_locked(client, key);
    if (record != NULL) {
        record->is_leased = true;
        record->lease_until = PLN_FOREVER;
        memcpy(lease->token, record->token, sizeof lease->token);
    }
    pthread_mutex_unlock(&client->server->lock);
}

static int commit(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_lease *lease,
                  const struct pln_l2_item *item, pln_ns deadline) {
    struct sim_floors then;
    struct pln_l2_lease own = *lease;
    sim_point();
    if (sim_mutant == SIM_ANY_TOKEN) {
        forge(pln_mem_client(l2), key->key, &own);
    }
    sim_executed(&then);
    int status = pln_mem_ops.commit(l2, key, &own, item, deadline);
    sim_trace("commit of %.*s: %s", (int) item->value.len, (const char *) item->value.data,
              pln_status_name(status));
    if (status == PLN_OK) {
        sim_check_stored(&then, sim_key_of(key->key), item, "the server, by a commit,");
    } else {
        sim_tally.voided_commits++;
    }
    return status;
}

static void hold_lease(struct mem_client *client, struct pln_bytes key, bool *was_leased) {
    struct record *record = find_locked(client, key);
    *was_leased = record != NULL && record->is_leased;
}

static int remove_leaving_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool was_leased;
    pthread_mutex_lock(&client->server->lock);
    hold_lease(client, key->key, &was_leased);
    pthread_mutex_unlock(&client->server->lock);
    int status = pln_mem_ops.remove(l2, key, deadline);
    if (was_leased) {
        pthread_mutex_lock(&client->server->lock);
        find_locked(client, key->key)->is_leased = true;
        pthread_mutex_unlock(&client->server->lock);
    }
    return status;
}

static int remove_key(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    return sim_mutant == SIM_LEASE_STAYS ? remove_leaving_lease(l2, key, deadline)
                                         : pln_mem_ops.remove(l2, key, deadline);
}

static int redo(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_redo *what,
                pln_ns deadline) {
    return sim_redo(l2, node_of(pln_mem_client(l2)), key, what, deadline);
}

static int drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    sim_redo_without_key(node_of(pln_mem_client(l2)), "a tag");
    return pln_mem_ops.drop_tag(l2, tag, deadline);
}

static int clear(struct pln_l2 *l2, pln_ns deadline) {
    sim_redo_without_key(node_of(pln_mem_client(l2)), "a clear");
    return pln_mem_ops.clear(l2, deadline);
}

int __wrap_pln_l2_mem_new(const struct pln_l2_options *options, struct pln_l2_mem_server *server,
                          struct pln_l2 **l2) {
    static struct pln_l2_ops ops;
    struct seam *seam = &seams[sim_node()];
    struct pln_l2_options own = *options;
    *seam = (struct seam){.real = options->events};
    own.events = (struct pln_l2_events){.arg = seam,
                                        .on_key = on_key,
                                        .on_expire = on_expire,
                                        .on_extend = on_extend,
                                        .on_tag = on_tag,
                                        .on_match = on_match,
                                        .on_clear = on_clear,
                                        .on_filled = on_filled,
                                        .on_down = on_down,
                                        .on_up = on_up,
                                        .on_certain = on_certain};
    ops = pln_mem_ops;
    ops.get = ask;
    ops.commit = commit;
    ops.remove = remove_key;
    ops.redo = redo;
    ops.drop_tag = drop_tag;
    ops.clear = clear;
    int status = __real_pln_l2_mem_new(&own, server, l2);
    if (status == PLN_OK) {
        (*l2)->ops = &ops;
    }
    return status;
}

/* ---- what the server carries out ---- */

/* As the history has it: a mask goes without its time. */
static struct pln_bytes payload_of(enum sim_change kind, struct pln_bytes payload) {
    payload.len -= kind == SIM_MATCH ? PLN_MESSAGE_CLEAR_BYTES : 0;
    return kind == SIM_CLEAR ? pln_bytes_of(NULL, 0) : payload;
}

void __wrap_pln_mem_post_locked(struct mem_client *from, enum pln_message_kind kind,
                                struct pln_bytes payload) {
    enum sim_change change;
    struct sim_write *write = sim_note();
    bool is_told = is_change(kind, &change);
    if (is_told) {
        assert(write != NULL); /* only writers make changes, or what they left to do */
        sim_redo_judge(write, change, find_locked(from, payload));
        sim_carried_out(change, payload_of(change, payload), write);
        sim_trace("the server carries it out%s", write->stays ? ": what is newer stays" : "");
    }
    if (!is_told || sim_mutant != SIM_REDO_SILENT || !write->is_redo) {
        __real_pln_mem_post_locked(from, kind, payload);
    }
}

/* One of several keys is heard as that of each. */
static void note_sent(int node, enum sim_change change, struct pln_bytes payload) {
    struct pln_bytes key;
    if (change != SIM_LIST) {
        sim_sent(node, change, payload_of(change, payload));
        return;
    }
    while (pln_message_next_key(&payload, &key)) {
        sim_sent(node, SIM_KEY, key);
    }
}

void __wrap_pln_mem_send_locked(struct mem_client *to, const struct queued *message,
                                struct pln_bytes payload) {
    const struct pln_memory_stats before = to->server->stats;
    const struct pln_memory_stats *after = &to->server->stats;
    enum sim_change change;
    __real_pln_mem_send_locked(to, message, payload);
    if (is_change(message->kind, &change) && !message->is_own && after->lost == before.lost) {
        note_sent(node_of(to), change, payload);
        if (after->duplicated != before.duplicated) {
            note_sent(node_of(to), change, payload);
        }
    }
}

struct logged *__wrap_pln_mem_missed_locked(struct mem_client *client, bool *is_whole) {
    struct seam *seam = client->events.arg;
    struct logged *missed = __real_pln_mem_missed_locked(client, is_whole);
    seam->is_replaying = true;
    if (*is_whole) {
        sim_executed_by_others(node_of(client), &seam->when_up);
    } else {
        sim_executed(&seam->when_up);
    }
    return missed;
}

/* NOLINTEND(bugprone-reserved-identifier) */
