/* SPDX-License-Identifier: MIT
 *
 * contract.c - what a policy says of events, told: to people, and as JSON. It is what those must
 * know who send them: names, the fields that each needs, what becomes void, and where to send.
 */
#include "engine.h"

#include <jansson.h>
#include <stdio.h>

/* ---- as JSON ---- */

static json_t *list_templates(struct pln_template **templates, size_t n) {
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < n; i++) {
        if (json_array_append_new(list, json_string(pln_template_text(templates[i]))) != 0) {
            json_decref(list);
            list = NULL;
        }
    }
    return list;
}

static bool has(const json_t *list, struct pln_bytes name) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        if (pln_bytes_equal(pln_key(json_string_value(item)), name)) {
            return true;
        }
    }
    return false;
}

static void add_needs(json_t *list, struct pln_template **templates, size_t n) {
    struct pln_bytes name;
    for (size_t i = 0; i < n; i++) {
        for (size_t k = 0; (name = pln_template_field(templates[i], k)).data != NULL; k++) {
            if (!has(list, name)) {
                json_array_append_new(list, json_stringn(name.data, name.len));
            }
        }
    }
}

static json_t *tell_event(const struct pln_event_rule *event) {
    json_t *needs = json_array();
    add_needs(needs, event->keys, event->n_keys);
    add_needs(needs, event->tags, event->n_tags);
    json_t *row = json_pack("{s:s, s:o, s:o, s:o, s:s, s:i}", "event", event->name, "needs", needs,
                            "keys", list_templates(event->keys, event->n_keys), "tags",
                            list_templates(event->tags, event->n_tags), "file",
                            event->file != NULL ? event->file : "", "line", event->line);
    if (row != NULL && event->is_function) {
        json_object_set_new(row, "function", json_true());
    }
    return row;
}

static json_t *tell_source(const struct pln_event_source *source) {
    const char *file = source->file != NULL ? source->file : "";
    if (source->kind == PLN_EVENT_CHANNEL) {
        return json_pack("{s:s, s:s, s:i}", "channel", source->name, "file", file, "line",
                         source->line);
    }
    json_t *dead = json_sprintf("%s:dead", source->name);
    return json_pack("{s:s, s:s?, s:o, s:I, s:s, s:i}", "stream", source->name, "group",
                     source->group, "dead", dead, "idle_ms", (json_int_t) source->idle, "file",
                     file, "line", source->line);
}

/* The whole; NULL where memory is out, or a name is no UTF-8. */
static json_t *tell_all(const struct pln_ruleset *ruleset) {
    json_t *events = json_array(), *sources = json_array();
    int status = 0;
    for (size_t i = 0; i < ruleset->n_events; i++) {
        status |= json_array_append_new(events, tell_event(&ruleset->events[i]));
    }
    for (size_t i = 0; i < ruleset->n_sources; i++) {
        status |= json_array_append_new(sources, tell_source(&ruleset->sources[i]));
    }
    json_t *all = json_pack("{s:o, s:o}", "events", events, "sources", sources);
    if (status != 0) {
        json_decref(all);
        return NULL;
    }
    return all;
}

/* ---- for people ---- */

static void print_list(FILE *out, const char *what, const json_t *list) {
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item) {
        fprintf(out, "%s%s", i == 0 ? what : ", ", json_string_value(item));
    }
    fputs(json_array_size(list) > 0 ? "\n" : "", out);
}

static void print_place(FILE *out, const json_t *row) {
    fprintf(out, " (%s:%d)\n", json_string_value(json_object_get(row, "file")),
            (int) json_integer_value(json_object_get(row, "line")));
}

static void print_all(FILE *out, const json_t *all) {
    size_t i;
    json_t *row;
    json_array_foreach(json_object_get(all, "events"), i, row) {
        fprintf(out, "event %s", json_string_value(json_object_get(row, "event")));
        print_place(out, row);
        if (json_object_get(row, "function") != NULL) {
            fputs("  a function says what it makes void\n", out);
        }
        print_list(out, "  needs  ", json_object_get(row, "needs"));
        print_list(out, "  keys   ", json_object_get(row, "keys"));
        print_list(out, "  tags   ", json_object_get(row, "tags"));
    }
    json_array_foreach(json_object_get(all, "sources"), i, row) {
        const char *stream = json_string_value(json_object_get(row, "stream"));
        const char *group = json_string_value(json_object_get(row, "group"));
        if (stream != NULL) {
            fprintf(out, "stream %s, group %s, dead ones to %s", stream,
                    group != NULL ? group : "of the namespace",
                    json_string_value(json_object_get(row, "dead")));
        } else {
            fprintf(out, "channel %s", json_string_value(json_object_get(row, "channel")));
        }
        print_place(out, row);
    }
}

static char *print(const json_t *all, bool as_json) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    if (as_json) {
        json_dumpf(all, out, JSON_SORT_KEYS | JSON_COMPACT);
        fputc('\n', out);
    } else {
        print_all(out, all);
    }
    fclose(out);
    return text;
}

size_t pln_explain_events(struct pln_cache *cache, bool as_json, char *buffer, size_t size) {
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    json_t *all = tell_all(ruleset);
    char *text = all == NULL ? NULL : print(all, as_json);
    int len = snprintf(buffer, size, "%s", text != NULL ? text : "");
    free(text);
    json_decref(all);
    pln_ruleset_unref(ruleset);
    return len < 0 ? 0 : (size_t) len;
}
