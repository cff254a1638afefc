/* Properties of a whole server connection that is fed hostile bytes: those of fuzz_calls.h (every
 * handler hears of its end at most once; each call is counted as started once and as finished once;
 * nothing runs and no stream is open when the connection has gone).
 *
 * Input: the step (0: all at once), a byte of flags, then HTTP/2 without the preface. */
#include <stdlib.h>

#include "service/rpc/conn.h"
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/fuzz_calls.h"

enum { ROOM = 64 * 1024, MAX_PULLS = 200, FLAG_LATE = 1, FLAG_DRAIN = 2 };

/* With empty SETTINGS; the last of their nine bytes is the end of the literal. */
static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";

static void check(bool holds)
{
    if (!holds) {
        abort();
    }
}

static void pull(struct sl_conn *conn, uint64_t now_ns)
{
    static uint8_t room[ROOM];
    for (int i = 0; i < MAX_PULLS; i++) {
        if (sl_conn_pull(conn, room, sizeof(room), now_ns) == 0) {
            return;
        }
    }
}

static void feed(struct sl_conn *conn, struct sl_slice bytes, size_t step, uint64_t *now_ns)
{
    while (bytes.size > 0) {
        const size_t n = step == 0 || bytes.size < step ? bytes.size : step;
        *now_ns += SL_NS_PER_MS;
        if (sl_conn_feed(conn, sl_slice_of(bytes.data, n), *now_ns, NULL) != SL_OK) {
            break;
        }
        pull(conn, *now_ns);
        bytes.data += n;
        bytes.size -= n;
    }
}

/* Time passes: stalls, gaps, keepalive, the end of a drain. */
static void wait_long(struct sl_conn *conn, uint64_t now_ns)
{
    for (int i = 0; i < 100 && !sl_conn_wants_close(conn); i++) {
        const uint64_t due_ns = sl_conn_due_ns(conn);
        if (due_ns == SL_NEVER_NS) {
            break;
        }
        now_ns = due_ns > now_ns ? due_ns : now_ns;
        (void)!sl_conn_feed(conn, (struct sl_slice){ 0 }, now_ns, NULL);
        pull(conn, now_ns);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 2) {
        return 0;
    }
    struct sl_server *server = fuzz_calls_server();
    struct sl_conn *conn = NULL;
    uint64_t now_ns = SL_NS_PER_S;
    check(sl_conn_new(server, NULL, &conn) == SL_OK);
    feed(conn, sl_slice_of(preface, sizeof(preface)), 0, &now_ns);
    feed(conn, sl_slice_of(data + 2, size - 2), data[0], &now_ns);
    if ((data[1] & FLAG_DRAIN) != 0) {
        sl_conn_drain(conn, 1000);
    }
    if ((data[1] & FLAG_LATE) != 0) {
        wait_long(conn, now_ns);
    }
    conn = sl_conn_free(conn);
    fuzz_calls_free(server);
    return 0;
}
