/* SPDX-License-Identifier: MIT
 *
 * letters.c - writes that nobody could store, in Redis: a stream of them, with why.
 */
#include "internal.h"

static unsigned attempts_of(struct pln_bytes text) {
    unsigned n = 0;
    for (size_t i = 0; i < text.len && i < 9; i++) {
        char digit = ((const char *) text.data)[i];
        n = digit >= '0' && digit <= '9' ? n * 10 + (unsigned) (digit - '0') : n;
    }
    return n;
}

/* Whatever is wrong with a letter, it is shown as far as it goes, so that it can be dropped. */
static bool read_letter(const struct pln_reply *reply, int64_t now, struct pln_l2_letter *letter) {
    *letter = (struct pln_l2_letter){.attempts = 0};
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements < 2 ||
        reply->elements[0].kind != PLN_REPLY_STRING ||
        !pln_id_read(reply->elements[0].bytes, &letter->entry.ms, &letter->entry.seq)) {
        return false;
    }
    const struct pln_reply *fields = &reply->elements[1];
    bool is_ours = pln_entry_read(fields, &letter->entry);
    if (!pln_id_read(pln_field(fields, "w"), &letter->write_ms, &letter->write_seq)) {
        letter->write_ms = letter->write_seq = 0;
    }
    letter->attempts = attempts_of(pln_field(fields, "n"));
    letter->error = pln_field(fields, "e");
    if (!is_ours && letter->error.len == 0) {
        letter->error = pln_key("no letter of perilune");
    }
    letter->age = now - (int64_t) letter->entry.ms;
    letter->age = letter->age < 0 ? 0 : letter->age;
    return true;
}

int pln_letters_read(const struct pln_reply *reply, struct pln_l2_letters *letters) {
    const struct pln_reply *at = reply->elements;
    if (reply->kind != PLN_REPLY_ARRAY || reply->n_elements != 2 ||
        at[0].kind != PLN_REPLY_INTEGER || at[1].kind != PLN_REPLY_ARRAY) {
        return pln_queue_no_answer("letters");
    }
    struct pln_l2_letter *read = calloc(at[1].n_elements + 1, sizeof *read);
    int result = read != NULL ? PLN_OK : pln_fail(PLN_ENOMEM, "l2: no memory for letters");
    for (size_t i = 0; result == PLN_OK && i < at[1].n_elements; i++) {
        if (!read_letter(&at[1].elements[i], at[0].integer, &read[i])) {
            result = pln_queue_no_answer("letters");
        }
    }
    if (result == PLN_OK) {
        result = pln_letters_pack(read, at[1].n_elements, letters);
    }
    free(read);
    return result;
}

int pln_queue_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most,
                      pln_ns deadline, struct pln_l2_letters *letters) {
    struct pln_script_call call = {.script = PLN_SCRIPT_LETTERS,
                                   .names = {pln_redis_of(l2)->names.dead},
                                   .n_names = 1,
                                   .is_bulk = true};
    char from[PLN_ID_TEXT];
    struct pln_reply *reply;
    bool is_last = after_seq == UINT64_MAX; /* of its millisecond */
    pln_id_write(after_ms + is_last, is_last ? 0 : after_seq + 1, from);
    pln_script_add(&call, pln_key(from));
    pln_script_add_number(&call, most < PLN_QUEUE_MOST ? (int64_t) most : PLN_QUEUE_MOST);
    pln_script_add_number(&call, PLN_QUEUE_BYTES);
    int result = pln_queue_run(l2, &call, deadline, &reply);
    if (result == PLN_OK) {
        result = pln_letters_read(reply, letters);
        pln_reply_free(reply);
    }
    return result;
}

int pln_queue_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again,
                         pln_ns deadline) {
    struct pln_redis *redis = pln_redis_of(l2);
    struct pln_script_call call = {.script = PLN_SCRIPT_LETTER_END};
    char id[PLN_ID_TEXT];
    int64_t number = 0;
    pln_queue_add_names(redis, &call);
    call.names[call.n_names++] = redis->names.dead;
    pln_id_write(ms, seq, id);
    pln_script_add(&call, pln_key(id));
    pln_script_add(&call, pln_key(again ? "again" : "drop"));
    int result = pln_queue_run_number(l2, &call, deadline, &number);
    if (result == PLN_OK && number == -2) {
        return pln_fail(PLN_EINVAL, "l2: letter %s is no write of ours: it can be dropped only",
                        id);
    }
    return result != PLN_OK ? result
           : number > 0     ? PLN_OK
           : number == 0    ? PLN_NOT_STORED
                            : PLN_MISS;
}
