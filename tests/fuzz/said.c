/* SPDX-License-Identifier: MIT
 * said.c - see said.h. */
#include "said.h"

#include "../../l2/internal.h"

struct said {
    struct pln_conn conn;
    bool is_over;
};

struct said *said_new(const void *bytes, size_t len) {
    struct said *said = calloc(1, sizeof *said);
    assert(said != NULL);
    said->conn = (struct pln_conn){.stream = {.fd = -1}, .label = "fuzz", .max_reply = 1 << 20};
    said->conn.reader = pln_reader_new(&said->conn.state);
    assert(said->conn.reader != NULL);
    said->is_over = pln_conn_feed(&said->conn, bytes, len) != PLN_OK;
    return said;
}

void said_free(struct said *said) {
    pln_conn_close(&said->conn);
    free(said);
}

struct pln_reply *said_next(struct said *said) {
    struct pln_reply *reply = NULL;
    said->is_over = said->is_over || pln_conn_next(&said->conn, &reply) != PLN_OK;
    return reply;
}
