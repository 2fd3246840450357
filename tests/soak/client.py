"""One round of everything a guest may do to its network, said where a guest would be: client.py ROUND PLACEHOLDER.

Prints one JSON object: how often each thing came out as it should, and what did not.
"""

import base64
import collections
import contextlib
import http.client
import json
import os
import socket
import ssl
import struct
import subprocess
import sys

SECONDS = 60
NAMES = 200  # both tables have room for 4096 and are no larger than what is in them
ROUND, PLACEHOLDER = int(sys.argv[1]), sys.argv[2]
TLS = ssl.create_default_context()
done, wrong = collections.Counter(), []


def dial(host, port):
    return socket.create_connection((host, port), SECONDS)


def reset(s):
    """Ends it with an RST."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    s.close()


def curl(*argv):
    got = subprocess.run(["curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}:%{size_download}\n", "--max-time",
                          str(SECONDS), *argv], capture_output=True, text=True, check=False)
    return got.returncode, got.stdout.split()


def get(c, method, path, body=None, headers=None):
    c.request(method, path, body, headers or {})
    r = c.getresponse()
    return r.status, r.read()


def passed():
    """Bytes that nobody reads on the way."""
    assert curl("http://files.world.test:8000/mega")[1] == ["200:1048576"]
    assert curl("https://files.world.test/mega")[1] == ["200:1048576"]


def read_kept():
    """Requests on kept connections, HTTP/1.1 and 2."""
    urls = [f"https://api.world.test/bytes?n={n}" for n in (0, 1, 65536, 300000)]
    flags = [word for url in urls for word in ("-o", "/dev/null", url)][1:]
    for flag in ("--http1.1", "--http2"):
        code, out = curl(flag, *flags[1:])
        assert out == ["200:0", "200:1", "200:65536", "200:300000"], (flag, code, out)
    assert curl("--http2", "-Z", *flags[1:])[0] == 0


def bodies():
    c = http.client.HTTPSConnection("api.world.test", context=TLS, timeout=SECONDS)
    data = os.urandom(40000)
    status, answer = get(c, "POST", "/upload", data)
    assert status == 200, answer
    status, answer = get(c, "POST", "/echo", iter([data, data]))
    assert status == 200 and json.loads(answer)["body_bytes"] == 80000, answer
    c.close()
    assert curl("-T", "/usr/bin/curl", "https://api.world.test/upload")[1][0].startswith("200")


def streams():
    c = http.client.HTTPSConnection("api.world.test", context=TLS, timeout=SECONDS)
    assert get(c, "GET", "/sse?n=5&ms=1")[0] == 200
    assert get(c, "GET", "/chunked?n=100000")[1][-1:] == bytes([99999 % 251])
    c.close()
    with TLS.wrap_socket(dial("api.world.test", 443), server_hostname="api.world.test") as s, s.makefile("rb") as f:
        key = base64.b64encode(os.urandom(16)).decode()
        s.sendall(f"GET /ws HTTP/1.1\r\nHost: api.world.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                  f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode())
        assert f.readline().split()[1] == b"101"
        while f.readline() != b"\r\n":
            pass
        f.read(2 + 7)  # it says welcome
        for _ in range(5):
            s.sendall(b"\x81\x85\0\0\0\0hello")
            assert f.read(7) == b"\x81\x05hello"


def secrets():
    c = http.client.HTTPSConnection("api.world.test", context=TLS, timeout=SECONDS)
    bearer = {"Authorization": f"Bearer {PLACEHOLDER}"}
    for _ in range(3):
        assert get(c, "GET", "/reflect?as=json", headers=bearer)[0] == 200
    c.close()
    c = http.client.HTTPSConnection("api.world.test", context=TLS, timeout=SECONDS)
    assert get(c, "POST", "/echo", f"it is {PLACEHOLDER}")[0] == 403
    c.close()


def names():
    for n in range(2):  # other ones each time, until all were; 20 a second may leave the gate, 200 at once
        socket.getaddrinfo(f"r{(2 * ROUND + n) % NAMES}.wild.world.test", 443)
        with contextlib.suppress(OSError):
            socket.getaddrinfo(f"r{ROUND}-{n}.elsewhere.test", 443)
            raise AssertionError("a name that is no one's has an address")


def refused():
    nobody = (("45.90.30.12", 443), ("169.254.169.254", 80), ("files.world.test", 22), ("refuses.world.test", 7))
    for host, port in nobody:
        with contextlib.suppress(OSError):
            dial(host, port).close()
            raise AssertionError(f"{host}:{port} is there")
    assert curl("-k", "--resolve", "evil.world.test:443:45.90.30.20", "https://evil.world.test/small")[0] != 0
    assert curl("https://expired.world.test/none")[1][0].startswith("502:")
    c = http.client.HTTPSConnection("other.world.test", context=TLS, timeout=SECONDS)
    assert get(c, "DELETE", "/echo")[0] == 403
    c.close()
    with TLS.wrap_socket(dial("api.world.test", 443), server_hostname="api.world.test") as s:
        s.sendall(b"GET / HTTP/1.1\r\nHost: api.world.test\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert s.recv(100).split()[1] == b"400"


def broken():
    """Clients that leave, and servers that do."""
    for port in (7002, 7003, 7005):
        with contextlib.suppress(OSError), dial("four.world.test", port) as s:
            s.sendall(b"x" * 1000)
            s.recv(1000)
    s = dial("files.world.test", 8000)
    s.sendall(b"GET /big HTTP/1.1\r\nHost: files.world.test\r\n\r\n")
    s.recv(65536)
    reset(s)
    for path in (b"/bytes?n=30000000", b"/hang", b"/reset", b"/cut", b"/nolength?n=100000"):
        s = TLS.wrap_socket(dial("api.world.test", 443), server_hostname="api.world.test")
        s.sendall(b"GET " + path + b" HTTP/1.1\r\nHost: api.world.test\r\n\r\n")
        if path != b"/hang":
            with contextlib.suppress(OSError):
                s.recv(10000)
        reset(s)
    s = dial("api.world.test", 443)
    s.sendall(b"\x16\x03\x01\x02\x00\x01")  # the beginning of a ClientHello
    s.close()
    s = dial("api.world.test", 443)
    s.sendall(b"\x16\x03\x01\x00\x05\x01\x00\x00\x01\x03")
    s.close()


def many():
    """A crowd that does nothing, in its own time."""
    files, api = (socket.gethostbyname(name) for name in ("files.world.test", "api.world.test"))
    crowd = [dial(files, 8000) for _ in range(40)] + [dial(api, 443) for _ in range(10)]
    for s in crowd:
        s.close()


def datagrams():
    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    s.settimeout(SECONDS)
    s.connect(("45.90.30.11", 7))
    s.send(b"there and back")
    assert s.recv(100) == b"there and back"
    s.close()


PARTS = (passed, read_kept, bodies, streams, secrets, names, refused, broken, many, datagrams)


def main():
    socket.getaddrinfo("away.world.test", 7)  # so that its address is pinned, for the datagrams
    for part in PARTS:
        try:
            part()
            done[part.__name__] += 1
        except (AssertionError, OSError, http.client.HTTPException, LookupError) as fault:
            wrong.append(f"{part.__name__}: line {fault.__traceback__.tb_next.tb_lineno}: {fault!r}"[:300])
    print(json.dumps({"done": done, "wrong": wrong}))


main()
