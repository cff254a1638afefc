# Tests of exec.
# A fake model, fake tools, and a rig that runs a run with them. They stand in for sl_model and sl_tool.
add_library(sl_fake_exec STATIC fake/fake_model.c fake/fake_tool.c fake/exec_rig.c)
target_link_libraries(sl_fake_exec PUBLIC sl_exec sl_fake ${CMOCKA})

sl_add_test(run sl_fake_exec)
sl_add_test(run_tools sl_fake_exec)
sl_add_test(run_end sl_fake_exec)
sl_add_test(admit sl_runtime)
sl_add_test(runtime sl_runtime)
sl_add_test(generation sl_runtime)
sl_add_test(encode sl_exec sl_fake)
sl_add_test(event_order sl_event_order)
sl_add_test(agent sl_fake_exec)
sl_add_test(history sl_exec)
sl_add_test(budget sl_exec)
sl_add_test(directory sl_runtime)
sl_add_fuzzer(agent_yaml FOREIGN sl_fake_exec)
sl_add_fuzzer(event_roundtrip FOREIGN sl_exec sl_fake)
