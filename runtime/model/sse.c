#include "runtime/model/sse.h"

#include "runtime/base/metrics.h"
#include "runtime/base/parse.h"
#include "runtime/base/utf8.h"

static const uint8_t bom[] = { 0xEF, 0xBB, 0xBF };

void sl_sse_init(struct sl_sse *sse, size_t max_line, size_t max_event)
{
    *sse = (struct sl_sse){ .max_event = max_event };
    sl_buf_init(&sse->line, max_line);
    sl_buf_init(&sse->data, max_event);
    sl_buf_init(&sse->name, max_line);
    sl_buf_init(&sse->raw, SL_SSE_RAW_BYTES);
    sl_buf_init(&sse->id, SL_SSE_ID_BYTES);
    sl_buf_init(&sse->repaired, sl_utf8_repaired_max(max_line));
}

void sl_sse_done(struct sl_sse *sse)
{
    sl_buf_done(&sse->line);
    sl_buf_done(&sse->data);
    sl_buf_done(&sse->name);
    sl_buf_done(&sse->raw);
    sl_buf_done(&sse->id);
    sl_buf_done(&sse->repaired);
}

/* Adds with the difference between "too long" and "no memory". */
static enum sl_status add(struct sl_buf *buf, struct sl_slice bytes)
{
    if (bytes.size > buf->max_bytes - buf->size) {
        sl_limit_reached(SL_LIMIT_model_event);
        return SL_OUT_OF_RANGE;
    }
    return sl_buf_add(buf, bytes);
}

static enum sl_status too_long_a_line(void)
{
    sl_limit_reached(SL_LIMIT_model_line);
    return SL_OUT_OF_RANGE;
}

static enum sl_status add_to_line(struct sl_buf *line, struct sl_slice bytes)
{
    return bytes.size > line->max_bytes - line->size ? too_long_a_line() : sl_buf_add(line, bytes);
}

static enum sl_status set(struct sl_buf *buf, struct sl_slice bytes)
{
    sl_buf_clear(buf);
    return add(buf, bytes);
}

/* Copies data that lies in the caller's bytes, because they go away. */
static enum sl_status keep_data(struct sl_sse *sse)
{
    if (!sse->is_borrowed) {
        return SL_OK;
    }
    sse->is_borrowed = false;
    return set(&sse->data, sse->borrowed);
}

/* ---- Events ---------------------------------------------------------------------------------- */

static enum sl_status
give_data(struct sl_sse *sse, sl_sse_event_fn *on_event, void *user_data, bool is_cut)
{
    bool goes_on = true;
    if (sse->has_data) {
        const struct sl_sse_event event = {
            .name = sl_buf_slice(&sse->name),
            .data = sse->is_borrowed ? sse->borrowed : sl_buf_slice(&sse->data),
            .is_cut = is_cut,
        };
        goes_on = on_event(user_data, &event);
    }
    sse->has_data = sse->is_borrowed = false;
    sl_buf_clear(&sse->data);
    sl_buf_clear(&sse->name);
    return goes_on ? SL_OK : SL_AGAIN;
}

static enum sl_status
give_raw(struct sl_sse *sse, sl_sse_event_fn *on_event, void *user_data, bool is_cut)
{
    const struct sl_sse_event event = {
        .data = sl_buf_slice(&sse->raw),
        .is_raw = true,
        .is_cut = is_cut,
    };
    sse->is_in_raw = false;
    const bool goes_on = on_event(user_data, &event);
    sl_buf_clear(&sse->raw);
    return goes_on ? SL_OK : SL_AGAIN;
}

/* ---- Fields ---------------------------------------------------------------------------------- */

static enum sl_status take_data(struct sl_sse *sse, struct sl_slice value, bool is_lasting)
{
    if (!sse->has_data) {
        sse->has_data = true;
        if (value.size > sse->max_event) {
            sl_limit_reached(SL_LIMIT_model_event);
            return SL_OUT_OF_RANGE;
        }
        sse->is_borrowed = is_lasting;
        sse->borrowed = value;
        return is_lasting ? SL_OK : set(&sse->data, value);
    }
    SL_TRY(keep_data(sse));
    SL_TRY(add(&sse->data, sl_slice_str("\n")));
    return add(&sse->data, value);
}

static void take_retry(struct sl_sse *sse, struct sl_slice value)
{
    uint64_t ms = 0;
    if (sl_parse_u64(value, 0, UINT64_MAX, &ms) == SL_OK) {
        sse->retry_ms = ms;
        sse->has_retry = true;
    }
}

static enum sl_status take_id(struct sl_sse *sse, struct sl_slice value, bool has_nul)
{
    if (has_nul || value.size > SL_SSE_ID_BYTES) {
        return SL_OK; /* ignored: the old one stays */
    }
    return set(&sse->id, value);
}

/* `is_lasting`: the line lies in the bytes being fed. `has_nul`: before it was made valid. */
static enum sl_status
take_field(struct sl_sse *sse, struct sl_slice line, bool is_lasting, bool has_nul)
{
    const uint8_t *colon = memchr(line.data, ':', line.size);
    struct sl_slice name = line;
    struct sl_slice value = { .data = line.data + line.size, .size = 0 };
    if (colon != NULL) {
        name.size = (size_t)(colon - line.data);
        value = sl_slice_of(colon + 1, line.size - name.size - 1);
        if (value.size > 0 && value.data[0] == ' ') {
            value.data++;
            value.size--;
        }
    }
    if (sl_slice_equals(name, "data")) {
        return take_data(sse, value, is_lasting);
    }
    if (sl_slice_equals(name, "event")) {
        return set(&sse->name, value);
    }
    if (sl_slice_equals(name, "id")) {
        return take_id(sse, value, has_nul);
    }
    if (sl_slice_equals(name, "retry")) {
        take_retry(sse, value);
    }
    return SL_OK;
}

static enum sl_status take_raw(struct sl_sse *sse, struct sl_slice line)
{
    SL_TRY(add(&sse->raw, line));
    return add(&sse->raw, sl_slice_str("\n"));
}

/* ---- Lines ----------------------------------------------------------------------------------- */

static enum sl_status make_valid(struct sl_sse *sse, struct sl_slice *line)
{
    uint8_t *room = NULL;
    sl_buf_clear(&sse->repaired);
    SL_TRY(sl_buf_reserve(&sse->repaired, sl_utf8_repaired_max(line->size), &room));
    sl_buf_commit(&sse->repaired, sl_utf8_repair(*line, room));
    *line = sl_buf_slice(&sse->repaired);
    return SL_OK;
}

static enum sl_status take_line(
    struct sl_sse *sse,
    struct sl_slice line,
    bool is_lasting,
    sl_sse_event_fn *on_event,
    void *user_data)
{
    if (line.size == 0) {
        if (sse->is_in_raw) {
            return give_raw(sse, on_event, user_data, false);
        }
        return give_data(sse, on_event, user_data, false);
    }
    bool has_nul = false;
    if (!sl_utf8_is_clean(line)) {
        has_nul = memchr(line.data, 0, line.size) != NULL;
        is_lasting = false;
        SL_TRY(make_valid(sse, &line));
    }
    if (sse->is_in_raw) {
        return take_raw(sse, line);
    }
    if (line.data[0] == '{' || line.data[0] == '[') {
        /* What was collected before does not wait for the block's empty line. */
        const enum sl_status status = give_data(sse, on_event, user_data, false);
        sse->is_in_raw = true;
        const enum sl_status taken = take_raw(sse, line);
        return taken != SL_OK ? taken : status;
    }
    return line.data[0] == ':' ? SL_OK : take_field(sse, line, is_lasting, has_nul);
}

/* The mark at the beginning, which may come in pieces; bytes of a false start belong to the line.
 */
static enum sl_status skip_bom(struct sl_sse *sse, struct sl_slice bytes, size_t *pos)
{
    while (sse->n_bom < sizeof(bom) && *pos < bytes.size) {
        if (bytes.data[*pos] != bom[sse->n_bom]) {
            const struct sl_slice seen = { .data = bom, .size = sse->n_bom };
            sse->n_bom = sizeof(bom);
            return add_to_line(&sse->line, seen);
        }
        sse->n_bom++;
        (*pos)++;
    }
    return SL_OK;
}

/* Ends the line that lies in [`from`, `to`), with what was kept of it. */
static enum sl_status
end_line(struct sl_sse *sse, struct sl_slice piece, sl_sse_event_fn *on_event, void *user_data)
{
    if (sse->line.size == 0) {
        return piece.size > sse->line.max_bytes ? too_long_a_line()
                                                : take_line(sse, piece, true, on_event, user_data);
    }
    SL_TRY(add_to_line(&sse->line, piece));
    const enum sl_status status =
        take_line(sse, sl_buf_slice(&sse->line), false, on_event, user_data);
    sl_buf_clear(&sse->line);
    return status;
}

/* Where the next `byte` is at or behind `from`; the size when there is none. The last answer
 * (SIZE_MAX: there was none) holds as long as it lies ahead, so that the bytes are searched once.
 */
static size_t find(struct sl_slice bytes, uint8_t byte, size_t from, size_t last)
{
    if (last != SIZE_MAX && last >= from) {
        return last;
    }
    const uint8_t *at = memchr(bytes.data + from, byte, bytes.size - from);
    return at == NULL ? bytes.size : (size_t)(at - bytes.data);
}

static enum sl_status take_lines(
    struct sl_sse *sse,
    struct sl_slice bytes,
    sl_sse_event_fn *on_event,
    void *user_data,
    size_t *pos)
{
    size_t lf = SIZE_MAX;
    size_t cr = SIZE_MAX;
    while (*pos < bytes.size) {
        if (sse->must_skip_lf) {
            sse->must_skip_lf = false;
            *pos += bytes.data[*pos] == '\n';
            continue;
        }
        lf = find(bytes, '\n', *pos, lf);
        cr = find(bytes, '\r', *pos, cr);
        const size_t end = lf < cr ? lf : cr;
        const struct sl_slice piece = sl_slice_of(bytes.data + *pos, end - *pos);
        if (end == bytes.size) {
            *pos = end;
            return add_to_line(&sse->line, piece);
        }
        sse->must_skip_lf = end == cr;
        *pos = end + 1;
        SL_TRY(end_line(sse, piece, on_event, user_data));
    }
    return SL_OK;
}

/* ---- Public ---------------------------------------------------------------------------------- */

enum sl_status sl_sse_feed(
    struct sl_sse *sse,
    struct sl_slice bytes,
    sl_sse_event_fn *on_event,
    void *user_data,
    size_t *ret_used)
{
    size_t pos = 0;
    enum sl_status status = skip_bom(sse, bytes, &pos);
    if (status == SL_OK) {
        status = take_lines(sse, bytes, on_event, user_data, &pos);
    }
    *ret_used = pos;
    const enum sl_status kept = keep_data(sse);
    return status == SL_OK ? kept : status;
}

enum sl_status sl_sse_finish(struct sl_sse *sse, sl_sse_event_fn *on_event, void *user_data)
{
    if (sse->n_bom < sizeof(bom)) {
        const struct sl_slice seen = { .data = bom, .size = sse->n_bom };
        sse->n_bom = sizeof(bom);
        SL_TRY(add_to_line(&sse->line, seen));
    }
    if (sse->line.size > 0) {
        SL_TRY(end_line(sse, sl_slice_of(NULL, 0), on_event, user_data));
    }
    if (sse->is_in_raw) {
        return give_raw(sse, on_event, user_data, true);
    }
    return give_data(sse, on_event, user_data, true);
}

struct sl_slice sl_sse_last_id(const struct sl_sse *sse)
{
    return sl_buf_slice(&sse->id);
}

bool sl_sse_retry_ms(const struct sl_sse *sse, uint64_t *ret_ms)
{
    if (sse->has_retry) {
        *ret_ms = sse->retry_ms;
    }
    return sse->has_retry;
}

size_t sl_sse_memory(const struct sl_sse *sse)
{
    return sse->line.capacity + sse->data.capacity + sse->name.capacity + sse->raw.capacity +
           sse->id.capacity + sse->repaired.capacity;
}
