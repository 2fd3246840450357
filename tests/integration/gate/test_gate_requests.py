"""Requests that are read: real clients, berm-gate, berm-vault, and servers that keep what arrives."""

import hashlib
import json
import os
import shutil
import time

import bermtest
import pytest
import rig
from egress_world import plan

pytestmark = pytest.mark.skipif(bool(rig.WHY_NOT), reason=rig.WHY_NOT or "-")
PYTHON, NODE = "/usr/bin/python3", shutil.which("node")
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"
READ = ["host: '**.world.test', port: 443, inspect: true", "host: '**.world.test', port: 80"]


@pytest.fixture
def read(world, tmp_path):
    with rig.joined(world, tmp_path, READ) as made:
        yield made


def records(gate, count, **wanted):
    """That many, once they are there."""
    end = time.monotonic() + 20 * bermtest.SLOWNESS
    while len(gate.records(**wanted)) < count and time.monotonic() < end:
        time.sleep(0.05)
    got = gate.records(**wanted)
    assert len(got) == count, got
    return got


def curl(gate, *argv, code=0):
    got = gate.guest("curl", "-sS", "--max-time", "60", *argv)
    assert got.returncode == code, (got.stderr, gate.log())
    return got.stdout


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
@pytest.mark.parametrize("host", ["api.world.test", "h2.world.test"])
def test_a_request_arrives_as_it_was_judged(read, world, flag, host):
    mark = world.mark()
    got = json.loads(curl(read, flag, f"https://{host}/x/../echo?a=b", "--path-as-is", "-d", "hello", "-H",
                          "X-Mark: here"))
    assert (got["method"], got["target"], got["body"], got["host"]) == ("POST", "/echo?a=b", "hello", host)
    (request,) = world.requests(mark)
    assert ["x-mark", "here"] in [[k.lower(), v] for k, v in request["headers"]]
    allowed, ended = records(read, 2, layer="http")
    assert (allowed["event"], ended["event"], ended["status"]) == ("allowed", "ended", 200)
    assert (allowed["host"], allowed["method"], allowed["path"]) == (host, "POST", "/echo")
    assert allowed["flow"] == ended["flow"]


def test_the_guest_sees_our_certificate_and_the_vault_the_real_one(read):
    got = read.guest("curl", "-sSv", "https://api.world.test/none")
    assert "CN=berm sandbox authority" in got.stderr, got.stderr
    curl(read, "https://api.world.test/none", "--cacert", "/dev/null", code=77)


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_bodies_both_ways(read, tmp_path, flag):
    data = os.urandom(3_000_000)
    (tmp_path / "up").write_bytes(data)
    got = json.loads(curl(read, flag, "https://api.world.test/upload", "--data-binary", f"@{tmp_path}/up"))
    assert got["sha256"] == hashlib.sha256(data).hexdigest(), got
    for path in ("bytes?n=5000000", "chunked?n=5000000"):
        out = read.guest("curl", "-sS", flag, f"https://api.world.test/{path}", text=False).stdout
        n = int(path.partition("=")[2])
        assert out == (bytes(range(251)) * (n // 251 + 1))[:n]


@pytest.mark.parametrize("path", ["nolength?n=2000000", "bytes?n=2000000"])
def test_a_slow_guest_gets_all_of_an_answer_whose_server_is_gone(read, path):
    script = ("import socket, sys, time\n"
              "s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)\n"
              "s.connect(('plain.world.test', 80)); s.settimeout(60)\n"
              "s.sendall(f'GET /{sys.argv[1]} HTTP/1.1\\r\\nHost: plain.world.test\\r\\n'.encode() +\n"
              "          b'Connection: close\\r\\n\\r\\n')\n"
              "n = 0\n"
              "while True:\n"
              "    d = s.recv(65536); n += len(d); time.sleep(0.005)\n"
              "    if not d: break\n"
              "print(n > 2000000)\n")
    got = read.guest(PYTHON, "-c", script, path)
    assert got.stdout == "True\n", got.stderr


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_chunked_upload_and_expect(read, flag):
    script = f"head -c 200000 /dev/zero | curl -sS {flag} -T - https://api.world.test/upload"
    got = json.loads(read.guest("sh", "-c", script).stdout)
    assert got["bytes"] == 200000
    got = json.loads(curl(read, flag, "https://api.world.test/upload", "-d", "x" * 5000, "-H", "Expect: 100-continue"))
    assert got["bytes"] == 5000


def test_heads_without_bodies_on_one_connection(read):
    say = ["-w", "%{http_code} %{num_connects}\n"]
    out = curl(read, "-I", "https://api.world.test/bytes?n=1234", *say,
               "--next", "-sS", "https://api.world.test/status/204", *say,
               "--next", "-sS", "https://api.world.test/status/304", *say,
               "--next", "-sS", "https://api.world.test/bytes?n=3", "-o", "/dev/null", *say)
    lines = out.lower().splitlines()
    assert "content-length: 1234" in lines
    assert [line for line in lines if line[:1].isdigit()] == ["200 1", "204 0", "304 0", "200 0"]


def test_events_are_not_held_back(read):
    """The answer goes on for an hour; its beginning is there at once."""
    script = ("import urllib.request\n"
              "r = urllib.request.urlopen('https://api.world.test/sse?n=36000&ms=100', timeout=120)\n"
              "print(sum(line.startswith(b'data') for line in (r.readline() for _ in range(9))))\n")
    got = read.guest(PYTHON, "-c", script)
    assert got.stdout == "3\n", got.stderr


def test_hints_trailers_and_alt_svc(read):
    out = curl(read, "-i", "https://api.world.test/early")
    assert "103" in out.splitlines()[0]
    out = curl(read, "-i", "https://api.world.test/altsvc")
    assert "200" in out.splitlines()[0] and "alt-svc" not in out.lower()
    script = ("import http.client, ssl\n"
              "c = http.client.HTTPSConnection('api.world.test', context=ssl.create_default_context())\n"
              "c.request('GET', '/trailers', headers={'TE': 'trailers'}); r = c.getresponse()\n"
              "print(r.status, len(r.read()) > 0)\n"
              "c.request('GET', '/none'); print(c.getresponse().status)\n")
    assert read.guest(PYTHON, "-c", script).stdout.split("\n")[0] == "200 True"


@pytest.mark.skipif(not NODE, reason="no node")
def test_node_fetches(read):
    script = ("fetch('https://api.world.test/echo', { method: 'POST', body: 'from node' })"
              ".then(r => r.json()).then(j => console.log(j.body))")
    got = read.guest(NODE, "-e", script, env={**os.environ, "NODE_EXTRA_CA_CERTS": BUNDLE})
    assert got.stdout == "from node\n", got.stderr


def test_python_is_strict(read):
    script = ("import ssl, urllib.request\n"
              "c = ssl.create_default_context(); c.verify_flags |= ssl.VERIFY_X509_STRICT\n"
              "print(urllib.request.urlopen('https://api.world.test/bytes?n=3', context=c).status)\n")
    got = read.guest(PYTHON, "-c", script)
    assert got.stdout == "200\n", got.stderr


def refused(gate, *argv):
    out = curl(gate, *argv, "-w", "\n%{http_code}")
    body, _, code = out.rpartition("\n")
    return int(code), json.loads(body)


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_a_refusal_says_why(read, world, flag):
    read.rules(["host: api.world.test, port: 443, http: [ { method: GET, path: /echo } ]"])
    mark = world.mark()
    code, body = refused(read, flag, "https://api.world.test/echo?token=hush", "-d", "x")
    assert code == 403 and body["reason"] == "method" and body["error"] == "refused-by-policy"
    assert "hush" not in json.dumps(body) and body["path"] == "/echo" and body["method"] == "POST"
    (record,) = records(read, 1, layer="http")
    assert (record["event"], record["reason"], record["status"]) == ("refused", "method", 403)
    assert str(record["flow"]) == body["request_id"]
    assert not world.requests(mark)
    assert refused(read, flag, "https://api.world.test/%65cho/../none")[1]["reason"] == "path"
    assert json.loads(curl(read, flag, "https://api.world.test/none/../echo", "--path-as-is"))["target"] == "/echo"


def test_another_host_in_the_connection_is_421(read, world):
    mark = world.mark()
    code, body = refused(read, "https://api.world.test/echo", "-H", "Host: other.world.test")
    assert code == 421 and body["reason"] == "host-mismatch"
    code, body = refused(read, "http://api.world.test/echo", "-H", "Host: away.world.test")
    assert code == 421
    assert not world.requests(mark)
    # of two names at one address both may be asked for, in plain HTTP by their own requests
    assert json.loads(curl(read, "http://api.world.test/echo"))["host"] == "api.world.test"


@pytest.mark.parametrize("host, status, reason", [
    ("expired.world.test", 502, "upstream-certificate"), ("self-signed.world.test", 502, "upstream-certificate"),
    ("wrong-name.world.test", 502, "upstream-certificate"), ("refuses.world.test", 502, "upstream-refused")])
def test_upstreams_that_fail(read, host, status, reason):
    code, body = refused(read, f"https://{host}/echo")
    assert (code, body["reason"], body["error"]) == (status, reason, "upstream-failed")
    records(read, 1, reason=reason)


@pytest.mark.parametrize("path", ["reset", "cut?n=100000"])
@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_answers_that_break_off_look_so(read, path, flag):
    got = read.guest("curl", "-sS", flag, f"https://api.world.test/{path}", "-o", "/dev/null", "-w", "%{http_code}")
    assert got.stdout in ("502", "503") or got.returncode in (18, 56, 92), (got.returncode, got.stdout)


def test_what_is_no_http_and_what_smuggles(read, world):
    mark = world.mark()
    script = ("import socket, sys\n"
              "s = socket.create_connection(('plain.world.test', 80)); s.sendall(sys.argv[1].encode())\n"
              "s.settimeout(20); d = b''\n"
              "while True:\n"
              "    try: n = s.recv(65536)\n"
              "    except ConnectionResetError: break\n"
              "    if not n: break\n"
              "    d += n\n"
              "print(d.split(b'\\r\\n')[0].decode())\n")
    both = "Content-Length: 3\r\nTransfer-Encoding: chunked"
    for text, status in ((f"POST / HTTP/1.1\r\nHost: plain.world.test\r\n{both}\r\n\r\n", "400"),
                         ("GET / HTTP/1.1\nHost: plain.world.test\n\n", "400"),
                         ("TRACE / HTTP/1.1\r\nHost: plain.world.test\r\n\r\n", "405"),
                         ("CONNECT api.world.test:443 HTTP/1.1\r\nHost: api.world.test:443\r\n\r\n", "501")):
        got = read.guest(PYTHON, "-c", script, text)
        assert got.stdout.startswith(f"HTTP/1.1 {status} "), (text, got.stdout, got.stderr)
    assert not world.requests(mark)


WEBSOCKET = """
import base64, os, socket, ssl, struct, sys
host, tls = sys.argv[1], sys.argv[2] == "wss"
s = socket.create_connection((host, 443 if tls else 80))
s.settimeout(30)
if tls: s = ssl.create_default_context().wrap_socket(s, server_hostname=host)
key = base64.b64encode(os.urandom(16)).decode()
s.sendall((f"GET /ws HTTP/1.1\\r\\nHost: {host}\\r\\nConnection: Upgrade\\r\\nUpgrade: websocket\\r\\n"
           f"Sec-WebSocket-Key: {key}\\r\\nSec-WebSocket-Version: 13\\r\\n\\r\\n").encode())
f = s.makefile("rb")
print(f.readline().split()[1].decode())
while f.readline() not in (b"\\r\\n", b""): pass
def say(kind, data):
    head = bytes([len(data) | 128]) if len(data) < 126 else b"\\xfe" + struct.pack(">H", len(data))
    s.sendall(bytes([128 | kind]) + head + b"\\1\\2\\3\\4" + bytes(c ^ (1, 2, 3, 4)[i % 4] for i, c in enumerate(data)))
def hear():
    a, b = f.read(2)
    n = struct.unpack(">H", f.read(2))[0] if b == 126 else b
    return a & 15, f.read(n)
print(hear()[1].decode())
for text in (b"hello", b"GET / HTTP/1.1", b"x" * 60000):
    say(1, text); assert hear() == (1, text)
say(1, b"close 1000")
print(hear()[0], f.read() == b"")
"""


@pytest.mark.parametrize("scheme", ["wss", "ws"])
def test_websocket(read, scheme):
    host = "api.world.test" if scheme == "wss" else "plain.world.test"
    got = read.guest(PYTHON, "-c", WEBSOCKET, host, scheme)
    assert got.stdout.split("\n") == ["101", "welcome", "8 True", ""], (got.stdout, got.stderr)
    assert [(r["event"], r["status"]) for r in records(read, 2, layer="http")] == [("allowed", 0), ("ended", 101)]


@pytest.mark.parametrize("scheme", ["wss", "ws"])
def test_a_websocket_whose_client_left_without_a_word_ends(read, scheme):
    host = "api.world.test" if scheme == "wss" else "plain.world.test"
    leaves = WEBSOCKET.split("for text in")[0] + "s.close(); f.close()\n"
    assert read.guest(PYTHON, "-c", leaves, host, scheme).stdout.split("\n") == ["101", "welcome", ""]
    bermtest.wait_for("its server knows", lambda: read.stats("vault")["open_requests"] == 0, 60)
    bermtest.wait_for("the gate has no request", lambda: read.stats("gate")["requests_open"] == 0, 60)


def test_grpc(read):
    script = ("import grpc, sys\n"
              "roots = grpc.ssl_channel_credentials(open(sys.argv[1], 'rb').read())\n"
              "c = grpc.secure_channel('grpc.world.test:443', roots)\n"
              "i = lambda b: b\n"
              "r, call = c.unary_unary('/test.Echo/Unary', i, i).with_call(b'a')\n"
              "print(r, call.trailing_metadata()[-1])\n"
              "print(list(c.unary_stream('/test.Echo/Many', i, i)(b'm')))\n"
              "print(list(c.stream_stream('/test.Echo/Both', i, i)(iter([b'1', b'2']))))\n"
              "print(c.stream_unary('/test.Echo/Collect', i, i)(iter([b'1', b'2'])))\n"
              "try: c.unary_unary('/test.Echo/Fails', i, i)(b'')\n"
              "except grpc.RpcError as e: print(e.code(), e.details())\n")
    got = read.guest(PYTHON, "-c", script, BUNDLE)
    assert "FAILED_PRECONDITION as asked" in got.stdout, got.stderr
    assert "b'unary:a'" in got.stdout and "[b'both:1', b'both:2']" in got.stdout and "b'1+2'" in got.stdout


SECRETS = """version: 1
network:
  rules:
    - { host: api.world.test, port: 443 }
    - { host: other.world.test, port: 443, inspect: true }
secrets:
  - { name: TOKEN, from: env, hosts: [api.world.test], header: { name: authorization, prefix: "Bearer " } }
"""


def test_a_secret_goes_in_and_never_comes_back(read, world):
    read.policy(SECRETS)
    holder = read.ask("secret", name="TOKEN", value=plan.TOKEN)
    assert holder and holder != plan.TOKEN
    mark = world.mark()
    out = curl(read, "https://api.world.test/echo", "-H", f"Authorization: Bearer {holder}")
    (request,) = world.requests(mark)
    assert ["authorization", f"Bearer {plan.TOKEN}"] in [[k.lower(), v] for k, v in request["headers"]]
    assert plan.TOKEN not in out
    seen = 0
    for argv in (["https://api.world.test/echo", "-d", f"x={holder}"], [f"https://api.world.test/echo?x={holder}"],
                 ["https://other.world.test/echo", "-H", f"Authorization: Bearer {holder}"]):
        mark = world.mark()
        code, body = refused(read, *argv)
        assert (code, body["reason"]) == (403, "placeholder-elsewhere"), argv
        assert holder not in json.dumps(body)
        assert holder.encode() not in world.bytes_since(mark) and plan.TOKEN.encode() not in world.bytes_since(mark)
        seen += 1
        record = records(read, seen, event="violation")[-1]
        assert not read.records(event="refused")
        assert (record["who"], record["event"], record["secret"]) == ("vault", "violation", "TOKEN")
        assert str(record["flow"]) == body["request_id"]


GUESS = """
import base64, os, socket, ssl, sys
def begin():
    host = sys.argv[1]
    s = ssl.create_default_context().wrap_socket(socket.create_connection((host, 443)), server_hostname=host)
    s.sendall((f"GET /ws HTTP/1.1\\r\\nHost: {host}\\r\\nUpgrade: websocket\\r\\nConnection: Upgrade\\r\\n"
               "Sec-WebSocket-Version: 13\\r\\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\\r\\n\\r\\n").encode())
    got = b""
    while not got.endswith(b"welcome"): got += s.recv(4096) or sys.exit("no welcome")
    return s
def say(s, text): s.sendall(bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
got = b""
def hear(s, count):
    global got
    while len(got) < count:
        more = s.recv(4096)
        if not more: raise ConnectionError
        got += more
    got = got[count:]
value, s, held = sys.argv[2].encode(), begin(), 0
try:
    for n in range(8, len(value)):
        say(s, value[:n])
        s.settimeout(float(sys.argv[3]))
        try:
            hear(s, 2 + n)
        except TimeoutError:
            held += 1
            say(s, b"!")
            s.settimeout(None)
            hear(s, 2 + n + 3)
    print("heard", held)
except (ConnectionError, ssl.SSLError):
    print("cut", held)
"""


def test_no_reply_tells_how_a_value_begins(read, world):
    """A guest that knew when a reply is held back would learn a value letter by letter, from any host that echoes."""
    read.policy(SECRETS)
    assert read.ask("secret", name="TOKEN", value=plan.TOKEN)
    # where the secret is not bound nothing is held, however long the guest waits
    got = read.guest(PYTHON, "-c", GUESS, "other.world.test", plan.TOKEN, str(30 * bermtest.SLOWNESS))
    assert got.stdout.split() == ["heard", "0"], (got.stdout, got.stderr, read.log())
    # where it is a few beginnings are, and then there is no value any more
    got = read.guest(PYTHON, "-c", GUESS, "api.world.test", plan.TOKEN, "0.2")
    word, held = got.stdout.split()
    assert word == "cut" and int(held) <= 9, (got.stdout, got.stderr, read.log())
    (record,) = records(read, 1, event="violation")
    assert (record["who"], record["reason"], record["secret"]) == ("vault", "value-guessed", "TOKEN")
    holder = read.ask("secret", name="OTHER", value="another value")
    assert holder and read.stats("vault")["secrets"] == 1
    read.ask("secret", name="TOKEN", value=plan.TOKEN)
    assert read.stats("vault")["secrets"] == 2


def test_a_policy_that_changes_ends_what_it_refuses(read):
    script = ("import http.client, ssl, sys, time\n"
              "c = http.client.HTTPSConnection('api.world.test', context=ssl.create_default_context(), timeout=30)\n"
              "c.request('GET', '/sse?n=1000&ms=50'); r = c.getresponse(); r.read(20); print('on', flush=True)\n"
              "t = time.monotonic()\n"
              "try:\n"
              "    while r.read(20): pass\n"
              "except (OSError, http.client.HTTPException) as e: print(type(e).__name__)\n"
              "print(time.monotonic() - t < 40)\n")
    with read.guest_process(script) as guest:
        assert guest.stdout.readline() == "on\n"
        read.rules(["host: api.world.test, port: 443, http: [ { method: GET, path: /echo } ]"])
        assert guest.communicate()[0].endswith("True\n")
    assert [r["reason"] for r in records(read, 1, event="ended", layer="http")] == ["revoked"]
    assert json.loads(curl(read, "https://api.world.test/echo"))["method"] == "GET"


def test_a_thousand_requests_on_few_connections(read):
    got = read.guest("h2load", "-n", "2000", "-c", "4", "-m", "20", "https://api.world.test/bytes?n=100", timeout=200)
    assert "2000 succeeded, 0 failed" in got.stdout, got.stdout + got.stderr
    assert read.stats()["requests"] == 2000


@pytest.mark.parametrize("flag", ["--http1.1", "--http2"])
def test_lim_3_used_up_bytes_are_429(read, flag):
    """What is read is told why, before and after the bytes are used up."""
    lines = "".join(f"    - {{ {r} }}\n" for r in READ)
    read.policy(f"version: 1\nlimits: {{ upload: 100KiB }}\nnetwork:\n  rules:\n{lines}")
    url, status = "https://api.world.test/x", ["-o", "-", "-w", "%{http_code}"]
    assert curl(read, flag, *status, url).endswith("404")
    read.guest("sh", "-c", "head -c 300000 /dev/zero > /tmp/much")
    said = curl(read, flag, *status, "--data-binary", "@/tmp/much", "-H", "Expect:", url)
    assert said.endswith("429") and json.loads(said[:-3])["reason"] == "limit-bytes"
    for again in (url, "http://api.world.test/x"):
        said = curl(read, flag if again == url else "--http1.1", *status, again)
        assert said.endswith("429") and json.loads(said[:-3])["error"] == "refused-by-policy"
    assert len(read.records(event="refused", reason="limit-bytes")) == 3
