/* A plain answer: a stream without a call. Its record waits in the connection's list from the
 * request's headers to the stream's end; the list is short, and usually empty. */
#include "service/rpc/plain.h"

#include <stdio.h>

#include "runtime/base/list.h"
#include "runtime/base/mem.h"
#include "service/rpc/conn_impl.h"
#include "service/rpc/headers.h"

enum { LENGTH_TEXT_BYTES = 24 };

struct plain {
    struct sl_list node;
    struct sl_conn *conn;
    struct sl_h2_stream *stream;
    struct sl_h2_body body;
    struct sl_plain_reply reply;
    size_t at; /* bytes of the body that are sent */
    uint64_t progress_ns;
    bool is_head;
};

void sl_server_set_plain(struct sl_server *server, sl_plain_fn *fn, void *user_data)
{
    server->plain = fn;
    server->plain_user = user_data;
}

static void note_progress(struct plain *plain)
{
    struct sl_conn *conn = plain->conn;
    plain->progress_ns = sl_conn_now_ns(conn);
    sl_list_remove(&plain->node);
    sl_list_add_last(&conn->plains, &plain->node);
}

static size_t body_ready(struct sl_h2_body *body, size_t max, bool *ret_is_last)
{
    const struct plain *plain = SL_CONTAINER(body, struct plain, body);
    const size_t left = plain->reply.body.size - plain->at;
    *ret_is_last = left <= max;
    return left < max ? left : max;
}

static void body_take(struct sl_h2_body *body, uint8_t *dst, size_t n)
{
    struct plain *plain = SL_CONTAINER(body, struct plain, body);
    if (n > 0) {
        memcpy(dst, plain->reply.body.data + plain->at, n);
        plain->at += n;
        note_progress(plain);
    }
}

bool sl_plain_admit(
    struct sl_conn *conn, struct sl_h2_stream *stream, const struct sl_headers *parsed)
{
    const struct sl_server *server = conn->server;
    const struct sl_plain_request request = { .method = parsed->method,
                                              .path = parsed->path,
                                              .content_type = parsed->content_type };
    struct sl_plain_reply reply = { .http_status = "200", .content_type = "text/plain" };
    if (server->plain == NULL || !server->plain(&request, &reply, server->plain_user)) {
        return false;
    }
    struct plain *plain = sl_calloc(1, sizeof(*plain));
    if (plain == NULL) {
        sl_h2_stream_reset(stream, SL_H2_REFUSED_STREAM);
        return true;
    }
    sl_list_init(&plain->node);
    plain->conn = conn;
    plain->stream = stream;
    plain->reply = reply;
    plain->body = (struct sl_h2_body){ .ready = body_ready, .take = body_take };
    plain->is_head = sl_slice_equals(parsed->method, "HEAD");
    note_progress(plain);
    return true;
}

static struct plain *find(const struct sl_conn *conn, const struct sl_h2_stream *stream)
{
    SL_LIST_EACH(node, &conn->plains) {
        struct plain *plain = SL_CONTAINER(node, struct plain, node);
        if (plain->stream == stream) {
            return plain;
        }
    }
    return NULL;
}

void sl_plain_on_end_stream(struct sl_conn *conn, struct sl_h2_stream *stream)
{
    struct plain *plain = find(conn, stream);
    if (plain == NULL) {
        return;
    }
    note_progress(plain); /* the reply has the whole time for itself */
    char length[LENGTH_TEXT_BYTES];
    (void)snprintf(length, sizeof(length), "%zu", plain->reply.body.size);
    const struct sl_h2_header fields[] = {
        { .name = sl_slice_str(":status"), .value = sl_slice_str(plain->reply.http_status) },
        { .name = sl_slice_str("content-type"), .value = sl_slice_str(plain->reply.content_type) },
        { .name = sl_slice_str("content-length"), .value = sl_slice_str(length) },
    };
    const bool has_body = !plain->is_head && plain->reply.body.size > 0;
    if (sl_h2_stream_respond(stream, fields, SL_COUNT(fields), has_body ? &plain->body : NULL) !=
        SL_OK) {
        sl_h2_stream_reset(stream, SL_H2_INTERNAL_ERROR);
    }
}

void sl_plain_on_closed(struct sl_conn *conn, struct sl_h2_stream *stream)
{
    struct plain *plain = find(conn, stream);
    if (plain != NULL) {
        sl_list_remove(&plain->node);
        (void)sl_free(plain);
        conn->idle_since_ns = sl_conn_now_ns(conn);
    }
}

/* ---- Time ------------------------------------------------------------------------------------ */

static struct plain *head_of(const struct sl_conn *conn)
{
    struct sl_list *node = sl_list_first(&conn->plains);
    return node == NULL ? NULL : SL_CONTAINER(node, struct plain, node);
}

uint64_t sl_plain_due_ns(const struct sl_conn *conn)
{
    const struct plain *plain = head_of(conn);
    return plain == NULL ? SL_NEVER_NS : plain->progress_ns + conn->limits->stall * SL_NS_PER_MS;
}

void sl_plain_end_due(struct sl_conn *conn, uint64_t now_ns)
{
    while (sl_plain_due_ns(conn) <= now_ns) {
        struct plain *plain = head_of(conn);
        sl_limit_reached(SL_LIMIT_stall);
        sl_h2_stream_reset(plain->stream, SL_H2_CANCEL);
        note_progress(plain); /* it goes when the stream is closed */
    }
}
