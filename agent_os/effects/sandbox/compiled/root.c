/* The private root: a tmpfs, the plan's mounts on it in order, then pivot. Runs in process 1, in its own mount name space.

   Every place is opened without following links, below the root's own descriptor. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "launcher.h"

enum { FILE_SYSTEMS_MAX = 64, STAGED_MAX = 64 };
enum { READ_ONLY = 1, NO_SET_ID = 2, NO_DEVICES = 4, NO_EXEC = 8 }; /* MOUNT_ATTR_ */
#define ROOT_OPTIONS "mode=755,size=4194304,nr_inodes=20000"

static int root;                               /* the private root while it is built */
static dev_t ours[FILE_SYSTEMS_MAX];           /* file systems of our own, in which places may be created */
static size_t our_count;
static struct { bool folder; struct text data; mode_t mode; char name[16]; } staged[STAGED_MAX];
static size_t staged_count;

static dev_t device_of(int place) {
    struct stat info;
    must(fstat(place, &info) == 0, "fstat");
    return info.st_dev;
}

static bool is_ours(int place) {
    dev_t device = device_of(place);
    for (size_t i = 0; i < our_count; i++)
        if (ours[i] == device)
            return true;
    return false;
}

static void add_ours(int place) {
    if (our_count == FILE_SYSTEMS_MAX)
        fail(E2BIG, "file systems");
    ours[our_count++] = device_of(place);
}

static void mount_at(int place, const char *type, unsigned long flags, const char *data) {
    char path[64];
    (void)snprintf(path, sizeof path, "/proc/self/fd/%d", place);
    must(mount(type, path, type, flags, data) == 0, "mount");
}

/* Return a descriptor of `target`; missing parts are created where the file system is ours, the last as file or folder. */
static int place_of(const char *target, bool file) {
    while (*target == '/')
        target++;
    if (*target == '\0')
        return fcntl(root, F_DUPFD_CLOEXEC, 0);
    int there = open_at(root, target, O_PATH | O_NOFOLLOW, IN_ROOT);
    if (there >= 0)
        return there;
    must(errno == ENOENT, "");
    int at = fcntl(root, F_DUPFD_CLOEXEC, 0);
    must(at >= 0, "");
    while (*target) {
        char part[NAME_MAX + 1];
        size_t size = strcspn(target, "/");
        if (size > NAME_MAX)
            fail(ENAMETOOLONG, "");
        memcpy(part, target, size);
        part[size] = '\0';
        target += size + strspn(target + size, "/");
        there = open_at(at, part, O_PATH | O_NOFOLLOW, IN_ROOT);
        if (there < 0) {
            must(errno == ENOENT && is_ours(at), "");
            if (*target == '\0' && file) {
                int made = openat(at, part, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC | O_NOFOLLOW, 0444);
                must(made >= 0 && close(made) == 0, "");
            } else {
                must(mkdirat(at, part, 0755) == 0, "");
            }
            there = open_at(at, part, O_PATH | O_NOFOLLOW, IN_ROOT);
            must(there >= 0, "");
        }
        (void)close(at);
        at = there;
    }
    return at;
}

/* Return a descriptor of the folder that holds `target`; `name` points at the last part. */
static int parent_of(const char *target, const char **name) {
    char folder[PATH_MAX];
    const char *slash = strrchr(target, '/');
    if (slash == NULL || slash[1] == '\0' || (size_t)(slash - target) >= sizeof folder)
        fail(EINVAL, "");
    memcpy(folder, target, (size_t)(slash - target));
    folder[slash - target] = '\0';
    *name = slash + 1;
    int place = place_of(folder, false);
    must(place >= 0, "");
    return place;
}

/* Create an empty folder or a file with content; false if the name exists. */
static bool make(int parent, const char *name, bool folder, struct text data, mode_t mode) {
    if (folder) {
        if (mkdirat(parent, name, 0700) != 0) {
            must(errno == EEXIST, "mkdir");
            return false;
        }
        must(fchmodat(parent, name, mode, 0) == 0, "chmod");
        return true;
    }
    int file = openat(parent, name, O_CREAT | O_WRONLY | O_CLOEXEC | O_NOFOLLOW | O_EXCL, 0600);
    if (file < 0) {
        must(errno == EEXIST, "create");
        return false;
    }
    must(write(file, data.bytes, data.size) == (ssize_t)data.size && fchmod(file, mode) == 0, "write");
    (void)close(file);
    return true;
}

/* One stand-in serves every place that looks like it. */
static const char *stand_in(bool folder, struct text data, mode_t mode) {
    for (size_t i = 0; i < staged_count; i++)
        if (staged[i].folder == folder && staged[i].mode == mode && staged[i].data.size == data.size &&
            memcmp(staged[i].data.bytes, data.bytes, data.size) == 0)
            return staged[i].name;
    if (staged_count == STAGED_MAX)
        fail(E2BIG, "stand-ins");
    size_t i = staged_count++;
    staged[i].folder = folder;
    staged[i].data = data;
    staged[i].mode = mode;
    (void)snprintf(staged[i].name, sizeof staged[i].name, ".staged-%u", (unsigned)(i % STAGED_MAX));
    if (!make(root, staged[i].name, folder, data, mode))
        fail(EEXIST, "stand-in");
    return staged[i].name;
}

/* A small file or empty folder of our own: made in place, or mounted over what is there already. */
static void private_file(const struct step *step) {
    const char *name;
    bool folder = step->kind == EMPTY;
    int parent = parent_of(step->target, &name);
    if (is_ours(parent) && make(parent, name, folder, step->data, (mode_t)step->mode)) {
        (void)close(parent);
        return;
    }
    int source = open_at(root, stand_in(folder, step->data, (mode_t)step->mode), O_PATH, IN_ROOT);
    int place = open_at(parent, name, O_PATH | O_NOFOLLOW, IN_ROOT);
    must(source >= 0 && place >= 0, "");
    int tree = copy_tree(source, false);
    set_attributes(tree, READ_ONLY | NO_SET_ID | NO_DEVICES | NO_EXEC, false, -1);
    move_to(tree, place);
    (void)close(source);
    (void)close(place);
    (void)close(tree);
    (void)close(parent);
}

/* The workspace with its changes kept apart. The layers are attached for a moment: the overlay keeps its own copies. */
static void overlay(const char *base, const struct step *step) {
    const char *names[2] = {".lower", ".upper"};
    const int trees[2] = {step->tree, step->upper_tree};
    char text[512];
    for (int i = 0; i < 2; i++) {
        must(mkdirat(root, names[i], 0700) == 0, "mkdir");
        int place = open_at(root, names[i], O_PATH, IN_ROOT);
        must(place >= 0, "");
        move_to(trees[i], place);
        (void)close(place);
        (void)close(trees[i]);
    }
    int place = place_of(step->target, false);
    must(place >= 0, "");
    (void)snprintf(text, sizeof text, "lowerdir=%s/.lower,upperdir=%s/.upper/upper,workdir=%s/.upper/work,userxattr", base, base,
                   base);
    mount_at(place, "overlay", MS_NOSUID | MS_NODEV, text);
    (void)close(place);
    for (int i = 0; i < 2; i++) {
        (void)snprintf(text, sizeof text, "%s/%s", base, names[i]);
        must(umount2(text, MNT_DETACH) == 0 && unlinkat(root, names[i], AT_REMOVEDIR) == 0, "umount");
    }
}

static void bind_tree(const struct step *step) {
    struct stat info;
    must(fstat(step->tree, &info) == 0, "fstat");
    int place = place_of(step->target, !S_ISDIR(info.st_mode));
    must(place >= 0, "");
    move_to(step->tree, place);
    (void)close(step->tree);
    (void)close(place);
}

static void file_system(const struct step *step) {
    int place = place_of(step->target, false);
    must(place >= 0, "");
    mount_at(place, step->source, step->attributes, step->data.bytes);
    (void)close(place);
    if (step->options & WRITABLE) {
        int again = place_of(step->target, false);
        must(again >= 0, "");
        add_ours(again);
        (void)close(again);
    }
}

static void pin(const struct step *step) {
    int place = place_of(step->target, false);
    must(place >= 0, "");
    int tree = copy_tree(place, false);
    set_attributes(tree, 0, false, -1);
    move_to(tree, place);
    (void)close(tree);
    (void)close(place);
}

static void link_at(const struct step *step) {
    const char *name;
    int parent = parent_of(step->target, &name);
    must(symlinkat(step->source, parent, name) == 0 || errno == EEXIST, "symlink");
    (void)close(parent);
}

static void build_step(const char *base, const struct step *step) {
    switch (step->kind) {
    case BIND: bind_tree(step); return;
    case FILESYSTEM: file_system(step); return;
    case FOLDER: (void)close(place_of(step->target, false)); return;
    case LINK: link_at(step); return;
    case PLAIN_FILE:
    case EMPTY: private_file(step); return;
    case PIN: pin(step); return;
    case OVERLAY: overlay(base, step); return;
    default: fail(EINVAL, "an unknown kind of mount");
    }
}

static const char *base_folder(void) {
    static const char *const candidates[] = {"/tmp", "/run", "/mnt", "/var"};
    struct stat info;
    for (size_t i = 0; i < sizeof candidates / sizeof *candidates; i++)
        if (stat(candidates[i], &info) == 0 && S_ISDIR(info.st_mode))
            return candidates[i];
    fail(ENOENT, "no folder to mount the root on");
}

/* Carry out the mount steps in order, then make the root read-only and pivot into it. */
void build_root(struct plan *plan) {
    must(mount("none", "/", "", MS_REC | MS_PRIVATE, "") == 0, "mount");
    for (size_t i = 0; i < plan->step_count; i++) {
        struct step *step = &plan->steps[i];
        if ((step->kind != BIND && step->kind != OVERLAY) || step->tree >= 0)
            continue;
        stage_of("private-root", step->source);
        step->tree = clone_step(step, step->source, false);
        if (step->kind == OVERLAY)
            step->upper_tree = clone_step(step, step->upper, false);
    }
    stage("private-root");
    const char *base = base_folder();
    must(mount("sandbox", base, "tmpfs", MS_NOSUID | MS_NODEV, ROOT_OPTIONS) == 0, "mount");
    root = open(base, O_PATH | O_DIRECTORY | O_CLOEXEC);
    must(root >= 0, base);
    add_ours(root);
    for (size_t i = 0; i < plan->step_count; i++) {
        stage_of("private-root", plan->steps[i].target);
        build_step(base, &plan->steps[i]);
    }
    stage("private-root");
    for (size_t i = 0; i < staged_count; i++)
        must(unlinkat(root, staged[i].name, staged[i].folder ? AT_REMOVEDIR : 0) == 0, "stand-in");
    set_attributes(root, READ_ONLY | NO_SET_ID | NO_DEVICES, false, -1);
    must(fchdir(root) == 0, "fchdir");
    stage("pivot");
    must(syscall(SYS_pivot_root, ".", ".") == 0, "pivot_root");
    must(umount2(".", MNT_DETACH) == 0, "umount");
    must(chdir("/") == 0, "chdir");
    (void)close(root);
}
