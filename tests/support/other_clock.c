/* What time is it on a machine whose clock is wrong? CLOCK_SHIFT seconds are added to the time of day; when the process
   has lived for CLOCK_BACK_AFTER seconds, it jumps back by CLOCK_BACK seconds. Other clocks stay as they are. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static time_t began;

static time_t number(const char *name) {
    const char *text = getenv(name);
    return text ? atol(text) : 0;
}

static time_t shift(void) {
    struct timespec now;
    syscall(SYS_clock_gettime, CLOCK_BOOTTIME, &now);
    if (!began) began = now.tv_sec;
    int jumps = number("CLOCK_BACK_AFTER") && now.tv_sec - began >= number("CLOCK_BACK_AFTER");
    return number("CLOCK_SHIFT") - (jumps ? number("CLOCK_BACK") : 0);
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec += shift();
    return failed;
}

int gettimeofday(struct timeval *now, void *zone) {
    int failed = syscall(SYS_gettimeofday, now, zone);
    if (!failed) now->tv_sec += shift();
    return failed;
}

time_t time(time_t *target) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (target) *target = now.tv_sec;
    return now.tv_sec;
}
