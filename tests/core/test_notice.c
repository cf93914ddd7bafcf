/* SPDX-License-Identifier: MIT
 * test_notice.c - core/notice.c: what messages and entries say, and what is refused of them. */
#include "../../core/feeder.h"
#include "rig.h"

#include <stdio.h>

static struct pln_notice notice;

static void check_field(size_t i, const char *name, const char *value) {
    ck_assert_uint_lt(i, notice.n_fields);
    ck_assert(pln_bytes_equal(notice.fields[i].name, pln_key(name)));
    ck_assert_msg(pln_bytes_equal(notice.fields[i].value, pln_key(value)), "%s is %.*s", name,
                  (int) notice.fields[i].value.len, (const char *) notice.fields[i].value.data);
}

START_TEST(a_message_is_an_object_or_words) {
    static const char json[] = " {\"event\": \"user.changed\", \"id\": 9223372036854775807, "
                               "\"name\": \"Ad\\u00e9\", \"is\": true, \"no\": null}\n";
    static const char words[] = "user.changed id=7 name=a=b  empty=\n";
    ck_assert_int_eq(pln_notice_read_message(pln_key(json), &notice), PLN_OK);
    ck_assert(pln_bytes_equal(notice.event, pln_key("user.changed")));
    ck_assert_uint_eq(notice.n_fields, 3);
    check_field(0, "id", "9223372036854775807");
    check_field(1, "name", "Ad\xc3\xa9");
    check_field(2, "is", "true");
    pln_notice_fini(&notice);
    ck_assert_int_eq(pln_notice_read_message(pln_key(words), &notice), PLN_OK);
    ck_assert(pln_bytes_equal(notice.event, pln_key("user.changed")));
    ck_assert_uint_eq(notice.n_fields, 3);
    check_field(0, "id", "7");
    check_field(1, "name", "a=b");
    check_field(2, "empty", "");
    pln_notice_fini(&notice);
}
END_TEST

static const struct {
    const char *message, *text;
} wrong[] = {
    {"", "the event's name has 0 bytes, must have 1 to 512"},
    {"  \n", "the event's name has 0 bytes, must have 1 to 512"},
    {"e id", "'id' is no NAME=VALUE"},
    {"e =7", "'=7' is no NAME=VALUE"},
    {"e id=1 id=2", "the field 'id' is there twice"},
    {"e\x01 id=1", "the event's name has the byte 0x01 at 2"},
    {"{\"id\": 7}", "the object has no \"event\" that is a text"},
    {"{\"event\": 7}", "the object has no \"event\" that is a text"},
    {"{\"event\": \"\"}", "the event's name has 0 bytes, must have 1 to 512"},
    {"{\"event\": \"e\", \"p\": 1.5}", "the field 'p' is a fraction: put it in quotes"},
    {"{\"event\": \"e\", \"p\": [1]}",
     "the field 'p' is an array, must be a text, number or boolean"},
    {"{\"event\": \"e\", \"p\": {\"q\": 1}}",
     "the field 'p' is an object, must be a text, number or boolean"},
    {"{\"event\": \"e\"", "no JSON: '}' expected near end of file, at byte 13"},
    {"{\"event\": \"\xff\"}", "no JSON: unable to decode byte 0xff near '\"', at byte 11"},
    {"{\"event\": \"e\", \"id\": 1, \"id\": 2}", "no JSON: duplicate object key near '\"id\"', "},
    {"{\"event\": \"e\", \"id\": 99999999999999999999}", "no JSON: too big integer near "},
};

START_TEST(what_cannot_be_meant_is_refused_by_name) {
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        int status = pln_notice_read_message(pln_key(wrong[i].message), &notice);
        ck_assert_msg(status == PLN_EINVAL, "%s gave %d", wrong[i].message, status);
        ck_assert_msg(strncmp(pln_error_text(), wrong[i].text, strlen(wrong[i].text)) == 0,
                      "%s\n got: %s\nnot: %s", wrong[i].message, pln_error_text(), wrong[i].text);
        ck_assert_uint_eq(notice.n_fields, 0);
    }
}
END_TEST

START_TEST(size_depth_and_number_of_fields_are_bounded) {
    size_t len = PLN_NOTICE_BYTES + 1;
    char *text = malloc(len + 1);
    memset(text, 'x', len);
    ck_assert_int_eq(pln_notice_read_message(pln_bytes_of(text, len), &notice), PLN_ETOOBIG);
    ck_assert_str_eq(pln_error_text(), "it has 65537 bytes, 65536 at most");
    memset(text, '[', len);
    text[sprintf(text, "{\"event\":")] = '[';
    ck_assert_int_eq(pln_notice_read_message(pln_bytes_of(text, len - 1), &notice), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "maximum parsing depth reached"));
    size_t n = (size_t) sprintf(text, "e");
    for (int i = 0; i < PLN_NOTICE_FIELDS; i++) {
        n += (size_t) sprintf(text + n, " f%d=%d", i, i);
    }
    ck_assert_int_eq(pln_notice_read_message(pln_bytes_of(text, n), &notice), PLN_OK);
    pln_notice_fini(&notice);
    n += (size_t) sprintf(text + n, " more=1");
    ck_assert_int_eq(pln_notice_read_message(pln_bytes_of(text, n), &notice), PLN_ETOOBIG);
    ck_assert_str_eq(pln_error_text(), "it has more than 64 fields");
    free(text);
}
END_TEST

static struct pln_reply string(const char *text) {
    return (struct pln_reply){.kind = PLN_REPLY_STRING, .bytes = pln_key(text)};
}

START_TEST(an_entry_is_pairs_of_which_one_is_the_event) {
    struct pln_reply words[] = {string("id"), string("7"), string("event"), string("e")};
    struct pln_reply entry = {.kind = PLN_REPLY_ARRAY, .elements = words, .n_elements = 4};
    struct pln_reply nil = {.kind = PLN_REPLY_NIL};
    ck_assert_int_eq(pln_notice_read_entry(&entry, &notice), PLN_OK);
    ck_assert(pln_bytes_equal(notice.event, pln_key("e")));
    check_field(0, "id", "7");
    pln_notice_fini(&notice);
    entry.n_elements = 2;
    ck_assert_int_eq(pln_notice_read_entry(&entry, &notice), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "it has no field 'event'");
    ck_assert_int_eq(pln_notice_read_entry(&nil, &notice), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "it was trimmed away before it was read");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("notice");
    TCase *tests = tcase_create("notice");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, a_message_is_an_object_or_words);
    tcase_add_test(tests, what_cannot_be_meant_is_refused_by_name);
    tcase_add_test(tests, size_depth_and_number_of_fields_are_bounded);
    tcase_add_test(tests, an_entry_is_pairs_of_which_one_is_the_event);
    return rig_run(suite);
}
