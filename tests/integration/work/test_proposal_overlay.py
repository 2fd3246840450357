"""An overlay of this machine's kernel, mounted as a guest's is, changed, and read as a proposal: the
marks that a kernel really writes are those that the export knows.
"""

import os
import subprocess

import pytest
from test_proposal import DIR, FIFO, FILE, MAIN, OPAQUE, OTHER, REDIRECT, WHITEOUT, Session

EXPORT = os.path.join(MAIN, "tests/integration/work/exportdrive")
OPTIONS = "lowerdir=tree,upperdir=m/up,workdir=m/work,metacopy=off,redirect_dir=on,xino=on,index=off"
MOUNT = f"""
set -e
mount -t tmpfs tmpfs m
mkdir m/up m/work m/mnt
mount -t overlay overlay -o {OPTIONS} m/mnt || exit 77
cd m/mnt
{{changes}}
cd ../..
{EXPORT} m/up spool.tar
"""
TEXT = 4


def nodes_of(session, changes):
    os.mkdir(os.path.join(session.path, "m"))
    got = subprocess.run(["unshare", "-m", "sh", "-c", MOUNT.format(changes=changes)], cwd=session.path,
                         capture_output=True, text=True, timeout=120, check=False)
    if got.returncode != 0 and os.geteuid() != 0:
        pytest.skip("only root may mount an overlay whose marks are the kernel's own")
    if got.returncode == 77:
        pytest.skip(f"this kernel mounts no such overlay: {got.stderr.strip()}")
    assert got.returncode == 0, got.stderr
    got = session.unpack(None)
    assert (got.returncode, got.stderr) == (0, "")
    return {path.decode(): (n["kind"], n["flags"] & ~TEXT, n["why"], n["target"].decode())
            for path, n in session.nodes().items()}


def test_what_a_kernel_writes_is_understood(tmp_path):
    changes = """
        rm a
        echo new >dir/file
        mv dir/sub dir/inner
        mv dir moved
        mkdir t
        mv moved t/m2
        rm t/m2/file
        mkdir dir
        echo n >dir/new
        rm link
        mkdir link
        mkfifo pipe
    """
    assert nodes_of(Session(str(tmp_path)), changes) == {
        "": (DIR, 0, 0, ""),
        "a": (WHITEOUT, 0, 0, ""),
        "dir": (DIR, OPAQUE, 0, ""),
        "dir/new": (FILE, 0, 0, ""),
        "link": (DIR, OPAQUE, 0, ""),
        "pipe": (OTHER, 0, FIFO, ""),
        "t": (DIR, OPAQUE, 0, ""),
        "t/m2": (DIR, REDIRECT, 0, "dir"),
        "t/m2/file": (WHITEOUT, 0, 0, ""),
        "t/m2/inner": (DIR, REDIRECT, 0, "dir/sub"),
        "t/m2/sub": (WHITEOUT, 0, 0, ""),
    }


def test_there_and_back_is_a_redirect_to_itself(tmp_path):
    nodes = nodes_of(Session(str(tmp_path)), "mv dir other\nmv other dir\nchmod 600 a")
    assert nodes["dir"] in ((DIR, REDIRECT, 0, "dir"), (DIR, 0, 0, ""))
    assert nodes["a"] == (FILE, 0, 0, "")
    assert not any(why for _, _, why, _ in nodes.values())
