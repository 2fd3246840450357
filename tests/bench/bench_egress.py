#!/usr/bin/env python3
"""What lies between a guest and the world: passed through against passt, intercepted against nginx and mitmproxy.

All in one run and one test world (tests/e2e/egress_world), with this machine's own programs as clients on a TAP in
the guest's place: egress_parts.py says why. What is passed through is measured in a guest as well. Each figure is
taken in turns, ours and theirs. Parts can be named: BENCH_PARTS="pass guest read setup idle start". Needs root.
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


def turns(runs, *measured):
    """[(each one's figure)] of some rounds, in turns."""
    rows = [[m() for m in measured] for _ in range(runs)]
    return [list(column) for column in zip(*rows)]


def costed(fetch, processes):
    """(MB/s, seconds of processor time a GiB of all these together) of one download."""
    before = [parts.seconds(p) for p in processes]
    speed = fetch()
    used = sum(parts.seconds(p) - b for p, b in zip(processes, before))
    return speed / 1e6, used * (1 << 30) / BYTES


def compared(word, names, runs, *measured):
    """Reports what costed() gives for each, in turns; returns the speeds of each."""
    got = turns(runs, *measured)
    for name, pairs in zip(names, got):
        bench.report(f"egress.{word}.{name}", [speed for speed, _ in pairs], unit="MB/s")
        bench.report(f"egress.{word}.{name}.cpu", [cpu for _, cpu in pairs], 3, unit="s of CPU per GiB")
    return [[speed for speed, _ in pairs] for pairs in got]


def bulk(w, wire):
    """Bytes a second of a plain download that is passed through."""
    ours, theirs = parts.Berm(w, wire), parts.Passt(w, wire)
    try:
        for word, scheme, port, budget in (("pass", "http", parts.RAW_PORT, 0.8), ("pass_tls", "https", 443, None)):
            url = f"{scheme}://files.world.test:{port}/{FILE}"
            to = ["--http1.1", "--resolve", f"files.world.test:{port}:{plan.NGINX4}"]
            mine = list(ours.processes.values())
            got = compared(word, ("berm", "passt"), RUNS,
                           lambda: costed(lambda: parts.fetch(ours.side, url, "--http1.1"), mine),
                           lambda: costed(lambda: parts.fetch(theirs.side, url, *to), theirs.processes.values()))
            bench.ratio(f"egress.{word}.ratio", *got, budget=budget, better="higher")
    finally:
        ours.close()
        theirs.close()


def in_guest(w, wire):
    """The plain download once more, by curl in a guest: two alike, one on berm's gate and one on passt."""
    ours, theirs = (kind(w, wire, side=parts.SoftGuest) for kind in (parts.Berm, parts.Passt))
    try:
        url = f"http://files.world.test:{parts.RAW_PORT}/{FILE}"
        to = ["--resolve", f"files.world.test:{parts.RAW_PORT}:{plan.NGINX4}"]
        ask = [lambda: parts.fetch(ours.side, url), lambda: parts.fetch(theirs.side, url, *to)]
        for name, card, fetch in zip(("berm", "passt"), (ours, theirs), ask):
            fetch()  # the software CPU has translated all this before anything counts
            _, cpu = costed(fetch, [card.side.guest.qemu])
            bench.report(f"egress.guest.{name}.qemu_cpu", [cpu], 3, unit="s of CPU per GiB")
        got = compared("guest", ("berm", "passt"), max(7, RUNS), lambda: costed(ask[0], ours.processes.values()),
                       lambda: costed(ask[1], theirs.processes.values()))
        bench.ratio("egress.guest.ratio", *got, budget=0.8, better="higher")
    finally:
        ours.close()
        theirs.close()


def split(card, word, work, unit, amount):
    """The price of two processes: what each of them takes for the same."""
    before = card.seconds()
    work()
    for name, spent in card.seconds().items():
        bench.report(f"egress.split.{word}.{name}", [(spent - before[name]) / amount], 3, unit=unit)


def read(w, wire):
    """Bytes a second of a download over TLS that is read on the way; nginx and mitmproxy do the same for theirs."""
    proxy = parts.nginx_proxy(w)
    ours, theirs = parts.Berm(w, wire), parts.Passt(w, wire)
    try:
        parts.await_port(w, parts.PROXY_PORT)
        direct, flag = ["--resolve", f"files.world.test:443:{plan.NGINX4}"], "--http1.1"
        url = f"https://{plan.BERM4}:{parts.PROXY_PORT}/{FILE}"
        mine = list(ours.processes.values())
        got = compared(
            "read", ("berm", "nginx", "nobody"), RUNS,
            lambda: costed(lambda: parts.fetch(ours.side, f"https://api.world.test/{FILE}", flag), mine),
            lambda: costed(lambda: parts.fetch(theirs.side, url, flag), [proxy]),
            lambda: costed(lambda: parts.fetch(theirs.side, f"https://files.world.test/{FILE}", flag, *direct), []))
        bench.ratio("egress.read.nginx_ratio", got[0], got[1], budget=0.8, better="higher")
        requests(ours, theirs)
        split(ours, "read", lambda: [parts.fetch(ours.side, f"https://api.world.test/{FILE}", flag) for _ in range(4)],
              "s of CPU per GiB", 4 * BYTES / (1 << 30))
        split(ours, "requests", lambda: parts.rate(ours.side, "https://api.world.test/small", 20000, 16, "--h1"),
              "ms of CPU per 1000 requests", 20 / 1000)
        for stream in (True, False):
            beside_mitmproxy(w, ours, theirs, stream)
    finally:
        proxy.terminate()
        proxy.wait()
        ours.close()
        theirs.close()


def beside_mitmproxy(w, ours, theirs, stream):
    """The same beside mitmproxy, streaming and as it comes."""
    if not shutil.which("mitmdump"):
        bench.note("SKIPPED: mitmproxy, and with it the budget of 10: apt install mitmproxy")
        return
    word = "mitmproxy_streaming" if stream else "mitmproxy"
    mitm = parts.mitmproxy(w, stream)
    try:
        parts.await_port(w, parts.MITM_PORT)
        base = f"https://{plan.BERM4}:{parts.MITM_PORT}"
        got = compared(
            word, ("berm", "theirs"), max(3, RUNS // 2),
            lambda: costed(lambda: parts.fetch(ours.side, f"https://api.world.test/{FILE}", "--http1.1"),
                           list(ours.processes.values())),
            lambda: costed(lambda: parts.fetch(theirs.side, f"{base}/{FILE}", "--http1.1"), [mitm]))
        bench.ratio(f"egress.{word}.ratio", *got, budget=10, better="higher")
        rates = turns(3, lambda: parts.rate(ours.side, "https://api.world.test/small", 20000, 16, "--h1"),
                      lambda: parts.rate(theirs.side, f"{base}/small", 1000, 16, "--h1"))
        bench.report(f"egress.{word}.rate.theirs", rates[1], unit="requests/s")
        bench.ratio(f"egress.{word}.rate.ratio", *rates, budget=10, better="higher")
    finally:
        mitm.terminate()
        mitm.wait()


def requests(ours, theirs):
    """Small requests a second on kept connections."""
    for name, flags, count in (("h1", ["--h1"], 20000), ("h2", ["-m", "10"], 20000)):
        url = f"https://{plan.BERM4}:{parts.PROXY_PORT}/small"
        got = turns(RUNS, lambda: parts.rate(ours.side, "https://api.world.test/small", count, 16, *flags),
                    lambda: parts.rate(theirs.side, url, count, 16, *flags))
        bench.report(f"egress.rate.{name}.berm", got[0], unit="requests/s")
        bench.report(f"egress.rate.{name}.nginx", got[1], unit="requests/s")
        bench.ratio(f"egress.rate.{name}.ratio", *got, budget=0.7, better="higher")


def setup(w, wire):
    """From nothing to the first bytes of an answer: round trips, counted, and times."""
    ours, theirs = parts.Berm(w, wire), parts.Passt(w, wire)
    try:
        for word, name, port, secure in (("plain", "files.world.test", parts.RAW_PORT, False),
                                         ("tls", "files.world.test", 443, True), ("read", "api.world.test", 443, True)):
            ours.side.run("getent", "ahostsv4", name)
            mine = parts.count_trips(ours, name, name, port, secure)
            other = parts.count_trips(theirs, plan.NGINX4, name, port, secure)
            for where, a, b in zip(("guest", "server"), mine, other):
                bench.report(f"egress.trips.{word}.{where}", [a], passt=b)
                bench.report(f"egress.trips.{word}.{where}.more", [a - b], budget=1)
        for name, port, secure in (("plain", parts.RAW_PORT, False), ("tls", 443, True)):
            for who, card, host in (("berm", ours, "files.world.test"), ("passt", theirs, plan.NGINX4)):
                times = parts.connects(card.side, host, port, 200, secure)
                bench.report(f"egress.setup.{name}.{who}", times, 3, unit="ms")
    finally:
        ours.close()
        theirs.close()


def idle(w, wire):
    """Memory of 10,000 connections on which nothing happens."""
    ours = parts.Berm(w, wire)
    try:
        before = {n: ours.memory(n) for n in ("gate", "vault")}
        with parts.idle(ours.side, "files.world.test", parts.RAW_PORT, IDLE) as count:
            for name in before:
                pss, rss = ours.memory(name)
                bench.report(f"egress.idle.{name}.pss", [pss / 1024], unit="MiB", connections=count)
                bench.report(f"egress.idle.{name}.rss", [rss / 1024], unit="MiB", connections=count)
                bench.report(f"egress.idle.{name}.more", [(pss - before[name][0]) / 1024], unit="MiB",
                             connections=count)
    finally:
        ours.close()


def start(w, wire):
    """A start with a network costs how much more than one without?"""
    with bench.State() as where:
        flags = ["--allow", "files.world.test:443"]
        for extra in ([], flags):
            where.run("run", *extra, "default", "true")
        plain, with_one = turns(bench.RUNS, lambda: where.time_run("run", "default", "true"),
                                lambda: where.time_run("run", *flags, "default", "true"))
        bench.report("egress.start.without", plain, unit="ms")
        bench.report("egress.start.with", with_one, unit="ms")
        bench.report("egress.start.more", [b - a for a, b in zip(plain, with_one)], unit="ms", budget=5,
                     of_medians=round(statistics.median(with_one) - statistics.median(plain), 1),
                     of_least=round(min(with_one) - min(plain), 1))


PARTS = {"pass": bulk, "guest": in_guest, "read": read, "setup": setup, "idle": idle, "start": start}


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
