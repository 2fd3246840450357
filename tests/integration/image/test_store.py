"""The store by itself: names, references, removal, pruning, damage."""

import fcntl
import json
import os
import shutil
import threading
import time

import pytest
from archives import Layer, docker

NO_IMAGE, IN_USE, DAMAGED = 3, 4, 6


def add(store, tmp_path, name, text=None):
    path = docker(tmp_path / f"{name}.tar", [Layer().file("a", text or name).bytes()], tags=[f"{name}:latest"])
    return store.json("import", path)["id"]


def test_references(store, tmp_path):
    a, b = add(store, tmp_path, "a"), add(store, tmp_path, "b")
    for ref in ("a", "a:latest", a, a[:6], "sha256:" + a):
        assert store.json("inspect", ref)["id"] == a, ref
    store.refuses(NO_IMAGE, "no image 'c'", "inspect", "c")
    store.refuses(NO_IMAGE, "no image", "inspect", "0" * 64)
    store.refuses(125, "neither", "inspect", "No Such")
    store.refuses(125, "neither", "inspect", "../a")
    assert {x["id"] for x in store.json("ls")} == {a, b}
    assert store.ok("ls", "-q").split() in ([a, b], [b, a])


def test_ambiguous_prefix(store, tmp_path):
    a = add(store, tmp_path, "a")
    other = a[:8] + ("0" if a[8] != "0" else "1") + a[9:]
    images = os.path.join(store.state, "images")
    shutil.copytree(os.path.join(images, a), os.path.join(images, other))
    store.refuses(NO_IMAGE, "several images", "inspect", a[:8])
    assert store.json("inspect", a[:9])["id"] == a


def test_tag_and_remove(store, tmp_path):
    a = add(store, tmp_path, "a")
    store.ok("tag", "a", "example.org:5000/deep/name:v1")
    assert store.json("inspect", a)["store_names"] == ["a", "example.org:5000/deep/name:v1"]
    store.refuses(IN_USE, "also called", "rm", a)
    assert "untagged" in store.ok("rm", "a")
    store.refuses(NO_IMAGE, "no image 'a'", "inspect", "a")
    assert "removed" in store.ok("rm", "example.org:5000/deep/name:v1")
    assert store.files() == [] and os.listdir(os.path.join(store.state, "images/names")) == []


def test_a_name_moves(store, tmp_path):
    a, b = add(store, tmp_path, "a"), add(store, tmp_path, "b")
    store.ok("tag", "b", "a")
    assert store.json("inspect", "a")["id"] == b and store.json("inspect", a)["store_names"] == []


def test_in_use(store, tmp_path):
    a = add(store, tmp_path, "a")
    fd = os.open(os.path.join(store.state, "images", a), os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_SH)
    assert store.json("ls")[0]["in_use"] is True
    store.refuses(IN_USE, "in use", "rm", "a")
    store.ok("rm", "--force", "a")
    os.close(fd)
    assert store.json("ls") == []


def test_prune(store, tmp_path):
    a, b = add(store, tmp_path, "a"), add(store, tmp_path, "b")
    os.unlink(os.path.join(store.state, "images/names/b"))
    os.makedirs(os.path.join(store.state, "images/.staging-dead/x"))
    got = store.json("prune")
    assert got["images"] == 1 and got["disk_bytes"] > 0 and store.files() == [a] and a != b


def test_live_staging_is_left_alone(store, tmp_path):
    add(store, tmp_path, "a")
    path = os.path.join(store.state, "images/.staging-live")
    os.makedirs(path)
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    store.ok("prune")
    assert os.path.isdir(path)
    os.close(fd)
    store.ok("prune")
    assert not os.path.exists(path)


def test_damaged(store, tmp_path):
    a = add(store, tmp_path, "a")
    folder = os.path.join(store.state, "images", a)
    good = open(os.path.join(folder, "image.json"), "rb").read()
    os.chmod(folder + "/image.json", 0o600)
    os.chmod(folder + "/disk.sqfs", 0o600)
    for bad in (b"", good[:-3], good + b"x", good.replace(a.encode(), b"0" * 64),
                good.replace(b'"format":1', b'"format":2'), good.replace(b'"kind"', b'"sort"')):
        with open(folder + "/image.json", "wb") as f:
            f.write(bad)
        store.refuses(DAMAGED, "damaged; remove it", "inspect", "a")
        assert store.json("ls")[0]["damaged"] is True
    with open(folder + "/image.json", "wb") as f:
        f.write(good)
    store.ok("inspect", "a")
    os.truncate(folder + "/disk.sqfs", 100)
    store.refuses(DAMAGED, "damaged", "inspect", "a")
    store.ok("rm", "--force", a)
    assert store.files() == []


def test_names_that_are_no_names_are_not_followed(store, tmp_path):
    add(store, tmp_path, "a")
    names = os.path.join(store.state, "images/names")
    with open(os.path.join(names, "b"), "w", encoding="ascii") as f:
        f.write("../../etc\n")
    os.symlink("/etc/passwd", os.path.join(names, "c"))
    for ref in ("b", "c"):
        store.refuses(NO_IMAGE, "no image", "inspect", ref)
    assert [x["names"] for x in store.json("ls")] == [["a"]]


def test_installed_store(store, bare, tmp_path):
    """What is installed is found after the user's own, and cannot be removed."""
    other = type(store)(bare, tmp_path / "other")
    a = add(other, tmp_path, "inst")
    copy = tmp_path / "prefix"
    shutil.copytree(os.path.join(bare, "bin"), copy / "bin")
    shutil.copytree(os.path.join(bare, "libexec"), copy / "libexec")
    shutil.copytree(os.path.join(other.state, "images"), copy / "share/berm/images")
    mine = type(store)(str(copy), tmp_path / "mine")
    assert mine.json("inspect", "inst")["installed"] is True
    assert [x["installed"] for x in mine.json("ls")] == [True]
    mine.refuses(125, "installed with berm", "rm", "inst")
    assert mine.json("import", tmp_path / "inst.tar")["known"]
    mine.ok("tag", "inst", "mine:1")
    assert mine.json("inspect", "mine:1")["id"] == a
    b = add(mine, tmp_path, "own")
    mine.ok("tag", "own", "inst")
    assert mine.json("inspect", "inst")["id"] == b


def test_an_archive_does_not_take_an_installed_name(store, bare, tmp_path):
    """Else any archive could become what runs when nobody names an image."""
    other = type(store)(bare, tmp_path / "other")
    a = add(other, tmp_path, "default")
    copy = tmp_path / "prefix"
    shutil.copytree(os.path.join(bare, "bin"), copy / "bin")
    shutil.copytree(os.path.join(bare, "libexec"), copy / "libexec")
    shutil.copytree(os.path.join(other.state, "images"), copy / "share/berm/images")
    mine = type(store)(str(copy), tmp_path / "mine")
    docker(tmp_path / "evil.tar", [Layer().file("evil").bytes()], tags=["default", "evil:1"])
    got = mine.run("import", tmp_path / "evil.tar")
    assert got.returncode == 0 and "installed" in got.stderr
    assert mine.json("inspect", "default")["id"] == a
    mine.ok("tag", "evil:1", "default")
    assert mine.json("inspect", "default")["id"] != a


def test_a_name_that_an_archive_takes_is_told(store, tmp_path):
    a = add(store, tmp_path, "a")
    docker(tmp_path / "b.tar", [Layer().file("other").bytes()], tags=["a"])
    got = store.run("import", tmp_path / "b.tar")
    assert got.returncode == 0 and f"image {a[:12]}'s" in got.stderr
    assert store.json("inspect", "a")["id"] != a


def test_looking_is_not_using(store, tmp_path):
    """A listing locks each image for a moment; a removal in that moment must not fail for it."""
    path = docker(tmp_path / "a.tar", [Layer().file("a").bytes()], tags=["a"])
    end = time.monotonic() + 2
    listing = threading.Thread(target=lambda: [store.ok("ls") for _ in iter(lambda: time.monotonic() < end, False)])
    listing.start()
    try:
        while time.monotonic() < end:
            store.ok("import", path)
            store.ok("rm", "a")
    finally:
        listing.join()


CAPTURED = """#!/usr/bin/env python3
import os
def put(name, data):
    fd = os.open(name, os.O_CREAT | os.O_WRONLY, 0o600, dir_fd=4)
    os.write(fd, data)
    os.close(fd)
%s
os.write(5, b"done " + b"0" * 64 + b"\\n")
"""
META = (b'{"format":1,"id":"' + b"0" * 64 + b'","kind":"oci","architecture":"amd64","os":"linux",'
        b'"created":"","config":{"env":[],"entrypoint":[],"cmd":[],"labels":{},"user":"","workdir":"",'
        b'"stop_signal":""},"layers":[],"names":[],"unpacked_bytes":1,"disk_bytes":8,"entries":1}\n')
DISK = b"hsqs1234"


@pytest.mark.parametrize("says, meta, disk, more", [
    ("", META, DISK, ""),  # so that the others fail by what they change
    ("not as berm writes it", META.replace(b'"layers":[],', b""), DISK, ""),
    ("not as berm writes it", META.replace(b'"created":""', b'"created":null'), DISK, ""),
    ("not as berm writes it", META[:-1], DISK, ""),
    ("another image's", META.replace(b"0" * 64, b"1" * 64), DISK, ""),
    ("not what was imported", META, b"sqfs1234", ""),
    ("not what was imported", META.replace(b":8,", b":%d," % (1 << 62)), DISK, ""),
    ("odd", META, DISK, "os.mkdir('x', dir_fd=4)"),
    ("odd", META, DISK, "os.link('disk.sqfs', 'image2', src_dir_fd=4, dst_dir_fd=4)"),
    ("odd", META, DISK, "os.unlink('disk.sqfs', dir_fd=4); os.mkfifo('disk.sqfs', dir_fd=4)"),
    ("odd", META, DISK, "os.unlink('image.json', dir_fd=4); os.symlink('/etc/passwd', 'image.json', dir_fd=4)"),
    ("more than it should", META, DISK, "os.write(5, b'warn x\\n' * 100)"),
])
def test_captured_unpack(store, tmp_path, says, meta, disk, more):
    """Whatever a berm-unpack that an archive took over leaves: an image that can run, or nothing."""
    copy = tmp_path / "prefix"
    os.makedirs(copy / "libexec/berm")
    shutil.copytree(os.path.dirname(store.berm), copy / "bin")
    script = copy / "libexec/berm/berm-unpack"
    script.write_text(CAPTURED % f"put('image.json', {meta})\nput('disk.sqfs', {disk})\n{more}")
    script.chmod(0o755)
    mine = type(store)(str(copy), store.state)
    docker(tmp_path / "a.tar", [Layer().file("a").bytes()])
    if not says:
        assert mine.ok("import", "-q", tmp_path / "a.tar") == "0" * 64 + "\n"
        return
    got = mine.run("import", tmp_path / "a.tar")
    assert got.returncode == 125 and says in got.stderr, got.stderr
    assert mine.files() == []


def test_known_but_damaged(store, tmp_path):
    """Finding it here is no success when what is here cannot run."""
    a = add(store, tmp_path, "a")
    os.chmod(store.disk("a"), 0o600)  # it is read-only, which stops all but root
    with open(store.disk("a"), "wb"):
        pass
    store.refuses(DAMAGED, "is damaged", "import", "-q", tmp_path / "a.tar")
    store.ok("rm", "--force", a)
    assert store.ok("import", "-q", tmp_path / "a.tar") == a + "\n"


def test_help_names_every_status(store):
    text = " ".join(store.ok("import", "--help").split())
    for word in ("3 no such", "5 not an", "6 damaged", "7 holds", "8 for another", "9 over", "10 the disk"):
        assert word in text
    assert json.loads(store.ok("ls", "--json")) == []
