/* Kills the process that it is loaded into at its n-th change of a file or folder.

   Loaded by LD_PRELOAD. Nothing is counted before crash_arm(); crash_count() says how many changes there were since.
   What is no change of a file or folder on a disk, such as a write into a pipe, is not counted. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long changes;
static atomic_long last; /* 0: not armed */
static int torn_writes;
static int told = -1;

/* Die at the n-th change from now: before it, or with `torn` after half of it where it is a write of some bytes. The
   descriptor is told which change it was. */
void crash_arm(long n, int torn, int descriptor) {
    torn_writes = torn;
    told = descriptor;
    atomic_store(&changes, 0);
    atomic_store(&last, n);
}

long crash_count(void) { return atomic_load(&changes); }

static void *next(const char *name) {
    void *found = dlsym(RTLD_NEXT, name);
    if (!found) abort();
    return found;
}

static void die(const char *what, size_t bytes) {
    dprintf(told, "{\"died\": \"%s\", \"bytes\": %zu}\n", what, bytes);
    kill(getpid(), SIGKILL);
    for (;;) pause();
}

static int on_disk(int descriptor) {
    struct stat found;
    int kept = errno;
    int is = fstat(descriptor, &found) == 0 && (S_ISREG(found.st_mode) || S_ISDIR(found.st_mode));
    errno = kept;
    return is;
}

/* Says whether this is the change at which to die. */
static int is_last(void) { return atomic_load(&last) && atomic_fetch_add(&changes, 1) + 1 == atomic_load(&last); }

/* Counts a change that takes place whole or not at all. */
static void count(const char *what) {
    if (is_last()) die(what, 0);
}

/* Counts a write, and says how many of its bytes may still be written; all of them unless it is the last one. */
static size_t some(const char *what, int descriptor, size_t bytes) {
    if (!on_disk(descriptor) || !is_last()) return bytes;
    if (!torn_writes || bytes < 2) die(what, bytes);
    return bytes / 2;
}

#define CALL(type, name, parameters, before, arguments)          \
    type name parameters {                                       \
        static type(*real) parameters;                           \
        if (!real) real = (type(*) parameters)next(#name);       \
        before;                                                  \
        return real arguments;                                   \
    }

#define WRITE(name, offset_type)                                                            \
    ssize_t name(int descriptor, const void *bytes, size_t size, offset_type offset) {      \
        static ssize_t (*real)(int, const void *, size_t, offset_type);                     \
        if (!real) real = (ssize_t(*)(int, const void *, size_t, offset_type))next(#name);  \
        size_t allowed = some(#name, descriptor, size);                                     \
        ssize_t done = real(descriptor, bytes, allowed, offset);                            \
        if (allowed < size) die("half of " #name, size);                                      \
        return done;                                                                        \
    }

WRITE(pwrite, off_t)
WRITE(pwrite64, off64_t)

ssize_t write(int descriptor, const void *bytes, size_t size) {
    static ssize_t (*real)(int, const void *, size_t);
    if (!real) real = (ssize_t(*)(int, const void *, size_t))next("write");
    size_t allowed = some("write", descriptor, size);
    ssize_t done = real(descriptor, bytes, allowed);
    if (allowed < size) die("half of write", size);
    return done;
}

#define ON_DISK(what, descriptor) \
    if (on_disk(descriptor)) count(what)

CALL(ssize_t, writev, (int d, const struct iovec *v, int n), ON_DISK("writev", d), (d, v, n))
CALL(ssize_t, pwritev, (int d, const struct iovec *v, int n, off_t o), ON_DISK("pwritev", d), (d, v, n, o))
CALL(ssize_t, pwritev64, (int d, const struct iovec *v, int n, off64_t o), ON_DISK("pwritev64", d), (d, v, n, o))
CALL(int, fsync, (int d), ON_DISK("fsync", d), (d))
CALL(int, fdatasync, (int d), ON_DISK("fdatasync", d), (d))
CALL(int, ftruncate, (int d, off_t n), count("ftruncate"), (d, n))
CALL(int, ftruncate64, (int d, off64_t n), count("ftruncate64"), (d, n))
CALL(int, posix_fallocate, (int d, off_t o, off_t n), count("posix_fallocate"), (d, o, n))
CALL(int, posix_fallocate64, (int d, off64_t o, off64_t n), count("posix_fallocate64"), (d, o, n))
CALL(int, rename, (const char *a, const char *b), count("rename"), (a, b))
CALL(int, renameat, (int c, const char *a, int d, const char *b), count("renameat"), (c, a, d, b))
CALL(int, link, (const char *a, const char *b), count("link"), (a, b))
CALL(int, linkat, (int c, const char *a, int d, const char *b, int f), count("linkat"), (c, a, d, b, f))
CALL(int, symlink, (const char *a, const char *b), count("symlink"), (a, b))
CALL(int, symlinkat, (const char *a, int d, const char *b), count("symlinkat"), (a, d, b))
CALL(int, unlink, (const char *a), count("unlink"), (a))
CALL(int, unlinkat, (int d, const char *a, int f), count("unlinkat"), (d, a, f))
CALL(int, rmdir, (const char *a), count("rmdir"), (a))
CALL(int, mkdir, (const char *a, mode_t m), count("mkdir"), (a, m))
CALL(int, mkdirat, (int d, const char *a, mode_t m), count("mkdirat"), (d, a, m))

#define OPEN(name, head, before)                                     \
    int name(head const char *path, int flags, ...) {                \
        static int (*real)(head const char *, int, ...);             \
        if (!real) real = (int (*)(head const char *, int, ...))next(#name); \
        va_list more;                                                \
        va_start(more, flags);                                       \
        mode_t mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(more, mode_t) : 0; \
        va_end(more);                                                \
        if (flags & (O_CREAT | O_TRUNC)) count(#name);               \
        return real(before path, flags, mode);                       \
    }

#define NOTHING
#define FOLDER int folder,
#define GIVEN folder,
OPEN(open, NOTHING, NOTHING)
OPEN(open64, NOTHING, NOTHING)
OPEN(openat, FOLDER, GIVEN)
OPEN(openat64, FOLDER, GIVEN)
