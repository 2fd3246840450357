"""What the witness answers, the same over HTTP/1.1 and HTTP/2.

    /echo                     JSON of the request
    /reflect?as=HOW           the value of authorization (or x-api-key, or ?of=HEADER) comes back as: body,
                              header, error, json, base64, hex, percent, gzip, deflate, br, zstd, sse,
                              split (one byte a piece), trailer, redirect
    /status/N  /bytes?n=N     /chunked?n=N   /slow?n=N&ms=M   /sse?n=N&ms=M   /upload   /none
    /redirect?to=URL          /hang   /reset   /cut (less than it promised)   /nolength?n=N
    /raw?b64=BYTES            HTTP/1.1: exactly these bytes are the response, then the end
    /early /trailers /altsvc  103 before the response; trailers after it; a hint of HTTP/3
"""

import base64
import gzip
import json
import time
import urllib.parse
import zlib

from . import packages

PIECE = 64 << 10


class Request:
    def __init__(self, method, target, headers, host, version, tls):
        self.method, self.target, self.headers, self.host = method, target, headers, host
        self.version, self.tls = version, tls
        self.path, _, self.query = target.partition("?")
        self.args = dict(urllib.parse.parse_qsl(self.query, keep_blank_values=True))
        self.body = b""  # its beginning
        self.body_bytes, self.body_sha256 = 0, ""

    def header(self, name, default=""):
        return next((v for k, v in self.headers if k.lower() == name), default)

    def number(self, name, default=0):
        return int(self.args.get(name, default))


class Response:
    """body: bytes, or an iterator of pieces (then chunked, unless length is given)."""

    def __init__(self, status=200, body=b"", headers=(), length=None, trailers=(), **how):
        self.status, self.body, self.headers, self.length = status, body, list(headers), length
        self.trailers = list(trailers)
        self.how = how  # raw, hang, reset, cut, close, early, upgrade


def text(status, words, kind="text/plain", **more):
    return Response(status, words.encode() if isinstance(words, str) else words, [("content-type", kind)], **more)


def as_json(value, status=200, headers=()):
    return Response(status, json.dumps(value).encode(), [("content-type", "application/json"), *headers])


def pieces(count, ms=0, piece=PIECE):
    """The bytes 0, 1, ... 250, 0, ... of that count."""
    pattern = bytes(range(251)) * (piece // 251 + 2)
    at = 0
    while at < count:
        n = min(piece, count - at)
        yield pattern[at % 251 : at % 251 + n]
        at += n
        if ms:
            time.sleep(ms / 1000)


def echo(r):
    return as_json({"method": r.method, "target": r.target, "host": r.host, "version": r.version, "tls": r.tls,
                    "headers": r.headers, "body_bytes": r.body_bytes, "body_sha256": r.body_sha256,
                    "body": r.body[:4096].decode("latin-1")})


def events(values, ms):
    for n, value in enumerate(values):
        yield f"id: {n}\ndata: {value}\n\n".encode()
        time.sleep(ms / 1000)


def packed(how, value):
    if how == "gzip":
        return gzip.compress(value)
    if how == "deflate":
        return zlib.compress(value)
    import importlib

    return importlib.import_module({"br": "brotli", "zstd": "zstandard"}[how]).compress(value)


def reflect(r):
    how, of = r.args.get("as", "body"), r.args.get("of")
    value = r.header(of) if of else r.header("authorization") or r.header("x-api-key")
    if value.lower().startswith("basic ") and "whole" not in r.args:
        value = base64.b64decode(value[6:]).decode("latin-1")
    raw = value.encode("latin-1")
    if how == "header":
        return Response(200, b"see the header", [("content-type", "text/plain"), ("x-reflected", value)])
    if how == "error":
        return as_json({"error": f"bad credentials: {value}"}, 500)
    if how == "json":
        return as_json({"you": {"sent": value, "escaped": value.replace("/", "\\/")}})
    if how in ("base64", "hex", "percent"):
        word = {"base64": base64.b64encode(raw).decode(), "hex": raw.hex(),
                "percent": "".join(f"%{c:02x}" for c in raw)}[how]
        return text(200, f"it is {word} indeed")
    if how in ("gzip", "deflate", "br", "zstd"):
        return Response(200, packed(how, b"it was " + raw + b" indeed"),
                        [("content-type", "text/plain"), ("content-encoding", how)])
    if how == "sse":
        return Response(200, events([value, "x" + value, "end"], 50), [("content-type", "text/event-stream")])
    if how == "split":
        return Response(200, (bytes([c]) for c in b"it was " + raw + b" indeed"), [("content-type", "text/plain")])
    if how == "trailer":
        return Response(200, iter([b"see the trailer"]), trailers=[("x-reflected", value)])
    if how == "redirect":
        return Response(302, b"", [("location", f"https://away.world.test/got?it={value}")])
    return text(200, f"it was {value} indeed")


def bytes_of(r):
    n = r.number("n", 1000)
    return Response(200, pieces(n, r.number("ms")), [("content-type", "application/octet-stream")], length=n)


def special(r):
    word = r.path.split("/")[1]
    if word == "raw":
        return Response(raw=base64.urlsafe_b64decode(r.args["b64"]))
    if word == "early":
        return Response(200, b"late", early=[("link", "</style.css>; rel=preload")])
    return Response(200, b"x" * 100, **{word: True})


ROUTES = {
    "echo": echo,
    "reflect": reflect,
    "status": lambda r: text(int(r.path.split("/")[2]), f"status {r.path}"),
    "bytes": bytes_of,
    "chunked": lambda r: Response(200, pieces(r.number("n", 1000), r.number("ms"), r.number("piece", PIECE))),
    "slow": lambda r: Response(200, pieces(r.number("n", 10), r.number("ms", 100), 1)),
    "sse": lambda r: Response(200, events(range(r.number("n", 5)), r.number("ms", 200)),
                                [("content-type", "text/event-stream")]),
    "upload": lambda r: as_json({"bytes": r.body_bytes, "sha256": r.body_sha256}),
    "none": lambda r: Response(204),
    "redirect": lambda r: Response(302, b"", [("location", r.args["to"])]),
    "nolength": lambda r: Response(200, pieces(r.number("n", 1000)), close=True),
    "trailers": lambda r: Response(200, iter([b"body"]), trailers=[("x-checksum", "abc")]),
    "altsvc": lambda r: Response(200, b"hint", [("alt-svc", 'h3=":443"; ma=3600')]),
    **dict.fromkeys(("raw", "early", "hang", "reset", "cut"), special),
}
BY_HOST = {
    "git.world.test": packages.git,
    "github.com": packages.git,
    "pypi.world.test": packages.pip,
    "npm.world.test": packages.npm,
    "deb.world.test": packages.apt,
}


def answer(r, folder):
    """The Response. CONNECT and bad ideas are answered like anything else: this is no proxy."""
    host = r.host.partition(":")[0].lower()
    if host in BY_HOST and r.path.split("/")[1] not in ("echo", "reflect"):
        return BY_HOST[host](r, folder, Response)
    route = ROUTES.get(r.path.split("/")[1]) if r.path.startswith("/") else None
    return route(r) if route else text(404 if r.method != "POST" else 200, f"{r.method} {r.path}")
