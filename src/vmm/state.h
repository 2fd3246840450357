/*
 * state: a machine's saved state as sections of type, length and value; what devices and CPUs
 * write into and read out of.
 *
 * Hostile   a file to restore from is untrusted: state_parse.c is pure, and every reader checks
 *           each length, count and index as if the guest had sent it
 * Shape     header, then sections, then STATE_END. All numbers are little endian.
 *             header   8 bytes magic "BERMSNAP" | u16 major | u16 minor | u32 arch | u32 flags
 *                      | u32 section_count | u64 total_bytes
 *             section  u32 type | u32 flags | u32 instance | u32 bytes, then the payload, padded
 *                      with zeros to 8
 * Version   another major is refused; an unknown section is refused if STATE_CRITICAL, else
 *          skipped
 * Bounded   STATE_BYTES_MAX, STATE_SECTIONS_MAX
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/span.h"

enum {
	STATE_MAJOR = 1,
	STATE_MINOR = 0,
	STATE_ARCH_X86_64 = 1,
	STATE_CRITICAL = 1,
	STATE_HEADER_BYTES = 32,
	STATE_SECTION_BYTES = 16,
	STATE_SECTIONS_MAX = 128, /* 32 CPUs with one each, 16 devices, the machine */
	STATE_BYTES_MAX =
		4 << 20, /* 32 CPUs with 64 KiB each (AMX xsave is 11 KiB), and the rest */
};

enum state_type {
	STATE_HOST =
		1, /* CPU vendor, family, model; CPUID hash; kernel; TSC kHz; time of the save */
	STATE_MACHINE = 2, /* cpus, memory, command line's hash, devices present */
	STATE_VM = 3,      /* PICs, IOAPIC, clock */
	STATE_VCPU = 4,    /* instance: its index */
	STATE_MEMORY = 5,  /* size, layout, and where the file is whole */
	STATE_WSET = 6,    /* pages touched after a restore: extents */
	STATE_DEVICE = 7,  /* instance: slot on the bus; transport, then the device's own */
	STATE_END = 8,     /* no payload */
	STATE_TYPE_COUNT
};

struct state_section {
	uint32_t type;
	uint32_t flags;
	uint32_t instance;
	struct span payload; /* borrowed from the input */
};

/*
 * Writing, into an empty buf: header, then sections, each between begin and end, then finish,
 * which adds STATE_END and completes the header. Nesting is not possible. False from finish: it
 * did not fit, or was more than STATE_SECTIONS_MAX.
 */
void state_put_header(struct buf *b);
size_t state_begin(struct buf *b, uint32_t type, uint32_t flags, uint32_t instance);
void state_end(struct buf *b, size_t begun);
_must_ bool state_finish(struct buf *b);

/*
 * Reading, of the whole file in memory. The header answers for all of it: every section lies
 * within the file and is padded with zeros, there are as many as it says and no two of one type
 * and instance, STATE_END is the last and nothing follows, and no section that we do not know is
 * critical. 0; -EBADMSG: damaged; -ENOTSUP: of another major version, or with an unknown critical
 * section; -EXDEV: of another architecture. Only on success is `in` advanced past the header.
 *
 * Then one section a call, the last being STATE_END, which ret_sections does not count. A type
 * the caller does not know is to be skipped. What a payload says is still anybody's word.
 */
_must_ int state_parse_header(struct span *in, uint32_t *ret_sections);
_must_ int state_parse_section(struct span *in, struct state_section *ret);
