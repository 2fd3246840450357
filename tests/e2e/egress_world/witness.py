"""The origin servers: HTTP/1.1, HTTP/2 (names that begin with h2.), WebSocket and some that speak nonsense.
Everything they receive is recorded as it came, after TLS.
"""

import base64
import hashlib
import select
import socket
import ssl
import struct
import threading
import time

from . import app, plan, record

HEAD_BYTES_MAX = 1 << 20
BODY_KEPT_MAX = 64 << 20  # git needs it whole
IDLE_SECONDS = 300
HANG_SECONDS = 120
WEBSOCKET_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Ended(Exception):
    """The peer closed."""


class Channel:
    """A connection whose received bytes are recorded."""

    def __init__(self, sock, about, log):
        self.sock, self.seen, self.data = sock, about["data"], b""
        self.source, self.log = about["n"], log

    def more(self, size=1 << 16):
        got = self.sock.recv(size)
        if not got:
            raise Ended
        self.seen.add(got)
        self.log.received(self.source, got)
        return got

    def until(self, mark):
        while mark not in self.data:
            if len(self.data) > HEAD_BYTES_MAX:
                raise Ended
            self.data += self.more()
        got, _, self.data = self.data.partition(mark)
        return got

    def exactly(self, n):
        while len(self.data) < n:
            self.data += self.more()
        got, self.data = self.data[:n], self.data[n:]
        return got

    def some(self, most):
        if not self.data:
            self.data = self.more()
        got, self.data = self.data[:most], self.data[most:]
        return got


def reset(sock):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


class Body:
    def __init__(self):
        self.kept, self.all = bytearray(), record.Bytes()

    def add(self, data):
        self.kept += data[: max(0, BODY_KEPT_MAX - len(self.kept))]
        self.all.add(data)

    def put_into(self, request):
        request.body, request.body_bytes = bytes(self.kept), self.all.count
        request.body_sha256 = self.all.hash.hexdigest()


class Http1:
    def __init__(self, channel, log, about, folder):
        self.c, self.log, self.about, self.folder = channel, log, about, folder

    def serve(self):
        while self.one():
            pass

    def one(self):
        head = self.c.until(b"\r\n\r\n").decode("latin-1")
        first, *lines = head.split("\r\n")
        method, target, version = first.split(" ", 2)
        headers = [[p.strip() for p in line.split(":", 1)] for line in lines]
        request = app.Request(method, target, headers, "", version, self.about["tls"])
        request.host = request.header("host")
        entry = {"kind": "request", "conn": self.about["n"], "method": method, "target": target, "host": request.host,
                 "version": version, "headers": headers, "head": head, "body": record.Bytes(), "sni": self.about["sni"],
                 "to": self.about["to"], "whole": False}
        self.log.add(entry)
        if request.header("expect").lower() == "100-continue":
            self.c.sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        self.read_body(request, entry)
        entry["whole"] = True
        if request.header("upgrade").lower() == "websocket":
            return WebSocket(self.c, request).serve()
        response = app.answer(request, self.folder)
        return self.send(request, response) and request.header("connection").lower() != "close"

    def read_body(self, request, entry):
        body = Body()
        body.all = entry["body"]
        if request.header("transfer-encoding").lower() == "chunked":
            while True:
                size = int(self.c.until(b"\r\n").split(b";")[0], 16)
                if not size:
                    break
                left = size
                while left:
                    got = self.c.some(left)
                    left -= len(got)
                    body.add(got)
                self.c.exactly(2)
            trailers = []
            while True:
                line = self.c.until(b"\r\n")
                if not line:
                    break
                trailers.append(line.decode("latin-1"))
            entry["trailers"] = trailers
        else:
            left = int(request.header("content-length") or "0")
            while left:
                got = self.c.some(left)
                left -= len(got)
                body.add(got)
        body.put_into(request)

    def send(self, request, response):
        sock, how = self.c.sock, response.how
        if "raw" in how:
            sock.sendall(how["raw"])
            return False
        if how.get("hang"):
            time.sleep(HANG_SECONDS)
            return False
        if how.get("reset"):
            reset(sock)
            return False
        if "early" in how:
            lines = "".join(f"{k}: {v}\r\n" for k, v in how["early"])
            sock.sendall(f"HTTP/1.1 103 Early Hints\r\n{lines}\r\n".encode("latin-1"))
        headers = list(response.headers)
        fixed = isinstance(response.body, bytes)
        if how.get("cut"):
            headers.append(("content-length", str(len(response.body) + 1000)))
        elif response.length is not None or fixed:
            if response.status not in (204, 304):
                headers.append(("content-length", str(len(response.body) if fixed else response.length)))
        elif not how.get("close"):
            headers.append(("transfer-encoding", "chunked"))
        if how.get("close") or how.get("cut"):
            headers.append(("connection", "close"))
        lines = "".join(f"{k}: {v}\r\n" for k, v in headers)
        sock.sendall(f"HTTP/1.1 {response.status} Word\r\n{lines}\r\n".encode("latin-1"))
        if request.method == "HEAD" or response.status in (204, 304):
            return True
        self.send_body(response, ("transfer-encoding", "chunked") in headers)
        return not (how.get("close") or how.get("cut"))

    def send_body(self, response, chunked):
        sock = self.c.sock
        for piece in [response.body] if isinstance(response.body, bytes) else response.body:
            sock.sendall(b"%x\r\n%b\r\n" % (len(piece), piece) if chunked else piece)
        if chunked:
            lines = "".join(f"{k}: {v}\r\n" for k, v in response.trailers)
            sock.sendall(f"0\r\n{lines}\r\n".encode("latin-1"))


class WebSocket:
    """Says `welcome`, then echoes each message. `close N` makes it close with N; `auth` tells the head's value."""

    def __init__(self, channel, request):
        self.c, self.request = channel, request

    def serve(self):
        key = self.request.header("sec-websocket-key") + WEBSOCKET_GUID
        accept = base64.b64encode(hashlib.sha1(key.encode()).digest()).decode()
        self.c.sock.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                             f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode())
        self.send(1, b"welcome")
        while True:
            kind, data = self.receive()
            if kind == 8 or data.startswith(b"close "):
                self.send(8, data if kind == 8 else struct.pack(">H", int(data[6:])))
                return False
            if kind == 9:
                self.send(10, data)
            elif data == b"auth":
                self.send(1, self.request.header("authorization").encode())
            else:
                self.send(kind, data)

    def receive(self):
        first, second = self.c.exactly(2)
        size = second & 127
        if size > 125:
            size = int.from_bytes(self.c.exactly(2 if size == 126 else 8), "big")
        mask = self.c.exactly(4) if second & 128 else b"\0" * 4
        data = self.c.exactly(size)
        return first & 15, bytes(c ^ mask[i % 4] for i, c in enumerate(data))

    def send(self, kind, data):
        size = len(data)
        if size < 126:
            head = bytes([size])
        elif size < 65536:
            head = b"\x7e" + size.to_bytes(2, "big")
        else:
            head = b"\x7f" + size.to_bytes(8, "big")
        self.c.sock.sendall(bytes([0x80 | kind]) + head + data)


class Http2:
    """One thread reads; each request is answered on a thread of its own."""

    def __init__(self, channel, log, about, folder):
        import h2.config
        import h2.connection

        self.c, self.log, self.about, self.folder = channel, log, about, folder
        self.lock = threading.RLock()
        self.room = threading.Condition(self.lock)
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="latin-1"))
        self.open = {}
        self.ended = False

    def flush(self):
        data = self.h2.data_to_send()
        if data:
            self.c.sock.sendall(data)

    def serve(self):
        with self.lock:
            self.h2.initiate_connection()
            self.flush()
        try:
            while True:
                # a TLS session is no thing to be read and written by two threads at once
                if not self.c.sock.pending():
                    select.select([self.c.sock], [], [], IDLE_SECONDS)
                with self.lock:
                    data = self.c.more()
                    for event in self.h2.receive_data(data):
                        self.event(event)
                    self.flush()
                    self.room.notify_all()
        finally:
            with self.lock:
                self.ended = True
                self.room.notify_all()

    def event(self, e):
        name = type(e).__name__
        if name == "RequestReceived":
            self.begin(e.stream_id, [list(h) for h in e.headers])
        elif name == "DataReceived" and e.stream_id in self.open:
            self.open[e.stream_id][2].add(e.data)
            if e.flow_controlled_length:
                self.h2.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
        elif name == "TrailersReceived" and e.stream_id in self.open:
            self.open[e.stream_id][1]["trailers"] = [f"{k}: {v}" for k, v in e.headers]
        elif name == "StreamEnded" and e.stream_id in self.open:
            threading.Thread(target=self.answer, args=(e.stream_id,), daemon=True).start()
        elif name == "StreamReset" and e.stream_id in self.open:
            self.open.pop(e.stream_id)[1]["reset"] = int(e.error_code)

    def begin(self, stream, headers):
        pseudo = {k: v for k, v in headers if k.startswith(":")}
        fields = [h for h in headers if not h[0].startswith(":")]
        host, path = pseudo.get(":authority", ""), pseudo.get(":path", "*")
        request = app.Request(pseudo[":method"], path, fields, host, "h2", True)
        body = Body()
        entry = {"kind": "request", "conn": self.about["n"], "method": request.method, "target": request.target,
                 "host": request.host, "version": "h2", "headers": headers, "head": "", "body": body.all,
                 "sni": self.about["sni"], "to": self.about["to"], "stream": stream, "whole": False}
        self.log.add(entry)
        self.open[stream] = (request, entry, body)

    def answer(self, stream):
        with self.lock:
            if stream not in self.open:
                return
            request, entry, body = self.open[stream]
        entry["whole"] = True
        body.put_into(request)
        response = app.answer(request, self.folder)
        try:
            self.send(stream, request, response)
        except (OSError, Ended):
            pass

    def send(self, stream, request, response):
        import h2.exceptions

        if response.how.get("hang"):
            return
        try:
            with self.lock:
                if response.how.get("reset"):
                    self.h2.reset_stream(stream)
                    return self.flush()
                headers = [(":status", str(response.status)), *response.headers]
                if isinstance(response.body, bytes):
                    headers.append(("content-length", str(len(response.body))))
                quiet = request.method == "HEAD" or response.status in (204, 304)
                self.h2.send_headers(stream, headers, end_stream=quiet)
                self.flush()
            if not quiet:
                self.send_body(stream, response)
        except (h2.exceptions.ProtocolError, KeyError):
            pass  # the peer gave the stream up

    def send_body(self, stream, response):
        for piece in [response.body] if isinstance(response.body, bytes) else response.body:
            while piece:
                with self.lock:
                    while not self.ended and self.h2.local_flow_control_window(stream) <= 0:
                        self.room.wait(1)
                    if self.ended:
                        raise Ended
                    n = min(len(piece), self.h2.local_flow_control_window(stream), self.h2.max_outbound_frame_size)
                    self.h2.send_data(stream, piece[:n])
                    self.flush()
                piece = piece[n:]
        with self.lock:
            if response.trailers:
                self.h2.send_headers(stream, response.trailers, end_stream=True)
            else:
                self.h2.end_stream(stream)
            self.flush()


def speak_nonsense(channel, word):
    sock = channel.sock
    if word == "garbage":
        sock.sendall(bytes(range(256)) * 4)
    elif word == "reset":
        channel.more()
        return reset(sock)
    elif word == "stall":
        time.sleep(HANG_SECONDS)
    elif word == "close":
        return None
    elif word == "hello":
        sock.sendall(b"220 hello, this server speaks first\r\n")
    while True:
        got = channel.more()
        if word == "echo":
            sock.sendall(got)


class Witness:
    def __init__(self, log, pki, folder):
        self.log, self.pki, self.folder = log, pki, folder
        self.contexts = {name: self.context(name) for name in ("good", *plan.BAD_CERTIFICATES)}
        self.h2_context = self.context("good", ["h2", "http/1.1"])
        self.mutual_context = self.context("good")  # of OTHER_TLS_PORT: a client may show who it is
        self.mutual_context.verify_mode = ssl.CERT_OPTIONAL
        self.mutual_context.load_verify_locations(f"{pki}/ca.pem")
        self.old_context = self.context("good")
        self.old_context.set_ciphers("ALL:@SECLEVEL=0")
        self.old_context.minimum_version = self.old_context.maximum_version = ssl.TLSVersion.TLSv1_1

    def context(self, name, alpn=("http/1.1",)):
        c = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        c.load_cert_chain(f"{self.pki}/{name}.pem", f"{self.pki}/{name}.key")
        c.set_alpn_protocols(list(alpn))
        return c

    def choose(self, sock, name, _):
        sock.world_sni = name
        if name in plan.BAD_CERTIFICATES:
            sock.context = self.contexts[name]
        elif name and name.startswith("h2."):
            sock.context = self.h2_context

    def listen(self, addresses, port, serve):
        for address in addresses:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            sock = socket.socket(family, socket.SOCK_STREAM)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
            sock.listen(512)
            threading.Thread(target=self.accept, args=(sock, serve), daemon=True).start()

    def accept(self, sock, serve):
        while True:
            conn, peer = sock.accept()
            conn.settimeout(IDLE_SECONDS)
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            address, port = conn.getsockname()[:2]
            about = self.log.add({"kind": "connection", "to": f"{address}:{port}", "from": f"{peer[0]}:{peer[1]}",
                                  "data": record.Bytes(), "sni": None, "tls": False, "alpn": None, "end": None})
            threading.Thread(target=self.one, args=(conn, about, serve), daemon=True).start()

    def one(self, conn, about, serve):
        try:
            serve(conn, about)
            about["end"] = "closed"
        except Ended:
            about["end"] = "peer closed"
        except OSError as fault:
            about["end"] = str(fault)
        except Exception as fault:  # nonsense came: part of what is tested
            about["end"] = f"{type(fault).__name__}: {fault}"
        finally:
            conn.close()

    def plain(self, conn, about):
        Http1(Channel(conn, about, self.log), self.log, about, self.folder).serve()

    def tls(self, conn, about):
        own = {"8444": self.old_context, str(plan.OTHER_TLS_PORT): self.mutual_context}
        context = own.get(about["to"].rpartition(":")[2], self.contexts["good"])
        context.sni_callback = self.choose
        with context.wrap_socket(conn, server_side=True, suppress_ragged_eofs=True) as secure:
            about["sni"] = getattr(secure, "world_sni", None)
            about["tls"], about["alpn"] = True, secure.selected_alpn_protocol()
            about["tls_version"] = secure.version()
            about["client"] = dict(x[0] for x in (secure.getpeercert() or {}).get("subject", ())).get("commonName")
            kind = Http2 if about["alpn"] == "h2" else Http1
            kind(Channel(secure, about, self.log), self.log, about, self.folder).serve()

    def start(self):
        addresses = [*plan.WITNESS4, *plan.WITNESS6]
        traps = [*plan.TRAPS4, *plan.TRAPS6]
        self.listen(addresses, plan.HTTP_PORT, self.plain)
        for port in (plan.TLS_PORT, plan.OTHER_TLS_PORT, 8444):
            self.listen(addresses, port, self.tls)
        for port, word in plan.RAW.items():
            def serve(conn, about, word=word):
                speak_nonsense(Channel(conn, about, self.log), word)
            self.listen(addresses, port, serve)
        for port in plan.TRAP_PORTS:
            self.listen(traps, port, self.plain)
        self.listen(addresses, 8080, self.plain)
        for address in plan.WITNESS4:
            threading.Thread(target=self.udp_echo, args=(address,), daemon=True).start()

    def udp_echo(self, address):
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        sock.bind((address, plan.UDP_ECHO))
        while True:
            data, peer = sock.recvfrom(65535)
            seen = record.Bytes()
            seen.add(data)
            self.log.add({"kind": "udp", "to": f"{address}:{plan.UDP_ECHO}", "data": seen})
            sock.sendto(data, peer)
