/* What a CodeGeneratorRequest says, looked up the way the emitters ask. */
#ifndef SL_CODEGEN_MODEL_H
#define SL_CODEGEN_MODEL_H

#include <google/protobuf/compiler/plugin.pb-c.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "codegen/names.h"
#include "codegen/text.h"

/* One .proto file of the request: those to generate, and everything they import. */
struct sl_proto {
    const Google__Protobuf__FileDescriptorProto *file;
    /* The FileDescriptorProto as protoc wrote it, custom options and all. */
    const uint8_t *bytes;
    size_t size;
    /* From option (pb_c_file). */
    char *c_package;    /* NULL: none */
    bool is_suppressed; /* no_generate: protoc-gen-c writes nothing for this file */
};

struct sl_model {
    Google__Protobuf__Compiler__CodeGeneratorRequest *request;
    struct sl_proto *protos; /* in the request's order: imports first */
    size_t n_protos;
};

/* Reads a request. The bytes are borrowed for the model's life. False: `why` says it. */
bool sl_model_load(struct sl_model *model, const struct sl_text *bytes, struct sl_text *why);
void sl_model_done(struct sl_model *model);

/* NULL: not in the request. */
const struct sl_proto *sl_model_find_proto(const struct sl_model *model, const char *name);
/* The file that defines ".pkg.Outer.Inner"; NULL: none. */
const struct sl_proto *sl_model_find_type(const struct sl_model *model, const char *type_name);

/* Adds the C name of something that the file defines. `name` is full ("pkg.Outer.Inner"); option
 * c_package replaces the package. */
void sl_proto_add_name(
    const struct sl_proto *proto, struct sl_text *text, enum sl_name_style style, const char *name);
/* The package that names begin with; "" : none. */
const char *sl_proto_package(const struct sl_proto *proto);
/* The comment above method `method` of service `service`, both counted from 0; NULL: none. */
const char *sl_proto_method_comment(const struct sl_proto *proto, size_t service, size_t method);
/* Adds the file's FileDescriptorProto without source_code_info. */
void sl_proto_add_bytes(const struct sl_proto *proto, struct sl_text *bytes);

#endif
