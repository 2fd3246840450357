#!/usr/bin/env python3
"""What lies between a guest and the world: passed through against passt, intercepted against nginx and mitmproxy.

All in one run and one test world (tests/e2e/egress_world), with this machine's own programs as clients on a TAP in
the guest's place: egress_parts.py says why. Each figure is taken in turns, ours and theirs. Parts can be named:
BENCH_PARTS="pass read rate setup idle start". Needs root.
"""

import os
import shutil
import statistics
import subprocess
import sys
import tempfile

import bench
import egress_parts as parts
from egress_world import plan, world

RUNS = max(3, bench.RUNS // 4)
IDLE = 10000
FILE = "256m"
BYTES = 256 << 20
WIRE_DELAY_MS = 20


def turns(runs, *measured):
    """[(each one's figure)] of some rounds, in turns."""
    rows = [[m() for m in measured] for _ in range(runs)]
    return [list(column) for column in zip(*rows)]


def bulk(w, wire):
    """Bytes a second of a plain download that is passed through."""
    ours, theirs = parts.Berm(w, wire), parts.Passt(w, wire)
    try:
        url = f"http://files.world.test:{parts.RAW_PORT}/{FILE}"
        to = ["--resolve", f"files.world.test:{parts.RAW_PORT}:{plan.NGINX4}"]
        got = turns(RUNS, lambda: parts.fetch(ours.side, url), lambda: parts.fetch(theirs.side, url, *to))
        for name, values in zip(("berm", "passt"), got):
            bench.report(f"egress.pass.{name}", [v / 1e6 for v in values], unit="MB/s")
        bench.ratio("egress.pass.ratio", *got, budget=0.8, better="higher")
        url = f"https://files.world.test/{FILE}"
        to = ["--resolve", f"files.world.test:443:{plan.NGINX4}"]
        got = turns(RUNS, lambda: parts.fetch(ours.side, url), lambda: parts.fetch(theirs.side, url, *to))
        bench.ratio("egress.pass.tls_ratio", *got, better="higher")
        split(ours)
    finally:
        ours.close()
        theirs.close()


def split(card):
    """The price of two processes: processor time of each for a gigabyte, passed and read."""
    for what, host in (("pass", "files.world.test"), ("read", "api.world.test")):
        before = {n: card.usage(n)[0] for n in ("gate", "vault")}
        count = 4
        for _ in range(count):
            parts.fetch(card.side, f"https://{host}/{FILE}", "--http1.1")
        for name in before:
            seconds = card.usage(name)[0] - before[name]
            each = seconds * (1 << 30) / (count * BYTES)
            bench.report(f"egress.split.{what}.{name}", [each], 3, unit="s of CPU per GiB")


def read(w, wire):
    """Bytes a second of a download over TLS that is read on the way; nginx and mitmproxy do the same for theirs."""
    proxy = parts.nginx_proxy(w)
    mitm = parts.mitmproxy(w) if shutil.which("mitmdump") else None
    ours, theirs = parts.Berm(w, wire), parts.Passt(w, wire)
    try:
        parts.await_port(w, parts.PROXY_PORT)
        flag = "--http1.1"
        got = turns(RUNS, lambda: parts.fetch(ours.side, f"https://api.world.test/{FILE}", flag),
                    lambda: parts.fetch(theirs.side, f"https://{plan.BERM4}:{parts.PROXY_PORT}/{FILE}", flag))
        for name, values in zip(("berm", "nginx"), got):
            bench.report(f"egress.read.{name}", [v / 1e6 for v in values], unit="MB/s")
        bench.ratio("egress.read.nginx_ratio", *got, budget=0.8, better="higher")
        if mitm:
            parts.await_port(w, parts.MITM_PORT)
            slow = [parts.fetch(theirs.side, f"https://{plan.BERM4}:{parts.MITM_PORT}/{FILE}", flag) for _ in range(3)]
            bench.report("egress.read.mitmproxy", [v / 1e6 for v in slow], unit="MB/s")
            bench.ratio("egress.read.mitmproxy_ratio", got[0][:3], slow, budget=10, better="higher")
        else:
            bench.note("SKIPPED: mitmproxy, and with it the budget of 10: apt install mitmproxy")
        requests(ours, theirs)
    finally:
        for p in (proxy, mitm):
            if p:
                p.terminate()
                p.wait()
        ours.close()
        theirs.close()


def requests(ours, theirs):
    """Small requests a second on kept connections."""
    for name, flags, count in (("h1", ["--h1"], 20000), ("h2", ["-m", "10"], 20000)):
        url = f"https://{plan.BERM4}:{parts.PROXY_PORT}/small"
        got = turns(RUNS, lambda: parts.rate(ours.side, "https://api.world.test/small", count, 16, *flags),
                    lambda: parts.rate(theirs.side, url, count, 16, *flags))
        bench.report(f"egress.rate.{name}.berm", got[0], unit="requests/s")
        bench.report(f"egress.rate.{name}.nginx", got[1], unit="requests/s")
        bench.ratio(f"egress.rate.{name}.ratio", *got, budget=0.7 if name == "h1" else None, better="higher")


def setup(w, wire):
    """From nothing to the first byte of an answer. Once as it is, once with a wire to the guest that takes its time,
    where what is longer than passt's in round trips can be told apart from what is only work."""
    for delay in (0, WIRE_DELAY_MS):
        ours, theirs = parts.Berm(w, wire, delay), parts.Passt(w, wire, delay)
        try:
            for name, port, secure in (("plain", parts.RAW_PORT, False), ("tls", 443, True)):
                count = 30 if delay else 200
                mine = parts.connects(ours.side, "files.world.test", port, count, secure)
                other = parts.connects(theirs.side, plan.NGINX4, port, count, secure)
                word = f"egress.setup.{name}" + (f".delay{delay}" if delay else "")
                bench.report(f"{word}.berm", mine, 3, unit="ms")
                bench.report(f"{word}.passt", other, 3, unit="ms")
                if delay:
                    trips = (statistics.median(mine) - statistics.median(other)) / (2 * delay)
                    bench.report(f"{word}.more_round_trips", [trips], 2, budget=1)
        finally:
            ours.close()
            theirs.close()


def idle(w, wire):
    """Memory of 10,000 connections on which nothing happens."""
    ours = parts.Berm(w, wire)
    try:
        before = {n: ours.usage(n)[1] for n in ("gate", "vault")}
        with parts.idle(ours.side, "files.world.test", parts.RAW_PORT, IDLE) as count:
            for name in before:
                kib = ours.usage(name)[1] - before[name]
                bench.report(f"egress.idle.{name}", [kib / 1024], unit="MiB", connections=count)
    finally:
        ours.close()


def start(w, wire):
    """A start with a network costs how much more than one without?"""
    with bench.State() as where:
        plain, with_one = [], []
        flags = ["--allow", "files.world.test:443"]
        for extra in ([], flags):
            where.run("run", *extra, "default", "true")
        for _ in range(bench.RUNS):
            plain.append(where.time_run("run", "default", "true"))
            with_one.append(where.time_run("run", *flags, "default", "true"))
        bench.report("egress.start.without", plain, unit="ms")
        bench.report("egress.start.with", with_one, unit="ms")
        bench.report("egress.start.more", [b - a for a, b in zip(plain, with_one)], unit="ms", budget=5)


PARTS = {"pass": bulk, "read": read, "setup": setup, "idle": idle, "start": start}


def main():
    why = world.missing() or ("run as root: a TAP is made" if os.geteuid() else "")
    why = why or ("" if shutil.which("h2load") and shutil.which("passt") else "apt install nghttp2-client passt")
    if why:
        bench.note(f"SKIPPED: egress: {why}")
        return
    with tempfile.TemporaryDirectory(prefix="berm-egress.") as work:
        os.chmod(work, 0o755)
        wire = os.path.join(work, "tap_wire")
        subprocess.run(["cc", "-O2", "-o", wire, os.path.join(bench.HERE, "tap_wire.c")], check=True)
        with bench.State() as where:
            parts.Berm.policy = parts.compiled(where, parts.POLICY_TEXT)
        w = world.World(os.path.join(work, "world"))
        try:
            w.dns(**parts.NAMES)
            for name in sys.argv[1:] or os.environ.get("BENCH_PARTS", "").split() or PARTS:
                bench.note(f"egress: {name}")
                PARTS[name](w, wire)
        finally:
            w.close()


if __name__ == "__main__":
    main()
