"""K1 and K2: apply, undo and recovery are killed at every point, and end all-old or all-new.

All that is beneath the workspace is compared, bytes by digest, so nothing of ours may be left either.
"""

import errno
import os
import shutil
import tempfile

import pytest

from applytree import World, build
from test_apply import plain_umask, some_plan, some_tree  # noqa: F401

POINTS_MIN = 40
TIMES_MAX = 5  # of one point: the first ones, and the last


@pytest.fixture(scope="module")
def fast():
    """Memory, where there is some: what is tested here is order, not disks."""
    base = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    folder = tempfile.mkdtemp(prefix="test-apply-", dir=base)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def fresh(folder):
    shutil.rmtree(os.path.join(folder, "w"), ignore_errors=True)
    return World(os.path.join(folder, "w"))


def prepared(folder, verb):
    """A world before the verb, and how it is."""
    w = fresh(folder)
    some_tree(w)
    build(w.root, {"p/1": b"1\n", "q/2": b"2\n"})
    some_plan(w)
    w.move("p", "q")  # which cannot go straight
    w.move("q", "p")
    w.put("p/2", b"two\n", host="q/2")
    if verb == "undo":
        w.done(w.apply())
    return w, w.tree()


def wanted(folder, verb):
    w, _ = prepared(folder, verb)
    w.done(w.run(verb))
    return w.tree()


def times(answer):
    for point, count in answer.points.items():
        n = int(count)
        for at in sorted({*range(1, min(n, TIMES_MAX) + 1), n} - {0}):
            yield f"{point}:{at}"


ways = pytest.mark.parametrize(
    "verb, more, fail",
    [
        ("apply", [], []),
        ("apply", ["no-exchange"], []),
        ("apply", [], [f"fail=steps-done:1:{errno.ENOSPC}"]),
        ("apply", ["no-exchange"], [f"fail=steps-done:1:{errno.ENOSPC}"]),
        ("undo", [], []),
        ("undo", ["no-exchange"], []),
        ("undo", [], [f"fail=steps-done:1:{errno.ENOSPC}"]),
    ],
    ids=["apply", "apply-no-exchange", "apply-fails", "apply-no-exchange-fails", "undo",
         "undo-no-exchange", "undo-fails"],
)


def check_ended(w, before, after, why):
    w.clean()
    tree = w.tree()
    assert tree in (before, after), f"{why}: neither old nor new: {differences(tree, before, after)}"
    return tree == after


def differences(tree, before, after):
    return [
        (p, tree.get(p), before.get(p), after.get(p))
        for p in sorted({*tree, *before, *after})
        if not tree.get(p) == before.get(p) == after.get(p)
    ]


@ways
def test_k1_killed_at_every_point(fast, verb, more, fail):
    after = wanted(fast, verb)
    w, _ = prepared(fast, verb)
    whole = w.run(verb, "count", *more, *fail)
    reached = {p for p, n in whole.points.items() if int(n)}
    news, old_after_commit = 0, []
    for at in times(whole):
        w, before = prepared(fast, verb)
        got = w.run(verb, *more, *fail, f"kill={at}")
        assert got.code, f"{at}: it was not killed: {got}"
        got = w.recover(*more)
        assert got.recovered, f"{at}: {got}"
        new = check_ended(w, before, after, at)
        news += new
        if new and verb == "apply" and not fail:
            w.done(w.undo(*more))
            assert w.tree() == before, f"{at}: undone: {differences(w.tree(), before, after)}"
        # it may be done again, and then it is done
        assert w.recover().recovered == "clean"
        if got.recovered == "back" and at.startswith(("step", "swap", "in-", "out-", "move")):
            old_after_commit.append(at)
    assert news
    if not fail:
        assert len(reached) >= POINTS_MIN - 6, sorted(reached)
        steps = [a for a in old_after_commit if not a.startswith("step")]
        assert not steps, f"taken back after the mark: {steps}"


def test_k1_there_are_forty_points_and_each_is_reached(fast):
    """By an apply, one that fails, one the host meddles with, an undo, and a recovery."""
    reached = set()
    for verb, more in (("apply", []), ("apply", ["no-exchange"]),
                       ("apply", [f"fail=steps-done:1:{errno.EIO}"]), ("undo", [])):
        w, _ = prepared(fast, verb)
        got = w.run(verb, "count", *more)
        reached |= {p for p, n in got.points.items() if int(n)}
        names = set(got.points)
    w, _ = prepared(fast, "apply")
    got = w.race("commit-synced:1", lambda: w.write("a.txt", b"meddled\n"), "count")
    reached |= {line.split()[1] for line in got.lines
                if line.startswith("point ") and not line.endswith(" 0")}
    w, _ = prepared(fast, "apply")
    w.run("apply", "kill=commit-synced:1")
    reached |= {p for p, n in w.recover("count").points.items() if int(n)}
    if os.stat(fast).st_dev != os.stat("/tmp").st_dev:
        reached |= across(fast)
    assert names - reached <= {"keep-copied"}, names - reached
    assert len(names) >= POINTS_MIN


def across(fast):
    """The session on another file system than the workspace: what was replaced is copied."""
    w, before = prepared(fast, "apply")
    with tempfile.TemporaryDirectory(prefix="test-apply-session-", dir="/tmp") as session:
        w.session = session
        got = w.apply("count")
        assert got.end == "done", got
        w.clean()
        w.done(w.undo())
        assert w.tree() == before
    return {p for p, n in got.points.items() if int(n)}


def test_k1_with_the_session_on_another_file_system(fast):
    if os.stat("/tmp").st_dev == os.stat(fast).st_dev:
        pytest.skip("/tmp and /dev/shm are one file system here")
    w, before = prepared(fast, "apply")
    with tempfile.TemporaryDirectory(prefix="test-apply-session-", dir="/tmp") as session:
        w.session = session
        whole = w.apply("count")
        after = w.tree()
    for at in times(whole):
        if not at.startswith(("keep", "undo", "stage", "root", "journal", "done", "swap", "out")):
            continue
        w, before = prepared(fast, "apply")
        with tempfile.TemporaryDirectory(prefix="test-apply-session-", dir="/tmp") as session:
            w.session = session
            assert w.apply(f"kill={at}").code
            w.recover()
            if check_ended(w, before, after, at):
                w.done(w.undo())
                assert w.tree() == before, at


FIRST = ["stage-made:1", "file-part:1", "staged:1", "steps-written:1", "commit-written:1", "step:1",
         "step:9", "swap-exchanged:2", "out-renamed:2", "steps-done:1", "done-synced:1",
         "keep-moved:2", "stage-removed:1"]


@pytest.mark.parametrize("first", [*FIRST, "abort-synced:1", "back-renamed:3"])
def test_k2_recovery_killed_at_every_point(fast, first):
    fail = [f"fail=steps-done:1:{errno.ENOSPC}"] if first.startswith(("abort", "back")) else []

    def crashed():
        w, before = prepared(fast, "apply")
        assert w.apply(f"kill={first}", *fail).code
        return w, before

    after = wanted(fast, "apply")
    w, before = crashed()
    whole = w.recover("count")
    ended_new = check_ended(w, before, after, first)
    for at in times(whole):
        w, before = crashed()
        assert w.recover(f"kill={at}").code, at
        # and the recovery of the recovery, once more at the same point
        w.recover(f"kill={at}")
        got = w.recover()
        assert got.recovered, f"{first}, {at}: {got}"
        assert check_ended(w, before, after, f"{first}, {at}") == ended_new


@pytest.mark.parametrize("first", ["commit-synced:1", "step:9", "swap-exchanged:2", "steps-done:1"])
def test_k1_what_the_host_edits_before_recovery_is_kept(fast, first):
    """A third state: reported, and both versions stay."""
    w, _ = prepared(fast, "apply")
    assert w.apply(f"kill={first}").code
    for path in ("a.txt", "run.sh", "new.txt", "d/x"):
        if os.path.lexists(w.at(path)):
            w.write(path, b"of the host, meanwhile\n")
        else:
            w.write(path, b"new, of the host\n")
    got = w.recover()
    assert got.recovered == "forward", got
    w.clean()
    for path in ("a.txt", "run.sh", "new.txt", "d/x"):
        assert w.read(path) in (b"of the host, meanwhile\n", b"new, of the host\n"), path
    store = os.path.join(w.session, "undo/1")
    kept = set()
    for name in os.listdir(store):
        if os.path.isfile(os.path.join(store, name)) and name != "journal":
            with open(os.path.join(store, name), "rb") as f:
                kept.add(f.read())
    assert b"one\n" in kept or b"two\n" in kept
