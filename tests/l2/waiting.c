/* SPDX-License-Identifier: MIT
 * waiting.c - see waiting.h. */
#include "waiting.h"

#include <check.h>
#include <stdio.h>

struct pln_l2_taking taker(char name, bool is_first) {
    struct pln_l2_taking taking = {.lead = 5000, .is_first = is_first, .most = 100};
    memset(taking.token, name, sizeof taking.token);
    return taking;
}

int write_set(struct client *client, const char *key, const char *text) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_item item = item_of(text);
    struct pln_l2_value value;
    struct pln_l2_write write = {
        .kind = PLN_L2_WRITE_SET, .item = &item, .value = item.value, .most = 1000};
    return pln_l2_write(client->l2, &hashed, &write, soon(), &value);
}

int write_remove(struct client *client, const char *key) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_value value;
    struct pln_l2_write write = {.kind = PLN_L2_WRITE_REMOVE, .most = 1000};
    return pln_l2_write(client->l2, &hashed, &write, soon(), &value);
}

/* What was taken, as "key=value key-": a removal has a dash. */
static char *describe(const struct pln_l2_entries *entries) {
    char *text = strdup("");
    for (size_t i = 0; i < entries->n; i++) {
        const struct pln_l2_entry *entry = &entries->entries[i];
        char *longer = NULL;
        int len = asprintf(&longer, "%s%s%.*s%s%.*s", text, i == 0 ? "" : " ", (int) entry->key.len,
                           (const char *) entry->key.data, entry->is_removal ? "-" : "=",
                           (int) entry->value.len, (const char *) entry->value.data);
        ck_assert_int_ge(len, 0);
        free(text);
        text = longer;
    }
    return text;
}

void expect_taken(struct client *client, const struct pln_l2_taking *taking, const char *expected,
                  struct pln_l2_entries *entries) {
    pln_ms left;
    int result = pln_l2_queue_take(client->l2, taking, soon(), entries, &left);
    ck_assert_msg(result == PLN_OK, "take gives %d (%s)", result,
                  result < 0 ? pln_error_text() : "");
    char *text = describe(entries);
    ck_assert_str_eq(text, expected);
    free(text);
}

/* The same where the entries are of no more interest. */
void expect_take(struct client *client, const struct pln_l2_taking *taking, const char *expected) {
    struct pln_l2_entries entries;
    expect_taken(client, taking, expected, &entries);
    pln_l2_entries_fini(&entries);
}

void expect_depth(struct client *client, uint64_t depth, uint64_t dead) {
    struct pln_l2_queue_state state;
    ck_assert_int_eq(pln_l2_queue_state(client->l2, soon(), &state), PLN_OK);
    ck_assert_uint_eq(state.depth, depth);
    ck_assert_uint_eq(state.dead, dead);
}

/* What waits for a key; NULL: nothing does. */
void expect_waiting(struct client *client, const char *key, const char *expected) {
    struct pln_hashed hashed = key_of(key);
    struct pln_l2_entries found;
    int result = pln_l2_queue_find(client->l2, &hashed, soon(), &found);
    ck_assert_int_eq(result, expected != NULL ? PLN_OK : PLN_MISS);
    if (expected != NULL) {
        char *text = describe(&found);
        ck_assert_str_eq(text, expected);
        free(text);
    }
    pln_l2_entries_fini(&found);
}

size_t count_taken(struct client *client, const struct pln_l2_taking *taking) {
    struct pln_l2_entries entries;
    int result = take(client, taking, &entries);
    ck_assert_msg(result == PLN_OK, "take gives %d (%s)", result,
                  result < 0 ? pln_error_text() : "");
    size_t n = entries.n;
    pln_l2_entries_fini(&entries);
    return n;
}

int take(struct client *client, const struct pln_l2_taking *taking,
         struct pln_l2_entries *entries) {
    pln_ms left;
    pln_ns deadline = soon() + 9000000000; /* many megabytes take a while under a sanitizer */
    return pln_l2_queue_take(client->l2, taking, deadline, entries, &left);
}
