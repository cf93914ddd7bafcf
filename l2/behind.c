/* SPDX-License-Identifier: MIT
 *
 * behind.c - writes that wait, in Redis: how they get into the queue, and what is known of it. The
 * scripts are in queue_scripts.h; take.c takes the writes out, letters.c has those that nobody
 * could store.
 *
 * The queue lies on one server, and a write changes a value and the queue in one step: so in a
 * cluster all must be in one slot, by a namespace in braces, and in a ring, where each server is
 * alone, there is no queue.
 */
#include "lease.h"

#include <inttypes.h>
#include <stdio.h>

int pln_queue_check(struct pln_l2 *l2) {
    const struct pln_redis *redis = pln_redis_of(l2);
    if (redis->url.topology == PLN_RING) {
        return pln_fail(PLN_EINVAL,
                        "l2: writes that wait need one server that has them all, and redis+ring "
                        "spreads keys over independent ones: use one server, sentinels, or a "
                        "cluster and a namespace in braces");
    }
    if (redis->names.is_cluster && !redis->names.is_tagged) {
        const char *name = redis->names.queue;
        int len = (int) (strlen(name) - strlen(":queue"));
        return pln_fail(
            PLN_EINVAL,
            "l2: in a cluster writes that wait need a namespace in braces, so that they "
            "lie on the server of their values: {%.*s} in the place of %.*s",
            len, name, len, name);
    }
    return PLN_OK;
}

/* ---- scripts on the queue ---- */

int pln_queue_run(struct pln_l2 *l2, const struct pln_script_call *call, pln_ns deadline,
                  struct pln_reply **reply) {
    struct pln_redis *redis = pln_redis_of(l2);
    int result = pln_queue_check(l2);
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result != PLN_OK) {
        return result;
    }
    return pln_script_run(pln_node_of_name(redis, pln_key(redis->names.queue)), call, deadline,
                          reply);
}

int pln_queue_run_number(struct pln_l2 *l2, const struct pln_script_call *call, pln_ns deadline,
                         int64_t *number) {
    struct pln_reply *reply;
    int result = pln_queue_run(l2, call, deadline, &reply);
    if (result == PLN_OK) {
        *number = reply->integer;
        pln_reply_free(reply);
    }
    return result;
}

/* ---- entries ---- */

void pln_id_write(uint64_t ms, uint64_t seq, char text[PLN_ID_TEXT]) {
    snprintf(text, PLN_ID_TEXT, "%" PRIu64 "-%" PRIu64, ms, seq);
}

/* Takes the digits at the front. */
static bool read_number(struct pln_bytes *text, uint64_t *number) {
    const char *at = text->data;
    size_t n = 0;
    *number = 0;
    while (n < text->len && at[n] >= '0' && at[n] <= '9') {
        if (__builtin_mul_overflow(*number, 10, number) ||
            __builtin_add_overflow(*number, (uint64_t) (at[n] - '0'), number)) {
            return false;
        }
        n++;
    }
    *text = pln_bytes_of(at + n, text->len - n);
    return n > 0;
}

bool pln_id_read(struct pln_bytes text, uint64_t *ms, uint64_t *seq) {
    if (!read_number(&text, ms) || text.len == 0 || *(const char *) text.data != '-') {
        return false;
    }
    text = pln_bytes_of((const char *) text.data + 1, text.len - 1);
    return read_number(&text, seq) && text.len == 0;
}

struct pln_bytes pln_field(const struct pln_reply *fields, const char *name) {
    for (size_t i = 0; fields->kind == PLN_REPLY_ARRAY && i + 1 < fields->n_elements; i += 2) {
        if (fields->elements[i].kind == PLN_REPLY_STRING &&
            fields->elements[i + 1].kind == PLN_REPLY_STRING &&
            pln_bytes_equal(fields->elements[i].bytes, pln_key(name))) {
            return fields->elements[i + 1].bytes;
        }
    }
    return pln_bytes_of("", 0);
}

static bool read_form(struct pln_bytes form, struct pln_l2_entry *entry) {
    char first = form.len > 0 ? *(const char *) form.data : 0;
    uint64_t format = 0;
    entry->is_removal = first == 'r';
    entry->is_absent = first == 'a';
    if (entry->is_removal) {
        return form.len == 1 && entry->value.len == 0;
    }
    form = pln_bytes_of((const char *) form.data + 1, form.len > 0 ? form.len - 1 : 0);
    bool is_read = (first == 's' || first == 'a') && read_number(&form, &format) && form.len == 0 &&
                   format <= UINT8_MAX;
    entry->format = is_read ? (uint8_t) format : 0;
    return is_read;
}

bool pln_entry_read(const struct pln_reply *fields, struct pln_l2_entry *entry) {
    entry->key = pln_field(fields, "k");
    entry->value = pln_field(fields, "v");
    bool has_form = read_form(pln_field(fields, "f"), entry);
    bool is_whole = fields->kind == PLN_REPLY_ARRAY && fields->n_elements >= 6;
    for (size_t i = 0; is_whole && i < 3; i++) {
        const struct pln_reply *name = &fields->elements[2 * i];
        is_whole = name->kind == PLN_REPLY_STRING && name->bytes.len == 1 &&
                   *(const char *) name->bytes.data == "kvf"[i] && name[1].kind == PLN_REPLY_STRING;
    }
    return is_whole && has_form && entry->key.len <= PLN_MAX_KEY;
}

/* ---- in ---- */

/* What an entry is called in its field f. */
static void write_form(const struct pln_l2_item *item, char form[8]) {
    snprintf(form, 8, "%c%u", item->is_absent ? 'a' : 's', (unsigned) item->format);
}

void pln_queue_add_names(struct pln_redis *redis, struct pln_script_call *call) {
    call->names[call->n_names++] = redis->names.queue;
    call->names[call->n_names++] = redis->names.last;
}

/* Whether the queue has another value than the tier, since that has it packed. */
static bool has_own(const struct pln_l2_write *write, const struct pln_l2_item *item) {
    return !pln_bytes_equal(write->value, item->value);
}

static int run_write(struct pln_redis *redis, const struct pln_script_call *call, size_t most,
                     pln_ns deadline) {
    struct pln_node *node = pln_node_of(redis, call->key->key);
    struct pln_reply *reply;
    int result = pln_script_run(node, call, deadline, &reply);
    if (result != PLN_OK) {
        return result;
    }
    int64_t number = reply->integer;
    pln_reply_free(reply);
    if (number > 1) {
        pln_feed_ack(&pln_node_of_tags(node)->feed, (uint64_t) number);
    }
    return number > 0 ? PLN_OK : number == 0 ? PLN_NOT_STORED : pln_queue_full(most);
}

static int write_if(struct pln_redis *redis, struct pln_script_call *call,
                    const struct pln_l2_write *write, const char *mode, uint64_t clock,
                    pln_ns deadline) {
    uint8_t memory[PLN_SCRIPT_ITEM_MAX];
    char how[96], form[8];
    bool is_own = has_own(write, write->item);
    call->script = PLN_SCRIPT_WRITE_IF;
    write_form(write->item, form);
    snprintf(how, sizeof how, "%s %" PRIu64 " %zu %s %d", mode, clock, write->most, form, is_own);
    pln_script_add(call, pln_key(how));
    pln_script_add(call, is_own ? write->value : pln_key(""));
    pln_script_add_item(call, write->item, memory);
    return run_write(redis, call, write->most, deadline);
}

static int write_set(struct pln_redis *redis, struct pln_script_call *call,
                     const struct pln_l2_write *write, pln_ns deadline) {
    const struct pln_l2_item *item = write->item;
    const char *mode = (write->set_flags & PLN_SET_NX) != 0   ? "nx"
                       : (write->set_flags & PLN_SET_XX) != 0 ? "xx"
                                                              : "any";
    uint8_t memory[PLN_SCRIPT_ITEM_MAX];
    uint64_t clock = item->tag_clock;
    char form[8];
    if (redis->slots != NULL && clock == 0) {
        int result = pln_redis_clock_apart(redis, deadline, &clock);
        if (result != PLN_OK) {
            return result;
        }
    }
    if (clock != 0 || mode[0] != 'a') {
        return write_if(redis, call, write, mode, clock, deadline);
    }
    call->script = PLN_SCRIPT_WRITE_SET;
    write_form(item, form);
    pln_script_add_number(call, pln_queue_most(write->most));
    pln_script_add(call, pln_key(form));
    pln_script_add_envelope(call, item, memory);
    if (has_own(write, item)) {
        pln_script_add(call, write->value);
    }
    return run_write(redis, call, write->most, deadline);
}

int pln_redis_write(struct pln_l2 *l2, const struct pln_hashed *key,
                    const struct pln_l2_write *write, pln_ns deadline, struct pln_l2_value *value) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {.key = key, .kind = PLN_MESSAGE_KEY, .payload = key->key};
    int result = pln_queue_check(l2);
    if (result == PLN_OK) {
        result = pln_redis_check_key(key);
    }
    if (result == PLN_OK && write->kind == PLN_L2_WRITE_SET) {
        result = pln_envelope_check(write->item);
    }
    if (result == PLN_OK) {
        result = pln_nodes_await(redis, deadline);
    }
    if (result != PLN_OK) {
        return result;
    }
    pln_queue_add_names(redis, &call);
    switch (write->kind) {
    case PLN_L2_WRITE_SET:
        return write_set(redis, &call, write, deadline);
    case PLN_L2_WRITE_REMOVE:
        call.script = PLN_SCRIPT_WRITE_REMOVE;
        pln_script_add_number(&call, pln_queue_most(write->most));
        return run_write(redis, &call, write->most, deadline);
    case PLN_L2_WRITE_SWAP:
        break;
    }
    return pln_redis_write_swap(l2, key, write, deadline, value);
}

/* ---- what is there ---- */

int pln_queue_no_answer(const char *command) {
    return pln_fail(PLN_EL2, "l2: redis: %s: an answer of an unexpected kind", command);
}

int pln_queue_find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline,
                   struct pln_l2_entries *found) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {.script = PLN_SCRIPT_FIND};
    struct pln_l2_entry entry = {.n_taken = 0};
    struct pln_reply *reply;
    pln_queue_add_names(redis, &call);
    pln_script_add(&call, key->key);
    int result = pln_redis_check_key(key);
    if (result == PLN_OK) {
        result = pln_queue_run(l2, &call, deadline, &reply);
    }
    if (result != PLN_OK) {
        return result;
    }
    const struct pln_reply *at = reply->n_elements == 1 ? &reply->elements[0] : NULL;
    bool is_there = at != NULL && at->kind == PLN_REPLY_ARRAY && at->n_elements == 2 &&
                    at->elements[0].kind == PLN_REPLY_STRING &&
                    pln_id_read(at->elements[0].bytes, &entry.ms, &entry.seq) &&
                    pln_entry_read(&at->elements[1], &entry) &&
                    pln_bytes_equal(entry.key, key->key);
    result = is_there ? pln_entries_pack(&entry, 1, found) : PLN_MISS;
    pln_reply_free(reply);
    return result;
}

int pln_queue_state_of(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *to) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {
        .script = PLN_SCRIPT_STATE, .names = {redis->names.queue, redis->names.dead}, .n_names = 2};
    struct pln_reply *reply;
    int result = pln_queue_run(l2, &call, deadline, &reply);
    if (result != PLN_OK) {
        return result;
    }
    const struct pln_reply *at = reply->elements;
    bool is_right = reply->n_elements == 6 && at[0].kind == PLN_REPLY_INTEGER &&
                    at[1].kind == PLN_REPLY_INTEGER && at[2].kind == PLN_REPLY_STRING &&
                    at[3].kind == PLN_REPLY_STRING && at[4].kind == PLN_REPLY_INTEGER &&
                    at[5].kind == PLN_REPLY_INTEGER &&
                    pln_id_read(at[2].bytes, &to->first_ms, &to->first_seq) &&
                    pln_id_read(at[3].bytes, &to->last_ms, &to->last_seq);
    if (is_right) {
        to->depth = (uint64_t) at[0].integer;
        to->dead = (uint64_t) at[1].integer;
        pln_ms age = at[4].integer - (pln_ms) to->first_ms;
        to->oldest = to->first_ms != 0 && age > 0 ? age : 0;
        to->may_evict = at[5].integer != 0;
    }
    pln_reply_free(reply);
    return is_right ? PLN_OK : pln_queue_no_answer("state");
}
