"""T19: root in the guest writes the upper layer itself, on the disk below the overlay, and then lets the work
be fetched, or dies. What it forged is refused by name or neutralised with a reason; all else comes back, and
nothing of the host is shown or written."""

import json
import os
import signal
import subprocess

import bermtest
import pytest
import sandboxes
from test_code import Code

SMALL = ["--memory", "256MiB", "--disk", "256MiB"]

# Root of the guest mounts the disk once more: the same file system, without the overlay over it.
BEGIN = r"""
import ctypes, fcntl, os, stat, struct, subprocess, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def mount(source, target, kind, flags=0):
    if libc.mount(source, target, kind, flags, b"") != 0:
        sys.exit("mount %r: %s" % (target, os.strerror(ctypes.get_errno())))
os.mkdir("/run/disk")
mount(b"/dev/vdb", b"/run/disk", b"ext4")
up = "/run/disk/workspace/upper/"
def make(path, content):
    with open(path, "w") as f:
        f.write(content)
def mark(path, name, value):
    os.setxattr(up + path, "trusted.overlay." + name, value)
with open("a.txt", "a") as f:  # honest work, through the overlay
    f.write("more\n")
make("good", "good\n")
os.sync()
"""

FORGE = BEGIN + r"""
# whiteouts: of what is there, and of what never was
os.mknod(up + "gone.txt", stat.S_IFCHR | 0o600, os.makedev(0, 0))
os.mknod(up + "never", stat.S_IFCHR | 0o600, os.makedev(0, 0))
# marks on the root
mark("", "opaque", b"y")
# renamed from everywhere
redirects = [b"/../../../etc", b"/old/../../etc", b"/old/", b"//", b"/", b".", b"..", b"a/b", b"/none", b"/a.txt",
             b"/" + b"x" * 300, b"old\0x", b"/" + b"d/" * 300 + b"d", b"/old\n", b"\xff\xfe"]
for i, value in enumerate(redirects):
    os.mkdir(up + "r%02d" % i)
    mark("r%02d" % i, "redirect", value)
    make(up + "r%02d/inside" % i, "kept\n")
for name in ("one", "two"):
    os.mkdir(up + name)
    mark(name, "redirect", b"/old")
# files without content, whiteouts by attribute, handles of nothing
make(up + "meta", "")
mark("meta", "metacopy", b"")
mark("meta", "redirect", b"/a.txt")
os.mkdir(up + "xdir")
mark("xdir", "opaque", b"x")
make(up + "xdir/w", "")
mark("xdir/w", "whiteout", b"")
for name in ("origin", "impure", "nlink", "upper", "uuid", "protattr"):
    mark("xdir", name, b"\xfb" * 200)
os.makedirs("/run/disk/workspace/work/index", exist_ok=True)
make("/run/disk/workspace/work/index/00fb", "junk")
# what is no file
os.mknod(up + "disk", stat.S_IFBLK | 0o666, os.makedev(8, 0))
os.mknod(up + "mem", stat.S_IFCHR | 0o666, os.makedev(1, 1))
os.mkfifo(up + "pipe")
# names
for name in (".berm-stage-1", ".berm-end", ".berm-pax", ".wh.a.txt", "\x1b]0;x\x07"):
    make(up + name, name)
make(os.fsencode(up) + b"\xe9" * 255, "long\n")
os.mkdir(up + ".berm-stage-dir")
make(up + ".berm-stage-dir/x", "x")
# links out, by both ways
os.symlink("/etc/shadow", up + "shadow")
os.symlink("../../../../../../etc/passwd", up + "passwd")
os.link("/run/disk/workspace/work/index/00fb", up + "linked")
# flags, modes and times
make(up + "fixed", "fixed\n")
with open(up + "fixed") as f:
    fcntl.ioctl(f, 0x40086602, struct.pack("l", 0x30))  # immutable, append-only
make(up + "setuid", "#!/bin/sh\n")
os.chmod(up + "setuid", 0o6755)
os.chown(up + "setuid", 65534, 65534)
os.utime(up + "setuid", (-2**31, -2**31))
make(up + "closed", "closed\n")
os.chmod(up + "closed", 0)
# pieces all over a file of GiBs
with open(up + "scattered", "w") as f:
    for i in range(4200):
        os.pwrite(f.fileno(), b"x", i << 20)
# and mounts over the layer itself, by way of the agent's own descriptor of it
os.mkdir(up + "hidden")
make(up + "hidden/kept", "kept\n")
want = os.stat(up)
mounted = False
for fd in os.listdir("/proc/1/fd"):
    try:
        st = os.stat("/proc/1/fd/" + fd)
    except OSError:
        continue
    if (st.st_dev, st.st_ino) == (want.st_dev, want.st_ino):
        mount(b"none", b"/proc/1/fd/%s/hidden" % fd.encode(), b"tmpfs")
        make("/proc/1/fd/%s/hidden/shown" % fd, "shown\n")
        mounted = True
assert mounted
os.sync()
print("forged", flush=True)
"""

# path: a word of why it stays out
OUT = {
    "never": "never there", "meta": "no content", "disk": "device", "mem": "device", "pipe": "pipe",
    ".berm-stage-1": "berm keeps", "scattered": "holes", "two": "another one",
    **{f"r{i:02}": "never there" for i in range(15)},
}
# what comes back of it, and its content
BACK = {
    "good": "good\n", ".berm-end": ".berm-end", ".berm-pax": ".berm-pax", ".wh.a.txt": ".wh.a.txt",
    "fixed": "fixed\n", "setuid": "#!/bin/sh\n", "closed": "closed\n", "linked": "junk", "hidden/kept": "kept\n",
    **{f"r{i:02}/inside": "kept\n" for i in range(15)},
}


def all_of(folder):
    """Every path beneath it, with what a change of it would change."""
    found = {}
    for at, dirs, files in os.walk(folder):
        for name in dirs + files:
            path = os.path.join(at, name)
            st = os.lstat(path)
            found[path] = (st.st_mode, st.st_size, st.st_mtime_ns, st.st_ino)
    return found


@pytest.fixture
def code(berm, stage, tmp_path):
    made = Code(berm, stage, tmp_path)
    made.write("a.txt", b"hello\n")
    made.write("gone.txt", b"x\n")
    made.write("old/one", b"1\n")
    yield made
    for session in made.sessions():
        made.drive("remove", session)


def killed(code, script):
    """A session whose machine was killed once its script had said so."""
    caller = code.start(*SMALL, "--", "python3", "-c", script + "\ntime.sleep(3600)\n")
    try:
        assert caller.stdout.readline() == b"forged\n", caller.stderr.read()
        for pid in sandboxes.wait_for("its machine", code.berm.engines):
            os.kill(pid, signal.SIGKILL)
    finally:
        caller.communicate(timeout=60 * bermtest.SLOWNESS)
    session, = code.sessions()
    assert code.info(session)["state"] == "uncollected"
    return session


def collected(code, script):
    got = code.run(*SMALL, "--", "python3", "-c", script)
    assert (got.returncode, got.stdout) == (0, "forged\n"), got.stderr
    session, = code.sessions()
    return session


def changes(code, session):
    got = code.berm.run("diff", "--json", session, env=code.env)
    assert got.returncode == 0, got.stderr
    return {c["path"]: c for c in json.loads(got.stdout)["changes"]}


@pytest.mark.parametrize("end", (collected, killed), ids=("collected", "rescued"))
def test_t19_a_forged_layer(code, end):
    before = all_of(code.home), all_of(code.tree)
    session = end(code, FORGE)
    found = changes(code, session)
    assert (all_of(code.home), all_of(code.tree)) == before
    for path, why in OUT.items():
        assert why in (found[path]["reason"] or ""), (path, found[path])
    for path in ("never", "meta", "disk", "mem", "pipe", ".berm-stage-1", "scattered"):
        assert found[path]["section"] == "out", (path, found[path]["reason"], found[path])
    assert found["gone.txt"]["op"] == "delete" and found["a.txt"]["op"] == "edit"
    assert "hidden/shown" not in found and found["xdir/w"]["section"] == "out"
    assert not any(p.startswith(".berm-stage-dir/") and c["section"] != "out" for p, c in found.items())
    # what a person takes lands in the workspace, and nothing of it anywhere else
    got = code.berm.run("apply", "--all", session, env=code.env)
    assert got.returncode in (0, 3), got.stderr
    for path, content in BACK.items():
        assert (code.tree / path).read_text() == content, (path, got.stderr)
    assert (code.tree / "a.txt").read_text() == "hello\nmore\n" and not (code.tree / "gone.txt").exists()
    for path in ("never", "meta", "disk", "mem", "pipe", ".berm-stage-1", ".berm-stage-dir", "scattered",
                 "hidden/shown"):
        assert not os.path.lexists(code.tree / path), path
    st = os.stat(code.tree / "setuid")
    assert st.st_mode & 0o7777 == 0o755 and st.st_uid == os.geteuid()
    assert all_of(code.home) == before[0]


WIPE = "the begin of the disk is zeros"


def debugfs(disk, *requests):
    for request in requests:
        got = subprocess.run(["debugfs", "-w", "-R", request, disk], capture_output=True, text=True, check=True,
                             stdin=subprocess.DEVNULL, env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin"})
        lines = [line for line in got.stderr.splitlines() if not line.startswith("debugfs ")]
        assert lines == [], (request, lines)


def tampered(code, *requests):
    """A session that died, and of which somebody then wrote the disk: for a guest's root may, too."""
    session = killed(code, BEGIN + 'print("forged", flush=True)\n')
    disk = code.path(session, "scratch.img")
    subprocess.run(["/usr/sbin/e2fsck", "-p", "-f", disk], capture_output=True, check=False)  # its journal is played
    debugfs(disk, *[r for r in requests if r != WIPE])
    if WIPE in requests:
        with open(disk, "r+b") as f:
            f.write(bytes(1 << 20))
    return session


def test_t19_times_that_no_clock_has(code):
    session = tampered(code, "set_inode_field /workspace/upper/good mtime_extra 0xfffffffc")
    assert changes(code, session)["good"]["section"] == "plain"


@pytest.mark.parametrize("requests, words", [
    (("set_inode_field /workspace/upper/good mode 0",), "good"),
    (("rm /workspace/upper/good", "symlink /workspace/upper/x y", "set_inode_field /workspace/upper/x size 0"), "x"),
    (("unlink /workspace/upper", "symlink /workspace/upper /proc"), "upper"),
    (("unlink /workspace/upper",), "workspace"),
    (("clri <2>",), ""),
    ((WIPE,), ""),
    (("set_super_value feature_incompat 0xffffffff",), ""),
], ids=("a mode that is none", "a link of nothing", "a link in its place", "no layer", "no root", "no ext4",
        "features of tomorrow"))
def test_t19_a_disk_that_is_none(code, requests, words):
    """Refused by name; the session stays, and nothing else is done."""
    session = tampered(code, *requests)
    before = all_of(code.home), all_of(code.tree)
    got = code.berm.run("diff", "--json", session, env=code.env)
    assert got.returncode == 125 and got.stdout == "", got
    line = got.stderr.splitlines()[-1]
    assert f"session {session} could not be rescued, and is still there" in line and words in line, line
    assert code.info(session)["state"] == "uncollected"
    assert (all_of(code.home), all_of(code.tree)) == before
    assert not {"spool.part", "spool.tar", "rescue.img"} & set(os.listdir(os.path.dirname(code.path(session, "x"))))


SHUTDOWN = BEGIN + r"""
make("kept", "kept\n")
os.sync()
print("forged", flush=True)
fcntl.ioctl(os.open("/run/disk", os.O_RDONLY), 0x8004587d, struct.pack("I", 2))  # the disk fails, to all that see it
"""


def test_t19_a_disk_that_is_pulled_while_it_runs(code):
    """The guest cannot send what it cannot read; a rescue reads what was synced."""
    code.run(*SMALL, "--", "python3", "-c", SHUTDOWN)
    session, = code.sessions()
    info = code.info(session)
    assert info["state"] == "uncollected", info
    found = changes(code, session)
    assert {"kept", "good", "a.txt"} <= set(found)
