/* What is kept of runs, and what that may cost. */
#include "runtime/known.h"
#include "tests/unit/test_runtime_rig.h"

static uint64_t kept_bytes(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.kept_bytes;
}

/* Reads a run to its end. Gives its id. */
static const char *run_to_end(const struct sl_run_spec *spec)
{
    static struct reader reader;
    reader = (struct reader){ .max_take = 0 };
    start(&reader, spec);
    wait_until(&reader.is_last);
    finish(&reader);
    step();
    return reader.run_id;
}

static void the_places_of_a_conversation_count_as_kept(void **state)
{
    enum { MESSAGES = 2000 };
    static struct sl_run_message messages[MESSAGES];
    (void)state;
    open_runtime(1, "");
    for (size_t i = 0; i < MESSAGES; i++) {
        messages[i] = (struct sl_run_message){ .role = i % 2 == 0 ? SL_RUN_USER : SL_RUN_ASSISTANT,
                                               .content = sl_slice_str("x") };
    }
    struct sl_run_spec spec = spec_of("echo", "one");
    (void)run_to_end(&spec);
    const uint64_t before = kept_bytes();
    spec.messages = messages;
    spec.n_messages = MESSAGES;
    (void)run_to_end(&spec);
    assert_true(kept_bytes() - 2 * before > MESSAGES * sizeof(struct sl_chat_message));
    close_runtime();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_places_of_a_conversation_count_as_kept),
    };
    sl_limits_init(&limits);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
