#include "guardpage.h"
#include "proposal_run.h"
#include "work/proposal_index.h"

enum { INDEX_ROOM = 1 << 16 };

struct made {
	struct result r;
	size_t len;
	uint8_t bytes[INDEX_ROOM];
};

/* An index with one of everything. */
static struct made *make(void)
{
	struct stream *s = stream_new();
	struct made *m = calloc(1, sizeof(*m));
	ssize_t n;

	CHECK(m != NULL);
	(void)stream_root(s);
	(void)stream_whiteout(s, "a");
	(void)stream_dir(s, "b");
	(void)stream_file(s, "b/c", "content");
	(void)stream_sparse(s, "b/d", 20, "2:3,4;12,2", "ABCDEF");
	(void)stream_link(s, "b/e", "target");
	(void)stream_other(s, "b/f", "fifo");
	stream_text(s, "BERM.redirect", "dir");
	(void)stream_dir(s, "g");
	stream_text(s, "BERM.redirect", "old");
	(void)stream_dir(s, "h");
	stream_end(s);
	CHECK_OK(run_span(buf_span(&s->out), &m->r), &m->r.e);
	n = pread(m->r.index_fd, m->bytes, sizeof(m->bytes), 0);
	CHECK(n > 0 && n < (ssize_t)sizeof(m->bytes));
	m->len = (size_t)n;
	free(s);
	return m;
}

static void made_free(struct made *m)
{
	close_result(&m->r);
	free(m);
}

static int open_bytes(const struct made *m, size_t len, struct err *e)
{
	struct proposal *p = NULL;
	int fd = memory_file(span_of(m->bytes, len));
	int r = proposal_open(fd, m->r.spool_fd, &p, e);

	CHECK((r == 0) == (p != NULL));
	proposal_free(p);
	(void)close(fd);
	return r;
}

static size_t record_off(const struct made *m, unsigned i)
{
	struct span slot = span_of(m->bytes + m->len - (9 - i) * (size_t)INDEX_SLOT_BYTES, 8);
	uint64_t at;

	CHECK(take_le64(&slot, &at));
	return (size_t)at;
}

TEST(the_whole_is_taken_and_no_prefix_is)
{
	struct made *m = make();

	CHECK_OK(open_bytes(m, m->len, NULL), NULL);
	for (size_t len = 0; len < m->len; len++)
		CHECK_EQ(open_bytes(m, len, NULL), -EBADMSG);
	made_free(m);
}

TEST(a_longer_one_is_refused)
{
	struct made *m = make();

	CHECK_EQ(open_bytes(m, m->len + 8, NULL), -EBADMSG);
	made_free(m);
}

/* Each byte changed: it is refused, or what is read of it is still within every bound. */
TEST(any_byte_may_be_wrong)
{
	struct made *m = make();
	char content[32];

	for (size_t i = 0; i < m->len; i++) {
		struct proposal *p = NULL;
		int fd;

		m->bytes[i] ^= 0x81;
		fd = memory_file(span_of(m->bytes, m->len));
		if (proposal_open(fd, m->r.spool_fd, &p, NULL) == 0) {
			struct proposal_totals t;

			proposal_totals(p, &t);
			for (uint32_t j = 0; j < t.entries; j++) {
				struct proposal_node n;

				proposal_node(p, j, &n);
				if (n.kind == PROPOSAL_FILE && n.size <= sizeof(content))
					CHECK_OK(proposal_read(p, &n, 0, content, n.size, NULL),
					         NULL);
			}
		}
		proposal_free(p);
		(void)close(fd);
		m->bytes[i] ^= 0x81;
	}
	made_free(m);
}

TEST(another_version_is_told_apart)
{
	struct made *m = make();
	struct err e = { 0 };

	m->bytes[8] = 9;
	CHECK_EQ(open_bytes(m, m->len, &e), -EPROTO);
	CHECK(strstr(e.text, "version 9"));
	made_free(m);
}

TEST(another_spool_is_refused)
{
	struct made *m = make();

	CHECK_EQ(ftruncate(m->r.spool_fd, 512), 0);
	CHECK_EQ(open_bytes(m, m->len, NULL), -EBADMSG);
	made_free(m);
}

/* The writer was taken over: each of these would lead a reader astray. */
static void refused_patch(unsigned record, size_t off, uint8_t value)
{
	struct made *m = make();

	m->bytes[record_off(m, record) + off] = value;
	CHECK_EQ(open_bytes(m, m->len, NULL), -EBADMSG);
	made_free(m);
}

TEST(records_that_would_lead_astray)
{
	refused_patch(0, 4, 8);                       /* the root ends early */
	refused_patch(0, 13, PROPOSAL_OPAQUE);        /* the root hides the base */
	refused_patch(1, 4, 3);                       /* a whiteout with something below it */
	refused_patch(2, 4, 2);                       /* a directory that ends at itself */
	refused_patch(2, 4, 9);                       /* that takes its sibling in */
	refused_patch(2, 4, 200);                     /* that ends behind all */
	refused_patch(3, 8, 0);                       /* another parent */
	refused_patch(3, 8, 1);                       /* that is no directory */
	refused_patch(3, 12, 9);                      /* no kind */
	refused_patch(3, 12, PROPOSAL_DIR);           /* a directory with content */
	refused_patch(3, 14, PROPOSAL_WHY_COUNT);     /* no reason */
	refused_patch(3, 14, PROPOSAL_WHY_FIFO);      /* not a file's */
	refused_patch(3, 17, 0xff);                   /* setuid */
	refused_patch(3, INDEX_FIXED_BYTES, '.');     /* "./c" */
	refused_patch(3, INDEX_FIXED_BYTES + 1, 'x'); /* not in its directory */
	refused_patch(4, INDEX_FIXED_BYTES + 2, 'b'); /* out of order */
	refused_patch(4, INDEX_FIXED_BYTES + 2, 'c'); /* twice */
	refused_patch(4, INDEX_FIXED_BYTES + 8, 200); /* an extent outside the file */
	refused_patch(4, INDEX_FIXED_BYTES + 24 + 8, 4);
	refused_patch(4, INDEX_FIXED_BYTES + 16 + 8 + 6, 1); /* or outside the spool */
	refused_patch(5, 14, PROPOSAL_WHY_DEEP);
	refused_patch(6, 14, PROPOSAL_WHY_NONE); /* what is nothing, without a reason */
	refused_patch(7, 13, PROPOSAL_OPAQUE);   /* with a target nevertheless */
	refused_patch(7, 13, 0);
	refused_patch(7, INDEX_FIXED_BYTES + 1, '/');
	refused_patch(7, INDEX_FIXED_BYTES + 1, 0);
}

TEST(one_source_for_two_is_refused)
{
	struct made *m = make();

	memcpy(m->bytes + record_off(m, 8) + INDEX_FIXED_BYTES + 1, "dir", 3);
	CHECK_EQ(open_bytes(m, m->len, NULL), -EBADMSG);
	made_free(m);
}

TEST(a_record_by_itself_reads_no_byte_too_far)
{
	struct made *m = make();
	size_t at = record_off(m, 4);
	size_t len = record_off(m, 5) - at;
	struct proposal_node n;
	struct proposal_node before;

	memset(&n, 0xa5, sizeof(n));
	before = n;
	for (size_t i = 0; i <= len; i++) {
		struct span in = guard_span(m->bytes + at, i);
		int r = index_parse_record(&in, 1 << 20, &n);

		CHECK_EQ(r, i < len ? -EAGAIN : 0);
		if (r < 0)
			CHECK_EQ(memcmp(&n, &before, sizeof(n)), 0);
		guard_free((uint8_t *)(uintptr_t)(i < len ? in.at : in.at - len), i);
	}
	CHECK_EQ(n.extent_count, 2);
	made_free(m);
}

TEST_MAIN()
