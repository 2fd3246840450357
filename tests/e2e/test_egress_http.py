"""HTTP between the guest and the origin: framing that two parsers could read differently goes nowhere, what is right
arrives right. HTTP-1 to HTTP-7 and CON-1 to CON-7 of the acceptance catalogue."""

import json

from egress_world import plan

POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [80, 443], inspect: true }
    - { host: h2.world.test, port: 443, inspect: true }
    - { host: away.world.test, port: 443, inspect: true }
    - { host: "*.dyn.world.test", port: 7 }
limits: { connection_rate: 2000 }
"""
HEAD = "Host: api.world.test\r\n"
POST = f"POST /echo HTTP/1.1\r\n{HEAD}"
CHUNKED = "Transfer-Encoding: chunked\r\n"
END = "\r\n0\r\n\r\n"
SMUGGLED = "GET /smuggled HTTP/1.1\r\nHost: api.world.test\r\n\r\n"
AMBIGUOUS = {
    "length and chunked": f"{POST}Content-Length: 5\r\n{CHUNKED}{END}" + SMUGGLED,
    "chunked and length": f"{POST}{CHUNKED}Content-Length: 5\r\n{END}" + SMUGGLED,
    "two lengths": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello" + SMUGGLED,
    "a list of lengths": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: 5, 6\r\n\r\nhello" + SMUGGLED,
    "length +5": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: +5\r\n\r\nhello",
    "length 0x5": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: 0x5\r\n\r\nhello",
    "length -1": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: -1\r\n\r\nhello",
    "length of 20 digits": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length: 18446744073709551621\r\n\r\nhello",
    "bare LF": f"GET /echo HTTP/1.1\n{HEAD}\n" + SMUGGLED,
    "bare LF in the head": "GET /echo HTTP/1.1\r\nHost: api.world.test\nX: y\r\n\r\n",
    "bare CR": f"GET /echo HTTP/1.1\r\n{HEAD}X: a\rb\r\n\r\n",
    "obs-fold": f"GET /echo HTTP/1.1\r\n{HEAD}X: a\r\n b\r\n\r\n",
    "space before colon": f"POST /echo HTTP/1.1\r\n{HEAD}Content-Length : 5\r\n\r\nhello",
    "transfer-encoding twice": f"{POST}{CHUNKED}Transfer-Encoding: identity\r\n{END}",
    "chunked not last": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked, gzip\r\n\r\n0\r\n\r\n",
    "xchunked": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "vertical tab": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n",
    "chunked in 1.0": f"POST /echo HTTP/1.0\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk size with sign": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "chunk size 0x": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    "chunk without end": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5\r\nhelloX0\r\n\r\n",
    "chunk size LF": f"POST /echo HTTP/1.1\r\n{HEAD}Transfer-Encoding: chunked\r\n\r\n5\nhello\r\n0\r\n\r\n",
    "two hosts": f"GET /echo HTTP/1.1\r\n{HEAD}Host: away.world.test\r\n\r\n",
    "no host": "GET /echo HTTP/1.1\r\n\r\n",
    "host with a path": "GET /echo HTTP/1.1\r\nHost: api.world.test/x\r\n\r\n",
    "host with userinfo": "GET /echo HTTP/1.1\r\nHost: a@api.world.test\r\n\r\n",
    "NUL in a field": f"GET /echo HTTP/1.1\r\n{HEAD}X: a\0b\r\n\r\n",
    "blank in a name": f"GET /echo HTTP/1.1\r\n{HEAD}X y: b\r\n\r\n",
    "no name": f"GET /echo HTTP/1.1\r\n{HEAD}: b\r\n\r\n",
    "no colon": f"GET /echo HTTP/1.1\r\n{HEAD}nothing\r\n\r\n",
    "leading blank": f"GET /echo HTTP/1.1\r\n {HEAD}\r\n",
    "two blanks": f"GET  /echo HTTP/1.1\r\n{HEAD}\r\n",
    "a tab": f"GET\t/echo HTTP/1.1\r\n{HEAD}\r\n",
    "version 1.2": f"GET /echo HTTP/1.2\r\n{HEAD}\r\n",
    "version 11": f"GET /echo HTTP/11\r\n{HEAD}\r\n",
    "version lower case": f"GET /echo http/1.1\r\n{HEAD}\r\n",
    "version 0.9": "GET /echo\r\n\r\n",
    "fragment": f"GET /echo#x HTTP/1.1\r\n{HEAD}\r\n",
}


def test_http1_what_two_parsers_could_read_differently(box, mark):
    got = box.py("""
for name, data in json.load(sys.stdin).items():
    for secure in (True, False):
        say([name, raw("api.world.test", data, 443 if secure else 80, secure=secure)[:15]])
""", input=json.dumps(AMBIGUOUS))
    good = ("HTTP/1.1 400", "HTTP/1.1 501", "HTTP/1.1 505", "HTTP/1.1 421", "HTTP/1.1 403", "reset")
    wrong = [(n, g) for n, g in got if not g.startswith(good)]
    assert not wrong
    # a body can turn out wrong only after its head was forwarded; such a request must not be whole
    assert not [r for r in mark.requests() if r["whole"] or "smuggled" in r["target"]]
    assert b"smuggled" not in mark.bytes()
    assert {e["reason"] for e in mark.events(event="refused", layer="http")} >= {"ambiguous"}


BAD_RESPONSES = {
    "both": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nEVIL",
    "bare LF": "HTTP/1.1 200 OK\nContent-Length: 4\n\nEVIL",
    "obs-fold": "HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 4\r\n\r\nEVIL",
    "space before colon": "HTTP/1.1 200 OK\r\nContent-Length : 4\r\n\r\nEVIL",
    "no http": "SSH-2.0-EVIL\r\n\r\n",
    "status 99": "HTTP/1.1 99 EVIL\r\nContent-Length: 0\r\n\r\n",
    "status 1000": "HTTP/1.1 1000 EVIL\r\nContent-Length: 0\r\n\r\n",
    "version 2.0": "HTTP/2.0 200 EVIL\r\nContent-Length: 0\r\n\r\n",
    "NUL": "HTTP/1.1 200 OK\r\nX: \0EVIL\r\nContent-Length: 0\r\n\r\n",
    "xchunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "unasked 101": "HTTP/1.1 101 Switching\r\nUpgrade: evil\r\nConnection: upgrade\r\n\r\nEVIL",
    "nothing": "",
    "half a head": "HTTP/1.1 200 OK\r\nX: EVIL",
}


def test_http2_ambiguous_responses_are_not_passed_on(box, mark):
    got = box.py("""
for name, data in json.load(sys.stdin).items():
    u = "https://api.world.test/raw?b64=" + base64.urlsafe_b64encode(data.encode("latin-1")).decode()
    r = get(u)
    say([name, r.get("status", r.get("fault")), "EVIL" in json.dumps(r), r.get("json", {}).get("reason")])
""", input=json.dumps(BAD_RESPONSES))
    wrong = [g for g in got if g[1] != 502 or g[2] or g[3] not in ("upstream-protocol", "ambiguous")]
    assert not wrong


def test_http2_bodies_that_end_too_early(box, mark):
    got = box.py("""
say(get("https://api.world.test/cut"), get("https://api.world.test/reset"))
bad = "HTTP/1.1 200 OK\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5\\r\\nhelloEVIL\\r\\n0\\r\\n\\r\\n"
say(get("https://api.world.test/raw?b64=" + base64.urlsafe_b64encode(bad.encode()).decode()))
""")
    assert "fault" in got[0] and "IncompleteRead" in got[0]["fault"] or got[0].get("status") == 502, got[0]
    assert got[1].get("status") == 502 or "fault" in got[1]
    assert "fault" in got[2] or got[2]["status"] == 502, got[2]


def test_http3_heads_that_are_too_long(box, mark):
    """A head a little below the limit passes, one far above it does not, and neither does one of many fields."""
    got = box.py("""
def head(fields):
    return "GET /echo HTTP/1.1\\r\\nHost: api.world.test\\r\\nConnection: close\\r\\n" + fields + "\\r\\n"
say(raw("api.world.test", head("X: " + "a" * 12000 + "\\r\\n"))[:12])
say(raw("api.world.test", head("X: " + "a" * 1200000 + "\\r\\n"))[:12])
say(raw("api.world.test", head("".join(f"x{i}: y\\r\\n" for i in range(5000))))[:12])
""")
    assert got[0] == "HTTP/1.1 200", got
    assert got[1] in ("HTTP/1.1 431", "reset", "closed") and got[2] in ("HTTP/1.1 431", "reset"), got
    assert len(mark.requests()) == 1


def test_http4_the_lesser_known_parts(box, mark):
    got = box.py(r"""
def one(data, secure=True):
    return raw("api.world.test", data, secure=secure, port=443 if secure else 80)
H = "Host: api.world.test\r\nConnection: close\r\n"
say(one(f"HEAD /bytes?n=5000 HTTP/1.1\r\n{H}\r\n"))
say(one(f"GET /none HTTP/1.1\r\n{H}\r\n"), one(f"GET /status/304 HTTP/1.1\r\n{H}\r\n"))
say(one("GET /echo HTTP/1.0\r\nHost: api.world.test\r\n\r\n"))
say(one(f"GET /trailers HTTP/1.1\r\n{H}TE: trailers\r\n\r\n"))
say(one(f"GET /early HTTP/1.1\r\n{H}\r\n"))
say(one(f"GET /nolength?n=70000 HTTP/1.1\r\n{H}\r\n").count("\n"))
say(one(f"POST /upload HTTP/1.1\r\n{H}Transfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n"
        "5;ext=1\r\nhello\r\n1\r\n!\r\n0\r\nx-sum: 7\r\n\r\n"))
s = tls("api.world.test")
s.sendall(f"POST /upload HTTP/1.1\r\n{H}Content-Length: 5\r\nExpect: 100-continue\r\n\r\n".encode())
first = s.recv(1000)
s.sendall(b"hello")
rest = b""
while True:
    piece = s.recv(65536)
    if not piece: break
    rest += piece
say(first.decode(), rest.decode())
""")
    head, none, same, old, trailers, early, closed, chunked, first, rest = got
    assert head.startswith("HTTP/1.1 200") and "content-length: 5000" in head.lower() and head.endswith("\r\n\r\n")
    assert none.startswith("HTTP/1.1 204") and none.endswith("\r\n\r\n")
    assert same.startswith("HTTP/1.1 304") and same.endswith("\r\n\r\n")
    assert old.startswith("HTTP/1.") and " 200 " in old.splitlines()[0]
    assert "chunked" not in old.lower().partition("\r\n\r\n")[0]
    assert "x-checksum: abc" in trailers.lower()
    assert early.startswith("HTTP/1.1 103") and "HTTP/1.1 200" in early
    assert closed > 0
    assert '"bytes": 6' in chunked
    assert first.startswith("HTTP/1.1 100") and '"bytes": 5' in rest
    upload = [r for r in mark.requests() if r["target"] == "/upload"]
    assert [u["body"]["data"] for u in upload] == [b"hello!", b"hello"]


def test_http4_from_http1_to_http2_and_back(box, mark):
    """A guest that speaks HTTP/1.1 to an origin of HTTP/2, and the other way round."""
    out = box.sh("""curl -sS --http1.1 'https://h2.world.test/bytes?n=300000' | sha256sum
curl -sS --http2 'https://api.world.test/bytes?n=300000' | sha256sum
head -c 500000 /dev/zero | curl -sS --http1.1 -T - https://h2.world.test/upload; echo
head -c 500000 /dev/zero | curl -sS --http2 -T - https://api.world.test/upload; echo
curl -sS --http1.1 -o /dev/null -w '%{http_code}\\n' -I https://h2.world.test/none""").splitlines()
    assert out[0] == out[1]
    assert [json.loads(x)["bytes"] for x in out[2:4]] == [500000] * 2 and out[4] == "204"


def test_http5_many_requests_on_kept_connections(box, mark):
    got = box.py("""
import http.client
wrong, count = [], [0]
def client(k):
    c = http.client.HTTPSConnection("api.world.test", 443, timeout=WAIT, context=context())
    for i in range(125):
        want = f"/echo?k={k}&i={i}"
        body = ("b%d" % i) * (i % 7)
        c.request(("GET", "POST")[i % 2], want, body if i % 2 else None)
        r = json.loads(c.getresponse().read())
        if r["target"] != want or r["body"] != (body if i % 2 else ""):
            wrong.append([want, r])
        count[0] += 1
ts = [threading.Thread(target=client, args=(k,)) for k in range(4)]
[t.start() for t in ts]; [t.join() for t in ts]
say(count[0], wrong[:3])
""", timeout=600)
    assert got == [500, []]


def test_http6_floods_of_http2(box, mark):
    """Each ends its own connection; what runs beside them goes on."""
    got = box.py(r"""
def frame(kind, flags, stream, body=b""):
    return len(body).to_bytes(3, "big") + bytes([kind, flags]) + struct.pack(">I", stream) + body
def text(name, value):
    return b"\0" + bytes([len(name)]) + name + b"\x7f" + bytes([len(value) - 127]) + value
ask = b"\x82\x87\x84\x41\x0e" + b"api.world.test"  # GET https / of that authority
cookie = b"\x40\x01a" + b"\x7f\xe1\x1e" + b"y" * 4000  # enters the table: 4000 bytes for one byte each
bomb = ask + cookie + b"\xbe" * 30000
floods = {
    "resets": lambda i: frame(1, 5, 2 * i + 1, ask) + frame(3, 0, 2 * i + 1, b"\0\0\0\x08"),
    "settings": lambda i: frame(4, 0, 0),
    "pings": lambda i: frame(6, 0, 0, b"12345678"),
    "continuations": lambda i: frame(1, 1, 1, ask) if i == 0 else frame(9, 0, 1, b""),
    "empty data": lambda i: frame(1, 4, 1, b"\x83" + ask[1:]) if i == 0 else frame(0, 0, 1),
    "a bomb": lambda i: b"".join(frame(9 if k else 1, (0 if k else 1) | (4 if k == 2 else 0), 2 * i + 1,
                                       bomb[k * 16000:(k + 1) * 16000]) for k in range(3)),
}
beside = http.client.HTTPSConnection("api.world.test", 443, timeout=WAIT, context=context())
for name, part in floods.items():
    s = tls("api.world.test", alpn=["h2"])
    ended = "goes on"
    try:
        s.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(4, 0, 0))
        for i in range(3000):
            s.settimeout(WAIT)
            s.sendall(part(i))
            s.settimeout(0)
            try:
                if i % 16 == 0 and not s.recv(65536): ended = "closed"; break
            except (ssl.SSLWantReadError, BlockingIOError):
                pass
        else:
            s.settimeout(WAIT)
            while s.recv(65536): pass
            ended = "closed"
    except Exception as e:
        ended = fault(e)
    s.close()
    beside.request("GET", "/status/200?" + name.replace(" ", "-"))
    r = beside.getresponse(); r.read()
    say([name, ended, r.status])
""", timeout=600)
    assert [g for g in got if g[1] not in ("closed", "reset") or g[2] != 200] == []
    assert len({r["conn"] for r in mark.requests() if r["target"].startswith("/status/200?")}) <= len(got)


def test_http7_trace(box, mark):
    got = box.py("""
say(raw("api.world.test", "TRACE /echo HTTP/1.1\\r\\nHost: api.world.test\\r\\nConnection: close\\r\\n\\r\\n"))
""")
    assert got.startswith(("HTTP/1.1 405", "HTTP/1.1 403")), got
    assert not mark.requests()


# -- CONNECT --------------------------------------------------------------------------------------


def test_con1_and_con6_there_is_no_proxy(box, mark):
    got = box.py("""
for authority in ("away.world.test:443", "api.world.test:443", "10.0.0.1:80", "api.world.test", "api.world.test:0",
                  "[::1]:443", "u@api.world.test:443"):
    ask = f"CONNECT {authority} HTTP/1.1\\r\\nHost: {authority}\\r\\n\\r\\n"
    say(raw("api.world.test", ask)[:12], raw("api.world.test", ask, 80, secure=False)[:12])
say(opened("100.96.0.1", 3128), opened("100.96.0.1", 8080), opened("100.96.0.1", 1080))
""")
    assert all(g.split()[1] in ("400", "403", "405", "421", "501") for g in got[:-3]), got
    assert got[-3:] == ["refused"] * 3
    assert not mark.requests()


def test_con2_a_proxy_in_the_guest_changes_nothing(box, mark):
    """CONNECT is judged where the proxy itself connects, whatever it was asked by."""
    got = box.py(r"""
def pour(a, b):
    try:
        while data := a.recv(65536): b.sendall(data)
    except OSError:
        pass
    b.close()
def one(c):
    head = b""
    while b"\r\n\r\n" not in head: head += c.recv(4096)
    host, port = head.split()[1].decode().rsplit(":", 1)
    try:
        up = connect(host, int(port))
    except OSError as e:
        c.sendall(b"HTTP/1.1 502 No\r\n\r\n")
        return c.close()
    c.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    threading.Thread(target=pour, args=(up, c), daemon=True).start()
    pour(c, up)
def relay(s):
    while True:
        threading.Thread(target=one, args=(s.accept()[0],), daemon=True).start()
s = socket.create_server(("127.0.0.1", 3128))
threading.Thread(target=relay, args=(s,), daemon=True).start()
for argv in (["https://api.world.test/status/200"], ["https://denied.world.test/"], ["https://10.0.0.1/"],
             ["https://api.world.test/", "-H", "Host: denied.world.test"]):
    say(run("curl", "-sS", "-m", "60", "-p", "-x", "http://127.0.0.1:3128", "-o", "/dev/null",
            "-w", "%{http_connect} %{http_code}", *argv)[1])
""")
    assert got == ["200 200", "502 000", "502 000", "200 421"], got
    assert [r["host"] for r in mark.requests()] == ["api.world.test"]


def test_con7_bytes_that_are_no_http(box, mark, world):
    world.dns(**{"raw.dyn.world.test": {"A": [plan.A4]}})
    got = box.py(r"""
s = tls("api.world.test")
s.sendall(b"\x05\x01\x00")
try:
    say(s.recv(100).decode("latin-1"))
except Exception as e:
    say(fault(e))
blob = bytes(range(256)) * 40
with connect("raw.dyn.world.test", 7) as s:
    s.sendall(blob)
    got = b""
    while len(got) < len(blob):
        got += s.recv(65536)
say(got == blob)
""")
    assert got[0] in ("", "reset", "closed", "timeout") or got[0].startswith("HTTP/1.1 400")
    assert got[1] is True
    assert not mark.requests()
