/* The carrier: the process that holds the sockets of tunnels which policy passes unread.

   It decides nothing. It takes connections off listeners, hands the guard each CONNECT head as it came, connects to exactly
   the address it is told, and moves bytes. It goes on by itself in one case only: the client's first flight is one whole,
   well-formed ClientHello that hides no name and states the judged host or none. Everything else goes back to the guard,
   sockets and bytes, and is served there as if this program did not exist. A connection that it cannot serve is reset; a
   word of the guard's that is not as expected ends the process, and with it every connection in it.

   Threat: every byte of a client and of a server is hostile. They meet no secret here, no file can be opened and no program
   started (confine.c); what they could gain is the sockets of this process.

   main.c     the loop, listeners, words from and to the guard        hello.c    the ClientHello
   tunnel.c   one connection, from accept to close                    loan.c     one direction of a tunnel of the guard's
   lane.c     bytes from one socket to another                        alike.c    a request like the judged one
   confine.c  what this process may ask of the kernel */
#ifndef CARRIER_H
#define CARRIER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { SLOTS_MAX = 8192, LOANS_MAX = 2048, ROWS = SLOTS_MAX + LOANS_MAX, LISTENERS_MAX = 64, HOST_BYTES_MAX = 253 };
enum { HEAD_BYTES_MAX = 1024, FIRST_BYTES_MAX = 16384, PIECE_BYTES = 65536, TALK_BYTES_MAX = 65536 };
enum { HEAD_MS = 250, TICK_MS = 100, PAUSE_MS = 200, CONNECT_MS_MAX = 600000 };
enum { ACCEPTS_PER_TURN_MAX = 64, PIECES_PER_TURN_MAX = 8, EVENTS_PER_TURN_MAX = 256 };
enum { PIPE_BYTES = 1024 * 1024, PIPES_MAX = 56 }; /* below pipe-user-pages-soft, as in ../splice.py */

/* What is said. Each record: four numbers (kind, slot, generation, bytes that follow), then those bytes. */
enum { LISTEN = 1, UNLISTEN, OPEN, GIVE, CUT, LEND, RETURN }; /* the guard says */
enum { ASKED = 65, UNREACHED, ENDED, GIVEN, RETURNED };       /* the carrier says */
struct word { uint32_t kind, slot, generation, size; };
struct place { uint16_t family, port; unsigned char address[16]; }; /* family 4, 6 or 0; the port as a number */
struct asked { uint32_t listener; struct place peer, local; };      /* then the head; no places where nobody asks */
struct open { uint32_t milliseconds; struct place place; };         /* then the judged host */
struct lend { uint32_t before; };                                   /* then the shape of a judged head, or nothing: see LENT */
struct ended { uint64_t up, down, how; };
enum { BROKEN = 1, LOOKED_AT = 2 }; /* how it ended: not in order; behind a ClientHello */
struct given { uint64_t up, down; uint32_t listener, first; };      /* then `first` bytes of the client's, then of the server's */

struct returned { uint64_t down, how; }; /* then what of the source was read and has not gone on */
enum { SOURCE_ENDED = 1, SOURCE_BROKE = 2, SINK_BROKE = 4 }; /* why a loan came back; 0: asked for, or unlike the shape */

/* What the guard may look at any time, a row for each slot and then for each loan. */
struct row { uint64_t up, down, state, spare; };
enum state { FREE, HEAD, WAITING, CONNECTING, FIRST, RELAY, SECURE, LENT };
/* HEAD: nothing was asked yet. WAITING: for the guard's word. FIRST: established, the client has said nothing.
   RELAY: bytes move, the client ended without a word. SECURE: bytes move behind a ClientHello that was looked at.
   LENT: one direction of a tunnel that is the guard's, in a slot that the guard chose: bytes of a source (kept in `upstream`)
   to a sink (in `client`). A loan with a shape is a client's requests: a piece goes on while it is one whole head of that shape,
   which the guard has judged in this very tunnel; anything else goes back to the guard, with the loan. */

struct end { int fd; uint32_t watched; };
struct shape { unsigned char *head; size_t before, behind; }; /* a head without the open part of its target, and where that was */
struct lane { unsigned char *kept; uint32_t at, size; int pipe[2]; size_t piped; bool ended, bulk; };
struct slot {
    uint32_t generation, listener;
    enum state state;
    bool named; /* the guard asks who connects */
    struct end client, upstream;
    struct lane up, down;
    uint64_t deadline; /* milliseconds; 0: none */
    struct shape shape; /* of a loan with one, else without a head */
    unsigned host_size;
    char host[HOST_BYTES_MAX];
};

/* main.c */
extern struct row *rows;
extern uint64_t now_ms;
extern unsigned waiting; /* slots with a deadline */
void watch(struct end *end, uint32_t events, uint64_t name);
void say(uint32_t kind, uint32_t slot, uint32_t generation, const void *body, size_t size, const void *more, size_t more_size);
void say_with(uint32_t kind, uint32_t slot, uint32_t generation, const void *body, size_t size, const void *first,
              size_t first_size, const void *second, size_t second_size, const int *descriptors, size_t count);
_Noreturn void unexpected(void);

/* tunnel.c */
void tunnels_prepare(void);
void tunnel_accept(int fd, uint32_t listener, bool who); /* who: the guard wants the addresses */
void tunnel_event(uint32_t slot, uint32_t generation, bool upstream, uint32_t events);
void tunnel_told(const struct word *word, const unsigned char *body);
void tunnels_tick(void);
extern struct slot slots[ROWS];
uint32_t index_of(const struct slot *slot);
uint64_t named(const struct slot *slot, bool upstream);
void become(struct slot *slot, enum state state);
void let_go(struct slot *slot, bool reset);

/* loan.c */
void loan_told(const struct word *word, const unsigned char *body, const int *descriptors);
void lent(struct slot *slot);

/* lane.c */
extern unsigned char scratch[PIECE_BYTES];
void lane_start(struct lane *lane);
void lane_stop(struct lane *lane);
bool lane_full(const struct lane *lane);
bool lane_push(struct lane *lane, int to);
bool lane_send(struct lane *lane, int to, const unsigned char *bytes, size_t size);
enum moved { BROKEN_SOURCE = -2, BROKEN_SINK = -1, MOVED = 0 };
enum moved lane_move(struct lane *lane, int from, int to, uint64_t *count, size_t piece, bool bulk);

/* alike.c */
bool alike(const struct shape *shape, const unsigned char *bytes, size_t size);

/* hello.c */
bool hello_states(const unsigned char *bytes, size_t size, const char *host, size_t host_size);

/* confine.c */
bool confine(void);

#endif
