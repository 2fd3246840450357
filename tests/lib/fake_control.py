"""A companion's side of src/egress/control.h, for the fakes: fake_gate.py, fake_vault.py."""

import os
import socket
import struct
import threading

READY, POLICY, POLICY_OK, POLICY_BAD, SECRET, SECRET_OK, SECRET_BAD, SECRET_RM = range(1, 9)
STATS, STATS_OK, RECORD, ACCEPTED, ROOTS, EXPORT, IMPORT, LISTEN, REST = range(9, 18)
ALLOWED, REFUSED, OBSERVED, ENDED, VIOLATION, SCRUBBED, LOST = range(1, 8)
DNS, TCP, UDP, TLS, HTTP = range(1, 6)
NO_RULE = 0xFFFF


def str16(text):
    data = text.encode() if isinstance(text, str) else text
    return struct.pack("<H", len(data)) + data


def take_str16(data, at):
    size = struct.unpack_from("<H", data, at)[0]
    return data[at + 2:at + 2 + size], at + 2 + size


def packet(kind, payload=b"", version=1):
    return struct.pack("<BBH", version, kind, 0) + payload


def record(event=REFUSED, layer=TCP, reason=1, flags=0, generation=1, rule=NO_RULE, port=443, status=0,
           address=b"", flow=1, up=0, down=0, ms=0, count=0, host="", method="", path="", secret=""):
    family = {0: 0, 4: 4, 16: 6}[len(address)]
    head = struct.pack("<BBBBIHHHBB16sQQQII", event, layer, reason, flags, generation, rule, port,
                       status, family, 0, address.ljust(16, b"\0"), flow, up, down, ms, count)
    return head + str16(host) + str16(method) + str16(path) + str16(secret)


class Control:
    """The socket to the supervisor. `on` has what to do with a kind; STATS is answered by itself."""

    def __init__(self, fd=3):
        self.sock = socket.socket(fileno=fd)
        self.stats = {}
        self.on = {STATS: self.on_stats}
        self.got = []
        self.over = threading.Event()

    def send(self, data, fds=()):
        if isinstance(data, bytes) and not fds:
            return self.sock.send(data)
        return socket.send_fds(self.sock, [data], list(fds))

    def say(self, kind, payload=b"", fds=()):
        self.send(packet(kind, payload), fds)

    def ready(self, pem="", name_hash=0):
        self.say(READY, struct.pack("<I", name_hash) + pem.encode())
        threading.Thread(target=self.listen, daemon=True).start()

    def record(self, **more):
        self.say(RECORD, record(**more))

    def on_stats(self, payload, fds):
        out = payload[:4] + struct.pack("<H", len(self.stats))
        for name, value in self.stats.items():
            out += str16(name) + struct.pack("<Q", value)
        self.say(STATS_OK, out)

    def listen(self):
        while True:
            try:
                data, fds, _, _ = socket.recv_fds(self.sock, 65536, 4)
            except OSError:
                break
            if not data:
                break
            kind, payload = data[1], data[4:]
            self.got.append(kind)
            what = self.on.get(kind)
            try:
                if what:
                    what(payload, fds)
            except OSError:
                break
            finally:
                for fd in fds:
                    try:
                        os.close(fd)
                    except OSError:
                        pass
        self.over.set()


def marker(here):
    def mark(name, text=""):
        """Leaves a file beside the program, whole, for the test to wait for."""
        with open(os.path.join(here, name + "~"), "w") as f:
            f.write(text)
        os.rename(os.path.join(here, name + "~"), os.path.join(here, name))

    return mark
