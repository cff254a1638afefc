#include "runtime/base/metrics.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>

#include "runtime/base/mem.h"

enum { HEADS = 4096, ALL_SERIES = 16384, TEXT_BYTES = 2 << 20 };

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

/* Prometheus' defaults, and what long streams need. */
static const uint64_t bounds_CALL[] = { 5 * MS,   10 * MS,  25 * MS, 50 * MS,   100 * MS,
                                        250 * MS, 500 * MS, 1 * S,   2500 * MS, 5 * S,
                                        10 * S,   30 * S,   120 * S, 600 * S,   3600 * S };
/* 0.01 · 2^n, as the conventions of OpenTelemetry have it. */
static const uint64_t bounds_MODEL[] = { 10 * MS,    20 * MS,    40 * MS,    80 * MS,   160 * MS,
                                         320 * MS,   640 * MS,   1280 * MS,  2560 * MS, 5120 * MS,
                                         10240 * MS, 20480 * MS, 40960 * MS, 81920 * MS };
static const uint64_t bounds_TOKENS[] = {
    1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864
};
static const uint64_t bounds_LAG[] = { MS / 10, MS / 2,   1 * MS,   5 * MS,    10 * MS,  25 * MS,
                                       50 * MS, 100 * MS, 250 * MS, 1000 * MS, 5000 * MS };
#define bounds_NONE      NULL
#define n_NONE           0
#define n_CALL           SL_COUNT(bounds_CALL)
#define n_MODEL          SL_COUNT(bounds_MODEL)
#define n_TOKENS         SL_COUNT(bounds_TOKENS)
#define n_LAG            SL_COUNT(bounds_LAG)
#define SUFFIX_COUNTER   "_total"
#define SUFFIX_GAUGE     ""
#define SUFFIX_HISTOGRAM ""

const struct sl_metric_info sl_metric_infos[SL_METRIC_COUNT] = {
#define SL_METRIC_INFO(name, kind, unit, buckets, labels, text)                                    \
    { #name SUFFIX_##kind, text,       labels, SL_METRIC_##kind, SL_METRIC_##unit,                 \
      bounds_##buckets,    n_##buckets },
    SL_METRIC_MAP(SL_METRIC_INFO)
#undef SL_METRIC_INFO
};

_Alignas(64) _Atomic uint64_t sl_metric_cells[SL_METRIC_SHARDS][SL_METRIC_CELLS];
_Thread_local uint32_t sl_metric_shard;

static atomic_uint n_threads;

uint32_t sl_metric_take_shard(void)
{
    const unsigned n = atomic_fetch_add_explicit(&n_threads, 1, memory_order_relaxed);
    sl_metric_shard = 1 + n % SL_METRIC_SHARDS;
    return sl_metric_shard;
}

/* ---- Series ------------------------------------------------------------------------------------
 */

/* Where it counts when there is no room for another series: the cells before the first one are
 * nobody else's. */
enum { FIRST_CELL = 64 };
static struct sl_series nowhere = { .labels = "" };

static struct sl_series *_Atomic heads[HEADS];
static struct sl_series *_Atomic first_of[SL_METRIC_COUNT];

static struct {
    pthread_mutex_t lock;
    struct sl_series series[ALL_SERIES];
    char text[TEXT_BYTES];
    size_t n_series, text_bytes;
    uint32_t n_cells; /* behind the first ones */
    uint32_t n_of[SL_METRIC_COUNT];
    struct sl_series *last_of[SL_METRIC_COUNT];
} shared = { .lock = PTHREAD_MUTEX_INITIALIZER }; /* all zero: it takes no room in the program */

/* Appends, escaped as the format wants it in a label value; the rest is cut. */
static size_t put_escaped(char *room, size_t at, const char *value)
{
    for (; *value != '\0' && at + 8 < SL_METRIC_LABEL_BYTES; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n') {
            room[at++] = '\\';
            room[at++] = (char)(*value == '\n' ? 'n' : *value);
        } else {
            room[at++] = *value;
        }
    }
    return at;
}

/* `agent="echo",code="OK"`. With `fixed` that is the value of every label. */
static void
put_labels(char *room, enum sl_metric metric, const char *const *values, const char *fixed)
{
    const char *names = sl_metric_infos[metric].labels;
    size_t at = 0;
    for (size_t i = 0; *names != '\0'; i++) {
        const size_t size = strcspn(names, ",");
        // NOLINTNEXTLINE(clang-analyzer-core.uninitialized.Assign): as many values as labels
        const char *value = fixed != NULL ? fixed : values[i];
        if (at + size + 16 >= SL_METRIC_LABEL_BYTES) {
            break;
        }
        if (i > 0) {
            room[at++] = ',';
        }
        memcpy(room + at, names, size);
        at += size;
        room[at++] = '=';
        room[at++] = '"';
        at = put_escaped(room, at, value == NULL ? "" : value);
        room[at++] = '"';
        names += size + (names[size] == ',');
    }
    room[at] = '\0';
}

static uint32_t hash_of(enum sl_metric metric, const char *labels)
{
    uint32_t hash = 2166136261U ^ (uint32_t)metric; /* FNV-1a */
    for (; *labels != '\0'; labels++) {
        hash = (hash ^ (uint8_t)*labels) * 16777619U;
    }
    return hash % HEADS;
}

static struct sl_series *find(uint32_t hash, enum sl_metric metric, const char *labels)
{
    struct sl_series *it = atomic_load_explicit(&heads[hash], memory_order_acquire);
    while (it != NULL && (it->metric != metric || strcmp(it->labels, labels) != 0)) {
        it = atomic_load_explicit(&it->next_same_hash, memory_order_acquire);
    }
    return it;
}

/* NULL: no room. Under the lock. */
static struct sl_series *make(uint32_t hash, enum sl_metric metric, const char *labels)
{
    const struct sl_metric_info *info = &sl_metric_infos[metric];
    const uint32_t n_cells = info->kind == SL_METRIC_HISTOGRAM ? info->n_bounds + 2 : 1;
    const size_t size = strlen(labels) + 1;
    if (shared.n_series == ALL_SERIES || shared.text_bytes + size > TEXT_BYTES ||
        FIRST_CELL + shared.n_cells + n_cells > SL_METRIC_CELLS) {
        return NULL;
    }
    struct sl_series *series = &shared.series[shared.n_series++];
    char *text = shared.text + shared.text_bytes;
    memcpy(text, labels, size);
    shared.text_bytes += size;
    series->metric = metric;
    series->labels = text;
    series->cell = FIRST_CELL + shared.n_cells;
    series->bounds = info->bounds;
    series->n_bounds = info->n_bounds;
    shared.n_cells += n_cells;
    struct sl_series *first = atomic_load_explicit(&heads[hash], memory_order_relaxed);
    atomic_store_explicit(&series->next_same_hash, first, memory_order_relaxed);
    atomic_store_explicit(&heads[hash], series, memory_order_release);
    if (shared.last_of[metric] == NULL) {
        atomic_store_explicit(&first_of[metric], series, memory_order_release);
    } else {
        atomic_store_explicit(&shared.last_of[metric]->next, series, memory_order_release);
    }
    shared.last_of[metric] = series;
    shared.n_of[metric]++;
    return series;
}

/* Under the lock. */
static struct sl_series *find_or_make(enum sl_metric metric, const char *labels)
{
    const uint32_t hash = hash_of(metric, labels);
    struct sl_series *series = find(hash, metric, labels);
    return series != NULL ? series : make(hash, metric, labels);
}

static struct sl_series *look_up(enum sl_metric metric, const char *const *values)
{
    char labels[SL_METRIC_LABEL_BYTES];
    put_labels(labels, metric, values, NULL);
    struct sl_series *series = find(hash_of(metric, labels), metric, labels);
    if (series != NULL) {
        return series;
    }
    (void)pthread_mutex_lock(&shared.lock);
    if (shared.n_of[metric] + 1 >= SL_METRIC_SERIES) {
        put_labels(labels, metric, values, "other");
    }
    series = find_or_make(metric, labels);
    (void)pthread_mutex_unlock(&shared.lock);
    return series == NULL ? &nowhere : series;
}

/* Without labels there is just one, and it is asked for often. */
struct sl_series *sl_metric_series(enum sl_metric metric, const char *const *values)
{
    struct sl_series *series = atomic_load_explicit(&first_of[metric], memory_order_acquire);
    const bool is_only = series != NULL && sl_metric_infos[metric].labels[0] == '\0';
    return is_only ? series : look_up(metric, values);
}

/* ---- Counting ----------------------------------------------------------------------------------
 */

void sl_metric_observe(const struct sl_series *series, uint64_t value)
{
    uint32_t i = 0;
    while (i < series->n_bounds && value > series->bounds[i]) {
        i++;
    }
    const uint32_t shard = sl_metric_shard != 0 ? sl_metric_shard : sl_metric_take_shard();
    _Atomic uint64_t *cells = &sl_metric_cells[shard - 1][series->cell];
    (void)atomic_fetch_add_explicit(&cells[i], 1, memory_order_relaxed);
    (void)atomic_fetch_add_explicit(&cells[series->n_bounds + 1], value, memory_order_relaxed);
}

void sl_metric_set(const struct sl_series *series, uint64_t value)
{
    atomic_store_explicit(&sl_metric_cells[0][series->cell], value, memory_order_relaxed);
}

/* Some limits shape what is done all the time: each series is looked up once. */
static struct sl_series *limit_series(enum sl_limit limit)
{
    static struct sl_series *_Atomic known[SL_LIMIT_COUNT];
    struct sl_series *series = atomic_load_explicit(&known[limit], memory_order_acquire);
    if (series == NULL) {
        const char *const values[] = { sl_limit_infos[limit].name };
        series = sl_metric_series(SL_M_sluice_limits_reached, values);
        atomic_store_explicit(&known[limit], series, memory_order_release);
    }
    return series;
}

void sl_limit_reached(enum sl_limit limit)
{
    sl_metric_add(limit_series(limit), 1);
}

static uint64_t sum_of(uint32_t cell)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < SL_METRIC_SHARDS; i++) {
        sum += atomic_load_explicit(&sl_metric_cells[i][cell], memory_order_relaxed);
    }
    return sum;
}

uint64_t sl_metric_value(const struct sl_series *series)
{
    uint64_t sum = 0;
    const bool is_histogram = sl_metric_infos[series->metric].kind == SL_METRIC_HISTOGRAM;
    const uint32_t n_cells = is_histogram ? series->n_bounds + 1 : 1;
    for (uint32_t i = 0; i < n_cells; i++) {
        sum += sum_of(series->cell + i);
    }
    return sum;
}

uint64_t sl_limit_n_reached(enum sl_limit limit)
{
    return sl_metric_value(limit_series(limit));
}

/* ---- Writing -----------------------------------------------------------------------------------
 */

static enum sl_status
write_number(struct sl_buf *out, const struct sl_metric_info *info, uint64_t value)
{
    if (info->unit == SL_METRIC_NS) {
        return sl_buf_addf(out, " %" PRIu64 ".%09" PRIu64 "\n", value / S, value % S);
    }
    return info->kind == SL_METRIC_GAUGE ? sl_buf_addf(out, " %" PRId64 "\n", (int64_t)value)
                                         : sl_buf_addf(out, " %" PRIu64 "\n", value);
}

/* `{a="b"}`, or nothing. */
static enum sl_status write_labels(struct sl_buf *out, const char *labels)
{
    return labels[0] == '\0' ? SL_OK : sl_buf_addf(out, "{%s}", labels);
}

static enum sl_status write_histogram(
    struct sl_buf *out, const struct sl_metric_info *info, const struct sl_series *series)
{
    const char *comma = series->labels[0] == '\0' ? "" : ",";
    uint64_t n = 0;
    for (uint32_t i = 0; i <= series->n_bounds; i++) {
        char bound[32] = "+Inf";
        if (i < series->n_bounds) {
            const double unit = info->unit == SL_METRIC_NS ? 1e9 : 1;
            (void)snprintf(bound, sizeof(bound), "%.10g", (double)series->bounds[i] / unit);
        }
        n += sum_of(series->cell + i);
        SL_TRY(sl_buf_addf(
            out, "%s_bucket{%s%sle=\"%s\"} %" PRIu64 "\n", info->name, series->labels, comma, bound,
            n));
    }
    SL_TRY(sl_buf_addf(out, "%s_sum", info->name));
    SL_TRY(write_labels(out, series->labels));
    SL_TRY(write_number(out, info, sum_of(series->cell + series->n_bounds + 1)));
    SL_TRY(sl_buf_addf(out, "%s_count", info->name));
    SL_TRY(write_labels(out, series->labels));
    return sl_buf_addf(out, " %" PRIu64 "\n", n);
}

static enum sl_status
write_sample(struct sl_buf *out, const struct sl_metric_info *info, const struct sl_series *series)
{
    if (info->kind == SL_METRIC_HISTOGRAM) {
        return write_histogram(out, info, series);
    }
    SL_TRY(sl_buf_add_str(out, info->name));
    SL_TRY(write_labels(out, series->labels));
    return write_number(out, info, sum_of(series->cell));
}

static enum sl_status write_metric(struct sl_buf *out, enum sl_metric metric)
{
    static const char *const kinds[] = { "counter", "gauge", "histogram" };
    const struct sl_metric_info *info = &sl_metric_infos[metric];
    const struct sl_series *series = atomic_load_explicit(&first_of[metric], memory_order_acquire);
    SL_TRY(sl_buf_addf(
        out, "# HELP %s %s\n# TYPE %s %s\n", info->name, info->text, info->name,
        kinds[info->kind]));
    for (; series != NULL; series = atomic_load_explicit(&series->next, memory_order_acquire)) {
        SL_TRY(write_sample(out, info, series));
    }
    return SL_OK;
}

enum sl_status sl_metrics_write(struct sl_buf *out)
{
    for (size_t i = 0; i < SL_LIMIT_COUNT; i++) {
        (void)limit_series((enum sl_limit)i);
    }
    for (size_t i = 0; i < SL_METRIC_COUNT; i++) {
        if (sl_metric_infos[i].labels[0] == '\0') {
            (void)sl_metric_series((enum sl_metric)i, NULL);
        }
        SL_TRY(write_metric(out, (enum sl_metric)i));
    }
    return SL_OK;
}
