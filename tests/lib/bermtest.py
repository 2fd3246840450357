"""Driving a staged berm from tests: run it, start it, and see what it leaves behind."""

import json
import os
import shutil
import subprocess
import time

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
STAGE = os.environ.get("BERM_STAGE", os.path.join(TOP, "build", "stage"))

# How much slower than an ordinary machine this one is: tests/run says it of the test host. All
# limits on time in the tests are an ordinary machine's, and are stretched by it in this file, in
# sandboxes.py, leaks.py and terminal.py; a test stretches only what it compares itself.
SLOWNESS = float(os.environ.get("BERM_TEST_SLOWNESS", "1"))
ENGINE = os.environ.get("BERM_TEST_ENGINE", "")  # what --engine is; else berm decides
RUN_SECONDS_MAX = 120  # of one command; the software CPU of a busy machine included
SETTLE_SECONDS = 10  # for processes of a killed sandbox to end


def stretched(time):
    """A limit or a wait, in whatever unit, for this machine."""
    return time * SLOWNESS


def wait_for(what, condition, seconds=SETTLE_SECONDS):
    """Returns the first true value of condition(); fails when there is none in time."""
    end = time.monotonic() + stretched(seconds)
    while True:
        got = condition()
        if got:
            return got
        if time.monotonic() > end:
            raise AssertionError(f"after {stretched(seconds)} s still not: {what}")
        time.sleep(0.02)


def holders(folder):
    """Processes with an open file or a working directory below folder: {pid: command line}."""
    found = {}
    folder = os.path.realpath(folder)
    for pid in filter(str.isdigit, os.listdir("/proc")):
        if int(pid) == os.getpid():
            continue
        try:
            links = [f"/proc/{pid}/fd/{n}" for n in os.listdir(f"/proc/{pid}/fd")]
            targets = [os.readlink(p) for p in [*links, f"/proc/{pid}/cwd"]]
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                command = f.read().replace(b"\0", b" ").decode("utf-8", "replace").strip()
        except OSError:
            continue  # it ended, or it is somebody else's
        if any(t == folder or t.startswith(folder + "/") for t in targets):
            found[int(pid)] = command
    return found


class Berm:
    """One berm installation with one state directory, run as one user."""

    def __init__(self, state_dir, stage=STAGE, user=None):
        self.path = os.path.join(stage, "bin", "berm")
        self.state_dir = str(state_dir)
        self.user = user  # a numeric id; None: whoever runs the tests
        self.env = {
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "HOME": self.state_dir,
            "LANG": "C.UTF-8",
            "BERM_STATE_DIR": self.state_dir,
            "BERM_ENGINE": ENGINE,
        }

    def argv(self, args):
        own = [self.path, *[os.fsencode(a) if isinstance(a, bytes) else str(a) for a in args]]
        if self.user is None:
            return own
        change = ["setpriv", f"--reuid={self.user}", f"--regid={self.user}", "--clear-groups"]
        return [*change, "--bounding-set=-all", "--inh-caps=-all", "--", *own]

    def run(self, *args, input=b"", timeout=RUN_SECONDS_MAX, env=None, text=True, **more):
        """Runs to its end; stdout and stderr are text unless text=False."""
        if isinstance(input, str):
            input = input.encode()
        got = subprocess.run(
            self.argv(args),
            input=input,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**self.env, **(env or {})},
            timeout=stretched(timeout),
            check=False,
            **more,
        )
        if text:
            got.stdout = got.stdout.decode("utf-8", "replace")
        got.stderr = got.stderr.decode("utf-8", "replace")
        return got

    def ok(self, *args, **more):
        """Runs, wants exit code 0 and returns stdout."""
        got = self.run(*args, **more)
        assert got.returncode == 0, f"berm {args}: {got.returncode}\n{got.stdout}\n{got.stderr}"
        return got.stdout

    def json(self, *args, **more):
        return json.loads(self.ok(*args, **more))

    def start(self, *args, env=None, **more):
        """Starts and returns the Popen, its three pipes binary."""
        pipes = {name: subprocess.PIPE for name in ("stdin", "stdout", "stderr")}
        return subprocess.Popen(
            self.argv(args), env={**self.env, **(env or {})}, **{**pipes, **more}
        )

    def sandboxes(self):
        """What stands in the state directory for live (or dead and not yet swept) sandboxes."""
        try:
            names = os.listdir(os.path.join(self.state_dir, "sandboxes"))
            return sorted(n for n in names if n != ".names")  # the lock for claiming names
        except FileNotFoundError:
            return []

    def processes(self):
        return holders(self.state_dir)

    def nothing_left(self):
        """Fails unless, within a few seconds, no process and no sandbox is left."""

        def left():
            return self.sandboxes() + sorted(self.processes().items())

        end = time.monotonic() + stretched(SETTLE_SECONDS)
        while left():
            if time.monotonic() > end:
                raise AssertionError(f"left behind: {left()}")
            time.sleep(0.05)

    def clean_up(self):
        """Ends whatever a failed test left, so that it fails alone."""
        for pid in self.processes():
            try:
                os.kill(pid, 9)
            except ProcessLookupError:
                pass
        wait_for("processes ended", lambda: not self.processes())
        shutil.rmtree(os.path.join(self.state_dir, "sandboxes"), ignore_errors=True)
