#include "service/cli/streams.h"

#include <inttypes.h>
#include <string.h>

#include "runtime/base/crypto.h"

enum { EVENTS_MAX = 16 * 1024 * 1024 };

void sl_cli_streams_begin(struct sl_cli_streams *streams, const char *name, uint64_t after)
{
    const size_t at = streams->n_items++;
    streams->items[at].name = name;
    streams->items[at].first = after + 1;
    sl_buf_init(&streams->items[at].digests, (size_t)EVENTS_MAX * SL_SHA256_BYTES);
}

/* NULL: it has no such event. */
static const uint8_t *digest_of(const struct sl_cli_streams *streams, size_t at, uint64_t sequence)
{
    const struct sl_slice digests = sl_buf_slice(&streams->items[at].digests);
    const uint64_t first = streams->items[at].first;
    if (sequence < first || sequence - first >= digests.size / SL_SHA256_BYTES) {
        return NULL;
    }
    return digests.data + (sequence - first) * SL_SHA256_BYTES;
}

enum sl_status
sl_cli_streams_add(struct sl_cli_streams *streams, struct sl_slice bytes, struct sl_error *err)
{
    const size_t last = streams->n_items - 1;
    struct sl_buf *digests = &streams->items[last].digests;
    const uint64_t sequence =
        streams->items[last].first + sl_buf_slice(digests).size / SL_SHA256_BYTES;
    uint8_t digest[SL_SHA256_BYTES];
    bool is_same = false;
    SL_TRY(sl_sha256(bytes, digest));
    for (size_t i = 0; i < last; i++) {
        const uint8_t *other = digest_of(streams, i, sequence);
        if (other != NULL && memcmp(other, digest, sizeof(digest)) != 0) {
            return sl_fail(
                err, SL_FAILED_PRECONDITION, "event %" PRIu64 " has other bytes than in %s",
                sequence, streams->items[i].name);
        }
        is_same = is_same || other != NULL;
    }
    if (sl_buf_add(digests, sl_slice_of(digest, sizeof(digest))) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "too many events to compare");
    }
    streams->n_same += is_same ? 1 : 0;
    return SL_OK;
}

void sl_cli_streams_done(struct sl_cli_streams *streams)
{
    for (size_t i = 0; i < streams->n_items; i++) {
        sl_buf_done(&streams->items[i].digests);
    }
    *streams = (struct sl_cli_streams){ 0 };
}
