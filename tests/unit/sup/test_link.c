#include "base/fdio.h"
#include "sup/link.h"
#include "test.h"

#include <errno.h>
#include <string.h>

struct ends {
	struct link *link;
	int peer;
};

static struct ends connect_link(enum wire_side peer)
{
	struct ends got = { .peer = -1 };
	struct err e = { 0 };
	int fds[2] = { -1, -1 };

	CHECK_OK(fd_socketpair(fds, &e), &e);
	CHECK_OK(link_new(fds[0], peer, &got.link, &e), &e);
	got.peer = fds[1];
	CHECK_EQ(fd_set_nonblock(got.peer), 0);
	return got;
}

TEST(frames_arrive_whole)
{
	struct ends l = connect_link(WIRE_FROM_AGENT);
	uint8_t bytes[256];
	struct wire_frame f;
	struct buf b;

	buf_init(&b, bytes, sizeof(bytes));
	wire_put_u64(&b, WIRE_PONG, 0, 1, 42);
	for (size_t i = 0; i < b.len; i++) {
		CHECK_EQ(link_next(l.link, &f), -EAGAIN);
		CHECK_EQ(write(l.peer, bytes + i, 1), 1);
		CHECK_EQ(link_read(l.link), 0);
	}
	CHECK_EQ(link_next(l.link, &f), 0);
	CHECK_EQ(f.type, WIRE_PONG);
	CHECK_EQ(link_next(l.link, &f), -EAGAIN);
	CHECK_EQ(link_read(l.link), -EAGAIN);
	(void)close(l.peer);
	CHECK_EQ(link_read(l.link), -EPIPE);
	link_free(l.link);
}

TEST(a_frame_left_behind_is_taken_later)
{
	struct ends l = connect_link(WIRE_FROM_AGENT);
	uint8_t bytes[256];
	struct wire_frame f;
	struct buf b;
	size_t mark;

	buf_init(&b, bytes, sizeof(bytes));
	wire_put(&b, WIRE_DATA, WIRE_OUT, 1, 1, span_str("first"));
	wire_put(&b, WIRE_DATA, WIRE_OUT, 1, 1, span_str("second"));
	CHECK_EQ(write(l.peer, bytes, b.len), b.len);
	CHECK_EQ(link_read(l.link), 0);
	mark = l.link->in_at;
	CHECK_EQ(link_next(l.link, &f), 0);
	l.link->in_at = mark; /* as the supervisor does when a reader has no room */
	CHECK_EQ(link_read(l.link), -EAGAIN);
	CHECK_EQ(link_next(l.link, &f), 0);
	CHECK_SPAN(f.payload, "first");
	CHECK_EQ(link_next(l.link, &f), 0);
	CHECK_SPAN(f.payload, "second");
	link_free(l.link);
	(void)close(l.peer);
}

TEST(what_the_side_may_not_send_is_bad)
{
	struct ends l = connect_link(WIRE_FROM_AGENT);
	uint8_t bytes[256];
	struct wire_frame f;
	struct buf b;

	buf_init(&b, bytes, sizeof(bytes));
	wire_put_u32(&b, WIRE_POWEROFF, 0, 0, 1, 0);
	CHECK_EQ(write(l.peer, bytes, b.len), b.len);
	CHECK_EQ(link_read(l.link), 0);
	CHECK_EQ(link_next(l.link, &f), -EBADMSG);
	link_free(l.link);
	(void)close(l.peer);
}

TEST(a_peer_that_does_not_read_fills_what_there_is)
{
	struct ends l = connect_link(WIRE_FROM_AGENT);
	static uint8_t much[WIRE_DATA_MAX];
	static uint8_t sink[1 << 20];
	size_t put = 0;
	size_t got = 0;

	while (link_room(l.link) >= WIRE_HEADER_BYTES + sizeof(much)) {
		wire_put(&l.link->out, WIRE_DATA, WIRE_IN, 1, 1, span_of(much, sizeof(much)));
		CHECK(buf_ok(&l.link->out));
		put += WIRE_HEADER_BYTES + sizeof(much);
		(void)!link_flush(l.link);
	}
	CHECK_EQ(link_flush(l.link), -EAGAIN);
	CHECK(link_pending(l.link));
	CHECK(l.link->out.len - l.link->out_at <= LINK_OUT_BYTES);
	for (int i = 0; i < 1000 && got < put; i++) {
		ssize_t n = read(l.peer, sink, sizeof(sink));

		if (n > 0)
			got += (size_t)n;
		(void)!link_flush(l.link);
	}
	CHECK_EQ(got, put);
	CHECK_EQ(link_flush(l.link), 0);
	(void)close(l.peer);
	wire_put_u32(&l.link->out, WIRE_POWEROFF, 0, 0, 1, 0);
	CHECK_EQ(link_flush(l.link), -EPIPE);
	link_free(l.link);
}

/* The reader's view of it: payloads of the frames that arrive, at most four. */
static size_t arrive(int fd, size_t lens[4])
{
	static uint8_t bytes[2 * WIRE_FRAME_MAX];
	struct wire_frame f;
	ssize_t n = read(fd, bytes, sizeof(bytes));
	struct span rest = span_of(bytes, n > 0 ? (size_t)n : 0);
	size_t count = 0;

	while (count < 4 && wire_parse_frame(&rest, WIRE_FROM_SUPERVISOR, &f) == 0)
		lens[count++] = f.payload.len;
	CHECK_EQ(rest.len, 0);
	return count;
}

TEST(small_data_is_put_together)
{
	struct ends l = connect_link(WIRE_FROM_COMMAND);
	static const uint8_t most[WIRE_DATA_MAX];
	size_t lens[4] = { 0 };

	for (int i = 0; i < 1000; i++)
		link_put_data(l.link, WIRE_OUT, 1, 1, span_str("x"));
	CHECK_EQ(l.link->out.len, WIRE_HEADER_BYTES + 1000);
	link_put_data(l.link, WIRE_ERR, 1, 1, span_str("other channel"));
	link_put_data(l.link, WIRE_ERR, 2, 1, span_str("other stream"));
	CHECK_EQ(link_flush(l.link), 0);
	CHECK_EQ(arrive(l.peer, lens), 3);
	CHECK_EQ(lens[0], 1000);
	CHECK_EQ(lens[1], 13);
	/* what was sent is not added to, nor anything over a frame's maximum, nor past another */
	link_put_data(l.link, WIRE_ERR, 2, 1, span_str("a"));
	link_put_data(l.link, WIRE_ERR, 2, 1, span_of(most, sizeof(most)));
	wire_put(&l.link->out, WIRE_EOF, WIRE_OUT, 2, 1, span_of(NULL, 0));
	link_put_data(l.link, WIRE_ERR, 2, 1, span_str("bb"));
	CHECK_EQ(link_flush(l.link), 0);
	CHECK_EQ(arrive(l.peer, lens), 4);
	CHECK_EQ(lens[0], 1);
	CHECK_EQ(lens[1], sizeof(most));
	CHECK_EQ(lens[3], 2);
	link_free(l.link);
	(void)close(l.peer);
}

TEST(data_goes_on_behind_what_was_sent_in_part)
{
	struct ends l = connect_link(WIRE_FROM_COMMAND);
	static const uint8_t much[WIRE_DATA_MAX];
	static uint8_t bytes[LINK_OUT_BYTES];
	size_t got = 0;
	size_t put = 0;
	size_t frames = 0;
	struct wire_frame f;
	struct span in;

	/* until the socket is full in the middle of a frame; then on, after compacting */
	for (int i = 0; i < 8; i++, put += sizeof(much))
		link_put_data(l.link, WIRE_OUT, 1, 1, span_of(much, sizeof(much)));
	CHECK_EQ(link_flush(l.link), -EAGAIN);
	for (int i = 0; i < 100; i++, put++) {
		CHECK(link_room(l.link) > 17);
		link_put_data(l.link, WIRE_OUT, 1, 1, span_str("y"));
	}
	for (int i = 0; i < 1000 && got < put; i++) {
		ssize_t n = read(l.peer, bytes + got, sizeof(bytes) - got);

		got += n > 0 ? (size_t)n : 0;
		if (link_flush(l.link) == 0 && n < 0)
			break;
	}
	in = span_of(bytes, got);
	put = 0;
	while (wire_parse_frame(&in, WIRE_FROM_SUPERVISOR, &f) == 0) {
		put += f.payload.len;
		frames++;
	}
	CHECK_EQ(put, 8 * sizeof(much) + 100);
	CHECK_EQ(frames, 9);
	CHECK_EQ(in.len, 0);
	link_free(l.link);
	(void)close(l.peer);
}

TEST_MAIN()
