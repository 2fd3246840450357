"""Other HTTP/1.1 request parsers, each giving its reading of the same bytes.

A reading is a list of messages, or None where the parser refuses the bytes. A message is
(method, target, headers that matter, body) and only complete ones are in the list, so a message's
end, and so the next one's start, is where the reading says it is: by what comes after it.
"""

import http.client
import http.server
import io
import json
import os
import shutil
import subprocess
import threading

HERE = os.path.dirname(os.path.abspath(__file__))
MATTER = ("host", "content-length", "transfer-encoding", "x-a", "authorization")


def matter(pairs):
    got = []
    for name, value in pairs:
        name = name.lower()
        if name in MATTER:
            got.append((name, value.lower() if name == "transfer-encoding" else value))
    return tuple(sorted(got))


class H11:
    """python3-h11."""

    name = "h11"

    def __init__(self):
        import h11

        self.h11 = h11

    def read(self, data):
        h11 = self.h11
        conn = h11.Connection(h11.SERVER, max_incomplete_event_size=1 << 20)
        got, head, body = [], None, b""
        try:
            conn.receive_data(data)
            while True:
                event = conn.next_event()
                if event in (h11.NEED_DATA, h11.PAUSED):
                    if event is h11.PAUSED and conn.our_state is h11.MUST_CLOSE:
                        return got
                    if event is h11.PAUSED and conn.their_state is h11.DONE:
                        if conn.our_state is h11.SEND_RESPONSE:
                            conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                            conn.send(h11.EndOfMessage())
                        if conn.our_state is not h11.DONE:
                            return got
                        conn.start_next_cycle()
                        continue
                    return got
                if isinstance(event, h11.ConnectionClosed):
                    return got
                if isinstance(event, h11.Request):
                    pairs = [(n.decode(), v.decode("latin-1")) for n, v in event.headers]
                    head, body = (event.method.decode(), event.target.decode("latin-1"),
                                  matter(pairs)), b""
                elif isinstance(event, h11.Data):
                    body += bytes(event.data)
                elif isinstance(event, h11.EndOfMessage):
                    got.append((*head, body))
                    if conn.our_state is h11.SEND_RESPONSE:
                        conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
                        conn.send(h11.EndOfMessage())
                    if conn.our_state is not h11.DONE or conn.their_state is not h11.DONE:
                        return got
                    conn.start_next_cycle()
        except (h11.ProtocolError, ValueError):
            return None if not got else got + [None]

    def close(self):
        pass


class HttpServer:
    """http.server of the standard library, with the body read as its users read it."""

    name = "http.server"

    def read(self, data):
        got, bad = [], []

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self):
                self.rfile, self.wfile = io.BytesIO(data), io.BytesIO()

            def finish(self):
                pass

            def send_error(self, *a, **k):
                bad.append(a)
                self.close_connection = True

            def log_message(self, *a):
                pass

            def handle_expect_100(self):
                return True

            def parse_request(self):
                if not super().parse_request():
                    return False
                self.answer()
                return False

            def answer(self):
                length = self.headers.get("content-length")
                body = b""
                if "chunked" in self.headers.get("transfer-encoding", "").lower():
                    self.close_connection = True  # it knows nothing of it
                    return
                try:
                    body = self.rfile.read(int(length)) if length else b""
                    whole = not length or len(body) == int(length)
                except ValueError:
                    bad.append(length)
                    self.close_connection = True
                    return
                if not whole:
                    self.close_connection = True
                    return
                got.append((self.command, self.path, matter(self.headers.items()), body))

        try:
            Handler(None, ("", 0), None)
        except (ValueError, http.client.HTTPException, UnicodeError, OSError):
            bad.append("error")
        if bad:
            return None if not got else got + [None]
        return got

    def close(self):
        pass


class Child:
    """A program that reads `LENGTH\\n` and bytes, and answers with one line of JSON."""

    def __init__(self, argv, env=None):
        self.child = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                      env={**os.environ, **(env or {})})

    def read(self, data):
        # a child that hangs is killed by the limit of the whole test
        self.child.stdin.write(b"%d\n" % len(data) + data)
        self.child.stdin.flush()
        line = self.child.stdout.readline()
        assert line, f"{self.name} ended"
        return self.convert(json.loads(line))

    def convert(self, answer):
        got = [(m["method"], m["target"], matter(m["headers"]), bytes.fromhex(m["body"]))
               for m in answer["messages"]]
        if answer["bad"]:
            return None if not got else got + [None]
        return got

    def close(self):
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(timeout=60)


class Node(Child):
    """llhttp, as Node has it."""

    name = "node"

    def __init__(self):
        super().__init__([shutil.which("node") or shutil.which("nodejs"),
                          os.path.join(HERE, "read_node.js")])


class Go(Child):
    """net/http of Go: http.ReadRequest, one after the other."""

    name = "go"

    def __init__(self, folder):
        program = os.path.join(folder, "read_go")
        kept = os.path.expanduser("~/.cache/berm/go")  # net/http takes half a minute to build
        try:
            os.makedirs(kept, exist_ok=True)
            cache = kept if os.access(kept, os.W_OK) else os.path.join(folder, "cache")
        except OSError:
            cache = os.path.join(folder, "cache")
        tool = shutil.which("go") or "/usr/local/go/bin/go"
        subprocess.run([tool, "build", "-o", program, os.path.join(HERE, "read_go.go")], check=True,
                       timeout=600, capture_output=True,
                       env={**os.environ, "GOFLAGS": "-mod=mod", "GO111MODULE": "off",
                            "GOCACHE": os.path.realpath(cache), "GOPATH": folder,
                            "GOTOOLCHAIN": "local", "GOMAXPROCS": "1"})
        super().__init__([program])


class Httptools:
    """http-parser, the C parser Node had before, through python3-httptools."""

    name = "http-parser"

    def __init__(self):
        import httptools

        self.httptools = httptools

    def read(self, data):
        got = []

        class Sink:
            def on_message_begin(self):
                self.url, self.pairs, self.body, self.head = b"", [], b"", True

            def on_headers_complete(self):
                self.head = False  # what is called a header behind it is a trailer

            def on_url(self, url):
                self.url += url

            def on_header(self, name, value):
                if self.head:
                    self.pairs.append((name.decode("latin-1"), value.decode("latin-1")))

            def on_body(self, body):
                self.body += body

            def on_message_complete(self):
                got.append((parser.get_method().decode(), self.url.decode("latin-1"),
                            matter(self.pairs), self.body))

        parser = self.httptools.HttpRequestParser(Sink())
        try:
            parser.feed_data(data)
        except self.httptools.HttpParserUpgrade:
            pass
        except Exception:  # each of its errors is a refusal
            return None if not got else got + [None]
        return got

    def close(self):
        pass


class Ours:
    """src/http, through the driver of tests/unit/http."""

    name = "berm"

    def __init__(self, driver):
        self.child = subprocess.Popen([driver], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.lock = threading.Lock()

    def lines(self, data, kind="request", flags="-"):
        with self.lock:
            self.child.stdin.write(b"%s %d %s\n" % (kind.encode(), len(data), flags.encode()) + data)
            self.child.stdin.flush()
            got = []
            while True:
                line = self.child.stdout.readline()
                assert line, "the driver ended"
                if line == b".\n":
                    return got
                got.append(line.rstrip(b"\n"))

    def read(self, data):
        """(messages, refused): a message is (method, path, query or None, host, port, body, end)."""
        got, current, refused = [], None, None
        for line in self.lines(data):
            word, _, rest = line.partition(b" ")
            if word == b"request":
                method, _, host, port, path, query, *_ = rest.decode("latin-1").split(" ")
                current = [method, path, query[1:] if query[0] == "?" else None, host, int(port), b""]
            elif word == b"body":
                current[5] = bytes.fromhex(rest.decode())
            elif word == b"end":
                got.append((*current, int(rest)))
            elif word == b"bad":
                refused = rest.decode()
        return got, refused

    def close(self):
        self.child.stdin.close()
        self.child.stdout.close()
        self.child.wait(timeout=60)
