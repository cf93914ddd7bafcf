/* SPDX-License-Identifier: MIT
 *
 * explain.c - what the policy says of one key: its rule, and every value with the place that it
 * comes from. The values and places of a rule were written down when it was read (rules.c); where
 * there is no rule, all is the cache's own.
 */
#include "script.h"

#include <stdio.h>

/* "ttl 15m (class page, policy.lua:3)", without its newline, in columns. */
static void write_line(FILE *out, const char *line, size_t len) {
    int name = (int) strcspn(line, " ");
    size_t where = len;
    while (where > 2 && memcmp(line + where - 2, " (", 2) != 0) {
        where--;
    }
    if (where <= 2 || line[len - 1] != ')') { /* "ttl 15m" */
        fprintf(out, "  %-15.*s %-11.*s  cache\n", name, line, (int) len - name - 1,
                line + name + 1);
        return;
    }
    fprintf(out, "  %-15.*s %-11.*s  %.*s\n", name, line, (int) where - name - 3, line + name + 1,
            (int) (len - where) - 1, line + where);
}

/* Tags are told as the key's own. */
static void write_tags(FILE *out, const struct pln_match *match, const char *line, size_t len) {
    const struct pln_rule *rule = match->rule;
    char *filled = NULL;
    size_t filled_len;
    FILE *text = open_memstream(&filled, &filled_len);
    if (text == NULL) {
        return;
    }
    fprintf(text, "tags ");
    for (size_t i = 0; i < rule->n_tags; i++) {
        char tag[PLN_MAX_TAG];
        size_t n = pln_template_fill(rule->tags[i], match->captures, tag, sizeof tag);
        fprintf(text, "%s%.*s", i == 0 ? "" : ", ", n == SIZE_MAX ? 0 : (int) n, tag);
    }
    fprintf(text, " (%s:%d)", rule->file, rule->line);
    if (fclose(text) == 0) {
        write_line(out, filled, filled_len);
    } else {
        write_line(out, line, len);
    }
    free(filled);
}

static void write_lines(FILE *out, const struct pln_match *match, const char *text) {
    while (*text != 0) {
        size_t len = strcspn(text, "\n");
        if (match->rule != NULL && match->rule->n_tags > 0 && strncmp(text, "tags ", 5) == 0 &&
            strncmp(text, "tags function ", 14) != 0) {
            write_tags(out, match, text, len);
        } else {
            write_line(out, text, len);
        }
        text += len + (text[len] == '\n');
    }
}

static void write_rule(FILE *out, const struct pln_match *match) {
    const struct pln_rule *rule = match->rule;
    fprintf(out, "rule '%s' at %s:%d%s%s\n", pln_template_text(rule->pattern), rule->file,
            rule->line, rule->class_name[0] != 0 ? ", class " : "", rule->class_name);
    for (size_t i = 0; i < match->n_captures; i++) {
        fprintf(out, "  {%s} = %.*s\n", pln_template_name(rule->pattern, i),
                (int) match->captures[i].len, (const char *) match->captures[i].data);
    }
    write_lines(out, match, rule->origins);
}

static void write_cache(FILE *out, const struct pln_match *match, struct pln_cache *cache) {
    char text[4096];
    fprintf(out, "no rule matches; the cache's own terms hold\n");
    if (pln_policy_describe(pln_cache_terms(cache), text, sizeof text) < sizeof text) {
        write_lines(out, match, text);
    }
}

size_t pln_explain(struct pln_cache *cache, struct pln_bytes key, char *buffer, size_t size) {
    char *text = NULL;
    size_t len = 0;
    struct pln_match match;
    FILE *out = open_memstream(&text, &len);
    if (size > 0) {
        buffer[0] = 0;
    }
    if (out == NULL) {
        return 0;
    }
    struct pln_ruleset *ruleset = pln_cache_policy(cache);
    pln_ruleset_match(ruleset, key, &match);
    if (match.rule != NULL) {
        write_rule(out, &match);
    } else {
        write_cache(out, &match, cache);
    }
    pln_ruleset_unref(ruleset);
    if (fclose(out) == 0) {
        (void) snprintf(buffer, size, "%s", text);
    } else {
        len = 0;
    }
    free(text);
    return len;
}
