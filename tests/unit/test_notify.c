/* Datagrams to a service manager, which is a socket of the test. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "runtime/base/log.h"
#include "service/notify.h"

enum { MESSAGE_BYTES = 1024, ROOM_BYTES = 8192 };

static char path[64], usec[32], pid[32]; /* of the environment; "": not set */
static int manager = -1;
static struct sl_notify notify;
static size_t n_lines;

static void count_lines(const char *line, size_t size, void *user_data)
{
    (void)line;
    (void)size;
    (void)user_data;
    n_lines++;
}

static const char *env(const char *name)
{
    const char *value = strcmp(name, "NOTIFY_SOCKET") == 0   ? path
                        : strcmp(name, "WATCHDOG_USEC") == 0 ? usec
                        : strcmp(name, "WATCHDOG_PID") == 0  ? pid
                                                             : "";
    return value[0] == '\0' ? NULL : value;
}

static int set_up(void **state)
{
    (void)state;
    path[0] = usec[0] = pid[0] = '\0';
    n_lines = 0;
    manager = -1;
    sl_log_set_sink(count_lines, NULL);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    sl_notify_close(&notify);
    if (manager >= 0) {
        (void)close(manager);
    }
    if (path[0] == '/') {
        (void)unlink(path);
    }
    sl_log_set_sink(NULL, NULL);
    return 0;
}

/* Binds to what `path` says. */
static void listen_there(void)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    const size_t size = strlen(path);
    memcpy(address.sun_path, path, size);
    if (path[0] == '@') {
        address.sun_path[0] = '\0';
    }
    manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    assert_true(manager >= 0);
    const socklen_t bytes = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    assert_int_equal(bind(manager, (const struct sockaddr *)&address, bytes), 0);
}

static void expect(const char *message)
{
    char room[ROOM_BYTES] = "";
    assert_int_equal(recv(manager, room, sizeof(room) - 1, 0), strlen(message));
    assert_string_equal(room, message);
}

static void messages_go_to_a_path_or_an_abstract_name(void **state)
{
    (void)state;
    static const char *const begins[] = { "/tmp/", "@" };
    for (size_t i = 0; i < 2; i++) {
        (void)snprintf(path, sizeof(path), "%ssluice-notify-%d", begins[i], (int)getpid());
        listen_there();
        sl_notify_open(&notify, env);
        sl_notify_send(&notify, "READY=1\nSTATUS=%s %d", "serving", 7);
        expect("READY=1\nSTATUS=serving 7");
        sl_notify_send(&notify, "WATCHDOG=1");
        expect("WATCHDOG=1");
        assert_int_equal(tear_down(state), 0);
        sl_log_set_sink(count_lines, NULL);
    }
    assert_int_equal(n_lines, 0);
}

static void without_a_manager_nobody_is_told_and_nothing_is_said(void **state)
{
    (void)state;
    (void)snprintf(usec, sizeof(usec), "10000000");
    sl_notify_open(&notify, env);
    sl_notify_send(&notify, "READY=1");
    assert_int_equal(notify.watchdog_ms, 0);
    assert_int_equal(n_lines, 0);
}

static void an_address_that_cannot_be_used_is_said_once(void **state)
{
    (void)state;
    static const char *const paths[] = { "relative", "vsock:2:1", "/", "@" };
    for (size_t i = 0; i < sizeof(paths) / sizeof(paths[0]); i++) {
        n_lines = 0;
        (void)snprintf(path, sizeof(path), "%s", paths[i]);
        sl_notify_open(&notify, env);
        sl_notify_send(&notify, "READY=1");
        assert_int_equal(n_lines, 1);
    }
    path[0] = '\0';
}

static void a_message_has_a_bound(void **state)
{
    (void)state;
    char text[2 * MESSAGE_BYTES];
    memset(text, 'x', sizeof(text) - 1);
    text[sizeof(text) - 1] = '\0';
    (void)snprintf(path, sizeof(path), "@sluice-notify-%d", (int)getpid());
    listen_there();
    sl_notify_open(&notify, env);
    sl_notify_send(&notify, "%s", text);
    text[MESSAGE_BYTES - 1] = '\0';
    expect(text);
}

static void a_manager_that_does_not_read_is_not_waited_for(void **state)
{
    (void)state;
    (void)snprintf(path, sizeof(path), "@sluice-notify-%d", (int)getpid());
    listen_there();
    sl_notify_open(&notify, env);
    int n_sent = 0;
    while (n_lines == 0 && n_sent < 100000) {
        sl_notify_send(&notify, "WATCHDOG=1");
        n_sent++;
    }
    assert_int_equal(n_lines, 1);
}

static void the_watchdog_is_for_this_process(void **state)
{
    (void)state;
    static const struct {
        const char *usec;
        int pid; /* 0: not set; -1: this one */
        uint64_t ms;
    } cases[] = { { "10000000", 0, 10000 }, { "10000000", -1, 10000 },
                  { "10000000", 1, 0 },     { "x", 0, 0 },
                  { "999", 0, 0 },          { "", 0, 0 } };
    (void)snprintf(path, sizeof(path), "@sluice-notify-%d", (int)getpid());
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        (void)snprintf(usec, sizeof(usec), "%s", cases[i].usec);
        pid[0] = '\0';
        if (cases[i].pid != 0) {
            const int value = cases[i].pid < 0 ? (int)getpid() : cases[i].pid;
            (void)snprintf(pid, sizeof(pid), "%d", value);
        }
        sl_notify_open(&notify, env);
        assert_int_equal(notify.watchdog_ms, cases[i].ms);
        sl_notify_close(&notify);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(messages_go_to_a_path_or_an_abstract_name),
        TEST(without_a_manager_nobody_is_told_and_nothing_is_said),
        TEST(an_address_that_cannot_be_used_is_said_once),
        TEST(a_message_has_a_bound),
        TEST(a_manager_that_does_not_read_is_not_waited_for),
        TEST(the_watchdog_is_for_this_process),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
