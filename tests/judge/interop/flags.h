/* The flags of gRPC's interop programs: --name=value, each at most once. */
#ifndef SL_TESTS_JUDGE_INTEROP_FLAGS_H
#define SL_TESTS_JUDGE_INTEROP_FLAGS_H

#include <stdbool.h>
#include <stdint.h>

struct flag {
    const char *name;  /* without "--" */
    const char *value; /* the default, then what was given; NULL: nothing */
};

/* Fills `flags`, which end with a name NULL. False: an argument is no flag of these; it is named on
 * stderr. */
bool flags_parse(struct flag *flags, int argc, char **argv);
/* NULL: not given, and no default. Aborts when there is no such flag. */
const char *flags_text(const struct flag *flags, const char *name);
bool flags_bool(const struct flag *flags, const char *name);
/* 0 when it is no number. */
uint32_t flags_number(const struct flag *flags, const char *name);

#endif
