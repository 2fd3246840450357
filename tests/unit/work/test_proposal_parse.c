#include "guardpage.h"
#include "proposal_stream.h"
#include "test.h"

#include <errno.h>

static struct stream *sample(void)
{
	struct stream *s = stream_new();

	(void)stream_root(s);
	(void)stream_file(s, "file", "content");
	(void)stream_link(s, "link", "target");
	(void)stream_sparse(s, "sparse", 20, "2:3,4;12,2", "ABCDEF");
	(void)stream_whiteout(s, "white");
	stream_trailer(s, 5);
	return s;
}

/* Every prefix needs more, and changes nothing; each head is taken as soon as it is whole. */
TEST(every_prefix_needs_more)
{
	struct stream *s = sample();
	struct span in = buf_span(&s->out);
	unsigned entries = 0;

	while (in.len > 0) {
		enum proposal_bad bad = PROPOSAL_BAD_NONE;
		struct span rest = in;
		struct proposal_entry en;
		struct proposal_entry before;
		size_t head;

		CHECK_EQ(proposal_parse_entry(&rest, &en, &bad), 0);
		head = in.len - rest.len;
		for (size_t len = 0; len < head; len++) {
			uint8_t *at = guard_copy(in.at, len);
			struct span part = span_of(at, len);

			memset(&en, 0xa5, sizeof(en));
			before = en;
			CHECK_EQ(proposal_parse_entry(&part, &en, &bad), -EAGAIN);
			CHECK(part.at == at && part.len == len);
			CHECK_EQ(memcmp(&en, &before, sizeof(en)), 0);
			guard_free(at, len);
		}
		rest = in;
		CHECK_EQ(proposal_parse_entry(&rest, &en, &bad), 0);
		rest.at += en.stored_bytes + -en.stored_bytes % PROPOSAL_BLOCK_BYTES;
		rest.len -= en.stored_bytes + -en.stored_bytes % PROPOSAL_BLOCK_BYTES;
		in = rest;
		entries++;
	}
	CHECK_EQ(entries, 6);
	free(s);
}

/* As soon as a block is there it is judged: nobody waits for more of what is wrong already. */
TEST(a_wrong_first_block_is_known_at_once)
{
	struct stream *s = sample();
	struct proposal_entry en;
	enum proposal_bad bad = PROPOSAL_BAD_NONE;
	struct span in = span_of(s->out.at, PROPOSAL_BLOCK_BYTES);

	s->out.at[156] = 'g';
	stream_sum(s->out.at);
	CHECK_EQ(proposal_parse_entry(&in, &en, &bad), -EBADMSG);
	CHECK_EQ(bad, PROPOSAL_BAD_TYPE);
	free(s);
}

TEST(the_longest_map_has_room)
{
	struct stream *s = stream_new();
	size_t room = (size_t)PROPOSAL_EXTENTS_MAX * 44;
	char *map = malloc(room);
	struct proposal_entry en = { 0 };
	struct proposal_extent x;
	enum proposal_bad bad = PROPOSAL_BAD_NONE;
	unsigned count = 0;
	struct buf b;
	struct span in;

	CHECK(map != NULL);
	buf_init(&b, map, room);
	buf_printf(&b, "%d:", PROPOSAL_EXTENTS_MAX);
	for (unsigned i = 0; i < PROPOSAL_EXTENTS_MAX; i++)
		buf_printf(&b, "%s%llu,1", i ? ";" : "",
		           (unsigned long long)PROPOSAL_FILE_BYTES_MAX / 2 + 2ULL * i);
	stream_text(s, "path", "b");
	stream_text(s, "mtime", "1700000000.000000000");
	stream_number(s, "size", PROPOSAL_EXTENTS_MAX);
	stream_number(s, "BERM.size", PROPOSAL_FILE_BYTES_MAX);
	stream_text(s, "BERM.sparse", buf_cstr(&b));
	(void)stream_entry(s, '0', 0, "b", "", span_of(s->storage, PROPOSAL_EXTENTS_MAX));
	in = buf_span(&s->out);
	CHECK_EQ(proposal_parse_entry(&in, &en, &bad), 0);
	CHECK_EQ(en.extent_count, PROPOSAL_EXTENTS_MAX);
	while (proposal_map_next(&en.map, &x))
		CHECK_EQ(x.at, PROPOSAL_FILE_BYTES_MAX / 2 + 2ULL * count++);
	CHECK_EQ(count, PROPOSAL_EXTENTS_MAX);
	free(map);
	free(s);
}

TEST(names_are_cut_in_the_header_and_whole_in_the_records)
{
	struct stream *s = stream_new();
	struct proposal_entry en = { 0 };
	enum proposal_bad bad = PROPOSAL_BAD_NONE;
	char path[WPATH_MAX + 1];
	struct span in;

	memset(path, 'n', sizeof(path));
	for (size_t i = 255; i < sizeof(path); i += 256)
		path[i] = '/';
	path[WPATH_MAX] = '\0';
	path[WPATH_MAX - 1] = 'x';
	(void)stream_link(s, path, path);
	in = buf_span(&s->out);
	CHECK_EQ(proposal_parse_entry(&in, &en, &bad), 0);
	CHECK_SPAN(en.path, path);
	CHECK_SPAN(en.target, path);
	free(s);
}

/* T10: ten million empty entries end at a limit that has a name. */
TEST(t10_one_entry_more_than_there_may_be)
{
	struct proposal_order o = { .entries = 1, .dir = true };
	struct proposal_entry en = { .kind = PROPOSAL_FILE, .path = span_str("b") };
	enum proposal_bad bad = PROPOSAL_BAD_NONE;

	o.entries = PROPOSAL_ENTRIES_MAX - 1;
	CHECK_EQ(proposal_order_next(&o, &en, &bad), 0);
	en.path = span_str("c");
	CHECK_EQ(proposal_order_next(&o, &en, &bad), -EBADMSG);
	CHECK_EQ(bad, PROPOSAL_BAD_ENTRIES);
}

TEST(every_reason_has_words)
{
	for (unsigned i = 0; i <= PROPOSAL_BAD_REASONS; i++)
		CHECK(strlen(proposal_bad_text((enum proposal_bad)i)) > 0);
	for (unsigned i = 0; i <= PROPOSAL_WHY_COUNT; i++)
		CHECK(strlen(proposal_why_text((enum proposal_why)i)) > 0);
}

TEST_MAIN()
