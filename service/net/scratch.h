/* The blocks that all connections of one loop share: they hold something only inside a call. */
#ifndef SL_SERVICE_NET_SCRATCH_H
#define SL_SERVICE_NET_SCRATCH_H

#include "runtime/base/list.h"
#include "runtime/base/loop.h"
#include "service/net/net.h"

enum {
    SL_NET_READ_BYTES = 64 * 1024,
    SL_NET_CIPHER_BYTES = SL_NET_BLOCK_BYTES + 32 * 1024 /* what encrypting a block adds, amply */
};

struct sl_net_scratch {
    struct sl_list node;
    const struct sl_loop *loop;
    size_t n_users;
    size_t n_cipher;                  /* bytes in `cipher` */
    uint8_t out[SL_NET_BLOCK_BYTES];  /* what on_pull fills */
    uint8_t in[SL_NET_READ_BYTES];    /* what a socket gave */
    uint8_t plain[SL_NET_READ_BYTES]; /* the same, decrypted */
    uint8_t cipher[SL_NET_CIPHER_BYTES];
};

/* The blocks of `loop`, made for its first user. NULL: no memory. Thread: any. */
SL_CHECK struct sl_net_scratch *sl_net_scratch_ref(const struct sl_loop *loop);
void sl_net_scratch_unref(struct sl_net_scratch *scratch);

#endif
