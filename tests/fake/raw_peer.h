/* A server that says what a test tells it, byte by byte: one connection after another, on a thread
 * of its own. */
#ifndef SL_TESTS_FAKE_RAW_PEER_H
#define SL_TESTS_FAKE_RAW_PEER_H

#include <pthread.h>
#include <stdatomic.h>

#include "runtime/base/slice.h"

enum { RAW_PEER_SCRIPTS = 4 };

/* What one connection gets. */
struct raw_script {
    struct sl_slice greeting; /* at once */
    struct sl_slice answer;   /* when the first HEADERS frame with all its bytes has come */
    bool is_held; /* afterwards the connection stays open until the client closes it; else it is
                     closed */
};

struct raw_peer {
    int listen_fd;
    char address[32]; /* "127.0.0.1:PORT" */
    pthread_t thread;
    const struct raw_script *scripts; /* for the first, second, … connection; the last repeats */
    size_t n_scripts;
    atomic_bool must_stop;
    atomic_int n_connections;
    atomic_int n_resets; /* RST_STREAM frames seen */
    atomic_int n_pings;
};

/* SETTINGS without entries. */
extern const struct sl_slice raw_settings;

/* Aborts the test program when no socket can be had. */
void raw_peer_start(struct raw_peer *peer, const struct raw_script *scripts, size_t n_scripts);
void raw_peer_stop(struct raw_peer *peer);

#endif
