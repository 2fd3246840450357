"""One guest under one monitor on KVM, each started by hand: berm-vmm as berm's supervisor does, QEMU, kvmtool.

All get the same kernel, memory and initramfs. `log` is a pipe with what the guest says on hvc0, `agent` a socket
that is the console port berm.agent. Exits are KVM's own counters in /sys/kernel/debug/kvm.
"""

import fcntl
import os
import select
import shutil
import socket
import struct
import subprocess
import time

import bench

LIBEXEC = os.path.join(bench.STAGE, "libexec", "berm")
KVM_STATS = "/sys/kernel/debug/kvm"
JAIL_UID = 1610612736  # what root has the engine run as: any will do that nobody else has
ANSWER_S = 120  # for what takes seconds, in a test host on a busy machine
CTL = struct.Struct("<BBHIiI6Q192s")
CTL_RESUME, CTL_QUIT, CTL_DONE = 1, 6, 16
# the fds of src/engine/kvm.h
AT_AGENT, AT_CONTROL, AT_RAM, AT_IMAGE, AT_SCRATCH, AT_INCOMING, AT_INITRD, AT_KVM, AT_WSET, AT_COUNT = range(3, 13)


def reserve_fds():
    """Numbers that a child wants must be free here: Popen passes fds, and does not move them."""
    null = os.open("/dev/null", os.O_RDWR)
    high = fcntl.fcntl(null, fcntl.F_DUPFD_CLOEXEC, AT_COUNT)
    for fd in range(AT_AGENT, AT_COUNT):
        os.dup2(high, fd, inheritable=False)
    os.close(high)


def cmdline(words=""):
    with open(os.path.join(bench.SHARE, "cmdline"), encoding="ascii") as f:
        return " ".join([f.read().strip(), words]).strip()


def counters(pid):
    """KVM's counters of that process's machine, from its birth: {name: count}."""
    for name in os.listdir(KVM_STATS) if os.path.isdir(KVM_STATS) else []:
        if name.split("-")[0] != str(pid):
            continue
        found = {}
        for stat in ("exits", "io_exits", "mmio_exits", "halt_exits", "insn_emulation", "irq_exits"):
            try:
                with open(os.path.join(KVM_STATS, name, stat), encoding="ascii") as f:
                    found[stat] = int(f.read())
            except (OSError, ValueError):
                pass
        return found
    return {}


def private_kib(pid):
    """Memory that goes when this process goes: what it alone has mapped."""
    kib = 0
    with open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as f:
        for line in f:
            if line.startswith(("Private_Clean:", "Private_Dirty:")):
                kib += int(line.split()[1])
    return kib


class Machine:
    """What they have in common. Started when made; `born` is the clock just before."""

    def launch(self, argv, stdout, **kw):
        self.born = time.perf_counter()
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=stdout, stderr=stdout, **kw)

    def await_log(self, word):
        """Milliseconds from the start until the guest has said it."""
        said = b""
        while word not in said:
            if not select.select([self.log], [], [], ANSWER_S)[0]:
                raise TimeoutError(f"{self.name}: no '{word.decode()}': {said[-2000:]!r}")
            piece = os.read(self.log, 65536)
            if not piece:
                raise EOFError(f"{self.name} ended: {said[-2000:]!r}")
            said += piece
        return (time.perf_counter() - self.born) * 1000

    def since(self):
        return (time.perf_counter() - self.born) * 1000

    def counters(self):
        return counters(self.process.pid)

    def close(self):
        self.process.kill()
        self.process.wait()
        for s in ("agent", "control"):
            if hasattr(self, s):
                getattr(self, s).close()
        os.close(self.log)


class Vmm(Machine):
    """berm-vmm. `restore`: a template's directory; else it boots the initramfs."""

    name = "berm-vmm"

    def __init__(self, initrd=None, image=None, scratch=None, restore=None, words="", cpus=1, wset=None):
        self.agent, agent = socket.socketpair()
        self.control, control = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.log, log = os.pipe()
        null = os.open("/dev/null", os.O_RDWR)
        kvm = os.open("/dev/kvm", os.O_RDWR)
        fds = {AT_AGENT: agent.fileno(), AT_CONTROL: control.fileno(), AT_KVM: kvm}
        argv = [os.path.join(LIBEXEC, "berm-vmm"), "--memory", str(bench.MEMORY_MIB), "--cpus", str(cpus)]
        if os.geteuid() == 0:
            argv += ["--uid", str(JAIL_UID)]
        if restore:
            fds[AT_RAM] = os.open(os.path.join(restore, "ram"), os.O_RDONLY)
            fds[AT_INCOMING] = os.open(os.path.join(restore, "state"), os.O_RDONLY)
            argv.append("--restore")
            if wset:
                fds[AT_WSET] = os.open(wset, os.O_RDONLY)
                argv.append("--wset")
        else:
            fds[AT_INCOMING] = os.open(os.path.join(bench.SHARE, "vmlinux"), os.O_RDONLY)
            fds[AT_INITRD] = os.open(initrd, os.O_RDONLY)
            argv += ["--fresh", "--cmdline", cmdline(words + " reboot=k").strip()]
        fds[AT_IMAGE] = os.open(image, os.O_RDONLY) if image else empty_disk()
        fds[AT_SCRATCH] = os.open(scratch, os.O_RDWR) if scratch else empty_disk()
        for at in range(AT_AGENT, AT_COUNT):
            os.dup2(fds.get(at, null), at, inheritable=False)
        self.launch(argv, log, pass_fds=tuple(range(AT_AGENT, AT_COUNT)))
        for at in range(AT_AGENT, AT_COUNT):
            os.dup2(null, at, inheritable=False)
        for fd in (log, null, *(f for at, f in fds.items() if at not in (AT_AGENT, AT_CONTROL))):
            os.close(fd)
        if restore:
            self.control.send(CTL.pack(CTL_RESUME, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b""))


def empty_disk():
    """A disk is always there: of one sector, where a guest has no use for it."""
    fd = os.memfd_create("disk")
    os.ftruncate(fd, 4096)
    return fd


class Qemu(Machine):
    """QEMU's microvm with KVM: no firmware devices, no option ROMs, the host's CPU. No jail."""

    name = "qemu"
    MACHINE = "microvm,acpi=off,x-option-roms=off,pit=off,pic=off,rtc=off,isa-serial=off"

    def __init__(self, initrd, image=None, scratch=None, words="", cpus=1):
        self.agent, agent = socket.socketpair()
        self.log, log = os.pipe()
        argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-M", self.MACHINE, "-accel", "kvm", "-cpu", "host", "-m", f"{bench.MEMORY_MIB}M",
                "-smp", str(cpus), "-global", "virtio-mmio.force-legacy=false",
                "-kernel", os.path.join(bench.SHARE, "vmlinux"), "-initrd", initrd, "-append", cmdline(words),
                "-chardev", "stdio,id=log,signal=off,mux=off",
                "-chardev", f"socket,id=agent,fd={agent.fileno()}",
                "-device", "virtio-serial-device,max_ports=2", "-device", "virtconsole,chardev=log,nr=0",
                "-device", "virtserialport,chardev=agent,name=berm.agent,nr=1"]
        for name, path, ro in (("image", image, "on"), ("scratch", scratch, "off")):
            if path:
                argv += ["-blockdev", f"driver=file,node-name={name}-file,filename={path},locking=off,"
                         f"aio=io_uring,read-only={ro},discard=unmap",
                         "-blockdev", f"driver=raw,node-name={name},file={name}-file,read-only={ro},discard=unmap",
                         "-device", f"virtio-blk-device,drive={name}"]
        # as berm-vmm does: else it keeps what the guest has freed, and need not clear it for the next reader
        argv += ["-device", "virtio-rng-device", "-device", "virtio-balloon-device,free-page-reporting=on"]
        self.launch(argv, log, pass_fds=(agent.fileno(),))
        agent.close()
        os.close(log)


class Kvmtool(Machine):
    """kvmtool boots a bzImage only, and has no named console port."""

    name = "kvmtool"

    def __init__(self, initrd, words="", cpus=1):
        program, kernel = kvmtool()
        self.log, log = os.pipe()
        argv = [program, "run", "--name", f"bench-{os.getpid()}", "--kernel", kernel, "--initrd", initrd,
                "--mem", str(bench.MEMORY_MIB), "--cpus", str(cpus), "--console", "virtio",
                "--virtio-transport", "mmio", "--network", "mode=none", "--params", cmdline(words)]
        self.launch(argv, log)
        os.close(log)


def kvmtool():
    """(program, bzImage), or None; main() has said why not."""
    program = os.environ.get("BERM_KVMTOOL") or shutil.which("lkvm")
    kernel = os.environ.get("BERM_BZIMAGE")
    return (program, kernel) if program and kernel else None


def make_initrd(work, program):
    """An initramfs of that one program in `work`, as <program>.cpio."""
    root = os.path.join(work, program + ".root")
    os.makedirs(os.path.join(root, "dev"))
    shutil.copy(os.path.join(work, program), os.path.join(root, "init"))
    with open(os.path.join(work, program + ".cpio"), "wb") as out:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, stdout=out, check=True,
                       input=b".\ndev\ninit\n")
