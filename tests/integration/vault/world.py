"""A vault in a world of its own: two network namespaces joined by one cable. In the near one runs
berm-vault, jailed as ever; in the far one run resolvers and servers at addresses that look public.
The test is the supervisor and the gate.
"""

import ctypes
import os
import select
import signal
import socket
import ssl
import struct
import subprocess
import threading
import time
import traceback

import pytest

TOP = os.path.abspath(os.path.join(os.path.dirname(__file__), *[os.pardir] * 3))
VAULT = os.path.join(TOP, "build/main/src/bin/berm-vault")
POLICYC = os.path.join(TOP, "build/main/tests/integration/vault/policyc")
SLOWNESS = float(os.environ.get("BERM_TEST_SLOWNESS", "1"))
PATIENCE = 20 * SLOWNESS  # seconds until a test gives up on what has to come

NEAR = "9.1.0.1"  # the host's own address
FAR = "9.1.0.2"  # resolver and servers
OTHERS = ["9.1.0.3", "9.1.0.4", "9.1.0.5", "10.7.0.2"]
FAR6 = "2a00:1::2"

CLONE_NEWNS, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000
LIBC = ctypes.CDLL(None, use_errno=True)

# struct control_*, egress_*
READY, POLICY, POLICY_OK, POLICY_BAD, SECRET, SECRET_OK, SECRET_BAD, SECRET_RM = range(1, 9)
STATS, STATS_OK, RECORD, ACCEPTED, ROOTS, EXPORT, IMPORT, LISTEN, REST = range(9, 18)
(HELLO, REFUSE, E_POLICY, E_POLICY_OK, E_STATS, E_STATS_OK) = range(1, 7)
(RESOLVE, RESOLVED, CONNECT, CONNECTED, REQUEST, RESPONSE, BODY, TRAILERS, END, RESET, CREDIT,
 SCRUBBED, VIOLATION, REVOKED) = range(16, 30)
TCP, TLS, UDP = 1, 2, 3
FAILS = ["ok", "no-name", "no-address", "dns", "special", "metadata", "not-resolved", "denied",
         "placeholder", "refused", "unreachable", "timeout", "certificate", "protocol", "closed",
         "limit", "revoked", "cancelled", "internal", "too-large", "full"]


def unshare(flags):
    if LIBC.unshare(flags) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), "unshare")


def may_unshare():
    return subprocess.run(["unshare", "-Urn", "true"], capture_output=True, check=False).returncode == 0


def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


def enter_near():
    """This process becomes root of namespaces of its own, the near end of the cable."""
    uid, gid = os.geteuid(), os.getegid()
    unshare((CLONE_NEWUSER if uid else 0) | CLONE_NEWNS | CLONE_NEWNET)
    if uid:
        for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            with open(f"/proc/self/{name}", "w", encoding="ascii") as f:
                f.write(text)
    if LIBC.mount(None, b"/", None, 0x4000 | 0x40000, None) != 0:  # MS_REC | MS_PRIVATE
        raise OSError(ctypes.get_errno(), "mount")


def bind_over(path, text, folder):
    own = os.path.join(folder, path.replace("/", "_"))
    with open(own, "w", encoding="utf-8") as f:
        f.write(text)
    if LIBC.mount(own.encode(), path.encode(), None, 0x1000, None) != 0:  # MS_BIND
        raise OSError(ctypes.get_errno(), f"bind over {path}")


def far_end(ready, go, serve):
    try:
        unshare(CLONE_NEWNET)
        os.write(ready, b"1")
        os.read(go, 1)
        ip("link", "set", "lo", "up")
        ip("link", "set", "far", "up")
        ip("addr", "add", f"{FAR}/16", "dev", "far")
        for other in OTHERS:
            ip("addr", "add", f"{other}/32", "dev", "far")
        ip("addr", "add", f"{FAR6}/64", "dev", "far", "nodad")
        serve()
        os.write(ready, b"1")
        signal.pause()
    except BaseException:  # pylint: disable=broad-except
        traceback.print_exc()
    os._exit(1)


def make_world(serve, folder, resolvers):
    """Forks the far end; returns its pid once its servers run."""
    ready, done = os.pipe()
    begin, go = os.pipe()
    enter_near()
    pid = os.fork()
    if pid == 0:
        os.close(ready)
        os.close(go)
        LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
        far_end(done, begin, serve)
    os.close(done)
    os.read(ready, 1)
    ip("link", "set", "lo", "up")
    ip("link", "add", "near", "type", "veth", "peer", "name", "far", "netns", str(pid))
    ip("link", "set", "near", "up")
    ip("addr", "add", f"{NEAR}/16", "dev", "near")
    ip("addr", "add", "2a00:1::1/64", "dev", "near", "nodad")
    ip("route", "add", "10.7.0.0/16", "dev", "near")
    bind_over("/etc/resolv.conf", "".join(f"nameserver {r}\n" for r in resolvers), folder)
    os.write(go, b"1")
    if os.read(ready, 1) != b"1":
        raise RuntimeError("the far end did not start")
    return pid


def in_world(serve=lambda: None, resolvers=(FAR,)):
    """The test runs in a process of its own, in the near namespace; serve() in the far one."""
    def wrap(test):
        def run(tmp_path):
            if not may_unshare():
                pytest.skip("no namespaces for this user")
            report, end = os.pipe()
            pid = os.fork()
            if pid == 0:
                text, far = b"", None
                try:
                    far = make_world(serve, str(tmp_path), resolvers)
                    test(tmp_path)
                except BaseException:  # pylint: disable=broad-except
                    text = traceback.format_exc().encode()
                os.write(end, text[-60000:])
                if far:
                    os.kill(far, signal.SIGKILL)
                os._exit(0)
            os.close(end)
            with os.fdopen(report, "rb") as f:
                text = f.read().decode()
            os.waitpid(pid, 0)
            if text:
                pytest.fail(text, pytrace=False)
        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run
    return wrap


def thread(target, *args):
    t = threading.Thread(target=target, args=args, daemon=True)
    t.start()
    return t


# -- bytes ----------------------------------------------------------------------------------------


def str16(text):
    raw = text if isinstance(text, bytes) else text.encode()
    return struct.pack("<H", len(raw)) + raw


def take_str16(raw, at):
    n = struct.unpack_from("<H", raw, at)[0]
    return raw[at + 2:at + 2 + n], at + 2 + n


def pack_addr(addr):
    if ":" in addr:
        return b"\x06" + socket.inet_pton(socket.AF_INET6, addr)
    return b"\x04" + socket.inet_aton(addr) + bytes(12)


def unpack_addr(raw):
    if raw[0] == 6:
        return socket.inet_ntop(socket.AF_INET6, raw[1:17])
    return socket.inet_ntoa(raw[1:5])


def sealed(data):
    fd = os.memfd_create("policy", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    import fcntl  # pylint: disable=import-outside-toplevel
    fcntl.fcntl(fd, 1033, 1 | 2 | 4 | 8)  # F_ADD_SEALS
    return fd


def compiled(text, generation):
    got = subprocess.run([POLICYC, str(generation)], input=text.encode(), capture_output=True,
                         check=False)
    assert got.returncode == 0, got.stderr.decode()
    return got.stdout


def rules(*lines):
    return "version: 1\nnetwork:\n  rules:\n" + "".join(f"    - {line}\n" for line in lines)


class Ended(Exception):
    """The vault closed one of its sockets."""


class Vault:
    """berm-vault, its supervisor and its gate."""

    def __init__(self, policy=None, hello=True, wrap=()):
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.link, link = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.log_path = None
        log, write = os.pipe()
        self.log = log

        def place():
            os.dup2(control.fileno(), 203)
            os.dup2(link.fileno(), 204)
            os.dup2(203, 3)
            os.dup2(204, 4)
            os.dup2(write, 1)
            os.dup2(write, 2)
            os.closerange(5, 300)

        self.process = subprocess.Popen(  # pylint: disable=consider-using-with,subprocess-popen-preexec-fn
            [*wrap, VAULT, "0123456789ab"], stdin=subprocess.DEVNULL, preexec_fn=place,
            close_fds=False, env={})
        control.close()
        link.close()
        os.close(write)
        self.raw, self.at = b"", 0
        self.fds = []
        self.frames = []
        self.records = []
        self.stream = 0
        self.generation = 0
        kind, payload = self.packet()
        assert (kind, payload) == (READY, bytes(4)), (kind, payload)
        if hello:
            assert self.frame() == (HELLO, 0, struct.pack("<I", 1), None)
            self.send(HELLO, 0, struct.pack("<I", 1))
        if policy is not None:
            self.policy(policy)

    # the supervisor

    def tell(self, kind, payload, fd=None):
        raw = struct.pack("<BBH", 1, kind, 0) + payload
        if fd is None:
            self.control.send(raw)
        else:
            socket.send_fds(self.control, [raw], [fd])
            os.close(fd)

    def packet(self, records=False):
        """The next packet; records are put aside unless they are wanted."""
        while True:
            if not select.select([self.control], [], [], PATIENCE)[0]:
                raise TimeoutError(f"no packet; log: {self.said()}")
            try:
                raw = self.control.recv(65536)
            except ConnectionResetError:
                raw = b""
            if not raw:
                raise Ended(self.said())
            version, kind, zero = struct.unpack_from("<BBH", raw)
            assert (version, zero) == (1, 0)
            if kind == RECORD and not records:
                self.records.append(raw[4:])
                continue
            return kind, raw[4:]

    def policy(self, text, generation=None):
        self.generation = generation or self.generation + 1
        self.tell(POLICY, struct.pack("<I", self.generation), sealed(compiled(text, self.generation)))
        aside = []
        while (got := self.frame())[0] != E_POLICY:
            aside.append(got)
        self.frames = aside + self.frames
        payload = got[2]
        assert struct.unpack_from("<I", payload)[0] == self.generation
        self.send(E_POLICY_OK, 0, struct.pack("<I", self.generation))
        assert self.packet() == (POLICY_OK, struct.pack("<I", self.generation))

    def stats(self):
        self.tell(STATS, struct.pack("<I", 7))
        kind, raw = self.packet()
        assert kind == STATS_OK
        serial, count = struct.unpack_from("<IH", raw)
        assert serial == 7
        at, got = 6, {}
        for _ in range(count):
            name, at = take_str16(raw, at)
            got[name.decode()] = struct.unpack_from("<Q", raw, at)[0]
            at += 8
        return got

    # the gate

    def send(self, kind, stream, payload=b""):
        self.link.sendall(struct.pack("<HBBII", 0xb3e9, kind, 0, stream, len(payload)) + payload)

    def frame(self, patience=PATIENCE):
        """(type, stream, payload, fd or None)"""
        if self.frames:
            return self.frames.pop(0)
        end = time.monotonic() + patience
        while True:
            if len(self.raw) - self.at >= 12:
                magic, kind, zero, stream, size = struct.unpack_from("<HBBII", self.raw, self.at)
                assert (magic, zero) == (0xb3e9, 0)
                if len(self.raw) - self.at >= 12 + size:
                    payload = self.raw[self.at + 12:self.at + 12 + size]
                    self.at += 12 + size
                    carries = kind == CONNECTED and payload[0] == 0
                    return kind, stream, payload, self.fds.pop(0) if carries else None
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.link], [], [], left)[0]:
                raise TimeoutError(f"no frame; log: {self.said()}")
            raw, fds, _, _ = socket.recv_fds(self.link, 1 << 18, 16)
            if not raw:
                raise Ended(self.said())
            self.raw = self.raw[self.at:] + raw
            self.at = 0
            self.fds += fds

    def expect(self, kind, stream):
        """The next frame of a stream; those of others are put back behind it."""
        aside = []
        while True:
            got = self.frame()
            if got[1] == stream:
                break
            aside.append(got)
        self.frames = aside + self.frames
        assert got[0] == kind, got
        return got[2], got[3]

    def open(self, kind, payload):
        self.stream += 1
        self.send(kind, self.stream, payload)
        return self.stream

    def resolve(self, name, want=3):
        """(word, ttl, addresses, chain)"""
        stream = self.open(RESOLVE, struct.pack("<B", want) + str16(name))
        return self.resolved(stream)

    def resolved(self, stream):
        raw, _ = self.expect(RESOLVED, stream)
        fail, ttl, count, links = struct.unpack_from("<BIBB", raw)
        at = 7
        addrs, chain = [], []
        for _ in range(count):
            addrs.append(unpack_addr(raw[at:at + 17]))
            at += 17
        for _ in range(links):
            name, at = take_str16(raw, at)
            chain.append(name.decode())
        assert at == len(raw)
        return FAILS[fail], ttl, addrs, chain

    def ask(self, addr, port, name="", protocol=TCP):
        payload = struct.pack("<II", self.generation, 0) + pack_addr(addr) + struct.pack("<HB", port, protocol)
        return self.open(CONNECT, payload + str16(name))

    def connected(self, stream):
        raw, fd = self.expect(CONNECTED, stream)
        if fd is None:
            return FAILS[raw[0]]
        return socket.socket(fileno=fd)

    def connect(self, addr, port, name="", protocol=TCP):
        """A socket, or the word of the failure."""
        got = self.connected(self.ask(addr, port, name, protocol))
        if isinstance(got, str):
            self.send(END, self.stream)
        else:
            got.setblocking(True)
            got.settimeout(PATIENCE)
        return got

    def said(self):
        os.set_blocking(self.log, False)
        try:
            return os.read(self.log, 65536).decode(errors="replace")
        except BlockingIOError:
            return ""

    def wait(self):
        """Its exit code and its last words."""
        code = self.process.wait(PATIENCE)
        return code, self.said()

    def close(self):
        self.control.close()
        self.link.close()
        assert self.process.wait(PATIENCE) in (0, 1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()
        self.control.close()
        self.link.close()
        os.close(self.log)


# -- servers of the far end -----------------------------------------------------------------------


def dns_name(name):
    return b"".join(bytes([len(x)]) + x.encode() for x in name.split(".") if x) + b"\0"


def record(owner, kind, data, ttl=300):
    return dns_name(owner) + struct.pack(">HHIH", kind, 1, ttl, len(data)) + data


def a(owner, addr, ttl=300):
    if ":" in addr:
        return record(owner, 28, socket.inet_pton(socket.AF_INET6, addr), ttl)
    return record(owner, 1, socket.inet_aton(addr), ttl)


def cname(owner, target, ttl=300):
    return record(owner, 5, dns_name(target), ttl)


def soa(owner, ttl=30):
    return record(owner, 6, dns_name("ns.test") + dns_name("root.test") + struct.pack(">5I", 1, 2, 3, 4, ttl), ttl)


def question_of(query):
    at, labels = 12, []
    while query[at]:
        labels.append(query[at + 1:at + 1 + query[at]].decode())
        at += 1 + query[at]
    return ".".join(labels).lower(), struct.unpack_from(">H", query, at + 1)[0], query[12:at + 5]


def reply(query, answers=(), rcode=0, authority=(), flags=0x8180, question=None, ident=None):
    head = struct.pack(">HHHHHH", struct.unpack_from(">H", query)[0] if ident is None else ident,
                       flags | rcode, 1, len(answers), len(authority), 0)
    return head + (question or question_of(query)[2]) + b"".join(answers) + b"".join(authority)


def serve_dns(answer, addr=FAR, port=53):
    """answer(name, type, query) -> bytes, a list of them, or None. (socket, bytes): sent by that one."""
    def handle(query):
        name, kind, _ = question_of(query)
        got = answer(name, kind, query)
        return [] if got is None else got if isinstance(got, list) else [got]

    def udp(s):
        while True:
            query, peer = s.recvfrom(4096)
            for part in handle(query):
                if isinstance(part, tuple):  # from another port
                    part[0].sendto(part[1], peer)
                else:
                    s.sendto(part, peer)

    def tcp_one(c):
        with c:
            while (head := c.recv(2)):
                query = c.recv(struct.unpack(">H", head)[0])
                for part in handle(query):
                    c.sendall(struct.pack(">H", len(part)) + part)

    def tcp(s):
        while True:
            thread(tcp_one, s.accept()[0])

    u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    u.bind((addr, port))
    thread(udp, u)
    t = socket.create_server((addr, port))
    thread(tcp, t)


def zone(table):
    """answer() of a table: name -> list of records; what is not there does not exist."""
    def answer(name, kind, query):
        if name not in table:
            return reply(query, rcode=3, authority=[soa("test")])
        got = [r for r in table[name] if r[0] in (kind, 5)]
        return reply(query, [r[1] for r in got], authority=[] if got else [soa("test")])
    return answer


def names(**addrs):
    """zone() of names with underscores for dots."""
    table = {}
    for name, given in addrs.items():
        name = name.replace("_", ".")
        table[name] = [(28 if ":" in x else 1, a(name, x)) for x in given]
    return zone(table)


def serve_tcp(handle, addr=FAR, port=0, family=socket.AF_INET):
    s = socket.create_server((addr, port), family=family)

    def loop():
        while True:
            thread(handle, s.accept()[0])

    thread(loop)
    return s


def echo(c):
    with c:
        while (data := c.recv(65536)):
            c.sendall(data)


# -- requests -------------------------------------------------------------------------------------

PLAIN, SECURE = 1, 2
NONE, LENGTH, STREAM = 0, 1, 2
QUERY, CONTINUE, WEBSOCKET, WANTS_TRAILERS = 1, 2, 4, 8


def fields(pairs):
    return struct.pack("<H", len(pairs)) + b"".join(str16(n) + str16(v) for n, v in pairs)


def take_fields(raw, at):
    count = struct.unpack_from("<H", raw, at)[0]
    at += 2
    got = []
    for _ in range(count):
        name, at = take_str16(raw, at)
        value, at = take_str16(raw, at)
        got.append((name.decode(), value.decode("latin-1")))
    assert at == len(raw)
    return got


class Answer:
    """What came on a request's stream up to its end."""

    def __init__(self):
        self.infos, self.status, self.fields, self.body, self.trailers = [], None, [], b"", None
        self.fail, self.framing, self.marks = None, None, []

    def field(self, name):
        got = [v for n, v in self.fields if n == name]
        return got[0] if got else None


class Request:
    """One request of the gate's."""

    def __init__(self, vault, host, path="/", method="GET", addr=FAR, port=None, scheme=SECURE, query=None,
                 headers=(), framing=NONE, length=0, flags=0, body=None):
        if body is not None:
            framing, length = LENGTH, len(body)
        if query is not None:
            flags |= QUERY
        self.vault, self.answer, self.credit = vault, Answer(), 256 << 10
        brief = struct.pack("<HBBIQ", 0, framing, 0, flags, length)
        payload = (struct.pack("<II", vault.generation, 0) + pack_addr(addr) + brief +
                   struct.pack("<BH", scheme, port or (443 if scheme == SECURE else 80)) + str16(method) +
                   str16(host) + str16(path) + str16(query or "") + fields(list(headers)))
        self.stream = vault.open(REQUEST, payload)
        self.done = False
        if body is not None:
            self.send(body)
            self.end()
        elif framing == NONE and not flags & WEBSOCKET:
            self.end()

    def send(self, data):
        """All of it, as credit comes."""
        at = 0
        while at < len(data) and self.answer.fail is None:
            while self.credit == 0 and self.answer.fail is None:
                self.step()
            n = min(len(data) - at, self.credit, 64 << 10)
            self.vault.send(BODY, self.stream, data[at:at + n])
            self.credit -= n
            at += n

    def trailers(self, pairs):
        self.vault.send(TRAILERS, self.stream, fields(pairs))

    def end(self):
        self.vault.send(END, self.stream)

    def reset(self):
        self.vault.send(RESET, self.stream, bytes([FAILS.index("cancelled")]))

    def step(self, grant=True):
        """Takes one frame of this stream."""
        aside = []
        while True:
            kind, stream, payload, _ = self.vault.frame()
            if stream == self.stream:
                break
            aside.append((kind, stream, payload, _))
        self.vault.frames = aside + self.vault.frames
        a = self.answer
        if kind == RESPONSE:
            status, a.framing = struct.unpack_from("<HB", payload)
            got = take_fields(payload, 16)
            if status < 200 and status != 101:
                a.infos.append(status)
            else:
                a.status, a.fields = status, got
        elif kind == BODY:
            a.body += payload
            if grant:
                self.vault.send(CREDIT, self.stream, struct.pack("<I", len(payload)))
        elif kind == TRAILERS:
            a.trailers = take_fields(payload, 0)
        elif kind == END:
            self.done = True
        elif kind == RESET:
            a.fail = FAILS[payload[0]]
            self.done = True
        elif kind == REVOKED:
            a.fail = "revoked"
            self.done = True
        elif kind == CREDIT:
            self.credit += struct.unpack("<I", payload)[0]
        elif kind in (SCRUBBED, VIOLATION):
            a.marks.append((kind, take_str16(payload, 0)[0].decode()))
        else:
            raise AssertionError(f"frame {kind}")
        return kind

    def whole(self):
        while not self.done:
            self.step()
        return self.answer

    def until(self, kind):
        while self.step() != kind:
            pass
        return self.answer


def pki(folder):
    """ca.pem, and NAME.pem with its key for good.test and the bad ones."""
    def run(*argv):
        got = subprocess.run(["openssl", *argv], cwd=folder, capture_output=True, text=True, check=False)
        assert got.returncode == 0, got.stderr

    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    for ca in ("ca", "other-ca"):
        run("req", "-x509", *key, "-keyout", f"{ca}.key", "-out", f"{ca}.pem", "-days", "30", "-subj", f"/CN={ca}",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign")
    for name, subjects, ca, days in (("good", "DNS:good.test,DNS:two.test", "ca", 30),
                                     ("expired", "DNS:good.test", "ca", -1),
                                     ("stranger", "DNS:good.test", "other-ca", 30),
                                     ("wrong", "DNS:else.test", "ca", 30)):
        with open(os.path.join(folder, f"{name}.ext"), "w", encoding="ascii") as f:
            f.write(f"subjectAltName={subjects}\n")
        run("req", "-new", *key, "-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", "/CN=x")
        if days > 0:
            run("x509", "-req", "-in", f"{name}.csr", "-CA", f"{ca}.pem", "-CAkey", f"{ca}.key", "-CAcreateserial",
                "-days", str(days), "-extfile", f"{name}.ext", "-out", f"{name}.pem")
        else:
            with open(os.path.join(folder, "ca.cnf"), "w", encoding="ascii") as f:
                f.write("[ca]\ndefault_ca=w\n[w]\ndatabase=i.txt\nserial=s.txt\nnew_certs_dir=.\ncertificate=ca.pem\n"
                        "private_key=ca.key\ndefault_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
            with open(os.path.join(folder, "i.txt"), "w", encoding="ascii"):
                pass
            with open(os.path.join(folder, "s.txt"), "w", encoding="ascii") as f:
                f.write("77\n")
            run("ca", "-batch", "-config", "ca.cnf", "-notext", "-in", f"{name}.csr", "-out", f"{name}.pem", "-extfile",
                f"{name}.ext", "-startdate", "20200101000000Z", "-enddate", "20200201000000Z")


def tls_server(folder, name="good", alpn=("http/1.1",), newest=None):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
    if newest:
        context.maximum_version = newest
        context.set_ciphers("ALL:@SECLEVEL=0")
    context.load_cert_chain(os.path.join(folder, f"{name}.pem"), os.path.join(folder, f"{name}.key"))
    if alpn:
        context.set_alpn_protocols(list(alpn))
    return context


def serve_https(handle, context, addr=FAR, port=443):
    """handle(TLS socket) in a thread for each connection whose handshake went well."""
    def one(c):
        try:
            with context.wrap_socket(c, server_side=True) as s:
                handle(s)
        except (OSError, ssl.SSLError):
            pass

    return serve_tcp(one, addr=addr, port=port)


def read_head(s, rest=b""):
    """(head with its empty line, what came behind it)"""
    while b"\r\n\r\n" not in rest:
        part = s.recv(65536)
        if not part:
            return b"", rest
        rest += part
    at = rest.index(b"\r\n\r\n") + 4
    return rest[:at], rest[at:]


def simple(answers):
    """handle() of HTTP/1.1: answers(head, body) -> bytes, or None to close."""
    def handle(s):
        rest = b""
        while True:
            head, rest = read_head(s, rest)
            if not head:
                return
            size = 0
            for line in head.split(b"\r\n"):
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            while len(rest) < size:
                rest += s.recv(65536)
            got = answers(head, rest[:size])
            rest = rest[size:]
            if got is None:
                return
            s.sendall(got)
    return handle
