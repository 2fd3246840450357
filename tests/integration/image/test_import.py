"""Archives as the world makes them: what is imported is what the layers say."""

import bz2
import gzip
import json
import lzma
import os
import random
import shutil
import stat
import subprocess
import tarfile
import threading

import archives
import pytest
from archives import EPOCH, Layer, config_of, docker, oci_blobs, oci_dir


def base_layer():
    return (Layer().dir("./").dir("etc").dir("usr").dir("usr/bin", mode=0o2755, gid=50)
            .file("etc/passwd", "root:x:0:0::/:/bin/sh\n").file("usr/bin/su", "x" * 1000, mode=0o4755)
            .dir("old").file("old/one", "1").file("old/two", "2").dir("keep").file("keep/a", "a")
            .file("first", "same").hard("second", "first").symlink("lib", "usr/lib")
            .file("data", random.Random(7).randbytes(300_000), uid=1000, gid=1001).dir("was-dir").file("was-dir/x", "x")
            .file("was-file", "f").file("café/naïve", "ü"))


def upper_layer():
    return (Layer().dir("old", mode=0o700).opaque("old").file("old/three", "3").gone("keep/a")
            .dir("keep").file("keep/b", "b").gone("first").file("was-dir", "now a file")
            .dir("was-file").file("was-file/y", "y").file("etc/passwd", "changed\n", mode=0o600)
            .hard("etc/shadow", "etc/passwd")
            .add("dev/null", kind=tarfile.CHRTYPE, dev=(1, 3), mode=0o666)
            .add("dev/sda", kind=tarfile.BLKTYPE, dev=(8, 300), mode=0o660)
            .add("run/pipe", kind=tarfile.FIFOTYPE, mode=0o622)
            .file("capable", "c", xattrs={"security.capability": CAPABILITY, "user.note": "hi"}))


# cap_net_raw=ep, as setcap writes it; its bytes are valid UTF-8
CAPABILITY = "\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0"


def two_layers():
    return [base_layer().bytes(), upper_layer().bytes()]


def check_two_layers(found, links):
    assert found["old/three"] and "old/one" not in found and found["old"][1] == 0o700
    assert "keep/a" not in found and "keep/b" in found
    assert "first" not in found and found["second"][5] == archives.sha(b"same")
    assert found["was-dir"][0] == stat.S_IFREG and "was-file/y" in found
    assert found["etc/passwd"][1] == 0o600 and ["etc/passwd", "etc/shadow"] in links
    assert found["dev/null"][5] == (1, 3) and found["dev/sda"][5] == (8, 300)
    assert found["run/pipe"][0] == stat.S_IFIFO and found["usr/bin"][1:4] == (0o2755, 0, 50)
    assert found["usr/bin/su"][1] == 0o4755 and found["data"][2:4] == (1000, 1001)
    assert found["lib"][5] == "usr/lib" and found["café/naïve"]
    assert dict(found["capable"][6]) == {"user.note": b"hi", "security.capability": CAPABILITY.encode()}
    assert not any(archives.WHITEOUT in name for name in found)


def test_docker_archive(store, tree, tmp_path):
    store.ok("import", docker(tmp_path / "a.tar", two_layers(), tags=["Org.example/app:v2", "x:latest"]))
    seen = store.json("inspect", "x")
    assert seen["store_names"] == ["Org.example/app:v2", "x"] and seen["config"]["env"] == ["A=b"]
    check_two_layers(*tree("x"))


@pytest.mark.parametrize("packer", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_layers_are_the_same_image(store, tmp_path, packer):
    plain = store.json("import", docker(tmp_path / "a.tar", two_layers()))
    packed = store.json("import", docker(tmp_path / "b.tar", two_layers(), packer=packer))
    assert packed["known"] and packed["id"] == plain["id"]


@pytest.mark.parametrize("suffix", ["gz", "bz2", "xz"])
def test_whole_archive_packed(store, tmp_path, suffix):
    docker(tmp_path / "a.tar", two_layers())
    plain = (tmp_path / "a.tar").read_bytes()
    pack = {"gz": gzip, "bz2": bz2, "xz": lzma}[suffix]
    (tmp_path / "b").write_bytes(pack.compress(plain))
    assert store.json("import", tmp_path / "a.tar")["id"] == store.json("import", tmp_path / "b")["id"]


def test_zstd(store, tmp_path):
    if not shutil.which("zstd"):
        pytest.skip("zstd is missing: apt install zstd")
    docker(tmp_path / "a.tar", two_layers())
    subprocess.run(["zstd", "-q", tmp_path / "a.tar"], check=True)
    assert store.json("import", tmp_path / "a.tar")["id"] == \
        store.json("import", tmp_path / "a.tar.zst")["id"]


def test_layout_directory_tar_and_pipe(store, tree, tmp_path):
    notes = {"io.containerd.image.name": "example.org/app:1"}
    oci_dir(tmp_path / "layout", [oci_blobs(two_layers(), notes=notes)])
    first = store.json("import", tmp_path / "layout")
    assert first["names"] == ["example.org/app:1"] and not first["known"]
    check_two_layers(*tree("example.org/app:1"))
    with tarfile.open(tmp_path / "layout.tar", "w") as tar:
        tar.add(tmp_path / "layout", arcname=".")
    assert store.json("import", tmp_path / "layout.tar")["id"] == first["id"]
    with open(tmp_path / "layout.tar", "rb") as f:
        piped = store.run("import", "--json", "-", input=None, stdin=f)
    assert json.loads(piped.stdout)["id"] == first["id"]
    with subprocess.Popen(["cat", tmp_path / "layout.tar"], stdout=subprocess.PIPE) as cat:
        piped = store.run("import", "--json", "-", stdin=cat.stdout)
    assert json.loads(piped.stdout)["id"] == first["id"]


def test_new_docker_save_is_a_layout_with_a_manifest(store, tmp_path):
    layers = two_layers()
    blobs, row = oci_blobs(layers, packer=lambda x: x, media="application/vnd.oci.image.layer.v1.tar")
    manifest = json.loads(blobs[row["digest"][7:]])
    rows = [{"Config": "blobs/sha256/" + manifest["config"]["digest"][7:], "RepoTags": ["n:1"],
             "Layers": ["blobs/sha256/" + x["digest"][7:] for x in manifest["layers"]]}]
    oci_dir(tmp_path / "d", [(blobs, row)])
    (tmp_path / "d" / "manifest.json").write_text(json.dumps(rows))
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        for name in ("blobs", "index.json", "manifest.json", "oci-layout"):
            tar.add(tmp_path / "d" / name, arcname=name)
    assert store.json("import", tmp_path / "a.tar")["names"] == ["n:1"]
    assert store.json("import", tmp_path / "d")["known"]


def test_old_docker_save_links_layers(store, tmp_path):
    layer = base_layer().bytes()
    config = json.dumps(config_of([layer, layer])).encode()
    rows = [{"Config": archives.sha(config) + ".json", "RepoTags": None,
             "Layers": ["a" * 64 + "/layer.tar", "b" * 64 + "/layer.tar"]}]
    with tarfile.open(tmp_path / "a.tar", "w") as tar:
        archives.put(tar, archives.sha(config) + ".json", config)
        archives.put(tar, "a" * 64 + "/layer.tar", layer)
        archives.put(tar, "b" * 64 + "/layer.tar", b"", tarfile.SYMTYPE, "../" + "a" * 64 + "/layer.tar")
        archives.put(tar, "manifest.json", json.dumps(rows).encode())
    assert store.json("import", "--name", "old", tmp_path / "a.tar")["names"] == ["old"]


def test_several_platforms(store, tmp_path):
    arm = oci_blobs([base_layer().bytes()], config_of([base_layer().bytes()], arch="arm64"),
                    platform=("linux", "arm64"))
    layers = two_layers()
    amd = oci_blobs(layers, config_of(layers), platform=("linux", "amd64"))
    unknown = oci_blobs([b"\0" * 1024], platform=("unknown", "unknown"))
    oci_dir(tmp_path / "d", [arm, unknown, amd])
    assert store.json("import", "--name", "multi", tmp_path / "d")["disk_bytes"] > 300_000
    assert store.json("inspect", "multi")["architecture"] == "amd64"


def test_index_in_an_index(store, tmp_path):
    blobs, row = oci_blobs(two_layers(), platform=("linux", "amd64"))
    inner = json.dumps({"schemaVersion": 2, "manifests": [row]}).encode()
    blobs[archives.sha(inner)] = inner
    outer = {"mediaType": "application/vnd.oci.image.index.v1+json", "size": len(inner),
             "digest": "sha256:" + archives.sha(inner)}
    oci_dir(tmp_path / "d", [(blobs, outer)])
    store.ok("import", "--name", "n", tmp_path / "d")


def test_rootfs_tar(store, tree, tmp_path):
    (tmp_path / "r.tar").write_bytes(base_layer().file("etc/.wh.passwd", "kept").bytes())
    store.ok("import", "--name", "root", tmp_path / "r.tar")
    found, links = tree("root")
    assert ["first", "second"] in links and found["etc/.wh.passwd"] and found["etc/passwd"]
    seen = store.json("inspect", "root")
    assert seen["kind"] == "rootfs" and seen["config"]["cmd"] == ["/bin/sh"]


def test_rootfs_config(store, tmp_path):
    (tmp_path / "r.tar").write_bytes(base_layer().bytes())
    config = {"env": ["A=1"], "cmd": ["x", "y"], "user": "1000", "workdir": "/etc", "labels": {"b": "c"}}
    (tmp_path / "c.json").write_text(json.dumps(config))
    store.ok("import", "--name", "r", "--config", tmp_path / "c.json", tmp_path / "r.tar")
    seen = store.json("inspect", "r")["config"]
    assert {k: seen[k] for k in config} == config and seen["entrypoint"] == []
    (tmp_path / "c.json").write_text('{"Env": []}')
    store.refuses(6, "unknown key 'Env'", "import", "--config", tmp_path / "c.json", tmp_path / "r.tar")
    (tmp_path / "c.json").write_text("{}")
    store.refuses(125, "has a config of its own", "import", "--config", tmp_path / "c.json",
                  docker(tmp_path / "a.tar", two_layers()))


def test_same_input_same_bytes(store, tmp_path, bare):
    docker(tmp_path / "a.tar", two_layers())
    store.ok("import", tmp_path / "a.tar")
    other = type(store)(bare, tmp_path / "other")
    other.ok("import", tmp_path / "a.tar")
    with open(store.disk("test:1"), "rb") as a, open(other.disk("test:1"), "rb") as b:
        assert a.read() == b.read()


def test_hard_links_across_layers(store, tree, tmp_path):
    lower = Layer().file("a", "content", mode=0o751).file("c", "third").bytes()
    upper = Layer().hard("b", "a").hard("b2", "./b").bytes()
    store.ok("import", docker(tmp_path / "a.tar", [lower, upper]))
    found, links = tree("test:1")
    assert links == [["a", "b", "b2"]] and found["b"][1] == 0o751


def test_hidden_hard_link_target(store, tree, tmp_path):
    lower = Layer().file("big", "z" * 400_000, xattrs={"user.k": "v"}).hard("l1", "big").hard("l2", "l1")
    lower.file("other", "o").file("replaced", "was").hard("keeps", "replaced")
    upper = Layer().gone("big").gone("l1").file("replaced", "is")
    store.ok("import", docker(tmp_path / "a.tar", [lower.bytes(), upper.bytes()]))
    found, links = tree("test:1")
    assert "big" not in found and "l1" not in found and not links
    assert found["l2"][5] == archives.sha(b"z" * 400_000) and dict(found["l2"][6]) == {"user.k": b"v"}
    assert found["replaced"][5] == archives.sha(b"is") and found["keeps"][5] == archives.sha(b"was")


def test_last_entry_of_a_path_wins(store, tree, tmp_path):
    layer = (Layer().file("a", "1").file("a", "2").dir("d").file("d/x", "x").file("d", "now a file")
             .file("e", "e").dir("e").file("e/f", "f"))
    store.ok("import", docker(tmp_path / "a.tar", [layer.bytes()]))
    found, _ = tree("test:1")
    assert found["a"][5] == archives.sha(b"2") and found["d"][0] == stat.S_IFREG and "e/f" in found


def test_directory_over_a_lower_symlink(store, tree, tmp_path):
    lower = Layer().dir("usr").dir("usr/lib").symlink("lib", "usr/lib").file("usr/lib/a", "a")
    upper = Layer().dir("lib").file("lib/b", "b")
    store.ok("import", docker(tmp_path / "a.tar", [lower.bytes(), upper.bytes()]))
    found, _ = tree("test:1")
    assert found["lib"][0] == stat.S_IFDIR and "lib/b" in found and "usr/lib/b" not in found


def test_names_are_stripped_of_what_says_nothing(store, tree, tmp_path):
    layer = Layer().file("/abs/x", "1").file("./dot/./y", "2").file("a//b", "3").hard("/h", "/abs/x")
    store.ok("import", docker(tmp_path / "a.tar", [layer.bytes()]))
    found, links = tree("test:1")
    assert {"abs/x", "dot/y", "a/b", "h"} <= set(found) and links == [["abs/x", "h"]]


def test_sparse_and_odd_sizes(store, tree, tmp_path):
    layer = Layer()
    for size in (0, 1, 131071, 131072, 131073, 262144, 400000):
        layer.file(f"zero{size}", bytes(size)).file(f"data{size}", os.urandom(size))
    layer.file("mixed", b"a" + bytes(300_000) + b"b")
    store.ok("import", docker(tmp_path / "a.tar", [layer.bytes()]))
    found, _ = tree("test:1")
    assert found["mixed"][5] == archives.sha(b"a" + bytes(300_000) + b"b")
    for size in (0, 1, 131071, 131072, 131073, 262144, 400000):
        assert found[f"zero{size}"][5] == archives.sha(bytes(size))


def test_times_and_long_names(store, tree, tmp_path):
    long = "/".join(["n" * 200] * 15)
    layer = Layer().file("old", "", mtime=-5).file("late", "", mtime=2**33).file(long, "deep")
    layer.dir("x", mtime=EPOCH + 7)
    store.ok("import", docker(tmp_path / "a.tar", [layer.bytes()]))
    found, _ = tree("test:1")
    assert found["old"][4] == 0 and found["late"][4] == 2**32 - 1 and found[long][5]
    assert found["x"][4] == EPOCH + 7


def test_overlay_marks_do_not_reach_the_guest(store, tree, tmp_path):
    layer = Layer().dir("d", xattrs={"trusted.overlay.opaque": "y", "user.kept": "1"})
    store.ok("import", docker(tmp_path / "a.tar", [layer.bytes()]))
    assert dict(tree("test:1")[0]["d"][6]) == {"user.kept": b"1"}


def test_like_umoci(store, tree, tmp_path):
    for tool in ("skopeo", "umoci"):
        if not shutil.which(tool):
            pytest.skip(f"{tool} is missing: apt install skopeo umoci")
    base = (Layer().dir("./", mode=0o755).dir("etc").dir("usr").dir("usr/bin", mode=0o2755, gid=50)
            .file("etc/passwd", "p").file("usr/bin/su", "x", mode=0o4755).dir("old").file("old/one")
            .dir("old/deep").file("old/deep/er").dir("keep").file("keep/a").dir("keep/d").file("keep/d/e")
            .file("first", "same").hard("second", "first").symlink("lib", "usr/lib").dir("dev")
            .file("data", os.urandom(200_000), uid=1000, gid=1001).dir("was-dir").file("was-dir/x"))
    middle = (Layer().dir("old", mode=0o700).opaque("old").file("old/new").gone("keep/d").dir("keep")
              .file("keep/b").file("etc/passwd", "q").hard("etc/shadow", "etc/passwd")
              .gone("was-dir").file("third", xattrs={"user.note": "hi"}).hard("fourth", "third"))
    top = (Layer().dir("old", mode=0o711).file("old/newer").gone("third").dir("keep")
           .dir("keep/d", mode=0o750).file("keep/d/f").dir("was-dir").file("was-dir/y")
           .add("dev/null", kind=tarfile.CHRTYPE, dev=(1, 3), mode=0o666).dir("dev"))
    archive = docker(tmp_path / "a.tar", [x.bytes() for x in (base, middle, top)])
    subprocess.run(["skopeo", "copy", "-q", f"docker-archive:{archive}", f"oci:{tmp_path}/o:t"], check=True)
    subprocess.run(["umoci", "unpack", "--image", f"{tmp_path}/o:t", tmp_path / "b"], check=True,
                   capture_output=True)
    theirs, their_links = archives.listing(str(tmp_path / "b" / "rootfs"))
    store.ok("import", archive)
    # skopeo writes the config anew, so the image is another one, of the same layers
    store.ok("import", "--name", "theirs", tmp_path / "o")
    assert store.json("inspect", "theirs")["layers"] == store.json("inspect", "test:1")["layers"]
    ours, our_links = tree("test:1")
    assert tree("theirs") == (ours, our_links)
    assert set(ours) == set(theirs)
    assert {k: (ours[k], theirs[k]) for k in ours if ours[k] != theirs[k]} == {}
    assert our_links == their_links


def test_two_imports_of_one_image_at_once(store, tmp_path):
    docker(tmp_path / "a.tar", [Layer().file("x", os.urandom(20_000_000)).bytes()])
    got = []
    threads = [threading.Thread(target=lambda i=i: got.append(
        store.run("import", "--name", f"n{i}", tmp_path / "a.tar"))) for i in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert [x.returncode for x in got] == [0] * 4, [x.stderr for x in got]
    rows = store.json("ls")
    assert len(rows) == 1 and rows[0]["names"] == ["n0", "n1", "n2", "n3"]
    assert store.files() == [rows[0]["id"]]


def test_where_its_package_managers_get_packages(store, tmp_path):
    """What the files that are to be seen say, and no other; it is no part of the id."""
    lower = (Layer().dir("etc").dir("etc/apt")
             .file("etc/apt/sources.list", "deb http://old.example.com/debian x main\n")
             .file("etc/pip.conf", "[global]\nindex-url = https://gone.example.com/simple\n")
             .file("root/.npmrc", "registry=https://npm.example.com:4873/\n"))
    upper = (Layer().file("etc/apt/sources.list", "# http://no.example.com\ndeb http://new.example.com/debian x main\n")
             .gone("etc/pip.conf").file("srv/.npmrc", "registry=https://never.example.com/\n"))
    store.ok("import", docker(tmp_path / "a.tar", [lower.bytes(), upper.bytes()], tags=["r:1"]))
    assert store.json("inspect", "r:1")["registries"] == ["new.example.com", "npm.example.com:4873"]
    plain = Layer().dir("etc").file("etc/pip.conf", "index-url = https://pip.example.com/simple\n").bytes()
    (tmp_path / "plain.tar").write_bytes(plain)
    store.ok("import", "--name", "plain", tmp_path / "plain.tar")
    assert store.json("inspect", "plain")["registries"] == ["pip.example.com"]
    (tmp_path / "none.tar").write_bytes(Layer().dir("etc").bytes())
    store.ok("import", "--name", "none", tmp_path / "none.tar")
    assert "registries" not in store.json("inspect", "none")
