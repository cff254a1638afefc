/* A conversation as bytes, and back: what a store keeps of a session.
 *
 *   version (1)  n  message …            numbers are LEB128, in their shortest form
 *   message: flags, text, then what the flags say     a text: its size, its bytes
 *
 * There is one way to write a conversation, and nothing else is read: bytes that were not written
 * by this are refused, not repaired. */
#ifndef SL_RUNTIME_EXEC_SESSION_CODEC_H
#define SL_RUNTIME_EXEC_SESSION_CODEC_H

#include "runtime/base/buf.h"
#include "runtime/exec/history.h"

/* Appends the messages. Texts must be as a history has them (clean, not NULL in calls). Fails:
 * SL_RESOURCE_EXHAUSTED over the maximum of `buf`, or without memory. */
SL_CHECK enum sl_status
sl_session_write(const struct sl_chat_message *messages, size_t n_messages, struct sl_buf *buf);

/* Adds all messages to the history, or none. Fails: SL_DATA_LOSS this is no conversation;
 * SL_UNIMPLEMENTED a newer version wrote it; SL_RESOURCE_EXHAUSTED as sl_history_add(). */
SL_CHECK enum sl_status sl_session_read(struct sl_slice bytes, struct sl_history *history);

#endif
