#include "service/rpc/prescan.h"

#include <stdio.h>

#include "runtime/base/metrics.h"
#include "runtime/base/utf8.h"

enum {
    STACK_LEVELS = 128,
    MAX_VARINT_BYTES = 10,
    MAX_HEAD_BYTES = 5, /* of a tag or a length: both are 32 bits */
    MAX_FIELD = (1 << 29) - 1,
    PATH_BYTES = 120
};

enum wire_type {
    WIRE_VARINT = 0,
    WIRE_64 = 1,
    WIRE_BYTES = 2,
    WIRE_GROUP = 3,
    WIRE_END_GROUP = 4,
    WIRE_32 = 5
};

/* One message or group that is open. */
struct level {
    const ProtobufCMessageDescriptor *type; /* NULL: inside a group, which is cut out */
    const ProtobufCFieldDescriptor *field;  /* that it is the value of; NULL: the root, a group */
    const uint8_t *end;                     /* of a group: that of the message around it */
    uint32_t group;                         /* number of the group; 0: none */
    uint32_t n_length;                      /* copying: bytes of the length before it */
    uint8_t *out;                           /* copying: where its content begins */
};

struct scan {
    const struct sl_limits *limits;
    struct sl_error *err;
    const uint8_t *at;
    struct level *levels;
    size_t n_levels;
    size_t max_levels;
    uint64_t n_tags;
    bool must_cut; /* some bytes may not reach protobuf-c */
    uint8_t *out;  /* copying: where the next kept byte goes; NULL: only looking */
};

/* What one tag announced. */
struct item {
    const uint8_t *from; /* its tag */
    uint32_t number;
    enum wire_type wire;
    const ProtobufCFieldDescriptor *field; /* NULL: unknown */
};

/* "a.b.c" of the field that is being looked at. */
static const char *
path_of(const struct scan *scan, const ProtobufCFieldDescriptor *last, char room[PATH_BYTES])
{
    size_t size = 0;
    room[0] = '\0';
    for (size_t i = 0; i <= scan->n_levels && size < PATH_BYTES; i++) {
        const ProtobufCFieldDescriptor *field = i < scan->n_levels ? scan->levels[i].field : last;
        if (field != NULL) {
            const int n =
                snprintf(room + size, PATH_BYTES - size, "%s%s", size == 0 ? "" : ".", field->name);
            size += n < 0 ? 0 : (size_t)n;
        }
    }
    return room;
}

static enum sl_status malformed(const struct scan *scan, const char *what)
{
    char path[PATH_BYTES];
    const ProtobufCMessageDescriptor *root = scan->levels[0].type;
    (void)path_of(scan, NULL, path);
    return sl_fail(
        scan->err, SL_INTERNAL, "message %s does not parse: %s%s%s", root->name, what,
        path[0] == '\0' ? "" : " in field ", path);
}

/* A varint of at most `max_bytes`, before `end`. */
static enum sl_status
read_varint(struct scan *scan, const uint8_t *end, unsigned max_bytes, uint64_t *ret_value)
{
    uint64_t value = 0;
    for (unsigned i = 0; i < max_bytes; i++) {
        if (scan->at == end) {
            return malformed(scan, "a varint is cut off");
        }
        const uint8_t byte = *scan->at++;
        value |= (uint64_t)(byte & 0x7F) << (7 * i);
        if (byte < 0x80) {
            *ret_value = value;
            return SL_OK;
        }
    }
    return malformed(scan, "a varint is too long");
}

static enum sl_status skip(struct scan *scan, const uint8_t *end, uint64_t size)
{
    if (size > (uint64_t)(end - scan->at)) {
        return malformed(scan, "a value is cut off");
    }
    scan->at += size;
    return SL_OK;
}

/* Copying: keeps what lies between `from` and the place where the scan is. */
static void keep(struct scan *scan, const uint8_t *from)
{
    if (scan->out != NULL && from != NULL) {
        const size_t size = (size_t)(scan->at - from);
        memcpy(scan->out, from, size);
        scan->out += size;
    }
}

static enum wire_type wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_BOOL:
    case PROTOBUF_C_TYPE_ENUM:
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    }
    return WIRE_BYTES;
}

/* True when protobuf-c takes this wire type for this field: its own, or the packed form. */
static bool is_right_wire(const ProtobufCFieldDescriptor *field, enum wire_type wire)
{
    const enum wire_type own = wire_of(field->type);
    return wire == own ||
           (wire == WIRE_BYTES && own != WIRE_BYTES && field->label == PROTOBUF_C_LABEL_REPEATED);
}

static enum sl_status
check_text(struct scan *scan, const ProtobufCFieldDescriptor *field, struct sl_slice text)
{
    if (sl_utf8_is_clean(text)) {
        return SL_OK;
    }
    char path[PATH_BYTES];
    const bool has_nul = memchr(text.data, 0, text.size) != NULL;
    return sl_fail(
        scan->err, SL_INTERNAL, "string field %s %s", path_of(scan, field, path),
        has_nul ? "holds a NUL byte" : "is not valid UTF-8");
}

static enum sl_status check_packed_varints(struct scan *scan, const uint8_t *end)
{
    while (scan->at < end) {
        uint64_t value = 0;
        SL_TRY(read_varint(scan, end, MAX_VARINT_BYTES, &value));
    }
    return SL_OK;
}

static enum sl_status check_packed(struct scan *scan, enum wire_type element, const uint8_t *end)
{
    if (element == WIRE_VARINT) {
        return check_packed_varints(scan, end);
    }
    const size_t size = element == WIRE_64 ? 8 : 4;
    if ((size_t)(end - scan->at) % size != 0) {
        return malformed(scan, "a packed field ends inside a value");
    }
    scan->at = end;
    return SL_OK;
}

/* Opens a message or group. Levels above the root count (WS-2). */
static enum sl_status push(struct scan *scan, struct level level)
{
    if (scan->n_levels > scan->limits->message_depth || scan->n_levels == scan->max_levels) {
        sl_limit_reached(SL_LIMIT_message_depth);
        return malformed(scan, "it is nested too deeply");
    }
    level.out = scan->out;
    scan->levels[scan->n_levels++] = level;
    return SL_OK;
}

/* Copying: writes the length of the message that ends here, in as many bytes as before: what was
 * cut out made it smaller, and a varint may have leading zeros. */
static void patch_length(const struct scan *scan, const struct level *level)
{
    if (scan->out == NULL || level->n_length == 0) {
        return;
    }
    uint64_t size = (uint64_t)(scan->out - level->out);
    for (uint32_t i = 0; i < level->n_length; i++) {
        const uint8_t more = i + 1 < level->n_length ? 0x80 : 0;
        level->out[(ptrdiff_t)i - (ptrdiff_t)level->n_length] = (uint8_t)((size & 0x7F) | more);
        size >>= 7;
    }
}

static enum sl_status scan_bytes(struct scan *scan, const struct level *level, struct item item)
{
    const uint8_t *length_at = scan->at;
    uint64_t size = 0;
    SL_TRY(read_varint(scan, level->end, MAX_HEAD_BYTES, &size));
    const uint8_t *content = scan->at;
    SL_TRY(skip(scan, level->end, size));
    const uint8_t *end = scan->at;
    const ProtobufCFieldDescriptor *field = item.field;
    if (field == NULL) {
        keep(scan, item.from);
        return SL_OK;
    }
    if (field->type == PROTOBUF_C_TYPE_MESSAGE) {
        scan->at = content;
        keep(scan, item.from);
        const struct level next = {
            .type = field->descriptor,
            .field = field,
            .end = end,
            .n_length = (uint32_t)(content - length_at),
        };
        return push(scan, next);
    }
    if (field->type == PROTOBUF_C_TYPE_STRING) {
        SL_TRY(check_text(scan, field, sl_slice_of(content, (size_t)size)));
    } else if (field->type != PROTOBUF_C_TYPE_BYTES) {
        scan->at = content;
        SL_TRY(check_packed(scan, wire_of(field->type), end));
    }
    keep(scan, item.from);
    return SL_OK;
}

static enum sl_status read_tag(struct scan *scan, const struct level *level, struct item *ret_item)
{
    struct item item = { .from = scan->at };
    uint64_t tag = 0;
    SL_TRY(read_varint(scan, level->end, MAX_HEAD_BYTES, &tag));
    if (tag >> 3 == 0 || tag >> 3 > MAX_FIELD) {
        return malformed(scan, "a field number is out of range");
    }
    if ((tag & 7) > WIRE_32) {
        return malformed(scan, "a wire type is unknown");
    }
    if (++scan->n_tags > scan->limits->message_tags) {
        sl_limit_reached(SL_LIMIT_message_tags);
        return sl_fail(
            scan->err, SL_RESOURCE_EXHAUSTED, "message has more than %llu fields",
            (unsigned long long)scan->limits->message_tags);
    }
    item.number = (uint32_t)(tag >> 3);
    item.wire = (enum wire_type)(tag & 7);
    if (level->type != NULL) {
        item.field = protobuf_c_message_descriptor_get_field(level->type, item.number);
    }
    *ret_item = item;
    return SL_OK;
}

static enum sl_status skip_value(struct scan *scan, const uint8_t *end, enum wire_type wire)
{
    uint64_t value = 0;
    switch (wire) {
    case WIRE_VARINT:
        return read_varint(scan, end, MAX_VARINT_BYTES, &value);
    case WIRE_64:
        return skip(scan, end, 8);
    case WIRE_32:
        return skip(scan, end, 4);
    case WIRE_BYTES:
        SL_TRY(read_varint(scan, end, MAX_HEAD_BYTES, &value));
        return skip(scan, end, value);
    case WIRE_GROUP:
    case WIRE_END_GROUP:
        break;
    }
    return SL_OK;
}

static enum sl_status close_group(struct scan *scan, uint32_t number)
{
    if (scan->levels[scan->n_levels - 1].group != number) {
        return malformed(scan, "a group ends that did not begin");
    }
    scan->n_levels--;
    return SL_OK;
}

/* One field of the innermost message or group. */
static enum sl_status scan_item(struct scan *scan)
{
    const struct level level = scan->levels[scan->n_levels - 1];
    struct item item = { 0 };
    SL_TRY(read_tag(scan, &level, &item));
    if (item.wire == WIRE_GROUP) {
        scan->must_cut = true;
        return push(scan, (struct level){ .end = level.end, .group = item.number });
    }
    if (item.wire == WIRE_END_GROUP) {
        return close_group(scan, item.number);
    }
    const bool is_wrong = item.field != NULL && !is_right_wire(item.field, item.wire);
    if (level.group != 0 || is_wrong) {
        scan->must_cut = true;
        return skip_value(scan, level.end, item.wire);
    }
    if (item.wire == WIRE_BYTES) {
        return scan_bytes(scan, &level, item);
    }
    SL_TRY(skip_value(scan, level.end, item.wire));
    keep(scan, item.from);
    return SL_OK;
}

/* The innermost message has come to its end. */
static enum sl_status close_message(struct scan *scan)
{
    const struct level *level = &scan->levels[scan->n_levels - 1];
    if (level->group != 0) {
        return malformed(scan, "a group does not end");
    }
    patch_length(scan, level);
    scan->n_levels--;
    return SL_OK;
}

static enum sl_status scan_all(struct scan *scan)
{
    while (scan->n_levels > 0) {
        const bool has_more = scan->at < scan->levels[scan->n_levels - 1].end;
        SL_TRY(has_more ? scan_item(scan) : close_message(scan));
    }
    return SL_OK;
}

static enum sl_status start(
    struct scan *scan, const ProtobufCMessageDescriptor *type, struct sl_slice bytes, uint8_t *out)
{
    scan->at = bytes.data;
    scan->out = out;
    scan->n_tags = 0;
    scan->n_levels = 1;
    scan->levels[0] = (struct level){ .type = type, .end = bytes.data + bytes.size };
    return scan_all(scan);
}

enum sl_status sl_prescan(
    const struct sl_limits *limits,
    const ProtobufCMessageDescriptor *type,
    struct sl_slice bytes,
    struct sl_arena *arena,
    struct sl_slice *ret_bytes,
    struct sl_error *err)
{
    struct level levels[STACK_LEVELS];
    struct scan scan = {
        .limits = limits, .err = err, .levels = levels, .max_levels = STACK_LEVELS
    };
    if (bytes.size == 0) {
        *ret_bytes = bytes;
        return SL_OK;
    }
    if (limits->message_depth + 1 > STACK_LEVELS) {
        scan.max_levels = (size_t)limits->message_depth + 1;
        scan.levels = sl_arena_calloc(arena, scan.max_levels, sizeof(*scan.levels));
        if (scan.levels == NULL) {
            return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory to check a message");
        }
    }
    SL_TRY(start(&scan, type, bytes, NULL));
    if (!scan.must_cut) {
        *ret_bytes = bytes;
        return SL_OK;
    }
    uint8_t *copy = sl_arena_alloc(arena, bytes.size);
    if (copy == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory to copy a message");
    }
    SL_TRY(start(&scan, type, bytes, copy));
    *ret_bytes = sl_slice_of(copy, (size_t)(scan.out - copy));
    return SL_OK;
}
