/* The last steps before the program: session, descriptors, limits, key ring, capabilities, Landlock, seccomp, exec.

   Nothing may fail silently here: each step reports its name, and without each of them nothing is run. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

enum { NR_CREATE_RULESET = 444, NR_ADD_RULE = 445, NR_RESTRICT_SELF = 446 };
enum { KEYCTL_JOIN_SESSION = 1, CAPABILITIES_MAX = 64, LAST_OWN = 10, ON_EXEC = 4 /* CLOSE_RANGE_CLOEXEC */ };
enum { SECURE_BITS_LOCKED = 0xEF, RULE_PATH_BENEATH = 1 };
static const uint64_t FILE_ACCESS = 1 | 2 | 4 | 1 << 14 | 1 << 15; /* what Landlock knows of plain files */
#define DEFAULT_PATH "/bin:/usr/bin"

/* Empty bounding, ambient, permitted, effective and inheritable sets, locked; then no_new_privs. */
void drop_capabilities(void) {
    struct __user_cap_header_struct header = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct empty[2];
    memset(empty, 0, sizeof empty);
    process_control(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0);
    for (unsigned long capability = 0; capability < CAPABILITIES_MAX; capability++) {
        if (prctl(PR_CAPBSET_DROP, capability, 0UL, 0UL, 0UL) == 0)
            continue;
        must(errno == EINVAL && capability > 0, "bounding set");
        break;
    }
    process_control(PR_SET_SECUREBITS, SECURE_BITS_LOCKED, 0);
    must(syscall(SYS_capset, &header, empty) == 0, "capset");
    process_control(PR_SET_NO_NEW_PRIVS, 1, 0);
}

/* Load the Landlock ruleset. A rule whose path is gone is an error: the plan names what was built. */
static void restrict_files(const struct plan *plan) {
    if (plan->landlock_size == 0)
        return;
    int ruleset = (int)syscall(NR_CREATE_RULESET, plan->landlock, (size_t)plan->landlock_size, 0);
    must(ruleset >= 0, "ruleset");
    for (size_t i = 0; i < plan->rule_count; i++) {
        struct { uint64_t access; int32_t place; } __attribute__((packed)) rule = {plan->rules[i].access, -1};
        struct stat info;
        rule.place = open(plan->rules[i].path, O_PATH | O_CLOEXEC);
        must(rule.place >= 0 && fstat(rule.place, &info) == 0, plan->rules[i].path);
        if (!S_ISDIR(info.st_mode))
            rule.access &= FILE_ACCESS;
        must(syscall(NR_ADD_RULE, ruleset, RULE_PATH_BENEATH, &rule, 0) == 0, plan->rules[i].path);
        (void)close(rule.place);
    }
    must(syscall(NR_RESTRICT_SELF, ruleset, 0) == 0, "restrict");
    (void)close(ruleset);
}

/* Install the system call filter. */
void load_filter(const struct plan *plan) {
    struct sock_filter program[BPF_MAXINSNS];
    size_t count = plan->seccomp.size / sizeof *program;
    if (count == 0 || count > BPF_MAXINSNS || plan->seccomp.size % sizeof *program)
        fail(EBADMSG, "filter");
    memcpy(program, plan->seccomp.bytes, plan->seccomp.size);
    struct sock_fprog filter = {(unsigned short)count, program};
    process_control(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, (unsigned long)(uintptr_t)&filter);
}

static void take_descriptors(const int *stdio, int terminal) {
    int safe[3];
    stage("descriptors");
    for (int i = 0; i < 3; i++) {
        safe[i] = fcntl(terminal >= 0 ? terminal : stdio[i], F_DUPFD_CLOEXEC, LAST_OWN);
        must(safe[i] >= 0, "dup");
    }
    for (int i = 0; i < 3; i++)
        must(dup2(safe[i], i) == i, "dup2");
    int control = fcntl(control_socket, F_DUPFD_CLOEXEC, LAST_OWN);
    must(control >= 0, "dup");
    control_socket = control; /* it still speaks until exec */
    close_from(3, ~0u, ON_EXEC);
}

static void set_limits(const struct plan *plan) {
    stage("limits");
    (void)umask(022);
    for (size_t i = 0; i < plan->limit_count; i++) {
        struct rlimit limit;
        rlim_t most = plan->limits[i].value;
        must(syscall(SYS_prlimit64, 0, plan->limits[i].resource, NULL, &limit) == 0, "getrlimit");
        if (limit.rlim_max != RLIM_INFINITY && most > limit.rlim_max)
            most = limit.rlim_max;
        limit.rlim_cur = limit.rlim_max = most;
        must(syscall(SYS_prlimit64, 0, plan->limits[i].resource, &limit, NULL) == 0, "setrlimit");
    }
}

/* Run the program; a name without a slash is looked for in the PATH of its own environment. Returns what was wrong. */
static int run(char *const *arguments, char *const *environment) {
    const char *name = arguments[0], *search = DEFAULT_PATH;
    char path[PATH_MAX];
    int saved = ENOENT;
    if (strchr(name, '/') != NULL) {
        (void)execve(name, arguments, environment);
        return errno;
    }
    for (char *const *entry = environment; *entry != NULL; entry++)
        if (strncmp(*entry, "PATH=", 5) == 0)
            search = *entry + 5;
    while (*name) {
        size_t size = strcspn(search, ":");
        int written = snprintf(path, sizeof path, "%.*s%s%s", (int)size, search, size ? "/" : "", name);
        if (size < PATH_MAX && written > 0 && (size_t)written < sizeof path) {
            (void)execve(path, arguments, environment);
            if (errno != ENOENT && errno != ENOTDIR && saved == ENOENT)
                saved = errno;
        }
        if (search[size] == '\0')
            break;
        search += size + 1;
    }
    return saved;
}

_Noreturn void work(struct request *request, const int *stdio, int terminal) {
    const struct plan *plan = &request->plan;
    failure_status = 125;
    stage("session");
    must(setsid() >= 0, "setsid");
    if (terminal >= 0)
        must(ioctl(terminal, TIOCSCTTY, 0) == 0, "terminal");
    take_descriptors(stdio, terminal);
    set_limits(plan);
    stage("keyring");
    /* a kernel without key rings has nothing to share */
    must(syscall(SYS_keyctl, KEYCTL_JOIN_SESSION, NULL) >= 0 || errno == ENOSYS, "keyctl");
    stage("capabilities");
    drop_capabilities();
    stage("landlock");
    restrict_files(plan);
    stage("seccomp");
    load_filter(plan);
    stage("exec");
    /* exec takes pointers to characters it does not change */
    int number = run((char *const *)(uintptr_t)request->arguments.items, (char *const *)(uintptr_t)plan->environment.items);
    fail(number, request->arguments.items[0]);
}
