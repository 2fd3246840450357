"""File systems on loop devices, and a block device that writes down what it is told to write.

The recording device is a loop device over a file of a small FUSE server, which is this program:

    python3 blocklog.py MOUNTPOINT IMAGE LOG

It serves IMAGE, read once into memory, as MOUNTPOINT/disk, and appends to LOG each write (offset,
length, bytes) and each flush as they come. Without a write-back cache the kernel passes every write
of the loop device on at once and in order, and a flush of the device arrives as an fsync.
"""

import ctypes
import errno
import os
import struct
import subprocess
import sys
import time

MS_NOSUID_NODEV = 6
FLUSH = (1 << 64) - 1  # as the offset of a record

# linux/fuse.h
(LOOKUP, FORGET, GETATTR, SETATTR, OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH_FILE, INIT, OPENDIR,
 RELEASEDIR, ACCESS, INTERRUPT, DESTROY, BATCH_FORGET) = (
    1, 2, 3, 4, 14, 15, 16, 17, 18, 20, 25, 26, 27, 29, 34, 36, 38, 42)
BUFFER_BYTES = (1 << 20) + 4096
MAX_WRITE = 1 << 17
libc = ctypes.CDLL(None, use_errno=True)


class Server:
    def __init__(self, mountpoint, image, log):
        with open(image, "rb") as f:
            self.disk = bytearray(f.read())
        self.log = open(log, "ab", buffering=0)
        self.fuse = os.open("/dev/fuse", os.O_RDWR)
        opts = f"fd={self.fuse},rootmode=40000,user_id=0,group_id=0,allow_other"
        if libc.mount(b"blocklog", os.fsencode(mountpoint), b"fuse", MS_NOSUID_NODEV, opts.encode()):
            raise OSError(ctypes.get_errno(), "mount")

    def attr(self, node):
        mode, size = (0o40755, 0) if node == 1 else (0o100600, len(self.disk))
        return struct.pack("<6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, 0, 0, 0,
                           4096, 0)

    def answer(self, unique, code=0, data=b""):
        os.write(self.fuse, struct.pack("<IiQ", 16 + len(data), -code, unique) + data)

    def serve(self):
        while True:
            try:
                got = os.read(self.fuse, BUFFER_BYTES)
            except OSError as e:
                if e.errno == errno.ENODEV:
                    return  # unmounted
                if e.errno in (errno.EINTR, errno.ENOENT, errno.EAGAIN):
                    continue
                raise
            _, op, unique, node = struct.unpack_from("<IIQQ", got)
            if op in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            code, data = self.handle(op, node, got[40:])
            self.answer(unique, code, data)

    def handle(self, op, node, body):
        if op == INIT:
            return 0, struct.pack("<IIIIHHIIHHI28x", 7, 31, 1 << 17, 0, 16, 12, MAX_WRITE, 1, 32, 0, 0)
        if op == LOOKUP:
            if body.rstrip(b"\0") != b"disk":
                return errno.ENOENT, b""
            return 0, struct.pack("<4Q2I", 2, 0, 3600, 3600, 0, 0) + self.attr(2)
        if op in (GETATTR, SETATTR):
            return 0, struct.pack("<Q2I", 3600, 0, 0) + self.attr(node)
        if op in (OPEN, OPENDIR):
            return 0, struct.pack("<QII", 1, 0, 0)
        if op == READ:
            _, at, size = struct.unpack_from("<QQI", body)
            return 0, bytes(self.disk[at : at + size])
        if op == WRITE:
            _, at, size = struct.unpack_from("<QQI", body)
            data = body[40 : 40 + size]
            self.disk[at : at + size] = data
            self.log.write(struct.pack("<QI", at, size) + data)
            return 0, struct.pack("<II", size, 0)
        if op == FSYNC:
            self.log.write(struct.pack("<QI", FLUSH, 0))
            return 0, b""
        if op == STATFS:
            return 0, struct.pack("<5Q4I24x", 1 << 20, 1 << 19, 1 << 19, 99, 99, 4096, 255, 4096, 0)
        if op in (RELEASE, RELEASEDIR, ACCESS, FLUSH_FILE, DESTROY):
            return 0, b""
        return errno.ENOSYS, b""


def read_log(path):
    """[(offset, bytes)], and None for a flush."""
    with open(path, "rb") as f:
        data = f.read()
    at, found = 0, []
    while at < len(data):
        offset, size = struct.unpack_from("<QI", data, at)
        at += 12
        found.append(None if offset == FLUSH else (offset, data[at : at + size]))
        at += size
    return found


def why_not():
    """What a loop mount lacks here; empty: nothing."""
    if os.geteuid() != 0:
        return "only root mounts a file system"
    if not os.path.exists("/dev/loop-control"):
        return "this kernel has no loop devices"
    return ""


def sh(*argv):
    subprocess.run(argv, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                   stderr=subprocess.PIPE)


class Mounted:
    """with Mounted(source, folder, "-o", "loop"): the file system is there."""

    def __init__(self, source, folder, *options):
        self.source, self.folder, self.options = str(source), str(folder), options

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        sh("mount", *self.options, self.source, self.folder)
        return self

    def __exit__(self, *_):
        umount(self.folder)


def umount(folder):
    for _ in range(50):
        if subprocess.run(["umount", folder], check=False, capture_output=True).returncode == 0:
            return
        time.sleep(0.1)  # a scanner of the host may look into every new mount
    sh("umount", "-l", folder)


class Recorded:
    """A loop device over the recording server: .device, and .log while and after it is there."""

    def __init__(self, folder, image):
        self.folder = os.path.join(folder, "fuse")
        self.image, self.log = image, os.path.join(folder, "log")
        self.device = None

    def __enter__(self):
        os.makedirs(self.folder, exist_ok=True)
        argv = [sys.executable, os.path.abspath(__file__), self.folder, self.image, self.log]
        self.server = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        try:
            if self.server.stdout.readline() != "ready\n":
                raise RuntimeError("the recording server did not start")
            made = subprocess.run(["losetup", "--find", "--show", f"{self.folder}/disk"], check=True,
                                  capture_output=True, text=True)
            self.device = made.stdout.strip()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.device:
            subprocess.run(["losetup", "--detach", self.device], check=False)
        subprocess.run(["umount", "-l", self.folder], check=False, capture_output=True)
        self.server.wait(timeout=60)
        self.server.stdout.close()


if __name__ == "__main__":
    server = Server(*sys.argv[1:])
    print("ready", flush=True)
    server.serve()
