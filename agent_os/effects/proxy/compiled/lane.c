/* Bytes from one socket to another, in order, with back-pressure: what the sink does not take is kept, and until it is gone
   nothing more is read. Large pieces go through a pipe, without a copy into this process (splice(2)). */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carrier.h"

unsigned char scratch[PIECE_BYTES];
static unsigned pipes;

void lane_start(struct lane *lane) { *lane = (struct lane){.pipe = {-1, -1}}; }

void lane_stop(struct lane *lane) {
    free(lane->kept);
    if (lane->pipe[0] >= 0) {
        (void)close(lane->pipe[0]);
        (void)close(lane->pipe[1]);
        pipes--;
    }
    lane_start(lane);
}

bool lane_full(const struct lane *lane) { return lane->size > 0 || lane->piped > 0; }

static bool passing(void) { return errno == EAGAIN || errno == EINTR; }

/* Send bytes now, keep the rest. */
bool lane_send(struct lane *lane, int to, const unsigned char *bytes, size_t size) {
    ssize_t sent = send(to, bytes, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (sent < 0) {
        if (!passing())
            return false;
        sent = 0;
    }
    if ((size_t)sent == size)
        return true;
    lane->kept = malloc(size - (size_t)sent);
    if (lane->kept == NULL)
        return false;
    lane->at = 0;
    lane->size = (uint32_t)(size - (size_t)sent);
    memcpy(lane->kept, bytes + sent, lane->size);
    return true;
}

/* Send what is kept, as far as it goes. */
bool lane_push(struct lane *lane, int to) {
    while (lane->piped > 0) {
        ssize_t sent = splice(lane->pipe[0], NULL, to, NULL, lane->piped, SPLICE_F_MOVE | SPLICE_F_NONBLOCK);
        if (sent <= 0)
            return sent < 0 && passing();
        lane->piped -= (size_t)sent;
    }
    if (lane->size > 0) {
        ssize_t sent = send(to, lane->kept + lane->at, lane->size, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent < 0)
            return passing();
        lane->at += (uint32_t)sent;
        lane->size -= (uint32_t)sent;
        if (lane->size == 0) {
            free(lane->kept);
            lane->kept = NULL;
        }
    }
    return true;
}

static void begin_bulk(struct lane *lane) {
    lane->bulk = true; /* tried once */
    if (pipes >= PIPES_MAX || pipe2(lane->pipe, O_NONBLOCK | O_CLOEXEC) != 0) {
        lane->pipe[0] = lane->pipe[1] = -1;
        return;
    }
    pipes++;
    (void)fcntl(lane->pipe[0], F_SETPIPE_SZ, PIPE_BYTES); /* a smaller one works too */
}

enum moved lane_move(struct lane *lane, int from, int to, uint64_t *count, size_t piece, bool bulk) {
    if (!lane_push(lane, to))
        return BROKEN_SINK;
    for (int i = 0; i < PIECES_PER_TURN_MAX && !lane->ended && !lane_full(lane); i++) {
        bool piped = lane->pipe[0] >= 0;
        ssize_t got = piped ? splice(from, NULL, lane->pipe[1], NULL, PIPE_BYTES, SPLICE_F_MOVE | SPLICE_F_NONBLOCK)
                            : recv(from, scratch, piece, MSG_DONTWAIT);
        if (got < 0)
            return passing() ? MOVED : BROKEN_SOURCE;
        if (got == 0) {
            lane->ended = true;
            return MOVED;
        }
        *count += (uint64_t)got;
        if (piped) {
            lane->piped = (size_t)got;
            if (!lane_push(lane, to))
                return BROKEN_SINK;
            continue;
        }
        if (!lane_send(lane, to, scratch, (size_t)got))
            return BROKEN_SINK;
        if ((size_t)got < piece)
            return MOVED; /* most likely all there was; the next turn tells */
        if (bulk && !lane->bulk)
            begin_bulk(lane);
    }
    return MOVED;
}
