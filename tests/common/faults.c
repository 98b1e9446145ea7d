/* Preloaded into a gateway: makes what it asks the system for fail, hang or lie.
 *
 * The directory $FAULTS holds a file for each fault, which a test makes and removes at any time:
 *   NAME.fail   the call fails with EIO
 *   NAME.hang   the call does not return before the file is gone
 *   NAME.file   the call opens this file instead
 *   NAME.full   "statvfs" alone: nothing is free
 * NAME is "statvfs" (of everything), "statvfs" and a path, or a path that is opened, with '_' for
 * '/'. /proc/PID is /proc/self. The file "asked" lists what statvfs was asked for.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <unistd.h>

static int exists(char *file, const char *name, const char *kind) {
    snprintf(file, PATH_MAX, "%s/%s.%s", getenv("FAULTS"), name, kind);
    return !access(file, F_OK);
}

static void name_of(char *name, const char *prefix, const char *path) {
    char own[64];
    int length = snprintf(own, sizeof own, "/proc/%d/", getpid());
    if (!strncmp(path, own, length))
        snprintf(name, PATH_MAX, "%s/proc/self/%s", prefix, path + length);
    else
        snprintf(name, PATH_MAX, "%s%s", prefix, path);
    for (char *at = name; *at; at++)
        if (*at == '/') *at = '_';
}

static int fails(const char *name) {
    char file[PATH_MAX];
    while (exists(file, name, "hang")) usleep(1000);
    if (!exists(file, name, "fail")) return 0;
    errno = EIO;
    return 1;
}

static void note(const char *path) {
    char file[PATH_MAX], line[PATH_MAX];
    exists(file, "asked", "log");
    int log = syscall(SYS_openat, AT_FDCWD, file, O_WRONLY | O_CREAT | O_APPEND, 0600);
    int length = snprintf(line, sizeof line, "%s\n", path);
    if (write(log, line, length) != length) abort();
    close(log);
}

#define STATVFS(function, type) \
    int function(const char *path, struct type *room) { \
        static int (*real)(const char *, struct type *); \
        char name[PATH_MAX]; \
        if (!real) real = dlsym(RTLD_NEXT, #function); \
        note(path); \
        name_of(name, "statvfs", path); \
        if (fails("statvfs") || fails(name)) return -1; \
        int result = real(path, room); \
        char file[PATH_MAX]; \
        if (exists(file, "statvfs", "full")) room->f_bavail = 0; \
        return result; \
    }
STATVFS(statvfs, statvfs)
STATVFS(statvfs64, statvfs64)

#define OPEN(function) \
    int function(const char *path, int flags, ...) { \
        va_list more; \
        va_start(more, flags); \
        int mode = flags & O_CREAT ? va_arg(more, int) : 0; \
        va_end(more); \
        char name[PATH_MAX], file[PATH_MAX]; \
        name_of(name, "", path); \
        if (fails(name)) return -1; \
        return syscall(SYS_openat, AT_FDCWD, exists(file, name, "file") ? file : path, flags, mode); \
    }
OPEN(open)
OPEN(open64)

DIR *opendir(const char *path) {
    static DIR *(*real)(const char *);
    char name[PATH_MAX];
    if (!real) real = dlsym(RTLD_NEXT, "opendir");
    name_of(name, "", path);
    return fails(name) ? NULL : real(path);
}
