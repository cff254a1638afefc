/* The service config of a channel: checked, copied, and looked up by method. */
#include "runtime/base/mem.h"
#include "service/rpc/client_impl.h"

enum { MOST_ATTEMPTS = 5, MOST_TOKENS = 1000, MOST_METHODS = 4096, LAST_CODE = 16 };

/* ---- Checks (gRFC A6, "Validation") ---------------------------------------------------------- */

static enum sl_status
check_policy(const char *name, const struct sl_retry_policy *policy, struct sl_error *err)
{
    if (policy->max_attempts == 0) {
        return SL_OK;
    }
    const uint32_t codes = (UINT32_C(1) << (LAST_CODE + 1)) - 1;
    const bool has_codes = policy->retryable != 0 && (policy->retryable & ~codes) == 0 &&
                           (policy->retryable & SL_RETRY_ON(SL_OK)) == 0;
    const bool is_right = policy->max_attempts >= 2 && policy->initial_backoff_ms > 0 &&
                          policy->max_backoff_ms > 0 && policy->backoff_multiplier > 0 && has_codes;
    return is_right ? SL_OK
                    : sl_fail(
                          err, SL_INVALID_ARGUMENT,
                          "the retry policy of '%s' needs max_attempts from 2, backoffs and a "
                          "multiplier over 0, and codes other than OK",
                          name == NULL ? "" : name);
}

/* NULL, "/pkg.Service/" or "/pkg.Service/Method". */
static bool is_name(const char *name)
{
    if (name == NULL) {
        return true;
    }
    const char *slash = name[0] == '/' ? strchr(name + 1, '/') : NULL;
    return slash != NULL && slash > name + 1 && strchr(slash + 1, '/') == NULL;
}

static enum sl_status check_config(const struct sl_service_config *config, struct sl_error *err)
{
    if (config->n_methods > MOST_METHODS || (config->n_methods > 0 && config->methods == NULL)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "the service config has no right list of methods");
    }
    if (config->max_tokens > MOST_TOKENS ||
        (config->max_tokens > 0 && !(config->token_ratio >= 0.001))) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "retry throttling has at most %d tokens, and a ratio of at least 0.001", MOST_TOKENS);
    }
    return SL_OK;
}

/* ---- Copies ---------------------------------------------------------------------------------- */

static enum sl_status copy_method(
    struct sl_method_config *copy, const struct sl_method_config *given, struct sl_error *err)
{
    memcpy(copy, given, given->struct_size);
    copy->name = NULL;
    if (!is_name(given->name)) {
        return sl_fail(
            err, SL_INVALID_ARGUMENT,
            "'%s' is no name of a method config: /pkg.Service/Method or /pkg.Service/ is expected",
            given->name);
    }
    SL_TRY(check_policy(given->name, &copy->retry, err));
    if (copy->retry.max_attempts > MOST_ATTEMPTS) {
        copy->retry.max_attempts = MOST_ATTEMPTS;
    }
    if (given->name != NULL && (copy->name = sl_strdup(given->name)) == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    return SL_OK;
}

static enum sl_status copy_methods(
    struct sl_channel *channel, const struct sl_service_config *config, struct sl_error *err)
{
    if (config->n_methods == 0) {
        return SL_OK;
    }
    channel->methods = sl_calloc(config->n_methods, sizeof(*channel->methods));
    if (channel->methods == NULL) {
        return sl_fail(err, SL_RESOURCE_EXHAUSTED, "no memory for a channel");
    }
    const size_t step = config->methods[0].struct_size;
    for (size_t i = 0; i < config->n_methods; i++) {
        const struct sl_method_config *given =
            (const void *)((const uint8_t *)config->methods + i * step);
        if (given->struct_size != step || step == 0 || step > sizeof(*given)) {
            return sl_fail(err, SL_INVALID_ARGUMENT, "struct_size of a method config is not set");
        }
        SL_TRY(copy_method(&channel->methods[i], given, err));
        channel->n_methods++;
    }
    return SL_OK;
}

enum sl_status sl_client_config_copy(
    struct sl_channel *channel, const struct sl_service_config *given, struct sl_error *err)
{
    if (given == NULL) {
        return SL_OK;
    }
    struct sl_service_config config = { 0 };
    if (given->struct_size == 0 || given->struct_size > sizeof(config)) {
        return sl_fail(err, SL_INVALID_ARGUMENT, "struct_size of the service config is not set");
    }
    memcpy(&config, given, given->struct_size);
    SL_TRY(check_config(&config, err));
    sl_client_throttle_init(&channel->own.throttle, config.max_tokens, config.token_ratio);
    return copy_methods(channel, &config, err);
}

void sl_client_config_done(struct sl_channel *channel)
{
    for (size_t i = 0; i < channel->n_methods; i++) {
        (void)sl_free(sl_unconst(channel->methods[i].name));
    }
    channel->methods = sl_free(channel->methods);
    channel->n_methods = 0;
}

/* ---- Look-up --------------------------------------------------------------------------------- */

/* How well a name fits a path: 0 not at all, 1 everything, 2 its service, 3 itself. */
static int fit(const char *name, const char *path)
{
    if (name == NULL) {
        return 1;
    }
    if (strcmp(name, path) == 0) {
        return 3;
    }
    const size_t size = strlen(name);
    return name[size - 1] == '/' && strncmp(name, path, size) == 0 ? 2 : 0;
}

const struct sl_method_config *
sl_client_config_find(const struct sl_channel *channel, const char *path)
{
    const struct sl_method_config *best = NULL;
    int best_fit = 0;
    for (size_t i = 0; i < channel->n_methods; i++) {
        const int this_fit = fit(channel->methods[i].name, path);
        if (this_fit > best_fit) {
            best = &channel->methods[i];
            best_fit = this_fit;
        }
    }
    return best;
}
