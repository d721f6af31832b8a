/* What is done when the supervisor has died: the stand-ins of protected names are taken out of the workspace again.

   holds.py writes the lists (a line each: inode, path) and takes them away itself in every orderly end. Here only what is
   still exactly what was put there is removed, and nothing while another run holds the list. Errors leave it where it is. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "launcher.h"

enum { LIST_BYTES_MAX = 65536, STAND_IN_BYTES_MAX = 2 };

/* Remove an empty folder or file of ours; what has become the person's own stays. */
static void remove_one(int workspace, unsigned long long inode, char *path) {
    struct stat info;
    char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    if (slash)
        *slash = '\0';
    int parent = open_at(workspace, slash ? path : ".", O_RDONLY | O_DIRECTORY, IN_ROOT);
    if (parent < 0)
        return;
    if (fstatat(parent, name, &info, AT_SYMLINK_NOFOLLOW) == 0 && info.st_ino == inode) {
        if (S_ISDIR(info.st_mode))
            (void)unlinkat(parent, name, AT_REMOVEDIR);
        else if (S_ISREG(info.st_mode) && info.st_size <= STAND_IN_BYTES_MAX)
            (void)unlinkat(parent, name, 0);
    }
    (void)close(parent);
}

void take_away(int listed, int workspace) {
    static char text[LIST_BYTES_MAX + 1];
    if (flock(listed, LOCK_EX | LOCK_NB) != 0)
        return; /* another run needs them and will do it */
    ssize_t size = pread(listed, text, LIST_BYTES_MAX, 0);
    if (size <= 0)
        return;
    text[size] = '\0';
    for (ssize_t at = size; at > 0;) { /* from the last line to the first: what lies deeper was put there later */
        if (text[at - 1] == '\n')
            text[--at] = '\0';
        while (at > 0 && text[at - 1] != '\n')
            at--;
        char *rest;
        errno = 0;
        unsigned long long inode = strtoull(text + at, &rest, 10);
        if (errno == 0 && rest != text + at && *rest == ' ' && rest[1] != '\0')
            remove_one(workspace, inode, rest + 1);
    }
    if (ftruncate(listed, 0) != 0)
        return; /* the next run reads the list again and finds nothing */
}
