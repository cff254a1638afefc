/* How a protoc plugin talks: a CodeGeneratorRequest on stdin, a CodeGeneratorResponse on stdout,
 * and faults of the input as `error` in the response with exit status 0 (GC-2). */
#ifndef SL_CODEGEN_PLUGIN_IO_H
#define SL_CODEGEN_PLUGIN_IO_H

#include <google/protobuf/compiler/plugin.pb-c.h>
#include <stdbool.h>

#include "codegen/text.h"

/* FEATURE_PROTO3_OPTIONAL: protoc refuses `optional` in proto3 files for plugins that do not say
 * it. */
#define SL_PLUGIN_FEATURES 1

/* What errno's number means. Never NULL. */
const char *sl_plugin_errno(int number);
/* Reads `fd` to its end. False: errno says why, or the text failed. */
bool sl_plugin_read(int fd, struct sl_text *text);
/* Writes all of it. False: errno says why. */
bool sl_plugin_write(int fd, const void *bytes, size_t size);
/* Packs the response onto `fd`. False: no memory, or as sl_plugin_write(). */
bool sl_plugin_respond(int fd, const Google__Protobuf__Compiler__CodeGeneratorResponse *response);
/* A response that is only an error. `text` is borrowed. */
bool sl_plugin_respond_error(int fd, const char *text);

#endif
