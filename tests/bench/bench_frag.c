/* SPDX-License-Identifier: MIT
 *
 * bench_frag.c - how much memory a day of changing sizes takes from each allocator that a cache
 * could be built on: bench_frag [PREFIX], only lines whose name begins so.
 *
 * The same stream of sizes, 64 MiB of live bytes at most, over malloc() of the C library and of
 * what may be preloaded in its place, and over L1 with a budget of 64 MiB. What goes when there is
 * no more room is the oldest, or a random one. A day takes seconds here: an allocator that gives
 * memory back after ten idle seconds has no time to. Where it can be told not to wait, a second
 * line (".eager") does so.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "day.h"
#include "tier.h"

enum {
    LIVE_BYTES = 64 << 20,
    N_OPS = 20000000,
    MOST_OBJECTS = 1 << 22, /* a power of two */
    LOOK_EVERY = 1 << 14,
    PAGE = 4096,
    TICK = 64,
};

/* ---- what is in memory, against what lives ---- */

struct looks {
    size_t before;
    double sum, worst;
    size_t n;
};

static void look(struct looks *looks, size_t live) {
    double ratio = ((double) bench_resident() - (double) looks->before) / (double) live;
    looks->sum += ratio;
    looks->worst = ratio > looks->worst ? ratio : looks->worst;
    looks->n++;
}

/* ---- over malloc ---- */

struct object {
    char *memory;
    size_t size;
};

/* Oldest first, from `first` on, in a ring. */
struct heap {
    struct object *ring;
    size_t first, next, live;
};

/* In memory from the start, so that they are no growth. */
static struct object *map_ring(void) {
    size_t length = MOST_OBJECTS * sizeof(struct object);
    void *memory = mmap(NULL, length, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) {
        fprintf(stderr, "bench: out of memory\n");
        exit(1);
    }
    return memory;
}

static void add(struct heap *heap, size_t size) {
    struct object object = {malloc(size), size};
    if (object.memory == NULL) {
        exit(1);
    }
    for (size_t i = 0; i < size; i += PAGE) {
        object.memory[i] = 'v';
    }
    object.memory[size - 1] = 'v';
    heap->ring[heap->next++ % MOST_OBJECTS] = object;
    heap->live += size;
}

static void drop(struct heap *heap, size_t at) {
    struct object *object = &heap->ring[at % MOST_OBJECTS];
    heap->live -= object->size;
    free(object->memory);
    *object = heap->ring[heap->first++ % MOST_OBJECTS];
}

static void run_malloc(const char *name, bool is_random) {
    struct heap heap = {.ring = map_ring()};
    uint64_t sizes = 3, order = 5;
    struct looks looks = {.before = bench_resident()};
    for (size_t i = 0; i < N_OPS; i++) {
        size_t size = day_size(&sizes, (double) i / N_OPS);
        while (heap.live + size > LIVE_BYTES || heap.next - heap.first == MOST_OBJECTS) {
            size_t n = heap.next - heap.first;
            drop(&heap, heap.first + (is_random && n > 0 ? bench_random(&order) % n : 0));
        }
        add(&heap, size);
        if (i % LOOK_EVERY == 0 && heap.live > LIVE_BYTES / 2) {
            look(&looks, heap.live);
        }
    }
    printf("%s resident_over_live=%.3f worst=%.3f\n", name, looks.sum / (double) looks.n,
           looks.worst);
    fflush(stdout);
}

/* ---- over L1 ---- */

static char bytes[DAY_MOST];

static void run_l1(const char *name) {
    struct tier tier;
    uint64_t sizes = 3;
    double useful = 0;
    size_t n_useful = 0;
    memset(bytes, 'v', sizeof bytes);
    struct looks looks = {.before = bench_resident()};
    tier_new(&tier, LIVE_BYTES, pln_hash);
    for (size_t i = 0; i < N_OPS; i++) {
        char key[BENCH_KEY_BYTES];
        pln_ms now = (pln_ms) (i / TICK);
        bench_key((uint32_t) i, key);
        tier_put(&tier, key, pln_bytes_of(bytes, day_size(&sizes, (double) i / N_OPS)), now,
                 PLN_FOREVER);
        if (i % LOOK_EVERY == 0) {
            look(&looks, LIVE_BYTES);
        }
        if (i % (N_OPS / DAY_PHASES / 2) == 0 && i > N_OPS / DAY_PHASES) {
            useful += (double) tier_useful(&tier, now) / LIVE_BYTES;
            n_useful++;
        }
    }
    useful /= (double) n_useful;
    double resident = looks.sum / (double) looks.n;
    printf("%s useful=%.3f resident_over_budget=%.3f worst=%.3f resident_over_live=%.3f\n", name,
           useful, resident, looks.worst, resident / useful);
    fflush(stdout);
    tier_free(&tier);
}

/* ---- the candidates ---- */

struct candidate {
    const char *name;
    const char *library; /* NULL: the C library's own */
    const char *setting; /* of the environment, or NULL */
};

static const struct candidate candidates[] = {
    {"glibc", NULL, NULL},
    {"jemalloc", "libjemalloc.so.2", NULL},
    {"jemalloc.eager", "libjemalloc.so.2", "MALLOC_CONF=dirty_decay_ms:0,muzzy_decay_ms:0"},
    {"mimalloc", "libmimalloc.so.2", NULL},
    {"mimalloc.eager", "libmimalloc.so.2", "MIMALLOC_RESET_DELAY=0"},
    {"tcmalloc", "libtcmalloc_minimal.so.4", NULL},
};

/* Runs this program anew, with the library in the place of malloc. */
static void run_again(const struct candidate *candidate, const char *name, const char *order) {
    char preload[128], *library = (char *) (uintptr_t) candidate->library;
    char *environment[] = {preload, (char *) (uintptr_t) candidate->setting, NULL};
    char *arguments[] = {"bench_frag", (char *) (uintptr_t) name, (char *) (uintptr_t) order,
                         library != NULL ? library : "", NULL};
    snprintf(preload, sizeof preload, "LD_PRELOAD=%s", library != NULL ? library : "");
    execve("/proc/self/exe", arguments, environment);
    _exit(1);
}

/* Some libraries can only be preloaded, not opened later: whether one is there shows afterwards. */
static bool is_in_use(const char *library) {
    Dl_info info;
    void *allocate = dlsym(RTLD_DEFAULT, "malloc");
    return library[0] == '\0' ||
           (dladdr(allocate, &info) != 0 && strstr(info.dli_fname, library) != NULL);
}

static void await(pid_t child) {
    int status = 0;
    if (child < 0 || waitpid(child, &status, 0) != child || status != 0) {
        fprintf(stderr, "bench: a run ended with status %d\n", status);
        exit(1);
    }
}

static void bench_candidate(const struct candidate *candidate, const char *order) {
    char name[64];
    snprintf(name, sizeof name, "frag.day.%s.%s", candidate->name, order);
    if (!bench_is_wanted(name)) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        run_again(candidate, name, order);
    }
    await(child);
}

static void bench_l1(void) {
    if (!bench_is_wanted("frag.day.l1")) {
        return;
    }
    pid_t child = fork();
    if (child == 0) {
        run_l1("frag.day.l1");
        _exit(0);
    }
    await(child);
}

/* What run_again starts. */
static int run_child(const char *name, const char *order, const char *library) {
    if (is_in_use(library)) {
        run_malloc(name, strcmp(order, "random") == 0);
    } else {
        fprintf(stderr, "bench: %s is left out: %s is not installed\n", name, library);
    }
    return 0;
}

int main(int argc, char **argv) {
    if (argc == 4) {
        return run_child(argv[1], argv[2], argv[3]);
    }
    bench_choose(argc > 1 ? argv[1] : "");
    bench_print_machine();
    for (size_t i = 0; i < PLN_ARRAY_LEN(candidates); i++) {
        bench_candidate(&candidates[i], "oldest");
        bench_candidate(&candidates[i], "random");
    }
    bench_l1();
    return 0;
}
