/* SPDX-License-Identifier: MIT
 * test_compress.c - what is compressed on its way to L2, and that it comes back; and that nothing
 * else does. */
#include "rig.h"

#include "../../core/compress.h"

static struct rig rig;

static void teardown(void) {
    rig_close(&rig);
}

static const int methods[] = {PLN_COMPRESSION_LZ4, PLN_COMPRESSION_ZSTD};

/* Text with a pattern that every method finds, `len` bytes and a zero. */
static char *make_text(size_t len) {
    char *text = malloc(len + 1);
    ck_assert_ptr_nonnull(text);
    for (size_t i = 0; i < len; i++) {
        text[i] = "the same words, "[i % 16];
    }
    text[len] = 0;
    return text;
}

static void fill_random(uint8_t *bytes, size_t len) {
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t) (pln_random64() >> 24);
    }
}

static void free_bytes(struct pln_bytes bytes) {
    free((void *) (uintptr_t) bytes.data);
}

/* _i: the method */
START_TEST(bytes_that_repeat_get_fewer_and_come_back) {
    char *text = make_text(10000);
    struct pln_bytes raw = pln_key(text), packed, again;
    if (pln_has_compression(methods[_i])) {
        ck_assert(pln_compress_pack(methods[_i], raw, &packed));
        ck_assert_uint_lt(packed.len, 1000);
        ck_assert_int_eq(pln_compress_unpack(methods[_i], packed, &again), PLN_OK);
        ck_assert(pln_bytes_equal(raw, again));
        free_bytes(packed);
        free_bytes(again);
    }
    free(text);
}
END_TEST

START_TEST(random_and_few_bytes_stay_as_they_are) {
    uint8_t bytes[4096];
    struct pln_bytes packed;
    fill_random(bytes, sizeof bytes);
    ck_assert(!pln_compress_pack(methods[_i], pln_bytes_of(bytes, sizeof bytes), &packed));
    ck_assert(!pln_compress_pack(methods[_i], pln_key("aaaaaaaaaaaaaaaaaaaaaaaa"), &packed));
    ck_assert(!pln_compress_pack(methods[_i], pln_key(""), &packed));
}
END_TEST

/* Every length, and every bit that is turned over: refused, or something of the length that is
 * declared; never a crash (the sanitizers see more). */
START_TEST(damaged_bytes_are_refused) {
    char *text = make_text(600);
    struct pln_bytes packed, raw;
    if (!pln_compress_pack(methods[_i], pln_key(text), &packed)) {
        free(text);
        return;
    }
    for (size_t len = 0; len < packed.len; len++) {
        int status = pln_compress_unpack(methods[_i], pln_bytes_of(packed.data, len), &raw);
        ck_assert_int_eq(status, PLN_MISS);
    }
    uint8_t copy[600];
    ck_assert_uint_lt(packed.len, sizeof copy);
    for (size_t bit = 0; bit < packed.len * 8; bit++) {
        memcpy(copy, packed.data, packed.len);
        copy[bit / 8] ^= (uint8_t) (1u << bit % 8);
        int status = pln_compress_unpack(methods[_i], pln_bytes_of(copy, packed.len), &raw);
        if (status == PLN_OK) {
            ck_assert_uint_gt(raw.len, 0);
            free_bytes(raw);
        } else {
            ck_assert_int_eq(status, PLN_MISS);
        }
    }
    free_bytes(packed);
    free(text);
}
END_TEST

START_TEST(declared_lengths_are_not_believed) {
    static const uint8_t lengths[][4] = {
        {0, 0, 0, 0}, {0xff, 0xff, 0xff, 0xff}, {0x1f, 0xf0, 0, 1}, {0x1f, 0xf0, 0, 0}};
    uint8_t bytes[64];
    struct pln_bytes raw;
    memset(bytes, 0x11, sizeof bytes);
    for (size_t i = 0; i < PLN_ARRAY_LEN(lengths); i++) {
        memcpy(bytes, lengths[i], 4);
        ck_assert_int_ne(pln_compress_unpack(methods[_i], pln_bytes_of(bytes, sizeof bytes), &raw),
                         PLN_OK);
    }
    ck_assert_int_eq(pln_compress_unpack(9, pln_bytes_of(bytes, sizeof bytes), &raw), PLN_MISS);
}
END_TEST

static void open_two(int method) {
    struct pln_options options = {.compress_bytes = 1000,
                                  .compression = pln_compression_name(method)};
    rig_open(&rig, 2, true, &options);
}

START_TEST(what_one_instance_compresses_another_reads) {
    if (!pln_has_compression(methods[_i])) {
        return;
    }
    open_two(methods[_i]);
    char *text = make_text(5000);
    rig_set(rig.caches[0], "long", text);
    rig_set(rig.caches[0], "short", "short");
    rig_expect(rig.caches[0], "long", text, "l1");
    rig_expect(rig.caches[1], "long", text, "l2");
    rig_expect(rig.caches[1], "long", text, "l1");
    rig_expect(rig.caches[1], "short", "short", "l2");
    ck_assert_uint_eq(rig_stat(rig.caches[0], "compressed"), 1);
    ck_assert_uint_eq(rig_stat(rig.caches[0], "compress_bytes_in"), 5000);
    ck_assert_uint_lt(rig_stat(rig.caches[0], "compress_bytes_out"), 500);
    ck_assert_uint_lt(rig_stat(rig.caches[0], "compress_percent"), 10);
    ck_assert_uint_eq(rig_stat(rig.caches[1], "decompressed"), 1);
    ck_assert_uint_eq(rig_stat(rig.caches[1], "decompress_failures"), 0);
    struct pln_bytes keys[] = {pln_key("long"), pln_key("short")};
    struct pln_get_options past_l1 = {.flags = PLN_GET_NO_L1};
    struct pln_result results[2];
    int statuses[2];
    ck_assert_int_eq(pln_get_many(rig.caches[1], keys, 2, &past_l1, results, statuses), PLN_OK);
    ck_assert_int_eq(statuses[0], PLN_OK);
    ck_assert_uint_eq(results[0].len, 5000);
    ck_assert_int_eq(memcmp(pln_value_data(results[0].value), text, 5000), 0);
    pln_release(rig.caches[1], results[0].value);
    pln_release(rig.caches[1], results[1].value);
    free(text);
}
END_TEST

START_TEST(what_a_loader_brings_is_compressed_too) {
    if (!pln_has_compression(methods[_i])) {
        return;
    }
    open_two(methods[_i]);
    struct pln_terms terms = *pln_cache_terms(rig.caches[0]);
    terms.compress_bytes = 1; /* "loaded 1" is too short to get shorter */
    rig_policy(&rig, rig.caches[0], rig_rule("load:{id}", &terms, PLN_RULE_LOAD));
    rig_expect(rig.caches[0], "load:1", "loaded 1", "loaded");
    rig_expect(rig.caches[1], "load:1", "loaded 1", "l2");
    ck_assert_uint_eq(rig_stat(rig.caches[0], "compress_refused"), 1);
    ck_assert_uint_eq(rig_stat(rig.caches[0], "compressed"), 0);
}
END_TEST

START_TEST(a_value_that_does_not_get_smaller_is_stored_as_it_is) {
    char text[3001];
    open_two(PLN_COMPRESSION_DEFAULT);
    fill_random((uint8_t *) text, 3000);
    for (int i = 0; i < 3000; i++) {
        text[i] = text[i] == 0 ? '0' : text[i];
    }
    text[3000] = 0;
    rig_set(rig.caches[0], "k", text);
    rig_expect(rig.caches[1], "k", text, "l2");
    ck_assert_uint_eq(rig_stat(rig.caches[0], "compress_refused"), 1);
    ck_assert_uint_eq(rig_stat(rig.caches[1], "decompressed"), 0);
}
END_TEST

START_TEST(a_set_that_redis_takes_later_is_compressed_then) {
    open_two(PLN_COMPRESSION_DEFAULT);
    struct pln_cache *cache = rig.caches[0];
    char *text = make_text(5000);
    rig_set(cache, "k", "old");
    rig.now += 10000;
    pln_l2_mem_cut(cache->l2, true);
    ck_assert_int_eq(pln_set(cache, pln_key("k"), pln_key(text), NULL), PLN_EL2DOWN);
    pln_l2_mem_cut(cache->l2, false);
    rig_await(cache, "recovery_done", 1);
    rig_expect(rig.caches[1], "k", text, "l2");
    ck_assert_uint_eq(rig_stat(rig.caches[1], "decompressed"), 1);
    free(text);
}
END_TEST

/* Puts an item with such a packing where the cache will read it. */
static void put_packed(struct pln_cache *cache, const char *key, int packing,
                       struct pln_bytes bytes) {
    struct pln_hashed hashed;
    struct pln_l2_item item = {
        .value = bytes, .fresh_left = 60000, .life_left = 60000, .packing = (uint8_t) packing};
    ck_assert_int_eq(pln_cache_key(cache, pln_key(key), &hashed), PLN_OK);
    ck_assert_int_eq(pln_l2_set(cache->l2, &hashed, &item, 0, pln_deadline(1000)), PLN_OK);
}

START_TEST(a_damaged_value_is_a_miss_and_loaded_anew) {
    if (!pln_has_compression(methods[_i])) {
        return;
    }
    open_two(PLN_COMPRESSION_DEFAULT);
    put_packed(rig.caches[0], "k:1", methods[_i], pln_key("this is nothing"));
    put_packed(rig.caches[0], "k:2", 200, pln_key("nor is this"));
    rig_expect(rig.caches[1], "k:1", NULL, "miss");
    rig_expect(rig.caches[1], "k:2", NULL, "miss");
    ck_assert_uint_eq(rig_stat(rig.caches[1], "decompress_failures"), 2);
    rig_policy(&rig, rig.caches[1],
               rig_rule("k:{id}", pln_cache_terms(rig.caches[1]), PLN_RULE_LOAD));
    rig_expect(rig.caches[1], "k:1", "loaded 1", "loaded");
    rig_expect(rig.caches[0], "k:1", "loaded 1", "l2");
}
END_TEST

START_TEST(what_this_build_lacks_is_refused_by_name) {
    struct pln_options options = {.compression = "snappy"};
    struct pln_cache *cache;
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "compression: must be one of lz4, zstd, got 'snappy'");
    options = (struct pln_options){.codec = "xml"};
    ck_assert_int_eq(pln_open(&options, &cache), PLN_EINVAL);
    ck_assert_str_eq(pln_error_text(), "codec: must be one of msgpack, json, got 'xml'");
    for (size_t i = 0; i < PLN_ARRAY_LEN(methods); i++) {
        options = (struct pln_options){.compress_bytes = 1000,
                                       .compression = pln_compression_name(methods[i])};
        int status = pln_open(&options, &cache);
        ck_assert_int_eq(status, pln_has_compression(methods[i]) ? PLN_OK : PLN_EINVAL);
        pln_close(status == PLN_OK ? cache : NULL);
    }
}
END_TEST

/* An instance that cannot read a value says so, where nobody can load it; one with a loader goes
 * on, and leaves what others can read. */
START_TEST(what_this_build_cannot_read_is_told) {
    int lacking = pln_has_compression(PLN_COMPRESSION_LZ4) ? PLN_COMPRESSION_ZSTD
                                                           : PLN_COMPRESSION_LZ4;
    struct pln_result result;
    if (pln_has_compression(lacking)) {
        return; /* this build reads all */
    }
    open_two(PLN_COMPRESSION_DEFAULT);
    put_packed(rig.caches[0], "k:1", lacking, pln_key("....something"));
    ck_assert_int_eq(pln_get(rig.caches[1], pln_key("k:1"), NULL, &result), PLN_ECODEC);
    ck_assert_str_eq(pln_status_name(PLN_ECODEC), "codec");
    rig_policy(&rig, rig.caches[1],
               rig_rule("k:{id}", pln_cache_terms(rig.caches[1]), PLN_RULE_LOAD));
    rig_expect(rig.caches[1], "k:1", "loaded 1", "loaded");
    rig_expect(rig.caches[1], "k:1", "loaded 1", "l1");
}
END_TEST

int main(void) {
    Suite *suite = suite_create("compress");
    TCase *tests = tcase_create("compress");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, NULL, teardown);
    tcase_add_loop_test(tests, bytes_that_repeat_get_fewer_and_come_back, 0, 2);
    tcase_add_loop_test(tests, random_and_few_bytes_stay_as_they_are, 0, 2);
    tcase_add_loop_test(tests, damaged_bytes_are_refused, 0, 2);
    tcase_add_loop_test(tests, declared_lengths_are_not_believed, 0, 2);
    tcase_add_loop_test(tests, what_one_instance_compresses_another_reads, 0, 2);
    tcase_add_loop_test(tests, what_a_loader_brings_is_compressed_too, 0, 2);
    tcase_add_test(tests, a_value_that_does_not_get_smaller_is_stored_as_it_is);
    tcase_add_test(tests, a_set_that_redis_takes_later_is_compressed_then);
    tcase_add_loop_test(tests, a_damaged_value_is_a_miss_and_loaded_anew, 0, 2);
    tcase_add_test(tests, what_this_build_lacks_is_refused_by_name);
    tcase_add_test(tests, what_this_build_cannot_read_is_told);
    return rig_run(suite);
}
