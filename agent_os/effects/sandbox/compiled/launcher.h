/* The launcher in C: the steps of ../launcher/ in the same order, for the same requests, judged by the same tests.

   It may not decide anything: what to mount, filter and allow stands in the plan. It fails closed: each request is carried
   out by a process of its own, which ends at the first byte or system call that is not as expected, having said which step
   it was; nothing is cleaned up by hand, because the end of that process does it. Threat: the request is trusted (our own
   supervisor made it); the paths it names are not, hence openat2 without links everywhere.

   serve.c    requests from the supervisor, prepared processes         start.c    trees, name spaces, id maps (outside)
   wire.c     the form of requests and answers                         init.c     process 1 of the sandbox
   kernel.c   system calls without a C function                        root.c     the private root
   network.c  loopback, routes, listeners                              worker.c   what becomes the program
   kept.c     what is taken away when the supervisor has died */
#ifndef LAUNCHER_H
#define LAUNCHER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { REQUEST_BYTES_MAX = 4 * 1024 * 1024, REQUEST_FDS_MAX = 16, MESSAGE_BYTES_MAX = 65536, ITEMS_MAX = 65536 };
enum { LISTENERS_SENT = 64, LISTENERS_MAX = 4096 };
enum { MAGIC = 0x31534F41, START = 1, PLANT = 2, FORGET = 3, KEEP = 4 };
enum { BIND = 1, FILESYSTEM, FOLDER, LINK, PLAIN_FILE, EMPTY, PIN, OVERLAY };
enum { WRITABLE = 1, RECURSIVE = 2, IDMAPPED = 4 };

/* wire.c */
struct text { const char *bytes; size_t size; }; /* a zero byte follows */
struct texts { const char **items; size_t count; };
struct step {
    uint64_t kind, attributes, options, uid, gid, mode;
    const char *target, *source, *upper;
    struct text data;
    int tree, upper_tree; /* -1: not cloned yet */
};
struct access_rule { const char *path; uint64_t access; };
struct limit { uint64_t resource, value; };
struct plan {
    const char *host_name, *cwd;
    uint64_t flags, uid, gid, host_uid, host_gid, pid_max;
    bool own_cgroup, transient, guarded, dns;
    struct step *steps; size_t step_count;
    uint64_t landlock_size, landlock[3];
    struct access_rule *rules; size_t rule_count;
    struct text seccomp;
    struct limit *limits; size_t limit_count;
    struct texts environment;
    uint64_t *ports; size_t port_count; uint64_t proxy_port;
};
struct request {
    uint64_t kind;
    const char *seed;
    struct texts cgroups, arguments;
    bool terminal;
    uint64_t rows, columns;
    struct plan plan;
};
struct packet { char *bytes; size_t size; int descriptors[REQUEST_FDS_MAX]; size_t descriptor_count; };

bool receive_packet(int channel, struct packet *packet);  /* false: the channel has ended; exits on anything odd */
void send_packet(int channel, const struct packet *packet); /* errno is set if it could not be sent */
void decode(const struct packet *packet, struct request *request, bool head_only);
int send_message(int channel, const void *bytes, size_t size, const int *descriptors, size_t count);
int say(int control, const int *descriptors, size_t count, const char *format, ...) __attribute__((format(printf, 4, 5)));

/* kernel.c: each reports the current stage and ends the process if the call fails */
extern int control_socket;    /* where failures are told */
extern int failure_status;
_Noreturn void fail(int number, const char *detail);
void stage(const char *name);
void stage_of(const char *name, const char *detail);
void must(bool good, const char *what);
void *reserve(size_t count, size_t size);
int open_at(int directory, const char *path, uint64_t flags, uint64_t resolve); /* -1 and errno */
int copy_tree(int place, bool recursive);
void set_attributes(int tree, uint64_t attributes, bool recursive, int user_namespace);
void move_to(int tree, int place);
pid_t clone_process(uint64_t flags);
void write_file(const char *path, const char *text);
bool try_write_file(const char *path, const char *text);
void process_control(int option, unsigned long a, unsigned long b);
void close_from(unsigned first, unsigned last, unsigned flags);

enum { IN_ROOT = 8 /* RESOLVE_BENEATH */, O_PLACE = 010000000 /* O_PATH */ };

/* start.c */
void prepare_ids(void);
_Noreturn void start(struct request *request, const int *descriptors, size_t count);
int clone_step(const struct step *step, const char *source, bool map_owner);

/* init.c */
_Noreturn void init(struct request *request, const int *stdio, int go);

/* network.c */
struct listener { const char *kind; int descriptor; };
size_t build_network(const struct plan *plan, struct listener *listeners);
void send_listeners(const struct listener *listeners, size_t count);

/* root.c */
void build_root(struct plan *plan);

/* kept.c */
void take_away(int listed, int workspace);

/* worker.c */
_Noreturn void work(struct request *request, const int *stdio, int terminal);
void drop_capabilities(void);
void load_filter(const struct plan *plan);

#endif
