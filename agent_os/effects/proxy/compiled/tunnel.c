/* One connection, from accept to close. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "carrier.h"

static const char ESTABLISHED[] = "HTTP/1.1 200 Connection established\r\n\r\n";
struct slot slots[ROWS];
static uint32_t free_slots[SLOTS_MAX], free_count, used_slots;

void tunnels_prepare(void) {
    for (uint32_t i = SLOTS_MAX; i > 0; i--) /* the lowest is taken first */
        free_slots[free_count++] = i - 1;
}

uint32_t index_of(const struct slot *slot) { return (uint32_t)(slot - slots); }

/* The name of one end in the loop's events. */
uint64_t named(const struct slot *slot, bool upstream) {
    return (uint64_t)slot->generation << 32 | (uint64_t)index_of(slot) << 2 | (upstream ? 2u : 1u);
}

void become(struct slot *slot, enum state state) {
    slot->state = state;
    rows[index_of(slot)].state = (uint64_t)slot->generation << 8 | (uint64_t)state;
}

static void due_in(struct slot *slot, uint64_t milliseconds) {
    if ((slot->deadline != 0) != (milliseconds != 0))
        waiting += milliseconds ? 1u : -1u;
    slot->deadline = milliseconds ? now_ms + milliseconds : 0;
}

/* Close what is left of a slot; `reset`: so that no peer takes a part for the whole. */
void let_go(struct slot *slot, bool reset) {
    struct end *ends[] = {&slot->client, &slot->upstream};
    for (size_t i = 0; i < 2; i++) {
        static const struct linger now = {1, 0};
        if (ends[i]->fd < 0)
            continue;
        if (reset)
            (void)setsockopt(ends[i]->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
        (void)close(ends[i]->fd);
        *ends[i] = (struct end){-1, 0};
    }
    lane_stop(&slot->up);
    lane_stop(&slot->down);
    free(slot->shape.head);
    slot->shape.head = NULL;
    due_in(slot, 0);
    slot->generation++;
    become(slot, FREE);
    if (index_of(slot) < SLOTS_MAX)
        free_slots[free_count++] = index_of(slot);
}

static void end_it(struct slot *slot, bool broken) {
    const struct row *row = &rows[index_of(slot)];
    struct ended ended = {row->up, row->down, (broken ? BROKEN : 0u) | (slot->state == SECURE ? LOOKED_AT : 0u)};
    uint32_t generation = slot->generation;
    let_go(slot, broken);
    say(ENDED, index_of(slot), generation, &ended, sizeof ended, NULL, 0);
}

/* Hand the sockets to the guard, with what was read and has not gone on. */
static void give(struct slot *slot, const unsigned char *first, size_t size) {
    const struct row *row = &rows[index_of(slot)];
    struct given given = {row->up, row->down, slot->listener, (uint32_t)size};
    int descriptors[2] = {slot->client.fd, slot->upstream.fd};
    watch(&slot->client, 0, 0);
    watch(&slot->upstream, 0, 0);
    const unsigned char *kept = slot->down.kept == NULL ? NULL : slot->down.kept + slot->down.at;
    say_with(GIVEN, index_of(slot), slot->generation, &given, sizeof given, first, size, kept, slot->down.size, descriptors,
             slot->upstream.fd < 0 ? 1 : 2);
    let_go(slot, false); /* the guard has descriptors of its own: nothing ends */
}

/* Watch each end for what can be done with it now; a socket that can do nothing is not watched at all. */
static void arm(struct slot *slot) {
    bool up_full = lane_full(&slot->up), down_full = lane_full(&slot->down);
    uint32_t client = (!slot->up.ended && !up_full ? EPOLLIN : 0u) | (down_full ? EPOLLOUT : 0u);
    uint32_t upstream = (!slot->down.ended && !down_full ? EPOLLIN : 0u) | (up_full ? EPOLLOUT : 0u);
    watch(&slot->client, client, named(slot, false));
    watch(&slot->upstream, upstream, named(slot, true));
}

/* ---- asked ------------------------------------------------------------------------------------------------------- */

/* The one shape of head that the guard is asked about: a whole CONNECT with nothing behind it. What it says is its to read. */
static bool whole_head(const unsigned char *bytes, size_t size) {
    if (size < sizeof "CONNECT x" + 3 || size > HEAD_BYTES_MAX || memcmp(bytes, "CONNECT ", 8) != 0)
        return false;
    return memmem(bytes, size, "\r\n\r\n", 4) == bytes + size - 4;
}

static void place_of(const struct sockaddr_storage *address, struct place *place) {
    memset(place, 0, sizeof *place);
    if (address->ss_family == AF_INET) {
        const struct sockaddr_in *four = (const struct sockaddr_in *)address;
        *place = (struct place){.family = 4, .port = ntohs(four->sin_port)};
        memcpy(place->address, &four->sin_addr, 4);
    } else if (address->ss_family == AF_INET6) {
        const struct sockaddr_in6 *six = (const struct sockaddr_in6 *)address;
        *place = (struct place){.family = 6, .port = ntohs(six->sin6_port)};
        memcpy(place->address, &six->sin6_addr, 16);
    }
}

static void ask(struct slot *slot) {
    struct asked asked = {.listener = slot->listener};
    struct sockaddr_storage address = {0};
    socklen_t peer_size = sizeof address, local_size = sizeof address;
    ssize_t got = recv(slot->client.fd, scratch, HEAD_BYTES_MAX + 1, MSG_DONTWAIT);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        watch(&slot->client, EPOLLIN | EPOLLONESHOT, named(slot, false)); /* told once; what comes after waits for us */
        return;
    }
    if (got <= 0 || !whole_head(scratch, (size_t)got)) {
        give(slot, scratch, got > 0 ? (size_t)got : 0);
        return;
    }
    due_in(slot, 0);
    if (slot->named && getpeername(slot->client.fd, (struct sockaddr *)&address, &peer_size) == 0) {
        place_of(&address, &asked.peer);
        memset(&address, 0, sizeof address);
        if (getsockname(slot->client.fd, (struct sockaddr *)&address, &local_size) == 0)
            place_of(&address, &asked.local);
    }
    become(slot, WAITING);
    say(ASKED, index_of(slot), slot->generation, &asked, sizeof asked, scratch, (size_t)got);
}

void tunnel_accept(int fd, uint32_t listener, bool who) {
    if (free_count == 0) { /* the guard says what it says when there are too many */
        struct given given = {0, 0, listener, 0};
        say_with(GIVEN, SLOTS_MAX, 0, &given, sizeof given, NULL, 0, NULL, 0, &fd, 1);
        (void)close(fd);
        return;
    }
    struct slot *slot = &slots[free_slots[--free_count]];
    if (index_of(slot) >= used_slots)
        used_slots = index_of(slot) + 1;
    slot->client = (struct end){fd, 0};
    slot->upstream = (struct end){-1, 0};
    slot->listener = listener;
    slot->named = who;
    slot->host_size = 0;
    lane_start(&slot->up);
    lane_start(&slot->down);
    rows[index_of(slot)] = (struct row){0};
    become(slot, HEAD);
    due_in(slot, HEAD_MS);
    ask(slot);
}

/* ---- told to connect --------------------------------------------------------------------------------------------- */

static void unreached(struct slot *slot, int number) {
    uint64_t why = (uint64_t)number;
    if (slot->upstream.fd >= 0)
        (void)close(slot->upstream.fd);
    slot->upstream = (struct end){-1, 0};
    due_in(slot, 0);
    become(slot, WAITING);
    say(UNREACHED, index_of(slot), slot->generation, &why, sizeof why, NULL, 0);
}

static void established(struct slot *slot) {
    due_in(slot, 0);
    become(slot, FIRST);
    if (!lane_send(&slot->down, slot->client.fd, (const unsigned char *)ESTABLISHED, sizeof ESTABLISHED - 1)) {
        end_it(slot, true);
        return;
    }
    arm(slot);
}

static void open_towards(struct slot *slot, const struct open *told, const char *host, size_t host_size) {
    const struct place *place = &told->place;
    struct sockaddr_in six_or_four[2] = {0};
    _Static_assert(sizeof six_or_four >= sizeof(struct sockaddr_in6), "room for either");
    struct sockaddr_in *four = six_or_four;
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)(void *)six_or_four;
    socklen_t size = place->family == 4 ? sizeof *four : sizeof *six;
    static const int yes = 1;
    if ((place->family != 4 && place->family != 6) || host_size > HOST_BYTES_MAX || told->milliseconds == 0 ||
        told->milliseconds > CONNECT_MS_MAX)
        unexpected();
    memcpy(slot->host, host, host_size);
    slot->host_size = (unsigned)host_size;
    if (place->family == 4) {
        *four = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(place->port)};
        memcpy(&four->sin_addr, place->address, 4);
    } else {
        *six = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons(place->port)};
        memcpy(&six->sin6_addr, place->address, 16);
    }
    slot->upstream.fd = socket(place->family == 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (slot->upstream.fd < 0) {
        unreached(slot, errno);
        return;
    }
    (void)setsockopt(slot->upstream.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
    become(slot, CONNECTING);
    due_in(slot, told->milliseconds);
    if (connect(slot->upstream.fd, (struct sockaddr *)six_or_four, size) == 0) {
        established(slot);
    } else if (errno != EINPROGRESS) {
        unreached(slot, errno);
    } else {
        struct sockaddr_storage peer;
        socklen_t peer_size = sizeof peer; /* on one machine it stands already */
        if (getpeername(slot->upstream.fd, (struct sockaddr *)&peer, &peer_size) == 0)
            established(slot);
        else
            watch(&slot->upstream, EPOLLOUT, named(slot, true));
    }
}

static void connecting(struct slot *slot) {
    int number = 0;
    socklen_t size = sizeof number;
    if (getsockopt(slot->upstream.fd, SOL_SOCKET, SO_ERROR, &number, &size) != 0)
        number = errno;
    if (number != 0)
        unreached(slot, number);
    else
        established(slot);
}

/* A word about a slot whose connection is over came too late, and is nothing. */
void tunnel_told(const struct word *word, const unsigned char *body) {
    if (word->slot >= SLOTS_MAX)
        unexpected();
    struct slot *slot = &slots[word->slot];
    if (slot->generation != word->generation || slot->state == FREE)
        return;
    if (word->kind == OPEN) {
        struct open told;
        if (word->size < sizeof told || slot->state != WAITING)
            unexpected();
        memcpy(&told, body, sizeof told);
        open_towards(slot, &told, (const char *)body + sizeof told, word->size - sizeof told);
    } else if (word->kind == GIVE) {
        if (slot->state != WAITING)
            unexpected();
        give(slot, NULL, 0);
    } else {
        end_it(slot, true);
    }
}

/* ---- established ------------------------------------------------------------------------------------------------- */

static bool first_flight(struct slot *slot) {
    ssize_t got = recv(slot->client.fd, scratch, FIRST_BYTES_MAX, MSG_DONTWAIT);
    if (got < 0)
        return errno == EAGAIN || errno == EINTR;
    if (got == 0) {
        slot->up.ended = true;
        become(slot, RELAY);
        return true;
    }
    if (!hello_states(scratch, (size_t)got, slot->host, slot->host_size)) {
        give(slot, scratch, (size_t)got);
        return true;
    }
    rows[index_of(slot)].up += (uint64_t)got;
    become(slot, SECURE);
    return lane_send(&slot->up, slot->upstream.fd, scratch, (size_t)got);
}

static void relay(struct slot *slot, bool upstream, uint32_t events) {
    uint32_t generation = slot->generation;
    struct row *row = &rows[index_of(slot)];
    size_t piece = slot->state == FIRST ? FIRST_BYTES_MAX : PIECE_BYTES;
    bool whole = true, ready = (events & ~(uint32_t)EPOLLOUT) != 0;
    bool up_ended = slot->up.ended, down_ended = slot->down.ended;
    if (events & EPOLLERR) {
        whole = false;
    } else {
        if (upstream ? ready : (events & EPOLLOUT) != 0)
            whole = lane_move(&slot->down, slot->upstream.fd, slot->client.fd, &row->down, piece, slot->state != FIRST) == MOVED;
        if (whole && !upstream && ready && slot->state == FIRST) {
            whole = first_flight(slot);
            if (slot->generation != generation)
                return; /* given away */
        } else if (whole && (upstream ? (events & EPOLLOUT) != 0 : ready)) {
            whole = lane_move(&slot->up, slot->client.fd, slot->upstream.fd, &row->up, piece, true) == MOVED;
        }
    }
    if (!whole) {
        end_it(slot, true);
    } else if (slot->up.ended && slot->down.ended && !lane_full(&slot->up) && !lane_full(&slot->down)) {
        end_it(slot, false);
    } else {
        if (slot->up.ended && !up_ended)
            (void)shutdown(slot->upstream.fd, SHUT_WR);
        if (slot->down.ended && !down_ended)
            (void)shutdown(slot->client.fd, SHUT_WR);
        arm(slot);
    }
}

void tunnel_event(uint32_t index, uint32_t generation, bool upstream, uint32_t events) {
    struct slot *slot = &slots[index];
    if (slot->generation != generation)
        return; /* it ended in this very turn */
    if (slot->state == LENT)
        lent(slot);
    else if (slot->state == HEAD)
        ask(slot);
    else if (slot->state == CONNECTING && upstream)
        connecting(slot);
    else if (slot->state >= FIRST)
        relay(slot, upstream, events);
}

void tunnels_tick(void) {
    for (uint32_t i = 0; i < used_slots && waiting > 0; i++) {
        struct slot *slot = &slots[i];
        if (slot->deadline == 0 || slot->deadline > now_ms)
            continue;
        if (slot->state == HEAD)
            give(slot, NULL, 0);
        else
            unreached(slot, ETIMEDOUT);
    }
}
