"""Boots the guest agent under QEMU for tests: a bare microvm, no supervisor."""

import os
import pathlib
import shutil
import socket
import subprocess
import time

import wire

TOP = pathlib.Path(__file__).resolve().parents[2]
MACHINE = "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=off"
# The software CPU runs "rep movsb" a byte at a time: without these two the kernel copies by words.
CPU = "max,-erms,-fsrm"
PASSWD = """root:x:0:0:root:/root:/bin/sh
broken line
dev:x:1000:1000:Dev:/home/dev:/bin/sh
ghost:x:1001:1001::/nowhere:/bin/sh
"""
GROUP = "root:x:0:\ndev:x:1000:\ndocker:x:998:dev,ghost\nvideo:x:44:dev\n"


def tsc_word():
    """On a busy host the guest cannot measure its TSC, and falls back to a clock of 10 ms."""
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("cpu MHz"):
            return f"tsc_early_khz={int(float(line.split(':')[1]) * 1000)}"
    return ""


def kernel_path():
    path = os.environ.get("BERM_KERNEL")
    return pathlib.Path(path) if path else TOP / "build/stage/share/berm/vmlinux"


def missing():
    """Why guests cannot be booted here, or None."""
    if not shutil.which("qemu-system-x86_64"):
        return "qemu-system-x86_64 is missing: apt install qemu-system-x86"
    if not kernel_path().exists():
        return f"no guest kernel at {kernel_path()}: make kernel, or set BERM_KERNEL"
    return None


def initramfs(work):
    """The initramfs around the agent; the agent is built here unless BERM_INITRAMFS names one."""
    given = os.environ.get("BERM_INITRAMFS")
    staged = TOP / "build/stage/share/berm/initramfs.cpio"
    if given or staged.exists():
        return pathlib.Path(given) if given else staged
    build = work / "agent"
    subprocess.run(
        ["meson", "setup", str(build), str(TOP), "-Dagent_only=true", "-Dbuildtype=minsize",
         "-Db_pie=false"],
        env=dict(os.environ, CC="musl-gcc"), check=True, stdout=subprocess.DEVNULL)
    subprocess.run(["ninja", "-C", str(build)], check=True, stdout=subprocess.DEVNULL)
    out = work / "initramfs.cpio"
    subprocess.run([str(TOP / "src/agent/mkinitramfs"), str(build / "src/agent/berm-agent"),
                    str(out)], check=True)
    return out


def busybox_root(root):
    """A root with busybox-static and users. The directory can still be changed."""
    for d in ("bin", "etc", "home/dev", "root", "tmp", "var/lib/dbus", "usr/bin"):
        (root / d).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    names = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True)
    for name in names.stdout.split():
        if name != "busybox":
            (root / "bin" / name).symlink_to("busybox")
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text(PASSWD)
    (root / "etc/group").write_text(GROUP)
    (root / "var/lib/dbus/machine-id").write_text("0" * 32 + "\n")
    return root


def squashfs_plain(root, out, *options):
    subprocess.run(["mksquashfs", str(root), str(out), "-noappend", "-quiet", "-no-progress",
                    "-all-root", "-comp", "lz4", *options], check=True, stdout=subprocess.DEVNULL)
    return out


def squashfs(root, out):
    """All is root's but the user's home."""
    (root / "home/dev").rmdir()
    return squashfs_plain(root, out, "-p", "home/dev d 755 1000 1000")


class Guest:
    def __init__(self, work, image, initrd, memory_mib=192, scratch_mib=64, cpus=1, journal=False,
                 append="", disks=True, net_fd=None):
        self.work = work
        work.mkdir(parents=True, exist_ok=True)
        scratch = work / "scratch.img"
        with open(scratch, "wb") as f:
            f.truncate(scratch_mib << 20)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-m", "0", "-E", "lazy_itable_init=1",
                        "-O", "has_journal" if journal else "^has_journal", str(scratch)],
                       check=True, env=dict(os.environ, PATH=os.environ["PATH"] + ":/usr/sbin:/sbin"))
        self.console = work / "console.log"
        self.sock_path = work / "agent.sock"
        cmdline = (TOP / "kernel/cmdline").read_text().strip()
        args = ["qemu-system-x86_64", "-M", MACHINE, "-accel", "tcg", "-cpu", CPU,
                "-m", str(memory_mib), "-smp", str(cpus), "-nodefaults", "-no-user-config",
                "-display", "none", "-no-reboot", "-kernel", str(kernel_path()),
                "-initrd", str(initrd), "-append", f"{cmdline} {tsc_word()} berm.future=1 {append}",
                "-global", "virtio-mmio.force-legacy=false",
                "-device", "virtio-serial-device,max_ports=2",
                "-chardev", f"file,id=con,path={self.console}", "-device", "virtconsole,chardev=con",
                "-chardev", f"socket,id=agent,path={self.sock_path},server=on,wait=off",
                "-device", "virtserialport,chardev=agent,name=berm.agent,nr=1"]
        if disks:
            for i, (path, ro) in enumerate(((image, "on"), (scratch, "off"))):
                args += ["-drive", f"if=none,id=d{i},file={path},format=raw,readonly={ro},"
                         "cache=unsafe", "-device", f"virtio-blk-device,drive=d{i}"]
        if net_fd is not None:  # as src/engine/qemu.c
            args += ["-netdev", f"stream,id=gate,server=off,addr.type=fd,addr.str={net_fd}",
                     "-device", "virtio-net-device,netdev=gate,mac=02:62:65:72:6d:02,host_mtu=65520,"
                     "indirect_desc=off,mrg_rxbuf=off,ctrl_vq=off,ctrl_rx=off,ctrl_vlan=off,ctrl_rx_extra=off,"
                     "ctrl_mac_addr=off,ctrl_guest_offloads=off,guest_announce=off,mq=off,csum=off,"
                     "gso=off,guest_csum=off,guest_tso4=off,guest_tso6=off,guest_ecn=off,"
                     "guest_ufo=off,host_tso4=off,host_tso6=off,host_ecn=off,host_ufo=off"]
        self.started = time.monotonic()
        self.qemu = subprocess.Popen(args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                     stderr=open(work / "qemu.log", "wb"),
                                     pass_fds=() if net_fd is None else (net_fd,))
        sock = socket.socket(socket.AF_UNIX)
        until = time.monotonic() + 10
        while True:
            try:
                sock.connect(str(self.sock_path))
                break
            except OSError:
                assert self.qemu.poll() is None, (work / "qemu.log").read_text()
                assert time.monotonic() < until, "qemu made no socket"
                time.sleep(0.005)
        self.peer = wire.Peer(sock)

    def handshake(self, **identity):
        try:
            hello = wire.parse_hello(self.peer.expect(wire.HELLO, 30).payload)
        except Exception as e:
            raise AssertionError(f"no HELLO ({e!r}); console:\n{self.console_text()}") from e
        self.hello_s = time.monotonic() - self.started
        assert hello[0] == wire.VERSION
        self.peer.send(wire.HELLO_OK, payload=wire.struct.pack("<I", wire.VERSION))
        self.peer.identity(**identity)
        return self

    def console_text(self):
        return self.console.read_text(errors="replace") if self.console.exists() else ""

    def wait_gone(self, deadline_s=15):
        self.qemu.wait(deadline_s)
        return self.qemu.returncode

    def close(self):
        if self.qemu.poll() is None:
            self.qemu.kill()
        self.qemu.wait()
        self.peer.sock.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
