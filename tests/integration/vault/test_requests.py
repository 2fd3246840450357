"""Requests of the gate's, over real connections to servers that behave, and to others."""

import hashlib
import os
import socket
import ssl
import struct
import threading
import time

import h2.config
import h2.connection
import h2.events
import pytest

from world import *  # noqa: F403  pylint: disable=wildcard-import,unused-wildcard-import

READ = rules("{ host: good.test, port: [443, 8443, 9443], inspect: true }",
             "{ host: two.test, port: 443, inspect: true }",
             "{ host: plain.test, port: [80, 8080], protocol: http }")


def in_https_world(serve, **more):
    """A world whose vault trusts a CA of its own; serve(folder) runs at the far end."""
    def wrap(test):
        def run(tmp_path):
            folder = str(tmp_path)
            pki(folder)

            def far():
                serve_dns(names(good_test=[FAR], two_test=[FAR], plain_test=[FAR]))
                serve(folder)

            def near(path):
                test(path)

            in_world(far, **more)(near)(tmp_path)
        run.__name__ = test.__name__
        run.__doc__ = test.__doc__
        return run
    return wrap


def start(folder, policy=READ, roots="ca.pem"):
    v = Vault(policy)
    if roots:
        with open(os.path.join(str(folder), roots), "rb") as f:
            v.tell(ROOTS, struct.pack("<I", 9), sealed(f.read()))
        assert v.packet() == (SECRET_OK, struct.pack("<I", 9) + bytes(4))
    for name in ("good.test", "two.test", "plain.test"):
        v.resolve(name)
    return v


def ok(body=b"hello", more=b""):
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), more, body)


def mirror(head, body):
    """The request as the server saw it."""
    while b"/hold" in head:
        time.sleep(60)
    return ok(head + body)


def ordinary(folder):
    serve_https(simple(mirror), tls_server(folder))
    serve_tcp(simple(mirror), port=80)


@in_https_world(ordinary)
def test_what_is_sent_is_what_was_judged(folder):
    with start(folder) as v:
        a = Request(v, "good.test", "/a/b", query="x=1&y", headers=[("accept", "*/*"), ("x-one", "1")]).whole()
        assert (a.fail, a.status, a.framing) == (None, 200, LENGTH)
        assert a.body.decode().split("\r\n") == ["GET /a/b?x=1&y HTTP/1.1", "host: good.test", "accept: */*",
                                                "x-one: 1", "", ""]
        a = Request(v, "good.test", "/", "POST", body=b"abc").whole()
        assert a.body.endswith(b"\r\n\r\nabc") and b"content-length: 3\r\n" in a.body
        a = Request(v, "plain.test", "/p", scheme=PLAIN).whole()
        assert (a.status, a.body.split(b"\r\n")[0]) == (200, b"GET /p HTTP/1.1")
        stats = v.stats()
        assert (stats["requests"], stats["reused"], stats["upstreams"], stats["upstreams_idle"]) == (3, 1, 2, 2)


@in_https_world(ordinary)
def test_judged_again(folder):
    policy = rules("{ host: good.test, port: 443, http: [ { method: GET, path: \"/ok/**\" } ] }",
                   "{ host: two.test, port: 443 }")
    with start(folder, policy) as v:
        assert Request(v, "good.test", "/ok/1").whole().status == 200
        assert Request(v, "good.test", "/no").whole().fail == "denied"
        assert Request(v, "good.test", "/ok/1", "PUT").whole().fail == "denied"
        assert Request(v, "good.test", "/ok/1", port=444).whole().fail == "denied"
        assert Request(v, "good.test", "/ok/1", addr="9.1.0.3").whole().fail == "not-resolved"
        assert Request(v, "good.test", "/ok/1", addr="127.0.0.1").whole().fail == "special"
        assert Request(v, "good.test", "/ok/1", addr="169.254.169.254").whole().fail == "metadata"
        assert Request(v, "other.test", "/ok/1").whole().fail == "denied"
        assert Request(v, "9.1.0.2", "/ok/1").whole().fail == "denied"
        assert Request(v, "good.test", "/ok/1", scheme=PLAIN, port=443).whole().fail == "denied"
        assert v.stats()["open_requests"] == 0


BAD_CERTIFICATES = {"stranger": 20, "wrong": 62, "expired": 10}


@pytest.mark.parametrize("name", BAD_CERTIFICATES)
def test_tls_11_bad_certificates(name, tmp_path):
    @in_https_world(lambda folder: serve_https(simple(mirror), tls_server(folder, name)))
    def run(folder):
        with start(folder) as v:
            assert Request(v, "good.test").whole().fail == "certificate"
            kind, raw = v.packet(records=True)
            assert kind == RECORD and raw[0] == 2 and raw[1] == 4
            assert struct.unpack_from("<H", raw, 12)[0] == BAD_CERTIFICATES[name]
            assert b"good.test" in raw

    run(tmp_path)


@in_https_world(ordinary)
def test_tls_11_no_root_no_trust(folder):
    with start(folder, roots=None) as v:
        assert Request(v, "good.test").whole().fail == "certificate"
        v.tell(ROOTS, struct.pack("<I", 3), sealed(b"no certificate"))
        assert v.packet()[0] == SECRET_BAD
        assert Request(v, "good.test").whole().fail == "certificate"


@in_https_world(lambda folder: serve_https(simple(mirror), tls_server(folder, newest=ssl.TLSVersion.TLSv1_1)))
def test_tls_12_old_versions(folder):
    with start(folder) as v:
        assert Request(v, "good.test").whole().fail == "protocol"


def bulk(head, body):
    if head.startswith(b"GET"):
        return ok(BIG)
    return ok(hashlib.sha256(body).hexdigest().encode())


BIG = os.urandom(1 << 20) * 4


def peak_kib(v):
    with open(f"/proc/{v.process.pid}/status", encoding="ascii") as f:
        return [int(line.split()[1]) for line in f if line.startswith("VmHWM")][0]


@in_https_world(lambda folder: serve_https(simple(bulk), tls_server(folder)))
def test_l7_13_large_bodies_both_ways(folder):
    with start(folder) as v:
        a = Request(v, "good.test").whole()
        assert a.status == 200 and len(a.body) == len(BIG)
        q = Request(v, "good.test", method="POST", framing=LENGTH, length=len(BIG))
        q.send(BIG)
        q.end()
        assert q.whole().body == hashlib.sha256(BIG).hexdigest().encode()
        assert peak_kib(v) < 48 << 10


def slow_reader(s):
    """Always a little behind: what is sent to it is never all gone."""
    s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16 << 10)
    head, rest = read_head(s)
    left = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0]) - len(rest)
    while left > 0:
        part = s.recv(16 << 10)
        left -= len(part)
        time.sleep(0.001)
    s.sendall(ok(b"done"))


@in_https_world(lambda folder: serve_https(slow_reader, tls_server(folder)))
def test_l7_13_an_upload_that_is_never_all_gone(folder):
    with open("/proc/sys/net/ipv4/tcp_wmem", "w", encoding="ascii") as f:
        f.write("4096 16384 16384")  # as over a slow line: less than what waits
    with start(folder) as v:
        q = Request(v, "good.test", method="POST", framing=LENGTH, length=8 * len(BIG))
        q.send(BIG)
        before = peak_kib(v)
        for _ in range(7):
            q.send(BIG)
        q.end()
        assert q.whole().body == b"done"
        assert peak_kib(v) < before + (2 << 10)


@in_https_world(lambda folder: serve_https(simple(bulk), tls_server(folder)))
def test_back_pressure(folder):
    """A guest that does not read stops the server."""
    with start(folder) as v:
        q = Request(v, "good.test")
        q.until(RESPONSE)
        while len(q.answer.body) < 256 << 10:
            q.step(grant=False)
        assert len(q.answer.body) == 256 << 10
        with pytest.raises(TimeoutError):
            v.frame(patience=0.5)
        other = Request(v, "two.test").whole()
        assert other.status == 200
        received = v.stats()["received_bytes"]
        assert received < len(other.body) + (2 << 20)
        v.send(CREDIT, q.stream, struct.pack("<I", 256 << 10))
        assert len(q.whole().body) == len(BIG) or q.answer.fail is None


def endless(s):
    head, _ = read_head(s)
    if b"/small" in head:
        s.sendall(ok(b"small"))
        return
    try:
        s.sendall(ok(BIG))
    except OSError:
        pass


HELD_MAX = 192 << 20


@in_https_world(lambda folder: serve_tcp(endless, port=80))
def test_lim_4_all_requests_together_hold_no_more_than_they_may(folder):
    """A guest that asks for much and reads nothing: the one that was silent for longest gives way."""
    with start(folder) as v:
        hoard = []
        for i in range(900):
            q = Request(v, "plain.test", "/big", scheme=PLAIN)
            hoard.append(q)
            while not q.done and len(q.answer.body) < 256 << 10:
                q.step(grant=False)
            q.answer.body = b""
            if i % 50 == 0:
                assert Request(v, "plain.test", "/small", scheme=PLAIN).whole().body == b"small"
                assert v.stats()["held_bytes"] < HELD_MAX + (24 << 20)
            if any(f[0] == RESET for f in v.frames):
                break
        gone = {f[1] for f in v.frames if f[0] == RESET}
        assert gone, v.stats()
        for q in hoard:
            if q.stream in gone:
                assert q.whole().fail == "full"
        assert gone <= {q.stream for q in hoard[:len(gone) + 8]}, "not the oldest"
        a = Request(v, "plain.test", "/small", scheme=PLAIN).whole()
        assert (a.fail, a.body) == (None, b"small")
        for q in hoard:
            if not q.done:
                q.reset()
        assert Request(v, "plain.test", "/small", scheme=PLAIN).whole().body == b"small"
        assert v.stats()["held_bytes"] < 4 << 20
        assert peak_kib(v) < (HELD_MAX >> 10) + (64 << 10)


def chunked(s):
    rest = b""
    while True:
        head, rest = read_head(s, rest)
        if not head:
            return
        if b"/sse" in head:
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
            for i in range(3):
                part = b"data: %d\n\n" % i
                s.sendall(b"%x\r\n%s\r\n" % (len(part), part))
                rest += s.recv(1) if i < 2 else b""  # until the test has seen it
            s.sendall(b"0\r\nx-sum: 3\r\n\r\n")
        elif b"expect: 100-continue" in head:
            s.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
            while not rest.endswith(b"0\r\nx-up: yes\r\n\r\n"):
                rest += s.recv(65536)
            s.sendall(ok(rest))
            rest = b""
        elif b"/early" in head:
            s.sendall(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            return
        elif b"/info" in head:
            s.sendall(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" + ok())
        elif b"/none" in head:
            s.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")
        elif head.startswith(b"HEAD"):
            s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\n\r\n")
        elif b"/close" in head:
            s.sendall(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
            s.unwrap()
            return
        elif b"/cut" in head:
            s.sendall(b"HTTP/1.1 200 OK\r\n\r\nand nobody said that it ends")
            os.close(s.detach())
            return


@in_https_world(lambda folder: serve_https(chunked, tls_server(folder)))
def test_http_4_shapes_of_messages(folder):
    with start(folder) as v:
        q = Request(v, "good.test", "/up", "POST", framing=STREAM, flags=CONTINUE)
        q.until(RESPONSE)
        assert q.answer.infos == [100]
        q.send(b"body")
        q.trailers([("x-up", "yes")])
        q.end()
        assert q.whole().body == b"4\r\nbody\r\n0\r\nx-up: yes\r\n\r\n"
        a = Request(v, "good.test", "/info").whole()
        assert (a.infos, a.status, a.body) == ([103], 200, b"hello")
        assert Request(v, "good.test", "/none").whole().status == 204
        a = Request(v, "good.test", "/", "HEAD").whole()
        assert (a.status, a.body, a.framing) == (200, b"", NONE)
        a = Request(v, "good.test", "/close").whole()
        assert (a.status, a.body, a.fail) == (200, b"until the end", None)
        a = Request(v, "good.test", "/cut").whole()
        assert (a.status, a.fail) == (200, "closed")
        a = Request(v, "good.test", "/info").whole()
        assert a.status == 200
        q = Request(v, "good.test", "/early", "POST", framing=LENGTH, length=1 << 30)
        q.send(b"x" * 1000)
        assert q.until(RESPONSE).status == 413
        while not q.done:
            q.step()
        q.send(b"x" * 100000)
        q.reset()
        assert v.stats()["open_requests"] == 0


@in_https_world(lambda folder: serve_tcp(sse_plain, port=80))
def test_server_sent_events_are_not_held_back(folder):
    with start(folder) as v:
        q = Request(v, "plain.test", "/sse", scheme=PLAIN, framing=NONE)
        q.until(RESPONSE)
        for i in range(3):
            q.until(BODY)
            assert q.answer.body.endswith(b"data: %d\n\n" % i)
            with socket.create_connection((FAR, 81)) as go:
                go.sendall(b"x")
        assert q.whole().trailers == [("x-sum", "3")]


def sse_plain(s):
    gate = socket.create_server((FAR, 81))
    read_head(s)
    s.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(3):
        part = b"data: %d\n\n" % i
        s.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        gate.accept()[0].recv(1)
    s.sendall(b"0\r\nx-sum: 3\r\n\r\n")
    gate.close()


def websocket(s):
    head, rest = read_head(s)
    if b"/no" in head:
        s.sendall(ok(b"not here"))
        return
    assert b"upgrade: websocket\r\n" in head.lower() and b"sec-websocket-key: abc" in head
    s.sendall(b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n" + rest)
    while (data := s.recv(65536)):
        s.sendall(data[::-1])
    s.sendall(b"bye")


@in_https_world(lambda folder: serve_https(websocket, tls_server(folder, alpn=("h2", "http/1.1"))))
def test_websocket(folder):
    frame = bytes([0x82, 3]) + b"abc"
    with start(folder) as v:
        q = Request(v, "good.test", "/ws", headers=[("sec-websocket-key", "abc")], flags=WEBSOCKET)
        assert q.until(RESPONSE).status == 101
        for _ in range(3):
            q.send(frame)
            q.until(BODY)
        assert q.answer.body == frame[::-1] * 3
        q.reset()
        q.whole()
        q = Request(v, "good.test", "/no", headers=[("sec-websocket-key", "abc")], flags=WEBSOCKET)
        assert q.until(RESPONSE).status == 200
        q.end()
        assert q.whole().body == b"not here"
        assert v.stats()["open_requests"] == 0


def h2_server(s):
    conn = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False, header_encoding="utf-8"))
    conn.initiate_connection()
    s.sendall(conn.data_to_send())
    bodies, heads_of, waiting = {}, {}, {}

    def pump():
        for stream in list(waiting):
            data = waiting[stream]
            while data:
                n = min(len(data), conn.local_flow_control_window(stream), conn.max_outbound_frame_size)
                if n <= 0:
                    break
                conn.send_data(stream, data[:n])
                data = data[n:]
            waiting[stream] = data
            if not data:
                conn.send_headers(stream, [("x-sum", hashlib.sha256(bodies[stream]).hexdigest()[:8])], end_stream=True)
                del waiting[stream]

    while (data := s.recv(65536)):
        for e in conn.receive_data(data):
            if isinstance(e, h2.events.RequestReceived):
                heads_of[e.stream_id] = dict(e.headers)
                bodies[e.stream_id] = b""
                if heads_of[e.stream_id][":path"] == "/refuse":
                    conn.reset_stream(e.stream_id, 2)
            elif isinstance(e, h2.events.DataReceived):
                bodies[e.stream_id] += e.data
                conn.acknowledge_received_data(e.flow_controlled_length, e.stream_id)
            elif isinstance(e, h2.events.StreamEnded):
                head = heads_of[e.stream_id]
                conn.send_headers(e.stream_id, [(":status", "200"), ("x-path", head[":path"]),
                                                ("x-host", head[":authority"])])
                waiting[e.stream_id] = b"y" * int(head.get("x-size", "5"))
        pump()
        s.sendall(conn.data_to_send())


@in_https_world(lambda folder: serve_https(h2_server, tls_server(folder, alpn=("h2", "http/1.1"))))
def test_tls_13_http2(folder):
    with start(folder) as v:
        a = Request(v, "good.test", "/one", query="q", flags=WANTS_TRAILERS).whole()
        assert (a.status, a.body, a.field("x-path"), a.field("x-host")) == (200, b"yyyyy", "/one?q", "good.test")
        assert a.trailers and a.trailers[0][0] == "x-sum"
        many = [Request(v, "good.test", f"/n{i}", headers=[("x-size", str(i * 9000))]) for i in range(40)]
        for i, q in enumerate(many):
            a = q.whole()
            assert (a.fail, a.field("x-path"), len(a.body)) == (None, f"/n{i}", i * 9000), i
        assert v.stats()["upstreams"] == 1
        assert Request(v, "good.test", "/refuse").whole().fail == "closed"
        q = Request(v, "good.test", "/up", "POST", framing=STREAM)
        q.send(BIG[:3 << 20])
        q.end()
        assert q.whole().trailers == [("x-sum", hashlib.sha256(BIG[:3 << 20]).hexdigest()[:8])]
        given_up = Request(v, "good.test", "/big", headers=[("x-size", "9000000")])
        given_up.until(BODY)
        given_up.reset()
        given_up.whole()
        assert Request(v, "good.test", "/after").whole().status == 200
        assert v.stats()["upstreams"] == 1


def slow_hands(handle, context, seen):
    """Connections whose handshake waits until all that may come have come; seen: their count."""
    def one(s):
        with lock:
            seen.append(s)
        time.sleep(0.5)
        with context.wrap_socket(s, server_side=True) as t:
            handle(t)

    lock = threading.Lock()
    serve_tcp(one, port=443)


def h2_at_first(folder):
    slow_hands(h2_server, tls_server(folder, alpn=("h2", "http/1.1")), far_seen)


def h1_at_first(folder):
    slow_hands(simple(lambda *_: ok(b"%d" % len(far_seen))), tls_server(folder), far_seen)


far_seen = []


@in_https_world(h2_at_first)
def test_requests_wait_for_the_first_handshake(folder):
    """Of HTTP/2 one connection carries all that came while it was made."""
    with start(folder) as v:
        many = [Request(v, "good.test", f"/n{i}") for i in range(40)]
        assert v.stats()["upstreams"] == 1
        for i, q in enumerate(many):
            a = q.whole()
            assert (a.fail, a.field("x-path")) == (None, f"/n{i}"), i
        assert v.stats()["upstreams"] == 1
        more = [Request(v, "two.test", f"/m{i}") for i in range(3)]
        more[0].reset()
        assert more[0].whole().fail == "cancelled"
        assert [q.whole().status for q in more[1:]] == [200, 200]
        assert v.stats()["upstreams"] == 2


@in_https_world(h1_at_first)
def test_requests_that_waited_in_vain(folder):
    """Of HTTP/1.1 the first has the connection, and the others get theirs."""
    with start(folder) as v:
        many = [Request(v, "good.test", f"/n{i}") for i in range(5)]
        assert v.stats()["upstreams"] == 1
        assert [q.whole().status for q in many] == [200] * 5
        assert Request(v, "good.test").whole().body == b"5"


@in_https_world(lambda folder: slow_hands(h2_server, tls_server(folder, "stranger"), far_seen))
def test_requests_that_wait_fail_together(folder):
    with start(folder) as v:
        many = [Request(v, "good.test", f"/n{i}") for i in range(5)]
        assert [q.whole().fail for q in many] == ["certificate"] * 5
        assert v.stats()["upstreams"] == 0


@in_https_world(ordinary)
def test_path_5_the_longest_path_goes_through(folder):
    with start(folder) as v:
        a = Request(v, "good.test", "/" + "a" * 4095).whole()
        assert (a.fail, a.status, a.body.split(b" ")[1]) == (None, 200, b"/" + b"a" * 4095)
        a = Request(v, "good.test", "/" + "a" * 4089, query="x=123").whole()
        assert (a.fail, len(a.body.split(b" ")[1])) == (None, 4096)


TALKERS = 40
all_there = threading.Barrier(TALKERS)


def talks(s):
    """All at once, and much before the answer: heads need no credit."""
    read_head(s)
    all_there.wait(60)
    s.sendall((b"HTTP/1.1 103 Early Hints\r\nx: " + b"a" * 30000 + b"\r\n\r\n") * 12 + ok())


@in_https_world(lambda folder: serve_tcp(talks, port=80))
def test_heads_that_the_gate_has_no_room_for(folder):
    """They wait at the server, and neither a request nor the vault ends for it."""
    with start(folder) as v:
        many = [Request(v, "plain.test", f"/{i}", scheme=PLAIN) for i in range(TALKERS)]
        time.sleep(1)  # nothing is read meanwhile
        for q in many:
            a = q.whole()
            assert (a.fail, a.status, a.infos, a.body) == (None, 200, [103] * 12, b"hello")


GARBAGE = {
    "no http": b"SSH-2.0-x\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and coding": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "bare lf": b"HTTP/1.1 200 OK\nContent-Length: 1\n\na",
    "unasked upgrade": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
    "huge head": b"HTTP/1.1 200 OK\r\nx: " + b"a" * 40000 + b"\r\n\r\n",
    "endless infos": b"HTTP/1.1 103 x\r\n\r\n" * 40,
}


@pytest.mark.parametrize("what", GARBAGE)
def test_http_2_garbage(what, tmp_path):
    @in_https_world(lambda folder: serve_tcp(simple(lambda *_: GARBAGE[what]), port=80))
    def run(folder):
        with start(folder) as v:
            a = Request(v, "plain.test", scheme=PLAIN).whole()
            assert (a.fail, a.status) == ("protocol", None)
            assert Request(v, "plain.test", scheme=PLAIN).whole().fail == "protocol"
            assert v.stats()["upstreams"] == 0

    run(tmp_path)


def moody(folder):
    """8443 is closed; 9443 says nothing at all; 8080 says a word and no more; 80 resets."""
    def nothing(s):
        kept.append(s)

    def a_word(s):
        read_head(s)
        s.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc")
        s.close()

    def resets(s):
        read_head(s)
        s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        s.close()

    serve_tcp(nothing, port=9443)
    serve_tcp(a_word, port=8080)
    serve_tcp(resets, port=80)


kept = []


@in_https_world(moody)
def test_upstreams_that_fail(folder):
    with start(folder) as v:
        assert Request(v, "good.test", port=8443).whole().fail == "refused"
        silent = Request(v, "good.test", port=9443)
        assert Request(v, "plain.test", port=8080, scheme=PLAIN).whole().fail == "closed"
        assert Request(v, "plain.test", port=80, scheme=PLAIN).whole().fail == "closed"
        gone = Request(v, "good.test", port=9443)
        gone.reset()
        assert gone.whole().fail == "cancelled"
        assert silent.whole().fail == "timeout"
        assert v.stats()["upstreams"] == 0


def forgetful(folder):
    """Answers one request on each connection, and to the second closes it."""
    def first(s):
        head, _ = read_head(s)
        s.sendall(ok(head.split(b"\r\n")[0]))
        read_head(s)  # the next one is not answered
        s.close()

    serve_tcp(first, port=80)
    _ = folder


@in_https_world(forgetful)
def test_connections_that_went_stale(folder):
    with start(folder) as v:
        for i in range(5):
            a = Request(v, "plain.test", f"/{i}", scheme=PLAIN).whole()
            assert (a.fail, a.body) == (None, b"GET /%d HTTP/1.1" % i)
        assert Request(v, "plain.test", "/post", "POST", body=b"x", scheme=PLAIN).whole().fail == "closed"


@in_https_world(ordinary)
def test_hot_2_requests_and_idle_connections(folder):
    with start(folder) as v:
        assert Request(v, "good.test").whole().status == 200
        assert v.stats()["upstreams_idle"] == 1
        open_one = Request(v, "two.test", "/hold", "POST", framing=STREAM)
        open_one.send(b"x")
        v.policy(rules("{ host: good.test, port: 443, inspect: true }"))
        assert open_one.whole().fail == "revoked"
        open_one.end()
        assert v.stats()["upstreams"] == 0
        assert Request(v, "good.test").whole().status == 200


def wait_for_file(path):
    end = time.monotonic() + 60
    while not os.path.exists(path) and time.monotonic() < end:
        time.sleep(0.01)
    assert os.path.exists(path), path


def leaves_when_told(folder):
    """Answers one request on each connection; to the second it says nothing, and closes when it is told."""
    def first(s):
        head, _ = read_head(s)
        s.sendall(ok(head.split(b"\r\n")[0]))
        read_head(s)
        open(f"{folder}/read", "w", encoding="ascii").close()
        wait_for_file(f"{folder}/go")
        s.close()

    serve_tcp(first, port=80)


@in_https_world(leaves_when_told)
def test_hot_what_is_sent_once_more_is_judged_once_more(folder):
    narrow = rules("{ host: plain.test, port: 80, http: [ { method: GET, path: /first } ] }")
    with start(folder) as v:
        assert Request(v, "plain.test", "/first", scheme=PLAIN).whole().status == 200
        second = Request(v, "plain.test", "/second", scheme=PLAIN)
        wait_for_file(f"{folder}/read")
        v.policy(narrow)
        open(f"{folder}/go", "w", encoding="ascii").close()
        a = second.whole()
        assert (a.fail, a.body) == ("revoked", b"")


@in_https_world(ordinary)
def test_hot_a_reply_that_was_not_searched_ends_when_it_has_to_be(folder):
    bound = READ + "secrets:\n  - { name: LATE, from: env, hosts: [two.test], header: authorization }\n"
    with start(folder) as v:
        plain, soon = [Request(v, host, "/", "POST", framing=STREAM) for host in ("good.test", "two.test")]
        v.policy(bound)
        assert soon.whole().fail == "revoked"
        soon.end()
        plain.send(b"x")
        plain.end()
        assert plain.whole().status == 200


@in_https_world(ordinary)
def test_many_at_once(folder):
    with start(folder) as v:
        for _ in range(3):
            many = [Request(v, "good.test", f"/{i}", "POST", body=b"b%d" % i) for i in range(60)]
            for i, q in enumerate(many):
                a = q.whole()
                assert a.status == 200 and a.body.endswith(b"\r\n\r\nb%d" % i), (i, a.fail)
        assert v.stats()["upstreams_idle"] <= 8


VALUE = b"ghp_" + b"Zq7" * 12
WITH_SECRET = (READ + "secrets:\n  - { name: TOKEN, from: env, hosts: [good.test],\n"
               "      header: { name: authorization, prefix: \"Bearer \" } }\n")


def give(v, value, serial=5):
    """The placeholder."""
    v.tell(SECRET, struct.pack("<I", serial) + str16("TOKEN"), sealed(value))
    kind, raw = v.packet()
    assert kind == SECRET_OK and raw[:4] == struct.pack("<I", serial), raw
    name, at = take_str16(raw, 4)
    assert name == b"TOKEN"
    return take_str16(raw, at)[0]


def reveal(head, body):
    """The request's head and body backwards: what the server saw, in a form that nobody looks for."""
    return ok((head + body)[::-1] + head, b"x-echo: %s\r\n" % head.split(b"authorization: ")[-1].split(b"\r\n")[0])


@in_https_world(lambda folder: serve_https(simple(reveal), tls_server(folder)))
def test_sec_1_2_6_8_secrets(folder):
    with start(folder, WITH_SECRET) as v:
        token = give(v, VALUE)
        assert token.startswith(b"ghp_") and VALUE not in token
        bearer = [("authorization", "Bearer " + token.decode())]
        a = Request(v, "good.test", headers=bearer).whole()
        assert VALUE[::-1] in a.body and VALUE not in a.body and token in a.body
        assert a.field("x-echo") == "Bearer " + token.decode()
        assert (SCRUBBED, "TOKEN") in a.marks
        for other in (Request(v, "two.test", headers=bearer), Request(v, "good.test", "/" + token.decode()),
                      Request(v, "good.test", headers=[("x-other", token.decode())]),
                      Request(v, "good.test", method="POST", body=b"a" * 5000 + token + b"b")):
            a = other.whole()
            assert (a.fail, a.marks) == ("placeholder", [(VIOLATION, "TOKEN")])
        assert v.stats()["violations"] == 4
        events = [raw[0] for raw in v.records]
        assert events.count(5) == 4 and 6 in events
        assert not any(VALUE in raw for raw in v.records)
        new = give(v, b"another-value-of-it", 6)
        assert new == token
        assert b"another-value-of-it"[::-1] in Request(v, "good.test", headers=bearer).whole().body
        v.tell(SECRET_RM, struct.pack("<I", 7) + str16("TOKEN"))
        assert v.packet() == (SECRET_OK, struct.pack("<I", 7) + str16("TOKEN") + str16(""))
        assert Request(v, "good.test", headers=bearer).whole().fail == "placeholder"
        v.tell(SECRET_RM, struct.pack("<I", 8) + str16("TOKEN"))
        assert v.packet()[0] == SECRET_BAD
        v.tell(SECRET, struct.pack("<I", 9) + str16("TOKEN"), sealed(b"short"))
        assert v.packet()[0] == SECRET_BAD


@in_https_world(lambda folder: serve_https(simple(reveal), tls_server(folder)))
def test_sec_14_values_go_from_vault_to_vault(folder):
    with start(folder, WITH_SECRET) as parent, start(folder, WITH_SECRET) as copy:
        token = give(parent, VALUE)
        out, into = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent.tell(EXPORT, struct.pack("<I", 1), out.detach())
        assert parent.packet() == (SECRET_OK, struct.pack("<I", 1) + bytes(4))
        copy.tell(IMPORT, struct.pack("<I", 2), into.detach())
        kind, raw = copy.packet()
        name, at = take_str16(raw, 4)
        other = take_str16(raw, at)[0]
        assert kind == SECRET_OK and name == b"TOKEN" and other.startswith(b"ghp_") and other != token
        assert copy.packet() == (SECRET_OK, struct.pack("<I", 2) + bytes(4))
        a = Request(copy, "good.test", headers=[("authorization", "Bearer " + other.decode())]).whole()
        assert VALUE[::-1] in a.body
        a = Request(copy, "good.test", headers=[("authorization", "Bearer " + token.decode())]).whole()
        assert VALUE[::-1] not in a.body
        a = Request(parent, "good.test", headers=[("authorization", "Bearer " + other.decode())]).whole()
        assert VALUE[::-1] not in a.body
        bad, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        bad.send(b"nonsense")
        bad.close()
        copy.tell(IMPORT, struct.pack("<I", 3), end.detach())
        assert copy.packet()[0] == SECRET_BAD


@in_https_world(ordinary)
def test_a_guest_that_is_paused(folder):
    with start(folder) as v:
        for rests in (1, 1, 0, 0):
            v.tell(REST, struct.pack("<I", rests))
            assert Request(v, "good.test").whole().status == 200
        v.tell(REST, struct.pack("<I", 2))
        assert v.wait() == (1, "berm-vault: the supervisor's REST is damaged\n")


@pytest.mark.parametrize("kind,payload", [(BODY, b"x"), (TRAILERS, bytes(2)), (RESPONSE, bytes(18)),
                                          (CREDIT, bytes(4))])
def test_a_hostile_gate(kind, payload, tmp_path):
    @in_https_world(ordinary)
    def run(folder):
        with start(folder) as v:
            q = Request(v, "good.test")
            v.send(kind, q.stream, payload)
            code, said = v.wait()
            assert code == 1 and "gate" in said

    run(tmp_path)
