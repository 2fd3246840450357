"""What arrived at the servers, byte for byte, numbered in the order it came."""

import base64
import collections
import hashlib
import threading
import time

STREAM_PIECES_MAX = 4096  # of all connections, newest last
KEPT_BYTES_MAX = 256 << 10  # of one connection or body; more is counted and hashed only


class Bytes:
    """Grows; keeps its beginning, its length and its hash."""

    def __init__(self):
        self.head, self.count, self.hash = bytearray(), 0, hashlib.sha256()

    def add(self, data):
        self.head += data[: max(0, KEPT_BYTES_MAX - len(self.head))]
        self.count += len(data)
        self.hash.update(data)
        return data

    def told(self):
        return {"bytes": self.count, "sha256": self.hash.hexdigest(), "data": base64.b64encode(self.head).decode()}


class Log:
    """Entries are dicts. One with Bytes in it may grow after it was added."""

    def __init__(self):
        self.lock, self.entries = threading.Lock(), []
        self.stream = collections.deque(maxlen=STREAM_PIECES_MAX)

    def add(self, entry):
        entry["at"] = time.time()
        with self.lock:
            entry["n"] = len(self.entries)
            self.entries.append(entry)
        return entry

    def received(self, source, data):
        """Bytes of a connection, also of one that was there before a mark."""
        with self.lock:
            self.stream.append((len(self.entries), source, bytes(data)))

    def bytes(self, mark):
        """What came since, of each connection in one piece."""
        found = collections.defaultdict(bytearray)
        with self.lock:
            for at, source, data in self.stream:
                if at >= mark:
                    found[source] += data
        return base64.b64encode(b"\n".join(found.values())).decode()

    def mark(self):
        """A place in the record; it is an entry of its own, so that bytes can lie behind it."""
        return self.add({"kind": "mark"})["n"] + 1

    def since(self, mark, kind):
        with self.lock:
            found = self.entries[mark:]
        told = []
        for entry in found:
            if kind and entry["kind"] != kind:
                continue
            told.append({k: v.told() if isinstance(v, Bytes) else v for k, v in entry.items()})
        return told
