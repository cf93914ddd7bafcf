/* SPDX-License-Identifier: MIT
 *
 * watch.c - the parent of `perilune watch`: see watch.h. It opens no cache and starts no thread, so
 * it may fork at any time. What children tell of is judged a while later, when all is known of
 * that time: that a link was dead is found out after the reads that it misled.
 *
 * Standard input tells it, a line each:
 *
 *     fault NAME [PROCESS] [@TIME]   a fault of that name begins, for all processes or one
 *     end NAME [@TIME]               it is over
 *     kill PROCESS                   kill -9 that process, and start another in its place
 *     quit                           end before the time
 *
 * TIME is nanoseconds of CLOCK_MONOTONIC, for who knows better than the moment of reading.
 */
#include "watch.h"

#include "internal.h"
#include "program.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
    TURN_MS = 50,    /* between two looks at the children */
    PATIENCE_S = 30, /* of their end: no call waits so long */
    LINE_SIZE = 256,
};

static const pln_ns second = 1000000000;

/* What waits to be judged: a read, or counts. */
struct pending {
    pln_ns taken_at;
    bool is_read;
    unsigned process;
    struct pln_old_read read;
    struct pln_tally counts;
};

/* A ring that grows. */
struct queue {
    struct pending *items;
    size_t first, n, room;
};

struct parent {
    struct pln_watch *watch;
    struct queue queue;
    struct pln_watch_counts seen[PLN_WATCH_PROCESSES];
    pln_ns hindsight; /* so old must it be to be judged */
    char line[LINE_SIZE];
    size_t len;
    bool is_deaf, wants_end; /* deaf: nobody tells us anything any more */
    int status;
};

/* ---- what is told later ---- */

static struct pending *add(struct parent *parent, unsigned process, bool is_read) {
    struct queue *queue = &parent->queue;
    if (queue->n == queue->room) {
        size_t room = queue->room == 0 ? 1024 : 2 * queue->room;
        struct pending *items = calloc(room, sizeof *items);
        if (items == NULL) {
            parent->status = pln_fail(PLN_ENOMEM, "watch: no memory for %zu old reads", room);
            return NULL;
        }
        for (size_t i = 0; i < queue->n; i++) {
            items[i] = queue->items[(queue->first + i) % queue->room];
        }
        free(queue->items);
        *queue = (struct queue){items, 0, queue->n, room};
    }
    struct pending *item = &queue->items[(queue->first + queue->n++) % queue->room];
    *item = (struct pending){
        .taken_at = pln_clock_precise(), .is_read = is_read, .process = process};
    return item;
}

/* Judges what was taken up to that time. */
static void judge_until(struct parent *parent, pln_ns until) {
    struct pln_watch *watch = parent->watch;
    struct queue *queue = &parent->queue;
    while (queue->n > 0 && queue->items[queue->first].taken_at <= until) {
        const struct pending *item = &queue->items[queue->first];
        if (!item->is_read) {
            pln_judge_count(watch->judge, item->process, item->taken_at, &item->counts);
        } else if (pln_judge_read(watch->judge, &item->read)) {
            pln_watch_tell_read(watch, &item->read);
        }
        queue->first = (queue->first + 1) % queue->room;
        queue->n--;
    }
}

/* ---- children ---- */

static int start_child(struct pln_watch *watch, unsigned process) {
    struct pln_watch_process *shared = &watch->processes[process];
    pln_watch_lock(&shared->lock);
    shared->life = ++watch->n_lives;
    shared->must_stop = false;
    pln_watch_unlock(&shared->lock);
    pid_t pid = fork();
    if (pid == 0) {
        _exit(pln_watch_work(watch, process));
    }
    watch->pids[process] = pid > 0 ? pid : 0;
    return pid > 0 ? PLN_OK : pln_fail(PLN_ESYSTEM, "watch: no process: %s", strerror(errno));
}

static void keep(struct parent *parent, int status) {
    parent->status = parent->status < 0 ? parent->status : status;
}

static void take_note(struct parent *parent, unsigned process, const struct pln_watch_note *note) {
    struct pln_judge *judge = parent->watch->judge;
    struct pending *item;
    switch (note->news) {
    case PLN_WATCH_OLD_READ:
        item = add(parent, process, true);
        if (item != NULL) {
            item->read = note->read;
        }
        break;
    case PLN_WATCH_STALL:
        keep(parent, pln_judge_fault(judge, "stall", (int) process, note->at));
        pln_judge_end(judge, "stall", note->until);
        break;
    default:
        keep(parent, pln_judge_link(judge, process, note->news == PLN_WATCH_LINK_UP, note->at));
    }
}

/* Takes all that a child has told. */
static void drain(struct parent *parent, unsigned process) {
    struct pln_watch_process *shared = &parent->watch->processes[process];
    struct pln_watch_counts *seen = &parent->seen[process];
    pln_watch_lock(&shared->lock);
    for (; shared->n_taken < shared->n_written; shared->n_taken++) {
        take_note(parent, process, &shared->notes[shared->n_taken % PLN_WATCH_NOTES]);
    }
    struct pln_watch_counts counts = shared->counts;
    pln_watch_unlock(&shared->lock);
    struct pending *item = add(parent, process, false);
    if (item != NULL) {
        item->counts.reads = counts.reads - seen->reads;
        item->counts.unanswered = counts.unanswered - seen->unanswered;
        item->counts.writes = counts.writes - seen->writes;
        item->counts.refused = counts.refused - seen->refused;
        *seen = counts;
    }
}

/* A child has ended: what it told last, and that its link is gone with it. */
static void bury(struct parent *parent, unsigned process) {
    parent->watch->pids[process] = 0;
    drain(parent, process);
    keep(parent, pln_judge_link(parent->watch->judge, process, false, pln_clock_precise()));
}

/* None of them should end unasked: one that crashed is told of, and replaced. */
static void look_after(struct parent *parent) {
    struct pln_watch *watch = parent->watch;
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        int status;
        if (watch->pids[i] == 0 || waitpid(watch->pids[i], &status, WNOHANG) != watch->pids[i]) {
            continue;
        }
        bury(parent, i);
        if (WIFEXITED(status)) {
            keep(parent, pln_fail(PLN_ESYSTEM, "watch: process %u did not go on", i));
            continue;
        }
        watch->n_crashes++;
        fprintf(stderr, "perilune: watch: process %u died of signal %d\n", i, WTERMSIG(status));
        keep(parent, start_child(watch, i));
    }
}

static void replace_child(struct parent *parent, unsigned process) {
    struct pln_watch *watch = parent->watch;
    keep(parent, pln_judge_fault(watch->judge, "kill", (int) process, pln_clock_precise()));
    kill(watch->pids[process], SIGKILL);
    waitpid(watch->pids[process], NULL, 0);
    bury(parent, process);
    keep(parent, start_child(watch, process));
    pln_judge_end(watch->judge, "kill", pln_clock_precise());
}

/* Has all of them end, and waits for it. */
static void stop_children(struct parent *parent) {
    struct pln_watch *watch = parent->watch;
    pln_ns deadline = pln_clock_precise() + PATIENCE_S * second;
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        pln_watch_lock(&watch->processes[i].lock);
        watch->processes[i].must_stop = true;
        pln_watch_unlock(&watch->processes[i].lock);
    }
    for (unsigned i = 0; i < watch->settings.processes; i++) {
        while (watch->pids[i] != 0) {
            int status = 0;
            drain(parent, i);
            if (waitpid(watch->pids[i], &status, WNOHANG) == watch->pids[i]) {
                watch->pids[i] = 0;
                watch->n_crashes += WIFSIGNALED(status);
                drain(parent, i); /* its last words */
            } else if (pln_clock_precise() > deadline) {
                fprintf(stderr, "perilune: watch: process %u does not end\n", i);
                watch->n_hung++;
                kill(watch->pids[i], SIGABRT);
                waitpid(watch->pids[i], NULL, 0);
                watch->pids[i] = 0;
            } else {
                poll(NULL, 0, TURN_MS);
            }
        }
    }
}

/* ---- what is said on standard input ---- */

/* Takes a word off a line; "" where there is none. */
static const char *next_word(char **rest) {
    char *word = strtok_r(NULL, " \t", rest);
    return word != NULL ? word : "";
}

/* The process and the time that end an order. False where there is more, or other. */
static bool read_rest(const struct pln_watch *watch, char **rest, int *process, pln_ns *at) {
    const char *word = next_word(rest);
    char *end = NULL;
    *process = PLN_EVERYWHERE;
    *at = pln_clock_precise();
    if (*word != 0 && *word != '@') {
        long number = strtol(word, &end, 10);
        if (*end != 0 || number < 0 || number >= (long) watch->settings.processes) {
            return false;
        }
        *process = (int) number;
        word = next_word(rest);
    }
    if (*word == '@') {
        *at = strtoll(word + 1, &end, 10);
        return *end == 0;
    }
    return *word == 0;
}

static void obey(struct parent *parent, char *line) {
    struct pln_judge *judge = parent->watch->judge;
    char *rest = NULL, told[LINE_SIZE];
    int process = PLN_EVERYWHERE;
    pln_ns at;
    snprintf(told, sizeof told, "%s", line);
    const char *verb = strtok_r(line, " \t", &rest);
    verb = verb != NULL ? verb : "";
    bool has_name = strcmp(verb, "fault") == 0 || strcmp(verb, "end") == 0;
    const char *name = has_name ? next_word(&rest) : "";
    bool is_good = read_rest(parent->watch, &rest, &process, &at) && has_name == (*name != 0);
    if (is_good && strcmp(verb, "fault") == 0) {
        keep(parent, pln_judge_fault(judge, name, process, at));
    } else if (is_good && strcmp(verb, "end") == 0) {
        is_good = pln_judge_end(judge, name, at);
    } else if (is_good && strcmp(verb, "kill") == 0 && process != PLN_EVERYWHERE) {
        replace_child(parent, (unsigned) process);
    } else if (is_good && strcmp(verb, "quit") == 0) {
        parent->wants_end = true;
    } else {
        is_good = *verb == 0;
    }
    fprintf(stderr, "%6.1f  %s%s%s\n", (double) (pln_clock_precise() - parent->watch->began) / 1e9,
            is_good ? "" : "not understood: '", told,
            is_good ? "" : "' (fault NAME [PROCESS], end NAME, kill PROCESS, quit)");
}

/* Reads what there is, and obeys each whole line. */
static void hear(struct parent *parent) {
    ssize_t n = read(STDIN_FILENO, parent->line + parent->len, LINE_SIZE - 1 - parent->len);
    if (n <= 0) {
        parent->is_deaf = n == 0 || errno != EINTR;
        return;
    }
    parent->len += (size_t) n;
    parent->line[parent->len] = 0;
    char *end;
    while ((end = strchr(parent->line, '\n')) != NULL || parent->len == LINE_SIZE - 1) {
        size_t used = end != NULL ? (size_t) (end - parent->line) + 1 : parent->len;
        if (end != NULL) {
            *end = 0;
        }
        obey(parent, parent->line);
        parent->len -= used;
        memmove(parent->line, parent->line + used, parent->len + 1);
    }
}

/* ---- the run ---- */

static void go_on_until(struct parent *parent, pln_ns end) {
    struct pln_watch *watch = parent->watch;
    pln_ns told_at = watch->began;
    while (parent->status == PLN_OK && !parent->wants_end && !pln_program_is_interrupted()) {
        struct pollfd poll_in = {.fd = parent->is_deaf ? -1 : STDIN_FILENO, .events = POLLIN};
        if (poll(&poll_in, 1, TURN_MS) > 0) {
            hear(parent);
        }
        look_after(parent);
        for (unsigned i = 0; i < watch->settings.processes; i++) {
            drain(parent, i);
        }
        pln_ns now = pln_clock_precise();
        judge_until(parent, now - parent->hindsight);
        if (now - told_at >= second) {
            pln_watch_tell_second(watch, now);
            told_at = now;
        }
        if (now >= end) {
            break;
        }
    }
}

/* Returns the exit code. What was read at the very end is not judged: whether the links were alive
 * then would have come out later. */
static int run(struct pln_watch *watch) {
    const struct pln_bounds *bounds = &watch->settings.bounds;
    struct parent parent = {.watch = watch};
    parent.hindsight = bounds->detection + bounds->delivery + second;
    watch->began = watch->told.at = pln_clock_precise();
    for (unsigned i = 0; parent.status == PLN_OK && i < watch->settings.processes; i++) {
        keep(&parent, start_child(watch, i));
    }
    go_on_until(&parent, watch->began + watch->settings.lasts * 1000000);
    pln_ns ended = pln_clock_precise();
    stop_children(&parent);
    judge_until(&parent, ended - bounds->detection);
    free(parent.queue.items);
    if (parent.status < 0) {
        fprintf(stderr, "perilune: %s\n", pln_error_text());
        return EXIT_FAILURE;
    }
    return pln_watch_tell_all(watch) ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* ---- what is shared ---- */

static void make_lock(pthread_mutex_t *lock) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED);
    pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
    pthread_mutex_init(lock, &attributes);
    pthread_mutexattr_destroy(&attributes);
}

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    return memory == MAP_FAILED ? NULL : memory;
}

int pln_watch_run(struct pln_watch *watch) {
    size_t keys_size = watch->settings.keys * sizeof *watch->keys;
    size_t processes_size = watch->settings.processes * sizeof *watch->processes;
    int code = EXIT_FAILURE;
    watch->keys = share(keys_size);
    watch->processes = share(processes_size);
    if (watch->keys == NULL || watch->processes == NULL ||
        pln_judge_new(&watch->judge, watch->settings.processes, &watch->settings.bounds) < 0) {
        fprintf(stderr, "perilune: watch: no memory for %u keys\n", watch->settings.keys);
    } else {
        for (unsigned i = 0; i < watch->settings.keys; i++) {
            make_lock(&watch->keys[i].lock);
            make_lock(&watch->keys[i].writer);
        }
        for (unsigned i = 0; i < watch->settings.processes; i++) {
            make_lock(&watch->processes[i].lock);
        }
        code = run(watch);
    }
    pln_judge_free(watch->judge);
    if (watch->keys != NULL) {
        munmap(watch->keys, keys_size);
    }
    if (watch->processes != NULL) {
        munmap(watch->processes, processes_size);
    }
    return code;
}
