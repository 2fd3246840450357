"""What a test left behind on the host: compared with what was there when it began."""

import contextlib
import ctypes
import os
import stat
import struct
import tempfile
import time

from bermtest import SETTLE_SECONDS, stretched

CGROUP_ROOT = "/sys/fs/cgroup"
CGROUP_DEPTH = 6  # berm's groups hang below its caller's, which is not deep


PROGRAMS = ("berm-supervisor", "berm-gate", "berm-vault", "berm-template", "berm-unpack", "berm-qemu", "berm-vmm",
            "qemu-system-x86")


def comm(pid):
    """A process's name, which unlike its files is open to everybody; "" if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
            text = f.read()
    except OSError:
        return ""
    name = text[text.index("(") + 1:text.rindex(")")]
    return "" if text[text.rindex(")") + 2] == "Z" else name


def is_ours_by_name(pid):
    """Jailed processes close their files to their own user as well; so without root any of berm's
    programs that this user runs is taken for one of the test's."""
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8", errors="replace") as f:
            uid = next(line.split()[1] for line in f if line.startswith("Uid:"))  # its files are root's if it is jailed
        return int(uid) == os.geteuid() and comm(pid) in PROGRAMS
    except OSError:
        return False


def links(paths):
    """Where they lead. One that is gone meanwhile, as the files of a busy process are, is left out by itself: its
    process must not be missed for it."""
    found = []
    for path in paths:
        with contextlib.suppress(FileNotFoundError):
            found.append(os.readlink(path))
    return found


def processes(state_dir, libexec):
    """{pid: why}: whoever holds a file of the state directory, deleted or not, or runs from libexec."""
    found = {}
    state_dir = os.path.realpath(state_dir)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            exe = os.readlink(f"/proc/{pid}/exe")
            held = links([f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")])
            held.append(os.readlink(f"/proc/{pid}/cwd"))
        except OSError:
            # it ended, is a zombie, or is closed to us
            if os.geteuid() != 0 and is_ours_by_name(pid):
                found[int(pid)] = f"process {pid} {comm(pid)}"
            continue
        mine = [t for t in held if t == state_dir or t.startswith(state_dir + "/")]
        if mine or exe.startswith(libexec + "/"):
            found[int(pid)] = f"process {pid} {exe} {mine[:2]}"
    return found


def picture(pids):
    """What these processes do, a line each, for a test that waited for them in vain."""
    lines = ["  PID  PPID STATE COMM WCHAN CMDLINE"]
    for pid in sorted(pids):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                head, _, rest = f.read().rpartition(")")
            with open(f"/proc/{pid}/wchan", encoding="utf-8") as f:
                wchan = f.read()
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                cmdline = f.read(300).replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError as why:
            lines.append(f"{pid:5} {why}")
            continue
        state, ppid = rest.split()[:2]
        lines.append(f"{pid:5} {ppid:>5} {state} {head.partition('(')[2]} {wchan} {cmdline}")
    return "\n".join(lines)


def zombies():
    """Children of this process that nobody waited for, or that were handed to it."""
    found = []
    me = str(os.getpid())
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as f:
                fields = f.read().rpartition(")")[2].split()
        except OSError:
            continue
        if fields[0] == "Z" and fields[1] == me:
            found.append(f"zombie {pid}")
    return found


class Ids:
    """The ids of all sandboxes made below a state directory, however short their lives."""

    EVENT = struct.Struct("iIII")
    MADE = 0x100 | 0x80  # IN_CREATE, IN_MOVED_TO: inotify(7)

    def __init__(self, state_dir):
        self.seen = set()
        folder = os.path.join(state_dir, "sandboxes")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.chmod(state_dir, 0o700)
        libc = ctypes.CDLL(None, use_errno=True)
        self.fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0 or libc.inotify_add_watch(self.fd, os.fsencode(folder), self.MADE) < 0:
            raise OSError(ctypes.get_errno(), "inotify")

    def read(self):
        while True:
            try:
                data = os.read(self.fd, 1 << 16)
            except BlockingIOError:
                return self.seen
            at = 0
            while at < len(data):
                length = self.EVENT.unpack_from(data, at)[3]
                at += self.EVENT.size
                self.seen.add(data[at : at + length].rstrip(b"\0").decode())
                at += length

    def close(self):
        os.close(self.fd)


def cgroups(ids):
    """Control groups of these sandboxes."""
    found = set()
    for top, dirs, _ in os.walk(CGROUP_ROOT):
        if top.count("/") - CGROUP_ROOT.count("/") >= CGROUP_DEPTH:
            dirs.clear()
        for name in dirs:
            if name.startswith("berm-") and name[len("berm-") :] in ids:
                found.add(os.path.join(top, name))
    return found


def mounts():
    with open("/proc/self/mountinfo", encoding="utf-8") as f:
        return {line.split()[4] for line in f}


def shared_memory():
    """And temporary files: of this run alone if it has a TMPDIR of its own."""
    return {n for n in os.listdir("/dev/shm") if "berm" in n} | {
        n for n in os.listdir(tempfile.gettempdir()) if n.startswith("berm-") and not n.startswith("berm-kernel")
    }


def listing(folder):
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def unfinished(state_dir):
    """Entries of the state directory that only a live sandbox, or one being made, may have."""
    found = []
    for name in listing(os.path.join(state_dir, "sandboxes")):
        if name != ".names":  # the lock of names, an empty file
            found.append(f"sandboxes/{name}")
    for folder in ("templates", "snapshots", "ended", "images"):
        for name in listing(os.path.join(state_dir, folder)):
            if name.startswith((".tmp-", ".new-")) or folder == "snapshots":
                found.append(f"{folder}/{name}")
    for top, _, names in os.walk(state_dir):
        for name in names:
            try:
                if stat.S_ISSOCK(os.lstat(os.path.join(top, name)).st_mode):
                    found.append(f"socket {top}/{name}")
            except OSError:
                pass
    return found


class Leaks:
    """Made before a test; found() and check() after it."""

    def __init__(self, state_dir, stage):
        self.state_dir = str(state_dir)
        self.libexec = os.path.join(os.path.realpath(stage), "libexec", "berm")
        self.zombies = set(zombies())  # one that a failed test left is that test's alone
        self.mounts = mounts()
        self.ids = Ids(self.state_dir)
        self.shared = shared_memory()
        self.ended = set(listing(os.path.join(self.state_dir, "ended")))

        self.fds = len(os.listdir("/proc/self/fd"))

    def close(self):
        self.ids.close()

    def found(self):
        left = list(processes(self.state_dir, self.libexec).values())
        left += unfinished(self.state_dir)
        left += set(zombies()) - self.zombies
        left += [f"mount {m}" for m in mounts() - self.mounts]
        left += [f"cgroup {c}" for c in cgroups(self.ids.read())]
        left += [f"shared memory {n}" for n in shared_memory() - self.shared]
        ended = set(listing(os.path.join(self.state_dir, "ended")))
        left += [f"record {r}" for r in ended - self.ended]
        return left

    def check(self, seconds=SETTLE_SECONDS):
        """Fails unless all is gone within the seconds that processes may need to end."""
        end = time.monotonic() + stretched(seconds)
        while True:
            left = self.found()
            if not left:
                return
            if time.monotonic() > end:
                raise AssertionError("left behind:\n  " + "\n  ".join(left))
            time.sleep(0.05)
