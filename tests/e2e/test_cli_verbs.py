"""What the verbs for a running sandbox do: exec, cp, logs, stats, inspect, wait, stop, rm, ps."""

import datetime
import json
import os
import re
import signal
import stat
import time

import images
import pytest
from bermtest import wait_for
from test_cli import at_a_terminal

LONG_WORD = "x" * 40


def names(folder):
    return sorted(os.listdir(folder))


@pytest.fixture
def tree(tmp_path):
    """A source with a file of each kind that can be copied."""
    src = tmp_path / "src"
    (src / "sub").mkdir(parents=True)
    (src / "file").write_bytes(bytes(range(256)) * 1000)
    (src / "empty").write_bytes(b"")
    (src / "sub" / "script").write_text("#!/bin/sh\n")
    (src / "sub" / "script").chmod(0o755)
    (src / "sub" / "link").symlink_to("../file")
    os.utime(src / "file", ns=(1_600_000_000_123_456_789, 1_600_000_000_123_456_789))
    return src


def test_a_tree_goes_in_and_comes_out_as_it_was(berm, running, tree, tmp_path):
    berm.ok("cp", tree, f"{running}:/tmp")
    assert berm.ok("exec", running, "cat", "/tmp/src/sub/script") == "#!/bin/sh\n"
    assert berm.ok("exec", running, "stat", "-c", "%u %g %a", "/tmp/src/sub/script") == "0 0 755\n"
    berm.ok("cp", f"{running}:/tmp/src", tmp_path / "back")
    back = tmp_path / "back"
    assert names(back) == ["empty", "file", "sub"]
    assert (back / "file").read_bytes() == (tree / "file").read_bytes()
    assert (back / "file").stat().st_mtime_ns == (tree / "file").stat().st_mtime_ns
    assert os.readlink(back / "sub" / "link") == "../file"
    assert (back / "sub" / "script").stat().st_mode & 0o777 == 0o755


def test_names_mean_what_they_mean_to_docker(berm, running, tree, tmp_path):
    guest = f"{running}:"
    berm.ok("cp", tree, guest + "/tmp/new")  # a name that is not there
    assert "file" in berm.ok("exec", running, "ls", "/tmp/new").split()
    berm.ok("cp", tree, guest + "/tmp/new")  # a directory that is
    assert "file" in berm.ok("exec", running, "ls", "/tmp/new/src").split()
    berm.ok("cp", f"{tree}/.", guest + "/tmp/flat")  # its content, to a new name
    berm.ok("cp", f"{tree}/.", guest + "/tmp/flat")  # and into a directory
    assert sorted(berm.ok("exec", running, "ls", "/tmp/flat").split()) == names(tree)
    berm.ok("cp", tree / "file", guest + "/tmp/flat/empty")  # onto a file
    assert berm.ok("exec", running, "stat", "-c", "%s", "/tmp/flat/empty") == "256000\n"
    out = tmp_path / "out"
    out.mkdir()
    berm.ok("cp", guest + "/tmp/flat", out)
    assert names(out) == ["flat"]
    berm.ok("cp", guest + "/tmp/flat/.", out)
    assert names(out) == ["empty", "file", "flat", "sub"]
    berm.ok("cp", guest + "tmp/flat/file", out / "empty")  # relative to the guest's root
    assert (out / "empty").stat().st_size == 256000


@pytest.mark.parametrize(
    "source, target, says",
    [
        ("{g}:/nosuch", "{t}", "/nosuch"),
        ("{t}/nosuch", "{g}:/tmp", "nosuch"),
        ("{g}:/etc", "{t}/src/file", "destination is a file"),
        ("{t}/src", "{g}:/etc/passwd", "is a file in the guest"),
        ("{t}/src/file", "{g}:/nosuch/", "no directory"),
        ("{t}/src/file", "{g}:/nosuch/x", "/nosuch/x"),
        ("{g}:/dev/null", "{t}/null", "neither a file"),
        ("{g}:/etc/passwd", "{t}/nosuch/x", "nosuch"),
    ],
)
def test_copies_that_cannot_be(berm, running, tree, tmp_path, source, target, says):
    words = [w.format(g=running, t=tmp_path) for w in (source, target)]
    before = sorted(str(p) for p in tmp_path.rglob("*"))
    assert says in berm.refused(125, "cp", *words)
    assert sorted(str(p) for p in tmp_path.rglob("*")) == before


def test_what_a_guest_sends_stays_where_it_was_wanted(berm, running, tmp_path):
    berm.ok(
        "exec", running, "sh", "-c",
        "mkdir -p /tmp/trap/d; cd /tmp/trap; ln -s /etc/passwd abs; ln -s ../../x up;"
        "ln -s d in; echo x > suid; chmod 6755 suid; mkfifo pipe; ln -s . d/dot; ln -s dot/../.. d/far",
    )
    got = berm.run("cp", f"{running}:/tmp/trap", tmp_path / "out")
    assert got.returncode == 0
    assert "lead out of the copy: 3" in got.stderr
    assert names(tmp_path / "out") == ["d", "in", "suid"]
    assert names(tmp_path / "out" / "d") == ["dot"]
    mode = (tmp_path / "out" / "suid").stat().st_mode
    assert not mode & (stat.S_ISUID | stat.S_ISGID)


def test_a_link_at_the_destination_is_replaced_not_followed(berm, running, tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("mine")
    out = tmp_path / "out"
    out.mkdir()
    (out / "passwd").symlink_to(victim)
    berm.ok("cp", f"{running}:/etc/passwd", out)
    assert victim.read_text() == "mine"
    assert not (out / "passwd").is_symlink()


def test_a_copy_has_a_limit(berm, running, tmp_path):
    berm.ok("exec", running, "sh", "-c", "head -c 300000 /dev/zero > /tmp/big")
    line = berm.refused(125, "cp", "--max", "200KiB", f"{running}:/tmp/big", tmp_path)
    assert "limit" in line
    assert names(tmp_path) == []


def test_exec_has_stdin_exit_code_and_surroundings(berm, running):
    data = bytes(range(256)) * 4000
    got = berm.run("exec", running, "cat", input=data, text=False)
    assert got.stdout == data
    got = berm.run("exec", "-e", "A=1", "-w", "/tmp", running, "sh", "-c", "echo $A $PWD; exit 9")
    assert (got.returncode, got.stdout) == (9, "1 /tmp\n")
    assert "no such command" in berm.refused(127, "exec", running, "nosuch")
    berm.refused(126, "exec", running, "/etc/passwd")
    berm.refused(125, "exec", "-u", "nobody-knows", running, "true")
    got = berm.run("exec", running, "sh", "-c", "kill -9 $$")
    assert got.returncode == 137


def test_exec_says_why_when_the_sandbox_ends_under_it(berm, bb):
    with berm.detached("--time", "2s", bb, "sleep", "100") as sandbox:
        line = berm.refused(137, "exec", sandbox, "sleep", "100")
        assert "time limit" in line


def test_logs_keep_both_channels_apart(berm, bb):
    with berm.detached(bb, "sh", "-c", "echo one; echo two >&2; echo three; exit 3") as sandbox:
        assert berm.run("wait", sandbox).returncode == 3
        got = berm.run("logs", sandbox)
        assert (got.stdout, got.stderr) == ("one\nthree\n", "two\n")
        last = berm.run("logs", "--tail", "1", sandbox)
        # two pipes have no common order: either may be read last
        assert (last.stdout, last.stderr) in (("three\n", ""), ("", "two\n"))
        assert berm.ok("logs", "-f", sandbox) == "one\nthree\n"
        rows = [json.loads(line) for line in berm.ok("logs", "--json", sandbox).splitlines()]
        assert {r["stream"] for r in rows} == {"stdout", "stderr"}
        assert "".join(r["data"] for r in rows if r["stream"] == "stdout") == "one\nthree\n"


def test_logs_follow_until_the_end(berm, bb):
    script = "for i in 1 2 3 4 5; do echo $i; sleep 0.3; done"
    with berm.detached(bb, "sh", "-c", script) as sandbox:
        assert berm.ok("logs", "-f", sandbox) == "1\n2\n3\n4\n5\n"


STAMPED = re.compile(r"(20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z) (.*)")


def test_logs_tell_when(berm, bb):
    """A line has one time, that of its beginning, however often its writer stops within it."""
    script = "printf on; sleep 1; echo e; echo two >&2; printf 'a\\nb\\n'"
    began = time.time()
    with berm.detached(bb, "sh", "-c", script) as sandbox:
        assert berm.run("wait", sandbox).returncode == 0
        ended = time.time()
        got = berm.run("logs", "--timestamps", sandbox)
        rows = [STAMPED.fullmatch(line) for line in got.stdout.splitlines()]
        assert [r[2] for r in rows] == ["one", "a", "b"], got
        assert STAMPED.fullmatch(got.stderr.strip())[2] == "two"
        times = [datetime.datetime.fromisoformat(r[1].replace("Z", "+00:00")) for r in rows]
        assert began - 1 <= times[0].timestamp() <= times[1].timestamp() <= ended + 1
        assert (times[1] - times[0]).total_seconds() > 0.9
        later = berm.run("logs", "--since", rows[1][1], "-t", sandbox)
        assert [STAMPED.fullmatch(line)[2] for line in later.stdout.splitlines()][-2:] == ["a", "b"]
        assert "on" not in later.stdout
        assert berm.ok("logs", "--since", "1h", sandbox) == "one\na\nb\n"
        assert berm.ok("logs", "--since", "2100-01-01T00:00:00+02:00", sandbox) == ""
        assert berm.ok("logs", "--json", "--since", "2100-01-01", sandbox) == ""


def test_wait_is_what_run_would_have_been(berm, bb):
    with berm.detached("--time", "1s", bb, "sleep", "100") as sandbox:
        got = berm.run("wait", "--json", sandbox)
        assert got.returncode == 124
        assert json.loads(got.stdout)["reason"] == "time"
        assert berm.run("wait", sandbox).returncode == 124  # and again, from its record


def test_ps_inspect_and_stats_agree(berm, running):
    row = next(r for r in berm.json("ps", "--json") if r["id"] == running)
    assert row["ended"] is False
    assert running in berm.ok("ps", "-q").split()
    whole = berm.inspect(running)
    assert whole["state"] == "running"
    stats = json.loads(berm.ok("stats", "--no-stream", "--json", running))
    assert stats["id"] == running
    assert stats["limits"] == whole["limits"]
    assert stats["cpu_percent"] >= 0
    assert running in berm.ok("stats", "--no-stream")


def test_names_are_as_good_as_ids(berm, bb):
    with berm.detached("--name", "by-name", bb, "sleep", "100") as sandbox:
        assert berm.inspect("by-name")["id"] == sandbox
        assert berm.inspect(sandbox[:6])["id"] == sandbox
        assert "by-name" in berm.refused(125, "run", "--name", "by-name", bb, "true")


def test_an_image_in_use_stays(fresh_berm, rootfs):
    """By a sandbox in the background, whose starter is gone; it is named."""
    images.import_image(fresh_berm, rootfs, "busybox")
    small = ["-m", "64MiB", "--disk", "32MiB", "--cold"]
    with fresh_berm.detached("--name", "web", *small, "busybox", "sleep", "3000") as sandbox:
        assert [i["in_use"] for i in fresh_berm.json("image", "ls", "--json") if not i["installed"]] == [True]
        got = fresh_berm.run("image", "rm", "busybox")
        assert got.returncode == 4 and "in use by sandbox 'web'" in got.stderr, got
        fresh_berm.ok("image", "tag", "busybox", "other")
        fresh_berm.ok("image", "rm", "busybox")  # a name alone may go
        assert fresh_berm.json("image", "prune", "--json")["images"] == 0
        fresh_berm.ok("image", "rm", "--force", "other")
        assert fresh_berm.ok("exec", sandbox, "sh", "-c", "md5sum /bin/busybox >/dev/null; echo fine") == "fine\n"
    images.import_image(fresh_berm, rootfs, "busybox")
    fresh_berm.ok("image", "rm", "busybox")


def test_rm_wants_force_for_a_live_one(berm, running):
    assert "rm -f" in berm.refused(125, "rm", running)
    assert berm.ok("rm", "-f", running).strip() == running
    assert running in berm.refused(3, "inspect", running)


def test_stop_gives_time_to_tidy_up(berm, bb):
    script = "trap 'echo tidied; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    with berm.detached(bb, "sh", "-c", script) as sandbox:
        wait_for("it is ready", lambda: "ready" in berm.ok("logs", sandbox))
        berm.ok("stop", "--signal", "TERM", sandbox)
        assert berm.run("wait", sandbox).returncode == 0
        assert berm.ok("logs", sandbox).split()[-1] == "tidied"


def test_attach_sees_the_rest_and_the_exit_code(berm, bb):
    with berm.detached("-i", bb, "sh", "-c", "cat; exit 6") as sandbox:
        got = berm.run("attach", sandbox, input="typed\n")
        assert (got.returncode, got.stdout) == (6, "typed\n")


def test_detach_keys_leave_it_running_and_the_terminal_as_it_was(berm, bb):
    with berm.detached("-it", bb, "sh") as sandbox:
        with berm.terminal("attach", sandbox) as t:
            t.type("echo $((40+2))-here\n")
            t.expect("42-here")
            t.type("\x10\x11")
            assert t.wait() == 0
            assert t.modes() == t.first_modes
        assert berm.inspect(sandbox)["state"] == "running"
        with berm.terminal("attach", sandbox) as t:
            t.type("exit 5\n")
            assert t.wait() == 5


def test_a_second_ctrl_c_ends_what_does_not_listen(berm, bb):
    deaf = "trap 'echo heard' INT; echo ready; while :; do sleep 1; done"
    with berm.terminal("run", "--no-tty", bb, "sh", "-c", deaf) as t:
        t.expect("ready")
        t.type("\x03")
        t.expect("heard")
        t.type("\x03")
        assert t.wait() == 137
    assert berm.json("ps", "--json") == []


def test_a_second_ctrl_c_kills_an_exec_and_not_the_sandbox(berm, running):
    deaf = "trap 'echo heard' INT; echo ready; while :; do sleep 1; done"
    with berm.terminal("exec", "--no-tty", running, "sh", "-c", deaf) as t:
        t.expect("ready")
        t.type("\x03")
        t.expect("heard")
        t.type("\x03")
        assert t.wait() == 137
    assert berm.inspect(running)["state"] == "running"


def test_ctrl_z_stops_the_command_with_berm(berm, bb):
    count = "i=0; while :; do i=$((i+1)); echo tick $i; sleep 0.2; done"
    with berm.terminal("run", "--no-tty", bb, "sh", "-c", count) as t:
        t.expect("tick 2")
        os.kill(t.proc.pid, signal.SIGTSTP)
        wait_for("berm is stopped", lambda: state_of(t.proc.pid) == "T")
        t.more(1)
        t.text = b""
        assert not t.more(1), "the command went on"
        os.kill(t.proc.pid, signal.SIGCONT)
        t.expect("tick")
        t.type("\x03")
        assert t.wait() == 130


def state_of(pid):
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        return f.read().rpartition(")")[2].split()[0]


def test_sandboxes_fit_the_terminal(berm):
    script = f"sleep 600; : {LONG_WORD}{LONG_WORD}"
    box = berm.ok("run", "-d", "--name", f"box-{LONG_WORD}", "--", "sh", "-c", script).strip()
    try:
        head, row = at_a_terminal(berm, "ps", cols=80)[:2]
        assert head.split() == ["ID", "NAME", "IMAGE", "AGE", "LEVEL", "STATUS", "COMMAND"]
        assert row.startswith(box) and len(row) == 80 and row.endswith(">") and "  sh -c " in row, row
        assert "box-xx" in row and "  running " in row, row
        whole = berm.ok("ps").splitlines()[1]
        assert f"box-{LONG_WORD}" in whole and f"{LONG_WORD}{LONG_WORD}" in whole, whole
    finally:
        berm.ok("rm", "-f", box)
