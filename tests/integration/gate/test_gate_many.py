"""HTTP-5: ten thousand requests of every kind on few connections. Each gets its own answer, and one that is refused
costs nobody a connection but the one who asked."""

import json

import pytest
import rig

pytestmark = pytest.mark.skipif(bool(rig.WHY_NOT), reason=rig.WHY_NOT or "-")
RULES = ["host: '**.world.test', port: 443, inspect: true",
         "host: '**.world.test', deny: true, http: [ { path: /secret/** } ]"]
SECONDS_MAX = 900

# Eight clients, each with a connection that is kept. Those of odd number ask for what is refused as well.
CLIENT = r"""
import http.client, json, socket, ssl, threading, zlib
EACH, CLIENTS = 1000, 8
PATTERN = bytes(range(251)) * 300
wrong, answered, refused, connects = [], [0] * CLIENTS, [0] * CLIENTS, [0] * CLIENTS

class Kept(http.client.HTTPSConnection):
    def connect(self):
        connects[self.k] += 1
        super().connect()

def one(c, k, i):
    "Asks for something of its own. True: it is what came."
    n, want = (i * 37 + k) % 70000, f"/echo?k={k}&i={i}"
    kind = i % 8
    if kind == 0:
        c.request("GET", want)
    elif kind == 1:
        body = PATTERN[: n % 4000]
        c.request("POST", want, body)
    elif kind == 2:
        pieces = [b"p%d" % i] * (1 + i % 5)
        c.request("PUT", want, iter(pieces), encode_chunked=True, headers={"Transfer-Encoding": "chunked"})
    elif kind == 3:
        c.request("HEAD", f"/bytes?n={n}")
    elif kind == 4:
        c.request("GET", f"/bytes?n={n}")
    elif kind == 5:
        c.request("DELETE", "/none")
    elif kind == 6:
        c.request("GET", f"/chunked?n={n}&piece=4000")
    else:
        c.request("GET", f"/status/{(404, 500, 200, 304)[i // 8 % 4]}?{i}")
    r = c.getresponse()
    data = r.read()
    if kind == 3:
        return r.status == 200 and data == b"" and int(r.headers["content-length"]) == n
    if kind in (4, 6):
        return r.status == 200 and data == PATTERN[:n]
    if kind == 5:
        return r.status == 204 and data == b""
    if kind == 7:
        return r.status == (404, 500, 200, 304)[i // 8 % 4]
    got = json.loads(data)
    sent = {0: b"", 1: PATTERN[: n % 4000], 2: (b"p%d" % i) * (1 + i % 5)}[kind]
    return got["target"] == want and got["body_bytes"] == len(sent) and got["body"] == sent[:4096].decode("latin-1")

def bad(c, k, i):
    "Asks for what is refused, on the same connection, or where that is no request at all on one of its own."
    kind = i // 25 % 4
    refused[k] += 1
    if kind == 0:
        c.request("GET", f"/secret/{i}")
    elif kind == 1:
        c.request("TRACE", f"/echo?{i}")
    elif kind == 2:
        c.request("GET", f"/echo?{i}", headers={"Host": "other.world.test"})
    else:
        with socket.create_connection(("api.world.test", 443)) as raw:
            with ssl.create_default_context().wrap_socket(raw, server_hostname="api.world.test") as s:
                s.sendall(b"POST /echo HTTP/1.1\r\nHost: api.world.test\r\nContent-Length: 5\r\n"
                          b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"
                          b"GET /smuggled HTTP/1.1\r\nHost: api.world.test\r\n\r\n")
                got = b""
                while piece := s.recv(65536):
                    got += piece
        return got.startswith(b"HTTP/1.1 400 ") and got.count(b"HTTP/1.1 ") == 1
    r = c.getresponse()
    r.read()
    return r.status == (403, 405, 421)[kind]

def client(k):
    c = Kept("api.world.test", timeout=300)
    c.k = k
    for i in range(EACH):
        try:
            good = one(c, k, i)
            answered[k] += 1
            if good and k % 2 and i % 25 == 24:
                good = bad(c, k, i)
        except Exception as e:
            good = False
            wrong.append([k, i, repr(e)])
        if not good:
            wrong.append([k, i])
        if len(wrong) > 10:
            return

threads = [threading.Thread(target=client, args=(k,)) for k in range(CLIENTS)]
[t.start() for t in threads]; [t.join() for t in threads]
print(json.dumps({"wrong": wrong[:5], "answered": answered, "refused": refused, "connects": connects}))
"""
OVER_HTTP2 = 2000


@pytest.fixture
def read(world, tmp_path):
    with rig.joined(world, tmp_path, RULES) as made:
        yield made


def over_http2(folder):
    """A configuration for curl: requests that are told apart by their answers, and where each answer goes."""
    lines = []
    for i in range(OVER_HTTP2):
        lines += ["next"] if i else []
        lines += ['url = "https://h2.world.test/' + (f"secret/{i}" if i % 50 == 7 else f"echo?i={i}") + '"',
                  f'output = "{folder}/{i}"', "silent", "max-time = 300"]
        lines += [f'data = "b{i}"'] if i % 3 == 1 else []
    path = f"{folder}/curl.conf"
    with open(path, "w", encoding="utf-8") as f:
        f.write("\n".join(lines) + "\n")
    return path


def test_http5_ten_thousand_requests(read, world, tmp_path):
    mark = world.mark()
    guest = read.guest("/usr/bin/python3", "-c", CLIENT, timeout=SECONDS_MAX)
    assert guest.returncode == 0, guest.stderr
    got = json.loads(guest.stdout)
    assert got["wrong"] == [] and got["answered"] == [1000] * 8
    assert got["refused"] == [0, 40] * 4
    # who asked for nothing wrong never had to connect again; the others at most once for each refusal
    assert [n for n in got["connects"][::2] if n != 1] == [] and max(got["connects"][1::2]) <= 1 + 30, got

    argv = ["curl", "--http2", "-Z", "--parallel-max", "40", "-K", over_http2(tmp_path)]
    assert read.guest(*argv, timeout=SECONDS_MAX).returncode == 0
    for i in range(OVER_HTTP2):
        with open(tmp_path / str(i), encoding="utf-8") as f:
            answer = json.load(f)
        if i % 50 == 7:
            assert answer["status"] == 403 and answer["path"] == f"/secret/{i}"
        else:
            assert (answer["target"], answer["body"]) == (f"/echo?i={i}", f"b{i}" if i % 3 == 1 else "")

    arrived = [r["target"] for r in world.requests(mark)]
    assert len(arrived) == 10000 - OVER_HTTP2 // 50
    assert not [t for t in arrived if "secret" in t or "smuggled" in t]
    assert read.stats()["requests_open"] == 0 and read.stats("vault")["open_requests"] == 0
