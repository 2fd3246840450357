"""Runs one command in a test host that is up, and hands on what it writes and how it ends."""

import json
import os
import select
import signal
import socket
import time

import frames
from fault import Fault

END_SECONDS = 30  # for a command that was told to end; then the host itself is stuck
STOP_SECONDS = 60
TIME_LIMIT = 124


def connect(folder):
    """The path of a socket may be 107 bytes long and a folder's longer, so it goes by its fd."""
    try:
        fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as why:
        raise Fault(f"{folder}: {why.strerror}") from None
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.connect(f"/proc/self/fd/{fd}/sock")
    except OSError:
        sock.close()
        raise Fault(f"no test host is running in {folder}: start one with --start") from None
    finally:
        os.close(fd)
    return sock


def is_up(folder):
    try:
        connect(folder).close()
        return True
    except Fault:
        return False


class Signals:
    """The first of them is an event on an fd, not an interruption; the second acts as ever."""

    NUMBERS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self):
        self.got = None
        self.fd, self.fd_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        for number in self.NUMBERS:
            signal.signal(number, self.note)

    def note(self, number, _frame):
        self.got = number
        os.write(self.fd_w, b"!")
        self.close()

    @classmethod
    def close(cls):
        for number in cls.NUMBERS:
            signal.signal(number, signal.SIG_DFL)


def write_all(fd, data):
    while data:
        data = data[os.write(fd, data) :]


class Talk:
    """One command's conversation."""

    def __init__(self, sock):
        self.sock = sock
        self.reader = frames.Reader()

    def until_exit(self, seconds, wake=None):
        """What the command ended with; None: it runs after so many seconds, or wake has woken."""
        deadline = time.monotonic() + seconds if seconds else None
        fds = [self.sock] if wake is None else [self.sock, wake]
        while True:
            wait = None if deadline is None else max(0, deadline - time.monotonic())
            ready = select.select(fds, [], [], wait)[0]
            if not ready or wake in ready:
                return None
            data = self.sock.recv(1 << 16)
            if not data:
                raise Fault("the test host is gone")
            for _, kind, payload in self.reader.feed(data):
                if kind == frames.OUT:
                    write_all(1, payload)
                elif kind == frames.ERR:
                    write_all(2, payload)
                elif kind == frames.EXIT:
                    return json.loads(payload)

    def kill(self):
        """Ends the command, with what it still says."""
        self.sock.sendall(frames.frame(0, frames.KILL))
        if self.until_exit(END_SECONDS) is None:
            raise Fault("the test host does not answer any more")


def run(folder, wish, timeout):
    """Returns the exit code."""
    with connect(folder) as sock:
        talk = Talk(sock)
        signals = Signals()
        try:
            sock.sendall(frames.frame(0, frames.RUN, json.dumps(wish).encode()))
            got = talk.until_exit(timeout, signals.fd)
            if got is None:
                talk.kill()
                return 128 + signals.got if signals.got else TIME_LIMIT
            if "why" in got:
                write_all(2, f"kvmhost: {got['why']}\n".encode("utf-8", "replace"))
            return got["code"]
        except BrokenPipeError:
            return 128 + signal.SIGPIPE  # nobody reads; the keeper ends the command
        finally:
            signals.close()


def stop(folder):
    try:
        sock = connect(folder)
    except Fault:
        if os.path.isdir(folder):
            clear(folder)
            return 0  # it ended by itself
        raise
    with sock:
        sock.sendall(frames.frame(0, frames.POWER_OFF))
        sock.settimeout(STOP_SECONDS)
        try:
            while sock.recv(4096):
                pass
        except OSError:
            raise Fault("the keeper of the test host does not end") from None
    return 0


def clear(folder):
    """Removes what a host that is no more left: nothing else."""
    for name in ("sock", "qemu.log", "console.log", "disk"):
        try:
            os.unlink(os.path.join(folder, name))
        except OSError:
            pass
