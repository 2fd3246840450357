"""Plays the gate at the other end of a guest's network card: a router that answers ARP and neighbour
solicitations for itself, pings, and echoes UDP. It keeps a count of what came, by kind.

Frames are as docs/internals/virtio-net.md has them: a big-endian length, then Ethernet.
"""

import collections
import socket
import struct
import threading

ROUTER_MAC = bytes.fromhex("026265726d01")
GUEST_MAC = bytes.fromhex("026265726d02")
ROUTER4, GUEST4 = socket.inet_aton("100.96.0.1"), socket.inet_aton("100.96.0.2")
ROUTER6 = socket.inet_pton(socket.AF_INET6, "fd62:6572:6d00::1")
GUEST6 = socket.inet_pton(socket.AF_INET6, "fd62:6572:6d00::2")
ARP, IP4, IP6 = 0x0806, 0x0800, 0x86DD
ICMP, UDP, ICMP6 = 1, 17, 58
FRAME_MAX = 65534


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(source, to, protocol, body):
    head = struct.pack(">BBHHHBBH4s4s", 0x45, 0, 20 + len(body), 0, 0, 64, protocol, 0, source, to)
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def ip6(source, to, protocol, body, hops=64):
    return struct.pack(">IHBB16s16s", 6 << 28, len(body), protocol, hops, source, to) + body


def pseudo(source, to, protocol, body):
    if len(source) == 4:
        return source + to + struct.pack(">BBH", 0, protocol, len(body)) + body
    return source + to + struct.pack(">II", len(body), protocol) + body


class Router:
    """Serves a socket on a thread of its own until either end closes it."""

    def __init__(self, sock):
        self.sock = sock
        self.counts = collections.Counter()
        self.wrong = []  # what no guest of ours should have sent
        self.thread = threading.Thread(target=self.serve, daemon=True)

    def start(self):
        self.thread.start()
        return self

    def exactly(self, n):
        got = b""
        while len(got) < n:
            more = self.sock.recv(n - len(got))
            if not more:
                raise EOFError
            got += more
        return got

    def send(self, frame):
        self.sock.sendall(struct.pack(">I", len(frame)) + frame)

    def serve(self):
        try:
            while True:
                (length,) = struct.unpack(">I", self.exactly(4))
                if not 14 <= length <= FRAME_MAX:
                    self.wrong.append(f"a frame of {length} bytes")
                    return
                self.frame(self.exactly(length))
        except (EOFError, OSError):
            pass

    def frame(self, frame):
        to, source, kind = frame[:6], frame[6:12], struct.unpack(">H", frame[12:14])[0]
        if source != GUEST_MAC:
            self.wrong.append(f"a frame from {source.hex()}")
        answer = {ARP: self.arp, IP4: self.on_ip4, IP6: self.on_ip6}.get(kind)
        self.counts[hex(kind)] += 1
        if answer is None:
            self.wrong.append(f"a frame of kind {kind:#x} to {to.hex()}")
            return
        body = answer(frame[14:])
        if body:
            self.send(source + ROUTER_MAC + struct.pack(">H", kind) + body)

    def arp(self, p):
        op, mac, ip, _, target = struct.unpack(">H6s4s6s4s", p[6:28])
        self.counts["arp"] += 1
        if op != 1 or target != ROUTER4:
            return None
        return p[:6] + struct.pack(">H6s4s6s4s", 2, ROUTER_MAC, ROUTER4, mac, ip)

    def udp(self, source, to, body):
        """Says everything back, to whomever it was said."""
        at, port = struct.unpack(">HH", body[:4])
        self.counts["udp"] += 1
        head = struct.pack(">HHHH", port, at, len(body), 0)
        out = head + body[8:]
        total = checksum(pseudo(to, source, UDP, out)) or 0xFFFF
        return out[:6] + struct.pack(">H", total) + out[8:]

    def on_ip4(self, p):
        source, to, protocol = p[12:16], p[16:20], p[9]
        body = p[(p[0] & 15) * 4 : struct.unpack(">H", p[2:4])[0]]
        if protocol == UDP:
            return ip4(to, source, UDP, self.udp(source, to, body))
        if protocol == ICMP and body[0] == 8 and to == ROUTER4:
            self.counts["ping"] += 1
            out = b"\0\0\0\0" + body[4:]
            return ip4(to, source, ICMP, out[:2] + struct.pack(">H", checksum(out)) + out[4:])
        return None

    def icmp6(self, source, kind, rest):
        out = bytes([kind, 0, 0, 0]) + rest
        total = checksum(pseudo(ROUTER6, source, ICMP6, out))
        return ip6(ROUTER6, source, ICMP6, out[:2] + struct.pack(">H", total) + out[4:], 255)

    def on_ip6(self, p):
        protocol, source, to, body = p[6], p[8:24], p[24:40], p[40:]
        if protocol == UDP:
            return ip6(to, source, UDP, self.udp(source, to, body))
        if protocol != ICMP6:
            return None
        self.counts[f"icmp6 {body[0]}"] += 1
        if body[0] == 135 and body[8:24] == ROUTER6:
            if source == bytes(16):
                self.wrong.append("a check for a duplicate address")
                return None
            # solicited, override; the option is our own address
            return self.icmp6(source, 136, struct.pack(">I", 0x60000000) + ROUTER6 + b"\2\1" +
                              ROUTER_MAC)
        if body[0] == 128 and to == ROUTER6:
            self.counts["ping6"] += 1
            return self.icmp6(source, 129, body[4:])
        return None
