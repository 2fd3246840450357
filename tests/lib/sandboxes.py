"""A staged berm for the tests on real guests: bermtest's, with what those tests need besides."""

import contextlib
import json
import os
import re
import signal
import subprocess
import time

import bermtest
import leaks
import terminal

wait_for = bermtest.wait_for
stretched = bermtest.stretched
SETTLE_SECONDS = bermtest.SETTLE_SECONDS
ENGINE_PROGRAMS = {"kvm": ["berm-vmm"], "qemu": ["berm-qemu", "qemu-system-x86_64"]}
LEVELS = {"kvm": "microvm", "qemu": "emulated"}


def one_line(text):
    """Checks that `text` is one line of berm's for a person, and returns it."""
    lines = text.strip().splitlines()
    assert len(lines) == 1, f"not one line:\n{text}"
    assert lines[0].startswith("berm: "), lines[0]
    assert "\x1b" not in lines[0] and len(lines[0]) < 1200
    return lines[0]


class Berm(bermtest.Berm):
    def refused(self, code, *args, **more):
        """Runs, wants that exit code and one line on stderr, and returns the line."""
        got = self.run(*args, **more)
        assert got.returncode == code, f"{args}: {got.returncode}, not {code}\n{got.stderr}"
        return one_line(got.stderr)

    def judged(self, *args, **more):
        """`berm run --json ARGS`: (its exit code, the object it printed)."""
        got = self.run("run", "--json", *args, **more)
        try:
            return got.returncode, json.loads(got.stdout)
        except ValueError:
            raise AssertionError(f"no JSON: {got.stdout!r}\n{got.stderr}") from None

    @contextlib.contextmanager
    def detached(self, *args, **more):
        """A sandbox in the background; ended and removed at the end, whatever happens."""
        sandbox = self.ok("run", "-d", *args, **more).strip()
        assert re.fullmatch("[0-9a-f]{12}", sandbox), sandbox
        try:
            yield sandbox
        finally:
            print(self.run("inspect", sandbox).stdout)  # shown if the test failed: how did it end?
            self.run("rm", "-f", sandbox)

    def terminal(self, *args, env=None, **more):
        return terminal.Terminal(
            self.argv(args), {**self.env, "TERM": "xterm", **(env or {})}, **more
        )

    def shell(self, script, timeout=bermtest.RUN_SECONDS_MAX, **env):
        """A shell script in which "$BERM" is berm."""
        return subprocess.run(
            ["bash", "-o", "pipefail", "-c", script],
            env={**self.env, "BERM": self.path, **env},
            capture_output=True,
            text=True,
            timeout=stretched(timeout),
            check=False,
        )

    def inspect(self, sandbox):
        return self.json("inspect", sandbox)

    def guest(self, sandbox):
        """What the guest says of itself. On a busy machine it may not answer a question in time."""
        return wait_for("the guest's numbers", lambda: self.inspect(sandbox)["guest"])

    def pids(self, sandbox):
        """(supervisor, engine)"""
        host = self.inspect(sandbox)["host"]
        return host["supervisor_pid"], host["engine_pid"]

    def alive(self):
        return leaks.processes(self.state_dir, self.libexec())

    def libexec(self):
        return os.path.join(os.path.dirname(os.path.dirname(self.path)), "libexec", "berm")

    def by_program(self, name):
        """The processes of this state directory that run berm's program of that name."""
        found = []
        for pid in self.alive():
            if leaks.comm(pid) == name[:15]:
                found.append(pid)
        return found

    def engines(self):
        """The processes that run guests, whatever the engine."""
        return [p for names in ENGINE_PROGRAMS.values() for n in names for p in self.by_program(n)]

    def clean_up(self):
        for pid in self.alive():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        wait_for("processes ended", lambda: not self.alive())
        self.run("ps")
        super().clean_up()


def around(pid):
    """Itself, and every process of this user's that runs one of berm's programs."""
    named = {int(p) for p in os.listdir("/proc") if p.isdigit() and leaks.is_ours_by_name(p)}
    return named | {pid}


def finish(proc, seconds):
    """Ends a Popen of berm's within that time: (exit code, stdout, stderr)."""
    try:
        out, err = proc.communicate(timeout=stretched(seconds))
    except subprocess.TimeoutExpired:
        seen = leaks.picture(around(proc.pid))
        proc.kill()
        out, err = proc.communicate()
        raise AssertionError(f"still running after its {seconds} s\n{out!r}\n{err!r}\n{seen}") from None
    return proc.returncode, out, err


def mounted(options, script, berm, *words, timeout=90):
    """Runs a shell script in which $STATE is a tmpfs of its own, gone with the script."""
    state = os.path.join(os.path.dirname(berm.state_dir), "mounted")
    os.makedirs(state, exist_ok=True)
    before = f"mount -t tmpfs -o mode=700,{options} none {state} || exit 99; "
    before += f"export BERM_STATE_DIR={state}; "
    return subprocess.run(
        ["unshare", "--mount", "bash", "-c", before + script, "bash", *words],
        env={**berm.env, "BERM": berm.path, "STATE": state},
        capture_output=True,
        text=True,
        timeout=stretched(timeout),
        check=False,
    )


class Stopwatch:
    def __init__(self):
        self.began = time.monotonic()

    def real_seconds(self):
        return time.monotonic() - self.began

    def seconds(self):
        """What an ordinary machine would have taken, to be compared with a limit."""
        return self.real_seconds() / bermtest.SLOWNESS
