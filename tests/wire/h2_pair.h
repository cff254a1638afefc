/* HTTP/2 sessions for tests, without sockets: two joined in memory, or one that is fed hand-made
 * frames. Each side writes what its callbacks see as lines of text, which tests compare. */
#ifndef SL_TESTS_WIRE_H2_PAIR_H
#define SL_TESTS_WIRE_H2_PAIR_H

#include "service/h2/h2.h"

enum { H2_TRANSCRIPT_BYTES = 1 << 16, H2_ROOM_BYTES = 1 << 17, H2_STREAMS = 64 };

/* A body over a block of bytes that the test can lengthen and end. */
struct h2_body {
    struct sl_h2_body base;
    const uint8_t *data;
    size_t size; /* may be sent */
    size_t sent;
    size_t piece;  /* never more than this at once; 0: any */
    bool is_ended; /* the body ends at `size` */
    const struct sl_h2_header *trailers;
    size_t n_trailers;
    size_t n_asked;
};

void h2_body_init(struct h2_body *body, const void *data, size_t size, bool is_ended);

struct h2_side {
    struct sl_h2_session *session;
    struct sl_limits limits;
    uint64_t now_ns;
    char transcript[H2_TRANSCRIPT_BYTES];
    size_t n_transcript;
    int32_t last_data_id;
    bool is_silent;    /* writes no lines, only counts */
    bool keeps_credit; /* does not give received bytes back */
    size_t n_headers, n_data_bytes, n_ends, n_closed, n_lost, n_output;
    struct sl_h2_stream *streams[H2_STREAMS]; /* in the order of opening; NULL when closed */
    size_t n_streams;
    void (*on_request)(struct h2_side *side, struct sl_h2_stream *stream);
    void (*on_data)(struct h2_side *side, struct sl_h2_stream *stream, struct sl_slice bytes);
    void (*on_closed)(struct h2_side *side, struct sl_h2_stream *stream);
    uint8_t room[H2_ROOM_BYTES];
};

/* Aborts the test program when there is no memory. Change `side->limits` before h2_side_start(). */
struct h2_side *h2_side_new(void);
void h2_side_start(struct h2_side *side, bool is_client);
void h2_side_free(struct h2_side *side);
/* Pulls once and forgets the bytes; gives their number (in side->room). */
size_t h2_side_pull(struct h2_side *side);
enum sl_status h2_side_feed(struct h2_side *side, const void *bytes, size_t size);
/* Carries bytes both ways until there are none, at most `step` at a time (0: all). */
void h2_pump(struct h2_side *a, struct h2_side *b, size_t step);
/* The lines so far; cleared. */
const char *h2_transcript(struct h2_side *side);

/* ---- Hand-made frames ------------------------------------------------------------------------ */

struct h2_wire {
    uint8_t bytes[1 << 20];
    size_t size;
};

void h2_wire_clear(struct h2_wire *wire);
void h2_wire_raw(struct h2_wire *wire, const void *bytes, size_t size);
void h2_wire_magic(struct h2_wire *wire);
void h2_wire_frame(
    struct h2_wire *wire, uint8_t type, uint8_t flags, uint32_t id, const void *bytes, size_t size);
/* One HPACK field, literal without indexing, names and values under 127 bytes; gives the size. */
size_t h2_hpack(uint8_t *room, const char *name, const char *value);
/* HEADERS of a gRPC request with END_HEADERS. */
void h2_wire_request(struct h2_wire *wire, uint32_t id, bool is_end);
void h2_wire_reset(struct h2_wire *wire, uint32_t id, uint32_t code);
/* Preface and empty SETTINGS, fed; what the server says is pulled. */
void h2_side_greet(struct h2_side *side);
/* Feeds the wire and clears it. */
enum sl_status h2_side_feed_wire(struct h2_side *side, struct h2_wire *wire);
/* The first frame of this type in what was pulled last: its payload; NULL: none. */
const uint8_t *h2_find_frame(const uint8_t *bytes, size_t size, uint8_t type, size_t *ret_size);
size_t h2_count_frames(const uint8_t *bytes, size_t size, uint8_t type);

#endif
