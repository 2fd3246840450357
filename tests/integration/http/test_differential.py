"""Whenever two other parsers disagree about a request, ours has refused it (HTTP-1). They disagree
as well where one of them refuses what another takes."""

import os
import random
import shutil
import subprocess

import pytest
import readers

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
DRIVER = os.path.join(TOP, "build", "main", "tests", "unit", "http", "http_driver")
SEED = int(os.environ.get("HTTP_DIFFERENTIAL_SEED", "20"))
GENERATED = int(os.environ.get("HTTP_DIFFERENTIAL_CASES", "1500"))
H = b"Host: a.test\r\n"

# What has fooled parsers: each is also mutated.
KNOWN = [
    b"GET / HTTP/1.1\r\n" + H + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n" + H + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n"
    b"GET /b HTTP/1.1\r\n" + H + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5;x=\"y\"\r\nhello\r\n0\r\nX-A: 1\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5, 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: +5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 0x5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length : 5\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\nX-A: 1\r\n\r\nhello",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"X-A: b\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encodingx: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.0\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0x5\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5\nhello\n0\n\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5;\n\r\nhello\r\n0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhelloXX0\r\n\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n0\r\nContent-Length: 3\r\n\r\n",
    b"GET /a HTTP/1.1\r\n" + H + b"Host: b.test\r\n\r\n",
    b"GET http://b.test/a HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /a HTTP/1.1\n" + b"Host: a.test\n\n",
    b"GET /a HTTP/1.1\r\n" + H + b"X-A: b\rX-A: c\r\n\r\n",
    b"GET /a HTTP/1.1\r\n" + H + b"X-A: b\x00c\r\n\r\n",
    b"GET /a\tb HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /a  HTTP/1.1\r\n" + H + b"\r\n",
    b"GET  /a HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /a HTTP/1.1 \r\n" + H + b"\r\n",
    b"GET /a\r\n" + H + b"\r\n",
    b"\r\nGET /a HTTP/1.1\r\n" + H + b"\r\n",
    b"get /a HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /\xc3\xa9 HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /a#b HTTP/1.1\r\n" + H + b"\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
    b"GET /a HTTP/1.1\r\n" + H + b"Authorization: x\r\nAuthorization: y\r\n\r\n",
    b"PUT /a HTTP/1.1\r\n" + H + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"
    b"GET /b HTTP/1.1\r\n" + H + b"\r\n",
]
PIECES = [
    b"\r\n", b"\n", b"\r", b" ", b"\t", b"\x0b", b"\x00", b":", b";", b",", b"0", b"5", b"+", b"-", b"\"", b"\xa0",
    b"Content-Length: 5\r\n", b"Content-Length: 0\r\n", b"content-length: 3\r\n", b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: identity\r\n", b"transfer-encoding: Chunked\r\n", b"Host: b.test\r\n", b"X-A: 1\r\n",
    b"X-A:2\r\n", b" folded\r\n", b"GET /c HTTP/1.1\r\n" + H + b"\r\n", b"0\r\n\r\n", b"5\r\nhello\r\n",
    b"HTTP/1.0", b"HTTP/1.1", b"chunked", b"hello", b"%2e", b"?", b"/", b"_", b"Connection: close\r\n",
    b"Connection: X-A\r\n", b"Expect: 100-continue\r\n",
]


def mutate(random_, data):
    for _ in range(random_.choice((1, 1, 1, 2, 3))):
        at = random_.randrange(len(data) + 1)
        kind = random_.randrange(6)
        if kind == 0:
            data = data[:at] + random_.choice(PIECES) + data[at:]
        elif kind == 1:
            data = data[:at] + data[at + random_.choice((1, 1, 2, 5)):]
        elif kind == 2 and data:
            at = min(at, len(data) - 1)
            data = data[:at] + bytes([random_.randrange(256)]) + data[at + 1:]
        elif kind == 3:
            lines = data.split(b"\r\n")
            at = random_.randrange(len(lines))
            lines.insert(random_.randrange(len(lines)), lines[at])
            data = b"\r\n".join(lines)
        elif kind == 4:
            data = data[:at] + random_.choice(PIECES) + data[at + random_.choice((1, 2, 8)):]
        else:
            at = data.find(b"\r\n", random_.randrange(len(data) + 1))
            if at >= 0:
                data = data[:at] + random_.choice((b"\n", b"\r", b" \r\n", b"\r\r\n")) + data[at + 2:]
    return data


def cases():
    random_ = random.Random(SEED)
    yield from KNOWN
    for _ in range(GENERATED):
        yield mutate(random_, random_.choice(KNOWN))


@pytest.fixture(scope="module")
def ours():
    if not os.access(DRIVER, os.X_OK):
        pytest.skip(f"{DRIVER} is not built: run `make`")
    reader = readers.Ours(DRIVER)
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def others(tmp_path_factory):
    """Every other parser of this machine; what is absent is said once, in one skipped test."""
    found, missing = [readers.HttpServer()], []
    for name, make in (("python3-h11", readers.H11), ("python3-httptools", readers.Httptools)):
        try:
            found.append(make())
        except ImportError:
            missing.append(name)
    if shutil.which("node") or shutil.which("nodejs"):
        found.append(readers.Node())
    else:
        missing.append("nodejs")
    if shutil.which("go") or os.access("/usr/local/go/bin/go", os.X_OK):
        try:
            found.append(readers.Go(str(tmp_path_factory.mktemp("go"))))
        except (subprocess.SubprocessError, OSError):
            missing.append("a go that builds")
    else:
        missing.append("golang-go")
    yield found, missing
    for reader in found:
        reader.close()


@pytest.mark.parametrize("name", ["python3-h11", "python3-httptools", "nodejs", "go"])
def test_the_other_parser_is_there(others, name):
    """What the comparison below lacks is listed among the skipped, not silently absent."""
    lacking = [m for m in others[1] if m.endswith(name) or name in m]
    if lacking:
        pytest.skip(f"no {lacking[0]} on this machine: one parser less to compare with")


# These know no other methods than those of a list of theirs, which is no reading of the framing.
METHODS = ("DELETE", "GET", "HEAD", "POST", "PUT", "OPTIONS", "PATCH")
BY_LIST = ("http-parser", "node")


def first(reading):
    """Its first message, or None for a refusal, or () where it waits for more."""
    if reading is None:
        return None
    return reading[0] if reading else ()


def test_http_1_where_parsers_disagree_ours_refuses(ours, others):
    found, _ = others
    if len(found) < 2:
        pytest.skip("fewer than two other parsers")
    wrong, disagreements, taken = [], 0, 0
    for data in cases():
        mine, refused = ours.read(data)
        readings = {r.name: r.read(data) for r in found}
        for i, message in enumerate(mine):
            problem = judge(message, i, readings)
            if problem:
                wrong.append((data, message, problem, readings))
        taken += len(mine)
        accepted = [r for r in readings.values() if first(r)]
        disagreements += len({repr(first(r)) for r in accepted}) > 1
        assert refused != "fine"
    assert not wrong, report(wrong)
    assert taken > len(KNOWN) // 3 and disagreements > 10, (taken, disagreements)


def judge(mine, index, readings):
    """What is wrong with taking this message, given how the others read the same bytes."""
    seen = {}
    for name, reading in readings.items():
        messages = [None] if reading is None else reading
        if len(messages) > index and messages[index] is None:
            if name not in BY_LIST or mine[0] in METHODS:
                return f"{name} refuses it"
        elif len(messages) > index:  # else it stopped before, or waits for more: nobody is misled
            seen[name] = messages[index]
            problem = compare(mine, messages[index])
            if problem:
                return f"{name}: {problem}"
    if len({repr(bare(m)) for m in seen.values()}) > 1:
        return f"{', '.join(seen)} do not agree"
    return None


def bare(message):
    """Some leave the blanks around a value to their caller, and Go's JSON has no bytes that are no UTF-8."""
    return (*message[:2], [(n, v.strip(" \t").encode("ascii", "replace")) for n, v in message[2]], message[3])


def compare(mine, other):
    method, _, query, host, _, body, _ = mine
    if other[0] != method:
        return f"method {other[0]}"
    if other[3] != body:
        return f"body {other[3]!r}"
    _, mark, other_query = other[1].partition("?")
    if mark and other_query != (query or ""):
        return f"query {other_query}"
    if not mark and query is not None:
        return "no query"
    hosts = [v for n, v in other[2] if n == "host"]
    if len(hosts) != 1 or host_of(hosts[0]) != host:
        return f"hosts {hosts}"
    return None


def host_of(value):
    return value.strip(" \t").lower().partition(":")[0].rstrip(".")


def report(wrong):
    lines = [f"{len(wrong)} taken that others read otherwise; the first:"]
    for data, mine, problem, readings in wrong[:5]:
        lines.append(f"  {data!r}\n    ours: {mine}\n    {problem}")
        lines += [f"    {name}: {r}" for name, r in readings.items()]
    return "\n".join(lines)


# Readings that agree where ours accepts too: a strict parser that takes nothing would pass above.
PLAIN = [
    b"GET /a?b=c HTTP/1.1\r\n" + H + b"\r\n",
    b"POST /a HTTP/1.1\r\n" + H + b"Content-Length: 5\r\n\r\nhello",
    b"PUT /a HTTP/1.1\r\n" + H + b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    b"DELETE /a HTTP/1.1\r\nHost: a.test:8080\r\nX-A: 1\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\n" + H + b"\r\n",
]


@pytest.mark.parametrize("data", PLAIN)
def test_http_1_plain_requests_are_taken_by_all(ours, others, data):
    mine, refused = ours.read(data)
    assert refused is None and len(mine) == 1 and mine[0][6] == len(data)
    for reader in others[0]:
        if reader.name == "http.server" and b"chunked" in data:
            continue  # it knows nothing of it
        assert len(reader.read(data) or []) == 1, reader.name


@pytest.mark.parametrize("data", [d for d in KNOWN if d.count(b" HTTP/1.") == 2])
def test_l7_7_the_second_request_begins_where_all_say(ours, others, data):
    mine, refused = ours.read(data)
    assert refused is None and len(mine) == 2
    assert data[mine[0][6]:].startswith(b"GET /b ") and mine[1][6] == len(data)
    for reader in others[0]:
        got = reader.read(data)
        if reader.name != "http.server":
            assert got and len(got) == 2, reader.name
