"""libberm's pauses, snapshots and forks, on real guests."""

import contextlib
import errno
import os
import select
import signal
import threading

import apitest
import bermtest
import pytest
from apitest import PIPE
from test_api_guest import fails

ANSWER = "echo ready; while read line; do echo $line at $(hostname); done"
COUNT = "i=0; while :; do i=$((i+1)); echo $i; done"
WHO = "hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid"


@pytest.fixture
def warm(lib, bb):
    """Has said that it is ready, and answers each line with that and its host name."""
    cmd = apitest.command("sh", "-c", ANSWER, in_=PIPE)
    with lib.start(cmd, image=bb) as sb:
        assert sb.main().read() == b"ready\n"
        yield sb


@pytest.fixture
def kept(berm):
    """Removes the snapshots that are named to it."""
    names = []
    yield names.append
    for name in names:
        berm.ok("snapshot", "rm", name)


def inspect(berm, ref):
    return berm.json("inspect", ref)


def answers(sb, text):
    sb.main().write(f"{text}\n".encode())
    want = f"{text} at {sb.id}\n".encode()
    got = b""
    while len(got) < len(want) and (part := sb.main().read()):
        got += part
    assert got == want


@contextlib.contextmanager
def forked(sb, count):
    children = sb.fork(count)
    try:
        yield children
    finally:
        for child in children:
            child.free()


def test_ten_children_answer(warm, berm):
    with forked(warm, 10) as children:
        assert len({sb.id for sb in (warm, *children)}) == 11
        for n, sb in enumerate((warm, *children)):
            answers(sb, f"line {n}")
        assert inspect(berm, children[0].id)["from"] == warm.id
        children[0].main().close_stdin()
        assert children[0].main().wait().code == 0
        assert apitest.REASONS[children[0].ended().reason] == "exited"
    bermtest.wait_for("they are gone", lambda: berm.sandboxes() == [warm.id])
    answers(warm, "still here")


def test_children_have_an_identity_and_a_disk_of_their_own(lib, bb):
    with lib.start(image=bb, env=["OWN=1"]).started() as sb:
        sb.output("sh", "-c", "echo both >/root/a")
        with forked(sb, 2) as children:
            assert all(child.main() is None for child in children)
            said = [s.output("sh", "-c", WHO).split() for s in (sb, *children)]
            assert all(len(set(kind)) == 3 for kind in zip(*said)), said
            assert [words[0].decode() for words in said] == [sb.id, *(c.id for c in children)]
            children[0].output("sh", "-c", "echo $OWN >>/root/a")
            assert children[0].output("cat", "/root/a") == b"both\n1\n"
            assert children[1].output("cat", "/root/a") == b"both\n"


def read_lines(sb, count, text=b""):
    while text.count(b"\n") < count:
        part = sb.main().read()
        assert part, "it ended"
        text += part
    return text


def consecutive(text):
    numbers = [int(n) for n in text.split(b"\n")[:-1]]
    assert numbers == list(range(numbers[0], numbers[0] + len(numbers)))
    return numbers


def test_a_fork_while_output_streams(lib, bb):
    """Nothing is lost and nothing comes twice, in the parent and in children."""
    with lib.start(apitest.command("sh", "-c", COUNT), image=bb) as sb:
        text = read_lines(sb, 5000)
        last = consecutive(text)[-1]
        with forked(sb, 2) as children:
            for child in children:
                _, rest = read_lines(child, 5000).split(b"\n", 1)  # the parent may have a half
                first = consecutive(rest)[0]
                assert first > last
                text = read_lines(sb, first, text)
        numbers = consecutive(read_lines(sb, text.count(b"\n") + 5000, text))
        assert numbers[0] == 1


def test_pause_and_resume(warm, berm):
    warm.pause()
    warm.pause()
    assert inspect(berm, warm.id)["paused"]
    warm.main().write(b"waits\n")
    fails(errno.EAGAIN, "nothing to read", warm.main().read, timeout_ms=300)
    with forked(warm, 1) as children:  # of one that stands still
        children[0].started()
        answers(children[0], "runs")
    warm.resume()
    assert warm.main().read() == f"waits at {warm.id}\n".encode()
    warm.resume()


def test_a_snapshot_is_started_twice(lib, bb, warm, berm, kept):
    warm.snapshot("warm")
    kept("warm")
    fails(errno.EEXIST, "there is a snapshot 'warm' already", warm.snapshot, "warm")
    answers(warm, "goes on")
    warm.stop()
    cmd = apitest.command(in_=PIPE)
    with lib.start(cmd, snapshot="warm") as one, lib.start(cmd, snapshot="warm", name="two") as two:
        answers(one, "first")
        two.main().write(b"x\n")
        assert two.main().read() == b"x at two\n"
        assert inspect(berm, "two")["from"] == "warm"
        with forked(one, 1) as children:
            answers(children[0], "a child of it")
    with lib.start(snapshot="warm", time_limit=300) as sb:
        assert apitest.REASONS[sb.ended().reason] == "time"
    berm.ok("restore", "-d", "--name", "three", "warm")
    with lib.connect("three") as sb:
        assert sb.output("hostname") == b"three\n"
        sb.stop()


def test_what_is_refused(lib, bb, warm):
    fails(errno.ENOENT, "no snapshot 'nothing-such'", lib.start, snapshot="nothing-such")
    warm.stop()
    fails(errno.ESHUTDOWN, "stopped", warm.fork, 1)
    fails(errno.ESHUTDOWN, "stopped", warm.snapshot, "late")
    with lib.start(image=bb) as sb:
        with pytest.raises(apitest.Failed) as caught:
            sb.fork(1)
        assert caught.value.code in (-errno.EAGAIN, -errno.ENOTSUP), caught.value


def test_a_supervisor_killed_meanwhile(warm, berm):
    pid = inspect(berm, warm.id)["host"]["supervisor_pid"]
    wrong = []

    def ask():
        try:
            for child in warm.fork(2):
                child.free()
        except apitest.Failed as fault:
            wrong.append(fault.code)

    asking = threading.Thread(target=ask)
    asking.start()
    os.kill(pid, signal.SIGKILL)
    asking.join()
    assert wrong in ([-errno.ENODATA], []), wrong
    fails(errno.ENODATA, "supervisor has gone", warm.fork, 1)
    berm.ok("ps")  # sweeps what it left


def test_nothing_is_left_when_time_is_up(warm, berm):
    before = sorted(os.listdir("/proc/self/fd"))
    fails(errno.ETIMEDOUT, "did not fork in time", warm.fork, 20, timeout_ms=100)
    bermtest.wait_for("they are gone", lambda: berm.sandboxes() == [warm.id])
    assert sorted(os.listdir("/proc/self/fd")) == before
    answers(warm, "still here")


def test_a_loop_is_told_when_children_run(warm):
    fails(errno.ETIMEDOUT, "fork", warm.fork, 2, timeout_ms=0)
    loop = select.poll()
    loop.register(warm.event_fd(), select.POLLIN)
    while True:
        assert loop.poll(120000), "no event in two minutes"
        if (ev := warm.next_event()) and ev.kind == apitest.DONE:
            break
    children = warm.fork(2, timeout_ms=0)
    for child in children:
        answers(child, "hello")
        child.free()


def test_from_eight_threads_at_once(warm):
    wrong = []

    def work(n):
        try:
            with forked(warm, 1) as children:
                answers(children[0], str(n))
        except (AssertionError, apitest.Failed) as fault:
            wrong.append(fault)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong
    answers(warm, "still here")


def test_no_file_is_left_open(warm):
    with forked(warm, 1):
        pass
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with forked(warm, 2) as children:
            answers(children[1], "x")
    assert sorted(os.listdir("/proc/self/fd")) == before
