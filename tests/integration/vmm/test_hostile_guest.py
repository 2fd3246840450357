"""berm-vmm under a hostile kernel: tests/hostile, a guest of our own that does one attack at a time
on the registers, rings, devices and processor it is given (docs/internals/hostile-guests.md).

An attack checks by itself that each wrong was answered as it should be, and that every device works
for the driver that comes after. Here is judged what only the host can see: the monitor lives, answers
at once, has not grown, comes to rest, saves and ends as it is told; or the machine ended, for a
reason that says what the guest did.
"""

import ctypes
import glob
import hashlib
import os
import re
import select
import struct
import subprocess
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "jail"))

import bermtest  # noqa: E402
import test_vmm_jail as vmm  # noqa: E402
from test_vmm_jail import machines  # noqa: E402, F401

SOURCES = os.path.join(bermtest.TOP, "tests", "hostile")
FLAGS = """-std=gnu17 -O1 -Wall -Wextra -Werror -ffreestanding -nostdlib -static -no-pie -fno-pie
    -mno-red-zone -mgeneral-regs-only -fno-stack-protector -fcf-protection=none
    -fno-strict-aliasing -Wl,--build-id=none -Wl,-z,noexecstack -Wl,-z,max-page-size=4096
    -Wl,--no-warn-rwx-segments""".split()
END_FULL = 8  # vmm/vm.h
REPORT_AT, REPORT_MAGIC = 0x8000, 0x6D726562
REPORT = struct.Struct("<6I120s")  # struct report of tests/hostile/guest.h
RUNNING, DONE, FAILED = range(3)
DISK = 1 << 20
# a header that names a file of the host's as what lies below
QCOW2 = struct.pack(">4sIQIIQ", b"QFI\xfb", 2, 72, 9, 16, 1 << 30).ljust(72, b"\0") + b"/etc/motd"
ATTACK_SECONDS_MAX = 600  # in the test host everything takes ten times as long
PROCESSOR_SECONDS, FATAL_SECONDS = 10, 8
ANSWER_SECONDS_MAX = 15  # on a machine that is busy with other things
REST_SECONDS_MAX = 30  # from the attack's end to both processors' rest
GROWTH_KIB_MAX = 8 << 10  # the state buffer of a save (4 MiB), and stacks
IDLE_SHARE_MAX = 0.3  # of a CPU, when the guest has halted
LOG_BYTES_MAX = 64 << 10  # of the monitor's own words

# Those that go on to their own end; with how many MiB of memory, when not the usual.
SURVIVED = """mmio-every-register ports-some port-strings queue-sizes queue-addresses
    rings-at-the-end selectors frozen-registers features status-order kick-storm reset-storm
    reset-in-flight descriptors chain-lengths double-fetch blk-requests blk-ranges blk-short
    blk-other-format log-flood agent-flood control-garbage console-no-room rng-huge balloon-everything
    balloon-no-pages balloon-own-rings nothing cpuid-sweep exception-storm halt-for-ever ipi-nobody
    nmi-storm deadline-storm msr-sweep holes
    """.split()
# Those of instructions that a /dev/kvm which emulates the guest may not know: it gives up, or never
# comes back to the guest.
PROCESSOR = ["hypercalls", "nested", "interrupt-storm"]
# Ends that say where the processor stood.
TOLD_WHERE = ["triple-fault", "internal-error", "entry-failure"]
# Those that may end the machine, or leave it standing still: the reasons there may be.
FATAL = {
    "triple-fault": {"triple-fault", "internal-error"},  # the latter where KVM is emulated
    "ud2-without-table": {"triple-fault", "internal-error"},
    "exec-registers": {"internal-error", "triple-fault", "host-error"},
    "exec-hole": {"internal-error", "triple-fault", "host-error"},
    "stack-in-registers": {"internal-error", "triple-fault", "host-error"},
    "tables-in-registers": {"internal-error", "triple-fault", "host-error"},
    # the other processor starts at each page below 1 MiB, and does what it finds there
    "startup-storm": {"internal-error", "triple-fault", "host-error"},
    "init-self": {"internal-error", "triple-fault", "host-error"},
    "smi": {"internal-error", "triple-fault", "host-error"},
    "smi-lost": {"internal-error", "triple-fault", "host-error"},
    "balloon-suicide": {"internal-error", "triple-fault", "host-error", "entry-failure"},
}


@pytest.fixture(scope="session")
def hostile_kernel(tmp_path_factory):
    """The guest as a file, built as it stands in the tree."""
    target = tmp_path_factory.mktemp("hostile") / "guest"
    sources = sorted(glob.glob(f"{SOURCES}/*.[cS]"))
    subprocess.run(["gcc", *FLAGS, f"-Wl,-T,{SOURCES}/guest.ld", "-o", target, *sources], check=True)
    return vmm.file_of(target.read_bytes())


class Report:
    def __init__(self, ram):
        words = REPORT.unpack(os.pread(ram, REPORT.size, REPORT_AT))
        self.magic, self.state, self.steps, self.faults, self.interrupts, self.broken = words[:6]
        self.text = words[6].split(b"\0")[0].decode("ascii", "replace")

    def __str__(self):
        return (f"state {self.state}, {self.steps} steps, {self.faults} faults, "
                f"{self.interrupts} interrupts, {self.broken} broken: {self.text}")


class Attack:
    """One machine with the hostile guest in it, and what of it is measured."""

    def __init__(self, machines, kernel, name, memory_mib=vmm.MEMORY_MIB, cpus=2,  # noqa: F811
                 scratch=None):
        self.name = name
        self.image = os.memfd_create("image")
        os.write(self.image, os.urandom(DISK))
        self.scratch = vmm.file_of(QCOW2, DISK) if scratch is None else scratch
        self.image_hash = self.hash_of_image()
        self.log, log = os.pipe2(os.O_NONBLOCK)
        self.m = machines(
            ram=vmm.file_of(b"", memory_mib << 20), incoming=os.dup(kernel), cpus=cpus,
            memory_mib=memory_mib, cmdline=f"attack={name}", log=log,
            files={vmm.IMAGE: self.image, vmm.SCRATCH: self.scratch})
        os.close(log)
        self.words = b""

    def hash_of_image(self):
        return hashlib.sha256(os.pread(self.image, 2 * DISK, 0)).digest()

    def status(self, name):
        with open(f"/proc/{self.m.process.pid}/status", encoding="ascii") as f:
            return next(int(line.split()[1]) for line in f if line.startswith(f"{name}:"))

    def fds(self):
        return sorted(os.listdir(f"/proc/{self.m.process.pid}/fd")) if vmm.ROOT else []

    def cpu_seconds(self):
        with open(f"/proc/{self.m.process.pid}/stat", encoding="ascii") as f:
            words = f.read().rsplit(")", 1)[1].split()
        return (int(words[11]) + int(words[12])) / os.sysconf("SC_CLK_TCK")

    def report(self):
        return Report(self.m.ram)

    def answer(self):
        """It answers, and at once. False: it has ended."""
        began = time.monotonic()
        try:
            self.m.ask(vmm.STATS)
        except (AssertionError, OSError):
            return False
        assert time.monotonic() - began < ANSWER_SECONDS_MAX, "it took its time to answer"
        return True

    def watch(self):
        """Until the attack is over or the machine has ended. False: ended."""
        end = time.monotonic() + ATTACK_SECONDS_MAX
        while self.report().state == RUNNING:
            assert time.monotonic() < end, f"no end of it: {self.report()}"
            if not self.answer():
                return False
            time.sleep(0.01)
        return True

    def read_log(self):
        while select.select([self.log], [], [], 0)[0]:
            got = os.read(self.log, 65536)
            if not got:
                break
            self.words += got
        return self.words.decode("ascii", "replace")

    def busiest(self):
        """The ticks each thread has used, by name, most first."""
        used = []
        for task in glob.glob(f"/proc/{self.m.process.pid}/task/*/stat"):
            with open(task, encoding="ascii") as f:
                name, words = f.read().split("(", 1)[1].rsplit(")", 1)
            used.append((int(words.split()[11]) + int(words.split()[12]), name))
        return sorted(used, reverse=True)

    def expect_rest(self):
        """A guest that has halted costs nothing, once its other processor has halted as well."""
        end = time.monotonic() + REST_SECONDS_MAX
        while True:
            began, used = time.monotonic(), self.cpu_seconds()
            time.sleep(0.5)
            share = (self.cpu_seconds() - used) / (time.monotonic() - began)
            if share < IDLE_SHARE_MAX:
                return
            assert time.monotonic() < end, f"it spins: {share:.0%} of a CPU; {self.busiest()}"

    def expect_save(self):
        self.m.ask(vmm.PAUSE)
        fds = vmm.file_of(b""), vmm.file_of(b"")
        self.m.ask(vmm.SAVE, *fds)
        assert os.fstat(fds[0]).st_size > 0
        for fd in fds:
            os.close(fd)
        self.m.ask(vmm.RESUME)

    def expect_disks(self):
        assert self.hash_of_image() == self.image_hash, "the read-only disk was written"
        assert os.fstat(self.image).st_size == os.fstat(self.scratch).st_size == DISK

    def close(self):
        for fd in (self.image, self.scratch, self.log, self.m.ram):
            os.close(fd)


def expect_survival(a, rest=True):
    assert a.answer()
    memory, fds, threads = a.status("RssAnon"), a.fds(), a.status("Threads")
    assert a.watch(), f"the machine ended: {a.read_log()}"
    report = a.report()
    assert report.state == DONE, str(report)
    assert report.magic == REPORT_MAGIC and report.steps > 0, "nothing was tried"
    if rest:
        a.expect_rest()
    a.expect_save()
    assert a.status("RssAnon") < memory + GROWTH_KIB_MAX
    assert a.fds() == fds
    assert a.status("Threads") <= threads + 8  # the disks' rings have up to four workers each
    a.m.quit()
    a.expect_disks()
    words = a.read_log()
    assert "Sanitizer" not in words and "assert" not in words.lower(), words
    assert len([w for w in words.splitlines() if "berm-vmm" in w]) <= 5 * 16  # VIRTIO_BROKEN_LINES
    a.close()


@pytest.mark.parametrize("name", SURVIVED)
def test_the_monitor_goes_on(machines, hostile_kernel, name):  # noqa: F811
    expect_survival(Attack(machines, hostile_kernel, name))


@pytest.mark.parametrize("name", ["holes", "chain-lengths", "mmio-every-register"])
def test_with_memory_above_4_gib(machines, hostile_kernel, name):  # noqa: F811
    expect_survival(Attack(machines, hostile_kernel, name, memory_mib=3136))


def test_spin(machines, hostile_kernel):  # noqa: F811
    expect_survival(Attack(machines, hostile_kernel, "spin"), rest=False)


def expect_end(a, reasons):
    """The machine has ended, and said why."""
    words = a.read_log()
    assert a.m.process.wait(vmm.SECONDS_MAX) == 1, words
    said = [w for w in words.splitlines() if "the guest's machine stopped (" in w]
    assert len(said) == 1, words
    reason = said[0].split("stopped (")[1].split(")")[0]
    assert reason in reasons, said
    if reason in TOLD_WHERE:
        assert re.search(r" after \d+ exits(, with registers that KVM has reset| at rip 0x\w+ rsp )", said[0]), said
    a.close()


def run_for(a, seconds):
    """Until it is done, has ended or has had its time."""
    end = time.monotonic() + seconds
    while a.m.process.poll() is None and time.monotonic() < end and a.report().state == RUNNING:
        time.sleep(0.02)
    assert a.report().state != FAILED, str(a.report())


def expect_obedience(a):
    """Wherever the guest is: it can be asked, paused, saved and told to end."""
    assert a.answer()
    a.expect_save()
    a.m.quit()
    a.expect_disks()
    a.close()


@pytest.mark.parametrize("name", PROCESSOR)
def test_instructions(machines, hostile_kernel, name):  # noqa: F811
    a = Attack(machines, hostile_kernel, name)
    run_for(a, PROCESSOR_SECONDS)
    if a.m.process.poll() is None:
        expect_obedience(a)
    else:
        expect_end(a, {"internal-error"})


@pytest.mark.parametrize("name", FATAL)
def test_the_machine_ends_with_its_reason(machines, hostile_kernel, name):  # noqa: F811
    """Or it stands still, where KVM lets it."""
    a = Attack(machines, hostile_kernel, name)
    run_for(a, FATAL_SECONDS)
    if a.m.process.poll() is None:
        assert name not in ("triple-fault", "ud2-without-table"), "it goes on"
        expect_obedience(a)
    else:
        expect_end(a, FATAL[name])


def small_file():
    """Of DISK bytes, where there is room for a sixteenth: a file system that is mounted nowhere."""
    libc = ctypes.CDLL(None, use_errno=True)
    fs = libc.syscall(430, b"tmpfs", 0)  # fsopen
    if fs < 0:
        pytest.skip(f"a file system of its own: {os.strerror(ctypes.get_errno())}")
    size = str(DISK // 16).encode()
    assert libc.syscall(431, fs, 1, b"size", size, 0) == 0  # fsconfig: a string
    assert libc.syscall(431, fs, 6, None, None, 0) == 0  # and make it
    top = libc.syscall(432, fs, 0, 0)  # fsmount
    assert top >= 0
    os.close(fs)
    fd = os.open("disk", os.O_RDWR | os.O_CREAT, 0o666, dir_fd=top)
    os.close(top)
    os.ftruncate(fd, DISK)
    return fd


@pytest.mark.skipif(not vmm.ROOT, reason="needs root, to mount")
def test_the_host_has_no_room_for_its_disk(machines, hostile_kernel):  # noqa: F811
    """The machine ends at once and says it where no guest can: on the control socket."""
    a = Attack(machines, hostile_kernel, "blk-full", scratch=small_file())
    kind, version, length, _, _, _, reason, *_ = struct.unpack("<BBHIiI6Q", a.m.control.recv(512)[:64])
    assert (kind, version, reason) == (vmm.ENDED, 1, END_FULL)
    assert length > 0 and 2 < a.report().steps < 2 * DISK // 16 // 4096
    a.m.process.wait(vmm.SECONDS_MAX)
    expect_end(a, {"disk-full"})
