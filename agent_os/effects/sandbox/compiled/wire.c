/* What comes in (guards/confine/wire.py writes it) and what is said back. An unexpected byte ends the process. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher.h"

static const char *here, *end;

static _Noreturn void malformed(const char *what) { fail(EBADMSG, what); }

static uint64_t number(void) {
    uint64_t value = 0;
    if (end - here < 8)
        malformed("the request ends too early");
    for (int i = 7; i >= 0; i--)
        value = value << 8 | (unsigned char)here[i];
    here += 8;
    return value;
}

static struct text raw(void) {
    uint64_t size = number();
    if (size >= (uint64_t)(end - here) || here[size] != 0)
        malformed("a string does not end where it says");
    struct text text = {here, size};
    here += size + 1;
    return text;
}

static const char *string(void) {
    struct text text = raw();
    if (strlen(text.bytes) != text.size)
        malformed("a zero byte in a string");
    return text.bytes;
}

static bool flag(void) {
    uint64_t value = number();
    if (value > 1)
        malformed("neither yes nor no");
    return value == 1;
}

static size_t how_many(void) {
    uint64_t count = number();
    if (count > ITEMS_MAX)
        malformed("too many items");
    return count;
}

static struct texts strings(void) {
    struct texts list = {NULL, how_many()};
    list.items = reserve(list.count + 1, sizeof *list.items); /* a null pointer ends it */
    for (size_t i = 0; i < list.count; i++)
        list.items[i] = string();
    return list;
}

static struct step step(void) {
    struct step made = {.kind = number(), .tree = -1, .upper_tree = -1};
    if (made.kind < BIND || made.kind > OVERLAY)
        malformed("an unknown kind of mount");
    made.target = string();
    made.source = string();
    made.upper = string();
    made.data = raw();
    made.attributes = number();
    made.options = number();
    made.uid = number();
    made.gid = number();
    made.mode = number();
    return made;
}

static void plan_of(struct plan *plan) {
    plan->host_name = string();
    plan->cwd = string();
    plan->flags = number();
    plan->own_cgroup = flag();
    plan->uid = number();
    plan->gid = number();
    plan->transient = flag();
    plan->host_uid = number();
    plan->host_gid = number();
    plan->pid_max = number();
    plan->step_count = how_many();
    plan->steps = reserve(plan->step_count, sizeof *plan->steps);
    for (size_t i = 0; i < plan->step_count; i++)
        plan->steps[i] = step();
    plan->landlock_size = number();
    for (size_t i = 0; i < 3; i++)
        plan->landlock[i] = number();
    if (plan->landlock_size > sizeof plan->landlock)
        malformed("an unknown form of Landlock ruleset");
    plan->rule_count = how_many();
    plan->rules = reserve(plan->rule_count, sizeof *plan->rules);
    for (size_t i = 0; i < plan->rule_count; i++) {
        plan->rules[i].path = string();
        plan->rules[i].access = number();
    }
    plan->seccomp = raw();
    plan->limit_count = how_many();
    plan->limits = reserve(plan->limit_count, sizeof *plan->limits);
    for (size_t i = 0; i < plan->limit_count; i++) {
        plan->limits[i].resource = number();
        plan->limits[i].value = number();
    }
    plan->environment = strings();
    for (size_t i = 0; i < plan->environment.count; i++)
        if (strchr(plan->environment.items[i], '=') == NULL)
            malformed("a variable without a value");
    plan->guarded = flag();
    plan->port_count = how_many();
    plan->ports = reserve(plan->port_count, sizeof *plan->ports);
    for (size_t i = 0; i < plan->port_count; i++)
        plan->ports[i] = number();
    plan->proxy_port = number();
    plan->dns = flag();
}

/* Read a whole request, or with `head_only` its kind, seed and groups: what the launcher itself needs. */
void decode(const struct packet *packet, struct request *request, bool head_only) {
    memset(request, 0, sizeof *request);
    here = packet->bytes;
    end = here + packet->size;
    if (number() != MAGIC)
        malformed("another form of request");
    request->kind = number();
    if (request->kind < START || request->kind > KEEP)
        malformed("an unknown request");
    request->seed = string();
    if (head_only && request->kind == START)
        return;
    if (request->kind == PLANT || request->kind == START)
        request->cgroups = strings();
    if (request->kind == START) {
        request->terminal = flag();
        request->rows = number();
        request->columns = number();
        request->arguments = strings();
        if (request->arguments.count == 0)
            malformed("no program");
        plan_of(&request->plan);
    }
    if (here != end)
        malformed("bytes behind the request");
}

static bool read_whole(int channel, char *bytes, size_t size) {
    for (size_t done = 0; done < size;) {
        ssize_t got = recv(channel, bytes + done, size - done, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            return false;
        done += (size_t)got;
    }
    return true;
}

bool receive_packet(int channel, struct packet *packet) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int) * REQUEST_FDS_MAX)]; } space;
    unsigned char head[4];
    struct iovec part = {head, sizeof head};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof space};
    memset(packet, 0, sizeof *packet);
    ssize_t got;
    do
        got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got == 0)
        return false;
    must(got > 0, "receive");
    if (message.msg_flags & MSG_CTRUNC)
        malformed("too many descriptors");
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        if (count > REQUEST_FDS_MAX - packet->descriptor_count)
            malformed("too many descriptors");
        memcpy(packet->descriptors + packet->descriptor_count, CMSG_DATA(c), count * sizeof(int));
        packet->descriptor_count += count;
    }
    if (!read_whole(channel, (char *)head + got, sizeof head - (size_t)got))
        return false;
    packet->size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
    if (packet->size > REQUEST_BYTES_MAX)
        malformed("a request is too large");
    packet->bytes = reserve(packet->size + 1, 1);
    return read_whole(channel, packet->bytes, packet->size);
}

/* Send bytes, the first of them with descriptors. Returns -1 with errno set. */
int send_message(int channel, const void *bytes, size_t size, const int *descriptors, size_t count) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int) * LISTENERS_SENT)]; } space;
    struct iovec part = {(void *)(uintptr_t)bytes, size};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > LISTENERS_SENT) {
        errno = EINVAL;
        return -1;
    }
    if (count) {
        memset(&space, 0, sizeof space);
        message.msg_control = &space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        space.header.cmsg_level = SOL_SOCKET;
        space.header.cmsg_type = SCM_RIGHTS;
        space.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(&space.header), descriptors, sizeof(int) * count);
    }
    return sendmsg(channel, &message, MSG_NOSIGNAL) == (ssize_t)size ? 0 : -1;
}

void send_packet(int channel, const struct packet *packet) {
    unsigned char head[4] = {packet->size & 255, packet->size >> 8 & 255, packet->size >> 16 & 255, packet->size >> 24 & 255};
    errno = 0;
    if (send_message(channel, head, sizeof head, packet->descriptors, packet->descriptor_count) != 0)
        return;
    for (size_t done = 0; done < packet->size;) {
        ssize_t sent = send(channel, packet->bytes + done, packet->size - done, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return;
        done += (size_t)sent;
    }
    errno = 0;
}

/* One answer: fields parted by zero bytes ("%c" with 0). Returns -1 with errno set. */
int say(int control, const int *descriptors, size_t count, const char *format, ...) {
    char text[8192];
    va_list arguments;
    va_start(arguments, format);
    int size = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (size < 0) {
        errno = EINVAL;
        return -1;
    }
    return send_message(control, text, (size_t)size < sizeof text ? (size_t)size : sizeof text - 1, descriptors, count);
}
