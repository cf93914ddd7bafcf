/* SPDX-License-Identifier: MIT
 *
 * fuzz_url.c - any text is a URL that can be used, or is refused; and the words of a refusal hold
 * no part of it.
 */
#include "../../l2/internal.h"

#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_endpoint(const struct pln_url *url, const struct pln_endpoint *endpoint) {
    assert((endpoint->host == NULL) != (endpoint->path == NULL));
    assert(endpoint->label != NULL && endpoint->label[0] != 0);
    assert(endpoint->weight >= 1 && endpoint->weight <= 1000);
    assert(endpoint->weight == 1 || url->topology == PLN_RING);
    if (endpoint->path != NULL) {
        assert(strlen(endpoint->path) <= 107 && endpoint->path[0] != 0);
        assert(endpoint->port == 0 && !url->is_tls);
        assert(url->topology == PLN_ALONE || url->topology == PLN_RING);
    } else {
        assert(endpoint->host[0] != 0 && endpoint->port >= 1 && endpoint->port <= 65535);
    }
}

static void check_url(const struct pln_url *url) {
    assert(url->n_endpoints >= 1 && url->n_endpoints <= 1024 && url->label != NULL);
    assert(url->topology != PLN_ALONE || url->n_endpoints == 1);
    assert((url->service != NULL) == (url->topology == PLN_SENTINEL));
    assert(url->login.database >= 0 && url->login.database <= 65535);
    assert(url->login.database == 0 || url->topology != PLN_CLUSTER);
    assert(!url->is_sentinel_tls || url->topology == PLN_SENTINEL);
    for (size_t i = 0; i < url->n_endpoints; i++) {
        check_endpoint(url, &url->endpoints[i]);
    }
}

/* Puts a word where passwords stand, and looks for it in the refusal. */
static void check_secrecy(const char *text) {
    static const char word[] = "xyzzyplugh";
    const char *at = strstr(text, "://");
    struct pln_url url;
    char *with_word;
    bool is_path = strncmp(text, "unix", 4) == 0;
    if (at == NULL || is_path || strstr(text, word) != NULL ||
        asprintf(&with_word, "%.*s://:%s@%s", (int) (at - text), text, word, at + 3) < 0) {
        return;
    }
    if (pln_url_read(with_word, &url) == PLN_OK) {
        check_url(&url);
        assert(strstr(url.label, word) == NULL);
        pln_url_fini(&url);
    } else {
        assert(strstr(pln_error_text(), word) == NULL);
    }
    free(with_word);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    struct pln_url url;
    char *text = strndup((const char *) data, size);
    if (text == NULL) {
        return 0;
    }
    if (pln_url_read(text, &url) == PLN_OK) {
        check_url(&url);
        pln_url_fini(&url);
    }
    check_secrecy(text);
    free(text);
    return 0;
}
