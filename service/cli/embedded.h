/* What `sluice` knows without asking a server: its own API, and the details of errors. */
#ifndef SL_SERVICE_CLI_EMBEDDED_H
#define SL_SERVICE_CLI_EMBEDDED_H

#include "service/schema/schema.h"

/* A .proto file of the API as it is in the source tree. */
struct sl_embedded_proto {
    const char *name; /* "sluice/v1/runtime.proto" */
    struct sl_slice text;
};
extern const struct sl_embedded_proto sl_embedded_protos[];
extern const size_t sl_embedded_n_protos;

/* sluice.v1 and grpc.health.v1, as a pool, or as a FileDescriptorSet with everything that they
 * import. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status sl_embedded_api(struct sl_schema *schema, struct sl_error *err);
SL_CHECK enum sl_status sl_embedded_set(struct sl_buf *out);
/* google.rpc: Status and the well-known details. */
SL_CHECK enum sl_status sl_embedded_details(struct sl_schema *schema, struct sl_error *err);

#endif
