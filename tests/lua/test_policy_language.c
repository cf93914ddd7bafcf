/* SPDX-License-Identifier: MIT
 * test_policy_language.c - lua/tables.c, include.c: loaders by name, rules as data, policies of
 * several files, and every way to get them wrong, with the text asserted to the letter. */
#include <check.h>
#include <stdio.h>
#include <sys/stat.h>

#include "fake_core.h"
#include "../../lua/script.h"

static struct pln_cache cache;

static void setup(void) {
    fake_open(&cache);
}

static void teardown(void) {
    fake_close(&cache);
}

/* ---- loader ---- */

START_TEST(a_rule_may_name_a_loader) {
    fake_load_good(&cache, "local db = loader 'db'\n"
                           "cache.rule 'a:{id}' { load = db }\n"
                           "cache.rule 'b' { load = loader 'b', tags = function() end }");
    ck_assert_str_eq(fake_rule_of(&cache, "a:1")->loader, "db");
    ck_assert_uint_eq(fake_rule_of(&cache, "a:1")->hooks, PLN_RULE_LOAD);
    ck_assert_str_eq(fake_rule_of(&cache, "b")->loader, "b");
    ck_assert_ptr_nonnull(strstr(fake_rule_of(&cache, "b")->origins,
                                 "load loader 'b' (policy.lua:3)\n"
                                 "tags function (policy.lua:3)\n"));
    ck_assert_ptr_null(strstr(fake_rule_of(&cache, "b")->origins, "load function"));
}
END_TEST

START_TEST(a_loader_without_a_name_is_refused) {
    static const char *const wrong[][2] = {
        {"cache.rule \"x\" { load = loader {} }",
         "policy.lua:1: rule 'x': a name of 1 to 512 bytes is wanted, as in loader \"catalog\", got a "
         "table"},
        {"local db = loader \"\"",
         "policy.lua:1: loader: a name of 1 to 512 bytes is wanted, as in loader \"catalog\", got ''"},
        {"cache.class \"c\" { ttl = loader \"db\" }",
         "policy.lua:1: class 'c': ttl: a duration such as \"15m\" or seconds, got a loader"},
        {"cache.rule \"x\" { load = keys { \"a\" } }",
         "policy.lua:1: rule 'x': load: a function, or loader \"name\", got a warm source"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
}
END_TEST

/* ---- cache.rules ---- */

START_TEST(rules_as_data_mean_what_statements_mean) {
    char origins[2048];
    fake_load_good(
        &cache, "cache.class \"page\" { ttl = \"15m\", stale = \"2m\" }\n"
                "cache.rule \"user:{id}\" { class = \"page\", tags = { \"u:{id}\" }, l2 = false }\n"
                "cache.rule \"*\" { ttl = \"30s\", load = loader \"db\" }");
    snprintf(origins, sizeof origins, "%s", fake_rule_of(&cache, "user:1")->origins);
    fake_load_good(
        &cache,
        "cache.rules { classes = { page = { ttl = \"15m\", stale = \"2m\" } }, rules = {\n"
        "  { pattern = \"user:{id}\", class = \"page\", tags = { \"u:{id}\" }, l2 = false },\n"
        "  { pattern = \"*\", ttl = \"30s\", load = loader \"db\" } } }");
    const struct pln_rule *user = fake_rule_of(&cache, "user:1");
    ck_assert_uint_eq(cache.ruleset->n_rules, 2);
    ck_assert_int_eq(user->terms.ttl_ms, 900000);
    ck_assert_int_eq(user->terms.stale_if_error_ms, 120000);
    ck_assert(!user->terms.use_l2);
    ck_assert_str_eq(user->class_name, "page");
    ck_assert_str_eq(pln_template_text(user->tags[0]), "u:{id}");
    ck_assert_int_eq(user->line, 1);
    ck_assert_str_eq(fake_rule_of(&cache, "x")->loader, "db");
    for (char *at = origins; (at = strstr(at, "lua:2")) != NULL;) {
        at[4] = '1'; /* which is all that differs */
    }
    ck_assert_str_eq(user->origins, origins);
}
END_TEST

START_TEST(rules_as_data_join_those_that_are_stated) {
    fake_load_good(&cache, "cache.class \"page\" { ttl = \"15m\" }\n"
                           "cache.rules { rules = { { pattern = \"a\", class = \"page\" } } }\n"
                           "cache.rules { classes = { short = { ttl = 5 } } }\n"
                           "cache.rule \"b\" { class = \"short\" }\n"
                           "local list = {}\n"
                           "for i = 1, 50 do list[i] = { pattern = \"n\" .. i, ttl = i } end\n"
                           "cache.rules { rules = list }\n"
                           "cache.rules {}");
    ck_assert_int_eq(fake_rule_of(&cache, "a")->terms.ttl_ms, 900000);
    ck_assert_int_eq(fake_rule_of(&cache, "b")->terms.ttl_ms, 5000);
    ck_assert_int_eq(fake_rule_of(&cache, "n50")->terms.ttl_ms, 50000);
    ck_assert_int_eq(fake_rule_of(&cache, "n50")->line, 7);
    ck_assert_uint_eq(cache.ruleset->n_rules, 52);
}
END_TEST

START_TEST(what_is_wrong_in_data_is_told_with_its_place) {
    static const char *const wrong[][2] = {
        {"cache.rules \"x\"",
         "policy.lua:1: rules: a table is wanted, as in cache.rules { rules = { { pattern = "
         "\"user:{id}\", ttl = \"15m\" } } }, got 'x'"},
        {"\ncache.rules { ruels = {} }",
         "policy.lua:2: rules: unknown field 'ruels', did you mean 'rules'?"},
        {"cache.rules { { pattern = \"x\" } }",
         "policy.lua:1: rules: unknown field 1, known are classes, rules"},
        {"cache.rules { rules = 7 }", "policy.lua:1: rules: rules: a list of rules, got 7"},
        {"cache.rules { rules = { x = {} } }",
         "policy.lua:1: rules: rules: a list, got a table with the field 'x'"},
        {"cache.rules { rules = { [1] = { pattern = \"x\" }, [3] = { pattern = \"y\" } } }",
         "policy.lua:1: rules: rules: a list, got a table with the field 3"},
        {"cache.rules { rules = { { pattern = \"x\" }, 7 } }",
         "policy.lua:1: rules[2]: a table such as { pattern = \"user:{id}\", ttl = \"15m\" }, got 7"},
        {"cache.rules { rules = { { ttl = 3 } } }",
         "policy.lua:1: rules[1]: pattern: a text of 1 to 512 bytes such as \"user:{id}\", got "
         "nothing"},
        {"cache.rules { rules = { { pattern = 7 } } }",
         "policy.lua:1: rules[1]: pattern: a text of 1 to 512 bytes such as \"user:{id}\", got 7"},
        {"cache.rules { rules = { { pattern = \"a\" }, { pattern = \"b:{id\" } } }",
         "policy.lua:1: rules[2]: 'b:{id': at byte 3: '{' is not closed (\"{{\" is a brace itself)"},
        {"cache.rules { rules = { { pattern = \"a\" }, { pattern = \"b\", tll = 1 } } }",
         "policy.lua:1: rules[2] 'b': unknown field 'tll', did you mean 'ttl'?"},
        {"cache.rules { rules = { { pattern = \"b\", ttl = false } } }",
         "policy.lua:1: rules[1] 'b': ttl: a duration such as \"15m\" or seconds, or a function, got "
         "false"},
        {"cache.rules { rules = { { pattern = \"b\", class = \"page\" } } }",
         "policy.lua:1: rules[1] 'b': class: the name of a class that stands above, got 'page'"},
        {"cache.rules { rules = { { pattern = \"*\" }, { pattern = \"b\" } } }",
         "policy.lua:1: rule 'b': it can never match: rule '*' at line 1 takes all its keys"},
        {"cache.rules { classes = 7 }",
         "policy.lua:1: rules: classes: a table of classes by name, got 7"},
        {"cache.rules { classes = { { ttl = 3 } } }",
         "policy.lua:1: rules: classes: names of 1 to 512 bytes, got 1"},
        {"cache.rules { classes = { page = \"15m\" } }",
         "policy.lua:1: rules: classes.page: a table such as { ttl = \"15m\" }, got '15m'"},
        {"cache.rules { classes = { page = { ttl = {} } } }",
         "policy.lua:1: rules, class 'page': ttl: a duration such as \"15m\" or seconds, got a "
         "table"},
        {"cache.class \"page\" {}\ncache.rules { classes = { page = {} } }",
         "policy.lua:2: rules, class 'page': there is one of this name already, at line 1"},
        {"cache.rule \"x\"\ncache.rules {}", "policy.lua:1: rule 'x' at line 1 has no body"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
}
END_TEST

/* ---- fields ---- */

START_TEST(every_plain_field_says_what_it_wants) {
    char source[128], text[256];
    for (unsigned i = 0; i < pln_n_policy_fields; i++) {
        const struct pln_policy_field *field = &pln_policy_fields[i];
        /* a class wants more of write than its name: test_policy_stores.c */
        const char *kind = field->kind == PLN_FIELD_WRITE ? "test" : "class";
        snprintf(source, sizeof source, "\ncache.%s 'c' { %s = {} }", kind, field->name);
        snprintf(text, sizeof text, "policy.lua:2: %s 'c': %s: %s, got a table", kind, field->name,
                 pln_policy_field_wanted(field));
        fake_expect_refusal(&cache, source, text);
        ck_assert_msg((field->is_valid == NULL) == (field->range == NULL), "%s", field->name);
    }
}
END_TEST

START_TEST(what_is_wrong_in_a_body_is_told_with_what_was_expected) {
    static const char *const wrong[][2] = {
        {"cache.class 'c' { stale = -5 }",
         "policy.lua:1: class 'c': stale: between 0 and 10 years, or \"forever\", got -5"},
        {"cache.class 'c' { l1_ttl = math.huge }",
         "policy.lua:1: class 'c': l1_ttl: more than 0 and at most 10 years, or \"forever\", got inf"},
        {"cache.class 'c' { jitter = -1 }",
         "policy.lua:1: class 'c': jitter: between 0 and 0.9, got -1"},
        {"cache.class 'c' { soft_timeout = '2h' }",
         "policy.lua:1: class 'c': soft_timeout: between 0 and 1 hour, got '2h'"},
        {"cache.class 'c' { weight = 1.5 }",
         "policy.lua:1: class 'c': weight: a whole number between 0 and 255, got 1.5"},
        {"cache.class 'c' { weight = '3' }",
         "policy.lua:1: class 'c': weight: a whole number between 0 and 255, got '3'"},
        {"cache.class 'c' { priority = -129 }",
         "policy.lua:1: class 'c': priority: a whole number between -128 and 127, got -129"},
        {"cache.class 'c' { max_bytes = -1 }",
         "policy.lua:1: class 'c': max_bytes: a size such as \"64k\" or bytes, got -1"},
        {"cache.class 'c' { ttl = ('x'):rep(100) }",
         "policy.lua:1: class 'c': ttl: a duration such as \"15m\" or seconds, got "
         "'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx...'"},
        {"cache.class 'c' { TTL = 3 }",
         "policy.lua:1: class 'c': unknown field 'TTL', did you mean 'ttl'?"},
        {"cache.class 'c' { load = print }",
         "policy.lua:1: class 'c': load: a field of rules, not of classes"},
        {"cache.class 'c' { admit = { uses = 3 } }",
         "policy.lua:1: class 'c': unknown field 'uses', known are min_uses, max_bytes, deny"},
        {"cache.rule 'x' { tags = { 'a', b = 'c' } }",
         "policy.lua:1: rule 'x': tags: a list, got a table with the field 'b'"},
        {"cache.rule 'x' { tags = { [2] = 'a' } }",
         "policy.lua:1: rule 'x': tags: a list, got a table with the field 2"},
        {"cache.on 'e' { keys = { x = 'y' } }",
         "policy.lua:1: on 'e': keys: a list, got a table with the field 'x'"},
        {"cache.class('c', { ttl = 3 })",
         "policy.lua:1: class 'c': its body stands behind, as in cache.class \"page\" { ttl = "
         "\"15m\" }, got a second argument"},
    };
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
}
END_TEST

/* ---- shared ---- */

START_TEST(what_functions_share_is_not_for_the_file_as_it_is_read) {
    static const char late[] =
        ": it is for functions that are called later, not for the file as it "
        "is read, which is more than once";
    static const char *const names[] = {"incr", "get", "set"};
    char source[64], text[256];
    for (size_t i = 0; i < PLN_ARRAY_LEN(names); i++) {
        snprintf(source, sizeof source, "\nshared.%s('n', 1)", names[i]);
        snprintf(text, sizeof text, "policy.lua:2: shared.%s%s", names[i], late);
        fake_expect_refusal(&cache, source, text);
    }
}
END_TEST

/* ---- include ---- */

/* Files beside the policy; a folder's name ends in a slash. */
struct part {
    const char *name, *text;
};

static void make_parts(const struct part *parts, size_t n) {
    char path[128];
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%s", cache.folder, parts[i].name);
        if (parts[i].text == NULL) {
            ck_assert_int_eq(mkdir(path, 0700), 0);
            continue;
        }
        FILE *file = fopen(path, "w");
        ck_assert_ptr_nonnull(file);
        fputs(parts[i].text, file);
        fclose(file);
    }
}

static void drop_parts(const struct part *parts, size_t n) {
    char path[128];
    while (n-- > 0) {
        snprintf(path, sizeof path, "%s/%s", cache.folder, parts[n].name);
        ck_assert_int_eq(remove(path), 0);
    }
}

static const struct part good_parts[] = {
    {"rules/", NULL},
    {"rules/deep/", NULL},
    {"classes.lua", "#!/usr/bin/env perilune\n\ncache.class \"page\" { ttl = \"15m\" }\n"},
    {"rules/users.lua", "local names = include \"deep/names.lua\"\n"
                        "for _, name in ipairs(names) do\n"
                        "  cache.rule(name .. \":{id}\") { class = \"page\",\n"
                        "    load = function(key) return name .. include_count end }\n"
                        "end\n"
                        "cache.on \"changed\" { keys = { \"user:{id}\" } }\n"},
    {"rules/deep/names.lua", "include_count = (include_count or 0) + 1\n"
                             "include \"../../rules/./empty.lua\"\n"
                             "return { \"user\", \"admin\" }, \"more\"\n"},
    {"rules/empty.lua", ""},
};

static const char good_policy[] = "include \"classes.lua\"\n"
                                  "include \"rules/users.lua\"\n"
                                  "cache.rule \"*\" { class = \"page\" }\n";

START_TEST(a_policy_of_several_files_is_read_as_one) {
    struct pln_load load = {.n_tags = 0};
    make_parts(good_parts, PLN_ARRAY_LEN(good_parts));
    fake_load_good(&cache, good_policy);
    ck_assert_uint_eq(cache.ruleset->n_rules, 3);
    ck_assert_str_eq(fake_rule_of(&cache, "admin:1")->file, "rules/users.lua");
    ck_assert_int_eq(fake_rule_of(&cache, "admin:1")->line, 3);
    ck_assert_ptr_nonnull(
        strstr(fake_rule_of(&cache, "admin:1")->origins, "ttl 15m (class page, classes.lua:3)\n"));
    ck_assert_ptr_nonnull(
        strstr(fake_rule_of(&cache, "admin:1")->origins, "load function (rules/users.lua:3)\n"));
    ck_assert_str_eq(fake_rule_of(&cache, "other")->file, "policy.lua");
    ck_assert_str_eq(cache.ruleset->events[0].file, "rules/users.lua");
    /* every state reads the texts of the first reading, and no file */
    drop_parts(good_parts, PLN_ARRAY_LEN(good_parts));
    for (unsigned worker = 0; worker < FAKE_WORKERS; worker++) {
        ck_assert_msg(fake_load_key(&cache, worker, "admin:1", &load) == PLN_OK, "%s",
                      pln_error_text());
        ck_assert(pln_bytes_equal(load.value, pln_key("admin1")));
    }
    fake_empty(&load);
}
END_TEST

static const struct part bad_parts[] = {
    {"sub/", NULL},
    {"folder.lua/", NULL},
    {"syntax.lua", "local x = 1\nlocal y = = 2\n"},
    {"raises.lua", "\nlocal x = nil\nreturn x.y\n"},
    {"wrong.lua", "\ncache.rule \"x\" { tll = 3 }\n"},
    {"open.lua", "cache.rule \"x\"\n"},
    {"itself.lua", "include \"itself.lua\"\n"},
    {"a.lua", "\ninclude \"sub/b.lua\"\n"},
    {"sub/b.lua", "include \"../a.lua\"\n"},
    {"sub/out.lua", "include \"../../out.lua\"\n"},
    {"sub/again.lua", "cache.class \"c\" {}\n"},
    {"sub/warm.lua", "\ncache.warm { keys { \"a\" } }\n"},
    {"sub/rule.lua", "cache.rule \"*\" {}\n"},
    {"sub/event.lua", "cache.on \"e\" { tags = { \"t\" } }\ncache.events { channel = \"e\" }\n"},
};

START_TEST(what_is_wrong_in_a_file_is_told_with_its_name) {
    static const char *const wrong[][2] = {
        {"include {}",
         "policy.lua:1: include: a path is wanted, as in include \"users.lua\", got a table"},
        {"include \"\"",
         "policy.lua:1: include: a path is wanted, as in include \"users.lua\", got ''"},
        {"\ninclude \"none.lua\"",
         "policy.lua:2: include: 'none.lua' cannot be opened: No such file "
         "or directory"},
        {"include \"folder.lua\"",
         "policy.lua:1: include: 'folder.lua' cannot be opened: Is a directory"},
        {"include \"/etc/passwd\"",
         "policy.lua:1: include: '/etc/passwd' is outside the policy's folder"},
        {"include \"sub/../../x.lua\"",
         "policy.lua:1: include: 'sub/../../x.lua' is outside the policy's folder"},
        {"include \"..\"", "policy.lua:1: include: '..' is outside the policy's folder"},
        {"include \"sub/out.lua\"",
         "sub/out.lua:1: include: '../../out.lua' is outside the policy's folder"},
        {"include \"policy.lua\"",
         "policy.lua:1: include: 'policy.lua' is being read: it would include itself"},
        {"include \"itself.lua\"",
         "itself.lua:1: include: 'itself.lua' is being read: it would include itself"},
        {"include \"a.lua\"",
         "sub/b.lua:1: include: 'a.lua' is being read: the files would include each other"},
        {"include \"syntax.lua\"", "syntax.lua:2: unexpected symbol near '='"},
        {"include \"raises.lua\"", "raises.lua:3: attempt to index a nil value (local 'x')"},
        {"include \"wrong.lua\"",
         "wrong.lua:2: rule 'x': unknown field 'tll', did you mean 'ttl'?"},
        {"include \"open.lua\"", "open.lua:1: rule 'x' at line 1 has no body"},
        {"cache.rule \"x\"\ninclude \"sub/again.lua\"",
         "policy.lua:1: rule 'x' at line 1 has no body"},
        {"include \"sub/again.lua\" include \"sub/again.lua\"",
         "sub/again.lua:1: class 'c': there is one of this name already, at line 1"},
        {"include \"sub/again.lua\"\ncache.class \"c\" {}",
         "policy.lua:2: class 'c': there is one of this name already, at sub/again.lua:1"},
        {"include \"sub/rule.lua\"\ncache.rule \"y\" {}",
         "policy.lua:2: rule 'y': it can never match: rule '*' at sub/rule.lua:1 takes all its "
         "keys"},
        {"include \"sub/event.lua\"\ncache.on \"e\" {}",
         "policy.lua:2: on 'e': there is one of this name already, at sub/event.lua:1"},
        {"include \"sub/event.lua\"\ncache.events { channel = \"e\" }",
         "policy.lua:2: events: channel: 'e' is named already, at sub/event.lua:2"},
        {"include \"sub/warm.lua\"\ncache.warm {}",
         "policy.lua:2: warm: there is one already, at sub/warm.lua:2"},
        {"pcall(include, \"none.lua\")",
         "policy.lua:1: include: 'none.lua' cannot be opened: No such file or directory"},
    };
    make_parts(bad_parts, PLN_ARRAY_LEN(bad_parts));
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        fake_expect_refusal(&cache, wrong[i][0], wrong[i][1]);
    }
    fake_load_good(
        &cache,
        "pcall(include, \"raises.lua\") pcall(include, \"raises.lua\") include \"sub/rule.lua\"");
    drop_parts(bad_parts, PLN_ARRAY_LEN(bad_parts));
}
END_TEST

START_TEST(the_number_of_files_and_their_depth_are_bounded) {
    struct part chain[20], row[65];
    char names[65][16], texts[20][32];
    for (int i = 0; i < 20; i++) {
        snprintf(names[i], sizeof names[i], "%d.lua", i);
        snprintf(texts[i], sizeof texts[i], "include \"%d.lua\"\n", i + 1);
        chain[i] = (struct part){names[i], texts[i]};
    }
    make_parts(chain, 20);
    fake_expect_refusal(&cache, "include \"0.lua\"",
                        "14.lua:1: include: files include each other 16 deep at most");
    drop_parts(chain, 20);
    for (int i = 0; i < 65; i++) {
        snprintf(names[i], sizeof names[i], "%d.lua", i);
        row[i] = (struct part){names[i], ""};
    }
    make_parts(row, 65);
    fake_expect_refusal(&cache, "for i = 0, 64 do include(i .. \".lua\") end",
                        "policy.lua:1: include: a policy includes at most 64 files");
    drop_parts(row, 65);
}
END_TEST

START_TEST(a_trusted_policy_includes_what_it_likes) {
    const struct part parts[] = {{"sub/", NULL}, {"sub/x.lua", "cache.rule \"x\" {}\n"}};
    char text[128];
    make_parts(parts, 2);
    snprintf(text, sizeof text, "include \"%s/sub/../sub/x.lua\"", cache.folder);
    ck_assert_msg(fake_load_text(&cache, text, PLN_POLICY_TRUSTED) == PLN_OK, "%s",
                  pln_error_text());
    snprintf(text, sizeof text, "%s/sub/x.lua", cache.folder);
    ck_assert_str_eq(fake_rule_of(&cache, "x")->file, text);
    snprintf(text, sizeof text, "include \"..%s/sub/x.lua\"", strrchr(cache.folder, '/'));
    ck_assert_msg(fake_load_text(&cache, text, PLN_POLICY_TRUSTED) == PLN_OK, "%s",
                  pln_error_text());
    snprintf(text, sizeof text, "..%s/sub/x.lua", strrchr(cache.folder, '/'));
    ck_assert_str_eq(fake_rule_of(&cache, "x")->file, text);
    drop_parts(parts, 2);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_language");
    TCase *tests = tcase_create("policy_language");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_rule_may_name_a_loader);
    tcase_add_test(tests, a_loader_without_a_name_is_refused);
    tcase_add_test(tests, rules_as_data_mean_what_statements_mean);
    tcase_add_test(tests, rules_as_data_join_those_that_are_stated);
    tcase_add_test(tests, what_is_wrong_in_data_is_told_with_its_place);
    tcase_add_test(tests, every_plain_field_says_what_it_wants);
    tcase_add_test(tests, what_is_wrong_in_a_body_is_told_with_what_was_expected);
    tcase_add_test(tests, what_functions_share_is_not_for_the_file_as_it_is_read);
    tcase_add_test(tests, a_policy_of_several_files_is_read_as_one);
    tcase_add_test(tests, what_is_wrong_in_a_file_is_told_with_its_name);
    tcase_add_test(tests, the_number_of_files_and_their_depth_are_bounded);
    tcase_add_test(tests, a_trusted_policy_includes_what_it_likes);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
