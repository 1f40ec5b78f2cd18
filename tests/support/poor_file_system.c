/* What does a file system without hard links, locks or a sync of folders answer? LACKS names what it lacks. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int lacks(const char *what) {
    const char *all = getenv("LACKS");
    return all && strstr(all, what);
}

int linkat(int from, const char *path, int to, const char *new_path, int flags) {
    if (lacks("link")) return errno = EPERM, -1;
    return syscall(SYS_linkat, from, path, to, new_path, flags);
}

int link(const char *path, const char *new_path) { return linkat(-100, path, -100, new_path, 0); }

int flock(int file, int operation) {
    if (lacks("flock")) return errno = ENOSYS, -1;
    return syscall(SYS_flock, file, operation);
}

int fsync(int file) {
    struct stat status;
    if (lacks("fsync") && !fstat(file, &status) && S_ISDIR(status.st_mode)) return errno = EINVAL, -1;
    return syscall(SYS_fsync, file);
}
