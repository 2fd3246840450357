"""What stands at a guest's network card: berm-gate with berm-vault, or passt, with the test world's servers on the far
side. On the near one is a TAP in a namespace of its own, with programs of this machine as clients at its full speed,
for a guest on a software CPU hides most differences; or such a guest all the same, to show what is left of them there.
"""

import contextlib
import ctypes
import importlib.util
import json
import os
import pathlib
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import bench

sys.path.insert(0, os.path.join(bench.TOP, "tests", "e2e"))
from egress_world import plan, world  # noqa: E402


def load_guest():
    """tests/lib/guest.py: the name alone is that of kernel/bench's."""
    spec = importlib.util.spec_from_file_location("soft_guest", os.path.join(bench.TOP, "tests", "lib", "guest.py"))
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


soft_guest = load_guest()
LIBEXEC = os.path.join(bench.STAGE, "libexec", "berm")
GUEST4, ROUTER4, GUEST6, ROUTER6 = "100.96.0.2", "100.96.0.1", "fd62:6572:6d00::2", "fd62:6572:6d00::1"
RAW_PORT = 8000  # of nginx: HTTP on a port where nobody would read it on the way
GUEST_MAC = "02:62:65:72:6d:02"
MTU = 65520
READY_SECONDS = 30
CONTROL_MAX = 4096
READY, POLICY, POLICY_OK, POLICY_BAD = 1, 2, 3, 4
F_ADD_SEALS, ALL_SEALS = 1033, 0xF
POLICY_TEXT = """
version: 1
network:
  rules:
    - { host: files.world.test, port: [443, 8000] }
    - { host: away.world.test, port: 443 }
    - { host: api.world.test, port: [80, 443], inspect: true }
    - { host: grpc.world.test, port: 443, inspect: true }
limits: { connection_rate: 100000, connections: 12000, host_connections: 12000, dns_rate: 10000 }
"""
# bulk and small files from the same nginx: api is its second name here, and is read
NAMES = {"api.world.test": {"A": [plan.NGINX4]}, "files.world.test": {"A": [plan.NGINX4]}}


def compiled(where, text):
    """A policy as the programs take it: that of a sandbox which was started with it."""
    path = os.path.join(where.dir, "policy.yaml")
    with open(path, "w", encoding="utf-8") as f:
        f.write(text)
    got = where.run("run", "-d", "--policy", path, "default", "sleep", "600", stdout=subprocess.PIPE)
    sandbox = got.stdout.decode().split()[-1]
    try:
        with open(os.path.join(where.dir, "sandboxes", sandbox, "policy"), "rb") as f:
            return f.read()
    finally:
        where.run("rm", "-f", sandbox)


def sealed(data):
    fd = os.memfd_create("policy", os.MFD_ALLOW_SEALING | os.MFD_CLOEXEC)
    os.write(fd, data)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.fcntl(fd, F_ADD_SEALS, ALL_SEALS) < 0:
        raise OSError(ctypes.get_errno(), "seal")
    return fd


def seconds(process):
    """Processor time of a process and its threads, by nanoseconds where the kernel has them."""
    total = 0
    for thread in os.listdir(f"/proc/{process.pid}/task"):
        with open(f"/proc/{process.pid}/task/{thread}/schedstat", encoding="ascii") as f:
            total += int(f.read().split()[0])
    return total / 1e9


class GuestSide:
    """The namespace with the TAP, named as a guest's card is, and a resolv.conf of its own."""

    def __init__(self, w, far, wire, delay_ms):
        self.space = world.Namespace(None, "-m", "-n")
        self.resolv = os.path.join(w.folder, "guest-resolv.conf")
        with open(self.resolv, "w", encoding="utf-8") as f:
            f.write(f"nameserver {ROUTER4}\n")
        self.space.sh(f"mount --bind {self.resolv} {os.path.realpath('/etc/resolv.conf')}; ip link set lo up")
        argv = [wire, f"fd:{far.fileno()}", f"tap:tap0:{self.space.holder.pid}", str(delay_ms)]
        self.wire = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[far.fileno()])
        if self.wire.stdout.readline() != b"ready\n":
            raise OSError("tap_wire did not start")
        self.space.sh(f"""ip link set tap0 address {GUEST_MAC} mtu {MTU} up
            ip addr add {GUEST4}/30 dev tap0; ip -6 addr add {GUEST6}/64 dev tap0 nodad
            ip route add default via {ROUTER4}; ip -6 route add default via {ROUTER6}""")

    def run(self, *argv, **more):
        more = {"capture_output": True, "text": True, "check": True, "timeout": 900, **more}
        return subprocess.run([*self.space.enter(), *argv], **more)

    def close(self):
        self.wire.stdin.close()
        self.wire.wait()
        self.wire.stdout.close()
        self.space.close()


class SoftGuest:
    """A real guest instead: berm's kernel, agent and default image, QEMU's software CPU, the card as berm makes it."""

    def __init__(self, w, far, _wire, _delay_ms):
        share = pathlib.Path(bench.SHARE)
        os.environ["BERM_KERNEL"] = str(share / "vmlinux")
        work = pathlib.Path(tempfile.mkdtemp(prefix="guest.", dir=w.folder))
        self.guest = soft_guest.Guest(work, bench.image_disk(), share / "initramfs.cpio", memory_mib=bench.MEMORY_MIB,
                                 net_fd=far.fileno())
        self.guest.handshake(network={})

    def run(self, *argv):
        end, out, err = self.guest.peer.run(*argv, deadline_s=900, env=["PATH=/usr/bin:/bin"])
        if end.value != 0:
            raise OSError(f"{argv[0]} in the guest: {end}: {err!r}")
        return subprocess.CompletedProcess(argv, 0, out.decode(), err.decode())

    def close(self):
        self.guest.close()


class Card:
    """One program at the card. A subclass starts it, on the near end of a stream."""

    def __init__(self, w, wire, delay_ms=0, side=GuestSide):
        self.world, self.processes = w, {}
        self.near, self.far = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        for s in (self.near, self.far):
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, self.buffer_bytes)
        self.side = side(w, self.far, wire, delay_ms)
        self.start()
        self.near.close()
        self.far.close()

    def spawn(self, name, argv, fds, where):
        """Starts a program of libexec in the berm side with these fds: {number: fd}."""
        script = "".join(f"os.dup2({fd}, {1000 + n}); " for n, fd in fds.items())
        script += "".join(f"os.dup2({1000 + n}, {n}); os.close({1000 + n}); " for n in fds)
        # what the fds were is closed by exec, and a number may be both a source and a target
        script += "r.setrlimit(r.RLIMIT_NOFILE, (r.getrlimit(r.RLIMIT_NOFILE)[1],) * 2); "
        code = f"import os, resource as r; {script}os.execv({argv[0]!r}, {argv!r})"
        log = open(os.path.join(self.world.folder, f"{name}.log"), "ab")
        with log:
            self.processes[name] = subprocess.Popen(
                [*where, sys.executable, "-c", code], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                pass_fds=list(fds.values()), env={"PATH": world.PATH})

    def seconds(self):
        """{program: processor time}. nsenter has become each by exec."""
        return {name: seconds(p) for name, p in self.processes.items()}

    def memory(self, name):
        """(PSS, RSS) of one of its programs, KiB."""
        with open(f"/proc/{self.processes[name].pid}/smaps_rollup", encoding="ascii") as f:
            text = f.read()
        return tuple(int(re.search(rf"^{k}:\s+(\d+)", text, re.MULTILINE)[1]) for k in ("Pss", "Rss"))

    def close(self):
        # a program whose card is gone ends by itself
        self.side.close()
        for p in self.processes.values():
            p.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                p.wait(10)
            p.kill()
            p.wait()


class Passt(Card):
    name = "passt"
    buffer_bytes = 4 << 20  # it drops what finds no room: with less, downloads stall

    def start(self):
        argv = ["/usr/bin/passt", "--foreground", "--quiet", "--stderr", "--fd", "4",
                "-a", GUEST4, "-n", "30", "-g", ROUTER4, "-M", "02:62:65:72:6d:01", "--no-map-gw",
                "-t", "none", "-u", "none", "-i", "berm0", "--runas", "0"]
        self.spawn("passt", argv, {4: self.near.fileno()}, self.world.enter())
        time.sleep(1)
        if self.processes["passt"].poll() is not None:
            with open(os.path.join(self.world.folder, "passt.log"), encoding="utf-8", errors="replace") as f:
                raise OSError(f"passt: {f.read()[-500:]}")


class Berm(Card):
    """berm-gate and berm-vault, told what a supervisor would tell them."""

    name = "berm"
    buffer_bytes = 1 << 20  # as the supervisor asks for
    policy = b""

    def start(self):
        gate_near, gate_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        vault_near, vault_far = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        one, two = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        self.control = [gate_near, vault_near]
        fds = {3: vault_far.fileno(), 4: two.fileno()}
        self.spawn("vault", [f"{LIBEXEC}/berm-vault", "bench"], fds, self.world.enter())
        # the gate is given no network; a namespace without any shows that it needs none
        self.spawn("gate", [f"{LIBEXEC}/berm-gate", "bench"],
                   {3: gate_far.fileno(), 4: self.near.fileno(), 5: one.fileno()}, ["unshare", "-n", "--"])
        for s in (gate_far, vault_far, one, two):
            s.close()
        self.ca = self.await_kind(gate_near, READY)[8:]
        self.await_kind(vault_near, READY)
        generation = 1
        fd = sealed(self.policy)
        packet = struct.pack("<BBHI", 1, POLICY, 0, generation)
        socket.send_fds(vault_near, [packet], [fd])
        os.close(fd)
        self.await_kind(vault_near, POLICY_OK)
        self.drain()

    def drain(self):
        """Records are read and forgotten, as a supervisor would write them down."""
        def run(sock):
            with contextlib.suppress(OSError):
                while sock.recv(CONTROL_MAX):
                    pass
        for s in self.control:
            s.settimeout(None)
            threading.Thread(target=run, args=(s,), daemon=True).start()

    def await_kind(self, sock, kind):
        sock.settimeout(READY_SECONDS)
        while True:
            packet = sock.recv(CONTROL_MAX)
            if not packet or packet[1] == POLICY_BAD:
                raise OSError(f"no answer of kind {kind}: {packet!r}")
            if packet[1] == kind:
                return packet

    def close(self):
        super().close()
        for s in self.control:
            s.close()


# -- what is measured -----------------------------------------------------------------------------


def fetch(side, url, *flags):
    """Bytes a second of one download, by a client on the card."""
    got = side.run("curl", "-sS", "-k", "-o", "/dev/null", "-w", "%{json}", "--max-time", "600", *flags, url)
    told = json.loads(got.stdout)
    if told["http_code"] not in (200, 206):
        raise OSError(f"{url}: {told['http_code']} {told.get('errormsg')}")
    return told["speed_download"]


def rate(side, url, requests, connections, *flags):
    """Requests a second on kept connections."""
    got = side.run("h2load", "-n", str(requests), "-c", str(connections), "-t", "1", *flags, url)
    done = re.search(r"finished in [\d.]+\w+, ([\d.]+) req/s", got.stdout)
    good = re.search(r"status codes: (\d+) 2xx", got.stdout)
    if not done or int(good[1]) < requests:
        raise OSError(f"h2load {url}: {got.stdout[-600:]}")
    return float(done[1])


# what is sent and received on an interface, but for bare acknowledgements: "host port" on stdin ends it
CAPTURE = r"""
import json, socket, struct, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
s.bind((sys.argv[1], 3))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
print("ready", flush=True)
sys.stdin.read()
s.setblocking(False)
seen = []
while True:
    try:
        raw, about = s.recvfrom(70000)
    except BlockingIOError:
        break
    if about[1] != 0x800 or raw[23] not in (6, 17):
        continue
    ip, head = raw[14:], (raw[14] & 15) * 4
    total, l4 = struct.unpack_from(">H", ip, 2)[0], ip[head:]
    sport, dport = struct.unpack_from(">HH", l4)
    out = about[2] == socket.PACKET_OUTGOING
    port = dport if out else sport
    if raw[23] == 6:
        data = total - head - (l4[12] >> 4) * 4
        if not data and not l4[13] & 2:
            continue
    seen.append((raw[23], port, out))
print(json.dumps(seen))
"""
ONE = r"""
import socket, ssl, sys
host, name, port, secure = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4] == "tls"
s = socket.create_connection((host, port))
if secure:
    c = ssl.create_default_context()
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    s = c.wrap_socket(s, server_hostname=name)
s.sendall(b"GET /small HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % name.encode())
assert s.recv(12).endswith(b" 200"), "no answer"
"""


def trips(seen, port):
    """How often somebody had to wait for the other end of that TCP port: each way out that was answered."""
    ways = [out for proto, at, out in seen if proto == 6 and at == port]
    return sum(a and not b for a, b in zip(ways, ways[1:]))


def count_trips(card, host, name, port, secure):
    """(on the guest's card, towards the server): round trips of one connection up to its first answer."""
    w, taps = card.world, []
    for enter, card_name in ((card.side.space.enter(), "tap0"), (w.enter(), "berm0")):
        taps.append(subprocess.Popen([*enter, "/usr/bin/python3", "-c", CAPTURE, card_name], stdin=subprocess.PIPE,
                                     stdout=subprocess.PIPE, text=True))
        if taps[-1].stdout.readline() != "ready\n":
            raise OSError(f"no capture on {card_name}")
    card.side.run("/usr/bin/python3", "-c", ONE, host, name, str(port), "tls" if secure else "plain")
    return [trips(json.loads(t.communicate("")[0]), port) for t in taps]


CONNECT_TIMES = r"""
import socket, ssl, sys, time
host, port, n, secure = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "tls"
c = ssl.create_default_context()
c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
address = socket.getaddrinfo(host, port, socket.AF_INET)[0][4]
for _ in range(n):
    began = time.perf_counter()
    s = socket.create_connection(address)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if secure:
        s = c.wrap_socket(s, server_hostname=host)
    s.sendall(b"GET /small HTTP/1.1\r\nHost: %b\r\nConnection: close\r\n\r\n" % host.encode())
    s.recv(1)
    print((time.perf_counter() - began) * 1000)
    s.close()
"""


def connects(side, host, port, count, secure):
    """Milliseconds from nothing to the first byte of an answer, of each of some connections."""
    got = side.run("/usr/bin/python3", "-c", CONNECT_TIMES, host, str(port), str(count), "tls" if secure else "plain")
    return [float(x) for x in got.stdout.split()]


HOLD = r"""
import resource, socket, sys
hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
host, port, n = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
address = socket.getaddrinfo(host, port, socket.AF_INET)[0][4]
held = []
for i in range(n):
    s = socket.create_connection(address, 60)
    held.append(s)
print(len(held), flush=True)
sys.stdin.read()
"""


@contextlib.contextmanager
def idle(side, host, port, count):
    """That many connections on which nothing happens."""
    p = subprocess.Popen([*side.space.enter(), "/usr/bin/python3", "-c", HOLD, host, str(port), str(count)],
                         stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        yield int(p.stdout.readline() or 0)
    finally:
        p.stdin.close()
        p.wait()
        p.stdout.close()


NGINX_PROXY = """daemon off; master_process off; user root; pid {folder}/proxy.pid; error_log {folder}/proxy.log error;
worker_rlimit_nofile 40000;
events {{ worker_connections 20000; }}
http {{ access_log off; tcp_nodelay on; keepalive_requests 1000000; keepalive_timeout 600s; client_max_body_size 0;
	client_body_temp_path {folder}/p1; proxy_temp_path {folder}/p2; fastcgi_temp_path {folder}/p3;
	uwsgi_temp_path {folder}/p4; scgi_temp_path {folder}/p5;
	ssl_certificate {pki}/good.pem; ssl_certificate_key {pki}/good.key;
	upstream origin {{ server {origin}:443; keepalive 256; keepalive_requests 1000000; }}
	server {{ listen {address}:{port} ssl http2;
	location / {{ proxy_pass https://origin; proxy_http_version 1.1; proxy_set_header Connection "";
		proxy_set_header Host files.world.test; proxy_ssl_name files.world.test;
		proxy_ssl_server_name on; proxy_ssl_verify on; proxy_ssl_trusted_certificate {pki}/ca.pem;
		proxy_max_temp_file_size 0; proxy_request_buffering off; }} }} }}
"""
PROXY_PORT, MITM_PORT = 9443, 9444


def nginx_proxy(w):
    """nginx where berm runs, ending TLS and beginning it again: what the gate and the vault are compared with."""
    path = os.path.join(w.folder, "proxy.conf")
    with open(path, "w", encoding="utf-8") as f:
        words = {"origin": plan.NGINX4, "address": plan.BERM4, "port": PROXY_PORT}
        f.write(NGINX_PROXY.format(folder=w.folder, pki=w.pki, **words))
    log = open(os.path.join(w.folder, "proxy.out"), "ab")
    with log:
        return subprocess.Popen([*w.enter(), "nginx", "-p", w.folder, "-e", f"{w.folder}/proxy.log", "-c", path],
                                stdin=subprocess.DEVNULL, stdout=log, stderr=log, env={"PATH": world.PATH})


def mitmproxy(w, stream):
    """Streaming, or as it comes: then it keeps a body until it has all of it."""
    argv = ["mitmdump", "--mode", f"reverse:https://{plan.NGINX4}:443", "--listen-host", plan.BERM4,
            "-p", str(MITM_PORT), "--ssl-insecure"]
    # its clients' addresses look public here, which it would refuse
    words = ["block_global=false", f"confdir={w.folder}/mitm", "flow_detail=0"]
    for word in words + (["stream_large_bodies=1"] if stream else []):
        argv += ["--set", word]
    log = open(os.path.join(w.folder, "mitm.log"), "ab")
    with log:
        return subprocess.Popen([*w.enter(), *argv], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                env={"PATH": world.PATH, "HOME": w.folder, "PYTHONUNBUFFERED": "1"})


def await_port(w, port):
    end = time.monotonic() + READY_SECONDS * 2
    while w.host("curl", "-sk", "-o", "/dev/null", f"https://{plan.BERM4}:{port}/small").returncode:
        if time.monotonic() > end:
            raise OSError(f"nobody answers at {port}")
        time.sleep(0.2)
