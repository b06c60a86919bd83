"""A shared object, built of the C below, that makes the n-th write below a folder fail: `LD_PRELOAD` brings it in.

Writes are: opening with O_CREAT or O_TRUNC, write, pwrite, writev and their kin, fwrite, fsync, ftruncate, fallocate,
rename, link, making a folder, sendfile, copy_file_range. `fault_arm(prefix, fault, n, log)` begins the counting; faults
are `enospc` and `eio` (one call fails), `full` (this one and all that follow fail with ENOSPC, as a full disk does) and
`short` (one call writes half of what it was given). The log has a line a counted call: `!` where it was made to fail,
what was called, on what.
"""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path

FAULTS = ("enospc", "eio", "full", "short")
SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char prefix[PATH_MAX];
static size_t prefix_len;
static int code, is_lasting, is_short, log_fd = -1;
static atomic_long counted, wanted;
static volatile int armed;

void fault_arm(const char *below, const char *fault, long n, const char *log) {
    strncpy(prefix, below, sizeof prefix - 1);
    prefix_len = strlen(prefix);
    code = strcmp(fault, "eio") ? ENOSPC : EIO;
    is_lasting = !strcmp(fault, "full");
    is_short = !strcmp(fault, "short");
    wanted = n;
    counted = 0;
    log_fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    armed = 1;
}

static int below(const char *path) {
    return !strncmp(path, prefix, prefix_len) && (path[prefix_len] == '/' || !path[prefix_len]);
}

static int path_of(int fd, char *out) {
    char name[64];
    snprintf(name, sizeof name, "/proc/self/fd/%d", fd);
    ssize_t n = syscall(SYS_readlinkat, AT_FDCWD, name, out, PATH_MAX - 1);
    if (n < 0) return 0;
    out[n] = 0;
    return 1;
}

/* Whether this call is to fail (or, for `short`, to do half); `path` is absolute. */
static int is_hit(const char *what, const char *path, int can_be_short) {
    if (!below(path) || (is_short && !can_be_short)) return 0;
    long n = atomic_fetch_add(&counted, 1) + 1;
    int hit = wanted && (n == wanted || (is_lasting && n > wanted));
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%c %s %s\n", hit ? '!' : ' ', what, path + prefix_len);
    if (log_fd >= 0 && length > 0) syscall(SYS_write, log_fd, line, (size_t)length);
    return hit;
}

static int hit_fd(const char *what, int fd, int can_be_short) {
    char path[PATH_MAX];
    int kept = errno, hit = armed && fd != log_fd && path_of(fd, path) && path[0] == '/' && is_hit(what, path, can_be_short);
    errno = kept;
    return hit;
}

static int hit_path(const char *what, int dir, const char *name) {
    char path[2 * PATH_MAX];
    if (!armed || !name) return 0;
    if (name[0] == '/') snprintf(path, sizeof path, "%s", name);
    else {
        if (dir == AT_FDCWD) { if (!getcwd(path, PATH_MAX)) return 0; }
        else if (!path_of(dir, path)) return 0;
        size_t n = strlen(path);
        snprintf(path + n, sizeof path - n, "/%s", name);
    }
    return is_hit(what, path, 0);
}

#define REAL(name) static __typeof__(&name) real; if (!real) real = (__typeof__(&name))dlsym(RTLD_NEXT, #name)
#define FAIL(value) do { errno = code; return (value); } while (0)

#define OPENING(name)                                                                            \
int name(const char *path, int flags, ...) {                                                     \
    REAL(name);                                                                                  \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more);          \
    if ((flags & (O_CREAT | O_TRUNC)) && hit_path("open", AT_FDCWD, path)) FAIL(-1);             \
    return real(path, flags, mode);                                                              \
}
OPENING(open)
OPENING(open64)
#define OPENING_AT(name)                                                                         \
int name(int dir, const char *path, int flags, ...) {                                            \
    REAL(name);                                                                                  \
    va_list more; va_start(more, flags); mode_t mode = va_arg(more, int); va_end(more);          \
    if ((flags & (O_CREAT | O_TRUNC)) && hit_path("open", dir, path)) FAIL(-1);                  \
    return real(dir, path, flags, mode);                                                         \
}
OPENING_AT(openat)
OPENING_AT(openat64)
#define OPENING_STREAM(name)                                                                     \
FILE *name(const char *path, const char *mode) {                                                 \
    REAL(name);                                                                                  \
    if (strpbrk(mode, "wa+") && hit_path("open", AT_FDCWD, path)) FAIL(NULL);                    \
    return real(path, mode);                                                                     \
}
OPENING_STREAM(fopen)
OPENING_STREAM(fopen64)

ssize_t write(int fd, const void *data, size_t n) {
    REAL(write);
    if (hit_fd("write", fd, 1)) { if (is_short && n > 1) return real(fd, data, n / 2); if (!is_short) FAIL(-1); }
    return real(fd, data, n);
}
#define WRITING_AT(name, offset)                                                                 \
ssize_t name(int fd, const void *data, size_t n, offset at) {                                    \
    REAL(name);                                                                                  \
    if (hit_fd("pwrite", fd, 1)) { if (is_short && n > 1) return real(fd, data, n / 2, at); if (!is_short) FAIL(-1); } \
    return real(fd, data, n, at);                                                                \
}
WRITING_AT(pwrite, off_t)
WRITING_AT(pwrite64, off64_t)
ssize_t writev(int fd, const struct iovec *parts, int n) {
    REAL(writev);
    if (hit_fd("writev", fd, 1)) { if (is_short && n > 1) return real(fd, parts, n / 2); if (!is_short) FAIL(-1); }
    return real(fd, parts, n);
}
ssize_t pwritev(int fd, const struct iovec *parts, int n, off_t at) {
    REAL(pwritev);
    if (hit_fd("pwritev", fd, 1)) { if (is_short && n > 1) return real(fd, parts, n / 2, at); if (!is_short) FAIL(-1); }
    return real(fd, parts, n, at);
}
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
    REAL(fwrite);
    if (hit_fd("fwrite", fileno(file), 0)) FAIL(0);
    return real(data, size, n, file);
}
int fsync(int fd) { REAL(fsync); if (hit_fd("fsync", fd, 0)) FAIL(-1); return real(fd); }
int fdatasync(int fd) { REAL(fdatasync); if (hit_fd("fsync", fd, 0)) FAIL(-1); return real(fd); }
int ftruncate(int fd, off_t n) { REAL(ftruncate); if (hit_fd("ftruncate", fd, 0)) FAIL(-1); return real(fd, n); }
int ftruncate64(int fd, off64_t n) { REAL(ftruncate64); if (hit_fd("ftruncate", fd, 0)) FAIL(-1); return real(fd, n); }
int fallocate(int fd, int how, off_t at, off_t n) {
    REAL(fallocate); if (hit_fd("fallocate", fd, 0)) FAIL(-1); return real(fd, how, at, n);
}
int fallocate64(int fd, int how, off64_t at, off64_t n) {
    REAL(fallocate64); if (hit_fd("fallocate", fd, 0)) FAIL(-1); return real(fd, how, at, n);
}
int posix_fallocate(int fd, off_t at, off_t n) {
    REAL(posix_fallocate); if (hit_fd("fallocate", fd, 0)) return code; return real(fd, at, n);
}
int posix_fallocate64(int fd, off64_t at, off64_t n) {
    REAL(posix_fallocate64); if (hit_fd("fallocate", fd, 0)) return code; return real(fd, at, n);
}
int rename(const char *from, const char *to) {
    REAL(rename); if (hit_path("rename", AT_FDCWD, to)) FAIL(-1); return real(from, to);
}
int renameat(int a, const char *from, int b, const char *to) {
    REAL(renameat); if (hit_path("rename", b, to)) FAIL(-1); return real(a, from, b, to);
}
int renameat2(int a, const char *from, int b, const char *to, unsigned how) {
    REAL(renameat2); if (hit_path("rename", b, to)) FAIL(-1); return real(a, from, b, to, how);
}
int link(const char *from, const char *to) {
    REAL(link); if (hit_path("link", AT_FDCWD, to)) FAIL(-1); return real(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int how) {
    REAL(linkat); if (hit_path("link", b, to)) FAIL(-1); return real(a, from, b, to, how);
}
int mkdir(const char *path, mode_t mode) {
    REAL(mkdir);
    struct stat found;
    /* Of one that is there the kernel says so, whatever else. */
    if (stat(path, &found) && hit_path("mkdir", AT_FDCWD, path)) FAIL(-1);
    return real(path, mode);
}
ssize_t sendfile(int to, int from, off_t *at, size_t n) {
    extern ssize_t sendfile(int, int, off_t *, size_t);
    REAL(sendfile); if (hit_fd("sendfile", to, 0)) FAIL(-1); return real(to, from, at, n);
}
ssize_t sendfile64(int to, int from, off64_t *at, size_t n) {
    extern ssize_t sendfile64(int, int, off64_t *, size_t);
    REAL(sendfile64); if (hit_fd("sendfile", to, 0)) FAIL(-1); return real(to, from, at, n);
}
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t n, unsigned how) {
    REAL(copy_file_range); if (hit_fd("copy_file_range", to, 0)) FAIL(-1); return real(from, a, to, b, n, how);
}
"""


def compiler() -> str | None:
    """A C compiler of this machine, if there is one that makes what a process here can load."""
    return (
        (shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")) if os.name == "posix" else None
    )


def build(folder: Path) -> Path:
    """The shared object, in a folder."""
    source, made = folder / "fault_shim.c", folder / "fault_shim.so"
    source.write_text(SOURCE)
    cc = compiler()
    assert cc is not None
    command = [cc, "-O1", "-w", "-shared", "-fPIC", "-o", str(made), str(source), "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return made


def arm(prefix: Path, fault: str, n: int, log: Path) -> None:
    """Begin in this process, into which the shared object was loaded at its start."""
    ctypes.CDLL(None).fault_arm(os.fsencode(prefix), fault.encode(), ctypes.c_long(n), os.fsencode(log))
