"""Packing a tree and reading it back: the snapshot cases of docs/internals/workspace-cases.md that
need no guest. Where this machine can mount EROFS, the kernel reads the same image and must agree.
"""

import contextlib
import hashlib
import json
import os
import re
import shutil
import socket
import stat
import subprocess
import tempfile
import threading

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
BUILD = os.environ.get("BERM_TEST_BUILD", os.path.join(TOP, "build/main"))
TOOL = os.path.join(BUILD, "tests/integration/work/basetool")
USER = 47000  # no account has it
MIB = 1 << 20
USER_RULE, OURS, MOUNT, FIFO, SOCKET, UNREADABLE, TORN, VANISHED = 4, 5, 6, 7, 8, 10, 11, 12
RACY, MADE = 1, 2
MEMORY_MAX = 256 * MIB


def run_tool(*args, **how):
    return subprocess.run([TOOL, *map(os.fspath, args)], capture_output=True, check=False, **how)


def tool(*args, **how):
    got = run_tool(*args, **how)
    assert got.returncode == 0, got.stderr.decode()
    return got.stdout


def pack(root, out, *options):
    return json.loads(tool("pack", root, out, *options))


def listing(out):
    """Path (escaped) -> (kind, mode, mtime in ns, size, digest)."""
    found = {}
    for line in tool("list", out).splitlines():
        kind, mode, mtime, size, digest, path = line.split(b" ", 5)
        seconds, rest = mtime.split(b".")
        found[path] = (kind, int(mode, 8), int(seconds) * 10**9 + int(rest), int(size), digest)
    return found


def report(out):
    """Path -> (why, is it a directory, errno, bytes, rule)."""
    found = {}
    for line in tool("report", out).splitlines():
        head, rule = line.split(b"\t")
        why, directory, error, size, path = head.split(b" ", 4)
        found[path] = (int(why), directory == b"1", int(error), int(size), rule)
    return found


def host(root):
    """What listing() must say of a tree of plain names."""
    found = {}
    root = os.fsencode(root)
    for folder, dirs, files in os.walk(root):
        for name in dirs + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            content, size, mode = None, st.st_size, st.st_mode & 0o777
            if stat.S_ISLNK(st.st_mode):
                kind, content, mode = b"l", os.readlink(path), 0o777
            elif stat.S_ISDIR(st.st_mode):
                kind = b"d"
            else:
                kind = b"f"
                with open(path, "rb") as f:
                    content = f.read()
            digest = b"0" * 64 if content is None else hashlib.sha256(content).hexdigest().encode()
            key = os.path.relpath(path, root)
            found[key] = (kind, mode, st.st_mtime_ns, size, digest)
    return found


def same(root, out):
    """The base is the tree, sizes of directories aside."""
    got, wanted = listing(out), host(root)
    without = {p: (k, m, t, 0 if k == b"d" else s, d) for p, (k, m, t, s, d) in got.items()}
    assert without == {p: (k, m, t, 0 if k == b"d" else s, d)
                       for p, (k, m, t, s, d) in wanted.items()}


def stored(path):
    """The image's bytes, block by block, without those that are zeros: holes may differ."""
    size = os.stat(path).st_size
    with open(path, "rb") as f:
        at = 0
        while at < size:
            try:
                at = os.lseek(f.fileno(), at, os.SEEK_DATA)
            except OSError:
                return
            end = os.lseek(f.fileno(), at, os.SEEK_HOLE)
            for block in range(at // 4096 * 4096, end, 4096):
                data = os.pread(f.fileno(), 4096, block)
                if data.strip(b"\0"):
                    yield block, data
            at = end


def digest(out):
    h = hashlib.sha256()
    for at, data in stored(os.path.join(out, "base.erofs")):
        h.update(at.to_bytes(8, "little") + data)
    return h.hexdigest()


@contextlib.contextmanager
def mounted(*args):
    """A file system for this test alone; the test is skipped where there is no mounting."""
    if os.geteuid() != 0:
        pytest.skip("mounting needs root")
    folder = tempfile.mkdtemp(prefix="basetest-", dir="/var/tmp")
    got = subprocess.run(["mount", *map(os.fspath, args), folder], capture_output=True, check=False)
    if got.returncode != 0:
        os.rmdir(folder)
        pytest.skip(f"this machine cannot mount: {got.stderr.decode().strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)
        os.rmdir(folder)


def kernel_reads(out):
    return mounted("-t", "erofs", "-o", "ro,loop", os.path.join(out, "base.erofs"))


def kernel_agrees(root, out):
    """fsck.erofs and the kernel's own reader, as far as this machine has them."""
    if shutil.which("fsck.erofs"):
        got = subprocess.run(["fsck.erofs", "--extract", os.path.join(out, "base.erofs")],
                             capture_output=True, check=False)
        assert got.returncode == 0, got.stdout + got.stderr
    with kernel_reads(out) as seen:
        got, wanted = host(seen), host(root)
    assert got.keys() == wanted.keys()
    for path, (kind, mode, mtime, size, sha) in wanted.items():
        assert got[path][:3] + got[path][4:] == (kind, mode, mtime, sha), path
        assert kind == b"d" or got[path][3] == size


@pytest.fixture
def place(tmp_path):
    """(an empty tree, where the base goes)"""
    root = tmp_path / "tree"
    root.mkdir()
    return root, tmp_path / "out"


def plain_tree(root):
    (root / "a" / "b").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "none").touch()
    for name, size, mode in (("one", 1, 0o755), ("a/inline", 192, 0o644), ("a/block", 193, 0o600),
                             ("a/b/page", 4096, 0o640), ("a/b/more", 4097, 0o444),
                             ("a/b/large", 3 * MIB + 5, 0o644)):
        (root / name).write_bytes((name.encode() * size)[:size])
        (root / name).chmod(mode)
    os.utime(root / "one", ns=(5, 981173106123456789))
    os.utime(root / "empty", ns=(5, -7000000001))  # before 1970
    (root / "to").symlink_to("a/b/../block")


def test_s1_bytes_modes_and_times(place):
    root, out = place
    plain_tree(root)
    totals = pack(root, out)
    assert (totals["files"], totals["dirs"], totals["links"]) == (7, 4, 1)
    same(root, out)
    assert report(out) == {}
    kernel_agrees(root, out)


def test_s2_s3_links_keep_their_text_and_lead_nowhere(place, tmp_path):
    root, out = place
    (tmp_path / "secret").write_text("MARKER-OUTSIDE")
    links = {"in": "a", "absolute": str(tmp_path / "secret"), "up": "../secret", "gone": "nowhere",
             "loop": "loop", "long": "x" * 4094, "dir": str(tmp_path)}
    for name, target in links.items():
        (root / name).symlink_to(target)
    (root / "a").write_text("a")
    assert pack(root, out)["links"] == len(links)
    same(root, out)
    assert not any(b"MARKER-OUTSIDE" in data for _, data in stored(out / "base.erofs"))
    kernel_agrees(root, out)


def test_s4_a_file_rewritten_all_the_time(place):
    root, out = place
    path = root / "busy"
    path.write_bytes(b"0" * 65536)
    stop = threading.Event()

    def rewrite():
        fd = os.open(path, os.O_WRONLY)
        n = 0
        while not stop.wait(0.01):
            n += 1
            for at in range(0, 65536, 4096):
                os.pwrite(fd, b"%d" % (n % 10) * 4096, at)
        os.close(fd)

    writer = threading.Thread(target=rewrite)
    writer.start()
    try:
        for i in range(8):
            pack(root, out)
            left, got = report(out), listing(out)
            if b"busy" in left:
                assert left[b"busy"][0] == TORN and b"busy" not in got
                continue
            whole = {hashlib.sha256(b"%d" % d * 65536).hexdigest().encode() for d in range(10)}
            assert got[b"busy"][4] in whole, f"round {i}: a mixture entered"
    finally:
        stop.set()
        writer.join()


def test_s4_what_never_rests_is_torn_and_leaves_nothing(place):
    root, out = place
    path = root / "busy"
    path.write_bytes(b"MARKER-TORN " * 100000)
    (root / "z").write_bytes(b"z" * 5000)
    stop = threading.Event()

    def touch():
        while not stop.is_set():
            os.utime(path)

    writer = threading.Thread(target=touch)
    writer.start()
    try:
        pack(root, out)
    finally:
        stop.set()
        writer.join()
    if report(out):  # it nearly always is
        assert report(out)[b"busy"][0] == TORN
        assert not any(b"MARKER-TORN" in data for _, data in stored(out / "base.erofs"))
    assert listing(out)[b"z"][3] == 5000


def test_s5_subtree_removed_during_the_walk(place):
    root, out = place
    for i in range(60):
        (root / f"d{i:02}").mkdir()
        for j in range(30):
            (root / f"d{i:02}" / f"f{j}").write_bytes(b"x" * 3000)
    remover = threading.Thread(
        target=lambda: [shutil.rmtree(root / f"d{i:02}") for i in range(59, -1, -1)])
    remover.start()
    totals = pack(root, out)
    remover.join()
    left = report(out)
    assert {r[0] for r in left.values()} <= {VANISHED}
    assert totals["files"] == sum(1 for r in listing(out).values() if r[0] == b"f")


def test_s6_unreadable_is_named(place):
    root, out = place
    (root / "closed").mkdir()
    for name in ("open", "shut", "closed/in"):
        (root / name).write_text(name)
    (root / "shut").chmod(0)
    (root / "closed").chmod(0)
    try:
        if os.geteuid() == 0:
            public = tempfile.mkdtemp(prefix="basetest-", dir="/var/tmp")
            os.chmod(public, 0o755)
            shutil.copytree(root, f"{public}/tree")
            for folder, dirs, files in os.walk(public):
                for name in [*dirs, *files]:
                    os.chown(os.path.join(folder, name), USER, USER)
            os.mkdir(f"{public}/out")
            os.chown(f"{public}/out", USER, USER)
            program = shutil.copy(TOOL, public)
            got = subprocess.run([program, "pack", f"{public}/tree", f"{public}/out"], user=USER,
                                 group=USER, extra_groups=[], capture_output=True, check=False)
            assert got.returncode == 0, got.stderr
            left, entered = report(f"{public}/out"), listing(f"{public}/out")
            shutil.rmtree(public)
        else:
            pack(root, out)
            left, entered = report(out), listing(out)
    finally:
        (root / "closed").chmod(0o700)
    assert left[b"shut"][:3] == (UNREADABLE, False, 13)
    assert left[b"closed"][:3] == (UNREADABLE, True, 13)
    assert set(entered) == {b"open"}


def test_s6_the_report_answers_for_what_is_below(place):
    root, out = place
    (root / "a" / "skipped" / "deep").mkdir(parents=True)
    for i in range(300):
        (root / f"d{i:03}" / "node").mkdir(parents=True)
    pack(root, out, "--skip", "skipped", "--skip", "node")
    assert len(report(out)) == 301
    for i in range(300):
        assert tool("find", out, f"d{i:03}/node").startswith(b"4 1 0 0 d%03d/node" % i)
    assert tool("find", out, "a/skipped/deep/x").startswith(b"4 1 0 0 a/skipped\tskipped")
    assert run_tool("find", out, "a/skipped2").returncode == 1
    assert run_tool("find", out, "a").returncode == 1


def test_s7_hard_links_are_two_files_with_one_content(place):
    root, out = place
    (root / "one").write_bytes(b"h" * 100000)
    os.link(root / "one", root / "two")
    totals = pack(root, out)
    assert totals["hard_links"] == 1 and totals["image_bytes"] < 150000
    same(root, out)
    with kernel_reads(out) as seen:
        one, two = os.stat(f"{seen}/one"), os.stat(f"{seen}/two")
        assert one.st_ino != two.st_ino and one.st_nlink == two.st_nlink == 1


def test_s8_sparse_files_stay_small(place):
    root, out = place
    with open(root / "huge", "wb") as f:
        os.truncate(f.fileno(), 100 << 30)
        os.pwrite(f.fileno(), b"D" * 4096, 50 << 30)
    with open(root / "some", "wb") as f:
        os.truncate(f.fileno(), 10 * MIB + 3)
        for at in (0, 70000, 5 * MIB + 1, 10 * MIB - 1):
            os.pwrite(f.fileno(), b"data", at)
    if os.stat(root / "huge").st_blocks > 2048:
        pytest.skip("this file system has no holes")
    totals = pack(root, out)
    assert totals["image_bytes"] < 2 * MIB
    assert os.stat(out / "base.erofs").st_blocks * 512 < 3 * MIB
    assert tool("cat", out, "huge", str((50 << 30) - 8), "16") == b"\0" * 8 + b"D" * 8
    assert tool("cat", out, "huge", str((100 << 30) - 8), "8") == b"\0" * 8
    content = (root / "some").read_bytes()
    assert tool("cat", out, "some", "0", str(len(content))) == content
    with kernel_reads(out) as seen, open(f"{seen}/huge", "rb") as f:
        assert os.fstat(f.fileno()).st_size == 100 << 30
        assert os.pread(f.fileno(), 16, (50 << 30) - 8) == b"\0" * 8 + b"D" * 8
        with open(f"{seen}/some", "rb") as g:
            assert g.read() == content


def test_s9_home_root_and_state_are_no_workspaces(tmp_path):
    home, state = tmp_path / "home", tmp_path / "home/.state"
    (home / "project").mkdir(parents=True)
    (state / "x").mkdir(parents=True)
    assert run_tool("check", home / "project", home, state).returncode == 0
    for bad in (home, tmp_path, "/"):
        got = run_tool("check", bad, home, state)
        assert got.returncode == 1 and got.stderr
        assert run_tool("check", bad, home, state, "--wide").returncode == 0
    for bad in (state, state / "x"):
        assert b"state" in run_tool("check", bad, home, state, "--wide").stderr


def test_s9_own_state_never_enters(place):
    root, out = place
    (root / "state/sessions").mkdir(parents=True)
    (root / "state/sessions/x").write_text("MARKER-STATE")
    pack(root, out, "--never", root / "state")
    assert report(out)[b"state"][:2] == (OURS, True)
    assert set(listing(out)) == set()


def test_s10_other_file_systems_are_listed(place):
    root, out = place
    with mounted("-t", "tmpfs", "none") as other:
        with open(f"{other}/inside", "w", encoding="ascii") as f:
            f.write("inside")
        for name in ("bound", "same"):
            (root / name).mkdir()
        (root / "file").touch()
        (root / "dir").mkdir()
        (root / "dir/inside").write_text("own")
        binds = [(other, "bound"), (str(root / "dir"), "same"), (f"{other}/inside", "file")]
        for source, name in binds:
            subprocess.run(["mount", "--bind", source, root / name], check=True)
        try:
            pack(root, out)
            left = report(out)
            crossed = out.parent / "crossed"
            pack(root, crossed, "--cross")
        finally:
            for _, name in binds:
                subprocess.run(["umount", "-l", root / name], check=True)
    assert {p: r[0] for p, r in left.items()} == {b"bound": MOUNT, b"same": MOUNT, b"file": MOUNT}
    assert left[b"bound"][1] and not left[b"file"][1]
    assert b"bound/inside" in listing(crossed)


def test_special_files_are_named(place):
    root, out = place
    os.mkfifo(root / "pipe")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / "sock"))
        pack(root, out)
    assert {p: r[0] for p, r in report(out).items()} == {b"pipe": FIFO, b"sock": SOCKET}
    assert listing(out) == {}


def test_s12_the_same_tree_gives_the_same_bytes(place, tmp_path):
    root, out = place
    plain_tree(root)
    pack(root, out)
    pack(root, tmp_path / "again")
    assert digest(out) == digest(tmp_path / "again")
    (root / "one").write_text("other")
    pack(root, tmp_path / "other")
    assert digest(out) != digest(tmp_path / "other")


def test_s13_a_stop_ends_it(place):
    root, out = place
    for i in range(700):
        (root / f"f{i}").touch()
    before = sorted(os.listdir(root))
    got = run_tool("pack", root, out, "--stop-after", "1")
    assert got.returncode == 3 and b"stopped" in got.stderr
    assert sorted(os.listdir(root)) == before
    assert sorted(os.listdir(out)) == ["base.erofs", "base.manifest", "base.report"]
    assert run_tool("list", out).returncode == 1  # never taken for a base


def test_s14_a_full_disk_is_told_what_is_needed(place):
    root, _ = place
    (root / "large").write_bytes(os.urandom(8 * MIB))
    with mounted("-t", "tmpfs", "-o", "size=2m", "none") as small:
        got = run_tool("pack", root, f"{small}/out")
        used = os.stat(f"{small}/out/base.erofs").st_blocks
    assert got.returncode == 1
    needed = re.search(rb"needs .*\((\d+) bytes\)", got.stderr)
    assert needed and 8 * MIB <= int(needed[1]) < 9 * MIB, got.stderr
    assert used == 0 and os.listdir(root) == ["large"]


def test_s17_long_names_long_paths_and_any_byte(place):
    root, out = place
    names = [b"n" * 255, b"\xe9\xff", b"-", b"!", b".a", b"..a", b"a\nb", b"\x01", b" "]
    for name in names:
        with open(os.path.join(os.fsencode(root), name), "wb") as f:
            f.write(name * 100)
    fd = os.open(root, os.O_RDONLY)
    depth = 16
    for i in range(depth):  # 16 * 250: paths of 4,000 bytes
        name = b"%03d" % i + b"p" * 246
        os.mkdir(name, dir_fd=fd)
        below = os.open(name, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    totals = pack(root, out)
    assert (totals["files"], totals["dirs"]) == (len(names) + 1, depth + 1)
    got = listing(out)
    assert rb"\xe9\xff" in got and rb"a\x0ab" in got and b"n" * 255 in got
    assert max(len(p) for p in got) == depth * 250 + 4
    with kernel_reads(out) as seen:
        for name in names:
            with open(os.path.join(os.fsencode(seen), name), "rb") as f:
                assert f.read() == name * 100


def test_s19_setuid_and_capabilities_stay_outside(place):
    root, out = place
    (root / "tool").write_bytes(b"\x7fELF" * 100)
    (root / "tool").chmod(0o4755)
    if os.geteuid() == 0:
        os.setxattr(root / "tool", "security.capability",
                    bytes.fromhex("0100000200200000000000000000000000000000"))
    assert pack(root, out)["setid"] == 1
    assert listing(out)[b"tool"][1] == 0o755
    with kernel_reads(out) as seen:
        assert os.stat(f"{seen}/tool").st_mode & 0o7777 == 0o755
        assert os.listxattr(f"{seen}/tool") == []


def test_what_is_excluded_is_not_in_the_image(place):
    root, out = place
    (root / "d").mkdir()
    for i in range(50):
        (root / "d" / f"f{i}").write_bytes(b"x" * (i * 100))
        (root / "d" / f"key{i}").write_bytes(b"MARKER-SECRET" * 40)
        (root / "d" / f"small{i}").write_bytes(b"y" * i)
    skips = [word for i in range(0, 16) for word in ("--skip", f"key{i}")]
    for i in range(16, 50):
        (root / "d" / f"key{i}").unlink()
    totals = pack(root, out, *skips)
    assert totals["left_out"] == {str(USER_RULE): 16}
    assert not any(b"MARKER-SECRET" in data for _, data in stored(out / "base.erofs"))
    assert report(out)[b"d/key3"] == (USER_RULE, False, 0, 520, b"key3")


def test_a_graft_takes_the_place_of_a_file(place):
    root, out = place
    (root / "config").write_text("MARKER-HOST")
    pack(root, out, "--graft", "config=clean")
    assert tool("cat", out, "config", "0", "5") == b"clean"
    assert json.loads(tool("record", out, "config"))["flags"] == MADE
    assert not any(b"MARKER-HOST" in data for _, data in stored(out / "base.erofs"))


# -- a second pack --------------------------------------------------------------------------------


def settle(root, out):
    """Packs until nothing of it is too young to be trusted."""
    for _ in range(100):
        pack(root, out)
        if not any(json.loads(tool("record", out, os.fsdecode(p)))["flags"] & RACY
                   for p, r in listing(out).items() if r[0] == b"f"):
            return
        threading.Event().wait(0.3)
    pytest.fail("the tree stays young for half a minute")


def second_pack(root, tmp_path):
    plain_tree(root)
    for i in range(40):
        (root / "a" / f"n{i}").write_bytes(b"%d" % i * 2000)
    settle(root, tmp_path / "first")
    (root / "a/n7").write_bytes(b"7" * 4000)
    (root / "a/n8").unlink()
    (root / "a/n9b").write_bytes(b"new" * 100)
    (root / "a/n10").chmod(0o700)
    (root / "a/n11").rename(root / "a/b/n11")
    times = os.stat(root / "a/n12")
    (root / "a/n12").write_bytes(b"ab" * 2000)  # as long as before, and as old
    os.utime(root / "a/n12", ns=(times.st_atime_ns, times.st_mtime_ns))
    totals = pack(root, tmp_path / "second", "--earlier", tmp_path / "first")
    pack(root, tmp_path / "fresh")
    assert totals["reused_files"] == 42  # of 47: two edited, one gone, one renamed, one chmod
    same(root, tmp_path / "second")
    assert digest(tmp_path / "second") == digest(tmp_path / "fresh")


def test_a_second_pack_takes_what_has_not_changed(tmp_path):
    (tmp_path / "tree").mkdir()
    second_pack(tmp_path / "tree", tmp_path)
    kernel_agrees(tmp_path / "tree", tmp_path / "second")


@pytest.mark.parametrize("kind", ["btrfs", "xfs"])
def test_a_second_pack_shares_blocks(kind, tmp_path):
    if not shutil.which(f"mkfs.{kind}"):
        pytest.skip(f"there is no mkfs.{kind}")
    with open(tmp_path / "disk", "wb") as f:
        os.truncate(f.fileno(), 512 * MIB)
    subprocess.run([f"mkfs.{kind}", "-q", tmp_path / "disk"], check=True, capture_output=True)
    with mounted("-o", "loop", tmp_path / "disk") as where:
        os.mkdir(f"{where}/tree")
        second_pack(type(tmp_path)(where) / "tree", type(tmp_path)(where))


def taken(out):
    """Bytes of the disk that the image has, as they will be once they are written."""
    fd = os.open(os.path.join(out, "base.erofs"), os.O_RDONLY)
    os.fsync(fd)
    os.close(fd)
    return os.stat(os.path.join(out, "base.erofs")).st_blocks * 512


def test_s12_a_pack_over_an_earlier_image_is_the_same_tree(place, tmp_path):
    """Three times over: nothing of what went is left in the file, be it gone, changed or excluded."""
    root, out = place
    plain_tree(root)
    (root / "many").mkdir()
    for i in range(400):  # a directory with blocks of its own
        (root / "many" / f"n{i}").write_bytes(b"%d " % i * 2000)
    os.link(root / "many/n1", root / "many/twin")
    (root / "many/key").write_bytes(b"MARKER-KEY " * 900)
    with open(root / "holes", "wb") as f:
        os.truncate(f.fileno(), 30 * MIB)
        os.pwrite(f.fileno(), b"MARKER-HOLES" * 500, 20 * MIB)
    settle(root, out)
    for turn in range(3):
        last, out = out, tmp_path / f"over{turn}"
        (root / f"many/n{turn * 9 + 2}").write_bytes(b"MARKER-%d" % turn * 2000)
        (root / f"many/n{turn * 9 + 3}").unlink()
        (root / f"many/n{turn * 9 + 4}").rename(root / f"moved{turn}")
        (root / f"a/new{turn}").write_bytes(b"new" * 3000)
        skip = ("--skip", "key")
        if turn > 0:
            skip = ()
            (root / "many/key").unlink(missing_ok=True)
            (root / f"many/n{(turn - 1) * 9 + 2}").write_bytes(b"plain" * 2000)
        totals = pack(root, out, "--earlier", last, "--over", *skip)
        assert not (last / "base.erofs").exists()
        assert totals["reused_files"] > 380 and totals["hard_links"] == 1
        fresh = tmp_path / "fresh"
        pack(root, fresh, *skip)
        assert listing(out) == listing(fresh) and report(out) == report(fresh)
        blocks = [data for _, data in stored(out / "base.erofs")]
        for marker, stays in ((b"MARKER-KEY", False), (b"MARKER-%d" % turn, True),
                              (b"MARKER-%d" % (turn - 1), False), (b"MARKER-HOLES", True)):
            assert any(marker in data for data in blocks) == stays, (turn, marker)
        assert len(blocks) == sum(1 for _ in stored(fresh / "base.erofs"))
        assert taken(out) < taken(fresh) + 64 * 1024
    assert run_tool("pack", root, tmp_path / "x", "--earlier", last, "--over").returncode == 1
    kernel_agrees(root, out)


# -- is it still what was packed? -----------------------------------------------------------------


DIFFERS = 4


def held(root, out, *options):
    """Is the tree what `out` has, by the packer's word? It writes a report either way."""
    got = run_tool("pack", root, f"{out}-held", "--earlier", out, "--same", *options)
    assert got.returncode in (0, DIFFERS), got.stderr
    names = [name for name in os.listdir(f"{out}-held") if name.startswith("base.")]
    assert names == ["base.report"]
    return got.returncode == 0


def put(name, content=b"other"):
    return lambda root: (root / name).write_bytes(content)


def as_long_and_as_old(root):
    times = os.stat(root / "a/block")
    (root / "a/block").write_bytes(b"x" * times.st_size)
    os.utime(root / "a/block", ns=(times.st_atime_ns, times.st_mtime_ns))


def replaced_by_a_copy(root):
    subprocess.run(["cp", "-a", root / "one", root / "copy"], check=True)
    (root / "copy").rename(root / "one")


def another_target(root):
    (root / "to").unlink()
    (root / "to").symlink_to("a/b/../other")


def file_for_link(root):
    (root / "to").unlink()
    (root / "to").write_bytes(b"a/b/../block")


def directory_for_file(root):
    (root / "none").unlink()
    (root / "none").mkdir()


def moved_away_and_back(root):
    """Nothing is another now, but for what the directories say."""
    (root / "one").rename(root / "two")
    (root / "two").rename(root / "one")


CHANGES = {
    "content": put("a/b/page"), "longer": put("none"), "added": put("a/new"), "as long and as old": as_long_and_as_old,
    "removed": lambda root: (root / "one").unlink(), "removed directory": lambda root: (root / "empty").rmdir(),
    "mode": lambda root: (root / "one").chmod(0o700), "mode of a directory": lambda root: (root / "a").chmod(0o700),
    "mode of the root": lambda root: root.chmod(0o711), "new directory": lambda root: (root / "a/b/c").mkdir(),
    "time": lambda root: os.utime(root / "a/inline"), "time of a directory": lambda root: os.utime(root / "empty"),
    "renamed": lambda root: (root / "one").rename(root / "two"), "target": another_target, "kind": file_for_link,
    "kind too": directory_for_file, "a copy": replaced_by_a_copy, "moved and back": moved_away_and_back,
    "another name": lambda root: os.link(root / "one", root / "a/twin"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_tree_that_was_changed_is_not_what_was_packed(place, change):
    root, out = place
    plain_tree(root)
    settle(root, out)
    assert held(root, out) and held(root, out)  # nothing of it is spent
    before = listing(out)
    CHANGES[change](root)
    assert not held(root, out)
    assert listing(out) == before


def test_a_tree_that_is_young_is_compared_by_its_content(place):
    root, out = place
    plain_tree(root)
    pack(root, out)
    assert json.loads(tool("record", out, "a/block"))["flags"] & RACY
    threading.Event().wait(0.1)  # past a tick of the clock
    assert held(root, out)
    # a change that no time shows: the base is another's, who packed in the same moment
    with open(out / "base.erofs", "r+b") as f:
        for at, data in stored(out / "base.erofs"):
            if data.startswith(b"a/blocka/block"):
                os.pwrite(f.fileno(), b"X", at)
    assert not held(root, out)


def test_what_enters_by_other_rules_is_not_what_was_packed(place):
    root, out = place
    plain_tree(root)
    (root / "key").write_bytes(b"secret")
    settle(root, out)
    for options in (("--skip", "key"), ("--skip", "a"), ("--graft", "key=clean"), ("--graft", "more=clean"),
                    ("--uid", "0"), ("--never", root / "empty")):
        assert not held(root, out, *options), options
    assert held(root, out, "--skip", "not-there")  # what makes no difference makes none
    pack(root, out, "--skip", "key")
    assert not held(root, out) and held(root, out, "--skip", "key")
    (root / "key").write_bytes(b"changed, and out of it")
    assert held(root, out, "--skip", "key")
    pack(root, out, "--graft", "key=clean")
    assert held(root, out, "--graft", "key=clean") and not held(root, out, "--graft", "key=other")


def test_what_stays_out_is_reported_again(place):
    root, out = place
    plain_tree(root)
    os.mkfifo(root / "a/pipe")
    settle(root, out)
    assert held(root, out)
    assert report(f"{out}-held") == report(out) != {}


# -- large trees ----------------------------------------------------------------------------------


def packed_in_memory(root, out):
    """Packs, and answers the most memory that took."""
    code = ("import resource, subprocess, sys; r = subprocess.run(sys.argv[1:], stdout=2).returncode;"
            "print(r, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
    got = subprocess.run(["/usr/bin/python3", "-c", code, TOOL, "pack", root, out],
                         capture_output=True, check=True)
    result, kib = got.stdout.split()
    assert result == b"0", got.stderr
    return int(kib) * 1024


def test_l2_l7_a_hundred_thousand_names_in_one_directory(place):
    root, out = place
    fd = os.open(root, os.O_RDONLY)
    for i in range(100000):
        os.close(os.open(f"name-{i}", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    assert packed_in_memory(root, out) < MEMORY_MAX
    assert sum(1 for _ in tool("list", out).splitlines()) == 100000
    assert json.loads(tool("record", out, "name-99999"))["kind"] == 1


def test_l3_depth_200(place):
    root, out = place
    deep = root.joinpath(*["d"] * 200)
    deep.mkdir(parents=True)
    (deep / "end").write_text("end")
    assert pack(root, out)["dirs"] == 201
    assert tool("cat", out, "/".join(["d"] * 200 + ["end"]), "0", "3") == b"end"
    same(root, out)


def test_l3_too_deep_is_named(place):
    root, out = place
    root.joinpath(*["d"] * 260).mkdir(parents=True)
    assert pack(root, out)["dirs"] == 257
    assert list(report(out).values())[0][0] == 14
