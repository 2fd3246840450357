"""K3: the power is cut after every single write of the disk.

An apply, an undo and a failing apply run on a file system whose device records what it is told. Then
each prefix of the record is a disk on which recovery must end all-old or all-new; so must, for what
was not flushed when the power went, random choices of it, as a disk with a cache may make them.

Each is a mount, so by default a long record is sampled: all prefixes at its flushes, where what is on
the disk changes its meaning, and every n-th of the others. APPLY_PREFIXES=0 takes each, and
APPLY_CHOICES more or fewer of the random ones.
"""

import errno
import os
import random
import shutil
import subprocess
import tempfile

import pytest

import blocklog
from applytree import World, build, snapshot
from test_apply import some_plan, some_tree

IMAGE_BYTES = 24 << 20
CHOICES = int(os.environ.get("APPLY_CHOICES", "25"))  # of what survives from a cache
PREFIXES_MAX = int(os.environ.get("APPLY_PREFIXES", "120"))

why = blocklog.why_not() or ("" if os.path.exists("/dev/fuse") else "this kernel has no FUSE")
pytestmark = pytest.mark.skipif(bool(why), reason=why or "-")


@pytest.fixture
def folder():
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    made = tempfile.mkdtemp(prefix="test-apply-power-", dir=base)
    yield made
    subprocess.run(["umount", "-l", f"{made}/mnt"], check=False, capture_output=True)
    shutil.rmtree(made, ignore_errors=True)


def make_image(folder, filesystem):
    image = os.path.join(folder, "base")
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    if filesystem == "ext4":
        blocklog.sh("mkfs.ext4", "-q", "-F", "-J", "size=4", "-E", "lazy_itable_init=0", image)
    return image


def world(folder, plan=None):
    w = World(os.path.join(folder, "mnt/w"))
    w.folder = folder  # plan and spool are not on that disk
    if plan:
        w.ops, w.spool = plan.ops, plan.spool
    return w


def record(folder, image, verb, options, plan):
    """Runs the verb on the recording device. (writes, how many of them when it had ended, trees)."""
    with blocklog.Recorded(folder, image) as disk:
        with blocklog.Mounted(disk.device, f"{folder}/mnt", "-o", "noatime"):
            w = world(folder, plan)
            before = w.tree()
            began = os.path.getsize(disk.log)
            got = w.run(verb, *options)
            ended = len(blocklog.read_log(disk.log))
            assert got.end == "done" or options, got
            after = w.tree()
        writes = blocklog.read_log(disk.log)
    assert os.path.getsize(disk.log) > began
    return writes, ended, before, after


class Disk:
    """The image as of some writes, mounted and recovered."""

    def __init__(self, folder, image):
        self.folder = folder
        with open(image, "rb") as f:
            self.base = f.read()
        self.image = os.path.join(folder, "cut")

    def recover(self, writes):
        disk = bytearray(self.base)
        for offset, data in writes:
            disk[offset : offset + len(data)] = data
        with open(self.image, "wb") as f:
            f.write(disk)
        with blocklog.Mounted(self.image, f"{self.folder}/mnt", "-o", "loop,noatime"):
            w = world(self.folder)
            got = w.recover()
            w.clean()
            return w.tree(), got


def positions(writes):
    """The prefixes to try: all, or of a long record a sample with all around its flushes."""
    every = range(len(writes) + 1)
    if not PREFIXES_MAX or len(writes) <= PREFIXES_MAX:
        return every
    near = {i + d for i, entry in enumerate(writes) if entry is None for d in (0, 1)}
    step = len(writes) // (PREFIXES_MAX // 2) + 1
    return sorted(near | set(every[::step]))


def survivors(rng, writes, at):
    """What a cache may leave of the first `at`: all that was flushed, and some of the rest."""
    flushed = max((i for i in range(at) if writes[i] is None), default=0)
    sure = [x for x in writes[:flushed] if x]
    rest = [x for x in writes[flushed:at] if x]
    return sure + [x for x in rest if rng.random() < 0.5]


WAYS = {
    "apply": ("apply", []),
    "undo": ("undo", []),
    "apply-fails": ("apply", [f"fail=steps-done:1:{errno.EIO}"]),
}


def check_record(folder, image, verb, options, plan, wanted):
    writes, ended, before, after = record(folder, image, verb, options, plan)
    disk = Disk(folder, image)
    ends = [before, after] + ([wanted] if wanted else [])
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    seen = set()
    for at in positions(writes):
        tree, got = disk.recover([x for x in writes[:at] if x])
        assert tree in ends, f"after write {at} of {len(writes)}: {got}"
        assert at < ended or tree == after, f"it had ended, and is not there: write {at}"
        seen.add(ends.index(tree))
    for _ in range(CHOICES):
        at = rng.randrange(len(writes) + 1)
        tree, got = disk.recover(survivors(rng, writes, at))
        assert tree in ends, f"seed {seed}, after write {at} of {len(writes)}: {got}"
        assert at < ended or tree == after, f"seed {seed}: it had ended: write {at}"
    return seen


@pytest.mark.parametrize("way", WAYS)
def test_k3_power_cut_at_every_write(folder, way):
    verb, options = WAYS[way]
    image = make_image(folder, "ext4")
    wanted = None
    with blocklog.Mounted(image, f"{folder}/mnt", "-o", "loop"):
        w = world(folder)
        some_tree(w)
        build(w.root, {"p/1": b"1\n", "q/2": b"2\n"})
        some_plan(w)
        w.move("p", "q")
        w.move("q", "p")
        w.write_plan()
    if verb == "undo" or options:
        spare = shutil.copy(image, f"{folder}/spare")
        with blocklog.Mounted(spare, f"{folder}/mnt", "-o", "loop"):
            w.session = os.path.join(f"{folder}/mnt/w", "session")
            w.done(w.apply())
            wanted = snapshot(w.root)
        if verb == "undo":
            image = spare
    seen = check_record(folder, image, verb, options, w, wanted)
    assert len(seen) >= 2
