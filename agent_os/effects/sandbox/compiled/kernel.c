/* System calls for which the C library has no function everywhere, and the one way to fail. Source: Linux UAPI headers. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

/* the same numbers on x86-64 and aarch64; headers of older systems lack them */
enum { NR_OPEN_TREE = 428, NR_MOVE_MOUNT = 429, NR_CLOSE_RANGE = 436, NR_OPENAT2 = 437, NR_MOUNT_SETATTR = 442 };
enum { TREE_CLONE = 1, AT_EMPTY = 0x1000, AT_RECURSE = 0x8000, MOVE_EMPTY_PATHS = 0x44 };
enum { NO_MAGIC_LINKS = 2, NO_LINKS = 4 };
static const uint64_t PROPAGATE_PRIVATE = 1 << 18;

int control_socket = -1;
int failure_status = 1;
static const char *stage_name = "start", *stage_detail = "";

void stage(const char *name) { stage_of(name, ""); }

void stage_of(const char *name, const char *detail) {
    stage_name = name;
    stage_detail = detail;
}

_Noreturn void fail(int number, const char *detail) {
    if (control_socket >= 0)
        (void)say(control_socket, NULL, 0, "error%c%s%s%s%c%d%c%s", 0, stage_name, *stage_detail ? ": " : "", stage_detail, 0,
                  number, 0, detail);
    _exit(failure_status);
}

void must(bool good, const char *what) {
    if (!good)
        fail(errno, what);
}

void *reserve(size_t count, size_t size) {
    void *memory = calloc(count ? count : 1, size);
    must(memory != NULL, "memory");
    return memory;
}

int open_at(int directory, const char *path, uint64_t flags, uint64_t resolve) {
    struct { uint64_t flags, mode, resolve; } how = {flags | O_CLOEXEC, 0, resolve | NO_MAGIC_LINKS | NO_LINKS};
    return (int)syscall(NR_OPENAT2, directory, path, &how, sizeof how);
}

int copy_tree(int place, bool recursive) {
    unsigned flags = TREE_CLONE | O_CLOEXEC | AT_EMPTY | (recursive ? AT_RECURSE : 0u);
    int tree = (int)syscall(NR_OPEN_TREE, place, "", flags);
    must(tree >= 0, "open_tree");
    return tree;
}

void set_attributes(int tree, uint64_t attributes, bool recursive, int user_namespace) {
    struct { uint64_t set, clear, propagation, user_namespace; } attr = {attributes, 0, PROPAGATE_PRIVATE, 0};
    if (user_namespace >= 0)
        attr.user_namespace = (uint64_t)user_namespace;
    must(syscall(NR_MOUNT_SETATTR, tree, "", AT_EMPTY | (recursive ? AT_RECURSE : 0u), &attr, sizeof attr) == 0, "mount_setattr");
}

void move_to(int tree, int place) {
    must(syscall(NR_MOVE_MOUNT, tree, "", place, "", MOVE_EMPTY_PATHS) == 0, "move_mount");
}

pid_t clone_process(uint64_t flags) {
    pid_t pid = (pid_t)syscall(SYS_clone, flags | SIGCHLD, 0, 0, 0, 0);
    must(pid >= 0, "clone");
    return pid;
}

bool try_write_file(const char *path, const char *text) {
    int file = open(path, O_WRONLY | O_CLOEXEC);
    if (file < 0)
        return false;
    ssize_t done = write(file, text, strlen(text));
    int number = errno;
    (void)close(file);
    errno = number;
    return done == (ssize_t)strlen(text);
}

void write_file(const char *path, const char *text) { must(try_write_file(path, text), path); }

void process_control(int option, unsigned long a, unsigned long b) {
    must(prctl(option, a, b, 0UL, 0UL) == 0, "prctl");
}

void close_from(unsigned first, unsigned last, unsigned flags) {
    must(syscall(NR_CLOSE_RANGE, first, last, flags) == 0, "close_range");
}
