/* For schema_python.py: converts one line at a time, so that another implementation can compare.
 * Usage: schema_convert SET; stdin "e TYPE JSON" or "d TYPE HEX"; stdout HEX, JSON, or "!message".
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "service/schema/schema.h"

enum { LINE_BYTES = 1 << 20, OUT_BYTES = 1 << 22 };

static struct sl_schema *load(const char *path)
{
    struct sl_schema *schema = NULL;
    struct sl_error err = { .text = "" };
    struct sl_buf bytes;
    uint8_t block[4096];
    size_t n;
    FILE *file = fopen(path, "rb");
    sl_buf_init(&bytes, OUT_BYTES);
    while (file != NULL && (n = fread(block, 1, sizeof(block), file)) > 0) {
        if (sl_buf_add(&bytes, sl_slice_of(block, n)) != SL_OK) {
            break;
        }
    }
    if (file == NULL || sl_schema_new(&schema) != SL_OK ||
        sl_schema_add_set(schema, sl_buf_slice(&bytes), &err) != SL_OK) {
        (void)fprintf(stderr, "%s: %s\n", path, err.text);
        return sl_schema_free(schema);
    }
    (void)fclose(file);
    sl_buf_done(&bytes);
    return schema;
}

static void encode(const struct sl_schema_message *type, const char *text, struct sl_buf *out)
{
    struct sl_error err = { .text = "" };
    json_error_t json_err;
    json_t *json =
        json_loads(text, JSON_DECODE_ANY | JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &json_err);
    if (json == NULL) {
        (void)printf("!JSON: %s\n", json_err.text);
        return;
    }
    if (sl_schema_encode(type, json, out, &err) != SL_OK) {
        (void)printf("!%s\n", err.text);
    } else {
        for (size_t i = 0; i < out->size; i++) {
            (void)printf("%02x", out->data[i]);
        }
        (void)putchar('\n');
    }
    json_decref(json);
}

static int digit(char c)
{
    return c <= '9' ? c - '0' : c - 'a' + 10;
}

static void decode(const struct sl_schema_message *type, const char *hex, struct sl_buf *out)
{
    struct sl_error err = { .text = "" };
    struct sl_buf bytes;
    json_t *json = NULL;
    sl_buf_init(&bytes, OUT_BYTES);
    for (; hex[0] != '\0' && hex[1] != '\0'; hex += 2) {
        if (sl_buf_add_byte(&bytes, (uint8_t)(digit(hex[0]) << 4 | digit(hex[1]))) != SL_OK) {
            break;
        }
    }
    if (sl_schema_decode(type, sl_buf_slice(&bytes), &json, &err) != SL_OK) {
        (void)printf("!%s\n", err.text);
    } else if (sl_schema_print(json, false, out) == SL_OK) {
        (void)printf("%.*s\n", SL_SLICE_FMT(sl_buf_slice(out)));
    }
    json_decref(json);
    sl_buf_done(&bytes);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        return 2;
    }
    struct sl_schema *schema = load(argv[1]);
    if (schema == NULL) {
        return 1;
    }
    char *line = malloc(LINE_BYTES);
    struct sl_buf out;
    sl_buf_init(&out, OUT_BYTES);
    while (line != NULL && fgets(line, LINE_BYTES, stdin) != NULL) {
        struct sl_error err = { .text = "" };
        const struct sl_schema_message *type = NULL;
        line[strcspn(line, "\n")] = '\0';
        char *space = strchr(line + 2, ' ');
        if (space == NULL) {
            break;
        }
        sl_buf_clear(&out);
        if (sl_schema_find_message(
                schema, sl_slice_of(line + 2, (size_t)(space - line) - 2), &type, &err) != SL_OK) {
            (void)printf("!%s\n", err.text);
        } else if (line[0] == 'e') {
            encode(type, space + 1, &out);
        } else {
            decode(type, space + 1, &out);
        }
        (void)fflush(stdout);
    }
    free(line);
    sl_buf_done(&out);
    (void)sl_schema_free(schema);
    return 0;
}
