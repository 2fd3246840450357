"""Rules about requests, and the one form of a path that is judged, recorded and sent: L7-1 to L7-14 and PATH-1 to
PATH-6 of the acceptance catalogue."""

import json

import pytest
from egress_world import packages, plan

POLICY = """
version: 1
network:
  rules:
    - host: api.world.test
      port: [80, 443]
      http:
        - { method: read-only, path: "/read/**" }
        - { method: write, path: "/write/**" }
        - { method: [GET, POST], path: "/echo" }
        - { method: GET, path: "/one/*/end" }
        - { method: GET, path: "/query", query: { kind: [a, b] } }
        - { method: GET, path: "/once", query: { id: { once: "1*" } } }
        - { method: GET, path: "/redirect" }
        - { method: GET, path: "/sse" }
        - { method: GET, path: "/ws" }
        - { method: GET, path: "/bytes" }
        - { method: [POST, PUT], path: "/upload" }
        - { method: any, path: "/any/**" }
    - { host: api.world.test, deny: true, http: [ { path: "/read/secret/**" }, { path: "/any/admin" } ] }
    - { host: h2.world.test, http: [ { method: GET, path: "/bytes" }, { method: GET, path: "/echo" } ] }
    - { host: other.world.test, port: 443, observe: true, http: [ { method: GET, path: "/echo" } ] }
    - host: git.world.test
      port: 443
      http: [ { method: read-only }, { method: POST, path: "/**/git-upload-pack" } ]
    - host: git.world.test
      deny: true
      http: [ { path: "/**/git-receive-pack" }, { path: "/**/info/refs", query: { service: git-receive-pack } } ]
    - { host: pypi.world.test, port: 443, http: [ { method: [GET, HEAD] } ] }
    - { host: files.world.test, port: 443, inspect: true }
    - { host: api.world.test, port: 7, http: [ { method: GET } ] }
"""
BASE = "https://api.world.test"


def statuses(box, *asked):
    """The status of each (method, path), or the word for what happened."""
    return box.py("""
for method, path in json.load(sys.stdin):
    url = path if path.startswith("http") else "https://api.world.test" + path
    r = get(url, method, b"x" if method in ("POST", "PUT", "PATCH") else None)
    say([r.get("status", r.get("fault")), r.get("json", {}).get("reason", "")])
""", input=json.dumps([list(a) for a in asked]))


def test_l7_1_methods(box, mark):
    got = statuses(box, ("GET", "/read/a"), ("HEAD", "/read/a"), ("OPTIONS", "/read/a"), ("POST", "/read/a"),
                   ("DELETE", "/read/a"), ("PUT", "/write/a"), ("DELETE", "/write/a"), ("HEAD", "/one/x/end"),
                   ("GET", "/nothing"))
    assert [g[0] for g in got] == [404, 404, 404, 403, 403, 404, 403, 404, 403]
    assert [g[1] for g in got] == ["", "", "", "method", "method", "", "method", "", "path"]
    assert [(r["method"], r["target"]) for r in mark.requests()] == [
        ("GET", "/read/a"), ("HEAD", "/read/a"), ("OPTIONS", "/read/a"), ("PUT", "/write/a"), ("HEAD", "/one/x/end")]
    events = mark.events(layer="http", event="refused")
    assert [(e["method"], e["path"], e["reason"]) for e in events] == [
        ("POST", "/read/a", "method"), ("DELETE", "/read/a", "method"), ("DELETE", "/write/a", "method"),
        ("GET", "/nothing", "path")]


def test_l7_2_globs_and_queries(box, mark):
    got = statuses(box, ("GET", "/one/x/end"), ("GET", "/one/x/y/end"), ("GET", "/read"), ("GET", "/read/a/b/c"),
                   ("GET", "/query?kind=a"), ("GET", "/query?kind=c"), ("GET", "/query"),
                   ("GET", "/query?kind=a&kind=c"), ("GET", "/once?id=17"), ("GET", "/once?id=1&id=12"),
                   ("GET", "/once?id=2"), ("GET", "/query?x=1;kind=a"))
    assert [g[0] for g in got] == [404, 403, 404, 404, 404, 403, 403, 403, 404, 403, 403, 403]


def test_l7_3_a_deny_rule_beats_what_allows(box, mark):
    got = statuses(box, ("GET", "/read/secret/x"), ("GET", "/any/admin"), ("GET", "/any/other"))
    assert got == [[403, "denied-by-rule"], [403, "denied-by-rule"], [404, ""]]
    assert [r["target"] for r in mark.requests()] == ["/any/other"]


def test_l7_4_observe_forwards_and_marks(box, mark):
    got = statuses(box, ("GET", "https://other.world.test/echo"), ("DELETE", "https://other.world.test/x"))
    assert [g[0] for g in got] == [200, 404]
    event = mark.event(event="observed", host="other.world.test")
    assert (event["method"], event["path"]) == ("DELETE", "/x") and event["reason"] in ("method", "path")


def test_l7_5_clone_and_no_push(box, mark):
    out = box.sh(f"""cd /tmp; rm -rf demo; git clone -q https://git.world.test/{packages.PUBLIC} demo; cat demo/README
cd demo; git -c user.name=t -c user.email=t@t commit -q --allow-empty -m x
git push origin main 2>&1; echo "push: $?"
curl -sS -X POST https://git.world.test/{packages.PUBLIC}/git-receive-pack""")
    assert out.startswith(packages.SAYS) and "403" in out and "push: 0" not in out
    assert '"denied-by-rule"' in out
    assert not [r for r in mark.requests() if "receive-pack" in r["target"]]
    got = mark.events(event="refused", host="git.world.test")
    assert [e["reason"] for e in got] == ["denied-by-rule"] * 2


def test_l7_5_a_registry_is_not_published_to(box, mark):
    got = statuses(box, ("GET", f"https://pypi.world.test/simple/{packages.NAME}/"),
                   ("POST", "https://pypi.world.test/legacy/"), ("PUT", "https://pypi.world.test/x"))
    assert [g[0] for g in got] == [200, 403, 403]


def test_l7_6_no_header_makes_another_method(box, mark):
    got = box.py("""
say(get("https://api.world.test/one/x/end", X_HTTP_Method_Override="DELETE")["status"])
say(get("https://api.world.test/read/x", "POST", b"", X_HTTP_Method_Override="GET")["status"])
say(get("https://api.world.test/read/x?_method=DELETE", "GET")["status"])
""")
    assert got[1] == 403
    for r in mark.requests():
        assert "method-override" not in r["head"].lower() or r["method"] == "GET"


def test_l7_7_a_refused_request_behind_an_allowed_one(box, mark):
    ask = "GET /echo HTTP/1.1\\r\\nHost: api.world.test\\r\\n\\r\\n"
    bad = "DELETE /echo HTTP/1.1\\r\\nHost: api.world.test\\r\\nConnection: close\\r\\n\\r\\n"
    got = box.py(f'say(raw("api.world.test", "{ask}{bad}"))')
    assert got.startswith("HTTP/1.1 200") and "HTTP/1.1 403" in got
    assert [r["method"] for r in mark.requests()] == ["GET"]
    assert b"DELETE" not in mark.bytes()


def test_l7_8_one_stream_is_refused_and_its_siblings_go_on(box, mark):
    out = box.sh("""curl -sS --parallel -w '%{url} %{http_code}\\n' -o /tmp/1 'https://h2.world.test/bytes?n=400000' \
 -o /tmp/2 https://h2.world.test/forbidden -o /tmp/3 'https://h2.world.test/bytes?n=400001'
wc -c </tmp/1; wc -c </tmp/3""")
    lines = sorted(out.splitlines())
    assert "400000" in lines and "400001" in lines
    assert sorted(line.split()[-1] for line in lines if " " in line) == ["200", "200", "403"]
    assert not [r for r in mark.requests() if r["target"] == "/forbidden"]


def test_l7_9_a_redirect_to_where_no_rule_is(box, mark):
    got = box.py("""
say(timed(run, "curl", "-sSL", "https://api.world.test/redirect?to=https://denied.world.test/"))
""")
    (code, _, words), seconds = got
    assert code == 6 and "denied.world.test" in words and seconds < 20
    assert mark.event(event="refused", layer="dns", host="denied.world.test")


def test_l7_11_a_websocket_needs_a_rule(box, mark):
    out = box.sh(r"""python3 -c '
import asyncio, websockets
async def main():
    try:
        async with websockets.connect("wss://api.world.test/elsewhere") as ws:
            print("open")
    except websockets.InvalidStatusCode as e:
        print(e.status_code)
    async with websockets.connect("wss://api.world.test/ws", max_size=None) as ws:
        print(await ws.recv())
        for n in (10, 70000, 1000000):
            await ws.send("x" * n)
            print(len(await ws.recv()))
        await ws.send(b"\0\1\2")
        print((await ws.recv()).hex())
        await ws.ping()
        await ws.send("close 4001")
        try:
            await ws.recv()
        except websockets.ConnectionClosed as e:
            print(e.code)
asyncio.run(main())'""")
    assert out.split() == ["403", "welcome", "10", "70000", "1000000", "000102", "4001"]
    assert [r["target"] for r in mark.requests()] == ["/ws"]


def test_l7_12_a_rule_about_requests_where_none_can_be_read(box, mark):
    assert box.py("say(tcp('api.world.test', 7, b'no http', 7))") in ("reset", "refused", "closed")
    mark.nothing_arrived(["api.world.test"])
    assert mark.event(event="refused", port=7)["reason"] in ("not-tls", "not-http")


def test_l7_13_events_come_as_they_are_sent(box, mark):
    got = box.py("""
s = tls("api.world.test")
s.sendall(b"GET /sse?n=4&ms=700 HTTP/1.1\\r\\nHost: api.world.test\\r\\n\\r\\n")
f, came = s.makefile("rb"), []
while len(came) < 4:
    line = f.readline()
    if line.startswith(b"data:"):
        came.append(time.monotonic())
say([b - a for a, b in zip(came, came[1:])])
""")
    assert all(gap > 0.2 for gap in got), got  # had they been kept back, all would come at once


def test_l7_13_large_bodies_in_bounded_memory(box, mark):
    """64 MB up, 128 MiB down; the gate and the vault stay small. Two gigabytes are for the benchmarks."""
    before = resident(box)
    out = box.sh("head -c 64000000 /dev/zero | curl -sS -T - -X PUT https://api.world.test/upload; echo; "
                 "curl -sS -r 0-134217727 https://files.world.test/256m | wc -c")
    up, down = out.splitlines()
    assert json.loads(up)["bytes"] == 64000000 and int(down) == 128 << 20
    grown = {name: (after - before[name]) >> 20 for name, after in resident(box).items()}
    assert max(grown.values()) < 32, grown


def resident(box):
    """{program: bytes in memory} of the gate and the vault of this sandbox."""
    found = {}
    for name in ("berm-gate", "berm-vault"):
        for pid in box.berm.by_program(name):
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                if box.id.encode() in f.read():
                    with open(f"/proc/{pid}/statm", encoding="ascii") as s:
                        found[name] = int(s.read().split()[1]) * 4096
    assert len(found) == 2, found
    return found


def test_l7_14_what_a_refusal_says(box, mark):
    got = box.py("say(get('https://api.world.test/nothing/here?token=verysecretvalue'))")
    assert got["status"] == 403 and got["headers"]["content-type"].startswith("application/json")
    said = got["json"]
    words = got["body"]
    assert said["reason"] == "path" and "verysecretvalue" not in words
    assert "/nothing/here" in said["message"] and "policy" in words
    assert "path: \"/nothing/here\"" in said["missing"] or "/nothing/here" in str(said["missing"])
    event = mark.event(event="refused", path="/nothing/here")
    assert str(event["flow"]) in str(said.get("id", said)) and "verysecretvalue" not in json.dumps(event)


# -- paths ----------------------------------------------------------------------------------------

SAME = [  # as it is asked, as it is judged and arrives
    ("/read/./a", "/read/a"),
    ("/read/x/../a", "/read/a"),
    ("/read/x/%2e%2e/a", "/read/a"),
    ("/read//a", "/read/a"),
    ("/read/%61", "/read/a"),
    ("/read/%c3%a9", "/read/%C3%A9"),
    ("/read/%252e%252e/a", "/read/%252e%252e/a"),
    ("/read/a;b=c", "/read/a%3Bb=c"),
    ("/read/a%2fb", "/read/a%2Fb"),  # which both its readings may do
]
REFUSED = [  # what climbs out of where a rule allows, or has no one meaning
    ("/read/../etc/passwd", (403, 400)), ("/../read/a", (400,)), ("/read/%2e%2e/%2e%2e/x", (400, 403)),
    ("/one/a%2fb/end", (400, 403)), ("/read/secret%2fx", (400, 403)),
    ("/read/a%5cb", (400,)), ("/read/a\\\\b", (400,)), ("/read/%00", (400,)),
    ("/read/%zz", (400,)), ("/read/%c0%af", (400,)), ("/read/%", (400,)), ("/read/..;/x", (400,)),
    ("/read/secret/../secret/x", (403,)), ("/read/%73ecret/x", (403,)), ("/read//secret//x", (403,)),
    ("/read/./secret/x", (403,)), ("/READ/a", (403,)), ("/read/a#f", (400,)),
]


def asked_raw(box, paths):
    return box.py("""
for p in json.load(sys.stdin):
    got = raw("api.world.test", "GET " + p + " HTTP/1.1\\r\\nHost: api.world.test\\r\\nConnection: close\\r\\n\\r\\n")
    say(int(got.split()[1]) if got.startswith("HTTP/") else got)
""", input=json.dumps(paths))


def test_path_1_to_3_one_form_is_judged_recorded_and_sent(box, mark):
    assert asked_raw(box, [a for a, _ in SAME]) == [404] * len(SAME)
    assert [r["target"] for r in mark.requests()] == [b for _, b in SAME]
    assert [e["path"] for e in mark.events(layer="http", event="allowed")] == [b for _, b in SAME]


def test_path_2_to_5_what_has_no_one_meaning_is_refused(box, mark):
    got = asked_raw(box, [a for a, _ in REFUSED])
    wrong = [(a, s) for (a, wanted), s in zip(REFUSED, got) if s not in wanted]
    assert not wrong
    assert not mark.requests()


def test_path_5_lengths_and_bytes(box, mark):
    long = "/read/" + "a" * (4096 - len("/read/"))
    got = asked_raw(box, [long, long + "a", "/read/\u00e9", "/read/\x01", "/read/a b"])
    assert got[0] == 404 and got[1] in (400, 414) and got[2:] == [400] * 3
    assert [len(r["target"]) for r in mark.requests()] == [4096]


def test_path_6_absolute_form(box, mark):
    got = asked_raw(box, ["https://api.world.test/read/a", "https://api.world.test/any/admin",
                          "https://denied.world.test/read/a", "http://api.world.test/read/a"])
    assert got[0] == 404 and got[1] == 403 and got[2] in (421, 400, 403) and got[3] in (400, 421, 403)
    assert [r["target"] for r in mark.requests()] == ["/read/a"]


@pytest.mark.parametrize("host", ["api.world.test"])
def test_plain_http_is_judged_by_each_request(box, mark, host):
    got = box.py("""
ask = "%s HTTP/1.1\\r\\nHost: %s\\r\\n\\r\\n"
say(raw("api.world.test", ask % ("GET /read/a", "api.world.test") + ask % ("DELETE /read/a", "api.world.test")
        + ask % ("GET /x", "api.world.test"), 80, secure=False, size=300))
say(raw("api.world.test", ask % ("GET /read/a", "denied.world.test"), 80, secure=False, size=12))
""")
    assert got[0].startswith("HTTP/1.1 404") and "HTTP/1.1 403" in got[0]
    assert got[1].split()[1] in ("403", "421")
    assert [(r["method"], r["host"]) for r in mark.requests()] == [("GET", host)]
    assert plan.A4 in {p[1] for p in mark.packets()} | {plan.A4}
