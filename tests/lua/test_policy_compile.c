/* SPDX-License-Identifier: MIT
 * test_policy_compile.c - lua/compile.c, rules.c, lists.c, fields.c: what a file states, and every
 * way to get it wrong (of cache.warm in warming.lua), with the text asserted to the letter. */
#include <check.h>
#include <dirent.h>
#include <stdio.h>
#include <unistd.h>

#include "fake_core.h"

static struct pln_cache cache;

static void setup(void) {
    fake_open(&cache);
}

static void teardown(void) {
    fake_close(&cache);
}

static void load_good(const char *text) {
    ck_assert_msg(fake_load_text(&cache, text, 0) == PLN_OK, "%s", pln_error_text());
}

static const struct pln_rule *rule_of(const char *key) {
    struct pln_match match;
    pln_ruleset_match(cache.ruleset, pln_key(key), &match);
    ck_assert_msg(match.rule != NULL, "no rule for %s", key);
    return match.rule;
}

static const char realistic[] =
    "#!/usr/bin/env perilune\n"
    "cache.class \"short\"   { ttl = \"30s\", jitter = \"10%\" }\n"
    "cache.class \"page\"    { ttl = \"15m\", jitter = \"10%\", refresh = 0.8, stale = \"2m\",\n"
    "                        negative = \"10s\" }\n"
    "cache.class \"catalog\" { ttl = \"6h\", jitter = \"20%\", refresh = 0.9, stale = \"1d\",\n"
    "                        stale_if_error = \"3d\" }\n"
    "\n"
    "cache.rule \"user:{id}\" {\n"
    "  class = \"page\",\n"
    "  max_bytes = \"64k\",\n"
    "  tags = { \"users\", \"user:{id}\" },\n"
    "  load = function(key, m) return \"user \" .. m.id end,\n"
    "}\n"
    "cache.rule \"product:{id}\" {\n"
    "  class = \"catalog\",\n"
    "  max_bytes = \"256k\",\n"
    "  tags  = function(key, m, value) return { \"catalog\", \"brand:\" .. value.brand } end,\n"
    "  ttl   = function(key, m, value) return #value > 100000 and \"1h\" or nil end,\n"
    "  related = function(key, m, value) return { \"price:\" .. m.id } end,\n"
    "  load  = function(key, m) return { brand = \"acme\" } end,\n"
    "}\n"
    "for _, kind in ipairs { \"session\", \"cart\" } do\n"
    "  cache.rule(kind .. \":{id}\") { class = \"short\", l2 = false, local_writes = true }\n"
    "end\n"
    "cache.rule \"counter:*\" { ttl = 5, stale_if_error = 0, lease = \"2s\", load_timeout = 1.5 }\n"
    "cache.rule \"*\" { class = \"short\" }\n"
    "\n"
    "cache.warm {\n"
    "  keys { \"product:1\", \"product:2\" },\n"
    "  file \"hot-keys.txt\",\n"
    "  file \"/var/lib/hot\",\n"
    "  zset \"stats:hot\" { top = 5000 },\n"
    "  zset \"stats:warm\",\n"
    "  concurrency = 16, rate = \"2000/s\", deadline = \"20s\", ready_at = 0.9,\n"
    "}\n"
    "cache.on \"price.changed\" { keys = { \"product:{id}\" }, tags = { \"price-lists\" } }\n"
    "cache.on \"user.deleted\"  { tags = { \"user:{id}\" } }\n";

START_TEST(a_realistic_file_becomes_rules_with_inherited_terms) {
    load_good(realistic);
    ck_assert_uint_eq(cache.ruleset->n_rules, 6);
    const struct pln_rule *user = rule_of("user:7");
    ck_assert_int_eq(user->terms.ttl_ms, 900000);
    ck_assert_int_eq(user->terms.stale_ms, 120000);
    ck_assert_int_eq(user->terms.stale_if_error_ms, 120000); /* follows stale */
    ck_assert_int_eq(user->terms.l1_ttl_ms, 3600000);        /* the cache's */
    ck_assert_uint_eq(user->terms.max_bytes, 65536);
    ck_assert_double_eq(user->terms.refresh, 0.8);
    ck_assert(user->terms.use_l1 && user->terms.use_l2 && !user->terms.local_writes);
    ck_assert_uint_eq(user->hooks, PLN_RULE_LOAD);
    ck_assert_uint_eq(user->n_tags, 2);
    ck_assert_str_eq(pln_template_text(user->tags[1]), "user:{id}");
    ck_assert_str_eq(user->class_name, "page");
    ck_assert_str_eq(user->file, "policy.lua");
    ck_assert_int_eq(user->line, 8);
    const struct pln_rule *product = rule_of("product:1");
    ck_assert_uint_eq(product->hooks, 15);
    ck_assert_int_eq(product->terms.ttl_ms, 21600000);
    ck_assert_int_eq(product->terms.stale_if_error_ms, 259200000);
    const struct pln_rule *cart = rule_of("cart:9");
    ck_assert(!cart->terms.use_l2 && cart->terms.local_writes);
    ck_assert_int_eq(cart->line, 23);
    const struct pln_rule *counter = rule_of("counter:");
    ck_assert_int_eq(counter->terms.ttl_ms, 5000);
    ck_assert_int_eq(counter->terms.load_timeout_ms, 1500);
    ck_assert_str_eq(counter->class_name, "");
    ck_assert_int_eq(rule_of("else")->terms.ttl_ms, 30000);
}
END_TEST

START_TEST(warming_and_events_are_compiled) {
    char beside[64];
    load_good(realistic);
    const struct pln_warm_plan *warm = &cache.ruleset->warm;
    snprintf(beside, sizeof beside, "%s/hot-keys.txt", cache.folder);
    ck_assert_uint_eq(warm->n_sources, 5);
    ck_assert_uint_eq(warm->sources[0].n_keys, 2);
    ck_assert(pln_bytes_equal(warm->sources[0].keys[1], pln_key("product:2")));
    ck_assert_str_eq(warm->sources[1].name, beside);
    ck_assert_str_eq(warm->sources[2].name, "/var/lib/hot");
    ck_assert_int_eq(warm->sources[3].kind, PLN_WARM_ZSET);
    ck_assert_str_eq(warm->sources[3].name, "stats:hot");
    ck_assert_uint_eq(warm->sources[3].top, 5000);
    ck_assert_uint_eq(warm->sources[4].top, 10000);
    ck_assert_uint_eq(warm->concurrency, 16);
    ck_assert_double_eq(warm->rate, 2000);
    ck_assert_int_eq(warm->deadline_ms, 20000);
    ck_assert_double_eq(warm->ready_at, 0.9);
    ck_assert_uint_eq(cache.ruleset->n_events, 2);
    ck_assert_str_eq(cache.ruleset->events[0].name, "price.changed");
    ck_assert_uint_eq(cache.ruleset->events[0].n_keys, 1);
    ck_assert_uint_eq(cache.ruleset->events[1].n_keys, 0);
    ck_assert_str_eq(pln_template_text(cache.ruleset->events[1].tags[0]), "user:{id}");
}
END_TEST

START_TEST(sources_of_events_are_compiled) {
    load_good("cache.events { channel = 'c' }\n"
              "cache.events { channel = 'both', stream = 'both', group = 'g', idle = '5s',\n"
              "               batch = 10, dead = 20 }\n"
              "cache.events { stream = 's' }");
    const struct pln_event_source *sources = cache.ruleset->sources;
    ck_assert_uint_eq(cache.ruleset->n_sources, 4);
    ck_assert_int_eq(sources[0].kind, PLN_EVENT_CHANNEL);
    ck_assert_str_eq(sources[0].name, "c");
    ck_assert_int_eq(sources[1].kind, PLN_EVENT_CHANNEL);
    ck_assert_int_eq(sources[2].kind, PLN_EVENT_STREAM);
    ck_assert_str_eq(sources[2].name, "both");
    ck_assert_str_eq(sources[2].group, "g");
    ck_assert_int_eq(sources[2].idle, 5000);
    ck_assert_uint_eq(sources[2].most, 10);
    ck_assert_uint_eq(sources[2].dead, 20);
    ck_assert_int_eq(sources[2].line, 2);
    ck_assert_ptr_null(sources[3].group);
    ck_assert_int_eq(sources[3].idle, 30000);
    ck_assert_uint_eq(sources[3].most, 64);
    ck_assert_uint_eq(sources[3].dead, 10000);
    ck_assert_str_eq(sources[3].file, "policy.lua");
}
END_TEST

START_TEST(origins_tell_where_each_value_comes_from) {
    load_good(realistic);
    ck_assert_str_eq(rule_of("user:7")->origins, "ttl 15m (class page, policy.lua:3)\n"
                                                 "l1_ttl 1h (cache)\n"
                                                 "jitter 0.1 (class page, policy.lua:3)\n"
                                                 "refresh 0.8 (class page, policy.lua:3)\n"
                                                 "stale 2m (class page, policy.lua:3)\n"
                                                 "stale_if_error 2m (as stale)\n"
                                                 "negative 10s (class page, policy.lua:3)\n"
                                                 "lease 5s (cache)\n"
                                                 "load_timeout 10s (cache)\n"
                                                 "max_bytes 64k (policy.lua:8)\n"
                                                 "l1 true (cache)\n"
                                                 "l2 true (cache)\n"
                                                 "local_writes false (cache)\n"
                                                 "hash_l1 false (cache)\n"
                                                 "read primary (cache)\n"
                                                 "replica_ttl 1s (cache)\n"
                                                 "max_staleness 1s (cache)\n"
                                                 "weight 0 (cache)\n"
                                                 "priority 0 (cache)\n"
                                                 "soft_timeout 0ms (cache)\n"
                                                 "min_uses 0 (cache)\n"
                                                 "deny false (cache)\n"
                                                 "l2_ttl forever (cache)\n"
                                                 "max_age forever (cache)\n"
                                                 "retry 1s (cache)\n"
                                                 "early 0 (cache)\n"
                                                 "sliding false (cache)\n"
                                                 "keep_hot 0ms (cache)\n"
                                                 "compress 0 (cache)\n"
                                                 "compression lz4 (cache)\n"
                                                 "codec msgpack (cache)\n"
                                                 "plain false (cache)\n"
                                                 "write aside (cache)\n"
                                                 "tags users, user:{id} (policy.lua:8)\n"
                                                 "load function (policy.lua:8)\n");
    const char *product = rule_of("product:1")->origins;
    ck_assert_ptr_nonnull(
        strstr(product, "ttl function (policy.lua:14), else 6h (class catalog, policy.lua:5)\n"));
    ck_assert_ptr_nonnull(strstr(product, "tags function (policy.lua:14)\n"));
    load_good("cache.rule \"x\" { ttl = \"forever\", l1_ttl = 0.25, max_bytes = 0 }");
    ck_assert_ptr_nonnull(strstr(rule_of("x")->origins, "ttl forever (policy.lua:1)\n"
                                                        "l1_ttl 250ms (policy.lua:1)\n"));
    ck_assert_ptr_nonnull(strstr(rule_of("x")->origins, "max_bytes 0 (policy.lua:1)\n"));
}
END_TEST

/* Lines of a file and what is said of it. */
static const struct {
    const char *source, *text;
} wrong[] = {
    /* values */
    {"\ncache.rule \"user:{id}\" { ttl = \"15 parsecs\" }",
     "policy.lua:2: rule 'user:{id}': ttl: a duration such as \"15m\" or seconds, or a function, "
     "got '15 parsecs'"},
    {"cache.class \"c\" { stale = true }",
     "policy.lua:1: class 'c': stale: a duration such as \"15m\" or seconds, got true"},
    {"cache.class \"c\" { ttl = function() end }",
     "policy.lua:1: class 'c': ttl: a duration such as \"15m\" or seconds, got a function"},
    {"cache.class \"c\" { ttl = 0 }",
     "policy.lua:1: class 'c': ttl: more than 0 and at most 10 years, or \"forever\", got 0"},
    {"cache.class \"c\" { ttl = \"4000d\" }",
     "policy.lua:1: class 'c': ttl: more than 0 and at most 10 years, or \"forever\", got "
     "'4000d'"},
    {"cache.class \"c\" { ttl = -1 }",
     "policy.lua:1: class 'c': ttl: more than 0 and at most 10 years, or \"forever\", got -1"},
    {"cache.class \"c\" { ttl = 0/0 }",
     "policy.lua:1: class 'c': ttl: a duration such as \"15m\" or seconds, got nan"},
    {"cache.class \"c\" { lease = \"forever\" }",
     "policy.lua:1: class 'c': lease: more than 0 and at most 1 hour, got 'forever'"},
    {"cache.class \"c\" { min_uses = 256 }",
     "policy.lua:1: class 'c': min_uses: a whole number between 0 and 255, got 256"},
    {"cache.class \"c\" { admit = 2 }",
     "policy.lua:1: class 'c': admit: a table such as { min_uses = 2 }, got 2"},
    {"cache.rule \"r\" { admit = { min_use = 2 } }",
     "policy.lua:1: rule 'r': unknown field 'min_use', did you mean 'min_uses'?"},
    {"cache.rule \"r\" { admit = { ttl = 2 } }",
     "policy.lua:1: rule 'r': unknown field 'ttl', known are min_uses, max_bytes, deny"},
    {"cache.rule \"r\" { admit = { max_bytes = \"x\" } }",
     "policy.lua:1: rule 'r': max_bytes: a size such as \"64k\" or bytes, got 'x'"},
    {"cache.rule \"r\" { deny = 1 }", "policy.lua:1: rule 'r': deny: true or false, got 1"},
    {"cache.rule \"r\" { deny = true, load = function() end }",
     "policy.lua:1: rule 'r': load: deny refuses the rule's keys, so this is never called"},
    {"cache.class \"c\" { jitter = 0.95 }",
     "policy.lua:1: class 'c': jitter: between 0 and 0.9, got 0.95"},
    {"cache.class \"c\" { refresh = \"100%\" }",
     "policy.lua:1: class 'c': refresh: 0, or between 0.1 and 0.99, got '100%'"},
    {"cache.class \"c\" { jitter = {} }",
     "policy.lua:1: class 'c': jitter: a share such as \"10%\" or 0.1, got a table"},
    {"cache.class \"c\" { max_bytes = \"64q\" }",
     "policy.lua:1: class 'c': max_bytes: a size such as \"64k\" or bytes, got '64q'"},
    {"cache.class \"c\" { l2 = 1 }", "policy.lua:1: class 'c': l2: true or false, got 1"},
    {"cache.class \"c\" { read = \"near\" }",
     "policy.lua:1: class 'c': read: \"primary\", \"replica\" or \"nearest\", got 'near'"},
    {"cache.class \"c\" { replica_ttl = 0 }",
     "policy.lua:1: class 'c': replica_ttl: more than 0 and at most 10 years, or \"forever\", got 0"},
    {"cache.rule \"x\" { load = \"db\" }",
     "policy.lua:1: rule 'x': load: a function, or loader \"name\", "
     "got 'db'"},
    {"cache.rule \"x\" { related = {} }",
     "policy.lua:1: rule 'x': related: a function, got a table"},
    {"cache.rule \"x\" { tags = \"users\" }",
     "policy.lua:1: rule 'x': tags: a list such as { \"users\", \"user:{id}\" }, got 'users'"},
    {"cache.rule \"x\" { tags = { \"a\", 7 } }",
     "policy.lua:1: rule 'x': tags[2]: a text such as \"user:{id}\", got 7"},
    {"cache.rule \"u:{id}\" { tags = { \"u:{ident}\" } }",
     "policy.lua:1: rule 'u:{id}': tags[1]: 'u:{ident}': at byte 3: pattern 'u:{id}' has no "
     "{ident}"},
    {"local t = {} for i = 1, 65 do t[i] = \"t\" .. i end cache.rule \"x\" { tags = t }",
     "policy.lua:1: rule 'x': tags: at most 64, got 65"},
    /* names */
    {"cache.class \"c\" {\n  tll = 3 }",
     "policy.lua:1: class 'c': unknown field 'tll', did you mean 'ttl'?"},
    {"cache.rule \"x\" { clas = 3 }",
     "policy.lua:1: rule 'x': unknown field 'clas', did you mean 'class'?"},
    {"cache.class \"c\" { tags = {} }",
     "policy.lua:1: class 'c': tags: a field of rules, not of classes"},
    {"cache.class \"c\" { colour = 3 }", "policy.lua:1: class 'c': unknown field 'colour'"},
    {"cache.rule \"x\" { \"page\" }", "policy.lua:1: rule 'x': unknown field 1"},
    {"cache.rul \"x\" {}", "policy.lua:1: unknown statement cache.rul, did you mean cache.rule?"},
    {"cache.bell \"x\" {}", "policy.lua:1: unknown statement cache.bell"},
    {"cache.rule \"x\" { class = \"page\" }",
     "policy.lua:1: rule 'x': class: the name of a class that stands above, got 'page'"},
    {"cache.class \"page\" {}\ncache.rule \"x\" { class = \"pgae\" }",
     "policy.lua:2: rule 'x': class: the name of a class that stands above, got 'pgae', did you "
     "mean 'page'?"},
    {"cache.rule \"x\" { class = 7 }",
     "policy.lua:1: rule 'x': class: the name of a class that stands above, got 7"},
    /* statements */
    {"cache.class \"c\" {}\n\ncache.class \"c\" {}",
     "policy.lua:3: class 'c': there is one of this name already, at line 1"},
    {"\ncache.rule \"x\"\n", "policy.lua:2: rule 'x' at line 2 has no body"},
    {"\ncache.rule \"x\"\ncache.rule \"y\" {}", "policy.lua:2: rule 'x' at line 2 has no body"},
    {"cache.class \"x\"\ncache.warm {}", "policy.lua:1: class 'x' at line 1 has no body"},
    {"cache.rule \"x\" \"page\"",
     "policy.lua:1: rule 'x': its body is a table, as in cache.rule \"user:{id}\" { ttl = "
     "\"15m\" }, got 'page'"},
    {"cache.rule { ttl = 3 }",
     "policy.lua:1: rule: a name is wanted, as in cache.rule \"user:{id}\" { ttl = \"15m\" }, got "
     "a table"},
    {"cache.class \"\" {}",
     "policy.lua:1: class: a name is wanted, as in cache.class \"page\" { ttl = \"15m\" }, got ''"},
    {"local r = cache.rule \"x\" r {} r {}",
     "policy.lua:1: cache.rule: this statement has its body already"},
    {"cache.rule \"user:{id\" {}",
     "policy.lua:1: rule: 'user:{id': at byte 6: '{' is not closed (\"{{\" is a brace itself)"},
    {"cache.rule \"a\\0b\" {}",
     "policy.lua:1: rule: a name is wanted, as in cache.rule \"user:{id}\" { ttl = \"15m\" }, got "
     "'a'"},
    {"cache.rule \"user:*\" {}\ncache.rule \"x\" {}\ncache.rule \"user:{id}\" {}",
     "policy.lua:3: rule 'user:{id}': it can never match: rule 'user:*' at line 1 takes all its "
     "keys"},
    {"cache.rule \"a\" {}\npcall(function() cache.rule \"b\" { tll = 1 } end)\ncache.rule \"c\" {}",
     "policy.lua:2: rule 'b': unknown field 'tll', did you mean 'ttl'?"},
    {"for i = 1, 1000 do cache.rule((i % 7) .. \":kind\" .. i .. \":{id}\") {} end\n"
     "cache.rule \"2:{kind}:7\" {}\ncache.rule \"3:kind700:{id}:x\" {}\ncache.rule \"0:kind700:*\" {}\n"
     "cache.rule \"0:kind700:{x}:{y}\" {}",
     "policy.lua:5: rule '0:kind700:{x}:{y}': it can never match: rule '0:kind700:{id}' at line 1 "
     "takes all its keys"},
    {"for i = 1, 5000 do cache.rule(\"r\" .. i) {} end",
     "policy.lua:1: rule 'r4097': a policy has at most 4096 rules"},
    /* events */
    {"cache.on \"e\" {}", "policy.lua:1: on 'e': it names nothing: give it keys, tags or both"},
    {"cache.on \"e\" { tags = {\"t\"} }\ncache.on \"e\" { tags = {\"t\"} }",
     "policy.lua:2: on 'e': there is one of this name already, at line 1"},
    {"cache.on \"e\" { keys = { \"p:*\" } }",
     "policy.lua:1: on 'e': keys[1]: 'p:*': at byte 3: an event has no '*', only named fields"},
    {"cache.on \"e\" { key = {} }",
     "policy.lua:1: on 'e': unknown field 'key', did you mean 'keys'?"},
    {"cache.on \"e\" (7)",
     "policy.lua:1: on 'e': its body is a table or a function, as in cache.on \"user.deleted\" { "
     "tags = { \"user:{id}\" } }, got 7"},
    {"cache.on \"e\" (function() end)\ncache.on \"e\" {}",
     "policy.lua:2: on 'e': there is one of this name already, at line 1"},
    {"cache.rule \"x\" (function() end)",
     "policy.lua:1: rule 'x': its body is a table, as in cache.rule \"user:{id}\" { ttl = \"15m\" "
     "}, got a function"},
    {"pcall(cache.class, \"c\")\n\npcall(cache.class, {})",
     "policy.lua:1: class 'c' at line 1 has no body"},
    {"cache.events \"x\"", "policy.lua:1: events: a table is wanted, as in cache.events { stream = "
                           "\"shop:events\" }, got 'x'"},
    {"cache.events {}",
     "policy.lua:1: events: it names no source: give it a channel, a stream or both"},
    {"cache.events { steam = \"x\" }",
     "policy.lua:1: events: unknown field 'steam', did you mean 'stream'?"},
    {"cache.events { stream = 7 }",
     "policy.lua:1: events: stream: a name of 1 to 512 bytes, got 7"},
    {"cache.events { channel = \"\" }",
     "policy.lua:1: events: channel: a name of 1 to 512 bytes, got ''"},
    {"cache.events { channel = \"x\", idle = 3 }",
     "policy.lua:1: events: idle: it is a stream's, and none is named"},
    {"cache.events { stream = \"x\" }\ncache.events { stream = \"x\", group = \"g\" }",
     "policy.lua:2: events: stream: 'x' is named already, at line 1"},
    {"cache.events { stream = \"x\", group = {} }",
     "policy.lua:1: events: group: a name of 1 to 512 bytes, got a table"},
    {"cache.events { stream = \"x\", idle = \"2d\" }",
     "policy.lua:1: events: idle: a duration of at most 1 day, such as \"30s\", got '2d'"},
    {"cache.events { stream = \"x\", batch = 0 }",
     "policy.lua:1: events: batch: a whole number from 1 to 1000, got 0"},
    {"cache.events { stream = \"x\", dead = 1.5 }",
     "policy.lua:1: events: dead: a whole number from 1 to 10000000, got 1.5"},
    {"for i = 1, 17 do cache.events { stream = \"x\" .. i } end",
     "policy.lua:1: events: a policy has at most 16 channels and streams"},
    /* Lua itself */
    {"\n\nlocal x = = 3", "policy.lua:3: unexpected symbol near '='"},
    {"\nlocal x = nil + 1", "policy.lua:2: attempt to perform arithmetic on a nil value"},
    {"error(\"a\\nforged\\27[31m line\", 0)", "a\\nforged\\027[31m line"},
    {"error({})", "table"},
    {"error()", "nil"},
    {"error(setmetatable({}, {__tostring = function() error(\"x\") end}))",
     "policy.lua: an error whose text cannot be had"},
};

START_TEST(every_mistake_is_told_with_its_line_and_changes_nothing) {
    load_good("cache.rule \"old\" {}");
    struct pln_ruleset *before = cache.ruleset;
    for (size_t i = 0; i < PLN_ARRAY_LEN(wrong); i++) {
        int status = fake_load_text(&cache, wrong[i].source, 0);
        ck_assert_msg(status == PLN_EPOLICY, "%s gave %d", wrong[i].source, status);
        if (strcmp(wrong[i].text, "table") == 0) {
            ck_assert_ptr_nonnull(strstr(pln_error_text(), "table: 0x")); /* its address varies */
            continue;
        }
        ck_assert_msg(strcmp(pln_error_text(), wrong[i].text) == 0, "%s\n got: %s\nnot: %s",
                      wrong[i].source, pln_error_text(), wrong[i].text);
    }
    ck_assert_ptr_eq(cache.ruleset, before);
    ck_assert_int_eq(rule_of("old")->line, 1);
}
END_TEST

START_TEST(a_file_that_cannot_be_read_is_named) {
    char text[200];
    ck_assert_int_eq(pln_load_policy(&cache, cache.path, 0), PLN_EPOLICY);
    snprintf(text, sizeof text, "policy: %s cannot be opened: No such file or directory",
             cache.path);
    ck_assert_str_eq(pln_error_text(), text);
    ck_assert_int_eq(pln_load_policy(&cache, cache.folder, 0), PLN_EPOLICY);
    char *large = malloc((256 << 10) + 1);
    memset(large, ' ', (256 << 10) + 1);
    fake_write(&cache, large, (256 << 10) + 1);
    free(large);
    ck_assert_int_eq(pln_load_policy(&cache, cache.path, 0), PLN_EPOLICY);
    snprintf(text, sizeof text, "policy: %s is larger than 256 kB", cache.path);
    ck_assert_str_eq(pln_error_text(), text);
    ck_assert_int_eq(pln_load_policy(&cache, NULL, 0), PLN_EINVAL);
    ck_assert_int_eq(pln_load_policy(&cache, cache.path, 8), PLN_EINVAL);
}
END_TEST

static void load_shipped(const char *path, uint32_t flags) {
    ck_assert_msg(pln_load_policy(&cache, path, flags) == PLN_OK, "%s", pln_error_text());
    ck_assert_uint_gt(cache.ruleset->n_rules, 0);
}

START_TEST(every_shipped_policy_loads) {
    int n = 0;
    DIR *folder = opendir(POLICIES);
    ck_assert_ptr_nonnull(folder);
    for (struct dirent *entry; (entry = readdir(folder)) != NULL;) {
        if (strstr(entry->d_name, ".lua") != NULL) {
            char path[512];
            snprintf(path, sizeof path, "%s/%s", POLICIES, entry->d_name);
            load_shipped(path, 0);
            n++;
        }
    }
    closedir(folder);
    ck_assert_int_gt(n, 0);
    ck_assert_int_eq(cache.n_logs, 0);
}
END_TEST

/* It opens a database, and is trusted where it is used. */
START_TEST(the_policy_of_the_demonstration_loads) {
    char database[64];
    snprintf(database, sizeof database, "%s/packages.db", cache.folder);
    setenv("PACKAGES", cache.folder, 1);
    load_shipped(POLICIES "/../examples/packages_policy.lua", PLN_POLICY_TRUSTED);
    ck_assert_int_eq(cache.n_logs, 0);
    unlink(database);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("policy_compile");
    TCase *tests = tcase_create("policy_compile");
    suite_add_tcase(suite, tests);
    tcase_set_timeout(tests, 60);
    tcase_add_checked_fixture(tests, setup, teardown);
    tcase_add_test(tests, a_realistic_file_becomes_rules_with_inherited_terms);
    tcase_add_test(tests, warming_and_events_are_compiled);
    tcase_add_test(tests, sources_of_events_are_compiled);
    tcase_add_test(tests, origins_tell_where_each_value_comes_from);
    tcase_add_test(tests, every_mistake_is_told_with_its_line_and_changes_nothing);
    tcase_add_test(tests, a_file_that_cannot_be_read_is_named);
    tcase_add_test(tests, every_shipped_policy_loads);
    tcase_add_test(tests, the_policy_of_the_demonstration_loads);
    SRunner *runner = srunner_create(suite);
    srunner_run_all(runner, CK_ENV);
    int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? 0 : 1;
}
