"""The base of an applied session is handed on to the next one of the same workspace, which is packed over it
(ADR 0008): when, what of it is left, and that no kill or race makes a base of what is none."""

import json
import os
import re
import shutil
import subprocess
import threading
import time

import pytest
import schema
from cli_world import ERROR, GIT, all_of, read_bytes
from code_world import KILLED, Coded
from review_world import Guest, Review

MARKS = (b"marker-of-the-old-text", b"marker-of-what-is-gone", b"marker-of-what-is-hidden")
# What changes anything on a disk, and locks.
CALLS = ("write", "pwrite64", "renameat", "renameat2", "unlinkat", "mkdirat", "fsync", "ftruncate", "fallocate",
         "copy_file_range", "flock", "linkat", "utimensat", "fchmod")


@pytest.fixture
def cli(tmp_path):
    return filled(Coded(tmp_path))


def filled(cli):
    cli.write("keep/one", b"one\n" * 3000)
    cli.write("keep/two", b"two\n" * 300)
    for name, mark in zip(("edited", "gone", "hidden"), MARKS):
        cli.write(name, (mark + b"\n") * 300)
    return cli


def change(cli):
    cli.write("edited", b"the new text\n" * 300)
    cli.write(".bermignore", b"hidden\n")
    cli.write("added", b"added\n" * 3000)
    if os.path.exists(os.path.join(cli.tree, "gone")):
        os.unlink(os.path.join(cli.tree, "gone"))


def fresh(cli, tmp_path):
    """What a pack of the same tree is that knows of no session."""
    state = cli.env["BERM_STATE_DIR"]
    other = str(tmp_path / "other-state")
    shutil.rmtree(os.path.join(copied(state, other), "sessions"))
    try:
        cli.state = cli.env["BERM_STATE_DIR"] = other
        return cli.listing(cli.code())
    finally:
        cli.state = cli.env["BERM_STATE_DIR"] = state
        shutil.rmtree(other)


def over(cli):
    """Which session the last one was packed over."""
    found = re.search(r"over what session ([0-9a-f]{12}) had packed", cli.said.err)
    return found and found[1]


def keeps(cli, first, second):
    """The first has its base, and can be looked at; the second was packed by itself."""
    assert second and not over(cli) and cli.whole(first) and cli.whole(second)
    assert cli.info(first).get("handed_to", "") == ""


# -- what is handed on


def test_the_next_pack_is_the_same_tree_and_nothing_else(cli, tmp_path):
    """E1: nothing of the earlier tree that is not in this one is in the image. Three times over."""
    first = cli.applied()
    assert all(cli.has(first, mark) for mark in MARKS)
    change(cli)
    second = cli.code()
    assert over(cli) == first, cli.said.err
    assert cli.listing(second) == fresh(cli, tmp_path)
    assert not any(cli.has(second, mark) for mark in MARKS) and cli.has(second, b"the new text")
    assert cli.info(second)["state"] == "packed" and cli.info(first)["handed_to"] == second
    assert not os.path.exists(cli.at(first, "base.erofs")) and not os.path.exists(cli.at(first, "base.manifest"))
    for turn in range(2):
        cli.finished(second, Guest(cli.tree).file("made", f"again {turn}\n"))
        cli.run("apply", second, "--all")
        cli.write("edited", b"newer %d\n" % turn * 400)
        first, second = second, cli.code()
        assert over(cli) == first and cli.listing(second) == fresh(cli, tmp_path)
        assert not cli.has(second, b"the new text")


def test_the_session_that_came_of_it_is_like_any_other(cli):
    first = cli.applied()
    change(cli)
    second = cli.code()
    cli.finished(second, Guest(cli.tree).file("edited", "by the agent\n"))
    got = json.loads(cli.run("diff", second, "--json").out)
    (edited,) = got["changes"]
    assert edited["path"] == "edited" and edited["outcome"] == "proposed" and edited["base"]["size"] == 13 * 300
    cli.run("apply", second, "--all")
    cli.run("undo", first)
    assert not os.path.exists(os.path.join(cli.tree, "made"))
    cli.run("undo", second)
    with open(os.path.join(cli.tree, "edited"), "rb") as f:
        assert f.read() == b"the new text\n" * 300


# -- what can still be done with a session that gave its base away


@pytest.fixture
def given(cli):
    """(the old session, the new one), after an apply that added, edited and removed."""
    before = snapshot(cli.tree)
    session = cli.code()
    agent = Guest(cli.tree).file("made", "by the agent\n").file("keep/one", "edited\n").gone("keep/two")
    cli.finished(session, agent)
    cli.run("apply", session, "--all")
    assert cli.info(session)["left"] == 0
    second = cli.code()
    assert over(cli) == session
    cli.before = before
    return session, second


def snapshot(tree):
    found = {}
    for folder, folders, files in os.walk(tree):
        for name in folders + files:
            path = os.path.join(folder, name)
            st = os.lstat(path)
            found[os.path.relpath(path, tree)] = (st.st_mode, os.path.isdir(path) or open(path, "rb").read())
    return found


@pytest.mark.parametrize("verb", ("review", "review --plain-only", "review --json", "diff", "diff --json",
                                  "diff --stat", "apply", "apply --all --json"))
def test_it_says_where_its_base_is(cli, given, verb):
    first, second = given
    name, *words = verb.split()
    got = cli.run(name, first, *words, code=ERROR)
    assert got.out == "" and got.err.count("\n") == 1, (got.out, got.err)
    assert first in got.err and f"session {second} was packed over its base" in got.err
    assert f"berm undo {first}" in got.err and f"berm discard {first}" in got.err


def test_p12_its_undo_restores_all(cli, given):
    first, second = given
    got = cli.run("undo", first)
    assert snapshot(cli.tree) == cli.before
    assert "undone: 3 changes" in got.out and second in got.out and "cannot be decided on again" in got.out
    got = cli.run("undo", first, code=ERROR)
    assert "nothing of session" in got.err
    got = cli.run("diff", first, code=ERROR)
    assert "berm undo" not in got.err and "berm discard" in got.err


def test_p12_its_undo_counts_as_its_apply_did(cli):
    agent = Guest(cli.tree).file("new/dir/of/file", "x").file("made", "y").file("keep/one", "edited\n").gone("keep/two")
    first = cli.finished(cli.code(), agent)
    applied = re.search(r"applied: (\d+) changes", cli.run("apply", first, "--all").out).group(1)
    cli.code()
    assert over(cli) == first
    assert f"undone: {applied} changes" in cli.run("undo", first).out


def test_p12_its_undo_by_where_one_stands_and_for_programs(cli, given):
    first, second = given
    got = json.loads(cli.run("undo", "--json", cwd=cli.tree).out)
    schema.check(got)
    assert got["session"]["id"] == first and got["session"]["handed_to"] == second
    assert got["did"]["end"] == "done" and got["did"]["items"] == 3 and got["totals"]["undecided"] == 0
    assert snapshot(cli.tree) == cli.before


def test_p12_its_undo_leaves_what_was_edited_since(cli, given):
    first, _ = given
    cli.write("keep/one", b"mine\n")
    got = cli.run("undo", first, code=3)
    assert "keep/one" in got.out and os.path.exists(os.path.join(cli.tree, "made"))
    got = cli.run("undo", first, "--rest", code=3)
    assert "undone: 2 changes" in got.out
    assert {**snapshot(cli.tree), "keep/one": None} == {**cli.before, "keep/one": None}


def test_k1_its_undo_killed_at_every_rename(cli, given, tmp_path):
    first, _ = given
    after, kills = snapshot(cli.tree), 0
    spare = {path: copied(path, str(tmp_path / f"spare{i}")) for i, path in enumerate((cli.state, cli.tree))}
    for at in killed_at_every_call(cli, lambda got: restore(spare) if got.returncode == 0 else False, "undo", first):
        kills += 1
        cli.run("diff", first, code=ERROR)  # ends what was interrupted
        now = snapshot(cli.tree)
        assert now in (cli.before, after), at
        if now == after:
            cli.run("undo", first)
        assert snapshot(cli.tree) == cli.before, at
        restore(spare)
    assert kills > 30


def copied(path, to):
    """The directory's content, times and holes and all."""
    os.makedirs(to, exist_ok=True)
    subprocess.run(["cp", "-a", "--sparse=always", os.path.join(path, "."), to], check=True)
    return to


def restore(spare):
    for path, kept in spare.items():
        for name in os.listdir(path):  # the directory itself stays the same one
            full = os.path.join(path, name)
            shutil.rmtree(full) if os.path.isdir(full) else os.unlink(full)
        copied(kept, path)
    return True


def killed_at_every_call(cli, ended, *words):
    """Runs the command again and again, and kills it after one of CALLS: (call, which of them) each time."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    for call in CALLS:
        for at in range(1, 200):
            wrap = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e",
                    f"inject={call}:signal=KILL:when={at}"]
            if ended(cli.run(*words, code=None, cwd=cli.tree, wrap=wrap)):
                break
            yield call, at


def test_it_is_listed_and_removed(cli, given):
    first, second = given
    listed = json.loads(cli.run("sessions", "--json").out)  # and the second, in which nothing ran, goes
    schema.check(listed, schema.SCHEMA["$defs"]["sessions"])
    assert [(s["id"], s["handed_to"], s["state"]) for s in listed] == [(first, second, "applied")]
    assert listed[0]["disk_bytes"] < 1 << 20
    assert cli.run("sessions", "-pq").out == ""
    got = cli.run("discard", first, "--yes")
    assert "the way back" in got.err and "cannot be shown" not in got.err and cli.sessions() == []


# -- what is not


def pending(cli, first):
    cli.edit(first, state="pending", undecided=1, left=None)


def rejected(cli, first):
    cli.edit(first, left=1)


def of_an_older_berm(cli, first):
    cli.edit(first, left=None, commits_home=None, handed_to=None)


def another_time_of_birth(cli, first):
    cli.edit(first, root_btime_ns=1)


def another_inode(cli, first):
    cli.edit(first, root_ino=1)


def another_path(cli, first):
    cli.edit(first, root_hex=b"/somewhere/else".hex())


def a_damaged_manifest(cli, first):
    os.truncate(cli.at(first, "base.manifest"), 100)


def an_interrupted_apply(cli, first):
    with open(cli.at(first, "journal"), "wb") as f:
        f.write(b"x")


def running(cli, first):
    cli.edit(first, state="running")
    return cli.hold(cli.at(first, "lock"))


def held_by_a_review(cli, first):
    return cli.hold(cli.at(first, "lock"))


def a_machine_that_may_be_alive(cli, first):
    with open(cli.at(first, "scratch.img"), "wb") as f:
        f.write(b"x")
    return cli.hold(cli.at(first, "scratch.img"))


def somebody_copies_from_it(cli, first):
    return cli.hold(cli.at(first, "base.erofs"))


@pytest.mark.parametrize("how", (pending, rejected, of_an_older_berm, another_time_of_birth, another_inode,
                                 another_path, a_damaged_manifest, an_interrupted_apply, running, held_by_a_review,
                                 a_machine_that_may_be_alive, somebody_copies_from_it))
def test_a_base_that_may_be_needed_stays(cli, how):
    first = cli.applied()
    was = cli.listing(first) if how is not a_damaged_manifest else None
    held = how(cli, first)
    change(cli)
    second = cli.code()
    keeps(cli, first, second)
    assert was is None or cli.listing(first) == was
    assert b"added" in cli.listing(second)
    if held:
        held.close()


class Around:
    """What Review() asks of a world."""

    def __init__(self, cli, session):
        self.session, self.tree = cli.at(session), cli.tree


def test_what_was_rejected_keeps_its_base_and_can_still_be_taken(cli):
    """But for what git ignores: that can be made again."""
    cli.write(".gitignore", b"out\n")
    first = cli.finished(cli.code(), Guest(cli.tree).file("made", "x\n").file("other", "y\n").file("out", "z\n"))
    with Review(Around(cli, first)) as r:
        r.ask("accept", "made")
        r.ask("reject", "other")
        r.ask("reject", "out")
    cli.run("apply", first)
    assert cli.info(first)["state"] == "applied" and cli.info(first)["left"] == 1
    keeps(cli, first, cli.code())
    with Review(Around(cli, first)) as r:
        r.ask("accept", "other")
    cli.run("apply", first)
    assert cli.info(first)["left"] == 0
    cli.code()
    assert over(cli) == first


def test_p14_commits_that_are_not_home_keep_their_base(cli):
    git(cli.tree, "init -q -b main && git add . && git commit -qm first")
    first = cli.code()
    agent, copy = Guest(cli.tree), cli.tree + ".guest"
    shutil.copytree(cli.tree, copy)
    git(copy, "commit -q --allow-empty -m 'by the agent'")
    for path in all_of(copy):
        was, now = (os.path.join(tree, path) for tree in (cli.tree, copy))
        if os.path.isfile(now) and not (os.path.exists(was) and read_bytes(was) == read_bytes(now)):
            agent.file(path, read_bytes(now))
    cli.finished(first, agent)
    got = cli.run("apply", first, "--no-commits")
    assert cli.info(first)["state"] == "applied" and cli.info(first)["left"] == 1, got.out
    keeps(cli, first, cli.code())
    cli.run("apply", first)
    assert "by the agent" in git(cli.tree, f"log --format=%s refs/berm/{first}/main")
    assert cli.info(first)["left"] == 0
    cli.code()
    assert over(cli) == first


def git(tree, script):
    return subprocess.run(f"git {script}", shell=True, cwd=tree, env={**os.environ, **GIT, "HOME": tree}, check=True,
                          capture_output=True, text=True, timeout=60).stdout


# -- kills, races, the power


def check_pack(cli, first, handed, expected):
    """All that an ended pack costs is a full one: what it left of the old image passes for nothing."""
    second = cli.code()
    assert cli.listing(second) == expected
    assert over(cli) == (None if handed else first)


def check_kill(cli, first, was, expected):
    """Whatever was left of a pack that was ended: the old session is whole, or said to be handed on."""
    listed = json.loads(cli.run("sessions", "--json").out)
    assert [s["id"] for s in listed] == [first] and cli.sessions() == [first]
    handed = listed[0]["handed_to"]
    if handed:
        assert f"session {handed} was packed over its base" in cli.run("diff", first, code=ERROR).err
        assert sorted(name for name in os.listdir(cli.at(first)) if name.startswith("base")) == []
    else:
        assert cli.listing(first) == was
        assert "made" in cli.run("diff", first).out
    check_pack(cli, first, handed, expected)
    return bool(handed)


def check_kill_and_pack_at_once(cli, first, expected):
    """Nobody has looked at the sessions in between, and removed what is none."""
    handed = not cli.whole(first)
    check_pack(cli, first, handed, expected)
    cli.run("sessions")
    assert cli.sessions() == [first]
    return handed


def test_k1_killed_at_every_step_of_it(cli, tmp_path):
    """After each call that changes a disk, from the first to the guest's start."""
    first = cli.applied()
    was, seen = cli.listing(first), []
    change(cli)
    expected = fresh(cli, tmp_path)
    spare = {cli.state: copied(cli.state, str(tmp_path / "spare"))}
    ended = lambda got: restore(spare) if "packed" in got.err else False  # it came to the guest
    for call, at in killed_at_every_call(cli, ended, "code", "--", "true"):
        at_once = at % 2 == 0
        if at_once:
            handed = check_kill_and_pack_at_once(cli, first, expected)
        else:
            handed = check_kill(cli, first, was, expected)
        seen.append((call, at_once, handed))
        restore(spare)
    # of each call: whole at first, and handed on from one moment to the end
    for call in CALLS:
        assert [handed for name, _, handed in seen if name == call] == sorted(h for name, _, h in seen if name == call)
    for kind in ((at_once, handed) for at_once in (False, True) for handed in (False, True)):
        assert len([True for found in seen if found[1:] == kind]) > 5, (kind, seen)


def test_two_at_once_race_for_one_base(cli, tmp_path):
    """The one that has the old session's lock is slow; the other does not wait, and packs by itself."""
    if not shutil.which("strace"):
        pytest.skip("strace is missing")
    first = cli.applied()
    change(cli)
    expected = fresh(cli, tmp_path)
    slow = ["strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=renameat", "-e",
            "inject=renameat:delay_exit=500000:when=4+"]
    said, before = {}, set(cli.sessions())
    threads = [threading.Thread(target=lambda key=key, wrap=wrap: said.update({key: cli.run(
        "code", "--", "true", code=KILLED, cwd=cli.tree, wrap=wrap)})) for key, wrap in (("slow", slow), ("quick", ()))]
    threads[0].start()
    wait_for(lambda: cli.info(first).get("handed_to"))
    threads[1].start()
    for thread in threads:
        thread.join()
    second, third = sorted(set(cli.sessions()) - before, key=lambda s: s != cli.info(first)["handed_to"])
    assert cli.listing(second) == cli.listing(third) == expected
    assert ["over what session" in said[key].err for key in ("slow", "quick")] == [True, False]


def wait_for(what):
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_many_at_once_race_for_one_base(cli, tmp_path):
    first = cli.applied()
    change(cli)
    expected = fresh(cli, tmp_path)
    said, before = [], set(cli.sessions())
    threads = [threading.Thread(target=lambda: said.append(cli.run("code", "--", "true", code=KILLED, cwd=cli.tree)))
               for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    # nothing ran in any of them, so one may have removed what another left
    for session in set(cli.sessions()) - before:
        assert cli.listing(session) == expected
    assert sum(f"over what session {first}" in got.err for got in said) == 1
    assert not cli.whole(first)
