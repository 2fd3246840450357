"""Boots a test host and keeps it: the process between QEMU and whoever runs commands inside.

The keeper listens on DIR/sock. One connection is one command: it numbers them and passes frames on
between them and the runner inside, over one virtio port. It ends, and QEMU with it, when it is
told to, when its caller is gone (tied) or when nobody asked for anything in a while (not tied).
"""

import collections
import ctypes
import json
import mmap
import os
import re
import selectors
import shutil
import signal
import socket
import subprocess
import time

import frames
from fault import Fault

BOOT_SECONDS = 180  # 3 on a quiet machine
END_SECONDS = 10
PENDING_MAX = 8 << 20  # bytes a slow reader may be behind before everybody waits for it
SHARES_MAX = 5  # the machine has 8 places for devices; root, port and disk take 3
TSC_MEASURE_SECONDS = 0.03
LOG_LINES = 4
TROUBLE = re.compile(r"\b(Oops|BUG|general protection fault|Kernel panic)\b")
TROUBLE_LINES = 16  # from its first line: where, with which registers, called by whom
READ_BYTES = 1 << 16

Machine = collections.namedtuple(
    "Machine", "kernel init memory_mib cpus disk_mib shares empty idle_seconds"
)


def tsc_khz():
    """The frequency of this machine's time stamp counter.

    A software CPU hands its guest the host's counter, and the guest has nothing sound to measure
    it with on a busy machine.
    """
    code = mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)
    # rdtsc; shl rdx, 32; or rax, rdx; ret
    code.write(bytes.fromhex("0f31 48c1e220 4809d0 c3"))
    at = ctypes.addressof(ctypes.c_char.from_buffer(code))
    rdtsc = ctypes.CFUNCTYPE(ctypes.c_uint64)(at)

    def pair():
        tries = []
        for _ in range(20):
            before, ns, after = rdtsc(), time.clock_gettime_ns(time.CLOCK_MONOTONIC_RAW), rdtsc()
            tries.append((after - before, (before + after) // 2, ns))
        return min(tries)[1:]

    tsc0, ns0 = pair()
    time.sleep(TSC_MEASURE_SECONDS)
    tsc1, ns1 = pair()
    return (tsc1 - tsc0) * 1000000 // (ns1 - ns0)


def kernel_words(m):
    words = ["console=ttyS0", "quiet", "panic=-1", "reboot=t", "no_timer_check", "noreplace-smp"]
    words += ["tsc=reliable", f"tsc_early_khz={tsc_khz()}", "rcupdate.rcu_expedited=1"]
    words += ["random.trust_cpu=1", "root=root", "rootfstype=9p", "ro"]
    words += ["rootflags=trans=virtio,version=9p2000.L,msize=1048576,cache=loose"]
    words += [f"init={m.init}"]
    return " ".join(words)


def quoted(path):
    return path.replace(",", ",,")  # in an option of QEMU's


def qemu_argv(m, folder, port, disk):
    # Without root, QEMU cannot give files to others, and should not fail over it.
    model = "passthrough" if os.geteuid() == 0 else "none"
    argv = ["qemu-system-x86_64", "-M", "microvm,acpi=off,rtc=on,pit=on,pic=on"]
    argv += ["-accel", "tcg,thread=multi", "-cpu", "EPYC,+svm,+npt,check=off"]
    argv += ["-smp", str(m.cpus), "-m", str(m.memory_mib), "-nodefaults", "-no-user-config"]
    argv += ["-nographic", "-no-reboot", "-global", "virtio-mmio.force-legacy=false"]
    argv += ["-chardev", f"file,id=log,path={quoted(folder)}/console.log", "-serial", "chardev:log"]
    argv += ["-device", "virtio-serial-device,max_ports=2"]
    argv += ["-chardev", f"socket,id=port,fd={port}"]
    argv += ["-device", "virtserialport,chardev=port,name=kvmhost,nr=1"]
    argv += ["-fsdev", f"local,id=root,path=/,security_model={model},multidevs=remap,readonly=on"]
    argv += ["-device", "virtio-9p-device,fsdev=root,mount_tag=root"]
    for i, path in enumerate(m.shares):
        argv += ["-fsdev", f"local,id=share{i},path={quoted(path)},security_model={model},multidevs=remap"]
        argv += ["-device", f"virtio-9p-device,fsdev=share{i},mount_tag=share{i}"]
    if disk is not None:
        argv += ["-drive", f"file=/dev/fd/{disk},format=raw,if=none,id=disk,cache=unsafe,discard=unmap"]
        argv += ["-device", "virtio-blk-device,drive=disk"]
    return argv + ["-kernel", m.kernel, "-append", kernel_words(m)]


def make_disk(m, folder):
    """A sparse file with an empty ext4, already without a name. Its fd."""
    path = os.path.join(folder, "disk")
    with open(path, "wb") as f:
        f.truncate(m.disk_mib << 20)
    # no journal: nothing on it outlives the machine
    argv = ["mke2fs", "-q", "-F", "-t", "ext4", "-O", "^has_journal", "-m", "0"]
    argv += ["-E", "lazy_itable_init=1,nodiscard", path]
    env = {**os.environ, "PATH": "/usr/sbin:/sbin:" + os.environ.get("PATH", "/usr/bin:/bin")}
    got = subprocess.run(argv, env=env, stderr=subprocess.PIPE, text=True, check=False)
    if got.returncode:
        raise Fault(f"no disk: {got.stderr.strip()}")
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    os.unlink(path)
    return fd


def start_qemu(m, folder):
    """(its process, our end of the port)"""
    libc = ctypes.CDLL(None)
    disk = make_disk(m, folder) if m.disk_mib else None
    ours, theirs = socket.socketpair()
    fds = [theirs.fileno()] + ([disk] if disk is not None else [])
    with open(os.path.join(folder, "qemu.log"), "wb") as log:
        qemu = subprocess.Popen(
            qemu_argv(m, folder, theirs.fileno(), disk),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            pass_fds=fds,
            preexec_fn=lambda: libc.prctl(1, signal.SIGKILL),  # PR_SET_PDEATHSIG
        )
    theirs.close()
    if disk is not None:
        os.close(disk)
    return qemu, ours


class Connection:
    """Somebody who runs one command, or who is waiting for the end."""

    def __init__(self, sock, number):
        self.sock = sock
        self.number = number
        self.reader = frames.Reader()
        self.pending = bytearray()
        self.running = False


class Keeper:
    def __init__(self, m, folder, tie, tied, ready):
        self.m = m
        self.folder = folder
        self.ready = ready  # told once: an empty line, or what went wrong
        self.connections = {}  # number -> Connection
        self.count = 0
        self.reader = frames.Reader()
        self.to_port = bytearray()
        self.ending = None  # the time until which QEMU may end by itself
        self.idle_since = time.monotonic()
        self.booted = False
        self.select = selectors.DefaultSelector()
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind("sock")  # relative: a folder's path may be longer than a socket's
        self.listener.listen(16)
        self.tie = tie  # closed on the other side: nobody wants the host any more
        self.tied = tied  # beyond the boot
        self.select.register(tie, selectors.EVENT_READ, lambda _: self.power_off())
        self.qemu, self.port = start_qemu(m, folder)
        self.port.setblocking(False)
        self.select.register(self.port, selectors.EVENT_READ, self.read_port)
        shares = {f"share{i}": path for i, path in enumerate(m.shares)}
        setup = {"disk": bool(m.disk_mib), "shares": shares, "empty": m.empty}
        self.send_port(frames.frame(0, frames.SETUP, json.dumps(setup).encode()))

    # -- towards the machine

    def send_port(self, data):
        self.to_port += data
        self.flush_port()

    def flush_port(self):
        try:
            while self.to_port:
                del self.to_port[: self.port.send(self.to_port)]
        except BlockingIOError:
            pass
        except OSError:
            self.to_port.clear()  # it ended; reading says so
        self.listen_to_port()

    def listen_to_port(self):
        """Reads from it unless somebody is far behind."""
        behind = any(len(c.pending) > PENDING_MAX for c in self.connections.values())
        events = (0 if behind else selectors.EVENT_READ) | (
            selectors.EVENT_WRITE if self.to_port else 0
        )
        known = self.port in self.select.get_map()
        if known and events:
            self.select.modify(self.port, events, self.read_port)
        elif known:
            self.select.unregister(self.port)
        elif events:
            self.select.register(self.port, events, self.read_port)

    def read_port(self, events):
        if events & selectors.EVENT_WRITE:
            self.flush_port()
        if not events & selectors.EVENT_READ:
            return
        try:
            data = self.port.recv(READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            raise Fault(self.last_words())
        for number, kind, payload in self.reader.feed(data):
            if number == 0:
                self.hear_boot(kind, payload)
            elif number in self.connections:
                self.send(self.connections[number], kind, payload)

    def hear_boot(self, kind, payload):
        if kind != frames.READY:
            raise Fault(f"the test host cannot be set up: {json.loads(payload)['why']}")
        self.booted = True
        self.idle_since = time.monotonic()
        self.select.register(self.listener, selectors.EVENT_READ, self.accept)
        if not self.tied:
            self.select.unregister(self.tie)
        tell(self.ready, "")

    def power_off(self):
        if self.tie in self.select.get_map():
            self.select.unregister(self.tie)
        if self.ending is None:
            self.ending = time.monotonic() + END_SECONDS
            self.send_port(frames.frame(0, frames.POWER_OFF))
        if not self.booted:
            raise Fault("ended before it was up")

    def last_words(self):
        """Why the machine may have ended."""
        if self.ending is not None:
            return "ended"
        words = []
        for name in ("qemu.log", "console.log"):
            with open(os.path.join(self.folder, name), encoding="utf-8", errors="replace") as f:
                lines = [line.strip() for line in f if line.strip()]
            trouble = [i for i, line in enumerate(lines) if TROUBLE.search(line)]
            # what comes later may be its consequence only
            words += lines[trouble[0] :][:TROUBLE_LINES] if trouble else lines[-LOG_LINES:]
        return "the test host broke down; its last words: " + (" | ".join(words) or "none")

    # -- towards those who run commands

    def accept(self, _events):
        sock, _ = self.listener.accept()
        sock.setblocking(False)
        self.count += 1
        c = Connection(sock, self.count)
        self.connections[c.number] = c
        self.select.register(sock, selectors.EVENT_READ, lambda events: self.serve(c, events))

    def serve(self, c, events):
        try:
            if events & selectors.EVENT_WRITE:
                self.flush(c)
            if events & selectors.EVENT_READ:
                data = c.sock.recv(READ_BYTES)
                if not data:
                    raise OSError
                for _, kind, payload in c.reader.feed(data):
                    self.obey(c, kind, payload)
        except BlockingIOError:
            pass
        except (OSError, frames.Broken):
            self.drop(c)

    def obey(self, c, kind, payload):
        if kind == frames.POWER_OFF:
            self.power_off()
        elif kind == frames.RUN and not c.running:
            c.running = True
            self.send_port(frames.frame(c.number, kind, payload))
        elif kind == frames.KILL:
            self.send_port(frames.frame(c.number, kind))

    def send(self, c, kind, payload):
        c.pending += frames.frame(c.number, kind, payload)
        if kind == frames.EXIT:
            c.running = False
        try:
            self.flush(c)
        except OSError:
            self.drop(c)

    def flush(self, c):
        try:
            while c.pending:
                del c.pending[: c.sock.send(c.pending)]
        except BlockingIOError:
            pass
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if c.pending else 0)
        self.select.modify(c.sock, events, lambda events: self.serve(c, events))
        self.listen_to_port()

    def drop(self, c):
        if c.number not in self.connections:
            return
        if c.running:
            self.send_port(frames.frame(c.number, frames.KILL))
        del self.connections[c.number]
        self.select.unregister(c.sock)
        c.sock.close()
        self.idle_since = time.monotonic()
        self.listen_to_port()

    # -- all of it

    def turn(self):
        now = time.monotonic()
        if self.ending is not None:
            until = self.ending
        elif not self.booted:
            until = self.idle_since + BOOT_SECONDS
        elif not self.tied and not self.connections:
            until = self.idle_since + self.m.idle_seconds
        else:
            until = None
        if until is not None and now >= until:
            if self.booted and self.ending is None:
                self.power_off()
                return
            raise Fault("ended" if self.booted else f"not up after {BOOT_SECONDS} s")
        for key, events in self.select.select(None if until is None else until - now):
            if key.fd in self.select.get_map():  # an earlier one may have closed it
                key.data(events)

    def run(self):
        why = "ended"
        try:
            while True:
                self.turn()
        except Fault as fault:
            why = str(fault)
        if not self.booted:
            tell(self.ready, why)
        self.qemu.kill()
        self.qemu.wait()
        for c in self.connections.values():
            c.sock.settimeout(END_SECONDS)
            try:
                c.sock.sendall(c.pending)
                if c.running:
                    payload = json.dumps({"code": 125, "why": why}).encode()
                    c.sock.sendall(frames.frame(c.number, frames.EXIT, payload))
            except OSError:
                pass
        # sock goes last but for the connections: who sees those closed finds an empty folder
        if self.tied:
            shutil.rmtree(self.folder, ignore_errors=True)
        for name in ["qemu.log", "sock"] + (["console.log"] if why == "ended" else []):
            try:
                os.unlink(os.path.join(self.folder, name))
            except OSError:
                pass


def tell(fd, text):
    try:
        os.write(fd, text.encode()[:4000] + b"\n")
        os.close(fd)
    except OSError:
        pass


def start(m, folder, tied):
    """Returns when the host is up. If tied, it ends when what is returned is closed."""
    if len(m.shares) > SHARES_MAX:
        raise Fault(f"at most {SHARES_MAX} folders can be shared")
    if " " in m.init:
        raise Fault(f"{m.init}: the kernel's command line cannot hold a blank")
    heard, ready = os.pipe()
    ours, theirs = socket.socketpair()
    pid = os.fork()
    if pid == 0:
        os.close(heard)
        ours.close()
        serve(m, folder, theirs, tied, ready)
    os.close(ready)
    theirs.close()
    if not tied:
        os.waitpid(pid, 0)  # the one in between
    with os.fdopen(heard, encoding="utf-8") as f:
        said = f.readline()
    if said != "\n":
        if tied:
            os.waitpid(pid, 0)
        raise Fault(said.strip() or "the keeper of the test host ended by itself")
    return ours


def serve(m, folder, tie, tied, ready):
    """In the child; never returns. Not tied, a grandchild is the keeper, and nobody's child."""
    try:
        os.setsid()
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        if not tied and os.fork():
            return
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(null, fd)
        try:
            os.chdir(folder)
            Keeper(m, folder, tie, tied, ready).run()
        except BaseException as why:  # pylint: disable=broad-except
            tell(ready, str(why) if isinstance(why, Fault) else f"{type(why).__name__}: {why}")
    finally:
        os._exit(0)
