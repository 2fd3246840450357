"""berm-vmm with a guest of a few bytes: it works inside its jails, and each of its threads is held.

The guest counts, and in each round resets its console, which the CPU's thread asks of the I/O
thread. So all threads are busy while they are looked at, paused, saved and taken over.
"""

import ctypes
import os
import signal
import socket
import struct
import subprocess
import time

import pytest

MEMORY_MIB = 16
CODE_AT, COUNT_AT = 0x100000, 0x8000
AGENT, CONTROL, RAM, IMAGE, SCRATCH, INCOMING, INITRD, KVM = range(3, 11)  # engine/kvm.h
RESUME, PAUSE, SAVE, STATS, QUIT, DONE, ENDED = 1, 2, 3, 4, 6, 16, 17  # vmm/ctl.h
ENGINE_UID = 0x70000124
ORDINARY_UID = 47002
SECONDS_MAX = 20
ROOT = os.geteuid() == 0

CODE = bytes.fromhex(
    "ff0500800000"  # inc dword [COUNT_AT]
    "c705700000d000000000"  # mov dword [0xd0000070], 0: the console's status
    "ebee"  # back
)


def kernel(code=CODE):
    """An ELF file that berm-vmm boots: one segment, and the PVH note that says where it begins."""
    note = struct.pack("<III4sI", 4, 4, 18, b"Xen\0", CODE_AT)

    def segment(kind, offset, address, data):
        return struct.pack("<IIQQQQQQ", kind, 5, offset, address, address, len(data), len(data),
                           4096)

    head = b"\x7fELF\2\1\1" + bytes(9)
    head += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, CODE_AT, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    head += segment(1, 0x1000, CODE_AT, code) + segment(4, 0x800, 0, note)
    return head.ljust(0x800, b"\0") + note.ljust(0x800, b"\0") + code


def file_of(data, size=0):
    fd = os.memfd_create("test")
    os.pwrite(fd, data, 0)
    os.ftruncate(fd, max(size, len(data)))
    return fd


def placed(fds, user):
    """A preexec function: each fd at its number, nothing else above 2, and another user."""

    def place():
        high = {n: os.dup(fd) for n, fd in fds.items()}
        for n, fd in high.items():
            os.dup2(fd, n)
        os.closerange(max(fds) + 1, 1024)
        if user is not None:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)

    return place


class Machine:
    """One berm-vmm, as its engine starts it. `files` replaces fds of its own, `log` is its log."""

    def __init__(self, program, ram, incoming, restore=False, cpus=2, options=(), user=None,
                 memory_mib=MEMORY_MIB, cmdline="quiet", files=None, log=None):
        self.agent, agent = socket.socketpair()
        self.control, control = socket.socketpair(type=socket.SOCK_SEQPACKET)
        self.control.settimeout(SECONDS_MAX)
        self.ram = ram
        own = {
            IMAGE: file_of(b"", 1 << 20),
            SCRATCH: file_of(b"", 1 << 20),
            INITRD: file_of(b"initrd"),
            KVM: os.open("/dev/kvm", os.O_RDWR),
        }
        fds = {AGENT: agent.fileno(), CONTROL: control.fileno(), RAM: ram, INCOMING: incoming,
               **own, **(files or {})}
        argv = [program, "--memory", str(memory_mib), "--cpus", str(cpus), *options]
        argv += ["--restore"] if restore else ["--cmdline", cmdline]
        self.process = subprocess.Popen(argv, preexec_fn=placed(fds, user), close_fds=False,
                                        env={}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        for s in (agent, control):
            s.close()
        for fd in own.values():
            os.close(fd)
        self.seq = 0
        self.traced = None  # the thread a debugger, this process, has attached to

    def ask(self, kind, *fds):
        """One request, and its answer: the six numbers."""
        self.seq += 1
        packet = struct.pack("<BBHIiI6Q", kind, 1, 0, self.seq, 0, 0, *[0] * 6) + bytes(192)
        socket.send_fds(self.control, [packet], list(fds))
        while True:
            got = self.control.recv(512)
            assert len(got) == 256, f"berm-vmm ended with {self.process.wait()}"
            kind, _, length, seq, code, _, *numbers = struct.unpack("<BBHIiI6Q", got[:64])
            if (kind, seq) == (DONE, self.seq):
                assert code == 0, got[64:64 + length].decode()
                return numbers

    def count(self):
        return struct.unpack("<I", os.pread(self.ram, 4, COUNT_AT))[0]

    def wait_for_rounds(self):
        """Until the guest has gone round: all threads run, each in its jail."""
        end = time.monotonic() + SECONDS_MAX
        exits = self.ask(STATS)[1]
        while self.ask(STATS)[1] < exits + 10:
            assert time.monotonic() < end, "the guest stands still"
            time.sleep(0.005)

    def threads(self):
        """{id: its status, as a table} of every thread."""
        tasks = f"/proc/{self.process.pid}/task"
        found = {}
        for tid in os.listdir(tasks):
            with open(f"{tasks}/{tid}/status", encoding="ascii") as f:
                found[int(tid)] = dict(line.rstrip("\n").split(":\t", 1) for line in f)
        return found

    def quit(self):
        self.ask(QUIT)
        assert self.process.wait(timeout=SECONDS_MAX) == 0

    def end(self):
        self.process.kill()
        if self.traced is not None and self.process.returncode is None:
            wait_for_end(self.traced)  # else the process would wait for that for ever
        self.process.wait()
        self.control.close()
        self.agent.close()


@pytest.fixture
def machines(stage):
    """Makes machines; skips where there is no KVM, or none that runs eighteen bytes."""
    made = []
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm to use here")

    def make(**more):
        more.setdefault("ram", file_of(b"", MEMORY_MIB << 20))
        more.setdefault("incoming", file_of(kernel()))
        program = more.pop("program", f"{stage}/libexec/berm/berm-vmm")
        made.append(Machine(program, **more))
        return made[-1]

    yield make
    for m in made:
        m.end()


def check_confined(m, uid):
    """Each thread: the process's filter and one of its own, no right of any kind."""
    threads = m.threads()
    for status in threads.values():
        filters = status.get("Seccomp_filters")  # from Linux 5.9 on
        assert status["Seccomp"] == "2" and filters in (None, "2"), status["Name"]
        assert status["NoNewPrivs"] == "1"
        assert all(int(status[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
        assert status["Uid"].split() == [str(uid)] * 4
    assert len(threads) >= 4  # control, I/O, two CPUs; the kernel may add its own
    assert os.stat(f"/proc/{m.process.pid}/stat").st_uid == 0  # not dumpable
    with open(f"/proc/{m.process.pid}/limits", encoding="ascii") as f:
        limits = {line[:26].strip(): line[26:].split()[1] for line in f}
    assert limits["Max core file size"] == "0" and int(limits["Max open files"]) <= 256


def pause_save_restore(machines, uid, **how):
    m = machines(**how)
    m.wait_for_rounds()
    m.ask(PAUSE)  # the thread that answers has its filter; its guest may run a moment before that
    check_confined(m, uid)
    before = m.count()
    state, memory = file_of(b""), file_of(b"")
    m.ask(SAVE, state, memory)
    assert m.count() == before > 0
    m.ask(RESUME)
    m.wait_for_rounds()
    m.quit()
    assert os.fstat(memory).st_size == MEMORY_MIB << 20

    child = machines(**how, ram=memory, incoming=state, restore=True)
    child.ask(RESUME)
    child.wait_for_rounds()
    check_confined(child, uid)
    child.ask(PAUSE)
    state, again = file_of(b""), file_of(b"")
    child.ask(SAVE, state, again)
    assert struct.unpack("<I", os.pread(again, 4, COUNT_AT))[0] > before
    assert child.count() == before, "a restored guest wrote into the shared memory file"
    child.quit()


def test_works_as_the_caller(machines):
    pause_save_restore(machines, os.geteuid())


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_works_under_a_uid_of_its_own(machines):
    pause_save_restore(machines, ENGINE_UID, options=("--uid", str(ENGINE_UID)))


@pytest.mark.skipif(not ROOT, reason="root is needed to become another user")
def test_works_as_an_ordinary_user(machines, public_stage):
    program = f"{public_stage}/libexec/berm/berm-vmm"
    pause_save_restore(machines, ORDINARY_UID, user=ORDINARY_UID, program=program)


@pytest.mark.skipif(not ROOT, reason="needs root, to look in")
def test_nothing_of_the_host_is_in_view(machines):
    m = machines(options=("--uid", str(ENGINE_UID)))
    m.wait_for_rounds()
    base = f"/proc/{m.process.pid}"
    assert os.listdir(f"{base}/root") == []
    for name in ("net", "ipc", "uts", "mnt", "cgroup"):
        assert os.readlink(f"{base}/ns/{name}") != os.readlink(f"/proc/self/ns/{name}"), name
    with open(f"{base}/net/dev", encoding="ascii") as f:
        assert [line.split(":")[0].strip() for line in f.readlines()[2:]] == ["lo"]
    m.quit()


# From here on a thread is taken over: a debugger puts a call of its choice in its way.

PTRACE_CONT, PTRACE_GETREGS, PTRACE_SETREGS, PTRACE_ATTACH = 7, 12, 13, 16
REGISTERS = ("r15 r14 r13 r12 rbp rbx r11 r10 r9 r8 rax rcx rdx rsi rdi orig_rax rip cs eflags "
             "rsp ss fs_base gs_base ds es fs gs").split()
SYSCALL_BYTES = 2
TAKE_OVER_TRIES, TAKE_OVER_SECONDS = 4, 5
WALL = 0x40000000  # waitpid() for threads as well


class Registers(ctypes.Structure):
    _fields_ = [(name, ctypes.c_ulonglong) for name in REGISTERS]


def ptrace(request, tid, data=None):
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    if libc.ptrace(request, tid, None, data) < 0:
        pytest.skip(f"ptrace: {os.strerror(ctypes.get_errno())}")


def wait_for_news(tid, seconds):
    """waitpid() of a thread, None when nothing happens to it for so long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pid, status = os.waitpid(tid, WALL | os.WNOHANG)
        if pid == tid:
            return status
        time.sleep(0.01)
    return None


def wait_for_end(tid):
    """Takes all news of a thread that was killed, down to its end."""
    try:
        status = wait_for_news(tid, SECONDS_MAX)
        while status is not None and os.WIFSTOPPED(status):
            status = wait_for_news(tid, SECONDS_MAX)
    except ChildProcessError:
        pass  # its end was told already


def take_over(m, tid, number, args):
    """Has a stopped thread that was in a call make another. What happened to it then."""
    registers = Registers()
    ptrace(PTRACE_GETREGS, tid, ctypes.byref(registers))
    if registers.orig_rax < 1 << 32:  # else it was on its way between two calls
        registers.rip -= SYSCALL_BYTES
        registers.rax, registers.orig_rax = number, 2**64 - 1
        for name, value in zip(("rdi", "rsi", "rdx", "r10"), args):
            setattr(registers, name, value)
        ptrace(PTRACE_SETREGS, tid, ctypes.byref(registers))
    ptrace(PTRACE_CONT, tid)
    return wait_for_news(tid, TAKE_OVER_SECONDS)  # a debugger is told first


def make_call(m, tid, number, *args):
    """The process's return code after a thread of it made a call that was put in its way. A stop can
    come at a moment that leaves the thread in its own call; then it is stopped once more."""
    ptrace(PTRACE_ATTACH, tid)
    m.traced = tid
    for _ in range(TAKE_OVER_TRIES):
        status = wait_for_news(tid, SECONDS_MAX)
        assert status is not None and os.WIFSTOPPED(status), "it does not stop"
        status = take_over(m, tid, number, args)
        if status is not None:
            break
        libc = ctypes.CDLL(None)
        libc.syscall(234, m.process.pid, tid, signal.SIGSTOP)  # tgkill
    assert status is not None and os.WIFSIGNALED(status), f"it goes on: {status}"
    if tid == m.process.pid:
        m.process.returncode = -os.WTERMSIG(status)
    return m.process.wait(timeout=SECONDS_MAX)


def waits_in(m, tid):
    with open(f"/proc/{m.process.pid}/task/{tid}/syscall", encoding="ascii") as f:
        words = f.read().split()
    return int(words[0]) if words[0].isdigit() else None


def thread_of(m, kind):
    """control is the main thread; I/O sleeps in epoll_wait, CPU 1 in KVM_RUN till it is started.
    A thread that KVM itself makes in a machine's process looks as if it was in that call as well."""
    if kind == "control":
        return m.process.pid
    calls = {"io": 232, "cpu": 16}  # epoll_wait, ioctl
    end = time.monotonic() + SECONDS_MAX
    while time.monotonic() < end:
        for tid, status in m.threads().items():
            own = tid != m.process.pid and not status["Name"].startswith("kvm-")
            if own and waits_in(m, tid) == calls[kind]:
                return tid
    raise AssertionError(f"no thread waits in call {calls[kind]}")


FORBIDDEN = {
    "socket": (41, socket.AF_UNIX, socket.SOCK_STREAM, 0),
    "open": (257, -100 & 2**64 - 1, CODE_AT, 0, 0),
    "fork": (57,),
    "code": (9, 0, 4096, 5, 0x22),
    "another filter": (317, 1, 0, 0),
}


@pytest.mark.skipif(not ROOT, reason="needs root, to debug what is not dumpable")
@pytest.mark.parametrize("kind", ["control", "io", "cpu"])
@pytest.mark.parametrize("call", FORBIDDEN)
def test_a_thread_that_was_taken_over_ends_the_machine(machines, kind, call):
    m = machines(options=("--uid", str(ENGINE_UID)))
    m.wait_for_rounds()
    tid = thread_of(m, kind)
    assert make_call(m, tid, *FORBIDDEN[call]) == -signal.SIGSYS
