/* Whether a piece of a client's is a request that was judged already, as the guard's own watch would say of it. */
#include <string.h>

#include "carrier.h"

/* The judged head with another target: what stands before the open part of its target, visible ASCII, and what stands behind.
   Nothing that means anything to the judge is in the open part, and no piece with a line end or a space there is one request. */
bool alike(const struct shape *shape, const unsigned char *bytes, size_t size) {
    if (size < shape->before + shape->behind || memcmp(bytes, shape->head, shape->before) != 0 ||
        memcmp(bytes + size - shape->behind, shape->head + shape->before, shape->behind) != 0)
        return false;
    for (size_t at = shape->before; at < size - shape->behind; at++)
        if (bytes[at] < '!' || bytes[at] > '~')
            return false;
    return true;
}
