// epoll and timerfd, which Swift's Glibc leaves out.
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>

static inline int cepoll_make(void) { return epoll_create1(EPOLL_CLOEXEC); }

// Adds a descriptor, or changes what it is watched for: always for input, with `sends` also for room.
static inline int cepoll_watch(int poller, int descriptor, uint32_t number, int adds, int sends) {
    struct epoll_event event = {.events = EPOLLIN | (sends ? EPOLLOUT : 0), .data = {.u32 = number}};
    return epoll_ctl(poller, adds ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, descriptor, &event);
}

static inline uint32_t cepoll_number(const struct epoll_event *event) { return event->data.u32; }

static inline int cepoll_has_room(const struct epoll_event *event) { return (event->events & EPOLLOUT) != 0; }

// Input, or an end or an error, which reading tells.
static inline int cepoll_has_input(const struct epoll_event *event) { return (event->events & ~(uint32_t)EPOLLOUT) != 0; }

static inline int ctimer_make(void) { return timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC); }

// At a time of CLOCK_MONOTONIC, nanoseconds; 0 stops it.
static inline int ctimer_set(int timer, uint64_t time) {
    struct itimerspec value = {.it_value = {.tv_sec = time / 1000000000, .tv_nsec = time % 1000000000}};
    return timerfd_settime(timer, TFD_TIMER_ABSTIME, &value, 0);
}
