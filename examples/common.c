#include "common.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void die(const char *format, ...) {
    va_list args;
    va_start(args, format);
    fputs("train: ", stderr);
    vfprintf(stderr, format, args);
    fputc('\n', stderr);
    va_end(args);
    exit(1);
}

ds_status must(ds_status s, const char *doing) {
    if (s < 0) die("%s: %s: %s", doing, ds_status_name(s), ds_last_error());
    return s;
}

double seconds_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

double metric(ds_engine *e, const char *name) {
    double value = 0;
    return ds_metric(e, name, &value) < 0 ? 0 : value;
}

char *read_text(const char *path) {
    FILE *f = fopen(path, "rb");
    if (!f) return NULL;
    text t = {NULL, 0};
    char buffer[4096];
    for (size_t n; (n = fread(buffer, 1, sizeof buffer, f)) > 0;) add(&t, "%.*s", (int)n, buffer);
    fclose(f);
    if (!t.data) add(&t, "");
    return t.data;
}

void write_text(const char *path, const char *contents) {
    FILE *f = fopen(path, "wb");
    if (!f || fputs(contents, f) < 0 || fclose(f) != 0) die("%s: cannot be written: %s", path, strerror(errno));
}

char *join(const char *dir, const char *name) {
    text t = {NULL, 0};
    add(&t, "%s/%s", dir, name);
    return t.data;
}

void add(text *t, const char *format, ...) {
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    const size_t more = (size_t)vsnprintf(NULL, 0, format, args);
    t->data = realloc(t->data, t->size + more + 1);
    if (!t->data) die("out of memory");
    vsnprintf(t->data + t->size, more + 1, format, again);
    t->size += more;
    va_end(again);
    va_end(args);
}

void add_json(text *t, const char *value) {
    add(t, "\"");
    for (const unsigned char *c = (const unsigned char *)value; *c; ++c) {
        if (*c == '"' || *c == '\\') add(t, "\\%c", *c);
        else if (*c < 0x20) add(t, "\\u%04x", *c);
        else add(t, "%c", *c);
    }
    add(t, "\"");
}

double json_number(const char *json, const char *key, double otherwise) {
    char pattern[64];
    snprintf(pattern, sizeof pattern, "\"%s\":", key);
    const char *at = strstr(json, pattern);
    if (!at) return otherwise;
    char *end;
    const double value = strtod(at + strlen(pattern), &end);
    return end == at + strlen(pattern) ? otherwise : value;
}
