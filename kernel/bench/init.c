/*
 * PID 1 of the kernel bench: says READY on the agent port, then, for each byte it is sent, answers
 * one line.
 *
 * p         "pong"
 * x         "first", then EXECS figures: what each vfork+exec+wait of a static program took, in us
 * t         what 1000 page faults on fresh memory took, in us
 * q         ends the guest
 * Units     the guest's monotonic clock
 */
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { EXECS = 20, PORT_WAIT_MS = 2000, TOUCH_BYTES = 32 << 20, PAGE_BYTES = 4096 };

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000U + (uint64_t)t.tv_nsec;
}

static int open_port(void)
{
	const struct timespec ms = { .tv_nsec = 1000000 };

	for (int i = 0; i < PORT_WAIT_MS; i++) {
		int fd = open("/dev/vport0p1", O_RDWR | O_CLOEXEC);

		if (fd >= 0)
			return fd;
		/* the port is announced by the host, after the device is up */
		nanosleep(&ms, NULL);
	}
	return -1;
}

static uint64_t exec_once_ns(void)
{
	static char *const argv[] = { "true", NULL };
	static char *const envp[] = { NULL };
	uint64_t t = now_ns();
	int status;
	pid_t pid = vfork();

	if (pid == 0) {
		execve("/true", argv, envp);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) != pid || status != 0)
		return 0;
	return now_ns() - t;
}

/* What fresh memory costs: page faults and the kernel's clearing of pages. */
static uint64_t touch_ns(void)
{
	uint64_t t = now_ns();
	char *p =
		mmap(NULL, TOUCH_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED)
		return 0;
	for (size_t i = 0; i < TOUCH_BYTES; i += PAGE_BYTES)
		p[i] = 1;
	munmap(p, TOUCH_BYTES);
	return now_ns() - t;
}

int main(void)
{
	char line[EXECS * 12 + 64];
	struct timespec boot;
	char byte;
	int fd;
	int len;

	mount("dev", "/dev", "devtmpfs", 0, "");
	clock_gettime(CLOCK_BOOTTIME, &boot);
	fd = open_port();
	if (fd < 0) {
		dprintf(2, "bench: no agent port\n");
		reboot(RB_AUTOBOOT);
	}
	len = snprintf(line, sizeof(line), "READY %ld\n",
	               boot.tv_sec * 1000000 + boot.tv_nsec / 1000);
	write(fd, line, (size_t)len);
	while (read(fd, &byte, 1) == 1) {
		uint64_t ns[EXECS];

		if (byte == 'q')
			reboot(RB_AUTOBOOT);
		if (byte == 't') {
			touch_ns();
			len = snprintf(line, sizeof(line), "%llu\n",
			               (unsigned long long)touch_ns() / 1000 /
			                       (TOUCH_BYTES / PAGE_BYTES / 1000));
			write(fd, line, (size_t)len);
			continue;
		}
		if (byte == 'p') { /* ping: what an answer costs without a fork */
			write(fd, "pong\n", 5);
			continue;
		}
		ns[0] = exec_once_ns();
		write(fd, "first\n", 6); /* the host's clock sees the first one by itself */
		for (int i = 1; i < EXECS; i++)
			ns[i] = exec_once_ns();
		len = 0;
		for (int i = 0; i < EXECS; i++)
			len += snprintf(line + len, sizeof(line) - (size_t)len, "%llu ",
			                (unsigned long long)ns[i] / 1000);
		line[len - 1] = '\n';
		write(fd, line, (size_t)len);
	}
	reboot(RB_AUTOBOOT);
}
