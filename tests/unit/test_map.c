#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "runtime/base/map.h"
#include "runtime/base/mem.h"

struct entry {
    int key;
    struct UT_hash_handle hh;
};

/* uthash's macros are large; the linter counts them as ours. */
/* NOLINTBEGIN(readability-function-cognitive-complexity,readability-function-size) */
static void add(struct entry **map, struct entry *entry)
{
    HASH_ADD_INT(*map, key, entry);
}

static struct entry *find(struct entry *map, int key)
{
    struct entry *found = NULL;
    HASH_FIND_INT(map, &key, found);
    return found;
}

static void take_out(struct entry **map, struct entry *entry)
{
    HASH_DEL(*map, entry);
}
/* NOLINTEND(readability-function-cognitive-complexity,readability-function-size) */

static void entries_are_found_and_removed(void **state)
{
    (void)state;
    struct entry *map = NULL;
    struct entry entries[100];
    sl_map_oom = false;
    for (int i = 0; i < 100; i++) {
        entries[i].key = i;
        add(&map, &entries[i]);
        assert_false(sl_map_oom);
    }
    for (int i = 0; i < 100; i++) {
        assert_ptr_equal(find(map, i), &entries[i]);
        take_out(&map, &entries[i]);
        assert_null(find(map, i));
    }
    assert_null(map);
}

static void hashes_depend_on_every_byte_and_the_length(void **state)
{
    (void)state;
    uint8_t key[40] = { 0 };
    for (size_t size = 0; size < sizeof(key); size++) {
        const unsigned hash = sl_map_hash(key, size);
        assert_int_equal(sl_map_hash(key, size), hash);
        assert_int_not_equal(sl_map_hash(key, size + 1), hash);
        for (size_t i = 0; i < size; i++) {
            key[i] = 1;
            assert_int_not_equal(sl_map_hash(key, size), hash);
            key[i] = 0;
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_found_and_removed),
        cmocka_unit_test(hashes_depend_on_every_byte_and_the_length),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
