#!/usr/bin/python3 -ISu
"""Stands in for berm-gate (src/lib/companion.h): what to play is Python in `gate.py` beside this file,
which finds the names below. The end of the script waits for the supervisor's end, as a gate does.
"""

import os
import socket
import struct
import sys

here = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, here)
import netpeer  # noqa: E402

control = socket.socket(fileno=3)
link = socket.socket(fileno=4)
router = netpeer.Router(link)


def ready(pem="", name_hash=0):
    control.send(struct.pack("<BBHI", 1, 1, 0, name_hash) + pem.encode())


def mark(name, text=""):
    """Leaves a file beside this one, whole, for the test to wait for."""
    with open(os.path.join(here, name + "~"), "w") as f:
        f.write(text)
    os.rename(os.path.join(here, name + "~"), os.path.join(here, name))


def serve():
    router.serve()


exec(compile(open(os.path.join(here, "gate.py")).read(), "gate.py", "exec"))
control.recv(1)
