"""Fixtures of the black-box tests. They use the staged berm of build/stage, or of BERM_STAGE."""

import os
import shutil
import subprocess
import sys
import tempfile

import pytest

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib"))

import bermtest  # noqa: E402

ORDINARY_UID = 47000  # no account has it; one that has would do as well


def pytest_report_header():
    return f"berm: {bermtest.STAGE}"


@pytest.fixture(scope="session")
def stage():
    """The folder of the installation under test."""
    if not os.access(os.path.join(bermtest.STAGE, "bin", "berm"), os.X_OK):
        pytest.fail(f"no berm in {bermtest.STAGE}: run `make stage`")
    return bermtest.STAGE


@pytest.fixture(scope="session")
def shared_state(tmp_path_factory):
    """A state directory for the whole run, so that templates are built once."""
    folder = tmp_path_factory.mktemp("state")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def berm(stage, shared_state):
    """berm over the shared state. A test that leaves anything behind fails."""
    b = bermtest.Berm(shared_state, stage)
    yield b
    try:
        b.nothing_left()
    finally:
        b.clean_up()


@pytest.fixture
def fresh_berm(stage, tmp_path):
    """berm over a state directory of this test alone."""
    b = bermtest.Berm(tmp_path / "state", stage)
    yield b
    try:
        b.nothing_left()
    finally:
        b.clean_up()
        shutil.rmtree(tmp_path / "state", ignore_errors=True)


@pytest.fixture(scope="session")
def public_folder():
    """A folder that every user can look into; where the checkout is may not be."""
    folder = tempfile.mkdtemp(prefix="berm-public-", dir="/var/tmp")
    os.chmod(folder, 0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def public_stage(stage, public_folder):
    """The installation, copied to where an ordinary user can run it."""
    target = os.path.join(public_folder, "stage")
    subprocess.run(["cp", "-r", "--reflink=auto", stage, target], check=True)
    subprocess.run(["chmod", "-R", "a+rX", target], check=True)
    return target


@pytest.fixture(scope="session")
def user_state(public_folder):
    folder = os.path.join(public_folder, "state")
    os.mkdir(folder, 0o700)
    if os.geteuid() == 0:
        os.chown(folder, ORDINARY_UID, ORDINARY_UID)
    return folder


@pytest.fixture
def user_berm(public_stage, user_state):
    """berm as an ordinary user without any capability, whoever runs the tests."""
    user = ORDINARY_UID if os.geteuid() == 0 else None
    b = bermtest.Berm(user_state, public_stage, user)
    yield b
    try:
        b.nothing_left()
    finally:
        b.clean_up()
