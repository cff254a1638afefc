/* A server with handlers of each kind for the fuzz targets that feed whole connections: some answer
 * at once, some from a source, some later, some only when everything is gone. They check that every
 * handler that was started hears of its end at most once, and never after it has finished. */
#ifndef SL_TESTS_FUZZ_FUZZ_CALLS_H
#define SL_TESTS_FUZZ_FUZZ_CALLS_H

#include "service/rpc/server.h"

/* Methods: /a/e unary, /a/f server streaming, /a/c both ways, /a/u client streaming; all else is a
 * unary call that is pending. One at a time. Aborts without memory. */
struct sl_server *fuzz_calls_server(void);

/* Call it when the connection has gone. Finishes the handlers that are pending, and checks that
 * each call was counted as started and as finished once, and that nothing runs and no stream is
 * open. */
void fuzz_calls_free(struct sl_server *server);

#endif
