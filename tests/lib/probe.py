"""Runs in the guest, as its root: what a test's script may use. Standard library alone."""

import base64, http.client, json, os, select, socket, ssl, struct, subprocess, sys, threading, time  # noqa: E401, F401
import urllib.parse

WAIT = 30  # nothing in a test may hang so long: a slow machine gets its answer, a hang becomes a word


def say(*values):
    for value in values:
        print(json.dumps(value), flush=True)


def fault(e):
    words = {ConnectionRefusedError: "refused", ConnectionResetError: "reset", TimeoutError: "timeout",
             BrokenPipeError: "reset", socket.gaierror: "no name", http.client.RemoteDisconnected: "closed",
             ssl.SSLEOFError: "closed"}
    for kind, word in words.items():
        if type(e) is kind:
            return word
    if isinstance(e, ssl.SSLCertVerificationError):
        return "certificate: " + e.verify_message
    if isinstance(e, OSError) and e.errno in (101, 113):
        return "unreachable"
    return f"{type(e).__name__}: {e}"


def timed(what, *args, **more):
    began = time.monotonic()
    try:
        return what(*args, **more), time.monotonic() - began
    except Exception as e:
        return fault(e), time.monotonic() - began


def connect(host, port, timeout=WAIT):
    return socket.create_connection((host, port), timeout)


def tcp(host, port, send=b"", read=0):
    """"open", or what was read, or a word for why not."""
    try:
        with connect(host, port) as s:
            if send:
                s.sendall(send)
            if read:
                got = b""
                while len(got) < read:
                    piece = s.recv(read - len(got))
                    if not piece:
                        break
                    got += piece
                return got.decode("latin-1") if got else "closed"
            return "open"
    except Exception as e:
        return fault(e)


def opened(host, port, wait=2):
    """"open", or a word for why not; what a peer that accepts and then resets does is waited for."""
    try:
        with connect(host, port) as s:
            s.settimeout(wait)
            try:
                return "open" if s.recv(1) else "closed"
            except TimeoutError:
                return "open"
    except Exception as e:
        return fault(e)


def udp(host, port, data=b"x", wait=3):
    """What came back, or "refused" (an ICMP came), or "silence"."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(wait)
        try:
            s.connect((host, port))
            s.send(data)
            return s.recv(65535).decode("latin-1")
        except TimeoutError:
            return "silence"
        except OSError as e:
            return fault(e)


TYPES = {"A": 1, "NS": 2, "CNAME": 5, "SOA": 6, "NULL": 10, "PTR": 12, "TXT": 16, "AAAA": 28, "SRV": 33, "SVCB": 64,
         "HTTPS": 65, "ANY": 255}
WORDS = {v: k for k, v in TYPES.items()}
CODES = {0: "ok", 1: "formerr", 2: "servfail", 3: "nxdomain", 4: "notimp", 5: "refused"}


def put_name(name):
    return b"".join(bytes([len(x)]) + x.encode("latin-1") for x in name.split(".") if x) + b"\0"


def query(name, kind="A", klass=1, opcode=0, edns=0, questions=1, qid=0x1234):
    data = struct.pack(">HHHHHH", qid, opcode << 11 | 0x100, questions, 0, 0, 1 if edns else 0)
    for _ in range(questions):
        data += put_name(name) + struct.pack(">HH", TYPES.get(kind, kind), klass)
    if edns:
        data += b"\0" + struct.pack(">HHIH", 41, edns, 0, 0)
    return data


def name_at(m, at):
    labels, end = [], None
    for _ in range(128):
        n = m[at]
        if n >= 0xC0:
            end = end or at + 2
            at = (n & 0x3F) << 8 | m[at + 1]
        elif n:
            labels.append(m[at + 1 : at + 1 + n].decode("latin-1"))
            at += n + 1
        else:
            return ".".join(labels), end or at + 1
    raise ValueError("a loop")


def read_answer(m):
    """{"code", "tc", "id", "records": [[owner, type, ttl, value]]}"""
    qid, flags, questions, answers, authority, more = struct.unpack_from(">HHHHHH", m)
    at, records = 12, []
    for _ in range(questions):
        at = name_at(m, at)[1] + 4
    for _ in range(answers):
        owner, at = name_at(m, at)
        kind, _, ttl, size = struct.unpack_from(">HHIH", m, at)
        at += 10
        data = m[at : at + size]
        if kind == 1:
            value = socket.inet_ntop(socket.AF_INET, data)
        elif kind == 28:
            value = socket.inet_ntop(socket.AF_INET6, data)
        elif kind == 5:
            value = name_at(m, at)[0]
        else:
            value = data.hex()
        records.append([owner, WORDS.get(kind, kind), ttl, value])
        at += size
    code = CODES.get(flags & 15, flags & 15)
    return {"code": code, "tc": bool(flags & 0x200), "id": qid, "records": records, "bytes": len(m), "more": more,
            "authority": authority}


def ask_udp(data, server="100.96.0.1", wait=WAIT):
    """The answer's bytes; None: none came."""
    family = socket.AF_INET6 if ":" in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as s:
        s.settimeout(wait)
        s.connect((server, 53))
        try:
            s.send(data)
            return s.recv(65535)
        except OSError:
            return None


def ask_tcp(data, server="100.96.0.1"):
    with connect(server, 53) as s:
        s.sendall(struct.pack(">H", len(data)) + data)
        f = s.makefile("rb")
        head = f.read(2)
        return f.read(struct.unpack(">H", head)[0]) if len(head) == 2 else None


def dns(name, kind="A", server="100.96.0.1", over=ask_udp, **more):
    got = over(query(name, kind, **more), server)
    return read_answer(got) if got else {"code": "silence", "records": []}


def addresses(name, kind="A"):
    """Those of one family, or the word for why there are none."""
    got = dns(name, kind)
    found = sorted(r[3] for r in got["records"] if r[1] == kind)
    return found if found else ("nodata" if got["code"] == "ok" else got["code"])


known = {}  # the context of most connections: to read the roots takes longer than all else


def context(verify=True, alpn=None, cafile=None):
    if (verify, alpn, cafile) == (True, None, None) and known:
        return known["context"]
    c = ssl.create_default_context(cafile=cafile) if verify else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if (verify, alpn, cafile) == (True, None, None):
        known["context"] = c
    if not verify:
        c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if alpn:
        c.set_alpn_protocols(alpn)
    return c


def tls(host, port=443, to=None, sni=True, **more):
    """A TLS connection to that host, or to another address under its name. sni: True, None or another name."""
    s = connect(to or host, port)
    name = host if sni is True else sni
    c = context(**more) if name else context(False, **more)
    return c.wrap_socket(s, server_hostname=name)


def issuer(host, port=443, **more):
    """The common name of who signed that host's certificate, as it is seen here."""
    with tls(host, port, **more) as s:
        return dict(x[0] for x in s.getpeercert()["issuer"])["commonName"]


def raw(host, data, port=443, secure=True, to=None, sni=True, size=1 << 16, verify=True):
    """Sends those bytes and reads to the end (or until WAIT is over): what came, as text."""
    if isinstance(data, str):
        data = data.encode("latin-1")
    s = tls(host, port, to, sni, verify=verify) if secure else connect(to or host, port)
    with s:
        s.sendall(data)
        got = b""
        try:
            while len(got) < size:
                piece = s.recv(1 << 16)
                if not piece:
                    break
                got += piece
        except Exception as e:
            if not got:
                return fault(e)
        return got.decode("latin-1")


def http_(url, method="GET", body=None, to=None, verify=True, **headers):
    """{"status", "headers", "body"} or {"fault": WORD}. Header names have _ for -. One request, no redirects."""
    u = urllib.parse.urlsplit(url)
    secure = u.scheme == "https"
    port = u.port or (443 if secure else 80)
    target = u.path + (f"?{u.query}" if u.query else "") or "/"
    try:
        if secure:
            c = http.client.HTTPSConnection(u.hostname, port, timeout=WAIT, context=context(verify))
        else:
            c = http.client.HTTPConnection(u.hostname, port, timeout=WAIT)
        if to:
            c._create_connection = lambda _, *a, **k: connect(to, port)
        c.request(method, target, body, {k.replace("_", "-"): v for k, v in headers.items()})
        return answer(c.getresponse())
    except Exception as e:
        return {"fault": fault(e)}
    finally:
        c.close()


def answer(r):
    got = r.read()
    out = {"status": r.status, "headers": {k.lower(): v for k, v in r.getheaders()}, "body": got.decode("latin-1")}
    if out["headers"].get("content-type", "").startswith("application/json"):
        out["json"] = json.loads(got)
    return out


get = http_


def run(*argv, **env):
    got = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=WAIT * 8, check=False,
                         env={**os.environ, **env})
    return [got.returncode, got.stdout, got.stderr]


def tag(data, size=4096):
    return data[:size]
