/* Whether the first bytes of a connection are one whole ClientHello that states the judged host, or none, and hides nothing.

   Says no to whatever is not plainly so: a hello in several records or pieces, bytes behind it, anything malformed, another
   spelling of the name. The guard looks at those itself (../hello.py, which must say yes wherever this does).
   RFC 8446 4.1.2, RFC 6066 3, RFC 7301, RFC 9849. */
#include <string.h>

#include "carrier.h"

enum { HANDSHAKE = 22, CLIENT_HELLO = 1, RECORD_BYTES_MAX = 16384 + 256, EXTENSIONS_MAX = 64 };
enum { SERVER_NAME = 0, ALPN = 16, ECH = 0xFE0D, ESNI = 0xFFCE };

struct view { const unsigned char *at; size_t left; };

static bool number(struct view *view, size_t bytes, uint32_t *value) {
    if (view->left < bytes)
        return false;
    for (*value = 0; bytes > 0; bytes--, view->at++, view->left--)
        *value = *value << 8 | *view->at;
    return true;
}

static bool part(struct view *view, size_t size, struct view *taken) {
    if (view->left < size)
        return false;
    *taken = (struct view){view->at, size};
    view->at += size;
    view->left -= size;
    return true;
}

static bool vector(struct view *view, size_t bytes, struct view *taken) {
    uint32_t size;
    return number(view, bytes, &size) && part(view, size, taken);
}

static bool name_is(struct view content, const char *host, size_t host_size) {
    struct view names, name;
    uint32_t kind;
    return vector(&content, 2, &names) && content.left == 0 && number(&names, 1, &kind) && kind == 0 &&
           vector(&names, 2, &name) && names.left == 0 && name.left == host_size && memcmp(name.at, host, host_size) == 0;
}

static bool protocols_stand(struct view content) {
    struct view protocols, protocol;
    if (!vector(&content, 2, &protocols))
        return false;
    while (protocols.left > 0)
        if (!vector(&protocols, 1, &protocol))
            return false;
    return true;
}

static bool extensions_agree(struct view extensions, const char *host, size_t host_size) {
    uint32_t seen[EXTENSIONS_MAX], kind;
    for (size_t count = 0; extensions.left > 0; count++) {
        struct view content;
        if (count == EXTENSIONS_MAX || !number(&extensions, 2, &kind) || !vector(&extensions, 2, &content))
            return false;
        for (size_t i = 0; i < count; i++)
            if (seen[i] == kind)
                return false;
        seen[count] = kind;
        if (kind == ECH || kind == ESNI)
            return false;
        if (kind == SERVER_NAME && !name_is(content, host, host_size))
            return false;
        if (kind == ALPN && !protocols_stand(content))
            return false;
    }
    return true;
}

bool hello_states(const unsigned char *bytes, size_t size, const char *host, size_t host_size) {
    struct view all = {bytes, size}, record, hello, skipped, extensions;
    uint32_t kind, major, minor;
    if (!number(&all, 1, &kind) || kind != HANDSHAKE || !number(&all, 1, &major) || major != 3 || !number(&all, 1, &minor))
        return false;
    if (!vector(&all, 2, &record) || all.left != 0 || record.left > RECORD_BYTES_MAX)
        return false;
    if (!number(&record, 1, &kind) || kind != CLIENT_HELLO || !vector(&record, 3, &hello) || record.left != 0)
        return false;
    if (!part(&hello, 2 + 32, &skipped)) /* version, random */
        return false;
    if (!vector(&hello, 1, &skipped) || !vector(&hello, 2, &skipped) || !vector(&hello, 1, &skipped))
        return false; /* session, cipher suites, compression */
    if (hello.left == 0)
        return true;
    return vector(&hello, 2, &extensions) && hello.left == 0 && extensions_agree(extensions, host, host_size);
}
