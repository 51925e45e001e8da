/* Status codes, the last error, versions, the log, and memory that calls hand out.
   SPDX-License-Identifier: Apache-2.0 */
#ifndef DSRT_STATUS_H
#define DSRT_STATUS_H

#include <dsrt/abi.h>

DS_BEGIN_DECLS

/* 0 success, negative an error, positive an outcome that is not an error. */
typedef int32_t ds_status;

/* What calls answer. */
enum {
    DS_OK = 0,                   /* done, as asked */
    DS_SKIPPED = 1,              /* the update was skipped: a gradient overflowed */
    DS_PENDING = 2,              /* more micro-batches are needed before the update */
    DS_END = 3,                  /* the data is exhausted, or an epoch of it */
    DS_E_INVALID_ARGUMENT = -1,  /* an argument is not acceptable */
    DS_E_CONFIG = -2,            /* the configuration is not acceptable */
    DS_E_NOT_FOUND = -3,         /* a file, tensor, key or name does not exist */
    DS_E_IO = -4,                /* reading or writing failed */
    DS_E_CORRUPT = -5,           /* a file's contents are damaged or hostile */
    DS_E_OUT_OF_MEMORY = -6,     /* memory could not be allocated */
    DS_E_UNSUPPORTED = -7,       /* not built, or not possible here */
    DS_E_STATE = -8,             /* the call is not legal now: wrong order, or what it refers to is gone */
    DS_E_BUSY = -9,              /* the handle is in use by another call */
    DS_E_COMM = -10,             /* communication between processes failed */
    DS_E_TIMEOUT = -11,          /* a deadline passed */
    DS_E_CANCELLED = -12,        /* the call was cancelled */
    DS_E_DEVICE = -13,           /* the device failed */
    DS_E_USER = -14,             /* a callback of the host failed */
    DS_E_INTERNAL = -15          /* a fault of the library itself */
};

/* The name of a code, "DS_E_CONFIG"; "DS_?" for a number that is none. Static; never NULL. Any thread, signal handlers included. */
DS_API const char *ds_status_name(ds_status s);

/* What this thread's last failing call has to say: the key, file, byte offset, rank or tensor, the value found, and what would be
   accepted; failures of the engine's worker threads included. "" before the first failure. Valid UTF-8, never NULL, and valid until
   this thread's next failing call: destroy calls, ds_free and successful calls leave it alone. Runtimes that move tasks between
   threads fetch it locked to the thread, or inside the same foreign call. */
DS_API const char *ds_last_error(void);

/* The library's version, "0.1.0". Static. */
DS_API const char *ds_version(void);

/* The library's ABI version, major << 16 | minor; compare with DS_ABI_VERSION. */
DS_API uint32_t ds_abi_version(void);

/* JSON: version, abi, compiler, build type, sanitizers, cpu (levels built, level in use), libraries, optional parts and whether they
   were found, devices. Static; never NULL; the same text for the life of the process. */
DS_API const char *ds_build_info(void);

/* Frees memory that a call handed out (char **, int32_t ** outputs). NULL is fine. Never touches the last error. */
DS_API void ds_free(void *p);

/* Levels of the log. */
enum {
    DS_LOG_TRACE = 0, /* every decision, such as why a kernel was not taken */
    DS_LOG_DEBUG = 1, /* what the library does and how long it takes */
    DS_LOG_INFO = 2,  /* what a run should tell: steps, places, devices */
    DS_LOG_WARN = 3,  /* what may not be as it was meant */
    DS_LOG_ERROR = 4, /* what failed and is answered by no call */
    DS_LOG_OFF = 5    /* no messages at all */
};

/* Receives one message. component ("engine", "data", "ckpt" ...) and message are UTF-8 and valid during the call. It may call dsrt
   (what those calls log is delivered later; what is logged while that is delivered is dropped), but not wait for another thread that does. */
typedef void (*ds_log_fn)(int32_t level, const char *component, const char *message, void *user);

/* Sends messages of `level` and above to fn, in place of the sink so far, whose release is called once its last delivery ended.
   fn NULL: back to the default, stderr, which shows DS_LOG_WARN and above at most. Messages of worker threads are queued and
   delivered on a thread that is inside a dsrt call. Process-wide; any thread. DS_E_INVALID_ARGUMENT: a level outside 0..5. */
DS_API ds_status ds_set_log(ds_log_fn fn, int32_t level, void *user, void (*release)(void *user));

DS_END_DECLS

#endif /* DSRT_STATUS_H */
