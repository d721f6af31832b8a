/* The sandbox's network: loopback, and for a guarded run routes that make every address local and listeners for the guard.

   No byte can leave: the name space has no interface but loopback. The listeners are handed out, so that the guard outside
   accepts what programs inside connect to, whatever address they name. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "launcher.h"

enum { BACKLOG = 512, IPV6_TELL_ADDRESS = 49 /* IPV6_RECVPKTINFO */, DNS_PORT = 53 };

static void raise_loopback(void) {
    struct ifreq wanted;
    memset(&wanted, 0, sizeof wanted);
    memcpy(wanted.ifr_name, "lo", 3);
    wanted.ifr_flags = IFF_UP | IFF_RUNNING;
    int probe = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    must(probe >= 0 && ioctl(probe, SIOCSIFFLAGS, &wanted) == 0, "loopback");
    (void)close(probe);
}

/* `local 0.0.0.0/0 dev lo` or `local ::/0 dev lo`; returns the kernel's answer as an errno. */
static int add_local_route(int netlink, unsigned char family) {
    struct { struct nlmsghdr header; struct rtmsg route; struct rtattr attribute; uint32_t interface; } ask;
    union { struct nlmsghdr header; char bytes[4096]; } answer;
    memset(&ask, 0, sizeof ask);
    ask.header.nlmsg_len = sizeof ask;
    ask.header.nlmsg_type = RTM_NEWROUTE;
    ask.header.nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE;
    ask.header.nlmsg_seq = 1;
    ask.route.rtm_family = family;
    ask.route.rtm_table = RT_TABLE_LOCAL;
    ask.route.rtm_protocol = RTPROT_BOOT;
    ask.route.rtm_scope = RT_SCOPE_HOST;
    ask.route.rtm_type = RTN_LOCAL;
    ask.attribute.rta_len = RTA_LENGTH(sizeof ask.interface);
    ask.attribute.rta_type = RTA_OIF;
    ask.interface = 1;
    must(send(netlink, &ask, sizeof ask, 0) == sizeof ask, "route");
    ssize_t got = recv(netlink, &answer, sizeof answer, 0);
    must(got >= (ssize_t)NLMSG_LENGTH(sizeof(int)), "route");
    if (answer.header.nlmsg_type != NLMSG_ERROR)
        fail(EBADMSG, "route");
    int code;
    memcpy(&code, NLMSG_DATA(&answer.header), sizeof code);
    return -code;
}

static int bound(int family, int type, bool anywhere, uint64_t port) {
    int sock = socket(family, type | SOCK_CLOEXEC, 0), one = 1;
    must(sock >= 0, "socket");
    if (port == 0 || port > 65535)
        fail(EINVAL, "port");
    if (family == AF_INET6) {
        must(setsockopt(sock, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one) == 0, "IPV6_V6ONLY");
        if (type == SOCK_DGRAM)
            must(setsockopt(sock, IPPROTO_IPV6, IPV6_TELL_ADDRESS, &one, sizeof one) == 0, "IPV6_RECVPKTINFO");
        struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
        must(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    } else {
        if (type == SOCK_DGRAM)
            must(setsockopt(sock, IPPROTO_IP, IP_PKTINFO, &one, sizeof one) == 0, "IP_PKTINFO");
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        address.sin_addr.s_addr = htonl(anywhere ? INADDR_ANY : INADDR_LOOPBACK);
        must(bind(sock, (struct sockaddr *)&address, sizeof address) == 0, "bind");
    }
    if (type == SOCK_STREAM)
        must(listen(sock, BACKLOG) == 0, "listen");
    return sock;
}

/* `listeners` has room for LISTENERS_MAX; returns how many there are. */
size_t build_network(const struct plan *plan, struct listener *listeners) {
    size_t count = 0;
    raise_loopback();
    if (!plan->guarded)
        return 0;
    if (plan->port_count > (LISTENERS_MAX - 8) / 2)
        fail(E2BIG, "ports");
    int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    must(netlink >= 0, "netlink");
    errno = add_local_route(netlink, AF_INET);
    must(errno == 0, "route");
    bool six = add_local_route(netlink, AF_INET6) == 0;
    (void)close(netlink);
    const int families[2] = {AF_INET, AF_INET6};
    for (size_t f = 0; f < (six ? 2 : 1); f++) {
        for (size_t i = 0; i < plan->port_count; i++)
            listeners[count++] = (struct listener){"transparent", bound(families[f], SOCK_STREAM, true, plan->ports[i])};
        if (plan->dns) {
            listeners[count++] = (struct listener){"dns-tcp", bound(families[f], SOCK_STREAM, true, DNS_PORT)};
            listeners[count++] = (struct listener){"dns-udp", bound(families[f], SOCK_DGRAM, true, DNS_PORT)};
        }
    }
    if (plan->proxy_port)
        listeners[count++] = (struct listener){"proxy", bound(AF_INET, SOCK_STREAM, false, plan->proxy_port)};
    return count;
}

/* Hand the listeners to the supervisor, in parts that fit one message. */
void send_listeners(const struct listener *listeners, size_t count) {
    size_t sent = 0;
    do {
        char message[LISTENERS_SENT * 16 + 16];
        int descriptors[LISTENERS_SENT];
        size_t part = count - sent < LISTENERS_SENT ? count - sent : LISTENERS_SENT;
        size_t size = (size_t)snprintf(message, sizeof message, "listeners%c%d", 0, sent + part == count);
        for (size_t i = 0; i < part; i++) {
            descriptors[i] = listeners[sent + i].descriptor;
            size += (size_t)snprintf(message + size, sizeof message - size, "%c%s", 0, listeners[sent + i].kind);
        }
        must(send_message(control_socket, message, size, descriptors, part) == 0, "");
        sent += part;
    } while (sent < count);
    for (size_t i = 0; i < count; i++)
        (void)close(listeners[i].descriptor);
}
