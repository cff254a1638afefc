# Tests of the library as a package (docs/library.md).
sl_add_test(sized sl_rpc)
sl_add_test(rpc_limits sl_rpc)
if(NOT SL_COVERAGE AND NOT SL_FUZZ AND NOT SL_SANITIZE MATCHES "thread|memory") # it is a build of its own, always the same
  add_test(NAME package.library COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_SOURCE_DIR}/package/test_package.py)
  set_tests_properties(package.library PROPERTIES LABELS e2e TIMEOUT 600 ENVIRONMENT "SLUICE_ROOT=${CMAKE_SOURCE_DIR}")
endif()
