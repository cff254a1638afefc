/* The names of the pool. uthash is macros, which the linter counts. */
#include "service/schema/schema_impl.h"

// NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size)
struct sl_schema_symbol *sl_pool_find_symbol(const struct sl_schema *schema, struct sl_slice name)
{
    struct sl_schema_symbol *symbol = NULL;
    HASH_FIND(hh, schema->symbols, name.data, name.size, symbol);
    return symbol;
}

bool sl_pool_add_symbol(struct sl_schema *schema, struct sl_schema_symbol *symbol)
{
    sl_map_oom = false;
    HASH_ADD_KEYPTR(hh, schema->symbols, symbol->name, strlen(symbol->name), symbol);
    return !sl_map_oom;
}

struct sl_schema_file *sl_pool_find_file(struct sl_schema_file *files, const char *name)
{
    struct sl_schema_file *file = NULL;
    HASH_FIND(hh, files, name, strlen(name), file);
    return file;
}

bool sl_pool_add_file(struct sl_schema_file **files, struct sl_schema_file *file)
{
    sl_map_oom = false;
    HASH_ADD_KEYPTR(hh, *files, file->name, strlen(file->name), file);
    return !sl_map_oom;
}

void sl_pool_clear(struct sl_schema *schema)
{
    HASH_CLEAR(hh, schema->files);
    HASH_CLEAR(hh, schema->imports);
    HASH_CLEAR(hh, schema->symbols);
}
// NOLINTEND(readability-function-cognitive-complexity,readability-function-size)
