/* What tokens cost (PM-1.1, `prices` of a provider's entry), and which prices a model has. */
#include <math.h>
#include <string.h>

#include "runtime/base/conf.h"
#include "runtime/model/models.h"

#define MAX_PRICE 1e6 /* of a million tokens */

enum { PICOS_PER_MICRO = 1000000 };

/* A price of a million tokens is that of one token in millionths. */
static bool read_price(
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *key,
    enum sl_conf_need need,
    uint64_t *ret_picos)
{
    double price = 0;
    if (need == SL_REQUIRED && sl_conf_get(conf, map, key, SL_REQUIRED) == NULL) {
        return false;
    }
    if (!sl_conf_double(conf, map, key, 0.0, MAX_PRICE, &price)) {
        return false;
    }
    *ret_picos = (uint64_t)llround(price * PICOS_PER_MICRO);
    return true;
}

static void
read_model(struct sl_conf *conf, const struct sl_conf_node *map, struct sl_model_price *price)
{
    (void)read_price(conf, map, "input", SL_REQUIRED, &price->input_picos);
    (void)read_price(conf, map, "output", SL_REQUIRED, &price->output_picos);
    price->cache_read_picos = price->cache_write_picos = price->input_picos;
    (void)read_price(conf, map, "cache_read", SL_OPTIONAL, &price->cache_read_picos);
    (void)read_price(conf, map, "cache_write", SL_OPTIONAL, &price->cache_write_picos);
    price->is_known = true;
    sl_conf_end(conf, map);
}

static bool is_currency(const char *text)
{
    return strlen(text) == SL_CURRENCY_BYTES - 1 &&
           strspn(text, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") == SL_CURRENCY_BYTES - 1;
}

static void read_models(
    struct sl_models *models,
    struct sl_model_entry *entry,
    struct sl_conf *conf,
    const struct sl_conf_node *map,
    const char *currency)
{
    const size_t n = sl_conf_size(map);
    struct sl_model_priced *priced = sl_arena_calloc(&models->arena, n + 1, sizeof(*priced));
    if (priced == NULL) {
        sl_conf_error(conf, map, "no memory");
        return;
    }
    for (size_t i = 0; i < n; i++) {
        const char *name = sl_conf_key_at(map, i);
        const struct sl_conf_node *model = sl_conf_get_map(conf, map, name, SL_REQUIRED);
        priced[i].model = sl_arena_dup(&models->arena, sl_slice_str(name));
        if (model != NULL) {
            read_model(conf, model, &priced[i].price);
        }
        if (priced[i].model == NULL) {
            sl_conf_error(conf, map, "no memory");
            return;
        }
        memcpy(priced[i].price.currency, currency, SL_CURRENCY_BYTES);
    }
    entry->priced = priced;
    entry->n_priced = n;
}

void sl_models_read_prices(
    struct sl_models *models,
    struct sl_model_entry *entry,
    struct sl_conf *conf,
    const struct sl_conf_node *map)
{
    const struct sl_conf_node *prices = sl_conf_get_map(conf, map, "prices", SL_OPTIONAL);
    const char *currency = NULL;
    if (prices == NULL) {
        return;
    }
    const bool has_currency = sl_conf_str(conf, prices, "currency", SL_REQUIRED, &currency);
    const struct sl_conf_node *list = sl_conf_get_map(conf, prices, "models", SL_REQUIRED);
    if (has_currency && !is_currency(currency)) {
        sl_conf_error(
            conf, sl_conf_get(conf, prices, "currency", SL_OPTIONAL),
            "must be three capital letters (ISO 4217), as USD");
    } else if (has_currency && list != NULL) {
        read_models(models, entry, conf, list, currency);
    }
    sl_conf_end(conf, prices);
}

struct sl_model_price
sl_models_price(const struct sl_models *models, const char *provider, const char *model)
{
    const struct sl_model_entry *entry = sl_models_entry(models, provider);
    const struct sl_model_priced *other = NULL;
    for (size_t i = 0; entry != NULL && i < entry->n_priced; i++) {
        if (strcmp(entry->priced[i].model, model) == 0) {
            return entry->priced[i].price;
        }
        if (strcmp(entry->priced[i].model, "*") == 0) {
            other = &entry->priced[i];
        }
    }
    return other == NULL ? (struct sl_model_price){ .is_known = false } : other->price;
}
