/* The loop, the listeners, and words from and to the guard.

   Usage: carrier CHANNEL TABLE: a socket that keeps message boundaries, and a memory file of SLOTS_MAX rows. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "carrier.h"

enum { CHANNEL = 0, LISTENER = 3 }; /* the kinds of event that are of no slot; a slot's end is 1 or 2 */

struct row *rows;
uint64_t now_ms;
unsigned waiting;

static int channel, loop;
static struct { int fd; bool watched, who; } listeners[LISTENERS_MAX];
static uint64_t paused_until;
static unsigned char talk[TALK_BYTES_MAX], heard[TALK_BYTES_MAX];
static size_t said;

_Noreturn void unexpected(void) { _exit(3); }

static void must(bool good) {
    if (!good)
        _exit(2);
}

static uint64_t clock_ms(void) {
    struct timespec now;
    must(clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Be told of `events` on an end under `name`, and of nothing once they are 0. */
void watch(struct end *end, uint32_t events, uint64_t name) {
    struct epoll_event wanted = {.events = events, .data.u64 = name};
    if (end->watched == events)
        return;
    int how = events == 0 ? EPOLL_CTL_DEL : end->watched == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    must(epoll_ctl(loop, how, end->fd, &wanted) == 0);
    end->watched = events;
}

/* ---- to the guard ------------------------------------------------------------------------------------------------ */

/* The guard's end is never blocked on us: it is waited for, and this process does nothing else meanwhile. */
static void send_to_guard(const int *descriptors, size_t count) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int) * 2)]; } space;
    struct iovec part = {talk, said};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (count > 0) {
        memset(&space, 0, sizeof space);
        message.msg_control = &space;
        message.msg_controllen = CMSG_SPACE(sizeof(int) * count);
        space.header.cmsg_level = SOL_SOCKET;
        space.header.cmsg_type = SCM_RIGHTS;
        space.header.cmsg_len = CMSG_LEN(sizeof(int) * count);
        memcpy(CMSG_DATA(&space.header), descriptors, sizeof(int) * count);
    }
    while (said > 0) {
        if (sendmsg(channel, &message, MSG_NOSIGNAL) >= 0)
            said = 0;
        else if (errno != EINTR)
            _exit(0); /* the guard is gone */
    }
}

static void add(const void *bytes, size_t size) {
    if (size > 0)
        memcpy(talk + said, bytes, size);
    said += size;
}

static void begin(uint32_t kind, uint32_t slot, uint32_t generation, size_t size) {
    struct word word = {kind, slot, generation, (uint32_t)size};
    must(size <= sizeof talk - sizeof word);
    if (said + sizeof word + size > sizeof talk)
        send_to_guard(NULL, 0);
    add(&word, sizeof word);
}

void say(uint32_t kind, uint32_t slot, uint32_t generation, const void *body, size_t size, const void *more, size_t more_size) {
    begin(kind, slot, generation, size + more_size);
    add(body, size);
    add(more, more_size);
}

/* One word in a message of its own, with descriptors. */
void say_with(uint32_t kind, uint32_t slot, uint32_t generation, const void *body, size_t size, const void *first,
              size_t first_size, const void *second, size_t second_size, const int *descriptors, size_t count) {
    send_to_guard(NULL, 0);
    begin(kind, slot, generation, size + first_size + second_size);
    add(body, size);
    add(first, first_size);
    add(second, second_size);
    send_to_guard(descriptors, count);
}

/* ---- listeners --------------------------------------------------------------------------------------------------- */

static void watch_listener(uint32_t number, bool wanted) {
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = (uint64_t)number << 2 | LISTENER};
    if (listeners[number].fd < 0 || listeners[number].watched == wanted)
        return;
    must(epoll_ctl(loop, wanted ? EPOLL_CTL_ADD : EPOLL_CTL_DEL, listeners[number].fd, &event) == 0);
    listeners[number].watched = wanted;
}

static void watch_listeners(bool wanted) {
    for (uint32_t i = 0; i < LISTENERS_MAX; i++)
        watch_listener(i, wanted);
}

static void accept_some(uint32_t number) {
    for (int i = 0; i < ACCEPTS_PER_TURN_MAX; i++) {
        int fd = accept4(listeners[number].fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd >= 0) {
            tunnel_accept(fd, number, listeners[number].who);
        } else if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            watch_listeners(false);
            paused_until = now_ms + PAUSE_MS;
            return;
        } else if (errno != EINTR && errno != ECONNABORTED) {
            return;
        }
    }
}

/* ---- from the guard ---------------------------------------------------------------------------------------------- */

/* How many descriptors come with a word. */
static size_t brought(uint32_t kind) { return kind == LISTEN ? 1 : kind == LEND ? 2 : 0; }

static void obey(const struct word *word, const unsigned char *body, const int *descriptors, size_t count) {
    static const int yes = 1;
    bool listener = word->kind == LISTEN || word->kind == UNLISTEN;
    if (word->kind < LISTEN || word->kind > RETURN || (listener && word->slot >= LISTENERS_MAX) || count != brought(word->kind))
        unexpected();
    if (word->kind == LISTEN) {
        if (listeners[word->slot].fd >= 0)
            unexpected();
        listeners[word->slot].fd = descriptors[0];
        listeners[word->slot].watched = false;
        listeners[word->slot].who = word->generation != 0;
        (void)setsockopt(descriptors[0], IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes); /* what is accepted there has it too */
        watch_listener(word->slot, paused_until == 0);
    } else if (word->kind == UNLISTEN) {
        if (listeners[word->slot].fd < 0)
            unexpected();
        watch_listener(word->slot, false);
        (void)close(listeners[word->slot].fd);
        listeners[word->slot].fd = -1;
    } else if (word->kind == LEND || word->kind == RETURN) {
        loan_told(word, body, descriptors);
    } else {
        tunnel_told(word, body);
    }
}

/* One message: words one after the other, the first with its descriptors. False: there is none now. */
static bool hear(void) {
    union { struct cmsghdr header; char bytes[CMSG_SPACE(sizeof(int) * 2)]; } space;
    struct iovec part = {heard, sizeof heard};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = &space, .msg_controllen = sizeof space};
    int descriptors[2] = {-1, -1};
    size_t count = 0;
    ssize_t got = recvmsg(channel, &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return false;
    if (got <= 0)
        _exit(0); /* the guard is gone */
    if (message.msg_flags & (MSG_TRUNC | MSG_CTRUNC))
        unexpected();
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header != NULL && header->cmsg_level == SOL_SOCKET && header->cmsg_type == SCM_RIGHTS) {
        count = (header->cmsg_len - CMSG_LEN(0)) / sizeof *descriptors;
        if (count > 2)
            unexpected();
        memcpy(descriptors, CMSG_DATA(header), count * sizeof *descriptors);
    }
    for (size_t at = 0; at < (size_t)got;) {
        struct word word;
        if ((size_t)got - at < sizeof word)
            unexpected();
        memcpy(&word, heard + at, sizeof word);
        at += sizeof word;
        if ((size_t)got - at < word.size)
            unexpected();
        obey(&word, heard + at, descriptors, count);
        count = 0;
        at += word.size;
    }
    return true;
}

/* ---- the loop ---------------------------------------------------------------------------------------------------- */

static void prepare(char **arguments) {
    char *rest[2];
    long numbers[2];
    struct epoll_event event = {.events = EPOLLIN, .data.u64 = CHANNEL};
    struct rlimit files;
    for (int i = 0; i < 2; i++) {
        numbers[i] = strtol(arguments[i + 1], &rest[i], 10);
        must(numbers[i] >= 0 && numbers[i] <= INT32_MAX && *rest[i] == '\0');
    }
    channel = (int)numbers[0];
    must(fcntl(channel, F_SETFD, FD_CLOEXEC) == 0);
    rows = mmap(NULL, sizeof *rows * ROWS, PROT_READ | PROT_WRITE, MAP_SHARED, (int)numbers[1], 0);
    must(rows != MAP_FAILED && close((int)numbers[1]) == 0);
    must(getrlimit(RLIMIT_NOFILE, &files) == 0);
    files.rlim_cur = files.rlim_max;
    must(setrlimit(RLIMIT_NOFILE, &files) == 0);
    must(signal(SIGPIPE, SIG_IGN) != SIG_ERR && signal(SIGINT, SIG_IGN) != SIG_ERR);
    loop = epoll_create1(EPOLL_CLOEXEC);
    must(loop >= 0 && epoll_ctl(loop, EPOLL_CTL_ADD, channel, &event) == 0);
    for (size_t i = 0; i < LISTENERS_MAX; i++)
        listeners[i].fd = -1;
    tunnels_prepare();
    must(confine());
}

static int patience(void) {
    return waiting > 0 || paused_until > 0 ? TICK_MS : -1;
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS_PER_TURN_MAX];
    uint64_t ticked = 0;
    if (count != 3)
        return 2;
    prepare(arguments);
    for (;;) {
        int ready = epoll_wait(loop, events, EVENTS_PER_TURN_MAX, patience());
        must(ready >= 0 || errno == EINTR);
        now_ms = clock_ms();
        for (int i = 0; i < ready; i++) {
            uint64_t name = events[i].data.u64;
            uint32_t low = (uint32_t)name;
            if ((low & 3) == LISTENER)
                accept_some(low >> 2);
            else if ((low & 3) != CHANNEL)
                tunnel_event(low >> 2, (uint32_t)(name >> 32), (low & 3) == 2, events[i].events);
            else
                while (hear())
                    ;
        }
        if (now_ms - ticked >= TICK_MS) {
            ticked = now_ms;
            tunnels_tick();
        }
        if (paused_until != 0 && now_ms >= paused_until) {
            paused_until = 0;
            watch_listeners(true);
        }
        send_to_guard(NULL, 0);
    }
}
