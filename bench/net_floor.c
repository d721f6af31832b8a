/* The floor of the network benchmark: a relay that says yes to every CONNECT, on this machine, and looks at nothing.

   One thread, epoll, splice for what is large: what no proxy of one process can do without. It is no proxy: it keeps no account,
   passes no half-close, and trusts everyone. Usage: floor, which prints its port and serves until killed. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { ENDS = 65536, PIECE = 65536, PIPE = 1 << 20, PIECES_PER_TURN = 8, FLAGS = SPLICE_F_MOVE | SPLICE_F_NONBLOCK };
static const char YES[] = "HTTP/1.1 200 Connection established\r\n\r\n";
static struct { int other, in, out; size_t piped; } ends[ENDS]; /* by descriptor; `other` is 0 before CONNECT */
static char piece[PIECE];
static int loop;

static void watch(int how, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};
    if (epoll_ctl(loop, how, fd, &event) != 0)
        exit(1);
}

static void end(int fd) {
    int both[] = {fd, ends[fd].other};
    for (int i = 0; i < 2; i++) {
        if (both[i] == 0)
            continue;
        if (ends[both[i]].in != 0) {
            close(ends[both[i]].in);
            close(ends[both[i]].out);
        }
        memset(&ends[both[i]], 0, sizeof ends[0]);
        close(both[i]);
    }
}

static int send_all(int fd, const char *bytes, size_t size) {
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        if (sent < 0 && errno != EAGAIN)
            return -1;
        if (sent < 0)
            poll(&wait, 1, -1);
        else
            bytes += sent, size -= (size_t)sent;
    }
    return 0;
}

static void begin(int fd) {
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ssize_t got = recv(fd, piece, PIECE - 1, MSG_DONTWAIT);
    if (got <= 0) {
        if (got == 0 || errno != EAGAIN)
            end(fd);
        return;
    }
    piece[got] = '\0';
    char *port = strchr(piece, ':');
    int one = 1, other = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    if (port == NULL || other < 0 || other >= ENDS)
        exit(1);
    to.sin_port = htons((uint16_t)atoi(port + 1));
    setsockopt(other, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    (void)connect(other, (struct sockaddr *)&to, sizeof to);
    ends[fd].other = other;
    ends[other].other = fd;
    watch(EPOLL_CTL_ADD, other, EPOLLIN);
    if (send_all(fd, YES, sizeof YES - 1) != 0)
        end(fd);
}

/* What is in the pipe to the other side: 1 all of it went, 0 it has to wait, -1 it is over. */
static int push(int fd) {
    int other = ends[fd].other;
    while (ends[fd].piped > 0) {
        ssize_t sent = splice(ends[fd].in, NULL, other, NULL, ends[fd].piped, FLAGS);
        if (sent < 0 && errno == EAGAIN)
            return 0;
        if (sent <= 0)
            return -1;
        ends[fd].piped -= (size_t)sent;
    }
    return 1;
}

static void move(int fd) {
    int other = ends[fd].other;
    for (int i = 0; i < PIECES_PER_TURN; i++) {
        ssize_t got = ends[fd].in ? splice(fd, NULL, ends[fd].out, NULL, PIPE, FLAGS) : recv(fd, piece, PIECE, MSG_DONTWAIT);
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0 || (ends[fd].in == 0 && send_all(other, piece, (size_t)got) != 0)) {
            end(fd);
            return;
        }
        if (ends[fd].in == 0) {
            int pipes[2];
            if (got < PIECE)
                return;
            if (pipe2(pipes, O_NONBLOCK) != 0)
                continue;
            fcntl(pipes[0], F_SETPIPE_SZ, PIPE);
            ends[fd].in = pipes[0];
            ends[fd].out = pipes[1];
            continue;
        }
        ends[fd].piped = (size_t)got;
        int went = push(fd);
        if (went < 0)
            end(fd);
        if (went == 0) {
            watch(EPOLL_CTL_MOD, fd, 0);
            watch(EPOLL_CTL_MOD, other, EPOLLIN | EPOLLOUT);
        }
        if (went <= 0)
            return;
    }
}

static void event(int fd, uint32_t events) {
    int other = ends[fd].other;
    if (other == 0) {
        begin(fd);
        return;
    }
    if (events & EPOLLOUT) { /* it waited for this */
        int went = push(other);
        if (went < 0)
            end(fd);
        if (went <= 0)
            return;
        watch(EPOLL_CTL_MOD, fd, EPOLLIN);
        watch(EPOLL_CTL_MOD, other, EPOLLIN);
    }
    if (events & ~(uint32_t)EPOLLOUT)
        move(fd);
}

int main(void) {
    struct sockaddr_in at = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct epoll_event events[256];
    socklen_t size = sizeof at;
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    loop = epoll_create1(0);
    if (bind(listener, (struct sockaddr *)&at, sizeof at) != 0 || listen(listener, 4096) != 0 ||
        getsockname(listener, (struct sockaddr *)&at, &size) != 0)
        return 1;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    watch(EPOLL_CTL_ADD, listener, EPOLLIN);
    printf("%d\n", ntohs(at.sin_port));
    fflush(stdout);
    for (;;) {
        int ready = epoll_wait(loop, events, 256, -1);
        for (int i = 0; i < ready; i++) {
            int fd = events[i].data.fd, taken;
            if (fd != listener)
                event(fd, events[i].events);
            else
                while ((taken = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) > 0 && taken < ENDS)
                    watch(EPOLL_CTL_ADD, taken, EPOLLIN), begin(taken);
        }
    }
}
