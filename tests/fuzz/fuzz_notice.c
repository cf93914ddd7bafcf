/* SPDX-License-Identifier: MIT
 *
 * fuzz_notice.c - a message on a channel says an event within the bounds, or is refused with a
 * text; either way nothing is left behind.
 *
 * The input is the message.
 */
#include "../../core/feeder.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pln_notice notice;
    int status = pln_notice_read_message(pln_bytes_of(data, size), &notice);
    assert(status == PLN_OK || status == PLN_EINVAL || status == PLN_ETOOBIG);
    if (status != PLN_OK) {
        assert(notice.n_fields == 0 && notice.memory == NULL && pln_error_text()[0] != 0);
        return 0;
    }
    assert(size <= PLN_NOTICE_BYTES && notice.n_fields <= PLN_NOTICE_FIELDS);
    assert(notice.event.len > 0 && notice.event.len <= PLN_NOTICE_EVENT);
    for (size_t i = 0; i < notice.n_fields; i++) {
        assert(notice.fields[i].value.len <= PLN_NOTICE_BYTES);
        (void) pln_hash(notice.fields[i].value, 0); /* all its bytes are there to be read */
        for (size_t k = 0; k < i; k++) {
            assert(!pln_bytes_equal(notice.fields[i].name, notice.fields[k].name));
        }
    }
    pln_notice_fini(&notice);
    return 0;
}
