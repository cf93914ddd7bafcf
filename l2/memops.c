/* SPDX-License-Identifier: MIT
 *
 * memops.c - the operations of the tier in memory: the scripts of script.c, said in C. Each takes
 * the server's lock, changes its records, queues what others must hear, and reports it before it
 * returns, but for what faults hold up.
 */
#include "mem.h"

/* ---- values and tags ---- */

pln_ms pln_mem_server_now(struct mem_client *client) {
    return pln_now(client->host) + 1000000000000;
}

struct record *pln_mem_find_record(struct space *space, struct pln_bytes key) {
    struct record *record = NULL;
    HASH_FIND(hh, space->records, key.data, key.len, record);
    return record;
}

struct record *pln_mem_make_record(struct space *space, struct pln_bytes key) {
    struct record *record = pln_mem_find_record(space, key);
    if (record != NULL) {
        return record;
    }
    record = calloc(1, sizeof *record + key.len);
    if (record == NULL) {
        return NULL;
    }
    record->key_len = key.len;
    if (key.len > 0) {
        memcpy(record->key, key.data, key.len);
    }
    HASH_ADD_KEYPTR(hh, space->records, record->key, record->key_len, record);
    if (record->hh.tbl == NULL) {
        free(record);
        return NULL;
    }
    return record;
}

void pln_mem_drop_value(struct record *record) {
    free(record->envelope);
    record->envelope = NULL;
}

static bool is_void(struct space *space, const struct pln_bytes *tags, size_t n_tags,
                    uint64_t tag_clock) {
    if (space->cleared > tag_clock) {
        return true;
    }
    for (size_t i = 0; i < n_tags; i++) {
        struct tag_time *found = NULL;
        HASH_FIND(hh, space->tags, tags[i].data, tags[i].len, found);
        if (found != NULL && found->time > tag_clock) {
            return true;
        }
    }
    return false;
}

int pln_mem_read_record(struct mem_client *client, struct record *record,
                        struct pln_l2_value *value) {
    pln_ms now = pln_mem_server_now(client);
    if (record == NULL || record->envelope == NULL) {
        return PLN_MISS;
    }
    struct pln_bytes envelope = pln_bytes_of(record->envelope, record->envelope_bytes);
    int result = pln_envelope_read(envelope, now, value);
    if (result != PLN_OK) {
        return result;
    }
    if (is_void(client->space, value->item.tags, value->item.n_tags, value->item.tag_clock)) {
        pln_l2_value_fini(value);
        return PLN_MISS;
    }
    return PLN_OK;
}

static bool has_value(struct mem_client *client, struct record *record, bool *is_absent) {
    struct pln_l2_value value;
    if (pln_mem_read_record(client, record, &value) != PLN_OK) {
        return false;
    }
    *is_absent = value.item.is_absent;
    pln_l2_value_fini(&value);
    return true;
}

int pln_mem_store(struct mem_client *client, struct pln_bytes key, const struct pln_l2_item *item,
                  uint64_t tag_clock) {
    struct pln_l2_item stored = *item;
    struct record *record = pln_mem_make_record(client->space, key);
    size_t bytes = pln_envelope_size(item);
    uint8_t *envelope = malloc(bytes);
    if (record == NULL || envelope == NULL) {
        free(envelope);
        return pln_fail(PLN_ENOMEM, "l2: no memory for a value of %zu bytes", item->value.len);
    }
    stored.tag_clock = tag_clock;
    stored.life_left = item->life_left < 1 ? 1 : item->life_left;
    pln_envelope_write(&stored, pln_mem_server_now(client), envelope);
    pln_mem_drop_value(record);
    record->envelope = envelope;
    record->envelope_bytes = bytes;
    record->is_leased = false;
    record->made_at = pln_clock_precise();
    if (item->age > 0 && item->age < record->made_at / 1000000) {
        record->made_at -= item->age * 1000000;
    }
    return PLN_OK;
}

/* ---- the operations ---- */

static int mem_start(struct pln_l2 *l2) {
    struct mem_client *client = pln_mem_client(l2);
    pthread_mutex_lock(&client->server->lock);
    client->has_started = true;
    pln_mem_settle_locked(client->server);
    pthread_mutex_unlock(&client->server->lock);
    return PLN_OK;
}

static int mem_get(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                   struct pln_l2_value *value) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    return pln_mem_leave(
        client, is_late,
        pln_mem_read_record(client, pln_mem_find_record(client->space, key->key), value));
}

static int mem_get_many(struct pln_l2 *l2, const struct pln_hashed *keys, size_t n, pln_ns deadline,
                        struct pln_l2_value *values, int *statuses) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_READS, deadline, &is_late);
    for (size_t i = 0; i < n; i++) {
        statuses[i] = result;
        if (result == PLN_OK) {
            struct record *record = pln_mem_find_record(client->space, keys[i].key);
            statuses[i] = pln_mem_read_record(client, record, &values[i]);
        }
    }
    return result == PLN_OK ? pln_mem_leave(client, is_late, PLN_OK) : result;
}

/* What keeps an item out: a condition, or a tag dropped since its source was read. */
static bool is_refused(struct mem_client *client, struct pln_bytes key,
                       const struct pln_l2_item *item, uint32_t flags) {
    bool is_absent = false;
    bool exists = has_value(client, pln_mem_find_record(client->space, key), &is_absent) &&
                  !is_absent;
    return ((flags & PLN_SET_NX) != 0 && exists) || ((flags & PLN_SET_XX) != 0 && !exists) ||
           (item->tag_clock != 0 &&
            is_void(client->space, item->tags, item->n_tags, item->tag_clock));
}

int pln_mem_set_locked(struct mem_client *client, struct pln_bytes key,
                       const struct pln_l2_item *item, uint32_t flags) {
    if (is_refused(client, key, item, flags)) {
        return PLN_NOT_STORED;
    }
    uint64_t clock = item->tag_clock != 0 ? item->tag_clock : client->space->clock;
    int result = pln_mem_store(client, key, item, clock);
    if (result == PLN_OK) {
        pln_mem_post_locked(client, PLN_MESSAGE_KEY, key);
    }
    return result;
}

static int mem_set(struct pln_l2 *l2, const struct pln_hashed *key, const struct pln_l2_item *item,
                   uint32_t flags, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_envelope_check(item);
    if (result == PLN_OK) {
        result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    }
    return result != PLN_OK
               ? result
               : pln_mem_leave(client, is_late, pln_mem_set_locked(client, key->key, item, flags));
}

void pln_mem_remove_locked(struct mem_client *client, struct pln_bytes key) {
    struct record *record = pln_mem_find_record(client->space, key);
    if (record != NULL) {
        pln_mem_drop_value(record);
        record->is_leased = false;
    }
}

static int mem_remove(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    pln_mem_remove_locked(client, key->key);
    pln_mem_post_locked(client, PLN_MESSAGE_KEY, key->key);
    return pln_mem_leave(client, is_late, PLN_OK);
}

static int mem_expire(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    bool is_absent;
    int result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    struct record *record = pln_mem_find_record(client->space, key->key);
    result = has_value(client, record, &is_absent) ? PLN_OK : PLN_MISS;
    if (result == PLN_OK) {
        pln_envelope_expire(record->envelope, pln_mem_server_now(client));
    }
    if (record != NULL) {
        record->is_leased = false;
    }
    pln_mem_post_locked(client, PLN_MESSAGE_EXPIRE, key->key);
    return pln_mem_leave(client, is_late, result);
}

static int mem_touch(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms fresh, pln_ms life,
                     pln_ms least, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    struct pln_l2_value value = {.memory = NULL};
    int result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    struct record *record = pln_mem_find_record(client->space, key->key);
    bool is_taken = pln_mem_read_record(client, record, &value) == PLN_OK &&
                    (least == 0 || (value.item.fresh_left > 0 &&
                                    value.item.age + value.item.fresh_left >= least));
    pln_l2_value_fini(&value);
    if (!is_taken) {
        return pln_mem_leave(client, is_late, PLN_MISS);
    }
    uint8_t payload[PLN_MESSAGE_MAX];
    pln_envelope_touch(record->envelope, pln_mem_server_now(client), fresh, life < 1 ? 1 : life);
    pln_mem_post_locked(client, PLN_MESSAGE_EXTEND,
                        pln_message_extend(key->key, fresh, life, payload));
    return pln_mem_leave(client, is_late, PLN_OK);
}

static bool is_held_now(struct mem_client *client, struct record *record) {
    return record != NULL && record->is_leased && record->lease_until > pln_mem_server_now(client);
}

static int mem_lease(struct pln_l2 *l2, const struct pln_hashed *key, pln_ms length,
                     pln_ns deadline, struct pln_l2_lease *lease) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    struct record *record = pln_mem_make_record(client->space, key->key);
    if (record == NULL) {
        return pln_mem_leave(client, is_late, pln_fail(PLN_ENOMEM, "l2: no memory for a lease"));
    }
    *lease = (struct pln_l2_lease){.tag_clock = client->space->clock,
                                   .is_empty = !record->envelope};
    if (is_held_now(client, record)) {
        record->is_awaited = true;
        lease->left = record->lease_until - pln_mem_server_now(client);
        return pln_mem_leave(client, is_late, PLN_PENDING);
    }
    pln_put_big(record->token, pln_random64(), 8);
    pln_put_big(record->token + 8, pln_random64(), 8);
    memcpy(lease->token, record->token, sizeof lease->token);
    record->lease_until = pln_after(pln_mem_server_now(client), length);
    record->is_leased = true;
    record->is_awaited = false;
    return pln_mem_leave(client, is_late, PLN_OK);
}

/* Ends the lease if it is this one and still runs; tells who waits. */
static bool end_lease(struct mem_client *client, struct pln_bytes key,
                      const struct pln_l2_lease *lease) {
    struct record *record = pln_mem_find_record(client->space, key);
    if (!is_held_now(client, record) ||
        memcmp(record->token, lease->token, sizeof record->token) != 0) {
        return false;
    }
    record->is_leased = false;
    if (record->is_awaited) {
        pln_mem_post_locked(client, PLN_MESSAGE_FILLED, key);
    }
    return true;
}

static int mem_commit(struct pln_l2 *l2, const struct pln_hashed *key,
                      const struct pln_l2_lease *lease, const struct pln_l2_item *item,
                      pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_envelope_check(item);
    if (result == PLN_OK) {
        result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    }
    if (result != PLN_OK) {
        return result;
    }
    if (!end_lease(client, key->key, lease) || lease->tag_clock < client->space->matched ||
        is_void(client->space, item->tags, item->n_tags, lease->tag_clock)) {
        return pln_mem_leave(client, is_late, PLN_NOT_STORED);
    }
    return pln_mem_leave(client, is_late, pln_mem_store(client, key->key, item, lease->tag_clock));
}

static int mem_release(struct pln_l2 *l2, const struct pln_hashed *key,
                       const struct pln_l2_lease *lease, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_FREES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    return pln_mem_leave(client, is_late, end_lease(client, key->key, lease) ? PLN_OK : PLN_MISS);
}

static struct tag_time *make_tag(struct space *space, struct pln_bytes tag) {
    struct tag_time *found = NULL;
    HASH_FIND(hh, space->tags, tag.data, tag.len, found);
    if (found != NULL) {
        return found;
    }
    found = calloc(1, sizeof *found + tag.len);
    if (found == NULL) {
        return NULL;
    }
    found->tag_len = tag.len;
    memcpy(found->tag, tag.data, tag.len);
    HASH_ADD_KEYPTR(hh, space->tags, found->tag, found->tag_len, found);
    if (found->hh.tbl == NULL) {
        free(found);
        return NULL;
    }
    return found;
}

static int mem_drop_tag(struct pln_l2 *l2, struct pln_bytes tag, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    struct tag_time *found = make_tag(client->space, tag);
    if (found == NULL) {
        return pln_mem_leave(client, is_late, pln_fail(PLN_ENOMEM, "l2: no memory for a tag"));
    }
    found->time = ++client->space->clock;
    pln_mem_post_locked(client, PLN_MESSAGE_TAG, tag);
    return pln_mem_leave(client, is_late, PLN_OK);
}

static int mem_clear(struct pln_l2 *l2, pln_ns deadline) {
    struct mem_client *client = pln_mem_client(l2);
    bool is_late;
    int result = pln_mem_enter(client, MEM_WRITES, deadline, &is_late);
    if (result != PLN_OK) {
        return result;
    }
    client->space->cleared = ++client->space->clock;
    pln_mem_post_locked(client, PLN_MESSAGE_CLEAR, pln_bytes_of(NULL, 0));
    return pln_mem_leave(client, is_late, PLN_OK);
}

/* ---- the server as a whole ---- */

static void free_record(struct space *space, struct record *record) {
    /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot follow uthash */
    HASH_DEL(space->records, record);
    pln_mem_drop_value(record);
    free(record);
}

void pln_mem_forget_records(struct space *space) {
    struct record *next;
    struct tag_time *tag, *next_tag;
    for (struct record *record = space->records; record != NULL; record = next) {
        next = record->hh.next;
        free_record(space, record);
    }
    HASH_ITER(hh, space->tags, tag, next_tag) {
        /* NOLINTNEXTLINE(clang-analyzer-unix.Malloc): it cannot follow uthash */
        HASH_DEL(space->tags, tag);
        free(tag);
    }
    /* as in Redis, where a new clock starts above all that an older one can have counted to */
    space->cleared = ++space->clock;
}

size_t pln_mem_evict_records(struct space *space, double share, uint64_t *dice) {
    size_t n = 0;
    for (struct record *record = space->records; record != NULL; record = record->hh.next) {
        if (record->envelope != NULL && pln_mem_chance(dice, share)) {
            pln_mem_drop_value(record); /* a lease is a key of its own, and stays */
            n++;
        }
    }
    return n;
}

size_t pln_mem_count_values(const struct space *space) {
    size_t n = 0;
    for (const struct record *record = space->records; record != NULL; record = record->hh.next) {
        n += record->envelope != NULL;
    }
    return n;
}

const struct pln_l2_ops pln_mem_ops = {
    .close = pln_mem_close,
    .start = mem_start,
    .get = mem_get,
    .get_many = mem_get_many,
    .get_async = pln_mem_get_async,
    .set = mem_set,
    .remove = mem_remove,
    .remove_many = pln_mem_remove_many,
    .expire = mem_expire,
    .touch = mem_touch,
    .swap = pln_mem_swap,
    .heard = pln_mem_heard,
    .redo = pln_mem_redo,
    .write = pln_mem_write,
    .through = pln_mem_through,
    .queue = &pln_mem_queue_ops,
    .lease = mem_lease,
    .commit = mem_commit,
    .release = mem_release,
    .drop_tag = mem_drop_tag,
    .drop_match = pln_mem_drop_match,
    .clear = mem_clear,
    .command = pln_mem_command,
    .health = pln_mem_health,
    .nodes = pln_mem_nodes,
};
