/* SPDX-License-Identifier: MIT
 *
 * warm_list.c - gathering: the keys of all sources in one list, each once, before the first is
 * read, so that there is a total to report against.
 *
 * Sources are read by their priority, the highest first, and those of one priority as they stand.
 * A key that two sources name belongs to the first. Of `previous`, which is good to have but not
 * promised, a failure is logged; of the others it ends the warming.
 */
#include "warm.h"

#include <errno.h>
#include <stdio.h>

enum {
    DEFAULT_TOP = 10000,
    MAX_KEYS = 10 * 1000 * 1000,
    FIRST_SLOTS = 1024,
};

/* What a source adds to; at most `most` keys of it are taken. */
struct sink {
    struct pln_cache *cache;
    struct pln_warm_list *list;
    size_t most, n;
    int fault; /* what a key is that is none: the caller's mistake, or a list's */
    bool is_l2_only;
};

/* ---- the list ---- */

/* The place of a key among the slots: where it is, or where it would be. */
static size_t find_slot(const struct pln_warm_list *list, struct pln_bytes key) {
    size_t at = (size_t) pln_hash(key, 0) & (list->n_slots - 1);
    while (list->slots[at] != 0 && !pln_bytes_equal(list->keys[list->slots[at] - 1].key, key)) {
        at = (at + 1) & (list->n_slots - 1);
    }
    return at;
}

static bool grow_slots(struct pln_warm_list *list) {
    size_t n_slots = list->n_slots == 0 ? FIRST_SLOTS : 2 * list->n_slots;
    uint32_t *slots = calloc(n_slots, sizeof *slots);
    if (slots == NULL) {
        return false;
    }
    free(list->slots);
    list->slots = slots;
    list->n_slots = n_slots;
    for (size_t i = 0; i < list->n; i++) {
        slots[find_slot(list, list->keys[i].key)] = (uint32_t) i + 1;
    }
    return true;
}

static bool grow_keys(struct pln_warm_list *list) {
    size_t room = list->room == 0 ? 256 : list->room * 2;
    struct pln_warm_key *grown = realloc(list->keys, room * sizeof *grown);
    if (grown != NULL) {
        list->keys = grown;
        list->room = room;
    }
    return grown != NULL;
}

static int list_add(struct pln_warm_list *list, struct pln_bytes key) {
    if (list->n == MAX_KEYS) {
        return pln_fail(PLN_EINVAL, "warm: more than %d keys", MAX_KEYS);
    }
    if ((2 * (list->n + 1) > list->n_slots && !grow_slots(list)) ||
        (list->n == list->room && !grow_keys(list))) {
        return pln_fail(PLN_ENOMEM, "warm: no memory for more than %zu keys", list->n);
    }
    size_t slot = find_slot(list, key);
    if (list->slots[slot] != 0) {
        return PLN_OK;
    }
    char *copy = malloc(key.len + 1);
    if (copy == NULL) {
        return pln_fail(PLN_ENOMEM, "warm: no memory for a key");
    }
    memcpy(copy, key.data, key.len);
    list->keys[list->n] = (struct pln_warm_key){.key = pln_bytes_of(copy, key.len),
                                                .source = (uint32_t) list->n_rows - 1};
    list->rows[list->n_rows - 1].report.wanted++;
    list->slots[slot] = (uint32_t) ++list->n;
    return PLN_OK;
}

void pln_warm_list_fini(struct pln_warm_list *list) {
    for (size_t i = 0; i < list->n; i++) {
        free((void *) list->keys[i].key.data);
    }
    for (size_t i = 0; i < list->n_rows; i++) {
        free(list->rows[i].name);
    }
    free(list->keys);
    free(list->slots);
    free(list->rows);
}

/* Begins a source: what is added from now on is its. */
static int begin_row(struct pln_warm_list *list, const char *kind, const char *name) {
    struct pln_warm_row *grown = realloc(list->rows, (list->n_rows + 1) * sizeof *grown);
    if (grown != NULL) {
        list->rows = grown;
        grown[list->n_rows] = (struct pln_warm_row){.name = NULL};
        if (asprintf(&grown[list->n_rows].name, "%s%s%s", kind, name != NULL ? " " : "",
                     name != NULL ? name : "") >= 0) {
            list->n_rows++;
            return PLN_OK;
        }
    }
    return pln_fail(PLN_ENOMEM, "warm: no memory for a source");
}

/* Returns PLN_OK; PLN_MISS where no more are wanted. */
static int add(void *arg, struct pln_bytes key) {
    struct sink *sink = arg;
    struct pln_ruleset *ruleset;
    struct pln_match match;
    if (sink->n >= sink->most || sink->list->n >= sink->list->most) {
        return PLN_MISS;
    }
    if (key.len == 0 || key.len > PLN_MAX_KEY) {
        return pln_fail(sink->fault, "warm: %s: key %zu: %zu bytes, must be 1 to %d",
                        sink->list->rows[sink->list->n_rows - 1].name, sink->n + 1, key.len,
                        PLN_MAX_KEY);
    }
    sink->n++;
    if (sink->is_l2_only) {
        bool is_for_l2 = pln_cache_match(sink->cache, key, &match, &ruleset)->use_l2;
        pln_ruleset_unref(ruleset);
        if (!is_for_l2) {
            return PLN_OK;
        }
    }
    return list_add(sink->list, key);
}

/* ---- sources ---- */

static int add_keys(struct sink *sink, const struct pln_bytes *keys, size_t n) {
    int status = PLN_OK;
    for (size_t i = 0; status == PLN_OK && i < n; i++) {
        status = add(sink, keys[i]);
    }
    return status;
}

/* One key a line; blank lines and lines that begin with '#' are passed over. */
static int add_file(struct sink *sink, const char *name) {
    char *line = NULL;
    size_t room = 0;
    ssize_t len;
    int status = PLN_OK;
    FILE *file = fopen(name, "re");
    if (file == NULL) {
        return pln_fail(PLN_ESYSTEM, "warm: %s: %s", name, strerror(errno));
    }
    while (status == PLN_OK && (len = getline(&line, &room, file)) >= 0) {
        while (len > 0 && (line[len - 1] == '\n' || line[len - 1] == '\r')) {
            len--;
        }
        if (len > 0 && line[0] != '#') {
            status = add(sink, pln_bytes_of(line, (size_t) len));
        }
    }
    if (status == PLN_OK && ferror(file)) {
        status = pln_fail(PLN_ESYSTEM, "warm: %s: %s", name, strerror(errno));
    }
    free(line);
    fclose(file);
    return status;
}

static int add_zset(struct sink *sink, struct pln_bytes name, const char *what) {
    struct pln_cache *cache = sink->cache;
    char last[24];
    struct pln_reply *reply;
    if (!cache->has_l2) {
        return pln_fail(PLN_EL2DOWN, "warm: %s: the cache has no Redis", what);
    }
    snprintf(last, sizeof last, "%zu", sink->most - 1); /* the first is 0 */
    struct pln_bytes args[] = {pln_key("ZREVRANGE"), name, pln_key("0"), pln_key(last)};
    int status = pln_l2_command(pln_cache_l2(cache), &name, args, PLN_ARRAY_LEN(args),
                                pln_cache_l2_deadline(cache, PLN_FOREVER), &reply);
    if (status != PLN_OK) {
        return status;
    }
    for (size_t i = 0; status == PLN_OK && i < reply->n_elements; i++) {
        status = add(sink, reply->elements[i].bytes);
    }
    pln_reply_free(reply);
    return status;
}

static int add_previous(struct sink *sink) {
    struct pln_named name;
    int status = pln_previous_name(sink->cache, &name);
    if (status == PLN_OK) {
        status = add_zset(sink, pln_named_bytes(&name), "previous");
    }
    if (status < 0 && status != PLN_ENOMEM) {
        pln_logf(&sink->cache->host, PLN_LOG_WARN, "%s; warming goes on without those keys",
                 pln_error_text());
        status = PLN_OK;
    }
    return status;
}

static int add_source(struct sink *sink, const struct pln_ruleset *ruleset,
                      const struct pln_warm_source *source, unsigned worker) {
    static const char *const kinds[] = {
        [PLN_WARM_KEYS] = "keys",         [PLN_WARM_FILE] = "file",
        [PLN_WARM_ZSET] = "zset",         [PLN_WARM_PREVIOUS] = "previous",
        [PLN_WARM_FUNCTION] = "function",
    };
    int status = begin_row(sink->list, kinds[source->kind], source->name);
    if (status < 0) {
        return status;
    }
    switch (source->kind) {
    case PLN_WARM_KEYS:
        return add_keys(sink, source->keys, source->n_keys);
    case PLN_WARM_FILE:
        return add_file(sink, source->name);
    case PLN_WARM_ZSET:
        return add_zset(sink, pln_key(source->name), sink->list->rows[sink->list->n_rows - 1].name);
    case PLN_WARM_PREVIOUS:
        sink->list->rows[sink->list->n_rows - 1].may_be_gone = true;
        return add_previous(sink);
    case PLN_WARM_FUNCTION:
        return ruleset->hooks.name_keys(ruleset->hooks_arg, worker, source->function, add, sink);
    }
    return PLN_OK;
}

/* ---- all of them ---- */

static size_t most_of(const struct pln_warm_source *source) {
    bool is_ranked = source->kind == PLN_WARM_ZSET || source->kind == PLN_WARM_PREVIOUS;
    return source->top != 0 ? source->top : is_ranked ? DEFAULT_TOP : SIZE_MAX;
}

/* The places of the sources by priority; an insertion keeps the order of equals. */
static size_t order_sources(const struct pln_warm_plan *plan, size_t places[PLN_WARM_SOURCES]) {
    size_t n = 0;
    for (size_t i = 0; i < plan->n_sources && i < PLN_WARM_SOURCES; i++) {
        size_t at = n++;
        for (; at > 0 && plan->sources[places[at - 1]].priority < plan->sources[i].priority; at--) {
            places[at] = places[at - 1];
        }
        places[at] = i;
    }
    return n;
}

static int gather_named(struct sink *sink, const struct pln_warm_options *options) {
    int status = PLN_OK;
    if (options->n_keys > 0) {
        sink->fault = PLN_EINVAL;
        status = begin_row(sink->list, "keys", NULL);
        status = status < 0 ? status : add_keys(sink, options->keys, options->n_keys);
        sink->fault = PLN_EPOLICY;
    }
    if (status >= 0 && options->file != NULL) {
        status = begin_row(sink->list, "file", options->file);
        status = status < 0 ? status : add_file(sink, options->file);
    }
    return status;
}

int pln_warm_gather(struct pln_cache *cache, const struct pln_ruleset *ruleset,
                    const struct pln_warm_options *options, unsigned worker,
                    struct pln_warm_list *list) {
    size_t places[PLN_WARM_SOURCES];
    struct sink sink = {.cache = cache,
                        .list = list,
                        .most = SIZE_MAX,
                        .fault = PLN_EPOLICY,
                        .is_l2_only = (options->flags & PLN_WARM_L2_ONLY) != 0};
    list->most = options->top != 0 ? options->top : SIZE_MAX;
    if (options->n_keys > 0 || options->file != NULL) {
        int status = gather_named(&sink, options);
        return status < 0 ? status : PLN_OK;
    }
    size_t n = order_sources(&ruleset->warm, places);
    for (size_t i = 0; i < n; i++) {
        const struct pln_warm_source *source = &ruleset->warm.sources[places[i]];
        sink.most = most_of(source);
        sink.n = 0;
        int status = add_source(&sink, ruleset, source, worker);
        if (status < 0) {
            return status;
        }
    }
    return PLN_OK;
}
