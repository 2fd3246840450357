"""A base, a guest's work on it and a host, for tests of what compare makes of the three.

The guest's work is done on a real overlay, mounted as the agent mounts it, in a mount namespace of its
own. What it leaves in the upper directory is sent as the agent would send it.
"""

import json
import os
import stat
import subprocess

import pytest
from proposal_stream import Stream

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
MAIN = os.path.join(TOP, "build/main")
TOOLS = os.path.join(MAIN, "tests/integration/work")
UNPACK = os.path.join(MAIN, "src/bin/berm-unpack")

OPS = {1: "add", 2: "edit", 3: "mode", 4: "type", 5: "rename", 6: "delete"}
STATES = {1: "proposed", 2: "both", 3: "conflict", 4: "there", 5: "stays out"}
WHYS = ["", "edited", "deleted", "renamed", "created", "hidden", "way", "git", "proposal"]

WORK = """
set -eu
mount --make-rprivate /
mount -t tmpfs -o mode=755 upper "$1/disk"
mkdir "$1/disk/upper" "$1/disk/work"
mount -t overlay -o "lowerdir=$1/tree,upperdir=$1/disk/upper,workdir=$1/disk/work,$2" work "$1/merged"
cd "$1/merged"
sh -eu -c "$3"
cd /
umount "$1/merged"
exec "$4" "$5" "$1/disk/upper" "$1/spool.tar"
"""
OPTIONS = "metacopy=off,redirect_dir=on,index=off,xino=on"


def send(upper, spool):
    """The upper directory as the agent sends it."""
    stream = Stream(root=False)
    stream.dir(".", mode=os.stat(upper).st_mode & 0o777, **{"BERM.version": 1})
    add_children(stream, upper, "", "")
    with open(spool, "wb") as out:
        out.write(stream.whole())


def mark(path, name):
    try:
        return os.getxattr(path, "trusted.overlay." + name, follow_symlinks=False).decode()
    except OSError:
        return None


def add_children(stream, folder, at, source):
    """source: where the base has what is in folder."""
    for name in sorted(os.listdir(folder), key=os.fsencode):
        full, path = os.path.join(folder, name), at + name
        st = os.lstat(full)
        if stat.S_ISCHR(st.st_mode) and st.st_rdev == 0:
            stream.whiteout(path)
        elif stat.S_ISDIR(st.st_mode):
            add_dir(stream, full, path, source)
        elif stat.S_ISLNK(st.st_mode):
            stream.link(path, os.readlink(full))
        elif stat.S_ISREG(st.st_mode):
            with open(full, "rb") as f:
                stream.file(path, f.read(), st.st_mode & 0o7777)
        else:
            stream.other(path, "fifo")


def add_dir(stream, full, path, source):
    redirect, records = mark(full, "redirect"), {}
    below = source + os.path.basename(path)
    if redirect is not None:
        below = redirect[1:] if redirect.startswith("/") else source + redirect
        records["BERM.redirect"] = below
    elif mark(full, "opaque") == "y":
        records["BERM.opaque"] = 1
    stream.dir(path, os.lstat(full).st_mode & 0o777, **records)
    add_children(stream, full, path + "/", below + "/")


class World:
    """One workspace: `tree` is the host's, packed as it is now; work() is the guest's turn."""

    def __init__(self, path):
        if os.geteuid() != 0:
            pytest.skip("an overlay as the agent mounts it needs root")
        self.path = str(path)
        self.tree = os.path.join(self.path, "tree")
        self.index = os.path.join(self.path, "index")
        self.spool = os.path.join(self.path, "spool.tar")
        for name in ("tree", "base", "disk", "merged"):
            os.mkdir(os.path.join(self.path, name))

    def host(self, script):
        subprocess.run(["sh", "-eu", "-c", script], cwd=self.tree, check=True, timeout=60)

    def pack(self):
        subprocess.run([os.path.join(TOOLS, "basetool"), "pack", self.tree, os.path.join(self.path, "base")],
                       check=True, stdout=subprocess.DEVNULL, timeout=60)
        return self

    def work(self, script):
        subprocess.run(["unshare", "-m", "sh", "-c", WORK, "work", self.path, OPTIONS, script, "/usr/bin/python3",
                        __file__], check=True, timeout=60)
        done = subprocess.run([os.path.join(TOOLS, "proposaldrive"), "unpack", UNPACK, self.spool,
                               os.path.join(self.path, "base/base.erofs"), self.index],
                              capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return self

    def compare(self, hidden=None):
        argv = [os.path.join(TOOLS, "comparedrive"), os.path.join(self.path, "base"), self.index, self.spool,
                self.tree, *([hidden] if hidden else [])]
        done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=60)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def said(self, hidden=None):
        """Each change as "op path" with what is special about it behind."""
        return [in_words(c) for c in self.compare(hidden)]


def in_words(c):
    words = [OPS[c["op"]]]
    words.append(c["path"] if c["from"] == c["path"] else f"{c['from']} -> {c['path']}")
    if STATES[c["state"]] != "proposed":
        words.append(STATES[c["state"]])
    if c["why"]:
        words.append(WHYS[c["why"]])
    if c["hint"]:
        words.append("at " + c["hint"])
    return " ".join(words)


if __name__ == "__main__":
    import sys

    send(sys.argv[1], sys.argv[2])
