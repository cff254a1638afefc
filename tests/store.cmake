# Tests of store.
# A store in a folder of its own.
add_library(sl_fake_store STATIC fake/store_rig.c fake/fault_vfs.c)
target_link_libraries(sl_fake_store PUBLIC sl_store_sqlite sl_base ${CMOCKA})

sl_add_test(store sl_fake_store)
sl_add_test(store_queue sl_fake_store)
sl_add_test(store_rows sl_fake_store)
sl_add_test(store_sql sl_fake_store)
sl_add_test(store_sqlite sl_fake_store)
sl_add_test(store_recovery sl_fake_store)
sl_add_test(store_context sl_fake_store)
sl_add_test(store_faults sl_fake_store)

# The process that test_store_crash kills.
add_executable(store_victim fake/store_victim.c)
target_link_libraries(store_victim PRIVATE sl_store_sqlite sl_base)
sl_add_test(store_crash sl_fake_store)
target_compile_definitions(test_store_crash PRIVATE SL_STORE_VICTIM="$<TARGET_FILE:store_victim>")
add_dependencies(test_store_crash store_victim)
# They wait for the disk, which others use as well.
set_tests_properties(unit.store unit.store_rows unit.store_sql unit.store_sqlite unit.store_recovery unit.store_context unit.store_faults unit.store_crash
  PROPERTIES TIMEOUT 240)
