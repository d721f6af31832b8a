/* Reads requests (a size of four bytes, the bytes) from stdin and prints for each whether the launcher's decoder takes it:
   1 taken, 0 refused, X anything else (a crash, a finding of a sanitizer). Each is read in a process of its own. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "launcher.h"

enum { REFUSED = 3 };

int main(void) {
    unsigned char head[4];
    while (fread(head, sizeof head, 1, stdin) == 1) {
        struct packet packet = {.size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24};
        packet.bytes = malloc(packet.size ? packet.size : 1); /* not a byte more: reading past the end is found */
        if (packet.bytes == NULL || fread(packet.bytes, 1, packet.size, stdin) != packet.size)
            return 1;
        (void)fflush(stdout);
        pid_t pid = fork();
        if (pid == 0) {
            struct request request;
            failure_status = REFUSED;
            decode(&packet, &request, true);
            decode(&packet, &request, false);
            _exit(0);
        }
        int status = -1;
        if (pid < 0 || waitpid(pid, &status, 0) != pid)
            return 1;
        (void)putchar(WIFEXITED(status) && WEXITSTATUS(status) == 0         ? '1'
                      : WIFEXITED(status) && WEXITSTATUS(status) == REFUSED ? '0'
                                                                            : 'X');
        free(packet.bytes);
    }
    return 0;
}
