#!/usr/bin/python3 -ISu
"""Stands in for berm-qemu: no guest, only whatever plays its agent on fd 3.

What to play is Python in `behaviour.py` beside this file; it finds the names below. The end of the
script leaves the machine running and silent, until the supervisor ends it.
"""

import os
import struct
import time

PORT = 3
MAGIC = 0xB37E
VERSION = 4
IN, OUT, ERR = 0, 1, 2
NO_PATHS = bytes(4)  # of an IDENTITY_OK: no certificate
here = os.path.dirname(os.path.abspath(__file__))
epoch = 1

for line in open(os.path.join(here, "wire_types")):
    name, number = line.split()
    globals()[name] = int(number)


def frame(type_, stream=0, channel=0, payload=b"", epoch_=None, magic=MAGIC, length=None):
    head = struct.pack(
        "<HBBIII", magic, type_, channel, stream, epoch if epoch_ is None else epoch_,
        len(payload) if length is None else length,
    )
    return head + payload


def send(data):
    view = memoryview(data)
    while view:
        view = view[os.write(PORT, view) :]


def say(*args, **more):
    if args == (IDENTITY_OK,) and "payload" not in more:
        more["payload"] = NO_PATHS
    send(frame(*args, **more))


def exactly(n):
    got = b""
    while len(got) < n:
        more = os.read(PORT, n - len(got))
        if not more:
            raise SystemExit
        got += more
    return got


def receive(*types):
    """The next frame of these types, or of any: (type, stream, channel, payload)."""
    while True:
        _, type_, channel, stream, _, length = struct.unpack("<HBBIII", exactly(16))
        payload = exactly(length)
        if not types or type_ in types:
            return type_, stream, channel, payload


def str16(text):
    return struct.pack("<H", len(text)) + text


def hello(version=VERSION):
    return frame(HELLO, payload=struct.pack("<II", version, 0) + str16(b"fake") + str16(b"6.12"))


def fail(code, stage, text=b""):
    return struct.pack("<IB", code, stage) + str16(text)


def exit_payload(value, signaled=0):
    return struct.pack("<BIQQQ", signaled, value, 1, 2, 3)


def u32(n):
    return struct.pack("<I", n)


def boot():
    send(hello())
    receive(IDENTITY)
    say(IDENTITY_OK)


def start():
    """Boots and starts the main command, which is stream 1."""
    boot()
    receive(EXEC)
    say(EXEC_OK, 1, payload=u32(42))


def end(value=0):
    say(EXIT, 1, payload=exit_payload(value))


def log(data):
    os.write(1, data)


def mark(name):
    """Leaves a file beside this one, for the test to wait for."""
    with open(os.path.join(here, name), "w"):
        pass


def silent():
    time.sleep(1000)


exec(compile(open(os.path.join(here, "behaviour.py")).read(), "behaviour.py", "exec"))
silent()
