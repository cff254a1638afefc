/* The inside of sl_identify, for identify.c and recheck.c. */
#ifndef SL_SERVICE_API_IDENTIFY_IMPL_H
#define SL_SERVICE_API_IDENTIFY_IMPL_H

#include <pthread.h>
#include <stdatomic.h>

#include "service/api/identify.h"

struct sl_recheck_loop;

struct sl_identify {
    atomic_bool is_on; /* there is a table: spares the lock where there is none */
    struct {
        pthread_mutex_t lock;
        struct sl_identity *identity;  /* NULL: nothing is configured */
        uint64_t generation;           /* of the table: tables that came before it, and 1 */
        struct sl_recheck_loop *loops; /* those that have served a stream; only added to */
    } shared;
};

/* Who makes a call, and what is needed to ask a later table. */
struct sl_identify_known {
    struct sl_call_identity who;
    uint64_t generation; /* of the table that knew him */
    int64_t expires_s;
    bool has_key;
    uint8_t digest[SL_IDENTITY_DIGEST_BYTES];
};

/* NULL: the call's table did not know him, or there was none. */
const struct sl_identify_known *sl_identify_known(const struct sl_call *call);
/* As its table knew him. */
struct sl_identity_caller sl_identify_caller(const struct sl_identify_known *known);
/* As sl_identify_take(), with the table's generation; 0: there is none. */
struct sl_identity *sl_identify_take_newest(struct sl_identify *identify, uint64_t *ret_generation);

#endif
