#include "runtime/base/limits.h"

#define SL_LIMIT_INFO(name, unit, value, least, greatest, text)                                    \
    { #name,                                                                                       \
      SL_UNIT_##unit,                                                                              \
      UINT64_C(value),                                                                             \
      UINT64_C(least),                                                                             \
      UINT64_C(greatest),                                                                          \
      (text),                                                                                      \
      offsetof(struct sl_limits, name) },
const struct sl_limit_info sl_limit_infos[] = { SL_LIMIT_MAP(SL_LIMIT_INFO) };
#undef SL_LIMIT_INFO

const size_t sl_limit_n_infos = sizeof(sl_limit_infos) / sizeof(sl_limit_infos[0]);

void sl_limits_init(struct sl_limits *limits)
{
#define SL_LIMIT_SET(name, unit, default_value, least, greatest, text)                             \
    limits->name = UINT64_C(default_value);
    SL_LIMIT_MAP(SL_LIMIT_SET)
#undef SL_LIMIT_SET
}

uint64_t *sl_limits_field(struct sl_limits *limits, const struct sl_limit_info *info)
{
    return (uint64_t *)(void *)((char *)limits + info->offset);
}
