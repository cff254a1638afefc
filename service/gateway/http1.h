/* HTTP/1.1 requests, sans-I/O (RFC 9112): bytes in, one request at a time out. Small on purpose:
 * what a server of JSON bodies needs. Bodies come with Content-Length or chunked; both in one
 * request are refused, as is every line that two parsers could read differently. */
#ifndef SL_SERVICE_GATEWAY_HTTP1_H
#define SL_SERVICE_GATEWAY_HTTP1_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"

enum { SL_HTTP1_HEAD_BYTES = 65536, SL_HTTP1_FIELDS = 100 };

struct sl_http1_field {
    struct sl_slice name, value; /* the name as it was sent; compare without case */
};

struct sl_http1_request {
    struct sl_slice method, target; /* valid until sl_http1_next() */
    struct sl_http1_field fields[SL_HTTP1_FIELDS];
    size_t n_fields;
    struct sl_slice body;
    bool keeps_alive;      /* HTTP/1.1 without `Connection: close` */
    bool expects_continue; /* `Expect: 100-continue`; known once the head is complete */
};

enum sl_http1_state {
    SL_HTTP1_HEAD,
    SL_HTTP1_BODY,
    SL_HTTP1_CHUNK_SIZE,
    SL_HTTP1_CHUNK,
    SL_HTTP1_CHUNK_END,
    SL_HTTP1_TRAILERS,
    SL_HTTP1_DONE
};

struct sl_http1 {
    enum sl_http1_state state;
    struct sl_buf head, body, line;
    uint64_t missing; /* of the body, or of the chunk */
    struct sl_http1_request request;
};

/* `max_body_bytes` > 0. Allocates nothing. */
void sl_http1_init(struct sl_http1 *http1, size_t max_body_bytes);
/* Takes bytes up to the end of one request and says how many. SL_OK: the request is complete;
 * SL_AGAIN: more is needed. Fails, for good: SL_INVALID_ARGUMENT (400), SL_RESOURCE_EXHAUSTED (413
 * or 431), SL_UNIMPLEMENTED (501: an unknown transfer coding). */
SL_CHECK enum sl_status sl_http1_feed(
    struct sl_http1 *http1, struct sl_slice bytes, size_t *ret_taken, struct sl_error *err);
/* Forgets the request: the next one may come. */
void sl_http1_next(struct sl_http1 *http1);
void sl_http1_done(struct sl_http1 *http1);

/* The first field of that name (lower case); false: there is none. */
bool sl_http1_field(
    const struct sl_http1_request *request, const char *name, struct sl_slice *ret_value);

#endif
