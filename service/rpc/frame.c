#include "service/rpc/frame.h"

#include <errno.h>

#include "runtime/base/mem.h"
#include "runtime/base/metrics.h"

enum {
    KEEP_BYTES = 64 * 1024,               /* a larger block is given back with its message */
    PENDING_MAX_BYTES = 32 * 1024 * 1024, /* windows are smaller: only a broken peer gets here */
    COMPACT_BYTES = 16 * 1024
};

void sl_frame_reader_init(struct sl_frame_reader *reader, size_t max_bytes)
{
    *reader = (struct sl_frame_reader){ .max_bytes = max_bytes };
    sl_buf_init(&reader->message, max_bytes);
    sl_buf_init(&reader->plain, max_bytes);
    sl_buf_init(&reader->pending, PENDING_MAX_BYTES);
}

void sl_frame_reader_set_encoding(struct sl_frame_reader *reader, struct sl_slice name)
{
    reader->encoding = sl_encoding_parse(name);
    const size_t size =
        name.size < SL_FRAME_ENCODING_BYTES ? name.size : SL_FRAME_ENCODING_BYTES - 1;
    for (size_t i = 0; i < size; i++) {
        const uint8_t byte = name.data[i];
        reader->encoding_name[i] = (char)(byte >= 0x20 && byte <= 0x7E ? byte : '?');
    }
    reader->encoding_name[size] = '\0';
}

static uint32_t read_length(const uint8_t *prefix)
{
    return (uint32_t)prefix[1] << 24 | (uint32_t)prefix[2] << 16 | (uint32_t)prefix[3] << 8 |
           (uint32_t)prefix[4];
}

/* What a complete prefix says about its message, from the prefix alone (FR-3). */
static enum sl_status
check_prefix(const struct sl_frame_reader *reader, const uint8_t *prefix, struct sl_error *err)
{
    const uint32_t declared = read_length(prefix);
    if (prefix[0] > 1) {
        return sl_fail(err, SL_INTERNAL, "message has the unknown flag %u", prefix[0]);
    }
    if (prefix[0] == 1 && reader->encoding == SL_ENCODING_IDENTITY) {
        return sl_fail(err, SL_INTERNAL, "compressed message without grpc-encoding");
    }
    if (prefix[0] == 1 && reader->encoding == SL_ENCODING_UNKNOWN) {
        return sl_fail(
            err, SL_UNIMPLEMENTED,
            "message encoding \"%s\" is not supported; supported are " SL_ENCODINGS_ACCEPTED,
            reader->encoding_name);
    }
    if (declared > reader->max_bytes) {
        sl_limit_reached(SL_LIMIT_message_recv);
        return sl_fail(
            err, SL_RESOURCE_EXHAUSTED, "message of %u bytes is larger than the limit of %zu bytes",
            declared, reader->max_bytes);
    }
    return SL_OK;
}

static bool is_assembled(const struct sl_frame_reader *reader)
{
    return reader->n_prefix == SL_FRAME_PREFIX_BYTES && reader->message.size == reader->declared;
}

static struct sl_slice pending_of(const struct sl_frame_reader *reader)
{
    if (reader->pending.data == NULL) {
        return sl_slice_of(NULL, 0);
    }
    return sl_slice_of(
        reader->pending.data + reader->pending_at, reader->pending.size - reader->pending_at);
}

/* Ends the reader; `reader->error` is filled already. Nothing is held here: a fault is found only
 * where bytes go into a message, or a message is looked at for the first time. */
static enum sl_status set_fault(struct sl_frame_reader *reader, enum sl_status status)
{
    reader->fault = status;
    reader->credit += pending_of(reader).size;
    reader->pending_at = 0;
    sl_buf_done(&reader->pending);
    sl_buf_done(&reader->message);
    sl_buf_done(&reader->plain);
    return status;
}

static enum sl_status no_memory(struct sl_frame_reader *reader)
{
    (void)sl_fail(&reader->error, SL_RESOURCE_EXHAUSTED, "no memory for a message");
    reader->error.sys_errno = ENOMEM;
    return set_fault(reader, SL_RESOURCE_EXHAUSTED);
}

/* Moves bytes into the message until it is complete; gives how many. A fault is in the reader. */
static size_t assemble(struct sl_frame_reader *reader, struct sl_slice bytes)
{
    size_t n = 0;
    while (n < bytes.size && reader->n_prefix < SL_FRAME_PREFIX_BYTES) {
        reader->prefix[reader->n_prefix++] = bytes.data[n++];
        if (reader->n_prefix == SL_FRAME_PREFIX_BYTES) {
            const enum sl_status status = check_prefix(reader, reader->prefix, &reader->error);
            if (status != SL_OK) {
                (void)set_fault(reader, status);
                return n;
            }
            reader->declared = read_length(reader->prefix);
        }
    }
    if (reader->n_prefix < SL_FRAME_PREFIX_BYTES) {
        return n;
    }
    const size_t missing = reader->declared - reader->message.size;
    const size_t left = bytes.size - n;
    const size_t size = missing < left ? missing : left;
    if (sl_buf_add(&reader->message, sl_slice_of(bytes.data + n, size)) != SL_OK) {
        (void)no_memory(reader);
    }
    return n + size;
}

void sl_frame_reader_feed(struct sl_frame_reader *reader, struct sl_slice bytes)
{
    if (reader->fault == SL_OK && !reader->is_held && !is_assembled(reader)) {
        const size_t n = assemble(reader, bytes);
        reader->credit += n;
        bytes.data += n;
        bytes.size -= n;
    }
    if (reader->fault != SL_OK) {
        reader->credit += bytes.size;
        return;
    }
    if (bytes.size > 0 && sl_buf_add(&reader->pending, bytes) != SL_OK) {
        reader->credit += bytes.size;
        /* A held message stays the user's until the next _next(). */
        if (reader->is_held) {
            reader->fault = sl_fail(
                &reader->error, SL_RESOURCE_EXHAUSTED, "no memory for bytes behind a message");
            reader->error.sys_errno = ENOMEM;
        } else {
            (void)no_memory(reader);
        }
    }
}

void sl_frame_reader_end(struct sl_frame_reader *reader)
{
    reader->is_ended = true;
}

/* The same for the message that begins in the pending bytes. */
static enum sl_status pending_status(const struct sl_frame_reader *reader)
{
    const struct sl_slice pending = pending_of(reader);
    const enum sl_status incomplete = reader->is_ended ? SL_INTERNAL : SL_AGAIN;
    if (pending.size < SL_FRAME_PREFIX_BYTES) {
        return pending.size == 0 && reader->is_ended ? SL_END : incomplete;
    }
    const enum sl_status status = check_prefix(reader, pending.data, NULL);
    if (status != SL_OK) {
        return status;
    }
    return pending.size - SL_FRAME_PREFIX_BYTES < read_length(pending.data) ? incomplete : SL_OK;
}

enum sl_status sl_frame_reader_status(const struct sl_frame_reader *reader)
{
    if (reader->fault != SL_OK) {
        return reader->fault;
    }
    if (reader->is_held) {
        return pending_status(reader);
    }
    if (is_assembled(reader)) {
        return SL_OK;
    }
    if (!reader->is_ended) {
        return SL_AGAIN;
    }
    return reader->n_prefix == 0 ? SL_END : SL_INTERNAL;
}

/* Takes the message back from the user and goes on with what waited behind it. */
static void release(struct sl_frame_reader *reader)
{
    reader->is_held = false;
    reader->n_prefix = 0;
    reader->declared = 0;
    if (reader->message.capacity > KEEP_BYTES) {
        sl_buf_done(&reader->message);
    }
    sl_buf_clear(&reader->message);
    if (reader->fault != SL_OK) {
        (void)set_fault(reader, reader->fault);
        return;
    }
    const struct sl_slice pending = pending_of(reader);
    if (pending.size == 0) {
        return;
    }
    const size_t n = assemble(reader, pending);
    if (reader->fault != SL_OK) {
        return; /* everything that waited has been credited */
    }
    reader->credit += n;
    reader->pending_at += n;
    if (reader->pending_at == reader->pending.size) {
        sl_buf_clear(&reader->pending);
        reader->pending_at = 0;
    } else if (
        reader->pending_at > COMPACT_BYTES && reader->pending_at > reader->pending.size / 2) {
        sl_buf_consume(&reader->pending, reader->pending_at);
        reader->pending_at = 0;
    }
}

/* Puts the plain text of a compressed message in its place. */
static enum sl_status decompress(struct sl_frame_reader *reader)
{
    const enum sl_status status = sl_decompress(
        reader->encoding, sl_buf_slice(&reader->message), reader->max_bytes, &reader->plain,
        &reader->error);
    if (status != SL_OK) {
        return set_fault(reader, status);
    }
    const struct sl_buf packed = reader->message;
    reader->message = reader->plain;
    reader->plain = packed;
    sl_buf_done(&reader->plain);
    return SL_OK;
}

static enum sl_status give_fault(const struct sl_frame_reader *reader, struct sl_error *err)
{
    if (err != NULL) {
        *err = reader->error;
    }
    return reader->fault;
}

enum sl_status sl_frame_reader_next(
    struct sl_frame_reader *reader, struct sl_slice *ret_message, struct sl_error *err)
{
    if (reader->is_held) {
        release(reader);
    }
    if (reader->fault != SL_OK) {
        return give_fault(reader, err);
    }
    if (!is_assembled(reader)) {
        if (!reader->is_ended) {
            return SL_AGAIN;
        }
        if (reader->n_prefix == 0) {
            return SL_END;
        }
        (void)set_fault(
            reader, sl_fail(&reader->error, SL_INTERNAL, "the stream ended inside a message"));
        return give_fault(reader, err);
    }
    if (reader->prefix[0] == 1 && decompress(reader) != SL_OK) {
        return give_fault(reader, err);
    }
    reader->is_held = true;
    *ret_message = sl_buf_slice(&reader->message);
    return SL_OK;
}

size_t sl_frame_reader_n_unread(const struct sl_frame_reader *reader)
{
    return pending_of(reader).size;
}

bool sl_frame_reader_is_inside(const struct sl_frame_reader *reader)
{
    if (reader->fault != SL_OK || reader->is_ended) {
        return false;
    }
    if (reader->is_held) {
        return pending_of(reader).size > 0 && pending_status(reader) == SL_AGAIN;
    }
    return reader->n_prefix > 0 && !is_assembled(reader);
}

size_t sl_frame_reader_take_credit(struct sl_frame_reader *reader)
{
    const size_t credit = reader->credit;
    reader->credit = 0;
    return credit;
}

struct sl_buf sl_frame_reader_take(struct sl_frame_reader *reader)
{
    const struct sl_buf taken = reader->message;
    sl_buf_init(&reader->message, reader->max_bytes);
    return taken;
}

void sl_frame_reader_done(struct sl_frame_reader *reader)
{
    reader->is_held = false;
    if (reader->fault == SL_OK) {
        reader->fault = sl_fail(&reader->error, SL_CANCELLED, "the stream is over");
    }
    (void)set_fault(reader, reader->fault);
}
