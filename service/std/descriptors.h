/* Looks things up in the FileDescriptorProtos of a server's services, for reflection.
 *
 * The descriptors are read where they are, field by field; nothing is unpacked or indexed: a server
 * has a few dozen KiB of them, and reflection is for people and their tools. */
#ifndef SL_SERVICE_STD_DESCRIPTORS_H
#define SL_SERVICE_STD_DESCRIPTORS_H

#include <stdbool.h>

#include "runtime/base/slice.h"
#include "runtime/base/status.h"
#include "service/rpc/rpc.h"

/* Every file that the services of a server need. */
struct sl_descriptors {
    const struct sl_file_desc **files;
    size_t n_files, capacity;
};

/* Owns: sl_descriptors_done(), also after a failure. Fails: SL_RESOURCE_EXHAUSTED. */
SL_CHECK enum sl_status
sl_descriptors_init(struct sl_descriptors *descriptors, const struct sl_server *server);
void sl_descriptors_done(struct sl_descriptors *descriptors);

/* Each gives an index into `files`, or n_files: not found. Names are full, without a first dot. */
size_t sl_descriptors_find_name(const struct sl_descriptors *descriptors, const char *file_name);
size_t
sl_descriptors_find_file(const struct sl_descriptors *descriptors, const struct sl_file_desc *file);
/* The file that defines a message, enum, enum value, field, oneof, extension, service or method. */
size_t sl_descriptors_find_symbol(const struct sl_descriptors *descriptors, const char *symbol);
bool sl_descriptors_has_message(const struct sl_descriptors *descriptors, const char *name);
/* The file that defines the extension `number` of message `type`. */
size_t sl_descriptors_find_extension(
    const struct sl_descriptors *descriptors, const char *type, int32_t number);

typedef void(sl_descriptors_number_fn)(int32_t number, void *user_data);
/* Calls `on_number` for each extension of message `type`, in the order of the files. */
void sl_descriptors_each_extension(
    const struct sl_descriptors *descriptors,
    const char *type,
    sl_descriptors_number_fn *on_number,
    void *user_data);

#endif
