"""Whoever is killed whenever: afterwards nothing is left, at most after one more berm command."""

import concurrent.futures
import contextlib
import os
import signal
import time

import pytest
from sandboxes import SETTLE_SECONDS, Stopwatch, finish, stretched, wait_for

# From before the supervisor is there, through restore and start, to a guest long at work.
MOMENTS = [0.0, 0.005, 0.02, 0.05, 0.1, 0.15, 0.25, 0.4, 0.8, 1.5]
FLOOD = "yes flooding the output of this sandbox without end"


def kill(pid, number=signal.SIGKILL):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def settle(berm):
    """No process within seconds, and no trace after one more command."""
    wait_for("all processes ended", lambda: not berm.alive(), SETTLE_SECONDS)
    berm.ok("ps")
    assert berm.sandboxes() in ([], [".names"])


def victims(berm, who):
    if who == "engine":
        return berm.engines()
    return berm.by_program(f"berm-{who}")


@pytest.fixture
def bb(berm, bb):
    """With its template there: what is killed is a sandbox, and no builder. Nor is it this first one, whose supervisor
    may outlive its command for a moment."""
    berm.ok("run", bb, "true")
    wait_for("all processes ended", lambda: not berm.alive(), SETTLE_SECONDS)
    return bb


@pytest.mark.parametrize("moment", MOMENTS)
def test_caller_is_killed(berm, bb, moment):
    proc = berm.start("run", bb, "sleep", "300")
    time.sleep(stretched(moment))
    proc.kill()
    finish(proc, 10)
    settle(berm)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_caller_is_told_to_end(berm, bb, number, moment):
    """The signal goes to the command; before it runs, berm ends the sandbox."""
    proc = berm.start("run", bb, "sleep", "300", start_new_session=True)
    time.sleep(stretched(moment))
    os.killpg(proc.pid, number)
    code, _, err = finish(proc, 30)
    assert code in (128 + number, -number), err
    settle(berm)


@pytest.mark.parametrize("moment", MOMENTS)
def test_supervisor_is_killed(berm, bb, moment):
    proc = berm.start("run", bb, "sleep", "300")
    time.sleep(stretched(moment))
    with contextlib.suppress(AssertionError):
        for pid in wait_for("a supervisor", lambda: berm.by_program("berm-supervisor"), 5):
            kill(pid)
    code, _, err = finish(proc, 30)
    assert code == 125 and err.startswith(b"berm: "), (code, err)
    assert err.count(b"\n") == 1
    settle(berm)


@pytest.mark.parametrize("moment", [0.0, 0.02, 0.1, 0.3, 1.0])
def test_engine_is_killed(berm, bb, moment):
    proc = berm.start("run", bb, "sleep", "300")
    time.sleep(stretched(moment))
    for pid in wait_for("an engine", lambda: victims(berm, "engine"), 5):
        kill(pid)
    code, _, err = finish(proc, 30)
    assert code == 125 and err.count(b"\n") == 1, (code, err)
    settle(berm)


@pytest.mark.parametrize("who", ["caller", "supervisor", "engine"])
def test_killed_during_a_flood_of_output(berm, bb, who):
    proc = berm.start("run", bb, *FLOOD.split())
    proc.stdout.read(100_000)
    if who == "caller":
        proc.kill()
    else:
        for pid in victims(berm, who):
            kill(pid)
    finish(proc, 30)
    settle(berm)


@pytest.mark.parametrize("who", ["caller", "supervisor", "engine"])
def test_killed_while_it_is_stopping(berm, bb, who):
    """The command ignores TERM, so `berm stop` waits."""
    script = "trap 'echo asked' TERM; echo ready; while :; do sleep 0.2; done"
    proc = berm.start("run", "--name", "stubborn", bb, "sh", "-c", script)
    assert proc.stdout.readline() == b"ready\n"
    stop = berm.start("stop", "-t", "30s", "stubborn")
    assert proc.stdout.readline() == b"asked\n"
    if who == "caller":
        proc.kill()
    else:
        for pid in victims(berm, who):
            kill(pid)
    finish(proc, 40)
    finish(stop, 40)
    settle(berm)


def test_killed_while_it_boots(berm, bb):
    for moment in (0.1, 0.4, 0.8):
        proc = berm.start("run", "--cold", bb, "sleep", "300")
        time.sleep(stretched(moment))
        proc.kill()
        finish(proc, 10)
        settle(berm)


@pytest.mark.parametrize(
    "who, moment",
    [("template", 0.05), ("template", 0.3), ("template", 1.5), ("supervisor", 0.9)]
    + [("caller", 0.1), ("caller", 0.9), ("engine", 0.05), ("engine", 1.5)],
)
def test_killed_while_a_template_is_built(fresh_berm, stage, rootfs, who, moment):
    import images

    berm = fresh_berm
    images.import_image(berm, rootfs, "busybox")
    proc = berm.start("run", "--warm", "sleep 1", "busybox", "echo", "x")
    wait_for("a builder", lambda: berm.by_program("berm-template"), 10)
    if who == "engine":
        wait_for("its engine", lambda: victims(berm, who), 10)
    time.sleep(moment)
    for pid in [proc.pid] if who == "caller" else victims(berm, who):
        kill(pid)
    code, _, err = finish(proc, 30)
    assert code != 0
    if who != "caller":
        assert err.count(b"\n") == 1 and err.startswith(b"berm: "), err
    wait_for("all processes ended", lambda: not berm.alive(), SETTLE_SECONDS)
    time.sleep(1.1)  # STATE_LOCK_GRACE_MS: younger ones may be at their lock
    berm.ok("ps")
    left = [n for n in os.listdir(os.path.join(berm.state_dir, "templates")) if "tmp" in n]
    assert left == []
    assert berm.ok("run", "--warm", "sleep 1", "busybox", "echo", "y") == "y\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("moment", [0.0, 0.3, 1.5])
def test_interrupted_while_a_template_is_built(fresh_berm, stage, rootfs, number, moment):
    """What was under way is gone at once, without another berm command."""
    import images

    berm = fresh_berm
    images.import_image(berm, rootfs, "busybox")
    templates = os.path.join(berm.state_dir, "templates")
    proc = berm.start("run", "--warm", "sleep 30", "busybox", "echo", "x")
    wait_for("a draft", lambda: os.path.isdir(templates) and [n for n in os.listdir(templates) if "tmp" in n], 10)
    time.sleep(stretched(moment))
    kill(proc.pid, number)
    code, _, err = finish(proc, 30)
    assert code == 128 + number and err.count(b"\n") <= 1, (code, err)
    wait_for("all processes ended", lambda: not berm.alive(), SETTLE_SECONDS)
    assert [n for n in os.listdir(templates) if not n.endswith(".lock")] == []


def test_detached_sandbox_outlives_its_caller(berm, bb):
    with berm.detached(bb, "sleep", "300") as sandbox:
        assert [s["id"] for s in berm.json("ps", "--json")] == [sandbox]
        supervisor, engine = berm.pids(sandbox)
        kill(supervisor)
        wait_for("its engine ended too", lambda: not os.path.exists(f"/proc/{engine}"))
        assert berm.json("ps", "--json") == []
    settle(berm)


def test_engine_of_a_detached_sandbox_is_killed(berm, bb):
    with berm.detached("--rm", bb, "sleep", "300") as sandbox:
        kill(berm.pids(sandbox)[1])
        wait_for("it ended", lambda: berm.json("ps", "--json") == [])
    settle(berm)


def test_supervisor_is_told_to_end(berm, bb):
    """As when the host goes down: it ends its sandbox and keeps a record of why."""
    with berm.detached(bb, "sleep", "300") as sandbox:
        kill(berm.pids(sandbox)[0], signal.SIGTERM)
        wait_for("it ended", lambda: berm.json("ps", "--json") == [])
        assert berm.inspect(sandbox)["reason"] == "interrupted"
    settle(berm)


def test_fifty_one_after_another(berm, bb):
    fds = len(os.listdir("/proc/self/fd"))
    watch = Stopwatch()
    for i in range(50):
        assert berm.ok("run", bb, "echo", str(i)) == f"{i}\n"
        assert berm.sandboxes() in ([], [".names"])
    assert len(os.listdir("/proc/self/fd")) == fds
    assert watch.seconds() < 120


def test_eight_at_once(berm, bb):
    def one(i):
        data = bytes([i]) * 200_000
        got = berm.run("run", bb, "sh", "-c", f"cat; echo {i} >&2; exit {i}", input=data, text=False)
        return got.returncode == i and got.stdout == data and got.stderr == f"{i}\n"

    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, range(1, 9))) == [True] * 8


def test_eight_that_are_all_killed(berm, bb):
    procs = [berm.start("run", bb, "sleep", "300") for _ in range(8)]
    wait_for("eight supervisors", lambda: len(berm.by_program("berm-supervisor")) == 8, 20)
    for proc in procs:
        proc.kill()
    for proc in procs:
        finish(proc, 10)
    settle(berm)
