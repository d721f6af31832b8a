/* One start, seen from outside the sandbox: trees, name spaces, id maps, control groups; then process 1 is let go. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

enum { TRANSIENT_IDS_FROM = 0x70000000, TRANSIENT_IDS = 0x0F000000, OWNERS_MAX = 16 };
enum { ATTRIBUTE_IDMAP = 0x100000 };

/* User name spaces that only carry an owner mapping (host id -> the sandbox's transient id) for idmapped mounts. */
static struct { uint64_t uid, gid; int space; } owners[OWNERS_MAX];
static size_t owner_count;
static uint32_t transient;

static void write_map(pid_t pid, const char *file, uint64_t inside, uint64_t outside) {
    char path[64], line[64];
    (void)snprintf(path, sizeof path, "/proc/%d/%s", (int)pid, file);
    (void)snprintf(line, sizeof line, "%llu %llu 1", (unsigned long long)inside, (unsigned long long)outside);
    write_file(path, line);
}

static int owner_space(uint64_t uid, uint64_t gid) {
    for (size_t i = 0; i < owner_count; i++)
        if (owners[i].uid == uid && owners[i].gid == gid)
            return owners[i].space;
    if (owner_count == OWNERS_MAX)
        fail(E2BIG, "owners of mounts");
    int hold[2];
    must(pipe2(hold, O_CLOEXEC) == 0, "pipe");
    pid_t pid = clone_process(CLONE_NEWUSER);
    if (pid == 0) {
        char byte;
        (void)close(hold[1]);
        while (read(hold[0], &byte, 1) < 0 && errno == EINTR)
            continue;
        _exit(0);
    }
    write_map(pid, "uid_map", uid, transient);
    write_map(pid, "gid_map", gid, transient);
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/%d/ns/user", (int)pid);
    int space = open(path, O_RDONLY | O_CLOEXEC);
    must(space >= 0, path);
    (void)close(hold[0]);
    (void)close(hold[1]);
    owners[owner_count].uid = uid;
    owners[owner_count].gid = gid;
    owners[owner_count++].space = space;
    return space;
}

/* Draw the transient id of one sandbox and map the usual owner. */
void prepare_ids(void) {
    uint32_t drawn = 0;
    must(getrandom(&drawn, sizeof drawn, 0) == sizeof drawn, "getrandom");
    transient = TRANSIENT_IDS_FROM + drawn % TRANSIENT_IDS;
    (void)owner_space(0, 0);
}

/* Return a detached copy of a bind's source with its flags set. */
int clone_step(const struct step *step, const char *source, bool map_owner) {
    bool recursive = step->options & RECURSIVE;
    int place = open_at(AT_FDCWD, source, O_PATH, 0);
    must(place >= 0, "");
    int tree = copy_tree(place, recursive);
    (void)close(place);
    if (map_owner && step->options & IDMAPPED)
        set_attributes(tree, step->attributes | ATTRIBUTE_IDMAP, recursive, owner_space(step->uid, step->gid));
    else
        set_attributes(tree, step->attributes, recursive, -1);
    return tree;
}

static void clone_steps(struct plan *plan) {
    if (transient == 0)
        prepare_ids();
    plan->host_uid = plan->host_gid = transient;
    for (size_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if (step->kind != BIND && step->kind != OVERLAY)
            continue;
        stage_of("private-root", step->source);
        step->tree = clone_step(step, step->source, true);
        if (step->kind == OVERLAY)
            step->upper_tree = clone_step(step, step->upper, true);
    }
}

/* `descriptors`: the control socket, then stdin, stdout, stderr (absent with a terminal). */
_Noreturn void start(struct request *request, const int *descriptors, size_t count) {
    struct plan *plan = &request->plan;
    stage("request");
    if (count != (request->terminal ? 1 : 4))
        fail(EBADMSG, "descriptors");
    stage("identity");
    if (plan->transient)
        clone_steps(plan);
    stage("namespaces");
    int go[2];
    must(pipe2(go, O_CLOEXEC) == 0, "pipe");
    pid_t pid = clone_process(plan->flags);
    if (pid == 0) {
        (void)close(go[1]);
        init(request, descriptors + 1, go[0]);
    }
    /* INVARIANT: until the last line the init waits, and ends unless that line is reached. */
    stage("process handle");
    int handle = (int)syscall(SYS_pidfd_open, pid, 0);
    must(handle >= 0, "pidfd_open");
    stage("cgroup");
    char text[32];
    (void)snprintf(text, sizeof text, "%d", (int)pid);
    for (size_t i = 0; i < request->cgroups.count; i++)
        write_file(request->cgroups.items[i], text);
    stage("id maps");
    if (!plan->transient) {
        char path[64];
        (void)snprintf(path, sizeof path, "/proc/%d/setgroups", (int)pid);
        write_file(path, "deny");
    }
    write_map(pid, "uid_map", plan->uid, plan->host_uid);
    write_map(pid, "gid_map", plan->gid, plan->host_gid);
    stage("report");
    char counters[64];
    (void)snprintf(counters, sizeof counters, "/proc/%d/net/snmp", (int)pid);
    int told[2] = {handle, open(counters, O_RDONLY | O_CLOEXEC)}; /* the second may be missing: a kernel without it */
    must(say(control_socket, told, told[1] < 0 ? 1 : 2, "started%c%d%c%llu", 0, (int)pid, 0,
             (unsigned long long)plan->host_uid) == 0, "");
    must(write(go[1], "g", 1) == 1, "");
    _exit(0);
}
