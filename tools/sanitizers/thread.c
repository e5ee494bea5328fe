// Linked into everything that `tools/sanitize thread` builds: what ThreadSanitizer has to be told.

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <threads.h>

const char *__tsan_default_options(void) {
    return "print_suppressions=0:log_path=" REPORTS;
}

// MARK: Reference counts, which are changed in the uninstrumented runtime
//
// Who finds that he holds the last reference may change the object in place: the counts order that after what the
// others did, and ThreadSanitizer does not see it. So far only NIO's pool of receive buffers runs into this, when it
// uses a buffer again that a request has let go. What this would hide: a request that still looks at such bytes.

const char *__tsan_default_suppressions(void) {
    return "race:7NIOCore28NIOPooledRecvBufferAllocatorV014_reuseExisting\n";
}

// MARK: Synchronization.Mutex of the Swift standard library (6.3, Linux)
//
// Its fast paths are inlined where it is used, so they are instrumented like any other atomic. The slow paths are in
// libswiftSynchronization.so, which is not: there, the kernel hands a contended lock over. Without these two functions,
// ThreadSanitizer reports races between critical sections of the same lock, about every other time a lock is contended.
// They stand before the library's and say what its atomics would say. Nothing is suppressed: state that is reached
// without its lock, or under different locks, is still a race.

#define LOCK_SLOW "$s15Synchronization12_MutexHandleV9_lockSlowyys6UInt32VF"
#define UNLOCK_SLOW "$s15Synchronization12_MutexHandleV11_unlockSlowyyF"
#define SWIFT __attribute__((swiftcall))
#define SELF __attribute__((swift_context))

void __tsan_acquire(void *address);
void __tsan_release(void *address);

SWIFT void lock_slow(uint32_t thread, SELF void *mutex) __asm__(LOCK_SLOW);
SWIFT void unlock_slow(SELF void *mutex) __asm__(UNLOCK_SLOW);

SWIFT void lock_slow(uint32_t thread, SELF void *mutex) {
    SWIFT void (*library_lock_slow)(uint32_t, SELF void *) = dlsym(RTLD_NEXT, LOCK_SLOW);
    library_lock_slow(thread, mutex);
    __tsan_acquire(mutex);
}

SWIFT void unlock_slow(SELF void *mutex) {
    SWIFT void (*library_unlock_slow)(SELF void *) = dlsym(RTLD_NEXT, UNLOCK_SLOW);
    __tsan_release(mutex);
    library_unlock_slow(mutex);
}

// MARK: Threads of C11, which librdkafka uses
//
// ThreadSanitizer knows only POSIX threads: it crashes in a thread that thrd_create made, and sees none of these locks.
// glibc's are POSIX threads, mutexes and conditions under other names, so here they become the ones that it knows.

struct start {
    thrd_start_t function;
    void *argument;
};

static void *run(void *argument) {
    struct start start = *(struct start *)argument;
    free(argument);
    return (void *)(intptr_t)start.function(start.argument);
}

static int result(int code) {
    switch (code) {
    case 0: return thrd_success;
    case ENOMEM: return thrd_nomem;
    case ETIMEDOUT: return thrd_timedout;
    case EBUSY: return thrd_busy;
    default: return thrd_error;
    }
}

int thrd_create(thrd_t *thread, thrd_start_t function, void *argument) {
    struct start *start = malloc(sizeof(*start));
    if (start == NULL) return thrd_nomem;
    *start = (struct start){function, argument};
    int code = pthread_create(thread, NULL, run, start);
    if (code != 0) free(start);
    return code == EAGAIN ? thrd_nomem : result(code);
}

int thrd_join(thrd_t thread, int *value) {
    void *returned = NULL;
    int code = pthread_join(thread, &returned);
    if (value != NULL) *value = (int)(intptr_t)returned;
    return result(code);
}

int mtx_init(mtx_t *mutex, int type) {
    pthread_mutexattr_t attributes;
    pthread_mutexattr_init(&attributes);
    if (type & mtx_recursive) pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
    int code = pthread_mutex_init((pthread_mutex_t *)mutex, &attributes);
    pthread_mutexattr_destroy(&attributes);
    return result(code);
}

void mtx_destroy(mtx_t *mutex) { pthread_mutex_destroy((pthread_mutex_t *)mutex); }
int mtx_lock(mtx_t *mutex) { return result(pthread_mutex_lock((pthread_mutex_t *)mutex)); }
int mtx_unlock(mtx_t *mutex) { return result(pthread_mutex_unlock((pthread_mutex_t *)mutex)); }

int cnd_init(cnd_t *condition) { return result(pthread_cond_init((pthread_cond_t *)condition, NULL)); }
void cnd_destroy(cnd_t *condition) { pthread_cond_destroy((pthread_cond_t *)condition); }
int cnd_signal(cnd_t *condition) { return result(pthread_cond_signal((pthread_cond_t *)condition)); }
int cnd_broadcast(cnd_t *condition) { return result(pthread_cond_broadcast((pthread_cond_t *)condition)); }

int cnd_wait(cnd_t *condition, mtx_t *mutex) {
    return result(pthread_cond_wait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex));
}

int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    return result(pthread_cond_timedwait((pthread_cond_t *)condition, (pthread_mutex_t *)mutex, until));
}
