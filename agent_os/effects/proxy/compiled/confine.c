/* What the carrier may ask of the kernel: sockets, waiting, memory. No file is opened, no program started, no process touched.

   A filter of system calls (seccomp(2)): a call that is not listed ends the process. What the C library asks on its own counts
   too: its first malloc asks for random bytes. Sockets are TCP ones and nothing else: a unix socket would lead to whatever on
   this machine trusts this user. No memory becomes a program. */
#define _GNU_SOURCE
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>

#include "carrier.h"

#if defined(__x86_64__)
#define OUR_MACHINE AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define OUR_MACHINE AUDIT_ARCH_AARCH64
#else
#error "the filter knows x86-64 and aarch64"
#endif

#define ALLOW(number) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (number), 0, 1), BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)

/* The low half of an argument, which is all of it that the kernel reads of an int. */
#define ARGUMENT(index) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[index]))
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the low half comes first");

bool confine(void) {
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, OUR_MACHINE, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        ALLOW(__NR_recvfrom), ALLOW(__NR_sendto), ALLOW(__NR_splice), ALLOW(__NR_epoll_ctl), ALLOW(__NR_epoll_pwait),
#ifdef __NR_epoll_wait
        ALLOW(__NR_epoll_wait),
#endif
        ALLOW(__NR_recvmsg), ALLOW(__NR_sendmsg), ALLOW(__NR_accept4), ALLOW(__NR_connect), ALLOW(__NR_close),
        ALLOW(__NR_shutdown), ALLOW(__NR_setsockopt), ALLOW(__NR_getsockopt), ALLOW(__NR_getpeername),
        ALLOW(__NR_getsockname), ALLOW(__NR_pipe2), ALLOW(__NR_fcntl), ALLOW(__NR_clock_gettime), ALLOW(__NR_munmap),
        ALLOW(__NR_mremap), ALLOW(__NR_brk), ALLOW(__NR_madvise), ALLOW(__NR_futex),
        ALLOW(__NR_getrandom), ALLOW(__NR_restart_syscall), ALLOW(__NR_rt_sigreturn), ALLOW(__NR_exit_group),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_mmap, 0, 4),
        ARGUMENT(2),
        BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, PROT_EXEC, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_socket, 0, 9),
        ARGUMENT(0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET, 1, 0),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, AF_INET6, 0, 6),
        ARGUMENT(1),
        BPF_STMT(BPF_ALU | BPF_AND | BPF_K, ~(unsigned)(SOCK_NONBLOCK | SOCK_CLOEXEC)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SOCK_STREAM, 0, 3),
        ARGUMENT(2),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
    };
    struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    struct rlimit none = {0, 0};
    (void)prctl(PR_SET_NAME, "agentos-carrier", 0, 0, 0);
    return setrlimit(RLIMIT_CORE, &none) == 0 && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) == 0 &&
           prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}
