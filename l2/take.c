/* SPDX-License-Identifier: MIT
 *
 * take.c - writes that wait, in Redis: how they are taken out of the queue, by one at a time.
 *
 * The lead is a token that ends by itself. Each step looks at it inside the script that does the
 * step, so who has lost it does nothing any more. The consumer group has one consumer, since the
 * lead decides whose turn it is; what that has taken and not ended is what the next one begins
 * with, and Redis counts how often an entry was taken.
 *
 * These scripts may carry much, so they go over the connections of what takes long.
 */
#include "internal.h"

#include <stdio.h>

enum { END_AT_ONCE = 1000 }; /* entries of one script: what Lua can unpack is bounded */

/* A call of one who has the lead, or asks for it. It is not moved from there: its arguments point
 * into it. */
static void call_init(struct pln_script_call *call, struct pln_l2 *l2, enum pln_script script,
                      const struct pln_l2_taking *taking) {
    const struct pln_names *names = &pln_redis_of(l2)->names;
    bool is_alone = script == PLN_SCRIPT_HOLD || script == PLN_SCRIPT_LEAVE;
    *call = (struct pln_script_call){.script = script, .is_bulk = !is_alone};
    if (!is_alone) {
        call->names[call->n_names++] = names->queue;
    }
    call->names[call->n_names++] = names->lead;
    if (script == PLN_SCRIPT_END || script == PLN_SCRIPT_BURY) {
        call->names[call->n_names++] = names->last;
    }
    if (script == PLN_SCRIPT_BURY) {
        call->names[call->n_names++] = names->dead;
    }
    pln_script_add(call, pln_bytes_of(taking->token, sizeof taking->token));
    pln_script_add_number(call, taking->lead);
}

/* Runs a script that does nothing, and says so, where the lead is lost. */
static int run_leading(struct pln_l2 *l2, const struct pln_script_call *call, pln_ns deadline) {
    int64_t number = 0;
    int result = pln_queue_run_number(l2, call, deadline, &number);
    return result != PLN_OK || number > 0 ? result : PLN_PENDING;
}

/* ---- dead letters ---- */

static int bury_as(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                   const struct pln_l2_entry *entry, unsigned attempts, const char *error,
                   size_t most, const char *whose, pln_ns deadline) {
    struct pln_script_call call;
    call_init(&call, l2, PLN_SCRIPT_BURY, taking);
    char id[PLN_ID_TEXT];
    pln_id_write(entry->ms, entry->seq, id);
    pln_script_add(&call, pln_key(id));
    pln_script_add_number(&call, attempts);
    pln_script_add(&call, pln_key(error));
    pln_script_add_number(&call, pln_queue_most(most));
    pln_script_add(&call, pln_key(whose));
    return run_leading(l2, &call, deadline);
}

static int bury(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                const struct pln_l2_entry *entry, unsigned attempts, const char *error, size_t most,
                pln_ns deadline) {
    return bury_as(l2, taking, entry, attempts, error, most, "ours", deadline);
}

/* ---- taking ---- */

bool pln_taken_read(const struct pln_reply *reply, struct pln_l2_entry *entry, bool *is_ours) {
    const struct pln_reply *at = reply->elements;
    *entry = (struct pln_l2_entry){.ms = 0};
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 3 ||
        at[0].kind != PLN_REPLY_STRING || at[2].kind != PLN_REPLY_INTEGER ||
        !pln_id_read(at[0].bytes, &entry->ms, &entry->seq)) {
        return false;
    }
    entry->n_taken = at[2].integer < 1 ? 1 : (unsigned) at[2].integer;
    *is_ours = pln_entry_read(&at[1], entry);
    return true;
}

/* What is no write of ours can never be stored: it is buried. Where that cannot be done now, it is
 * taken again some time. */
static int read_list(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                     const struct pln_reply *list, pln_ns deadline, struct pln_l2_entries *entries,
                     size_t *n_buried) {
    struct pln_l2_entry *read = calloc(list->n_elements + 1, sizeof *read);
    size_t n = 0;
    int result = read != NULL ? PLN_OK : pln_fail(PLN_ENOMEM, "l2: no memory for writes");
    for (size_t i = 0; result == PLN_OK && i < list->n_elements; i++) {
        bool is_ours;
        if (!pln_taken_read(&list->elements[i], &read[n], &is_ours)) {
            result = pln_queue_no_answer("take");
        } else if (is_ours) {
            n++;
        } else {
            *n_buried += bury_as(l2, taking, &read[n], read[n].n_taken, "no write of perilune",
                                 PLN_QUEUE_MOST, "none", deadline) == PLN_OK;
        }
    }
    if (result == PLN_OK) {
        result = pln_entries_pack(read, n, entries);
    }
    free(read);
    return result;
}

static int take_some(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                     struct pln_l2_entries *entries, pln_ms *left, size_t *n_buried) {
    struct pln_script_call call;
    call_init(&call, l2, PLN_SCRIPT_TAKE, taking);
    size_t most = taking->most < PLN_QUEUE_MOST ? taking->most : PLN_QUEUE_MOST;
    char after[PLN_ID_TEXT] = "";
    struct pln_reply *reply;
    if (taking->is_first) {
        pln_id_write(taking->after_ms, taking->after_seq, after);
    }
    pln_script_add(&call, pln_key(after));
    pln_script_add_number(&call, (int64_t) most);
    pln_script_add_number(&call, PLN_QUEUE_BYTES);
    int result = pln_queue_run(l2, &call, deadline, &reply);
    if (result != PLN_OK) {
        return result;
    }
    const struct pln_reply *at = reply->elements;
    if (reply->n_elements != 2 || at[0].kind != PLN_REPLY_INTEGER) {
        result = pln_queue_no_answer("take");
    } else if (at[0].integer != 0) {
        result = at[1].kind == PLN_REPLY_ARRAY
                     ? read_list(l2, taking, &at[1], deadline, entries, n_buried)
                     : pln_queue_no_answer("take");
    } else {
        *left = at[1].kind == PLN_REPLY_INTEGER && at[1].integer > 0 ? at[1].integer : 0;
        result = PLN_PENDING;
    }
    pln_reply_free(reply);
    return result;
}

/* None means that there are no more, so what was buried is gone past. */
static int take(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline,
                struct pln_l2_entries *entries, pln_ms *left) {
    const struct pln_redis *redis = pln_redis_of(l2);
    size_t n_buried, n_all = 0;
    int result;
    do {
        pln_l2_entries_fini(entries);
        n_buried = 0;
        result = take_some(l2, taking, deadline, entries, left, &n_buried);
        n_all += n_buried;
    } while (result == PLN_OK && entries->n == 0 && n_buried > 0);
    if (n_all > 0) {
        pln_logf(&redis->host, PLN_LOG_WARN,
                 "l2: %zu entries of %s are no writes of ours, and dead letters now", n_all,
                 redis->names.queue);
    }
    return result;
}

static int hold(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    struct pln_script_call call;
    call_init(&call, l2, PLN_SCRIPT_HOLD, taking);
    return run_leading(l2, &call, deadline);
}

static void leave(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {
    struct pln_script_call call;
    call_init(&call, l2, PLN_SCRIPT_LEAVE, taking);
    (void) run_leading(l2, &call, deadline);
}

/* ---- ending ---- */

/* Arguments of a script that ends: ids, then keys. */
struct ending {
    struct pln_bytes args[2 * END_AT_ONCE];
    char ids[END_AT_ONCE][PLN_ID_TEXT];
};

static int end_some(struct pln_l2 *l2, const struct pln_l2_taking *taking,
                    const struct pln_l2_entry *entries, size_t n, pln_ns deadline,
                    struct ending *ending) {
    struct pln_script_call call;
    call_init(&call, l2, PLN_SCRIPT_END, taking);
    for (size_t i = 0; i < n; i++) {
        pln_id_write(entries[i].ms, entries[i].seq, ending->ids[i]);
        ending->args[i] = pln_key(ending->ids[i]);
        ending->args[n + i] = entries[i].key;
    }
    pln_script_add_number(&call, (int64_t) n);
    call.more = ending->args;
    call.n_more = 2 * n;
    return run_leading(l2, &call, deadline);
}

static int end(struct pln_l2 *l2, const struct pln_l2_taking *taking,
               const struct pln_l2_entry *entries, size_t n, pln_ns deadline) {
    struct ending *ending = n > 0 ? malloc(sizeof *ending) : NULL;
    int result = n == 0 || ending != NULL ? PLN_OK
                                          : pln_fail(PLN_ENOMEM, "l2: no memory for %zu writes", n);
    for (size_t at = 0; result == PLN_OK && at < n; at += END_AT_ONCE) {
        result = end_some(l2, taking, entries + at, n - at < END_AT_ONCE ? n - at : END_AT_ONCE,
                          deadline, ending);
    }
    free(ending);
    return result;
}

const struct pln_l2_queue_ops pln_redis_queue_ops = {
    .check = pln_queue_check,
    .take = take,
    .hold = hold,
    .end = end,
    .bury = bury,
    .leave = leave,
    .find = pln_queue_find,
    .state = pln_queue_state_of,
    .letters = pln_queue_letters,
    .letter_end = pln_queue_letter_end,
};
