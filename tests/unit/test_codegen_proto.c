/* What must hold of the API's own messages. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/sluice/v1/runtime.pb-c.h"

enum { MAX_TYPES = 256 };

struct walk {
    const ProtobufCMessageDescriptor *path[MAX_TYPES]; /* from the root to where we are */
    const ProtobufCMessageDescriptor *done[MAX_TYPES];
    size_t n_path, n_done;
    const ProtobufCMessageDescriptor *cycle;
};

static bool
has(const ProtobufCMessageDescriptor *const *types,
    size_t n,
    const ProtobufCMessageDescriptor *type)
{
    for (size_t i = 0; i < n; i++) {
        if (types[i] == type) {
            return true;
        }
    }
    return false;
}

static void visit(struct walk *walk, const ProtobufCMessageDescriptor *type)
{
    if (has(walk->path, walk->n_path, type)) {
        walk->cycle = type;
        return;
    }
    if (has(walk->done, walk->n_done, type)) {
        return;
    }
    assert_true(walk->n_path < MAX_TYPES && walk->n_done < MAX_TYPES);
    walk->path[walk->n_path++] = type;
    for (unsigned i = 0; i < type->n_fields; i++) {
        if (type->fields[i].type == PROTOBUF_C_TYPE_MESSAGE) {
            visit(walk, type->fields[i].descriptor);
        }
    }
    walk->n_path--;
    walk->done[walk->n_done++] = type;
}

static void no_message_contains_itself_PB_2(void **state)
{
    (void)state;
    static const ProtobufCMessageDescriptor *const roots[] = {
        &sluice__v1__execute_request__descriptor,
        &sluice__v1__execute_response__descriptor,
        &sluice__v1__stream_event__descriptor,
        &sluice__v1__converse_request__descriptor,
        &sluice__v1__start_run_response__descriptor,
        &sluice__v1__attach_request__descriptor,
        &sluice__v1__cancel_run_request__descriptor,
        &sluice__v1__cancel_run_response__descriptor,
        &sluice__v1__decide_approval_request__descriptor,
        &sluice__v1__decide_approval_response__descriptor,
        &sluice__v1__get_run_request__descriptor,
        &sluice__v1__get_run_response__descriptor,
        &sluice__v1__list_runs_request__descriptor,
        &sluice__v1__list_runs_response__descriptor,
        &sluice__v1__list_agents_request__descriptor,
        &sluice__v1__list_agents_response__descriptor,
    };
    struct walk walk = { .n_path = 0 };
    for (size_t i = 0; i < sizeof(roots) / sizeof(roots[0]); i++) {
        visit(&walk, roots[i]);
    }
    if (walk.cycle != NULL) {
        fail_msg("%s contains itself", walk.cycle->name);
    }
    assert_true(walk.n_done > 40);
}

static void optional_fields_tell_whether_they_are_set_PB_8(void **state)
{
    (void)state;
    Sluice__V1__RunOptions options;
    sluice__v1__run_options__init(&options);
    options._max_iterations_case = SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS;
    uint8_t bytes[64];
    const size_t size = sluice__v1__run_options__pack(&options, bytes);
    assert_int_equal(size, 2); /* set to 0, and therefore on the wire */
    Sluice__V1__RunOptions *read = sluice__v1__run_options__unpack(NULL, size, bytes);
    assert_non_null(read);
    assert_int_equal(
        read->_max_iterations_case, SLUICE__V1__RUN_OPTIONS___MAX_ITERATIONS_MAX_ITERATIONS);
    assert_int_equal(read->max_iterations, 0);
    assert_int_equal(read->_run_timeout_ms_case, SLUICE__V1__RUN_OPTIONS___RUN_TIMEOUT_MS__NOT_SET);
    sluice__v1__run_options__free_unpacked(read, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_message_contains_itself_PB_2),
        cmocka_unit_test(optional_fields_tell_whether_they_are_set_PB_8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
