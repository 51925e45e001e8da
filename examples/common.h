/* What the parts of the example share. Everything it knows of the library is <dsrt/dsrt.h>. */
#ifndef EXAMPLES_COMMON_H
#define EXAMPLES_COMMON_H

#include <dsrt/dsrt.h>
#include <stdarg.h>
#include <stddef.h>

/* Ends the program with the library's own words when a call failed; hands on what is not an error (DS_END, DS_SKIPPED ...). */
ds_status must(ds_status s, const char* doing);
void die(const char* format, ...);

double seconds_now(void);                      /* monotonic */
double metric(ds_engine* e, const char* name); /* ds_metric, or 0 */
char* read_text(const char* path);             /* a whole file, or NULL; free() */
void write_text(const char* path, const char* text);
char* join(const char* dir, const char* name); /* dir/name; free() */

/* Text that grows. */
typedef struct text {
    char* data;
    size_t size;
} text;
void add(text* t, const char* format, ...);
void add_json(text* t, const char* value); /* quoted and escaped */

/* The number behind "key": in a flat JSON text, or `otherwise`. */
double json_number(const char* json, const char* key, double otherwise);

#endif
