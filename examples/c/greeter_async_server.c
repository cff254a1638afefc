/* The handlers that never block, on a loop that the library runs.
 *
 *   greeter_async_server ADDRESS */
#include <sluice/rpc.h>
#include <stdio.h>

#include "greeter_handlers.h"

int main(int argc, char **argv)
{
    if (argc != 2) {
        (void)fprintf(stderr, "usage: greeter_async_server ADDRESS\n");
        return 2;
    }
    struct sl_error err = { 0 };
    struct sl_server *server = NULL;
    const char *address = NULL;
    if (sl_server_new(NULL, &server) != SL_OK || greeter_register(server) != SL_OK ||
        sl_server_listen(server, argv[1], NULL, &address, &err) != SL_OK) {
        (void)fprintf(stderr, "the server cannot be set up: %s\n", err.text);
        return 1;
    }
    (void)printf("listening on %s\n", address);
    (void)fflush(stdout);
    const enum sl_status status = sl_server_run(server, &err);
    if (status != SL_OK) {
        (void)fprintf(stderr, "%s: %s\n", sl_status_name(status), err.text);
    }
    return status == SL_OK ? 0 : 1;
}
