/* SPDX-License-Identifier: MIT
 * test_reply.c - l2/reply.c: hiredis's reader builds our trees, bounded and without a leak. */
#include <check.h>
#include <stdio.h>

#include "../../l2/internal.h"

static struct pln_reader_state state;

/* Reads one reply out of bytes that arrive `step` at a time; NULL where it is refused or not whole.
 */
static struct pln_reply *read_by(const char *bytes, size_t len, size_t step) {
    redisReader *reader = pln_reader_new(&state);
    void *reply = NULL;
    int result = REDIS_OK;
    for (size_t at = 0; at < len && result == REDIS_OK && reply == NULL; at += step) {
        result = redisReaderFeed(reader, bytes + at, len - at < step ? len - at : step);
        if (result == REDIS_OK) {
            result = redisReaderGetReply(reader, &reply);
        }
    }
    redisReaderFree(reader);
    return result == REDIS_OK ? reply : NULL;
}

static struct pln_reply *read_text(const char *text) {
    return read_by(text, strlen(text), 1000000);
}

static void expect(const struct pln_reply *reply, enum pln_reply_kind kind, const char *text) {
    ck_assert_int_eq(reply->kind, kind);
    ck_assert(pln_bytes_equal(reply->bytes, pln_key(text)));
    ck_assert_int_eq(pln_reply_text(reply)[reply->bytes.len], 0);
}

START_TEST(each_kind_is_read) {
    static const char text[] =
        "*7\r\n$3\r\nabc\r\n:-42\r\n+OK\r\n-ERR no\r\n$-1\r\n*-1\r\n$0\r\n\r\n";
    for (size_t step = 1; step < sizeof text; step++) {
        struct pln_reply *reply = read_by(text, sizeof text - 1, step);
        ck_assert(reply != NULL && reply->kind == PLN_REPLY_ARRAY && reply->n_elements == 7);
        expect(&reply->elements[0], PLN_REPLY_STRING, "abc");
        ck_assert_int_eq(reply->elements[1].kind, PLN_REPLY_INTEGER);
        ck_assert_int_eq(reply->elements[1].integer, -42);
        expect(&reply->elements[2], PLN_REPLY_STATUS, "OK");
        expect(&reply->elements[3], PLN_REPLY_ERROR, "ERR no");
        ck_assert_int_eq(reply->elements[4].kind, PLN_REPLY_NIL);
        ck_assert_int_eq(reply->elements[5].kind, PLN_REPLY_NIL);
        expect(&reply->elements[6], PLN_REPLY_STRING, "");
        pln_reply_free(reply);
    }
}
END_TEST

START_TEST(arrays_lie_in_arrays) {
    struct pln_reply *reply = read_text("*2\r\n*2\r\n$1\r\na\r\n*1\r\n:5\r\n*0\r\n");
    const struct pln_reply *inner = &reply->elements[0];
    expect(&inner->elements[0], PLN_REPLY_STRING, "a");
    ck_assert_int_eq(inner->elements[1].elements[0].integer, 5);
    ck_assert_uint_eq(reply->elements[1].n_elements, 0);
    ck_assert_int_eq(reply->elements[1].kind, PLN_REPLY_ARRAY);
    pln_reply_free(reply);
}
END_TEST

START_TEST(many_strings_of_all_sizes_are_kept_apart) {
    enum { N = 3000 };
    char *text, *value = malloc(N + 1);
    size_t len;
    FILE *out = open_memstream(&text, &len);
    fprintf(out, "*%d\r\n", N);
    for (int i = 0; i < N; i++) {
        memset(value, 'a' + i % 26, (size_t) i);
        value[i] = 0;
        fprintf(out, "$%d\r\n%s\r\n", i, value);
    }
    fclose(out);
    struct pln_reply *reply = read_by(text, len, 16384);
    for (int i = 0; i < N; i++) {
        memset(value, 'a' + i % 26, (size_t) i);
        value[i] = 0;
        if (!pln_bytes_equal(reply->elements[i].bytes, pln_key(value))) {
            ck_abort_msg("string %d is damaged", i);
        }
    }
    pln_reply_free(reply);
    free(text);
    free(value);
}
END_TEST

START_TEST(a_tree_of_too_many_elements_is_refused_by_name) {
    ck_assert_ptr_null(read_text("*1048577\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
    ck_assert_ptr_null(read_text("*2147483647\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
    /* the bound is on the tree, not on each of its arrays */
    ck_assert_ptr_null(read_text("*3\r\n*524288\r\n"));
    ck_assert_str_eq(state.refusal, "");
    ck_assert_ptr_null(read_text("*1000000\r\n*48576\r\n"));
    ck_assert_str_eq(state.refusal, "");
    ck_assert_ptr_null(read_text("*1000000\r\n*48577\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
}
END_TEST

START_TEST(what_is_no_reply_or_too_deep_is_refused) {
    pln_reply_free(NULL); /* a refused one */
    ck_assert_ptr_null(read_text("HTTP/1.1 400 Bad Request\r\n"));
    ck_assert_ptr_null(
        read_text("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"));
    ck_assert_ptr_null(read_text("*2\r\n$3\r\nabc\r\n?"));
}
END_TEST

START_TEST(arrays_in_arrays_are_bounded_by_name) {
    pln_reply_free(read_text("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"));
    ck_assert_str_eq(state.refusal, "");
    ck_assert_ptr_null(read_text("*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n*1\r\n:1\r\n"));
#if HIREDIS_MAJOR >= 1 /* which has no limit of its own */
    ck_assert_str_eq(state.refusal, "a reply of arrays nested more than 8 deep");
#endif
}
END_TEST

#if HIREDIS_MAJOR >= 1
START_TEST(each_kind_of_resp3_is_read) {
    static const char text[] = "*9\r\n%1\r\n+k\r\n:1\r\n~2\r\n:1\r\n:2\r\n,1.50\r\n,-inf\r\n#t\r\n"
                               "#f\r\n_\r\n(123456789012345678901\r\n=6\r\ntxt:ab\r\n";
    for (size_t step = 1; step < sizeof text; step++) {
        struct pln_reply *reply = read_by(text, sizeof text - 1, step);
        ck_assert(reply != NULL && reply->n_elements == 9);
        const struct pln_reply *part = reply->elements;
        ck_assert(part[0].kind == PLN_REPLY_MAP && part[0].n_elements == 2);
        expect(&part[0].elements[0], PLN_REPLY_STATUS, "k");
        ck_assert(part[0].elements[1].integer == 1);
        ck_assert(part[1].kind == PLN_REPLY_SET && part[1].n_elements == 2);
        expect(&part[2], PLN_REPLY_DOUBLE, "1.50");
        ck_assert(part[2].number > 1.49 && part[2].number < 1.51);
        expect(&part[3], PLN_REPLY_DOUBLE, "-inf");
        ck_assert(part[4].kind == PLN_REPLY_BOOL && part[4].integer == 1);
        ck_assert(part[5].kind == PLN_REPLY_BOOL && part[5].integer == 0);
        ck_assert_int_eq(part[6].kind, PLN_REPLY_NIL);
        expect(&part[7], PLN_REPLY_STRING, "123456789012345678901");
        expect(&part[8], PLN_REPLY_STRING, "ab");
        pln_reply_free(reply);
    }
}
END_TEST

START_TEST(resp3_lies_alone_too_and_is_bounded_as_arrays_are) {
    struct pln_reply *reply = read_text(",2.5\r\n");
    expect(reply, PLN_REPLY_DOUBLE, "2.5");
    pln_reply_free(reply);
    reply = read_text(">1\r\n+x\r\n");
    ck_assert_int_eq(reply->kind, PLN_REPLY_PUSH);
    pln_reply_free(reply);
    ck_assert_ptr_null(read_text("%524289\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
    ck_assert_ptr_null(read_text("~1048577\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
    ck_assert_ptr_null(read_text(">4000000000\r\n"));
    ck_assert_str_eq(state.refusal, "a reply over the limit of 1048576 elements");
    ck_assert_ptr_null(read_text("%9223372036854775807\r\n"));
}
END_TEST
#endif

int main(void) {
    Suite *suite = suite_create("reply");
    TCase *tests = tcase_create("reply");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, each_kind_is_read);
    tcase_add_test(tests, arrays_lie_in_arrays);
    tcase_add_test(tests, many_strings_of_all_sizes_are_kept_apart);
    tcase_add_test(tests, a_tree_of_too_many_elements_is_refused_by_name);
    tcase_add_test(tests, what_is_no_reply_or_too_deep_is_refused);
    tcase_add_test(tests, arrays_in_arrays_are_bounded_by_name);
#if HIREDIS_MAJOR >= 1
    tcase_add_test(tests, each_kind_of_resp3_is_read);
    tcase_add_test(tests, resp3_lies_alone_too_and_is_bounded_as_arrays_are);
#endif
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
