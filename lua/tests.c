/* SPDX-License-Identifier: MIT
 *
 * tests.c - cache.test: what a policy's file says of itself. A test names a key and what is
 * expected for it; once the whole file has been read it is compared with what the rules say, by the
 * names that explain uses. A file with a test that fails is refused.
 *
 * A test may bring a value: then the rule's functions for ttl and tags are asked, and their answers
 * compared. Without one it sees what holds when a ttl function returns nil, and no tags of a
 * function's.
 */
#include "script.h"

#include <stdio.h>

enum { EXPECTS_CLASS = 1, EXPECTS_RULE = 2, EXPECTS_TAGS = 4 };
enum { MOST_TESTS = 4096, BUDGET_MS = 1000 };

struct pln_expectation {
    char *key, *file; /* owned, as all below */
    int line;
    unsigned what;              /* of the three above */
    char *class_name, *pattern; /* NULL: none is expected */
    char **tags;
    size_t n_tags;
    struct pln_terms terms;
    uint64_t fields; /* a bit per plain field that is expected */
    bool has_value;  /* for the rule's functions; it is kept by the state */
    struct answers {
        bool has_ttl;
        pln_ms ttl;  /* negative: not stored */
        char *error; /* of either function; NULL: none */
        char *tags[PLN_MAX_TAGS];
        size_t n_tags;
    } answers;
};

static const char values_key = 0; /* its address is the key in the registry */

/* ---- reading a test ---- */

static char *copy_text(lua_State *L, const char *field, const char *wanted) {
    char got[80];
    const char *text = pln_compile_text(L, -1);
    if (text == NULL) {
        pln_compile_refuse(L, "%s: %s, got %s", field, wanted,
                           pln_compile_got(L, -1, got, sizeof got));
    }
    return pln_compile_own(L, strdup(text));
}

/* A name, or false for none. */
static void read_name(lua_State *L, int body, const char *field, unsigned bit,
                      struct pln_expectation *test, char **name) {
    if (pln_compile_field(L, body, field) != LUA_TNIL) {
        test->what |= bit;
        if (!lua_isboolean(L, -1) || lua_toboolean(L, -1)) {
            *name = copy_text(L, field, "a name such as \"page\", or false for none");
        }
    }
    lua_pop(L, 1);
}

static void read_tags(lua_State *L, int body, struct pln_expectation *test) {
    char field[32], got[80];
    if (pln_compile_field(L, body, "tags") != LUA_TNIL) {
        if (!lua_istable(L, -1) || lua_rawlen(L, -1) > PLN_MAX_TAGS) {
            pln_compile_refuse(L, "tags: a list of at most %d texts such as { \"user:1\" }, got %s",
                               PLN_MAX_TAGS, pln_compile_got(L, -1, got, sizeof got));
        }
        size_t n = lua_rawlen(L, -1);
        test->what |= EXPECTS_TAGS;
        test->tags = pln_compile_own(L, calloc(n + 1, sizeof *test->tags));
        for (size_t i = 1; i <= n; i++) {
            lua_rawgeti(L, -1, (lua_Integer) i);
            snprintf(field, sizeof field, "tags[%zu]", i);
            test->tags[test->n_tags] = copy_text(L, field, "a text such as \"user:1\"");
            test->n_tags++;
            lua_pop(L, 1);
        }
    }
    lua_pop(L, 1);
}

/* The value stays in the state, under the test's number. */
static void read_value(lua_State *L, int body, struct pln_expectation *test, size_t number) {
    test->has_value = pln_compile_field(L, body, "value") != LUA_TNIL;
    if (test->has_value) {
        if (lua_rawgetp(L, LUA_REGISTRYINDEX, &values_key) == LUA_TNIL) {
            lua_newtable(L);
            lua_pushvalue(L, -1);
            lua_rawsetp(L, LUA_REGISTRYINDEX, &values_key);
            lua_remove(L, -2);
        }
        lua_pushvalue(L, -2);
        lua_rawseti(L, -2, (lua_Integer) number);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

/* denied = true: the question that deny = true answers. */
static void read_denied(lua_State *L, int body, struct pln_expectation *test) {
    char got[80];
    unsigned i = 0;
    if (pln_compile_field(L, body, "denied") != LUA_TNIL) {
        if (!lua_isboolean(L, -1)) {
            pln_compile_refuse(L, "denied: true or false, got %s",
                               pln_compile_got(L, -1, got, sizeof got));
        }
        while (strcmp(pln_policy_fields[i].name, "deny") != 0) {
            i++;
        }
        test->terms.is_denied = lua_toboolean(L, -1);
        test->fields |= UINT64_C(1) << i;
    }
    lua_pop(L, 1);
}

void pln_compile_test(lua_State *L, int body) {
    static const char *const names[] = {"class", "rule", "tags", "denied", "value", NULL};
    struct pln_compiler *compiler = pln_compile_of(L);
    pln_compile_check_names(L, body, names, true, false);
    if (compiler->n_expectations == MOST_TESTS) {
        pln_compile_refuse(L, "a policy has at most %d tests", MOST_TESTS);
    }
    compiler->expectations = pln_compile_grow(L, compiler->expectations, compiler->n_expectations,
                                              sizeof *compiler->expectations);
    struct pln_expectation *test = &compiler->expectations[compiler->n_expectations++];
    *test = (struct pln_expectation){.line = compiler->statement.line};
    test->key = pln_compile_own(L, strdup(compiler->statement.name));
    test->file = pln_compile_own(L, strdup(compiler->statement.file));
    read_name(L, body, "class", EXPECTS_CLASS, test, &test->class_name);
    read_name(L, body, "rule", EXPECTS_RULE, test, &test->pattern);
    read_tags(L, body, test);
    test->fields = pln_compile_terms(L, body, &test->terms);
    read_denied(L, body, test);
    read_value(L, body, test, compiler->n_expectations - 1);
    if (test->what == 0 && test->fields == 0) {
        pln_compile_refuse(L, "it expects nothing: give it a field, as in "
                              "cache.test \"user:1\" { class = \"page\" }");
    }
}

static void free_answers(struct pln_expectation *test) {
    while (test->answers.n_tags > 0) {
        free(test->answers.tags[--test->answers.n_tags]);
    }
    free(test->answers.error);
    test->answers.error = NULL;
}

void pln_tests_free(struct pln_compiler *compiler) {
    for (size_t i = 0; i < compiler->n_expectations; i++) {
        struct pln_expectation *test = &compiler->expectations[i];
        for (size_t k = 0; k < test->n_tags; k++) {
            free(test->tags[k]);
        }
        free(test->tags);
        free_answers(test);
        free(test->class_name);
        free(test->pattern);
        free(test->key);
        free(test->file);
    }
    free(compiler->expectations);
}

/* ---- asking the rule's functions ---- */

/* One call of a function, and where its answer goes. */
struct question {
    const struct pln_match *match;
    const struct pln_expectation *test;
    size_t number; /* of the test */
    unsigned hook;
    struct answers *answers;
};

static void call_function(lua_State *L, const struct question *question) {
    const struct pln_match *match = question->match;
    pln_compile_push_function(L, match->index, question->hook);
    lua_pushstring(L, question->test->key);
    pln_call_push_captures(L, match);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &values_key);
    lua_rawgeti(L, -1, (lua_Integer) question->number);
    lua_remove(L, -2);
    lua_call(L, 3, 1);
}

static int ask_ttl(lua_State *L) {
    const struct question *question = lua_touserdata(L, 1);
    struct answers *answers = question->answers;
    char got[80];
    call_function(L, question);
    answers->has_ttl = !lua_isnil(L, -1);
    if (answers->has_ttl && !pln_call_to_ttl(L, -1, &answers->ttl)) {
        return luaL_error(L, "%s, got %s", pln_call_ttl_wanted,
                          pln_compile_got(L, -1, got, sizeof got));
    }
    return 0;
}

static int ask_tags(lua_State *L) {
    const struct question *question = lua_touserdata(L, 1);
    struct answers *answers = question->answers;
    call_function(L, question);
    int list = lua_gettop(L);
    size_t n = pln_call_check_list(L, list, PLN_MAX_TAG);
    for (size_t i = 1; i <= n; i++) {
        struct pln_bytes tag = pln_call_push_item(L, list, i, PLN_MAX_TAG);
        if (memchr(tag.data, 0, tag.len) != NULL) {
            return luaL_error(L, "[%d]: a test cannot compare a tag with a zero byte", (int) i);
        }
        answers->tags[answers->n_tags] = pln_compile_own(L, strdup(tag.data));
        answers->n_tags++;
        lua_pop(L, 1);
    }
    return 0;
}

/* All tests of a file have one budget: each asks within what those before have left. */
static void ask(struct pln_script *script, struct question *question, unsigned hook,
                lua_CFunction function, pln_ns *left) {
    static const char too_long[] = "stopped: the tests together ran longer than 1 s";
    char **error = &question->answers->error;
    question->hook = hook;
    if ((question->match->rule->hooks & hook) == 0 || *error != NULL) {
        return;
    }
    if (*left <= 0) {
        *error = strdup(too_long);
        return;
    }
    unsigned left_ms = (unsigned) (*left / 1000000) + 1;
    int status = pln_script_call(script, function, question, left_ms);
    *left -= pln_script_spent(script);
    if (status < 0 && script->is_over) {
        if (asprintf(error, "%s: %s", script->over_at, too_long) < 0) {
            *error = NULL;
        }
    } else if (status < 0) {
        *error = strdup(script->error);
    }
}

static void ask_functions(struct pln_script *script, const struct pln_match *match,
                          struct pln_expectation *test, size_t number, pln_ns *left) {
    struct question question = {match, test, number, 0, &test->answers};
    if (test->has_value && match->rule != NULL) {
        ask(script, &question, PLN_RULE_TTL, ask_ttl, left);
        ask(script, &question, PLN_RULE_TAGS, ask_tags, left);
    }
}

/* ---- comparing: no Lua from here on ---- */

/* One test being run: what holds, and what is wrong with it. */
struct run {
    const struct pln_expectation *test;
    struct pln_match match;
    struct pln_terms terms;
    FILE *out; /* nothing is written where all is well */
    bool has_failed;
};

static void begin_failure(struct run *run) {
    if (run->has_failed) {
        fputs("; ", run->out);
    } else {
        fprintf(run->out, "%s:%d: test '%s': ", run->test->file, run->test->line, run->test->key);
    }
    run->has_failed = true;
}

static void fail(struct run *run, const char *field, const char *expected, const char *got) {
    begin_failure(run);
    fprintf(run->out, "%s: expected %s, got %s", field, expected, got);
}

/* Where the rule is. */
static void add_place(struct run *run) {
    const struct pln_rule *rule = run->match.rule;
    if (rule == NULL) {
        fputs(" (no rule matches)", run->out);
    } else {
        fprintf(run->out, " (rule '%s', %s:%d)", pln_template_text(rule->pattern), rule->file,
                rule->line);
    }
}

/* Where a field's value was said: what stands in the last parentheses of its line. */
static void add_origin(struct run *run, const char *field) {
    const char *line = run->match.rule == NULL ? "" : run->match.rule->origins;
    size_t len = strlen(field);
    while (*line != 0) {
        size_t width = strcspn(line, "\n");
        const char *open = memrchr(line, '(', width);
        if (strncmp(line, field, len) == 0 && line[len] == ' ' && open != NULL) {
            fprintf(run->out, " %.*s", (int) (line + width - open), open);
            return;
        }
        line += width + (line[width] == '\n');
    }
    fputs(" (cache)", run->out);
}

static void compare_name(struct run *run, const char *field, const char *expected,
                         const char *got) {
    bool is_same = expected == NULL || got == NULL ? expected == got : strcmp(expected, got) == 0;
    if (!is_same) {
        fail(run, field, expected == NULL ? "none" : expected, got == NULL ? "none" : got);
        add_place(run);
    }
}

/* The ttl that the rule's function gave. */
static void compare_answer(struct run *run, const char *expected, const char *got) {
    bool is_stored = run->test->answers.ttl > 0;
    if (!is_stored || strcmp(expected, got) != 0) {
        fail(run, "ttl", expected, is_stored ? got : "not stored");
        add_place(run);
    }
}

static void compare_fields(struct run *run) {
    char expected[32], got[32];
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        const struct pln_policy_field *field = &pln_policy_fields[i];
        if ((run->test->fields & UINT64_C(1) << i) == 0) {
            continue;
        }
        pln_policy_field_format(field, &run->test->terms, expected, sizeof expected);
        pln_policy_field_format(field, &run->terms, got, sizeof got);
        if (run->test->answers.has_ttl && strcmp(field->name, "ttl") == 0) {
            compare_answer(run, expected, got);
        } else if (strcmp(expected, got) != 0) {
            fail(run, field->name, expected, got);
            add_origin(run, field->name);
        }
    }
}

static bool is_among(char *const *texts, size_t n, const char *text) {
    for (size_t i = 0; i < n; i++) {
        if (strcmp(texts[i], text) == 0) {
            return true;
        }
    }
    return false;
}

/* The tags of the key, in memory of their own. Returns how many. */
static size_t fill_tags(const struct pln_match *match, const struct answers *answers, char **tags) {
    char tag[PLN_MAX_TAG + 1];
    size_t n = 0;
    for (size_t i = 0; i < answers->n_tags; i++) {
        tags[n] = strdup(answers->tags[i]);
        n += tags[n] != NULL;
    }
    for (size_t i = 0; match->rule != NULL && i < match->rule->n_tags; i++) {
        size_t len = pln_template_fill(match->rule->tags[i], match->captures, tag, PLN_MAX_TAG);
        if (len != SIZE_MAX) {
            tag[len] = 0;
            tags[n] = strdup(tag);
            n += tags[n] != NULL;
        }
    }
    return n;
}

static void write_tags(char *text, size_t size, char *const *tags, size_t n) {
    size_t at = 0;
    snprintf(text, size, "none");
    for (size_t i = 0; i < n && at < size; i++) {
        at += (size_t) snprintf(text + at, size - at, "%s%s", i == 0 ? "" : ", ", tags[i]);
    }
}

static void compare_tags(struct run *run) {
    const struct pln_expectation *test = run->test;
    char *tags[PLN_MAX_TAGS], expected[256], got[256];
    bool lacks_value = run->match.rule != NULL && (run->match.rule->hooks & PLN_RULE_TAGS) != 0 &&
                       !test->has_value;
    size_t n = fill_tags(&run->match, &test->answers, tags);
    bool is_same = !lacks_value;
    for (size_t i = 0; i < n; i++) {
        is_same = is_same && is_among(test->tags, test->n_tags, tags[i]);
    }
    for (size_t i = 0; i < test->n_tags; i++) {
        is_same = is_same && is_among(tags, n, test->tags[i]);
    }
    if (!is_same) {
        write_tags(expected, sizeof expected, test->tags, test->n_tags);
        write_tags(got, sizeof got, tags, n);
        fail(run, "tags", expected, lacks_value ? "a function, which needs a value" : got);
        add_place(run);
    }
    while (n > 0) {
        free(tags[--n]);
    }
}

static void compare(struct run *run) {
    const struct pln_expectation *test = run->test;
    const struct pln_rule *rule = run->match.rule;
    if ((test->what & EXPECTS_RULE) != 0) {
        compare_name(run, "rule", test->pattern,
                     rule == NULL ? NULL : pln_template_text(rule->pattern));
    }
    if ((test->what & EXPECTS_CLASS) != 0) {
        compare_name(run, "class", test->class_name,
                     rule == NULL || rule->class_name[0] == 0 ? NULL : rule->class_name);
    }
    if (test->answers.error != NULL) {
        begin_failure(run);
        fprintf(run->out, "a function of its rule: %s", test->answers.error);
        return;
    }
    compare_fields(run);
    if ((test->what & EXPECTS_TAGS) != 0) {
        compare_tags(run);
    }
}

static int run_test(const struct pln_compiler *compiler, struct pln_script *script, size_t number,
                    pln_ns *left) {
    struct pln_policy_test *result = &compiler->ruleset->tests[number];
    char *text = NULL;
    size_t len;
    struct pln_expectation *test = &compiler->expectations[number];
    struct run run = {.test = test};
    result->line = test->line;
    if (asprintf(&result->key, "%s%c%s", test->key, 0, test->file) < 0) {
        result->key = NULL;
    }
    result->file = result->key == NULL ? NULL : result->key + strlen(test->key) + 1;
    if (result->key == NULL || (run.out = open_memstream(&text, &len)) == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for a test");
    }
    pln_ruleset_match(compiler->ruleset, pln_key(test->key), &run.match);
    run.terms = run.match.rule == NULL ? *compiler->base : run.match.rule->terms;
    ask_functions(script, &run.match, test, number, left);
    run.terms.ttl_ms = test->answers.has_ttl ? test->answers.ttl : run.terms.ttl_ms;
    compare(&run);
    free_answers(test);
    if (fclose(run.out) != 0) {
        free(text);
        return pln_fail(PLN_ENOMEM, "policy: no memory for a test");
    }
    if (run.has_failed) {
        result->failure = text;
    } else {
        free(text);
    }
    return PLN_OK;
}

int pln_tests_run(struct pln_compiler *compiler, struct pln_script *script) {
    struct pln_ruleset *ruleset = compiler->ruleset;
    pln_ns left = (pln_ns) BUDGET_MS * 1000000;
    int status = PLN_OK;
    ruleset->tests = calloc(compiler->n_expectations + 1, sizeof *ruleset->tests);
    if (ruleset->tests == NULL) {
        return pln_fail(PLN_ENOMEM, "policy: no memory for tests");
    }
    /* the first that takes all the time is the last: it fails, so the file is refused */
    for (size_t i = 0; i < compiler->n_expectations && status == PLN_OK && !script->is_over; i++) {
        status = run_test(compiler, script, i, &left);
        ruleset->n_tests++;
    }
    return status;
}

int pln_tests_verdict(const struct pln_ruleset *ruleset) {
    const char *first = NULL;
    size_t n_failed = 0;
    char more[64] = "";
    for (size_t i = 0; i < ruleset->n_tests; i++) {
        const char *failure = ruleset->tests[i].failure;
        first = first == NULL ? failure : first;
        n_failed += failure != NULL;
    }
    if (first == NULL) {
        return PLN_OK;
    }
    if (n_failed > 1) {
        snprintf(more, sizeof more, "; and %zu more of %zu tests", n_failed - 1, ruleset->n_tests);
    }
    return pln_fail(PLN_EPOLICY, "%.*s%s", PLN_SCRIPT_ERROR, first, more);
}
