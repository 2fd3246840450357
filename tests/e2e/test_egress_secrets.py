"""Secrets that never enter the guest: SEC-1 to SEC-16 of the acceptance catalogue, and where values must not be found.
The guest has placeholders; the origin sees the values where the policy binds them and nowhere else."""

import base64
import contextlib
import gzip
import io
import json
import re
import tarfile
import urllib.parse
import zlib

import leaks
import pytest
from egress_world import packages, plan
from searching import arguments, files_below, in_file, in_memory, seen_in

KEY = "sk-ant-api03-Qm9nVHZ0c1hLZWJ3R2xpT0ZyYVpwTnlDdQ-AA"
TOKEN = plan.TOKEN
PASSWORD = "p/a+s=s word-9f31"
NEW_KEY = "sk-ant-api03-ZZZ9nVHZ0c1hLZWJ3R2xpT0ZyYVpwTnlDdQ-BB"
VALUES = (KEY, TOKEN, PASSWORD, NEW_KEY)
POLICY = """
version: 1
network:
  rules:
    - { host: api.world.test, port: [80, 443] }
    - { host: h2.world.test, port: 443 }
    - { host: other.world.test, port: 443, inspect: true }
    - { host: away.world.test, port: 443, inspect: false }
    - { host: git.world.test, port: 443 }
    - { host: npm.world.test, port: 443 }
secrets:
  - { name: API_KEY, from: env, hosts: [api.world.test, h2.world.test], header: [x-api-key, authorization] }
  - { name: GIT_TOKEN, from: env, hosts: git.world.test, basic: password }
  - { name: QUERY_KEY, from: env, hosts: api.world.test, query: key }
  - { name: PATH_KEY, from: env, hosts: api.world.test, header: x-path-key, method: POST, path: /write/** }
  - { name: NPM_TOKEN, from: env, hosts: npm.world.test, header: { name: authorization, prefix: "Bearer " } }
  - { name: RIGID, from: env, hosts: api.world.test, header: { name: x-rigid, prefix: "Bearer " } }
"""
ENV = {"API_KEY": KEY, "GIT_TOKEN": TOKEN, "QUERY_KEY": PASSWORD, "PATH_KEY": KEY[::-1], "RIGID": "rigid-" + KEY[::-1],
       "NPM_TOKEN": "npm_" + KEY[13:40]}


@pytest.fixture(scope="module")
def shown(box):
    """What the guest has for each secret."""
    out = box.sh("env")
    found = dict(line.split("=", 1) for line in out.splitlines() if "=" in line)
    return {name: found[name] for name in ENV}


def test_what_the_guest_has_looks_real_and_is_not(box, shown):
    for name, value in ENV.items():
        assert shown[name] != value and not seen_in(shown[name].encode(), value)
        assert abs(len(shown[name]) - len(value)) <= 32
        assert re.fullmatch(r"[A-Za-z0-9._~+/=-]+", shown[name])
    assert shown["API_KEY"].startswith("sk-ant-") and shown["GIT_TOKEN"].startswith("ghp_")
    assert len(set(shown.values())) == len(shown)
    environment = box.sh("cat /proc/*/environ 2>/dev/null | tr '\\0' '\\n'")
    assert not [v for v in ENV.values() if v in environment]


def test_sec1_where_the_policy_binds_it(box, mark, shown):
    got = box.py("""
e = os.environ
b = base64.b64encode(("x:" + e["GIT_TOKEN"]).encode()).decode()
say(get("https://api.world.test/status/200", X_API_Key=e["API_KEY"])["status"])
say(get("https://api.world.test/status/200", Authorization="Bearer " + e["API_KEY"])["status"])
say(get("https://git.world.test/echo", Authorization="Basic " + b)["status"])
say(get("https://api.world.test/status/200?a=1&key=" + e["QUERY_KEY"] + "&z=2")["status"])
say(get("https://api.world.test/write/x", "POST", b"body", X_Path_Key=e["PATH_KEY"])["status"])
say(get("https://api.world.test/status/200", X_Rigid="Bearer " + e["RIGID"])["status"])
say(run("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", "x-api-key: " + e["API_KEY"],
        "https://h2.world.test/status/200")[1])
""")
    assert got == [200, 200, 200, 200, 200, 200, "200"], got
    requests = mark.requests()
    heads = [{k.lower(): v for k, v in r["headers"]} for r in requests]
    assert heads[0]["x-api-key"] == KEY and heads[1]["authorization"] == f"Bearer {KEY}"
    assert base64.b64decode(heads[2]["authorization"].split()[1]).decode() == f"x:{TOKEN}"
    query = urllib.parse.parse_qs(requests[3]["target"].partition("?")[2])
    assert query["key"] == [PASSWORD] and query["a"] == ["1"] and query["z"] == ["2"]
    assert heads[4]["x-path-key"] == ENV["PATH_KEY"] and requests[4]["body"]["data"] == b"body"
    assert heads[5]["x-rigid"] == "Bearer " + ENV["RIGID"]
    assert heads[6]["x-api-key"] == KEY
    whole = mark.bytes()
    assert not [name for name, word in shown.items() if word.encode() in whole]


# [url, headers, body], where {NAME} is that secret's placeholder; which one is told
ELSEWHERE = {
    "another host": ["https://other.world.test/echo", {"x-api-key": "{API_KEY}"}, None, "API_KEY"],
    "another header": ["https://api.world.test/echo", {"x-other": "{API_KEY}"}, None, "API_KEY"],
    "the path": ["https://api.world.test/echo/{API_KEY}", {}, None, "API_KEY"],
    "the query": ["https://api.world.test/echo?k={API_KEY}", {}, None, "API_KEY"],
    "the body": ["https://api.world.test/echo", {}, "it is {API_KEY} so", "API_KEY"],
    "a header's name": ["https://api.world.test/echo", {"{API_KEY}": "x"}, None, "API_KEY"],
    "the user": ["https://git.world.test/echo", {"authorization": "Basic {GIT_TOKEN:x:basic}"}, None, "GIT_TOKEN"],
    "the method": ["https://api.world.test/write/x", {"x-path-key": "{PATH_KEY}"}, None, "PATH_KEY"],
    "another path": ["https://api.world.test/other", {"x-path-key": "{PATH_KEY}"}, "", "PATH_KEY"],
    "without its prefix": ["https://api.world.test/echo", {"x-rigid": "{RIGID}"}, None, "RIGID"],
    "another secret's place": ["https://git.world.test/echo", {"authorization": "Basic {x:API_KEY:basic}"}, None,
                               "API_KEY"],
    "percent": ["https://other.world.test/echo?k={API_KEY:percent}", {}, None, "API_KEY"],
    "base64": ["https://other.world.test/echo", {}, "{xy:API_KEY:base64}", "API_KEY"],
    "hex": ["https://other.world.test/echo", {}, "{API_KEY:hex}", "API_KEY"],
    "JSON escapes": ["https://other.world.test/echo", {}, '{"a":"{API_KEY:json}"}', "API_KEY"],
    "a cookie": ["https://other.world.test/echo", {"cookie": "k={API_KEY}"}, None, "API_KEY"],
    "plain HTTP": ["http://api.world.test/echo", {"x-api-key": "{API_KEY}"}, None, "API_KEY"],
    "to HTTP/2": ["https://h2.world.test/echo", {}, "it is {API_KEY} so", "API_KEY"],
}
ASK_ELSEWHERE = r"""
import re
def coded(words):
    *words, how = words.split(":") if ":" in words else (words, "raw")
    raw = ":".join(os.environ.get(w, w) for w in words).encode()
    if how == "basic" or how == "base64":
        return base64.b64encode(raw if how == "basic" else raw.replace(b":", b"")).decode()
    return {"raw": raw.decode(), "hex": raw.hex(), "percent": "".join("%%%02x" % c for c in raw),
            "json": "".join("\\u%04x" % c for c in raw)}[how]
def filled(text):
    return re.sub("[{]([A-Za-z0-9_:]+)[}]", lambda m: coded(m[1]), text)
for name, (url, headers, body, _) in json.load(sys.stdin).items():
    headers = {filled(k): filled(v) for k, v in headers.items()}
    body = None if body is None else filled(body)
    r = get(filled(url), "GET" if body is None else "POST", body, **headers)
    say([name, r.get("status", r.get("fault")), r.get("json", {}).get("reason")])
"""


def test_sec2_sec3_sec4_anywhere_else_it_is_a_violation(box, mark, shown):
    got = box.py(ASK_ELSEWHERE, input=json.dumps(ELSEWHERE))
    assert [g for g in got if g[1:] != [403, "placeholder-elsewhere"]] == []
    whole = mark.bytes()
    for name, value in ENV.items():
        assert not seen_in(whole, value), name
        assert not seen_in(whole, shown[name]), name
    assert not [r for r in mark.requests() if r["whole"]]
    events = mark.events(event="violation")
    assert [e["secret"] for e in events] == [row[3] for row in ELSEWHERE.values()]
    assert {e["reason"] for e in events} == {"placeholder-elsewhere"} and not mark.events(event="refused")
    assert not [v for v in ENV.values() if seen_in(json.dumps(events).encode(), v)]


def test_sec2_over_http2(box, mark, shown):
    """Of three requests on one connection, the one with a placeholder in its body is refused."""
    out = box.sh("""cd /tmp; curl -sS --http2 -w '%{http_code} %{http_version} ' https://h2.world.test/status/200 -o 1 \
 --next -sS -w '%{http_code} ' https://h2.world.test/echo --data-binary "it is $API_KEY so" -o 2 \
 --next -sS -w '%{http_code}' https://h2.world.test/status/201 -o 3""")
    assert out.split() == ["200", "2", "403", "201"]
    assert not seen_in(mark.bytes(), shown["API_KEY"]) and len([r for r in mark.requests() if r["whole"]]) == 2
    assert mark.event(event="violation")["secret"] == "API_KEY"


def test_sec3_a_host_that_is_passed_through(box, mark, shown):
    """Nothing can be exchanged there: what arrives is the placeholder, which is worth nothing, and never the value."""
    box.py("say(get('https://away.world.test/echo', X_API_Key=os.environ['API_KEY']).get('status'))")
    whole = mark.bytes()
    assert not [v for v in VALUES if seen_in(whole, v)]


def test_sec4_sec5_split_over_pieces_and_compressed(box, mark, shown):
    got = box.py(r"""
import gzip, zlib
k = os.environ["API_KEY"].encode()
H = b"Host: other.world.test\r\nConnection: close\r\n"
def send(pieces, head=b""):
    s = tls("other.world.test")
    s.sendall(b"POST /upload HTTP/1.1\r\n" + H + head + b"Transfer-Encoding: chunked\r\n\r\n")
    try:
        for p in pieces:
            s.sendall(b"%x\r\n%b\r\n" % (len(p), p))
            time.sleep(0.02)
        s.sendall(b"0\r\n\r\n")
        got = s.recv(100).decode("latin-1")
    except OSError as e:
        got = fault(e)
    return got[:12]
say(send([b"abc" + k[:10], k[10:] + b"xyz"]))
say(send([bytes([c]) for c in b"ab" + k]))
say(send([gzip.compress(b"it is " + k)], b"Content-Encoding: gzip\r\n"))
say(send([zlib.compress(b"it is " + k)], b"Content-Encoding: deflate\r\n"))
say(send([b"p" * 60000 + k[:20], k[20:] + b"p" * 60000]))
e = base64.b64encode(b"x" * 30000 + k + b"y" * 30000)
say(send([e[i:i + 1000] for i in range(0, len(e), 1000)]))
say(send([b"nothing at all"]))
""")
    assert got[-1] == "HTTP/1.1 200" and all(g != "HTTP/1.1 200" for g in got[:-1]), got
    whole = mark.bytes()
    assert not seen_in(whole, shown["API_KEY"]) and not seen_in(whole, KEY)
    assert len([r for r in mark.requests() if r["whole"]]) == 1


HOWS = ["body", "header", "error", "json", "base64", "hex", "percent", "gzip", "deflate", "sse", "split", "trailer",
        "redirect"]


def test_sec6_what_echoes_the_value_is_scrubbed(box, mark, shown):
    """Whole answers as they came, of two origins, one of them with HTTP/2; and what compressed ones hold."""
    data = box.exec("sh", "-c", f"""mkdir /tmp/sec6 && cd /tmp/sec6
curl -sS -i --raw --http1.1 -H "x-api-key: $API_KEY" -H 'Accept-Encoding: gzip, deflate' -o '#1-#2' \
 'https://{{api,h2}}.world.test/reflect?as={{{','.join(HOWS)}}}&of=x-api-key' && tar -c *""", text=False)
    assert data.returncode == 0, data.stderr
    with tarfile.open(fileobj=io.BytesIO(data.stdout)) as tar:
        answers = {m.name: tar.extractfile(m).read() for m in tar.getmembers()}
    assert len(answers) == 2 * len(HOWS)
    for name, answer in answers.items():
        assert answer.startswith(b"HTTP/1.1 ") and not seen_in(answer, KEY), (name, answer)
        body = answer.partition(b"\r\n\r\n")[2]
        for unpack in (gzip.decompress, zlib.decompress):
            with contextlib.suppress(OSError, EOFError, zlib.error):
                assert not seen_in(unpack(body), KEY), name
    values = [v for r in mark.requests() for k, v in r["headers"] if k.lower() == "x-api-key"]
    assert values == [KEY] * len(answers)
    events = mark.events(event="scrubbed")
    for host in ("api.world.test", "h2.world.test"):
        assert len({e["flow"] for e in events if e["host"] == host}) == len(HOWS), events


def test_sec6_websockets_are_scrubbed(box, mark):
    out = box.sh(r"""python3 -c '
import asyncio, os, websockets
async def main():
    h = {"Authorization": "Bearer " + os.environ["API_KEY"]}
    async with websockets.connect("wss://api.world.test/ws", extra_headers=h) as ws:
        await ws.recv()
        await ws.send("auth")
        try:
            print(await ws.recv())
        except websockets.ConnectionClosed as e:
            print("closed", e.code)
asyncio.run(main())'""")
    assert not seen_in(out.encode(), KEY), out
    assert {k.lower(): v for k, v in mark.requests()[0]["headers"]}["authorization"] == f"Bearer {KEY}"


def test_sec7_a_redirect_carries_nothing_elsewhere(box, mark, shown):
    box.py("""say(run("curl", "-sSL", "-m", "60", "--location-trusted", "-H", "x-api-key: " + os.environ["API_KEY"],
        "https://api.world.test/redirect?to=https://other.world.test/echo")[0])""")
    for r in mark.requests(host="other.world.test"):
        assert KEY not in r["head"] and shown["API_KEY"] not in r["head"]


def test_sec8_rotation_and_revocation(box, mark, egress):
    ask = "say(get('https://api.world.test/echo', X_API_Key=os.environ['API_KEY']).get('status'))"
    try:
        egress.ok("secret", "set", box.id, "API_KEY", input=NEW_KEY + "\n")
        assert box.py(ask) == 200
        assert {k.lower(): v for k, v in mark.requests()[-1]["headers"]}["x-api-key"] == NEW_KEY
        listed = egress.ok("secret", "ls", box.id)
        assert "API_KEY" in listed and NEW_KEY not in listed and KEY not in listed
        placeholder = box.sh("printf %s $API_KEY")
        egress.ok("secret", "rm", box.id, "API_KEY")
        before = len(mark.requests())
        got = box.exec("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code}", "-H", f"x-api-key: {placeholder}",
                       "https://api.world.test/echo").stdout
        assert got != "200" and len(mark.requests()) == before
    finally:
        egress.ok("secret", "set", "--env", "OLD", box.id, "API_KEY", env={"OLD": KEY})
    placeholder = box.sh("printf %s $API_KEY")
    assert box.py(ask) == 200 and placeholder


@pytest.mark.parametrize("value, words", [("", "empty"), ("line\nbreak12", ""), ("x" * 20000, "16384"),
                                          ("short", "8 bytes")])
def test_sec9_values_that_cannot_be(egress, clients, value, words):
    line = egress.refused(125, "run", "--allow", "api.world.test", "--secret", "BAD@api.world.test", clients, "true",
                          env={"BAD": value})
    assert "BAD" in line and words in line and (len(value) < 6 or value not in line)


def test_sec9_a_secret_without_hosts(egress, clients, tmp_path):
    path = tmp_path / "p.yaml"
    path.write_text("version: 1\nsecrets:\n  - { name: X, from: env, hosts: [] }\n")
    assert "p.yaml:3" in egress.refused(125, "run", "--policy", str(path), clients, "true", env={"X": "x" * 20})
    egress.refused(125, "run", "--secret", "X", clients, "true", env={"X": "x" * 20})


def test_sec10_the_value_is_in_nothing_that_the_sandbox_left(box, mark, egress):
    """Memory of the guest's processes and of berm's but the vault's, its files, arguments and environments."""
    box.py("say(get('https://api.world.test/echo', X_API_Key=os.environ['API_KEY'])['status'])")
    found = []
    for pid in egress.alive():
        name = leaks.comm(pid)
        found += [(name, "arguments") for v in VALUES if v.encode() in arguments(pid)]
        if name != "berm-vault":
            found += [(name, "memory") for v in VALUES if in_memory(pid, v)]
    found += [path for path in files_below(egress.state_dir) for v in VALUES if in_file(path, v)]
    assert not found
    logs = egress.ok("logs", "--egress", "--json", box.id) + egress.ok("logs", box.id) + json.dumps(box.inspect())
    assert not [v for v in VALUES if v in logs]


def test_sec11_an_authorization_of_the_guests_own(box, mark):
    """What is no placeholder is the guest's business and goes as it is."""
    assert box.py("say(get('https://api.world.test/echo', Authorization='Bearer mine')['status'])") == 200
    assert {k.lower(): v for k, v in mark.requests()[0]["headers"]}["authorization"] == "Bearer mine"


def test_sec12_kill(new_box):
    policy = POLICY.replace("header: [x-api-key, authorization] }", "header: x-api-key, on_violation: kill }")
    with new_box(policy, env=ENV) as b:
        b.exec("sh", "-c", "curl -sS -m 60 https://other.world.test/echo -d $API_KEY")
        got = b.berm.run("wait", b.id, timeout=60)
        assert got.returncode in (125, 137), got.stderr
        assert [w for w in ("secret", "placeholder", "violation") if w in got.stderr.lower()], got.stderr
        assert KEY not in got.stdout + got.stderr


def test_sec13_one_that_is_for_nobody(new_box):
    """A secret for a host that no rule opens is bait: wherever its placeholder turns up, that ends the sandbox."""
    policy = POLICY + "  - { name: BAIT, from: env, hosts: bait.world.test, on_violation: kill }\n"
    with new_box(policy, env={**ENV, "BAIT": KEY[::-1]}) as b:
        mark = b.mark()
        b.exec("sh", "-c", "curl -sS -m 60 https://api.world.test/echo -H \"x-api-key: $BAIT\"")
        got = b.berm.run("wait", b.id, timeout=60)
        assert got.returncode in (125, 137) and not mark.requests(), got
        assert mark.event(event="violation")["secret"] == "BAIT"


def test_sec16_npm_with_a_token(box, mark, shown):
    out = box.sh(f"""mkdir -p /tmp/npm && cd /tmp/npm && echo '//npm.world.test/:_authToken=${{NPM_TOKEN}}' >.npmrc
npm install --silent {packages.NAME} >/dev/null && node -e 'require("{packages.NAME}")'; cat .npmrc""")
    assert out.splitlines() == [packages.SAYS, "//npm.world.test/:_authToken=${NPM_TOKEN}"]
    sent = {v for r in mark.requests(host="npm.world.test") for k, v in r["headers"] if k.lower() == "authorization"}
    assert sent == {"Bearer " + ENV["NPM_TOKEN"]}


def test_sec16_git_over_https(box, mark, shown):
    out = box.sh(f"""cd /tmp; rm -rf private; export GIT_TERMINAL_PROMPT=0
git clone -q https://x:$GIT_TOKEN@git.world.test/{packages.PRIVATE} private; cat private/README
cd private; date +%N >stamp; git add .; git -c user.name=t -c user.email=t@t commit -qm stamp
git push -q origin main && echo pushed; cat .git/config""")
    assert out.startswith(packages.SAYS) and "pushed" in out and TOKEN not in out
    assert shown["GIT_TOKEN"] in out  # what git wrote down is the placeholder
    assert [r for r in mark.requests() if "git-receive-pack" in r["target"]]
