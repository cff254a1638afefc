/* A server that has nothing but nghttp2 and a packer: what remains when agents, logs, limits,
 * deadlines and metadata are left out. It answers ExecuteStreaming as the agent `load` would, for
 * `sluice bench`, and any other call with one message of two bytes, which health's Check takes for
 * SERVING. Messages are packed straight into the block that is sent.
 *
 *   bare_server [--pack hand|protobuf-c] --port-file FILE
 *
 * One loop, loopback only. It ends with SIGTERM. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <nghttp2/nghttp2.h>

#include "proto/sluice/v1/events.pb-c.h"
#include "proto/sluice/v1/runtime.pb-c.h"
#include "runtime/base/list.h"
#include "runtime/base/parse.h"

enum {
    BLOCK_BYTES = 128 * 1024,
    BLOCK_LEAST = 1024,
    FRAME_HEAD = 9,
    FRAME_MAX = 16384,
    PREFIX_BYTES = 5,
    TEXT_MAX = 1024,
    MESSAGE_MAX = TEXT_MAX + 64,
    REQUEST_MAX = 4096,
    READ_BYTES = 64 * 1024,
    CONNECTION_WINDOW = 16 * 1024 * 1024,
    BLOCKS_PER_TURN = 2,
    EVENTS_MAX = 64
};

struct conn {
    int fd;
    nghttp2_session *session;
    struct sl_list dirty;
    size_t used, sent; /* of the block */
    bool is_waiting;   /* for the socket */
    uint8_t block[BLOCK_BYTES];
};

struct stream {
    struct conn *conn;
    int32_t id;
    bool is_execute, is_deferred;
    uint64_t n_given, n_due, n_wanted, n_bytes;
    uint64_t interval_ns, due_ns;
    struct sl_list paced;
    size_t n_request;
    uint8_t request[REQUEST_MAX];
    size_t n_rest, rest_at; /* of a message that a window has cut */
    uint8_t rest[MESSAGE_MAX];
};

static int epoll_fd;
static bool packs_by_hand = true;
static struct sl_list dirty_conns, paced_streams;
static char text[TEXT_MAX + 1];
static uint64_t now_ns, wall_ms;
static volatile sig_atomic_t must_stop;

static void read_clocks(void)
{
    struct timespec now = { 0 };
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    wall_ms = (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

static void mark(struct conn *conn)
{
    if (sl_list_is_empty(&conn->dirty)) {
        sl_list_add_last(&dirty_conns, &conn->dirty);
    }
}

/* ---- Messages -------------------------------------------------------------------------------- */

static uint8_t *put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t)(value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t)value;
    return at;
}

static size_t varint_size(uint64_t value)
{
    uint8_t room[10];
    return (size_t)(put_varint(room, value) - room);
}

static uint8_t *put_prefix(uint8_t *at, size_t size)
{
    *at++ = 0;
    *at++ = (uint8_t)(size >> 24);
    *at++ = (uint8_t)(size >> 16);
    *at++ = (uint8_t)(size >> 8);
    *at++ = (uint8_t)size;
    return at;
}

static uint8_t *pack_by_hand(uint8_t *at, uint64_t sequence, size_t n_bytes)
{
    const size_t inner = 1 + varint_size(n_bytes) + n_bytes;
    at = put_prefix(
        at, 1 + varint_size(sequence) + 1 + varint_size(wall_ms) + 1 + varint_size(inner) + inner);
    *at++ = 0x08;
    at = put_varint(at, sequence);
    *at++ = 0x10;
    at = put_varint(at, wall_ms);
    *at++ = 0x52;
    at = put_varint(at, inner);
    *at++ = 0x0a;
    at = put_varint(at, n_bytes);
    memcpy(at, text, n_bytes);
    return at + n_bytes;
}

static uint8_t *pack_by_library(uint8_t *at, uint64_t sequence)
{
    Sluice__V1__TextDelta delta;
    Sluice__V1__StreamEvent event;
    sluice__v1__text_delta__init(&delta);
    sluice__v1__stream_event__init(&event);
    delta.delta = text;
    event.sequence = sequence;
    event.timestamp_ms = wall_ms;
    event.event_case = SLUICE__V1__STREAM_EVENT__EVENT_TEXT_DELTA;
    event.text_delta = &delta;
    const size_t size = sluice__v1__stream_event__pack(&event, at + PREFIX_BYTES);
    (void)put_prefix(at, size);
    return at + PREFIX_BYTES + size;
}

static uint8_t *pack(struct stream *stream, uint8_t *at)
{
    static const uint8_t serving[] = { 0, 0, 0, 0, 2, 0x08, 0x01 };
    stream->n_given++;
    if (!stream->is_execute) {
        memcpy(at, serving, sizeof(serving));
        return at + sizeof(serving);
    }
    return packs_by_hand ? pack_by_hand(at, stream->n_given, stream->n_bytes)
                         : pack_by_library(at, stream->n_given);
}

static bool is_due(const struct stream *stream)
{
    return stream->n_given < stream->n_due;
}

/* Takes up to `max` bytes of the rest of a message that was cut. */
static uint8_t *put_rest(struct stream *stream, uint8_t *at, size_t max)
{
    const size_t n = stream->n_rest < max ? stream->n_rest : max;
    memcpy(at, stream->rest + stream->rest_at, n);
    stream->rest_at += n;
    stream->n_rest -= n;
    return at + n;
}

static size_t fill(struct stream *stream, uint8_t *room, size_t max)
{
    uint8_t *at = put_rest(stream, room, max);
    const uint8_t *end = room + max;
    while (is_due(stream) && at + stream->n_bytes + (MESSAGE_MAX - TEXT_MAX) <= end) {
        at = pack(stream, at);
    }
    if (is_due(stream) && at == room && max > 0) {
        stream->n_rest = (size_t)(pack(stream, stream->rest) - stream->rest);
        stream->rest_at = 0;
        at = put_rest(stream, at, max);
    }
    return (size_t)(at - room);
}

/* ---- What nghttp2 asks ----------------------------------------------------------------------- */

#define FIELD(name, value)                                                                         \
    {                                                                                              \
        sl_unconst(name), sl_unconst(value), sizeof(name) - 1, sizeof(value) - 1,                  \
            NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE                           \
    }

static ssize_t data_length(
    nghttp2_session *session,
    uint8_t type,
    int32_t id,
    int32_t connection_window,
    int32_t stream_window,
    uint32_t max_frame,
    void *user)
{
    const struct conn *conn = user;
    const size_t left = BLOCK_BYTES - conn->used;
    int32_t n = connection_window < stream_window ? connection_window : stream_window;
    (void)session;
    (void)type;
    (void)id;
    n = n > FRAME_MAX ? FRAME_MAX : n;
    n = n > (int32_t)max_frame ? (int32_t)max_frame : n;
    if (left >= BLOCK_LEAST && n > (int32_t)left - FRAME_HEAD) {
        n = (int32_t)left - FRAME_HEAD;
    }
    return n;
}

/* Packs behind the place of the frame's header: nothing else is written in between. */
static ssize_t read_body(
    nghttp2_session *session,
    int32_t id,
    uint8_t *buffer, // NOLINT(readability-non-const-parameter): nghttp2's signature
    size_t max,
    uint32_t *flags,
    nghttp2_data_source *source,
    void *user)
{
    struct conn *conn = user;
    struct stream *stream = source->ptr;
    (void)buffer;
    if (BLOCK_BYTES - conn->used < BLOCK_LEAST) {
        return NGHTTP2_ERR_PAUSE;
    }
    const size_t n = fill(stream, conn->block + conn->used + FRAME_HEAD, max);
    const bool is_last = stream->n_given == stream->n_wanted && stream->n_rest == 0;
    if (n == 0 && !is_last) {
        stream->is_deferred = true;
        return NGHTTP2_ERR_DEFERRED;
    }
    *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
    if (is_last) {
        const nghttp2_nv trailers[] = { FIELD("grpc-status", "0") };
        *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
        (void)nghttp2_submit_trailer(session, id, trailers, SL_COUNT(trailers));
    }
    return (ssize_t)n;
}

static int send_data(
    nghttp2_session *session,
    nghttp2_frame *frame,
    const uint8_t *head,
    size_t size,
    nghttp2_data_source *source,
    void *user)
{
    struct conn *conn = user;
    (void)session;
    (void)frame;
    (void)source;
    memcpy(conn->block + conn->used, head, FRAME_HEAD);
    conn->used += FRAME_HEAD + size;
    return BLOCK_BYTES - conn->used < BLOCK_LEAST ? NGHTTP2_ERR_PAUSE : 0;
}

static int on_begin_headers(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    struct stream *stream = sl_calloc(1, sizeof(*stream));
    if (stream == NULL) {
        return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
    stream->conn = user;
    stream->id = frame->hd.stream_id;
    stream->n_wanted = stream->n_due = 1;
    sl_list_init(&stream->paced);
    return nghttp2_session_set_stream_user_data(session, stream->id, stream);
}

// NOLINTNEXTLINE(readability-function-size): nghttp2's signature
static int on_header(
    nghttp2_session *session,
    const nghttp2_frame *frame,
    const uint8_t *name,
    size_t name_size,
    const uint8_t *value,
    size_t value_size,
    uint8_t flags,
    void *user)
{
    static const char method[] = "ExecuteStreaming";
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)flags;
    (void)user;
    if (stream != NULL && name_size == 5 && memcmp(name, ":path", 5) == 0) {
        const size_t size = sizeof(method) - 1;
        stream->is_execute =
            value_size >= size && memcmp(value + value_size - size, method, size) == 0;
    }
    return 0;
}

static int on_data(
    nghttp2_session *session, uint8_t flags, int32_t id, const uint8_t *data, size_t n, void *user)
{
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)flags;
    (void)user;
    if (stream != NULL && n <= REQUEST_MAX - stream->n_request) {
        memcpy(stream->request + stream->n_request, data, n);
        stream->n_request += n;
    }
    return 0;
}

/* The number behind "NAME=" in the order; 0: it is not there. */
static uint64_t read_number(const char *order, const char *name)
{
    const char *at = strstr(order, name);
    uint64_t value = 0;
    if (at == NULL) {
        return 0;
    }
    at += strlen(name);
    const struct sl_slice digits = sl_slice_of((const uint8_t *)at, strspn(at, "0123456789"));
    return sl_parse_u64(digits, 0, UINT32_MAX, &value) == SL_OK ? value : 0;
}

static void read_order(struct stream *stream)
{
    if (stream->n_request < PREFIX_BYTES) {
        return;
    }
    Sluice__V1__ExecuteRequest *request = sluice__v1__execute_request__unpack(
        NULL, stream->n_request - PREFIX_BYTES, stream->request + PREFIX_BYTES);
    if (request == NULL) {
        return;
    }
    stream->n_wanted = read_number(request->input, "events=");
    stream->n_bytes = read_number(request->input, "bytes=");
    stream->n_bytes = stream->n_bytes > TEXT_MAX ? TEXT_MAX : stream->n_bytes;
    const uint64_t rate = read_number(request->input, "rate=");
    stream->interval_ns = rate == 0 ? 0 : 1000000000U / rate;
    stream->due_ns = now_ns + stream->interval_ns;
    stream->n_due = rate == 0 ? stream->n_wanted : 0;
    text[stream->n_bytes] = '\0'; /* for the library; all streams of a bench have one size */
    sluice__v1__execute_request__free_unpacked(request, NULL);
    if (rate > 0) {
        sl_list_add_last(&paced_streams, &stream->paced); /* one rate: this is the order of dues */
    }
}

static int on_frame(nghttp2_session *session, const nghttp2_frame *frame, void *user)
{
    const nghttp2_nv head[] = { FIELD(":status", "200"),
                                FIELD("content-type", "application/grpc") };
    struct stream *stream = nghttp2_session_get_stream_user_data(session, frame->hd.stream_id);
    (void)user;
    if (stream == NULL || (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) == 0 ||
        (frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS)) {
        return 0;
    }
    if (stream->is_execute) {
        read_order(stream);
    }
    const nghttp2_data_provider body = { .source.ptr = stream, .read_callback = read_body };
    return nghttp2_submit_response(session, stream->id, head, SL_COUNT(head), &body);
}

static int on_close(nghttp2_session *session, int32_t id, uint32_t code, void *user)
{
    struct stream *stream = nghttp2_session_get_stream_user_data(session, id);
    (void)code;
    (void)user;
    if (stream != NULL) {
        sl_list_remove(&stream->paced);
        (void)sl_free(stream);
    }
    return 0;
}

/* ---- Sockets --------------------------------------------------------------------------------- */

static void close_conn(struct conn *conn)
{
    sl_list_remove(&conn->dirty);
    nghttp2_session_del(conn->session); /* calls on_close for no stream that is open */
    (void)close(conn->fd);
    (void)sl_free(conn);
}

static void wait_for_socket(struct conn *conn, bool is_waiting)
{
    if (conn->is_waiting != is_waiting) {
        struct epoll_event event = { .events = is_waiting ? EPOLLIN | EPOLLOUT : EPOLLIN,
                                     .data.ptr = conn };
        conn->is_waiting = is_waiting;
        (void)epoll_ctl(epoll_fd, EPOLL_CTL_MOD, conn->fd, &event);
    }
}

/* True: the socket took all of it. */
static bool send_block(struct conn *conn)
{
    while (conn->sent < conn->used) {
        const ssize_t n =
            send(conn->fd, conn->block + conn->sent, conn->used - conn->sent, MSG_NOSIGNAL);
        if (n <= 0) {
            wait_for_socket(conn, true);
            return false;
        }
        conn->sent += (size_t)n;
    }
    conn->used = conn->sent = 0;
    return true;
}

static bool fill_block(struct conn *conn)
{
    while (BLOCK_BYTES - conn->used >= FRAME_MAX + FRAME_HEAD) {
        const uint8_t *data = NULL;
        const size_t before = conn->used;
        const ssize_t n = nghttp2_session_mem_send(conn->session, &data);
        if (n < 0 || (n == 0 && conn->used == before)) {
            break;
        }
        memcpy(conn->block + conn->used, data, (size_t)n);
        conn->used += (size_t)n;
    }
    return conn->used > 0;
}

static void flush(struct conn *conn)
{
    for (int i = 0; i < BLOCKS_PER_TURN; i++) {
        if (!send_block(conn)) {
            return;
        }
        if (!fill_block(conn)) {
            wait_for_socket(conn, false);
            return;
        }
    }
    if (send_block(conn)) {
        mark(conn); /* goes on in the next turn */
    }
}

static void read_socket(struct conn *conn)
{
    static uint8_t room[READ_BYTES];
    const ssize_t n = recv(conn->fd, room, sizeof(room), 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return;
    }
    if (n <= 0 || nghttp2_session_mem_recv(conn->session, room, (size_t)n) < 0) {
        close_conn(conn);
        return;
    }
    mark(conn);
}

static nghttp2_session *new_session(struct conn *conn)
{
    nghttp2_session_callbacks *callbacks = NULL;
    nghttp2_session *session = NULL;
    const nghttp2_settings_entry settings[] = { { NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS,
                                                  100000 } };
    if (nghttp2_session_callbacks_new(&callbacks) != 0) {
        return NULL;
    }
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, on_begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, on_data);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, on_close);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, data_length);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    const int rv = nghttp2_session_server_new(&session, callbacks, conn);
    nghttp2_session_callbacks_del(callbacks);
    if (rv == 0) {
        (void)nghttp2_submit_settings(session, NGHTTP2_FLAG_NONE, settings, SL_COUNT(settings));
        (void)nghttp2_session_set_local_window_size(
            session, NGHTTP2_FLAG_NONE, 0, CONNECTION_WINDOW);
    }
    return rv == 0 ? session : NULL;
}

static void accept_conn(int listener)
{
    const int one = 1;
    const int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    struct conn *conn = fd < 0 ? NULL : sl_calloc(1, sizeof(*conn));
    if (conn == NULL) {
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    conn->fd = fd;
    sl_list_init(&conn->dirty);
    conn->session = new_session(conn);
    struct epoll_event event = { .events = EPOLLIN, .data.ptr = conn };
    if (conn->session == NULL || epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0) {
        close_conn(conn);
        return;
    }
    mark(conn);
}

/* ---- The loop -------------------------------------------------------------------------------- */

/* Streams whose next event is due go on, and to the end of the line. */
static void run_paced(void)
{
    for (struct sl_list *node; (node = sl_list_first(&paced_streams)) != NULL;) {
        struct stream *stream = SL_CONTAINER(node, struct stream, paced);
        if (stream->due_ns > now_ns) {
            return;
        }
        sl_list_remove(node);
        stream->due_ns += stream->interval_ns;
        stream->n_due++;
        if (stream->n_due < stream->n_wanted) {
            sl_list_add_last(&paced_streams, node);
        }
        if (stream->is_deferred) {
            stream->is_deferred = false;
            (void)nghttp2_session_resume_data(stream->conn->session, stream->id);
            mark(stream->conn);
        }
    }
}

static void run_flushes(void)
{
    struct sl_list now;
    sl_list_init(&now);
    for (struct sl_list *node; (node = sl_list_first(&dirty_conns)) != NULL;) {
        sl_list_remove(node);
        sl_list_add_last(&now, node);
    }
    for (struct sl_list *node; (node = sl_list_first(&now)) != NULL;) {
        sl_list_remove(node);
        flush(SL_CONTAINER(node, struct conn, dirty));
    }
}

static int wait_ms(void)
{
    struct sl_list *node = sl_list_first(&paced_streams);
    if (!sl_list_is_empty(&dirty_conns)) {
        return 0;
    }
    if (node == NULL) {
        return -1;
    }
    const struct stream *stream = SL_CONTAINER(node, struct stream, paced);
    return stream->due_ns <= now_ns ? 0 : (int)((stream->due_ns - now_ns) / 1000000U) + 1;
}

static void run_loop(int listener)
{
    struct epoll_event events[EVENTS_MAX];
    while (must_stop == 0) {
        const int n = epoll_wait(epoll_fd, events, EVENTS_MAX, wait_ms());
        read_clocks();
        for (int i = 0; i < n; i++) {
            struct conn *conn = events[i].data.ptr;
            if (conn == NULL) {
                accept_conn(listener);
            } else if ((events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
                read_socket(conn);
            } else {
                mark(conn);
            }
        }
        run_paced();
        run_flushes();
    }
}

static int open_listener(const char *port_file)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    struct epoll_event event = { .events = EPOLLIN };
    FILE *file = NULL;
    if (fd < 0 || bind(fd, (struct sockaddr *)&address, size) != 0 || listen(fd, 1024) != 0 ||
        getsockname(fd, (struct sockaddr *)&address, &size) != 0 ||
        epoll_ctl(epoll_fd, EPOLL_CTL_ADD, fd, &event) != 0 ||
        (file = fopen(port_file, "we")) == NULL) {
        return -1;
    }
    (void)fprintf(file, "127.0.0.1:%d\n", ntohs(address.sin_port));
    return fclose(file) == 0 ? fd : -1;
}

static void on_signal(int number)
{
    (void)number;
    must_stop = 1;
}

int main(int argc, char **argv)
{
    const char *port_file = NULL;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--port-file") == 0) {
            port_file = argv[i + 1];
        } else if (strcmp(argv[i], "--pack") == 0) {
            packs_by_hand = strcmp(argv[i + 1], "hand") == 0;
        }
    }
    if (port_file == NULL) {
        (void)fprintf(stderr, "usage: bare_server [--pack hand|protobuf-c] --port-file FILE\n");
        return 2;
    }
    const struct sigaction stop = { .sa_handler = on_signal };
    (void)sigaction(SIGTERM, &stop, NULL);
    sl_list_init(&dirty_conns);
    sl_list_init(&paced_streams);
    memset(text, 'x', TEXT_MAX);
    epoll_fd = epoll_create1(EPOLL_CLOEXEC);
    read_clocks();
    const int listener = epoll_fd < 0 ? -1 : open_listener(port_file);
    if (listener < 0) {
        perror("bare_server");
        return 1;
    }
    run_loop(listener);
    return 0;
}
