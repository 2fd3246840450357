"""What libberm.so exports and needs, what its header promises, and who can compile it."""

import os
import re
import subprocess

import apitest
import bermtest
import pytest

# What a library that is a guest in a program must not even know the name of. It shares objects with
# the command line, so it knows fork, chdir and getenv; that it calls none of them in its host is for
# tests/unit/api/test_berm_host.c to say. Nor does it know what closes a jail: only its own programs do.
NEVER = """
exit quick_exit atexit on_exit system popen vfork _Fork pthread_atfork signal
printf vprintf puts putchar fputs fputc fprintf vfprintf perror stdout stderr dprintf
setenv unsetenv putenv clearenv setlocale umask fchdir srand rand
setuid setgid seteuid setegid setresuid setresgid setgroups initgroups tmpfile mktemp
unshare setns chroot pivot_root mount umount umount2 capset setrlimit setrlimit64 prlimit prlimit64
""".split()


def nm(stage, *flags):
    argv = ["nm", "-D", "--with-symbol-versions", *flags, apitest.library(stage)]
    return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.splitlines()


def exported(stage):
    rows = [line.split() for line in nm(stage, "--defined-only")]
    return sorted(row[2] for row in rows if row[1] != "A")


def functions_of_header():
    with open(apitest.HEADER, encoding="utf-8") as f:
        text = re.sub(r"/\*.*?\*/", "", f.read(), flags=re.DOTALL)
    return sorted(re.findall(r"BERM_API[^;]*?\b(berm_\w+)\(", text))


def test_symbols_are_the_committed_ones(stage):
    with open(os.path.join(apitest.HERE, "symbols.txt"), encoding="utf-8") as f:
        want = f.read().split()
    assert exported(stage) == want, "a change of the interface: see src/api/libberm.map"


def test_only_berm_is_exported(stage):
    assert all(re.fullmatch(r"berm_\w+@@BERM_\d+\.\d+", s) for s in exported(stage))


def test_header_and_library_agree(stage):
    assert functions_of_header() == [s.split("@")[0] for s in exported(stage)]


def test_what_a_guest_in_a_program_never_calls(stage):
    needed = {line.split()[-1].split("@")[0] for line in nm(stage, "-u")}
    assert not needed & set(NEVER), needed & set(NEVER)


def test_few_libraries_are_needed(stage):
    argv = ["readelf", "-d", apitest.library(stage)]
    text = subprocess.run(argv, capture_output=True, text=True, check=True).stdout
    needed = set(re.findall(r"\(NEEDED\).*\[(.*?)\]", text))
    # the last three read policies
    assert needed <= {"libc.so.6", "libjansson.so.4", "ld-linux-x86-64.so.2", "libyaml-0.so.2",
                      "libidn2.so.0", "libmd.so.0"}, needed
    assert "[libberm.so.0]" in text
    assert "TEXTREL" not in text and "(RPATH)" not in text and "(RUNPATH)" not in text


def test_every_function_is_in_the_manual():
    with open(os.path.join(bermtest.TOP, "docs/man/libberm.3.scd"), encoding="utf-8") as f:
        text = f.read().replace("\\_", "_")
    assert [f for f in functions_of_header() if f not in text] == []


C_PROGRAM = """
#include <berm.h>
int main(void) { struct berm_command c = { 0 }; return berm_version() == 0 || c.size; }
"""
CXX_PROGRAM = """
#include <berm.h>
int main() { berm_command c{}; c.size = sizeof(c); return berm_version() == nullptr || !c.size; }
"""


@pytest.mark.parametrize("std", ["c99", "c11", "gnu17"])
@pytest.mark.parametrize("compiler", ["gcc", "clang-14"])
def test_c_programs_compile(stage, tmp_path, compiler, std):
    source = tmp_path / "program.c"
    source.write_text(C_PROGRAM)
    flags = [f"-std={std}", "-Wpedantic", "-Wconversion", "-Wstrict-prototypes", "-Wundef"]
    program = apitest.build(stage, source, tmp_path / "program", compiler, flags)
    assert subprocess.run([program], check=False).returncode == 0


@pytest.mark.parametrize("std", ["c++11", "c++17", "c++20"])
def test_cxx_programs_compile(stage, tmp_path, std):
    """clang compiles C++ that needs no C++ library; g++ as well, where it is installed."""
    source = tmp_path / "program.cc"
    source.write_text(CXX_PROGRAM)
    for compiler in ["clang-14", *apitest.compilers("g++")]:
        flags = [f"-std={std}", "-Wpedantic", "-Wold-style-cast"]
        program = apitest.build(stage, source, tmp_path / "program", compiler, flags)
        assert subprocess.run([program], check=False).returncode == 0


def test_version_is_the_projects(stage):
    with open(os.path.join(bermtest.TOP, "meson.build"), encoding="utf-8") as f:
        version = re.search(r"version: '([^']+)'", f.read()).group(1)
    assert apitest.pkg_config(stage, "--modversion") == [version]
    with open(apitest.HEADER, encoding="utf-8") as f:
        text = f.read()
    parts = [re.search(rf"BERM_VERSION_{n} (\d+)", text).group(1) for n in ("MAJOR", "MINOR")]
    assert parts == version.split(".")[:2]
