/* The static tables that generated code brings: methods, services, files. Constant; any thread. */
#ifndef SL_SERVICE_RPC_METHODS_H
#define SL_SERVICE_RPC_METHODS_H

#include "runtime/base/slice.h"
#include "runtime/base/status.h"

/* Changes with every incompatible change of what generated code uses (GC-10). */
#define SL_GEN_VERSION 1

enum sl_method_kind { SL_UNARY, SL_CLIENT_STREAMING, SL_SERVER_STREAMING, SL_BIDIRECTIONAL };
enum sl_idempotency { SL_IDEMPOTENCY_UNKNOWN, SL_NO_SIDE_EFFECTS, SL_IDEMPOTENT };

struct sl_method_desc {
    const char *path; /* "/pkg.Service/Method" */
    const char *name; /* "Method" */
    enum sl_method_kind kind;
    const void *request_type; /* the codec's: ProtobufCMessageDescriptor */
    const void *response_type;
    enum sl_idempotency idempotency;
};

struct sl_service_desc {
    const char *name; /* "pkg.Service" */
    const struct sl_method_desc *methods;
    size_t n_methods;
    const struct sl_file_desc *file;
};

/* One .proto file: its FileDescriptorProto without source_code_info, for reflection. */
struct sl_file_desc {
    const char *name; /* "pkg/v1/file.proto" */
    struct sl_slice bytes;
    const struct sl_file_desc *const *imports;
    size_t n_imports;
};

#endif
