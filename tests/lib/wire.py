"""The wire protocol (src/wire/wire.h) for tests: a host that can also misbehave."""

import collections
import select
import socket
import struct
import time

VERSION = 4
MAGIC = 0xB37E
HEADER = struct.Struct("<HBBIII")
DATA_MAX = 64 << 10
WINDOW = 256 << 10
STREAMS_MAX = 64

TYPES = dict(
    HELLO=1, HELLO_OK=2, REFUSE=3, FATAL=4, IDENTITY=5, IDENTITY_OK=6, PING=7, PONG=8, STATS=9,
    STATS_OK=10, FREEZE=11, FREEZE_OK=12, THAW=13, THAW_OK=14, QUIESCE=15, QUIESCE_OK=16,
    POWEROFF=17, EVENT=18, HOLD=19, HOLD_OK=20, RELEASE=21, RELEASE_OK=22, EXEC=32, EXEC_OK=33,
    EXEC_ERR=34, DATA=35, EOF=36, CREDIT=37, RESIZE=38,
    SIGNAL=39, EXIT=40, PUT=41, GET=42, RESULT=43, RESET=44, COLLECT=45, SIZE=46, INFO=64, INFO_OK=65, ATTACH=66,
    STOP=67, KILL=68, END=69, WAIT=70, PROGRESS=71, SNAPSHOT=72, PAUSE=73, RESUME=74, DONE=75,
)
globals().update(TYPES)
NAMES = {v: k for k, v in TYPES.items()}
IN, OUT, ERR = 0, 1, 2
TTY, STDIN, WARM = 1, 2, 4
AT_USER, AT_CWD, AT_EXEC, AT_SYSTEM, AT_PATH = 1, 2, 3, 4, 5
EVENT_OOM, EVENT_PIDS, EVENT_DISK = 1, 2, 3
ENTRY_END, ENTRY_FILE, ENTRY_DIR, ENTRY_LINK = 0, 1, 2, 3

Exit = collections.namedtuple("Exit", "signaled value user_us sys_us maxrss_bytes")
Fail = collections.namedtuple("Fail", "code stage text")
Event = collections.namedtuple("Event", "kind killed count")
Stats = collections.namedtuple(
    "Stats",
    "cpu_us memory_bytes memory_peak_bytes disk_bytes disk_max_bytes pids streams oom_kills "
    "pids_refused uptime_ms",
)
Entry = collections.namedtuple("Entry", "kind path mode uid gid mtime_s mtime_ns data target")


class Frame(collections.namedtuple("Frame", "type channel stream epoch payload")):
    def __repr__(self):
        name = NAMES.get(self.type, self.type)
        return f"<{name} stream={self.stream} ch={self.channel} {self.payload[:60]!r}>"


def raw(s):
    return s.encode() if isinstance(s, str) else bytes(s)


def str16(s):
    s = raw(s)
    return struct.pack("<H", len(s)) + s


def take_str16(data, at):
    (n,) = struct.unpack_from("<H", data, at)
    return data[at + 2 : at + 2 + n], at + 2 + n


def frame(type_, stream=0, channel=0, epoch=1, payload=b""):
    return HEADER.pack(MAGIC, type_, channel, stream, epoch, len(payload)) + payload


def exec_payload(argv, env=(), user="", cwd="", flags=0, rows=0, cols=0, rlimits=()):
    out = struct.pack("<IHH", flags, rows, cols) + str16(user) + str16(cwd)
    out += struct.pack("<III", len(argv), len(env), len(rlimits))
    out += b"".join(struct.pack("<IQQ", *r) for r in rlimits)
    return out + b"".join(map(str16, argv)) + b"".join(map(str16, env))


def network_part(ip4="100.96.0.2", router4="100.96.0.1", dns4="100.96.0.1", prefix4=30, prefix6=64,
                 ip6="fd62:6572:6d00::2", router6="fd62:6572:6d00::1", mtu=65520):
    out = b"".join(socket.inet_aton(a) for a in (ip4, router4, dns4)) + bytes([prefix4, prefix6])
    six = [socket.inet_pton(socket.AF_INET6, a) if prefix6 else bytes(16) for a in (ip6, router6)]
    return out + b"".join(six) + struct.pack("<H", mtu)


def identity_payload(realtime_ns=None, pids_max=0, memory_max=0, entropy=None, machine_id=b"\1" * 16,
                     hostname="guest", keep_stream=0, network=None, trust=None, workspace=None):
    """network: fields of network_part(); trust: (name hash, PEM); workspace: where it is mounted."""
    if realtime_ns is None:
        realtime_ns = time.time_ns()
    entropy = entropy or bytes(range(64))
    return (struct.pack("<QIQI", realtime_ns, pids_max, memory_max, keep_stream) + entropy +
            machine_id + str16(hostname) +
            (b"\0" if network is None else b"\1" + network_part(**network)) +
            (b"\0" if trust is None else b"\1" + struct.pack("<I", trust[0]) + str16(trust[1])) +
            (b"\0" if workspace is None else b"\1" + str16(workspace)))


def parse_trusted(p):
    """(path of the certificate, path of the bundle)"""
    cert, at = take_str16(p, 0)
    bundle, at = take_str16(p, at)
    assert at == len(p)
    return cert.decode(), bundle.decode()


def snapshot_payload(name="", flags=0):
    return bytes([flags]) + str16(name)


def file_payload(path, user="", follow=False):
    return str16(path) + str16(user) + bytes([follow])


def parse_exit(p):
    return Exit(*struct.unpack("<BIQQQ", p))


def parse_fail(p):
    code, stage = struct.unpack_from("<IB", p)
    return Fail(code, stage, take_str16(p, 5)[0].decode())


def parse_event(p):
    return Event(*struct.unpack("<BBQ", p))


def parse_stats(p):
    return Stats(*struct.unpack("<QQQQQIIQQQ", p))


def parse_hello(p):
    version, features = struct.unpack_from("<II", p)
    agent, at = take_str16(p, 8)
    kernel, at = take_str16(p, at)
    assert at == len(p)
    return version, features, agent.decode(), kernel.decode()


def put_entry(kind, path=b"", mode=0o644, uid=0, gid=0, mtime_s=1700000000, mtime_ns=0, data=b"",
              target=b""):
    """One entry with its content."""
    if kind == ENTRY_END:
        return b"\0"
    head = struct.pack("<BIIIqIQ", kind, mode, uid, gid, mtime_s, mtime_ns, len(data))
    return head + str16(path) + str16(target) + data


def parse_entries(stream):
    """All entries of a whole entry stream; asserts that it ends properly."""
    entries, at = [], 0
    while stream[at] != ENTRY_END:
        kind, mode, uid, gid, s, ns, size = struct.unpack_from("<BIIIqIQ", stream, at)
        path, at = take_str16(stream, at + 33)
        target, at = take_str16(stream, at)
        entries.append(Entry(kind, path, mode, uid, gid, s, ns, stream[at : at + size], target))
        at += size
    assert at + 1 == len(stream), "bytes after the end of the entries"
    return entries


class Timeout(Exception):
    pass


class Stream:
    """One stream seen from the host. With auto_credit every byte read is granted again."""

    def __init__(self, peer, id_, auto_credit=True):
        self.peer, self.id, self.auto_credit = peer, id_, auto_credit
        self.out = {OUT: bytearray(), ERR: bytearray()}
        self.eof = set()
        self.credit = WINDOW
        self.started = None
        self.end = None  # Exit, Fail, or the errno of a RESET

    def frame(self, f):
        if f.type == DATA:
            self.out[f.channel] += f.payload
            assert f.channel not in self.eof, "DATA after EOF"
            assert self.end is None, "DATA after the end"
            if self.auto_credit:
                self.grant(f.channel, len(f.payload))
        elif f.type == EOF:
            self.eof.add(f.channel)
        elif f.type == CREDIT:
            self.credit += struct.unpack("<I", f.payload)[0]
            assert self.credit <= WINDOW, "more credit than a window"
        elif f.type == EXEC_OK:
            self.started = struct.unpack("<I", f.payload)[0]
        elif f.type in (EXEC_ERR, RESULT):
            self.end = parse_fail(f.payload)
        elif f.type == EXIT:
            self.end = parse_exit(f.payload)
        elif f.type == RESET:
            self.end = struct.unpack("<I", f.payload)[0]
        else:
            raise AssertionError(f"unexpected {f!r}")

    def grant(self, channel, n):
        if self.peer.held is not None:
            self.peer.held.append((self, channel, n))
            return
        self.peer.send(CREDIT, self.id, channel, struct.pack("<I", n))

    def write(self, data, deadline_s=30):
        view = memoryview(raw(data))
        until = time.monotonic() + deadline_s
        while view and self.end is None:
            n = min(len(view), self.credit, DATA_MAX)
            if n == 0:
                self.peer.pump(until)
                continue
            self.credit -= n  # first: sending reads as well, and credit may come
            self.peer.send(DATA, self.id, IN, bytes(view[:n]))
            view = view[n:]
            self.peer.pump_ready()

    def close_input(self):
        self.peer.send(EOF, self.id, IN)

    def signal(self, number):
        self.peer.send(SIGNAL, self.id, 0, struct.pack("<I", number))

    def resize(self, rows, cols):
        self.peer.send(RESIZE, self.id, 0, struct.pack("<HH", rows, cols))

    def reset(self, errno=0):
        self.peer.send(RESET, self.id, 0, struct.pack("<I", errno))
        self.peer.streams.pop(self.id, None)

    def wait(self, deadline_s=30):
        until = time.monotonic() + deadline_s
        while self.end is None:
            self.peer.pump(until)
        return self.end

    def wait_for(self, condition, deadline_s=30):
        until = time.monotonic() + deadline_s
        while not condition(self):
            self.peer.pump(until)

    @property
    def stdout(self):
        return bytes(self.out[OUT])

    @property
    def stderr(self):
        return bytes(self.out[ERR])


class Peer:
    """The host's end of an agent's port."""

    def __init__(self, sock):
        self.sock, self.epoch, self.buf = sock, 1, bytearray()
        self.streams, self.control, self.events = {}, [], []
        self.next_id = 1
        self.closed = False
        self.held = None  # while the guest is held: the credit that is owed to it

    def send(self, type_, stream=0, channel=0, payload=b"", epoch=None):
        self.send_raw(frame(type_, stream, channel, self.epoch if epoch is None else epoch, payload))

    def send_raw(self, data):
        # the agent may be waiting for us to read before it reads on: never write blindly
        view = memoryview(data)
        while view:
            r, w, _ = select.select([self.sock], [self.sock], [], 30)
            if not r and not w:
                raise Timeout("the guest reads nothing")
            if r:
                self._read()
            if w:
                view = view[self.sock.send(view[: 64 << 10], socket.MSG_DONTWAIT) :]
        self._dispatch()

    def _read(self):
        try:
            data = self.sock.recv(1 << 18)
        except ConnectionResetError:
            data = b""
        if not data:
            self.closed = True
            raise EOFError("the guest closed the port")
        self.buf += data

    def _dispatch(self):
        while len(self.buf) >= HEADER.size:
            magic, type_, channel, stream, epoch, n = HEADER.unpack_from(self.buf)
            assert magic == MAGIC, f"no frame: {bytes(self.buf[:64])!r}"
            if len(self.buf) < HEADER.size + n:
                return
            f = Frame(type_, channel, stream, epoch, bytes(self.buf[HEADER.size : HEADER.size + n]))
            del self.buf[: HEADER.size + n]
            assert epoch == self.epoch, f"a frame of epoch {epoch} in {self.epoch}: {f!r}"
            if type_ == EVENT:
                self.events.append(parse_event(f.payload))
                self.control.append(f)
            elif stream == 0:
                self.control.append(f)
            elif stream in self.streams:
                self.streams[stream].frame(f)
            else:
                assert False, f"a frame for no stream: {f!r}"

    def pump(self, until):
        left = until - time.monotonic()
        if left <= 0 or not select.select([self.sock], [], [], left)[0]:
            raise Timeout("nothing came from the guest")
        self._read()
        self._dispatch()

    def pump_ready(self):
        while select.select([self.sock], [], [], 0)[0]:
            self._read()
            self._dispatch()

    def expect(self, type_, deadline_s=10):
        """The next control frame of that type; others before it are dropped."""
        until = time.monotonic() + deadline_s
        while True:
            while self.control:
                f = self.control.pop(0)
                if f.type == type_:
                    return f
                assert f.type not in (FATAL, REFUSE), f"the guest gave up: {f!r}"
            self.pump(until)

    def call(self, type_, answer, payload=b"", deadline_s=10):
        self.send(type_, payload=payload)
        return self.expect(answer, deadline_s).payload

    def identity(self, epoch=None, **fields):
        if epoch is not None:
            self.epoch = epoch
        return parse_trusted(self.call(IDENTITY, IDENTITY_OK, identity_payload(**fields)))

    def hold(self, deadline_s=10):
        self.held = []
        self.send(HOLD)
        self.expect(HOLD_OK, deadline_s)

    def release(self, realtime_ns=None):
        owed, self.held = self.held or [], None
        self.call(RELEASE, RELEASE_OK, struct.pack("<Q", realtime_ns or time.time_ns()))
        for stream, channel, n in owed:
            stream.grant(channel, n)

    def ping(self, cookie=0x1122334455667788):
        p = self.call(PING, PONG, struct.pack("<Q", cookie))
        assert struct.unpack("<Q", p)[0] == cookie

    def stats(self):
        return parse_stats(self.call(STATS, STATS_OK))

    def open(self, type_, payload, auto_credit=True):
        s = Stream(self, self.next_id, auto_credit)
        self.next_id += 1
        self.streams[s.id] = s
        self.send(type_, s.id, 0, payload)
        return s

    def exec(self, argv, auto_credit=True, **kw):
        return self.open(EXEC, exec_payload(argv, **kw), auto_credit)

    def run(self, *argv, input_=None, deadline_s=30, **kw):
        """Runs to the end: (Exit or Fail, stdout, stderr)."""
        if input_ is not None:
            kw["flags"] = kw.get("flags", 0) | STDIN
        s = self.exec(argv, **kw)
        if input_ is not None:
            s.write(input_)
            s.close_input()
        end = s.wait(deadline_s)
        del self.streams[s.id]
        return end, s.stdout, s.stderr

    def sh(self, script, **kw):
        return self.run("/bin/sh", "-c", script, **kw)

    def put(self, path, entries, user=""):
        s = self.open(PUT, file_payload(path, user))
        s.write(entries)
        if s.end is None:
            s.close_input()
        return s.wait()

    def get(self, path, follow=False):
        s = self.open(GET, file_payload(path, "", follow))
        end = s.wait()
        return end, s.stdout
