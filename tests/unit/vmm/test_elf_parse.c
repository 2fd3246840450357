#include "base/buf.h"
#include "guardpage.h"
#include "test.h"
#include "vmm/elf_parse.h"

#include <errno.h>
#include <string.h>

enum { FILE_MAX = 512 };

struct file {
	uint8_t bytes[FILE_MAX];
	struct buf b;
};

static void put_segment(struct buf *b, uint32_t kind, uint64_t offset, uint64_t paddr,
                        uint64_t file_bytes, uint64_t mem_bytes)
{
	buf_put_le32(b, kind);
	buf_put_le32(b, 5);
	buf_put_le64(b, offset);
	buf_put_le64(b, 0xffffffff81000000);
	buf_put_le64(b, paddr);
	buf_put_le64(b, file_bytes);
	buf_put_le64(b, mem_bytes);
	buf_put_le64(b, 4096);
}

static void put_file(struct file *f, uint16_t segments)
{
	buf_init(&f->b, f->bytes, sizeof(f->bytes));
	buf_put(&f->b,
	        "\x7f"
	        "ELF\2\1\1\0\0\0\0\0\0\0\0",
	        16);
	buf_put_le16(&f->b, 2);
	buf_put_le16(&f->b, 62);
	buf_put_le32(&f->b, 1);
	buf_put_le64(&f->b, 0x1000000);
	buf_put_le64(&f->b, 64);
	buf_put_le64(&f->b, 0);
	buf_put_le32(&f->b, 0);
	buf_put_le16(&f->b, 64);
	buf_put_le16(&f->b, 56);
	buf_put_le16(&f->b, segments);
	buf_put_le16(&f->b, 64);
	buf_put_le32(&f->b, 0);
}

static struct file kernel(void)
{
	static struct file f;

	put_file(&f, 2);
	put_segment(&f.b, ELF_LOAD, 0x200000, 0x1000000, 0x1000, 0x2000);
	put_segment(&f.b, ELF_NOTE, 0x201000, 0x1001000, 0x54, 0x54);
	return f;
}

TEST(a_kernel_is_read)
{
	struct file f = kernel();
	struct elf_file got;

	CHECK_EQ(elf_parse(span_of(f.bytes, f.b.len), &got), 0);
	CHECK_EQ(got.entry, 0x1000000);
	CHECK_EQ(got.segment_count, 2);
	CHECK_EQ(got.segments[0].kind, ELF_LOAD);
	CHECK_EQ(got.segments[0].offset, 0x200000);
	CHECK_EQ(got.segments[0].paddr, 0x1000000);
	CHECK_EQ(got.segments[0].file_bytes, 0x1000);
	CHECK_EQ(got.segments[0].mem_bytes, 0x2000);
	CHECK_EQ(got.segments[1].kind, ELF_NOTE);
}

TEST(every_prefix_needs_more)
{
	struct file f = kernel();

	for (size_t n = 0; n < f.b.len; n++) {
		struct elf_file got;

		CHECK_EQ(elf_parse(guard_span(f.bytes, n), &got), -EAGAIN);
	}
}

TEST(other_files_are_refused)
{
	static const struct {
		size_t at;
		uint8_t byte;
	} wrong[] = {
		{ 0, 'M' },        /* magic */
		{ 4, 1 },          /* 32-bit */
		{ 5, 2 },          /* big endian */
		{ 16, 1 },         /* object file */
		{ 18, 183 },       /* aarch64 */
		{ 20, 2 },         /* version */
		{ 39, 0x80 },      /* program headers far away */
		{ 33, 0x40 },      /* beyond the first page */
		{ 54, 32 },        /* size of one */
		{ 56, 0 },         /* none */
		{ 56, 17 },        /* too many */
		{ 64 + 33, 0x30 }, /* more in the file than in memory */
	};
	struct elf_file got;
	struct elf_file before;

	memset(&got, 0xa5, sizeof(got));
	before = got;
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct file f = kernel();

		f.bytes[wrong[i].at] = wrong[i].byte;
		if (elf_parse(span_of(f.bytes, f.b.len), &got) != -EBADMSG)
			test_fail(__FILE__, __LINE__, "took byte %zu", wrong[i].at);
	}
	CHECK_EQ(memcmp(&got, &before, sizeof(got)), 0);
}

TEST(ends_that_wrap_are_refused)
{
	static struct file f;
	struct elf_file got;

	put_file(&f, 1);
	put_segment(&f.b, ELF_LOAD, 0, UINT64_MAX - 3, 4, 4);
	CHECK_EQ(elf_parse(span_of(f.bytes, f.b.len), &got), -EBADMSG);

	put_file(&f, 1);
	put_segment(&f.b, ELF_NOTE, UINT64_MAX - 3, 0, 4, 4);
	CHECK_EQ(elf_parse(span_of(f.bytes, f.b.len), &got), -EBADMSG);
}

static void put_note(struct buf *b, const char *name, uint32_t name_len, uint32_t type,
                     const void *value, uint32_t value_len)
{
	static const uint8_t zeros[4];

	buf_put_le32(b, name_len);
	buf_put_le32(b, value_len);
	buf_put_le32(b, type);
	buf_put(b, name, name_len);
	buf_put(b, zeros, (4 - name_len % 4) % 4);
	buf_put(b, value, value_len);
	buf_put(b, zeros, (4 - value_len % 4) % 4);
}

static const uint8_t entry4[] = { 0x80, 0x05, 0x00, 0x01 };
static const uint8_t entry8[] = { 0x80, 0x05, 0x00, 0x01, 0, 0, 0, 0 };

TEST(the_pvh_note_is_found_among_others)
{
	uint8_t bytes[256];
	struct buf b;
	uint64_t entry = 0;

	buf_init(&b, bytes, sizeof(bytes));
	put_note(&b, "GNU", 4, 3, "0123456789abcdefghij", 20);
	put_note(&b, "Linux", 6, 18, entry4, 4);
	put_note(&b, "Xen", 4, 6, "linux", 6);
	put_note(&b, "Xen", 4, 18, entry4, 4);
	CHECK_EQ(elf_parse_pvh_entry(buf_span(&b), &entry), 0);
	CHECK_EQ(entry, 0x1000580);
	for (size_t n = 0; n < b.len; n++) {
		int r = elf_parse_pvh_entry(guard_span(bytes, n), &entry);

		CHECK(r == -EBADMSG || r == -ENOENT);
	}
	buf_reset(&b);
	put_note(&b, "Xen", 4, 18, entry8, 8);
	CHECK_EQ(elf_parse_pvh_entry(buf_span(&b), &entry), 0);
	CHECK_EQ(entry, 0x1000580);
}

TEST(notes_that_lie_are_refused)
{
	static const uint8_t huge_name[] = { 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 18, 0, 0, 0 };
	static const uint8_t high[] = { 0, 0, 0, 0, 1, 0, 0, 0 };
	uint8_t bytes[64];
	struct buf b;
	uint64_t entry = 7;

	CHECK_EQ(elf_parse_pvh_entry(span_of(huge_name, sizeof(huge_name)), &entry), -EBADMSG);
	buf_init(&b, bytes, sizeof(bytes));
	put_note(&b, "Xen", 4, 18, "ab", 2); /* an entry of two bytes */
	CHECK_EQ(elf_parse_pvh_entry(buf_span(&b), &entry), -EBADMSG);
	buf_reset(&b);
	put_note(&b, "Xen", 4, 18, high, 8); /* not reachable from 32-bit code */
	CHECK_EQ(elf_parse_pvh_entry(buf_span(&b), &entry), -EBADMSG);
	CHECK_EQ(elf_parse_pvh_entry(span_of("", 0), &entry), -ENOENT);
	CHECK_EQ(entry, 7);
}

TEST_MAIN()
