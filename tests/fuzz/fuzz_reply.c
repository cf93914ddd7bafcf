/* SPDX-License-Identifier: MIT
 *
 * fuzz_reply.c - whatever a server says on a connection is read without harm, and however the
 * network cuts it, it is read as the same replies.
 *
 * The input's first line says how the rest is cut: each byte, by its lowest six bits, is the size
 * of a piece ('A' 1, 'B' 2, ...), in turn and again from the first; '@' and an empty line: in one.
 */
#include "../../l2/internal.h"
#include "tree.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum {
    MOST_ELEMENTS = 1024 * 1024, /* reply.c's */
    LARGE = 1024 * 1024,         /* no input is as long */
    SMALL = 64,
    LONGEST_DEAR = 32, /* of inputs with large arrays only short ones are tried: time */
};

struct input {
    const uint8_t *cuts;
    size_t n_cuts;
    const char *bytes;
    size_t n_bytes;
};

struct outcome {
    struct tree_sum sum;
    size_t n_replies;
    int status; /* PLN_MISS: all was taken */
};

static struct input split(const uint8_t *data, size_t size) {
    const uint8_t *newline = size == 0 ? NULL : memchr(data, '\n', size);
    size_t n_cuts = newline == NULL ? 0 : (size_t) (newline - data);
    size_t head = newline == NULL ? 0 : n_cuts + 1;
    return (struct input){data, n_cuts, (const char *) data + head, size - head};
}

static size_t cut_at(const struct input *input, size_t i, size_t left) {
    size_t wanted = input->n_cuts == 0 ? 0 : input->cuts[i % input->n_cuts] & 63;
    return wanted == 0 || wanted > left ? left : wanted;
}

/* Whether the time that a server tells can be reckoned with. */
static void check_time(struct pln_conn *conn, const struct pln_reply *reply) {
    conn->time_asked_at = pln_clock_precise();
    if (pln_conn_take_time(conn, reply)) {
        assert(conn->clock_offset < PLN_L2_LONGEST && conn->clock_offset > -PLN_L2_LONGEST);
    }
}

static int take_replies(struct pln_conn *conn, struct outcome *outcome) {
    struct pln_reply *reply;
    int status;
    while ((status = pln_conn_next(conn, &reply)) == PLN_OK) {
        struct tree_sum sum = {0};
        tree_read(reply, &sum);
        assert(sum.n_elements <= MOST_ELEMENTS);
        /* a reply may begin in the piece that ends the one before it */
        assert(sum.n_bytes <= 2 * conn->max_reply);
        check_time(conn, reply);
        pln_reply_free(reply);
        tree_mix(&outcome->sum, sum.mark);
        outcome->n_replies++;
    }
    return status;
}

static struct outcome read_cut(const struct input *input, bool is_cut, size_t max_reply) {
    struct pln_conn conn = {.stream = {.fd = -1}, .label = "fuzz", .max_reply = max_reply};
    struct outcome outcome = {.status = PLN_MISS};
    size_t piece;
    conn.reader = pln_reader_new(&conn.state);
    assert(conn.reader != NULL);
    for (size_t at = 0, i = 0; at < input->n_bytes && outcome.status == PLN_MISS; at += piece) {
        piece = is_cut ? cut_at(input, i++, input->n_bytes - at) : input->n_bytes;
        /* of its own memory, no byte more */
        char *bytes = malloc(piece);
        assert(bytes != NULL);
        memcpy(bytes, input->bytes + at, piece);
        int status = pln_conn_feed(&conn, bytes, piece);
        outcome.status = status == PLN_OK ? take_replies(&conn, &outcome) : status;
        free(bytes);
    }
    pln_conn_close(&conn);
    return outcome;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct input input = split(data, size);
    if (size > LONGEST_DEAR && tree_is_dear(data, size)) {
        return 0;
    }
    struct outcome whole = read_cut(&input, false, LARGE);
    struct outcome cut = read_cut(&input, true, LARGE);
    assert(whole.n_replies == cut.n_replies && whole.sum.mark == cut.sum.mark);
    assert(whole.status == cut.status);
    read_cut(&input, true, SMALL);
    return 0;
}
