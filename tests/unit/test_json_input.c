/* JSON values from a text and from standard input, in whatever pieces they come. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/loop_uv.h"
#include "service/cli/json_input.h"

static void expect_next(struct sl_json_input *input, const char *text)
{
    struct sl_error err = { .text = "" };
    json_t *json = NULL;
    const enum sl_status status = sl_json_input_next(input, &json, &err);
    assert_string_equal(err.text, "");
    assert_int_equal(status, SL_OK);
    char *dumped = json_dumps(json, JSON_COMPACT | JSON_ENCODE_ANY);
    assert_string_equal(dumped, text);
    free(dumped);
    json_decref(json);
}

static void expect_status(struct sl_json_input *input, enum sl_status status, const char *why)
{
    struct sl_error err = { .text = "" };
    json_t *json = NULL;
    assert_int_equal(sl_json_input_next(input, &json, &err), status);
    assert_non_null(strstr(err.text, why));
}

static void open_text(struct sl_json_input *input, const char *text)
{
    assert_int_equal(sl_json_input_open_text(input, sl_slice_str(text)), SL_OK);
}

static void values_stand_one_after_the_other(void **state)
{
    struct sl_json_input input;
    (void)state;
    open_text(&input, " {\"a\":1}{} \n\t[2]\n\"x\" 5 ");
    expect_next(&input, "{\"a\":1}");
    expect_next(&input, "{}");
    expect_next(&input, "[2]");
    expect_next(&input, "\"x\"");
    expect_next(&input, "5");
    expect_status(&input, SL_END, "");
    expect_status(&input, SL_END, "");
    sl_json_input_done(&input);
}

static void what_is_no_json_is_refused_with_its_number(void **state)
{
    struct sl_json_input input;
    (void)state;
    open_text(&input, "{} {\"a\":1,\"a\":2}");
    expect_next(&input, "{}");
    expect_status(&input, SL_INVALID_ARGUMENT, "value 2 is no JSON");
    sl_json_input_done(&input);
    open_text(&input, "{\"a\":");
    expect_status(&input, SL_INVALID_ARGUMENT, "value 1 is no JSON");
    sl_json_input_done(&input);
    open_text(&input, "");
    expect_status(&input, SL_END, "");
    sl_json_input_done(&input);
}

/* ---- stdin ------------------------------------------------------------------------------------
 */

struct pipe_world {
    struct sl_json_input input;
    struct sl_loop_uv *loop;
    int write_fd, saved_stdin;
    unsigned n_more;
};

static void on_more(void *user_data)
{
    struct pipe_world *world = user_data;
    world->n_more++;
}

static void open_pipe(struct pipe_world *world)
{
    int ends[2];
    assert_int_equal(pipe(ends), 0);
    world->saved_stdin = dup(STDIN_FILENO);
    assert_int_equal(dup2(ends[0], STDIN_FILENO), STDIN_FILENO);
    (void)close(ends[0]);
    world->write_fd = ends[1];
    assert_int_equal(sl_loop_uv_new(0, &world->loop), SL_OK);
    assert_int_equal(
        sl_json_input_open_stdin(&world->input, sl_loop_uv_base(world->loop), on_more, world),
        SL_OK);
}

static void close_pipe(struct pipe_world *world)
{
    sl_json_input_done(&world->input);
    for (int i = 0; i < 10; i++) { /* what was posted runs, and does nothing */
        sl_loop_uv_step(world->loop, 0);
    }
    world->loop = sl_loop_uv_free(world->loop);
    (void)dup2(world->saved_stdin, STDIN_FILENO);
    (void)close(world->saved_stdin);
    if (world->write_fd >= 0) {
        (void)close(world->write_fd);
    }
}

static void put(struct pipe_world *world, const char *text)
{
    assert_int_equal(write(world->write_fd, text, strlen(text)), (ssize_t)strlen(text));
}

static void wait_more(struct pipe_world *world)
{
    const unsigned before = world->n_more;
    for (int i = 0; i < 1000 && world->n_more == before; i++) {
        sl_loop_uv_step(world->loop, 100);
    }
    assert_true(world->n_more > before);
}

static void a_value_in_pieces_waits_for_its_end(void **state)
{
    static const char *const pieces[] = { "{\"a", "\":\"\\u00", "e9", "\",\"b\":tr", "ue" };
    struct pipe_world world = { 0 };
    (void)state;
    open_pipe(&world);
    expect_status(&world.input, SL_AGAIN, "");
    for (size_t i = 0; i < sizeof(pieces) / sizeof(pieces[0]); i++) {
        put(&world, pieces[i]);
        wait_more(&world);
        expect_status(&world.input, SL_AGAIN, "");
    }
    put(&world, "}{}");
    wait_more(&world);
    expect_next(&world.input, "{\"a\":\"\xc3\xa9\",\"b\":true}");
    expect_next(&world.input, "{}");
    expect_status(&world.input, SL_AGAIN, "");
    (void)close(world.write_fd);
    world.write_fd = -1;
    wait_more(&world);
    expect_status(&world.input, SL_END, "");
    close_pipe(&world);
}

static void an_end_inside_a_value_is_a_mistake(void **state)
{
    struct pipe_world world = { 0 };
    (void)state;
    open_pipe(&world);
    put(&world, "{} {\"a\":");
    (void)close(world.write_fd);
    world.write_fd = -1;
    wait_more(&world);
    expect_next(&world.input, "{}");
    expect_status(&world.input, SL_AGAIN, "");
    wait_more(&world);
    expect_status(&world.input, SL_INVALID_ARGUMENT, "value 2 is no JSON");
    close_pipe(&world);
}

static void the_end_of_the_command_does_not_wait_for_stdin(void **state)
{
    struct pipe_world world = { 0 };
    (void)state;
    open_pipe(&world);
    close_pipe(&world); /* while it reads */
    open_pipe(&world);
    put(&world, "{}");
    wait_more(&world);
    close_pipe(&world); /* while it waits for its block to be taken */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_stand_one_after_the_other),
        cmocka_unit_test(what_is_no_json_is_refused_with_its_number),
        cmocka_unit_test(a_value_in_pieces_waits_for_its_end),
        cmocka_unit_test(an_end_inside_a_value_is_a_mistake),
        cmocka_unit_test(the_end_of_the_command_does_not_wait_for_stdin),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
