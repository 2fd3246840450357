"""What the kernel's bench and initcall table share: a tiny initrd, and QEMU as the engine runs it."""
import os
import subprocess

HERE = os.path.dirname(os.path.abspath(__file__))

# PIT and RTC are not luxuries: without a PIT the local APIC timer cannot be calibrated and is
# turned off, and the kernel polls a missing RTC for a whole second.
MACHINE = "microvm,acpi=off,rtc=on,pit=on,pic=on,isa-serial=off"
# With erms and fsrm, memory is cleared by "rep stosb", which is emulated byte by byte.
CPU = "max,-erms,-fsrm"


def compile_static(source, target):
    subprocess.run(["musl-gcc", "-O2", "-static", "-s", "-o", target,
                    os.path.join(HERE, source)], check=True)


def build_initrd(work, programs):
    """programs: source file to name in the guest's root."""
    root = os.path.join(work, "root")
    os.makedirs(os.path.join(root, "dev"))
    for source, name in programs.items():
        compile_static(source, os.path.join(root, name))
    initrd = os.path.join(work, "initrd")
    with open(initrd, "wb") as out:
        subprocess.run("find . | cpio -o -H newc --quiet", shell=True, cwd=root, check=True,
                       stdout=out)
    return initrd


def kernel_words(work):
    """kernel/cmdline, and the one word the engine has to measure."""
    with open(os.path.join(HERE, "..", "cmdline"), encoding="ascii") as f:
        words = f.read().split()
    tool = os.path.join(work, "tsc")
    compile_static("tsc.c", tool)
    khz = subprocess.run([tool], check=True, capture_output=True, text=True).stdout.strip()
    return words + [f"tsc_early_khz={khz}"]


def qemu(vmlinux, initrd, words, machine=MACHINE, accel="tcg,thread=multi", cpu=CPU, smp=1,
         mem=512, binary="qemu-system-x86_64"):
    return [binary, "-M", machine, "-accel", accel, "-cpu", cpu, "-smp", str(smp),
            "-m", str(mem), "-nodefaults", "-no-user-config", "-nographic", "-no-reboot",
            "-global", "virtio-mmio.force-legacy=false",
            "-kernel", vmlinux, "-initrd", initrd, "-append", " ".join(words),
            # two ports: every further one costs two virtqueues at boot
            "-device", "virtio-serial-device,max_ports=2"]
