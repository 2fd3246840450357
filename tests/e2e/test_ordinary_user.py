"""berm as somebody without any right: no root, no capability, a state directory of their own."""

import os
import shutil
import subprocess
import tempfile

import images
import leaks
import pytest
import sandboxes
from sandboxes import SETTLE_SECONDS, finish, wait_for

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0, reason="runs as root, to become somebody; all other tests ran as this user"
)


@pytest.fixture(scope="module")
def account():
    """A fresh account: its uid, gone afterwards."""
    name = f"berm-test-{os.getpid()}"
    if not shutil.which("useradd"):
        pytest.skip("useradd is missing")
    subprocess.run(["useradd", "--no-create-home", "--user-group", name], check=True)
    try:
        yield int(subprocess.run(["id", "-u", name], capture_output=True, check=True).stdout)
    finally:
        subprocess.run(["userdel", name], check=False, capture_output=True)


@pytest.fixture(scope="module")
def home(account, stage):
    """Where that account may be: the installation, readable, and a home."""
    folder = tempfile.mkdtemp(prefix="berm-user-", dir="/var/tmp")
    os.chmod(folder, 0o755)
    subprocess.run(["cp", "-r", "--reflink=auto", stage, f"{folder}/stage"], check=True)
    subprocess.run(["chmod", "-R", "a+rX", f"{folder}/stage"], check=True)
    os.mkdir(f"{folder}/home", 0o700)
    os.chown(f"{folder}/home", account, account)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def mine(account, home):
    berm = sandboxes.Berm(f"{home}/home/state", f"{home}/stage", account)
    os.makedirs(berm.state_dir, 0o700, exist_ok=True)
    os.chown(berm.state_dir, account, account)
    before = leaks.Leaks(berm.state_dir, f"{home}/stage")
    os.chown(f"{berm.state_dir}/sandboxes", account, account)
    yield berm
    try:
        before.check()
    finally:
        before.close()
        berm.clean_up()


@pytest.fixture
def bb(mine, home, rootfs):
    shutil.copy(rootfs, f"{home}/rootfs.tar")
    os.chmod(f"{home}/rootfs.tar", 0o644)
    return images.import_image(mine, f"{home}/rootfs.tar", "busybox")


def test_run(mine, bb):
    got = mine.run("run", bb, "sh", "-c", "id -u; cat; exit 7", input="in\n")
    assert (got.returncode, got.stdout, got.stderr) == (7, "0\nin\n", "")


def test_default_image(mine):
    assert mine.ok("run", "--", "python3", "-c", "print(6 * 7)") == "42\n"


def test_template_and_cold(mine, bb):
    starts = [mine.judged(*flags, bb, "true")[1]["result"]["start"] for flags in ([], [], ["--cold"])]
    assert starts[1:] == ["restored", "cold"]


def test_everything_is_theirs(mine, account, bb):
    """Files and processes belong to the account, and nothing has a capability."""
    with mine.detached(bb, "sleep", "300") as sandbox:
        for top, folders, files in os.walk(mine.state_dir):
            for name in [*folders, *files]:
                if name != "sandboxes":
                    assert os.lstat(os.path.join(top, name)).st_uid == account, name
        for pid in mine.pids(sandbox):
            with open(f"/proc/{pid}/status", encoding="ascii") as f:
                status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
            assert set(status["Uid"].split()) == {str(account)}
            assert int(status["CapEff"], 16) == 0
            assert status["NoNewPrivs"] == "1" and status["Seccomp"] == "2"


def test_jail_is_reported(mine, bb):
    with mine.detached(bb, "sleep", "300") as sandbox:
        host = mine.inspect(sandbox)["host"]
        assert "landlock" in host["supervisor_jail"] and "seccomp" in host["supervisor_jail"]
        assert "no capabilities" in host["engine_jail"] and "seccomp" in host["engine_jail"]
        with open(f"/proc/{host['engine_pid']}/status", encoding="ascii") as f:
            (pids,) = (line.split()[1:] for line in f if line.startswith("NSpid:"))
        assert ("own pid namespace" in host["engine_jail"]) == (pids[1:] == ["1"])
        assert host["cgroup"] in ("none", "v1", "v2")
        if host["cgroup"] == "none":
            assert host["cgroup_missing"], "a missing cgroup is to be explained"


def test_limits_hold_without_cgroups(mine, bb):
    assert mine.judged("--time", "1s", bb, "sleep", "300")[0] == 124
    assert mine.judged("--output", "1KiB", bb, "yes")[1]["result"]["reason"] == "output"
    assert mine.judged("-m", "128MiB", bb, "sort", "/dev/zero")[1]["result"]["reason"] == "memory"


def test_verbs(mine, bb):
    with mine.detached("--name", "web", bb, "sleep", "300") as sandbox:
        assert [s["id"] for s in mine.json("ps", "--json")] == [sandbox]
        assert mine.ok("exec", "web", "echo", "x") == "x\n"
        mine.ok("stop", "-t", "0", "web")
    assert mine.ok("ps", "-q") == ""


def test_killed_ones_leave_nothing(mine, bb, engine):
    mine.ok("run", bb, "true")
    wait_for("the first one's processes ended", lambda: not mine.alive(), SETTLE_SECONDS)
    for who in ("berm", "berm-supervisor", sandboxes.ENGINE_PROGRAMS[engine][-1]):
        proc = mine.start("run", bb, "sleep", "300")
        for pid in wait_for(who, lambda: mine.by_program(who) if who != "berm" else [proc.pid]):
            os.kill(pid, 9)
        finish(proc, 20)
        wait_for("all processes ended", lambda: not mine.alive(), SETTLE_SECONDS)
        mine.ok("ps")


def test_others_may_not_touch_it(mine, bb, home):
    """Another account neither reads the state nor reaches the socket."""
    with mine.detached(bb, "sleep", "300") as sandbox:
        other = sandboxes.Berm(mine.state_dir, f"{home}/stage", 65534)
        assert other.run("exec", sandbox, "true").returncode == 125
        socket = f"{mine.state_dir}/sandboxes/{sandbox}/control.sock"
        got = subprocess.run(
            ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", socket],
            capture_output=True, check=False,
        )
        assert got.returncode != 0


def test_state_of_root_is_not_theirs(mine, berm):
    """Pointed at somebody else's state, it refuses with a word."""
    own = sandboxes.Berm(berm.state_dir, os.path.dirname(os.path.dirname(mine.path)), mine.user)
    own.refused(125, "ps")


def test_copies(mine, bb):
    sandbox = mine.ok("run", "-d", "--rm", bb, "sh", "-c", "while :; do echo on; sleep 0.1; done")
    sandbox = sandbox.strip()
    mine.ok("snapshot", "-q", sandbox, "warm")
    mine.ok("pause", sandbox)
    copies = [mine.ok("fork", "--rm", sandbox).strip(), mine.ok("restore", "-d", "--rm", "warm").strip()]
    mine.ok("resume", sandbox)
    for one in (sandbox, *copies):
        wait_for("it goes on", lambda: "on" in mine.ok("logs", one))
        assert mine.ok("exec", one, "hostname").strip() == one
    mine.ok("snapshot", "rm", "warm")
    mine.ok("stop", "-t", "0", sandbox, *copies)
