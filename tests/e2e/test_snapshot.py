"""Snapshots: nothing is lost by one, nothing comes twice, and what is not whole is not used.

BERM_TEST_RESTORES is how often one is restored to compare identities (20; the issue's is 500).
"""

import os
import re
import shutil
import signal
import subprocess
import threading
import time

import images
import pytest
import sandboxes
from sandboxes import Stopwatch, finish, mounted, stretched, wait_for

RESTORES = int(os.environ.get("BERM_TEST_RESTORES", "20"))
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")
FILES = ["ram", "state", "scratch", "meta"]
SIGNAL_SECONDS_MAX = 5  # half of what a client waits for an answer


@pytest.fixture
def keep(berm):
    """Snapshots by these names are removed at the end."""
    names = ["warm", "other"]
    yield names[0]
    for name in names:
        berm.run("snapshot", "rm", name)


def folder(berm, name="warm"):
    return os.path.join(berm.state_dir, "snapshots", name)


def drafts(berm):
    return [n for n in os.listdir(os.path.join(berm.state_dir, "snapshots")) if n[0] == "."]


# --- streams and disk go on where they were ---


def lines(first, last):
    return b"".join(b"%d\n" % n for n in range(first, last + 1))


def test_output_at_full_speed(berm, bb, keep, tmp_path):
    """Both write the same to its end, so what a copy writes is the end of what the first wrote."""
    last = 600000
    with open(tmp_path / "out", "wb") as out:
        proc = berm.start("run", "--name", "flood", bb, "seq", "1", str(last), stdout=out)
        wait_for("it writes", lambda: os.path.getsize(tmp_path / "out") > 100_000, 30)
        berm.ok("snapshot", "flood", keep)
        berm.ok("snapshot", "flood", "other")
        code, _, err = finish(proc, 120)
    assert (code, err) == (0, b"")
    whole = (tmp_path / "out").read_bytes()
    assert whole == lines(1, last)
    sizes = []
    for name in (keep, "other"):
        got = berm.run("restore", name, text=False)
        assert (got.returncode, got.stderr) == (0, "")
        assert whole.endswith(got.stdout)
        sizes.append(len(got.stdout))
    assert len(whole) - 100_000 > sizes[0] >= sizes[1] > 0


class Feeder(threading.Thread):
    """Writes 1, 2, 3 and so on to a pipe, as fast as that takes it, until it is told to stop."""

    def __init__(self, pipe):
        super().__init__()
        self.pipe, self.fed, self.enough = pipe, [], threading.Event()

    def run(self):
        at = 1
        with self.pipe:
            while not self.enough.is_set():
                self.fed.append(lines(at, at + 999))
                self.pipe.write(self.fed[-1])
                at += 1000


def test_input_at_full_speed(berm, bb, keep, tmp_path):
    """What the guest had of the input comes out of the copy, and then what that is sent."""
    with open(tmp_path / "out", "wb") as out:
        proc = berm.start("run", "--name", "pipe", bb, "cat", stdout=out)
        feeder = Feeder(proc.stdin)
        feeder.start()
        try:
            wait_for("it reads", lambda: os.path.getsize(tmp_path / "out") > 50_000, 30)
            berm.ok("snapshot", "pipe", keep)
        finally:
            feeder.enough.set()
            feeder.join()
            proc.stdin = None
        code, _, _ = finish(proc, 120)
    fed = b"".join(feeder.fed)
    assert code == 0
    assert (tmp_path / "out").read_bytes() == fed
    got = berm.run("restore", keep, input="and on\n", text=False)
    assert got.returncode == 0
    assert got.stdout.endswith(b"and on\n")
    assert got.stdout[:-7] in fed


def test_ended_streams_stay_ended(berm, bb, keep):
    """Its stdin has ended, and it closed its stderr."""
    script = "cat; echo ready; exec 2>&-; while [ ! -e /go ]; do sleep 0.1; done; echo gone"
    proc = berm.start("run", "--name", "deaf", bb, "sh", "-c", script)
    proc.stdin.close()
    proc.stdin = None
    assert proc.stdout.readline() == b"ready\n"
    berm.ok("snapshot", "deaf", keep)
    berm.ok("exec", "deaf", "touch", "/go")
    assert finish(proc, 30)[:2] == (0, b"gone\n")
    proc = berm.start("restore", "--name", "deaf", keep)
    # it may end before the command that lets it end is told of its own end
    wait_for("it is there", lambda: berm.run("exec", "deaf", "touch", "/go").returncode == 0 or proc.poll() is not None,
             30)
    assert finish(proc, 30)[:2] == (0, b"gone\n")


WRITER = "i=0; while :; do i=$((i+1)); echo $i >> /root/f; sync; echo $i; done"


def test_disk_that_is_being_written(berm, bb):
    """What was on disk by a line of output is on it in each copy, and the file system is whole."""
    with berm.detached(bb, "sh", "-c", WRITER) as sandbox:
        wait_for("it writes", lambda: len(berm.ok("logs", sandbox).split()) > 5)
        children = [berm.ok("fork", "--rm", sandbox).strip() for _ in range(3)]
        for one in (sandbox, *children):
            wait_for("it writes on", lambda: len(berm.ok("logs", one).split()) > 8)
            said = int(berm.ok("logs", one).split()[-1])
            found = [int(n) for n in berm.ok("exec", one, "cat", "/root/f").split()]
            assert found == list(range(1, len(found) + 1)) and len(found) >= said
            assert "EXT4-fs error" not in berm.ok("exec", one, "dmesg")
        berm.ok("stop", "-t", "0", *children)


def test_commands_of_exec_are_cut_off_in_a_copy_only(berm, running):
    script = "echo began; while [ ! -e /go ]; do sleep 0.1; done; echo ended"
    proc = berm.start("exec", running, "sh", "-c", script)
    assert proc.stdout.readline() == b"began\n"
    child = berm.ok("fork", "--rm", running).strip()
    berm.ok("exec", running, "touch", "/go")
    assert finish(proc, 30)[:2] == (0, b"ended\n")
    assert berm.guest(child)["streams"] == 1
    berm.ok("stop", "-t", "0", child)


# --- restore ---


def test_restore_is_like_run(berm, bb, keep):
    proc = berm.start("run", "--name", "asks", bb, "sh", "-c", "echo q; read n; echo $n; exit $n")
    assert proc.stdout.readline() == b"q\n"
    berm.ok("snapshot", "asks", keep)
    assert finish_with(proc, b"3\n") == (3, b"3\n")
    for n in (4, 5):
        got = berm.run("restore", keep, input=f"{n}\n")
        assert (got.returncode, got.stdout) == (n, f"{n}\n")
    said = berm.json("restore", "--json", keep, input="0\n")
    assert said["stdout"] == "0\n"
    assert (said["result"]["start"], said["result"]["reason"]) == ("snapshot", "exited")
    assert berm.run("restore", "--no-stdin", "--time", "1s", keep).returncode == 124
    assert berm.ok("restore", "--hostname", "h", "--name", "n", keep, input="0\n") == "0\n"


def finish_with(proc, data):
    proc.stdin.write(data)
    proc.stdin.flush()
    code, out, _ = finish(proc, 30)
    return code, out


def test_a_copy_can_be_copied(berm, bb, keep):
    count = "i=0; while :; do i=$((i+1)); echo $i; sleep 0.05; done"
    with berm.detached(bb, "sh", "-c", count) as first:
        berm.ok("snapshot", first, keep)
    child = berm.ok("restore", "-d", "--rm", keep).strip()
    grandchild = berm.ok("fork", "--rm", child).strip()
    berm.ok("snapshot", "--force", grandchild, keep)
    last = berm.ok("restore", "-d", "--rm", keep).strip()
    for one in (child, grandchild, last):
        wait_for("it counts", lambda: len(berm.ok("logs", one).split()) > 3)
    assert berm.inspect(grandchild)["from"] == child
    berm.ok("stop", "-t", "0", child, grandchild, last)


IDENTITY = """hostname; cat /etc/machine-id /proc/sys/kernel/random/uuid; date +%s
head -c 16 /dev/urandom | od -An -tx1 | tr -d ' \\n'"""


def compare(all_said):
    for kind in zip(*all_said):
        assert len(set(kind)) == len(all_said)


def identity(text):
    hostname, machine, uuid, seconds, random = text.split()
    assert abs(int(seconds) - time.time()) < stretched(3)
    return hostname, machine, uuid, random


def test_each_restore_has_its_own_identity(berm, bb, keep):
    proc = berm.start("run", "--name", "asks", bb, "sh", "-c", f"echo q; read n; {IDENTITY}")
    assert proc.stdout.readline() == b"q\n"
    berm.ok("snapshot", "asks", keep)
    said = [identity(finish_with(proc, b"\n")[1].decode())]
    said += [identity(berm.ok("restore", keep, input="\n")) for _ in range(RESTORES)]
    compare(said)


def test_each_start_from_a_template_has_its_own_identity(berm, bb):
    compare([identity(berm.ok("run", bb, "sh", "-c", IDENTITY)) for _ in range(RESTORES)])


# --- limits ---


def test_a_pause_counts_for_no_limit(berm, bb):
    with berm.detached("--time", "6s", "--idle", "3s", bb, "sleep", "300") as sandbox:
        berm.ok("pause", sandbox)
        time.sleep(stretched(7))
        assert berm.inspect(sandbox)["state"] == "running"
        berm.ok("resume", sandbox)
        assert berm.run("wait", sandbox).returncode == 124
        # what ran before the pause counts: on a slow machine it may have been most of the six seconds
        assert berm.inspect(sandbox)["limits_hit"] in (["idle"], ["time"])


def test_what_a_paused_one_is_asked(berm, running):
    """Twice is once; exec waits; stop lets it go on."""
    berm.ok("pause", running)
    berm.ok("pause", running)
    proc = berm.start("exec", running, "echo", "late")
    time.sleep(stretched(0.5))
    assert proc.poll() is None
    berm.ok("resume", running)
    assert finish(proc, 30)[:2] == (0, b"late\n")
    berm.ok("resume", running)
    berm.ok("pause", running)
    berm.ok("stop", running)


def test_a_paused_one_is_saved_again_and_again(berm, running, keep):
    berm.ok("pause", running)
    berm.ok("snapshot", "-q", running, keep)
    berm.ok("snapshot", "-q", "--force", running, keep)
    proc = berm.start("exec", running, "echo", "late")
    time.sleep(stretched(0.5))
    assert proc.poll() is None  # it still stands
    berm.ok("resume", running)
    assert finish(proc, 30)[:2] == (0, b"late\n")


def test_stop_of_a_paused_one_lets_its_handler_run(berm, bb):
    script = "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    proc = berm.start("run", "--name", "tidy", bb, "sh", "-c", script)
    assert proc.stdout.readline() == b"ready\n"
    berm.ok("pause", "tidy")
    berm.ok("stop", "-t", "20s", "tidy")
    assert finish(proc, 20)[1] == b"tidy\n"


SIGNALLED = "trap 'echo hup' HUP; echo ready; while :; do sleep 0.1; done"


def test_a_signal_resumes_a_paused_one(berm, bb):
    """As with docker kill: what is sent arrives, and the sandbox goes on."""
    proc = berm.start("run", "--name", "hears", bb, "sh", "-c", SIGNALLED)
    assert proc.stdout.readline() == b"ready\n"
    berm.ok("pause", "hears")
    watch = Stopwatch()
    berm.ok("stop", "--signal", "HUP", "hears")
    assert proc.stdout.readline() == b"hup\n"
    assert watch.seconds() < SIGNAL_SECONDS_MAX
    assert berm.inspect("hears")["paused"] is False
    berm.ok("stop", "-t", "0", "hears")
    finish(proc, 20)


@pytest.mark.parametrize("how", [["-t", "20s"], ["--signal", "TERM"]], ids=["stop", "signal"])
def test_a_signal_that_meets_a_snapshot_of_a_paused_one(berm, bb, keep, how):
    """Whichever is first: the snapshot is taken, and then the signal arrives."""
    script = "trap 'echo tidy; exit 0' TERM; echo ready; while :; do sleep 0.1; done"
    proc = berm.start("run", "--name", "tidy", bb, "sh", "-c", script)
    assert proc.stdout.readline() == b"ready\n"
    berm.ok("pause", "tidy")
    saving = berm.start("snapshot", "-q", "tidy", keep)
    berm.ok("stop", *how, "tidy")
    assert finish(proc, 20)[1] == b"tidy\n"
    finish(saving, 30)


# --- names, and what is not there ---


def test_names(berm, running, keep):
    berm.ok("snapshot", "-q", running, keep)
    before = os.stat(folder(berm)).st_ino
    assert keep in berm.refused(4, "snapshot", running, keep)
    assert os.stat(folder(berm)).st_ino == before
    berm.ok("snapshot", "--force", running, keep)
    assert os.stat(folder(berm)).st_ino != before
    for name in ("", "-x", "a/b", "..", ".tmp-x", "x" * 100, "a b", "\N{SNOWMAN}"):
        berm.refused(125, "snapshot", running, "--", name)
        berm.refused(125, "restore", "--", name)
    assert drafts(berm) == []


def test_what_is_not_there(berm, bb):
    with berm.detached(bb, "true") as sandbox:
        berm.run("wait", sandbox)
        for code, *verb in ((3, "fork", sandbox), (125, "snapshot", sandbox, "warm"), (3, "pause", sandbox),
                            (3, "fork", "nobody"), (125, "snapshot", "nobody", "warm"), (3, "resume", "nobody")):
            line = berm.refused(code, *verb)
            assert "berm ps" in line or "ended" in line, line
    assert "berm snapshot ls" in berm.refused(125, "restore", "nobody")
    for verb in ("rm", "inspect"):
        assert "berm snapshot ls" in berm.refused(3, "snapshot", verb, "nobody")


def test_inspect(berm, running, keep):
    berm.ok("snapshot", "-q", running, keep)
    (listed,) = berm.json("snapshot", "ls", "--json")
    assert (listed["name"], listed["id"], listed["damaged"]) == (keep, running, False)
    assert keep in berm.ok("snapshot", "ls")
    assert berm.ok("snapshot", "ls", "-q").split() == [keep]
    said = berm.json("snapshot", "inspect", keep)
    assert said["usable"] and said["of"]["id"] == running
    assert said["disk_bytes"] == listed["disk_bytes"] > 1 << 20
    assert berm.ok("snapshot", "rm", keep).strip() == f"removed {keep}"


# --- damaged, foreign, no room ---


def flip(path):
    with open(path, "r+b") as f:
        f.seek(find_data(f))
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))


def find_data(f):
    """A byte in the middle that is no hole, so that it matters."""
    size = os.fstat(f.fileno()).st_size
    try:
        return os.lseek(f.fileno(), size // 2, os.SEEK_DATA)
    except OSError:
        return size // 2


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def empty(path):
    os.truncate(path, 0)


def link(path):
    os.rename(path, path + ".real")
    os.symlink(path + ".real", path)


def pipe(path):
    os.unlink(path)
    os.mkfifo(path)


@pytest.fixture(scope="module")
def whole(stage, shared_state, bb, tmp_path_factory):
    """A snapshot to be copied and broken."""
    berm = sandboxes.Berm(shared_state, stage)
    with berm.detached(bb, "sleep", "300") as sandbox:
        berm.ok("snapshot", "-q", sandbox, "whole")
    aside = tmp_path_factory.mktemp("snapshots")
    subprocess.run(["cp", "-a", "--sparse=always", folder(berm, "whole"), aside], check=True)
    berm.ok("snapshot", "rm", "whole")
    return aside / "whole"


def put(berm, whole):
    shutil.rmtree(folder(berm), ignore_errors=True)
    subprocess.run(["cp", "-a", "--sparse=always", whole, folder(berm)], check=True)


def test_one_that_was_moved_is_as_good(berm, whole, keep):
    """Its files are others by inode and time: their hashes decide."""
    put(berm, whole)
    berm.ok("stop", "-t", "0", berm.ok("restore", "-d", keep).strip())


@pytest.mark.parametrize("damage", [flip, truncate, os.unlink, empty, link, pipe])
def test_a_damaged_one_is_refused_by_name(berm, whole, keep, damage):
    for name in FILES:
        if name == "meta" and damage is link:
            continue  # it is read whole each time, so wherever it lies is as good
        put(berm, whole)
        damage(os.path.join(folder(berm), name))
        line = berm.refused(125, "restore", keep)
        assert f"'{keep}'" in line, line
        assert keep in berm.refused(6, "snapshot", "inspect", keep)
        assert berm.json("snapshot", "ls", "--json")[0]["name"] == keep
    berm.ok("snapshot", "rm", keep)


def test_what_it_depends_on(broken, own_stage, fresh_berm, rootfs):
    """The same parts in other files are no other parts."""
    with fresh_berm.detached("busybox", "sleep", "300") as sandbox:
        fresh_berm.ok("snapshot", "-q", sandbox, "warm")
    try:
        broken.ok("stop", "-t", "0", broken.ok("restore", "-d", "warm").strip())
        share = own_stage / "share" / "berm"
        for name, words in (("vmlinux", "guest kernel"), ("initramfs.cpio", "guest agent"),
                            ("cmdline", "words for the guest kernel")):
            text = (share / name).read_bytes()
            (share / name).write_bytes(text.rstrip(b"\n") + b" x\n")
            line = broken.refused(125, "restore", "warm")
            assert words in line and "warm" in line, line
            said = broken.json("snapshot", "inspect", "warm")
            assert not said["usable"] and said["why"], said
            (share / name).write_bytes(text)
        assert broken.json("snapshot", "inspect", "warm")["usable"]
        line = fresh_berm.refused(4, "image", "rm", "busybox")
        assert "snapshot 'warm'" in line, line
        assert fresh_berm.json("image", "prune", "--json")["images"] == 0
        fresh_berm.ok("image", "rm", "--force", "busybox")
        assert "import" in fresh_berm.refused(125, "restore", "warm")
    finally:
        fresh_berm.ok("snapshot", "rm", "warm")


@ROOT
def test_full_disk(fresh_berm, rootfs):
    """The sandbox goes on, nothing half-made is left, and with room again it works."""
    # cold: a template's memory file cannot be read from a tmpfs that has no room for its holes
    script = """"$BERM" image import --name busybox -q "$1" >/dev/null
"$BERM" run -d --cold --name web busybox sleep 300 >/dev/null
head -c $(($(df -B1 --output=avail $STATE | tail -1) - $2)) /dev/zero > $STATE/ballast
"$BERM" snapshot web warm; echo "snapshot $?"
"$BERM" fork web; echo "fork $?"
"$BERM" exec web echo goes on
find $STATE/snapshots -mindepth 1
rm $STATE/ballast
"$BERM" snapshot -q web warm; echo "snapshot $?"
"$BERM" stop -t 0 web"""
    for room in (100_000, 10_000_000):
        got = mounted("size=400m", script, fresh_berm, str(rootfs), str(room))
        assert got.stdout.split("\n") == [
            "snapshot 10", "fork 125", "goes on", "snapshot 0", "web", ""], got
        said = [line for line in got.stderr.splitlines() if line.startswith("berm: ")]
        assert len(said) == 2 and all("space" in s or "full" in s for s in said), got


# --- killed in the middle ---

MOMENTS = [0.0, 0.01, 0.03, 0.08, 0.2]


def settle(berm):
    wait_for("all processes ended", lambda: not berm.alive())

    def swept():
        berm.ok("ps")
        return drafts(berm) == berm.sandboxes() == []

    # a sandbox whose maker was killed while it filled the directory is swept ten seconds later
    wait_for("what the dead left is swept", swept, 15)


@pytest.mark.parametrize("verb", [["fork", "w"], ["snapshot", "--force", "w", "warm"]])
@pytest.mark.parametrize("who", ["caller", "supervisor", "engine"])
def test_killed_meanwhile(berm, bb, keep, verb, who):
    for moment in MOMENTS:
        sandbox = berm.ok("run", "-d", "--rm", "--name", "w", bb, "sleep", "300").strip()
        supervisor, engine = berm.pids(sandbox)
        proc = berm.start(*verb)
        time.sleep(stretched(moment))
        pid = {"caller": proc.pid, "supervisor": supervisor, "engine": engine}[who]
        os.kill(pid, signal.SIGKILL)
        code, _, err = finish(proc, 60)
        assert code in (0, 3, 125, -9) and err.count(b"\n") <= 1, (code, err)
        assert code != 3 or b"there is no sandbox" in err, err
        if who == "caller":
            assert berm.ok("exec", "w", "echo", "fine") == "fine\n"
            wait_for("the draft is gone", lambda: drafts(berm) == [])
        if who == "supervisor":  # its socket may close a moment before its lock
            wait_for("it is gone", lambda: sandbox not in [one["id"] for one in berm.json("ps", "--json")])
        for one in berm.json("ps", "--json"):
            berm.run("rm", "-f", one["id"])
        settle(berm)
        if os.path.exists(folder(berm)):
            assert berm.json("snapshot", "inspect", "warm")["usable"]


def test_killed_restore(berm, whole, keep):
    put(berm, whole)
    for moment in MOMENTS:
        proc = berm.start("restore", keep)
        time.sleep(stretched(moment))
        proc.kill()
        finish(proc, 10)
        settle(berm)


def test_interrupted_fork_leaves_no_child(berm, running):
    for moment in MOMENTS:
        proc = berm.start("fork", "-n", "6", running)
        time.sleep(stretched(moment))
        proc.send_signal(signal.SIGINT)
        code, out, _ = finish(proc, 60)
        found = re.findall("[0-9a-f]{12}", out.decode())
        assert (code, len(found)) in ((0, 6), (125, 0), (-2, 0)), (code, out)
        if found:
            berm.ok("stop", "-t", "0", *found)
        wait_for("all children ended", lambda: len(berm.json("ps", "--json")) == 1)


def test_two_at_once(berm, running):
    """One is served, the other is served as well or told to try again."""
    procs = [berm.start("fork", "--rm", running) for _ in range(3)]
    ended = [finish(p, 60) for p in procs]
    made = [out.decode().strip() for code, out, _ in ended if code == 0]
    assert made and all(code == 0 or b"try again" in err for code, _, err in ended), ended
    berm.ok("stop", "-t", "0", *made)
