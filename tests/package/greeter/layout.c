/* Prints where the fields of all structs of the installed headers lie, for the ABI check (LR-8). */
#include <sluice/rpc.h>
#include <stdio.h>

#define STRUCT(name) (void)printf("%s %zu\n", #name, sizeof(struct name));
#define FIELD(name, field)                                                                         \
    (void)printf(                                                                                  \
        "    %s %zu %zu\n", #field, offsetof(struct name, field),                                  \
        sizeof(((struct name *)NULL)->field));

int main(void)
{
#include "layout.inc"
    return 0;
}
