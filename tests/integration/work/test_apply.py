"""P1 to P13 of apply, and what stands between them, on the file system of the test's folder."""

import errno
import os
import resource
import subprocess
import threading

import pytest

from applytree import BREAK_LINKS, NAME, STAGE, World, build, seen, snapshot

ORDINARY_UID = 47000


@pytest.fixture
def w(tmp_path):
    world = World(tmp_path)
    yield world
    world.remove()


def some_tree(w):
    build(
        w.root,
        {
            "a.txt": b"one\n",
            "run.sh": (0o755, b"#!/bin/sh\n"),
            "gone.txt": b"bye\n",
            "d/x": b"x\n",
            "d/y": b"y\n",
            "d/e/z": b"z\n",
            "old/f": b"f\n",
            "link": "a.txt",
            "empty": None,
            "turn": b"file to directory\n",
            "fold/in": b"directory to file\n",
        },
    )


def some_plan(w):
    """One of everything."""
    w.put("a.txt", b"two\n", 0o600)
    w.put("new.txt", b"new\n", 0o755)
    w.put("sparse", 1 << 20, pieces=[(4096, b"middle"), (70000, b"end")])
    w.delete("gone.txt")
    w.chmod("run.sh", 0o700)
    w.link("link", "d/x")
    w.link("fresh", "nowhere")
    w.mkdir("made")
    w.mkdir("made/deep", 0o700)
    w.put("made/deep/leaf", b"leaf\n")
    w.move("old", "renamed")
    w.put("renamed/f", b"edited in its new place\n", host="old/f")
    w.put("renamed/g", b"added there\n", host="old/g")
    w.rmdir("empty")
    w.mkdir("turn")
    w.put("turn/inside", b"i\n", was="0:0:0:0:0:0:0")
    w.delete("fold/in")
    w.put("fold", b"now a file\n")


WANTED = {
    b"a.txt": ("file", 0o600, b"two\n"),
    b"new.txt": ("file", 0o755, b"new\n"),
    b"run.sh": ("file", 0o700, b"#!/bin/sh\n"),
    b"link": ("link", 0, b"d/x"),
    b"fresh": ("link", 0, b"nowhere"),
    b"made": ("dir", 0o755, b""),
    b"made/deep": ("dir", 0o700, b""),
    b"made/deep/leaf": ("file", 0o644, b"leaf\n"),
    b"renamed": ("dir", 0o755, b""),
    b"renamed/f": ("file", 0o644, b"edited in its new place\n"),
    b"renamed/g": ("file", 0o644, b"added there\n"),
    b"turn": ("dir", 0o755, b""),
    b"turn/inside": ("file", 0o644, b"i\n"),
    b"fold": ("file", 0o644, b"now a file\n"),
    b"d": ("dir", 0o755, b""),
    b"d/x": ("file", 0o644, b"x\n"),
    b"d/y": ("file", 0o644, b"y\n"),
    b"d/e": ("dir", 0o755, b""),
    b"d/e/z": ("file", 0o644, b"z\n"),
}


def plain(w, skip=()):
    """The tree with bytes instead of digests."""
    found = {}
    for path, (kind, mode, what) in w.tree().items():
        if path not in skip:
            found[path] = (kind, mode, w.read(path) if kind == "file" else os.fsencode(what))
    return found


@pytest.fixture(autouse=True)
def plain_umask():
    old = os.umask(0o022)
    yield
    os.umask(old)


# -- P ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("exchange", [True, False])
def test_p1_everything_in_one_apply(w, exchange):
    some_tree(w)
    some_plan(w)
    got = w.done(w.apply(*([] if exchange else ["no-exchange"])))
    assert plain(w, skip=(b"sparse",)) == WANTED
    data = w.read("sparse")
    assert len(data) == 1 << 20 and data[4096:4102] == b"middle" and data[70000:70003] == b"end"
    assert not data.replace(b"middle", b"").replace(b"end", b"").strip(b"\0")
    assert os.stat(w.at("sparse")).st_blocks * 512 < 1 << 19
    assert set(got.said["a.txt"]) == {"applied" if exchange else "moment"}
    assert got.generation == 1


def test_p2_a_path_changed_since_its_review_returns(w):
    some_tree(w)
    some_plan(w)
    w.write("a.txt", b"the host was here\n")
    before = w.tree()
    got = w.apply()
    assert got.end == "returned" and got.said["a.txt"] == ["changed"]
    w.nothing_changed(before)

    got = w.done(w.apply("rest"))
    assert got.said["a.txt"] == ["changed"]
    assert w.read("a.txt") == b"the host was here\n"
    want = dict(WANTED)
    want[b"a.txt"] = ("file", 0o644, b"the host was here\n")
    assert plain(w, skip=(b"sparse",)) == want


def test_p2_what_depends_on_a_returned_path_returns_too(w):
    build(w.root, {"old/f": b"f\n"})
    w.move("old", "new")
    w.put("new/g", b"g\n", host="old/g")
    w.mkdir("made")
    w.put("made/h", b"h\n")
    os.mkdir(w.at("new"))
    w.write("made", b"a file of the host\n")
    got = w.apply("rest")
    assert got.end == "nothing", got
    assert got.said == {"new": ["exists"], "new/g": ["parent"], "made": ["exists"],
                        "made/h": ["parent"]}
    w.clean()


def test_p2_changed_at_the_last_moment(w):
    some_tree(w)
    some_plan(w)
    before = w.tree()

    def edit():
        w.write("a.txt", b"too late to ask\n")

    got = w.race("commit-synced:1", edit)
    assert got.end == "returned" and got.said["a.txt"] == ["changed"]
    after = w.tree()
    assert w.read("a.txt") == b"too late to ask\n"
    del before[b"a.txt"], after[b"a.txt"]
    assert before == after
    w.clean()


def test_p2_changed_at_the_last_moment_the_rest(w):
    some_tree(w)
    some_plan(w)
    got = w.race("commit-synced:1", lambda: w.write("a.txt", b"too late\n"), "rest")
    w.done(got)
    assert got.said["a.txt"] == ["kept"] and w.read("a.txt") == b"too late\n"
    kept = os.path.join(w.session, "undo/1")
    assert [n for n in os.listdir(kept) if n.endswith("k")] == ["00000000k"]
    with open(os.path.join(kept, "00000000k"), "rb") as f:
        assert f.read() == b"two\n"


def many(w, count):
    build(w.root, {f"t/{i:03}": b"%d\n" % i for i in range(count)})
    for i in range(count):
        w.put(f"t/{i:03}", b"new %d\n" % i * 100)


def test_p3_one_of_500_targets_has_no_permission(w):
    if os.geteuid() == 0:
        subprocess.run(["chown", "-R", str(ORDINARY_UID), w.folder], check=True)
        folder = w.folder
        while folder != "/":  # pytest's own folders are for one user
            os.chmod(folder, os.stat(folder).st_mode | 0o011)
            folder = os.path.dirname(folder)
        w.user = ORDINARY_UID
    many(w, 499)
    build(w.root, {"no/t": b"mine\n"})
    w.put("no/t", b"yours\n")
    if w.user:
        subprocess.run(["chown", "-R", str(ORDINARY_UID), w.folder], check=True)
        w.ops.pop()
        w.fresh_plan()
        for i in range(499):
            w.put(f"t/{i:03}", b"new\n")
        w.put("no/t", b"yours\n")
    os.chmod(w.at("no"), 0o555)
    before = w.tree()
    got = w.apply("rest")
    assert got.error == errno.EACCES and "no/t" in got.why, got
    w.nothing_changed(before)


@pytest.mark.parametrize(
    "fail",
    [(f"file-bytes:250:{errno.ENOSPC}"), (f"steps-synced:1:{errno.EDQUOT}"),
     (f"commit-written:1:{errno.EIO}"), (f"step:400:{errno.EROFS}"),
     (f"swap-exchanged:499:{errno.ENOSPC}"), (f"steps-done:1:{errno.EACCES}"),
     (f"done-written:1:{errno.EIO}")],
)
def test_p3_the_machine_fails_in_the_middle(w, fail):
    many(w, 500)
    before = w.tree()
    got = w.apply(f"fail={fail}")
    assert got.error == int(fail.rsplit(":", 1)[1]), got
    w.nothing_changed(before)


@pytest.mark.parametrize("end", ["fail=back-step:3:30", "kill=abort-synced:1", "kill=back-step:3",
                                 "fail=back-renamed:2:28", "fail=abort-written:1:5"])
def test_p3_it_cannot_be_taken_back_at_once(w, end):
    """Back fails as well: the journal stays, and recovery ends it."""
    some_tree(w)
    some_plan(w)
    before = w.tree()
    got = w.apply("fail=steps-done:1:28", end)
    assert got.code or got.error == errno.EUCLEAN, got
    assert w.apply().error == errno.EINPROGRESS
    assert w.recover().recovered == "back"
    w.nothing_changed(before)


def test_p4_a_link_is_replaced_and_never_followed(w, tmp_path):
    outside = tmp_path / "outside"
    outside.write_bytes(b"untouched\n")
    build(w.root, {"l": str(outside), "m": str(outside), "dir-link": "d", "d/x": b"x\n"})
    w.put("l", b"a file now\n")
    got = w.done(w.apply())
    assert got.said == {"l": ["applied"]}
    assert outside.read_bytes() == b"untouched\n" and w.read("l") == b"a file now\n"
    assert not os.path.islink(w.at("l"))

    # reviewed as a file, a link by now; and a directory that is a link by now
    w.fresh_plan()
    w.put("d/x", b"2\n")
    w.op(0, "m", kind=1, mode=0o644, size=0, was=seen(w.at("d/x")))
    w.put("dir-link/x", b"3\n", was=seen(w.at("d/x")))
    got = w.apply("rest")
    assert got.said["m"] == ["changed"] and got.said["dir-link/x"] == ["kind"]
    assert outside.read_bytes() == b"untouched\n" and w.read("d/x") == b"2\n"
    w.clean()


def test_p5_a_reader_sees_the_old_or_the_new(w):
    old, new = b"o" * 100000, b"n" * 100000
    build(w.root, {f"f{i}": old for i in range(20)})
    stop, bad, seen_new = threading.Event(), [], []

    def poll():
        while not stop.is_set():
            data = w.read("f7")
            if data == new:
                seen_new.append(1)
            elif data != old:
                bad.append(data[:10])

    pollers = [threading.Thread(target=poll) for _ in range(2)]
    for p in pollers:
        p.start()
    try:
        for _ in range(5):
            for data in (new, old):
                w.fresh_plan()
                for i in range(20):
                    w.put(f"f{i}", data)
                w.done(w.apply())
    finally:
        stop.set()
        for p in pollers:
            p.join()
    assert not bad


def test_p6_a_running_executable_is_replaced(w):
    with open("/bin/sleep", "rb") as f:
        build(w.root, {"prog": (0o755, f.read())})
    with subprocess.Popen([w.at("prog"), "1000"]) as job:
        w.put("prog", b"#!/bin/sh\nexit 3\n", 0o755)
        w.done(w.apply())
        assert job.poll() is None
        job.kill()
    assert subprocess.run([w.at("prog")], check=False).returncode == 3


def test_p7_hard_links_part_only_with_consent(w):
    build(w.root, {"one": b"same\n", "sub/keep": b"k\n"})
    os.link(w.at("one"), w.at("two"))
    w.put("one", b"changed\n")
    got = w.apply()
    assert got.end == "returned" and got.said["one"] == ["links"]
    assert os.stat(w.at("one")).st_nlink == 2

    w.fresh_plan()
    w.put("one", b"changed\n", flags=BREAK_LINKS)
    w.done(w.apply())
    assert w.read("one") == b"changed\n" and w.read("two") == b"same\n"
    w.done(w.undo())
    assert w.read("one") == b"same\n"


def has_xattrs(folder):
    probe = os.path.join(folder, "probe")
    with open(probe, "w", encoding="ascii"):
        pass
    try:
        os.setxattr(probe, "user.probe", b"1")
    except OSError:
        return False
    finally:
        os.unlink(probe)
    return True


# an access ACL: owner rw, user 12345 rw, group r, mask rw, other r (acl(5); linux/posix_acl_xattr.h)
ACL = bytes.fromhex(
    "02000000" "01000600ffffffff" "0200060039300000" "04000400ffffffff" "10000600ffffffff"
    "20000400ffffffff"
)


def test_p8_acl_and_attributes_of_a_replaced_file_stay(w):
    if not has_xattrs(w.folder):
        pytest.skip("the file system of the test's folder has no user attributes")
    build(w.root, {"f": b"old\n"})
    os.setxattr(w.at("f"), "user.note", b"kept")
    os.setxattr(w.at("f"), "system.posix_acl_access", ACL)
    if os.geteuid() == 0:
        os.setxattr(w.at("f"), "security.test", b"label")
        # a file capability was given to other bytes
        os.setxattr(w.at("f"), "security.capability", bytes.fromhex("0100000200040000" + "00" * 12))
    before = os.getxattr(w.at("f"), "system.posix_acl_access")
    w.put("f", b"new\n", 0o664)
    w.done(w.apply())
    assert w.read("f") == b"new\n"
    assert os.getxattr(w.at("f"), "user.note") == b"kept"
    assert os.getxattr(w.at("f"), "system.posix_acl_access") == before
    names = os.listxattr(w.at("f"))
    assert "security.capability" not in names
    if os.geteuid() == 0:
        assert os.getxattr(w.at("f"), "security.test") == b"label"


def test_p8_owner_and_group_of_a_replaced_file_stay(w):
    if os.geteuid() != 0:
        pytest.skip("only root can make a file of another owner")
    build(w.root, {"f": b"old\n"})
    os.chown(w.at("f"), 12, 34)
    w.put("f", b"new\n", 0o644)
    w.done(w.apply())
    st = os.stat(w.at("f"))
    assert (st.st_uid, st.st_gid) == (12, 34)


def test_p9_what_the_host_added_keeps_its_directory(w):
    build(w.root, {"d/x": b"x\n", "d/e/y": b"y\n"})
    w.delete("d/x")
    w.delete("d/e/y")
    w.rmdir("d/e")
    w.rmdir("d")
    w.write("d/mine", b"of the host\n")
    got = w.done(w.apply())
    assert got.said["d"] == ["stays"]
    assert w.tree().keys() == {b"d", b"d/mine"}


def test_p9_added_at_the_last_moment(w):
    build(w.root, {"d/x": b"x\n"})
    w.delete("d/x")
    w.rmdir("d")
    got = w.done(w.race("commit-synced:1", lambda: w.write("d/mine", b"m\n")))
    assert got.said["d"] == ["stays"]
    assert w.tree().keys() == {b"d", b"d/mine"}


def test_p10_a_second_apply_does_nothing(w):
    some_tree(w)
    some_plan(w)
    w.done(w.apply())
    before = w.tree()
    times = {p: os.lstat(w.at(p)).st_mtime_ns for p in before}
    got = w.apply()
    assert got.end == "nothing", got
    assert {tuple(v) for v in got.said.values()} == {("already",)}, got.said
    w.nothing_changed(before)
    assert times == {p: os.lstat(w.at(p)).st_mtime_ns for p in before}
    assert os.listdir(os.path.join(w.session, "undo")) == ["1"]


def test_p11_another_directory_in_its_place(w):
    some_tree(w)
    some_plan(w)
    root = subprocess.run(
        [w.argv("root")[0], "root", w.root], capture_output=True, text=True, check=True
    ).stdout.strip()
    os.rename(w.root, w.root + ".old")
    os.mkdir(w.root)
    some_tree(w)
    before = w.tree()
    assert w.apply(f"root={root}").error == errno.ESTALE
    w.nothing_changed(before)
    assert w.recover(f"root={root}").recovered == "clean"


@pytest.mark.parametrize("exchange", [True, False])
def test_p12_undo_restores_all(w, exchange):
    some_tree(w)
    os.chmod(w.at("d/e"), 0o2755)
    os.chmod(w.at("gone.txt"), 0o4711)
    os.chmod(w.at("a.txt"), 0o640)
    if has_xattrs(w.folder):
        os.setxattr(w.at("gone.txt"), "user.note", b"kept")
    before = w.tree()
    times = {p: os.lstat(w.at(p)).st_mtime_ns for p in before if before[p][0] == "file"}
    some_plan(w)
    more = [] if exchange else ["no-exchange"]
    w.done(w.apply(*more))
    assert w.tree() != before
    w.done(w.undo(*more))
    w.nothing_changed(before)
    assert times == {p: os.lstat(w.at(p)).st_mtime_ns for p in times}
    if has_xattrs(w.folder):
        assert os.getxattr(w.at("gone.txt"), "user.note") == b"kept"
    assert os.listdir(os.path.join(w.session, "undo")) == []
    assert w.undo().error == errno.ENOENT


def test_p12_undo_refuses_what_was_edited_since(w):
    some_tree(w)
    some_plan(w)
    w.done(w.apply())
    w.write("a.txt", b"edited since\n")
    before = w.tree()
    got = w.undo()
    assert got.end == "returned" and got.said["a.txt"] == ["changed"]
    w.nothing_changed(before)
    w.done(w.undo("rest"))
    assert w.read("a.txt") == b"edited since\n"
    assert w.read("gone.txt") == b"bye\n" and w.read("old/f") == b"f\n"
    # what was left out can still be undone: once it is as the apply left it, it is known again
    assert os.path.exists(os.path.join(w.session, "undo/1/journal"))


def test_p12_undo_of_two_applies_in_turn(w):
    build(w.root, {"f": b"0\n"})
    before = w.tree()
    for text in (b"1\n", b"2\n"):
        w.fresh_plan()
        w.put("f", text)
        w.put("g" + text.decode().strip(), text)
        w.done(w.apply())
    assert w.undo("generation=1").end == "returned"
    w.done(w.undo())
    assert w.read("f") == b"1\n"
    w.done(w.undo())
    w.nothing_changed(before)


def test_p13_the_first_session_is_a_host_edit_for_the_second(w, tmp_path):
    other = World(tmp_path / "other", root=w.root)
    build(w.root, {"f": b"0\n", "g": b"0\n"})
    w.put("f", b"first\n")
    other.put("f", b"second\n")
    other.put("g", b"second\n")
    w.done(w.apply())
    got = other.apply()
    assert got.end == "returned" and got.said["f"] == ["changed"]
    other.done(other.apply("rest"))
    assert w.read("f") == b"first\n" and w.read("g") == b"second\n"


# -- at the last moment: the mark is set, and the host does what it likes --------------------------


def test_t3_a_directory_becomes_a_link_that_leads_out(w, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"theirs\n")
    build(w.root, {"d/x": b"x\n", "d/y": b"y\n", "e": b"e\n"})
    w.put("d/x", b"ours\n")
    w.put("d/new", b"ours\n")
    w.delete("d/y")
    w.put("e", b"ours\n")

    def turn():
        os.rename(w.at("d"), w.at("was-d"))
        os.symlink(outside, w.at("d"))

    w.done(w.race("commit-synced:1", turn, "rest"))
    assert os.listdir(outside) == ["x"] and (outside / "x").read_bytes() == b"theirs\n"
    assert w.read("was-d/x") == b"x\n" and w.read("e") == b"ours\n"


@pytest.mark.parametrize("mode", [[], ["rest"]])
@pytest.mark.parametrize("exchange", [[], ["no-exchange"]])
def test_p2_every_kind_of_meddling(w, mode, exchange):
    """Both versions are somewhere, and what the host did is in its place."""
    build(w.root, {"a": b"a\n", "b": b"b\n", "c": b"c\n", "m/f": b"f\n", "s/1": b"1\n",
                   "t/2": b"2\n", "l": "a", "g": b"g\n"})
    w.put("a", b"new a\n")
    w.delete("b")
    w.put("n", b"new n\n")
    w.move("m", "moved")
    w.move("s", "t")
    w.move("t", "s")
    w.link("l", "b")
    w.chmod("c", 0o755)
    w.put("g", b"new g\n")

    def meddle():
        w.write("a", b"host a\n")
        os.unlink(w.at("b"))
        w.write("b", b"host b\n")
        w.write("n", b"host n\n")
        os.mkdir(w.at("moved"))
        os.unlink(w.at("l"))
        os.rename(w.at("c"), w.at("c2"))

    got = w.race("commit-synced:1", meddle, *mode, *exchange)
    assert got.end == ("done" if mode else "returned"), got
    w.clean()
    assert w.read("a") == b"host a\n" and w.read("b") == b"host b\n" and w.read("n") == b"host n\n"
    assert w.read("m/f") == b"f\n" and os.listdir(w.at("moved")) == []
    assert not os.path.lexists(w.at("l")) and os.stat(w.at("c2")).st_mode & 0o777 == 0o644
    assert w.read("g") == (b"new g\n" if mode else b"g\n")
    assert os.listdir(w.at("s")) == ([b"2"] if mode else [b"1"])


def test_no_more_than_a_few_descriptors(w):
    many(w, 300)
    for i in range(30):
        w.mkdir(f"new{i}")
        w.put(f"new{i}/f", b"f\n")

    def few():
        resource.setrlimit(resource.RLIMIT_NOFILE, (14, 14))

    w.done(w.apply(preexec_fn=few))
    w.done(w.undo(preexec_fn=few))


# -- beside them ------------------------------------------------------------------------------------


def test_the_lock_is_the_workspaces(w, tmp_path):
    other = World(tmp_path / "other", root=w.root)
    build(w.root, {"f": b"0\n"})
    w.put("f", b"1\n")
    other.put("g", b"1\n")

    def collide():
        assert other.apply().error == errno.EBUSY

    w.done(w.race("staged:1", collide))
    other.done(other.apply())


def test_an_interrupted_apply_is_recovered_first(w):
    build(w.root, {"f": b"0\n"})
    w.put("f", b"1\n")
    assert w.apply("kill=commit-synced:1").code
    assert w.apply().error == errno.EINPROGRESS
    assert w.recover().recovered == "forward"
    assert w.read("f") == b"1\n"
    w.clean()


@pytest.mark.parametrize(
    "path",
    ["", "/abs", "a/../b", "a//b", "a/", ".", "..", "x/" + "n" * 256, ".git", "sub/.git/hooks/x",
     ".GIT/config", STAGE, STAGE + "/x", ".berm-stage-other"],
)
def test_t16_paths_that_are_never_applied(w, path):
    w.put(path, b"x", was="0:0:0:0:0:0:0")
    assert w.apply().error == errno.EINVAL
    assert w.tree() == {}


def test_plans_that_contradict_themselves(w):
    build(w.root, {"f": b"0\n", "d/x": b"x\n"})
    w.put("f", b"1\n")
    w.put("f", b"2\n")
    assert w.apply().error == errno.EINVAL
    w.fresh_plan()
    w.move("d", "d/inside")
    assert w.apply().error == errno.EINVAL


def test_swaps_and_cycles_of_directories(w):
    build(w.root, {"a/1": b"1\n", "b/2": b"2\n", "c/3": b"3\n", "a/s/4": b"4\n"})
    before = w.tree()
    w.move("a", "b")
    w.move("b", "c")
    w.move("c", "a")
    w.move("a/s", "t")
    w.put("b/1", b"one\n", host="a/1")
    w.put("t/5", b"5\n", host="a/s/5")
    w.done(w.apply())
    files = {p: w.read(p) for p, v in w.tree().items() if v[0] == "file"}
    assert files == {b"a/3": b"3\n", b"b/1": b"one\n", b"c/2": b"2\n", b"t/4": b"4\n",
                     b"t/5": b"5\n"}
    assert w.apply().end != "done"
    w.done(w.undo())
    w.nothing_changed(before)


def test_a_read_only_directory_opened_by_the_same_plan(w):
    build(w.root, {"d/x": b"x\n", "d": (0o555, None)})
    w.chmod("d", 0o755)
    w.put("d/y", b"y\n")
    w.mkdir("closed", 0o555)
    w.put("closed/z", b"z\n")
    w.done(w.apply())
    tree = w.tree()
    assert tree[b"d"][1] == 0o755 and tree[b"closed"][1] == 0o555
    w.done(w.undo())
    assert w.tree()[b"d"][1] == 0o555 and b"closed" not in w.tree()

    # one that is deleted must be opened as well, if its owner may not write it
    w.fresh_plan()
    w.delete("d/x")
    w.rmdir("d")
    if os.geteuid() != 0:
        assert w.apply().error == errno.EACCES
    w.chmod("d", 0o755)
    w.done(w.apply())
    assert w.tree() == {}
    w.done(w.undo())
    assert w.tree()[b"d"][1] == 0o555 and w.read("d/x") == b"x\n"


def test_modes_lose_what_a_guest_may_not_give(w):
    build(w.root, {"s": (0o4755, b"old\n")})
    w.put("n", b"n", 0o6777)
    w.put("s", b"new\n", 0o4755)
    w.mkdir("d", 0o3777)
    w.done(w.apply())
    tree = w.tree()
    assert [tree[p][1] for p in (b"n", b"s", b"d")] == [0o777, 0o755, 0o777]


def test_special_files_and_mounts_return(w):
    os.mkfifo(w.at("p"))
    w.put("p", b"x", was="0:0:0:0:0:0:0")
    got = w.apply("rest")
    assert got.said == {"p": ["kind"]}


def test_bytes_that_are_no_text(w):
    name = os.fsdecode(b"caf\xe9 \x1b[31m")
    w.put(name, b"1\n")
    w.put("n" * 255, b"2\n")
    w.done(w.apply())
    assert set(snapshot(w.root)) == {b"caf\xe9 \x1b[31m", b"n" * 255}


def test_the_time_of_what_was_applied_is_now(w):
    build(w.root, {"f": b"0\n"})
    os.utime(w.at("f"), (1, 1))
    mark = os.path.join(w.folder, "mark")
    with open(mark, "wb"):
        pass
    w.put("f", b"1\n")
    w.put("g", b"1\n")
    w.done(w.apply())
    assert os.stat(w.at("f")).st_mtime_ns == os.stat(w.at("g")).st_mtime_ns
    assert os.stat(w.at("f")).st_mtime_ns >= os.stat(mark).st_mtime_ns


def test_nothing_is_left_of_a_session_that_was_never_interrupted(w):
    assert w.recover().recovered == "clean"
    assert os.listdir(w.session) == [] and NAME
