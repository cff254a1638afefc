#include "tests/judge/serve.h"

#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "service/net/net.h"

enum { DRAIN_MS = 1000 };

/* Gives NULL when all was in order. */
static void *run(void *user_data)
{
    struct sl_error err = { 0 };
    if (sl_server_run(user_data, &err) == SL_OK) {
        return NULL;
    }
    (void)fprintf(stderr, "%s\n", err.text);
    (void)kill(getpid(), SIGTERM); /* wakes the one who waits */
    return user_data;
}

/* Gives the status of what failed. */
static enum sl_status
listen_on(struct sl_server *server, const struct judge_serve_options *options, struct sl_error *err)
{
    struct sl_net_tls *tls = NULL;
    if (options->cert_file != NULL) {
        const struct sl_net_tls_options tls_options = { .cert_file = options->cert_file,
                                                        .key_file = options->key_file };
        SL_TRY(sl_net_tls_new_server(&tls_options, &tls, err));
    }
    char address[32];
    (void)snprintf(address, sizeof(address), "127.0.0.1:%u", (unsigned)options->port);
    const char *real = NULL;
    const enum sl_status status = sl_server_listen(server, address, tls, &real, err);
    (void)sl_net_tls_unref(tls);
    if (status == SL_OK) {
        (void)printf("%s\n", strrchr(real, ':') + 1);
        (void)fflush(stdout);
    }
    return status;
}

int judge_serve(struct sl_server *server, const struct judge_serve_options *options)
{
    sigset_t signals;
    (void)sigemptyset(&signals);
    (void)sigaddset(&signals, SIGTERM);
    (void)sigaddset(&signals, SIGINT);
    (void)pthread_sigmask(SIG_BLOCK, &signals, NULL); /* the thread below inherits it */
    struct sl_error err = { 0 };
    pthread_t thread;
    if (listen_on(server, options, &err) != SL_OK ||
        pthread_create(&thread, NULL, run, server) != 0) {
        (void)fprintf(stderr, "%s\n", err.text);
        (void)sl_server_free(server);
        return EXIT_FAILURE;
    }
    int caught;
    (void)sigwait(&signals, &caught);
    sl_server_stop(server, DRAIN_MS, NULL, NULL);
    void *failed = NULL;
    (void)pthread_join(thread, &failed);
    (void)sl_server_free(server);
    return failed == NULL ? EXIT_SUCCESS : EXIT_FAILURE;
}
