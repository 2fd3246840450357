"""A real guest whose agent means harm: the sandbox ends, says why, and the host stays small.

test_sup_agent.py tells the same lies to a supervisor without a guest, and many more; here they come
through QEMU and the console port."""

import json
import os
import shutil
import subprocess
import threading
import time

import bermtest
import images
import pytest
import sandboxes
from sandboxes import Stopwatch, finish, one_line

SUPERVISOR_KIB_MAX = 64 * 1024  # its peak, whatever the agent does
SECONDS_MAX = 30
LIES = [
    # what it does, the reason, a word of the message
    ("garbage", "agent-lied", "no frame"),
    ("length", "agent-lied", "no frame"),
    ("hello-twice", "agent-lied", "HELLO"),
    ("identity-first", "agent-lied", "IDENTITY_OK"),
    ("version", "not-started", "version 77"),
    ("fatal", "not-started", "own your terminal"),
    ("exits", "engine-died", "panic"),
    ("late-beyond-credit", "agent-lied", "credit"),
    ("late-too-much-credit", "agent-lied", "credit"),
    ("late-streams", "agent-lied", "stream"),
    ("late-started-twice", "agent-lied", "EXEC_OK"),
    ("late-epoch", "agent-lied", "epoch"),
    ("late-data-length", "agent-lied", "no frame"),
    ("late-events", "agent-lied", "events"),
    ("late-unasked", "agent-lied", "STATS_OK"),
    ("late-exit-cut", "agent-lied", ""),
    ("late-dies", "engine-died", "panic"),
    ("late-console", "time", "--time"),
]


@pytest.fixture(scope="module")
def hostile_initramfs(tmp_path_factory):
    if not shutil.which("musl-gcc"):
        pytest.skip("musl-gcc is missing: apt install musl-tools")
    folder = tmp_path_factory.mktemp("hostile")
    source = os.path.join(bermtest.TOP, "tests", "lib", "hostile_agent.c")
    program = folder / "init"
    subprocess.run(["musl-gcc", "-static", "-O1", "-o", program, source], check=True)
    subprocess.run(
        [os.path.join(bermtest.TOP, "src", "agent", "mkinitramfs"), program, folder / "cpio"],
        check=True,
    )
    return folder / "cpio"


@pytest.fixture
def hostile(stage, fresh_berm, rootfs, hostile_initramfs, tmp_path):
    """Returns a function: berm of an installation whose agent does that."""
    images.import_image(fresh_berm, rootfs, "busybox")

    def make(how):
        copy = tmp_path / f"stage-{how}"
        shutil.copytree(stage, copy, ignore=shutil.ignore_patterns("images"))
        shutil.copy(hostile_initramfs, copy / "share/berm/initramfs.cpio")
        with open(copy / "share/berm/cmdline", "r+", encoding="ascii") as f:
            line = f.read().strip()
            f.seek(0)
            f.write(f"{line} hostile={how}\n")
        return sandboxes.Berm(fresh_berm.state_dir, str(copy))

    return make


class Peak:
    """The highest resident size of every supervisor of this state directory, while it lives."""

    def __init__(self, berm):
        self.berm, self.kib, self.done = berm, 0, threading.Event()
        self.thread = threading.Thread(target=self.watch)

    def watch(self):
        while not self.done.wait(0.05):
            for pid in self.berm.by_program("berm-supervisor"):
                try:
                    with open(f"/proc/{pid}/status", encoding="ascii") as f:
                        text = f.read()
                    self.kib = max(self.kib, int(text.partition("VmHWM:")[2].split()[0]))
                except (OSError, IndexError, ValueError):
                    continue  # it ended just now

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done.set()
        self.thread.join()


@pytest.mark.parametrize("how, reason, word", LIES, ids=[how for how, _, _ in LIES])
def test_it_ends_and_says_why(hostile, how, reason, word):
    berm = hostile(how)
    watch = Stopwatch()
    with Peak(berm) as peak:
        code, said = berm.judged("--cold", "--time", "8s", "busybox", "true")
    result = said["result"]
    assert (result["reason"], code) == (reason, 124 if reason == "time" else 125), result
    assert word in result["message"], result["message"]
    assert watch.seconds() < SECONDS_MAX
    assert 0 < peak.kib < SUPERVISOR_KIB_MAX
    assert berm.sandboxes() in ([], [".names"])


def test_its_words_cannot_move_the_cursor(hostile):
    got = hostile("fatal").run("run", "--cold", "busybox", "true", text=False)
    assert got.returncode == 125
    assert "own your terminal" in one_line(got.stderr)
    assert not set(got.stderr) & {"\x1b", "\x07"}


@pytest.mark.parametrize("how", ["garbage", "version", "fatal", "exits"])
def test_no_template_is_made_of_it(hostile, how):
    berm = hostile(how)
    got = berm.run("run", "busybox", "true")
    assert got.returncode == 125
    one_line(got.stderr)
    folder = os.path.join(berm.state_dir, "templates")
    assert os.listdir(folder) == []


def test_silent_ones(hostile):
    """One says nothing, one half a word, one stops after the start: all at once, for they are slow."""
    watch = Stopwatch()
    wanted = {"silent": 1, "half": 1, "late-silent": 0}
    procs = {h: hostile(h).start("run", "--cold", "--time", "5s", "busybox", "true") for h in wanted}
    for how, proc in procs.items():
        code, _, err = finish(proc, 100)
        line = one_line(err.decode())
        if how == "late-silent":
            assert code == 124 and "--time" in line
        else:
            assert code == 125 and "not ready" in line, line
    assert watch.seconds() < 90


def test_silent_one_can_be_interrupted(hostile):
    """Nobody has to wait for its deadline."""
    proc = hostile("silent").start("run", "--cold", "busybox", "true")
    time.sleep(1.5)
    watch = Stopwatch()
    proc.terminate()
    code, _, _ = finish(proc, 15)
    assert code == 143
    assert watch.seconds() < 5


# A session's agent runs its command, which succeeds; what it does when it is asked for the work, and
# a word of why there is none.
AT_THE_END = [
    ("end-size-huge", "which is over"),
    ("end-size-twice", "SIZE out of place"),
    ("end-size-late", "SIZE out of place"),
    ("end-size-cut", "no frame"),
    ("end-silent", "too little"),
    ("end-half", "too little"),
    ("end-drip", "too little"),
    ("end-flood", "over 1 MiB"),
    ("end-success-early", "before all was sent"),
    ("end-unknown", "no frame"),
    ("end-hosts-frame", "no frame"),
    ("end-version", "HELLO"),
    ("end-exec-answer", "EXEC_OK"),
    ("end-exit-again", "never started"),
    ("end-two-channels", "two channels"),
    ("end-epoch", "epoch"),
    ("end-dies", ""),
]
DRIVE = os.path.join(bermtest.TOP, "build", "main", "tests", "integration", "sup", "session_drive")


class Session:
    """A session of a lying agent, driven with limits that nobody has to wait for."""

    def __init__(self, berm, tmp_path):
        self.berm = berm
        self.tree = tmp_path / "tree"
        self.tree.mkdir()
        (self.tree / "a.txt").write_bytes(b"hello\n")

    def drive(self, *args, timeout=60):
        head = [DRIVE, self.berm.path, self.berm.state_dir]
        return subprocess.run([*head, *args], capture_output=True, text=True, stdin=subprocess.DEVNULL,
                              timeout=bermtest.stretched(timeout), check=False)

    def run(self, session):
        values = ["cold=1", "memory_mib=192", "disk_mib=64", "collect_ms=2000", "collect_bytes=1048576"]
        return self.drive("run", session, "busybox", *values, "--", "true")

    def code(self):
        args = ["--cold", "--image", "busybox", "--memory", "192MiB", "--disk", "64MiB", "--task", "x"]
        env = {"HOME": os.path.dirname(self.tree), "XDG_CONFIG_HOME": ""}
        return self.berm.run("code", *args, "--", "true", cwd=self.tree, env=env)

    def info(self, session):
        return json.loads(self.drive("show", session).stdout)

    def names(self, session):
        return os.listdir(os.path.join(self.berm.state_dir, "sessions", session))

    def listed(self):
        return {s["id"]: s["state"] for s in self.berm.json("sessions", "--json")}


@pytest.mark.parametrize("how, word", AT_THE_END, ids=[how for how, _ in AT_THE_END])
def test_t19_at_the_end_of_a_session(hostile, tmp_path, how, word):
    """No lie makes work of what is none: it stays on its disk, and says why."""
    s = Session(hostile(how), tmp_path)
    session = s.drive("new", str(s.tree), "/workspace", str(s.tree)).stdout.strip()
    watch = Stopwatch()
    with Peak(s.berm) as peak:
        got = s.run(session)
    assert watch.seconds() < SECONDS_MAX
    end = json.loads(got.stderr.splitlines()[-1])
    assert (end["reason"], end["exit_code"]) == ("exited", 0), end
    assert word in end["message"] and session in end["message"], end
    info = s.info(session)
    assert info["state"] == "uncollected" and word in info["why"], info
    assert "scratch.img" in s.names(session) and not set(s.names(session)) & {"spool.tar", "spool.part"}
    assert 0 < peak.kib < SUPERVISOR_KIB_MAX
    assert s.listed() == {session: "uncollected"}
    s.berm.ok("discard", session, "--yes")


@pytest.mark.parametrize("how", ["end-size-small", "end-size-large", "end-no-size", "end-nothing", "end-reconnects"])
def test_t19_work_that_is_none(hostile, stage, tmp_path, how):
    """All frames are right and what is in them is no work: a guest of our own reads the disk then."""
    s = Session(hostile(how), tmp_path)
    got = s.code()
    session, = s.listed()
    assert got.returncode == 3, (got.returncode, got.stderr)
    why, = [line for line in got.stderr.splitlines() if "refused" in line]
    assert session in why, why
    assert s.listed() == {session: "uncollected"} and "scratch.img" in s.names(session)
    honest = sandboxes.Berm(s.berm.state_dir, stage)
    got = honest.run("review", session, "--list")
    # nothing was ever written to that disk: so says the one that reads it
    assert got.returncode != 0 and len(got.stderr.strip().splitlines()) <= 2, got.stderr
    assert s.listed() == {session: "uncollected"}
    s.berm.ok("discard", session, "--yes")


def test_t19_mute_before_the_command(hostile, tmp_path):
    """It is up, and takes no file that its command needs: nothing ran, so nothing is kept."""
    s = Session(hostile("end-mute"), tmp_path)
    watch = Stopwatch()
    got = s.code()
    assert got.returncode == 125 and "did not take a file" in got.stderr, got.stderr
    assert watch.seconds() < 2 * SECONDS_MAX
    assert s.listed() == {}
