"""berm-vmm's control socket under one who does not keep to vmm/ctl.h: a packet that is none ends the
machine with one line; a request that cannot be is answered with why, and the machine goes on. It is
trusted, and still checked: a supervisor that was taken over must not gain the monitor's memory.
"""

import errno
import os
import socket
import struct
import sys

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), os.pardir, "jail"))

import test_vmm_jail as vmm  # noqa: E402
from test_vmm_jail import machines  # noqa: E402, F401

BYTES, TEXT = 256, 192
BALLOON, TOUCHED = 5, 7
MAX64 = 2**64 - 1
BROKEN = "broke the protocol"
FLOOD = 20000


def packet(kind, version=1, text_len=0, seq=7, code=0, zero=0, numbers=(0,) * 6, text=b""):
    head = struct.pack("<BBHIiI6Q", kind, version, text_len, seq, code, zero, *numbers)
    return head + text.ljust(TEXT, b"\0")


def answer_of(got):
    """(code, text) of a CTL_DONE."""
    kind, _, length, _, code, _, *_ = struct.unpack("<BBHIiI6Q", got[:64])
    assert len(got) == BYTES and kind == vmm.DONE
    return code, got[64:64 + length].decode()


NO_PACKETS = {
    "short": packet(vmm.STATS)[:-1],
    "one-byte": b"\4",
    "long": packet(vmm.STATS) + b"\0",
    "very-long": packet(vmm.STATS) + bytes(60000),
    "version": packet(vmm.STATS, version=2),
    "type-0": packet(0),
    "type-15": packet(15),
    "type-255": packet(255),
    "an-answer-with-code": packet(vmm.DONE, code=1),
    "code": packet(vmm.STATS, code=-1),
    "zero": packet(vmm.STATS, zero=1),
    "text": packet(vmm.STATS, text_len=3, text=b"abc"),
    "text-without-length": packet(vmm.STATS, text=b"abc"),
    "text-length": packet(vmm.STATS, text_len=0xffff),
    "number": packet(vmm.STATS, numbers=(1, 0, 0, 0, 0, 0)),
    "last-number": packet(BALLOON, numbers=(0, 0, 0, 0, 0, 1)),
}


@pytest.fixture
def running(machines):  # noqa: F811
    """A machine that runs, and the fd its words can be read from."""
    log, writer = os.pipe()
    m = machines(log=writer)
    os.close(writer)
    m.wait_for_rounds()
    yield m, log
    os.close(log)


def send(m, data, fds=()):
    socket.send_fds(m.control, [data], list(fds))
    return answer_of(m.control.recv(512))


@pytest.mark.parametrize("name", NO_PACKETS)
def test_what_is_no_request_ends_the_machine(running, name):
    m, log = running
    m.control.send(NO_PACKETS[name])
    assert m.process.wait(vmm.SECONDS_MAX) == 1
    words = os.read(log, 65536).decode()
    assert words.count("\n") == 1 and BROKEN in words, words


def test_what_berm_vmm_says_is_nothing_to_ask(running):
    m, _ = running
    for kind in (vmm.DONE, vmm.ENDED):
        seq = 7 if kind == vmm.DONE else 0
        code, text = send(m, packet(kind, seq=seq))
        assert code == -errno.EINVAL and "not known" in text
    m.quit()


def test_requests_out_of_order(running):
    m, _ = running
    state = vmm.file_of(b"")
    code, text = send(m, packet(vmm.SAVE), [state])
    assert code == -errno.EINVAL and "pause it first" in text
    code, text = send(m, packet(vmm.SAVE))
    assert code == -errno.EINVAL and "needs an fd" in text
    code, text = send(m, packet(TOUCHED))
    assert code == -errno.EINVAL and "needs an fd" in text
    for _ in range(3):
        m.ask(vmm.PAUSE)
    for _ in range(3):
        m.ask(vmm.RESUME)
    m.wait_for_rounds()
    os.close(state)
    m.quit()


def own_fds(m):
    return sorted(os.listdir(f"/proc/{m.process.pid}/fd"))


@pytest.mark.skipif(not vmm.ROOT, reason="needs root, to look in")
def test_fds_that_are_no_files(running):
    """What cannot be written to is said, what nobody asked for is closed."""
    m, _ = running
    before = own_fds(m)
    reader, writer = os.pipe()
    null = os.open("/dev/null", os.O_RDONLY)
    m.ask(vmm.PAUSE)
    for fd in (reader, null, m.agent.fileno()):
        if fd != m.agent.fileno():
            code, text = send(m, packet(vmm.SAVE), [fd])
            assert code < 0 and text, text
        for kind in (vmm.STATS, vmm.PAUSE, BALLOON):
            assert send(m, packet(kind), [fd, fd])[0] == 0
            assert send(m, packet(kind), [fd] * 40)[0] == 0
    m.ask(vmm.RESUME)
    assert own_fds(m) == before
    for fd in (reader, writer, null):
        os.close(fd)
    m.quit()


def test_a_balloon_of_any_size(running):
    m, _ = running
    for pages in (0, 1, 2**31, 2**32 - 1, 2**32, MAX64):
        assert send(m, packet(BALLOON, numbers=(pages, 0, 0, 0, 0, 0)))[0] == 0
    m.wait_for_rounds()
    m.quit()


def test_answers_that_nobody_takes(running):
    """It stops taking requests, and its guest goes on; once they are taken, so does it."""
    m, _ = running
    m.control.setblocking(False)
    sent = 0
    try:
        for sent in range(FLOOD):
            m.control.send(packet(vmm.STATS, seq=sent))
    except BlockingIOError:
        pass
    assert 0 < sent < FLOOD - 1, "it buffers without end"
    rounds = m.count()
    m.control.setblocking(True)
    m.control.settimeout(vmm.SECONDS_MAX)
    for _ in range(sent):
        assert answer_of(m.control.recv(512))[0] == 0
    assert m.count() >= rounds
    m.quit()


def test_a_starter_that_goes_is_an_end(running):
    m, log = running
    m.control.close()
    assert m.process.wait(vmm.SECONDS_MAX) == 0
    assert os.read(log, 4096) == b""
