/* Text with variables: "$name$" is replaced by its value, once. */
#ifndef SL_CODEGEN_TEMPLATE_H
#define SL_CODEGEN_TEMPLATE_H

#include "codegen/text.h"

struct sl_variable {
    const char *name;
    const char *value;
};

/* Adds `pattern` to the text. `variables` end with a NULL name. A variable that is not among them
 * is an error of this program: the text fails. */
void sl_template_add(
    struct sl_text *text, const struct sl_variable *variables, const char *pattern);

#endif
