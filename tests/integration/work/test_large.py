"""Large trees: L1 and L4 to L7 of docs/internals/workspace-cases.md, without a guest.

BERM_TEST_L1_FILES scales L1 (20,000 by default; the case itself is 1,000,000, and takes 8 GB of
disk below TMPDIR). How long things take is tests/bench's to say; here stand what they need, and that
what follows a change does not follow the tree.
"""

import json
import os
import re
import resource
import shutil
import subprocess
import sys

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
sys.path.insert(0, os.path.join(TOP, "tests/integration/review"))

from proposal_stream import BLOCK, Stream, header, record  # noqa: E402
from review_world import BIN, CLASSES, DRIVE as REVIEW, World  # noqa: E402

MAIN = os.path.join(TOP, "build/main")
BASETOOL = os.path.join(MAIN, "tests/integration/work/basetool")
PROPOSAL = os.path.join(MAIN, "tests/integration/work/proposaldrive")
EXPORT = os.path.join(MAIN, "tests/integration/work/exportdrive")
UNPACK = os.path.join(MAIN, "src/bin/berm-unpack")

L1_FILES = int(os.environ.get("BERM_TEST_L1_FILES") or "20000")
L6_FILES = 100_000
PACKER_MAX = 256 << 20
PARSER_MAX = 128 << 20
FDS_MAX = 64  # of a packer, whatever the tree holds; three of its own, and those of one path
KIB = bytes(range(256)) * 4


def measured(*argv, fds=1024, **how):
    """Runs it with so many fds at most; answers what it printed and the most memory that took, of
    it or of a program it ran."""
    code = ("import json, os, resource, subprocess, sys;"
            "resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[1]),) * 2);"
            "r = subprocess.run(sys.argv[2:], stdout=subprocess.PIPE);"
            "sys.stdout.buffer.write(r.stdout);"
            "sys.stdout.flush();"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr);"
            "sys.exit(r.returncode)")
    got = subprocess.run(["/usr/bin/python3", "-c", code, str(fds), *map(os.fspath, argv)],
                         capture_output=True, check=False, **how)
    lines = got.stderr.decode().split("\n")
    assert got.returncode == 0, lines
    return got.stdout, int(lines[-2]) * 1024


def many_files(root, count, per_dir=1000):
    for i in range(count):
        if i % per_dir == 0:
            folder = os.path.join(root, f"d{i // per_dir:04}")
            os.mkdir(folder)
        fd = os.open(os.path.join(folder, f"f{i:07}"), os.O_CREAT | os.O_WRONLY, 0o644)
        os.write(fd, KIB)
        os.close(fd)


def test_l1_l7_many_small_files(tmp_path):
    """Packed, and packed once more over itself, within the packer's memory and a few fds."""
    tree = tmp_path / "tree"
    tree.mkdir()
    many_files(tree, L1_FILES)
    out, memory = measured(BASETOOL, "pack", tree, tmp_path / "out", fds=FDS_MAX)
    assert json.loads(out)["files"] == L1_FILES and memory < PACKER_MAX
    (tree / "d0000/f0000007").write_bytes(b"changed")
    out, memory = measured(BASETOOL, "pack", tree, tmp_path / "over", "--earlier", tmp_path / "out",
                           "--over", fds=FDS_MAX)
    assert json.loads(out)["files"] == L1_FILES and memory < PACKER_MAX
    last = f"d{(L1_FILES - 1) // 1000:04}/f{L1_FILES - 1:07}"
    got, memory = measured(BASETOOL, "cat", tmp_path / "over", last, "0", "1024", fds=FDS_MAX)
    assert got == KIB and memory < 32 << 20  # a question costs what it asks about
    print(f"L1: {L1_FILES} files")


def test_l4_one_block_of_fifty_gibibytes(tmp_path):
    """The base takes what the file takes, and so do the stream of its change and what is said of it."""
    size = 50 << 30
    tree, upper, out = tmp_path / "tree", tmp_path / "upper", tmp_path / "out"
    for folder in (tree, upper):
        folder.mkdir()
        with open(folder / "disk.img", "wb") as f:
            os.truncate(f.fileno(), size)
            os.pwrite(f.fileno(), b"begin" * 1000, 0)
            os.pwrite(f.fileno(), b"end", size - 3)
    if os.stat(tree / "disk.img").st_blocks > 2048:
        pytest.skip("this file system has no holes")
    with open(upper / "disk.img", "r+b") as f:
        os.pwrite(f.fileno(), b"A" * 4096, 31 << 30)
    packed, memory = measured(BASETOOL, "pack", tree, out)
    assert json.loads(packed)["image_bytes"] < 4 << 20 and memory < PACKER_MAX
    _, memory = measured(EXPORT, upper, tmp_path / "spool")
    assert memory < 16 << 20
    proposal_bytes = os.stat(tmp_path / "spool").st_size
    assert proposal_bytes < 64 << 10, "a stream of holes"
    _, memory = measured(PROPOSAL, "unpack", UNPACK, tmp_path / "spool", out / "base.erofs",
                         tmp_path / "index")
    assert memory < PARSER_MAX
    said = subprocess.run([PROPOSAL, "list", tmp_path / "index", tmp_path / "spool"],
                          capture_output=True, check=True).stdout.splitlines()
    (node,) = [n for n in map(json.loads, said) if bytes.fromhex(n["path"]) == b"disk.img"]
    assert node["size"] == size and node["stored"] < 32 << 10


def open_review(world):
    """reviewdrive's first answer, and its system calls and those of its jobs."""
    trace = os.path.join(world.path, "trace")
    got = subprocess.run(["strace", "-f", "-qq", "-o", trace, REVIEW, BIN, CLASSES, world.session,
                          world.tree], input=b"totals\n", capture_output=True, check=True)
    with open(trace, encoding="ascii", errors="replace") as f:
        calls = sum(1 for line in f if re.match(r"\d+\s+\w+\(", line))
    totals = [json.loads(line) for line in got.stdout.splitlines()]
    assert {"ok": True} in totals, got.stdout
    return calls, next(t for t in totals if "undecided" in t)


def test_l5_the_first_screen_follows_the_change(tmp_path):
    """Ten files changed in a tree of 400 directories and in one of 4,000, both of more than are looked into for new
    links: the same work."""
    if not shutil.which("strace"):
        pytest.skip("there is no strace to count by")
    calls = {}
    for count in (2_000, 20_000):
        world = World(tmp_path / str(count))
        many_files(world.tree, count, per_dir=5)
        world.pack()
        for i in range(10):
            world.agent.file(f"d{i % 3:04}/f{i % 3 * 5 + i // 3:07}", f"edited {i}\n")
        world.guest()
        calls[count], totals = open_review(world)
        assert totals["undecided"] == 10
    assert calls[20_000] < calls[2_000] * 1.2, calls


def wide_stream(count):
    """`count` new files of a KiB: as Stream makes them, and faster."""
    stream = Stream()
    body = record("mtime", b"1.000000000") + record("size", b"1024")
    parts = []
    for i in range(count):
        if i % 1000 == 0:
            name = b"d%04d" % (i // 1000)
            records = record("path", name) + record("mtime", b"1.000000000")
            parts += [header(b"x", 0o644, len(records), b".berm-pax"), records,
                      bytes(-len(records) % BLOCK), header(b"5", 0o755, 0, name)]
        name = b"d%04d/f%07d" % (i // 1000, i)
        records = record("path", name) + body
        parts += [header(b"x", 0o644, len(records), b".berm-pax"), records,
                  bytes(-len(records) % BLOCK), header(b"0", 0o644, 1024, name), b"x" * 1024]
    stream.data += b"".join(parts)
    stream.entries += count + (count + 999) // 1000
    return stream.whole()


def test_l6_l7_a_hundred_thousand_files_touched(tmp_path):
    world = World(tmp_path)
    world.host("echo text > file")
    world.pack()
    with open(os.path.join(world.session, "spool.tar"), "wb") as f:
        f.write(wide_stream(L6_FILES))
    spool = os.path.join(world.session, "spool.tar")
    _, memory = measured(PROPOSAL, "unpack", UNPACK, spool, os.path.join(world.session, "base.erofs"),
                         tmp_path / "index", fds=FDS_MAX)
    assert memory < PARSER_MAX
    with world.review() as r:
        assert r.totals()["undecided"] == L6_FILES + L6_FILES // 1000
        r.ask("all", "plain", "accept")
        assert r.totals()["undecided"] == 0
    with world.review() as r:
        assert r.totals()["accepted"] == L6_FILES + L6_FILES // 1000
