"""What is done in a workspace to measure it, in a guest and on the host: the same program on both sides.

    python3 -c THIS HERE

HERE is the workspace's path, which is the same on both sides. Each line on stdin is an action, the place
it is done in, and a number no other line has; each is answered by one line of JSON. A place other than
HERE is a copy of it, and is mounted on HERE for that one action: so no path differs, and a build finds
nothing that it made somewhere else.
"""

import ctypes
import json
import os
import select
import shutil
import struct
import subprocess
import sys
import time

HERE = sys.argv[1]
CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 4096, 16384, 1 << 18
IN_MODIFY, EVENT = 2, struct.Struct("iIII")
WRITES, APART_S, LATE_S = 50, 0.02, 10
SCANS_DIR = "search"
NEEDLE = "a word that nothing has"
LIBC = ctypes.CDLL(None, use_errno=True)
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C",
       "GOCACHE": os.path.join(HERE, "go", "made"), "GOFLAGS": "-buildvcs=false", "GOPATH": "/root/go",
       "CGO_ENABLED": "0", "GO111MODULE": "on", "GOPROXY": "off", "npm_config_update_notifier": "false"}


def call(function, *args):
    if function(*args) < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{function.__name__}: {os.strerror(code)}")


def enter(place):
    if place != HERE:
        call(LIBC.unshare, CLONE_NEWNS)
        call(LIBC.mount, b"none", b"/", None, MS_REC | MS_PRIVATE, None)
        call(LIBC.mount, os.fsencode(place), os.fsencode(HERE), None, MS_BIND, None)
    os.chdir(HERE)


def timed(*argv, cwd=".", wrong=(0,)):
    """Milliseconds, and what it said."""
    began = time.monotonic()
    got = subprocess.run(argv, cwd=cwd, env=ENV, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         stderr=subprocess.STDOUT, check=False)
    took = (time.monotonic() - began) * 1000
    if got.returncode not in wrong:
        raise OSError(f"{argv}: {got.returncode}: {got.stdout[-400:]!r}")
    return took, got.stdout.decode("utf-8", "replace")


def copy(_):
    """Everything, to the disk that the image has, with its times."""
    shutil.rmtree("/root/copy", ignore_errors=True)
    ms, _ = timed("cp", "-a", HERE, "/root/copy")
    os.sync()
    return {"ms": ms}


def lock(_):
    ms, _ = timed("npm", "install", "--package-lock-only", "--offline", "--no-audit", "--no-fund", cwd="npm")
    return {"ms": ms}


def search(_):
    ms, _ = timed("grep", "-rF", NEEDLE, SCANS_DIR, wrong=(1,))
    return {"ms": ms}


def npm(_):
    ms, _ = timed("npm", "ci", "--offline", "--no-audit", "--no-fund", "--ignore-scripts", cwd="npm")
    return {"ms": ms, "packages": len(os.listdir("npm/node_modules"))}


def edit(path, number):
    with open(path, encoding="utf-8") as f:
        lines = [line for line in f if "NUMBER" not in line]
    with open(path, "w", encoding="utf-8") as f:
        f.writelines(lines)
        word = "const NUMBER = " if path.endswith(".go") else "pub const NUMBER: u64 = "
        f.write(f"{word}{number}{'' if path.endswith('.go') else ';'}\n")


def go(number):
    """How long it takes, and how many packages are compiled; 0 changes nothing first."""
    if number:
        edit("go/p0/p.go", number)
    ms, said = timed("go", "build", "-v", "-o", "made/app", "./app", cwd="go")
    return {"ms": ms, "compiled": len(said.split())}


def cargo(number):
    if number:
        edit("cargo/p0/src/lib.rs", number)
    ms, said = timed("cargo", "build", "--offline", cwd="cargo")
    return {"ms": ms, "compiled": said.count("Compiling ")}


# -- a watcher ------------------------------------------------------------------------------------


def write_all(paths, told):
    """Says when it began with each: before the file is opened, as that is where it is copied up."""
    for path in paths:
        time.sleep(APART_S)
        began = time.monotonic_ns()
        with open(path, "ab", buffering=0) as f:
            f.write(b"more\n")
        os.write(told, struct.pack("q", began))
    os._exit(0)


def events_of(fd):
    data, at = os.read(fd, 1 << 16), 0
    while at < len(data):
        wd, mask, _, size = EVENT.unpack_from(data, at)
        at += EVENT.size + size
        if mask & IN_MODIFY:
            yield wd


def delays(fd, wds, paths):
    """Of each write, milliseconds to its event; one that does not come is LATE_S."""
    said, told = os.pipe()
    if os.fork() == 0:
        write_all(paths, told)
    os.close(told)
    began, seen, sources = [], {}, [fd, said]
    while len(seen) < len(paths) or said in sources:
        ready, _, _ = select.select(sources, [], [], LATE_S)
        if not ready:
            break
        if fd in ready:
            now = time.monotonic_ns()
            for wd in events_of(fd):
                seen.setdefault(wd, now)
        if said in ready:
            data = os.read(said, 8)
            if data:
                began.append(struct.unpack("q", data)[0])
            else:
                sources.remove(said)
    os.close(said)
    os.wait()
    return [(seen[wd] - at) / 1e6 if wd in seen else LATE_S * 1000 for wd, at in zip(wds, began)]


def watch(_):
    fd = LIBC.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK)
    began, count, names = time.monotonic(), 0, {}
    for folder, _, files in os.walk("."):
        wd = LIBC.inotify_add_watch(fd, os.fsencode(folder), IN_MODIFY)
        if wd < 0:
            return {"watches": count, "why": os.strerror(ctypes.get_errno())}
        count += 1
        if files:
            names[wd] = os.path.join(folder, files[0])
    took = (time.monotonic() - began) * 1000
    wds = list(names)[:: len(names) // WRITES][:WRITES]
    paths = [names[wd] for wd in wds]
    return {"watches": count, "ms": took, "first": delays(fd, wds, paths), "later": delays(fd, wds, paths)}


def read_all(_):
    """Every byte of it; how many."""
    size, began = 0, time.monotonic()
    for folder, _, files in os.walk("."):
        for name in files:
            with open(os.path.join(folder, name), "rb", buffering=0) as f:
                while more := f.read(1 << 20):
                    size += len(more)
    return {"ms": (time.monotonic() - began) * 1000, "bytes": size}


ACTIONS = {a.__name__: a for a in (copy, lock, search, npm, go, cargo, watch, read_all)}


def one(action, place, number):
    """In a process of its own, as a place is entered for good."""
    sys.stdout.flush()
    pid = os.fork()
    if pid == 0:
        try:
            enter(place)
            answer = ACTIONS[action](int(number))
        except OSError as e:
            answer = {"error": str(e)}
        print(json.dumps(answer), flush=True)
        os._exit(0)
    os.waitpid(pid, 0)


def main():
    print(json.dumps({"ready": True}), flush=True)
    for line in sys.stdin:
        one(*line.split())


main()
