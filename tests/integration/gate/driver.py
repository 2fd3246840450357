"""Starts a gate and a vault, is their supervisor, and joins the gate's card to a kernel's own network
stack: a namespace whose one interface is a tap device with the guest's addresses. So everything a guest
would run runs there, without a machine.

Runs inside the namespaces of the world's berm side. Reads commands as lines of JSON and answers each.
"""

import ctypes
import fcntl
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading

READY, POLICY, POLICY_OK, POLICY_BAD = 1, 2, 3, 4
SECRET, SECRET_OK, SECRET_BAD, SECRET_RM, STATS, STATS_OK, RECORD, ACCEPTED = range(5, 13)
CLONE_NEWNS, CLONE_NEWNET = 0x20000, 0x40000000
EVENTS = [None, "allowed", "refused", "observed", "ended", "violation", "scrubbed", "lost"]
LAYERS = [None, "dns", "tcp", "udp", "tls", "http"]
REASONS = """allowed no-rule denied-by-rule not-resolved special-address metadata-address sni-missing
sni-mismatch host-mismatch not-tls not-http method path ambiguous placeholder-elsewhere
limit-connections limit-rate limit-bytes limit-dns limit-memory name-invalid upstream-refused upstream-timeout
upstream-certificate upstream-dns upstream-protocol vault-down protocol-not-allowed quic-refused
revoked value-guessed""".split()
LIBC = ctypes.CDLL(None, use_errno=True)
BUNDLE = os.path.realpath("/etc/ssl/certs/ca-certificates.crt")
RESOLV = os.path.realpath("/etc/resolv.conf")


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def spawn(path, fds):
    """The program with those files from 0 on, and nothing else."""
    pid = os.fork()
    if pid == 0:
        high = [fcntl.fcntl(fd, fcntl.F_DUPFD, 100) for fd in fds]
        for i, fd in enumerate(high):
            os.dup2(fd, i)
        os.closerange(len(fds), 4096)
        os.execve(path, [os.path.basename(path), "testbox"], {})
    return pid


# -- the guest ----------------------------------------------------------------------------------------


def tap():
    fd = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(fd, 0x400454CA, struct.pack("16sH22x", b"guest0", 0x0002 | 0x1000))  # IFF_TAP | IFF_NO_PI
    ip("link", "set", "lo", "up")
    ip("link", "set", "guest0", "address", "02:62:65:72:6d:02", "mtu", "65520", "up")
    ip("addr", "add", "100.96.0.2/30", "dev", "guest0")
    ip("route", "add", "default", "via", "100.96.0.1")
    ip("-6", "addr", "add", "fd62:6572:6d00::2/64", "dev", "guest0", "nodad")
    ip("-6", "route", "add", "default", "via", "fd62:6572:6d00::1")
    return fd


def to_guest(card, fd):
    data = b""
    while True:
        while len(data) >= 4 and len(data) >= 4 + struct.unpack_from(">I", data)[0]:
            n = struct.unpack_from(">I", data)[0]
            os.write(fd, data[4:4 + n])
            data = data[4 + n:]
        more = card.recv(1 << 18)
        if not more:
            os._exit(0)
        data += more


def guest(card, pem, folder, ready):
    """The namespace, its interface, and the pump between that and the card."""
    LIBC.unshare(CLONE_NEWNET | CLONE_NEWNS)
    LIBC.mount(None, b"/", None, 0x4000 | 0x40000, None)
    with open(BUNDLE, "rb") as f:
        bundle = f.read()
    for name, over, text in (("guest.resolv", RESOLV, b"nameserver 100.96.0.1\noptions timeout:2 attempts:1\n"),
                             ("guest.pem", BUNDLE, bundle + pem)):
        with open(f"{folder}/{name}", "wb") as f:
            f.write(text)
        LIBC.mount(f"{folder}/{name}".encode(), over.encode(), None, 0x1000, None)
    fd = tap()
    threading.Thread(target=to_guest, args=(card, fd), daemon=True).start()
    os.write(ready, b"1")
    while True:
        frame = os.read(fd, 70000)
        card.sendall(struct.pack(">I", len(frame)) + frame)


# -- the supervisor -----------------------------------------------------------------------------------


def take16(raw, at):
    n = struct.unpack_from("<H", raw, at)[0]
    return raw[at + 2:at + 2 + n].decode("utf-8", "replace"), at + 2 + n


def record(raw, who):
    event, layer, reason, flags, generation, rule, port, status, family = struct.unpack_from("<BBBBIHHHB", raw)
    at = 16
    addr = raw[at:at + 16]
    flow, up, down, ms, count = struct.unpack_from("<QQQII", raw, 32)
    r = {"who": who, "event": EVENTS[event], "layer": LAYERS[layer], "reason": REASONS[reason], "flags": flags,
         "generation": generation, "rule": rule, "port": port, "status": status, "flow": flow, "up": up, "down": down,
         "ms": ms, "count": count,
         "addr": socket.inet_ntop(socket.AF_INET6, addr) if family == 6 else
                 socket.inet_ntop(socket.AF_INET, addr[:4]) if family == 4 else None}
    at = 64
    for key in ("host", "method", "path", "secret"):
        r[key], at = take16(raw, at)
    return r


class Supervisor:
    def __init__(self, folder, programs):
        self.folder, self.records, self.answers = folder, [], []
        card = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.gate, gate_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.vault, vault_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        null = os.open("/dev/null", os.O_RDWR)
        log = os.open(f"{folder}/companions.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        self.pids = {
            "vault": spawn(f"{programs}/berm-vault", [null, log, log, vault_end.fileno(), link[1].fileno()]),
            "gate": spawn(f"{programs}/berm-gate",
                          [null, log, log, gate_end.fileno(), card[1].fileno(), link[0].fileno()]),
        }
        for s in (card[1], *link, gate_end, vault_end):
            s.close()
        self.card = card[0]
        self.pem = self.wait(self.gate, READY)[4:]
        self.wait(self.vault, READY)
        ready, end = os.pipe()
        self.guest = os.fork()
        if self.guest == 0:
            LIBC.prctl(1, signal.SIGKILL)
            guest(self.card, self.pem, folder, end)
        os.read(ready, 1)
        self.card.close()

    def take(self, s):
        raw = s.recv(4096)
        if not raw:
            raise EOFError("vault" if s is self.vault else "gate")
        if raw[1] == RECORD:
            self.records.append(record(raw[4:], "vault" if s is self.vault else "gate"))
        else:
            self.answers.append((s, raw[1], raw[4:]))

    def wait(self, s, *kinds):
        while True:
            for got in self.answers:
                if got[0] is s and got[1] in kinds:
                    self.answers.remove(got)
                    return got[2] if len(kinds) == 1 else got[1:]
            ready = select.select([self.gate, self.vault], [], [], 30)[0]
            if not ready:
                raise TimeoutError(kinds)
            for one in ready:
                self.take(one)

    def send(self, s, kind, payload, fd=None):
        packet = struct.pack("<BBH", 1, kind, 0) + payload
        socket.send_fds(s, [packet], [fd] if fd is not None else [])

    def policy(self, tlv, generation):
        fd = os.memfd_create("policy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
        os.write(fd, bytes.fromhex(tlv))
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, 1033, 1 | 2 | 4 | 8)  # F_ADD_SEALS
        self.send(self.vault, POLICY, struct.pack("<I", generation), fd)
        os.close(fd)
        kind, raw = self.wait(self.vault, POLICY_OK, POLICY_BAD)
        return True if kind == POLICY_OK else take16(raw, 4)[0]

    def secret(self, name, value):
        fd = os.memfd_create("value", os.MFD_CLOEXEC)
        os.write(fd, value.encode())
        os.lseek(fd, 0, os.SEEK_SET)
        raw = name.encode()
        self.send(self.vault, SECRET, struct.pack("<IH", 7, len(raw)) + raw, fd)
        os.close(fd)
        kind, raw = self.wait(self.vault, SECRET_OK, SECRET_BAD)
        _, at = take16(raw, 4)
        return take16(raw, at)[0] if kind == SECRET_OK else None

    def stats(self, who):
        s = self.gate if who == "gate" else self.vault
        self.send(s, STATS, struct.pack("<I", 5))
        raw = self.wait(s, STATS_OK)
        count, at, out = struct.unpack_from("<H", raw, 4)[0], 6, {}
        for _ in range(count):
            name, at = take16(raw, at)
            out[name] = struct.unpack_from("<Q", raw, at)[0]
            at += 8
        return out

    def drain(self):
        while select.select([self.gate, self.vault], [], [], 0)[0]:
            for s in select.select([self.gate, self.vault], [], [], 0)[0]:
                self.take(s)
        return self.records

    def forget(self):
        """How many records there were since the last time; they are gone then."""
        self.drain()
        count = len(self.records)
        self.records.clear()
        return count

    def publish(self, port):
        """Listens on loopback here; each connection goes to the guest's port."""
        s = socket.create_server(("127.0.0.1", 0))

        def serve():
            while True:
                c, (host, from_port) = s.accept()
                self.send(self.gate, ACCEPTED, struct.pack("<HB16sH", port, 4, socket.inet_aton(host) + bytes(12),
                                                           from_port), c.fileno())
                c.close()

        threading.Thread(target=serve, daemon=True).start()
        return s.getsockname()[1]


def main():
    folder, programs = sys.argv[1:3]
    sup = Supervisor(folder, programs)
    print(json.dumps({"guest": sup.guest, "gate": sup.pids["gate"], "vault": sup.pids["vault"]}), flush=True)
    for line in sys.stdin:
        ask = json.loads(line)
        try:
            answer = {"ok": getattr(sup, ask.pop("do"))(**ask)}
        except (EOFError, TimeoutError, OSError) as fault:
            answer = {"fault": repr(fault)}
        print(json.dumps(answer), flush=True)
    for pid in (sup.guest, *sup.pids.values()):
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
