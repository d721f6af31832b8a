/* Serves requests on the launcher's socket until it closes: starts sandboxes, prepares processes for later ones.

   Usage: launcher FD. Each request is carried out by a child, so that no failure of one reaches the next. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

enum { SEEDS_MAX = 8, KEPT_MAX = 256, TOKEN_BYTES_MAX = 64 };

static struct { char token[TOKEN_BYTES_MAX + 1]; int channel; } seeds[SEEDS_MAX]; /* an empty token: a free place */
static struct { char token[TOKEN_BYTES_MAX + 1]; int listed, workspace; } kept[KEPT_MAX];

static int take_seed(const char *token) {
    for (size_t i = 0; i < SEEDS_MAX; i++)
        if (*token && strcmp(seeds[i].token, token) == 0) {
            *seeds[i].token = '\0';
            return seeds[i].channel;
        }
    return -1;
}

static _Noreturn void carry_out(const struct packet *packet) {
    struct request request;
    if (packet->descriptor_count == 0)
        _exit(2);
    control_socket = packet->descriptors[0];
    stage("request");
    decode(packet, &request, false);
    if (request.kind != START)
        _exit(2);
    start(&request, packet->descriptors, packet->descriptor_count);
}

/* Fork a process that goes into control groups ahead of time and waits for one request.

   Moving a process into a group waits for every processor of the machine; being born in one does not. */
static void plant(const struct request *request, int channel) {
    int ends[2];
    size_t free_place = 0;
    while (free_place < SEEDS_MAX && *seeds[free_place].token)
        free_place++;
    if (free_place == SEEDS_MAX || strlen(request->seed) > TOKEN_BYTES_MAX || !*request->seed)
        _exit(2);
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) == 0, "");
    pid_t pid = fork();
    if (pid < 0) { /* the start that names this seed is told that it is gone */
        (void)close(ends[0]);
        (void)close(ends[1]);
        return;
    }
    if (pid == 0) {
        struct packet packet;
        char text[32];
        (void)close(channel);
        (void)close(ends[0]);
        for (size_t i = 0; i < SEEDS_MAX; i++)
            if (*seeds[i].token)
                (void)close(seeds[i].channel);
        (void)snprintf(text, sizeof text, "%d", (int)getpid());
        for (size_t i = 0; i < request->cgroups.count; i++)
            write_file(request->cgroups.items[i], text);
        if (geteuid() == 0)
            prepare_ids();
        if (!receive_packet(ends[1], &packet))
            _exit(0);
        (void)close(ends[1]);
        carry_out(&packet);
    }
    (void)close(ends[1]);
    (void)snprintf(seeds[free_place].token, sizeof seeds[free_place].token, "%s", request->seed);
    seeds[free_place].channel = ends[0];
}

/* Send a request on to a seed; one that is gone (its groups could not be entered) is reported as such. */
static void hand_over(const char *token, const struct packet *packet) {
    int seed = take_seed(token);
    errno = 0;
    if (seed >= 0)
        send_packet(seed, packet);
    if ((seed < 0 || errno != 0) && packet->descriptor_count > 0)
        (void)say(packet->descriptors[0], NULL, 0, "error%ccgroup%c%d%cthe prepared process is gone", 0, 0, errno, 0);
    if (seed >= 0)
        (void)close(seed);
}

/* Keep a list of stand-ins and its workspace until it is forgotten. With no place left, only the next run would clean up. */
static void keep(const struct request *request, struct packet *packet) {
    if (packet->descriptor_count != 2 || strlen(request->seed) > TOKEN_BYTES_MAX || !*request->seed)
        _exit(2);
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (!*kept[i].token) {
            (void)snprintf(kept[i].token, sizeof kept[i].token, "%s", request->seed);
            kept[i].listed = packet->descriptors[0];
            kept[i].workspace = packet->descriptors[1];
            packet->descriptor_count = 0; /* they are ours now */
            return;
        }
}

static void forget(const char *token) {
    int seed = take_seed(token);
    if (seed >= 0)
        (void)close(seed);
    for (size_t i = 0; i < KEPT_MAX; i++)
        if (*token && strcmp(kept[i].token, token) == 0) {
            *kept[i].token = '\0';
            (void)close(kept[i].listed);
            (void)close(kept[i].workspace);
        }
}

/* The channel has ended. In an orderly end nothing is kept any more. */
static void finish(void) {
    bool waited = false;
    for (size_t i = 0; i < SEEDS_MAX; i++)
        if (*seeds[i].token)
            (void)close(seeds[i].channel);
    for (size_t i = 0; i < KEPT_MAX; i++) {
        if (!*kept[i].token)
            continue;
        while (!waited) /* until every sandbox is gone: its stand-ins are mount points */
            waited = wait(NULL) < 0 && errno != EINTR;
        take_away(kept[i].listed, kept[i].workspace);
    }
}

static void serve_one(int channel, struct packet *packet) {
    struct request request;
    decode(packet, &request, true);
    if (request.kind == PLANT) {
        plant(&request, channel);
    } else if (request.kind == KEEP) {
        keep(&request, packet);
    } else if (request.kind == FORGET) {
        forget(request.seed);
    } else if (*request.seed) {
        hand_over(request.seed, packet);
    } else {
        pid_t pid = fork();
        if (pid == 0) {
            (void)close(channel);
            carry_out(packet);
        }
        if (pid < 0 && packet->descriptor_count > 0)
            (void)say(packet->descriptors[0], NULL, 0, "error%cfork%c%d%c", 0, 0, errno, 0);
    }
    free(request.cgroups.items);
}

int main(int count, char **arguments) {
    char *rest;
    long channel = count == 2 ? strtol(arguments[1], &rest, 10) : -1;
    if (channel < 0 || channel > INT32_MAX || *rest != '\0' || fcntl((int)channel, F_SETFD, FD_CLOEXEC) != 0)
        return 2;
    if (channel > 3)
        close_from(3, (unsigned)channel - 1, 0);
    close_from((unsigned)channel + 1, ~0u, 0);
    (void)signal(SIGCHLD, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN);
    (void)signal(SIGPIPE, SIG_IGN);
    if (getuid() == 0)
        process_control(PR_SET_DUMPABLE, 0, 0);
    process_control(PR_SET_CHILD_SUBREAPER, 1, 0);
    struct packet packet;
    while (receive_packet((int)channel, &packet)) {
        serve_one((int)channel, &packet);
        for (size_t i = 0; i < packet.descriptor_count; i++)
            (void)close(packet.descriptors[i]);
        free(packet.bytes);
    }
    finish();
    return 0;
}
