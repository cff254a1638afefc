/* What h2spec judges: a server of the library with one plain page, which gRPC alone does not have.
 *   sl_h2spec_server [CERT KEY] */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/judge/serve.h"

/* h2spec leaves a case out when the page is small. */
enum { PAGE_BYTES = 5000 };

static bool
page(const struct sl_plain_request *request, struct sl_plain_reply *ret_reply, void *user_data)
{
    const bool is_known = sl_slice_equals(request->path, "/");
    ret_reply->http_status = is_known ? "200" : "404";
    ret_reply->body = is_known ? sl_slice_of(user_data, PAGE_BYTES) : sl_slice_of(NULL, 0);
    return true;
}

int main(int argc, char **argv)
{
    if (argc != 1 && argc != 3) {
        (void)fprintf(stderr, "usage: sl_h2spec_server [CERT KEY]\n");
        return EXIT_FAILURE;
    }
    static char text[PAGE_BYTES];
    memset(text, 'x', sizeof(text));
    struct sl_server *server;
    if (sl_server_new(NULL, &server) != SL_OK) {
        (void)fprintf(stderr, "no memory for a server\n");
        return EXIT_FAILURE;
    }
    sl_server_set_plain(server, page, text);
    const struct judge_serve_options options = { .cert_file = argc == 3 ? argv[1] : NULL,
                                                 .key_file = argc == 3 ? argv[2] : NULL };
    return judge_serve(server, &options);
}
