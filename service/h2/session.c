#include <assert.h>
#include <malloc.h>

#include "service/h2/h2.h"
#include "service/h2/session_impl.h"

enum {
    MAGIC_BYTES = 24,    /* the client's preface */
    NG_RESETS = 1 << 30, /* NG-1: out of reach, for the decision is ours (AT-1, police.h) */
    MAX_CONTINUATIONS = 8,
    PING_BYTES = 8,
    GOAWAY_PAYLOAD = 8,
    FRAME_GOAWAY = 7
};

/* ---- Memory of nghttp2, counted -------------------------------------------------------------- */

static bool is_reserved(const struct sl_h2_session *session, const void *block)
{
    return session->reserve != NULL && sl_reserve_has(session->reserve, block);
}

static size_t size_of(const struct sl_h2_session *session, void *block)
{
    return is_reserved(session, block) ? sl_reserve_size(block) : malloc_usable_size(block);
}

/* NG-21: what comes in may not use up what the ends need. */
static void *from_reserve(struct sl_h2_session *session, size_t size)
{
    const size_t keep = session->is_receiving ? SL_RESERVE_FOR_ENDS : 0;
    return session->reserve == NULL ? NULL : sl_reserve_alloc(session->reserve, size, keep);
}

static void *ng_malloc(size_t size, void *user)
{
    struct sl_h2_session *session = user;
    void *block = sl_alloc(size);
    if (block == NULL) {
        block = from_reserve(session, size);
    }
    session->stats.memory_bytes += size_of(session, block);
    return block;
}

static void ng_free(void *block, void *user)
{
    struct sl_h2_session *session = user;
    session->stats.memory_bytes -= size_of(session, block);
    if (is_reserved(session, block)) {
        sl_reserve_free(session->reserve, block);
    } else {
        (void)sl_free(block);
    }
}

static void *ng_calloc(size_t n, size_t size, void *user)
{
    struct sl_h2_session *session = user;
    void *block = sl_calloc(n, size);
    if (block == NULL && (block = from_reserve(session, n * size)) != NULL) {
        memset(block, 0, n * size);
    }
    session->stats.memory_bytes += size_of(session, block);
    return block;
}

static void *ng_realloc(void *block, size_t size, void *user)
{
    struct sl_h2_session *session = user;
    const size_t old_bytes = size_of(session, block);
    void *moved = is_reserved(session, block) ? NULL : sl_realloc(block, size);
    if (moved != NULL) {
        session->stats.memory_bytes -= old_bytes;
        session->stats.memory_bytes += size_of(session, moved);
        return moved;
    }
    moved = ng_malloc(size, user);
    if (moved != NULL && block != NULL) {
        memcpy(moved, block, old_bytes < size ? old_bytes : size);
        ng_free(block, user);
    }
    return moved;
}

/* ---- Life ------------------------------------------------------------------------------------ */

static nghttp2_option *new_option(void)
{
    nghttp2_option *option = NULL;
    if (nghttp2_option_new(&option) != 0) {
        return NULL;
    }
    nghttp2_option_set_no_auto_window_update(option, 1);
    nghttp2_option_set_no_auto_ping_ack(option, 1);
    nghttp2_option_set_stream_reset_rate_limit(option, NG_RESETS, NG_RESETS);
    nghttp2_option_set_max_continuations(
        option, MAX_CONTINUATIONS); /* NG-15: or it must not build */
    nghttp2_option_set_no_rfc9113_leading_and_trailing_ws_validation(option, 1); /* MD-3 */
    return option;
}

static int new_ng(struct sl_h2_session *session)
{
    nghttp2_mem memory = { .mem_user_data = session,
                           .malloc = ng_malloc,
                           .free = ng_free,
                           .calloc = ng_calloc,
                           .realloc = ng_realloc };
    nghttp2_option *option = new_option();
    nghttp2_session_callbacks *callbacks = NULL;
    int rv = NGHTTP2_ERR_NOMEM;
    if (option != NULL && nghttp2_session_callbacks_new(&callbacks) == 0) {
        sl_h2_receive_callbacks(callbacks);
        sl_h2_send_callbacks(callbacks);
        rv = session->is_client
                 ? nghttp2_session_client_new3(&session->ng, callbacks, session, option, &memory)
                 : nghttp2_session_server_new3(&session->ng, callbacks, session, option, &memory);
    }
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_option_del(option);
    return rv;
}

static uint32_t as_u32(uint64_t value)
{
    return value > INT32_MAX ? INT32_MAX : (uint32_t)value;
}

static int submit_settings(struct sl_h2_session *session)
{
    const struct sl_limits *limits = session->limits;
    const nghttp2_settings_entry entries[] = {
        { NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, as_u32(limits->stream_window) },
        { NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, as_u32(limits->header_list_soft) },
        session->is_client ? (nghttp2_settings_entry){ NGHTTP2_SETTINGS_ENABLE_PUSH, 0 }
                           : (nghttp2_settings_entry){ NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                       as_u32(limits->streams_per_connection) },
    };
    const int rv =
        nghttp2_submit_settings(session->ng, NGHTTP2_FLAG_NONE, entries, SL_COUNT(entries));
    return rv != 0
               ? rv
               : nghttp2_session_set_local_window_size(
                     session->ng, NGHTTP2_FLAG_NONE, 0, (int32_t)as_u32(limits->connection_window));
}

enum sl_status sl_h2_session_new(
    const struct sl_h2_options *options,
    const struct sl_h2_callbacks *callbacks,
    void *session_user,
    struct sl_h2_session **ret_session)
{
    struct sl_h2_session *session = sl_calloc(1, sizeof(*session));
    if (session == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    session->callbacks = *callbacks;
    session->user = session_user;
    session->limits = options->limits;
    session->reserve = options->reserve;
    session->is_client = options->is_client;
    session->tracker.max_empty = options->limits->empty_frames;
    session->tracker.max_unknown =
        options->is_client ? UINT64_MAX : options->limits->unknown_frames;
    session->tracker.skip = options->is_client ? 0 : MAGIC_BYTES;
    sl_h2_police_init(&session->police, options->limits, options->allow_pings_without_calls);
    sl_list_init(&session->streams);
    sl_list_init(&session->resumed);
    if ((session->reserve != NULL && sl_reserve_fill(session->reserve) != SL_OK) ||
        new_ng(session) != 0 || submit_settings(session) != 0) {
        (void)sl_h2_session_free(session);
        return SL_RESOURCE_EXHAUSTED;
    }
    *ret_session = session;
    return SL_OK;
}

struct sl_h2_stream *sl_h2_stream_new(struct sl_h2_session *session, int32_t id)
{
    struct sl_h2_stream *stream = sl_calloc(1, sizeof(*stream));
    if (stream != NULL) {
        stream->session = session;
        stream->id = id;
        sl_list_init(&stream->resumed);
        sl_list_add_last(&session->streams, &stream->node);
        session->n_streams++;
    }
    return stream;
}

void sl_h2_stream_close(struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code)
{
    struct sl_h2_session *session = stream->session;
    sl_list_remove(&stream->resumed);
    sl_list_remove(&stream->node);
    session->n_streams--;
    stream->is_reset = true; /* what the owner still calls does nothing */
    session->callbacks.on_closed(session->user, stream, how, code);
    (void)sl_free(stream);
}

static void close_all(struct sl_h2_session *session)
{
    for (struct sl_list *node; (node = sl_list_first(&session->streams)) != NULL;) {
        struct sl_h2_stream *stream = SL_CONTAINER(node, struct sl_h2_stream, node);
        sl_h2_stream_close(stream, SL_H2_CLOSED_LOST, 0);
    }
}

struct sl_h2_session *sl_h2_session_free(struct sl_h2_session *session)
{
    if (session == NULL) {
        return NULL;
    }
    assert(session->depth == 0);
    sl_h2_session_lost(session);
    sl_h2_block_done(&session->block);
    nghttp2_session_del(session->ng);
    return sl_free(session);
}

/* ---- Faults ---------------------------------------------------------------------------------- */

void sl_h2_session_tell(struct sl_h2_session *session)
{
    if (session->depth == 0 && !session->is_output_told) {
        session->is_output_told = true;
        session->callbacks.on_output(session->user);
    }
}

int sl_h2_session_break(struct sl_h2_session *session, const char *fault, uint32_t code)
{
    if (session->fault == NULL) {
        session->fault = fault;
        session->fault_code = code;
        sl_h2_session_tell(session);
    }
    return NGHTTP2_ERR_CALLBACK_FAILURE;
}

static void put_u32(uint8_t *room, uint32_t value)
{
    room[0] = (uint8_t)(value >> 24);
    room[1] = (uint8_t)(value >> 16);
    room[2] = (uint8_t)(value >> 8);
    room[3] = (uint8_t)value;
}

/* A GOAWAY by hand: nghttp2 is not to be used after a fatal error. */
static void write_farewell(struct sl_h2_session *session)
{
    const char *debug =
        session->fault == sl_h2_fault_pings ? "too_many_pings" : session->fault; /* CM-2 */
    uint8_t *room = session->farewell.bytes;
    const size_t max = sizeof(session->farewell.bytes) - SL_H2_FRAME_HEAD - GOAWAY_PAYLOAD;
    const size_t length = strlen(debug);
    const size_t n = length < max ? length : max;
    put_u32(room, (uint32_t)(GOAWAY_PAYLOAD + n) << 8 | FRAME_GOAWAY);
    room[4] = 0;
    put_u32(room + 5, 0);
    put_u32(room + 9, (uint32_t)nghttp2_session_get_last_proc_stream_id(session->ng));
    put_u32(room + 13, session->fault_code);
    memcpy(room + 17, debug, n);
    session->farewell.size = SL_H2_FRAME_HEAD + GOAWAY_PAYLOAD + n;
}

/* The end of a session that failed. Never inside a callback of nghttp2. */
static void end_broken(struct sl_h2_session *session, bool has_farewell)
{
    session->is_over = true;
    if (has_farewell) {
        write_farewell(session);
    }
    close_all(session);
}

static void end_by_error(struct sl_h2_session *session, int error)
{
    switch (error) {
    case NGHTTP2_ERR_BAD_CLIENT_MAGIC: /* perhaps HTTP/1.1: the owner may answer in its words */
        (void)sl_h2_session_break(session, "bad_preface", SL_H2_PROTOCOL_ERROR);
        end_broken(session, false);
        return;
    case NGHTTP2_ERR_FLOODED:
        (void)sl_h2_session_break(session, "control_flood", SL_H2_ENHANCE_YOUR_CALM);
        break;
    case NGHTTP2_ERR_TOO_MANY_CONTINUATIONS:
        (void)sl_h2_session_break(session, "continuation_flood", SL_H2_ENHANCE_YOUR_CALM);
        break;
    case NGHTTP2_ERR_NOMEM:
        (void)sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
        break;
    default:
        (void)sl_h2_session_break(session, "internal_error", SL_H2_INTERNAL_ERROR);
        break;
    }
    end_broken(session, true);
}

/* ---- Bytes in -------------------------------------------------------------------------------- */

/* nghttp2 counts calls, not frames, while it reads the header of a CONTINUATION, so it gets that
 * header whole: what has come of one stays with the tracker (AT-4). */
static ssize_t receive(struct sl_h2_session *session, struct sl_slice bytes)
{
    uint8_t head[SL_H2_FRAME_HEAD];
    const size_t n_kept = sl_h2_tracker_open_head(&session->tracker);
    const size_t n_missing = n_kept > 0 ? sizeof(head) - n_kept : 0;
    memcpy(head, session->tracker.head, n_kept);
    const size_t n_taken = sl_h2_tracker_feed(&session->tracker, bytes);
    if (n_taken < n_missing) {
        return 0;
    }
    if (n_kept > 0) {
        memcpy(head + n_kept, bytes.data, n_missing);
        const ssize_t rv = nghttp2_session_mem_recv(session->ng, head, sizeof(head));
        if (rv < 0) {
            return rv;
        }
    }
    const size_t n = n_taken - n_missing - sl_h2_tracker_open_head(&session->tracker);
    return n == 0 ? 0 : nghttp2_session_mem_recv(session->ng, bytes.data + n_missing, n);
}

/* nghttp2 drops DATA of streams that are over without a word: it is what came and nobody got. */
static void police_dropped_data(struct sl_h2_session *session)
{
    const uint64_t came = sl_h2_tracker_data_bytes(&session->tracker);
    const uint64_t known = session->n_data_taken + session->n_data_dropped;
    if (session->is_client || came <= known) {
        return;
    }
    session->n_data_dropped += came - known;
    const char *budget = sl_h2_police_closed(&session->police, came - known, true);
    if (budget != NULL) {
        (void)sl_h2_session_break(session, budget, SL_H2_ENHANCE_YOUR_CALM);
    }
}

enum sl_status sl_h2_session_feed(
    struct sl_h2_session *session, struct sl_slice bytes, uint64_t now_ns, struct sl_error *err)
{
    session->now_ns = now_ns;
    if (!session->is_over && bytes.size > 0) {
        session->stats.bytes_in += bytes.size;
        session->depth++;
        session->is_receiving = true;
        const ssize_t rv = receive(session, bytes);
        session->is_receiving = false;
        police_dropped_data(session);
        if (session->tracker.over_budget != NULL) {
            (void)sl_h2_session_break(
                session, session->tracker.over_budget, SL_H2_ENHANCE_YOUR_CALM);
        }
        if (rv < 0) {
            end_by_error(session, (int)rv);
        } else if (session->fault != NULL && !session->is_terminated) {
            end_broken(session, true);
        }
        session->depth--;
    }
    if (session->is_over) {
        return sl_fail(
            err, SL_UNAVAILABLE, "the HTTP/2 connection is over: %s",
            session->fault == NULL ? "lost" : session->fault);
    }
    return SL_OK;
}

/* ---- Bytes out ------------------------------------------------------------------------------- */

static size_t copy_out(struct sl_h2_session *session, const uint8_t *data, size_t size)
{
    const size_t left = session->room.size - session->room.used;
    const size_t n = size < left ? size : left;
    if (n > 0) {
        memcpy(session->room.data + session->room.used, data, n);
        session->room.used += n;
    }
    return n;
}

static void flush_pending(struct sl_h2_session *session)
{
    const size_t n = copy_out(session, session->pending.data, session->pending.size);
    session->pending.data += n;
    session->pending.size -= n;
}

/* Fills the room; 0 or nghttp2's error. */
static int run(struct sl_h2_session *session)
{
    bool is_dry = true; /* nghttp2 has nothing to send */
    while (session->pending.size == 0 && !session->room.is_full) {
        const int rv = sl_h2_send_resumed(session, is_dry);
        if (rv != 0) {
            return rv;
        }
        const uint8_t *data = NULL;
        const ssize_t n = nghttp2_session_mem_send(session->ng, &data);
        if (n < 0) {
            return (int)n;
        }
        is_dry = n == 0;
        if (n > 0) {
            session->pending = sl_slice_of(data, (size_t)n);
            flush_pending(session);
        } else if (sl_list_is_empty(&session->resumed)) {
            return 0;
        }
    }
    return 0;
}

static void pull_from_ng(struct sl_h2_session *session)
{
    if (session->fault != NULL && !session->is_terminated) {
        end_broken(session, true);
        return;
    }
    const int rv = run(session);
    if (rv != 0) {
        end_by_error(session, rv);
    } else if (session->is_terminated) {
        end_broken(session, false); /* nghttp2 has written the GOAWAY */
    } else if (session->fault != NULL) {
        end_broken(session, true);
    }
}

size_t
sl_h2_session_pull(struct sl_h2_session *session, uint8_t *room, size_t room_bytes, uint64_t now_ns)
{
    session->now_ns = now_ns;
    session->is_output_told = false;
    session->room.data = room;
    session->room.size = room_bytes;
    session->room.used = 0;
    session->room.is_full = false;
    session->depth++;
    if (session->pending.size > 0) {
        flush_pending(session);
    }
    if (!session->is_over && session->pending.size == 0) {
        pull_from_ng(session);
    }
    if (session->is_over && session->pending.size == 0) {
        session->farewell.sent += copy_out(
            session, session->farewell.bytes + session->farewell.sent,
            session->farewell.size - session->farewell.sent);
    }
    session->depth--;
    session->stats.bytes_out += session->room.used;
    return session->room.used;
}

bool sl_h2_session_wants_close(const struct sl_h2_session *session)
{
    if (session->pending.size > 0) {
        return false;
    }
    if (session->is_over) {
        return session->farewell.sent == session->farewell.size;
    }
    return session->fault == NULL && sl_list_is_empty(&session->resumed) &&
           nghttp2_session_want_read(session->ng) == 0 &&
           nghttp2_session_want_write(session->ng) == 0;
}

/* ---- State ----------------------------------------------------------------------------------- */

const char *sl_h2_session_fault(const struct sl_h2_session *session)
{
    return session->fault;
}

void sl_h2_session_stats(const struct sl_h2_session *session, struct sl_h2_stats *ret_stats)
{
    *ret_stats = session->stats;
    ret_stats->frames_in = session->tracker.n_frames;
    ret_stats->memory_bytes += sizeof(*session) + session->n_streams * sizeof(struct sl_h2_stream);
}

size_t sl_h2_session_n_streams(const struct sl_h2_session *session)
{
    return session->n_streams;
}

size_t sl_h2_session_n_queued(const struct sl_h2_session *session)
{
    return session->is_over ? 0 : nghttp2_session_get_outbound_queue_size(session->ng);
}

bool sl_h2_session_is_ready(const struct sl_h2_session *session)
{
    return session->is_ready;
}

bool sl_h2_session_in_headers(const struct sl_h2_session *session)
{
    return sl_h2_tracker_in_headers(&session->tracker);
}

uint64_t sl_h2_session_n_header_blocks(const struct sl_h2_session *session)
{
    return session->tracker.n_headers;
}

size_t sl_h2_session_header_room(const struct sl_h2_session *session)
{
    const uint32_t peers =
        nghttp2_session_get_remote_settings(session->ng, NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE);
    return peers < SL_H2_LIST_MAX ? peers : SL_H2_LIST_MAX;
}

int32_t sl_h2_session_send_window(const struct sl_h2_session *session)
{
    return session->is_over ? 0 : nghttp2_session_get_remote_window_size(session->ng);
}

/* ---- Control --------------------------------------------------------------------------------- */

void sl_h2_session_lost(struct sl_h2_session *session)
{
    session->is_over = true;
    session->pending.size = 0;
    session->farewell.sent = session->farewell.size;
    close_all(session);
}

void sl_h2_session_consume(struct sl_h2_session *session, size_t n)
{
    if (session->is_over || n == 0) {
        return;
    }
    if (nghttp2_session_consume_connection(session->ng, n) != 0) {
        (void)sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
    }
    sl_h2_session_tell(session);
}

int sl_h2_session_submit_ping(struct sl_h2_session *session, uint64_t payload)
{
    uint8_t bytes[PING_BYTES];
    put_u32(bytes, (uint32_t)(payload >> 32));
    put_u32(bytes + 4, (uint32_t)payload);
    return nghttp2_submit_ping(session->ng, NGHTTP2_FLAG_NONE, bytes);
}

enum sl_status sl_h2_session_ping(struct sl_h2_session *session, uint64_t payload)
{
    if (session->is_over) {
        return SL_UNAVAILABLE;
    }
    if (session->n_goaways > 0 && !session->has_held_ping) {
        session->held_ping = payload;
        session->has_held_ping = true;
        return SL_OK;
    }
    if (sl_h2_session_submit_ping(session, payload) != 0) {
        return SL_RESOURCE_EXHAUSTED;
    }
    sl_h2_session_tell(session);
    return SL_OK;
}

void sl_h2_session_goaway(
    struct sl_h2_session *session, bool last_is_max, enum sl_h2_code code, const char *debug)
{
    if (session->is_over) {
        return;
    }
    const struct sl_slice text = sl_slice_str(debug);
    const int rv = last_is_max && !session->is_client
                       ? nghttp2_submit_shutdown_notice(session->ng)
                       : nghttp2_submit_goaway(
                             session->ng, NGHTTP2_FLAG_NONE,
                             nghttp2_session_get_last_proc_stream_id(session->ng), (uint32_t)code,
                             text.data, text.size);
    if (rv != 0) {
        (void)sl_h2_session_break(session, "no_memory", SL_H2_INTERNAL_ERROR);
        return;
    }
    session->n_goaways++;
    sl_h2_session_tell(session);
}
