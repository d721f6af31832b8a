/* Process 1 of a sandbox: builds it from inside, forks the worker, passes signals on, reaps, and ends with the worker.

   Its end is the end of everything inside. It keeps no capability once the worker runs, and the same system call filter. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

enum { SECURE_BITS = 0x1C }; /* no set-uid fix-ups, locked; keep capabilities over a change of ids */

static void reset_signals(void) {
    sigset_t none;
    for (int number = 1; number <= SIGRTMAX; number++)
        (void)signal(number, SIG_DFL); /* KILL, STOP and the C library's own say no */
    (void)sigemptyset(&none);
    must(sigprocmask(SIG_SETMASK, &none, NULL) == 0, "signal mask");
}

/* Take the sandbox's ids; capabilities in the new name space stay until they are dropped. */
static void become(const struct plan *plan) {
    gid_t gid = (gid_t)plan->gid;
    uid_t uid = (uid_t)plan->uid;
    process_control(PR_SET_SECUREBITS, SECURE_BITS, 0);
    /* denied for ordinary users, whose supplementary groups then stay unmapped and are theirs anyway */
    must(setgroups(0, NULL) == 0 || errno == EPERM, "setgroups");
    must(setresgid(gid, gid, gid) == 0, "setresgid");
    must(setresuid(uid, uid, uid) == 0, "setresuid");
}

/* No further user name spaces, and a small range of pids; a second fence, so a kernel without them is fine. */
static void bound_name_spaces(const struct plan *plan) {
    char text[32];
    (void)try_write_file("/proc/sys/user/max_user_namespaces", "0");
    (void)snprintf(text, sizeof text, "%llu", (unsigned long long)plan->pid_max);
    if (plan->pid_max)
        (void)try_write_file("/proc/sys/kernel/pid_max", text);
}

/* A terminal of the sandbox's own devpts; its master goes to the supervisor. */
static int open_terminal(const struct request *request) {
    struct winsize size = {.ws_row = (unsigned short)request->rows, .ws_col = (unsigned short)request->columns};
    char name[64];
    stage("terminal");
    int master = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
    must(master >= 0, "openpt");
    must(unlockpt(master) == 0 && ptsname_r(master, name, sizeof name) == 0, "ptsname");
    int terminal = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
    must(terminal >= 0, name);
    must(ioctl(terminal, TIOCSWINSZ, &size) == 0, "size");
    must(say(control_socket, &master, 1, "terminal") == 0, "");
    (void)close(master);
    return terminal;
}

/* A process that only stands for the name spaces: the guard outside may look at it, which it may not at the init.

   It holds nothing, can do nothing and waits; who takes it over has gained nothing. */
static void start_anchor(const struct plan *plan) {
    pid_t pid = fork();
    must(pid >= 0, "fork");
    if (pid != 0)
        return;
    control_socket = -1;
    close_from(0, ~0u, 0);
    drop_capabilities();
    load_filter(plan);
    process_control(PR_SET_DUMPABLE, 1, 0);
    for (;;)
        (void)pause();
}

/* Wait for the guard's word; the supervisor's end is our end. */
static void wait_for_guard(const struct plan *plan, const struct listener *listeners, size_t count) {
    char word[16];
    stage("guard");
    start_anchor(plan);
    send_listeners(listeners, count);
    ssize_t got;
    do
        got = recv(control_socket, word, sizeof word, 0);
    while (got < 0 && errno == EINTR);
    if (got != 2 || memcmp(word, "go", 2) != 0)
        _exit(1);
}

static void close_all_but(int a, int b, int c) {
    int keep[3] = {a, b, c};
    unsigned lowest = 0;
    for (int round = 0; round < 3; round++) { /* the smallest that is left, each time */
        int least = -1;
        for (int i = 0; i < 3; i++)
            if (keep[i] >= (int)lowest && (least < 0 || keep[i] < least))
                least = keep[i];
        if (least > (int)lowest)
            close_from(lowest, (unsigned)least - 1, 0);
        lowest = (unsigned)least + 1;
    }
    close_from(lowest, ~0u, 0);
}

/* Handle one message of the supervisor; false when it is gone or says anything but a signal. */
static bool pass_on(pid_t worker) {
    char word[64], *rest;
    ssize_t got = recv(control_socket, word, sizeof word - 1, 0);
    if (got < 0)
        return errno == EINTR || errno == EAGAIN;
    word[got] = '\0';
    if (got < 8 || memcmp(word, "signal", 7) != 0)
        return false;
    errno = 0;
    long number = strtol(word + 7, &rest, 10);
    if (errno != 0 || *rest != '\0' || number <= 0 || number > SIGRTMAX)
        return false;
    (void)kill(-worker, (int)number);
    return true;
}

/* Collect every dead child; true when the worker is among them. */
static bool reap(pid_t worker, int *status, struct rusage *usage) {
    for (;;) {
        int ended;
        struct rusage used;
        pid_t pid = wait4(-1, &ended, WNOHANG, &used);
        if (pid <= 0)
            return false;
        if (pid == worker) {
            *status = ended;
            *usage = used;
            return true;
        }
    }
}

static _Noreturn void watch(pid_t worker, int ready, int signals) {
    struct pollfd wanted[3] = {{control_socket, POLLIN, 0}, {ready, POLLIN, 0}, {signals, POLLIN, 0}};
    struct signalfd_siginfo drained[8];
    struct rusage usage;
    int status;
    for (;;) {
        if (poll(wanted, 3, -1) < 0) {
            if (errno == EINTR)
                continue;
            _exit(1);
        }
        if (wanted[1].revents) { /* its other end went with exec, or with the worker */
            wanted[1].fd = -1;
            (void)say(control_socket, NULL, 0, "ready");
        }
        if (wanted[0].revents && !pass_on(worker))
            _exit(1);
        if (wanted[2].revents && read(signals, drained, sizeof drained) > 0 && reap(worker, &status, &usage))
            break;
    }
    long long spent_us = (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000LL + usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
    (void)say(control_socket, NULL, 0, "exit%c%d%c%lld%c%ld", 0, status, 0, spent_us, 0, usage.ru_maxrss);
    _exit(0);
}

static _Noreturn void run_worker(struct request *request, const int *stdio, int terminal) {
    int ready[2];
    sigset_t child;
    stage("worker");
    must(chdir(request->plan.cwd) == 0, request->plan.cwd);
    must(pipe2(ready, O_CLOEXEC) == 0, "pipe");
    (void)sigemptyset(&child);
    (void)sigaddset(&child, SIGCHLD);
    must(sigprocmask(SIG_BLOCK, &child, NULL) == 0, "signal mask");
    int signals = signalfd(-1, &child, SFD_CLOEXEC);
    must(signals >= 0, "signalfd");
    pid_t worker = fork();
    must(worker >= 0, "fork");
    if (worker == 0) {
        must(sigprocmask(SIG_UNBLOCK, &child, NULL) == 0, "signal mask");
        work(request, stdio, terminal);
    }
    close_all_but(control_socket, ready[0], signals);
    drop_capabilities();
    load_filter(&request->plan);
    watch(worker, ready[0], signals);
}

/* `go`: where the launcher says that the id maps are written. */
_Noreturn void init(struct request *request, const int *stdio, int go) {
    static struct listener listeners[LISTENERS_MAX];
    struct plan *plan = &request->plan;
    size_t count = 0;
    char byte = 0;
    stage("start");
    if (read(go, &byte, 1) != 1 || byte != 'g')
        _exit(1);
    (void)close(go);
    reset_signals();
    stage("identity");
    become(plan);
    process_control(PR_SET_DUMPABLE, 0, 0);
    stage("cgroup-namespace");
    if (plan->own_cgroup)
        must(unshare(CLONE_NEWCGROUP) == 0, "unshare");
    stage("uts-namespace");
    if (plan->flags & CLONE_NEWUTS)
        must(sethostname(plan->host_name, strlen(plan->host_name)) == 0, "sethostname");
    stage("limits");
    bound_name_spaces(plan);
    stage("network");
    if (plan->flags & CLONE_NEWNET)
        count = build_network(plan, listeners);
    build_root(plan);
    int terminal = request->terminal ? open_terminal(request) : -1;
    if (plan->guarded)
        wait_for_guard(plan, listeners, count);
    run_worker(request, stdio, terminal);
}
