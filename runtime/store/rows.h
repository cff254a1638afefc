/* Events as rows of a store: consecutive whole events of one run, with a checksum.
 *
 *   ranges  [1 2 3 4 5][6 7 8][9 ……………… ][10 11]       of segments, as the owner appended them
 *   rows    [1 2 3 4 5 6 7 8 ][9 ……………… ][10 11]       64 KiB, or one event that is larger
 *
 * A row is never larger, so that a reader may check it and end its transaction (S6). */
#ifndef SL_RUNTIME_STORE_ROWS_H
#define SL_RUNTIME_STORE_ROWS_H

#include "runtime/store/store.h"

struct sl_store_row {
    uint64_t first_sequence, last_sequence;
    struct sl_slice bytes;
};

/* Bytes of the event at the beginning of `bytes`; 0: none is there whole. */
size_t sl_store_event_size(struct sl_slice bytes);
/* How many whole events these are. False: something else is among them. */
bool sl_store_count_events(struct sl_slice bytes, uint64_t *ret_n_events);
/* The same, of the ranges of an append, with their bytes. */
bool sl_store_count_ranges(
    const struct sl_store_range *ranges,
    size_t n_ranges,
    uint64_t *ret_n_events,
    size_t *ret_bytes);

/* Cuts ranges, which sl_store_count_ranges() has looked at, into rows. `scratch` has
 * SL_STORE_READ_BYTES, and holds a row that lies in several segments until the next one. */
struct sl_store_cutter {
    const struct sl_store_range *ranges;
    size_t n_ranges;
    uint8_t *scratch;
    uint64_t next_sequence;
    size_t at;       /* range, */
    uint32_t offset; /* and place in it */
};
void sl_store_cutter_init(
    struct sl_store_cutter *cutter,
    const struct sl_store_range *ranges,
    size_t n_ranges,
    uint64_t first_sequence,
    uint8_t *scratch);
/* False: there is no more. */
bool sl_store_cutter_next(struct sl_store_cutter *cutter, struct sl_store_row *ret_row);

/* Over the row, its numbers, and the run's: so a row in a wrong place shows, too. */
uint32_t sl_store_row_crc(uint64_t run_number, const struct sl_store_row *row);
/* The checksum is right, and these are the events that the row says. */
bool sl_store_row_is_sound(uint64_t run_number, const struct sl_store_row *row, uint32_t crc);

/* What is left of a sound row behind event `after_sequence`, and of that at most `max_bytes`, but
 * at least one event. Empty: nothing is. */
struct sl_store_row
sl_store_row_part(const struct sl_store_row *row, uint64_t after_sequence, size_t max_bytes);

#endif
