/* A disk and a clock that can be made bad, between a program and the C library (LD_PRELOAD).
 *
 * BAD_DISK names a file that is read at each call; in it, words such as
 *
 *   sync-ms=4000     each sync of a file of the database takes so much longer
 *   hold             each sync waits until this word is gone
 *   sync-fails       each sync fails with EIO, and what was written since the last one is lost,
 *                    as a kernel loses pages that it could not write
 *   write-fails      each write fails with EIO
 *   read-only        each write fails with EROFS
 *   clock-ms=-3600000    the wall clock is off by so much
 *
 * What counts as a file of the database has "queen.db" in its name, the shared memory and the
 * lock excepted.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char *orders(char *buffer, size_t size) {
    const char *path = getenv("BAD_DISK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    ssize_t length = file < 0 ? 0 : read(file, buffer, size - 1);
    if (file >= 0) close(file);
    buffer[length < 0 ? 0 : length] = 0;
    return buffer;
}

static int is_ordered(const char *word) {
    char buffer[256];
    return strstr(orders(buffer, sizeof buffer), word) != NULL;
}

static long number(const char *word) {
    char buffer[256];
    const char *found = strstr(orders(buffer, sizeof buffer), word);
    return found ? atol(found + strlen(word)) : 0;
}

static int is_database(int file) {
    char link[64], path[512];
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return strstr(path, "queen.db") && !strstr(path, "-shm") && !strstr(path, ".lock");
}

/* What was written and not synced yet, by file. */
struct write { dev_t device; ino_t inode; off_t at; size_t size; };
static struct write *unsynced;
static size_t count, room;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void note(int file, off_t at, size_t size) {
    struct stat stat;
    if (fstat(file, &stat)) return;
    pthread_mutex_lock(&lock);
    if (count == room) {
        room = room ? room * 2 : 1024;
        unsynced = realloc(unsynced, room * sizeof *unsynced);
        if (!unsynced) abort();
    }
    unsynced[count++] = (struct write){stat.st_dev, stat.st_ino, at, size};
    pthread_mutex_unlock(&lock);
}

static ssize_t real_pwrite(int file, const void *data, size_t size, off_t at) {
    static ssize_t (*next)(int, const void *, size_t, off_t);
    if (!next) next = dlsym(RTLD_NEXT, "pwrite64");
    return next(file, data, size, at);
}

/* Ends what was noted of a file; overwrites it first if it is lost. */
static void settle(int file, int is_lost) {
    static const char nothing[65536];
    struct stat stat;
    if (fstat(file, &stat)) return;
    pthread_mutex_lock(&lock);
    size_t kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct write w = unsynced[i];
        if (w.device != stat.st_dev || w.inode != stat.st_ino) {
            unsynced[kept++] = w;
            continue;
        }
        for (size_t done = 0; is_lost && done < w.size;) {
            size_t part = w.size - done < sizeof nothing ? w.size - done : sizeof nothing;
            if (real_pwrite(file, nothing, part, w.at + (off_t)done) < 0) abort();
            done += part;
        }
    }
    count = kept;
    pthread_mutex_unlock(&lock);
}

static int sync_file(int file, int (*next)(int)) {
    if (!is_database(file)) return next(file);
    long ms = number("sync-ms=");
    if (ms) nanosleep(&(struct timespec){ms / 1000, ms % 1000 * 1000000}, NULL);
    while (is_ordered("hold")) nanosleep(&(struct timespec){0, 5000000}, NULL);
    int fails = is_ordered("sync-fails");
    settle(file, fails);
    if (fails) {
        errno = EIO;
        return -1;
    }
    return next(file);
}

int fsync(int file) {
    static int (*next)(int);
    if (!next) next = dlsym(RTLD_NEXT, "fsync");
    return sync_file(file, next);
}

int fdatasync(int file) {
    static int (*next)(int);
    if (!next) next = dlsym(RTLD_NEXT, "fdatasync");
    return sync_file(file, next);
}

ssize_t pwrite64(int file, const void *data, size_t size, off64_t at) {
    if (is_database(file)) {
        if (is_ordered("write-fails")) {
            errno = EIO;
            return -1;
        }
        if (is_ordered("read-only")) {
            errno = EROFS;
            return -1;
        }
        note(file, at, size);
    }
    return real_pwrite(file, data, size, at);
}

ssize_t pwrite(int file, const void *data, size_t size, off_t at) {
    return pwrite64(file, data, size, at);
}

int clock_gettime(clockid_t clock, struct timespec *time) {
    static int (*next)(clockid_t, struct timespec *);
    if (!next) next = dlsym(RTLD_NEXT, "clock_gettime");
    int result = next(clock, time);
    long ms = clock == CLOCK_REALTIME ? number("clock-ms=") : 0;
    if (ms) {
        long long ns = time->tv_nsec + ms * 1000000LL;
        time->tv_sec += ns / 1000000000;
        time->tv_nsec = ns % 1000000000;
        if (time->tv_nsec < 0) {
            time->tv_nsec += 1000000000;
            time->tv_sec--;
        }
    }
    return result;
}
