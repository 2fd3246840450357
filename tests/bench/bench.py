"""What the benchmarks share: statistics, JSON lines, and QEMU driven by hand as the peer."""

import functools
import glob
import json
import os
import platform
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
TOP = os.path.dirname(os.path.dirname(HERE))
sys.path.insert(0, os.path.join(TOP, "kernel", "bench"))

import guest  # noqa: E402  the machine and the words as berm's engine has them
sys.path.insert(0, os.path.join(TOP, "tests", "lib"))

import wire  # noqa: E402

STAGE = os.environ.get("BERM_STAGE", os.path.join(TOP, "build", "stage"))
SHARE = os.path.join(STAGE, "share", "berm")
RUNS = int(os.environ.get("BENCH_RUNS") or "20")
MEMORY_MIB = 512
RESTORED_EPOCH = 2
QMP_RESTORE = (
    b'{"execute":"qmp_capabilities"}\n'
    b'{"execute":"migrate-set-capabilities","arguments":{"capabilities":'
    b'[{"capability":"x-ignore-shared","state":true}]}}\n'
    b'{"execute":"migrate-incoming","arguments":{"uri":"fd:%d"}}\n'
)


def percentile(values, p):
    values = sorted(values)
    return values[min(len(values) - 1, int(len(values) * p / 100))]


@functools.lru_cache(maxsize=None)
def commit():
    got = subprocess.run(["git", "-C", TOP, "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return got.stdout.strip() or None


def cpu_model():
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.machine()


def report(name, values, digits=1, **more):
    """One figure: p50, p99 (the worst, under 100 runs) and the least of its runs."""
    row = {
        "name": name,
        "runs": len(values),
        "p50": round(statistics.median(values), digits),
        "p99": round(percentile(values, 99), digits),
        "min": round(min(values), digits),
        "commit": commit(),
        "cpu": cpu_model(),
        "cpus": os.cpu_count(),
        "kernel": platform.release(),
    }
    if os.environ.get("BENCH_WHERE"):  # machine or kvmhost: where KVM was
        row["where"] = os.environ["BENCH_WHERE"]
    row.update(more)
    print(json.dumps(row), flush=True)


def ratio(name, ours, theirs, budget=None, better="lower"):
    """The ratio of medians, and of the pairs as they were run, with its budget beside it."""
    pairs = [a / b for a, b in zip(ours, theirs)]
    report(name, pairs, 3, ratio_of_medians=round(statistics.median(ours) / statistics.median(theirs), 3),
           budget=budget, better=better)


def note(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


class State:
    """A state directory of the benchmark's own, gone at the end."""

    def __init__(self):
        self.dir = tempfile.mkdtemp(prefix="berm-bench.", dir=os.environ.get("BENCH_DIR", "/var/tmp"))
        os.chmod(self.dir, 0o700)
        self.env = {"PATH": "/usr/bin:/bin", "HOME": self.dir, "BERM_STATE_DIR": self.dir}
        self.berm = os.path.join(STAGE, "bin", "berm")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.dir, ignore_errors=True)

    def run(self, *args, **kw):
        kw.setdefault("stdin", subprocess.DEVNULL)
        kw.setdefault("stdout", subprocess.DEVNULL)
        # no timeout=: Python then polls for the end in steps of up to 50 ms
        return subprocess.run([self.berm, *args], env=self.env, check=True, **kw)

    def time_run(self, *args, **kw):
        """Milliseconds of a whole `berm` process."""
        start = time.perf_counter()
        self.run(*args, **kw)
        return (time.perf_counter() - start) * 1000

    def template(self):
        """The directory of the only template, or the newest."""
        found = glob.glob(os.path.join(self.dir, "templates", "*", "meta"))
        return os.path.dirname(max(found, key=os.path.getmtime))


def image_disk():
    """The default image of the installation."""
    with open(os.path.join(SHARE, "images", "names", "default")) as f:
        return os.path.join(SHARE, "images", f.read().strip(), "disk.sqfs")


class Qemu:
    """QEMU as it is driven by hand, without berm: the same machine, no jail, no supervisor."""

    MACHINE = guest.MACHINE + ",memory-backend=ram"

    def __init__(self, work, image, ram, scratch, share, incoming=None, raw_port=False, initrd=None):
        self.agent, agent_far = socket.socketpair()
        keep = [agent_far.fileno()]
        args = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
                "-M", self.MACHINE, "-m", f"{MEMORY_MIB}M", "-smp", "1",
                "-object", f"memory-backend-file,id=ram,size={MEMORY_MIB}M,mem-path={ram},share={share}",
                "-accel", "tcg,thread=multi,tb-size=64", "-cpu", guest.CPU,
                "-global", "virtio-mmio.force-legacy=false",
                "-chardev", "stdio,id=log,signal=off,mux=off",
                "-chardev", f"socket,id=agent,fd={keep[0]}",
                "-device", "virtio-serial-device,max_ports=2",
                "-device", "virtconsole,chardev=log,nr=0",
                "-device", "virtserialport,chardev=agent,name=berm.agent,nr=1"]
        if image:
            for name, path, ro in (("image", image, "on"), ("scratch", scratch, "off")):
                args += ["-blockdev", f"driver=file,node-name={name}-file,filename={path},locking=off,"
                         f"read-only={ro},discard=unmap",
                         "-blockdev", f"driver=raw,node-name={name},file={name}-file,read-only={ro},discard=unmap",
                         "-device", f"virtio-blk-device,drive={name}"]
        if incoming is not None:
            self.qmp, qmp_far = socket.socketpair()
            state = os.open(incoming, os.O_RDONLY)
            keep += [qmp_far.fileno(), state]
            args += ["-chardev", f"socket,id=qmp,fd={qmp_far.fileno()}", "-mon", "chardev=qmp,mode=control",
                     "-incoming", "defer"]
        else:
            words = " ".join(guest.kernel_words(work))
            args += ["-kernel", os.path.join(SHARE, "vmlinux"), "-append", words,
                     "-initrd", initrd or os.path.join(SHARE, "initramfs.cpio")]
        self.log = open(os.path.join(work, "qemu.log"), "w+b")
        self.process = subprocess.Popen(args, pass_fds=keep, stdin=subprocess.DEVNULL, stdout=self.log,
                                        stderr=subprocess.STDOUT)
        if incoming is not None:
            self.qmp.sendall(QMP_RESTORE % state)
            os.close(state)
        for fd in keep[:1]:
            agent_far.close()

    def close(self):
        self.process.kill()
        self.process.wait()
        self.agent.close()


def first_answer(peer, argv=("/bin/true",)):
    """The guest's first exec, to its exit code."""
    end, _, _ = peer.run(*argv, deadline_s=60, env=["PATH=/usr/bin:/bin"])
    assert end.value == 0, end
