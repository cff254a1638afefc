#include "service/identity/pattern.h"

static bool is_name_byte(uint8_t c)
{
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    return is_letter || (c >= '0' && c <= '9') || (c != '\0' && strchr("._:/@+=-", c) != NULL);
}

bool sl_identity_is_name(struct sl_slice text)
{
    bool is_name = text.size > 0 && text.size <= SL_IDENTITY_NAME_BYTES;
    for (size_t i = 0; is_name && i < text.size; i++) {
        is_name = is_name_byte(text.data[i]);
    }
    return is_name;
}

bool sl_pattern_is_valid(struct sl_slice pattern)
{
    size_t n_stars = 0;
    for (size_t i = 0; i < pattern.size; i++) {
        if (pattern.data[i] <= ' ' || pattern.data[i] >= 0x7f) {
            return false; /* a NUL would end it early: "*" for "*\0x" */
        }
        if (pattern.data[i] == '*') {
            n_stars++;
            if (i > 0 && i + 1 < pattern.size) {
                return false;
            }
        }
    }
    return pattern.size > 0 && n_stars <= 1;
}

bool sl_pattern_matches(const char *pattern, const char *text)
{
    const size_t n_pattern = strlen(pattern);
    const size_t n_text = strlen(text);
    if (n_pattern > 0 && pattern[n_pattern - 1] == '*') {
        return n_text >= n_pattern - 1 && memcmp(pattern, text, n_pattern - 1) == 0;
    }
    if (pattern[0] == '*') {
        return n_text >= n_pattern - 1 &&
               memcmp(pattern + 1, text + n_text - (n_pattern - 1), n_pattern - 1) == 0;
    }
    return n_pattern == n_text && memcmp(pattern, text, n_text) == 0;
}

bool sl_pattern_matches_any(const char *const *patterns, size_t n_patterns, const char *text)
{
    for (size_t i = 0; i < n_patterns; i++) {
        if (sl_pattern_matches(patterns[i], text)) {
            return true;
        }
    }
    return false;
}
