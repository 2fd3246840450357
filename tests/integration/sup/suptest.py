"""Driving a berm whose machines are fake_engine.py, and a command that may misbehave."""

import contextlib
import json
import os
import re
import socket
import time

import bermtest
import sandboxes
import wire

MEMORY_MAX_KIB = 8 << 10  # of a supervisor, at its most


class Sup(sandboxes.Berm):
    """berm over the fake engine."""

    def __init__(self, state_dir, stage, folder):
        super().__init__(state_dir, stage)
        self.folder = folder  # libexec/berm

    def play(self, behaviour):
        for name in os.listdir(self.folder):
            if name.startswith("mark-"):
                os.unlink(os.path.join(self.folder, name))
        with open(os.path.join(self.folder, "behaviour.py"), "w") as f:
            f.write(behaviour)

    def marked(self, name, seconds=bermtest.SETTLE_SECONDS):
        path = os.path.join(self.folder, name)
        sandboxes.wait_for(f"the engine came to {name}", lambda: os.path.exists(path), seconds)

    def argv_run(self, *flags, command=("true",)):
        return ["run", "--cold", "-m", "64MiB", "--disk", "64MiB", *flags, "tiny", *command]

    def judge(self, behaviour, *flags, **more):
        """Runs to the end: (CompletedProcess, its result or None)."""
        self.play(behaviour)
        path = os.path.join(self.state_dir, "result.json")
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        more.setdefault("timeout", 12)
        got = self.run(*self.argv_run("--result", path, *flags), text=False, **more)
        with open(path) as f:
            text = f.read()
        return got, json.loads(text) if text else None

    def ends(self, behaviour, code, reason, words=None, *flags, **more):
        """The usual case: that exit code and reason, and one clear line with these words."""
        got, result = self.judge(behaviour, *flags, **more)
        assert got.returncode == code, (got.returncode, got.stderr)
        assert result and result["reason"] == reason, (result, got.stderr)
        if words is not None:
            line = sandboxes.one_line(got.stderr)
            assert re.search(words, line), line
            assert line.isprintable(), repr(line)
        return got, result

    @contextlib.contextmanager
    def running(self, behaviour, *flags):
        """In the background, once its main command has started."""
        self.play(behaviour)
        name = self.ok(*self.argv_run("-d", "--rm", *flags)).strip()
        try:
            yield name
        finally:
            self.run("rm", "-f", name)

    @contextlib.contextmanager
    def caller(self, behaviour, *flags, **more):
        """A `berm run` in the foreground; killed at the end if it is still there."""
        self.play(behaviour)
        proc = self.start(*self.argv_run(*flags), **more)
        try:
            yield proc
        finally:
            with contextlib.suppress(ProcessLookupError):
                proc.kill()
            proc.wait(10)
            for pipe in (proc.stdin, proc.stdout, proc.stderr):
                if pipe:
                    with contextlib.suppress(OSError):
                        pipe.close()

    def supervisor(self):
        """The pid of the one supervisor there is."""
        return sandboxes.wait_for("a supervisor", lambda: self.by_program("berm-supervisor"))[0]

    def live(self):
        """The ids of all sandboxes."""
        return [n for n in self.sandboxes() if re.fullmatch("[0-9a-f]{12}", n)]

    def the_id(self):
        return sandboxes.wait_for("a sandbox", self.live)[0]

    def connect(self, sandbox=None):
        """A raw connection to the control socket of the sandbox."""
        path = os.path.join(self.state_dir, "sandboxes", sandbox or self.the_id(), "control.sock")
        sandboxes.wait_for("its socket", lambda: os.path.exists(path))
        s = socket.socket(socket.AF_UNIX)
        here = os.getcwd()
        os.chdir(os.path.dirname(path))  # sun_path is short
        try:
            sandboxes.wait_for("its socket to listen", lambda: s.connect_ex("control.sock") == 0)
        finally:
            os.chdir(here)
        s.settimeout(10)
        return Command(s)


class Command:
    """One of berm's commands, as a test needs it: it may misbehave."""

    def __init__(self, sock):
        self.sock, self.buf = sock, b""

    def send(self, type_, stream=0, channel=0, payload=b""):
        self.sock.sendall(wire.frame(type_, stream, channel, 1, payload))

    def receive(self):
        """The next frame, or None at the end."""
        while True:
            if len(self.buf) >= 16:
                _, type_, channel, stream, epoch, n = wire.HEADER.unpack_from(self.buf)
                if len(self.buf) >= 16 + n:
                    payload, self.buf = self.buf[16 : 16 + n], self.buf[16 + n :]
                    return wire.Frame(type_, channel, stream, epoch, payload)
            try:
                more = self.sock.recv(1 << 18)
            except ConnectionResetError:
                more = b""
            if not more:
                return None
            self.buf += more

    def expect(self, type_, stream=None):
        while True:
            f = self.receive()
            assert f is not None, f"closed before {wire.NAMES[type_]}"
            if f.type == type_ and stream in (None, f.stream):
                return f

    def until_closed(self):
        got = []
        while (f := self.receive()) is not None:
            got.append(f)
        return got

    def close(self):
        self.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def busy(pid, seconds=0.6):
    """The part of one CPU that the process uses."""
    before = cpu_seconds(pid)
    time.sleep(seconds)
    return (cpu_seconds(pid) - before) / seconds


def memory_kib(pid):
    with open(f"/proc/{pid}/status") as f:
        return int(re.search(r"VmHWM:\s+(\d+)", f.read()).group(1))
