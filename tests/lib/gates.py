"""An installation whose gate is fake_gate.py."""

import contextlib
import os
import shutil

import sandboxes

HERE = os.path.dirname(os.path.abspath(__file__))
# the gate serves, and tells of each frame before it answers: once a guest has its answer, all may end
COUNTS = """
import json

def tell():
    mark('mark-counts', json.dumps([router.counts, router.wrong]))

def take(frame):
    netpeer.Router.frame(router, frame)
    tell()

def answer(frame):
    tell()
    netpeer.Router.send(router, frame)

tell()
router.frame, router.send = take, answer
serve()
"""


def install(libexec):
    shutil.copy(os.path.join(HERE, "fake_gate.py"), os.path.join(libexec, "berm-gate"))
    os.chmod(os.path.join(libexec, "berm-gate"), 0o755)
    shutil.copy(os.path.join(HERE, "netpeer.py"), libexec)
    play(libexec, "ready()\n" + COUNTS)


def play(libexec, script):
    """What the next gates do."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(os.path.join(libexec, "mark-counts"))
    with open(os.path.join(libexec, "gate.py"), "w") as f:
        f.write(script)


def processes():
    """The gates that run, of whatever test."""
    import leaks

    return {int(p) for p in os.listdir("/proc") if p.isdigit() and leaks.comm(p) == "berm-gate"}


def marked(libexec, name):
    path = os.path.join(libexec, name)
    sandboxes.wait_for(f"the gate came to {name}", lambda: os.path.exists(path))
    with open(path) as f:
        return f.read()
