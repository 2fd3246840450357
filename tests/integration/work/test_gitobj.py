"""Commits that a guest made come back as objects and one ref a branch, and nothing else does.

git is run by these tests alone, to make repositories and to judge what berm wrote.
"""

import os
import random
import shutil
import struct
import subprocess
import zlib

import gittree
import pytest
from gittree import Session, commit, commit_of, entry, git, mint


@pytest.fixture(name="clone")
def fixture_clone(tmp_path):
    root = gittree.plain_repository(str(tmp_path / "host"))
    return Session(tmp_path / "s", root)


def grafted(worktree, seen):
    """What a guest is given of a worktree: a repository of its own, with the common objects."""
    common = os.path.join(worktree, git(worktree, "rev-parse", "--git-common-dir"))
    admin = git(worktree, "rev-parse", "--absolute-git-dir")
    shutil.copytree(worktree, seen, symlinks=True, ignore=shutil.ignore_patterns(".git"))
    os.makedirs(f"{seen}/.git")
    for name in ("objects", "refs"):
        shutil.copytree(f"{common}/{name}", f"{seen}/.git/{name}", symlinks=True)
    for name in ("HEAD", "index"):
        shutil.copy(f"{admin}/{name}", f"{seen}/.git/{name}")
    shutil.copy(f"{common}/config", f"{seen}/.git/config")


def worktree_session(tmp_path):
    gittree.plain_repository(str(tmp_path / "main"))
    git(tmp_path / "main", "worktree", "add", "-q", "-b", "side", str(tmp_path / "host"))
    grafted(str(tmp_path / "host"), str(tmp_path / "seen"))
    return Session(tmp_path / "s", tmp_path / "host", tmp_path / "seen")


@pytest.mark.parametrize("kind", ["clone", "worktree"])
@pytest.mark.parametrize("jailed", [False, True])
def test_p14_commits_arrive_on_the_side_ref(tmp_path, kind, jailed):
    if kind == "clone":
        s = Session(tmp_path / "s", gittree.plain_repository(str(tmp_path / "host")))
        branch = "main"
    else:
        s = worktree_session(tmp_path)
        branch = "side"
    commit(s.guest, "agent one", **{"a.txt": "one\nmore\nagent\n", "new/x": "x"})
    head = commit(s.guest, "agent two", **{"dir/deep/c": b"\0\1\2" * 100})
    git(s.guest, "checkout", "-q", "-b", "topic/deep")
    topic = commit(s.guest, "topic", **{"t": "t"})
    git(s.guest, "checkout", "-q", "--detach")
    alone = commit(s.guest, "alone", **{"u": "u"})
    before = gittree.untouched(s.root)
    taken, refused = s.back(jailed)
    assert not refused
    assert taken == {f"refs/heads/{branch}": head, "refs/heads/topic/deep": topic, "HEAD": alone}
    want = {f"refs/berm/s1/{branch}": head, "refs/berm/s1/topic/deep": topic, "refs/berm/s1/HEAD": alone}
    assert gittree.side_refs(s.root) == want
    assert gittree.untouched(s.root) == before
    gittree.fsck(s.root)
    log = "--format=%H %an %s"
    assert git(s.root, "log", log, "refs/berm/s1/HEAD") == git(s.guest, "log", log)


def test_p14_what_no_branch_holds_comes_home_as_well(clone):
    """Commits of tags, of tags of tags, and of the stash; what is no commit, or not the guest's, does not."""
    git(clone.guest, "checkout", "-q", "--detach")
    first = commit(clone.guest, **{"x": "x"})
    git(clone.guest, "tag", "light")
    second = commit(clone.guest, **{"y": "y"})
    git(clone.guest, "tag", "-a", "-m", "words", "deep/noted")
    git(clone.guest, "tag", "-a", "-m", "more", "of-a-tag", "deep/noted")
    git(clone.guest, "tag", "of-a-blob", "HEAD:y")
    git(clone.guest, "update-ref", "refs/remotes/origin/theirs", first)
    git(clone.guest, "update-ref", "refs/berm/s0/earlier", first)
    git(clone.guest, "checkout", "-q", "-f", "main")
    with open(f"{clone.guest}/x", "w", encoding="ascii") as f:
        f.write("put away\n")
    git(clone.guest, "add", "x")
    git(clone.guest, "stash")
    stash = git(clone.guest, "rev-parse", "refs/stash").strip()
    git(clone.guest, "pack-refs", "--all")
    before = gittree.untouched(clone.root)
    taken, refused = clone.back()
    want = {"refs/tags/light": first, "refs/tags/deep/noted": second, "refs/tags/of-a-tag": second,
            "refs/stash": stash}
    assert taken == want
    assert list(refused) == ["refs/tags/of-a-blob"] and "blob where a commit" in refused["refs/tags/of-a-blob"]
    assert gittree.side_refs(clone.root) == {f"refs/berm/s1/{name}": hex_id for name, hex_id in want.items()}
    assert gittree.untouched(clone.root) == before
    gittree.fsck(clone.root)
    assert git(clone.root, "show", f"{stash}:x") == git(clone.guest, "show", f"{stash}:x")


def test_p14_commits_that_no_ref_holds_come_home(clone):
    """A deleted branch, a HEAD that went back, a worktree's HEAD and one removed: the last commit of each, and
    with it those before. Not what another commit brings, nor what another repository has."""
    lost = set()
    git(clone.guest, "checkout", "-q", "-b", "feat")
    commit(clone.guest, "one", **{"f": "1"})
    lost.add(commit(clone.guest, "two", **{"f": "2"}))
    git(clone.guest, "checkout", "-q", "main")
    git(clone.guest, "branch", "-q", "-D", "feat")
    git(clone.guest, "checkout", "-q", "--detach")
    lost.add(commit(clone.guest, "alone", **{"g": "g"}))
    git(clone.guest, "checkout", "-q", "main")
    for name in ("kept", "gone"):
        git(clone.guest, "worktree", "add", "-q", "--detach", name)
        lost.add(commit(f"{clone.guest}/{name}", name, **{name: name}))
    git(clone.guest, "worktree", "remove", "--force", "gone")
    git(clone.guest, "checkout", "-q", "-b", "theirs")
    commit(clone.guest, "theirs, first", **{"t": "1"})
    git(clone.guest, "update-ref", "refs/remotes/origin/main", commit(clone.guest, "theirs", **{"t": "2"}))
    git(clone.guest, "checkout", "-q", "main")
    git(clone.guest, "branch", "-q", "-D", "theirs")
    head = commit(clone.guest, "last", **{"k": "k"})
    before = gittree.untouched(clone.root)
    want = {"refs/heads/main": head, **{f"refs/lost-found/{hex_id}": hex_id for hex_id in lost}}
    assert clone.back() == (want, {})
    assert gittree.untouched(clone.root) == before
    gittree.fsck(clone.root)


def test_p14_older_entries_of_the_stash_come_home(clone):
    """Only the newest is a ref; the others are in its log."""
    made = {}
    for words in ("one", "two", "three"):
        with open(f"{clone.guest}/a.txt", "w", encoding="ascii") as f:
            f.write(words)
        git(clone.guest, "stash")
        made[words] = git(clone.guest, "rev-parse", "refs/stash").strip()
    want = {"refs/stash": made["three"], **{f"refs/lost-found/{made[w]}": made[w] for w in ("one", "two")}}
    assert clone.back() == (want, {})
    for words, hex_id in made.items():
        assert git(clone.root, "show", f"{hex_id}:a.txt").strip() == words
    gittree.fsck(clone.root)


def test_p14_lost_commits_in_packs_come_home(clone):
    """As after a repack, which keeps what the history of HEAD names."""
    git(clone.guest, "checkout", "-q", "-b", "feat")
    commit(clone.guest, "one", **{"f": "1"})
    lost = commit(clone.guest, "two", **{"f": "2"})
    git(clone.guest, "checkout", "-q", "main")
    git(clone.guest, "branch", "-q", "-D", "feat")
    git(clone.guest, "gc", "-q")
    assert not os.path.exists(f"{clone.guest}/.git/objects/{lost[:2]}/{lost[2:]}")
    assert clone.back() == ({f"refs/lost-found/{lost}": lost}, {})


def test_t18_an_index_of_more_ids_than_are_looked_through(clone):
    """It is sparse, and costs the guest nothing. What is found before counts; that there may be more is said."""
    head = commit(clone.guest, **{"f": "1"})
    count = (1 << 23) + 1
    folder = f"{clone.guest}/.git/objects/pack"
    os.makedirs(folder, exist_ok=True)
    with open(f"{folder}/pack-{'0' * 40}.idx", "wb") as f:
        f.write(b"\xfftOc" + struct.pack(">257I", 2, *[count] * 256))
        f.truncate(8 + 1024 + count * 28 + 40)
    with open(f"{folder}/pack-{'0' * 40}.pack", "wb") as f:
        f.write(b"PACK" + struct.pack(">II", 2, count) + bytes(20))
    taken, why = clone.back()
    assert taken == {"refs/heads/main": head} and list(why) == ["refs/lost-found"], (taken, why)


def test_p14_twice_changes_nothing_and_another_is_refused(clone):
    commit(clone.guest, **{"x": "x"})
    clone.back()
    stats = {p: os.stat(p).st_mtime_ns for p in objects_of(clone.root)}
    assert clone.imported().returncode == 0
    assert {p: os.stat(p).st_mtime_ns for p in objects_of(clone.root)} == stats
    git(clone.root, "pack-refs", "--all")
    assert clone.imported().returncode == 0
    git(clone.root, "update-ref", "refs/berm/s1/main", "main")
    done = clone.imported()
    assert done.returncode == 1 and b"stands for another commit" in done.stderr
    assert git(clone.root, "rev-parse", "refs/berm/s1/main") == git(clone.root, "rev-parse", "main")


def objects_of(root):
    return [os.path.join(d, f) for d, _, files in os.walk(f"{root}/.git/objects") for f in files]


def test_p14_show_tells_commits_parents_first(clone):
    ids = [commit(clone.guest, f"number {i}", **{"x": str(i)}) for i in range(4)]
    assert clone.walk().returncode == 0
    lines = [line for line in clone.show() if "commit" in line]
    assert [line["commit"] for line in lines] == ids
    assert [line["message"] for line in lines] == [f"number {i}\n" for i in range(4)]
    assert lines[0]["author"].startswith("A <a@example.org> ")


# -- P15: trees that must not be checked out

GIT_NAMES = [
    b".git", b".GIT", b".giT", b"git~1", b"GIT~1", b".git ", b".git.", b".git. .", b".git::$INDEX_ALLOCATION",
    b".git:x", b".g\xe2\x80\x8cit", b".git\xe2\x80\x8d", b"\xef\xbb\xbf.git", b"\xe2\x81\xaf.Git", b"a\\.git",
    b"a\\git~1\\b", b".git\\hooks",
]  # fmt: skip
OTHER_NAMES = [(b".", "'.'"), (b"..", "'..'"), (b"", "empty"), (b"a/b", "slash"), (b"n" * 256, "255")]


def refused(session):
    done = session.walk()
    assert done.returncode == 0, done.stderr
    lines = [line for line in session.show() if "branch" in line]
    lines = [line for line in lines if not line["branch"].startswith("refs/lost-found/")]  # of an earlier one
    assert [line["refused"] for line in lines] == [True], lines
    assert not [line for line in session.show() if "commit" in line]
    before = gittree.untouched(session.root)
    assert session.imported().returncode == 0
    assert gittree.untouched(session.root) == before and not gittree.side_refs(session.root)
    gittree.fsck(session.root)
    return lines[0]["reason"]


def head_to(session, hex_id, branch="main"):
    with open(f"{session.guest}/.git/refs/heads/{branch}", "w", encoding="ascii") as f:
        f.write(hex_id + "\n")


def tree_to(session, tree, **more):
    head_to(session, commit_of(session.guest, tree, git(session.old, "rev-parse", "HEAD"), **more))


@pytest.mark.parametrize("name", GIT_NAMES)
def test_p15_git_like_names_are_refused(clone, name):
    blob = mint(clone.guest, "blob", b"[core]\n")
    tree = mint(clone.guest, "tree", entry(b"100644", name, blob))
    if len(name) % 2 == 0:
        tree = mint(clone.guest, "tree", entry(b"40000", b"sub", tree))
    tree_to(clone, tree)
    assert "may take for '.git'" in refused(clone)


@pytest.mark.parametrize("name,word", OTHER_NAMES)
def test_p15_names_no_tree_may_have(clone, name, word):
    blob = mint(clone.guest, "blob", b"x")
    tree_to(clone, mint(clone.guest, "tree", entry(b"100644", name, blob)))
    assert word in refused(clone)


@pytest.mark.parametrize("mode", [b"100664", b"040000", b"100600", b"644", b"10644", b"120777", b"0", b"", b"200000"])
def test_p15_modes_outside_the_set(clone, mode):
    blob = mint(clone.guest, "blob", b"x")
    tree_to(clone, mint(clone.guest, "tree", entry(mode, b"x", blob)))
    assert "mode" in refused(clone)


def test_p15_order_and_duplicates(clone):
    blob = mint(clone.guest, "blob", b"x")
    sub = mint(clone.guest, "tree", entry(b"100644", b"x", blob))
    file, folder = (lambda n: entry(b"100644", n, blob)), (lambda n: entry(b"40000", n, sub))
    cases = [
        ([file(b"b"), file(b"a")], "sorted"),
        ([folder(b"a"), file(b"a.b")], "sorted"),
        ([file(b"a"), file(b"a")], "twice"),
        ([file(b"a"), folder(b"a")], "twice"),
        ([file(b"a"), file(b"a!"), file(b"a.b"), folder(b"a")], "twice"),
        ([file(b"a"), folder(b"a-"), file(b"a-b"), folder(b"a")], "twice"),
        ([entry(b"120000", b".gitmodules", blob)], "symbolic link"),
    ]
    for entries, word in cases:
        tree_to(clone, mint(clone.guest, "tree", b"".join(entries)))
        assert word in refused(clone), entries


def test_p15_near_misses_are_taken(clone):
    blob = mint(clone.guest, "blob", b"x")
    names = [b".gitattributes", b".github", b".gitignore", b".gitx", b"a", b"a.b", b"a0", b"git", b"git~2", b"x.git"]
    entries = [entry(b"100644", n, blob) for n in names]
    entries.append(entry(b"160000", b"zsub", "1" * 40))
    tree_to(clone, mint(clone.guest, "tree", b"".join(entries)))
    taken, _ = clone.back()
    assert len(taken) == 1
    gittree.fsck(clone.root)


def test_p15_one_bad_branch_does_not_spoil_another(clone):
    good = commit(clone.guest, **{"good": "good"})
    git(clone.guest, "branch", "bad")
    blob = mint(clone.guest, "blob", b"[core]\n")
    tree = mint(clone.guest, "tree", entry(b"100644", b".git", blob))
    head_to(clone, commit_of(clone.guest, tree, good), "bad")
    taken, why = clone.back()
    assert taken == {"refs/heads/main": good} and list(why) == ["refs/heads/bad"]
    assert git(clone.root, "cat-file", "-e", blob, check=False).returncode != 0
    gittree.fsck(clone.root)


ODD_NAMES = [b"a..b", b"../../../x", b".x", b"x.lock", b"x\x1b[2J", b"x\0y", b"x y", b"/", b"y" * 5000]


def test_p15_odd_names_in_packed_refs_cost_themselves_alone(clone):
    """Names that git would never write there, before and after those of branches."""
    good = commit(clone.guest, **{"good": "good"})
    git(clone.guest, "branch", "other")
    lines = [b"%s refs/heads/%s\n" % (good.encode(), name) for name in ODD_NAMES]
    with open(f"{clone.guest}/.git/packed-refs", "wb") as f:
        f.write(b"# pack-refs with: peeled\n" + b"".join(lines[:5]) + good.encode() + b" refs/heads/packed\n")
        f.write(b"".join(lines[5:]))
    taken, why = clone.back()
    assert taken == {f"refs/heads/{name}": good for name in ("main", "other", "packed")}
    assert len(why) == len(ODD_NAMES) and set(why.values()) == {"it is no branch that can be read"}, why
    gittree.fsck(clone.root)


BAD_AUTHORS = [
    b"A a@example.org 1 +0000", b"A <a@example.org 1 +0000", b"A <a> x +0000", b"A <a> 1 0000", b"<a> 1 +0000",
    b"A <a> 01 +0000", b"A <a> 1 +000", b"A<a> 1 +0000", b"A <a> 1", b"A <a> 99999999999999999999 +0000",
]  # fmt: skip


@pytest.mark.parametrize("author", BAD_AUTHORS)
def test_p15_commits_that_fsck_would_refuse(clone, author):
    tree_to(clone, git(clone.guest, "rev-parse", "HEAD^{tree}"), author=author)
    assert "author" in refused(clone)


# -- P16: what is not commits


def test_p16_config_hooks_and_pointers_never_come(clone):
    with open(f"{clone.guest}/.git/config", "a", encoding="ascii") as f:
        f.write("[core]\n\tfsmonitor = /bin/false\n\thooksPath = /tmp\n")
    os.makedirs(f"{clone.guest}/.git/hooks", exist_ok=True)
    with open(f"{clone.guest}/.git/hooks/post-checkout", "w", encoding="ascii") as f:
        f.write("#!/bin/sh\n")
    os.makedirs(f"{clone.guest}/nested/.git")
    with open(f"{clone.guest}/nested/.git/HEAD", "w", encoding="ascii") as f:
        f.write("ref: refs/heads/main\n")
    with open(f"{clone.guest}/pointer", "w", encoding="ascii") as f:
        f.write("gitdir: /etc\n")
    head = git(clone.guest, "commit-tree", "HEAD^{tree}", "-p", "HEAD", "-m", "by hand")
    head_to(clone, head)
    before = gittree.untouched(clone.root)
    taken, _ = clone.back()
    assert taken == {"refs/heads/main": head}
    assert gittree.untouched(clone.root) == before


@pytest.mark.parametrize("change", ["alternates", "commondir", "reftable", "gone", "file"])
def test_p16_a_repository_made_something_else_is_named(clone, change):
    dot = f"{clone.guest}/.git"
    if change == "alternates":
        with open(f"{dot}/objects/info/alternates", "w", encoding="ascii") as f:
            f.write("/etc\n")
    elif change == "commondir":
        with open(f"{dot}/commondir", "w", encoding="ascii") as f:
            f.write("../../x\n")
    elif change == "reftable":
        os.makedirs(f"{dot}/reftable")
        with open(f"{dot}/reftable/tables.list", "w", encoding="ascii") as f:
            f.write("x\n")
    else:
        shutil.rmtree(dot)
        if change == "file":
            with open(dot, "w", encoding="ascii") as f:
                f.write("gitdir: /etc\n")
    words = {"alternates": b"another repository", "commondir": b"part of another", "reftable": b"reftable"}
    done = clone.walk(jailed=True)
    assert done.returncode == 1 and words.get(change, b"no repository") in done.stderr, done.stderr


# -- T18: objects that are not what they seem


def put_loose(session, hex_id, data):
    path = f"{session.guest}/.git/objects/{hex_id[:2]}/{hex_id[2:]}"
    os.makedirs(os.path.dirname(path), exist_ok=True)
    if os.path.exists(path):
        os.chmod(path, 0o600)
    with open(path, "wb") as f:
        f.write(data)


def test_t18_wrong_id_object(clone):
    head = commit(clone.guest, **{"x": "the real content"})
    blob = git(clone.guest, "rev-parse", "HEAD:x")
    put_loose(clone, blob, zlib.compress(b"blob 16\0another content!"))
    reason = refused(clone)
    assert blob[:12] in reason and "not what its id says" in reason and head


def test_t18_zlib_bombs(clone):
    commit(clone.guest, **{"x": "x"})
    blob = git(clone.guest, "rev-parse", "HEAD:x")
    bomb = zlib.compressobj(9)
    packed = bomb.compress(b"blob 1\0") + b"".join(bomb.compress(bytes(1 << 20)) for _ in range(256)) + bomb.flush()
    put_loose(clone, blob, packed)
    assert "larger than it says" in refused(clone)
    put_loose(clone, blob, zlib.compress(b"blob 1099511627776\0x"))
    assert "is over 64 MiB" in refused(clone)
    put_loose(clone, blob, zlib.compress(b"blob 60000000\0x"))
    assert "smaller than it says" in refused(clone)
    put_loose(clone, blob, zlib.compress(b"blob 1\0x") + b"behind")
    assert "follows" in refused(clone)
    put_loose(clone, blob, b"no zlib")
    assert "zlib" in refused(clone)
    put_loose(clone, blob, b"")
    assert "cut" in refused(clone)


def test_t18_missing_and_mistyped_objects(clone):
    commit(clone.guest, **{"x": "x", "y/z": "z"})
    blob = git(clone.guest, "rev-parse", "HEAD:x")
    path = f"{clone.guest}/.git/objects/{blob[:2]}/{blob[2:]}"
    os.unlink(path)
    assert "missing" in refused(clone)
    old = git(clone.root, "rev-parse", "HEAD:a.txt")
    tree_to(clone, mint(clone.guest, "tree", entry(b"40000", b"d", old)))
    assert "is a blob where a tree has to be" in refused(clone)
    head_to(clone, old)
    assert "is a blob where a commit has to be" in refused(clone)
    head_to(clone, "0" * 39 + "1")
    assert "missing" in refused(clone)
    head_to(clone, "not an id")
    assert "no branch that can be read" in refused(clone)


def test_t18_trees_without_end(clone):
    tree = git(clone.guest, "rev-parse", "HEAD^{tree}")
    for _ in range(300):
        tree = mint(clone.guest, "tree", entry(b"40000", b"d", tree))
    tree_to(clone, tree)
    assert "nested" in refused(clone)


def varint(n):
    out = bytearray()
    while n > 0x7F:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(out) + bytes([n])


def pack_entry(kind, size):
    out = bytearray([kind << 4 | size & 15])
    size >>= 4
    while size:
        out[-1] |= 0x80
        out.append(size & 0x7F)
        size >>= 7
    return bytes(out)


def put_pack(session, body, objects):
    """A pack of that body, and an index which says those (id, offset) are in it."""
    folder = f"{session.guest}/.git/objects/pack"
    pack = b"PACK" + struct.pack(">II", 2, len(objects)) + body + bytes(20)
    objects = sorted(objects)
    fanout = [sum(1 for i, _ in objects if bytes.fromhex(i)[0] <= n) for n in range(256)]
    idx = b"\xfftOc" + struct.pack(">I", 2) + struct.pack(">256I", *fanout)
    idx += b"".join(bytes.fromhex(i) for i, _ in objects) + bytes(4 * len(objects))
    idx += b"".join(struct.pack(">I", at) for _, at in objects) + bytes(40)
    for name, data in (("pack-1.pack", pack), ("pack-1.idx", idx)):
        with open(f"{folder}/{name}", "wb") as f:
            f.write(data)


def test_t18_deltas_without_end_and_of_great_size(clone):
    commit(clone.guest, **{"x": "x"})
    blob = git(clone.guest, "rev-parse", "HEAD:x")
    ref = bytes.fromhex(blob)
    delta = zlib.compress(varint(1) + varint(1) + b"\1x")
    put_pack(clone, pack_entry(7, 4) + ref + delta, [(blob, 12)])  # a delta of itself
    assert "over 4096 deltas" in refused(clone)
    put_pack(clone, pack_entry(6, 4) + b"\x7f" + delta, [(blob, 12)])  # of what is before the pack
    assert "delta of nothing" in refused(clone)
    put_pack(clone, pack_entry(6, 4) + b"\x05" + delta, [(blob, 12)])  # of the pack's head
    assert "outside" in refused(clone)
    put_pack(clone, b"", [(blob, 1 << 20)])
    assert "outside" in refused(clone)
    base = pack_entry(3, 1) + zlib.compress(b"x")
    bomb = varint(1) + varint(1 << 40) + b"\x80" * 100
    body = base + pack_entry(6, len(bomb)) + bytes([len(base)]) + zlib.compress(bomb)
    put_pack(clone, body, [(blob, 12 + len(base))])
    assert "is over 64 MiB" in refused(clone)
    bomb = varint(1) + varint(1 << 20) + b"\xb0\xff\xff" * 16
    body = base + pack_entry(6, len(bomb)) + bytes([len(base)]) + zlib.compress(bomb)
    put_pack(clone, body, [(blob, 12 + len(base))])
    assert "malformed delta" in refused(clone)


@pytest.mark.parametrize("seed", range(3))
def test_t18_damaged_streams_and_objects_change_nothing(clone, seed):
    """Any byte of what the guest sends, or of what the job answers: refused, or the same commits."""
    rng = random.Random(seed)
    head = commit(clone.guest, **{f"f{i}": str(i) * 99 for i in range(6)})
    git(clone.guest, "repack", "-q", "-a", "-d")
    pack = [p for p in objects_of(clone.guest) if p.endswith((".pack", ".idx"))]
    whole = {p: gittree.read(p) for p in pack}
    for path in pack:
        os.chmod(path, 0o600)
    for _ in range(12):
        path = rng.choice(pack)
        data = bytearray(whole[path])
        at = rng.randrange(len(data))
        data[at] ^= 1 << rng.randrange(8)
        with open(path, "wb") as f:
            f.write(data)
        done = clone.walk()
        assert done.returncode == 0, (seed, at, done.stderr)
        branches = [line for line in clone.show() if "branch" in line]
        assert all(b["refused"] or b["id"] == head for b in branches), (seed, at)
        with open(path, "wb") as f:
            f.write(whole[path])
    assert clone.walk().returncode == 0
    stream = gittree.read(clone.path("stream"))
    for _ in range(60):
        at = rng.randrange(len(stream))
        data = bytearray(stream)
        data[at] ^= 1 << rng.randrange(8)
        with open(clone.path("stream"), "wb") as f:
            f.write(data[: rng.choice([at, len(data), len(data)])])
        done = clone.drive("show", clone.path("stream"), clone.root)
        assert done.returncode in (0, 1), (seed, at, done)


# -- repositories of any kind, against git itself


def some_history(rng, where, rounds):
    """Commits, branches, merges, tags, deltas and binary files."""
    branches = [git(where, "rev-parse", "--abbrev-ref", "HEAD")]
    for turn in range(rounds):
        what = rng.random()
        if what < 0.15:
            name = rng.choice(["b", "dir/b"]) + f"{turn}-{rng.randrange(1 << 30)}"
            git(where, "checkout", "-q", "-b", name)
            branches.append(name)
        elif what < 0.3 and len(branches) > 1:
            git(where, "checkout", "-q", rng.choice(branches))
        elif what < 0.45 and len(branches) > 1:
            git(where, "merge", "-q", "-s", "ours", "-m", f"merge {turn}", *rng.sample(branches, 2), check=False)
        elif what < 0.55:
            git(where, "tag", "-a", "-m", "tag", f"t{turn}-{rng.randrange(1 << 30)}")
        elif what < 0.65:
            git(where, *rng.choice([["gc", "-q"], ["repack", "-q", "-d"], ["pack-refs", "--all"]]))
        files = {}
        for _ in range(rng.randint(1, 6)):
            name = "/".join(rng.choice("abcde") * rng.randint(1, 3) for _ in range(rng.randint(1, 3))) + ".f"
            files[name] = some_file(rng, os.path.join(where, name))
        commit(where, f"turn {turn}", **files)
    return branches


def some_file(rng, path):
    kind = rng.random()
    if kind < 0.3 and os.path.exists(path):
        lines = gittree.read(path).split(b"\n")
        lines.insert(rng.randint(0, len(lines)), b"one more %d" % rng.randrange(1 << 30))
        return b"\n".join(lines)
    if kind < 0.5:
        return rng.randbytes(rng.choice([0, 1, 100, 70000]))
    return b"".join(b"line %d of many that are alike\n" % rng.randrange(50) for _ in range(rng.randint(0, 400)))


@pytest.mark.parametrize("seed", range(3))
def test_reads_what_git_reads(tmp_path, seed):
    rng = random.Random(1000 + seed)
    root = gittree.plain_repository(str(tmp_path / "host"))
    some_history(rng, root, 25)
    listed = git(root, "cat-file", "--batch-all-objects", "--batch-check=%(objectname)", raw=True)
    for turn in range(3):
        theirs = git(root, "cat-file", "--batch", data=listed, raw=True)
        ours = subprocess.run([gittree.DRIVE, "cat", f"{root}/.git"], input=listed, capture_output=True, check=False)
        assert ours.returncode == 0, (seed, turn, ours.stderr)
        assert ours.stdout == theirs, (seed, turn)
        args = ["-c", "pack.depth=4000", "repack", "-q", "-a", "-d", "-f", "--depth=4000", "--window=20"]
        git(root, *args)
        if turn == 1:  # deltas of an id, and not of an offset
            git(root, "-c", "repack.useDeltaBaseOffset=false", "repack", "-q", "-a", "-d", "-f")


@pytest.mark.parametrize("seed", range(4))
def test_brings_home_what_git_made(tmp_path, seed):
    rng = random.Random(seed)
    root = gittree.plain_repository(str(tmp_path / "host"))
    some_history(rng, root, rng.randint(0, 10))
    s = Session(tmp_path / "s", root)
    old = dict(line.split() for line in branches_of(s.guest))
    some_history(rng, s.guest, rng.randint(5, 15))
    if rng.random() < 0.7:
        git(s.guest, "gc", "-q", "--prune=now")
    new = dict(line.split() for line in branches_of(s.guest))
    before = gittree.untouched(root)
    taken, why = s.back(jailed=seed % 2 == 0)
    assert not why, (seed, why)
    assert taken == {name: i for name, i in new.items() if old.get(name) != i}, seed
    assert gittree.untouched(root) == before
    gittree.fsck(root)
    for name, hex_id in taken.items():
        log = ["log", "--format=raw", "--stat", hex_id]
        assert git(root, *log, raw=True) == git(s.guest, *log, raw=True), (seed, name)


def branches_of(where):
    """And tags, by the commit they stand for."""
    form = "--format=%(refname) %(if)%(*objectname)%(then)%(*objectname)%(else)%(objectname)%(end)"
    return git(where, "for-each-ref", form, "refs/heads/", "refs/tags/").splitlines()


# -- the host's side


@pytest.mark.parametrize(
    "setting,word",
    [
        ("extensions.refstorage=reftable", b"reftable"),
        ("extensions.objectformat=sha256", b"SHA-256"),
        ("extensions.partialclone=origin", b"partial clone"),
        ("remote.origin.promisor=true", b"partial clone"),
        ("extensions.unheardof=1", b"not known here"),
        ("core.repositoryformatversion=2", b"later version"),
    ],
)
def test_host_formats_that_are_not_written_are_named(clone, setting, word):
    commit(clone.guest, **{"x": "x"})
    assert clone.walk().returncode == 0
    key, value = setting.split("=")
    git(clone.root, "config", "-f", ".git/config", key, value)
    before = sorted(objects_of(clone.root))
    done = clone.imported()
    assert done.returncode == 1 and word in done.stderr, done.stderr
    assert sorted(objects_of(clone.root)) == before


def test_host_links_are_never_followed(clone, tmp_path):
    commit(clone.guest, **{f"f{i}": str(i) for i in range(40)})
    assert clone.walk().returncode == 0
    outside = tmp_path / "outside"
    outside.mkdir()
    dot = f"{clone.root}/.git"
    os.makedirs(f"{dot}/refs/berm")
    os.symlink(outside, f"{dot}/refs/berm/s1")
    assert clone.imported().returncode == 1
    assert not os.listdir(outside)
    os.unlink(f"{dot}/refs/berm/s1")
    shutil.move(f"{dot}/objects", f"{tmp_path}/objects")
    os.symlink(f"{tmp_path}/objects", f"{dot}/objects")
    done = clone.imported()
    assert done.returncode == 1 and b"objects directory of its own" in done.stderr


def test_host_without_the_needed_object_is_told(clone):
    commit(clone.guest, **{"x": "x"})
    assert clone.walk().returncode == 0
    head = git(clone.root, "rev-parse", "HEAD")
    os.unlink(f"{clone.root}/.git/objects/{head[:2]}/{head[2:]}")
    done = clone.drive("show", clone.path("stream"), clone.root)
    assert done.returncode == 1 and b"does not have" in done.stderr
    assert clone.drive("show", clone.path("stream"), "-").returncode == 0


def test_worktree_that_its_repository_does_not_know_is_left_alone(tmp_path):
    s = worktree_session(tmp_path)
    commit(s.guest, **{"x": "x"})
    assert s.walk().returncode == 0
    other = tmp_path / "other"
    other.mkdir()
    shutil.copy(f"{s.root}/.git", other / ".git")
    done = s.drive("import", s.path("stream"), str(other), "s1")
    assert done.returncode == 1 and b"does not know" in done.stderr
