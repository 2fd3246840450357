"""Packing a workspace, against tar to a file of the same tree.

Trees: BENCH_PACK_FILES (100,000) files made here, sizes as projects have them, and the kernel's
source if linux-source is installed. All kinds run in turn, so what else the machine does is in all
of them; beside the time on the clock stands the processor's (user and system). The kinds:

    tar     tar to a file
    pack    a first pack
    again   a pack with 1 % of the files changed, beside an earlier one that somebody still needs:
            blocks are copied, or shared where the file system can
    over    the same over the image of an earlier one that nobody needs any more
    code    the same change by the second `berm code` of a workspace, once all of the first session was
            applied: the whole program from its start until it starts a guest

The last three are of the same change. What has to reach the disk is waited for between kinds and not
measured, of anyone. Packs judge each path as a session does: git directories, and the secret tier's
patterns. Before each command as much memory as it may fill is touched and given back: a hypervisor takes
free memory away from a virtual machine, and whoever writes to it first waits for it to come back, which
takes longer than tar. With a warm cache the tree and the earlier base are read before that, for the cache
may have been thinned out meanwhile; all of it is on the disk that BENCH_DIR (or /var/tmp) lies on. With a cold
one (as root) it is on an ext4 of its own in a file there, which is mounted anew before each command.
With BENCH_PACK_XFS=1 (root) the first once more on an XFS, where blocks are shared; with
BENCH_PACK_SQUASH=1 libsquashfs (uncompressed) beside it.
"""

import contextlib
import glob
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time

import bench

sys.path.insert(0, os.path.join(bench.TOP, "tests/integration/cli_review"))

from code_world import KILLED, Coded  # pylint: disable=wrong-import-position
from review_world import Guest  # pylint: disable=wrong-import-position

RUNS = int(os.environ.get("BENCH_RUNS") or "4")
FILES = int(os.environ.get("BENCH_PACK_FILES", "100000"))
WHERE = os.environ.get("BENCH_DIR", "/var/tmp")
BUILD = os.path.join(bench.TOP, "build/main")
TOOL = os.path.join(BUILD, "tests/integration/work/basetool")
SQUASH = os.path.join(BUILD, "tests/bench/squash_tree")
RULES = os.path.join(bench.TOP, "profiles/exclude/secret.ignore")
GIB = 1 << 30
TOUCH_BYTES = 2 * GIB  # what tar or a pack of the larger tree fills, and a third more
META_AT = (0, 32 * GIB)  # where the inodes of an image are: erofs.h
META_BYTES = 32 << 20
LARGE_RUNS_MAX = 3
COLD_RUNS_MAX = 2


def synthetic(root):
    """Files of 2 KiB in the median and 9 KiB in the mean, thirty in a directory."""
    rng = random.Random(5)
    text = rng.randbytes(1 << 20)
    for i in range(FILES):
        folder = os.path.join(root, f"p{i // 3000}", f"d{i // 30 % 100}")
        if i % 30 == 0:
            os.makedirs(folder)
        size = min(int(rng.lognormvariate(7.6, 1.7)), len(text) - 100)
        with open(os.path.join(folder, f"file-{i}.c"), "wb") as f:
            f.write(text[i % 100:i % 100 + size])


def kernel_source(root):
    package = sorted(glob.glob("/usr/src/linux-source-*.tar.xz"))
    if not package:
        return False
    subprocess.run(["tar", "xJf", package[-1], "-C", root], check=True)
    return True


def timed(*command, code=0, **how):
    """Milliseconds on the clock and of the processor, and what it printed."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    got = subprocess.run(command, check=False, stdout=subprocess.PIPE, **how)
    assert got.returncode == code, command
    took, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return took * 1000, cpu * 1000, got.stdout


def change_some(root, seed):
    """1 % of the files. Returns once their times are the past's: what changes at this very instant
    has to be looked at twice, and is no fair second pack."""
    paths = []
    for folder, _, files in os.walk(root):
        paths += [os.path.join(folder, name) for name in files]
    paths = [path for path in sorted(paths) if os.path.isfile(path) and not os.path.islink(path)]
    for path in random.Random(seed).sample(paths, len(paths) // 100):
        with open(path, "ab") as f:
            f.write(b"/* changed */\n")
    time.sleep(0.1)


def touch_memory():
    """In a process of its own, so that all of it is free again."""
    with open("/proc/meminfo", encoding="ascii") as f:
        free = next(int(line.split()[1]) * 1024 for line in f if line.startswith("MemAvailable"))
    code = "import mmap, sys; mmap.mmap(-1, int(sys.argv[1]), flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | 0x8000)"
    subprocess.run([sys.executable, "-c", code, str(min(TOUCH_BYTES, free // 2))], check=True)  # MAP_POPULATE


def read_warm(tree, bases):
    """The tree, and of earlier bases the manifest and what is where inodes are."""
    with subprocess.Popen(["tar", "cf", "-", "-C", tree, "."], stdout=subprocess.PIPE) as tar:
        while tar.stdout.read(1 << 20):
            pass
    for base in bases:
        for name, places in (("base.manifest", (0,)), ("base.erofs", META_AT)):
            path = os.path.join(base, name)
            if os.path.exists(path):
                with open(path, "rb") as f:
                    for at in places:
                        f.seek(at)
                        f.read(META_BYTES)


def forget(path):
    shutil.rmtree(path) if os.path.isdir(path) else os.unlink(path)


class Sessions:
    """`berm code` of a tree, one session after the other, each applied before the next."""

    def __init__(self, work):
        self.world = Coded(work)
        self.turn = 0
        self.last = self.world.code()
        self.apply()

    def apply(self):
        """The agent wrote a file, which its user took."""
        self.turn += 1
        self.world.finished(self.last, Guest(self.world.tree).file("made", f"{self.turn}\n"))
        self.world.run("apply", self.last, "--all")

    def timed(self):
        w, before = self.world, set(self.world.sessions())
        got = timed(w.berm, "code", "--", "true", code=KILLED, cwd=w.tree, env=w.env, stdin=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL)
        (self.last,) = set(w.sessions()) - before
        return got

    def was_over(self):
        return self.world.info(self.last)["id"] in [self.world.info(s)["handed_to"] for s in self.world.sessions()]


def kinds_of(work):
    tree, out = os.path.join(work, "tree"), os.path.join(work, "out")
    pack = [TOOL, "pack", tree]
    rules = ["--rules", RULES]
    kinds = {
        "tar": ["tar", "cf", os.path.join(work, "tree.tar"), "-C", tree, "."],
        "pack": [*pack, out, *rules],
        "again": [*pack, out + "2", *rules, "--earlier", out],
        "over": [*pack, out + "3", *rules, "--earlier", out, "--over"],
        "code": None,  # by Sessions
    }
    if os.environ.get("BENCH_PACK_SQUASH"):
        kinds["squash"] = [SQUASH, tree, os.path.join(work, "tree.sqfs")]
    return kinds


def one_tree(name, work, runs, anew=None):
    """Before each command the disk is mounted anew, or all is read that a warm cache has."""
    kinds = kinds_of(work)
    wall, cpu, said = {k: [] for k in kinds}, {k: [] for k in kinds}, {}
    sessions = Sessions(work)
    outputs = {"tar": "tree.tar", "squash": "tree.sqfs", "again": "out2", "over": "out3"}
    for run in range(runs + 1):
        for kind, command in kinds.items():
            if kind == "again":
                change_some(os.path.join(work, "tree"), run)
            if anew:
                anew()
            else:
                read_warm(os.path.join(work, "tree"),
                          [os.path.join(work, "out"), sessions.world.at(sessions.last)])
            touch_memory()  # last: to read may fill some of it
            ms, cpu_ms, text = timed(*command) if command else sessions.timed()
            if run > 0:
                wall[kind].append(ms)
                cpu[kind].append(cpu_ms)
                said[kind] = {} if kind in ("tar", "squash", "code") else json.loads(text)
            if kind in outputs:
                forget(os.path.join(work, outputs[kind]))
            os.sync()
        said["code"] = {"over": sessions.was_over()}
        sessions.apply()
        forget(os.path.join(work, "out"))
    for kind in kinds:
        more = {k: said[kind][k] for k in ("files", "file_bytes", "image_bytes", "reused_files", "over")
                if k in said[kind]}
        bench.report(f"pack_{name}_{kind}_ms", wall[kind], **more)
        bench.report(f"pack_{name}_{kind}_cpu_ms", cpu[kind])
    for label, times in (("ratio", wall), ("cpu_ratio", cpu)):
        budget = label == "ratio"
        bench.ratio(f"pack_{name}_{label}_tar", times["pack"], times["tar"],
                    budget=round(1 / 0.7, 3) if budget else None)
        bench.ratio(f"pack_{name}_over_{label}_tar", times["over"], times["tar"],
                    budget=0.2 if budget else None)
        bench.ratio(f"pack_{name}_code_{label}_tar", times["code"], times["tar"],
                    budget=0.2 if budget else None)
        bench.ratio(f"pack_{name}_over_{label}_pack", times["over"], times["pack"])
        bench.ratio(f"pack_{name}_again_{label}_tar", times["again"], times["tar"])
        if "squash" in times:
            bench.ratio(f"pack_{name}_{label}_squash", times["pack"], times["squash"])


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory(prefix="berm-bench-", dir=WHERE) as work:
        yield work


@contextlib.contextmanager
def disk_of(kind):
    """A file system in a file, past this machine's cache where the loop device can; and how to
    mount it anew."""
    with folder() as around:
        disk, mount = os.path.join(around, "disk"), os.path.join(around, "mount")
        with open(disk, "wb") as f:
            os.truncate(f.fileno(), 16 * GIB)
        os.mkdir(mount)
        subprocess.run([f"mkfs.{kind}", "-q", disk], check=True)
        device = subprocess.run(["losetup", "--find", "--show", "--direct-io=on", disk], check=True,
                                stdout=subprocess.PIPE, text=True).stdout.strip()
        try:
            subprocess.run(["mount", device, mount], check=True)

            def anew():
                subprocess.run(["umount", mount], check=True)
                subprocess.run(["mount", device, mount], check=True)

            yield mount, anew
        finally:
            subprocess.run(["umount", "-l", mount], check=False)
            subprocess.run(["losetup", "-d", device], check=True)


def warm():
    for name, make, runs in (("synthetic", synthetic, RUNS),
                             ("kernel", kernel_source, min(RUNS, LARGE_RUNS_MAX))):
        with folder() as work:
            os.mkdir(os.path.join(work, "tree"))
            if make(os.path.join(work, "tree")) is False:
                bench.note("pack: no linux-source here: only the tree made for this was measured")
                continue
            one_tree(name, work, runs)


def own_disk(kind, prefix, cold):
    try:
        with disk_of(kind) as (mount, anew):
            os.mkdir(os.path.join(mount, "tree"))
            synthetic(os.path.join(mount, "tree"))
            if cold:
                one_tree(f"{prefix}synthetic", mount, min(RUNS, COLD_RUNS_MAX), anew)
            else:
                one_tree(f"{prefix}synthetic", mount, RUNS)
    except (OSError, subprocess.CalledProcessError) as e:
        bench.note(f"pack: no {kind} of our own here, {prefix}synthetic was not measured: {e}")


def main():
    for program in [TOOL] + [SQUASH] * bool(os.environ.get("BENCH_PACK_SQUASH")):
        if not os.path.exists(program):
            sys.exit(f"bench_pack: no {program}: ninja -C build/main tests/integration/work/basetool "
                     "tests/bench/squash_tree")
    warm()
    own_disk("ext4", "cold_", True)
    if os.environ.get("BENCH_PACK_XFS"):
        own_disk("xfs", "xfs_", False)


if __name__ == "__main__":
    main()
