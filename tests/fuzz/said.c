/* SPDX-License-Identifier: MIT
 * said.c - see said.h. */
#include "said.h"

#include "../../l2/internal.h"

struct piece {
    struct piece *next;
    void *memory;
};

struct said {
    struct pln_conn conn;
    bool is_over, is_parted;
    struct piece *pieces;
};

struct said *said_new(const void *bytes, size_t len, bool is_parted) {
    struct said *said = calloc(1, sizeof *said);
    assert(said != NULL);
    said->conn = (struct pln_conn){.stream = {.fd = -1}, .label = "fuzz", .max_reply = 1 << 20};
    said->conn.reader = pln_reader_new(&said->conn.state);
    assert(said->conn.reader != NULL);
    said->is_parted = is_parted;
    said->is_over = pln_conn_feed(&said->conn, bytes, len) != PLN_OK;
    return said;
}

void said_free(struct said *said) {
    for (struct piece *piece = said->pieces, *next; piece != NULL; piece = next) {
        next = piece->next;
        free(piece->memory);
        free(piece);
    }
    pln_conn_close(&said->conn);
    free(said);
}

static void *copy(struct said *said, const void *from, size_t size) {
    struct piece *piece = malloc(sizeof *piece);
    assert(piece != NULL);
    *piece = (struct piece){said->pieces, malloc(size)};
    assert(piece->memory != NULL);
    memcpy(piece->memory, from, size);
    said->pieces = piece;
    return piece->memory;
}

static void part(struct said *said, struct pln_reply *reply) {
    if (reply->bytes.data != NULL) {
        reply->bytes.data = copy(said, reply->bytes.data, reply->bytes.len + 1); /* and its zero */
    }
    if (reply->n_elements > 0) {
        struct pln_reply *elements = copy(said, reply->elements,
                                          reply->n_elements * sizeof *elements);
        for (size_t i = 0; i < reply->n_elements; i++) {
            part(said, &elements[i]);
        }
        reply->elements = elements;
    }
}

struct pln_reply *said_next(struct said *said) {
    struct pln_reply *reply = NULL;
    said->is_over = said->is_over || pln_conn_next(&said->conn, &reply) != PLN_OK;
    if (reply != NULL && said->is_parted) {
        part(said, reply);
    }
    return reply;
}
