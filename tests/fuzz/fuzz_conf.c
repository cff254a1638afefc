/* Property: whatever the file holds, its errors have a place, every getter gives an answer inside
 * its bounds, and the JSON of a file without errors, read as a file again (JSON is YAML), is the
 * same tree. */
#include <stdlib.h>
#include <string.h>

#include "runtime/base/conf.h"
#include "tests/fuzz/fuzz.h"

enum { SHORT = 1000, DEPTH = 40 };

static void require(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void ask_map(struct sl_conf *conf, const struct sl_conf_node *map)
{
    static const char *const names[] = { "on", "off", NULL };
    static const char *const keys[] = { "a", "b", "name", "n", "" };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        const char *text = "";
        uint64_t number = 5;
        double real = 5;
        bool flag = false;
        int index = 0;
        (void)sl_conf_str(conf, map, keys[i], SL_REQUIRED, &text);
        (void)sl_conf_u64(conf, map, keys[i], 5, 9, &number);
        require(number >= 5 && number <= 9);
        (void)sl_conf_double(conf, map, keys[i], 5, 9, &real);
        require(real >= 5 && real <= 9);
        (void)sl_conf_bytes(conf, map, keys[i], 5, 9999, &number);
        (void)sl_conf_duration_ms(conf, map, keys[i], 5, 9999, &number);
        require(number >= 5 && number <= 9999);
        (void)sl_conf_bool(conf, map, keys[i], &flag);
        (void)sl_conf_enum(conf, map, keys[i], names, &index);
        require(index == 0 || index == 1);
        (void)strlen(text);
    }
    sl_conf_end(conf, map);
}

static void walk(struct sl_conf *conf, const struct sl_conf_node *node, int depth)
{
    require(depth < DEPTH);
    require(sl_conf_line(node) > 0 && sl_conf_column(node) > 0);
    (void)strlen(sl_conf_path(node));
    if (sl_conf_kind(node) == SL_CONF_MAP) {
        ask_map(conf, node);
    }
    for (size_t i = 0; i < sl_conf_size(node); i++) {
        require((sl_conf_key_at(node, i) != NULL) == (sl_conf_kind(node) == SL_CONF_MAP));
        walk(conf, sl_conf_at(node, i), depth + 1);
    }
}

/* What JSON allows and YAML does not: DEL, surrogate pairs, keys over 1,024 bytes. */
static bool is_yaml(const char *json)
{
    return strlen(json) < SHORT && strchr(json, 0x7F) == NULL && strstr(json, "\\uD") == NULL;
}

static void check_round_trip(const struct sl_conf_node *node)
{
    json_t *json = sl_conf_to_json(node);
    char *text = json_dumps(json, JSON_ENSURE_ASCII | JSON_ENCODE_ANY);
    require(json != NULL && text != NULL);
    if (is_yaml(text)) {
        struct sl_conf *again = NULL;
        require(sl_conf_parse(sl_slice_str(text), "f", &again) == SL_OK);
        require(sl_conf_n_errors(again) == 0 && sl_conf_n_documents(again) == 1);
        json_t *json_again = sl_conf_to_json(sl_conf_document(again, 0));
        require(json_equal(json, json_again) != 0);
        json_decref(json_again);
        sl_conf_free(again);
    }
    free(text);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_conf *conf = NULL;
    require(sl_conf_parse(sl_slice_of(data, size), "f", &conf) == SL_OK);
    const bool is_good = sl_conf_n_errors(conf) == 0;
    for (size_t i = 0; i < sl_conf_n_documents(conf); i++) {
        const struct sl_conf_node *document = sl_conf_document(conf, i);
        if (is_good) {
            check_round_trip(document);
        }
        walk(conf, document, 0);
    }
    for (size_t i = 0; i < sl_conf_n_errors(conf); i++) {
        require(strncmp(sl_conf_error_at(conf, i), "f:", 2) == 0);
    }
    sl_conf_free(conf);
    return 0;
}
