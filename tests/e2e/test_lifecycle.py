"""Sandboxes in the background: from -d to the last record. test_cli_verbs.py has each verb's manners."""

import concurrent.futures
import json
import os
import re

import pytest
from sandboxes import LEVELS, Stopwatch, finish, wait_for


def ended(berm, sandbox):
    wait_for("it ended", lambda: sandbox not in [s["id"] for s in berm.json("ps", "--json")], 30)


def test_whole_life(berm, bb):
    script = "echo out; echo err >&2; sleep 2; exit 3"
    with berm.detached("--name", "job", bb, "sh", "-c", script) as one:
        (listed,) = berm.json("ps", "--json")
        assert (listed["id"], listed["name"], listed["image"]) == (one, "job", bb)
        ended(berm, one)
        (record,) = berm.json("ps", "-a", "--json")
        assert (record["reason"], record["exit_code"]) == ("exited", 3)
        logs = berm.run("logs", "job")
        assert (logs.stdout, logs.stderr) == ("out\n", "err\n")
        assert berm.inspect(one)["exit_code"] == 3
        assert berm.run("wait", one).returncode == 3
        assert berm.ok("rm", one).strip() == one
        assert berm.json("ps", "-a", "--json") == []


def test_rm_keeps_no_record(berm, bb):
    sandbox = berm.ok("run", "-d", "--rm", bb, "sh", "-c", "exit 3").strip()
    ended(berm, sandbox)
    assert berm.json("ps", "-a", "--json") == []


@pytest.mark.parametrize(
    "flags,command,code",
    [
        ([], ["/no/such/command"], 127),
        ([], ["/etc/passwd"], 126),
        (["-u", "martian"], ["true"], 125),
        (["-w", "/no/such/folder"], ["true"], 125),
        (["--cold", "-u", "martian", "--preset", "none"], ["true"], 125),
    ],
)
def test_one_that_never_ran_leaves_its_line_and_nothing_else(berm, bb, flags, command, code):
    for _ in range(2):  # its name is free again
        berm.refused(code, "run", "-d", "--name", "stillborn", *flags, bb, *command)
    assert berm.json("ps", "-a", "--json") == []


def test_one_whose_start_breaks_down_leaves_nothing(broken):
    os.unlink(os.path.join(os.path.dirname(os.path.dirname(broken.path)), "share/berm/initramfs.cpio"))
    broken.refused(125, "run", "-d", "busybox", "true")
    assert os.listdir(os.path.join(broken.state_dir, "ended")) == []


def test_reason_of_a_limit_is_kept(berm, bb):
    with berm.detached("--time", "1s", bb, "sleep", "300") as sandbox:
        assert berm.run("wait", sandbox).returncode == 124
        ended(berm, sandbox)
        record = berm.inspect(sandbox)
        assert (record["reason"], record["limits_hit"]) == ("time", ["time"])


def test_stopped_ones_leave_no_record(berm, running):
    berm.ok("stop", "-t", "1s", running)
    assert berm.json("ps", "-a", "--json") == []


def test_stop_lets_a_handler_run(berm, bb):
    script = "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    proc = berm.start("run", "--name", "tidy", bb, "sh", "-c", script)
    assert proc.stdout.readline() == b"ready\n"
    watch = Stopwatch()
    berm.ok("stop", "-t", "20s", "tidy")
    assert watch.seconds() < 15
    _, out, _ = finish(proc, 20)
    assert out == b"tidy\n"


def test_stop_does_not_wait_for_ever(berm, bb):
    script = "trap '' TERM; echo ready; while :; do sleep 0.1; done"
    with berm.detached(bb, "sh", "-c", script) as sandbox:
        wait_for("it is ready", lambda: berm.ok("logs", sandbox) == "ready\n")
        watch = Stopwatch()
        berm.ok("stop", "-t", "1s", sandbox)
        assert watch.real_seconds() > 0.9
        assert watch.seconds() < 15


def test_names_and_prefixes(berm, bb):
    with berm.detached("--name", "web-1.x", bb, "sleep", "300") as sandbox:
        for ref in (sandbox, sandbox[:4], sandbox[:11], "web-1.x"):
            assert berm.inspect(ref)["id"] == sandbox
        for ref in (sandbox[:3], "web", "ffffffffffff", sandbox + "0"):
            berm.refused(3, "inspect", ref)


def test_many_at_once_are_told_apart(berm, bb):
    """Each exec reaches the guest it was meant for."""
    names = [f"n{i}" for i in range(4)]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        ids = list(pool.map(lambda n: berm.ok("run", "-d", "--name", n, bb, "sleep", "300").strip(), names))
        assert len(set(ids)) == 4
        assert list(pool.map(lambda n: berm.ok("exec", n, "hostname").strip(), names)) == names
    berm.ok("rm", "-f", *names)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: looks into a jailed process")
def test_fifty_execs_cost_nothing(berm, running):
    """Neither the supervisor's files nor its memory grow, nor the guest's processes."""
    supervisor, _ = berm.pids(running)

    def size():
        with open(f"/proc/{supervisor}/statm", encoding="ascii") as f:
            pages = int(f.read().split()[1])
        return len(os.listdir(f"/proc/{supervisor}/fd")), pages * 4

    for _ in range(5):
        berm.ok("exec", running, "true")
    fds, kib = size()
    for i in range(50):
        assert berm.run("exec", running, "sh", "-c", f"exit {i}").returncode == i
    wait_for("its connections closed", lambda: size()[0] <= fds, 5)
    assert size()[1] < kib + 2048
    assert int(berm.ok("exec", running, "sh", "-c", "ls -d /proc/[0-9]*/exe | wc -l")) < 60


def test_twenty_execs_at_once(berm, running):
    def one(i):
        data = bytes([65 + i]) * 50_000
        got = berm.run("exec", running, "sh", "-c", f"cat; exit {i}", input=data, text=False)
        return (got.returncode, got.stdout == data)

    with concurrent.futures.ThreadPoolExecutor(20) as pool:
        assert list(pool.map(one, range(20))) == [(i, True) for i in range(20)]


def test_exec_as_another_user(berm, running):
    assert berm.ok("exec", "-u", "dev", running, "sh", "-c", "id -un; pwd") == "dev\n/home/dev\n"


def test_exec_takes_much_input(berm, running):
    got = berm.ok("exec", running, "wc", "-c", input=bytes(30_000_000))
    assert got.strip() == "30000000"


def test_exec_codes(berm, running):
    assert "nothing-there" in berm.refused(127, "exec", running, "nothing-there")
    berm.refused(126, "exec", running, "/etc/passwd")
    berm.refused(125, "exec", "-u", "martian", running, "true")
    assert berm.run("exec", running, "sh", "-c", "kill -9 $$").returncode == 137


def test_exec_in_one_that_is_over(berm, bb):
    with berm.detached(bb, "true") as sandbox:
        ended(berm, sandbox)
        berm.refused(125, "exec", sandbox, "true")


def test_stats_and_inspect_measure(berm, bb, engine):
    script = "head -c 30m /dev/zero > /file; while :; do :; done"
    with berm.detached("-m", "128MiB", bb, "sh", "-c", script) as sandbox:

        def written():
            return berm.guest(sandbox)["disk_bytes"] > 29 << 20

        wait_for("30 MB are written", written, 30)
        first = berm.inspect(sandbox)
        used = first["host"]["cpu_ms"]
        wait_for("CPU is used", lambda: berm.inspect(sandbox)["host"]["cpu_ms"] > used)
        assert first["limits"]["memory_bytes"] == 128 << 20
        assert (first["engine"], first["level"]) == (engine, LEVELS[engine])
        (row,) = berm.json("ps", "--json")
        assert (row["engine"], row["level"]) == (engine, LEVELS[engine])
        assert "landlock" in first["host"]["supervisor_jail"]
        jail = first["host"]["engine_jail"]
        words = "seccomp [1-9] deep, no new privileges, no capabilities, (own|no) pid namespace, uid "
        assert re.match(words + r"\d+$", jail)
        assert "own pid namespace" in jail or os.geteuid() != 0

        def stats():
            (line,) = berm.ok("stats", "--no-stream", "--json", sandbox).splitlines()
            return json.loads(line)["guest"]

        assert wait_for("the guest's numbers", stats)["pids"] >= 1


def test_logs_follow_what_is_written(berm, bb):
    with berm.detached(bb, "sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.2; done") as sandbox:
        got = berm.run("logs", "-f", sandbox, timeout=30)
        assert got.stdout == "".join(f"line {i}\n" for i in range(1, 6))


def test_log_is_bounded(berm, bb):
    """The newest 4 to 8 MiB of a flood are kept."""
    with berm.detached(bb, "sh", "-c", "yes 0123456789abcdef | head -c 20000000; echo the end") as sandbox:
        ended(berm, sandbox)
        text = berm.ok("logs", sandbox)
        assert text.endswith("the end\n")
        assert 3 << 20 < len(text) < 9 << 20
        folder = os.path.join(berm.state_dir, "ended", sandbox)
        assert sum(os.path.getsize(os.path.join(folder, n)) for n in os.listdir(folder)) < 10 << 20


def test_attach_gets_what_comes_after(berm, bb):
    script = "read x; echo got $x; exit 6"
    with berm.detached("-i", bb, "sh", "-c", script) as sandbox:
        got = berm.run("attach", sandbox, input=b"typed\n")
        assert (got.returncode, got.stdout) == (6, "got typed\n")


def test_a_guest_that_floods_nobody_is_not_stopped_by_it(berm, bb):
    """Detached, nobody reads: the command still gets on, and its end is seen."""
    with berm.detached(bb, "sh", "-c", "yes | head -c 30000000; exit 2") as sandbox:
        assert berm.run("wait", sandbox, timeout=60).returncode == 2


def test_wait_for_several_waiters(berm, bb):
    with berm.detached(bb, "sh", "-c", "sleep 2; exit 7") as sandbox:
        with concurrent.futures.ThreadPoolExecutor(5) as pool:
            codes = pool.map(lambda _: berm.run("wait", sandbox).returncode, range(5))
            assert list(codes) == [7] * 5


def test_rm_of_a_live_one_wants_force(berm, running):
    line = berm.refused(125, "rm", running)
    assert "-f" in line
    berm.ok("rm", "-f", running)
    assert berm.json("ps", "-a", "--json") == []


@pytest.mark.parametrize("tree", ["files", "links"])
def test_copy_out_of_a_hostile_guest(berm, bb, tmp_path, tree):
    """Names and links are the guest's choice; where they land is ours."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "file").write_text("untouched")
    if tree == "links":
        script = f"mkdir /d; ln -s {outside} /d/out; ln -s ../outside /d/up; "
        script += f"ln -s {outside}/file /d/f; echo x > /d/ok"
    else:
        script = "mkdir -p '/d/...' '/d/a b' /d/-rf; echo x > '/d/a\nb'; "
        script += "echo x > \"/d/$(printf '\\033[2J')\"; echo x > /d/ok"
    with berm.detached(bb, "sh", "-c", f"{script}; sleep 300") as sandbox:
        made = ["exec", sandbox, "test", "-e", "/d/ok"]
        wait_for("it is made", lambda: berm.run(*made).returncode == 0)
        into = tmp_path / "into"
        into.mkdir()
        got = berm.run("cp", f"{sandbox}:/d", into)
        assert "\x1b" not in got.stdout + got.stderr
        assert (into / "d" / "ok").read_text() == "x\n"
        # a second copy over the first meets the links of the first
        script = "rm -rf /d/out /d/f; mkdir /d/out; echo evil > /d/out/file; echo evil > /d/f"
        berm.run("exec", sandbox, "sh", "-c", script)
        berm.run("cp", f"{sandbox}:/d", into)
    assert (outside / "file").read_text() == "untouched"
    assert os.listdir(outside) == ["file"]
    assert sorted(os.listdir(tmp_path)) == ["into", "outside"]
