/* Tells every write and sync of a file on standard error, in their order. syncs.rs has it loaded before the C library, to
   whose functions it passes them on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

static void tell(const char *what, int fd) {
    char link[64], path[4096], line[4200];
    if (fd == STDERR_FILENO) return;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length <= 0 || path[0] != '/') return;
    path[length] = 0;
    int bytes = snprintf(line, sizeof line, "%s %s\n", what, path);
    syscall(SYS_write, STDERR_FILENO, line, bytes);
}

#define PASS_ON(result, name, parameters, arguments, what)                 \
    result name parameters {                                               \
        static result(*next) parameters;                                   \
        if (next == NULL) next = (result(*) parameters)dlsym(RTLD_NEXT, #name); \
        result done = next arguments;                                      \
        tell(what, fd);                                                    \
        return done;                                                       \
    }

PASS_ON(int, fsync, (int fd), (fd), "sync")
PASS_ON(int, fdatasync, (int fd), (fd), "sync")
PASS_ON(ssize_t, write, (int fd, const void *bytes, size_t count), (fd, bytes, count), "write")
PASS_ON(ssize_t, pwrite, (int fd, const void *bytes, size_t count, off_t at), (fd, bytes, count, at), "write")
PASS_ON(ssize_t, pwrite64, (int fd, const void *bytes, size_t count, off64_t at), (fd, bytes, count, at), "write")
