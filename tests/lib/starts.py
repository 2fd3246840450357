"""Starts a supervisor as a command does (src/lib/start.h), for what the command line has no word for
yet: a sandbox with a network. The spec's bytes are those of src/state/spec_tlv.c."""

import fcntl
import hashlib
import json
import os
import secrets
import socket
import struct
import subprocess

import bermtest
import fake_control as say
import wire

MAGIC, VERSION = 0x63706562, 1
CONTROL, SPEC, STATE, SANDBOX, DISK, LOCK = range(3, 9)
EGRESS = 12
QEMU, KVM = 1, 2
LEVEL_EMULATED = 2
MIB = 1 << 20


def text(tag, value):
    data = value.encode() + b"\0"
    return struct.pack("<BI", tag, len(data)) + data


def texts(tag, values):
    data = struct.pack("<I", len(values)) + b"".join(v.encode() + b"\0" for v in values)
    return struct.pack("<BI", tag, len(data)) + data


def number(tag, form, value):
    data = struct.pack("<" + form, value)
    return struct.pack("<BI", tag, len(data)) + data


def spec(image, argv, env=(), name=None, image_id=None, memory=96 * MIB, disk=64 * MIB, engine=0,
         detach=False, cold=False, network=True, warm=(), stdin=False, remove=None):
    out = struct.pack("<IH", MAGIC, VERSION)
    out += text(1, name) if name else b""
    out += text(2, image) + text(3, image_id) + texts(7, argv) + texts(8, env)
    out += texts(9, warm) if warm else b""
    out += number(10, "I", 1) + number(11, "Q", memory) + number(12, "Q", disk)
    out += number(13, "Q", 512) + b"".join(number(tag, "Q", 0) for tag in (14, 15, 16))
    out += number(17, "B", engine) + number(18, "B", LEVEL_EMULATED)
    # tty, stdin, detach, remove, cold, foreground_tty
    flags = (False, stdin, detach, detach if remove is None else remove, cold, False)
    out += b"".join(number(19 + i, "B", flag) for i, flag in enumerate(flags))
    out += number(25, "H", 0) + number(26, "H", 0)
    out += number(28, "I", 0) + number(29, "I", 0) + number(30, "B", 0) + number(31, "B", 0)
    out += number(32, "B", network)
    # no workspace: what would be said of one
    return out + number(34, "Q", 0) + number(35, "I", 0) + number(36, "B", 0) + number(37, "B", 0)


def policy(allow=False, generation=7):
    """A compiled policy without rules: src/policy/tlv.h."""
    body = struct.pack("<HIB", 1, 1, allow) + struct.pack("<HI", 2, 56) + bytes(56)
    return struct.pack("<IHHQI", 0x6C6F7062, 1, 0, generation, len(body)) \
        + hashlib.sha256(body).digest() + body


def memory_file(data):
    fd = os.memfd_create("test")
    os.write(fd, data)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def plan(parts):
    """The socket with (packet, fd) of src/lib/egress_plan.h; the fds are closed."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for data, fd in parts:
        socket.send_fds(ours, [data], [fd] if fd is not None else [])
        if fd is not None:
            os.close(fd)
    ours.close()
    return theirs.detach()


def policy_part(tlv=None):
    return say.packet(say.POLICY, bytes(4)), memory_file(policy() if tlv is None else tlv)


def secret_part(name, value):
    return say.packet(say.SECRET, bytes(4) + say.str16(name)), memory_file(value)


def image_disk(berm, image):
    """(id, path) of an image in berm's store."""
    got = berm.json("image", "ls", "--json")
    image = next(i for i in got if image in i["names"])
    home = os.path.join(os.path.dirname(os.path.dirname(berm.path)), "share", "berm")
    folder = home if image["installed"] else berm.state_dir
    return image["id"], os.path.join(folder, "images", image["id"], "disk.sqfs")


def placed(fds):
    def place():
        high = {n: fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for n, fd in fds.items()}
        for n, fd in high.items():
            os.dup2(fd, n)
        os.closerange(max(fds) + 1, 1024)

    return place


class Sandbox:
    """One whose caller is this object; it ends with it. Output of the main command is collected."""

    def __init__(self, berm, image, argv, net=None, **more):
        """net: the parts of its plan; else a policy and nothing more."""
        self.berm = berm
        image_id, disk = image_disk(berm, image)
        self.id = secrets.token_hex(6)
        folder = os.path.join(berm.state_dir, "sandboxes")
        aside = os.path.join(folder, f".new-{self.id}")
        os.mkdir(aside, 0o700)
        lock = os.open(os.path.join(aside, "lock"), os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(aside, os.path.join(folder, self.id))
        ours, theirs = socket.socketpair()
        spec_fd = os.memfd_create("spec")
        os.write(spec_fd, spec(image, argv, image_id=image_id, **more))
        os.lseek(spec_fd, 0, os.SEEK_SET)
        fds = {CONTROL: theirs.fileno(), SPEC: spec_fd, LOCK: lock,
               STATE: os.open(berm.state_dir, os.O_RDONLY),
               SANDBOX: os.open(os.path.join(folder, self.id), os.O_RDONLY),
               DISK: os.open(disk, os.O_RDONLY)}
        if more.get("network", True):
            fds[EGRESS] = plan([policy_part()] if net is None else net)
        program = os.path.join(berm.libexec(), "berm-supervisor")
        self.process = subprocess.Popen([program, self.id], preexec_fn=placed(fds), env={},
                                        close_fds=False, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, start_new_session=True)
        theirs.close()
        for n, fd in fds.items():
            if n != CONTROL:
                os.close(fd)
        self.sock, self.buf = ours, b""
        self.sock.settimeout(bermtest.stretched(bermtest.RUN_SECONDS_MAX))
        self.out, self.result, self.said, self.pid = {wire.OUT: b"", wire.ERR: b""}, None, [], None
        self.send(wire.ATTACH, 1, 0, b"\0")

    def send(self, type_, stream=0, channel=0, payload=b""):
        try:
            self.sock.sendall(wire.frame(type_, stream, channel, 1, payload))
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before is still to be read

    def step(self):
        """One frame; False at the end."""
        while True:
            if len(self.buf) >= 16:
                _, type_, channel, stream, _, n = wire.HEADER.unpack_from(self.buf)
                if len(self.buf) >= 16 + n:
                    payload, self.buf = self.buf[16:16 + n], self.buf[16 + n:]
                    break
            try:
                more = self.sock.recv(1 << 18)
            except ConnectionResetError:
                more = b""
            if not more:
                return False
            self.buf += more
        if type_ == wire.DATA:
            self.out[channel] += payload
            self.send(wire.CREDIT, stream, channel, struct.pack("<I", n))
        elif type_ == wire.EXEC_OK:
            self.pid = struct.unpack("<I", payload)[0]
        elif type_ == wire.PROGRESS:
            self.said.append(wire.take_str16(payload, 0)[0].decode())
        elif type_ == wire.END:
            self.result = json.loads(payload)
        return True

    def until(self, condition):
        while not condition(self):
            assert self.step(), (self.result, self.out)
        return self

    def started(self):
        return self.until(lambda s: s.pid is not None or s.result)

    def finish(self):
        """To the end: (result, the bytes of stdout)."""
        while self.step():
            pass
        self.process.wait(bermtest.stretched(20))
        return self.result, self.out[wire.OUT]

    def close(self):
        self.sock.close()
        self.process.wait(bermtest.stretched(20))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
