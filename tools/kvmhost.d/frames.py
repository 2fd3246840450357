"""The frames that tools/kvmhost, its keeper and the runner in the test host send each other.

A frame is: request id (u32), kind (one ASCII byte), length (u32), payload; little endian.
"""

import struct

HEADER = struct.Struct("<IcI")
PAYLOAD_MAX = 1 << 20

# to the runner
SETUP = b"S"  # JSON: what to mount; once, before anything else
RUN = b"R"  # JSON: argv, env, cwd, user
KILL = b"K"  # ends that command: TERM, and what is left of it a little later KILL
POWER_OFF = b"P"
# from the runner
READY = b"H"  # JSON: kernel; once
OUT = b"O"
ERR = b"E"
EXIT = b"X"  # JSON: code, and why if it never ran


class Broken(Exception):
    """The other side sent what is no frame."""


def frame(request, kind, payload=b""):
    return HEADER.pack(request, kind, len(payload)) + payload


class Reader:
    """Cuts a stream into frames."""

    def __init__(self):
        self.held = bytearray()

    def feed(self, data):
        """(request, kind, payload) of each frame that is whole by now."""
        self.held += data
        whole = []
        at = 0
        while len(self.held) - at >= HEADER.size:
            request, kind, length = HEADER.unpack_from(self.held, at)
            if length > PAYLOAD_MAX:
                raise Broken(f"a frame of {length} bytes")
            end = at + HEADER.size + length
            if len(self.held) < end:
                break
            whole.append((request, kind, bytes(self.held[at + HEADER.size : end])))
            at = end
        del self.held[:at]
        return whole
