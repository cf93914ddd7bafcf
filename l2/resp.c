/* SPDX-License-Identifier: MIT
 *
 * resp.c - commands as bytes: an array of byte strings each, one after the other in one buffer,
 * so that a batch is one send(). hiredis can format a command too, but only into memory of its
 * own, which would be one more copy of every value.
 */
#include "internal.h"

#include <stdio.h>

enum { MOST_LENGTH = 24 }; /* of a length with its kind and the end of the line */

void pln_batch_init(struct pln_batch *batch) {
    batch->bytes = batch->small;
    batch->size = sizeof batch->small;
    batch->len = 0;
    batch->n_commands = 0;
    batch->has_failed = false;
}

void pln_batch_fini(struct pln_batch *batch) {
    if (batch->bytes != batch->small) {
        free(batch->bytes);
    }
    pln_batch_init(batch);
}

static bool grow(struct pln_batch *batch, size_t n) {
    if (batch->has_failed) {
        return false;
    }
    if (n <= batch->size - batch->len) {
        return true;
    }
    size_t size = batch->size * 2 > batch->len + n ? batch->size * 2 : batch->len + n;
    bool is_small = batch->bytes == batch->small;
    char *bytes = realloc(is_small ? NULL : batch->bytes, size);
    if (bytes == NULL) {
        batch->has_failed = true;
        return false;
    }
    if (is_small) {
        memcpy(bytes, batch->small, batch->len);
    }
    batch->bytes = bytes;
    batch->size = size;
    return true;
}

static void append(struct pln_batch *batch, const void *data, size_t len) {
    if (len > 0 && grow(batch, len)) {
        memcpy(batch->bytes + batch->len, data, len);
        batch->len += len;
    }
}

/* Writes "$12" and the end of the line. Returns where it ends. */
static char *put_length(char *at, char kind, size_t length) {
    size_t n_digits = 1;
    for (size_t rest = length; rest >= 10; rest /= 10) {
        n_digits++;
    }
    *at++ = kind;
    for (size_t i = n_digits; i > 0; i--) {
        at[i - 1] = (char) ('0' + length % 10);
        length /= 10;
    }
    at[n_digits] = '\r';
    at[n_digits + 1] = '\n';
    return at + n_digits + 2;
}

static char *put(char *at, struct pln_bytes bytes) {
    if (bytes.len > 0) {
        memcpy(at, bytes.data, bytes.len);
    }
    return at + bytes.len;
}

void pln_batch_command(struct pln_batch *batch, size_t n_args) {
    if (grow(batch, MOST_LENGTH)) {
        batch->len = (size_t) (put_length(batch->bytes + batch->len, '*', n_args) - batch->bytes);
    }
    batch->n_commands++;
}

void pln_batch_begun(struct pln_batch *batch, struct pln_bytes begun) {
    append(batch, begun.data, begun.len);
    batch->n_commands++;
}

void pln_batch_pieces(struct pln_batch *batch, const struct pln_bytes *pieces, size_t n) {
    size_t len = 0;
    for (size_t i = 0; i < n; i++) {
        len += pieces[i].len;
    }
    if (!grow(batch, MOST_LENGTH + len + 2)) {
        return;
    }
    char *at = put_length(batch->bytes + batch->len, '$', len);
    for (size_t i = 0; i < n; i++) {
        at = put(at, pieces[i]);
    }
    *at++ = '\r';
    *at++ = '\n';
    batch->len = (size_t) (at - batch->bytes);
}

void pln_batch_joined(struct pln_batch *batch, struct pln_bytes a, struct pln_bytes b) {
    struct pln_bytes pieces[] = {a, b};
    pln_batch_pieces(batch, pieces, PLN_ARRAY_LEN(pieces));
}

void pln_batch_add(struct pln_batch *batch, const struct pln_batch *other) {
    append(batch, other->bytes, other->len);
    batch->n_commands += other->n_commands;
    batch->has_failed = batch->has_failed || other->has_failed;
}

void pln_batch_bytes(struct pln_batch *batch, struct pln_bytes bytes) {
    pln_batch_joined(batch, bytes, pln_bytes_of(NULL, 0));
}

void pln_batch_text(struct pln_batch *batch, const char *text) {
    pln_batch_bytes(batch, pln_key(text));
}

void pln_batch_number(struct pln_batch *batch, int64_t number) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long) number);
    pln_batch_text(batch, text);
}

void pln_batch_texts(struct pln_batch *batch, ...) {
    va_list args, again;
    size_t n_args = 0;
    va_start(args, batch);
    va_copy(again, args);
    while (va_arg(args, const char *) != NULL) {
        n_args++;
    }
    va_end(args);
    pln_batch_command(batch, n_args);
    for (size_t i = 0; i < n_args; i++) {
        pln_batch_text(batch, va_arg(again, const char *));
    }
    va_end(again);
}
