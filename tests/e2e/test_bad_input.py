"""What bad input and a broken host get: one clear line, an exit code, nothing half-made."""

import os
import re
import shutil
import subprocess
import tarfile

import images
import pytest
import sandboxes
from sandboxes import Stopwatch, mounted, one_line, stretched

IMPORT = '"$BERM" image import --name busybox -q "$1" && '
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="mounts need root")


def share(berm):
    return os.path.join(os.path.dirname(os.path.dirname(berm.path)), "share", "berm")


@pytest.mark.parametrize("cold", [["--cold"], []], ids=["cold", "template"])
@pytest.mark.parametrize(
    "content",
    [b"", b"this is no kernel\n" * 1000, b"\x7fELF" + bytes(5000)],
    ids=["empty", "text", "elf"],
)
def test_kernel_that_is_none(broken, content, cold):
    with open(os.path.join(share(broken), "vmlinux"), "wb") as f:
        f.write(content)
    watch = Stopwatch()
    line = broken.refused(125, "run", *cold, "busybox", "true")
    assert "kernel" in line
    assert watch.seconds() < 15


@pytest.mark.parametrize("name, word", [("vmlinux", "kernel"), ("initramfs.cpio", "agent")])
def test_part_that_is_missing(broken, name, word):
    os.unlink(os.path.join(share(broken), name))
    line = broken.refused(125, "run", "busybox", "true")
    assert word in line and "not installed" in line


def test_agent_that_is_none(broken):
    """The kernel finds no /init and panics; its words are told."""
    with open(os.path.join(share(broken), "initramfs.cpio"), "wb") as f:
        f.write(bytes(4096))
    watch = Stopwatch()
    line = broken.refused(125, "run", "--cold", "busybox", "true")
    assert "anic" in line, line
    assert watch.seconds() < 30


@pytest.mark.parametrize("name", ["berm-supervisor", "engine", "berm-template"])
def test_program_that_is_missing(broken, name, engine):
    if name == "engine":
        name = sandboxes.ENGINE_PROGRAMS[engine][0]
    os.unlink(os.path.join(broken.libexec(), name))
    assert name in broken.refused(125, "run", "busybox", "true")


@ROOT
def test_qemu_that_is_missing(berm, bb):
    """An empty file system over the folder it is looked for in, seen by this one command only."""
    script = 'mount -t tmpfs none /tmp && mount --bind /dev/null "$(realpath /usr/bin/qemu-system-x86_64)"'
    script += ' && exec "$BERM" run --engine qemu --cold "$IMAGE" true'
    if berm.path.startswith("/tmp/") or berm.state_dir.startswith("/tmp/"):
        script = script.replace("mount -t tmpfs none /tmp && ", "")
    got = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script],
        env={**berm.env, "BERM": berm.path, "IMAGE": bb},
        capture_output=True,
        text=True,
        timeout=stretched(60),
        check=False,
    )
    assert got.returncode == 125, got
    line = one_line(got.stderr)
    assert "qemu" in line and "apt install" in line


def test_no_default_image(own_stage, fresh_berm):
    berm = sandboxes.Berm(fresh_berm.state_dir, str(own_stage))
    line = berm.refused(125, "run", "--", "true")
    assert "default" in line
    assert "image" in line


def test_image_whose_disk_is_damaged(fresh_berm, rootfs):
    images.import_image(fresh_berm, rootfs, "busybox")
    folder = os.path.join(fresh_berm.state_dir, "images")
    (one,) = [n for n in os.listdir(folder) if re.fullmatch("[0-9a-f]{64}", n)]
    disk = os.path.join(folder, one, "disk.sqfs")
    os.chmod(disk, 0o600)
    with open(disk, "r+b") as f:
        f.write(bytes(4096))
    watch = Stopwatch()
    got = fresh_berm.run("run", "--cold", "busybox", "true")
    assert got.returncode == 125
    one_line(got.stderr)
    assert watch.seconds() < 30


def test_image_whose_disk_is_cut(fresh_berm, rootfs):
    images.import_image(fresh_berm, rootfs, "busybox")
    folder = os.path.join(fresh_berm.state_dir, "images")
    (one,) = [n for n in os.listdir(folder) if re.fullmatch("[0-9a-f]{64}", n)]
    disk = os.path.join(folder, one, "disk.sqfs")
    os.chmod(disk, 0o600)
    os.truncate(disk, 1000)
    got = fresh_berm.run("run", "--cold", "busybox", "true")
    assert got.returncode == 125
    one_line(got.stderr)


def test_image_whose_description_is_damaged(fresh_berm, rootfs):
    images.import_image(fresh_berm, rootfs, "busybox")
    folder = os.path.join(fresh_berm.state_dir, "images")
    (one,) = [n for n in os.listdir(folder) if re.fullmatch("[0-9a-f]{64}", n)]
    path = os.path.join(folder, one, "image.json")
    os.chmod(path, 0o600)
    with open(path, "w", encoding="ascii") as f:
        f.write("{")
    line = fresh_berm.refused(125, "run", "busybox", "true")
    assert "image" in line


def test_state_that_is_a_file(stage, tmp_path):
    (tmp_path / "state").write_text("")
    line = sandboxes.Berm(tmp_path / "state", stage).refused(125, "run", "x", "true")
    assert str(tmp_path / "state") in line


def test_state_that_others_may_write_to(stage, tmp_path):
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o777)
    assert str(state) in sandboxes.Berm(state, stage).refused(125, "ps")


@ROOT
def test_state_on_another_file_system(fresh_berm, rootfs):
    script = IMPORT + 'for i in 1 2; do "$BERM" run busybox echo $i; done; '
    script += "find $STATE/sandboxes -mindepth 1 ! -name .names"
    got = mounted("size=600m", script, fresh_berm, str(rootfs))
    lines = got.stdout.split()
    assert (got.returncode, lines[1:]) == (0, ["1", "2"]), got


@ROOT
def test_state_that_is_read_only(fresh_berm, rootfs):
    script = IMPORT + 'mount -o remount,ro $STATE && "$BERM" run busybox true'
    got = mounted("size=100m", script, fresh_berm, str(rootfs))
    assert got.returncode == 125, got
    assert "read-only" in one_line(got.stderr).lower()


@ROOT
def test_disk_that_fills_while_importing(fresh_berm, rootfs):
    script = '"$BERM" image import --name busybox "$1"; code=$?; '
    script += "find $STATE/images -mindepth 1 ! -name .lock ! -name names; exit $code"
    got = mounted("size=1m", script, fresh_berm, str(rootfs))
    assert got.returncode == 10, got
    assert "full" in one_line(got.stderr)
    assert got.stdout == "", "half-made things are left"


@ROOT
@pytest.mark.parametrize("percent", [15, 50, 90])
def test_full_disk(fresh_berm, rootfs, percent):
    """Full while the template is made: earlier or later, by how much of it there is room for."""
    script = IMPORT + '"$BERM" run busybox true || exit 98; '
    script += 'room=$(($(du -s -B1 $STATE/templates | cut -f 1) * $2 / 100)); '
    script += "rm -rf $STATE/templates/*; "
    script += 'head -c $(($(df -B1 --output=avail $STATE | tail -1) - room)) /dev/zero '
    script += '> $STATE/ballast; "$BERM" run busybox true; code=$?; '
    script += 'sleep 1.1; "$BERM" ps >&2; find $STATE/sandboxes $STATE/templates -mindepth 1 '
    script += '! -name .names; exit $code'
    got = mounted("size=400m", script, fresh_berm, str(rootfs), str(percent))
    assert got.returncode == 125, got
    said = [line for line in got.stderr.splitlines() if line.startswith("berm: ")]
    assert len(said) == 1, got.stderr
    assert "full" in said[0] or "No space" in said[0], said
    assert got.stdout.split()[1:] == [], "half-made things are left"


@ROOT
def test_disk_that_fills_while_the_guest_writes(fresh_berm, rootfs):
    """The scratch disk is a sparse file, so the host can be full before the guest is."""
    script = IMPORT + '"$BERM" run busybox true && '
    script += 'head -c $(($(df -B1 --output=avail $STATE | tail -1) - 8000000)) /dev/zero > $STATE/ballast; '
    script += f'"$BERM" run --time {stretched(40):.0f}s busybox sh -c '
    script += '"cat /dev/zero > /big; sync; echo went on"; '
    script += "echo code $?; find $STATE/sandboxes -mindepth 1 ! -name .names"
    got = mounted("size=400m", script, fresh_berm, str(rootfs))
    assert got.stdout.split()[-2:] == ["code", "125"], got  # and nothing after it: no leftovers
    assert "went on" not in got.stdout
    assert "the disk with berm's state is full" in got.stderr, got


def test_two_with_one_name(berm, bb):
    with berm.detached("--name", "twin", bb, "sleep", "300"):
        line = berm.refused(125, "run", "--name", "twin", bb, "true")
        assert "twin" in line
    assert berm.ok("run", "--name", "twin", bb, "echo", "free again") == "free again\n"


@pytest.mark.parametrize("name", ["", "-x", "a/b", "..", "x" * 100, "a b", "\N{SNOWMAN}"])
def test_name_that_cannot_be(berm, bb, name):
    berm.refused(125, "run", "--name", name, bb, "true")


def test_archive_that_is_none(berm, tmp_path):
    path = tmp_path / "x.tar"
    path.write_bytes(b"no tar at all" * 1000)
    got = berm.run("image", "import", "--name", "x", path)
    assert got.returncode != 0
    one_line(got.stderr)


def test_archive_that_escapes(berm, tmp_path, rootfs):
    path = tmp_path / "x.tar"
    with tarfile.open(path, "w") as tar:
        images.add(tar, "../../../../tmp/escaped", b"x")
    before = os.path.exists("/tmp/escaped")
    got = berm.run("image", "import", "--name", "escaping", path)
    assert got.returncode != 0
    one_line(got.stderr)
    assert os.path.exists("/tmp/escaped") == before
    assert berm.run("run", "escaping", "true").returncode == 125


def test_minimum_level_that_cannot_be_had(berm, bb):
    line = berm.refused(125, "run", "--minimum", "microvm", "--engine", "qemu", bb, "true")
    assert "microvm" in line
