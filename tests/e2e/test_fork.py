"""A running sandbox, copied: both go on, and nobody can take one for the other."""

import json
import re
import time

import pytest
from sandboxes import wait_for

COUNT = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"


def ids(text):
    found = text.split()
    assert all(re.fullmatch("[0-9a-f]{12}", i) for i in found), text
    return found


@pytest.fixture
def counting(berm, bb):
    """Writes 1, 2, 3 and so on, a line each."""
    with berm.detached(bb, "sh", "-c", COUNT) as sandbox:
        wait_for("it counts", lambda: berm.ok("logs", sandbox))
        yield sandbox


@pytest.fixture
def fork(berm):
    """Forks, and removes the children at the end."""
    made = []

    def make(sandbox, *flags):
        made.extend(ids(berm.ok("fork", *flags, sandbox)))
        return made[-1]

    yield make
    for child in made:
        berm.run("rm", "-f", child)


def numbers(berm, sandbox):
    return [int(n) for n in berm.ok("logs", sandbox).split()]


def goes_on(berm, sandbox):
    had = len(numbers(berm, sandbox))
    wait_for(f"{sandbox} goes on", lambda: len(numbers(berm, sandbox)) > had + 2)


def test_both_go_on(berm, counting, fork):
    child = fork(counting)
    for sandbox in (counting, child):
        goes_on(berm, sandbox)
    mine, its = numbers(berm, counting), numbers(berm, child)
    assert mine == list(range(1, len(mine) + 1))
    assert its == list(range(its[0], its[0] + len(its)))
    assert 1 < its[0] <= mine[-1] + 1  # it went on from there


def test_a_child_says_what_it_is(berm, counting, fork):
    child = fork(counting)
    assert berm.inspect(child)["from"] == counting
    assert not berm.inspect(child)["paused"]
    assert {r["id"] for r in berm.json("ps", "--json")} == {counting, child}
    berm.ok("stop", "-t", "0", child)
    goes_on(berm, counting)


def test_disks_are_shared_until_written(berm, running, fork):
    berm.ok("exec", running, "sh", "-c", "echo both > /root/before; sync")
    berm.ok("exec", running, "sh", "-c", "echo unsynced > /root/cached")
    child = fork(running)
    berm.ok("exec", running, "sh", "-c", "echo parent > /root/after; echo parent > /root/cached")
    berm.ok("exec", child, "sh", "-c", "echo child > /root/mine")
    read = ["sh", "-c", "cd /root; for f in *; do echo $f $(cat $f); done"]
    assert berm.ok("exec", running, *read).splitlines() == [
        "after parent", "before both", "cached parent"]
    assert berm.ok("exec", child, *read).splitlines() == [
        "before both", "cached unsynced", "mine child"]


IDENTITY = """hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid; date +%s
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'"""


def test_each_has_an_identity_of_its_own(berm, running):
    children = ids(berm.ok("fork", "-n", "3", "--rm", running))
    assert len(set(children)) == 3
    seen = []
    for sandbox in (running, *children):
        hostname, machine, uuid, seconds, random = berm.ok(
            "exec", sandbox, "sh", "-c", IDENTITY).splitlines()
        assert hostname == sandbox and abs(int(seconds) - time.time()) < 3
        seen.append((hostname, machine, uuid, random))
    for kind in zip(*seen):
        assert len(set(kind)) == 4, kind
    berm.ok("stop", "-t", "0", *children)


def test_names(berm, running):
    made = berm.json("fork", "--json", "-n", "2", "--name", "kid", running)
    assert [m["name"] for m in made] == ["kid-1", "kid-2"]
    for m in made:
        assert berm.ok("exec", m["name"], "hostname").strip() == m["name"]
    line = berm.refused(125, "fork", "--name", "kid-1", running)
    assert "kid-1" in line
    berm.ok("stop", "-t", "0", "kid-1", "kid-2")


def test_all_or_none(berm, running, bb):
    with berm.detached("--name", "kid-3", bb, "sleep", "3600") as other:
        line = berm.refused(125, "fork", "-n", "4", "--name", "kid", running)
        assert "kid-3" in line
        wait_for("the others to end", lambda: set(
            r["id"] for r in berm.json("ps", "--json")) == {running, other})


def test_pause(berm, counting, fork):
    berm.ok("pause", counting)
    assert berm.inspect(counting)["paused"]
    assert [r["paused"] for r in berm.json("ps", "--json")] == [True]
    assert "paused" in berm.ok("ps")
    had = numbers(berm, counting)
    child = fork(counting)
    goes_on(berm, child)
    assert numbers(berm, counting) == had
    assert berm.json("resume", "--json", counting)["paused"] is False
    goes_on(berm, counting)
    assert "running" in berm.ok("ps") and "paused" not in berm.ok("ps")


def test_snapshot_and_restore(berm, counting):
    said = berm.json("snapshot", "--json", counting, "warm")
    try:
        assert said["name"] == "warm" and said["id"] == counting
        berm.ok("stop", "-t", "0", counting)
        children = ids(berm.ok("restore", "-d", "-n", "2", "--rm", "warm"))
        for child in children:
            goes_on(berm, child)
            assert berm.inspect(child)["from"] == "warm"
        assert numbers(berm, children[0])[0] == numbers(berm, children[1])[0]
        berm.ok("stop", "-t", "0", *children)
        assert json.loads(berm.ok("snapshot", "ls", "--json"))[0]["name"] == "warm"
    finally:
        berm.ok("snapshot", "rm", "warm")
    assert berm.json("snapshot", "ls", "--json") == []
