"""berm-vmm under guests that are lists of stores: every register, every seventh port, and random
ones over registers and rings, while it is paused, saved and fed from outside. Whatever they store,
the monitor answers, does not grow, and ends only when told to.
"""

import os
import random
import struct
import sys
import time

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "jail"))

import test_vmm_jail as vmm  # noqa: E402
from test_vmm_jail import machines  # noqa: E402, F401

BUS, WINDOW, SLOTS = 0xD0000000, 0x1000, 5
DATA_AT, RINGS_AT, RING_BYTES = 0x880000, 0x820000, 0x4000
SEEDS = range(8)
SECONDS = 1.0  # of each
GROWTH_KIB_MAX = 16 << 10  # the state buffer of a save, and stacks
VALUES = [0, 1, 2, 3, 4, 7, 8, 11, 15, 64, 128, 256, 0xFFFF, 0x10000, RINGS_AT, DATA_AT,
          0x80000000, 0x00FFF000, 0xFFFFFFFF]
REGISTERS = [0x14, 0x20, 0x24, 0x30, 0x38, 0x44, 0x50, 0x64, 0x70, 0x80, 0x84, 0x90, 0x94, 0xA0,
             0xA4, 0x100, 0x104]


def store(address, value):
    return b"\xc7\x05" + struct.pack("<II", address, value)


def store_byte(address, value):
    return b"\xc6\x05" + struct.pack("<IB", address, value)


def load(address):
    return b"\xa1" + struct.pack("<I", address)


def out(port, value):
    return b"\x66\xba" + struct.pack("<H", port) + b"\xb0" + bytes([value]) + b"\xee"


def for_ever(code):
    return code + b"\xe9" + struct.pack("<i", -len(code) - 5)


def set_up(slot, queues, places, features):
    """What a driver does, up to DRIVER_OK: features are the low half, VERSION_1 comes along."""
    at = BUS + slot * WINDOW
    pairs = [(0x70, 0), (0x70, 1), (0x70, 3), (0x24, 1), (0x20, 1), (0x24, 0), (0x20, features),
             (0x70, 11)]
    for q in range(queues):
        rings = RINGS_AT + q * RING_BYTES
        pairs += [(0x30, q), (0x38, places), (0x80, rings), (0x90, rings + 0x1000),
                  (0xA0, rings + 0x2000), (0x44, 1)]
    return b"".join(store(at + off, value) for off, value in [*pairs, (0x70, 15)])


def random_access(r, slot):
    kind = r.random()
    if kind < 0.4:
        return store(BUS + slot * WINDOW + r.choice(REGISTERS), r.choice(VALUES))
    if kind < 0.5:
        return store(BUS + r.randrange(0, 8 * WINDOW, 4), r.getrandbits(32))
    if kind < 0.55:
        return store_byte(BUS + r.randrange(8 * WINDOW), r.getrandbits(8))
    if kind < 0.9:
        at = RINGS_AT + r.randrange(0, 6 * RING_BYTES, 4)
        return store(at, r.choice([*VALUES, r.getrandbits(32)]))
    port = r.randrange(0x70, 65536)  # above the keyboard's, which resets
    return load(BUS + r.randrange(0, 8 * WINDOW, 4)) + out(port, r.getrandbits(8))


def random_guest(seed):
    r = random.Random(seed)
    code = b""
    for _ in range(60):
        slot = r.randrange(SLOTS)
        if r.random() < 0.5:
            features = r.choice([0, 0x20000000, 0xFFFFFFFF])
            code += set_up(slot, r.randrange(1, 7), r.choice([1, 2, 4, 16, 64]), features)
        code += b"".join(random_access(r, slot) for _ in range(12))
    return for_ever(code)


def dirty_kib(m):
    """Memory of its own, without the guest's: that is a shared file."""
    with open(f"/proc/{m.process.pid}/smaps_rollup", encoding="ascii") as f:
        return next(int(line.split()[1]) for line in f if line.startswith("Private_Dirty:"))


def press(m, r):
    """One round from outside."""
    m.ask(vmm.STATS)
    for move in (lambda: m.agent.send(bytes(5000)), lambda: m.agent.recv(65536)):
        try:
            move()
        except BlockingIOError:
            pass
    if r.random() < 0.2:
        m.ask(vmm.PAUSE)
        if r.random() < 0.5:
            fds = vmm.file_of(b""), vmm.file_of(b"")
            m.ask(vmm.SAVE, *fds)
            for fd in fds:
                os.close(fd)
        m.ask(vmm.RESUME)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to see the memory of what is jailed")
@pytest.mark.parametrize("seed", SEEDS)
def test_random_stores(machines, seed):  # noqa: F811
    m = machines(incoming=vmm.file_of(vmm.kernel(random_guest(seed))))
    m.agent.setblocking(False)
    r = random.Random(seed)
    press(m, r)
    before = dirty_kib(m)
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        press(m, r)
        assert dirty_kib(m) < before + GROWTH_KIB_MAX
        time.sleep(0.01)
    m.quit()


def test_every_register_and_many_ports(machines):  # noqa: F811
    code = b""
    for value in (0, 0xFFFFFFFF):
        for off in range(0, (SLOTS + 1) * WINDOW, 4):
            code += store(BUS + off, value) + load(BUS + off)
    for port in range(0x70, 65536, 7):
        code += out(port, 0xFF)
    m = machines(incoming=vmm.file_of(vmm.kernel(code + b"\xeb\xfe")))
    end = time.monotonic() + vmm.SECONDS_MAX
    while m.ask(vmm.STATS)[2] < 65536 // 7 - 20:  # exits for ports: it is nearly through
        assert time.monotonic() < end
        time.sleep(0.05)
    m.quit()
