#include "service/h2/police.h"

#include "runtime/base/metrics.h"

enum {
    WINDOW_UPDATES_BASE = 100,
    WINDOW_UPDATES_PER_STREAM = 2,
    WINDOW_UPDATES_PER_DATA = 10,
    DATA_BYTES = 16384, /* a larger frame earns as the frames that it stands for */
    SETTINGS_PER_S = 10,
    MAX_PING_STRIKES = 2,
    FRAME_DATA = 0,
    FRAME_HEADERS = 1,
    FRAME_PUSH_PROMISE = 5,
    FRAME_CONTINUATION = 9,
    CLOSED_FRAME =
        64, /* an RST_STREAM or a header block for a stream that is over, besides its size */
    MAX_CUT_OFF = 1024, /* streams whose windows may be in flight */
    FLAG_END_STREAM = 1,
    FLAG_END_HEADERS = 4,
    FLAG_PADDED = 8
};

static const uint64_t ns_per_s = 1000000000;
static const uint64_t ns_per_ms = 1000000;
static const uint64_t ping_gap_without_calls_ns = UINT64_C(7200) * 1000000000; /* A8: two hours */
static const uint64_t max_window_updates = 1000000; /* what a long good life may earn */

const char sl_h2_fault_pings[] = "ping_flood";

/* Gives `reason`, and counts the limit that it belongs to. */
static const char *over(enum sl_limit limit, const char *reason)
{
    sl_limit_reached(limit);
    return reason;
}

void sl_h2_bucket_init(struct sl_h2_bucket *bucket, uint64_t burst, uint64_t rate_per_s)
{
    *bucket = (struct sl_h2_bucket){ .burst = burst, .rate_per_s = rate_per_s, .level = burst };
}

static void refill(struct sl_h2_bucket *bucket, uint64_t now_ns)
{
    const uint64_t token_ns = ns_per_s / bucket->rate_per_s + 1;
    const uint64_t n_new = now_ns > bucket->filled_ns ? (now_ns - bucket->filled_ns) / token_ns : 0;
    if (n_new >= bucket->burst - bucket->level) {
        bucket->level = bucket->burst;
        bucket->filled_ns = now_ns;
    } else {
        bucket->level += n_new;
        bucket->filled_ns += n_new * token_ns;
    }
}

bool sl_h2_bucket_take(struct sl_h2_bucket *bucket, uint64_t now_ns)
{
    refill(bucket, now_ns);
    if (bucket->level == 0) {
        return false;
    }
    bucket->level--;
    return true;
}

void sl_h2_police_init(
    struct sl_h2_police *police, const struct sl_limits *limits, bool allow_pings_without_calls)
{
    *police = (struct sl_h2_police){ .limits = limits,
                                     .allow_pings_without_calls = allow_pings_without_calls,
                                     .window_updates_left = WINDOW_UPDATES_BASE,
                                     .closed_left = limits->closed_stream };
    sl_h2_bucket_init(&police->early_resets, limits->reset_burst, limits->reset_rate);
    sl_h2_bucket_init(&police->own_resets, limits->own_reset_burst, limits->own_reset_rate);
    sl_h2_bucket_init(&police->settings, limits->settings_burst, SETTINGS_PER_S);
}

static void earn_window_updates(struct sl_h2_police *police, uint64_t n)
{
    police->window_updates_left += n;
    if (police->window_updates_left > max_window_updates) {
        police->window_updates_left = max_window_updates;
    }
}

static void earn_closed(struct sl_h2_police *police, uint64_t n_bytes)
{
    const uint64_t max =
        police->limits->closed_stream + MAX_CUT_OFF * police->limits->stream_window;
    police->closed_left += n_bytes;
    if (police->closed_left > max) {
        police->closed_left = max;
    }
}

void sl_h2_police_stream(struct sl_h2_police *police)
{
    police->n_streams++;
    earn_closed(police, CLOSED_FRAME); /* an RST_STREAM that crosses our end */
    earn_window_updates(police, WINDOW_UPDATES_PER_STREAM);
}

void sl_h2_police_sent(struct sl_h2_police *police, size_t n_bytes, bool is_cut_small)
{
    police->ping.n_strikes = 0;
    police->ping.has_last = false;
    if (n_bytes > 0 && !is_cut_small) {
        earn_window_updates(police, WINDOW_UPDATES_PER_DATA * (1 + n_bytes / DATA_BYTES));
    }
}

const char *sl_h2_police_early_reset(struct sl_h2_police *police, uint64_t now_ns)
{
    return sl_h2_bucket_take(&police->early_resets, now_ns)
               ? NULL
               : over(SL_LIMIT_reset_burst, "rapid_reset");
}

const char *sl_h2_police_own_reset(struct sl_h2_police *police, uint64_t now_ns)
{
    return sl_h2_bucket_take(&police->own_resets, now_ns)
               ? NULL
               : over(SL_LIMIT_own_reset_burst, "own_resets");
}

const char *sl_h2_police_settings(struct sl_h2_police *police, uint64_t now_ns)
{
    return sl_h2_bucket_take(&police->settings, now_ns)
               ? NULL
               : over(SL_LIMIT_settings_burst, "settings_flood");
}

const char *sl_h2_police_ping(struct sl_h2_police *police, uint64_t now_ns, bool has_calls)
{
    const uint64_t gap_ns = has_calls || police->allow_pings_without_calls
                                ? police->limits->ping_interval * ns_per_ms
                                : ping_gap_without_calls_ns;
    if (!police->ping.has_last || now_ns - police->ping.last_ns >= gap_ns) {
        police->ping.has_last = true;
        police->ping.last_ns = now_ns;
        return NULL;
    }
    police->ping.n_strikes++;
    return police->ping.n_strikes > MAX_PING_STRIKES
               ? over(SL_LIMIT_ping_interval, sl_h2_fault_pings)
               : NULL;
}

/* nghttp2 takes any number of them in silence. */
static const char *count_useless(struct sl_h2_police *police)
{
    police->n_useless++;
    return police->n_useless / (police->n_streams + 1) >= police->limits->unknown_frames
               ? over(SL_LIMIT_unknown_frames, "useless_frames")
               : NULL;
}

void sl_h2_police_ping_sent(struct sl_h2_police *police)
{
    police->n_pings_out++;
}

const char *sl_h2_police_ping_ack(struct sl_h2_police *police)
{
    if (police->n_pings_out == 0) {
        return count_useless(police);
    }
    police->n_pings_out--;
    return NULL;
}

const char *sl_h2_police_goaway(struct sl_h2_police *police)
{
    return count_useless(police);
}

const char *sl_h2_police_priority(struct sl_h2_police *police)
{
    police->n_priority++;
    const uint64_t max = police->limits->priority_per_stream * (police->n_streams + 1);
    return police->n_priority > max ? over(SL_LIMIT_priority_per_stream, "priority_flood") : NULL;
}

const char *sl_h2_police_window_update(struct sl_h2_police *police)
{
    if (police->window_updates_left == 0) {
        return "window_update_flood";
    }
    police->window_updates_left--;
    return NULL;
}

void sl_h2_police_cut_off(struct sl_h2_police *police)
{
    earn_closed(police, police->limits->stream_window + CLOSED_FRAME);
}

const char *sl_h2_police_closed(struct sl_h2_police *police, size_t n_bytes, bool is_data)
{
    const uint64_t cost = n_bytes + (is_data ? 0 : CLOSED_FRAME);
    if (police->closed_left < cost) {
        return over(SL_LIMIT_closed_stream, "closed_stream");
    }
    police->closed_left -= cost;
    return NULL;
}

/* AT-9. A request may end in an empty frame, so each HEADERS frame earns one. */
static void count_data(struct sl_h2_tracker *tracker, uint32_t n_payload)
{
    tracker->n_data_bytes += n_payload;
    if (n_payload > 0) {
        tracker->n_empty_in_row = 0;
    } else if ((tracker->head[4] & FLAG_END_STREAM) != 0) {
        tracker->n_empty_ends++;
    } else {
        tracker->n_empty_in_row++;
    }
    if (tracker->n_empty_in_row > tracker->max_empty ||
        tracker->n_empty_ends > tracker->n_headers + tracker->max_empty) {
        tracker->over_budget = over(SL_LIMIT_empty_frames, "empty_frames");
    }
}

/* Extensions are allowed, and some clients send one with each request. */
static void count_unknown(struct sl_h2_tracker *tracker)
{
    tracker->n_unknown++;
    if (tracker->n_unknown / (tracker->n_headers + 1) >= tracker->max_unknown) {
        tracker->over_budget = over(SL_LIMIT_unknown_frames, "unknown_frames");
    }
}

static void read_pad(struct sl_h2_tracker *tracker, uint8_t n_pad)
{
    const uint32_t n_left = tracker->skip - 1;
    tracker->wants_pad = false;
    count_data(tracker, n_left > n_pad ? n_left - n_pad : 0);
}

static void begin_frame(struct sl_h2_tracker *tracker)
{
    const uint8_t *head = tracker->head;
    const uint8_t type = head[3];
    tracker->skip = (uint32_t)head[0] << 16 | (uint32_t)head[1] << 8 | head[2];
    tracker->is_headers =
        type == FRAME_HEADERS || type == FRAME_PUSH_PROMISE || type == FRAME_CONTINUATION;
    tracker->has_end_headers = (head[4] & FLAG_END_HEADERS) != 0;
    tracker->n_head = 0;
    tracker->n_frames++;
    tracker->n_headers += type == FRAME_HEADERS;
    tracker->is_data = type == FRAME_DATA;
    tracker->wants_pad = type == FRAME_DATA && (head[4] & FLAG_PADDED) != 0 && tracker->skip > 0;
    if (type == FRAME_DATA && !tracker->wants_pad) {
        count_data(tracker, tracker->skip);
    } else if (type > FRAME_CONTINUATION) {
        count_unknown(tracker);
    }
}

size_t sl_h2_tracker_feed(struct sl_h2_tracker *tracker, struct sl_slice bytes)
{
    size_t at = 0;
    while (at < bytes.size && tracker->over_budget == NULL) {
        if (tracker->skip > 0) {
            if (tracker->wants_pad) {
                read_pad(tracker, bytes.data[at]);
            }
            const size_t left = bytes.size - at;
            const size_t n = left < tracker->skip ? left : tracker->skip;
            tracker->skip -= (uint32_t)n;
            at += n;
        } else {
            tracker->head[tracker->n_head++] = bytes.data[at++];
            if (tracker->n_head == sizeof(tracker->head)) {
                begin_frame(tracker);
            }
        }
    }
    return at;
}

uint64_t sl_h2_tracker_data_bytes(const struct sl_h2_tracker *tracker)
{
    const uint64_t missing = tracker->is_data ? tracker->skip : 0;
    return tracker->n_data_bytes > missing ? tracker->n_data_bytes - missing : 0;
}

bool sl_h2_tracker_in_headers(const struct sl_h2_tracker *tracker)
{
    return tracker->is_headers && (!tracker->has_end_headers || tracker->skip > 0);
}

size_t sl_h2_tracker_open_head(const struct sl_h2_tracker *tracker)
{
    return tracker->is_headers && !tracker->has_end_headers ? tracker->n_head : 0;
}
