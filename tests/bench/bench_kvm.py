#!/usr/bin/env python3
"""The kvm engine against kvmtool and QEMU on KVM: starts, forks, exits, memory, disk, console, many at once.

Runs on this machine's own KVM if that runs kernels, else in the test host (docs/internals/kvmhost.md), where all
takes ten times as long; every line says which. Parts can be named (kvm_parts.py has them):
BENCH_PARTS="boot fork step". BENCH_MANY is how often the last two repeat (200).

kvmtool takes part where `lkvm` is in PATH, or is built from its source in BERM_KVMTOOL_SRC, and BERM_BZIMAGE names
our kernel as a bzImage, which is all it boots.
"""

import os
import platform
import shutil
import subprocess
import sys
import tempfile

import bench
import monitors

KVMHOST = os.path.join(bench.TOP, "tools", "kvmhost")
PROGRAMS = ("first_exec", "spawn_time", "port_flood")
# musl brings none; the distribution's come after all of its own
KERNEL_HEADERS = ("-idirafter", "/usr/include", "-idirafter", f"/usr/include/{platform.machine()}-linux-gnu")
HOST_SECONDS = 4 * 3600
# the test host sees this machine's files over 9p: what is measured lies on a disk of its own
INSIDE = 'cp -rL "$1" "$TMPDIR/stage" && BENCH_DIR=$TMPDIR BERM_STAGE=$TMPDIR/stage exec /usr/bin/python3 "$2" "$3"'


def compile_all(work):
    for name in PROGRAMS:
        subprocess.run(["musl-gcc", "-O2", "-static", "-s", *KERNEL_HEADERS, "-o", os.path.join(work, name),
                        os.path.join(bench.HERE, name + ".c")], check=True)
    for name in ("first_exec", "port_flood"):
        monitors.make_initrd(work, name)


def find_kvmtool(work):
    """Its program, built if need be; None, having said why."""
    source = os.environ.get("BERM_KVMTOOL_SRC")
    program = shutil.which("lkvm")
    if not program and source:
        subprocess.run(["make", "-s", "-C", source, "lkvm"], check=True, stdout=sys.stderr)
        program = shutil.copy(os.path.join(source, "lkvm"), work)
    if program and os.environ.get("BERM_BZIMAGE"):
        return program
    bench.note("SKIPPED: kvmtool, and with it the budget of 0.8: " + (
        "BERM_BZIMAGE names no bzImage of our kernel" if program else
        "there is no lkvm in PATH, and BERM_KVMTOOL_SRC names no source of it"))
    return None


def main():
    with tempfile.TemporaryDirectory(prefix="berm-kvm.", dir=os.environ.get("BENCH_DIR", "/var/tmp")) as work:
        host = os.path.join(work, "host")
        compile_all(work)
        env = {"BENCH_PARTS": " ".join(sys.argv[1:]) or os.environ.get("BENCH_PARTS", ""),
               "BENCH_RUNS": os.environ.get("BENCH_RUNS", ""), "BENCH_MANY": os.environ.get("BENCH_MANY", "")}
        program = find_kvmtool(work)
        if program:
            env.update(BERM_KVMTOOL=program, BERM_BZIMAGE=os.environ["BERM_BZIMAGE"])
        subprocess.run([KVMHOST, "--auto", "--build"], check=True)
        where = subprocess.run([KVMHOST, "--where"], check=True, capture_output=True, text=True).stdout.strip()
        env["BENCH_WHERE"] = "machine" if "on this machine" in where else "kvmhost"
        subprocess.run([KVMHOST, "--auto", "--disk", "16384", "--share", work, "--start", host], check=True)
        try:
            words = [w for name, value in env.items() for w in ("--env", f"{name}={value}")]
            subprocess.run([KVMHOST, *words, "--timeout", str(HOST_SECONDS), "--in", host, "--", "sh", "-c", INSIDE,
                            "sh", bench.STAGE, os.path.join(bench.HERE, "kvm_parts.py"), work], check=True)
        finally:
            subprocess.run([KVMHOST, "--stop", host], check=False)


if __name__ == "__main__":
    main()
