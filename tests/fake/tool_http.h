/* Outgoing HTTP without a network: the functions of runtime/model/http.h, answering from a script.
 * For the tests of runtime/tool; linked instead of the real ones. */
#ifndef SL_TESTS_FAKE_TOOL_HTTP_H
#define SL_TESTS_FAKE_TOOL_HTTP_H

#include "runtime/model/http.h"

struct sl_fake_answer {
    enum sl_http_end end; /* DONE, or why not */
    uint32_t status;
    const char *location; /* NULL: no such header */
    const char *body;
    size_t body_repeats; /* 0: once */
    const char *address; /* asked for with allow_address; NULL: "93.184.216.34" */
    bool hangs;          /* never answers */
};

enum { SL_FAKE_HTTP_MAX = 16, SL_FAKE_HTTP_TEXT = 2048 };

/* What was asked, in order. */
struct sl_fake_http_log {
    const struct sl_fake_answer *answers;
    size_t n_answers;
    size_t n_requests, n_open;
    struct {
        char method[16];
        char url[512];
        char headers[SL_FAKE_HTTP_TEXT]; /* lines with \n */
        char body[SL_FAKE_HTTP_TEXT];
    } requests[SL_FAKE_HTTP_MAX];
};

extern struct sl_fake_http_log sl_fake_http;

#endif
