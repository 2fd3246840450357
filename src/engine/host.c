#include "engine/host.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/spawn.h"
#include "engine/engine.h"
#include "vmm/elf_parse.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/wait.h>

enum { ANSWER_MAX = 1024 };

/* What arrives until the end, a full buffer or the deadline. */
static int read_answer(int fd, char *text, size_t size, size_t *ret_len, struct err *e)
{
	uint64_t deadline = clock_mono_ms() + HOST_QEMU_MS_MAX;
	size_t len = 0;

	while (len < size) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		ssize_t n;
		int r = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			return err_sys(e, "wait for an answer");
		if (r == 0)
			return err_set(e, -ETIMEDOUT, "no answer in %d s", HOST_QEMU_MS_MAX / 1000);
		n = read(fd, text + len, size - len);
		if (n < 0)
			return err_sys(e, "read the answer");
		if (n == 0)
			break;
		len += (size_t)n;
	}
	*ret_len = len;
	return 0;
}

static int ask_version(const char *program, char *text, size_t size, size_t *ret_len, struct err *e)
{
	const char *const argv[] = { program, "--version", NULL };
	struct spawn s = { .path = program, .argv = argv, .fds = { -1, -1, -1 }, .fd_count = 3 };
	_own_fd_ int read_fd = -1;
	_own_fd_ int write_fd = -1;
	_own_fd_ int pidfd = -1;
	pid_t pid;
	int r = engine_pipe(&read_fd, &write_fd, e);

	if (r < 0)
		return r;
	s.fds[1] = write_fd;
	r = spawn_child(&s, &pid, &pidfd, e);
	if (r < 0)
		return r;
	(void)close(steal_fd(&write_fd));
	r = read_answer(read_fd, text, size, ret_len, e);
	(void)kill(pid, SIGKILL); /* it has said all we want */
	while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
		continue;
	return r;
}

int host_qemu_version(const char *program, struct probe_qemu *ret, struct err *e)
{
	char text[ANSWER_MAX];
	size_t len = 0;
	int r = ask_version(program, text, sizeof(text), &len, e);

	if (r < 0)
		return err_wrap(e, "'%s --version'", program);
	if (probe_parse_qemu_version(span_of(text, len), ret) < 0)
		return err_set(e, -EBADMSG, "'%s' does not answer --version like QEMU", program);
	return 0;
}

static int find_entry(int fd, const struct elf_file *f, uint8_t *room, uint64_t *ret_entry,
                      struct err *e)
{
	for (unsigned i = 0; i < f->segment_count; i++) {
		const struct elf_segment *g = &f->segments[i];
		size_t len = 0;

		if (g->kind != ELF_NOTE || g->file_bytes > ELF_NOTES_MAX || g->offset > INT64_MAX)
			continue;
		if (fd_read_at(fd, g->offset, room, (size_t)g->file_bytes, &len) < 0)
			return err_sys(e, "read");
		if (elf_parse_pvh_entry(span_of(room, len), ret_entry) == 0)
			return 0;
	}
	return err_set(e, -ENOENT, "it has no PVH entry point (CONFIG_PVH)");
}

int host_kernel_entry(int fd, uint64_t *ret_entry, struct err *e)
{
	_own_free_ uint8_t *room = malloc(ELF_NOTES_MAX);
	struct elf_file f;
	size_t len = 0;

	if (!room)
		return err_set(e, -ENOMEM, "out of memory");
	if (fd_read_at(fd, 0, room, ELF_START_BYTES, &len) < 0)
		return err_sys(e, "read");
	if (elf_parse(span_of(room, len), &f) < 0)
		return err_set(e, -ENOEXEC, "it is not an x86-64 kernel in ELF format");
	return find_entry(fd, &f, room, ret_entry, e);
}
