/* The memory of all runs of a loop: those that go on, wait, are kept; and their readers. */
#include <stdatomic.h>

#include "runtime/stored.h"
#include "tests/unit/test_slow_rig.h"

static uint64_t sum(const struct sl_runtime_memory *memory)
{
    return memory->runs + memory->waiting + memory->kept + memory->records;
}

struct question {
    struct sl_task task;
    struct sl_loop *loop;
    struct sl_runtime_memory memory;
    struct sl_account last; /* of the run that is visited last */
    atomic_bool is_answered;
};

static void note_run(const struct sl_run_view *run, void *user_data)
{
    struct sl_account *last = user_data;
    *last = run->memory;
}

static void run_question(struct sl_task *task)
{
    struct question *question = SL_CONTAINER(task, struct question, task);
    sl_runtime_memory(runtime, question->loop, &question->memory);
    sl_runtime_each_run(runtime, question->loop, note_run, &question->last);
    atomic_store(&question->is_answered, true);
}

/* Of one loop, on its thread. */
static struct question look(size_t i)
{
    static struct question question;
    question = (struct question){ .task.run = run_question, .loop = bases[i] };
    sl_loop_post(bases[i], &question.task);
    for (int n_steps = 0; !atomic_load(&question.is_answered); n_steps++) {
        assert_true(n_steps < MAX_STEPS);
        step();
    }
    return question;
}

static uint64_t kept_bytes(void)
{
    struct sl_runtime_stats stats;
    sl_runtime_stats(runtime, &stats);
    return stats.kept_bytes;
}

static int set_up(void **state)
{
    (void)state;
    store_path = NULL;
    is_reading = true;
    sl_limits_init(&limits);
    return 0;
}

/* I6 */
static void no_run_takes_nothing_and_one_that_has_ended_what_is_kept_of_it(void **state)
{
    struct reader reader = { .max_take = 0 };
    (void)state;
    open_runtime(1, "");
    struct sl_runtime_memory memory = look(0).memory;
    assert_int_equal(sum(&memory), 0);
    const struct sl_run_spec spec = spec_of("load", "{\"events\":200,\"bytes\":100,\"rate\":1000}");
    start(&reader, &spec);
    wait_until(&reader.is_started);
    const struct question during = look(0);
    assert_int_equal(during.memory.runs, sl_account_total(&during.last));
    assert_true(during.memory.runs > sizeof(struct sl_run_stream));
    wait_until(&reader.is_last);
    finish(&reader);
    memory = look(0).memory;
    assert_int_equal(memory.runs, 0);
    assert_true(memory.kept > 0);
    assert_in_range(sum(&memory), 1, kept_bytes()); /* its log may have lost something since */
    close_runtime();
}

static void a_run_that_waits_counts_with_its_conversation(void **state)
{
    static char text[20001];
    struct reader first = { .max_take = 0 };
    struct reader second = { .max_take = 0 };
    (void)state;
    memset(text, 'x', sizeof(text) - 1);
    limits.runs = 1;
    open_runtime(1, "");
    const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
    start(&first, &hang);
    wait_until(&first.is_started);
    assert_int_equal(look(0).memory.waiting, 0);
    const struct sl_run_spec spec = spec_of("echo", text);
    start(&second, &spec);
    assert_true(look(0).memory.waiting >= sizeof(struct sl_run_stream) + sizeof(text));
    sl_run_stream_close(first.stream, SL_RUN_CLOSE_RESET, 8);
    sl_buf_done(&first.bytes);
    wait_until(&second.is_last);
    assert_int_equal(look(0).memory.waiting, 0);
    finish(&second);
    close_runtime();
}

static void readers_count_on_the_loop_of_their_run(void **state)
{
    (void)state;
    for (size_t n = 1; n <= MAX_LOOPS; n++) {
        struct reader first = { .max_take = 0 };
        struct reader other = { .max_take = 0 };
        const struct sl_run_spec hang = spec_of("load", "{\"hang\":true}");
        struct reader blocker = { .max_take = 0 };
        open_runtime(n, "");
        start(&blocker, &hang);
        wait_until(&blocker.is_started);
        start(&first, &hang); /* with two loops on the second one */
        wait_until(&first.is_started);
        const uint64_t one = look(n - 1).last.readers;
        const uint64_t relay = n == 1 ? 0 : sl_event_relay_memory();
        assert_int_equal(one, sizeof(struct sl_run_stream) + 1 + relay);
        attach(&other, first.run_id, 0);
        assert_int_equal(look(n - 1).last.readers, 2 * one);
        finish(&other);
        sl_run_stream_close(first.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&first.bytes);
        sl_run_stream_close(blocker.stream, SL_RUN_CLOSE_RESET, 8);
        sl_buf_done(&blocker.bytes);
        close_runtime();
    }
}

static void a_page_of_the_store_counts_for_its_reader(void **state)
{
    struct reader slow = { .max_take = 100 };
    (void)new_folder(state);
    open_with_agents(1);
    const struct sl_run_spec spec = slow_spec(SLOW_INPUT, SL_RUN_SLOW_SPILL);
    start_slow(&slow, &spec);
    bool ignored = false;
    for (int i = 0; slow.stream->reader.stored == NULL ||
                    sl_stored_ready(slow.stream->reader.stored, 1, &ignored) == 0;
         i++) {
        assert_true(i < MAX_STEPS);
        (void)sl_run_stream_ready(slow.stream, 0, &ignored);
        if (slow.stream->reader.stored == NULL && i % 16 == 0) {
            is_reading = i > 1000; /* once it is far enough behind */
            if (is_reading) {
                read_some(&slow);
            }
            is_reading = false;
        }
        step();
    }
    const uint64_t stored = atomic_load(&slow.stream->stored_bytes);
    assert_true(stored > 4096);
    assert_int_equal(look(0).last.readers, sizeof(struct sl_run_stream) + 1 + stored);
    slow.max_take = 0;
    read_to_end(&slow);
    finish(&slow);
    close_runtime();
    (void)remove_folder(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(
            no_run_takes_nothing_and_one_that_has_ended_what_is_kept_of_it, set_up),
        cmocka_unit_test_setup(a_run_that_waits_counts_with_its_conversation, set_up),
        cmocka_unit_test_setup(readers_count_on_the_loop_of_their_run, set_up),
        cmocka_unit_test_setup(a_page_of_the_store_counts_for_its_reader, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
