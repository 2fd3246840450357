"""A DNS server that says what a test tells it to. Messages are made by hand: RFC 1035, no compression.

A name's entry has lists by type, `A`, `AAAA`, `CNAME` or another of TYPES (then as hex), and may have:

    ttl         of all its records; 300 otherwise
    turns       a list of entries: the n-th question gets the n-th, and the last one ever after
    raw         [[owner, type, ttl, value], ...]: the answer section as it stands, whatever was asked
    silent      no answer;      delay   seconds before it
    wrong       id, question, port, servfail, refused, truncated (then TCP has it), garbage, twice
    bulk        that many A records more, all different
    dead        ip of a server that does not answer this name
    exact       [hex, ...]: messages to be sent before the answer, "ID" in them is the question's; after an
                empty one comes nothing more
    stream      [[hex, seconds], ...]: over TCP these bytes and nothing else, each after a pause, then the end
"""

import ipaddress
import socket
import struct
import threading
import time

TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "PTR": 12, "MX": 15, "TXT": 16, "AAAA": 28, "SRV": 33,
         "SVCB": 64, "HTTPS": 65, "ANY": 255}
WORDS = {v: k for k, v in TYPES.items()}
NXDOMAIN, SERVFAIL, REFUSED = 3, 2, 5
UDP_BYTES_MAX = 1232
CHAIN_MAX = 8


def put_name(name):
    out = b""
    for label in filter(None, name.split(".")):
        out += bytes([len(label)]) + label.encode("latin-1")
    return out + b"\0"


def take_question(data):
    """(name as it was written, type, class, where the question ends)"""
    at, labels = 12, []
    while data[at]:
        labels.append(data[at + 1 : at + 1 + data[at]].decode("latin-1"))
        at += 1 + data[at]
    kind, klass = struct.unpack_from(">HH", data, at + 1)
    return ".".join(labels), kind, klass, at + 5


def put_value(kind, value):
    if kind in ("A", "AAAA"):
        return ipaddress.ip_address(value).packed
    if kind in ("CNAME", "NS", "PTR"):
        return put_name(value)
    return bytes.fromhex(value)


def put_record(owner, kind, ttl, value):
    data = put_value(kind, value)
    return put_name(owner) + struct.pack(">HHIH", TYPES[kind], 1, ttl, len(data)) + data


class Zone:
    def __init__(self, names):
        self.lock = threading.Lock()
        self.names = dict(names)
        self.first = dict(names)
        self.asked = {}

    def change(self, names):
        with self.lock:
            for name, entry in names.items():
                self.asked.pop(name, None)
                if entry is None:
                    self.names.pop(name, None)
                else:
                    self.names[name] = entry

    def reset(self):
        with self.lock:
            self.names, self.asked = dict(self.first), {}

    def find(self, name, count):
        name = name.lower()
        with self.lock:
            for key in (name, "*." + name.partition(".")[2]):
                if key in self.names:
                    entry = self.names[key]
                    break
            else:
                return None
            if "turns" in entry:
                turn = self.asked.get(key, 0)
                if count:
                    self.asked[key] = turn + 1
                entry = entry["turns"][min(turn, len(entry["turns"]) - 1)]
            return entry

    def records(self, name, word):
        """[(owner, type, ttl, value)] along a chain of aliases; None: there is no such name."""
        found, first = [], True
        for _ in range(CHAIN_MAX):
            entry = self.find(name, first)
            if entry is None:
                return None if first else found
            first = False
            if "raw" in entry:
                return found + [tuple(r) for r in entry["raw"]]
            ttl = entry.get("ttl", 300)
            if "CNAME" in entry and word != "CNAME":
                found.append((name, "CNAME", ttl, entry["CNAME"][0]))
                name = entry["CNAME"][0]
                continue
            found += [(name, word, ttl, v) for v in entry.get(word, [])]
            if word == "A":
                found += [(name, "A", ttl, f"45.91.{i // 250}.{i % 250 + 1}") for i in range(entry.get("bulk", 0))]
            break
        return found


class DnsServer:
    """On UDP and TCP port 53 of some addresses. log(what) is told of each question."""

    def __init__(self, addresses, names, log):
        self.zone, self.log = Zone(names), log
        self.addresses = addresses

    def start(self):
        for address in self.addresses:
            udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
            udp.bind((address, 53))
            threading.Thread(target=self.serve_udp, args=(udp, address), daemon=True).start()
            tcp = socket.create_server((address, 53), backlog=64)
            threading.Thread(target=self.serve_tcp, args=(tcp, address), daemon=True).start()

    def serve_udp(self, sock, address):
        while True:
            data, peer = sock.recvfrom(4096)
            threading.Thread(target=self.one_udp, args=(sock, address, data, peer), daemon=True).start()

    def one_udp(self, sock, address, data, peer):
        for answer, how in self.answers(data, address, "udp"):
            if how == "port":
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as other:
                    other.bind((address, 0))
                    other.sendto(answer, peer)
            else:
                sock.sendto(answer, peer)

    def serve_tcp(self, sock, address):
        while True:
            conn, _ = sock.accept()
            threading.Thread(target=self.one_tcp, args=(conn, address), daemon=True).start()

    def one_tcp(self, conn, address):
        with conn, conn.makefile("rb") as f:
            conn.settimeout(60)
            while True:
                head = f.read(2)
                if len(head) < 2:
                    return
                data = f.read(struct.unpack(">H", head)[0])
                if self.one_stream(conn, data):
                    return
                for answer, _ in self.answers(data, address, "tcp"):
                    conn.sendall(struct.pack(">H", len(answer)) + answer)

    def one_stream(self, conn, data):
        """True: what the name has bytes for was sent, as slowly as it says."""
        try:
            entry = self.zone.find(take_question(data)[0], False) or {}
        except (IndexError, struct.error):
            return False
        for piece, seconds in entry.get("stream", ()):
            time.sleep(seconds)
            conn.sendall(bytes.fromhex(piece.replace("ID", data[:2].hex())))
        return "stream" in entry

    def answers(self, data, address, transport):
        """[(message, how it is sent)]"""
        try:
            name, kind, klass, end = take_question(data)
        except (IndexError, struct.error):
            self.log({"kind": "dns", "name": None, "to": address, "transport": transport, "data": data.hex()})
            return []
        word = WORDS.get(kind, str(kind))
        self.log({"kind": "dns", "name": name, "type": word, "to": address, "transport": transport})
        entry = self.zone.find(name, False) or {}
        if entry.get("silent") or entry.get("dead") == address:
            return []
        time.sleep(entry.get("delay", 0))
        return self.formed(data, data[12:end], name, word, entry, transport)

    def formed(self, data, question, name, word, entry, transport):
        query_id = struct.unpack_from(">H", data)[0]
        wrong = entry.get("wrong", "")
        records = self.zone.records(name, word)
        code = NXDOMAIN if records is None else {"servfail": SERVFAIL, "refused": REFUSED}.get(wrong, 0)
        body = b"".join(put_record(*r) for r in records or []) if not code else b""
        count = len(records or []) if not code else 0
        if wrong == "garbage":
            return [(struct.pack(">HHHHHH", query_id, 0x8580, 1, 9, 0, 0) + question + b"\xc0\x0c" * 8, "")]

        def message(qid, ask, flags=0x8580, n=count, answers=body):
            return struct.pack(">HHHHHH", qid, flags | code, 1, n, 0, 0) + ask + answers

        if "exact" in entry and transport == "udp":
            sent = [(bytes.fromhex(m.replace("ID", data[:2].hex())), "") for m in entry["exact"]]
            return sent[:-1] if sent[-1][0] == b"" else [*sent, (message(query_id, question), "")]
        lie = put_record(name, "A", 300, "45.90.30.66") if word == "A" else b""
        lies = int(bool(lie))
        good = (message(query_id, question), "")
        if transport == "udp" and (wrong == "truncated" or len(good[0]) > UDP_BYTES_MAX):
            return [(message(query_id, question, 0x8780, 0, b""), "")]
        if wrong == "id":
            return [(message(query_id ^ 0x5555, question, 0x8580, lies, lie), ""), good]
        if wrong == "port":
            return [(message(query_id, question, 0x8580, lies, lie), "port"), good]
        if wrong == "question":
            other = put_name("somebody-else.test") + question[-4:]
            return [(message(query_id, other, 0x8580, lies, lie), ""), good]
        return [good, good] if wrong == "twice" else [good]
