/* What the servers that judges talk to have in common: they listen on a free port of the loopback
 * interface, print it, and serve until SIGTERM or SIGINT. */
#ifndef SL_TESTS_JUDGE_SERVE_H
#define SL_TESTS_JUDGE_SERVE_H

#include "service/rpc/rpc.h"

struct judge_serve_options {
    const char *cert_file, *key_file; /* NULL: h2c */
    uint16_t port;                    /* 0: a free one */
};

/* Serves, and frees the server. Prints "PORT\n" on stdout when it listens. Gives the exit status;
 * what failed is said on stderr. */
int judge_serve(struct sl_server *server, const struct judge_serve_options *options);

#endif
