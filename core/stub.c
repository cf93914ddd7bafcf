/* own branch only */
#include "store.h"
#include "../l2/queue.h"
#define NOT pln_fail(PLN_EINVAL, "not built")
#define WEAK __attribute__((weak, unused))
#pragma GCC diagnostic ignored "-Wunused-parameter"
WEAK const struct pln_write_options *pln_store_terms(const struct pln_cache *cache, const struct pln_rule *rule) { static const struct pln_write_options a = {.strategy=1}; return &a; }
WEAK int pln_store_run(struct pln_cache *cache, const struct pln_ruleset *ruleset, const struct pln_rule *rule, struct pln_store_item *items, size_t n) { return NOT; }
WEAK bool pln_store_is_there(const struct pln_cache *cache, const struct pln_rule *rule) { return true; }
WEAK int pln_through_set(struct write *write) { return NOT; }
WEAK int pln_through_delete(struct pln_cache *cache, const struct pln_bytes *keys, size_t n) { return NOT; }
WEAK void pln_store_fail(struct pln_store_item *item, int status, const char *text) { item->status = status; strncpy(item->error, text, 199); }
WEAK int pln_l2_queue_check(struct pln_l2 *l2) { return NOT; }
WEAK int pln_l2_queue_take(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline, struct pln_l2_entries *entries, pln_ms *left) { return NOT; }
WEAK int pln_l2_queue_hold(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) { return NOT; }
WEAK int pln_l2_queue_end(struct pln_l2 *l2, const struct pln_l2_taking *taking, const struct pln_l2_entry *entries, size_t n, pln_ns deadline) { return NOT; }
WEAK int pln_l2_queue_bury(struct pln_l2 *l2, const struct pln_l2_taking *taking, const struct pln_l2_entry *entry, unsigned attempts, const char *error, size_t most, pln_ns deadline) { return NOT; }
WEAK void pln_l2_queue_leave(struct pln_l2 *l2, const struct pln_l2_taking *taking, pln_ns deadline) {}
WEAK int pln_l2_queue_find(struct pln_l2 *l2, const struct pln_hashed *key, pln_ns deadline, struct pln_l2_entries *entry) { return NOT; }
WEAK int pln_l2_queue_state(struct pln_l2 *l2, pln_ns deadline, struct pln_l2_queue_state *state) { return NOT; }
WEAK void pln_l2_letters_fini(struct pln_l2_letters *letters) {}
WEAK void pln_l2_entries_fini(struct pln_l2_entries *letters) {}
WEAK int pln_l2_letters(struct pln_l2 *l2, uint64_t after_ms, uint64_t after_seq, size_t most, pln_ns deadline, struct pln_l2_letters *letters) { return NOT; }
WEAK int pln_l2_letter_end(struct pln_l2 *l2, uint64_t ms, uint64_t seq, bool again, pln_ns deadline) { return NOT; }
