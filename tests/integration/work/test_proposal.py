"""A spooled proposal and its jailed reader, from outside: what is refused, by which name, and that
nothing is ever changed but the index. The cases T of the catalogue are also in C, more of each:
tests/unit/work/test_proposal_tar.c and test_proposal_job.c.
"""

import errno
import hashlib
import json
import os
import random
import resource
import subprocess

import pytest
from proposal_stream import BLOCK, Stream, header, record

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
MAIN = os.path.join(TOP, "build/main")
DRIVE = os.path.join(MAIN, "tests/integration/work/proposaldrive")
BASETOOL = os.path.join(MAIN, "tests/integration/work/basetool")
UNPACK = os.path.join(MAIN, "src/bin/berm-unpack")
FILE, DIR, LINK, WHITEOUT, OTHER = 1, 2, 3, 4, 5
OPAQUE, REDIRECT = 1, 2
FIFO, NOT_IN_BASE, ROOT, NO_SOURCE, TWICE, OURS = 1, 6, 7, 8, 9, 10


class Session:
    """A directory with a base, a spool and an index."""

    def __init__(self, path):
        self.path = path
        tree = os.path.join(path, "tree")
        os.makedirs(os.path.join(tree, "dir/sub"))
        for name in ("a", "dir/file", "dir/sub/x"):
            with open(os.path.join(tree, name), "w", encoding="utf-8") as f:
                f.write(name)
        os.symlink("dir", os.path.join(tree, "link"))
        os.mkdir(os.path.join(path, "base"))
        subprocess.run([BASETOOL, "pack", tree, os.path.join(path, "base")], check=True,
                       stdout=subprocess.DEVNULL, timeout=60)
        self.base = os.path.join(path, "base/base.erofs")
        self.spool = os.path.join(path, "spool.tar")
        self.index = os.path.join(path, "proposal.idx")

    def unpack(self, data, program=UNPACK, *words, **more):
        if data is not None:
            with open(self.spool, "wb") as f:
                f.write(data)
        os.chmod(self.spool, 0o400)
        before = self.witness()
        argv = [DRIVE, "unpack", program, self.spool, self.base, self.index, *map(str, words)]
        got = subprocess.run(argv, capture_output=True, text=True, timeout=240, check=False, **more)
        assert self.witness() == before, "something but the index was touched"
        os.chmod(self.spool, 0o600)
        return got

    def witness(self):
        """All of the session but the index: names, and what the spool and the base are."""
        found = {}
        for folder, _, names in os.walk(self.path):
            for name in names:
                path = os.path.join(folder, name)
                if path != self.index:
                    st = os.lstat(path)
                    found[path] = (st.st_size, st.st_mtime_ns, st.st_mode)
        with open(self.spool, "rb") as f:
            found["spool"] = hashlib.file_digest(f, "sha256").hexdigest() \
                if hasattr(hashlib, "file_digest") else hashlib.sha256(f.read()).hexdigest()
        return found

    def taken(self, stream):
        got = self.unpack(stream.whole())
        assert (got.returncode, got.stderr) == (0, "")
        return self.nodes()

    def nodes(self):
        out = subprocess.run([DRIVE, "list", self.index, self.spool], capture_output=True,
                             check=True, timeout=60).stdout
        nodes = [json.loads(line) for line in out.splitlines()]
        for node in nodes:
            for key in ("path", "target"):
                node[key] = bytes.fromhex(node[key])
        return {node["path"]: node for node in nodes}

    def refused(self, data, says, code=errno.EBADMSG):
        got = self.unpack(data)
        assert got.returncode == 1 and got.stderr.startswith(f"{code} "), got.stderr
        assert says in got.stderr
        assert "\x1b" not in got.stderr
        after = subprocess.run([DRIVE, "list", self.index, self.spool], capture_output=True,
                               check=False, timeout=60)
        assert after.returncode == 1 and after.stdout == b""  # there is no index to be misled by


@pytest.fixture
def session(tmp_path):
    return Session(str(tmp_path))


def test_all_kinds_are_told_as_they_are(session):
    stream = Stream().whiteout("a").dir("dir").file("dir/file", b"new\0", mode=0o751)
    stream.link("dir/l", "../../x").other("dir/p", "fifo").dir("moved", **{"BERM.redirect": "dir/sub"})
    nodes = session.taken(stream)
    assert nodes[b"a"]["kind"] == WHITEOUT and nodes[b"a"]["why"] == 0
    assert nodes[b"dir/file"]["mode"] == 0o751 and nodes[b"dir/file"]["flags"] == 0
    assert nodes[b"dir/file"]["sha256"] == hashlib.sha256(b"new\0").hexdigest()
    assert nodes[b"dir/l"]["target"] == b"../../x"
    assert (nodes[b"dir/p"]["kind"], nodes[b"dir/p"]["why"]) == (OTHER, FIFO)
    assert (nodes[b"moved"]["flags"], nodes[b"moved"]["target"]) == (REDIRECT, b"dir/sub")


def test_contents_are_read_back(session):
    big = random.Random(7).randbytes(3_000_001)
    stream = Stream().file("big", big).sparse("s", 1 << 20, [(5, b"five"), (70000, b"seventy")])
    session.taken(stream)
    out = subprocess.run([DRIVE, "cat", session.index, session.spool, "big"], capture_output=True,
                         check=True, timeout=60).stdout
    assert out == big
    want = bytearray(1 << 20)
    want[5:9], want[70000:70007] = b"five", b"seventy"
    out = subprocess.run([DRIVE, "cat", session.index, session.spool, "s"], capture_output=True,
                         check=True, timeout=60).stdout
    assert out == want


HOSTILE = {
    "t1_up": (lambda: Stream().file("../x", "x").whole(), "path"),
    "t1_absolute": (lambda: Stream().file("/etc/passwd", "x").whole(), "path"),
    "t1_dot": (lambda: Stream().dir("dir").file("dir/./x", "x").whole(), "path"),
    "t2_below_a_link": (lambda: Stream().link("b", "/etc").file("b/x", "x").whole(), "below"),
    "t4_hard_link": (lambda: Stream().add(b"1", 0, "b", {"path": "b", "linkpath": "/etc/passwd"},
                                          target="/etc/passwd").whole(), "type"),
    "t5_twice": (lambda: Stream().file("b", "x").file("b", "y").whole(), "before"),
    "t6_two_names": (lambda: Stream().add(b"2", 0, "b", {"path": "c", "mtime": "1.000000000",
                                                         "linkpath": "x"}, target="x").whole(), "name"),
    "t7_huge": (lambda: Stream().add(b"0", 0, "b", {"path": "b", "mtime": "1.000000000",
                                                    "size": 1 << 40}).whole(), "cut"),
    "t7_base256": (lambda: Stream().add(b"0", 0, "b", {"path": "b", "mtime": "1.000000000", "size": 1},
                                        b"x", at_124=b"\x80" + bytes(10) + b"\x01").whole(), "size"),
    "t8_global": (lambda: bytes(Stream().data + header(b"g", 0o644, 0, b"g")), "type"),
    "t8_gnu_name": (lambda: bytes(Stream().data + header(b"L", 0o644, 0, b"././@LongLink")), "type"),
    "t9_checksum": (lambda: bytes(bytearray(Stream().whole()).replace(b"0000755", b"0000757", 1)),
                    "checksum"),
    "t9_second_archive": (lambda: Stream().whole() * 2, "follows"),
    "t10_long_name": (lambda: Stream().file("n" * 256, "x").whole(), "path"),
    "t10_long_path": (lambda: Stream().file("/".join(["n" * 200] * 25), "x").whole(), "path"),
    "t11_sparse": (lambda: Stream().sparse("b", 1 << 63, [(0, b"x")]).whole(), "longer than a file"),
    "t12_root_gone": (lambda: Stream(root=False).whiteout(".").whole(), "first entry"),
    "t15_xattr": (lambda: Stream().dir("b", **{"SCHILY.xattr.security.capability": "x"}).whole(),
                  "record"),
    "nothing": (lambda: b"", "cut"),
    "zeros": (lambda: bytes(10 * BLOCK), "checksum"),
    "another_tar": (lambda: header(b"5", 0o755, 0, b"./") + bytes(2 * BLOCK), "type"),
    "terminal": (lambda: Stream().file("\x1b]0;x\x07", "x").file("\x1b]0;x\x07", "x").whole(), "before"),
}


@pytest.mark.parametrize("case", sorted(HOSTILE))
def test_hostile_streams_are_refused_by_name(session, case):
    make, says = HOSTILE[case]
    session.refused(make(), says)


def test_t12_t13_what_the_base_contradicts_is_told_and_the_rest_stays(session):
    stream = Stream(**{"BERM.opaque": 1}).whiteout(".git").dir("dir").whiteout("dir/never")
    stream.whiteout("link").dir("x", **{"BERM.redirect": "a"}).dir("y", **{"BERM.redirect": "dir/sub"})
    stream.whiteout("y/x").dir("z", **{"BERM.redirect": "dir/sub"}).file("z/new", "new")
    nodes = session.taken(stream)
    assert (nodes[b""]["why"], nodes[b""]["flags"]) == (ROOT, 0)
    assert nodes[b".git"]["why"] == NOT_IN_BASE and nodes[b"dir/never"]["why"] == NOT_IN_BASE
    assert nodes[b"link"]["why"] == 0
    assert (nodes[b"x"]["why"], nodes[b"x"]["flags"]) == (NO_SOURCE, OPAQUE)
    assert nodes[b"y"]["why"] == 0 and nodes[b"y/x"]["why"] == 0
    assert (nodes[b"z"]["why"], nodes[b"z"]["flags"]) == (TWICE, OPAQUE)
    assert nodes[b"z/new"]["why"] == 0


def test_t14_t16_names_that_mean_something_elsewhere(session):
    stream = Stream().file(".berm-end", "no").dir(".berm-stage-1").file(".berm-stage-1/x", "x")
    stream.file(".wh.a", "a").file("link.wh", "x")
    nodes = session.taken(stream)
    assert nodes[b".wh.a"]["kind"] == FILE and nodes[b".berm-end"]["kind"] == FILE
    assert nodes[b".berm-stage-1"]["why"] == OURS and nodes[b".berm-stage-1/x"]["why"] == OURS


@pytest.mark.parametrize("percent", [1, 50, 99])
def test_k6_a_cut_stream_is_no_proposal_and_the_whole_one_is(session, percent):
    whole = Stream().dir("dir").file("dir/file", "x" * 100_000).file("z", "z").whole()
    session.refused(whole[: len(whole) * percent // 100], "cut")
    assert session.unpack(whole).returncode == 0


def script(path, text):
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"#!/bin/sh\n{text}\n")
    os.chmod(path, 0o755)
    return str(path)


def test_k9_a_reader_that_dies_leaves_the_spool_as_it_was(session, tmp_path):
    data = Stream().file("b", "x").whole()
    got = session.unpack(data, script(tmp_path / "dies", "kill -9 $$"))
    assert got.returncode == 1 and got.stderr.startswith(f"{errno.ECANCELED} ")
    assert "signal 9" in got.stderr and "kept" in got.stderr
    assert session.unpack(None).returncode == 0


def test_k9_a_reader_that_says_nothing_or_too_much(session, tmp_path):
    data = Stream().file("b", "x").whole()
    got = session.unpack(data, script(tmp_path / "silent", "exit 1"))
    assert got.stderr.startswith(f"{errno.ECANCELED} ")
    loud = script(tmp_path / "loud", "printf 'J\\000\\000\\000\\033]0;evil\\007' >&6\nexit 1")
    got = session.unpack(data, loud)
    assert got.stderr == "74 \\x1b]0;evil\\x07\n"
    odd = script(tmp_path / "odd", "printf '\\377\\377\\377\\377x' >&6\nexit 1")
    assert session.unpack(data, odd).stderr == f"{errno.EIO} x\n"


def test_k9_a_reader_that_hangs_is_ended(session, tmp_path):
    hangs = script(tmp_path / "hangs", "exec sleep 1000")
    got = session.unpack(Stream().whole(), hangs, 300)
    assert got.stderr.startswith(f"{errno.ETIMEDOUT} ") and "kept" in got.stderr


def test_k9_out_of_memory_names_itself(session):
    def poor():
        resource.setrlimit(resource.RLIMIT_DATA, (1 << 20, 1 << 20))

    got = session.unpack(Stream().whole(), preexec_fn=poor)
    assert got.returncode == 1 and "memory" in got.stderr
    assert session.unpack(None).returncode == 0


def test_a_base_that_is_none_is_an_error_of_its_own(session):
    with open(session.spool, "wb") as f:
        f.write(Stream().whole())
    got = subprocess.run([DRIVE, "unpack", UNPACK, session.spool, session.spool, session.index],
                         capture_output=True, text=True, timeout=60, check=False)
    assert got.returncode == 1 and "base" in got.stderr


def peak_kib(session, data):
    """Resident memory of the reader, through GNU time's own wait."""
    with open(session.spool, "wb") as f:
        f.write(data)
    code = ("import os,resource,subprocess,sys;"
            "r=subprocess.run(sys.argv[1:]).returncode;"
            "print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss);sys.exit(r)")
    got = subprocess.run(["/usr/bin/python3", "-c", code, DRIVE, "unpack", UNPACK, session.spool,
                          session.base, session.index], capture_output=True, text=True, timeout=240,
                         check=True)
    return int(got.stdout)


def test_t10_memory_is_small_and_grows_by_the_table_alone(session):
    body = record("mtime", b"1.000000000") + record("size", b"0")
    stream = Stream()
    for i in range(60_000):
        name = b"%06d" % i
        records = record("path", name) + body
        stream.data += header(b"x", 0o644, len(records), b".berm-pax")
        stream.data += records + bytes(-len(records) % BLOCK) + header(b"0", 0o644, 0, name)
    stream.entries += 60_000
    few = peak_kib(session, Stream().whole())
    many = peak_kib(session, stream.whole())
    assert many < 128 << 10
    assert many - few < 4 << 10  # 8 bytes an entry, and what malloc rounds to


def some_name(rng):
    return "".join(rng.choice("ab./-\x01é"[:2] + ".-Z~") for _ in range(rng.randint(1, 3)))


def grow(rng, depth=0):
    """A random directory: name -> content, directory or None (a whiteout)."""
    tree = {}
    for _ in range(rng.randint(0, 6 if depth < 4 else 0)):
        name = some_name(rng)
        if name in (".", ".."):
            continue
        kind = rng.random()
        if kind < 0.4:
            tree[name] = rng.randbytes(rng.choice([0, 1, 511, 512, 513]))
        elif kind < 0.5:
            tree[name] = None
        else:
            tree[name] = grow(rng, depth + 1)
    return tree


def send(stream, tree, prefix, want):
    for name in sorted(tree, key=os.fsencode):
        path = prefix + name
        what = tree[name]
        if what is None:
            stream.whiteout(path)
            want[os.fsencode(path)] = (WHITEOUT, 0)
        elif isinstance(what, dict):
            stream.dir(path)
            want[os.fsencode(path)] = (DIR, 0)
            send(stream, what, path + "/", want)
        else:
            stream.file(path, what)
            want[os.fsencode(path)] = (FILE, len(what))


@pytest.mark.parametrize("seed", range(12))
def test_random_trees_come_back_as_they_are(session, seed):
    tree, want = grow(random.Random(seed)), {b"": (DIR, 0)}
    stream = Stream()
    send(stream, tree, "", want)
    nodes = session.taken(stream)
    assert {path: (node["kind"], node["size"]) for path, node in nodes.items()} == want
    order = list(nodes)
    assert order == sorted(order, key=lambda path: path.replace(b"/", b"\0"))
    for index, node in enumerate(nodes.values()):
        below = [p for p in order if node["path"] == b"" or p.startswith(node["path"] + b"/")]
        below = [p for p in below if p != node["path"]]
        assert node["end"] == index + 1 + len(below)
