/* SPDX-License-Identifier: MIT
 *
 * rules.c - the bodies of cache.class and cache.rule.
 *
 * A field's value is the rule's own, else its class's, else the cache's; which one it was is
 * written into the rule's origins when it is read. stale_if_error follows stale where nobody says
 * otherwise: a value that may be served past its ttl may be served when the loader fails.
 */
#include "script.h"

#include <stdio.h>

/* For rules made to be hard to compare; a thousand of a site's take a fraction of a millisecond. */
enum { LONGEST_CHECK_MS = 4000 };

static const struct {
    const char *name;
    unsigned hook;
} function_fields[] = {{"load", PLN_RULE_LOAD},
                       {"ttl", PLN_RULE_TTL},
                       {"tags", PLN_RULE_TAGS},
                       {"related", PLN_RULE_RELATED},
                       {"load_many", PLN_RULE_LOAD_MANY}};

static const char loader_name[] = "perilune.loader";

/* ---- loader "name" ---- */

int pln_compile_named(lua_State *L, const char *word, const char *class, const char *example,
                      int longest) {
    const char *name = pln_compile_text(L, 1);
    char got[80];
    pln_compile_word(L, word);
    if (name == NULL || name[0] == 0 || strlen(name) > (size_t) longest) {
        pln_compile_refuse(L, "a name of 1 to %d bytes is wanted, as in %s, got %s", longest,
                           example, pln_compile_got(L, 1, got, sizeof got));
    }
    lua_newuserdatauv(L, 0, 1);
    luaL_setmetatable(L, class);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1);
    return 1;
}

static int word_loader(lua_State *L) {
    return pln_compile_named(L, "loader", loader_name, "loader \"catalog\"", PLN_MAX_LOADER_NAME);
}

void pln_compile_open_rules(lua_State *L) {
    luaL_newmetatable(L, loader_name);
    lua_pushboolean(L, false);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
    lua_pushcfunction(L, word_loader);
    lua_setfield(L, -2, "loader");
}

static struct pln_policy_class *find_class(const struct pln_compiler *compiler, const char *name) {
    for (size_t i = 0; i < compiler->n_classes; i++) {
        if (strcmp(compiler->classes[i].name, name) == 0) {
            return &compiler->classes[i];
        }
    }
    return NULL;
}

/* ---- plain fields ---- */

static void refuse_value(lua_State *L, const struct pln_policy_field *field,
                         enum pln_read_result result, const char *or_what) {
    char got[80];
    pln_compile_refuse(L, "%s: %s%s, got %s", field->name,
                       result == PLN_READ_WRONG_KIND ? pln_policy_field_wanted(field)
                                                     : field->range,
                       or_what, pln_compile_got(L, -1, got, sizeof got));
}

/* Reads what the table has of the plain fields; returns a bit for each. */
static uint64_t read_fields(lua_State *L, int body, bool is_rule, struct pln_terms *terms) {
    uint64_t own = 0;
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        const struct pln_policy_field *field = &pln_policy_fields[i];
        bool may_be_function = is_rule && strcmp(field->name, "ttl") == 0;
        int type = pln_compile_field(L, body, field->name);
        if (type != LUA_TNIL && !(may_be_function && type == LUA_TFUNCTION)) {
            enum pln_read_result result = pln_policy_field_read(field, L, -1, terms);
            if (result != PLN_READ_OK) {
                refuse_value(L, field, result, may_be_function ? ", or a function" : "");
            }
            own |= UINT64_C(1) << i;
        }
        lua_pop(L, 1);
    }
    return own;
}

/* The plain fields of a body, and those that may stand together in its `admit`. */
static uint64_t read_terms(lua_State *L, int body, bool is_rule, struct pln_terms *terms) {
    static const char *const names[] = {"min_uses", "max_bytes", "deny", NULL};
    char got[80];
    uint64_t own = read_fields(L, body, is_rule, terms);
    int type = pln_compile_field(L, body, "admit");
    if (type == LUA_TTABLE) {
        int admit = lua_gettop(L);
        pln_compile_check_names(L, admit, names, false, false);
        own |= read_fields(L, admit, false, terms);
    } else if (type != LUA_TNIL) {
        pln_compile_refuse(L, "admit: a table such as { min_uses = 2 }, got %s",
                           pln_compile_got(L, -1, got, sizeof got));
    }
    lua_pop(L, 1);
    return own;
}

/* Nothing is done with a denied key that a function could have a say in. */
static void refuse_functions_of_denied(lua_State *L, const struct pln_rule *rule) {
    for (size_t i = 0; rule->terms.is_denied && i < PLN_ARRAY_LEN(function_fields); i++) {
        if ((rule->hooks & function_fields[i].hook) != 0) {
            pln_compile_refuse(L, "%s: deny refuses the rule's keys, so this is never called",
                               function_fields[i].name);
        }
    }
}

/* What a class has not, and a rule has: said so, since no name is near. */
static void refuse_fields_of_rules(lua_State *L, int body) {
    static const char *const names[] = {"class", "tags", "load", "related", "load_many"};
    for (size_t i = 0; i < PLN_ARRAY_LEN(names); i++) {
        if (pln_compile_field(L, body, names[i]) != LUA_TNIL) {
            pln_compile_refuse(L, "%s: a field of rules, not of classes", names[i]);
        }
        lua_pop(L, 1);
    }
}

void pln_compile_class(lua_State *L, int body) {
    static const char *const names[] = {"admit", NULL};
    struct pln_compiler *compiler = pln_compile_of(L);
    char at[160];
    const struct pln_policy_class *same = find_class(compiler, compiler->statement.name);
    if (same != NULL) {
        pln_compile_refuse(L, "there is one of this name already, at %s",
                           pln_compile_place(compiler, same->file, same->line, at, sizeof at));
    }
    refuse_fields_of_rules(L, body);
    pln_compile_check_names(L, body, names, true, false);
    compiler->classes = pln_compile_grow(L, compiler->classes, compiler->n_classes,
                                         sizeof *compiler->classes);
    struct pln_policy_class *class = &compiler->classes[compiler->n_classes];
    *class = (struct pln_policy_class){.line = compiler->statement.line};
    class->name = pln_compile_own(L, strdup(compiler->statement.name));
    compiler->n_classes++;
    class->file = pln_compile_own(L, strdup(compiler->statement.file));
    pln_compile_writing(L, body, PLN_MAX_RULES + (unsigned) compiler->n_classes - 1,
                        &class->writing);
    class->own = read_terms(L, body, false, &class->terms);
}

/* ---- a rule's own fields ---- */

static const struct pln_policy_class *read_class(lua_State *L, int body) {
    const struct pln_compiler *compiler = pln_compile_of(L);
    const char *names[65];
    char got[80];
    size_t n = 0;
    if (pln_compile_field(L, body, "class") == LUA_TNIL) {
        lua_pop(L, 1);
        return NULL;
    }
    const char *name = pln_compile_text(L, -1);
    const struct pln_policy_class *class = name == NULL ? NULL : find_class(compiler, name);
    if (class == NULL) {
        for (; n < compiler->n_classes && n < PLN_ARRAY_LEN(names) - 1; n++) {
            names[n] = compiler->classes[n].name;
        }
        names[n] = NULL;
        const char *near = name == NULL ? NULL : pln_nearest(names, name);
        pln_compile_refuse(L, "class: the name of a class that stands above, got %s%s%s%s",
                           pln_compile_got(L, -1, got, sizeof got),
                           near == NULL ? "" : ", did you mean '", near == NULL ? "" : near,
                           near == NULL ? "" : "'?");
    }
    lua_pop(L, 1);
    return class;
}

/* The value on top: a function, which is kept and popped, or the name of a loader. */
static void read_load(lua_State *L, struct pln_rule *rule, unsigned index) {
    char got[80];
    if (lua_isfunction(L, -1)) {
        pln_compile_keep_function(L, index, PLN_RULE_LOAD);
    } else if (luaL_testudata(L, -1, loader_name) != NULL) {
        lua_getiuservalue(L, -1, 1);
        rule->loader = pln_compile_own(L, strdup(lua_tostring(L, -1)));
        lua_pop(L, 2);
    } else {
        pln_compile_refuse(L, "load: a function, or loader \"name\", got %s",
                           pln_compile_got(L, -1, got, sizeof got));
    }
    rule->hooks |= PLN_RULE_LOAD;
}

static void read_functions(lua_State *L, int body, struct pln_rule *rule, unsigned index) {
    char got[80];
    for (size_t i = 0; i < PLN_ARRAY_LEN(function_fields); i++) {
        const char *name = function_fields[i].name;
        unsigned hook = function_fields[i].hook;
        int type = pln_compile_field(L, body, name);
        if (type != LUA_TNIL && hook == PLN_RULE_LOAD) {
            read_load(L, rule, index);
            continue;
        }
        if (type == LUA_TFUNCTION) {
            rule->hooks |= hook;
            pln_compile_keep_function(L, index, hook);
            continue;
        }
        if (type != LUA_TNIL && (hook == PLN_RULE_RELATED || hook == PLN_RULE_LOAD_MANY)) {
            pln_compile_refuse(L, "%s: a function, got %s", name,
                               pln_compile_got(L, -1, got, sizeof got));
        }
        lua_pop(L, 1);
    }
}

static void read_tags(lua_State *L, int body, struct pln_rule *rule) {
    int type = pln_compile_field(L, body, "tags");
    if (type != LUA_TNIL && type != LUA_TFUNCTION) {
        pln_compile_templates(L, lua_gettop(L), "tags", rule->pattern, &rule->tags, &rule->n_tags);
    }
    lua_pop(L, 1);
}

static struct pln_rule *add_rule(lua_State *L) {
    struct pln_compiler *compiler = pln_compile_of(L);
    struct pln_ruleset *ruleset = compiler->ruleset;
    if (ruleset->n_rules == PLN_MAX_RULES) {
        pln_compile_refuse(L, "a policy has at most %d rules", PLN_MAX_RULES);
    }
    ruleset->rules = pln_compile_grow(L, ruleset->rules, ruleset->n_rules, sizeof *ruleset->rules);
    struct pln_rule *rule = &ruleset->rules[ruleset->n_rules++];
    *rule = (struct pln_rule){.line = compiler->statement.line};
    if (pln_template_new(compiler->statement.name, NULL, &rule->pattern) < 0) {
        compiler->statement.name[0] = 0; /* the text below begins with it */
        pln_compile_refuse(L, "%s", pln_error_text());
    }
    rule->file = pln_compile_own(L, strdup(compiler->statement.file));
    return rule;
}

/* ---- inheriting ---- */

/* Where a rule's values come from. */
struct heritage {
    const struct pln_rule *rule;
    const struct pln_policy_class *class; /* or NULL */
    uint64_t own, of_class;               /* a bit per field */
    bool errors_follow_stale;
    bool loads_by_many; /* load_many stands in for load */
};

static void inherit(struct pln_terms *terms, const struct pln_terms *base,
                    const struct heritage *from) {
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        if ((from->own & UINT64_C(1) << i) == 0) {
            bool is_class = (from->of_class & UINT64_C(1) << i) != 0;
            pln_policy_field_copy(&pln_policy_fields[i], terms,
                                  is_class ? &from->class->terms : base);
        }
    }
}

static uint64_t bit_of(const char *name) {
    unsigned i = 0;
    while (strcmp(pln_policy_fields[i].name, name) != 0) {
        i++;
    }
    return UINT64_C(1) << i;
}

static void follow_stale(struct pln_terms *terms, struct heritage *from) {
    uint64_t said = from->own | from->of_class;
    if ((said & bit_of("stale")) != 0 && (said & bit_of("stale_if_error")) == 0 &&
        terms->stale_if_error_ms < terms->stale_ms) {
        terms->stale_if_error_ms = terms->stale_ms;
        from->errors_follow_stale = true;
    }
}

static void write_origin(FILE *out, const struct heritage *from, unsigned i) {
    const struct pln_policy_field *field = &pln_policy_fields[i];
    const struct pln_rule *rule = from->rule;
    char value[32];
    pln_policy_field_format(field, &rule->terms, value, sizeof value);
    bool is_ttl = strcmp(field->name, "ttl") == 0;
    fprintf(out, "%s ", field->name);
    if (field->kind == PLN_FIELD_WRITE && rule->writing.strategy != 0) {
        pln_writing_tell(out, rule);
        value[0] = 0;
    }
    if (is_ttl && (rule->hooks & PLN_RULE_TTL) != 0) {
        fprintf(out, "function (%s:%d), else ", rule->file, rule->line);
    }
    if ((from->own & UINT64_C(1) << i) != 0) {
        fprintf(out, "%s (%s:%d)\n", value, rule->file, rule->line);
    } else if ((from->of_class & UINT64_C(1) << i) != 0) {
        fprintf(out, "%s (class %s, %s:%d)\n", value, from->class->name, from->class->file,
                from->class->line);
    } else if (from->errors_follow_stale && strcmp(field->name, "stale_if_error") == 0) {
        fprintf(out, "%s (as stale)\n", value);
    } else {
        fprintf(out, "%s (cache)\n", value);
    }
}

static void write_rest(FILE *out, const struct heritage *from) {
    const struct pln_rule *rule = from->rule;
    for (size_t i = 0; i < rule->n_tags; i++) {
        fprintf(out, "%s%s", i == 0 ? "tags " : ", ", pln_template_text(rule->tags[i]));
    }
    if (rule->n_tags > 0) {
        fprintf(out, " (%s:%d)\n", rule->file, rule->line);
    }
    if (rule->loader != NULL) {
        fprintf(out, "load loader '%s' (%s:%d)\n", rule->loader, rule->file, rule->line);
    }
    if (from->loads_by_many) {
        fprintf(out, "load by load_many (%s:%d)\n", rule->file, rule->line);
    }
    bool is_told = rule->loader != NULL || from->loads_by_many;
    uint32_t told = PLN_RULE_TTL | (is_told ? PLN_RULE_LOAD : 0);
    for (size_t i = 0; i < PLN_ARRAY_LEN(function_fields); i++) {
        if ((rule->hooks & function_fields[i].hook & ~told) != 0) {
            fprintf(out, "%s function (%s:%d)\n", function_fields[i].name, rule->file, rule->line);
        }
    }
}

/* The text for explain; NULL where memory is out. Calls no Lua, so nothing can be lost. */
static char *write_origins(const struct heritage *from) {
    char *text = NULL;
    size_t len;
    FILE *out = open_memstream(&text, &len);
    if (out == NULL) {
        return NULL;
    }
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        write_origin(out, from, i);
    }
    write_rest(out, from);
    bool has_failed = ferror(out) != 0;
    if (fclose(out) != 0 || has_failed) {
        free(text);
        return NULL;
    }
    return text;
}

/* A value has one refresh point, so it is one field that sets it. */
static void refuse_two_points(lua_State *L, const struct pln_terms *terms) {
    if (terms->early > 0 && terms->refresh > 0) {
        pln_compile_refuse(L,
                           "early: not with refresh, which is %g here: one of the two is to be 0",
                           terms->refresh);
    }
    if (terms->keep_hot_ms > 0 && terms->refresh <= 0) {
        pln_compile_refuse(L, "keep_hot: not without refresh, which says when: that is 0 here");
    }
    if (terms->sliding && (terms->refresh > 0 || terms->early > 0)) {
        pln_compile_refuse(L, "sliding: not with %s, which is %g here: that is to be 0",
                           terms->refresh > 0 ? "refresh" : "early",
                           terms->refresh > 0 ? terms->refresh : terms->early);
    }
}

/* Plain bytes say nothing of themselves. */
static void refuse_besides_plain(lua_State *L, const struct pln_rule *rule) {
    if (!rule->terms.is_plain) {
        return;
    }
    if (rule->n_tags > 0 || (rule->hooks & PLN_RULE_TAGS) != 0) {
        pln_compile_refuse(L, "plain: not with tags, which plain values cannot have");
    }
    if (rule->terms.sliding) {
        pln_compile_refuse(L, "plain: not with sliding, since it is not seen how old a value is");
    }
}

void pln_compile_rule(lua_State *L, int body) {
    static const char *const names[] = {"class",   "tags",  "load", "load_many",
                                        "related", "admit", NULL};
    const struct pln_compiler *compiler = pln_compile_of(L);
    pln_compile_check_names(L, body, names, true, false);
    struct pln_rule *rule = add_rule(L);
    struct heritage from = {.rule = rule, .class = read_class(L, body)};
    unsigned index = (unsigned) compiler->ruleset->n_rules - 1;
    from.of_class = from.class == NULL ? 0 : from.class->own;
    bool says_write = pln_compile_rule_writing(L, body, rule, index, from.class);
    from.own = read_terms(L, body, true, &rule->terms);
    read_functions(L, body, rule, index);
    read_tags(L, body, rule);
    inherit(&rule->terms, compiler->base, &from);
    follow_stale(&rule->terms, &from);
    refuse_functions_of_denied(L, rule);
    refuse_two_points(L, &rule->terms);
    refuse_besides_plain(L, rule);
    pln_compile_check_writing(L, rule, says_write);
    from.loads_by_many = (rule->hooks & (PLN_RULE_LOAD | PLN_RULE_LOAD_MANY)) == PLN_RULE_LOAD_MANY;
    rule->hooks |= from.loads_by_many ? PLN_RULE_LOAD : 0;
    rule->class_name = pln_compile_own(L, strdup(from.class == NULL ? "" : from.class->name));
    rule->origins = pln_compile_own(L, write_origins(&from));
}

uint64_t pln_compile_terms(lua_State *L, int body, struct pln_terms *terms) {
    return read_terms(L, body, false, terms);
}

/* ---- all rules ---- */

static int refuse_covered(const struct pln_rule *rule, const struct pln_rule *earlier) {
    char text[PLN_SCRIPT_ERROR], escaped[PLN_SCRIPT_ERROR];
    bool is_same_file = strcmp(rule->file, earlier->file) == 0;
    snprintf(text, sizeof text,
             "%.60s:%d: rule '%.90s': it can never match: rule '%.90s' at %.60s%s%d takes all its "
             "keys",
             rule->file, rule->line, pln_template_text(rule->pattern),
             pln_template_text(earlier->pattern), is_same_file ? "line" : earlier->file,
             is_same_file ? " " : ":", earlier->line);
    pln_script_escape(escaped, sizeof escaped, text, strlen(text));
    return pln_fail(PLN_EPOLICY, "%s", escaped);
}

int pln_compile_end_rules(struct pln_ruleset *ruleset) {
    pln_ns deadline = pln_clock_precise() + (pln_ns) LONGEST_CHECK_MS * 1000000;
    int status = pln_ruleset_finish(ruleset);
    for (size_t i = 0; i < ruleset->n_rules && status == PLN_OK; i++) {
        const struct pln_rule *rule = &ruleset->rules[i];
        size_t earlier = pln_matcher_find_cover(ruleset->matcher, ruleset->rules, i);
        if (earlier != SIZE_MAX) {
            status = refuse_covered(rule, &ruleset->rules[earlier]);
        } else if (pln_clock_precise() > deadline) {
            status = pln_fail(PLN_EPOLICY,
                              "%s:%d: it takes longer than %d s to see whether each rule can match",
                              rule->file, rule->line, LONGEST_CHECK_MS / 1000);
        }
    }
    return status;
}
