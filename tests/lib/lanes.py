"""Where the pytests of tests/run are that run side by side."""

import os
import shutil
import subprocess
import tempfile

STAGE = "build/stage"
OWN_MOUNTS = ["unshare", "--mount", "--propagation", "private", "--"]
MAX = 4  # pytests at once; each may have guests of some 512 MiB


def count(processors):
    """How many pytests at once. An ordinary user cannot tell his processes apart, nor mount."""
    if os.geteuid() != 0 or subprocess.run([*OWN_MOUNTS, "true"], capture_output=True, check=False).returncode:
        return 1
    return min(processors, MAX)


class Lane:
    """Tests look for what berm left behind, so each lane has what they look at for itself: an
    installation, temporary files and mounts. The rest they find by their own state directories.
    """

    def __init__(self, top, number, alone):
        self.top = top
        self.alone = alone  # the only one
        self.own = number > 0  # a copy of the installation
        self.stage = f"{top}/{STAGE}-{number}" if self.own else f"{top}/{STAGE}"
        self.tmp = None

    def __enter__(self):
        self.tmp = tempfile.mkdtemp(prefix="bt")
        os.chmod(self.tmp, 0o1777)  # as /tmp, for tests that run programs as somebody else
        if self.own:
            shutil.rmtree(self.stage, ignore_errors=True)
            subprocess.run(["cp", "-al", f"{self.top}/{STAGE}", self.stage], check=True)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.tmp, ignore_errors=True)
        if self.own:
            shutil.rmtree(self.stage, ignore_errors=True)

    def run(self, argv):
        """(exit code, output)"""
        if not self.alone:
            argv = [*OWN_MOUNTS, *argv]
        env = {**os.environ, "TMPDIR": self.tmp, "BERM_STAGE": self.stage}
        # a file and no pipe: one that a test left behind may hold it open for long
        with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as said:
            code = subprocess.run(
                argv, cwd=self.top, env=env, stdin=subprocess.DEVNULL, stdout=said, stderr=said, check=False
            ).returncode
            said.seek(0)
            return code, said.read()
