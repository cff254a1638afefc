/* Descriptor tables (GC-7). */
#include <stdlib.h>
#include <string.h>

#include "codegen/emit.h"

static bool begins_with(const char *text, const char *start)
{
    return strncmp(text, start, strlen(start)) == 0;
}

/* Files that hardly anybody generates, but that others import. */
static bool is_carried(const struct sl_emit *emit, const char *file_name)
{
    if (begins_with(file_name, "google/protobuf/") || begins_with(file_name, "protobuf-c/")) {
        return true;
    }
    for (size_t i = 0; i < emit->options->n_carried; i++) {
        if (strcmp(emit->options->carried[i], file_name) == 0) {
            return true;
        }
    }
    return false;
}

static void emit_byte_table(const struct sl_proto *proto, struct sl_text *text)
{
    struct sl_text bytes = { 0 };
    sl_proto_add_bytes(proto, &bytes);
    for (size_t i = 0; i < bytes.size; i++) {
        sl_text_addf(
            text, "%s0x%02x,", i % 16 == 0 ? "\n    " : " ", (unsigned int)(uint8_t)bytes.data[i]);
    }
    if (bytes.has_failed || bytes.size == 0) {
        text->has_failed = true;
    }
    sl_text_done(&bytes);
}

static void add_symbol(struct sl_text *text, const char *file_name)
{
    sl_text_add(text, "sl_");
    sl_name_add_file(text, file_name);
}

static void emit_imports(const struct sl_proto *proto, const char *symbol, struct sl_text *text)
{
    const size_t n_imports = proto->file->n_dependency;
    if (n_imports == 0) {
        return;
    }
    for (size_t i = 0; i < n_imports; i++) {
        sl_text_add(text, "extern const struct sl_file_desc ");
        add_symbol(text, proto->file->dependency[i]);
        sl_text_add(text, "__file;\n");
    }
    sl_text_addf(text, "static const struct sl_file_desc *const %s__imports[] = {\n", symbol);
    for (size_t i = 0; i < n_imports; i++) {
        sl_text_add(text, "    &");
        add_symbol(text, proto->file->dependency[i]);
        sl_text_add(text, "__file,\n");
    }
    sl_text_add(text, "};\n");
}

/* One file. A weak table gives way to one that is generated from the file itself, and the linker
 * keeps one of many: there is one table per file name in a program. */
static void emit_table(const struct sl_proto *proto, bool is_weak, struct sl_text *text)
{
    struct sl_text symbol = { 0 };
    struct sl_text name = { 0 };
    add_symbol(&symbol, proto->file->name);
    sl_name_add_escaped(&name, proto->file->name);
    const char *s = sl_text_get(&symbol);

    sl_text_addf(text, "\nstatic const uint8_t %s__bytes[] = {", s);
    emit_byte_table(proto, text);
    sl_text_add(text, "\n};\n");
    emit_imports(proto, s, text);
    if (is_weak) {
        sl_text_addf(text, "extern const struct sl_file_desc %s__file;\n", s);
        sl_text_add(text, "__attribute__((weak)) ");
    }
    sl_text_addf(text, "const struct sl_file_desc %s__file = {\n", s);
    sl_text_addf(text, "    .name = \"%s\",\n", sl_text_get(&name));
    sl_text_addf(text, "    .bytes = { %s__bytes, sizeof(%s__bytes) },\n", s, s);
    if (proto->file->n_dependency > 0) {
        sl_text_addf(text, "    .imports = %s__imports,\n", s);
        sl_text_addf(text, "    .n_imports = %zu,\n", proto->file->n_dependency);
    }
    sl_text_add(text, "};\n");
    if (symbol.has_failed || name.has_failed) {
        text->has_failed = true;
    }
    sl_text_done(&symbol);
    sl_text_done(&name);
}

/* Marks the imports of `proto` that its output carries, and theirs: those have no other home. The
 * request has imports before importers, so one walk backwards finds all. */
static void mark_carried(const struct sl_emit *emit, bool *is_marked)
{
    const struct sl_model *model = emit->model;
    const size_t self = (size_t)(emit->proto - model->protos);
    for (size_t i = self + 1; i-- > 0;) {
        if (i != self && !is_marked[i]) {
            continue;
        }
        const Google__Protobuf__FileDescriptorProto *file = model->protos[i].file;
        for (size_t k = 0; k < file->n_dependency; k++) {
            const struct sl_proto *import = sl_model_find_proto(model, file->dependency[k]);
            if (import != NULL && (is_marked[i] || is_carried(emit, file->dependency[k]))) {
                is_marked[import - model->protos] = true;
            }
        }
    }
}

void sl_emit_tables(const struct sl_emit *emit, struct sl_text *text)
{
    bool *is_marked = calloc(emit->model->n_protos, sizeof(*is_marked));
    if (is_marked == NULL) {
        text->has_failed = true;
        return;
    }
    mark_carried(emit, is_marked);
    for (size_t i = 0; i < emit->model->n_protos; i++) {
        if (is_marked[i]) {
            emit_table(&emit->model->protos[i], true, text);
        }
    }
    emit_table(emit->proto, false, text);
    free(is_marked);
}
