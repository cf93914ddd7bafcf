/* SPDX-License-Identifier: MIT
 *
 * fuzz_command.c - of any command, the key that decides about its server is one of its words, and
 * none is sent that would take a connection from those who share it.
 *
 * The input is a command, a word a line.
 */
#include "../../core/engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MOST_WORDS = 64 };

static bool is_word(struct pln_bytes bytes, const char *word) {
    return bytes.len == strlen(word) && strncasecmp(bytes.data, word, bytes.len) == 0;
}

/* Where the names of XREAD and XREADGROUP begin, by the grammar that Redis has for them; 0 where it
 * would refuse the command. */
static size_t names_of_streams(const struct pln_bytes *args, size_t n, bool *waits) {
    bool is_group = is_word(args[0], "XREADGROUP");
    *waits = false;
    for (size_t i = 1; i < n; i++) {
        size_t more = n - i - 1;
        if (is_word(args[i], "STREAMS") && more > 0) {
            return i + 1;
        }
        if (is_word(args[i], "BLOCK") && more > 0) {
            *waits = true;
            i++;
        } else if (is_word(args[i], "COUNT") && more > 0) {
            i++;
        } else if (is_group && is_word(args[i], "GROUP") && more > 1) {
            i += 2;
        } else if (!is_group || !is_word(args[i], "NOACK")) {
            return 0;
        }
    }
    return 0;
}

static void check_streams(const struct pln_bytes *key, const struct pln_bytes *args, size_t n) {
    bool waits;
    size_t names = names_of_streams(args, n, &waits);
    assert(names == 0 || (!waits && key == &args[names]));
}

/* Stands for Redis: sees what would be sent. */
static int take(struct pln_l2 *l2, const struct pln_bytes *key, const struct pln_bytes *args,
                size_t n_args, pln_ns deadline, struct pln_reply **reply) {
    static const char *const never[] = {"SUBSCRIBE", "PSUBSCRIBE", "MULTI", "SELECT", "AUTH",
                                        "BLPOP",     "BZPOPMIN",   "QUIT",  "HELLO",  "MONITOR"};
    (void) l2, (void) deadline, (void) reply;
    assert(n_args > 0);
    assert(key == NULL || (key > args && key < args + n_args));
    for (size_t i = 0; i < PLN_ARRAY_LEN(never); i++) {
        assert(!is_word(args[0], never[i]));
    }
    if (is_word(args[0], "XREAD") || is_word(args[0], "XREADGROUP")) {
        check_streams(key, args, n_args);
    }
    if (is_word(args[0], "EVAL") || is_word(args[0], "FCALL")) {
        assert(key == NULL || key == &args[3]);
    }
    return pln_fail(PLN_EL2DOWN, "fuzz: nobody answers");
}

/* Whether it is a read of streams that waits for nothing, and so is to be sent. */
static bool is_plain_read(const struct pln_bytes *args, size_t n) {
    bool waits;
    return n > 0 && (is_word(args[0], "XREAD") || is_word(args[0], "XREADGROUP")) &&
           names_of_streams(args, n, &waits) != 0 && !waits;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static const struct pln_l2_ops ops = {.command = take};
    static struct pln_l2 l2 = {&ops};
    static struct pln_cache cache = {
        .l2 = &l2, .timeout_ms = 1000, .has_l2 = true, .is_awake = true};
    struct pln_bytes words[MOST_WORDS];
    struct pln_answer *answer;
    const uint8_t *end = data + size;
    size_t n = 0;
    if (cache.counts == NULL && pln_counts_new(&cache.counts) != PLN_OK) {
        return 0;
    }
    while (data < end && n < MOST_WORDS) {
        const uint8_t *newline = memchr(data, '\n', (size_t) (end - data));
        const uint8_t *stop = newline == NULL ? end : newline;
        words[n++] = pln_bytes_of(data, (size_t) (stop - data));
        data = newline == NULL ? end : newline + 1;
    }
    int status = pln_command(&cache, NULL, words, n, 0, &answer);
    assert(status == PLN_EL2DOWN || (status == PLN_EINVAL && !is_plain_read(words, n)));
    return 0;
}
