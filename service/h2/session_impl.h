/* The insides of a session, shared by the files of this room.
 *
 *   session.c  life, feed, pull      receive.c  nghttp2's callbacks of frames that come
 *   stream.c   what owners call      send.c     nghttp2's callbacks of frames that go */
#ifndef SL_SERVICE_H2_SESSION_IMPL_H
#define SL_SERVICE_H2_SESSION_IMPL_H

#include <nghttp2/nghttp2.h>

#include "runtime/base/list.h"
#include "service/h2/h2.h"
#include "service/h2/police.h"

enum {
    SL_H2_FRAME_HEAD = 9,
    SL_H2_DATA_MAX = 16384, /* more per frame buys nothing, and would make others wait (FC-8) */
    SL_H2_DATA_SMALL = 64, /* a frame that the peer's window cut below this earns nothing (AT-11) */
    SL_H2_ROOM_MIN = 1024, /* no DATA frame is begun in less room */
    SL_H2_LIST_MAX = 65000 /* nghttp2 refuses a block whose bound is over 64 KiB (NG-11) */
};

/* The header block that is arriving. */
struct sl_h2_block {
    struct sl_h2_header *fields;
    nghttp2_rcbuf **refs; /* name and value of each field */
    size_t capacity;
    size_t n_kept;
    size_t n_seen;
    size_t list_bytes;
    bool is_over_soft;
    bool is_refused; /* there is no memory for a new stream: nothing is kept */
};

struct sl_h2_session {
    nghttp2_session *ng;
    struct sl_h2_callbacks callbacks;
    void *user;
    const struct sl_limits *limits;
    struct sl_reserve *reserve; /* NULL: none */
    bool is_client;
    bool is_receiving; /* inside nghttp2_session_mem_recv() */
    struct sl_h2_police police;
    struct sl_h2_tracker tracker;
    struct sl_list streams;
    struct sl_list resumed; /* streams whose body must be asked again */
    size_t n_streams;
    int32_t last_id;         /* server: of the newest request */
    uint64_t n_data_taken;   /* bytes of DATA that an owner got */
    uint64_t n_data_dropped; /* … that came for streams that are over */
    uint64_t now_ns;
    struct sl_h2_stats stats;
    struct sl_h2_block block;
    struct { /* of the pull that runs */
        uint8_t *data;
        size_t size, used;
        bool is_full;
    } room;
    struct sl_slice pending; /* the rest of a frame that did not fit; nghttp2's memory */
    struct {                 /* the last words of a session that failed */
        uint8_t bytes[64];
        size_t size, sent;
    } farewell;
    const char *fault;
    uint32_t fault_code;
    uint32_t n_goaways; /* ours that are queued */
    uint64_t held_ping; /* goes behind them: nghttp2 would send it first */
    bool has_held_ping;
    uint32_t depth;     /* > 0: inside feed or pull */
    bool is_over;       /* nghttp2 is not called any more */
    bool is_terminated; /* nghttp2 ended the session itself and has said so */
    bool is_ready;
    bool is_output_told;
};

struct sl_h2_stream {
    struct sl_h2_session *session;
    struct sl_list node;
    struct sl_list resumed;
    struct sl_h2_body *body;
    void *user;
    int32_t id;
    uint32_t close_code;
    enum sl_h2_close how;
    bool has_how : 1;
    bool is_responded : 1; /* HEADERS submitted */
    bool is_headers_sent : 1;
    bool has_item : 1;     /* nghttp2 has a DATA item of this stream */
    bool is_deferred : 1;  /* … which waits for sl_h2_stream_resume() */
    bool has_sent : 1;     /* a frame since it was armed */
    bool is_body_over : 1; /* the body is not asked any more */
    bool is_data_sent : 1;
    bool is_cut_small : 1;
    bool is_end_sent : 1;
    bool is_half_closed : 1; /* by the peer */
    bool is_reset : 1;       /* by us; only on_closed follows */
    bool is_over_hard : 1;   /* a header block was over the hard limits */
};

/* ---- session.c ------------------------------------------------------------------------------- */

/* Names the fault, the first one counts; gives what a callback of nghttp2 returns to end
 * everything. */
int sl_h2_session_break(struct sl_h2_session *session, const char *fault, uint32_t code);
/* on_output, unless feed or pull runs or the owner knows already. */
void sl_h2_session_tell(struct sl_h2_session *session);
/* nghttp2's result. */
int sl_h2_session_submit_ping(struct sl_h2_session *session, uint64_t payload);
/* NULL: no memory. */
struct sl_h2_stream *sl_h2_stream_new(struct sl_h2_session *session, int32_t id);
void sl_h2_stream_close(struct sl_h2_stream *stream, enum sl_h2_close how, uint32_t code);
/* RST_STREAM, after which only on_closed follows. */
int sl_h2_stream_refuse(struct sl_h2_stream *stream, uint32_t code);

/* ---- receive.c, send.c ----------------------------------------------------------------------- */

void sl_h2_receive_callbacks(nghttp2_session_callbacks *callbacks);
void sl_h2_send_callbacks(nghttp2_session_callbacks *callbacks);
void sl_h2_block_done(struct sl_h2_block *block);
/* Asks the bodies of resumed streams and gives nghttp2 a DATA item where there is something. */
int sl_h2_send_resumed(struct sl_h2_session *session, bool is_dry);
/* Fields to nghttp2's form; `is_copied`: nghttp2 makes copies. Ends with sl_h2_fields_done(). */
struct sl_h2_fields {
    nghttp2_nv *nva;
    size_t n;
    nghttp2_nv few[24];
};
SL_CHECK enum sl_status sl_h2_fields_init(
    struct sl_h2_fields *list,
    struct sl_h2_session *session,
    const struct sl_h2_header *fields,
    size_t n_fields,
    bool is_copied);
void sl_h2_fields_done(struct sl_h2_fields *list);

#endif
