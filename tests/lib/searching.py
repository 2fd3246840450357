"""Looking for a secret's value where it must not be: in bytes, in a process's memory, in files."""

import base64
import json
import os
import urllib.parse

PIECE = 16 << 20
OVERLAP = 256  # a value may lie across two pieces
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


def in_memory(pid, value):
    """Is it in a process's memory? Memory that cannot be read holds nothing for us either."""
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps, open(f"/proc/{pid}/mem", "rb", 0) as memory:
        for line in maps:
            fields = line.split()
            if "r" not in fields[1] or fields[-1] in NO_MEMORY:
                continue
            start, end = (int(x, 16) for x in fields[0].split("-"))
            tail = b""
            for at in range(start, end, PIECE):
                try:
                    memory.seek(at)
                    data = tail + memory.read(min(PIECE, end - at))
                except (OSError, ValueError, OverflowError):
                    break
                if value.encode() in data:
                    return True
                tail = data[-OVERLAP:]
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
