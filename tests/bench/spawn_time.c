/*
 * Times, in microseconds, four a line and in turn: fork, exec and wait of a static program (this
 * one); the same until it has made a machine with interrupt chips and a processor, and nothing
 * more; berm-vmm from its start to its word that the restored guest runs; and the same with its
 * addresses not chosen at random. In the test host the last one tells what is berm's own: the
 * processor that QEMU plays there translates code anew wherever it has not been before.
 *
 *	spawn_time RUNS MIB UID PROGRAM RAM STATE IMAGE SCRATCH [WSET]
 *
 * musl-gcc -static.
 */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/personality.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum {
	AT_AGENT = 3, /* src/engine/kvm.h */
	AT_CONTROL,
	AT_RAM,
	AT_IMAGE,
	AT_SCRATCH,
	AT_INCOMING,
	AT_INITRD,
	AT_KVM,
	AT_WSET,
	AT_COUNT,
	HIGH = 100,      /* where fds wait for their places */
	CTL_BYTES = 256, /* src/vmm/ctl.h */
	CTL_RESUME = 1,
	CTL_QUIT = 6,
};

static double now_us(void)
{
	struct timespec t;

	(void)clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static double time_self(void)
{
	double begun = now_us();
	int status = 1;
	pid_t pid = vfork();

	if (pid == 0) {
		(void)execl("/proc/self/exe", "spawn_time", (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0 || status != 0)
		die("the static program");
	return now_us() - begun;
}

/* What no monitor can do without. Its freeing, which takes longer, is not timed. */
static double time_machine(void)
{
	double took = now_us();
	int status = 1;
	int done[2];
	char byte;
	pid_t pid;

	if (pipe(done) < 0)
		die("pipe");
	pid = vfork();
	if (pid == 0) {
		(void)dup2(done[1], AT_CONTROL);
		(void)execl("/proc/self/exe", "spawn_time", "machine", (char *)NULL);
		_exit(127);
	}
	(void)close(done[1]);
	if (pid < 0 || read(done[0], &byte, 1) != 1)
		die("a bare machine");
	took = now_us() - took;
	(void)close(done[0]);
	if (waitpid(pid, &status, 0) < 0 || status != 0)
		die("a bare machine");
	return took;
}

static int make_machine(void)
{
	int kvm = open("/dev/kvm", O_RDWR);
	int vm = ioctl(kvm, KVM_CREATE_VM, 0);

	if (vm < 0 || ioctl(vm, KVM_CREATE_IRQCHIP, 0) < 0 || ioctl(vm, KVM_CREATE_VCPU, 0) < 0)
		return 1;
	return write(AT_CONTROL, "!", 1) != 1;
}

static void open_at(int at, const char *path, int flags)
{
	int fd = open(path, flags);

	if (fd < 0 || dup2(fd, HIGH + at) < 0)
		die(path);
	(void)close(fd);
}

static void pair_at(int at, int type, int *ret_ours)
{
	int pair[2];

	if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, pair) < 0 || dup2(pair[1], HIGH + at) < 0)
		die("socketpair");
	(void)close(pair[1]);
	*ret_ours = pair[0];
}

static void ask(int fd, uint8_t type)
{
	uint8_t packet[CTL_BYTES] = { type, 1 };

	if (send(fd, packet, sizeof(packet), 0) < 0 ||
	    recv(fd, packet, sizeof(packet), 0) != sizeof(packet))
		die("berm-vmm does not answer");
}

static double time_vmm(char **argv, int fixed)
{
	char *wset = argv[9];
	char *args[] = { argv[4],  "--memory",  argv[2],
		         "--cpus", "1",         "--uid",
		         argv[3],  "--restore", wset ? "--wset" : NULL,
		         NULL };
	double took;
	int agent;
	int control;
	pid_t pid;

	pair_at(AT_AGENT, SOCK_STREAM, &agent);
	pair_at(AT_CONTROL, SOCK_SEQPACKET, &control);
	open_at(AT_RAM, argv[5], O_RDONLY);
	open_at(AT_INCOMING, argv[6], O_RDONLY);
	open_at(AT_IMAGE, argv[7], O_RDONLY);
	open_at(AT_SCRATCH, argv[8], O_RDWR);
	open_at(AT_KVM, "/dev/kvm", O_RDWR);
	open_at(AT_INITRD, "/dev/null", O_RDONLY);
	open_at(AT_WSET, wset ? wset : "/dev/null", O_RDONLY);
	took = now_us();
	pid = vfork();
	if (pid == 0) {
		for (int at = AT_AGENT; at < AT_COUNT; at++)
			(void)dup2(HIGH + at, at);
		(void)syscall(SYS_close_range, AT_COUNT, ~0U, 0);
		if (fixed)
			(void)personality(ADDR_NO_RANDOMIZE);
		(void)execv(args[0], args);
		_exit(127);
	}
	ask(control, CTL_RESUME);
	took = now_us() - took;
	ask(control, CTL_QUIT);
	(void)waitpid(pid, NULL, 0);
	(void)close(agent);
	(void)close(control);
	return took;
}

static unsigned number(const char *text)
{
	unsigned n = 0;

	for (; *text >= '0' && *text <= '9'; text++)
		n = n * 10 + (unsigned)(*text - '0');
	return n;
}

int main(int argc, char **argv)
{
	if (argc < 2)
		return 0; /* the static program */
	if (argc == 2)
		return make_machine();
	if (argc < 9)
		return 2;
	for (unsigned runs = number(argv[1]); runs > 0; runs--) {
		double own = time_self();
		double machine = time_machine();
		double step = time_vmm(argv, 0);

		(void)printf("%.1f %.1f %.1f %.1f\n", own, machine, step, time_vmm(argv, 1));
	}
	return 0;
}
