#!/usr/bin/env python3
"""The parts of bench_kvm.py, which runs this where KVM is good, with the folder it compiled the guests to."""

import os
import shutil
import statistics
import subprocess
import sys
import time

import bench
import monitors
import wire
from bench_start import copy_sparse

BOOTS = max(3, bench.RUNS // 4)
MANY, AT_ONCE = int(os.environ.get("BENCH_MANY") or "200"), 20
MKE2FS = ["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-O",
          "^has_journal,^resize_inode,^metadata_csum,uninit_bg,sparse_super2", "-E",
          "lazy_itable_init=1,nodiscard,num_backup_sb=0", "-i", "16384"]
PATH_ENV = ["PATH=/usr/bin:/bin"]


def greet(m, epoch=1):
    """What the supervisor says first, to a booted or a restored agent."""
    peer = wire.Peer(m.agent)
    if epoch == 1:
        peer.expect(wire.HELLO, monitors.ANSWER_S)
        peer.send(wire.HELLO_OK, payload=wire.VERSION.to_bytes(4, "little"))
        peer.identity()
    else:
        peer.identity(epoch)
    return peer


class Bench:
    def __init__(self, work, state):
        self.work, self.state = work, state
        self.dir = state.dir
        self.image = bench.image_disk()
        self.empty = os.path.join(self.dir, "empty")
        with open(self.empty, "wb") as f:
            f.truncate(4 << 30)
        subprocess.run([*MKE2FS, self.empty], check=True)
        self.template = None

    def initrd(self, name):
        return os.path.join(self.work, name + ".cpio")

    def scratch(self, of=None):
        path = os.path.join(self.dir, "scratch")
        copy_sparse(of or self.empty, path)
        return path

    def boot_agent(self, kind):
        return kind(initrd=os.path.join(bench.SHARE, "initramfs.cpio"), image=self.image, scratch=self.scratch())

    def need_template(self):
        if not self.template:
            bench.note("the first start builds the template")
            self.state.run("run", "--engine", "kvm", "--", "true")
            self.template = self.state.template()
        return self.template

    def restore(self):
        template = self.need_template()
        return monitors.Vmm(restore=template, image=self.image,
                            scratch=self.scratch(os.path.join(template, "scratch")), wset=self.wset())

    def wset(self):
        path = os.path.join(self.template, "wset")
        return path if os.path.exists(path) else None


def report_counters(name, rows):
    """Medians of KVM's own counters: they do not depend on the machine."""
    for stat in rows[0] if rows else ():
        bench.report(f"{name}_{stat}", [r[stat] for r in rows], 0)


def in_turn(rounds, kinds, once):
    """{name: [what once() returned]}, A B A B ..., after one of each that does not count."""
    got = {k.name: [] for k in kinds}
    for i in range(rounds + 1):
        for kind in kinds:
            result = once(kind)
            if i > 0:
                got[kind.name].append(result)
    return got


def compare(what, got, budgets):
    """Reports (ms, counters) of each, and berm's ratio to the others."""
    for name, rows in got.items():
        bench.report(f"{what}_{name}_ms", [r[0] for r in rows])
        report_counters(f"{what}_{name}", [r[1] for r in rows])
    for name, budget in budgets.items():
        if name in got:
            bench.ratio(f"{what}_vs_{name}", [r[0] for r in got["berm-vmm"]], [r[0] for r in got[name]],
                        budget=budget)


def part_boot(b):
    """Cold boot to the first exec: process 1 of a small initramfs runs a program that says so."""
    kinds = [monitors.Vmm, *([monitors.Kvmtool] if monitors.kvmtool() else []), monitors.Qemu]

    def once(kind):
        m = kind(initrd=b.initrd("first_exec"))
        took = m.await_log(b"first exec")
        row = took, m.counters()
        m.close()
        return row

    compare("boot", in_turn(BOOTS, kinds, once), {"kvmtool": 0.8, "qemu": 0.6})


def part_agent(b):
    """The same with berm's agent, the default image and a scratch disk, to the end of the first command."""

    def once(kind):
        m = b.boot_agent(kind)
        bench.first_answer(greet(m))
        row = m.since(), m.counters()
        m.close()
        return row

    compare("boot_agent", in_turn(BOOTS, [monitors.Vmm, monitors.Qemu], once), {"qemu": 0.6})


def part_fork(b):
    """A private copy of a saved guest to the end of its first command, beside a cold boot to the same."""
    forks, boots, counted = [], [], []
    b.need_template()
    for i in range(bench.RUNS + 1):
        m = b.restore()
        bench.first_answer(greet(m, bench.RESTORED_EPOCH))
        took, counts = m.since(), m.counters()
        m.close()
        if i == 0:
            continue
        forks.append(took)
        counted.append(counts)
        if i % 4 == 1:
            m = b.boot_agent(monitors.Vmm)
            bench.first_answer(greet(m))
            boots.append(m.since())
            m.close()
    bench.report("fork_ms", forks)
    report_counters("fork", counted)
    bench.report("fork_own_boot_ms", boots)
    bench.ratio("fork_vs_own_boot", forks, [statistics.median(boots)] * len(forks), budget=0.1)
    whole_commands(b)


def whole_commands(b):
    """The same as whole commands, with supervisor, disks made and all cleared away."""
    restored, cold = [], []
    for _ in range(BOOTS):
        restored.append(b.state.time_run("run", "--engine", "kvm", "--", "true"))
        cold.append(b.state.time_run("run", "--engine", "kvm", "--cold", "--", "true"))
    bench.report("run_true_ms", restored)
    bench.report("run_cold_true_ms", cold)
    bench.ratio("run_true_vs_cold", restored, cold)


def part_step(b):
    """berm-vmm from its start until the restored guest runs, in fork+exec+waits of a static program; and with fixed
    addresses, without what the emulated processor of the test host takes to translate code at new ones."""
    template = b.need_template()
    program = shutil.copy(os.path.join(b.work, "spawn_time"), b.dir)
    argv = [program, str(bench.RUNS + 1), str(bench.MEMORY_MIB), str(monitors.JAIL_UID),
            os.path.join(monitors.LIBEXEC, "berm-vmm"), os.path.join(template, "ram"),
            os.path.join(template, "state"), b.image, b.scratch(os.path.join(template, "scratch"))]
    argv += [b.wset()] if b.wset() else []
    out = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    rows = [[float(x) / 1000 for x in line.split()] for line in out.splitlines()[1:]]
    own, machine, step, fixed = zip(*rows)
    bench.report("static_spawn_ms", own, 2)
    bench.report("bare_machine_ms", machine, 2)
    bench.report("restore_step_ms", step, 2)
    bench.report("restore_step_fixed_addresses_ms", fixed, 2)
    bench.ratio("restore_step_vs_spawn", step, own, budget=3)
    bench.ratio("restore_step_vs_bare_machine", step, machine)
    bench.ratio("restore_step_fixed_addresses_vs_spawn", fixed, own)


def part_memory(b):
    """What an idle fork adds, with others of its template beside it, so that shared pages count as such."""
    machines = []
    for _ in range(AT_ONCE):
        m = b.restore()
        greet(m, bench.RESTORED_EPOCH)
        machines.append(m)
    time.sleep(3)
    kib = [monitors.private_kib(m.process.pid) for m in machines]
    for m in machines:
        m.close()
    bench.report("idle_fork_private_kib", kib, 0, budget=3072)


def rate(peer, script, mib):
    """MiB/s of a command in the guest, by the host's clock, less what a shell that does nothing takes."""
    begun = time.perf_counter()
    end, out, err = peer.sh(script, deadline_s=600, env=PATH_ENV)
    took = time.perf_counter() - begun
    assert end.value == 0, (end, out, err)
    return mib / took


DISK = {
    # from the host's page cache, past the guest's
    "read_1m": ("dd if=/dev/vda of=/dev/null bs=1M count=%d iflag=direct 2>/dev/null", 192),
    "read_4k": ("dd if=/dev/vda of=/dev/null bs=4k count=%d iflag=direct 2>/dev/null", 16),
    "read_cached": ("echo 3 >/proc/sys/vm/drop_caches; dd if=/dev/vda of=/dev/null bs=1M count=%d 2>/dev/null", 192),
    "write_1m": ("dd if=/dev/zero of=/dev/vdb bs=1M count=%d seek=1024 oflag=direct 2>/dev/null", 192),
}


def part_disk(b):
    rates = {}
    for i in range(BOOTS + 1):
        for kind in (monitors.Vmm, monitors.Qemu):
            m = b.boot_agent(kind)
            peer = greet(m)
            rate(peer, "dd if=/dev/vda of=/dev/null bs=1M count=256 2>/dev/null", 1)
            for name, (script, mib) in DISK.items():
                blocks = mib * 256 if "4k" in name else mib
                got = rate(peer, script % blocks, mib)
                if i > 0:
                    rates.setdefault((name, kind.name), []).append(got)
            m.close()
    for name in DISK:
        ours, theirs = rates[name, "berm-vmm"], rates[name, "qemu"]
        bench.report(f"disk_{name}_berm-vmm_mib_per_s", ours)
        bench.report(f"disk_{name}_qemu_mib_per_s", theirs)
        budget = 0.9 if name.startswith("read") else None
        bench.ratio(f"disk_{name}_vs_qemu", ours, theirs, budget=budget, better="higher")


def flood(b, kind, mib):
    """The console port raw: a host that reads its socket and does nothing else."""
    m = kind(initrd=b.initrd("port_flood"))
    m.agent.settimeout(monitors.ANSWER_S)
    assert m.agent.recv(1) == b"!"
    m.agent.send(b"g")
    left, buf = mib << 20, bytearray(1 << 20)
    begun = time.perf_counter()
    while left > 0:
        left -= m.agent.recv_into(buf)
    took = time.perf_counter() - begun
    m.close()
    return mib / took


def part_console(b):
    mib = int(os.environ.get("BENCH_STREAM_MIB") or "64")
    got = in_turn(BOOTS, [monitors.Vmm, monitors.Qemu], lambda kind: flood(b, kind, mib))
    for name, rates in got.items():
        bench.report(f"console_{name}_mib_per_s", rates)
    bench.ratio("console_vs_qemu", got["berm-vmm"], got["qemu"], budget=0.9, better="higher")


def leftovers(b):
    """What must be the same before and after: processes, machines in KVM, sandboxes, files of ours."""
    procs = 0
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/comm", encoding="ascii") as f:
                procs += f.read().startswith("berm")
        except OSError:
            pass
    kvm = [n for n in os.listdir(monitors.KVM_STATS) if n[0].isdigit()] if os.path.isdir(monitors.KVM_STATS) else []
    stat = os.statvfs(b.dir)
    return {"processes": procs, "machines": len(kvm), "sandboxes": len(os.listdir(os.path.join(b.dir, "sandboxes"))),
            "disk_mib": (stat.f_blocks - stat.f_bfree) * stat.f_frsize >> 20}


def timed(argv, b, times):
    """Runs a berm command to its end: its output, or None when it failed."""
    begun = time.perf_counter()
    got = subprocess.run([b.state.berm, *argv], env=b.state.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                         text=True, check=False)
    times.append((time.perf_counter() - begun) * 1000)
    return got.stdout if got.returncode == 0 else None


def part_many(b):
    """200 starts from a template one after another and 20 at once: none fails, nothing is left."""
    b.need_template()
    argv = ["run", "--engine", "kvm", "--", "true"]
    before, took = leftovers(b), []
    failed = sum(timed(argv, b, took) is None for _ in range(MANY))
    bench.report("many_starts_ms", took, failed=failed)
    took, begun = [], time.perf_counter()
    running = [subprocess.Popen([b.state.berm, *argv], env=b.state.env, stdin=subprocess.DEVNULL)
               for _ in range(AT_ONCE)]
    failed = 0
    for p in running:
        failed += p.wait() != 0
        took.append((time.perf_counter() - begun) * 1000)
    bench.report("starts_at_once_ms", took, failed=failed)
    nothing_left("starts", before, b)


def part_forks(b):
    """The same of a running sandbox: `berm fork` to a child that goes on, and 20 children by one command."""
    before = leftovers(b)
    parent = timed(["run", "--engine", "kvm", "-d", "--", "sleep", "86400"], b, []).strip()
    took, failed = [], 0
    for i in range(MANY):
        child = timed(["fork", "--rm", parent], b, took)
        if child is None or timed(["exec", child.strip(), "true"], b, []) is None:
            failed += 1
        if child:
            timed(["rm", "-f", child.strip()], b, [])
    bench.report("many_forks_ms", took, failed=failed)
    took = []
    children = (timed(["fork", "--rm", "-n", str(AT_ONCE), parent], b, took) or "").split()
    failed = AT_ONCE - sum(timed(["exec", child, "true"], b, []) is not None for child in children)
    bench.report("forks_at_once_ms", took, failed=failed)
    timed(["rm", "-f", parent, *children], b, [])
    nothing_left("forks", before, b)


def nothing_left(what, before, b):
    time.sleep(3)
    after = leftovers(b)
    bench.report(f"{what}_left_behind", [sum(after[k] > before[k] + (k == "disk_mib") * 64 for k in before)], 0,
                 before=before, after=after)


def main():
    monitors.reserve_fds()
    wanted = (os.environ.get("BENCH_PARTS") or "").split() or [n[5:] for n in globals() if n.startswith("part_")]
    with bench.State() as state:
        b = Bench(sys.argv[1], state)
        for name in wanted:
            bench.note(f"kvm: {name}")
            globals()[f"part_{name}"](b)


if __name__ == "__main__":
    main()
