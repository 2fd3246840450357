"""The short form of tests/soak: a few rounds of mixed traffic, after which gate and vault are as large as before."""

import shutil
import sys

import pytest
import rig
from egress_world.world import World

sys.path.insert(0, f"{rig.TOP}/tests/soak")
import soak  # noqa: E402

pytestmark = pytest.mark.skipif(bool(rig.WHY_NOT), reason=rig.WHY_NOT or "-")
FIRST, MORE = 3, 5
GROWTH_KIB_MAX = 3072  # how the heap is torn is chance; what a round leaves would be there five times
FILES_MAX = 16  # connections that are just ending, and idle ones of the vault's


def test_some_rounds_of_everything_leave_nothing_behind(tmp_path):
    world = World(tmp_path / "world")
    (tmp_path / "rig").mkdir()
    try:
        box = rig.Rig(world, tmp_path / "rig", ["host: files.world.test, port: 443"])
        try:
            s = soak.Soak(box)
            early = [s.round() for _ in range(FIRST)][-1]
            late = [s.round() for _ in range(MORE)][-1]
            assert (s.wrong, box.log()) == ([], "")
            assert s.records > 100 * s.rounds
            for who in soak.WHO:
                assert late[who]["Anonymous"] - early[who]["Anonymous"] <= GROWTH_KIB_MAX, (who, early, late)
                assert late[who]["files"] - early[who]["files"] <= FILES_MAX, (who, early, late)
            assert box.stats("vault")["open_requests"] <= 4
        finally:
            box.close()
    finally:
        world.close()
        shutil.rmtree(tmp_path / "world", ignore_errors=True)
