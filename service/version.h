/* What --version says. */
#ifndef SL_SERVICE_VERSION_H
#define SL_SERVICE_VERSION_H

#define SL_VERSION "0.1.0"

#endif
