/* Directions of the guard's own tunnels: bytes of a source to a sink, in a slot that the guard chose, until it has them back. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carrier.h"

static void give_back(struct slot *slot, uint64_t how, const unsigned char *unlike, size_t size) {
    struct returned returned = {rows[index_of(slot)].down, how};
    uint32_t generation = slot->generation;
    watch(&slot->client, 0, 0);
    watch(&slot->upstream, 0, 0);
    let_go(slot, false); /* the guard has descriptors of its own: nothing ends */
    say(RETURNED, index_of(slot), generation, &returned, sizeof returned, unlike, size);
}

/* Let one piece go on if it is a head like the judged one; false: the loan is over. */
static bool repeated(struct slot *slot) {
    struct lane *lane = &slot->down;
    if (!lane_push(lane, slot->client.fd)) {
        give_back(slot, SINK_BROKE, NULL, 0);
        return false;
    }
    if (lane_full(lane))
        return true;
    ssize_t got = recv(slot->upstream.fd, scratch, HEAD_BYTES_MAX + 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return true;
    if (got <= 0) {
        give_back(slot, got == 0 ? SOURCE_ENDED : SOURCE_BROKE, NULL, 0);
        return false;
    }
    if (got > HEAD_BYTES_MAX || !alike(&slot->shape, scratch, (size_t)got)) {
        give_back(slot, 0, scratch, (size_t)got);
        return false;
    }
    rows[index_of(slot)].down += (uint64_t)got;
    if (!lane_send(lane, slot->client.fd, scratch, (size_t)got)) {
        give_back(slot, SINK_BROKE, NULL, 0);
        return false;
    }
    return true;
}

static bool moved_on(struct slot *slot) {
    enum moved moved = lane_move(&slot->down, slot->upstream.fd, slot->client.fd, &rows[index_of(slot)].down, PIECE_BYTES, true);
    if (moved != MOVED)
        give_back(slot, moved == BROKEN_SOURCE ? SOURCE_BROKE : SINK_BROKE, NULL, 0);
    else if (slot->down.ended)
        give_back(slot, SOURCE_ENDED, NULL, 0);
    else
        return true;
    return false;
}

void lent(struct slot *slot) {
    if (slot->shape.head != NULL ? repeated(slot) : moved_on(slot)) {
        bool full = lane_full(&slot->down);
        watch(&slot->upstream, full ? 0 : EPOLLIN, named(slot, true));
        watch(&slot->client, full ? EPOLLOUT : 0, named(slot, false));
    }
}

static void shape_told(struct shape *shape, const unsigned char *body, size_t size) {
    struct lend told;
    if (size < sizeof told || size - sizeof told > HEAD_BYTES_MAX)
        unexpected();
    memcpy(&told, body, sizeof told);
    size -= sizeof told;
    if (told.before > size || (size > 0 && told.before == 0))
        unexpected();
    if (size == 0)
        return;
    *shape = (struct shape){malloc(size), told.before, size - told.before};
    if (shape->head == NULL)
        _exit(2);
    memcpy(shape->head, body + sizeof told, size);
}

void loan_told(const struct word *word, const unsigned char *body, const int *descriptors) {
    if (word->slot < SLOTS_MAX || word->slot >= ROWS)
        unexpected();
    struct slot *slot = &slots[word->slot];
    if (word->kind == RETURN) {
        if (slot->state == LENT && slot->generation == word->generation)
            give_back(slot, 0, NULL, 0);
        return;
    }
    if (slot->state != FREE)
        unexpected();
    shape_told(&slot->shape, body, word->size);
    slot->generation = word->generation;
    slot->upstream = (struct end){descriptors[0], 0};
    slot->client = (struct end){descriptors[1], 0};
    lane_start(&slot->up);
    lane_start(&slot->down);
    rows[index_of(slot)] = (struct row){0};
    become(slot, LENT);
    lent(slot);
}
