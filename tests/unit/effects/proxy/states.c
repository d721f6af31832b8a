/* Asks the carrier's reader of ClientHellos about each input: four bytes size, one byte size of the host, host, bytes. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "carrier.h"

int main(void) {
    unsigned char head[5];
    while (fread(head, 1, sizeof head, stdin) == sizeof head) {
        size_t size = head[0] | (size_t)head[1] << 8 | (size_t)head[2] << 16 | (size_t)head[3] << 24;
        char *host = malloc(head[4] ? head[4] : 1);
        unsigned char *bytes = malloc(size ? size : 1); /* exactly as large: what reads behind it is found */
        if (host == NULL || bytes == NULL || fread(host, 1, head[4], stdin) != head[4] || fread(bytes, 1, size, stdin) != size)
            return 1;
        putchar(hello_states(bytes, size, host, head[4]) ? '1' : '0');
        free(host);
        free(bytes);
    }
    return 0;
}
