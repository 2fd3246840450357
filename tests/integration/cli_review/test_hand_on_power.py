"""K3 of the handing on: the power is cut while a workspace is packed over an earlier session's base.

The state directory is on a disk that records what it is told. After each prefix of that, and after choices of
what a cache may have lost, the old session is whole or says that it was handed on, and whatever says that it
was packed has all of the tree. HAND_ON_PREFIXES=0 takes each prefix, HAND_ON_CHOICES more or fewer choices.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile

import pytest
from cli_world import ERROR
from code_world import Coded
from test_hand_on import change, filled, fresh

import blocklog

IMAGE_BYTES = 48 << 20
PREFIXES_MAX = int(os.environ.get("HAND_ON_PREFIXES", "24"))
CHOICES = int(os.environ.get("HAND_ON_CHOICES", "8"))

why = blocklog.why_not() or ("" if os.path.exists("/dev/fuse") else "this kernel has no FUSE")
pytestmark = pytest.mark.skipif(bool(why), reason=why or "-")


@pytest.fixture
def folder():
    made = tempfile.mkdtemp(prefix="test-hand-on-", dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)
    yield made
    subprocess.run(["umount", "-l", f"{made}/w/state"], check=False, capture_output=True)
    shutil.rmtree(made, ignore_errors=True)


def positions(writes):
    """All prefixes, or of a long record a sample with those around its flushes."""
    every = range(len(writes) + 1)
    if not PREFIXES_MAX or len(writes) <= PREFIXES_MAX:
        return every
    near = {i + d for i, entry in enumerate(writes) if entry is None for d in (0, 1)}
    return sorted(near | set(every[:: len(writes) // (PREFIXES_MAX // 2) + 1]))


def survivors(rng, writes, at):
    flushed = max((i for i in range(at) if writes[i] is None), default=0)
    return [x for x in writes[:flushed] if x] + [x for x in writes[flushed:at] if x and rng.random() < 0.5]


def packed(cli):
    """The sessions that pass for packed."""
    for session in cli.sessions():
        if os.path.exists(cli.at(session, "session.json")) and cli.info(session)["state"] != "packing":
            yield session


class Cut:
    def __init__(self, cli, image, first, was, expected):
        self.cli, self.image, self.first, self.was, self.expected = cli, image, first, was, expected
        with open(image, "rb") as f:
            self.base = f.read()

    def check(self, writes, at):
        """What became of the old session: "whole" or "handed"; and whether the new one was packed."""
        cli, disk = self.cli, bytearray(self.base)
        for offset, data in writes:
            disk[offset : offset + len(data)] = data
        with open(self.image + ".cut", "wb") as f:
            f.write(disk)
        with blocklog.Mounted(self.image + ".cut", cli.state, "-o", "loop,noatime"):
            new = [session for session in packed(cli) if session != self.first]
            for session in new:
                assert cli.listing(session) == self.expected, at
            (listed,) = json.loads(cli.run("sessions", "--json").out)
            assert cli.sessions() == [self.first] and listed["state"] == "applied", at
            if listed["handed_to"]:
                assert "was packed over its base" in cli.run("diff", self.first, code=ERROR).err, at
                assert not os.path.exists(cli.at(self.first, "base.manifest")), at
                return "handed", bool(new)
            assert cli.listing(self.first) == self.was and not new, at
            assert "made" in cli.run("diff", self.first).out, at
            return "whole", False


def test_k3_power_cut_at_every_write(folder, tmp_path):
    image = f"{folder}/disk"
    with open(image, "wb") as f:
        f.truncate(IMAGE_BYTES)
    blocklog.sh("mkfs.ext4", "-q", "-F", "-b", "4096", "-J", "size=4", "-E", "lazy_itable_init=0", image)
    os.makedirs(f"{folder}/w/state")
    with blocklog.Mounted(image, f"{folder}/w/state", "-o", "loop"):
        cli = filled(Coded(f"{folder}/w"))
        first = cli.applied()
        was = cli.listing(first)
        change(cli)
        expected = fresh(cli, tmp_path)
    with blocklog.Recorded(folder, image) as disk:
        with blocklog.Mounted(disk.device, cli.state, "-o", "noatime"):
            second = cli.code()
            assert cli.info(first)["handed_to"] == second and cli.listing(second) == expected
            ended = len(blocklog.read_log(disk.log))
        writes = blocklog.read_log(disk.log)
    cut = Cut(cli, image, first, was, expected)
    seen = set()
    for at in positions(writes):
        got = cut.check([x for x in writes[:at] if x], at)
        assert at < ended or got[0] == "handed"
        seen.add(got)
    assert {("whole", False), ("handed", False)} <= seen, seen
    seed = random.SystemRandom().randrange(1 << 32)
    rng = random.Random(seed)
    for _ in range(CHOICES):
        at = rng.randrange(len(writes) + 1)
        cut.check(survivors(rng, writes, at), (seed, at))
