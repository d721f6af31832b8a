/* Asks the carrier whether a piece is a request like the judged one. Three sizes of four bytes, then what stands before and behind
   the open part, and the piece. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "carrier.h"

int main(void) {
    uint32_t sizes[3];
    while (fread(sizes, sizeof *sizes, 3, stdin) == 3) {
        size_t head = (size_t)sizes[0] + sizes[1];
        struct shape shape = {malloc(head ? head : 1), sizes[0], sizes[1]};
        unsigned char *piece = malloc(sizes[2] ? sizes[2] : 1); /* exactly as large: what reads behind it is found */
        if (shape.head == NULL || piece == NULL || fread(shape.head, 1, head, stdin) != head ||
            fread(piece, 1, sizes[2], stdin) != sizes[2])
            return 1;
        putchar(alike(&shape, piece, sizes[2]) ? '1' : '0');
        free(shape.head);
        free(piece);
    }
    return 0;
}
