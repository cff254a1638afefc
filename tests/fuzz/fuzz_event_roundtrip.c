/* Property: an event that protobuf-c can read is appended to a log with another sequence and time,
 * read from there, and is the same again but for those two. If it is text, the hand packer gives
 * the same bytes, and finds the text in them. Whatever the input is, looking for text in it stays
 * inside, and finds what protobuf-c finds. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/utf8.h"
#include "runtime/exec/encode.h"
#include "runtime/exec/order.h"
#include "tests/fake/fake_loop.h"
#include "tests/fuzz/fuzz.h"

enum { WALL_MS = 1234567 };

static bool keep(void *user_data, uint64_t sequence, struct sl_slice event)
{
    (void)sequence;
    *(struct sl_slice *)user_data = event;
    return true;
}

static struct sl_slice last_of(struct sl_event_channel *channel)
{
    struct sl_slice last = sl_slice_of(NULL, 0);
    const uint64_t sequence = sl_event_channel_last_sequence(channel);
    sl_event_channel_visit(channel, sequence, sequence, keep, &last);
    return last;
}

static struct sl_event_channel *open_channel(struct sl_loop *loop)
{
    const struct sl_event_channel_options options = { .mark_bytes = 65536,
                                                      .mark_events = 100,
                                                      .window_bytes = 65536 };
    struct sl_event_channel *channel = NULL;
    if (sl_event_channel_new(loop, &options, &channel) != SL_OK) {
        abort();
    }
    return channel;
}

/* The text of an event of one of the two kinds; NULL: another one, or not clean, or empty. */
static const char *text_of(const Sluice__V1__StreamEvent *event, enum sl_encode_text *ret_kind)
{
    const char *text = NULL;
    if (event->event_case == SL_EVENT(TEXT_DELTA)) {
        *ret_kind = SL_ENCODE_TEXT_DELTA;
        text = event->text_delta->delta;
    } else if (event->event_case == SL_EVENT(THINKING)) {
        *ret_kind = SL_ENCODE_THINKING;
        text = event->thinking->content;
    }
    const bool is_text = text != NULL && text[0] != '\0' && sl_utf8_is_clean(sl_slice_str(text));
    return is_text ? text : NULL;
}

static void check_text(
    struct sl_loop *loop, const char *text, enum sl_encode_text kind, struct sl_slice expected)
{
    struct sl_event_channel *channel = open_channel(loop);
    struct sl_encoded encoded;
    enum sl_encode_text found_kind = SL_ENCODE_TEXT_DELTA;
    struct sl_slice found;
    if (sl_encode_text(channel, kind, WALL_MS, sl_slice_str(text), &encoded) != SL_OK) {
        abort();
    }
    const struct sl_slice packed = last_of(channel);
    if (!sl_slice_equal(packed, expected) || encoded.size_bytes != packed.size ||
        !sl_encode_text_of(packed, &found_kind, &found) || found_kind != kind ||
        !sl_slice_equals(found, text)) {
        abort();
    }
    (void)sl_event_channel_unref(channel);
}

/* The bytes may have members twice and unknown ones, so only a positive answer is compared. */
static void look_for_text(struct sl_slice input, const Sluice__V1__StreamEvent *event)
{
    enum sl_encode_text kind = SL_ENCODE_TEXT_DELTA;
    struct sl_slice found;
    if (!sl_encode_text_of(input, &kind, &found) || event == NULL) {
        return;
    }
    const char *text =
        kind == SL_ENCODE_TEXT_DELTA ? event->text_delta->delta : event->thinking->content;
    if (memchr(found.data, '\0', found.size) == NULL && !sl_slice_equals(found, text)) {
        abort();
    }
}

/* protobuf-c keeps members that it does not know, and may write them in a form that it cannot read.
 */
static bool has_unknown(const ProtobufCMessage *message) // NOLINT(misc-no-recursion)
{
    if (message->n_unknown_fields > 0) {
        return true;
    }
    for (unsigned i = 0; i < message->descriptor->n_fields; i++) {
        const ProtobufCFieldDescriptor *field = &message->descriptor->fields[i];
        const uint8_t *bytes = (const uint8_t *)message;
        uint32_t chosen = field->id;
        const ProtobufCMessage *part = NULL;
        if (field->type != PROTOBUF_C_TYPE_MESSAGE || field->label == PROTOBUF_C_LABEL_REPEATED) {
            continue;
        }
        if ((field->flags & PROTOBUF_C_FIELD_FLAG_ONEOF) != 0) {
            memcpy(&chosen, bytes + field->quantifier_offset, sizeof(chosen));
        }
        memcpy(&part, bytes + field->offset, sizeof(part)); // NOLINT(bugprone-sizeof-expression)
        if (chosen == field->id && part != NULL && has_unknown(part)) {
            return true;
        }
    }
    return false;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Sluice__V1__StreamEvent *event = sluice__v1__stream_event__unpack(NULL, size, data);
    if (size == 0 || data[0] != 0) { /* 0 would be a prefix */
        look_for_text(sl_slice_of(data, size), event);
    }
    if (event == NULL || has_unknown(&event->base)) {
        if (event != NULL) {
            sluice__v1__stream_event__free_unpacked(event, NULL);
        }
        return 0; /* the log has only what this program knows */
    }
    struct sl_fake_loop loop;
    struct sl_encoded encoded;
    struct sl_event_order order = { .state = SL_ORDER_NEW };
    sl_fake_loop_init(&loop);
    (void)(sl_event_order_check(&order, event, NULL) == SL_OK); /* must only not crash */
    sl_event_order_done(&order);
    struct sl_event_channel *channel = open_channel(&loop.base);
    if (sl_encode_event(channel, WALL_MS, event, &encoded) != SL_OK || event->sequence != 1) {
        abort();
    }
    const struct sl_slice packed = last_of(channel);
    Sluice__V1__StreamEvent *again = sluice__v1__stream_event__unpack(
        NULL, packed.size - SL_EVENT_PREFIX_BYTES, packed.data + SL_EVENT_PREFIX_BYTES);
    if (again == NULL || again->event_case != event->event_case || again->sequence != 1 ||
        again->timestamp_ms != WALL_MS || encoded.size_bytes != packed.size) {
        abort();
    }
    enum sl_encode_text kind = SL_ENCODE_TEXT_DELTA;
    const char *text = text_of(again, &kind);
    if (text != NULL) {
        check_text(&loop.base, text, kind, packed);
    }
    if (sl_encode_event(channel, WALL_MS, again, &encoded) != SL_OK) {
        abort();
    }
    const struct sl_slice second = last_of(channel);
    if (second.size != packed.size) {
        abort();
    }
    sluice__v1__stream_event__free_unpacked(again, NULL);
    (void)sl_event_channel_unref(channel);
    sluice__v1__stream_event__free_unpacked(event, NULL);
    sl_fake_loop_done(&loop);
    return 0;
}
