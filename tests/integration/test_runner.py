"""The runner must not call a failure a success: each way to fail is shown to it."""

import importlib.machinery
import importlib.util
import os

import pytest

TOP = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


@pytest.fixture
def runner():
    loader = importlib.machinery.SourceFileLoader("berm_tests_run", f"{TOP}/tests/run")
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def unit(runner, script):
    test = {"name": "x", "cmd": ["sh", "-c", script], "env": {}}
    passed, failed, skips, out = runner.run_unit(test, {})
    return passed, failed, skips, bool(out)


@pytest.mark.parametrize(
    "script,passed,failed",
    [
        ("echo ok a; echo '3 passed, 0 failed'", 3, 0),
        ("echo 'FAIL a: why'; echo '2 passed, 1 failed'; exit 1", 2, 1),
        ("echo '3 passed, 0 failed'; exit 1", 3, 1),  # a leak found after the count
        ("kill -9 $$", 0, 1),
        ("exit 0", 0, 1),  # says nothing: ran nothing
        ("echo '3 passed, 0 failed!'", 0, 1),
        ("no-such-program-here", 0, 1),
    ],
)
def test_unit_programs(runner, script, passed, failed):
    got = unit(runner, script)
    assert got == (passed, failed, [], failed > 0)


def test_a_missing_program_fails(runner):
    passed, failed, _, out = runner.run_unit({"name": "x", "cmd": ["/no/such"], "env": {}}, {})
    assert (passed, failed) == (0, 1)
    assert "No such file" in out


def test_a_program_that_hangs_fails(runner, monkeypatch):
    monkeypatch.setattr(runner, "TEST_SECONDS_MAX", 0.2)
    assert unit(runner, "exec sleep 60")[:2] == (0, 1)


def test_skips_keep_their_reasons(runner):
    got = unit(runner, "echo 'SKIP a: no /dev/kvm'; echo '0 passed, 0 failed'; exit 77")
    assert got == (0, 0, ["x: a: no /dev/kvm"], False)
    got = unit(runner, "exit 77")
    assert got == (0, 0, ["x: gives no reason"], False)


def test_the_last_line_and_the_exit_code(runner, capsys):
    for passed, failed, code in ((2, 0, 0), (2, 1, 1), (0, 0, 1), (0, 1, 1)):
        tally = runner.Tally()
        tally.group("x", passed, failed, 0.1)
        tally.skips.append("y: no z")
        assert tally.end() == code
        lines = capsys.readouterr().out.splitlines()
        assert lines[-1] == f"{passed} passed, {failed} failed"
        assert lines[-2] == "  y: no z"


JUNIT = """<?xml version="1.0"?><testsuites><testsuite>
<testcase classname="a" name="good"/>
<testcase classname="a" name="bad"><failure message="m">t</failure></testcase>
<testcase classname="a" name="broken"><error message="m">t</error></testcase>
<testcase classname="a" name="left out"><skipped message="no kvm"/></testcase>
</testsuite></testsuites>"""


def test_pytest_results(runner, tmp_path):
    (tmp_path / "j.xml").write_text(JUNIT)
    tally = runner.Tally()
    assert runner.read_junit(tmp_path / "j.xml", tally) == (1, 2)
    assert tally.skips == ["a.left out: no kvm"]


LUCK = """import os
def test_luck():
    assert os.path.exists({0!r}) or open({0!r}, "w").close()
def test_never():
    assert False
def test_never_too():
    assert False
def test_nor_this():
    assert False
def test_fine():
    pass
"""


@pytest.mark.parametrize(
    "only,passed,failed,again",
    [
        ("luck or fine", 2, 0, 1),
        ("luck or never or fine", 2, 2, 1),
        ("luck or never or nor or fine", 1, 4, 0),  # so many are no bad luck
        ("never", 0, 2, 0),
    ],
)
def test_a_second_try(runner, tmp_path, capfd, only, passed, failed, again):
    (tmp_path / "test_x.py").write_text(LUCK.format(f"{tmp_path}/seen"))
    runner.TOP = str(tmp_path)
    runner.built["stage"] = True
    tally = runner.Tally()
    runner.group_pytest(tally, ["test_x.py", "-k", only])
    assert (tally.passed, tally.failed, len(tally.again)) == (passed, failed, again)
    assert tally.end() == (1 if failed else 0)
    assert ("failed first, passed alone (1)" in capfd.readouterr().out) == bool(again)


APART = """import os, tempfile, time
def test_apart():
    open(os.path.join({0!r}, "{1}"), "w").close()
    open(os.path.join(tempfile.gettempdir(), "{1}"), "w").close()
    end = time.monotonic() + 60
    while "{2}" and not os.path.exists(os.path.join({0!r}, "{2}")) and time.monotonic() < end:
        time.sleep(0.01)
    assert os.listdir(tempfile.gettempdir()).count("{1}") == 1 and "{2}" not in os.listdir(tempfile.gettempdir())
    assert os.path.exists(os.environ["BERM_STAGE"] + "/bin/berm")
def test_luck():
    assert os.path.exists({0!r} + "/luck-{1}") or open({0!r} + "/luck-{1}", "w").close()
"""


@pytest.mark.parametrize("lanes", [1, 2])
def test_parts_side_by_side(runner, tmp_path, monkeypatch, capfd, lanes):
    """Two that wait for each other end only side by side; each has its own installation and TMPDIR."""
    if lanes > 1 and runner.lane_count() == 1:
        pytest.skip("this machine has one processor, or permits no mount namespace")
    seen = tmp_path / "seen"
    seen.mkdir()
    for name, other in (("one", "two"), ("two", "one")):
        (tmp_path / f"test_{name}.py").write_text(APART.format(str(seen), name, other if lanes > 1 else ""))
    (tmp_path / "build/stage/bin").mkdir(parents=True)
    (tmp_path / "build/stage/bin/berm").write_text("")
    monkeypatch.setattr(runner, "TOP", str(tmp_path))
    monkeypatch.setattr(runner, "lane_count", lambda: lanes)
    monkeypatch.setattr(runner, "pytest_parts", lambda: {"one": ["test_one.py"], "two": ["test_two.py"]})
    runner.built["stage"] = True
    tally, waited = runner.Tally(), []
    runner.group_pytest(tally, rest=lambda: waited.append(len(tally.again)))
    assert (tally.passed, tally.failed, len(tally.again), waited) == (4, 0, 2, [0])
    assert os.listdir(tmp_path / "build").count("stage-1") == 0
    assert "pytest, two: " in capfd.readouterr().out


def test_a_part_that_did_not_run_fails(runner, tmp_path, monkeypatch):
    monkeypatch.setattr(runner, "TOP", str(tmp_path))
    monkeypatch.setattr(runner, "lane_count", lambda: 1)
    monkeypatch.setattr(runner, "pytest_parts", lambda: {"none": ["test_none.py"]})
    runner.built["stage"] = True
    tally = runner.Tally()
    runner.group_pytest(tally)
    assert tally.passed == 0 and tally.failed > 0


def test_all_tests_are_in_one_part(runner):
    parts = runner.pytest_parts()
    guests = sorted(path for path in os.listdir(f"{TOP}/tests/e2e") if path.startswith("test_"))
    assert sorted(os.path.basename(p) for p in parts["e2e"] + parts["network"]) == guests
    assert parts["work"][0] in parts["integration"][1] and len(parts) == 4


def test_what_needs_a_build_fails_without_one(runner, capsys):
    runner.built.update({runner.MAIN: False, runner.ASAN: False, runner.TSAN: False, "stage": False})
    tally = runner.Tally()
    for name in ("unit", "asan", "tsan", "fuzz", "tidy", "pytest", "kvm"):
        runner.GROUPS[name](tally)
    assert (tally.passed, tally.failed) == (0, 7)
    assert capsys.readouterr().out.count("not run: ") == 7


def test_a_place_for_kvm(runner, tmp_path, monkeypatch):
    """The machine itself here, as a doctor has it who finds it healthy."""
    berm = tmp_path / "berm"
    berm.write_text('#!/bin/sh\necho \'{"level":"microvm","findings":[{"id":"kvm","text":"fine"}]}\'\n')
    berm.chmod(0o755)
    monkeypatch.setenv("BERM", str(berm))
    with runner.Place(f"test-{os.getpid()}", *runner.KVM_ROOM) as place:
        assert place.error is None
        assert place.run(["sh", "-c", "pwd; echo $A >&2; exit 3"], {"A": "b"}) == (3, f"{TOP}\nb\n")
        assert place.run(["sleep", "100"], timeout=0.2)[0] == 124
        test = {"name": "x", "cmd": ["sh", "-c", "echo '2 passed, 0 failed'"], "env": {"B": "c"}}
        assert runner.run_unit(test, {}, place.run) == (2, 0, [], "")
    assert os.listdir(place.folder) == []
    os.rmdir(place.folder)


def test_a_place_there_is_not(runner, monkeypatch):
    monkeypatch.setenv("BERM", "/usr/bin/false")
    with runner.Place(f"test-{os.getpid()}") as place:
        assert "doctor" in place.error
    os.rmdir(place.folder)


def test_which_guests_kvm_gets(runner, monkeypatch):
    monkeypatch.delenv("KVM_TESTS", raising=False)
    some = runner.kvm_tests()
    assert some and all(os.path.exists(f"{TOP}/{t.split('::')[0]}") for t in some)
    monkeypatch.setenv("KVM_TESTS", "all")
    assert runner.kvm_tests() == ["tests/e2e"]


def test_a_fuzz_target_that_crashes_is_a_failure(runner, tmp_path):
    target = tmp_path / "fuzz_x"
    target.write_text("#!/bin/sh\necho SUMMARY: it broke\nexit 77\n")
    target.chmod(0o755)
    runner.TOP = str(tmp_path)
    name, code, out, runs = runner.run_fuzz(str(target), 0)
    assert (name, code, runs) == ("x", 77, 0)
    assert "it broke" in out


HOST = """#!/bin/sh
# a test host that comes up the second time it is asked
for word; do last=$word; done
case "$*" in
*--start*) [ -e "%(folder)s/tried" ] || { : > "%(folder)s/tried"; echo "no answer"; exit 125; }
	echo "$*" > "%(folder)s/started"; %(mark)s ;;
*" -- "*) while [ "$1" != -- ]; do shift; done; shift; exec "$@" ;;
*--stop*) echo stopped >> "%(folder)s/stopped" ;;
esac
"""


def fake_host(runner, monkeypatch, tmp_path, direct):
    """The runner with a host of a few lines of shell, and the folder it leaves traces in."""
    tool = tmp_path / "kvmhost"
    mark = 'mkdir -p "$last"; : > "$last/direct"' if direct else ":"
    tool.write_text(HOST % {"folder": tmp_path, "mark": mark})
    tool.chmod(0o755)
    monkeypatch.setattr(runner, "KVMHOST", str(tool))
    monkeypatch.setattr(runner, "TOP", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("direct, slowness", [(True, 1), (False, 10)])
def test_a_host_is_booted_twice_and_the_first_time_is_told(
    runner, monkeypatch, tmp_path, capsys, direct, slowness
):
    folder = fake_host(runner, monkeypatch, tmp_path, direct)
    with runner.Place("x") as place:
        assert place.error is None
        assert place.slowness == slowness
        assert place.run(["sh", "-c", "echo out; exit 3"]) == (3, "out\n")
    said = capsys.readouterr().out
    assert "did not come up, 1 of 2 times" in said and "no answer" in said
    assert (folder / "stopped").read_text() == "stopped\n" * 2  # before the first and at the end


def test_a_host_that_never_comes_up_is_an_error(runner, monkeypatch, tmp_path, capsys):
    fake_host(runner, monkeypatch, tmp_path, False)
    monkeypatch.setattr(runner, "KVM_BOOTS_MAX", 1)
    with runner.Place("x") as place:
        assert "no answer" in place.error
    assert "1 of 1 times" in capsys.readouterr().out


def test_where_no_host_can_be_it_is_said(runner, monkeypatch):
    monkeypatch.setattr(runner, "run", lambda *_: (0, "Accelerators supported:\nkvm\n"))
    assert "no software CPU" in runner.kvm_impossible()
    monkeypatch.setattr(runner, "run", lambda *_: (127, "not found"))
    assert "no software CPU" in runner.kvm_impossible()
    monkeypatch.setattr(runner, "run", lambda *_: (0, "Accelerators supported:\ntcg\n"))
    assert runner.kvm_impossible() == ""
