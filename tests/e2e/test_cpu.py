"""What the guest's processor says it is."""

SHOW = "grep -m1 ^flags /proc/cpuinfo"
# What programs ask for and no baseline has. The machine may have none of it.
FANCY = {"avx512f", "avx512bw", "avx512vl", "avx_vnni", "vaes", "vpclmulqdq", "gfni", "amx_tile"}


def flags(berm, *words):
    return set(berm.ok("run", *words, "sh", "-c", SHOW).split(":")[1].split())


def own():
    with open("/proc/cpuinfo", encoding="ascii") as f:
        return set(next(line for line in f if line.startswith("flags")).split(":")[1].split())


def test_the_hosts_cpu(berm, bb, engine):
    """With --host-cpu a guest has more than the baseline, and never what opens another door."""
    if engine != "kvm":
        line = berm.refused(125, "run", "--host-cpu", bb, "true")
        assert "--host-cpu cannot work here" in line
        line = berm.refused(125, "run", "--host-cpu", "--engine", "qemu", bb, "true")
        assert "--host-cpu" in line
        return
    common = flags(berm, bb)
    assert {"lm", "ssse3", "sse4_2", "popcnt"} <= common
    whole = flags(berm, "--host-cpu", bb)
    assert common <= whole and not whole & {"svm", "vmx", "sgx"}
    assert whole & FANCY == own() & FANCY and not common & FANCY
    assert flags(berm, "--host-cpu", bb) == whole  # a template of its own
    assert flags(berm, bb) == common
