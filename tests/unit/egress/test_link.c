#include "failalloc.h"
#include "samples.h"

#include "egress/link.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

static struct egress_link *gate;
static struct egress_link *vault;
static struct err e;

static void open_pair(void)
{
	int fds[2];

	CHECK_EQ(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds), 0);
	CHECK_OK(egress_link_new(fds[0], EGRESS_FROM_GATE, &gate, &e), &e);
	CHECK_OK(egress_link_new(fds[1], EGRESS_FROM_VAULT, &vault, &e), &e);
}

static void close_pair(void)
{
	egress_link_free(gate);
	egress_link_free(vault);
}

static void put(struct egress_link *l, uint8_t type, uint32_t stream, int fd)
{
	CHECK(sample_put(egress_link_out(l), type, stream));
	CHECK(egress_link_commit(l, fd));
}

/* The read end of a pipe that holds one byte, by which it is known. */
static int marked(uint8_t byte)
{
	int fds[2];

	CHECK_EQ(pipe2(fds, O_CLOEXEC), 0);
	CHECK_EQ(write(fds[1], &byte, 1), 1);
	(void)close(fds[1]);
	return fds[0];
}

static uint8_t mark_of(int fd)
{
	uint8_t byte = 0;

	CHECK_EQ(read(fd, &byte, 1), 1);
	CHECK(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	(void)close(fd);
	return byte;
}

/* Descriptors stay with their frames, among others, however much is read at once. */
TEST(each_frame_brings_its_own_descriptor)
{
	uint8_t next = 0;
	struct egress_frame f;
	int fd;

	open_pair();
	for (uint8_t i = 0; i < 40; i++) {
		if (i % 3)
			put(vault, EGRESS_BODY, i + 1U, -1);
		put(vault, EGRESS_CONNECTED, i + 1U, marked(i));
		if (i % 7 == 0) {
			put(vault, EGRESS_END, i + 1U, -1);
			CHECK_OK(egress_link_flush(vault, &e), &e);
		}
	}
	CHECK_OK(egress_link_flush(vault, &e), &e);
	CHECK(!egress_link_waits(vault));
	for (int i = 0; i < 200 && next < 40; i++) {
		CHECK_OK(egress_link_recv(gate, &e), &e);
		while (egress_link_next(gate, &f, &fd) == 0) {
			if (f.type != EGRESS_CONNECTED) {
				CHECK_EQ(fd, -1);
				continue;
			}
			CHECK_EQ(f.stream, next + 1U);
			CHECK_EQ(mark_of(fd), next);
			next++;
		}
	}
	CHECK_EQ(next, 40);
	close_pair();
}

TEST(the_vault_takes_no_descriptor)
{
	open_pair();
	put(gate, EGRESS_END, 1, marked(1));
	CHECK_OK(egress_link_flush(gate, &e), &e);
	CHECK_EQ(egress_link_recv(vault, &e), -EBADMSG);
	close_pair();
}

TEST(a_connection_without_its_descriptor_is_a_fault)
{
	struct egress_frame f;
	int fd = -7;

	open_pair();
	put(vault, EGRESS_CONNECTED, 1, -1);
	CHECK_OK(egress_link_flush(vault, &e), &e);
	CHECK_OK(egress_link_recv(gate, &e), &e);
	CHECK_EQ(egress_link_next(gate, &f, &fd), -EBADMSG);
	CHECK_EQ(fd, -7);
	close_pair();
}

/* More than the socket and the buffer hold: it waits, and comes whole. */
TEST(what_has_no_room_waits)
{
	static uint8_t bytes[EGRESS_BODY_MAX];
	struct egress_frame f;
	uint64_t put_bytes = 0;
	uint64_t got_bytes = 0;
	int fd;

	open_pair();
	CHECK_OK(egress_link_recv(gate, &e), &e); /* nothing there: nothing happens */
	CHECK_EQ(egress_link_next(gate, &f, &fd), -EAGAIN);
	while (egress_link_room(vault) >= EGRESS_HEADER_BYTES + sizeof(bytes)) {
		egress_put(egress_link_out(vault), EGRESS_BODY, 1, span_of(bytes, sizeof(bytes)));
		CHECK(egress_link_commit(vault, -1));
		put_bytes += sizeof(bytes);
	}
	egress_put(egress_link_out(vault), EGRESS_BODY, 1, span_of(bytes, sizeof(bytes)));
	CHECK(!egress_link_commit(vault, -1));
	put(vault, EGRESS_END, 1, -1);
	CHECK_OK(egress_link_flush(vault, &e), &e);
	CHECK(egress_link_waits(vault));
	for (int i = 0; i < 10000 && got_bytes < put_bytes; i++) {
		CHECK_OK(egress_link_recv(gate, &e), &e);
		while (egress_link_next(gate, &f, &fd) == 0)
			got_bytes += f.payload.len;
		CHECK_OK(egress_link_flush(vault, &e), &e);
	}
	CHECK_EQ(got_bytes, put_bytes);
	CHECK(!egress_link_waits(vault));
	egress_link_free(vault);
	vault = NULL;
	while (egress_link_next(gate, &f, &fd) == 0)
		;
	while (egress_link_recv(gate, &e) == 0)
		while (egress_link_next(gate, &f, &fd) == 0)
			;
	CHECK_EQ(e.code, -EPIPE);
	close_pair();
}

TEST(without_memory_there_is_no_link)
{
	int fd = marked(1);

	FAILALLOC_EACH()
	{
		struct egress_link *l = NULL;
		int r = egress_link_new(fd, EGRESS_FROM_GATE, &l, &e);

		if (failalloc_hit()) {
			CHECK_EQ(r, -ENOMEM);
			CHECK(!l);
		} else {
			CHECK_OK(r, &e);
			egress_link_free(l);
		}
	}
}

TEST_MAIN()
