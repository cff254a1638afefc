/* protobuf-c's way of making C names from proto names (PB-9), and our own for files. */
#ifndef SL_CODEGEN_NAMES_H
#define SL_CODEGEN_NAMES_H

#include <stdbool.h>

#include "codegen/text.h"

/* How one part of a name is written: "HTTPServer" gives "httpserver", "HTTPSERVER", "HTTPServer";
 * "GetURLFor" gives "get_urlfor", "GET_URLFOR", "GetURLFor"; "my_pkg" gives "MyPkg" as a type. */
enum sl_name_style { SL_NAME_LOWER, SL_NAME_UPPER, SL_NAME_TYPE };

/* Adds one part. */
void sl_name_add_part(struct sl_text *text, enum sl_name_style style, const char *part);
/* Adds a dotted name, parts joined by "__". */
void sl_name_add_dotted(struct sl_text *text, enum sl_name_style style, const char *dotted);

/* Adds what stands for a .proto file in C: "foo/v1/agent.proto" gives "foo__v1__agent_proto". A
 * name that another file name could give too, such as "a-b.proto", ends in a hash of the whole. */
void sl_name_add_file(struct sl_text *text, const char *file_name);
/* Adds a file name without ".proto" or ".protodevel". */
void sl_name_add_file_base(struct sl_text *text, const char *file_name);

/* Adds the inside of a C string literal, safe in a comment too. */
void sl_name_add_escaped(struct sl_text *text, const char *value);

/* Adds a comment of a .proto file as one of C, indented like a member, with its own line ends. */
void sl_name_add_comment(struct sl_text *text, const char *comment);

/* True for what cannot name a member: a keyword of C or C++, or a usual lower-case macro. */
bool sl_name_is_reserved(const char *name);

#endif
