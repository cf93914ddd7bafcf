/* SPDX-License-Identifier: MIT
 *
 * trace.c - reads a recorded sequence of requests. All of it is in memory before any is replayed,
 * so that neither the disk nor the unpacking is measured.
 */
#include "trace.h"

#include <errno.h>
#include <lzma.h>
#include <stdio.h>
#include <uthash.h>

enum {
    FIRST_BYTES = 1 << 20, /* room to read into, doubled as it fills */
    MOST_DIGITS = 20,      /* of a 64-bit number */
};

struct text {
    char *bytes;
    size_t len, room;
};

static __attribute__((noreturn, format(printf, 3, 4))) void fail(const char *path, size_t line,
                                                                 const char *format, ...) {
    va_list args;
    va_start(args, format);
    fprintf(stderr, "bench_hits: %s:", path);
    if (line > 0) {
        fprintf(stderr, "%zu:", line);
    }
    fputc(' ', stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

static void *need(void *memory, const char *path) {
    if (memory == NULL) {
        fail(path, 0, "out of memory");
    }
    return memory;
}

/* ---- bytes ---- */

static void grow(struct text *text, const char *path) {
    if (text->len == text->room) {
        text->room = text->room > 0 ? 2 * text->room : FIRST_BYTES;
        text->bytes = need(realloc(text->bytes, text->room), path);
    }
}

static struct text read_all(const char *path) {
    struct text text = {.len = 0};
    size_t n;
    errno = 0;
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        fail(path, 0, "%s", strerror(errno));
    }
    do {
        grow(&text, path);
        n = fread(text.bytes + text.len, 1, text.room - text.len, file);
        text.len += n;
    } while (n > 0);
    if (ferror(file)) {
        fail(path, 0, "%s", strerror(errno));
    }
    fclose(file);
    return text;
}

static size_t lines_of(const struct text *text) {
    size_t n = 0;
    for (size_t i = 0; i < text->len; i++) {
        n += text->bytes[i] == '\n';
    }
    return n;
}

static struct text unpacked(const struct text *packed, const char *path) {
    struct text text = {.len = 0};
    lzma_stream stream = LZMA_STREAM_INIT;
    lzma_ret status = lzma_stream_decoder(&stream, UINT64_MAX, LZMA_CONCATENATED);
    stream.next_in = (const uint8_t *) packed->bytes;
    stream.avail_in = packed->len;
    while (status == LZMA_OK) {
        grow(&text, path);
        stream.next_out = (uint8_t *) text.bytes + text.len;
        stream.avail_out = text.room - text.len;
        status = lzma_code(&stream, LZMA_FINISH);
        text.len = text.room - stream.avail_out;
    }
    lzma_end(&stream);
    if (status != LZMA_STREAM_END) {
        fail(path, lines_of(&text) + 1, "from here on the xz data is %s",
             status == LZMA_BUF_ERROR ? "missing" : "damaged");
    }
    return text;
}

static struct text read_text(const char *path) {
    static const char magic[] = {'\xfd', '7', 'z', 'X', 'Z', 0};
    struct text text = read_all(path);
    if (text.len >= sizeof magic && memcmp(text.bytes, magic, sizeof magic) == 0) {
        struct text packed = text;
        text = unpacked(&packed, path);
        free(packed.bytes);
    }
    return text;
}

/* ---- keys ---- */

static struct pln_bytes key_at(const struct text *text, size_t at, const char *path, size_t line) {
    size_t end = at;
    while (end < text->len && text->bytes[end] >= '0' && text->bytes[end] <= '9') {
        end++;
    }
    if (end < text->len && text->bytes[end] != '\n') {
        fail(path, line, "a key is decimal digits, here is a byte %d",
             (unsigned char) text->bytes[end]);
    }
    if (end == at) {
        fail(path, line, "an empty line, where a key should be");
    }
    if (end - at > MOST_DIGITS) {
        fail(path, line, "a key of %zu digits, at most %d", end - at, MOST_DIGITS);
    }
    return pln_bytes_of(text->bytes + at, end - at);
}

static void cut(struct bench_trace *trace, const struct text *text, const char *path) {
    size_t room = lines_of(text) + 1, at = 0;
    trace->keys = need(malloc(room * sizeof *trace->keys), path);
    for (trace->n = 0; at < text->len; trace->n++) {
        trace->keys[trace->n] = key_at(text, at, path, trace->n + 1);
        at += trace->keys[trace->n].len + 1;
    }
    if (trace->n == 0) {
        fail(path, 1, "empty: a trace has one key a line");
    }
}

struct known {
    UT_hash_handle hh;
};

static void count_unique(struct bench_trace *trace, const char *path) {
    struct known *map = NULL, *known;
    /* room for as many as there may be: what is not used is never touched */
    struct known *all = need(malloc(trace->n * sizeof *all), path);
    trace->numbers = need(malloc(trace->n * sizeof *trace->numbers), path);
    for (size_t i = 0; i < trace->n; i++) {
        struct pln_bytes key = trace->keys[i];
        HASH_FIND(hh, map, key.data, key.len, known);
        if (known == NULL) {
            known = &all[trace->n_unique++];
            HASH_ADD_KEYPTR(hh, map, key.data, key.len, known);
        }
        trace->numbers[i] = (uint32_t) (known - all);
    }
    HASH_CLEAR(hh, map);
    free(all);
}

static void drop_ending(char *name, const char *ending) {
    size_t len = strlen(name), n = strlen(ending);
    if (len > n && strcmp(name + len - n, ending) == 0) {
        name[len - n] = 0;
    }
}

void bench_trace_read(struct bench_trace *trace, const char *path) {
    struct text text = read_text(path);
    const char *slash = strrchr(path, '/');
    memset(trace, 0, sizeof *trace);
    snprintf(trace->name, sizeof trace->name, "%s", slash != NULL ? slash + 1 : path);
    drop_ending(trace->name, ".xz");
    drop_ending(trace->name, ".txt");
    trace->text = text.bytes;
    cut(trace, &text, path);
    count_unique(trace, path);
}

void bench_trace_free(struct bench_trace *trace) {
    free(trace->keys);
    free(trace->numbers);
    free(trace->text);
}
