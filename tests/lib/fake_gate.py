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
import fake_control as say  # noqa: E402
import netpeer  # noqa: E402

control = say.Control()
link = socket.socket(fileno=4)
vault = socket.socket(fileno=5)
router = netpeer.Router(link)
ready = control.ready
mark = say.marker(here)


def serve():
    router.serve()


exec(compile(open(os.path.join(here, "gate.py")).read(), "gate.py", "exec"))
control.over.wait()
