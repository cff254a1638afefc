/* What memory a run takes, by what it is for. Nothing is counted while a run goes on: it is looked
 * up when somebody asks. A byte is in one part only. */
#ifndef SL_RUNTIME_BASE_ACCOUNT_H
#define SL_RUNTIME_BASE_ACCOUNT_H

#include <stdint.h>

/* own: what every run has; log: its segments; conversation: with the input that waits for the next
 * iteration; text: of the answer, collected or held back; tools: calls with their output and
 * results; client: what the client of a Converse stream brought; store: what waits for the store;
 * model: the response that is read; readers: their streams, pages and relays. */
#define SL_ACCOUNT_MAP(X)                                                                          \
    X(own) X(log) X(conversation) X(text) X(tools) X(client) X(store) X(model) X(readers)

/* Bytes. */
struct sl_account {
#define SL_ACCOUNT_PART(name) uint64_t name;
    SL_ACCOUNT_MAP(SL_ACCOUNT_PART)
#undef SL_ACCOUNT_PART
};

static inline uint64_t sl_account_total(const struct sl_account *account)
{
    uint64_t bytes = 0;
#define SL_ACCOUNT_PART(name) bytes += account->name;
    SL_ACCOUNT_MAP(SL_ACCOUNT_PART)
#undef SL_ACCOUNT_PART
    return bytes;
}

#endif
