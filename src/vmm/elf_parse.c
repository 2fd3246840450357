#include "vmm/elf_parse.h"

#include "base/ck.h"

#include <errno.h>

enum {
	EHDR_BYTES = 64,
	PHDR_BYTES = 56,
	TYPE_EXECUTABLE = 2,
	TYPE_SHARED = 3, /* relocatable kernels are linked so */
	MACHINE_X86_64 = 62,
	NOTE_PVH = 18, /* XEN_ELFNOTE_PHYS32_ENTRY */
};

static bool take_ident(struct span *s)
{
	static const char want[] = { 0x7f, 'E', 'L', 'F', 2, 1, 1 }; /* 64-bit, little, version 1 */
	struct span ident;

	return take_span(s, 16, &ident) &&
	       span_equal(span_of(ident.at, sizeof(want)), span_of(want, sizeof(want)));
}

struct header {
	uint16_t type;
	uint16_t machine;
	uint64_t entry;
	uint64_t phoff;
	uint16_t phentsize;
	uint16_t phnum;
};

static bool take_header(struct span *s, struct header *h)
{
	uint32_t version;
	uint64_t shoff;
	uint32_t flags;
	uint16_t ehsize;

	return take_le16(s, &h->type) && take_le16(s, &h->machine) && take_le32(s, &version) &&
	       take_le64(s, &h->entry) && take_le64(s, &h->phoff) && take_le64(s, &shoff) &&
	       take_le32(s, &flags) && take_le16(s, &ehsize) && take_le16(s, &h->phentsize) &&
	       take_le16(s, &h->phnum) && version == 1;
}

static bool take_segment(struct span *s, struct elf_segment *ret)
{
	uint64_t vaddr;
	uint64_t align;
	uint32_t flags;

	return take_le32(s, &ret->kind) && take_le32(s, &flags) && take_le64(s, &ret->offset) &&
	       take_le64(s, &vaddr) && take_le64(s, &ret->paddr) &&
	       take_le64(s, &ret->file_bytes) && take_le64(s, &ret->mem_bytes) &&
	       take_le64(s, &align);
}

/* Neither end may wrap, and what is in memory holds what is in the file. */
static bool segment_is_sane(const struct elf_segment *g)
{
	uint64_t end;

	return ck_add(g->offset, g->file_bytes, &end) && ck_add(g->paddr, g->mem_bytes, &end) &&
	       (g->kind != ELF_LOAD || g->file_bytes <= g->mem_bytes);
}

int elf_parse(struct span start, struct elf_file *ret)
{
	struct elf_file got = { 0 };
	struct span s = start;
	struct header h;
	struct span table;
	uint64_t end;

	if (start.len >= 16 && !take_ident(&s))
		return -EBADMSG;
	if (start.len < EHDR_BYTES)
		return -EAGAIN;
	if (!take_header(&s, &h) || h.machine != MACHINE_X86_64 ||
	    (h.type != TYPE_EXECUTABLE && h.type != TYPE_SHARED) || h.phentsize != PHDR_BYTES ||
	    h.phnum == 0 || h.phnum > ELF_SEGMENTS_MAX)
		return -EBADMSG;
	if (!ck_add(h.phoff, (uint64_t)h.phnum * PHDR_BYTES, &end) || end > ELF_START_BYTES)
		return -EBADMSG;
	if (end > start.len)
		return -EAGAIN;
	table = span_of(start.at + h.phoff, (size_t)(end - h.phoff));
	for (unsigned i = 0; i < h.phnum; i++)
		if (!take_segment(&table, &got.segments[i]) || !segment_is_sane(&got.segments[i]))
			return -EBADMSG;
	got.entry = h.entry;
	got.segment_count = h.phnum;
	*ret = got;
	return 0;
}

/* Name and value are padded to 4 bytes each; the last one's padding may be missing. */
static bool take_padded(struct span *s, uint32_t len, struct span *ret)
{
	struct span pad;
	size_t rest;

	if (!take_span(s, len, ret))
		return false;
	rest = (4 - len % 4) % 4;
	if (rest > s->len)
		rest = s->len;
	return take_span(s, rest, &pad);
}

static bool take_entry(struct span value, uint64_t *ret)
{
	uint32_t low;

	if (value.len == 8)
		return take_le64(&value, ret);
	if (value.len != 4 || !take_le32(&value, &low))
		return false;
	*ret = low;
	return true;
}

int elf_parse_pvh_entry(struct span notes, uint64_t *ret_entry)
{
	for (int n = 0; notes.len > 0; n++) {
		uint32_t name_len;
		uint32_t value_len;
		uint32_t type;
		struct span name;
		struct span value;
		uint64_t entry;

		if (n == ELF_NOTE_COUNT_MAX)
			return -EBADMSG;
		if (!take_le32(&notes, &name_len) || !take_le32(&notes, &value_len) ||
		    !take_le32(&notes, &type) || !take_padded(&notes, name_len, &name) ||
		    !take_padded(&notes, value_len, &value))
			return -EBADMSG;
		if (type != NOTE_PVH || !span_equal(name, span_of("Xen", 4)))
			continue;
		if (!take_entry(value, &entry) || entry > UINT32_MAX)
			return -EBADMSG;
		*ret_entry = entry;
		return 0;
	}
	return -ENOENT;
}
