#include "egress/control.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { FDS_AT_ONCE = 4 }; /* room for what a peer of ours never sends, to close it */

union control_room {
	struct cmsghdr head;
	char bytes[CMSG_SPACE(FDS_AT_ONCE * sizeof(int))];
};

int control_send(int sock, struct span packet, int fd)
{
	union control_room room = { 0 };
	/* sendmsg does not write there */
	struct iovec iov = { .iov_base = (void *)(uintptr_t)packet.at, .iov_len = packet.len };
	struct msghdr m = { .msg_iov = &iov, .msg_iovlen = 1 };
	ssize_t n;

	if (fd >= 0) {
		m.msg_control = room.bytes;
		m.msg_controllen = CMSG_SPACE(sizeof(int));
		room.head.cmsg_level = SOL_SOCKET;
		room.head.cmsg_type = SCM_RIGHTS;
		room.head.cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(&room.head), &fd, sizeof(fd));
	}
	/* the gate may be denied sendmsg(), as it can name a peer; it sends no descriptors */
	do
		n = fd >= 0 ? sendmsg(sock, &m, MSG_DONTWAIT | MSG_NOSIGNAL)
		            : send(sock, packet.at, packet.len, MSG_DONTWAIT | MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n >= 0)
		return 0;
	/* ETOOMANYREFS: descriptors on their way are counted, and become fewer by themselves */
	if (errno == EAGAIN || errno == ENOBUFS || errno == ETOOMANYREFS)
		return -EAGAIN;
	return errno == ECONNRESET || errno == ENOTCONN ? -EPIPE : -errno;
}

/* The first is kept, the others are closed; false if there were others. */
static bool take_fds(struct msghdr *m, int *ret_fd)
{
	bool ok = true;

	for (struct cmsghdr *h = CMSG_FIRSTHDR(m); h; h = CMSG_NXTHDR(m, h)) {
		size_t count;

		if (h->cmsg_level != SOL_SOCKET || h->cmsg_type != SCM_RIGHTS)
			continue;
		count = (h->cmsg_len - CMSG_LEN(0)) / sizeof(int);
		for (size_t i = 0; i < count; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(h) + i * sizeof(int), sizeof(fd));
			if (*ret_fd < 0) {
				*ret_fd = fd;
				continue;
			}
			(void)close(fd);
			ok = false;
		}
	}
	return ok;
}

int control_recv(int sock, uint8_t room[static CONTROL_PACKET_MAX], struct span *ret, int *ret_fd)
{
	union control_room fds;
	struct iovec iov = { .iov_base = room, .iov_len = CONTROL_PACKET_MAX };
	struct msghdr m = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = fds.bytes,
		.msg_controllen = sizeof(fds.bytes),
	};
	int fd = -1;
	ssize_t n;

	do
		n = recvmsg(sock, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		return -EAGAIN;
	if (n < 0)
		return errno == ECONNRESET ? -EPIPE : -errno;
	if (!take_fds(&m, &fd) || (m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) || (n == 0 && fd >= 0)) {
		if (fd >= 0)
			(void)close(fd);
		return -EBADMSG;
	}
	if (n == 0) /* nobody sends an empty packet */
		return -EPIPE;
	*ret = span_of(room, (size_t)n);
	*ret_fd = fd;
	return 0;
}
