"""What people do with it: git on a real repository, Python's own tests, a program with files."""

import json
import os
import re
import subprocess

import pytest

PROGRAM = '''
import collections, csv, hashlib, json, pathlib, sqlite3, sys, zipfile
rows = list(csv.DictReader(sys.stdin))
db = sqlite3.connect("/tmp/work.db")
db.execute("create table sales (region text, amount real)")
db.executemany("insert into sales values (?, ?)", [(r["region"], float(r["amount"])) for r in rows])
totals = dict(db.execute("select region, sum(amount) from sales group by region order by region"))
out = pathlib.Path("/tmp/report"); out.mkdir()
for region, total in totals.items():
    (out / f"{region}.json").write_text(json.dumps({"region": region, "total": total}))
with zipfile.ZipFile("/tmp/report.zip", "w", zipfile.ZIP_DEFLATED) as z:
    for path in sorted(out.iterdir()):
        z.write(path, path.name)
assert zipfile.ZipFile("/tmp/report.zip").testzip() is None
print(json.dumps({"rows": len(rows), "totals": totals}))
sys.exit(0 if len(rows) == 5000 else 1)
'''
UNITTEST = '''
import json, re, unittest

class Real(unittest.TestCase):
    def test_json_round_trips(self):
        for value in (None, True, -1, 1.5, "\\u2603\\U0001f600", [1, [2, {"a": []}]], {"": {"b": "c"}}):
            self.assertEqual(json.loads(json.dumps(value)), value)
    def test_json_refuses(self):
        for text in ("", "{", "[1,]", "nul", '{"a" 1}', '"\\x01"'):
            self.assertRaises(ValueError, json.loads, text)
    def test_re(self):
        self.assertEqual(re.findall(r"(?<=-)\\w+", "spam-egg -x"), ["egg", "x"])
        self.assertEqual(re.sub(r"(\\w)(\\w)", r"\\2\\1", "abcd"), "badc")
        self.assertIsNone(re.fullmatch(r"(a|b)*c", "abab"))

unittest.main()
'''


@pytest.fixture
def guest(berm):
    """The default image, with its own python3 and git, in the background."""
    with berm.detached("--", "sleep", "3600") as sandbox:
        yield sandbox


def git(folder, *args):
    env = {**os.environ, "GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    who = ["-c", "user.name=Tester", "-c", "user.email=tester@example.com"]
    got = subprocess.run(["git", *who, *args], cwd=folder, env=env, capture_output=True, text=True, check=True)
    return got.stdout


@pytest.fixture
def bundle(tmp_path):
    """A repository of 60 commits with branches and a binary, as a bundle."""
    folder = tmp_path / "repo"
    folder.mkdir()
    git(folder, "init", "-q", "-b", "main")
    for i in range(60):
        (folder / f"file{i % 7}.txt").write_text("line\n" * (i + 1))
        (folder / "data.bin").write_bytes(bytes(range(256)) * (i + 1))
        git(folder, "add", ".")
        git(folder, "commit", "-q", "-m", f"change {i}")
        if i == 30:
            git(folder, "branch", "side")
    git(folder, "bundle", "create", "-q", str(tmp_path / "repo.bundle"), "--all")
    return folder, tmp_path / "repo.bundle"


def test_git(berm, guest, bundle, tmp_path):
    folder, path = bundle
    berm.ok("cp", path, f"{guest}:/root/repo.bundle")
    script = """
set -e
cd /root
git clone -q repo.bundle work -b main
cd work
git fsck --full --strict 2>/dev/null
git log --oneline | wc -l
git config user.name Guest; git config user.email guest@example.com
echo 'from the guest' >> file0.txt
git diff --stat | tail -1
git commit -q -am 'made in the guest'
git checkout -q -b topic origin/side && git rebase -q main && git log -1 --format=%s
git bundle create -q /root/back.bundle main
git status --porcelain | wc -l
"""
    lines = berm.ok("exec", guest, "sh", "-c", script).splitlines()
    assert lines == ["60", " 1 file changed, 1 insertion(+)", "made in the guest", "0"]
    berm.ok("cp", f"{guest}:/root/back.bundle", tmp_path / "back.bundle")
    git(folder, "pull", "-q", "--ff-only", str(tmp_path / "back.bundle"), "main")
    assert git(folder, "log", "-1", "--format=%an: %s") == "Guest: made in the guest\n"
    assert (folder / "file0.txt").read_text().endswith("from the guest\n")


def test_git_through_stdin(berm, bundle):
    _, path = bundle
    script = "cat > /tmp/b && git clone -q /tmp/b /tmp/w -b main && git -C /tmp/w rev-parse HEAD"
    got = berm.ok("run", "--", "sh", "-c", script, input=path.read_bytes())
    assert got.strip() == git(bundle[0], "rev-parse", "HEAD").strip()


def test_program_with_files(berm):
    rows = "".join(f"region{i % 4},{i}.25\n" for i in range(5000))
    got = berm.run("run", "--", "python3", "-c", PROGRAM, input="region,amount\n" + rows)
    assert got.returncode == 0, got.stderr
    said = json.loads(got.stdout)
    assert said["rows"] == 5000
    assert said["totals"]["region1"] == sum(i + 0.25 for i in range(1, 5000, 4))


def test_unit_tests_of_python(berm):
    got = berm.run("run", "--", "python3", "-", "-v", input=UNITTEST)
    assert got.returncode == 0, got.stderr
    assert re.search(r"Ran 3 tests", got.stderr)


def test_modules_of_python_test_themselves(berm):
    """The doctests that the library ships in its own modules."""
    script = """
import doctest, importlib, sys
for name in ("difflib", "heapq", "textwrap", "fractions", "collections", "random", "statistics"):
    module = importlib.import_module(name)
    failed, ran = doctest.testmod(module, extraglobs={name: module})
    print(name, ran)
    assert not failed
"""
    got = berm.run("run", "--", "python3", "-c", script)
    assert got.returncode == 0, got.stdout + got.stderr
    assert sum(int(line.split()[1]) for line in got.stdout.splitlines()) > 100


def test_processes_threads_and_pipes(berm):
    script = """
import concurrent.futures, multiprocessing, os, socket, subprocess, threading
with concurrent.futures.ProcessPoolExecutor(3) as pool:
    assert list(pool.map(abs, range(-50, 0))) == list(range(50, 0, -1))
assert subprocess.run("seq 1000 | sort -rn | head -1", shell=True, capture_output=True).stdout == b"1000\\n"
server = socket.create_server(("127.0.0.1", 0))
threading.Thread(target=lambda: server.accept()[0].sendall(b"hi")).start()
assert socket.create_connection(server.getsockname()).recv(9) == b"hi"
print(os.cpu_count(), "fine")
"""
    assert berm.ok("run", "--cpus", "2", "--", "python3", "-c", script).strip() == "2 fine"


def test_package_manager_finds_no_network(berm):
    """It fails soon and says so, it does not hang."""
    got = berm.run("run", "--time", "60s", "--", "apt-get", "-o", "Acquire::Retries=0", "update")
    assert got.returncode != 124
