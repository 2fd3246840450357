#!/usr/bin/env python3
"""Starts: `berm run -- true` from a template against QEMU restoring the same template by hand, a cold boot
against QEMU booting the same kernel by hand, and Python's first answer in the default image.

Both sides are timed as whole commands by the same clock, in turn: A B A B ...
"""

import os
import shutil
import subprocess
import tempfile
import time

import bench
import wire


def copy_sparse(src, dst):
    subprocess.run(["cp", "--sparse=always", src, dst], check=True)


class HandRestore:
    """The template's files, and one QEMU after another on private copies of them."""

    def __init__(self, work, template, image):
        self.work, self.template, self.image = work, template, image
        self.scratch = os.path.join(work, "scratch")

    def run(self, argv=("/bin/true",)):
        copy_sparse(os.path.join(self.template, "scratch"), self.scratch)  # not counted: no berm does it later
        start = time.perf_counter()
        q = bench.Qemu(self.work, self.image, os.path.join(self.template, "ram"), self.scratch, "off",
                       os.path.join(self.template, "state"))
        peer = wire.Peer(q.agent)
        peer.identity(bench.RESTORED_EPOCH)
        identity_ms = (time.perf_counter() - start) * 1000
        bench.first_answer(peer, argv)
        took = (time.perf_counter() - start) * 1000
        q.close()
        return took, identity_ms


def booted(work, image):
    """QEMU, booted by hand with a fresh scratch disk that was formatted beforehand, once it has answered; and
    milliseconds from its start, handshake and first exec included."""
    scratch, ram = os.path.join(work, "cold-scratch"), os.path.join(work, "cold-ram")
    for path, size in ((scratch, 4 << 30), (ram, bench.MEMORY_MIB << 20)):
        with open(path, "wb") as f:
            f.truncate(size)
    subprocess.run(["mke2fs", "-q", "-F", "-t", "ext4", "-m", "0", "-b", "4096", "-O",
                    "^has_journal,^resize_inode", "-E", "lazy_itable_init=1,nodiscard", scratch], check=True)
    start = time.perf_counter()
    q = bench.Qemu(work, image, ram, scratch, "off")
    peer = wire.Peer(q.agent)
    peer.expect(wire.HELLO, 60)
    peer.send(wire.HELLO_OK, payload=wire.VERSION.to_bytes(4, "little"))
    peer.identity()
    bench.first_answer(peer)
    return q, (time.perf_counter() - start) * 1000


def hand_boot(work, image):
    q, took = booted(work, image)
    q.close()
    return took


def restores(state, work):
    bench.note("the first start builds the template")
    built = state.time_run("run", "--", "true")
    bench.report("template_build_and_first_run_ms", [built])
    template = state.template()
    for name in ("ram", "state", "scratch"):
        path = os.path.join(template, name)
        bench.report(f"template_{name}_bytes_on_disk", [os.stat(path).st_blocks * 512], 0)
    hand = HandRestore(work, template, bench.image_disk())
    hand.run()
    state.run("run", "--", "true")
    ours, theirs, identity = [], [], []
    for _ in range(bench.RUNS):
        ours.append(state.time_run("run", "--", "true"))
        took, ready = hand.run()
        theirs.append(took)
        identity.append(ready)
    bench.report("run_true_ms", ours)
    bench.report("qemu_restore_first_answer_ms", theirs)
    bench.report("qemu_restore_identity_ms", identity)
    bench.ratio("run_true_vs_qemu_restore", ours, theirs, budget=1.25)


def python(state, work):
    command = ["python3", "-c", "print(1)"]
    hand = HandRestore(work, state.template(), bench.image_disk())
    state.run("run", "--", *command)
    hand.run(command)
    ours, theirs = [], []
    for _ in range(bench.RUNS):
        ours.append(state.time_run("run", "--", *command))
        theirs.append(hand.run(command)[0])
    bench.report("run_python_ms", ours, budget=350)
    bench.report("qemu_restore_python_ms", theirs)
    bench.ratio("run_python_vs_qemu_restore", ours, theirs)


def cold(state, work):
    ours, theirs = [], []
    for _ in range(max(5, bench.RUNS // 4)):
        ours.append(state.time_run("run", "--cold", "--", "true"))
        theirs.append(hand_boot(work, bench.image_disk()))
    bench.report("run_cold_true_ms", ours)
    bench.report("qemu_boot_first_answer_ms", theirs)
    bench.ratio("run_cold_vs_qemu_boot", ours, theirs, budget=1.1)


def main():
    with bench.State() as state:
        work = tempfile.mkdtemp(dir=state.dir)
        restores(state, work)
        python(state, work)
        cold(state, work)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
