/* Structs that callers fill and that may grow: their first field is `struct_size`, what sizeof gave
 * the caller. Whoever was built against an older header has a shorter one, and the fields it does
 * not know are zero, which always means "as before" (LR-8). */
#ifndef SL_RUNTIME_BASE_SIZED_H
#define SL_RUNTIME_BASE_SIZED_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>

/* Fills the struct at `ret` of `size` bytes from the one that was given, of which `struct_size`
 * bytes may be read. 0: the caller did not say; it has at least the `first_size` bytes of version
 * 0.1, which is sizeof as long as no field was added, and offsetof of the first added one later.
 * Gives false when the caller knows more fields than we: they are left out. */
static inline bool
sl_sized_read(void *ret, size_t size, const void *given, size_t struct_size, size_t first_size)
{
    const size_t known = struct_size == 0 ? first_size : struct_size;
    memset(ret, 0, size);
    memcpy(ret, given, known < size ? known : size);
    return known <= size;
}

#endif
