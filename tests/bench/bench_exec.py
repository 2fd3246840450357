#!/usr/bin/env python3
"""`berm exec` of true in a running guest against the guest's own fork, exec and wait of it.

The budget is 1.2 times the guest's own, plus one round trip of the console port. The guest's own is timed in
the guest by a small static program; the round trip is the agent's PING on a guest restored by hand.
What is timed of berm is one EXEC on the sandbox's socket to its EXIT; a whole `berm exec` process beside it.
"""

import os
import shutil
import socket
import statistics
import subprocess
import tempfile
import time

import bench
import wire

LOOP_C = r"""
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
extern char **environ;
int main(int argc, char **argv)
{
	int runs = argc > 1 ? atoi(argv[1]) : 50;
	char *const child[] = { "true", NULL };
	for (int i = 0; i < runs; i++) {
		struct timespec a, b;
		pid_t pid;
		clock_gettime(CLOCK_MONOTONIC, &a);
		if (posix_spawn(&pid, "/bin/true", NULL, NULL, child, environ) != 0)
			return 1;
		waitpid(pid, NULL, 0);
		clock_gettime(CLOCK_MONOTONIC, &b);
		printf("%.3f\n", (b.tv_sec - a.tv_sec) * 1e3 + (b.tv_nsec - a.tv_nsec) / 1e6);
	}
	return 0;
}
"""


def build_loop(work):
    source, program = os.path.join(work, "loop.c"), os.path.join(work, "loop")
    with open(source, "w") as f:
        f.write(LOOP_C)
    subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", program, source], check=True)
    return program


def connect(state, sandbox):
    s = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    at = os.getcwd()
    os.chdir(os.path.join(state.dir, "sandboxes", sandbox))  # a socket's path is short
    s.connect("control.sock")
    os.chdir(at)
    return s


def exec_once(state, sandbox):
    peer = wire.Peer(connect(state, sandbox))
    peer.expect(wire.HELLO)
    start = time.perf_counter()
    bench.first_answer(peer)
    took = (time.perf_counter() - start) * 1000
    peer.sock.close()
    return took


def ping_ms(state, work):
    """The round trip alone, on a guest that berm has nothing to do with."""
    template = state.template()
    scratch = os.path.join(work, "scratch")
    subprocess.run(["cp", "--sparse=always", os.path.join(template, "scratch"), scratch], check=True)
    q = bench.Qemu(work, bench.image_disk(), os.path.join(template, "ram"), scratch, "off",
                   os.path.join(template, "state"))
    peer = wire.Peer(q.agent)
    peer.identity(bench.RESTORED_EPOCH)
    times = []
    for i in range(120):
        start = time.perf_counter()
        peer.ping(i)
        if i >= 20:  # the emulator has translated the path by then
            times.append((time.perf_counter() - start) * 1000)
    q.close()
    return times


def main():
    with bench.State() as state:
        work = tempfile.mkdtemp(dir=state.dir)
        program = build_loop(work)
        got = subprocess.run([state.berm, "run", "-d", "--", "sleep", "600"], env=state.env, check=True,
                             capture_output=True, text=True, timeout=300)
        sandbox = got.stdout.strip()
        state.run("cp", program, f"{sandbox}:/tmp/loop")
        for _ in range(10):
            exec_once(state, sandbox)
        ours, whole, own = [], [], []
        for _ in range(bench.RUNS):
            out = subprocess.run([state.berm, "exec", sandbox, "/tmp/loop", "5"], env=state.env, check=True,
                                 capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
            own.append(statistics.median(float(x) for x in out.stdout.split()))
            ours.append(exec_once(state, sandbox))
            whole.append(state.time_run("exec", sandbox, "true"))
        state.run("rm", "-f", sandbox)
        trip = ping_ms(state, work)
        bench.report("exec_true_ms", ours, 2)
        bench.report("exec_true_whole_command_ms", whole, 2)
        bench.report("guest_own_spawn_ms", own, 2)
        bench.report("console_round_trip_ms", trip, 3)
        floor = [x + statistics.median(trip) / 1.2 for x in own]
        bench.ratio("exec_true_vs_guest_own_and_trip", ours, floor, budget=1.2)
        shutil.rmtree(work)


if __name__ == "__main__":
    main()
