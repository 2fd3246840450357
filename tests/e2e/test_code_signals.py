"""Ctrl-c and SIGTERM at each step of `berm code` at a terminal: the terminal is as it was, no machine is left, and a
session that is left is named. A step is held where it is by stopping the machine's process. And a terminal that is
closed at each step: no process is left, and no work is lost."""

import contextlib
import os
import signal
import termios

import bermtest
import pytest
import sandboxes
from test_code import code, small  # noqa: F401  (fixtures)

SIGNALS = {"ctrl-c": signal.SIGINT, "term": signal.SIGTERM}
SANE = termios.ICANON | termios.ECHO | termios.ISIG


class Caller:
    """`berm code` at a terminal; whatever it was stopped by in the end."""

    def __init__(self, world, *args):
        args = ["code", "mine", "-C", str(world.tree), "--no-settings", "--on-exit", "keep", *args]
        self.world = world
        self.term = world.berm.terminal(*args, env={**world.env, "LANG": "C.UTF-8"})
        self.modes = self.term.first_modes
        assert self.modes[3] & SANE == SANE
        self.stopped = []

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.go_on()
        self.term.close()

    def is_raw(self):
        self.term.more(0)  # or it waits for a reader
        return not self.term.modes()[3] & termios.ICANON

    def wait(self, what, condition, seconds=60):
        def looked():
            self.term.more(0)
            assert self.term.proc.poll() is None, self.term.text
            return condition()
        return sandboxes.wait_for(what, looked, seconds)

    def state(self):
        states = [self.world.info(s)["state"] for s in self.world.sessions()]
        return states[0] if states else None

    def stop_machine(self):
        self.stopped = self.wait("its machine", self.world.berm.engines)
        for pid in self.stopped:
            os.kill(pid, signal.SIGSTOP)

    def go_on(self):
        for pid in self.stopped:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    def hit(self, how):
        """A key, or a signal as others send it."""
        if how == "ctrl-c":
            self.term.type("\x03")
        else:
            os.kill(self.term.proc.pid, SIGNALS[how])

    def ends(self, code):
        """Ended, all of it; returns what it said."""
        got = self.term.wait(60)
        assert got == code, (got, self.term.text)
        assert self.term.modes() == self.modes
        sandboxes.wait_for("its machine to be gone", lambda: not self.world.berm.alive(), 30)
        return self.term.text.decode("utf-8", "replace")

    def hang_up(self):
        """Its terminal is gone. Ended, all of it, by itself."""
        self.term.hang_up()
        self.go_on()
        sandboxes.wait_for("its end", lambda: self.term.proc.poll() is not None, 60)
        sandboxes.wait_for("its machine to be gone", lambda: not self.world.berm.alive(), 30)

    def left(self, text):
        """The one session that is left, which has to be named."""
        session, = self.world.sessions()
        assert f"berm review {session}" in text, text
        return session


@pytest.fixture(params=SIGNALS)
def how(request):
    return request.param


def nothing_left(world, text):
    """But for the base that an earlier session without changes left."""
    kept = world.sessions("unchanged")
    assert world.sessions() == [] and os.listdir(os.path.join(world.berm.state_dir, "sessions")) == kept
    assert "no session" in text, text


def test_s13_while_it_packs(small, how):  # noqa: F811
    for i in range(20000):
        os.mknod(small.tree / f"f{i}")
    with Caller(small, "--", "sleep", "3600") as c:
        c.wait("packing", lambda: c.state() == "packing")
        c.hit(how)
        nothing_left(small, c.ends(128 + SIGNALS[how]))


def test_while_its_machine_starts(small, how):  # noqa: F811
    small.run("mine", "--no-settings", "--", "true")  # so that the machine is its own, and not the template's
    with Caller(small, "--", "sleep", "3600") as c:
        c.stop_machine()
        assert not c.is_raw()
        c.hit(how)
        nothing_left(small, c.ends(128 + SIGNALS[how]))


def test_while_the_command_runs(small, how):  # noqa: F811
    with Caller(small, "--", "sh", "-c", "echo x > made; echo ready; exec sleep 3600") as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        c.hit(how)
        session = c.left(c.ends(128 + SIGNALS[how]))
    assert small.work(session)["made"] == b"x\n"


def test_while_the_command_runs_and_listens_to_nobody(small, how):  # noqa: F811
    """Twice: the guest is ended, and its work is kept."""
    script = "trap '' INT TERM; echo x > made; echo ready; while :; do sleep 1; done"
    with Caller(small, "--", "sh", "-c", script) as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        os.kill(c.term.proc.pid, SIGNALS[how])
        os.kill(c.term.proc.pid, SIGNALS[how])
        c.wait("the second one", lambda: c.state() != "running" or os.kill(c.term.proc.pid, SIGNALS[how]))
        text = c.term.wait(60) and c.ends(c.term.proc.returncode)
        session = c.left(text)
    assert small.info(session)["state"] in ("pending", "uncollected")


def test_while_its_work_is_fetched(small, how):  # noqa: F811
    script = "dd if=/dev/zero of=big bs=1M count=100 2>/dev/null; echo ready; read x"
    with Caller(small, "--", "sh", "-c", script) as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        c.term.type("\n")
        c.wait("the fetching", lambda: c.state() == "collecting")
        c.stop_machine()
        c.wait("the keys", lambda: not c.is_raw())
        c.hit(how)
        c.term.expect("once more leaves it")
        c.hit(how)
        session = c.left(c.ends(0))
    assert small.info(session)["state"] == "uncollected"


def test_while_the_work_of_what_a_limit_ended_is_fetched(small, how):  # noqa: F811
    """The keyboard is the user's from when its command is cut off, not from when all is over."""
    with Caller(small, "--time", "4s", "--", "sh", "-c", "echo x > made; echo ready; sleep 3600") as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        c.stop_machine()
        c.wait("the limit", lambda: c.state() == "collecting")
        c.wait("the keys", lambda: not c.is_raw(), 10)
        c.hit(how)
        c.term.expect("once more leaves it")
        c.hit(how)
        text = c.ends(124)
        session = c.left(text)
    assert text.count("was not collected") == 1 and text.count(session) == 4, text
    assert small.info(session)["state"] == "uncollected"


def test_while_it_is_reviewed(small, how):  # noqa: F811
    args = ["code", "mine", "-C", str(small.tree), "--no-settings", "--", "sh", "-c", "echo more >> a.txt"]
    with small.berm.terminal(*args, env={**small.env, "LANG": "C.UTF-8"}) as term:
        before = term.modes()
        term.expect("berm> ", 60 * bermtest.SLOWNESS)
        if how == "ctrl-c":
            term.type("\x03")
        else:
            os.kill(term.proc.pid, SIGNALS[how])
        assert term.wait() == 0, term.text
        assert term.modes() == before
        assert b"\x1b[?1049l" in term.text
        session, = small.sessions()
        assert f"berm review {session}".encode() in term.text, term.text
    assert not small.berm.alive() and small.info(session)["state"] == "pending"
    assert (small.tree / "a.txt").read_text() == "hello\n"


def test_a_command_that_fails_is_told(small):  # noqa: F811
    got = small.run("mine", "--no-settings", "--", "sh", "-c", "echo x >new; exit 7")
    assert got.returncode == 7 and "berm: the command exited with 7\n" in got.stderr, got.stderr


# -- the terminal is closed ----


def test_s13_the_terminal_is_closed_while_it_packs(small):  # noqa: F811
    for i in range(20000):
        os.mknod(small.tree / f"f{i}")
    with Caller(small, "--", "sleep", "3600") as c:
        c.wait("packing", lambda: c.state() == "packing")
        c.hang_up()
    nothing_left(small, "no session")
    assert len(os.listdir(small.tree)) > 20000


def test_the_terminal_is_closed_while_its_machine_starts(small):  # noqa: F811
    small.run("mine", "--no-settings", "--", "true")  # so that the machine is its own, and not the template's
    with Caller(small, "--", "sleep", "3600") as c:
        c.stop_machine()
        c.hang_up()
    nothing_left(small, "no session")


@pytest.mark.parametrize("script", ["exec sleep 3600", "trap '' HUP; while :; do sleep 1; done"])
def test_the_terminal_is_closed_while_the_command_runs(small, script):  # noqa: F811
    """The guest's terminal is closed with it; a command that does not mind is ended with its guest."""
    with Caller(small, "--time", "60s", "--", "sh", "-c", f"echo x > made; sync; echo ready; {script}") as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        c.term.hang_up()
        sandboxes.wait_for("its end", lambda: c.term.proc.poll() is not None, 90)
    sandboxes.wait_for("its machine to be gone", lambda: not small.berm.alive(), 30)
    session, = small.sessions()
    assert small.berm.run("review", "--plain-only", session, env=small.env).returncode == 0
    assert (small.tree / "made").read_text() == "x\n"


def test_the_terminal_is_closed_while_its_work_is_fetched(small):  # noqa: F811
    script = "dd if=/dev/zero of=big bs=1M count=100 2>/dev/null; echo ready; read x"
    with Caller(small, "--", "sh", "-c", script) as c:
        c.wait("the command", lambda: b"ready" in c.term.text and c.is_raw())
        c.term.type("\n")
        c.wait("the fetching", lambda: c.state() == "collecting")
        c.stop_machine()
        c.hang_up()
    session, = small.sessions()
    assert small.berm.run("review", "--plain-only", session, env=small.env).returncode == 0
    assert (small.tree / "big").stat().st_size == 100 << 20


def test_v4_the_terminal_is_closed_while_it_is_reviewed(small):  # noqa: F811
    args = ["code", "mine", "-C", str(small.tree), "--no-settings", "--", "sh", "-c", "echo more >> a.txt"]
    with small.berm.terminal(*args, env={**small.env, "LANG": "C.UTF-8"}) as term:
        term.expect("berm> ", 60 * bermtest.SLOWNESS)
        term.hang_up()
        sandboxes.wait_for("its end", lambda: term.proc.poll() is not None, 30)
    session, = small.sessions()
    assert not small.berm.alive() and small.info(session)["state"] == "pending"
    assert (small.tree / "a.txt").read_text() == "hello\n"
    assert small.berm.run("review", "--plain-only", session, env=small.env).returncode == 0
    assert (small.tree / "a.txt").read_text() == "hello\nmore\n"
