"""Templates: built once, restored afterwards, and never trusted when anything about them changed."""

import concurrent.futures
import os
import re
import shutil
import subprocess
import threading
import time

import images
import pytest
import sandboxes
from sandboxes import Stopwatch, finish, wait_for

FILES = ["ram", "state", "scratch", "meta"]
SMALL = ["-m", "64MiB", "--disk", "32MiB"]


def templates(berm):
    folder = os.path.join(berm.state_dir, "templates")
    return {n for n in os.listdir(folder) if len(n) == 16}


def start_of(berm, *args):
    code, said = berm.judged(*args, "busybox", "echo", "fine")
    assert (code, said["stdout"]) == (0, "fine\n"), said
    return said["result"]["start"]


@pytest.fixture
def small(fresh_berm, rootfs):
    """A fresh state with the small image and its template."""
    images.import_image(fresh_berm, rootfs, "busybox")
    assert start_of(fresh_berm, *SMALL) == "built"
    return fresh_berm


@pytest.mark.parametrize(
    "change",
    [
        ["-m", "65MiB", "--disk", "32MiB"],
        ["-m", "64MiB", "--disk", "33MiB"],
        [*SMALL, "--cpus", "2"],
        [*SMALL, "--warm", "true"],
    ],
    ids=["memory", "disk", "cpus", "warm"],
)
def test_key(small, change):
    assert start_of(small, *SMALL) == "restored"
    assert start_of(small, *change) == "built"
    assert start_of(small, *change) == "restored"
    assert start_of(small, *SMALL) == "restored"
    assert len(templates(small)) == 2


def test_what_is_not_in_the_key(small):
    """These come after the restore, so they cost no template."""
    flags = ["--pids", "77", "--time", "50s", "-e", "A=1", "--user", "dev", "--hostname", "h"]
    assert start_of(small, *SMALL, *flags) == "restored"
    assert len(templates(small)) == 1


def test_another_image_has_another_template(small, rootfs, tmp_path):
    other = tmp_path / "other.tar"
    images.docker_archive(other, rootfs, "other:latest", {"Cmd": ["sh"], "Labels": {"a": "b"}})
    images.import_image(small, other, "other")
    code, said = small.judged(*SMALL, "other", "echo", "fine")
    assert code == 0 and said["result"]["image"] == "other"
    assert start_of(small, *SMALL) == "restored"


def test_cold_start_neither_uses_nor_makes_one(small):
    shutil.rmtree(os.path.join(small.state_dir, "templates"))
    os.mkdir(os.path.join(small.state_dir, "templates"), 0o700)
    assert start_of(small, *SMALL, "--cold") == "cold"
    assert templates(small) == set()


def flip(path):
    with open(path, "r+b") as f:
        f.seek(os.path.getsize(path) // 2)
        byte = f.read(1)
        f.seek(-1, os.SEEK_CUR)
        f.write(bytes([byte[0] ^ 1]))


def truncate(path):
    os.truncate(path, os.path.getsize(path) // 2)


def replace(path):
    """By a copy with the same bytes and times: another file all the same."""
    shutil.copy2(path, path + ".new")
    os.replace(path + ".new", path)


def empty(path):
    os.truncate(path, 0)


@pytest.mark.parametrize("damage", [flip, truncate, os.unlink, replace, empty])
def test_damage_is_noticed(small, damage):
    """One state for all files: each is damaged, dropped and built anew."""
    for name in FILES:
        (one,) = templates(small)
        path = os.path.join(small.state_dir, "templates", one, name)
        damage(path)
        # meta is read whole each time, so another file with the same text is as good
        as_good = name == "meta" and damage is replace
        assert start_of(small, *SMALL) == ("restored" if as_good else "built"), name
        assert start_of(small, *SMALL) == "restored"


def test_first_pages_make_it_faster_or_nothing(small, engine):
    """Which pages guests of a template use first is kept beside it, and never believed."""
    (one,) = templates(small)
    path = os.path.join(small.state_dir, "templates", one, "wset")
    assert os.path.exists(path) == (engine == "kvm")
    honest = open(path, "rb").read() if engine == "kvm" else b"\1\0\0\0"
    for text in (honest, honest[:-1], b"", b"\xff" * 4096, honest[:4] + b"\xff" * len(honest)):
        with open(path, "wb") as f:
            f.write(text)
        assert start_of(small, *SMALL) == "restored"
    os.unlink(path)
    assert start_of(small, *SMALL) == "restored"


def test_damage_below_the_file_system_is_noticed_after_a_boot(small):
    """Times and sizes say nothing then; the hashes are looked at once per boot of the host."""
    (one,) = templates(small)
    folder = os.path.join(small.state_dir, "templates", one)
    with open(os.path.join(folder, "meta"), "r+b") as f:
        text = f.read()
        line = next(line for line in text.split(b"\n") if line.startswith(b"state "))
        wrong = line[:-1] + (b"1" if line[-1:] != b"1" else b"2")
        f.seek(0)
        f.write(text.replace(line, wrong))
    assert start_of(small, *SMALL) == "restored"  # verified in this boot already
    with open(os.path.join(folder, "verified"), "w", encoding="ascii") as f:
        f.write("00000000-0000-0000-0000-000000000000")
    assert start_of(small, *SMALL) == "built"


def test_two_first_starts_build_one(fresh_berm, rootfs):
    images.import_image(fresh_berm, rootfs, "busybox")
    seen = set()
    done = threading.Event()

    def watch():
        while not done.wait(0.01):
            seen.update(fresh_berm.by_program("berm-template"))

    watcher = threading.Thread(target=watch)
    watcher.start()
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        starts = list(pool.map(lambda _: start_of(fresh_berm, *SMALL), range(3)))
    done.set()
    watcher.join()
    assert len(templates(fresh_berm)) == 1
    assert set(starts) <= {"built", "restored"} and "built" in starts
    assert seen


def test_first_start_that_is_killed_leaves_the_other_alone(fresh_berm, rootfs):
    """Both want the same template; the one that builds it dies, the other builds it then."""
    images.import_image(fresh_berm, rootfs, "busybox")
    first = fresh_berm.start("run", *SMALL, "busybox", "echo", "first")
    wait_for("a builder", lambda: fresh_berm.by_program("berm-template"))
    second = fresh_berm.start("run", *SMALL, "busybox", "echo", "second")
    time.sleep(0.2)
    first.kill()
    finish(first, 10)
    code, out, err = finish(second, 60)
    assert (code, out) == (0, b"second\n"), err
    time.sleep(1.1)
    fresh_berm.ok("ps")


def test_a_builder_that_is_killed_frees_the_next_at_once(fresh_berm, rootfs):
    """By kill -9, in the middle of its work. Nothing of it is left then, nor of the other."""
    images.import_image(fresh_berm, rootfs, "busybox")
    flags = [*SMALL, "--warm", "test -e /w || sleep 2; touch /w"]
    first = fresh_berm.start("run", *flags, "busybox", "true")
    (builder,) = wait_for("a builder", lambda: fresh_berm.by_program("berm-template"))
    second = fresh_berm.start("run", *flags, "busybox", "echo", "second")

    def waits():
        return len(fresh_berm.by_program("berm-template")) == 2

    wait_for("one that waits", waits)
    os.kill(builder, 9)
    assert finish(first, 60)[0] == 125
    code, out, err = finish(second, 60)
    assert (code, out) == (0, b"second\n"), err
    time.sleep(1.1)
    fresh_berm.ok("ps")
    folder = os.path.join(fresh_berm.state_dir, "templates")
    assert set(os.listdir(folder)) == templates(fresh_berm)  # no lock, no draft


def test_waiting_for_anothers_template_is_said(fresh_berm, rootfs):
    images.import_image(fresh_berm, rootfs, "busybox")
    flags = [*SMALL, "--warm", "sleep 2"]
    first = fresh_berm.start("run", *flags, "busybox", "true")
    wait_for("a builder", lambda: fresh_berm.by_program("berm-template"))
    with fresh_berm.terminal("run", *flags, "busybox", "true", cols=100) as t:
        t.expect("waiting for another berm that prepares this template", 30)
        assert t.wait() == 0
    assert finish(first, 60)[0] == 0


def test_changed_installation_makes_a_new_one(small, stage, tmp_path):
    """The same bytes in another file: nobody reads 16 MB at each start to be sure of that."""
    copy = tmp_path / "stage"
    subprocess.run(["cp", "-r", stage, copy], check=True)
    other = sandboxes.Berm(small.state_dir, str(copy))
    assert start_of(other, *SMALL) == "built"
    assert start_of(small, *SMALL) == "restored"


def test_a_warm_up_command_ran_before_the_template_was_saved(small):
    flags = [*SMALL, "--warm", "echo warm > /root/warmed"]
    for _ in range(2):
        assert small.ok("run", *flags, "busybox", "cat", "/root/warmed") == "warm\n"


def found_in(berm, marks):
    """Those of the marks that stand in any file of the one template."""
    (one,) = templates(berm)
    folder = os.path.join(berm.state_dir, "templates", one)
    data = {name: open(os.path.join(folder, name), "rb").read() for name in os.listdir(folder)}
    return sorted({mark for mark in marks for text in data.values() if mark.encode() in text})


def warmed(berm, rootfs, tmp_path, own):
    """An image that keeps what its warm-up command is told, and has a variable."""
    config = {
        "Env": ["PATH=/bin:/usr/bin", f"OWN={own}"],
        "Labels": {"berm.warm": '["(env; pwd; id; hostname; cat /proc/self/mounts; cat) >/warm 2>&1"]'},
    }
    archive = images.docker_archive(tmp_path / "warmed.tar", rootfs, "warmed:latest", config)
    return images.import_image(berm, archive, "warmed")


def test_nothing_of_the_first_start_is_in_its_template(fresh_berm, rootfs, tmp_path):
    """Who starts from it next may have another policy, or be another user's guest."""
    mark = {name: f"mark{os.urandom(6).hex()}" for name in ("own", "env", "arg", "in", "host", "name", "allow", "key")}
    image = warmed(fresh_berm, rootfs, tmp_path, mark["own"])
    policy = ("--allow", f"{mark['allow']}.example", "--secret", f"KEY@{mark['allow']}.example")
    flags = ("-e", f"SAID={mark['env']}", "--name", mark["name"], "--hostname", mark["host"], "--user", "123")
    script = 'cat; hostname; env; cat /usr/local/share/ca-certificates/berm.crt'
    command = ("sh", "-c", script, mark["arg"])
    first = fresh_berm.run(
        "run", *SMALL, *policy, *flags, image, *command, input=mark["in"], env={"KEY": mark["key"]}
    )
    assert first.returncode == 0, first.stderr
    said = first.stdout
    assert all(mark[name] in said for name in ("own", "env", "in", "host")), said
    drawn = [re.search("^KEY=(.+)$", said, re.M).group(1)]  # the placeholder, and the guest's own authority
    drawn += said.partition("-BEGIN CERTIFICATE-----\n")[2].splitlines()[1:3]
    assert len(drawn) == 3, said
    assert found_in(fresh_berm, [*mark.values(), *drawn]) == [mark["own"]]
    later = fresh_berm.run("run", *SMALL, "--allow", "a.example", image, "cat", "/warm")
    lines = later.stdout.splitlines()
    assert f"OWN={mark['own']}" in lines and "/" in lines and "template" in lines, (later.stdout, later.stderr)
    assert len(templates(fresh_berm)) == 1
    assert not [m for name, m in mark.items() if name != "own" and m in later.stdout], later.stdout
    assert "uid=0" in later.stdout


def test_a_warm_up_command_that_fails_is_no_reason_to_fail(small):
    assert small.ok("run", *SMALL, "--warm", "no-such-command", "busybox", "echo", "x") == "x\n"


def test_restoring_is_faster_than_booting(small):
    """By a wide margin: this is what templates are for. No limit in seconds."""
    times = {}
    for name, flags in (("restore", []), ("boot", ["--cold"])):
        watch = Stopwatch()
        for _ in range(3):
            small.ok("run", *SMALL, *flags, "busybox", "true")
        times[name] = watch.seconds()
    assert times["restore"] < times["boot"], times
