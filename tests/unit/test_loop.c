#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "runtime/base/mem.h"
#include "runtime/base/random.h"
#include "tests/fake/fake_loop.h"

enum { N_TIMERS = 2000 };

static char trace[64];
static size_t n_trace;

static void note(char letter)
{
    assert_true(n_trace < sizeof(trace) - 1);
    trace[n_trace++] = letter;
    trace[n_trace] = '\0';
}

static void start(struct sl_fake_loop *fake)
{
    n_trace = 0;
    trace[0] = '\0';
    sl_fake_loop_init(fake);
}

struct letter_task {
    struct sl_task task;
    char letter;
    struct sl_loop *loop;
    int n_again; /* so often it queues itself again */
};

static void run_letter(struct sl_task *task)
{
    note(SL_CONTAINER(task, struct letter_task, task)->letter);
}

static void run_again(struct sl_task *task)
{
    struct letter_task *self = SL_CONTAINER(task, struct letter_task, task);
    if (self->n_again-- > 0) {
        sl_loop_defer(self->loop, task);
    }
}

static void fire_letter(void *user_data)
{
    note(*(const char *)user_data);
}

static void a_turn_runs_posted_then_timers_then_deferred(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct letter_task posted = { .task = { .run = run_letter }, .letter = 'p' };
    struct letter_task deferred = { .task = { .run = run_letter }, .letter = 'd' };
    struct sl_timer timer;
    char t = 't';
    start(&fake);
    sl_loop_defer(&fake.base, &deferred.task);
    sl_loop_defer(&fake.base, &deferred.task); /* once is enough */
    sl_timer_init(&timer, &fake.base, fire_letter, &t);
    sl_timer_start_ms(&timer, 0);
    sl_loop_post(&fake.base, &posted.task);
    assert_string_equal(trace, "");
    sl_fake_loop_turn(&fake);
    assert_string_equal(trace, "ptd");
    assert_int_equal(fake.n_wakes, 1);
    sl_fake_loop_done(&fake);
}

static void posted_tasks_keep_their_order(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct letter_task tasks[26];
    start(&fake);
    for (int i = 0; i < 26; i++) {
        tasks[i] = (struct letter_task){ .task = { .run = run_letter }, .letter = (char)('a' + i) };
        sl_loop_post(&fake.base, &tasks[i].task);
    }
    assert_true(sl_fake_loop_run(&fake));
    assert_string_equal(trace, "abcdefghijklmnopqrstuvwxyz");
    sl_fake_loop_done(&fake);
}

static struct letter_task *to_undefer;

static void run_undefer(struct sl_task *task)
{
    struct letter_task *self = SL_CONTAINER(task, struct letter_task, task);
    note(self->letter);
    sl_loop_undefer(self->loop, &to_undefer->task);
}

static void an_undeferred_task_does_not_run_even_in_the_running_round(void **state)
{
    (void)state;
    for (int victim = 0; victim < 4; victim++) {
        struct sl_fake_loop fake;
        struct letter_task tasks[4];
        start(&fake);
        for (int i = 0; i < 4; i++) {
            tasks[i] = (struct letter_task){ .task = { .run = run_letter },
                                             .letter = (char)('a' + i),
                                             .loop = &fake.base };
            sl_loop_defer(&fake.base, &tasks[i].task);
        }
        if (victim == 0) {
            sl_loop_undefer(&fake.base, &tasks[0].task);
            sl_loop_undefer(&fake.base, &tasks[0].task);
        } else {
            tasks[0].task.run = run_undefer;
            to_undefer = &tasks[victim];
        }
        assert_true(sl_fake_loop_run(&fake));
        static const char *const expected[] = { "bcd", "acd", "abd", "abc" };
        assert_string_equal(trace, expected[victim]);
        sl_loop_defer(&fake.base, &tasks[3].task); /* the list is still whole */
        assert_true(sl_fake_loop_run(&fake));
        assert_int_equal(trace[3], 'd');
        sl_fake_loop_done(&fake);
    }
}

static void deferred_tasks_that_defer_run_in_the_same_turn_up_to_a_bound(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct letter_task task = { .task = { .run = run_again }, .n_again = 15 };
    start(&fake);
    task.loop = &fake.base;
    sl_loop_defer(&fake.base, &task.task);
    sl_fake_loop_turn(&fake);
    assert_int_equal(task.n_again, -1);
    assert_int_equal(fake.n_wakes, 0);
    task.n_again = 100;
    sl_loop_defer(&fake.base, &task.task);
    sl_fake_loop_turn(&fake);
    assert_int_equal(task.n_again, 84);
    assert_int_equal(fake.n_wakes, 1); /* the rest must not wait */
    assert_true(sl_fake_loop_run(&fake));
    assert_int_equal(task.n_again, -1);
    sl_fake_loop_done(&fake);
}

static void timers_fire_in_order_and_at_their_time(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct sl_timer timers[3];
    char letters[] = "abc";
    start(&fake);
    for (int i = 0; i < 3; i++) {
        sl_timer_init(&timers[i], &fake.base, fire_letter, &letters[i]);
    }
    sl_timer_start_ms(&timers[2], 30);
    sl_timer_start_ms(&timers[0], 10);
    sl_timer_start_ms(&timers[1], 20);
    sl_fake_loop_advance_ms(&fake, 9);
    assert_string_equal(trace, "");
    sl_fake_loop_advance_ms(&fake, 1);
    assert_string_equal(trace, "a");
    assert_false(sl_timer_is_running(&timers[0]));
    sl_timer_start_ms(&timers[1], 100); /* moved */
    sl_fake_loop_advance_ms(&fake, 50);
    assert_string_equal(trace, "ac");
    sl_timer_stop(&timers[1]);
    sl_timer_stop(&timers[1]);
    sl_fake_loop_advance_ms(&fake, 1000);
    assert_string_equal(trace, "ac");
    assert_int_equal(sl_loop_wall_ms(&fake.base), SL_FAKE_START_WALL_MS + 1060);
    sl_fake_loop_done(&fake);
}

struct many {
    struct sl_timer timer;
    struct many *other;
    bool must_run;
};

static uint64_t last_due_ns;
static int n_fired;

static void fire_many(void *user_data)
{
    struct many *self = user_data;
    assert_true(self->must_run);
    self->must_run = false;
    assert_true(sl_loop_now_ns(self->timer.loop) >= last_due_ns);
    last_due_ns = sl_loop_now_ns(self->timer.loop);
    n_fired++;
    if (self->other->must_run) {
        sl_timer_stop(&self->other->timer); /* a timer may stop any other one */
        self->other->must_run = false;
    }
}

static void many_timers_fire_sorted_whatever_is_stopped_meanwhile(void **state)
{
    (void)state;
    static struct many all[N_TIMERS];
    struct sl_fake_loop fake;
    uint64_t seed = 1;
    start(&fake);
    last_due_ns = 0;
    n_fired = 0;
    for (size_t i = 0; i < N_TIMERS; i++) {
        all[i].other = &all[sl_random_next(&seed) % N_TIMERS];
        all[i].must_run = true;
        sl_timer_init(&all[i].timer, &fake.base, fire_many, &all[i]);
        sl_timer_start_ms(&all[i].timer, sl_random_next(&seed) % 500);
    }
    for (size_t i = 0; i < N_TIMERS; i += 3) {
        sl_timer_stop(&all[i].timer);
        all[i].must_run = false;
    }
    for (size_t i = 0; i < N_TIMERS; i += 6) {
        sl_timer_start_ms(&all[i].timer, sl_random_next(&seed) % 500);
        all[i].must_run = true;
    }
    sl_fake_loop_advance_ms(&fake, 500);
    assert_true(n_fired > N_TIMERS / 4);
    for (size_t i = 0; i < N_TIMERS; i++) {
        assert_false(all[i].must_run);
        assert_false(sl_timer_is_running(&all[i].timer));
    }
    sl_fake_loop_done(&fake);
}

static struct sl_timer late[2];
static uint64_t late_turns[2];

static void fire_late(void *user_data)
{
    const size_t i = *(const size_t *)user_data;
    late_turns[i] = late[i].loop->loop.n_turns;
    if (i == 0) {
        sl_timer_start(&late[1], 0); /* long past */
        sl_timer_start_ms(&late[0], 1);
        sl_timer_stop(&late[0]);
        assert_true(sl_timer_is_running(&late[1]));
    }
}

static void a_timer_started_late_by_a_timer_fires_in_the_next_turn(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    size_t indexes[] = { 0, 1 };
    start(&fake);
    for (size_t i = 0; i < 2; i++) {
        sl_timer_init(&late[i], &fake.base, fire_late, &indexes[i]);
    }
    sl_timer_start_ms(&late[0], 5);
    sl_fake_loop_advance_ms(&fake, 5);
    assert_int_equal(late_turns[1], late_turns[0] + 1);
    sl_fake_loop_done(&fake);
}

static void count_firing(void *user_data)
{
    unsigned *count = user_data;
    ++*count;
}

static void many_timers_that_are_due_take_several_turns(void **state)
{
    (void)state;
    static struct sl_timer timers[1000];
    unsigned count = 0;
    struct sl_fake_loop fake;
    start(&fake);
    for (size_t i = 0; i < SL_COUNT(timers); i++) {
        sl_timer_init(&timers[i], &fake.base, count_firing, &count);
        sl_timer_start_ms(&timers[i], 0);
    }
    sl_fake_loop_turn(&fake);
    assert_int_equal(count, 256);
    assert_true(sl_loop_next_due_ns(&fake.base) <= sl_loop_now_ns(&fake.base));
    sl_fake_loop_run(&fake);
    assert_int_equal(count, SL_COUNT(timers));
    sl_fake_loop_done(&fake);
}

static void a_delay_beyond_the_clock_is_as_good_as_never(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct sl_timer timer;
    char t = 't';
    start(&fake);
    sl_timer_init(&timer, &fake.base, fire_letter, &t);
    sl_timer_start_ms(&timer, UINT64_MAX);
    assert_true(sl_timer_is_running(&timer));
    sl_fake_loop_advance_ms(&fake, UINT64_C(1) << 40);
    assert_string_equal(trace, "");
    sl_timer_stop(&timer);
    sl_fake_loop_done(&fake);
}

static void what_is_still_queued_runs_when_the_loop_goes(void **state)
{
    (void)state;
    struct sl_fake_loop fake;
    struct letter_task posted = { .task = { .run = run_letter }, .letter = 'p' };
    struct letter_task deferred = { .task = { .run = run_letter }, .letter = 'd' };
    start(&fake);
    sl_loop_post(&fake.base, &posted.task);
    sl_loop_defer(&fake.base, &deferred.task);
    sl_fake_loop_done(&fake);
    assert_string_equal(trace, "pd");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_turn_runs_posted_then_timers_then_deferred),
        cmocka_unit_test(posted_tasks_keep_their_order),
        cmocka_unit_test(an_undeferred_task_does_not_run_even_in_the_running_round),
        cmocka_unit_test(deferred_tasks_that_defer_run_in_the_same_turn_up_to_a_bound),
        cmocka_unit_test(timers_fire_in_order_and_at_their_time),
        cmocka_unit_test(many_timers_fire_sorted_whatever_is_stopped_meanwhile),
        cmocka_unit_test(a_timer_started_late_by_a_timer_fires_in_the_next_turn),
        cmocka_unit_test(many_timers_that_are_due_take_several_turns),
        cmocka_unit_test(a_delay_beyond_the_clock_is_as_good_as_never),
        cmocka_unit_test(what_is_still_queued_runs_when_the_loop_goes),
    };
    return cmocka_run_group_tests_name("loop", tests, NULL, NULL);
}
