// Records and fails the file operations of a process within one folder. For tests of what a disk does to the journal.
//
// Environment:
//   FAULT_SHIM_FOLDER   absolute path without links; files outside of it are left alone
//   FAULT_SHIM_LOG      where records go (struct fault_shim_record); must lie outside of the folder; optional
//   FAULT_SHIM_CONTROL  a file with the faults in force, read before each operation; optional. Replace it by rename.
//
// A line of the control file: GENERATION KIND ERRNO SKIP COUNT, for example "3 sync 5 0 1".
//   GENERATION  any number; the counts start again when it changes
//   KIND        write (through a plain descriptor), meta (a write through an O_DSYNC or O_SYNC descriptor: so LMDB
//               writes its meta pages), back (a plain write of 100 to 511 bytes: so LMDB puts the former meta page back
//               when writing a new one has failed), sync
//   ERRNO       what the operation fails with; 0: only half of the bytes are written, which is how a file system
//               says first that it is full
//   SKIP        operations of this kind that pass first
//   COUNT       how many fail then; -1: all
// Writes through O_APPEND descriptors never fail: a test's own notes are kept so.
//
// System calls are made directly, so that the order of initialization of preloaded libraries does not matter. Every
// operation holds one lock until it is in the log: the log's order is the order of the operations.

#define _GNU_SOURCE
#include "FaultShim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#define MAX_DESCRIPTORS 4096
#define MAX_FILES 4096
#define MAX_RULES 64

enum kind { KIND_WRITE, KIND_META, KIND_BACK, KIND_SYNC };

// File number of each descriptor that is watched, plus 1.
static uint32_t descriptors[MAX_DESCRIPTORS];
static struct { dev_t device; ino_t inode; } files[MAX_FILES];
static uint32_t file_count;

static struct rule { long generation; enum kind kind; long error; long skip; long count; long seen; } rules[MAX_RULES];
static int rule_count;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static const char *folder;
static size_t folder_length;
static const char *control;
static int log_descriptor = -1;

__attribute__((constructor)) static void start(void) {
    const char *path = getenv("FAULT_SHIM_FOLDER");
    if (!path || !*path) return;
    const char *log = getenv("FAULT_SHIM_LOG");
    if (log) {
        log_descriptor = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
        if (log_descriptor < 0) {
            perror("FaultShim: can't open FAULT_SHIM_LOG");
            _exit(99);
        }
    }
    control = getenv("FAULT_SHIM_CONTROL");
    folder_length = strlen(path);
    folder = path;
}

static void die(const char *what) {
    fprintf(stderr, "FaultShim: %s\n", what);
    _exit(99);
}

// The name within the folder, or NULL.
static const char *watched_name(const char *path) {
    if (!folder || !path || strncmp(path, folder, folder_length) != 0) return NULL;
    if (path[folder_length] == 0) return path + folder_length;
    return path[folder_length] == '/' ? path + folder_length + 1 : NULL;
}

static void record(
    enum fault_shim_operation operation, int is_own_write, int error, uint32_t file, uint64_t offset,
    const struct iovec *data, int count, size_t length
) {
    if (log_descriptor < 0) return;
    struct fault_shim_record head = {operation, is_own_write, error, file, offset, length};
    struct iovec parts[count + 1];
    parts[0] = (struct iovec){&head, sizeof head};
    size_t rest = length;
    int used = 1;
    for (int i = 0; i < count && rest > 0; i++) {
        size_t part = data[i].iov_len < rest ? data[i].iov_len : rest;
        parts[used++] = (struct iovec){data[i].iov_base, part};
        rest -= part;
    }
    if (syscall(SYS_writev, log_descriptor, parts, used) != (long)(sizeof head + length)) die("can't write the log");
}

static void record_text(enum fault_shim_operation operation, uint32_t file, uint64_t offset, char *text, size_t length) {
    struct iovec data = {text, length};
    record(operation, 0, 0, file, offset, &data, 1, length);
}

// MARK: Faults

static void read_rules(void) {
    if (!control) return;
    char text[4096];
    int descriptor = syscall(SYS_openat, AT_FDCWD, control, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) {
        rule_count = 0;
        return;
    }
    long length = syscall(SYS_read, descriptor, text, sizeof text - 1);
    syscall(SYS_close, descriptor);
    text[length > 0 ? length : 0] = 0;
    int count = 0;
    for (char *rest, *line = strtok_r(text, "\n", &rest); line && count < MAX_RULES; line = strtok_r(NULL, "\n", &rest)) {
        struct rule rule = {0};
        char kind[16];
        if (sscanf(line, "%ld %15s %ld %ld %ld", &rule.generation, kind, &rule.error, &rule.skip, &rule.count) != 5)
            die("malformed control file");
        rule.kind = strcmp(kind, "write") == 0  ? KIND_WRITE
                    : strcmp(kind, "meta") == 0 ? KIND_META
                    : strcmp(kind, "back") == 0 ? KIND_BACK
                                                : KIND_SYNC;
        if (count < rule_count && rules[count].generation == rule.generation) rule.seen = rules[count].seen;
        rules[count++] = rule;
    }
    rule_count = count;
}

// Whether this operation is to fail; *error is set then.
static int fails(enum kind kind, int *error) {
    read_rules();
    for (int i = 0; i < rule_count; i++) {
        struct rule *rule = &rules[i];
        if (rule->kind != kind) continue;
        long number = rule->seen++;
        if (number < rule->skip || (rule->count >= 0 && number >= rule->skip + rule->count)) continue;
        *error = rule->error;
        return 1;
    }
    return 0;
}

// MARK: Descriptors

static uint32_t file_of(int descriptor) {
    return descriptor >= 0 && descriptor < MAX_DESCRIPTORS ? descriptors[descriptor] : 0;
}

static uint32_t file_number(int descriptor) {
    struct stat status;
    if (fstat(descriptor, &status) != 0) die("fstat failed");
    for (uint32_t i = 0; i < file_count; i++)
        if (files[i].device == status.st_dev && files[i].inode == status.st_ino) return i;
    if (file_count == MAX_FILES) die("too many files");
    files[file_count].device = status.st_dev;
    files[file_count].inode = status.st_ino;
    return file_count++;
}

static int open_at(int directory, const char *path, int flags, mode_t mode) {
    const char *name = watched_name(path);
    if (!name) return syscall(SYS_openat, directory, path, flags, mode);
    pthread_mutex_lock(&lock);
    struct stat status;
    int existed = lstat(path, &status) == 0;
    int result = syscall(SYS_openat, directory, path, flags, mode);
    int error = errno;
    if (result >= MAX_DESCRIPTORS) die("too many descriptors");
    if (result >= 0) {
        uint32_t file = file_number(result);
        descriptors[result] = file + 1;
        int is_folder = fstat(result, &status) == 0 && S_ISDIR(status.st_mode);
        record_text(FAULT_SHIM_OPEN, file, !existed + 2 * is_folder, (char *)name, strlen(name));
        // An inode that was freed may be given to another file: it starts empty.
        if (!is_folder && (!existed || (flags & O_TRUNC))) record(FAULT_SHIM_TRUNCATE, 0, 0, file, 0, NULL, 0, 0);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

static mode_t mode_argument(int flags, va_list arguments) {
    return flags & (O_CREAT | O_TMPFILE) ? (mode_t)va_arg(arguments, int) : 0;
}

#define OPEN_BODY(directory)                          \
    va_list arguments;                                \
    va_start(arguments, flags);                       \
    mode_t mode = mode_argument(flags, arguments);    \
    va_end(arguments);                                \
    return open_at(directory, path, flags, mode);

int open(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD) }
int open64(const char *path, int flags, ...) { OPEN_BODY(AT_FDCWD) }
int openat(int directory, const char *path, int flags, ...) { OPEN_BODY(directory) }
int openat64(int directory, const char *path, int flags, ...) { OPEN_BODY(directory) }

int close(int descriptor) {
    if (!file_of(descriptor)) return syscall(SYS_close, descriptor);
    pthread_mutex_lock(&lock);
    descriptors[descriptor] = 0;
    int result = syscall(SYS_close, descriptor);
    pthread_mutex_unlock(&lock);
    return result;
}

// MARK: Writing

// Writes to a watched descriptor; offset -1 stands for the descriptor's own position.
static ssize_t write_all(int descriptor, uint32_t file, const struct iovec *data, int count, off_t offset) {
    pthread_mutex_lock(&lock);
    int flags = fcntl(descriptor, F_GETFL);
    int is_synced = (flags & O_DSYNC) != 0;
    off_t start = offset >= 0 ? offset : lseek(descriptor, 0, flags & O_APPEND ? SEEK_END : SEEK_CUR);
    struct iovec half = {NULL, 0};
    int error = 0;
    int is_short = count == 1 && data[0].iov_len >= 100 && data[0].iov_len < 512;
    int is_failing =
        !(flags & O_APPEND)
        && (fails(is_synced ? KIND_META : KIND_WRITE, &error) || (!is_synced && is_short && fails(KIND_BACK, &error)));
    ssize_t result = -1;
    if (is_failing && error == 0) {
        half = (struct iovec){data[0].iov_base, data[0].iov_len / 2};
        data = &half;
        count = 1;
    }
    // The bytes of a failed synchronous write are in the page cache, and perhaps on the disk.
    if (!is_failing || error == 0 || is_synced) {
        result = offset >= 0 ? syscall(SYS_pwritev, descriptor, data, count, offset, 0)
                             : syscall(SYS_writev, descriptor, data, count);
        if (result < 0) error = errno;
    }
    if (result >= 0) record(FAULT_SHIM_WRITE, 0, 0, file - 1, start, data, count, result);
    else record(FAULT_SHIM_WRITE, 0, error, file - 1, start, NULL, 0, 0);
    if (is_synced && result >= 0) record(FAULT_SHIM_SYNC, 1, error, file - 1, start, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return error ? -1 : result;
}

ssize_t write(int descriptor, const void *bytes, size_t length) {
    uint32_t file = file_of(descriptor);
    if (!file) return syscall(SYS_write, descriptor, bytes, length);
    struct iovec data = {(void *)bytes, length};
    return write_all(descriptor, file, &data, 1, -1);
}

ssize_t pwrite(int descriptor, const void *bytes, size_t length, off_t offset) {
    uint32_t file = file_of(descriptor);
    if (!file) return syscall(SYS_pwrite64, descriptor, bytes, length, offset);
    struct iovec data = {(void *)bytes, length};
    return write_all(descriptor, file, &data, 1, offset);
}

ssize_t pwrite64(int descriptor, const void *bytes, size_t length, off_t offset) {
    return pwrite(descriptor, bytes, length, offset);
}

ssize_t writev(int descriptor, const struct iovec *data, int count) {
    uint32_t file = file_of(descriptor);
    return file ? write_all(descriptor, file, data, count, -1) : syscall(SYS_writev, descriptor, data, count);
}

ssize_t pwritev(int descriptor, const struct iovec *data, int count, off_t offset) {
    uint32_t file = file_of(descriptor);
    return file ? write_all(descriptor, file, data, count, offset)
                : syscall(SYS_pwritev, descriptor, data, count, offset, 0);
}

ssize_t pwritev64(int descriptor, const struct iovec *data, int count, off_t offset) {
    return pwritev(descriptor, data, count, offset);
}

int ftruncate(int descriptor, off_t length) {
    uint32_t file = file_of(descriptor);
    if (!file) return syscall(SYS_ftruncate, descriptor, length);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_ftruncate, descriptor, length);
    int error = errno;
    if (result == 0) record(FAULT_SHIM_TRUNCATE, 0, 0, file - 1, length, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int ftruncate64(int descriptor, off_t length) { return ftruncate(descriptor, length); }

// MARK: Syncing

static int sync_file(int descriptor, long call) {
    uint32_t file = file_of(descriptor);
    if (!file) return syscall(call, descriptor);
    pthread_mutex_lock(&lock);
    int error = 0;
    int is_failing = fails(KIND_SYNC, &error);
    int result = is_failing ? -1 : syscall(call, descriptor);
    if (!is_failing && result != 0) error = errno;
    record(FAULT_SHIM_SYNC, 0, error, file - 1, 0, NULL, 0, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int fdatasync(int descriptor) { return sync_file(descriptor, SYS_fdatasync); }
int fsync(int descriptor) { return sync_file(descriptor, SYS_fsync); }

// MARK: Names

static int is_watched_pair(const char *from, const char *to) { return watched_name(from) && watched_name(to); }

int rename(const char *from, const char *to) {
    if (!is_watched_pair(from, to)) return syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_renameat2, AT_FDCWD, from, AT_FDCWD, to, 0);
    int error = errno;
    if (result == 0) {
        char names[2 * PATH_MAX];
        int length = snprintf(names, sizeof names, "%s%c%s", watched_name(from), 0, watched_name(to));
        record_text(FAULT_SHIM_RENAME, 0, 0, names, length);
    }
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}

int unlink(const char *path) {
    const char *name = watched_name(path);
    if (!name) return syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    pthread_mutex_lock(&lock);
    int result = syscall(SYS_unlinkat, AT_FDCWD, path, 0);
    int error = errno;
    if (result == 0) record_text(FAULT_SHIM_UNLINK, 0, 0, (char *)name, strlen(name));
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
