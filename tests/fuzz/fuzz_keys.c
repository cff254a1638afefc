/* Property: what the reader of the key file takes is what a second, line by line look at the text
 * finds: as many keys as there are lines that are no comments, each found by its own digest, with
 * names that can be written back; the lines written from the result are read as the same. What it
 * does not take it explains, with a place, in words of its own. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "service/identity/keys.h"
#include "service/identity/pattern.h"
#include "tests/fuzz/fuzz.h"

enum { MAX_KEYS = 100, MAX_TEXT = 1 << 20, LINE_BYTES = SL_KEY_LINE_BYTES * 2 };

static size_t n_told;

static void must(bool is_true)
{
    if (!is_true) {
        abort();
    }
}

static void tell(const char *line, void *user_data)
{
    unsigned row = 0;
    unsigned column = 0;
    (void)user_data;
    must(sscanf(line, "k:%u:%u: ", &row, &column) == 2 && row > 0 && column > 0); // NOLINT
    for (const char *c = line; *c != '\0'; c++) {
        must((unsigned char)*c >= ' '); /* nothing of the file */
    }
    n_told++;
}

/* Lines with something on them that is no comment. */
static size_t count_lines(const uint8_t *data, size_t size)
{
    size_t n = 0;
    bool is_new = true;
    for (size_t i = 0; i < size; i++) {
        const bool is_end = data[i] == '\r' && (i + 1 == size || data[i + 1] == '\n');
        if (data[i] == '\n') {
            is_new = true;
        } else if (is_new && data[i] != ' ' && data[i] != '\t' && !is_end) {
            n += data[i] != '#';
            is_new = false;
        }
    }
    return n;
}

static void write_time(char *room, size_t room_bytes, int64_t expires_s)
{
    const time_t seconds = expires_s;
    struct tm tm;
    room[0] = '\0';
    if (expires_s != INT64_MAX) {
        must(gmtime_r(&seconds, &tm) != NULL);
        must(strftime(room, room_bytes, " expires=%Y-%m-%dT%H:%M:%SZ", &tm) > 0);
    }
}

/* The digest in hex: of the first line that a look at the text finds for it. */
static void write_back(const struct sl_keys *keys, size_t index, const char *hex, char *room)
{
    const struct sl_key *key = sl_keys_at(keys, index);
    char time_text[64];
    must(sl_identity_is_name(sl_slice_str(key->principal)));
    must(sl_identity_is_name(sl_slice_str(key->tenant)));
    write_time(time_text, sizeof(time_text), key->expires_s);
    size_t n = (size_t)snprintf(
        room, LINE_BYTES, "sha256:%s %s %s%s", hex, key->principal, key->tenant, time_text);
    for (size_t i = 0; i < key->n_agents; i++) {
        must(sl_pattern_is_valid(sl_slice_str(key->agents[i])));
        n += (size_t)snprintf(
            room + n, LINE_BYTES - n, "%s%s", i == 0 ? " agents=" : ",", key->agents[i]);
    }
}

static void check_same(const struct sl_key *a, const struct sl_key *b)
{
    must(strcmp(a->principal, b->principal) == 0 && strcmp(a->tenant, b->tenant) == 0);
    must(a->expires_s == b->expires_s && a->n_agents == b->n_agents);
    for (size_t i = 0; i < a->n_agents; i++) {
        must(strcmp(a->agents[i], b->agents[i]) == 0);
    }
}

static void check_key(const struct sl_keys *keys, size_t index, const char *hex)
{
    uint8_t digest[SL_KEY_DIGEST_BYTES];
    char line[LINE_BYTES];
    for (size_t i = 0; i < sizeof(digest); i++) {
        unsigned byte = 0;
        must(sscanf(hex + 2 * i, "%2x", &byte) == 1); // NOLINT(cert-err34-c): two digits
        digest[i] = (uint8_t)byte;
    }
    must(sl_keys_find(keys, digest) == sl_keys_at(keys, index));
    write_back(keys, index, hex, line);
    if (strlen(line) > SL_KEY_LINE_BYTES) {
        return; /* a day became a moment */
    }
    struct sl_keys *again = NULL;
    must(sl_keys_parse(sl_slice_str(line), "k", 1, tell, NULL, &again) == SL_OK);
    must(sl_keys_count(again) == 1);
    check_same(sl_keys_at(keys, index), sl_keys_at(again, 0));
    (void)sl_keys_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sl_keys *keys = NULL;
    n_told = 0;
    if (size > MAX_TEXT) {
        return 0;
    }
    const enum sl_status status =
        sl_keys_parse(sl_slice_of(data, size), "k", MAX_KEYS, tell, NULL, &keys);
    must((status == SL_OK) == (n_told == 0));
    if (status != SL_OK) {
        return 0;
    }
    must(sl_keys_count(keys) == count_lines(data, size));
    /* The hex digits stand behind the first "sha256:" of each line that is one. */
    const uint8_t *at = data;
    int line = 1;
    for (size_t i = 0; i < sl_keys_count(keys); i++) {
        for (; line < sl_keys_at(keys, i)->line; line++) {
            at = (const uint8_t *)memchr(at, '\n', size - (size_t)(at - data)) + 1;
        }
        const uint8_t *word = memchr(at, ':', size - (size_t)(at - data));
        char hex[2 * SL_KEY_DIGEST_BYTES + 1];
        (void)snprintf(hex, sizeof(hex), "%.*s", 2 * SL_KEY_DIGEST_BYTES, (const char *)word + 1);
        check_key(keys, i, hex);
    }
    (void)sl_keys_free(keys);
    return 0;
}
