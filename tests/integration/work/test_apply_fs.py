"""Apply on each file system, and where there is really no room, no quota or no right to write."""

import ctypes
import errno
import os
import shutil
import subprocess
import tempfile

import pytest

import blocklog
from applytree import World, build
from test_apply import ORDINARY_UID, WANTED, plain, plain_umask, some_plan, some_tree  # noqa: F401

why = blocklog.why_not()
pytestmark = pytest.mark.skipif(bool(why), reason=why or "-")

MIB = 1 << 20
SIZES = {"ext4": 64 * MIB, "xfs": 320 * MIB, "btrfs": 160 * MIB}
FORMAT = {"ext4": ["-q", "-F"], "xfs": ["-q", "-f"], "btrfs": ["-q", "-f"]}
KINDS = ["tmpfs", "ext4", "xfs", "btrfs", "overlay", "overlay-two"]
KILLS = ["staged:1", "commit-written:1", "commit-synced:1", "step:3", "out-renamed:2", "in-renamed:2",
         "swap-exchanged:1", "swap-exchanged:2", "steps-done:1", "done-synced:1", "keep-moved:1",
         "undo-synced:1", "stage-removed:1", "journal-moved:1"]


@pytest.fixture
def folder():
    made = tempfile.mkdtemp(prefix="test-apply-fs-")
    os.makedirs(f"{made}/mnt")
    yield made
    for name in ("mnt/w/tree/inside", "mnt", "under", "lower"):
        while os.path.ismount(f"{made}/{name}"):
            blocklog.umount(f"{made}/{name}")
    shutil.rmtree(made, ignore_errors=True)


def mount(kind, folder, size=None, quota=False, why=None):
    """Mounts a fresh one at folder/mnt. Skips where this machine cannot make it."""
    target = f"{folder}/mnt"
    if kind == "tmpfs":
        blocklog.sh("mount", "-t", "tmpfs", "-o", f"size={size or 64 * MIB}", "tmpfs", target)
    elif kind.startswith("overlay"):
        mount_overlay(folder, target, kind == "overlay-two")
    else:
        image = f"{folder}/image"
        with open(image, "wb") as f:
            f.truncate(size or SIZES[kind])
        more = ["-O", "quota"] if quota else []
        blocklog.sh(f"mkfs.{kind}", *FORMAT[kind], *more, image)
        try_mount(kind, "-o", "loop", image, target, why=why)
    return target


def try_mount(kind, *argv, why=None):
    got = subprocess.run(["mount", *argv], check=False, capture_output=True, text=True)
    if got.returncode:
        pytest.skip(why or f"{kind} cannot be mounted here: {got.stderr.strip().splitlines()[0]}")


def mount_overlay(folder, target, two):
    """Upper on memory; the lower, with the tree in it, there too or on another file system."""
    os.makedirs(f"{folder}/under", exist_ok=True)
    os.makedirs(f"{folder}/lower", exist_ok=True)
    blocklog.sh("mount", "-t", "tmpfs", "tmpfs", f"{folder}/under")
    lower = f"{folder}/under/lower"
    if two:
        lower = f"{folder}/lower"
        blocklog.sh("mount", "-t", "tmpfs", "tmpfs", lower)
    for name in ("upper", "work"):
        os.makedirs(f"{folder}/under/{name}")
    w = World(f"{lower}/w")
    some_tree(w)
    options = f"lowerdir={lower},upperdir={folder}/under/upper,workdir={folder}/under/work"
    try_mount("overlay", "-t", "overlay", "-o", options + ",redirect_dir=on", "overlay", target)


def world(kind, target):
    w = World(f"{target}/w")
    if not kind.startswith("overlay"):
        some_tree(w)
    return w


@pytest.mark.parametrize("kind", KINDS)
def test_p1_and_p12_on_each_file_system(folder, kind):
    w = world(kind, mount(kind, folder))
    before = w.tree()
    some_plan(w)
    got = w.done(w.apply())
    assert not any("moment" in said for said in got.said.values()), f"{kind} cannot exchange"
    assert plain(w, skip=(b"sparse",)) == WANTED
    assert w.apply().end == "nothing"
    w.done(w.undo())
    w.nothing_changed(before)


@pytest.mark.parametrize("kind", KINDS)
def test_k1_on_each_file_system(folder, kind):
    """One kill after another on the same disk: taken back, it is tried again; done, it is undone."""
    w = world(kind, mount(kind, folder))
    before = w.tree()
    for at in KILLS:
        w.fresh_plan()
        some_plan(w)
        assert w.apply(f"kill={at}").code, at
        got = w.recover()
        w.clean()
        assert got.recovered, got
        if w.tree() != before:
            assert plain(w, skip=(b"sparse",)) == WANTED, at
            w.done(w.undo())
        assert w.tree() == before, f"{kind}, {at}: {got}"


@pytest.mark.parametrize("kind", ["tmpfs", "ext4"])
def test_p3_no_space_for_one_of_500(folder, kind):
    target = mount(kind, folder, size=24 * MIB)
    w = World(f"{target}/w")
    build(w.root, {f"t/{i:03}": b"%d\n" % i for i in range(500)})
    w.folder = folder  # the plan lies elsewhere
    for i in range(500):
        w.put(f"t/{i:03}", b"new %d\n" % i)
    w.put("t/250x", b"x" * (30 * MIB))
    before = w.tree()
    assert w.apply().error == errno.ENOSPC
    w.nothing_changed(before)


class Quota(ctypes.Structure):  # linux/quota.h, struct if_dqblk
    _fields_ = [(n, ctypes.c_uint64) for n in ("bhard", "bsoft", "cur", "ihard", "isoft", "curi",
                                               "btime", "itime")] + [("valid", ctypes.c_uint32)]


def user_quota(target, uid, kib):
    device = subprocess.run(["findmnt", "-no", "SOURCE", target], check=True, capture_output=True,
                            text=True).stdout.strip()
    limits = Quota(bhard=kib, bsoft=kib, valid=1)
    command = ctypes.c_int(0x800008 << 8)  # Q_SETQUOTA of users
    if blocklog.libc.quotactl(command, device.encode(), uid, ctypes.byref(limits)):
        pytest.skip(f"no quotas here: {os.strerror(ctypes.get_errno())}")


def volume_quota(target, kib):
    blocklog.sh("btrfs", "quota", "enable", target)
    blocklog.sh("btrfs", "qgroup", "limit", f"{kib}k", target)


@pytest.mark.parametrize("kind", ["ext4", "btrfs"])
def test_p3_quota(folder, kind):
    """A user's on ext4; a volume's on btrfs, which needs less of a kernel."""
    why = "this kernel mounts no ext4 with quotas, for which it needs CONFIG_QFMT_V2" if kind == "ext4" else None
    target = mount(kind, folder, quota=kind == "ext4", why=why)
    w = World(f"{target}/w")
    build(w.root, {f"t/{i:03}": b"%d\n" % i for i in range(100)})
    subprocess.run(["chown", "-R", f"{ORDINARY_UID}:{ORDINARY_UID}", w.folder], check=True)
    os.chmod(folder, 0o755)
    w.folder, w.user = folder, ORDINARY_UID
    for i in range(100):
        w.put(f"t/{i:03}", b"new %d\n" % i)
    w.put("t/last", b"x" * (8 * MIB))
    if kind == "ext4":
        user_quota(target, ORDINARY_UID, 4096)
    else:
        volume_quota(target, 4096)
    before = w.tree()
    assert w.apply().error == errno.EDQUOT
    w.nothing_changed(before)


def test_p3_read_only(folder):
    target = mount("ext4", folder)
    w = world("ext4", target)
    some_plan(w)
    w.session, w.folder = f"{folder}/session", folder
    os.mkdir(w.session)
    before = w.tree()
    blocklog.sh("mount", "-o", "remount,ro", target)
    assert w.apply("rest").error == errno.EROFS
    assert w.tree() == before and not os.path.exists(f"{w.session}/journal")


def test_p3_immutable(folder):
    target = mount("ext4", folder)
    w = world("ext4", target)
    some_plan(w)
    before = w.tree()
    blocklog.sh("chattr", "+i", w.at("d").decode() + "/x")
    w.put("d/x", b"2\n")
    assert w.apply().error == errno.EPERM
    blocklog.sh("chattr", "-i", w.at("d").decode() + "/x")
    w.nothing_changed(before)


def test_what_is_mounted_inside_is_never_touched(folder):
    target = mount("ext4", folder)
    w = world("ext4", target)
    os.mkdir(w.at("inside"))
    blocklog.sh("mount", "-t", "tmpfs", "tmpfs", f"{target}/w/tree/inside")
    w.write("inside/f", b"theirs\n")
    w.put("inside/f", b"ours\n")
    w.delete("inside/f", was="1:420:1:1:7:1:1")
    w.rmdir("inside")
    got = w.apply("rest")
    assert got.end == "nothing" and w.read("inside/f") == b"theirs\n"
    assert set(map(tuple, got.said.values())) <= {("kind", "kind"), ("kind",)}, got.said


def test_k1_overlay_that_cannot_move_a_directory(folder):
    """Without redirects a directory of the lower layer stays where it is: all is taken back."""
    target = mount("overlay", folder)
    blocklog.umount(target)
    options = (f"lowerdir={folder}/under/lower,upperdir={folder}/under/upper,"
               f"workdir={folder}/under/work,redirect_dir=off")
    try_mount("overlay", "-t", "overlay", "-o", options, "overlay", target)
    w = world("overlay", target)
    some_plan(w)
    before = w.tree()
    assert w.apply().error == errno.EXDEV
    w.nothing_changed(before)
