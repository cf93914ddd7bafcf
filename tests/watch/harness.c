/* SPDX-License-Identifier: MIT
 *
 * harness.c - runs `perilune watch` over a network that it rules and a Redis of its own, and does
 * harm to both: a fault every few seconds, each announced to the watcher, which knows then what
 * may be read. Its result is the watcher's.
 *
 * The server appends what it does to a file, so that what it acknowledged outlives kill -9. No
 * fsync is needed for that: the process dies, not the machine. The file is in memory where that can
 * be, since a server waits for a busy disk even so.
 *
 * A machine that has too much to do is a fault, too: where the server does not answer at once
 * over the network, and no harm is done to either, that is announced as "stall" when it is over.
 *
 * usage: harness PERILUNE [--for 30m] [--every 5s] [--only FAULT,...] [--forget]
 *                [--failover] [--seed N] [--must-find] [OPTION OF perilune watch]...
 *
 *   --forget     the server keeps no file: after kill -9 it is empty
 *   --failover   the server is one of three that sentinels watch, and others take its place
 *   --must-find  it is a failure if the watcher finds nothing; for a try of the watcher itself
 */
#include "harness.h"

#include <ftw.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    LOOK_MS = 5, /* between two looks at the server */
    STALL_MS = 40,
    URL_SIZE = 160,
};

static void fail(const char *what) {
    fprintf(stderr, "harness: %s\n", what);
    exit(2);
}

long long now_ns(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (long long) time.tv_sec * 1000000000 + time.tv_nsec;
}

/* ---- the machine ---- */

/* Asks the server over the network, on a link that no watcher uses, whether it is there. */
static bool ping(redisContext **context, const char *path) {
    if (*context == NULL) {
        *context = redisConnectUnixWithTimeout(path, (struct timeval){.tv_sec = 5});
        if (*context != NULL) {
            redisSetTimeout(*context, (struct timeval){.tv_sec = 5});
        }
    }
    redisReply *reply = *context == NULL || (*context)->err != 0 ? NULL
                                                                 : redisCommand(*context, "PING");
    if (reply == NULL && *context != NULL) {
        redisFree(*context);
        *context = NULL;
    }
    bool is_there = reply != NULL;
    if (is_there) {
        freeReplyObject(reply);
    }
    return is_there;
}

static void tell_stall(struct harness *harness, long long from, long long to, unsigned harms) {
    pthread_mutex_lock(&harness->lock);
    if (!harness->is_over && harness->n_harms == harms && harms % 2 == 0) {
        fprintf(harness->orders, "fault stall @%lld\nend stall @%lld\n", from, to);
        fflush(harness->orders);
    }
    pthread_mutex_unlock(&harness->lock);
}

static void *monitor(void *arg) {
    struct harness *harness = arg;
    redisContext *context = NULL;
    char path[128];
    bool is_over = false;
    snprintf(path, sizeof path, "%s/link%u", harness->server.folder, harness->n_processes);
    long long before = now_ns();
    while (!is_over) {
        pthread_mutex_lock(&harness->lock);
        unsigned harms = harness->n_harms;
        is_over = harness->is_over;
        pthread_mutex_unlock(&harness->lock);
        bool is_there = ping(&context, path);
        long long now = now_ns();
        if (is_there && now - before > (STALL_MS + LOOK_MS) * 1000000LL) {
            tell_stall(harness, before, now, harms);
        }
        before = now;
        nap_ms(LOOK_MS);
    }
    if (context != NULL) {
        redisFree(context);
    }
    return NULL;
}

/* ---- the watcher ---- */

static void start_watcher(struct harness *harness) {
    int input[2], output[2];
    if (pipe(input) != 0 || pipe(output) != 0) {
        fail("no pipe");
    }
    harness->watcher = fork();
    if (harness->watcher == 0) {
        dup2(input[0], STDIN_FILENO);
        if (harness->must_find) {
            dup2(output[1], STDOUT_FILENO);
        }
        close(input[0]);
        close(input[1]);
        close(output[0]);
        close(output[1]);
        prctl(PR_SET_PDEATHSIG, SIGTERM); /* as its server, it is gone with this program */
        execv(harness->args[0], (char *const *) harness->args);
        _exit(127);
    }
    close(input[0]);
    close(output[1]);
    harness->orders = fdopen(input[1], "w");
    harness->result = fdopen(output[0], "r");
    if (harness->watcher < 0 || harness->orders == NULL || harness->result == NULL) {
        fail("no process");
    }
}

static bool is_running(struct harness *harness) {
    siginfo_t info = {.si_pid = 0};
    return waitid(P_PID, (id_t) harness->watcher, &info, WEXITED | WNOHANG | WNOWAIT) == 0 &&
           info.si_pid == 0;
}

/* Where something must be found: it was, and nothing else was wrong. */
static bool has_found(struct harness *harness) {
    char line[256];
    unsigned long long stale = 0, reads, others = 1;
    while (fgets(line, sizeof line, harness->result) != NULL) {
        fputs(line, stdout);
        const char *rest = strstr(line, "), ");
        if (sscanf(line, "%llu stale reads of %llu", &stale, &reads) == 2 && rest != NULL) {
            sscanf(rest, "), %llu wrong", &others);
        }
    }
    return stale > 0 && others == 0;
}

static int end_watcher(struct harness *harness) {
    int status = 0;
    pthread_mutex_lock(&harness->lock);
    harness->is_over = true;
    fprintf(harness->orders, "quit\n");
    fclose(harness->orders);
    pthread_mutex_unlock(&harness->lock);
    if (harness->is_monitored) {
        pthread_join(harness->monitor, NULL);
    }
    bool is_found = harness->must_find && has_found(harness);
    fclose(harness->result);
    waitpid(harness->watcher, &status, 0);
    if (!WIFEXITED(status)) {
        fprintf(stderr, "harness: the watcher died\n");
        return EXIT_FAILURE;
    }
    return harness->must_find ? !is_found : WEXITSTATUS(status);
}

/* ---- the run ---- */

static int run(struct harness *harness) {
    long long began = now_ns(), end = began + (long long) (harness->lasts * 1e9);
    long long next = began, rest = 2000000000; /* at least, so that links come back meanwhile */
    start_watcher(harness);
    harness->is_monitored = !harness->fails_over;
    if (harness->is_monitored && pthread_create(&harness->monitor, NULL, monitor, harness) != 0) {
        fail("no thread");
    }
    while (is_running(harness)) {
        long long now = now_ns();
        if (now >= end) {
            return end_watcher(harness);
        }
        next += (long long) (harness->every * 1e9);
        next = next < now + rest ? now + rest : next;
        while (is_running(harness) && now_ns() < next && now_ns() < end) {
            nap_ms(20);
        }
        if (now_ns() < end && is_running(harness)) {
            harness_do_harm(harness);
        }
    }
    fprintf(stderr, "harness: the watcher ended before its time\n");
    return end_watcher(harness) == EXIT_SUCCESS ? EXIT_FAILURE : 1;
}

static int remove_one(const char *path, const struct stat *stat, int kind, struct FTW *place) {
    (void) stat;
    (void) kind;
    return place->level == 0 ? 0 : remove(path);
}

static int run_with_one(struct harness *harness, char url[URL_SIZE]) {
    char kept[16], files[] = "/dev/shm/pln-watch-XXXXXX", elsewhere[] = "/tmp/pln-watch-XXXXXX";
    const char *folder = mkdtemp(files) != NULL ? files : mkdtemp(elsewhere);
    const char *options[] = {"--client-output-buffer-limit",
                             "pubsub",
                             kept,
                             "0",
                             "0",
                             "--dir",
                             folder,
                             "--appendfsync",
                             "no",
                             "--appendonly",
                             harness->forgets ? "no" : "yes",
                             NULL};
    struct server *server = &harness->server;
    snprintf(kept, sizeof kept, "%d", HARNESS_KEPT);
    if (folder == NULL) {
        fail("no folder");
    }
    pln_test_redis_start(server, options);
    harness->wire = wire_start(server->folder, harness->n_processes + 1, server->path);
    snprintf(url, URL_SIZE, "unix:%s/link{process}", server->folder);
    int code = run(harness);
    wire_stop(harness->wire);
    pln_test_redis_kill(server);
    nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
    rmdir(folder);
    pln_test_redis_stop(server);
    return code;
}

static int run_with_sentinels(struct harness *harness, char url[URL_SIZE]) {
    enum { REPLICAS = 2, SENTINELS = 3 };
    struct test_sentinels *set = &harness->sentinels;
    test_sentinels_start(set, REPLICAS, SENTINELS, 2);
    size_t len = (size_t) snprintf(url, URL_SIZE, "redis+sentinel://");
    for (size_t i = 0; i < SENTINELS; i++) {
        len += (size_t) snprintf(url + len, URL_SIZE - len, "%s127.0.0.1:%d", i == 0 ? "" : ",",
                                 set->sentinels[i].port);
    }
    snprintf(url + len, URL_SIZE - len, "/" TEST_SERVICE);
    int code = run(harness);
    test_sentinels_stop(set);
    return code;
}

/* ---- the command line ---- */

/* "90", "90s", "30m" or "2h" in seconds; 0 where it is none. */
static double seconds_of(const char *text) {
    char *unit;
    double number = strtod(text, &unit);
    double by = strcmp(unit, "h") == 0 ? 3600 : strcmp(unit, "m") == 0 ? 60 : 1;
    return *unit == 0 || strcmp(unit, "s") == 0 || by > 1 ? number * by : 0;
}

static const char *value_of(char **argv, int *i) {
    if (argv[*i + 1] == NULL) {
        fprintf(stderr, "harness: %s wants a value\n", argv[*i]);
        exit(2);
    }
    return argv[++*i];
}

static void read_arguments(struct harness *harness, char **argv) {
    for (int i = 2; argv[i] != NULL; i++) {
        if (strcmp(argv[i], "--for") == 0) {
            harness->lasts = seconds_of(value_of(argv, &i));
        } else if (strcmp(argv[i], "--every") == 0) {
            harness->every = seconds_of(value_of(argv, &i));
        } else if (strcmp(argv[i], "--only") == 0) {
            snprintf(harness->only, sizeof harness->only, ",%s,", value_of(argv, &i));
        } else if (strcmp(argv[i], "--seed") == 0) {
            harness->dice = strtoull(value_of(argv, &i), NULL, 10);
        } else if (strcmp(argv[i], "--forget") == 0) {
            harness->forgets = true;
        } else if (strcmp(argv[i], "--failover") == 0) {
            harness->fails_over = true;
        } else if (strcmp(argv[i], "--must-find") == 0) {
            harness->must_find = true;
        } else if (harness->n_args < HARNESS_ARGS - 1) {
            if (strcmp(argv[i], "--processes") == 0 && argv[i + 1] != NULL) {
                harness->n_processes = (unsigned) strtoul(argv[i + 1], NULL, 10);
            }
            harness->args[harness->n_args++] = argv[i];
        }
    }
    if (harness->lasts <= 0 || harness->every <= 0 || harness->n_processes == 0 ||
        harness->n_processes > 63 || !harness_has_harm(harness)) {
        fail("--for and --every want durations, --processes 1 to 63, --only names of faults");
    }
}

int main(int argc, char **argv) {
    static struct harness harness = {
        .n_processes = 4, .lasts = 60, .every = 5, .lock = PTHREAD_MUTEX_INITIALIZER};
    char url[URL_SIZE] = "";
    if (argc < 2) {
        fail("usage: harness PERILUNE [OPTION]...");
    }
    harness.dice = (uint64_t) now_ns();
    signal(SIGPIPE, SIG_IGN);
    /* its end it is told */
    const char *first[] = {argv[1], "watch", "--redis", url, "--for", "1d"};
    memcpy(harness.args, first, sizeof first);
    harness.n_args = sizeof first / sizeof first[0];
    read_arguments(&harness, argv);
    fprintf(stderr, "harness: --seed %llu\n", (unsigned long long) harness.dice);
    return harness.fails_over ? run_with_sentinels(&harness, url) : run_with_one(&harness, url);
}
