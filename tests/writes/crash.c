/* SPDX-License-Identifier: MIT
 *
 * crash.c - kills processes and the server at random moments while they write behind, and looks
 * afterwards whether the database has all that was acknowledged.
 *
 * usage: crash sqlite|postgres last|order [--crashes N] [--seed S] [--must-find lose|late|swallow]
 *
 * Four processes share a namespace in a redis-server that appends every write to its file before it
 * answers; each has threads that write keys of their own, and one of them at a time stores. A crash
 * point is one kill -9: of any process, of the one that stores, of that one at a certain place in
 * the store's call (before it, amid it, before and after the commit), or of the server, also at
 * once with that. Whoever was killed is started again. Between these a process is stopped in the
 * store's call until another one has taken its place, and then goes on, as if it had slept.
 *
 * The time is kept low by having crash points follow each other without a pause but some 50 ms of
 * load, by a lead that ends soon (twice the store's timeout), and by files that are in memory: what
 * dies is the process, not the machine, so nothing has to be on a disk.
 *
 * PLN_CRASHES in the environment is another number of crash points.
 */
#include "crash.h"
#ifdef TEST_HAVE_POSTGRES
#include "postgres.h"
#endif

#include <ftw.h>
#include <inttypes.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    SKIPPED = 77,
    SHOWN = 12,         /* faults */
    PATIENCE_MS = 3000, /* for somebody to call the store */
    LEAD_MS = 2 * CRASH_TIMEOUT_MS,
};

struct run {
    struct crash crash;
    bool is_postgres;
    const char *must_find;
    unsigned n_crashes; /* wanted */
    unsigned n_killed, n_killed_storing, n_killed_server, n_stopped;
    pid_t workers[CRASH_WORKERS];
    char folder[64]; /* of the server's and the database's files */
#ifdef TEST_HAVE_POSTGRES
    struct test_postgres postgres;
#endif
};

void crash_fault(const struct crash *crash, const char *format, ...) {
    va_list args;
    char text[512];
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (atomic_fetch_add(&crash->board->n_faults, 1) < SHOWN) {
        fprintf(stderr, "crash: %s\n", text);
    }
}

static void need(bool is_well, const char *what) {
    if (!is_well) {
        fprintf(stderr, "crash: %s\n", what);
        abort();
    }
}

static uint32_t roll(struct run *run, uint32_t below) {
    return crash_roll(&run->crash.dice, below);
}

/* ---- processes ---- */

static pid_t start_process(struct run *run, int worker) {
    uint64_t dice = run->crash.dice + roll(run, 1 << 30);
    fflush(stdout);
    pid_t pid = fork();
    need(pid >= 0, "no process");
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (worker < 0) {
            crash_flush(&run->crash);
        }
        crash_work(&run->crash, worker, dice);
    }
    return pid;
}

/* Ends, or waits for, whoever is ended, and starts the next in its place. */
static void replace(struct run *run, int worker) {
    int status;
    pid_t pid = run->workers[worker];
    kill(pid, SIGKILL);
    need(waitpid(pid, &status, 0) == pid, "a process is gone");
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        crash_fault(&run->crash, "a process ended by itself, with status %#x", (unsigned) status);
    }
    run->workers[worker] = start_process(run, worker);
    run->n_killed++;
}

/* ---- crash points ---- */

static void kill_any(struct run *run) {
    replace(run, (int) roll(run, CRASH_WORKERS));
}

/* Whoever called the store last; anybody where nobody has. */
static void kill_storer(struct run *run) {
    int storer = atomic_load(&run->crash.board->storer);
    replace(run, storer > 0 ? storer - 1 : 0);
}

/* Has whoever comes next by a place in the store's call get a signal. Returns who that was, or -1
 * where nobody came. */
static int await_storer(struct run *run, int signal_number) {
    struct crash_board *board = run->crash.board;
    atomic_store(&board->hit, 0);
    atomic_store(&board->signal, signal_number);
    atomic_store(&board->armed, 1 + (int) roll(run, CRASH_N_POINTS - 1));
    for (int i = 0; i < PATIENCE_MS * 10 && atomic_load(&board->hit) == 0; i++) {
        crash_nap_us(100);
    }
    if (atomic_exchange(&board->armed, CRASH_NOWHERE) != CRASH_NOWHERE) {
        return -1;
    }
    while (atomic_load(&board->hit) == 0) { /* it has come by just now */
        crash_nap_us(100);
    }
    return atomic_load(&board->hit) - 1;
}

static void kill_within_store(struct run *run) {
    int worker = await_storer(run, SIGKILL);
    if (worker < 0) {
        crash_fault(&run->crash, "nobody has called the store for %d ms", PATIENCE_MS);
        kill_any(run);
        return;
    }
    replace(run, worker);
    run->n_killed_storing++;
}

static void kill_server(struct run *run) {
    pln_test_redis_kill(&run->crash.server);
    if (roll(run, 2) == 0) {
        crash_nap_us(roll(run, 30000));
    }
    pln_test_redis_restart(&run->crash.server);
    run->n_killed_server++;
}

static void kill_both(struct run *run) {
    int worker = await_storer(run, SIGKILL);
    kill_server(run);
    if (worker >= 0) {
        replace(run, worker);
        run->n_killed_storing++;
    }
}

/* A process sleeps in the store's call for so long that another one stores, and then goes on; or is
 * killed then. */
static void stop_within_store(struct run *run) {
    int status, worker = await_storer(run, SIGSTOP);
    if (worker < 0) {
        return;
    }
    pid_t pid = run->workers[worker];
    need(waitpid(pid, &status, WUNTRACED) == pid && WIFSTOPPED(status), "it did not stop");
    atomic_store(&run->crash.board->storer, 0);
    crash_nap_us(1000L * LEAD_MS);
    for (int i = 0; i < LEAD_MS && atomic_load(&run->crash.board->storer) == 0; i++) {
        crash_nap_us(1000);
    }
    if (roll(run, 3) == 0) {
        replace(run, worker);
        run->n_killed_storing++;
    } else {
        kill(pid, SIGCONT);
    }
    run->n_stopped++;
}

/* How often each, of a hundred. */
static const struct {
    unsigned share;
    void (*act)(struct run *run);
} harms[] = {{36, kill_any},   {18, kill_storer}, {30, kill_within_store},
             {7, kill_server}, {3, kill_both},    {6, stop_within_store}};

static void do_harm(struct run *run) {
    unsigned at = roll(run, 100), i = 0;
    while (at >= harms[i].share) {
        at -= harms[i++].share;
    }
    harms[i].act(run);
}

/* ---- the run ---- */

static unsigned n_done(const struct run *run) {
    return run->n_killed + run->n_killed_server;
}

static void crash_on(struct run *run) {
    for (int i = 0; i < CRASH_WORKERS; i++) {
        run->workers[i] = start_process(run, i);
    }
    while (n_done(run) < run->n_crashes) {
        crash_nap_us(5000 + roll(run, 90000));
        do_harm(run);
    }
}

/* Half of the processes are killed, the others close; then another one stores what is left. */
static void end_run(struct run *run) {
    int status;
    crash_nap_us(50000);
    for (int i = 0; i < CRASH_WORKERS / 2; i++) {
        kill(run->workers[i], SIGKILL);
    }
    atomic_store(&run->crash.board->is_over, true);
    for (int i = 0; i < CRASH_WORKERS; i++) {
        waitpid(run->workers[i], &status, 0);
        if (i >= CRASH_WORKERS / 2 && status != 0) {
            crash_fault(&run->crash, "a process ended with status %#x", (unsigned) status);
        }
    }
    pid_t pid = start_process(run, -1);
    waitpid(pid, &status, 0);
    if (status != 0) {
        crash_fault(&run->crash, "the last process ended with status %#x", (unsigned) status);
    }
    crash_check(&run->crash);
}

static unsigned count_poison(const struct crash *crash, unsigned *letters) {
    unsigned n = 0;
    *letters = 0;
    for (unsigned i = 0; i < CRASH_WORKERS * CRASH_WRITERS; i++) {
        const struct crash_poison *poison = &crash->board->poisons[i];
        for (unsigned j = 0; j < CRASH_POISONS; j++) {
            n += atomic_load(&poison->is_acked[j]);
            *letters += poison->n_letters[j];
        }
    }
    return n;
}

static void report(const struct run *run) {
    const struct crash_board *board = run->crash.board;
    unsigned letters, poison = count_poison(&run->crash, &letters);
    printf("crash: %u crash points (%u processes, of these %u amid a store's call; %u times the "
           "server), %u stopped amid a call\n",
           n_done(run), run->n_killed, run->n_killed_storing, run->n_killed_server, run->n_stopped);
    printf("crash: %" PRIu64 " writes acknowledged, %" PRIu64 " not; %" PRIu64 " stored in %" PRIu64
           " calls; %" PRIu64 " reads right after, %" PRIu64 " of them by a loader\n",
           atomic_load(&board->n_acked), atomic_load(&board->n_refused),
           atomic_load(&board->n_items), atomic_load(&board->n_store_calls),
           atomic_load(&board->n_reads), atomic_load(&board->n_loads));
    printf("crash: %u poison items acknowledged, %u dead letters\n", poison, letters);
    printf("crash: %u faults\n", atomic_load(&board->n_faults));
}

/* A run in which nothing happened shows nothing. */
static void check_load(const struct run *run) {
    const struct crash_board *board = run->crash.board;
    unsigned letters, poison = count_poison(&run->crash, &letters);
    if (atomic_load(&board->n_acked) < n_done(run) || atomic_load(&board->n_loads) == 0 ||
        (poison == 0 && n_done(run) > 50)) {
        crash_fault(&run->crash, "there was hardly any load");
    }
}

/* ---- beginning and end ---- */

static void make_folder(struct run *run) {
    snprintf(run->folder, sizeof run->folder, "/dev/shm/pln-crash-XXXXXX");
    if (mkdtemp(run->folder) == NULL) {
        snprintf(run->folder, sizeof run->folder, "/tmp/pln-crash-XXXXXX");
        need(mkdtemp(run->folder) != NULL, "no folder");
    }
}

static void start_database(struct run *run) {
    struct crash *crash = &run->crash;
    snprintf(crash->where, sizeof crash->where, "sqlite:%s/db", run->folder);
#ifdef TEST_HAVE_POSTGRES
    if (run->is_postgres) {
        test_postgres_start(&run->postgres, false);
        snprintf(crash->where, sizeof crash->where, "postgres:%s", run->postgres.conninfo);
    }
#endif
    struct database *database = database_open(crash->where, true);
    need(database != NULL && database_make(database), "the database cannot be made");
    database_close(database); /* before any fork */
}

static int remove_one(const char *path, const struct stat *info, int type, struct FTW *walk) {
    (void) info, (void) type, (void) walk;
    return remove(path);
}

static void play(struct run *run) {
    make_folder(run);
    const char *options[] = {"--appendonly",  "yes",    "--dir", run->folder,
                             "--appendfsync", "always", NULL};
    run->crash.board = mmap(NULL, sizeof *run->crash.board, PROT_READ | PROT_WRITE,
                            MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    need(run->crash.board != MAP_FAILED, "no memory");
    start_database(run);
    pln_test_redis_start(&run->crash.server, options);
    crash_on(run);
    end_run(run);
    pln_test_redis_stop(&run->crash.server);
#ifdef TEST_HAVE_POSTGRES
    test_postgres_stop(&run->postgres);
#endif
    nftw(run->folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

static bool read_arguments(struct run *run, int argc, char **argv) {
    static const char *const mutants[] = {"", "lose", "late", "swallow"};
    const char *wanted = getenv("PLN_CRASHES");
    run->n_crashes = 250;
    run->crash.dice = 1;
    if (argc < 3 || argc % 2 == 0) {
        return false;
    }
    run->is_postgres = strcmp(argv[1], "postgres") == 0;
    run->crash.in_order = strcmp(argv[2], "order") == 0;
    for (int i = 3; i < argc; i += 2) {
        if (strcmp(argv[i], "--crashes") == 0) {
            run->n_crashes = (unsigned) strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            run->crash.dice = strtoull(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--must-find") == 0) {
            run->must_find = argv[i + 1];
        } else {
            return false;
        }
    }
    for (int i = CRASH_LOSE; run->must_find != NULL && i <= CRASH_SWALLOW; i++) {
        run->crash.mutant = strcmp(mutants[i], run->must_find) == 0 ? (enum crash_mutant) i
                                                                    : run->crash.mutant;
    }
    if (run->must_find == NULL && wanted != NULL && wanted[0] != 0) {
        run->n_crashes = (unsigned) strtoul(wanted, NULL, 10);
    }
    return (run->must_find == NULL) == (run->crash.mutant == CRASH_SOUND);
}

int main(int argc, char **argv) {
    static struct run run;
    if (!read_arguments(&run, argc, argv)) {
        fprintf(stderr, "usage: crash sqlite|postgres last|order [--crashes N] [--seed S] "
                        "[--must-find lose|late|swallow]\n");
        return 2;
    }
    const char *lack = database_lacks(argv[1]);
    if (lack != NULL) {
        printf("crash: skipped, no %s: %s\n", argv[1], lack);
        return SKIPPED;
    }
    play(&run);
    if (run.must_find == NULL) {
        check_load(&run);
    }
    report(&run);
    unsigned n_faults = atomic_load(&run.crash.board->n_faults);
    return run.must_find == NULL ? n_faults != 0 : n_faults == 0;
}
