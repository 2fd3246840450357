"""What arrived at the servers, byte for byte, numbered in the order it came."""

import base64
import hashlib
import threading
import time

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

    def add(self, entry):
        entry["at"] = time.time()
        with self.lock:
            entry["n"] = len(self.entries)
            self.entries.append(entry)
        return entry

    def mark(self):
        with self.lock:
            return len(self.entries)

    def since(self, mark, kind):
        with self.lock:
            found = self.entries[mark:]
        told = []
        for entry in found:
            if kind and entry["kind"] != kind:
                continue
            told.append({k: v.told() if isinstance(v, Bytes) else v for k, v in entry.items()})
        return told
