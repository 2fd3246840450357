"""K3 of a session's end: the power is cut at any moment up to its end, and where its work is there to be read, so is
all that was packed of its workspace. Without its base the work would mean nothing.

The state directory is on a disk that records what it is told (integration/work/blocklog.py).
"""

import os
import random
import shutil
import subprocess
import sys
import tarfile
import tempfile

import bermtest
import pytest
import sandboxes
import suptest
from test_sup_session import SENDS, Sessions

sys.path.insert(0, os.path.join(bermtest.TOP, "tests/integration/work"))

import blocklog  # pylint: disable=wrong-import-position

BASETOOL = os.path.join(bermtest.TOP, "build/main/tests/integration/work/basetool")
IMAGE_BYTES = 64 << 20
CHOICES = int(os.environ.get("SESSION_CHOICES", "6"))
WORK = b"the agent's work " * 2000

why = blocklog.why_not() or ("" if os.path.exists("/dev/fuse") else "this kernel has no FUSE")
pytestmark = pytest.mark.skipif(bool(why), reason=why or "-")


@pytest.fixture
def folder():
    made = tempfile.mkdtemp(prefix="test-sup-power-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield made
    subprocess.run(["umount", "-l", f"{made}/state"], check=False, capture_output=True)
    shutil.rmtree(made, ignore_errors=True)


def tree(root):
    os.mkdir(root)
    for i in range(200):
        with open(os.path.join(root, f"f{i}"), "wb") as f:
            f.write(b"%d of the workspace\n" % i * 300)


def prepared(folder, fake_stage):
    """A disk with a state directory on it, in which there is an image."""
    image = f"{folder}/disk"
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    blocklog.sh("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0", image)
    archive = f"{folder}/tiny.tar"
    with tarfile.open(archive, "w") as tar:
        info = tarfile.TarInfo("etc")
        info.type, info.mode = tarfile.DIRTYPE, 0o755
        tar.addfile(info)
    with blocklog.Mounted(image, f"{folder}/state", "-o", "loop"):
        sandboxes.Berm(f"{folder}/state", fake_stage).ok("image", "import", "--name", "tiny", archive)
    return image


def listing(session):
    return subprocess.run([BASETOOL, "list", session], check=True, capture_output=True).stdout


def looked_at(image, base, writes, folder, session):
    """What is there after those writes: None, or (the base, the report, the work)."""
    disk = bytearray(base)
    for offset, data in writes:
        disk[offset : offset + len(data)] = data
    with open(image, "wb") as f:
        f.write(disk)
    with blocklog.Mounted(image, f"{folder}/state", "-o", "loop,noatime"):
        at = f"{folder}/state/sessions/{session}"
        if not os.path.exists(f"{at}/spool.tar"):
            return None
        with open(f"{at}/pack.json", "rb") as report, open(f"{at}/spool.tar", "rb") as spool:
            return listing(at), report.read(), spool.read()


def test_k3_work_that_is_there_has_its_base(folder, fake_stage):
    image = prepared(folder, fake_stage)
    with open(image, "rb") as f:
        before = f.read()
    with blocklog.Recorded(folder, image) as disk:
        with blocklog.Mounted(disk.device, f"{folder}/state", "-o", "noatime"):
            sup = suptest.Sup(f"{folder}/state", fake_stage, os.path.join(fake_stage, "libexec", "berm"))
            sessions = Sessions(sup, folder)
            sessions.base = f"{folder}/tree"
            tree(sessions.base)
            session, _ = sessions.run(SENDS + f"work({WORK!r}); whole()")
            at = sessions.path(session)
            with open(f"{at}/pack.json", "rb") as f:
                expected = listing(at), f.read(), WORK
            assert sessions.spool(session) == WORK
            ended = len(blocklog.read_log(disk.log))
        writes = blocklog.read_log(disk.log)
    cut = f"{folder}/cut"
    near = {i + d for i, entry in enumerate(writes) if entry is None for d in (0, 1)}
    seen = set()
    for at in sorted(near | set(range(0, len(writes) + 1, len(writes) // 6 + 1))):
        got = looked_at(cut, before, [x for x in writes[:at] if x], folder, session)
        assert got in (None, expected), at
        assert got is not None or at < ended, at
        seen.add(got is not None)
    assert seen == {False, True}
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(CHOICES):
        at = rng.randrange(len(writes) + 1)
        flushed = max((i for i in range(at) if writes[i] is None), default=0)
        left = [x for x in writes[:flushed] if x] + [x for x in writes[flushed:at] if x and rng.random() < 0.5]
        assert looked_at(cut, before, left, folder, session) in (None, expected), (seed, at)
