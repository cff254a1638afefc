# Tests of the real binaries, from outside. tests/e2e/harness.py checks what every one of them leaves behind.
find_program(PYTHON3 NAMES python3 PATHS /usr/bin NO_DEFAULT_PATH REQUIRED)
# One a line: additions then merge.
foreach(name
    agents
    ask
    attach
    attacks
    bench
    c_examples
    call
    cancel
    cancel_run
    cancel_stored
    causes
    cli
    cli_runs
    context
    converse
    crash
    daemon
    disconnect
    disk
    docs
    identity
    limits
    listen
    man
    models
    ops
    park
    recovery
    refusals
    reload
    revoke
    runs
    script
    sessions
    shell
    slow
    service
    store
    terminal
    waiting
    wire)
  add_test(NAME e2e.${name} COMMAND ${PYTHON3} -B ${CMAKE_CURRENT_SOURCE_DIR}/e2e/test_${name}.py)
  set_tests_properties(e2e.${name} PROPERTIES LABELS e2e TIMEOUT 600
    ENVIRONMENT "SLUICE_BIN=${CMAKE_BINARY_DIR}/bin;SLUICE_ROOT=${CMAKE_SOURCE_DIR}")
endforeach()
