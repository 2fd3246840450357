"""berm-vmm restored from state files made by hand out of a good one: each wrong is refused, in one
line that names what is wrong, before the guest runs; by exit code 125 and by nothing worse.

The good one is of a guest that has opened every device (open-everything of tests/hostile), so that
every queue has a place. See vmm/state.h for the file's shape.
"""

import os
import random
import struct
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "jail"))

import test_hostile_guest as hostile  # noqa: E402
import test_vmm_jail as vmm  # noqa: E402
from test_hostile_guest import hostile_kernel  # noqa: E402, F401
from test_vmm_jail import machines  # noqa: E402, F401

HEADER = struct.Struct("<8sHHIIIQ")
SECTION = struct.Struct("<4I")
HOST, MACHINE, VM, VCPU, MEMORY, WSET, DEVICE, END = range(1, 9)
CRITICAL = 1
SECONDS_MAX = 60
EXIT_REFUSED = 125
REFUSAL = "berm-vmm: the saved state "  # and why, in one line
DISK_SECTION = 2  # the scratch disk's slot
MAX32, MAX64 = 2**32 - 1, 2**64 - 1
RANDOM_FLIPS = 40
CUTS = 20


class State:
    """A state file taken apart: [type, flags, instance, payload], to be put together again."""

    def __init__(self, data):
        self.sections = []
        at = HEADER.size
        while at < len(data):
            kind, flags, instance, length = SECTION.unpack_from(data, at)
            at += SECTION.size
            self.sections.append([kind, flags, instance, bytearray(data[at:at + length])])
            at += (length + 7) // 8 * 8
        assert self.sections.pop()[0] == END

    def of(self, kind, instance=0):
        return next(s for s in self.sections if s[0] == kind and s[2] == instance)

    def payload(self, kind, instance=0):
        return self.of(kind, instance)[3]

    def put(self, **header):
        body = b""
        for kind, flags, instance, payload in [*self.sections, [END, CRITICAL, 0, b""]]:
            body += SECTION.pack(kind, flags, instance, len(payload)) + payload
            body += bytes(-len(payload) % 8)
        fields = {"magic": b"BERMSNAP", "major": 1, "minor": 0, "arch": 1, "flags": 0,
                  "count": len(self.sections), "total": HEADER.size + len(body), **header}
        return HEADER.pack(*fields.values()) + body


class Vcpu:
    """Where things lie in a CPU's payload: seven blobs, the TSC, MSRs, xsave."""

    def __init__(self, payload):
        self.blobs = {}
        at = 0
        for name in "mp regs sregs xcrs debug lapic events".split():
            length = struct.unpack_from("<I", payload, at)[0]
            self.blobs[name] = at + 4
            at += 4 + length
        self.tsc_khz = at
        self.msr_count = at + 12
        count = struct.unpack_from("<I", payload, self.msr_count)[0]
        self.msrs = self.msr_count + 4
        self.xsave = self.msrs + 12 * count


def put32(payload, at, value):
    struct.pack_into("<I", payload, at, value & MAX32)


def put64(payload, at, value):
    struct.pack_into("<Q", payload, at, value & MAX64)


def in_cpu(where, value, size=4, add=0):
    """A change of one number of CPU 0."""

    def change(s):
        payload = s.payload(VCPU)
        at = getattr(Vcpu(payload), where) + add
        (put32 if size == 4 else put64)(payload, at, value)

    return change


def in_blob(name, offset, value, size=8):
    def change(s):
        payload = s.payload(VCPU)
        at = Vcpu(payload).blobs[name] + offset
        (put32 if size == 4 else put64)(payload, at, value)

    return change


def in_section(kind, instance, at, value, size=4):
    def change(s):
        (put32 if size == 4 else put64)(s.payload(kind, instance), at, value)

    return change


def in_queue(slot, field, value, size=8, queue=0):
    """A device's registers are 44 bytes, a queue's 36: num, ready, three addresses, two indices."""
    offsets = {"num": 0, "ready": 4, "desc": 8, "driver": 16, "device": 24, "indices": 32}
    return in_section(DEVICE, slot, 44 + 36 * queue + offsets[field], value, size)


def without(kind, instance=0):
    return lambda s: s.sections.remove(s.of(kind, instance))


def with_section(kind, flags=CRITICAL, instance=0, payload=b""):
    return lambda s: s.sections.append([kind, flags, instance, bytearray(payload)])


def twice(kind, instance=0):
    return lambda s: s.sections.append(list(s.of(kind, instance)))


def cut(kind, instance, by):
    def change(s):
        section = s.of(kind, instance)
        section[3] = section[3][:-by] if by > 0 else section[3] + bytes(-by)

    return change


def swapped(kind, one, other):
    def change(s):
        a, b = s.of(kind, one), s.of(kind, other)
        a[2], b[2] = other, one

    return change


def cpuid_at(payload):
    """Where the count of CPUID entries lies: behind the kernel's release."""
    return 14 + struct.unpack_from("<H", payload, 12)[0]


def in_cpuid(leaf, register, value, add=False):
    def change(s):
        payload = s.payload(HOST)
        at = cpuid_at(payload)
        for i in range(struct.unpack_from("<I", payload, at)[0]):
            entry = at + 4 + 28 * i
            if struct.unpack_from("<I", payload, entry)[0] == leaf:
                place = entry + 12 + 4 * register
                old = struct.unpack_from("<I", payload, place)[0] if add else 0
                put32(payload, place, old | value)
                return
        raise AssertionError(f"no CPUID leaf {leaf:#x}")

    return change


def cpuid_count(value):
    return lambda s: put32(s.payload(HOST), cpuid_at(s.payload(HOST)), value)


def wset(*extents, count=None):
    data = struct.pack("<I", len(extents) if count is None else count)
    return with_section(WSET, payload=data + b"".join(struct.pack("<QII", *x) for x in extents))


PAGES = vmm.MEMORY_MIB << 8

# what is done to the good file, and words of the line that refuses it
DAMAGE = {
    "no-host": (without(HOST), "not whole"),
    "no-machine": (without(MACHINE), "not whole"),
    "no-chips": (without(VM), "not whole"),
    "no-cpu": (without(VCPU, 1), "CPU 1 is missing"),
    "no-console": (without(DEVICE, 0), "lacks the device of slot 0"),
    "no-balloon": (without(DEVICE, 4), "lacks the device of slot 4"),
    "two-hosts": (twice(HOST), "no saved machine"),
    "two-of-a-device": (twice(DEVICE, 3), "no saved machine"),
    "a-device-too-many": (with_section(DEVICE, instance=5), "device in slot 5"),
    "a-device-far-off": (with_section(DEVICE, instance=MAX32), "device in slot"),
    "a-cpu-too-many": (with_section(VCPU, instance=2), "CPU too many"),
    "a-cpu-far-off": (with_section(VCPU, instance=MAX32), "CPU too many"),
    "unknown-critical": (with_section(77), "another version"),
    "section-of-no-type": (with_section(0), "no saved machine"),
    "section-flags": (with_section(77, flags=2), "no saved machine"),
    "an-end-within": (with_section(END), "no saved machine"),
    "130-sections": (lambda s: [with_section(77, flags=0, instance=i)(s) for i in range(130)],
                     "no saved machine"),
    "cpus-0": (in_section(MACHINE, 0, 0, 0), "CPUs"),
    "cpus-3": (in_section(MACHINE, 0, 0, 3), "CPUs"),
    "cpus-many": (in_section(MACHINE, 0, 0, MAX32), "CPUs"),
    "memory-less": (in_section(MACHINE, 0, 4, 8 << 20, 8), "memory"),
    "memory-all": (in_section(MACHINE, 0, 4, MAX64, 8), "memory"),
    "machine-short": (cut(MACHINE, 0, 1), "damaged"),
    "machine-long": (cut(MACHINE, 0, -1), "damaged"),
    "chips-short": (cut(VM, 0, 1), "clock"),
    "chips-cut": (cut(VM, 0, 600), "interrupt chips"),
    "chips-long": (cut(VM, 0, -8), "clock"),
    "host-flags": (in_section(HOST, 0, 0, 2), "its host"),
    "host-all-features": (in_section(HOST, 0, 0, 1), "all features"),
    "host-release": (in_section(HOST, 0, 12, 0xffff), "its host"),
    "cpuid-none": (cpuid_count(0), "damaged"),
    "cpuid-one-more": (lambda s: cpuid_count(struct.unpack_from(
        "<I", s.payload(HOST), cpuid_at(s.payload(HOST)))[0] + 1)(s), "its host"),
    "cpuid-257": (cpuid_count(257), "its host"),
    "cpuid-many": (cpuid_count(MAX32), "its host"),
    "foreign-make": (in_cpuid(0, 1, 0x12345678), "another make"),
    "foreign-feature": (in_cpuid(1, 2, 1 << 5, add=True), "processor"),  # VMX
    "foreign-svm": (in_cpuid(0x80000001, 2, 1 << 2, add=True), "processor"),
    "foreign-avx512": (in_cpuid(7, 1, 1 << 16, add=True), "processor"),
    "foreign-hypervisor": (in_cpuid(0x40000000, 1, 0x7263694d), "name KVM"),
    "cpu-short": (cut(VCPU, 0, 1), "a CPU"),
    "cpu-long": (cut(VCPU, 0, -1), "a CPU"),
    "cpu-blob-longer": (in_blob("regs", -4, MAX32, 4), "a CPU"),
    "msrs-513": (in_cpu("msr_count", 513), "a CPU"),
    "msrs-all": (in_cpu("msr_count", MAX32), "a CPU"),
    "msrs-none": (in_cpu("msr_count", 0), "a CPU"),
    "msrs-one-more": (lambda s: in_cpu("msr_count", struct.unpack_from(
        "<I", s.payload(VCPU), Vcpu(s.payload(VCPU)).msr_count)[0] + 1)(s), "a CPU"),
    "msr-unknown": (in_cpu("msrs", 0x12345678), "MSR 0x12345678"),
    "msr-nested": (in_cpu("msrs", 0xc0010117), "MSR 0xc0010117"),
    "msr-smbase": (in_cpu("msrs", 0x9e), "MSR 0x9e"),
    "xsave-none": (in_cpu("xsave", 0), "a CPU"),
    "xsave-all": (in_cpu("xsave", MAX32), "a CPU"),
    "xsave-less": (in_cpu("xsave", 4095), "a CPU"),
    "xcrs-many": (in_blob("xcrs", 0, MAX32, 4), "a CPU"),
    "tsc-none": (in_cpu("tsc_khz", 0), "a CPU"),
    "tsc-fast": (in_cpu("tsc_khz", MAX32), "TSC"),
    "in-smm": (in_blob("events", 24, 1, 4), "a CPU"),
    "nested-efer": (in_blob("sregs", 264, 0x1d01), "a CPU"),  # with SVME
    "device-short": (cut(DEVICE, 3, 1), "virtio-rng"),
    "device-long": (cut(DEVICE, 3, -1), "virtio-rng"),
    "device-empty": (cut(DEVICE, 3, 1000), "virtio-rng"),
    "device-version": (in_section(DEVICE, 3, 0, 9), "version 9"),
    "device-type": (in_section(DEVICE, 3, 4, 2), "type 2"),
    "device-queues": (in_section(DEVICE, 3, 8, 6), "6 queues"),
    "device-swapped": (swapped(DEVICE, 3, 4), "device type 4"),
    "device-status": (in_section(DEVICE, 3, 12, 4), "status 0x4"),
    "device-status-bits": (in_section(DEVICE, 3, 12, MAX32), "status"),
    "device-features": (in_section(DEVICE, 3, 16, MAX64, 8), "features"),
    "device-old-features": (in_section(DEVICE, 3, 16, 0, 8), "features"),
    "device-isr": (in_section(DEVICE, 3, 36, 4), "interrupt status"),
    "queue-none": (in_queue(3, "num", 0, 4), "virtio-rng"),
    "queue-odd": (in_queue(3, "num", 3, 4), "virtio-rng"),
    "queue-large": (in_queue(3, "num", 0x10004, 4), "virtio-rng"),
    "queue-ready": (in_queue(3, "ready", 2, 4), "ready is 2"),
    "queue-outside": (in_queue(3, "desc", vmm.MEMORY_MIB << 20), "virtio-rng"),
    "queue-wraps": (in_queue(3, "driver", MAX64 - 1), "virtio-rng"),
    "queue-in-registers": (in_queue(3, "device", 0xd0000000), "virtio-rng"),
    "queue-odd-address": (in_queue(3, "desc", 0x400001), "virtio-rng"),
    "queue-indices": (in_queue(3, "indices", 0x00010002, 4), "indices 2 and 1"),
    "queue-ahead": (in_queue(3, "indices", 0x01000100, 4), "does not fit its rings"),
    "console-queue": (in_queue(0, "desc", MAX64, queue=5), "virtio-console"),
    "console-version": (in_section(DEVICE, 0, 44 + 6 * 36 + 4, 0xff), "console"),
    "console-sent": (in_section(DEVICE, 0, 44 + 6 * 36 + 8, MAX64, 8), "console"),
    "disk-larger": (in_section(DEVICE, DISK_SECTION, 44 + 36 + 4, MAX64, 8), "virtio-blk"),
    "disk-writable": (lambda s: s.payload(DEVICE, 1).__setitem__(-1, 0), "a writable disk"),
    "balloon-target": (in_section(DEVICE, 4, 44 + 3 * 36 + 4, MAX32), "virtio-balloon"),
    "own-length": (in_section(DEVICE, 4, 44 + 3 * 36, MAX32), "another length"),
    "wset-outside": (wset((PAGES, 1, 0)), "pages needed first"),
    "wset-over-the-end": (wset((PAGES - 1, 2, 1)), "pages needed first"),
    "wset-wraps": (wset((MAX64, 2, 1)), "pages needed first"),
    "wset-nothing": (wset((0, 0, 0)), "pages needed first"),
    "wset-backwards": (wset((9, 2, 0), (8, 1, 0)), "pages needed first"),
    "wset-overlap": (wset((8, 4, 0), (9, 1, 0)), "pages needed first"),
    "wset-flags": (wset((8, 4, 6)), "pages needed first"),
    "wset-count": (wset((8, 4, 0), count=MAX32), "pages needed first"),
    "wset-count-less": (wset((8, 4, 0), count=0), "pages needed first"),
}
HEADERS = {
    "magic": ({"magic": b"BERMSNAQ"}, "no saved machine"),
    "major": ({"major": 2}, "another version"),
    "arch": ({"arch": 2}, "no saved machine"),
    "flags": ({"flags": 1}, "no saved machine"),
    "count-0": ({"count": 0}, "no saved machine"),
    "count-less": ({"count": 5}, "no saved machine"),
    "count-all": ({"count": MAX32}, "no saved machine"),
    "total-0": ({"total": 0}, "no saved machine"),
    "total-all": ({"total": MAX64}, "no saved machine"),
}


@pytest.fixture(scope="module")
def good(stage, hostile_kernel):  # noqa: F811
    """(state, memory) of a guest that opened everything."""
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        pytest.skip("there is no /dev/kvm to use here")
    made = []

    def make(**more):
        made.append(vmm.Machine(f"{stage}/libexec/berm/berm-vmm", **more))
        return made[-1]

    a = hostile.Attack(make, hostile_kernel, "open-everything")
    try:
        assert a.watch(), a.read_log()
        assert a.report().state == hostile.DONE, str(a.report())
        a.m.ask(vmm.PAUSE)
        state, memory = vmm.file_of(b""), vmm.file_of(b"")
        a.m.ask(vmm.SAVE, state, memory)
        a.m.quit()
        yield os.pread(state, 8 << 20, 0), memory
    finally:
        a.m.end()


class Restore:
    """Restores machines from state files that are expected to be refused."""

    def __init__(self, stage, memory):
        self.program = f"{stage}/libexec/berm/berm-vmm"
        self.memory = memory

    def start(self, data, **more):
        log, writer = os.pipe()
        state = vmm.file_of(data)
        m = vmm.Machine(self.program, **{"ram": self.memory, "incoming": state, "restore": True, "log": writer, **more})
        os.close(writer)
        os.close(state)
        return m, log

    def refuse(self, data, words):
        m, log = self.start(data)
        try:
            code = m.process.wait(SECONDS_MAX)
        except subprocess.TimeoutExpired:
            pytest.fail("it is not refused")
        finally:
            m.end()
            with os.fdopen(log, "rb") as f:
                said = f.read().decode("ascii")
        assert code == EXIT_REFUSED, f"{code}: {said}"
        assert said.count("\n") == 1 and said.startswith(REFUSAL), said
        assert len(said) < 400, said
        if words is not None:
            assert words in said, said

    def survive(self, data):
        """Refused like the others, or let run: then it answers and ends when told."""
        m, log = self.start(data)
        try:
            m.ask(vmm.RESUME)
            m.ask(vmm.STATS)
            m.quit()
        except (AssertionError, OSError):
            code = m.process.wait(SECONDS_MAX)
            with os.fdopen(os.dup(log), "rb") as f:
                said = f.read().decode("ascii", "replace")
            assert code in (EXIT_REFUSED, 1), f"{code}: {said}"
            assert said.count("\n") <= 1 + 5 * 16, said
        finally:
            m.end()
            os.close(log)


@pytest.fixture
def restore(stage, good):
    return Restore(stage, good[1])


def test_the_good_one_is_taken(restore, good):
    state = State(good[0])
    assert state.put() == good[0], "the file is put together otherwise than it was"
    for change in (None, with_section(77, flags=0), wset((0, PAGES, 0)), wset((8, 1, 1))):
        s = State(good[0])
        if change:
            change(s)
        m, log = restore.start(s.put())
        try:
            m.ask(vmm.RESUME)
            m.quit()
        finally:
            m.end()
            os.close(log)


def test_a_copy_of_the_memory_is_all_of_it(restore, good):
    """--copied: what is saved at once is what was loaded, byte by byte, and the guest of it runs."""
    state, memory = vmm.file_of(b""), vmm.file_of(b"")
    m, log = restore.start(good[0], options=("--copied",))
    try:
        m.ask(vmm.SAVE, state, memory)
        size = os.fstat(good[1]).st_size
        assert os.pread(memory, size + 1, 0) == os.pread(good[1], size + 1, 0)
        m.ask(vmm.RESUME)
        m.ask(vmm.STATS)
        m.quit()
    finally:
        m.end()
        for fd in (log, state, memory):
            os.close(fd)


def test_a_copy_of_a_shorter_memory_is_refused(restore, good):
    short = vmm.file_of(b"", os.fstat(good[1]).st_size - 1)
    m, log = restore.start(good[0], options=("--copied",), ram=short)
    try:
        assert m.process.wait(SECONDS_MAX) == EXIT_REFUSED
    finally:
        m.end()
        os.close(short)
    with os.fdopen(log, "rb") as f:
        said = f.read()
    assert said.startswith(b"berm-vmm: the saved memory has fewer than ") and said.count(b"\n") == 1, said


@pytest.mark.parametrize("name", DAMAGE)
def test_damage_is_refused_by_name(restore, good, name):
    change, words = DAMAGE[name]
    s = State(good[0])
    change(s)
    restore.refuse(s.put(), words)


@pytest.mark.parametrize("name", HEADERS)
def test_headers_are_refused_by_name(restore, good, name):
    fields, words = HEADERS[name]
    restore.refuse(State(good[0]).put(**fields), words)


def test_every_section_is_refused_when_cut(restore, good):
    """At each section's ends and places between; every byte is the unit tests' (every_prefix)."""
    data = good[0]
    places = {0, 1, 31, 32, 33, len(data) - 1, len(data) - 8, len(data) - 16}
    at = HEADER.size
    for _, _, _, payload in State(data).sections:
        places |= {at, at + 15, at + 16, at + 16 + len(payload) // 2}
        at += SECTION.size + (len(payload) + 7) // 8 * 8
    places |= {random.Random(1).randrange(len(data)) for _ in range(CUTS)}
    for place in sorted(places):
        restore.refuse(data[:place], "no saved machine")
    restore.refuse(data + bytes(8), "no saved machine")
    restore.refuse(data + data, "no saved machine")
    restore.refuse(bytes(5 << 20), "over 4194304 bytes")


def test_flipped_bits_are_survived(restore, good):
    r = random.Random(2)
    for _ in range(RANDOM_FLIPS):
        data = bytearray(good[0])
        for _ in range(r.randrange(1, 4)):
            data[r.randrange(HEADER.size, len(data))] ^= 1 << r.randrange(8)
        restore.survive(bytes(data))
