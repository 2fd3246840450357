"""Archives that are damaged, hostile or not images: one clear line, an exit status, nothing left."""

import gzip
import json
import os
import random
import signal
import subprocess
import tarfile
import time

import archives
import pytest
from archives import Layer, config_of, docker, oci_blobs, oci_dir

NO_IMAGE, NOT_IMAGE, DAMAGED, REFUSED, ARCH, LIMIT, SPACE = 3, 5, 6, 7, 8, 9, 10


def one(layer, path):
    return docker(path, [layer.bytes()])


HOSTILE_LAYERS = {
    "dotdot": (REFUSED, "'..'", Layer().file("../evil")),
    "dotdot-inside": (REFUSED, "'..'", Layer().file("a/../../evil")),
    "dotdot-absolute": (REFUSED, "'..'", Layer().file("/../evil")),
    "hard-link-out": (REFUSED, "'..'", Layer().file("a").hard("b", "../../../etc/passwd")),
    "hard-link-nowhere": (REFUSED, "not in the image", Layer().hard("b", "/etc/passwd")),
    "hard-link-self": (REFUSED, "itself", Layer().hard("b", "b")),
    "hard-link-to-dir": (REFUSED, "hard link", Layer().dir("d").hard("b", "d")),
    "below-own-symlink": (REFUSED, "not a directory", Layer().symlink("l", "/etc").file("l/passwd", "x")),
    "below-own-file": (REFUSED, "not a directory", Layer().file("f").file("f/x")),
    "root-is-file": (REFUSED, "root", Layer().file(".")),
    "whiteout-of-nothing": (REFUSED, "whiteout", Layer().file("d/.wh.")),
    "whiteout-of-parent": (REFUSED, "whiteout", Layer().file("d/.wh...")),
    "device-number": (REFUSED, "device number", Layer().add("d", kind=tarfile.CHRTYPE, dev=(70000, 1))),
    "link-to-nothing": (REFUSED, "link to nothing", Layer().symlink("l", "")),
    "deep": (LIMIT, "deep", Layer().file("/".join(["d"] * 300))),
    "long-name": (LIMIT, "longer", Layer().file("n" * 256)),
    "long-path": (LIMIT, "longer", Layer().file("/".join(["n" * 200] * 21))),
    "long-link": (LIMIT, "link of more", Layer().symlink("l", "t" * 5000)),
    "xattr-value": (LIMIT, "attributes", Layer().file("x", xattrs={"user.a": "v" * 70000})),
    "xattr-count": (LIMIT, "attributes", Layer().file("x", xattrs={f"user.{i}": "v" for i in range(70)})),
    "sparse-giant": (LIMIT, "larger", Layer().add("x", pax={
        "GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": "x",
        "GNU.sparse.realsize": str(1 << 60)}, data=b"0\n" + b"\0" * 510)),
}


@pytest.mark.parametrize("name", HOSTILE_LAYERS)
def test_hostile_layer(store, tmp_path, name):
    status, says, layer = HOSTILE_LAYERS[name]
    store.refuses(status, says, "import", docker(tmp_path / "a.tar", [layer.bytes()]))


def test_symlink_out_is_only_a_text(store, tree, tmp_path):
    """A link that leaves the image is kept: inside the guest it leads nowhere of the host's."""
    one(Layer().symlink("out", "../../../../etc"), tmp_path / "a.tar")
    store.ok("import", tmp_path / "a.tar")
    assert tree("test:1")[0]["out"][5] == "../../../../etc"


def test_nothing_was_written_outside(store, tmp_path):
    lower = Layer().symlink("etc", str(tmp_path / "victim"))
    upper = Layer().dir("etc").file("etc/passwd", "evil")
    store.ok("import", docker(tmp_path / "a.tar", [lower.bytes(), upper.bytes()]))
    assert not (tmp_path / "victim").exists()


def test_missing_file(store, tmp_path):
    store.refuses(125, "No such file", "import", tmp_path / "none.tar")


@pytest.mark.parametrize("data, status", [
    (b"", NOT_IMAGE), (b"hello\n" * 1000, NOT_IMAGE), (b"\0" * 100, NOT_IMAGE),
    (random.Random(1).randbytes(100_000), NOT_IMAGE), (gzip.compress(b"no tar"), NOT_IMAGE),
    (gzip.compress(b"x" * 5000)[:-6], DAMAGED), (b"PK\3\4" + b"\0" * 2000, NOT_IMAGE)],
    ids=["empty", "text", "zeros", "random", "gzip of text", "cut gzip", "zip"])
def test_not_an_archive(store, tmp_path, data, status):
    (tmp_path / "a").write_bytes(data)
    got = store.run("import", tmp_path / "a")
    assert got.returncode in (status, NOT_IMAGE) and got.stderr.count("\n") == 1, got.stderr
    assert not [x for x in store.files() if x.startswith(".")]


def test_a_directory_that_is_none(store, tmp_path):
    store.refuses(NOT_IMAGE, "OCI layout", "import", tmp_path)


@pytest.mark.parametrize("cut", [1, 511, 512, 1000, 5000, 20000, 30000])
def test_cut_short(store, tmp_path, cut):
    one(Layer().file("a", random.Random(3).randbytes(20000)).file("b", "b"), tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(data[:cut])
    got = store.run("import", tmp_path / "b.tar")
    assert got.returncode in (NOT_IMAGE, DAMAGED) and got.stderr.count("\n") == 1, (cut, got.stderr)
    assert store.files() == []


def test_every_bit_of_a_small_archive_matters_or_not(store, tmp_path):
    """Flipped bytes end in an image or in one line, never in a crash."""
    one(Layer().dir("d").file("d/a", "a" * 600).hard("b", "d/a").symlink("l", "d"), tmp_path / "a.tar")
    data = (tmp_path / "a.tar").read_bytes()
    rng = random.Random(5)
    for _ in range(60):
        bad = bytearray(data)
        for _ in range(rng.randint(1, 4)):
            bad[rng.randrange(len(bad))] = rng.randrange(256)
        (tmp_path / "b.tar").write_bytes(bad)
        got = store.run("import", tmp_path / "b.tar")
        assert got.returncode in (0, NOT_IMAGE, DAMAGED, REFUSED, ARCH, LIMIT), got.stderr
        assert not [x for x in store.files() if x.startswith(".")]


def test_wrong_diff_id(store, tmp_path):
    layer = Layer().file("a").bytes()
    config = config_of([layer])
    config["rootfs"]["diff_ids"] = ["sha256:" + "0" * 64]
    store.refuses(DAMAGED, "not sha256:000000000000", "import",
                  docker(tmp_path / "a.tar", [layer], config=config))


def test_wrong_blob_digest(store, tmp_path):
    blobs, row = oci_blobs([Layer().file("a", "b" * 1000).bytes()])
    oci_dir(tmp_path / "d", [(blobs, row)])
    manifest = json.loads(blobs[row["digest"][7:]])
    for what in (manifest["layers"][0]["digest"], manifest["config"]["digest"], row["digest"]):
        path = tmp_path / "d/blobs/sha256" / what[7:]
        good = path.read_bytes()
        path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
        got = store.run("import", "--name", "n", tmp_path / "d")
        assert got.returncode == DAMAGED, got.stderr
        path.write_bytes(good)
    assert store.files() == []
    store.ok("import", "--name", "n", tmp_path / "d")


def test_missing_parts(store, tmp_path):
    layers = [Layer().file("a").bytes()]
    for drop in ("layer.tar", ".json", "manifest"):
        docker(tmp_path / "a.tar", layers, change=lambda ms, d=drop: [m for m in ms if d not in m[0]])
        got = store.run("import", tmp_path / "a.tar")
        assert got.returncode in (DAMAGED, NOT_IMAGE) and got.stderr.count("\n") == 1, got.stderr
    assert store.files() == []


@pytest.mark.parametrize("says, change", [
    ("not JSON", lambda t: t[:-1]), ("not JSON", lambda t: b"\xff\xfe" + t), ("not JSON", lambda t: b""),
    ("nests deeper", lambda t: b"[" * 5000 + b"]" * 5000), ("lists no image", lambda t: b"{}"),
    ("lists no image", lambda t: b"[]"), ("larger than", lambda t: b" " * (5 << 20) + t),
    ("not a text", lambda t: b'[{"Config": 7}]'), ("not a list", lambda t: b'[{"Config":"x","Layers":3}]'),
    ("'..", lambda t: b'[{"Config":"../../etc/passwd","Layers":[]}]')])
def test_hostile_manifest(store, tmp_path, says, change):
    def spoil(members):
        return [(n, change(d) if n == "manifest.json" else d) for n, d in members]
    docker(tmp_path / "a.tar", [Layer().file("a").bytes()], change=spoil)
    got = store.run("import", tmp_path / "a.tar")
    assert got.returncode in (DAMAGED, LIMIT, REFUSED) and says.strip("'") in got.stderr, got.stderr
    assert store.files() == []


def test_config_limits(store, tmp_path):
    layer = Layer().file("a").bytes()
    for run in ({"Env": ["A=b"] * 600}, {"Labels": {str(i): "" for i in range(600)}},
                {"Cmd": ["x" * 70000]}):
        docker(tmp_path / "a.tar", [layer], config=config_of([layer], **run))
        assert store.run("import", tmp_path / "a.tar").returncode in (LIMIT, DAMAGED)
    docker(tmp_path / "a.tar", [layer] * 129)
    store.refuses(LIMIT, "128", "import", tmp_path / "a.tar")


def test_names_of_an_archive_are_only_hints(store, tmp_path):
    layer = Layer().file("a").bytes()
    docker(tmp_path / "a.tar", [layer], tags=["../../x", "UPPER", "a b", "ok:1", "\x1b[2J", "x" * 300])
    assert store.json("import", tmp_path / "a.tar")["names"] == ["ok:1"]


@pytest.mark.parametrize("what", ["index.json", "blobs", "blobs/sha256", "layer"])
def test_layout_directory_of_links(store, tmp_path, what):
    """A layout somebody else made must not have berm read this host's files."""
    layer = oci_blobs([Layer().file("a").bytes()])
    folder = oci_dir(str(tmp_path / "layout"), [layer])
    if what == "layer":
        what = "blobs/sha256/" + next(d for d, x in layer[0].items() if x[:2] == b"\x1f\x8b")
    os.rename(os.path.join(folder, what), tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", os.path.join(folder, what))
    store.refuses(REFUSED, "symbolic link", "import", folder)


def test_names_too_long_to_keep(store, tmp_path):
    """200 bytes are a valid name, but a file name of many '%2F' would not hold them."""
    deep = "/".join("a" * 90)
    layer = Layer().file("a").bytes()
    docker(tmp_path / "a.tar", [layer], tags=[deep + ":1", "ok:1"])
    store.refuses(125, "too long an image name", "import", "--name", deep, tmp_path / "a.tar")
    got = store.run("import", "--json", tmp_path / "a.tar")
    assert got.returncode == 0 and "is left out" in got.stderr
    assert json.loads(got.stdout)["names"] == ["ok:1"]


def test_as_many_names_as_can_be(store, tmp_path):
    tags = [f"{i:02}" + "n" * 198 for i in range(64)]
    docker(tmp_path / "a.tar", [Layer().file("a").bytes()], tags=tags)
    assert store.json("import", tmp_path / "a.tar")["names"] == tags
    store.ok("tag", tags[0], "one/more")
    assert store.json("ls")[0]["names"] == tags + ["one/more"]


def test_holes_that_are_no_whole_block_count(store, tmp_path):
    """Each is written as zeros: half a megabyte of headers would come to gigabytes of disk."""
    layer = Layer()
    for i in range(500):
        layer.file(f"f{i}", pax={"GNU.sparse.size": "131071", "GNU.sparse.numblocks": "1",
                                 "GNU.sparse.map": "0,0"})
    docker(tmp_path / "a.tar", [layer.bytes()])
    store.refuses(LIMIT, "--max-size", "import", "--max-size", "32MiB", tmp_path / "a.tar")
    store.ok("import", "--max-size", "128MiB", tmp_path / "a.tar")


def test_many_owners(store, tree, tmp_path):
    layer = Layer()
    for i in range(300):
        layer.file(f"f{i}", uid=i, gid=70_000 + i % 7)
    docker(tmp_path / "a.tar", [layer.bytes()])
    store.ok("import", tmp_path / "a.tar")
    found = tree("test:1")[0]
    assert all(found[f"f{i}"][2:4] == (i, 70_000 + i % 7) for i in range(300))


def test_other_architecture(store, tmp_path):
    layer = Layer().file("a").bytes()
    docker(tmp_path / "a.tar", [layer], config=config_of([layer], arch="arm64"))
    store.refuses(ARCH, "linux/arm64; this machine runs linux/amd64", "import", tmp_path / "a.tar")
    arm = oci_blobs([layer], platform=("linux", "arm64"))
    win = oci_blobs([layer + b"\0"], platform=("windows", "amd64"))
    oci_dir(tmp_path / "d", [arm, win])
    store.refuses(ARCH, "linux/arm64, windows/amd64", "import", tmp_path / "d")


def test_several_images(store, tmp_path):
    rows = [oci_blobs([Layer().file(n).bytes()],
                      notes={"org.opencontainers.image.ref.name": f"{n}:1"}) for n in "ab"]
    oci_dir(tmp_path / "d", rows)
    store.refuses(NOT_IMAGE, "a:1, b:1", "import", tmp_path / "d")
    store.refuses(NOT_IMAGE, "no image 'c'", "import", "--select", "c", tmp_path / "d")
    assert store.json("import", "--select", "b:1", tmp_path / "d")["names"] == ["b:1"]


def test_bomb(store, tmp_path):
    """A few megabytes that unpack to many gigabytes stop early, by what they unpack to."""
    def zeros(path, count):
        with gzip.open(path, "wb", compresslevel=1) as f:
            tar = Layer()
            tar.add("zeros", size=count)
            f.write(tar.out.getvalue())
            for _ in range(count >> 20):
                f.write(bytes(1 << 20))
    zeros(tmp_path / "bomb.tgz", 3 << 30)
    started = time.monotonic()
    store.refuses(LIMIT, "bomb", "import", tmp_path / "bomb.tgz")
    store.refuses(LIMIT, "--max-size", "import", "--max-size", "10M", tmp_path / "bomb.tgz")
    assert time.monotonic() - started < 60
    inner = tmp_path / "twice.tgz"
    inner.write_bytes(gzip.compress((tmp_path / "bomb.tgz").read_bytes()))
    got = store.run("import", inner)
    assert got.returncode in (LIMIT, NOT_IMAGE) and "compressed" in got.stderr, got.stderr


def test_full_disk(store, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a small file system to fill takes root")
    one(Layer().file("a", os.urandom(40 << 20)), tmp_path / "a.tar")
    os.makedirs(store.state)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=48M,mode=700", "none", store.state], check=True)
    try:
        store.ok("ls")
        store.refuses(SPACE, "full", "import", tmp_path / "a.tar")
    finally:
        subprocess.run(["umount", store.state], check=True)


def test_read_only_state(store, tmp_path):
    if os.geteuid() != 0:
        pytest.skip("a read-only file system takes root")
    one(Layer().file("a"), tmp_path / "a.tar")
    store.ok("ls")
    subprocess.run(["mount", "--bind", store.state, store.state], check=True)
    try:
        subprocess.run(["mount", "-o", "remount,ro,bind", store.state], check=True)
        store.refuses(125, "read-only", "import", tmp_path / "a.tar")
    finally:
        subprocess.run(["umount", store.state], check=True)


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as f:
        return [int(x) for x in f.read().split()]


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        got = what()
        if got:
            return got
        time.sleep(0.005)
    raise AssertionError("it did not come about")


@pytest.mark.parametrize("victim", ["berm", "unpack"])
def test_killed_in_the_middle(store, tmp_path, victim):
    """The archive is a pipe nobody finishes writing, so the moment is always the same."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    p = store.start("import", fifo)
    with open(fifo, "wb") as out:
        out.write(Layer().file("a", os.urandom(1 << 20)).out.getvalue())
        out.flush()
        unpack = wait_for(lambda: children(p.pid))[0]
        wait_for(lambda: any(x.startswith(".staging-") for x in store.files()))
        os.kill(p.pid if victim == "berm" else unpack, signal.SIGKILL)
        out_text = p.communicate(timeout=20)
    if victim == "unpack":
        assert p.returncode == 125 and b"killed by signal 9" in out_text[1]
        assert store.files() == []
    else:
        wait_for(lambda: not os.path.exists(f"/proc/{unpack}") or
                 " Z" in open(f"/proc/{unpack}/stat", encoding="ascii").read())
        assert store.json("ls") == [] and store.files() == []
