"""berm review on a terminal of our own: keys go in, and what is on the screen is read.

Terminal(session) starts it. All bytes that the terminal got are in .raw.
"""

import os
import re
import signal
import time

import pexpect
import pyte

SLOWNESS = float(os.environ.get("BERM_TEST_SLOWNESS", "1"))
WAIT_S = 30 * SLOWNESS  # far beyond any answer
QUIET_S = 0.05

KEYS = {"up": "\x1b[A", "down": "\x1b[B", "right": "\x1b[C", "left": "\x1b[D", "enter": "\r", "escape": "\x1b",
        "backspace": "\x7f", "pagedown": "\x1b[6~", "pageup": "\x1b[5~", "tab": "\t"}


class Terminal:
    def __init__(self, session, rows=24, cols=80, argv=None, env=None, term="xterm-256color"):
        self.rows, self.cols = rows, cols
        self.screen = pyte.Screen(cols, rows)
        self.feed = pyte.ByteStream(self.screen)
        self.raw = b""
        cli = session.cli
        env = {**cli.env, "TERM": term, "LANG": "C.UTF-8", "TZ": "UTC", **(env or {})}
        argv = argv or ["review", session.id]
        self.child = pexpect.spawn(cli.berm, argv, cwd=cli.path, env=env, dimensions=(rows, cols), timeout=WAIT_S)
        self.child.delaybeforesend = None

    def __enter__(self):
        return self

    def __exit__(self, *what):
        self.child.close(force=True)

    def take(self, seconds):
        """Whatever comes within that time. False: nothing, or the end."""
        try:
            data = self.child.read_nonblocking(65536, timeout=seconds)
        except (pexpect.TIMEOUT, pexpect.EOF):
            return False
        self.raw += data
        self.feed.feed(data)
        return True

    def settle(self):
        while self.take(QUIET_S):
            pass
        return self

    def lines(self):
        return [line.rstrip() for line in self.screen.display]

    def text(self):
        return "\n".join(self.lines())

    def wait(self, pattern):
        """Until the screen shows it; returns the screen."""
        end = time.monotonic() + WAIT_S
        while not re.search(pattern, self.text(), re.MULTILINE):
            if time.monotonic() > end or (not self.take(0.2) and not self.child.isalive()):
                raise AssertionError(f"the screen never showed {pattern!r}:\n{self.text()}")
        self.settle()
        return self.text()

    def press(self, *keys, until=None):
        """Names of KEYS, or text as it is typed."""
        for key in keys:
            self.child.send(KEYS.get(key, key))
        if until is not None:
            self.wait(until)
        else:
            self.settle()
        return self

    def row(self, pattern):
        found = [line for line in self.lines() if re.search(pattern, line)]
        assert found, f"no row has {pattern!r}:\n{self.text()}"
        return found[0]

    def prompt(self):
        return self.lines()[-1]

    def resize(self, rows, cols):
        self.rows, self.cols = rows, cols
        self.settle()
        self.screen.resize(rows, cols)
        self.child.setwinsize(rows, cols)

    def kill(self, sig=signal.SIGTERM):
        os.kill(self.child.pid, sig)

    def end(self):
        """Its exit code, once it has ended; what it said afterwards is in .said."""
        try:
            self.child.expect(pexpect.EOF)
            rest = self.child.before
        except pexpect.EOF:
            rest = b""
        self.raw += rest or b""
        self.feed.feed(rest or b"")
        self.child.close()
        self.said = self.raw.rpartition(b"\x1b[?1049l")[2].decode("utf-8", "replace")
        return self.child.exitstatus if self.child.exitstatus is not None else -self.child.signalstatus
