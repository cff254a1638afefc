/* Packs StreamEvents into the log of a run: 5-byte gRPC prefix, then the message, straight into the
 * room that the log reserves. Text is packed by hand, because it is nearly all there is; the rest
 * by protobuf-c. Both give the same bytes for the same event. */
#ifndef SL_RUNTIME_EXEC_ENCODE_H
#define SL_RUNTIME_EXEC_ENCODE_H

#include "proto/sluice/v1/events.pb-c.h"
#include "runtime/base/buf.h"
#include "runtime/base/event_channel.h"
#include "runtime/base/mem.h"

/* The generated names, shorter. */
#define SL_CODE(name)          SLUICE__V1__ERROR_CODE__ERROR_CODE_##name
#define SL_CANCEL_REASON(name) SLUICE__V1__CANCEL_REASON__CANCEL_REASON_##name
#define SL_STOP_REASON(name)   SLUICE__V1__STOP_REASON__STOP_REASON_##name
#define SL_DISCONNECT(name)    SLUICE__V1__ON_DISCONNECT__ON_DISCONNECT_##name
#define SL_EVENT(name)         SLUICE__V1__STREAM_EVENT__EVENT_##name

/* For strings of generated structs: they are not const, and packing does not write to them. */
static inline char *sl_pb_text(const char *text)
{
    return sl_unconst(text);
}

enum sl_encode_text { SL_ENCODE_TEXT_DELTA, SL_ENCODE_THINKING };

/* What became of an event. */
struct sl_encoded {
    size_t size_bytes; /* in the log, prefix included */
    bool is_full;      /* the foreground reader is over its mark */
};

/* Appends a TextDelta or Thinking. `text` is clean UTF-8 and not empty. Thread: the channel's.
 * Fails: as sl_event_channel_reserve. */
SL_CHECK enum sl_status sl_encode_text(
    struct sl_event_channel *channel,
    enum sl_encode_text kind,
    uint64_t wall_ms,
    struct sl_slice text,
    struct sl_encoded *ret_encoded);

/* Appends any event; its sequence and time are filled in here. Strings are clean UTF-8. Thread: the
 * channel's. Fails: as sl_event_channel_reserve. */
SL_CHECK enum sl_status sl_encode_event(
    struct sl_event_channel *channel,
    uint64_t wall_ms,
    Sluice__V1__StreamEvent *event,
    struct sl_encoded *ret_encoded);

/* Packs a terminal event that is in no log, with its prefix, into a segment of its own; it has no
 * sequence. NULL: no memory. Owns: the caller. Thread: any. */
SL_CHECK struct sl_segment *sl_encode_tail(uint64_t wall_ms, Sluice__V1__StreamEvent *event);
/* A copy of it that has a sequence, for a log. */
SL_CHECK struct sl_segment *sl_encode_numbered(const struct sl_segment *tail, uint64_t sequence);
/* Packs any event behind what `out` has, with its prefix; sequence and time are the caller's.
 * Strings are clean UTF-8. Thread: any. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_encode_into(struct sl_buf *out, const Sluice__V1__StreamEvent *event);

/* The text inside an event that sl_encode_text packed, with or without its prefix; false: it is
 * another event. */
bool sl_encode_text_of(
    struct sl_slice event, enum sl_encode_text *ret_kind, struct sl_slice *ret_text);

#endif
