/* SPDX-License-Identifier: MIT
 * test_codec.c - l2/codec.c and l2/message.c: what is written is read back; what was not written by
 * us is neither believed nor read past. */
#include <check.h>

#include "../../l2/internal.h"

enum { NOW = 1000000 };

static const struct pln_bytes two_tags[] = {{"user", 4}, {"", 0}};

static struct pln_l2_item sample(void) {
    return (struct pln_l2_item){.value = pln_bytes_of("hello", 5),
                                .age = 500,
                                .fresh_left = 2000,
                                .life_left = 9000,
                                .tag_clock = 77,
                                .tags = two_tags,
                                .n_tags = 2,
                                .format = 3,
                                .packing = 2};
}

static uint8_t *written(const struct pln_l2_item *item, size_t *len) {
    *len = pln_envelope_size(item);
    uint8_t *bytes = malloc(*len);
    pln_envelope_write(item, NOW, bytes);
    return bytes;
}

START_TEST(an_item_survives_the_envelope) {
    struct pln_l2_item item = sample();
    struct pln_l2_value value;
    size_t len;
    uint8_t *bytes = written(&item, &len);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 100, &value), PLN_OK);
    free(bytes);
    ck_assert(pln_bytes_equal(value.item.value, item.value));
    ck_assert_int_eq(value.item.age, 600);
    ck_assert_int_eq(value.item.fresh_left, 1900);
    ck_assert_int_eq(value.item.life_left, 8900);
    ck_assert_uint_eq(value.item.tag_clock, 77);
    ck_assert_uint_eq(value.item.n_tags, 2);
    ck_assert(pln_bytes_equal(value.item.tags[0], two_tags[0]));
    ck_assert(pln_bytes_equal(value.item.tags[1], two_tags[1]));
    ck_assert_uint_eq(value.item.format, 3);
    ck_assert_uint_eq(value.item.packing, 2);
    ck_assert(!value.item.is_absent);
    pln_l2_value_fini(&value);
    ck_assert_ptr_null(value.memory);
}
END_TEST

START_TEST(forever_stays_forever_and_the_end_is_a_miss) {
    struct pln_l2_item item = sample();
    struct pln_l2_value value;
    size_t len;
    item.fresh_left = item.life_left = PLN_FOREVER;
    item.is_absent = true;
    item.value = pln_bytes_of(NULL, 0);
    uint8_t *bytes = written(&item, &len);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 5000, &value), PLN_OK);
    ck_assert(value.item.fresh_left == PLN_FOREVER && value.item.life_left == PLN_FOREVER);
    ck_assert(value.item.is_absent);
    pln_l2_value_fini(&value);
    pln_envelope_touch(bytes, NOW, 10, 20);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 20, &value), PLN_MISS);
    free(bytes);
}
END_TEST

START_TEST(an_expired_value_is_stale_even_on_a_clock_that_lags) {
    struct pln_l2_item item = sample();
    struct pln_l2_value value;
    size_t len;
    uint8_t *bytes = written(&item, &len);
    pln_envelope_expire(bytes, NOW + 50);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 40, &value), PLN_OK);
    ck_assert_int_eq(value.item.fresh_left, -1);
    pln_l2_value_fini(&value);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 90, &value), PLN_OK);
    ck_assert_int_eq(value.item.fresh_left, -40);
    pln_l2_value_fini(&value);
    pln_envelope_touch(bytes, NOW + 90, 1000, 2000);
    ck_assert_int_eq(pln_envelope_read(pln_bytes_of(bytes, len), NOW + 90, &value), PLN_OK);
    ck_assert_int_eq(value.item.fresh_left, 1000);
    pln_l2_value_fini(&value);
    free(bytes);
}
END_TEST

START_TEST(the_pieces_make_the_same_envelope) {
    struct pln_l2_item item = sample();
    size_t len;
    uint8_t *bytes = written(&item, &len);
    uint8_t before[PLN_ENVELOPE_BEFORE], after[PLN_ENVELOPE_AFTER_MAX];
    pln_envelope_before(&item, before);
    size_t n_after = pln_envelope_after(&item, after);
    ck_assert_mem_eq(bytes, before, sizeof before);
    ck_assert_mem_eq(bytes + 40, after, n_after);
    ck_assert_uint_eq(len, 40 + n_after + item.value.len);
    free(bytes);
}
END_TEST

/* Each length up to the whole in memory of just that size, so that a sanitizer or valgrind sees a
 * read past the end. */
START_TEST(a_cut_envelope_is_no_value_at_any_length) {
    struct pln_l2_item item = sample();
    struct pln_l2_value value;
    size_t len;
    uint8_t *bytes = written(&item, &len);
    for (size_t cut = 0; cut < len; cut++) {
        uint8_t *part = malloc(cut + 1);
        memcpy(part, bytes, cut);
        ck_assert_int_eq(pln_envelope_read(pln_bytes_of(part, cut), NOW, &value), PLN_EINVAL);
        free(part);
    }
    free(bytes);
}
END_TEST

/* Any byte changed either leaves a readable value (with other content), ends it, or makes it bad;
 * never does a length point outside. */
START_TEST(a_changed_byte_never_leads_outside) {
    struct pln_l2_item item = sample();
    size_t len;
    uint8_t *bytes = written(&item, &len);
    size_t n_bad = 0;
    for (size_t at = 0; at < len; at++) {
        for (unsigned change = 1; change < 256; change++) {
            struct pln_l2_value value;
            uint8_t *copy = malloc(len);
            memcpy(copy, bytes, len);
            copy[at] = (uint8_t) (copy[at] ^ change);
            int result = pln_envelope_read(pln_bytes_of(copy, len), NOW, &value);
            free(copy);
            n_bad += result == PLN_EINVAL;
            if (result == PLN_OK) {
                ck_assert_int_ge(value.item.age, 0);
                ck_assert_int_le(value.item.fresh_left, value.item.life_left);
                ck_assert_uint_le(value.item.value.len, len);
                pln_l2_value_fini(&value);
            } else {
                ck_assert(result == PLN_EINVAL || result == PLN_MISS);
            }
        }
    }
    /* magic, version, the six unknown flags, counts and lengths */
    ck_assert_uint_ge(n_bad, 2 * 255 + 252 + 8 * 255);
    free(bytes);
}
END_TEST

START_TEST(what_cannot_be_stored_is_refused_with_its_size) {
    struct pln_l2_item item = sample();
    char long_tag[PLN_MAX_TAG + 1] = {0};
    struct pln_bytes tag = pln_bytes_of(long_tag, sizeof long_tag);
    item.tags = &tag;
    item.n_tags = 1;
    ck_assert_int_eq(pln_envelope_check(&item), PLN_EINVAL);
    ck_assert_ptr_nonnull(strstr(pln_error_text(), "251"));
    item.n_tags = PLN_MAX_TAGS + 1;
    ck_assert_int_eq(pln_envelope_check(&item), PLN_EINVAL);
    item.n_tags = 0;
    item.value.len = (size_t) PLN_L2_MAX_VALUE + 1;
    ck_assert_int_eq(pln_envelope_check(&item), PLN_ETOOBIG);
    item.value.len = PLN_L2_MAX_VALUE;
    ck_assert_int_eq(pln_envelope_check(&item), PLN_OK);
}
END_TEST

START_TEST(a_message_is_read_as_written_or_not_at_all) {
    struct pln_message message = {.kind = PLN_MESSAGE_TAG,
                                  .origin = {0x0102030405060708, 0xfffffffe},
                                  .payload = pln_bytes_of("t", 1)};
    struct pln_message read;
    uint8_t bytes[PLN_MESSAGE_MAX + 2 * PLN_MESSAGE_NUMBER];
    size_t len = pln_message_write(&message, bytes);
    ck_assert_uint_eq(len, PLN_MESSAGE_HEAD + 1);
    ck_assert(!pln_message_read(pln_bytes_of(bytes, len), &read)); /* the server's number lacks */
    pln_put_big(bytes + len, 1234567890123456, PLN_MESSAGE_NUMBER);
    len += PLN_MESSAGE_NUMBER;
    ck_assert(pln_message_read(pln_bytes_of(bytes, len), &read));
    ck_assert_int_eq(read.kind, PLN_MESSAGE_TAG);
    ck_assert(read.origin.instance == message.origin.instance &&
              read.origin.incarnation == message.origin.incarnation);
    ck_assert(pln_bytes_equal(read.payload, message.payload));
    ck_assert_uint_eq(read.number, 1234567890123456);
    for (size_t cut = 0; cut < PLN_MESSAGE_HEAD; cut++) {
        ck_assert(!pln_message_read(pln_bytes_of(bytes, cut), &read));
    }
    bytes[1] = PLN_MESSAGE_CLEAR; /* one byte is no clear's payload */
    ck_assert(!pln_message_read(pln_bytes_of(bytes, len), &read));
    bytes[1] = 'z';
    ck_assert(!pln_message_read(pln_bytes_of(bytes, len), &read));
    bytes[1] = PLN_MESSAGE_KEY;
    ck_assert(!pln_message_read(pln_bytes_of(bytes, sizeof bytes), &read));
    bytes[0] = '1';
    ck_assert(!pln_message_read(pln_bytes_of(bytes, len), &read));
}
END_TEST

/* A message of this kind and payload, as the server sends it; whether it is taken for one. */
static bool is_message(enum pln_message_kind kind, const void *payload, size_t len) {
    static uint8_t bytes[2 * PLN_MESSAGE_KEYS_MAX];
    struct pln_message read, message = {.kind = kind, .payload = pln_bytes_of(payload, len)};
    size_t n = pln_message_write(&message, bytes);
    pln_put_big(bytes + n, 7, PLN_MESSAGE_NUMBER);
    return pln_message_read(pln_bytes_of(bytes, n + PLN_MESSAGE_NUMBER), &read) &&
           read.number == 7 && pln_bytes_equal(read.payload, message.payload);
}

START_TEST(a_message_of_many_keys_has_each_of_them_whole) {
    static uint8_t payload[PLN_MESSAGE_KEYS_MAX + 1];
    struct pln_bytes keys[] = {pln_key("one"), pln_key(""), pln_bytes_of("\0\0", 2)};
    struct pln_bytes left, key;
    size_t len = 0, whole[3] = {0};
    for (size_t i = 0; i < 3; i++) {
        len = pln_message_add_key(payload, len, keys[i]);
        whole[i] = len;
    }
    left = pln_bytes_of(payload, len);
    for (size_t i = 0; i < 3; i++) {
        ck_assert(pln_message_next_key(&left, &key));
        ck_assert(pln_bytes_equal(key, keys[i]));
    }
    ck_assert(!pln_message_next_key(&left, &key));
    for (size_t cut = 0; cut <= len; cut++) {
        bool is_whole = cut == whole[0] || cut == whole[1] || cut == whole[2];
        ck_assert(is_message(PLN_MESSAGE_KEYS, payload, cut) == is_whole);
    }
    memset(payload, 0, sizeof payload); /* keys of no bytes */
    ck_assert(is_message(PLN_MESSAGE_KEYS, payload, PLN_MESSAGE_KEYS_MAX));
    ck_assert(!is_message(PLN_MESSAGE_KEYS, payload, PLN_MESSAGE_KEYS_MAX + 1));
    pln_put_big(payload, PLN_MAX_KEY + 1, 2);
    ck_assert(!is_message(PLN_MESSAGE_KEYS, payload, 2 + PLN_MAX_KEY + 1));
}
END_TEST

START_TEST(a_message_of_a_mask_has_its_kind_and_time) {
    static uint8_t payload[2 + PLN_MAX_KEY + 8] = "puser:";
    uint64_t clock;
    pln_put_big(payload + 6, 99, 8);
    ck_assert(is_message(PLN_MESSAGE_MATCH, payload, 14));
    struct pln_mask mask = pln_message_mask(pln_bytes_of(payload, 14), &clock);
    ck_assert_int_eq(mask.kind, PLN_MASK_PREFIX);
    ck_assert(pln_bytes_equal(mask.text, pln_key("user:")));
    ck_assert_uint_eq(clock, 99);
    ck_assert(is_message(PLN_MESSAGE_MATCH, payload, 9)); /* of any key */
    ck_assert(!is_message(PLN_MESSAGE_MATCH, payload, 8));
    ck_assert(is_message(PLN_MESSAGE_MATCH, payload, 1 + PLN_MAX_KEY + 8));
    ck_assert(!is_message(PLN_MESSAGE_MATCH, payload, 2 + PLN_MAX_KEY + 8));
    payload[0] = 'q';
    ck_assert(!is_message(PLN_MESSAGE_MATCH, payload, 14));
}
END_TEST

START_TEST(a_list_of_masks_that_is_damaged_voids_what_is_asked) {
    uint8_t list[64] = {0};
    struct pln_bytes key = pln_key("user:1"), other = pln_key("x");
    pln_put_big(list, 50, 8);
    pln_put_big(list + 16, 6, 2);
    memcpy(list + 18, (const char[]){'p', 'u', 's', 'e', 'r', ':'}, 6);
    ck_assert(pln_drops_void(pln_bytes_of(list, 24), key, 49));
    ck_assert(!pln_drops_void(pln_bytes_of(list, 24), key, 50));
    ck_assert(!pln_drops_void(pln_bytes_of(list, 24), other, 49));
    ck_assert(!pln_drops_void(pln_bytes_of(list, 0), key, 0));
    for (size_t cut = 1; cut < 24; cut++) {
        ck_assert(pln_drops_void(pln_bytes_of(list, cut), other, 99));
    }
    list[18] = 'q';
    ck_assert(pln_drops_void(pln_bytes_of(list, 24), other, 99));
}
END_TEST

int main(void) {
    Suite *suite = suite_create("codec");
    TCase *tests = tcase_create("codec");
    suite_add_tcase(suite, tests);
    tcase_add_test(tests, an_item_survives_the_envelope);
    tcase_add_test(tests, forever_stays_forever_and_the_end_is_a_miss);
    tcase_add_test(tests, an_expired_value_is_stale_even_on_a_clock_that_lags);
    tcase_add_test(tests, the_pieces_make_the_same_envelope);
    tcase_add_test(tests, a_cut_envelope_is_no_value_at_any_length);
    tcase_add_test(tests, a_changed_byte_never_leads_outside);
    tcase_add_test(tests, what_cannot_be_stored_is_refused_with_its_size);
    tcase_add_test(tests, a_message_is_read_as_written_or_not_at_all);
    tcase_add_test(tests, a_message_of_many_keys_has_each_of_them_whole);
    tcase_add_test(tests, a_message_of_a_mask_has_its_kind_and_time);
    tcase_add_test(tests, a_list_of_masks_that_is_damaged_voids_what_is_asked);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
