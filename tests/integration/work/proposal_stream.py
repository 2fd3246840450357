"""Streams of proposals as a guest's agent writes them, and any that it never would.

Written from docs/internals/proposal.md, not from the C code: what both agree on is the form.
"""

import hashlib

BLOCK = 512
END = ".berm-end"


def octal(value, digits):
    return b"%0*o\0" % (digits, value)


def padded(data):
    return data + bytes(-len(data) % BLOCK)


def header(kind, mode, size, name, target=b"", **fields):
    """One block; fields replace bytes at an offset: at_124=b"..."."""
    block = bytearray(BLOCK)
    parts = {
        0: name[:100],
        100: octal(mode, 7),
        108: octal(0, 7),
        116: octal(0, 7),
        124: octal(size if size < 8**11 else 0, 11),
        136: octal(0, 11),
        156: kind,
        157: target[:100],
        257: b"ustar\x0000",
    }
    parts.update({int(key[3:]): value for key, value in fields.items()})
    for at, data in parts.items():
        block[at : at + len(data)] = data
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def record(key, value):
    rest = b" " + key.encode() + b"=" + value + b"\n"
    size = len(rest) + 1
    while len(b"%d" % size) + len(rest) != size:
        size += 1
    return b"%d" % size + rest


def encoded(value):
    if isinstance(value, int):
        return b"%d" % value
    return value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value


class Stream:
    """What was added so far; whole() ends it."""

    def __init__(self, root=True, version=1, **marks):
        self.data = bytearray()
        self.entries = 0
        if root:
            self.dir(".", **{"BERM.version": version, **marks})

    def add(self, kind, mode, path, records, content=b"", target="", **fields):
        body = b"".join(record(key, encoded(value)) for key, value in records.items())
        self.data += header(b"x", 0o644, len(body), b".berm-pax") + padded(body)
        self.data += header(kind, mode, len(content), encoded(path), encoded(target), **fields)
        self.data += padded(content)
        self.entries += 1
        return self

    def dir(self, path, mode=0o755, **records):
        return self.add(b"5", mode, path, {"path": path, "mtime": "1700000000.000000001", **records})

    def file(self, path, content=b"", mode=0o644):
        content = encoded(content)
        records = {"path": path, "mtime": "1700000000.000000000", "size": len(content)}
        return self.add(b"0", mode, path, records, content)

    def sparse(self, path, size, extents):
        """extents: (offset, bytes) pairs."""
        content = b"".join(data for _, data in extents)
        spans = ";".join(f"{off},{len(data)}" for off, data in extents)
        records = {
            "path": path,
            "mtime": "1700000000.000000000",
            "size": len(content),
            "BERM.size": size,
            "BERM.sparse": f"{len(extents)}:{spans}",
        }
        return self.add(b"0", 0o600, path, records, content)

    def link(self, path, target):
        records = {"path": path, "mtime": "1700000000.000000000", "linkpath": target}
        return self.add(b"2", 0, path, records, target=target)

    def whiteout(self, path):
        return self.add(b"0", 0, path, {"path": path, "BERM.whiteout": 1})

    def other(self, path, why):
        return self.add(b"0", 0, path, {"path": path, "BERM.skipped": why})

    def whole(self, entries=None):
        digest = hashlib.sha256(self.data).hexdigest()
        count = self.entries if entries is None else entries
        records = {"path": END, "BERM.entries": count, "BERM.sha256": digest}
        return bytes(Stream.end_of(self, records)) + bytes(2 * BLOCK)

    @staticmethod
    def end_of(stream, records):
        copy = Stream(root=False)
        copy.data = bytearray(stream.data)
        copy.add(b"0", 0, END, records)
        return copy.data
