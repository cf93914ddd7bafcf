/* SPDX-License-Identifier: MIT
 *
 * async_rig.c - see async_rig.h.
 */
#include "async_rig.h"

#include <poll.h>

struct begun async_begin(struct pln_cache *cache, struct pln_news *news, uint32_t flags,
                         const struct pln_get_options *options) {
    struct begun begun = {.cache = cache};
    begun.status = pln_begin_get(news, pln_key("k:1"), options, flags, &begun.result, &begun.op);
    ck_assert(begun.op == NULL || begun.status == PLN_PENDING);
    return begun;
}

bool async_is_told(struct pln_news *news) {
    struct pollfd polled = {.fd = pln_news_fd(news), .events = POLLIN};
    ck_assert_int_ge(polled.fd, 0);
    return poll(&polled, 1, 0) == 1;
}

void async_await(struct pln_news *news, struct pln_op *op, enum pln_op_state state) {
    pln_ns deadline = pln_deadline(10000);
    while (pln_op_look(op) != state) {
        struct pollfd polled = {.fd = pln_news_fd(news), .events = POLLIN};
        pln_ms left = pln_op_timeout(op);
        ck_assert_msg(pln_clock_precise() < deadline, "the op does not come to state %d", state);
        poll(&polled, 1, left < 10000 ? (int) left : 10000);
    }
}

void async_expect(struct pln_news *news, struct begun *begun, const char *value,
                  const char *source) {
    if (begun->op != NULL) {
        async_await(news, begun->op, PLN_OP_READY);
        begun->status = pln_op_result(begun->op, &begun->result);
        pln_op_free(begun->op);
        begun->op = NULL;
    }
    if (value == NULL) {
        ck_assert_str_eq(pln_status_name(begun->status), source);
    } else {
        ck_assert_msg(begun->status == PLN_OK, "%s", pln_error_text());
        ck_assert_str_eq(pln_source_name(begun->result.source), source);
        ck_assert_uint_eq(begun->result.len, strlen(value));
        ck_assert_mem_eq(pln_value_data(begun->result.value), value, begun->result.len);
    }
    pln_release(begun->cache, begun->result.value);
    begun->result.value = NULL;
}

void async_load(struct pln_op *op, const char *value, int status) {
    struct pln_load *load = pln_op_load_begin(op);
    ck_assert_ptr_nonnull(load);
    if (value != NULL) {
        status = pln_load_value(load, pln_key(value), 0);
    } else if (status < 0) {
        pln_load_error(load, "the source is out of order");
    }
    pln_op_load_end(op, status);
}
