"""TLS: names are checked, hosts without a rule about requests are passed through untouched, the others are
intercepted with this sandbox's own authority. TLS-1 to TLS-16 of the acceptance catalogue."""

import json
import os
import re
import subprocess

import pytest
from egress import refused
from egress_world import packages, plan

POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: 443 }
    - { host: other.world.test, port: [443, 8443], inspect: true }
    - { host: away.world.test, port: 443, inspect: true }
    - { host: four.world.test, port: [443, 8443], protocol: tls, inspect: false }
    - { host: deb.world.test, port: 443, inspect: true }
    - { host: h2.world.test, port: 443, inspect: true }
    - { host: grpc.world.test, port: 443, inspect: true }
    - { host: files.world.test, port: 443, inspect: true }
    - { host: git.world.test, port: 443, inspect: true }
    - { host: pypi.world.test, port: 443, inspect: true }
    - { host: expired.world.test, port: 443, inspect: true }
    - { host: self-signed.world.test, port: 443, inspect: true }
    - { host: wrong-name.world.test, port: 443, inspect: true }
    - { host: old.dyn.world.test, port: 8444, protocol: tls, inspect: true }
    - { host: "*.dyn.world.test", port: 443 }
"""
ORIGIN = "berm test ca"


def test_tls1_without_a_rule_about_requests_it_is_the_origins_own(box, mark):
    assert box.py("""
s = tls("api.world.test", verify=False)
der = s.getpeercert(True)
open("/tmp/leaf.der", "wb").write(der)
say(run("openssl", "x509", "-inform", "der", "-in", "/tmp/leaf.der", "-noout", "-issuer")[1])
""").strip().endswith(ORIGIN)
    # and nothing is intercepted: the origin negotiated with the guest itself
    assert mark.arrived("connection", sni="api.world.test")[0]["tls"]
    assert mark.event(event="allowed", host="api.world.test", layer="tls")["inspected"] is False


@pytest.mark.parametrize("client", [
    "curl -fsS https://other.world.test/echo",
    "python3 -c 'import urllib.request as u; print(u.urlopen(\"https://other.world.test/echo\").read().decode())'",
    "python3 -c 'import requests; print(requests.get(\"https://other.world.test/echo\").text)'",
    "node -e 'fetch(\"https://other.world.test/echo\").then(r => r.text()).then(console.log)'",
    "node -e 'require(\"https\").get(\"https://other.world.test/echo\", r => r.on(\"data\", d => console.log(`${d}`)))"
    "'",
    "printf 'GET /echo HTTP/1.0\\r\\nHost: other.world.test\\r\\n\\r\\n' | "
    "openssl s_client -quiet -verify_return_error -x509_strict -verify_hostname other.world.test "
    "-connect other.world.test:443 2>/tmp/openssl.err | sed 1,/^.$/d",
])
def test_tls2_clients_trust_it_with_no_flag(box, mark, client):
    out = box.sh(client)
    assert json.loads(out)["target"] == "/echo", out
    assert mark.requests()[0]["host"] == "other.world.test"
    event = mark.event(event="allowed", layer="http", host="other.world.test")
    assert (event["method"], event["path"], event["inspected"]) == ("GET", "/echo", True)


def test_tls2_the_certificate_is_a_strict_one(box):
    words = box.py("""
s = tls("other.world.test")
open("/tmp/other.der", "wb").write(s.getpeercert(True))
say(run("openssl", "x509", "-inform", "der", "-in", "/tmp/other.der", "-noout", "-text")[1])
say(run("openssl", "x509", "-in", "/usr/local/share/ca-certificates/berm.crt", "-noout", "-text")[1])
say(run("openssl", "x509", "-inform", "der", "-in", "/tmp/other.der", "-noout", "-checkend", "3600")[0])
""")
    leaf, ca, ends = words
    key = re.search(r"Subject Key Identifier:\s+([0-9A-F:]+)", ca)[1]
    assert key in leaf[leaf.index("Authority Key Identifier"):]
    assert "DNS:other.world.test" in leaf and "TLS Web Server Authentication" in leaf and ends == 0
    assert "CA:TRUE, pathlen:0" in ca and "Certificate Sign" in ca


def test_tls3_a_name_that_this_address_was_not_looked_up_for(box, mark):
    """Both names are allowed, the address is the other one's."""
    got = box.py("""
say(addresses("api.world.test"), addresses("away.world.test"))
r = timed(tls, "api.world.test", to=sys.argv[1])[0]
say(r if isinstance(r, str) else "open")
""", plan.B4)
    assert got[2] != "open"
    refused(mark, "sni-mismatch", ["api.world.test", "away.world.test"], layer="tls")


def test_tls4_two_names_on_one_address(box, mark):
    """other-name.world.test is nowhere in the policy, though it is where other.world.test is."""
    got = box.py("""
say(addresses("other.world.test"))
r = timed(tls, "denied.world.test", to=sys.argv[1])[0]
say(r if isinstance(r, str) else "open")
""", plan.A4)
    assert got[1] != "open"
    event = refused(mark, "sni-mismatch", ["other.world.test"], layer="tls")
    assert event["host"] == "denied.world.test"


def test_tls5_without_a_name(box, mark):
    got = box.py("""
say(addresses("other.world.test"))
r = timed(tls, "other.world.test", sni=None)[0]
say(r if isinstance(r, str) else "open")
""")
    assert got[1] != "open"
    refused(mark, "sni-missing", ["other.world.test"])


def test_tls6_host_and_name_disagree(box, mark):
    ask = "GET /echo HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n"
    last = ask.replace("Host", "Connection: close\\r\\nHost")
    got = box.py(f"""
say(raw("other.world.test", "{last % 'away.world.test'}"))
s = tls("other.world.test")
s.sendall(b"{ask % 'other.world.test'}")
first = s.recv(65536)
s.sendall(b"{ask % 'api.world.test'}")
rest = b""
try:
    while len(rest) < 5000:
        piece = s.recv(65536)
        if not piece: break
        rest += piece
        if b"HTTP/1.1 421" in rest: break
except OSError:
    pass
say(first[:12].decode(), rest.decode("latin-1"))
""")
    assert got[0].startswith("HTTP/1.1 421") and "host-mismatch" in got[0], got[0]
    assert got[1] == "HTTP/1.1 200" and "HTTP/1.1 421" in got[2]
    assert [r["host"] for r in mark.requests()] == ["other.world.test"]
    assert {e["reason"] for e in mark.events(event="refused")} == {"host-mismatch"}


def test_tls6_authority_of_http2(box, mark):
    """Two names on one certificate and address: a connection of the one is not used for the other."""
    out = box.sh("curl -sS -o /dev/null -w '%{http_code} %{http_version}\\n' -H 'Host: away.world.test' "
                 "https://other.world.test/echo")
    assert out.split() == ["421", "2"]
    mark.nothing_arrived(["other.world.test"])


HELLO = r"""
def hello(name):
    i, o = ssl.MemoryBIO(), ssl.MemoryBIO()
    b = context().wrap_bio(i, o, server_hostname=name)
    try:
        b.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return o.read()

"""


def test_tls7_what_a_hello_may_hide(box, mark):
    """Rules are about the name outside. Where requests are read, what is inside is never looked for; where they are
    not, the hello goes on as it is, to an address of the name outside and nowhere else."""
    got = box.py(HELLO + r"""
def with_ech(name):
    h = hello(name)
    at = 43 + 1 + h[43]  # behind the session's id
    at += 2 + int.from_bytes(h[at:at + 2], "big")
    at += 1 + h[at]
    inner = b"\0\0\1\0\1\7" + struct.pack(">H", 32) + b"k" * 32 + struct.pack(">H", 100) + b"p" * 100
    extensions = h[at + 2:] + struct.pack(">HH", 0xfe0d, len(inner)) + inner
    body = h[9:at] + struct.pack(">H", len(extensions)) + extensions
    message = b"\1" + len(body).to_bytes(3, "big") + body
    return h[:3] + struct.pack(">H", len(message)) + message
for name, to in (("other.world.test",) * 2, ("four.world.test",) * 2, ("denied.world.test", "other.world.test")):
    with connect(to, 443) as s:
        s.sendall(with_ech(name))
        try:
            say(s.recv(1).hex())
        except OSError as e:
            say(fault(e))
""")
    assert got[:2] == ["16", "16"] and got[2] in ("reset", ""), got  # a ServerHello each
    assert [c["to"] for c in mark.arrived("connection")] == [f"{plan.A4}:443"]
    assert mark.event(event="refused", layer="tls")["reason"] == "sni-mismatch"


def test_tls8_hellos_in_pieces_and_too_long(box, mark):
    got = box.py(HELLO + r"""
def said(pieces, pause=0.01):
    s = connect("other.world.test", 443)
    s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    try:
        for p in pieces:
            s.sendall(p)
            time.sleep(pause)
        return s.recv(1).hex()
    except Exception as e:
        return fault(e)

h = hello("other.world.test")
say(said([h[i:i + 40] for i in range(0, len(h), 40)]))
# the same handshake message over many records
body = h[5:]
parts = [body[i:i + 50] for i in range(0, len(body), 50)]
say(said([b"".join(b"\x16\x03\x01" + struct.pack(">H", len(p)) + p for p in parts)]))
say(said([b"\x16\x03\x01\x40\x00" + b"\x01\x00\x3f\xfc" + b"\0" * 16380, b"\x16\x03\x01\x40\x00" + b"\0" * 16384]))
say(said([b"SSH-2.0-OpenSSH_9.2\r\n"]), said([b"GET / HTTP/1.1\r\nHost: other.world.test\r\n\r\n"]))
""")
    assert got[:2] == ["16", "16"]  # a ServerHello
    assert all(g in ("reset", "closed", "", "15") for g in got[2:]), got
    mark.nothing_arrived(["other.world.test"])
    assert {e["reason"] for e in mark.events(event="refused")} & {"not-tls"}


def test_tls9_a_guest_whose_clock_is_a_day_off(box, mark):
    got = box.py("""
for off in (-86000, 2 * 86000, -86000):
    time.clock_settime(time.CLOCK_REALTIME, time.time() + off)
    say(get("https://other.world.test/status/200"))
""")
    assert [g.get("status") for g in got] == [200] * 3, got


def test_tls10_each_sandbox_has_its_own_authority(box, new_box):
    with new_box(POLICY, image=None) as other:
        theirs = other.sh("cat /usr/local/share/ca-certificates/berm.crt")
        mine = box.sh("cat /usr/local/share/ca-certificates/berm.crt")
        assert "BEGIN CERTIFICATE" in mine and mine != theirs
        got = other.py("""
open("/tmp/foreign.pem", "w").write(sys.stdin.read())
r = timed(tls, "other.world.test", cafile="/tmp/foreign.pem")[0]
say(r if isinstance(r, str) else "open")
""", input=mine)
        assert got.startswith("certificate"), got
        for b in (box, other):
            files = b.sh("grep -rl 'PRIVATE KEY' /etc/ssl /usr/local/share /run /tmp 2>/dev/null | head", code=None)
            assert files == "", files


@pytest.mark.parametrize("host", plan.BAD_CERTIFICATES)
def test_tls11_upstream_certificates_that_are_not_good(box, mark, host):
    got = box.py("say(get('https://' + sys.argv[1] + '/echo'))", host)
    assert got["status"] == 502 and got["json"]["reason"] == "upstream-certificate", got
    event = mark.event(reason="upstream-certificate", host=host)
    assert not mark.requests(), event


def test_tls12_old_versions(box, mark, world):
    world.dns(**{"old.dyn.world.test": {"A": [plan.A4]}})
    got = box.py("""
import warnings; warnings.simplefilter("ignore")
c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
c.set_ciphers("ALL:@SECLEVEL=0")
c.minimum_version, c.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
for host in ("other.world.test", "api.world.test"):
    r = timed(c.wrap_socket, connect(host, 443), server_hostname=host)[0]
    say(r if isinstance(r, str) else "open")
say(get("https://old.dyn.world.test:8444/echo"))
""")
    assert "open" not in got[:2]
    assert got[2]["status"] == 502, got[2]
    assert not mark.requests()


def test_tls13_http2_and_grpc(box, mark):
    assert box.sh("curl -sS -o /dev/null -w '%{http_version}' https://h2.world.test/echo") == "2"
    assert mark.requests()[0]["version"] == "h2"
    out = box.sh(r"""python3 -c '
import grpc, os
with open(os.environ["GRPC_DEFAULT_SSL_ROOTS_FILE_PATH"], "rb") as f:
    c = grpc.ssl_channel_credentials(f.read())
ch = grpc.secure_channel("grpc.world.test:443", c)
unary, call = ch.unary_unary("/test.Echo/Unary").with_call(b"x", timeout=60)
print(unary.decode(), dict(call.trailing_metadata()).get("x-trailer"))
print([m.decode() for m in ch.unary_stream("/test.Echo/Many")(b"y", timeout=60)][-1])
print([m.decode() for m in ch.stream_stream("/test.Echo/Both")(iter([b"1", b"2"]), timeout=60)])
print(ch.stream_unary("/test.Echo/Collect")(iter([b"a", b"b"]), timeout=60).decode())
print(len(ch.unary_unary("/test.Echo/Unary")(b"z" * 3000000, timeout=120)))
try:
    ch.unary_unary("/test.Echo/Fails")(b"", timeout=60)
except grpc.RpcError as e:
    print(e.code().name, e.details())
'""")
    assert out.splitlines() == ["unary:x at the end", "4:y", "['both:1', 'both:2']", "a+b", "3000006",
                                "FAILED_PRECONDITION as asked"]
    events = mark.events(host="grpc.world.test", event="allowed", layer="http")
    assert events[0]["path"] == "/test.Echo/Unary"


def test_tls14_quic_fails_at_once_and_is_not_advertised(box, mark):
    quic, hint = box.py("""
say(udp("other.world.test", 443, b"\\xc3\\0\\0\\0\\1" + b"\\0" * 1200))
say(get("https://other.world.test/altsvc")["headers"])
""")
    assert quic == "refused" and "alt-svc" not in hint
    assert mark.event(event="refused", layer="udp", port=443)["reason"] == "quic-refused"
    assert not mark.arrived("packet", what="udp", port=443)


def test_tls2_git_pip_and_apt_when_intercepted(box, mark):
    """With the programs that agents run; npm is where secrets are."""
    out = box.sh(f"""cd /tmp; rm -rf work; mkdir work; cd work
git clone -q https://git.world.test/{packages.PUBLIC} demo && cat demo/README
pip install -q --target here {packages.NAME} && PYTHONPATH=here python3 -m {packages.NAME}
apt-get -qq update && apt-get -qq install -y {packages.NAME} >/dev/null 2>&1 && cat /usr/share/{packages.NAME}
""")
    assert out.splitlines() == [packages.SAYS] * 3
    assert {r["host"] for r in mark.requests()} == {"git.world.test", "pypi.world.test", "deb.world.test"}


def test_tls15_a_host_that_is_never_read(box, mark, world):
    """A client that pins the server's key, and one that shows a certificate of its own."""
    for name in ("ca.pem", "client.pem", "client.key"):
        with open(os.path.join(world.pki, name), "rb") as f:
            box.exec("sh", "-c", f"cat >/tmp/{name}", input=f.read())
    pin = subprocess.run("openssl x509 -noout -pubkey -in good.pem | openssl pkey -pubin -outform der | "
                         "openssl dgst -sha256 -binary | base64", cwd=world.pki, shell=True, capture_output=True,
                         check=True).stdout.decode().strip()
    out = box.sh(f"""cd /tmp; alias c='curl -sS --cacert ca.pem -o /dev/null -w "%{{http_code}} "'
c --pinnedpubkey 'sha256//{pin}' https://four.world.test/status/200
c --cert client.pem --key client.key https://four.world.test:8443/status/201
curl -sS --pinnedpubkey 'sha256//{pin}' https://other.world.test/status/200 2>&1 || echo not pinned""")
    assert out.startswith("200 201 ") and out.endswith("not pinned\n"), out
    assert mark.arrived("connection", to=f"{plan.A4}:8443")[0]["client"] == "a client of the world"
    events = mark.events(event="allowed", host="four.world.test", layer="tls")
    assert [e["inspected"] for e in events] == [False, False]


def test_many_connections_and_bytes_through_both_roads(box, mark):
    got = box.py("""
import hashlib
def fetch(host, n):
    r = get(f"https://{host}/bytes?n={n}", verify=host != "api.world.test")  # whose authority is not known here
    return [r.get("status"), hashlib.sha256(r.get("body", "").encode("latin-1")).hexdigest()]
n = 3000000
want = fetch("other.world.test", n)
say(fetch("api.world.test", n) == want, fetch("h2.world.test", n) == want)
out = []
def one(i):
    out.append(get(f"https://other.world.test/echo?i={i}").get("json", {}).get("target"))
threads = [threading.Thread(target=one, args=(i,)) for i in range(24)]
[t.start() for t in threads]; [t.join() for t in threads]
say(sorted(out) == sorted(f"/echo?i={i}" for i in range(24)))
""")
    assert got == [True, True, True]
