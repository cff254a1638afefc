/* What a peer may do on one connection, counted (grpc.md, section 3): resets, PINGs, SETTINGS,
 * empty DATA, PRIORITY, WINDOW_UPDATE. Knows nothing of nghttp2.
 *
 * Each check counts one frame and gives NULL, or the name of the budget that is used up. Also here:
 * the tracker, which follows frame borders so that an unfinished header block can be seen from
 * outside. */
#ifndef SL_SERVICE_H2_POLICE_H
#define SL_SERVICE_H2_POLICE_H

#include "runtime/base/limits.h"
#include "runtime/base/slice.h"

/* A token bucket that starts full. */
struct sl_h2_bucket {
    uint64_t burst, rate_per_s;
    uint64_t level;
    uint64_t filled_ns; /* tokens up to this time are in `level` */
};

void sl_h2_bucket_init(struct sl_h2_bucket *bucket, uint64_t burst, uint64_t rate_per_s);
/* False: empty. `now_ns` never goes back. `rate_per_s` > 0. */
bool sl_h2_bucket_take(struct sl_h2_bucket *bucket, uint64_t now_ns);

struct sl_h2_police {
    const struct sl_limits *limits;
    bool allow_pings_without_calls;
    struct sl_h2_bucket early_resets, own_resets, settings;
    struct {
        uint64_t last_ns; /* of the last valid one */
        bool has_last;
        uint32_t n_strikes;
    } ping;
    uint64_t n_streams;
    uint64_t n_priority;
    uint64_t window_updates_left;
    uint64_t n_pings_out; /* ours that were not answered */
    uint64_t n_useless;
    uint64_t closed_left; /* bytes of frames for streams that are over */
};

extern const char sl_h2_fault_pings[];

void sl_h2_police_init(
    struct sl_h2_police *police, const struct sl_limits *limits, bool allow_pings_without_calls);
/* A stream was opened: it earns WINDOW_UPDATE and PRIORITY frames. */
void sl_h2_police_stream(struct sl_h2_police *police);
/* A HEADERS or DATA frame was sent: PINGs may come again (CM-3), DATA earns WINDOW_UPDATE frames
 * unless the peer's window cut it small (AT-11). `n_bytes` of DATA; 0 for HEADERS. */
void sl_h2_police_sent(struct sl_h2_police *police, size_t n_bytes, bool is_cut_small);
/* The peer reset a stream of which no body byte was sent (AT-1). */
const char *sl_h2_police_early_reset(struct sl_h2_police *police, uint64_t now_ns);
/* We reset a stream because of what the peer did (AT-2). */
const char *sl_h2_police_own_reset(struct sl_h2_police *police, uint64_t now_ns);
const char *sl_h2_police_settings(struct sl_h2_police *police, uint64_t now_ns);
/* CM-2, AT-7. */
const char *sl_h2_police_ping(struct sl_h2_police *police, uint64_t now_ns, bool has_calls);
/* We sent a PING, and the peer sent an answer. */
void sl_h2_police_ping_sent(struct sl_h2_police *police);
const char *sl_h2_police_ping_ack(struct sl_h2_police *police);
const char *sl_h2_police_goaway(struct sl_h2_police *police);
const char *sl_h2_police_priority(struct sl_h2_police *police);
const char *sl_h2_police_window_update(struct sl_h2_police *police);
/* We ended a stream on which the peer may still send: what is in flight is honest, up to the
 * stream's whole window. */
void sl_h2_police_cut_off(struct sl_h2_police *police);
/* A frame with `n_bytes` came for a stream that is over: nghttp2 drops DATA, HEADERS and RST_STREAM
 * of those without a word. DATA counts its bytes only, as the windows do; others count more. */
const char *sl_h2_police_closed(struct sl_h2_police *police, size_t n_bytes, bool is_data);

/* Follows the borders of frames, and counts those that nghttp2 drops without a word: empty DATA,
 * also of closed streams, and frames of unknown types. All zero but `skip` (24 for a server: the
 * client's preface) is the start. */
struct sl_h2_tracker {
    uint32_t skip;  /* bytes of preface or payload still to come */
    uint8_t n_head; /* bytes of the frame header that have come */
    uint8_t head[9];
    bool is_headers; /* the frame that began last belongs to a header block */
    bool has_end_headers;
    bool is_data;   /* the frame that began last is DATA */
    bool wants_pad; /* the next byte is the Pad Length of a DATA frame */
    uint64_t n_frames;
    uint64_t n_headers;      /* HEADERS frames */
    uint64_t n_empty_ends;   /* DATA with END_STREAM and no payload */
    uint64_t n_empty_in_row; /* DATA without either; padding is no payload */
    uint64_t n_data_bytes;   /* content of all DATA frames that have begun, without padding */
    uint64_t n_unknown;      /* frames of types that HTTP/2 does not have */
    uint64_t max_empty, max_unknown;
    const char *over_budget; /* the budget that is used up; NULL: none */
};

/* Gives how many bytes it took: all, or those up to where the budget was used up. */
size_t sl_h2_tracker_feed(struct sl_h2_tracker *tracker, struct sl_slice bytes);
/* Content of DATA that has come whole; of an unfinished frame it may be less than that. */
uint64_t sl_h2_tracker_data_bytes(const struct sl_h2_tracker *tracker);
/* True while a header block is unfinished. */
bool sl_h2_tracker_in_headers(const struct sl_h2_tracker *tracker);
/* How much has come of the frame header that follows in an unfinished header block; it is in
 * `head`. */
size_t sl_h2_tracker_open_head(const struct sl_h2_tracker *tracker);

#endif
