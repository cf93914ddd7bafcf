/* SPDX-License-Identifier: MIT
 *
 * shape.c - answers of RESP3 in the shape that RESP2 gives them.
 *
 * Who asks does not know which protocol the server and this build have agreed on, so an answer must
 * not depend on it. A map is its keys and values in turn, as in RESP2, from the reader on. Beyond
 * that Redis has two families of commands that answer in another shape: members with their scores
 * (or fields with their values) come in a list of pairs instead of one list, and streams' entries
 * in a map instead of a list of pairs.
 */
#include "internal.h"

#include <strings.h>

static bool is_one_of(struct pln_bytes command, const char *const *names) {
    while (*names != NULL &&
           (strlen(*names) != command.len || strncasecmp(command.data, *names, command.len) != 0)) {
        names++;
    }
    return *names != NULL;
}

static bool is_list_of_pairs(const struct pln_reply *reply) {
    bool is_one = reply->kind == PLN_REPLY_ARRAY && reply->n_elements > 0;
    for (size_t i = 0; is_one && i < reply->n_elements; i++) {
        const struct pln_reply *pair = &reply->elements[i];
        is_one = pair->kind == PLN_REPLY_ARRAY && pair->n_elements == 2;
    }
    return is_one;
}

static int no_memory(void) {
    return pln_fail(PLN_ENOMEM, "l2: no memory for a reply");
}

/* {{a, 1}, {b, 2}} -> {a, 1, b, 2} */
static int flatten(struct pln_reply *root) {
    size_t n = root->n_elements;
    struct pln_reply *elements = pln_reply_more(root, 2 * n);
    if (elements == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < n; i++) {
        memcpy(elements + 2 * i, root->elements[i].elements, 2 * sizeof *elements);
    }
    root->elements = elements;
    root->n_elements = 2 * n;
    return PLN_OK;
}

/* {a, x, b, y} -> {{a, x}, {b, y}} */
static int pair_up(struct pln_reply *root) {
    size_t n = root->n_elements / 2;
    struct pln_reply *pairs = pln_reply_more(root, n);
    if (pairs == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < n; i++) {
        pairs[i] = (struct pln_reply){
            .kind = PLN_REPLY_ARRAY, .elements = root->elements + 2 * i, .n_elements = 2};
    }
    root->kind = PLN_REPLY_ARRAY;
    root->elements = pairs;
    root->n_elements = n;
    return PLN_OK;
}

int pln_shape(struct pln_bytes command, struct pln_reply *root) {
    static const char *const scored[] = {
        "ZRANGE",      "ZREVRANGE", "ZRANGEBYSCORE", "ZREVRANGEBYSCORE", "ZPOPMIN",    "ZPOPMAX",
        "ZRANDMEMBER", "ZDIFF",     "ZINTER",        "ZUNION",           "HRANDFIELD", NULL};
    static const char *const streams[] = {"XREAD", "XREADGROUP", NULL};
    if (root->kind == PLN_REPLY_MAP) {
        return is_one_of(command, streams) ? pair_up(root) : PLN_OK;
    }
    return is_list_of_pairs(root) && is_one_of(command, scored) ? flatten(root) : PLN_OK;
}
