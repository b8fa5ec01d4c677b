"""A command under a kernel that refuses some calls, as file systems without locks and some containers do (seccomp)."""

import errno
import platform
import subprocess
import sys

import pytest

# Numbers of the calls on x86-64 and on 64-bit ARM.
_CALLS = {"flock": (73, 32), "sched_setaffinity": (203, 122)}

# prctl(2) and seccomp(2): no new privileges, then a filter of classic BPF. Each call to refuse takes two instructions:
# go on to the next pair if the number of the call is another one; return SECCOMP_RET_ERRNO with the error.
_START = """
import ctypes, os, struct, sys
calls = {calls}
filter = struct.pack("HBBI", 0x20, 0, 0, 0)
for number, error in calls:
    filter += struct.pack("HBBI", 0x15, 0, 1, number) + struct.pack("HBBI", 0x06, 0, 0, 0x50000 | error)
filter += struct.pack("HBBI", 0x06, 0, 0, 0x7FFF0000)
kept = ctypes.create_string_buffer(filter)
program = struct.pack("HxxxxxxP", len(filter) // 8, ctypes.addressof(kept))
libc = ctypes.CDLL(None, use_errno=True)
if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0):
    sys.exit("no seccomp: " + os.strerror(ctypes.get_errno()))
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run_with_refusals(refused: dict[str, int], *arguments: str, **options) -> subprocess.CompletedProcess:
    """Run Python with arguments; the calls named in ``refused`` fail with the given error numbers."""
    machine = {"x86_64": 0, "aarch64": 1}.get(platform.machine())
    if sys.platform != "linux" or machine is None:
        pytest.skip("seccomp is of Linux; the numbers of its calls are known for x86-64 and ARM")
    calls = [(_CALLS[name][machine], number) for name, number in refused.items()]
    assert all(number in errno.errorcode for _, number in calls)
    command = [sys.executable, "-c", _START.format(calls=calls), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)
