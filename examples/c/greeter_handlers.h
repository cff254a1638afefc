/* The handlers of greeter_handlers.c. greeter_async_server.c and epoll_embed.c serve the same ones.
 */
#ifndef GREETER_HANDLERS_H
#define GREETER_HANDLERS_H

#include <sluice/rpc.h>

/* Registers all methods of the greeter, to run on the loop. Before the server starts. */
enum sl_status greeter_register(struct sl_server *server);

#endif
