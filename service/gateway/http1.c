#include "service/gateway/http1.h"

#include <strings.h>

#include "runtime/base/parse.h"

enum { LINE_BYTES = 256 };

void sl_http1_init(struct sl_http1 *http1, size_t max_body_bytes)
{
    *http1 = (struct sl_http1){ .state = SL_HTTP1_HEAD };
    sl_buf_init(&http1->head, SL_HTTP1_HEAD_BYTES);
    sl_buf_init(&http1->line, LINE_BYTES);
    sl_buf_init(&http1->body, max_body_bytes);
}

void sl_http1_next(struct sl_http1 *http1)
{
    sl_buf_clear(&http1->head);
    sl_buf_clear(&http1->line);
    sl_buf_clear(&http1->body);
    http1->request = (struct sl_http1_request){ 0 };
    http1->missing = 0;
    http1->state = SL_HTTP1_HEAD;
}

void sl_http1_done(struct sl_http1 *http1)
{
    sl_buf_done(&http1->head);
    sl_buf_done(&http1->line);
    sl_buf_done(&http1->body);
}

bool sl_http1_field(
    const struct sl_http1_request *request, const char *name, struct sl_slice *ret_value)
{
    const size_t name_bytes = strlen(name);
    for (size_t i = 0; i < request->n_fields; i++) {
        const struct sl_slice field = request->fields[i].name;
        if (field.size == name_bytes &&
            strncasecmp((const char *)field.data, name, name_bytes) == 0) {
            *ret_value = request->fields[i].value;
            return true;
        }
    }
    return false;
}

/* ---- The head ----------------------------------------------------------------------------------
 */

/* RFC 9110, section 5.6.2. */
static bool is_token(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        const uint8_t c = text.data[i];
        const bool is_alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        const bool is_other = c != '\0' && strchr("!#$%&'*+-.^_`|~", c) != NULL;
        if (!is_alpha && !(c >= '0' && c <= '9') && !is_other) {
            return false;
        }
    }
    return text.size > 0;
}

static bool is_visible(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] <= 0x20 || text.data[i] == 0x7F) {
            return false;
        }
    }
    return text.size > 0;
}

static bool is_clean_value(struct sl_slice text)
{
    for (size_t i = 0; i < text.size; i++) {
        if ((text.data[i] < 0x20 && text.data[i] != '\t') || text.data[i] == 0x7F) {
            return false;
        }
    }
    return true;
}

static struct sl_slice trim(struct sl_slice text)
{
    while (text.size > 0 && (text.data[0] == ' ' || text.data[0] == '\t')) {
        text.data++;
        text.size--;
    }
    while (text.size > 0 && (text.data[text.size - 1] == ' ' || text.data[text.size - 1] == '\t')) {
        text.size--;
    }
    return text;
}

/* The part before `separator`; the rest is moved behind it. False: there is none. */
static bool split(struct sl_slice *rest, uint8_t separator, struct sl_slice *ret_part)
{
    const uint8_t *found = memchr(rest->data, separator, rest->size);
    if (found == NULL) {
        return false;
    }
    *ret_part = sl_slice_of(rest->data, (size_t)(found - rest->data));
    *rest = sl_slice_of(found + 1, rest->size - ret_part->size - 1);
    return true;
}

static enum sl_status
parse_request_line(struct sl_http1_request *request, struct sl_slice line, struct sl_error *err)
{
    if (!split(&line, ' ', &request->method) || !split(&line, ' ', &request->target) ||
        !is_token(request->method) || !is_visible(request->target)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "malformed request line");
    }
    if (sl_slice_equals(line, "HTTP/1.1")) {
        request->keeps_alive = true;
    } else if (!sl_slice_equals(line, "HTTP/1.0")) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "not HTTP/1.1 or HTTP/1.0");
    }
    return SL_OK;
}

static enum sl_status
parse_field(struct sl_http1_request *request, struct sl_slice line, struct sl_error *err)
{
    struct sl_slice name;
    if (!split(&line, ':', &name) || !is_token(name)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "malformed header field");
    }
    if (request->n_fields == SL_HTTP1_FIELDS) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "more than %d header fields", SL_HTTP1_FIELDS);
    }
    line = trim(line);
    if (!is_clean_value(line)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "a control character in a header field");
    }
    request->fields[request->n_fields++] = (struct sl_http1_field){ name, line };
    return SL_OK;
}

static size_t count_fields(const struct sl_http1_request *request, const char *name)
{
    size_t n = 0;
    for (size_t i = 0; i < request->n_fields; i++) {
        const struct sl_slice field = request->fields[i].name;
        n += field.size == strlen(name) &&
             strncasecmp((const char *)field.data, name, field.size) == 0;
    }
    return n;
}

/* How the body comes, and what the connection does afterwards. */
static enum sl_status read_framing(struct sl_http1 *http1, struct sl_error *err)
{
    struct sl_http1_request *request = &http1->request;
    struct sl_slice value;
    if (sl_http1_field(request, "connection", &value) && value.size == 5 &&
        strncasecmp((const char *)value.data, "close", 5) == 0) {
        request->keeps_alive = false;
    }
    request->expects_continue = sl_http1_field(request, "expect", &value) && value.size == 12 &&
                                strncasecmp((const char *)value.data, "100-continue", 12) == 0;
    const size_t n_lengths = count_fields(request, "content-length");
    const size_t n_codings = count_fields(request, "transfer-encoding");
    if (n_lengths + n_codings > 1) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the length of the body is given twice");
    }
    if (n_codings == 1) {
        (void)sl_http1_field(request, "transfer-encoding", &value);
        if (value.size != 7 || strncasecmp((const char *)value.data, "chunked", 7) != 0) {
            return sl_fail(err, SL_UNIMPLEMENTED, "a transfer coding other than chunked");
        }
        http1->state = SL_HTTP1_CHUNK_SIZE;
        return SL_OK;
    }
    if (n_lengths == 1) {
        (void)sl_http1_field(request, "content-length", &value);
        if (sl_parse_u64(value, 0, UINT64_MAX, &http1->missing) != SL_OK) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "malformed content-length");
        }
    }
    if (http1->missing > http1->body.max_bytes) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "a body over %zu bytes", http1->body.max_bytes);
    }
    http1->state = http1->missing > 0 ? SL_HTTP1_BODY : SL_HTTP1_DONE;
    return SL_OK;
}

/* The head is complete, with its empty line. Lines end with CRLF; a bare LF is accepted (RFC
 * 9112, 2.2). */
static enum sl_status parse_head(struct sl_http1 *http1, struct sl_error *err)
{
    struct sl_slice rest = sl_buf_slice(&http1->head);
    struct sl_slice line;
    bool is_first = true;
    while (split(&rest, '\n', &line)) {
        if (line.size > 0 && line.data[line.size - 1] == '\r') {
            line.size--;
        }
        if (line.size == 0) {
            break;
        }
        SL_TRY(
            is_first ? parse_request_line(&http1->request, line, err)
                     : parse_field(&http1->request, line, err));
        is_first = false;
    }
    if (is_first) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "malformed request line");
    }
    return read_framing(http1, err);
}

/* At a line feed: the line before it is empty, whichever way the lines end. What the parser takes
 * for the end must be the end here too, or bytes of a body would be read as head. */
static bool head_is_complete(struct sl_slice head)
{
    const size_t line_end = head.size - 1;
    const size_t content_end =
        line_end > 0 && head.data[line_end - 1] == '\r' ? line_end - 1 : line_end;
    return content_end > 0 && head.data[content_end - 1] == '\n';
}

/* ---- States ------------------------------------------------------------------------------------
 */

static enum sl_status feed_head(struct sl_http1 *http1, uint8_t byte, struct sl_error *err)
{
    if (http1->head.size == 0 && (byte == '\r' || byte == '\n')) {
        return SL_OK; /* empty lines before a request are skipped */
    }
    if (sl_buf_add_byte(&http1->head, byte) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "a head over %d bytes", SL_HTTP1_HEAD_BYTES);
    }
    if (byte == '\n' && head_is_complete(sl_buf_slice(&http1->head))) {
        return parse_head(http1, err);
    }
    return SL_OK;
}

static enum sl_status parse_chunk_size(struct sl_http1 *http1, struct sl_error *err)
{
    const struct sl_slice line = sl_buf_slice(&http1->line);
    uint64_t size = 0;
    size_t n_digits = 0;
    for (; n_digits < line.size && line.data[n_digits] != ';'; n_digits++) {
        const uint8_t c = line.data[n_digits] | 0x20;
        const bool is_digit = c >= '0' && c <= '9';
        if ((!is_digit && !(c >= 'a' && c <= 'f')) || n_digits == 8) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "malformed chunk size");
        }
        size = size * 16 + (uint64_t)(is_digit ? c - '0' : c - 'a' + 10);
    }
    if (n_digits == 0) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "malformed chunk size");
    }
    if (size > http1->body.max_bytes - http1->body.size) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "a body over %zu bytes", http1->body.max_bytes);
    }
    http1->missing = size;
    http1->state = size > 0 ? SL_HTTP1_CHUNK : SL_HTTP1_TRAILERS;
    return SL_OK;
}

/* A line of the chunked coding. Here CRLF is a must: nothing else makes a border. */
static enum sl_status feed_line(struct sl_http1 *http1, uint8_t byte, struct sl_error *err)
{
    if (sl_buf_add_byte(&http1->line, byte) != SL_OK) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "a chunk line over %d bytes", LINE_BYTES);
    }
    if (byte != '\n') {
        return SL_OK;
    }
    if (http1->line.size < 2 || http1->line.data[http1->line.size - 2] != '\r') {
        return sl_fail(err, SL_INVALID_ARGUMENT, "a chunk line without CRLF");
    }
    http1->line.size -= 2;
    enum sl_status status = SL_OK;
    if (http1->state == SL_HTTP1_CHUNK_SIZE) {
        status = parse_chunk_size(http1, err);
    } else if (http1->state == SL_HTTP1_CHUNK_END) {
        http1->state = SL_HTTP1_CHUNK_SIZE;
        if (http1->line.size > 0) {
            status = sl_fail(err, SL_INVALID_ARGUMENT, "a chunk longer than its size");
        }
    } else if (http1->line.size == 0) {
        http1->state = SL_HTTP1_DONE; /* trailers are skipped */
    }
    sl_buf_clear(&http1->line);
    return status;
}

static enum sl_status
feed_body(struct sl_http1 *http1, struct sl_slice bytes, size_t *ret_taken, struct sl_error *err)
{
    const size_t n = http1->missing < bytes.size ? (size_t)http1->missing : bytes.size;
    if (sl_buf_add(&http1->body, sl_slice_of(bytes.data, n)) != SL_OK) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for the body");
    }
    http1->missing -= n;
    if (http1->missing == 0) {
        http1->state = http1->state == SL_HTTP1_BODY ? SL_HTTP1_DONE : SL_HTTP1_CHUNK_END;
    }
    *ret_taken = n;
    return SL_OK;
}

/* Takes from `bytes`, which are not empty; at least one before the end of the request. */
static enum sl_status
feed_some(struct sl_http1 *http1, struct sl_slice bytes, size_t *ret_taken, struct sl_error *err)
{
    *ret_taken = 1;
    switch (http1->state) {
    case SL_HTTP1_HEAD:
        return feed_head(http1, bytes.data[0], err);
    case SL_HTTP1_CHUNK_SIZE:
    case SL_HTTP1_CHUNK_END:
    case SL_HTTP1_TRAILERS:
        return feed_line(http1, bytes.data[0], err);
    case SL_HTTP1_BODY:
    case SL_HTTP1_CHUNK:
        return feed_body(http1, bytes, ret_taken, err);
    case SL_HTTP1_DONE:
        break;
    }
    *ret_taken = 0;
    return SL_OK;
}

enum sl_status sl_http1_feed(
    struct sl_http1 *http1, struct sl_slice bytes, size_t *ret_taken, struct sl_error *err)
{
    size_t taken = 0;
    while (http1->state != SL_HTTP1_DONE && taken < bytes.size) {
        size_t n = 0;
        const struct sl_slice rest = sl_slice_of(bytes.data + taken, bytes.size - taken);
        SL_TRY(feed_some(http1, rest, &n, err));
        taken += n;
    }
    *ret_taken = taken;
    http1->request.body = sl_buf_slice(&http1->body);
    return http1->state == SL_HTTP1_DONE ? SL_OK : SL_AGAIN;
}
