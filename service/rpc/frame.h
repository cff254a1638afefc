/* gRPC's message framing (grpc.md 2.2): DATA bytes in any split in, whole messages out, without
 * I/O.
 *
 *   flag (1) | length (4, big-endian) | payload        the flag says that the payload is compressed
 *
 * The reader holds one message at a time. What arrives behind it waits undecoded, and is not given
 * back to flow control before somebody asks for the next message: that is the backpressure of a
 * stream. A declared length is never allocated in advance; memory grows with the bytes that came.
 */
#ifndef SL_SERVICE_RPC_FRAME_H
#define SL_SERVICE_RPC_FRAME_H

#include "runtime/base/buf.h"
#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/rpc/compress.h"

enum { SL_FRAME_PREFIX_BYTES = 5, SL_FRAME_ENCODING_BYTES = 32 };

/* Writes the 5 bytes before a message of `size` bytes. */
static inline void sl_frame_write_prefix(uint8_t *room, bool is_compressed, uint32_t size)
{
    room[0] = is_compressed ? 1 : 0;
    room[1] = (uint8_t)(size >> 24);
    room[2] = (uint8_t)(size >> 16);
    room[3] = (uint8_t)(size >> 8);
    room[4] = (uint8_t)size;
}

/* Embedded in a call; fields are private. */
struct sl_frame_reader {
    size_t max_bytes;
    enum sl_encoding encoding;
    char encoding_name[SL_FRAME_ENCODING_BYTES]; /* for the text of a refusal; cut when longer */
    uint8_t prefix[SL_FRAME_PREFIX_BYTES];
    uint8_t n_prefix;
    uint32_t declared;     /* of the message being assembled */
    struct sl_buf message; /* being assembled, or held by the user */
    struct sl_buf plain;   /* the held message after decompression */
    struct sl_buf pending; /* bytes that came behind the held message */
    size_t pending_at;     /* how far they are used up */
    size_t credit;
    size_t n_counted; /* the owner's: of its bytes, in an account */
    bool is_held;     /* `message` was given to the user */
    bool is_ended;    /* END_STREAM */
    enum sl_status fault;
    struct sl_error error; /* of the fault */
};

/* `max_bytes`: limit of one message, inclusive, also after decompression (FR-3, FR-4). Allocates
 * nothing. */
void sl_frame_reader_init(struct sl_frame_reader *reader, size_t max_bytes);
/* The peer's grpc-encoding; without one, compressed messages are refused (FR-2). An unknown name is
 * refused with UNIMPLEMENTED when the first compressed message comes (a server's: ADM-15 is
 * earlier). */
void sl_frame_reader_set_encoding(struct sl_frame_reader *reader, struct sl_slice name);
/* Takes all bytes of one DATA frame. A fault shows in _status() and _next(); bytes behind it are
 * thrown away (and credited). Never fails: no memory is a fault, too (RESOURCE_EXHAUSTED). */
void sl_frame_reader_feed(struct sl_frame_reader *reader, struct sl_slice bytes);
/* END_STREAM came: no more bytes follow. */
void sl_frame_reader_end(struct sl_frame_reader *reader);
/* What _next() would give, but for a fault that only decompression finds. Cheap. */
enum sl_status sl_frame_reader_status(const struct sl_frame_reader *reader);
/* Gives the next message, valid until the next _next(), _take() or _done(), also across feeds.
 * SL_OK; SL_AGAIN not complete yet; SL_END ended at a border (FR-5: an empty message is SL_OK).
 * Fails, for ever then: SL_INTERNAL flag, compressed data, end inside a message (FR-2, FR-4, FR-6);
 * SL_RESOURCE_EXHAUSTED size or memory (FR-3, FR-4); SL_UNIMPLEMENTED the encoding. */
SL_CHECK enum sl_status sl_frame_reader_next(
    struct sl_frame_reader *reader, struct sl_slice *ret_message, struct sl_error *err);
/* True when the held message came compressed. */
static inline bool sl_frame_reader_is_compressed(const struct sl_frame_reader *reader)
{
    return reader->is_held && reader->prefix[0] == 1;
}
/* Bytes behind the held message: more than 0 is a second message or the beginning of one (FR-7). */
size_t sl_frame_reader_n_unread(const struct sl_frame_reader *reader);
/* All that it holds, in bytes. */
static inline size_t sl_frame_reader_n_held(const struct sl_frame_reader *reader)
{
    return reader->message.size + reader->plain.size + reader->pending.size;
}
/* True while a message has begun and is not complete: the timer for silence inside a message. */
bool sl_frame_reader_is_inside(const struct sl_frame_reader *reader);
/* Received bytes that are to be given back to flow control now; 0 until more are (FC-1). Ask after
 * each feed and each next. */
size_t sl_frame_reader_take_credit(struct sl_frame_reader *reader);
/* Gives the held message's memory away; the slice of _next() stays valid with it. The caller ends
 * it with sl_buf_done(). */
struct sl_buf sl_frame_reader_take(struct sl_frame_reader *reader);
/* Releases everything. Bytes that were never credited are the caller's to give back:
 * _take_credit() afterwards gives them. */
void sl_frame_reader_done(struct sl_frame_reader *reader);

#endif
