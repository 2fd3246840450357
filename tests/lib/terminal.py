"""A program at a terminal of its own, as a person sits at one."""

import fcntl
import os
import select
import struct
import subprocess
import termios
import time

from bermtest import stretched


class Terminal:
    def __init__(self, argv, env, rows=24, cols=80):
        self.master, slave = os.openpty()
        self.text = b""
        self.resize(rows, cols)
        self.first_modes = self.modes()  # a program may change them before its starter runs again
        self.proc = subprocess.Popen(
            argv, env=env, stdin=slave, stdout=slave, stderr=slave, preexec_fn=self.own_terminal
        )
        os.close(slave)

    @staticmethod
    def own_terminal():
        os.setsid()
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def resize(self, rows, cols):
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, cols, 0, 0))

    def type(self, text):
        os.write(self.master, text.encode())

    def modes(self):
        return termios.tcgetattr(self.master)

    def more(self, seconds):
        ready, _, _ = select.select([self.master], [], [], max(0, seconds))
        if not ready:
            return False
        try:
            got = os.read(self.master, 65536)
        except OSError:  # EIO: the last one closed the other side
            return False
        self.text += got
        return bool(got)

    def expect(self, wanted, seconds=20):
        """Reads until `wanted` has come; what came up to there is taken off self.text and returned."""
        wanted = wanted.encode()
        end = time.monotonic() + stretched(seconds)
        while wanted not in self.text:
            left = end - time.monotonic()
            if left <= 0 or (not self.more(left) and self.proc.poll() is not None):
                raise AssertionError(f"no {wanted!r} in {self.text!r}")
        before, _, self.text = self.text.partition(wanted)
        return (before + wanted).decode("utf-8", "replace")

    def wait(self, seconds=20):
        """The exit status, and all that was still said. Read on, or the program could not end."""
        end = time.monotonic() + stretched(seconds)
        while self.proc.poll() is None and time.monotonic() < end:
            self.more(0.05)
        while self.more(0):
            pass
        return self.proc.wait(max(0.1, end - time.monotonic()))

    def hang_up(self):
        """As a window that is closed: its programs get SIGHUP, and have no terminal any more."""
        os.close(self.master)
        self.master = -1

    def close(self):
        if self.proc.poll() is None:
            self.proc.kill()
        self.proc.wait()
        if self.master >= 0:
            os.close(self.master)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
