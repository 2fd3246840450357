"""Runs commands inside the test host: its process 1 once init has mounted everything.

It speaks frames over one virtio port with the keeper outside. Each command gets a session and a
control group of its own, so that ending it ends all of it. What a command leaves running when it
has ended by itself goes on: a later command may want it. When the port's other end is gone, the
machine goes as well.
"""

import ctypes
import errno
import fcntl
import glob
import json
import os
import pwd
import selectors
import signal
import struct
import sys
import termios
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

import frames  # noqa: E402

CHUNK = 32 << 10  # what the port's driver takes at once
TERM_SECONDS = 5  # between TERM and KILL
CGROUPS = "/sys/fs/cgroup"
SCRATCH = "/scratch"
REBOOT_RESTART = 0x01234567  # reboot(2): resets, which ends QEMU
MS_BIND = 4096
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def write_file(path, text):
    with open(path, "w", encoding="ascii") as f:
        f.write(text)


def open_port():
    for name in glob.glob("/sys/class/virtio-ports/*/name"):
        with open(name, encoding="ascii") as f:
            if f.read().strip() == "kvmhost":
                return os.open(f"/dev/{name.split('/')[-2]}", os.O_RDWR | os.O_CLOEXEC)
    raise OSError(errno.ENODEV, "no virtio port named kvmhost")


def mount(source, target, kind, options="", flags=0):
    libc = ctypes.CDLL(None, use_errno=True)
    words = [os.fsencode(w) for w in (source, target, kind)]
    if libc.mount(*words, flags, options.encode()) < 0:
        raise OSError(ctypes.get_errno(), f"mount {source} on {target}")


def hide(path, behind):
    """An empty folder instead, of the same owner and mode."""
    old = os.stat(path)
    os.mkdir(behind)
    os.chown(behind, old.st_uid, old.st_gid)
    os.chmod(behind, old.st_mode & 0o7777)
    mount(behind, path, "none", flags=MS_BIND)


class Account:
    """Who a command runs as: a name or number, whether or not an account has it."""

    def __init__(self, user):
        try:
            entry = pwd.getpwuid(int(user)) if user.isdigit() else pwd.getpwnam(user)
            self.uid, self.gid, self.home = entry.pw_uid, entry.pw_gid, entry.pw_dir
            self.groups = os.getgrouplist(entry.pw_name, entry.pw_gid)
            self.name = entry.pw_name
        except KeyError:
            if not user.isdigit():
                raise
            self.uid = self.gid = int(user)
            self.groups, self.home, self.name = [int(user)], "/", user

    def env(self):
        return {
            "PATH": PATH,
            "HOME": self.home,
            "USER": self.name,
            "LANG": "C.UTF-8",
            "TMPDIR": SCRATCH,
        }

    def become(self):
        os.setgroups(self.groups)
        os.setresgid(self.gid, self.gid, self.gid)
        os.setresuid(self.uid, self.uid, self.uid)


def delegate(group, account):
    """What systemd does for a user's session: a group they may divide further."""
    for name in ("", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"):
        os.chown(os.path.join(group, name), account.uid, account.gid)


class Command:
    """One running command: its process, its two pipes and its control group."""

    def __init__(self, request, group):
        self.request = request
        self.group = group
        self.pid = None
        self.pipes = {}  # fd -> kind of frame
        self.code = None
        self.kill_at = None

    def start(self, wish):
        """Forks and executes. An OSError comes with what could not be done."""
        account = Account(wish.get("user") or "0")
        os.mkdir(self.group)
        delegate(self.group, account)
        inner = os.path.join(self.group, "main")
        os.mkdir(inner)
        delegate(inner, account)
        out, out_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        err, err_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        fault, fault_w = os.pipe2(os.O_CLOEXEC)
        self.pid = os.fork()
        if self.pid == 0:
            self.become(wish, account, inner, (out_w, err_w, fault_w))
        for fd in (out_w, err_w, fault_w):
            os.close(fd)
        self.pipes = {out: frames.OUT, err: frames.ERR}
        with os.fdopen(fault, encoding="utf-8") as f:
            return f.read()  # empty once exec worked

    @staticmethod
    def become(wish, account, group, fds):
        """In the child: never returns."""
        out, err, fault = fds
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
                signal.signal(number, signal.SIG_DFL)
            os.setsid()
            write_file(os.path.join(group, "cgroup.procs"), "0")
            for fd in (out, err):  # the reader's end stays non-blocking: flags are per end
                fcntl.fcntl(fd, fcntl.F_SETFL, os.O_WRONLY)
            os.dup2(out, 1)
            os.dup2(err, 2)
            os.umask(0o022)
            account.become()
            os.chdir(wish["cwd"])
            env = {**account.env(), "PWD": wish["cwd"], **wish["env"]}
            os.environ["PATH"] = env["PATH"]  # where execvpe looks
            os.execvpe(wish["argv"][0], wish["argv"], env)
        except BaseException as why:  # pylint: disable=broad-except
            code = 127 if isinstance(why, FileNotFoundError) else 126
            what = getattr(why, "strerror", None) or str(why)
            where = getattr(why, "filename", None) or wish["argv"][0]
            if where == wish["cwd"]:
                code, where = 125, f"working directory {where}"
            os.write(fault, json.dumps({"code": code, "why": f"{where}: {what}"}).encode())
        finally:
            os._exit(125)

    def end(self, number):
        try:
            if number == signal.SIGKILL:
                write_file(os.path.join(self.group, "cgroup.kill"), "1")
            else:
                os.killpg(self.pid, number)
        except OSError:
            pass

    def remove_group(self):
        """As far as it is empty: what still runs keeps its group."""
        for folder in (os.path.join(self.group, "main"), self.group):
            try:
                os.rmdir(folder)
            except OSError:
                pass


class Runner:
    def __init__(self):
        self.port = open_port()
        self.reader = frames.Reader()
        self.commands = {}
        self.count = 0
        self.select = selectors.DefaultSelector()
        self.select.register(self.port, selectors.EVENT_READ, self.read_port)
        wake, wake_w = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        self.wake = wake
        self.select.register(wake, selectors.EVENT_READ, self.read_wake)

    def send(self, request, kind, payload=b""):
        data = memoryview(frames.frame(request, kind, payload))
        while data:
            data = data[os.write(self.port, data[:CHUNK]) :]

    def read_port(self, _fd):
        data = os.read(self.port, CHUNK)
        if not data:
            power_off()
        for request, kind, payload in self.reader.feed(data):
            if kind == frames.SETUP:
                self.set_up(json.loads(payload))
            elif kind == frames.RUN:
                self.run(request, json.loads(payload))
            elif kind == frames.KILL and request in self.commands:
                command = self.commands[request]
                command.end(signal.SIGTERM)
                command.kill_at = time.monotonic() + TERM_SECONDS
            elif kind == frames.POWER_OFF:
                power_off()

    def set_up(self, wish):
        try:
            os.stat("/dev/kvm")
            os.makedirs(SCRATCH, exist_ok=True)
            if wish["disk"]:
                mount("/dev/vda", SCRATCH, "ext4")
            os.chmod(SCRATCH, 0o1777)
            for i, path in enumerate(wish["empty"]):
                hide(path, f"{SCRATCH}/.empty-{i}")
            for tag, path in wish["shares"].items():
                os.makedirs(path, exist_ok=True)
                mount(tag, path, "9p", "trans=virtio,version=9p2000.L,msize=1048576,cache=mmap")
            have = " ".join(f"+{c}" for c in ("cpu", "cpuset", "io", "memory", "pids"))
            write_file(f"{CGROUPS}/cgroup.subtree_control", have)
        except OSError as why:
            self.send(0, frames.EXIT, json.dumps({"code": 125, "why": str(why)}).encode())
            return
        about = {"kernel": os.uname().release, "cpus": os.cpu_count()}
        self.send(0, frames.READY, json.dumps(about).encode())

    def run(self, request, wish):
        self.count += 1
        command = Command(request, f"{CGROUPS}/kvmhost-{self.count}")
        try:
            fault = command.start(wish)
        except KeyError:
            fault = json.dumps({"code": 125, "why": f"there is no user {wish['user']}"})
        except OSError as why:
            fault = json.dumps({"code": 125, "why": str(why)})
        if fault:
            if command.pid:
                os.waitpid(command.pid, 0)
            self.close(command)
            command.remove_group()
            self.send(request, frames.EXIT, fault.encode())
            return
        self.commands[request] = command
        for fd in command.pipes:
            self.select.register(fd, selectors.EVENT_READ, self.read_pipe(command))

    def read_pipe(self, command):
        return lambda fd: self.pump(command, fd)

    def pump(self, command, fd):
        """One read, of something or of the end; returns how many bytes."""
        data = os.read(fd, CHUNK - frames.HEADER.size)
        if data:
            self.send(command.request, command.pipes[fd], data)
        else:
            self.select.unregister(fd)
            del command.pipes[fd]
            os.close(fd)
        return len(data)

    def read_wake(self, fd):
        os.read(fd, 4096)
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for command in self.commands.values():
                if command.pid == pid:
                    code = os.waitstatus_to_exitcode(status)
                    command.code = code if code >= 0 else 128 - code

    def close(self, command):
        for fd in list(command.pipes):
            if fd in self.select.get_map():
                self.select.unregister(fd)
            os.close(fd)
        command.pipes = {}

    def finish(self, command):
        """It has ended: what it wrote before that is in its pipes."""
        if command.kill_at:
            command.end(signal.SIGKILL)  # what TERM did not end of it
        for fd in list(command.pipes):
            left = struct.unpack("i", fcntl.ioctl(fd, termios.FIONREAD, bytes(4)))[0]
            while left > 0:
                left -= self.pump(command, fd)
        self.close(command)
        command.remove_group()
        del self.commands[command.request]
        self.send(command.request, frames.EXIT, json.dumps({"code": command.code}).encode())

    def turn(self):
        deadlines = [c.kill_at for c in self.commands.values() if c.kill_at]
        wait = max(0, min(deadlines) - time.monotonic()) if deadlines else None
        for key, _ in self.select.select(wait):
            key.data(key.fd)
        for command in list(self.commands.values()):
            if command.code is not None:
                self.finish(command)
            elif command.kill_at and time.monotonic() >= command.kill_at:
                command.end(signal.SIGKILL)
                command.kill_at = time.monotonic() + TERM_SECONDS


def power_off():
    os.sync()
    ctypes.CDLL(None).reboot(REBOOT_RESTART)


def main():
    os.environ["PATH"] = PATH
    runner = Runner()
    while True:
        runner.turn()


if __name__ == "__main__":
    main()
