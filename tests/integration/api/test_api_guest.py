"""libberm on real guests: what a program that embeds sandboxes does with them."""

import errno
import os
import select
import signal
import subprocess
import threading
import time

import apitest
import bermtest
import leaks
import pytest
from apitest import PIPE, TTY


@pytest.fixture
def sandbox(lib):
    with lib.start() as sb:
        yield sb.started()


def fails(code, words, call, *args, **more):
    with pytest.raises(apitest.Failed) as caught:
        call(*args, **more)
    assert caught.value.code == -code, caught.value
    assert words in caught.value.text, caught.value.text
    return caught.value.text


# --- commands ---


def test_a_main_command(lib):
    with lib.start(apitest.command("sh", "-c", "echo out; echo err >&2; exit 3", err=PIPE)) as sb:
        assert sb.main().read_all() == b"out\n"
        assert sb.main().read_all(apitest.STDERR) == b"err\n"
        assert sb.main().wait().code == 3
        res = sb.ended()
        assert (apitest.REASONS[res.reason], res.exit_code) == ("exited", 3)
        assert res.output_bytes == 8 and res.wall_ms < res.start_ms + 60000
        assert res.engine in (b"qemu", b"kvm") and res.level >= 2


def test_commands_one_after_another_and_at_once(sandbox):
    assert sandbox.output("echo", "hello") == b"hello\n"
    many = [sandbox.exec("sh", "-c", f"sleep 0.2; echo {n}") for n in range(10)]
    assert [p.read_all() for p in many] == [b"%d\n" % n for n in range(10)]
    assert all(p.wait().code == 0 for p in many)


def test_a_command_before_the_sandbox_runs(lib):
    with lib.start() as sb:
        p = sb.exec("cat", in_=PIPE)
        p.close_stdin()
        p.signal(signal.SIGCONT)
        assert p.read_all() == b"" and p.wait().code == 0


def test_a_command_that_cannot_start(sandbox):
    fails(errno.ENOENT, "no such command in the guest", sandbox.exec("nothing-of-that-name").wait)
    fails(errno.EACCES, "could not be started", sandbox.exec("/etc/passwd").wait)
    fails(errno.EINVAL, "nobody-such", sandbox.exec("true", user="nobody-such").wait)
    fails(errno.ENOTDIR, "/nowhere", sandbox.exec("true", workdir="/nowhere").wait)


def test_who_and_where_a_command_is(sandbox):
    script = "id -un; pwd; echo $A"
    env = ["A=b", "PATH=/usr/bin:/bin"]
    got = sandbox.output("sh", "-c", script, user="nobody", workdir="/tmp", env=env)
    assert got == b"nobody\n/tmp\nb\n"


def test_nothing_of_the_hosts_environment_arrives(lib, monkeypatch):
    monkeypatch.setenv("SECRET_OF_THE_HOST", "x")
    with lib.start(apitest.command("env"), env=["A=config"]) as sb:
        mains = sb.main().read_all().decode().split()
        assert "A=config" in mains and "SECRET_OF_THE_HOST" not in str(mains)
    with lib.start(env=["A=config"]) as sb:
        execs = sb.started().output("env").decode().split()
        exact = sb.output("env", env=["B=only"]).decode().split()
    assert "A=config" in execs and "SECRET_OF_THE_HOST" not in str(execs)
    names = {line.split("=")[0] for line in exact}
    assert "B" in names and names <= {"B", "HOME", "PATH", "TERM", "USER"}, names


def test_warm_up_commands_know_nothing_of_a_start(lib, berm):
    """Their template is the next program's as well."""
    value = os.urandom(8).hex()
    warm = [f"env >/warm # {os.urandom(8).hex()}"]
    for env in ([f"SAID={value}"], []):
        with lib.start(apitest.command("cat", "/warm"), env=env, warm=warm) as sb:
            told = sb.main().read_all().decode()
        assert "PATH=" in told and "SAID" not in told, told
    folder = os.path.join(berm.state_dir, "templates")
    for name in os.listdir(folder):
        path = os.path.join(folder, name, "ram")
        if os.path.exists(path):
            with open(path, "rb") as f:
                assert value.encode() not in f.read(), name


def test_input_and_output_through_pipes(sandbox):
    data = os.urandom(3 << 20)
    p = sandbox.exec("cat", in_=PIPE)
    writer = threading.Thread(target=lambda: (p.write(data), p.close_stdin()))
    writer.start()
    assert p.read_all() == data
    writer.join()
    assert p.wait().code == 0


def test_input_and_output_in_files(sandbox, tmp_path):
    data = os.urandom(2 << 20)
    (tmp_path / "in").write_bytes(data)
    with open(tmp_path / "in", "rb") as i, open(tmp_path / "out", "wb") as o:
        assert sandbox.exec("cat", in_=i, out=o).wait().code == 0
    assert (tmp_path / "out").read_bytes() == data


def test_signals_and_limits(lib):
    with lib.start(apitest.command("sleep", "1000")) as sb:
        sb.main().signal(signal.SIGTERM)
        assert sb.main().wait().signal == signal.SIGTERM
        assert sb.ended().exit_code == 128 + signal.SIGTERM
    with lib.start(apitest.command("sleep", "1000"), time_limit=300) as sb:
        fails(errno.ESHUTDOWN, "time limit", sb.main().wait)
        assert apitest.REASONS[sb.ended().reason] == "time"
    with lib.start(time_limit=300) as sb:  # without a main command, too
        assert apitest.REASONS[sb.ended().reason] == "time"


def test_a_terminal(sandbox):
    p = sandbox.exec("sh", "-c", "stty size; read x; stty size", in_=PIPE, flags=TTY, rows=10, cols=20)
    assert p.read().startswith(b"10 20")
    p.resize(30, 40)
    p.write(b"\n")
    assert b"30 40" in p.read_all()
    assert p.wait().code == 0


def test_freeing_a_command_kills_it(sandbox):
    p = sandbox.exec("sleep", "4711")
    bermtest.wait_for("it runs", lambda: b"4711" in sandbox.output("ps", "-ef"))
    p.free()
    bermtest.wait_for("it is gone", lambda: b"4711" not in sandbox.output("ps", "-ef"))


# --- sandboxes ---


def test_stop_gives_time_to_end_well(lib):
    script = "trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    with lib.start(apitest.command("sh", "-c", script)) as sb:
        assert sb.main().read() == b"ready\n"
        sb.stop(grace_ms=10000)
        assert sb.main().read_all() == b"bye\n"
        assert apitest.REASONS[sb.ended().reason] == "stopped"
        fails(errno.ESHUTDOWN, "the sandbox ended: stopped", sb.exec, "true")


def test_stats(sandbox):
    sandbox.output("sh", "-c", "head -c 1000000 /dev/zero >/tmp/x")
    s = sandbox.stats()
    assert s.guest_known == 1 and s.level >= 2 and s.engine in (b"qemu", b"kvm")
    assert s.guest_memory_bytes > 0 and s.guest_disk_max_bytes > 1 << 30 and s.cpu_ms > 0


def test_freeing_a_sandbox_ends_it(lib, berm):
    sb = lib.start().started()
    assert sb.id in berm.sandboxes()
    sb.free()
    bermtest.wait_for("it is gone", lambda: not berm.sandboxes())


def test_the_command_line_sees_it(lib, berm):
    with lib.start(name="embedded").started() as sb:
        assert sb.id in berm.ok("ps")
        assert berm.ok("exec", "embedded", "echo", "hello") == "hello\n"
        fails(errno.EEXIST, "'embedded'", lib.start, name="embedded")
        berm.ok("stop", "-t", "0", "embedded")
        assert apitest.REASONS[sb.ended().reason] == "stopped"


def test_a_detached_one_is_found_again(lib, berm):
    script = "while read line; do echo got $line; done"
    cmd = apitest.command("sh", "-c", script, in_=PIPE)
    sb = lib.start(cmd, name="stays", detached=1).started()
    sb.free()
    with lib.connect("stays") as sb:
        assert sb.main() is None
        p = sb.attach(in_=PIPE)
        p.write(b"one\n")
        assert p.read() == b"got one\n"
        assert sb.output("echo", "x") == b"x\n"
        sb.stop()
        assert apitest.REASONS[sb.ended().reason] == "stopped"
        fails(errno.ESHUTDOWN, "ended", p.wait)
    fails(errno.ENOENT, "stays", lib.connect, "stays")


def test_events_of_several_in_one_loop(lib):
    loop = select.epoll()
    alive = {}
    for n in range(4):
        sb = lib.start(apitest.command("sh", "-c", f"echo {n}; sleep 0.1; exit {n}"))
        alive[sb.event_fd()] = sb, []
        loop.register(sb.event_fd(), select.EPOLLIN)
    told = []
    while len(told) < 4:
        ready = loop.poll(120)
        assert ready, "no event in two minutes"
        for fd, _ in ready:
            sb, kinds = alive[fd]
            while ev := sb.next_event():
                if ev.kind != apitest.PROGRESS:
                    kinds.append(ev.kind)
                if ev.kind == apitest.OUTPUT and ev.stream == apitest.STDOUT:
                    sb.main().read(timeout_ms=0)
                if ev.kind == apitest.ENDED:
                    loop.unregister(fd)
                    told.append((sb.ended().exit_code, kinds))
    for code, kinds in told:
        assert kinds[0] == apitest.STARTED and kinds[-2:] == [apitest.EXIT, apitest.ENDED], kinds
    assert sorted(code for code, _ in told) == [0, 1, 2, 3]
    for sb, _ in alive.values():
        sb.free()


def test_a_killed_supervisor(lib, berm):
    with lib.start(apitest.command("sleep", "1000")).started() as sb:
        before = leaks.processes(berm.state_dir, os.path.dirname(berm.path) + "/../libexec/berm")
        pid = berm.json("inspect", sb.id)["host"]["supervisor_pid"]
        assert pid in before
        os.kill(pid, signal.SIGKILL)
        fails(errno.ENODATA, "supervisor has gone", sb.ended)
        fails(errno.ENODATA, "supervisor has gone", sb.main().wait)
    berm.ok("ps")  # sweeps what it left


def children():
    """The processes whose parent is this one: other tests may have left theirs."""
    found = set()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat", "rb") as f:
                if int(f.read().rpartition(b")")[2].split()[1]) == os.getpid():
                    found.add(pid)
        except OSError:
            pass
    return found


def test_no_child_of_ours(lib):
    before = children()
    with lib.start().started() as sb:
        assert sb.output("echo", "x") == b"x\n"
        assert children() == before


def test_eight_threads(lib):
    wrong = []

    def work(n):
        try:
            with lib.start() as sb:
                assert sb.started().output("echo", str(n)) == b"%d\n" % n
        except (AssertionError, apitest.Failed) as fault:
            wrong.append(fault)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong, wrong


def test_no_file_is_left_open(lib):
    def life():
        with lib.start() as sb:
            sb.event_fd()
            assert sb.started().output("echo", "x") == b"x\n"

    life()
    before = sorted(os.listdir("/proc/self/fd"))
    for _ in range(10):
        life()
    assert sorted(os.listdir("/proc/self/fd")) == before


# --- files ---


def tree(folder):
    found = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            with open(path, "rb") as f:
                found[os.path.relpath(path, folder)] = f.read()
    return found


def test_files_in_and_out(sandbox, tmp_path):
    src = tmp_path / "src"
    (src / "deep").mkdir(parents=True)
    (src / "a").write_bytes(b"hello")
    (src / "deep" / "b").write_bytes(os.urandom(300000))
    sandbox.put(str(src), "/tmp/copy", user="nobody")
    assert sandbox.output("stat", "-c", "%U", "/tmp/copy/deep/b") == b"nobody\n"
    sandbox.get("/tmp/copy", str(tmp_path / "back"))
    assert tree(tmp_path / "back") == tree(src)
    sandbox.get("/tmp/copy/a", str(tmp_path / "one"))
    assert (tmp_path / "one").read_bytes() == b"hello"


def test_hostile_files_stay_in_their_place(sandbox, tmp_path):
    sandbox.output("sh", "-c", "mkdir /tmp/h; ln -s /etc/passwd /tmp/h/link; echo x >/tmp/h/f;"
                   "chmod 4755 /tmp/h/f; mkfifo /tmp/h/fifo")
    sandbox.get("/tmp/h", str(tmp_path / "h"))
    assert os.listdir(tmp_path / "h") == ["f"]
    assert os.stat(tmp_path / "h" / "f").st_mode & 0o7000 == 0
    # the thread that did it was jailed; we are not
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "file").write_text("x")
    with open("/proc/self/status", encoding="ascii") as f:
        assert "NoNewPrivs:\t0" in f.read()


def test_files_that_are_refused(sandbox, tmp_path):
    here = str(tmp_path / "x")
    fails(errno.ENOENT, "no '/nothing' in the guest", sandbox.get, "/nothing", here)
    fails(errno.ENOENT, "nothing", sandbox.put, str(tmp_path / "nothing"), "/tmp/x")
    fails(errno.ENOENT, "nowhere", sandbox.get, "/etc/passwd", "/nowhere/x")
    fails(errno.EINVAL, "begins with '/'", sandbox.get, "relative", here)
    fails(errno.EINVAL, "names no file", sandbox.get, "/etc/passwd", str(tmp_path) + "/..")
    sandbox.output("sh", "-c", "head -c 100000 /dev/zero >/tmp/big")
    fails(errno.EFBIG, "", sandbox.get, "/tmp/big", here, bytes_max=1000)
    assert os.listdir(tmp_path) == []


# --- installations ---


def test_it_finds_the_installation_it_is_in(stage, berm, tmp_path):
    """Moved as a whole, as installations may be: a process of its own, as a library is loaded once."""
    moved = tmp_path / "moved"
    subprocess.run(["cp", "-r", "--reflink=auto", stage, moved], check=True)
    source = os.path.join(apitest.EXAMPLES, "hello.c")
    program = apitest.build(str(moved), source, tmp_path / "hello")
    env = {"BERM_STATE_DIR": berm.state_dir}
    got = subprocess.run([program], env=env, capture_output=True, text=True, check=False)
    assert got.returncode == 0 and "hello from sandbox" in got.stdout, got.stderr


def test_an_ordinary_user(user_berm, public_stage, public_folder):
    source = os.path.join(apitest.EXAMPLES, "hello.c")
    program = apitest.build(public_stage, source, os.path.join(public_folder, "hello"))
    os.chmod(program, 0o755)
    user_berm.path = program
    got = user_berm.run()
    assert got.returncode == 0 and "hello from sandbox" in got.stdout, got.stderr


def test_images_by_name(lib, berm):
    rows = berm.json("image", "ls", "--json")
    want = next(r["id"] for r in rows if "default" in r["names"])
    assert lib.find_image(None) == lib.find_image("default") == lib.find_image(want[:12]) == want
    fails(errno.ENOENT, "no image 'nothing-such' here", lib.find_image, "nothing-such")
    fails(errno.ENOENT, "no image 'nothing-such' here", lib.start, image="nothing-such")


# --- what it costs ---

COST_C = r"""
#include <berm.h>
#include <stdio.h>
#include <time.h>

static double now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

int main(void)
{
	static const char *const argv[] = { "true", NULL };
	struct berm_command cmd = { .size = sizeof(cmd), .argv = argv };
	struct berm_err e = { 0 };
	struct berm *b;
	struct berm_config *c;
	struct berm_sandbox *sb;
	struct berm_process *p;
	double began = now_ms(), took;

	if (berm_new(NULL, NULL, &b, &e) || berm_config_new(&c, &e) || berm_start(b, c, &sb, &e) ||
	    berm_exec(sb, &cmd, &p, &e) || berm_wait(p, -1, NULL, &e))
		return fprintf(stderr, "%s\n", e.text), 1;
	took = now_ms() - began;
	if (berm_stop(sb, 0, -1, &e))
		return fprintf(stderr, "%s\n", e.text), 1;
	printf("%f\n", took);
	return 0;
}
"""


def test_it_costs_no_more_than_the_command_line(berm, stage, tmp_path):
    """start, exec and wait of `true`. In turn, and the best of many: others run here too."""
    (tmp_path / "cost.c").write_text(COST_C)
    program = apitest.build(stage, tmp_path / "cost.c", tmp_path / "cost", flags=["-O2"])
    berm.ok("run", "--", "true")  # builds the template
    ours, cli = [], []
    for n in range(40):
        got = subprocess.run([program], env=berm.env, capture_output=True, text=True, check=False)
        assert got.returncode == 0, got.stderr
        ours.append(float(got.stdout))
        began = time.monotonic()
        berm.ok("run", "--", "true")
        cli.append((time.monotonic() - began) * 1000)
        if n >= 7 and min(ours) <= min(cli) * 1.1:
            break
    print(f"libberm {min(ours):.0f} ms, berm run {min(cli):.0f} ms, best of {len(cli)}")
    assert min(ours) <= min(cli) * 1.1, (ours, cli)
