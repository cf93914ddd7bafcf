/* SPDX-License-Identifier: MIT
 *
 * alerts.c - cache.alert: what a policy wants to be told of, and telling its function.
 */
#include "script.h"

#include <stdio.h>

enum { MOST_ALERTS = 32, DEFAULT_REQUESTS = 100, MOST_REQUESTS = 1000000000 };

static const pln_ms default_window = 5 * 60 * 1000, longest_window = 86400 * 1000LL;

static const struct {
    const char *name;
    bool is_latency;
} metrics[] = {
    [PLN_METRIC_HIT_RATIO] = {"hit-ratio", false},
    [PLN_METRIC_L1_HIT_RATIO] = {"l1-hit-ratio", false},
    [PLN_METRIC_LOAD_ERRORS] = {"load-errors", false},
    [PLN_METRIC_LOAD_LATENCY] = {"load-latency", true},
    [PLN_METRIC_L2_LATENCY] = {"l2-latency", true},
    [PLN_METRIC_MEMORY] = {"memory", false},
};

static const char *const bounds[] = {
    [PLN_ALERT_BELOW] = "below",
    [PLN_ALERT_ABOVE] = "above",
    [PLN_ALERT_P99_ABOVE] = "p99_above",
};

/* ---- reading one ---- */

static enum pln_metric find_metric(lua_State *L, const char *name) {
    const char *names[PLN_ARRAY_LEN(metrics) + 1] = {NULL};
    for (size_t i = 0; i < PLN_ARRAY_LEN(metrics); i++) {
        names[i] = metrics[i].name;
        if (strcmp(name, metrics[i].name) == 0) {
            return (enum pln_metric) i;
        }
    }
    const char *near = pln_nearest(names, name);
    pln_compile_refuse(L,
                       "no such measure%s%s%s; there are hit-ratio, l1-hit-ratio, load-errors, "
                       "load-latency, l2-latency and memory",
                       near == NULL ? "" : ", did you mean '", near == NULL ? "" : near,
                       near == NULL ? "" : "'?");
}

static _Noreturn void refuse_value(lua_State *L, const char *field, const char *wanted) {
    char got[80];
    pln_compile_refuse(L, "%s: %s, got %s", field, wanted, pln_compile_got(L, -1, got, sizeof got));
}

/* The one of the three fields that the body has. */
static void read_bound(lua_State *L, int body, struct pln_alert *alert) {
    bool is_latency = metrics[alert->metric].is_latency;
    const char *wanted = is_latency ? "p99_above" : "below or above";
    int n = 0;
    for (size_t i = 0; i < PLN_ARRAY_LEN(bounds); i++) {
        if (pln_compile_field(L, body, bounds[i]) != LUA_TNIL) {
            pln_ms limit = 0;
            if (is_latency != (i == PLN_ALERT_P99_ABOVE)) {
                pln_compile_refuse(L, "%s: it does not go with %s; give it %s", bounds[i],
                                   alert->name, wanted);
            }
            if (is_latency &&
                (!pln_lua_to_duration(L, -1, &limit) || limit < 1 || limit > longest_window)) {
                refuse_value(L, bounds[i], "a duration such as \"20ms\" or seconds");
            }
            if (!is_latency && (!pln_lua_to_share(L, -1, &alert->limit) || alert->limit > 1)) {
                refuse_value(L, bounds[i], "a share such as \"80%\" or 0.8");
            }
            alert->limit = is_latency ? (double) limit : alert->limit;
            alert->bound = (enum pln_alert_bound) i;
            n++;
        }
        lua_pop(L, 1);
    }
    if (n != 1) {
        pln_compile_refuse(L, "%s: give it %s", n == 0 ? "it has no bound" : "it has two bounds",
                           wanted);
    }
}

static void read_window(lua_State *L, int body, struct pln_alert *alert) {
    alert->over = default_window;
    if (pln_compile_field(L, body, "over") != LUA_TNIL &&
        (!pln_lua_to_duration(L, -1, &alert->over) || alert->over < 1000 ||
         alert->over > longest_window)) {
        refuse_value(L, "over", "a duration from 1 second to 1 day, such as \"5m\"");
    }
    lua_pop(L, 1);
}

static void read_requests(lua_State *L, int body, struct pln_alert *alert) {
    bool has_requests = alert->metric != PLN_METRIC_MEMORY;
    alert->min_requests = has_requests ? DEFAULT_REQUESTS : 0;
    if (pln_compile_field(L, body, "min_requests") != LUA_TNIL) {
        lua_Integer n = lua_isinteger(L, -1) ? lua_tointeger(L, -1) : 0;
        if (!has_requests) {
            pln_compile_refuse(L, "min_requests: it does not go with memory");
        }
        if (n < 1 || n > MOST_REQUESTS) {
            refuse_value(L, "min_requests", "a whole number from 1 to 1000000000");
        }
        alert->min_requests = (uint64_t) n;
    }
    lua_pop(L, 1);
}

static void read_call(lua_State *L, int body, struct pln_alert *alert, unsigned index) {
    int type = pln_compile_field(L, body, "call");
    if (type == LUA_TFUNCTION) {
        alert->has_call = true;
        pln_compile_keep_function(L, index, PLN_ALERT_CALL);
        return;
    }
    if (type != LUA_TNIL) {
        refuse_value(L, "call", "a function");
    }
    lua_pop(L, 1);
}

void pln_compile_alert(lua_State *L, int body) {
    static const char *const names[] = {"below",        "above", "p99_above", "over",
                                        "min_requests", "call",  NULL};
    const struct pln_compiler *compiler = pln_compile_of(L);
    struct pln_ruleset *ruleset = compiler->ruleset;
    enum pln_metric metric = find_metric(L, compiler->statement.name);
    pln_compile_check_names(L, body, names, false, false);
    if (ruleset->n_alerts == MOST_ALERTS) {
        pln_compile_refuse(L, "a policy has at most %d alerts", MOST_ALERTS);
    }
    ruleset->alerts = pln_compile_grow(L, ruleset->alerts, ruleset->n_alerts,
                                       sizeof *ruleset->alerts);
    struct pln_alert *alert = &ruleset->alerts[ruleset->n_alerts++];
    *alert = (struct pln_alert){.metric = metric, .line = compiler->statement.line};
    alert->name = pln_compile_own(L, strdup(metrics[metric].name));
    alert->file = pln_compile_own(L, strdup(compiler->statement.file));
    read_bound(L, body, alert);
    read_window(L, body, alert);
    read_requests(L, body, alert);
    read_call(L, body, alert, (unsigned) ruleset->n_alerts - 1);
}

/* ---- telling ---- */

static void push_measure(lua_State *L, const struct pln_alert *alert, double value) {
    lua_pushnumber(L, metrics[alert->metric].is_latency ? value / 1000 : value);
}

static void push_window(lua_State *L, pln_ms over) {
    static const struct {
        const char *unit;
        pln_ms factor;
    } units[] = {{"h", 3600000}, {"m", 60000}, {"s", 1000}, {"ms", 1}};
    size_t i = 0;
    while (over % units[i].factor != 0) {
        i++;
    }
    lua_pushfstring(L, "%d%s", (int) (over / units[i].factor), units[i].unit);
}

int pln_alert_tell(lua_State *L) {
    const struct pln_alert_call *call = PLN_CONTAINER_OF(lua_touserdata(L, 1),
                                                         struct pln_alert_call, call);
    const struct pln_alert *alert = call->alert;
    pln_compile_push_function(L, call->index, PLN_ALERT_CALL);
    lua_createtable(L, 0, 5);
    lua_pushstring(L, alert->name);
    lua_setfield(L, -2, "name");
    push_measure(L, alert, call->news->value);
    lua_setfield(L, -2, "value");
    push_measure(L, alert, alert->limit);
    lua_setfield(L, -2, "limit");
    push_window(L, alert->over);
    lua_setfield(L, -2, "over");
    lua_pushinteger(L, (lua_Integer) call->news->requests);
    lua_setfield(L, -2, "requests");
    lua_call(L, 1, 0);
    return 0;
}
