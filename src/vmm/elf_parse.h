/*
 * elf_parse: as much of ELF as it takes to know a PVH kernel and to load it.
 *
 * Hostile   the file may be anything a user points at
 * Shape     64-bit little-endian x86-64 executable; its segments; a note "Xen" of type 18 whose
 *           value is the physical address of the 32-bit entry point
 * Units     bytes and addresses as the file has them; offsets are not checked against the file
 * Errors    -EAGAIN: more of the file's start is needed; -EBADMSG: not such a file
 * Source    System V ABI, chapter 4 and 5; linux/include/xen/interface/elfnote.h
 */
#pragma once

#include "base/span.h"

enum {
	ELF_SEGMENTS_MAX = 16,  /* a kernel has 4 to 6 */
	ELF_START_BYTES = 4096, /* headers of every kernel lie in the first page */
	ELF_NOTES_MAX = 65536,  /* bytes of one note segment we look at */
	ELF_NOTE_COUNT_MAX = 1024,
};

enum elf_segment_kind { ELF_LOAD = 1, ELF_NOTE = 4 };

struct elf_segment {
	uint32_t kind;   /* program header type */
	uint64_t offset; /* in the file */
	uint64_t file_bytes;
	uint64_t mem_bytes; /* at least file_bytes */
	uint64_t paddr;
};

struct elf_file {
	uint64_t entry;
	unsigned segment_count;
	struct elf_segment segments[ELF_SEGMENTS_MAX];
};

/* The first bytes of a file (ELF_START_BYTES or all of it). */
_must_ int elf_parse(struct span start, struct elf_file *ret);

/* The bytes of a note segment. -ENOENT: well formed, but no PVH entry point in it. */
_must_ int elf_parse_pvh_entry(struct span notes, uint64_t *ret_entry);
