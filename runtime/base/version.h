/* What --version and the user agent say. */
#ifndef SL_RUNTIME_BASE_VERSION_H
#define SL_RUNTIME_BASE_VERSION_H

#define SL_VERSION "0.1.0"

#endif
