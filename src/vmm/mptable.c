#include "vmm/mptable.h"

#include "base/buf.h"

#include <assert.h>

enum {
	POINTER_BYTES = 16,
	CPU_BYTES = 20,
	OTHER_BYTES = 8,
	HEADER_BYTES = 44,
	REVISION = 4, /* 1.4 */
	LAPIC_VERSION = 0x14,
	IOAPIC_VERSION = 0x11,
	BUS = 0,
	ALL_LAPICS = 0xff,
	/* kinds of entries */
	KIND_CPU = 0,
	KIND_BUS = 1,
	KIND_IOAPIC = 2,
	KIND_INTERRUPT = 3,
	KIND_LOCAL = 4,
	/* kinds of interrupts */
	INT = 0,
	NMI = 1,
	EXTINT = 3,
	EDGE_HIGH = 5, /* polarity 1, trigger 1 */
	CPU_ENABLED = 1,
	CPU_BOOT = 2,
};
#define LAPIC_AT   UINT32_C(0xfee00000)
#define IOAPIC_AT  UINT32_C(0xfec00000)
#define CPU_FAMILY UINT32_C(0x600)                  /* any that has an APIC */
#define CPU_HAS    (UINT32_C(1) | UINT32_C(1) << 9) /* FPU and APIC, of CPUID 1 edx */

/* Makes all bytes from `begun` on sum up to 0 when it stands at `at`. */
static void put_checksum(struct buf *b, size_t begun, size_t at)
{
	uint8_t sum = 0;

	for (size_t i = begun; i < b->len; i++)
		sum = (uint8_t)(sum + b->at[i]);
	b->at[at] = (uint8_t)-sum;
}

static void put_zeros(struct buf *b, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		buf_put_u8(b, 0);
}

static void put_pointer(struct buf *b)
{
	buf_put(b, "_MP_", 4);
	buf_put_le32(b, MPTABLE_AT + POINTER_BYTES);
	buf_put_u8(b, POINTER_BYTES / 16);
	buf_put_u8(b, REVISION);
	put_zeros(b, 6); /* checksum; no default configuration: the table tells */
	put_checksum(b, 0, 10);
}

static void put_header(struct buf *b, uint32_t bytes, uint32_t count)
{
	buf_put(b, "PCMP", 4);
	buf_put_le16(b, (uint16_t)bytes);
	buf_put_u8(b, REVISION);
	buf_put_u8(b, 0); /* checksum */
	buf_put(b, "BERM    ", 8);
	buf_put(b, "MICROVM     ", 12);
	put_zeros(b, 6); /* no table of the maker's */
	buf_put_le16(b, (uint16_t)count);
	buf_put_le32(b, LAPIC_AT);
	put_zeros(b, 4); /* no extended table */
}

static void put_cpu(struct buf *b, uint32_t index)
{
	buf_put_u8(b, KIND_CPU);
	buf_put_u8(b, (uint8_t)index);
	buf_put_u8(b, LAPIC_VERSION);
	buf_put_u8(b, (uint8_t)(index == 0 ? CPU_ENABLED | CPU_BOOT : CPU_ENABLED));
	buf_put_le32(b, CPU_FAMILY);
	buf_put_le32(b, CPU_HAS);
	put_zeros(b, 8);
}

static void put_line(struct buf *b, uint8_t kind, uint8_t interrupt, uint16_t flags, uint8_t line,
                     uint8_t to, uint8_t pin)
{
	buf_put_u8(b, kind);
	buf_put_u8(b, interrupt);
	buf_put_le16(b, flags);
	buf_put_u8(b, BUS);
	buf_put_u8(b, line);
	buf_put_u8(b, to);
	buf_put_u8(b, pin);
}

uint32_t mptable_make(uint32_t cpus, uint8_t ret[MPTABLE_BYTES_MAX])
{
	uint8_t ioapic = (uint8_t)cpus; /* the first number no CPU has */
	uint32_t others = 2 + MPTABLE_LINES + 2;
	struct buf b;

	assert(cpus >= 1 && cpus <= MPTABLE_CPUS_MAX);
	buf_init(&b, ret, MPTABLE_BYTES_MAX);
	put_pointer(&b);
	put_header(&b, HEADER_BYTES + cpus * CPU_BYTES + others * OTHER_BYTES, cpus + others);
	for (uint32_t i = 0; i < cpus; i++)
		put_cpu(&b, i);

	buf_put_u8(&b, KIND_BUS);
	buf_put_u8(&b, BUS);
	buf_put(&b, "ISA   ", 6);

	buf_put_u8(&b, KIND_IOAPIC);
	buf_put_u8(&b, ioapic);
	buf_put_u8(&b, IOAPIC_VERSION);
	buf_put_u8(&b, 1); /* usable */
	buf_put_le32(&b, IOAPIC_AT);

	for (unsigned i = 0; i < MPTABLE_LINES; i++)
		put_line(&b, KIND_INTERRUPT, INT, EDGE_HIGH, (uint8_t)i, ioapic, (uint8_t)i);
	put_line(&b, KIND_LOCAL, EXTINT, 0, 0, ALL_LAPICS, 0);
	put_line(&b, KIND_LOCAL, NMI, 0, 0, ALL_LAPICS, 1);

	assert(buf_ok(&b) &&
	       b.len == POINTER_BYTES + HEADER_BYTES + cpus * CPU_BYTES + others * OTHER_BYTES);
	put_checksum(&b, POINTER_BYTES, POINTER_BYTES + 7);
	return (uint32_t)b.len;
}
