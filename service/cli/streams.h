/* Several recorded streams of one run: what has the same sequence must have the same bytes, whoever
 * read it, and when. Of each event only a digest is kept. */
#ifndef SL_SERVICE_CLI_STREAMS_H
#define SL_SERVICE_CLI_STREAMS_H

#include "runtime/base/buf.h"
#include "runtime/base/status.h"

enum { SL_CLI_STREAMS_MAX = 64 };

/* All zero is the start. */
struct sl_cli_streams {
    struct {
        const char *name;
        uint64_t first;        /* sequence of its first event */
        struct sl_buf digests; /* of its events, one behind the other */
    } items[SL_CLI_STREAMS_MAX];
    size_t n_items;
    uint64_t n_same; /* events that were in an earlier stream, too */
};

/* A further stream, which begins behind the event `after`. Borrows its name. At most
 * SL_CLI_STREAMS_MAX. */
void sl_cli_streams_begin(struct sl_cli_streams *streams, const char *name, uint64_t after);
/* The next event of the stream that was begun last; sequences have no gap. Fails:
 * SL_FAILED_PRECONDITION an earlier stream has other bytes there; SL_RESOURCE_EXHAUSTED over
 * 16 million events, or no memory. */
SL_CHECK enum sl_status
sl_cli_streams_add(struct sl_cli_streams *streams, struct sl_slice bytes, struct sl_error *err);
void sl_cli_streams_done(struct sl_cli_streams *streams);

#endif
