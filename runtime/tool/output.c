#include "runtime/tool/output.h"

#include <inttypes.h>

#include "runtime/base/mem.h"
#include "runtime/base/utf8.h"

void sl_output_init(struct sl_output *output, size_t edge_bytes)
{
    *output = (struct sl_output){ .edge_bytes = edge_bytes };
    sl_buf_init(&output->head, edge_bytes);
}

void sl_output_done(struct sl_output *output)
{
    sl_buf_done(&output->head);
    output->tail = sl_free(output->tail);
}

size_t sl_output_memory(const struct sl_output *output)
{
    return output->head.capacity + (output->tail == NULL ? 0 : output->edge_bytes);
}

/* The ring keeps the last edge_bytes. */
static void add_to_ring(struct sl_output *output, struct sl_slice bytes)
{
    const size_t edge = output->edge_bytes;
    if (bytes.size > edge) {
        bytes = sl_slice_of(bytes.data + (bytes.size - edge), edge);
    }
    const size_t until_end = edge - output->tail_at;
    const size_t first = bytes.size < until_end ? bytes.size : until_end;
    memcpy(output->tail + output->tail_at, bytes.data, first);
    memcpy(output->tail, bytes.data + first, bytes.size - first);
    output->tail_at = (output->tail_at + bytes.size) % edge;
    output->tail_size =
        edge - output->tail_size < bytes.size ? edge : output->tail_size + bytes.size;
}

enum sl_status sl_output_add(struct sl_output *output, struct sl_slice bytes)
{
    output->total_bytes += bytes.size;
    const size_t room = output->edge_bytes - output->head.size;
    const size_t first = bytes.size < room ? bytes.size : room;
    if (first > 0) {
        SL_TRY(sl_buf_add(&output->head, sl_slice_of(bytes.data, first)));
    }
    if (first == bytes.size) {
        return SL_OK;
    }
    if (output->tail == NULL) {
        output->tail = sl_alloc(output->edge_bytes);
        if (output->tail == NULL) {
            return SL_RESOURCE_EXHAUSTED;
        }
    }
    add_to_ring(output, sl_slice_of(bytes.data + first, bytes.size - first));
    return SL_OK;
}

static enum sl_status add_clean(struct sl_buf *text, struct sl_slice bytes)
{
    if (bytes.size == 0) {
        return SL_OK;
    }
    uint8_t *room = NULL;
    SL_TRY(sl_buf_reserve(text, sl_utf8_repaired_max(bytes.size), &room));
    sl_buf_commit(text, sl_utf8_repair(bytes, room));
    return SL_OK;
}

/* Where the first whole character begins: at most three bytes belong to the one before. */
static size_t skip_rest_of_character(struct sl_slice bytes)
{
    size_t n = 0;
    while (n < 3 && n < bytes.size && (bytes.data[n] & 0xC0U) == 0x80U) {
        n++;
    }
    return n;
}

/* Bytes at the end that may be the beginning of a character: a lead byte with too few behind it. */
static size_t unfinished(struct sl_slice bytes)
{
    for (size_t back = 1; back <= 3 && back <= bytes.size; back++) {
        const uint8_t c = bytes.data[bytes.size - back];
        if ((c & 0xC0U) == 0x80U) {
            continue;
        }
        const size_t wanted = c >= 0xF0 ? 4 : c >= 0xE0 ? 3 : c >= 0xC2 ? 2 : 1;
        return c <= 0xF4 && wanted > back ? back : 0;
    }
    return 0;
}

/* `first` and `last` are parts of a whole of `total` bytes. */
static enum sl_status
add_edges(struct sl_buf *text, struct sl_slice first, struct sl_slice last, uint64_t total)
{
    const size_t skipped = skip_rest_of_character(last);
    last = sl_slice_of(last.data + skipped, last.size - skipped);
    first = sl_slice_of(first.data, first.size - unfinished(first));
    SL_TRY(add_clean(text, first));
    SL_TRY(sl_buf_addf(
        text, "\n[... %" PRIu64 " bytes omitted ...]\n", total - first.size - last.size));
    return add_clean(text, last);
}

enum sl_status
sl_output_cut(struct sl_slice whole, size_t max_bytes, struct sl_buf *text, bool *ret_is_cut)
{
    *ret_is_cut = whole.size > max_bytes;
    if (!*ret_is_cut) {
        return add_clean(text, whole);
    }
    const size_t tail = max_bytes / 2;
    const size_t head = max_bytes - tail;
    return add_edges(
        text, sl_slice_of(whole.data, head), sl_slice_of(whole.data + (whole.size - tail), tail),
        whole.size);
}

/* The ring in order, `size` bytes of its end. */
static void copy_tail(const struct sl_output *output, uint8_t *room, size_t size)
{
    const size_t edge = output->edge_bytes;
    const size_t from = (output->tail_at + edge - size) % edge;
    const size_t first = size < edge - from ? size : edge - from;
    memcpy(room, output->tail + from, first);
    memcpy(room + first, output->tail, size - first);
}

enum sl_status sl_output_text(
    const struct sl_output *output, size_t max_bytes, struct sl_buf *text, bool *ret_is_cut)
{
    const struct sl_slice head = sl_buf_slice(&output->head);
    if (output->tail_size == 0) {
        SL_TRY(sl_output_cut(head, max_bytes, text, ret_is_cut));
        *ret_is_cut = *ret_is_cut || output->total_bytes > head.size;
        return SL_OK;
    }
    uint8_t *whole = sl_alloc(head.size + output->tail_size);
    if (whole == NULL) {
        return SL_RESOURCE_EXHAUSTED;
    }
    memcpy(whole, head.data, head.size);
    copy_tail(output, whole + head.size, output->tail_size);
    const size_t kept = head.size + output->tail_size;
    enum sl_status status = SL_OK;
    if (output->total_bytes == kept) {
        status = sl_output_cut(sl_slice_of(whole, kept), max_bytes, text, ret_is_cut);
    } else {
        const size_t half = max_bytes / 2;
        const size_t tail = output->tail_size < half ? output->tail_size : half;
        const size_t front = head.size < max_bytes - tail ? head.size : max_bytes - tail;
        *ret_is_cut = true;
        status = add_edges(
            text, sl_slice_of(whole, front), sl_slice_of(whole + (kept - tail), tail),
            output->total_bytes);
    }
    sl_free(whole);
    return status;
}

/* ---- Live ---------------------------------------------------------------------------------------
 */

void sl_output_live_add(
    struct sl_output_live *live,
    struct sl_slice bytes,
    bool is_last,
    void (*give)(struct sl_slice text, void *user_data),
    void *user_data)
{
    uint8_t raw[SL_OUTPUT_LIVE_BYTES];
    uint8_t clean[3 * SL_OUTPUT_LIVE_BYTES];
    _Static_assert(sizeof raw > sizeof live->carry, "a piece must move something on");
    do {
        memcpy(raw, live->carry, live->carry_size);
        const size_t room = sizeof raw - live->carry_size;
        const size_t taken = bytes.size < room ? bytes.size : room;
        if (taken > 0) {
            memcpy(raw + live->carry_size, bytes.data, taken);
            bytes = sl_slice_of(bytes.data + taken, bytes.size - taken);
        }
        const size_t size = live->carry_size + taken;
        const bool is_end = is_last && bytes.size == 0;
        live->carry_size = is_end ? 0 : unfinished(sl_slice_of(raw, size));
        const size_t whole = size - live->carry_size;
        memcpy(live->carry, raw + whole, live->carry_size);
        if (whole > 0) {
            give(sl_slice_of(clean, sl_utf8_repair(sl_slice_of(raw, whole), clean)), user_data);
        }
    } while (bytes.size > 0);
}
