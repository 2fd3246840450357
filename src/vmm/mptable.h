/*
 * mptable: the table that tells a kernel without ACPI which processors and interrupt lines there
 * are.
 *
 * Shape     a floating pointer at MPTABLE_AT, the table behind it; both in the last KiB below
 *           640 KiB, where kernels look
 * Says      CPU i has local APIC i; one ISA bus; one IOAPIC with MPTABLE_LINES pins, interrupt i of
 *           the bus on pin i, edge triggered and active high: virtio-mmio interrupts come from
 *           eventfds, which are edges
 * Source    Intel MultiProcessor Specification 1.4, chapter 4
 */
#pragma once

#include "base/own.h"

#include <stdint.h>

enum {
	MPTABLE_AT = 0x9fc00,
	MPTABLE_BYTES_MAX = 1024,
	MPTABLE_CPUS_MAX = 32,
	MPTABLE_LINES = 24,
};

/* The bytes to lay at MPTABLE_AT; cpus: 1 to MPTABLE_CPUS_MAX. Returns how many. */
uint32_t mptable_make(uint32_t cpus, uint8_t ret[MPTABLE_BYTES_MAX]);
