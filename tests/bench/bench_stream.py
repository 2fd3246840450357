#!/usr/bin/env python3
"""Output of a guest's command through berm against what the console port gives raw.

Raw is a guest whose only program writes to the port in 64 KiB pieces and a host that reads its socket and
does nothing else. berm's side is dd in the default image to `berm run`'s stdout. Beside them, what a pipe carries
within the guest (dd to cat), as every command's output passes one. MiB/s, higher is better.
"""

import os
import shutil
import subprocess
import tempfile
import time

import bench

MIB = int(os.environ.get("BENCH_STREAM_MIB", "256"))

RAW_C = r"""
#include <fcntl.h>
#include <string.h>
#include <sys/mount.h>
#include <unistd.h>
static char piece[65536];
int main(void)
{
	int fd = -1;
	char go;
	mount("dev", "/dev", "devtmpfs", 0, "");
	while (fd < 0)
		fd = open("/dev/vport0p1", O_RDWR);
	while (write(fd, "!", 1) != 1)
		;
	while (read(fd, &go, 1) != 1)
		usleep(1000);
	for (;;)
		if (write(fd, piece, sizeof(piece)) < 0)
			usleep(1000);
}
"""


def raw_initrd(work):
    root = os.path.join(work, "root")
    os.makedirs(os.path.join(root, "dev"))
    source = os.path.join(work, "raw.c")
    with open(source, "w") as f:
        f.write(RAW_C)
    subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", os.path.join(root, "init"), source], check=True)
    out = os.path.join(work, "raw.cpio")
    with open(out, "wb") as f:
        subprocess.run(["cpio", "-o", "-H", "newc", "--quiet"], cwd=root, stdout=f, check=True,
                       input=b".\ndev\ninit\n")
    return out


def raw_rate(work, initrd):
    ram = os.path.join(work, "raw-ram")
    with open(ram, "wb") as f:
        f.truncate(bench.MEMORY_MIB << 20)
    q = bench.Qemu(work, None, ram, None, "off", initrd=initrd)
    q.agent.settimeout(60)
    assert q.agent.recv(1) == b"!"
    q.agent.send(b"g")
    left, buf = MIB << 20, bytearray(1 << 20)
    start = time.perf_counter()
    while left > 0:
        left -= q.agent.recv_into(buf)
    took = time.perf_counter() - start
    q.close()
    return MIB / took


def berm_rate(state):
    p = subprocess.Popen([state.berm, "run", "--", "sh", "-c",
                          f"echo go; dd if=/dev/zero bs=64k count={MIB * 16} 2>/dev/null"],
                         env=state.env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)
    assert p.stdout.read(3) == b"go\n"
    start = time.perf_counter()
    total = 0
    while True:
        piece = p.stdout.read(1 << 20)
        if not piece:
            break
        total += len(piece)
    took = time.perf_counter() - start
    assert p.wait() == 0 and total == MIB << 20, (p.returncode, total)
    return MIB / took


PIPE = """
import subprocess, time
start = time.monotonic()
subprocess.run("dd if=/dev/zero bs=64k count=%d 2>/dev/null | cat >/dev/null", shell=True, check=True)
print(time.monotonic() - start)
"""


def pipe_rate(state):
    """The guest's own clock, so that its start does not count."""
    got = subprocess.run([state.berm, "run", "--", "python3", "-c", PIPE % (MIB * 16)], env=state.env,
                         stdin=subprocess.DEVNULL, capture_output=True, text=True, check=True)
    return MIB / float(got.stdout)


def main():
    with bench.State() as state:
        work = tempfile.mkdtemp(dir=state.dir)
        initrd = raw_initrd(work)
        state.run("run", "--", "true")
        ours, raw, pipe = [], [], []
        for _ in range(max(5, bench.RUNS // 4)):
            ours.append(berm_rate(state))
            raw.append(raw_rate(work, initrd))
            pipe.append(pipe_rate(state))
        bench.report("stdout_mib_per_s", ours)
        bench.report("console_raw_mib_per_s", raw)
        bench.report("guest_pipe_mib_per_s", pipe)
        bench.ratio("stdout_vs_guest_pipe", ours, pipe, better="higher")
        bench.ratio("stdout_vs_raw_console", ours, raw, budget=0.5, better="higher")
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
