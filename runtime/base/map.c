#include "runtime/base/map.h"

_Thread_local bool sl_map_oom;
