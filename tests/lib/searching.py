"""Looking for a secret's value where it must not be: in bytes, in a process's memory, in files."""

import base64
import contextlib
import ctypes
import json
import os
import urllib.parse

PIECE = 16 << 20
OVERLAP = 256  # a value may lie across two pieces
LIBC = ctypes.CDLL(None, use_errno=True)
NO_MEMORY = ("[vvar]", "[vsyscall]", "[vvar_vclock]")


def forms(value):
    """The ways a value could leak into bytes."""
    raw = value.encode()
    found = {raw, raw.hex().encode(), raw.hex().upper().encode(), urllib.parse.quote(value, safe="").encode(),
             json.dumps(value)[1:-1].encode(), raw[::-1]}
    for pad in range(3):
        inner = base64.b64encode(b"\0" * pad + raw + b"\0" * 2)
        found.add(inner[4 if pad else 0 : len(inner) - 8])
    return {f for f in found if len(f) >= 12}


def seen_in(data, value):
    return [f for f in forms(value) if f in data]


def arguments(pid):
    """The arguments of a process, and its environment if that may be seen: of jailed ones by root alone."""
    found = b""
    for what in ("cmdline", "environ"):
        with contextlib.suppress(PermissionError if os.geteuid() else FileNotFoundError):
            with open(f"/proc/{pid}/{what}", "rb") as f:
                found += f.read()
    assert found
    return found


class Range(ctypes.Structure):
    _fields_ = [("at", ctypes.c_void_p), ("bytes", ctypes.c_size_t)]


def memory_of(pid, at, size):
    """process_vm_readv(2): the owner of a user namespace may do that, while /proc/PID/mem is root's alone."""
    room = ctypes.create_string_buffer(size)
    ours, theirs = Range(ctypes.addressof(room), size), Range(at, size)
    got = LIBC.process_vm_readv(pid, ctypes.byref(ours), 1, ctypes.byref(theirs), 1, 0)
    return ctypes.string_at(room, max(0, got))


def in_memory(pid, value):
    """Is it in a process's memory? Some part of that has to be readable; what is not holds nothing for us either."""
    total = 0
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        ranges = [line.split() for line in maps]
    for fields in ranges:
        if "r" not in fields[1] or fields[-1] in NO_MEMORY:
            continue
        start, end = (int(x, 16) for x in fields[0].split("-"))
        tail = b""
        while start < end:
            data = memory_of(pid, start, min(PIECE, end - start))
            if not data:
                break
            if value.encode() in tail + data:
                return True
            start, total, tail = start + len(data), total + len(data), data[-OVERLAP:]
    assert total > 0, f"nothing of the memory of process {pid} can be read"
    return False


def files_below(folder):
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if os.path.isfile(path) and not os.path.islink(path) and "/images/" not in path:
                yield path


def in_file(path, value):
    """Is it in a file, whose holes are passed over?"""
    fd = os.open(path, os.O_RDONLY)
    try:
        at, size = 0, os.fstat(fd).st_size
        while at < size:
            try:
                at = os.lseek(fd, at, os.SEEK_DATA)
            except OSError:
                return False
            end = os.lseek(fd, at, os.SEEK_HOLE)
            while at < end:
                data = os.pread(fd, min(PIECE, end - at), at)
                if value.encode() in data:
                    return True
                at += max(1, len(data) - OVERLAP) if len(data) == PIECE else len(data)
        return False
    finally:
        os.close(fd)
