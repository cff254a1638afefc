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

static void entries_are_found_and_removed(void **state)
{
    (void)state;
    struct entry *map = NULL;
    struct entry entries[100];
    sl_map_oom = false;
    for (int i = 0; i < 100; i++) {
        entries[i].key = i;
        HASH_ADD_INT(map, key, &entries[i]);
        assert_false(sl_map_oom);
    }
    for (int i = 0; i < 100; i++) {
        struct entry *found = NULL;
        HASH_FIND_INT(map, &i, found);
        assert_ptr_equal(found, &entries[i]);
        HASH_DEL(map, found);
        HASH_FIND_INT(map, &i, found);
        assert_null(found);
    }
    assert_null(map);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(entries_are_found_and_removed),
    };
    return cmocka_run_group_tests_name("map", tests, NULL, NULL);
}
