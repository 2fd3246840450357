#include "engine/probe.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "engine/probe_guest.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>

enum { KILLED_MS_MAX = 100 }; /* a child stuck inside KVM is left to init after that */

static const char cache_name[] = "kvm-probe";

static const struct probe_env real_env = {
	.kvm_path = "/dev/kvm",
	.boot_id_path = "/proc/sys/kernel/random/boot_id",
	.state_dir_fd = -1,
};

/* What a kept verdict must be about. False: cannot be said, so nothing is kept. */
static bool make_key(const struct probe_env *env, int kvm_fd, struct probe_record *ret)
{
	_own_free_ char *boot = NULL;
	struct stat st;
	size_t len = 0;

	if (env->state_dir_fd < 0 || fstat(kvm_fd, &st) < 0 ||
	    fd_read_file(AT_FDCWD, env->boot_id_path, PROBE_RECORD_MAX, &boot, &len, NULL) < 0 ||
	    len < PROBE_BOOT_ID_LEN)
		return false;
	*ret = (struct probe_record){
		.kvm_major = major(st.st_rdev),
		.kvm_minor = minor(st.st_rdev),
		.device = st.st_dev,
		.inode = st.st_ino,
		.mode = st.st_mode,
		.version = BERM_VERSION,
	};
	memcpy(ret->boot_id, boot, PROBE_BOOT_ID_LEN);
	return true;
}

static bool read_cache(const struct probe_env *env, const struct probe_record *key,
                       struct probe_verdict *v)
{
	_own_free_ char *text = NULL;
	struct probe_record kept;
	size_t len = 0;

	if (fd_read_file(env->state_dir_fd, cache_name, PROBE_RECORD_MAX, &text, &len, NULL) < 0 ||
	    probe_parse_record(span_of(text, len), &kept) < 0 || !probe_record_matches(&kept, key))
		return false;
	v->kind = kept.kind;
	v->insns_per_s = kept.insns_per_s;
	v->cached = true;
	return true;
}

/* A cache that cannot be written costs time at the next start and nothing else. */
static void write_cache(const struct probe_env *env, struct probe_record *key,
                        const struct probe_verdict *v)
{
	char text[PROBE_RECORD_MAX];
	struct buf b;

	if (v->kind != PROBE_SLOW && v->kind != PROBE_GOOD)
		return;
	key->kind = v->kind;
	key->insns_per_s = v->insns_per_s;
	buf_init(&b, text, sizeof(text));
	probe_put_record(&b, key);
	if (buf_ok(&b) &&
	    fd_replace_file(env->state_dir_fd, cache_name, text, b.len, 0600, NULL) < 0)
		return;
}

static void set_broken(struct probe_verdict *v, const char *step, int code)
{
	v->kind = PROBE_BROKEN;
	v->code = code;
	(void)snprintf(v->step, sizeof(v->step), "%s", step);
}

static void judge_speed(struct probe_verdict *v, uint64_t insns, uint64_t ns)
{
	uint64_t per_s = insns * 1000000000 / (ns ? ns : 1);

	if (per_s > v->insns_per_s) /* the better of two: something else may have had the CPU */
		v->insns_per_s = per_s;
	v->code = 0;
	v->step[0] = '\0';
	v->kind = v->insns_per_s >= PROBE_FAST_PER_S ? PROBE_GOOD : PROBE_SLOW;
}

/* One piece of news; true when the child has no more to say. */
static bool take_news(const struct probe_news *n, bool *ready, struct probe_verdict *v)
{
	if (n->kind == PROBE_NEWS_READY)
		*ready = true;
	else if (n->kind == PROBE_NEWS_SPEED)
		judge_speed(v, n->insns, n->ns);
	else if (n->kind == PROBE_NEWS_FAILED)
		set_broken(v, probe_guest_step_name(n->step), n->code);
	return n->kind == PROBE_NEWS_FAILED || n->kind == PROBE_NEWS_DONE;
}

/*
 * Listens to the child. Making the VM may take long on a host that is fine; instructions may not:
 * when they do, what ran by then gives the speed, or nothing did and it is as slow as can be.
 */
static void listen_to(int news_fd, struct probe_verdict *v)
{
	uint64_t deadline = clock_mono_ms() + PROBE_SETUP_MS_MAX;
	bool ready = false;
	bool measured;

	set_broken(v, "KVM_CREATE_VM", -ETIMEDOUT);
	for (;;) {
		struct pollfd p = { .fd = news_fd, .events = POLLIN };
		uint64_t now = clock_mono_ms();
		struct probe_news n;
		bool was_ready = ready;
		int r = poll(&p, 1, now < deadline ? (int)(deadline - now) : 0);

		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			break;
		if (read(news_fd, &n, sizeof(n)) != (ssize_t)sizeof(n)) {
			set_broken(v, "the probe's own process", -ECHILD); /* it died */
			return;
		}
		if (take_news(&n, &ready, v))
			return;
		if (ready && !was_ready)
			deadline = clock_mono_ms() + PROBE_RUN_MS_MAX;
	}
	measured = v->kind == PROBE_SLOW || v->kind == PROBE_GOOD;
	if (!ready)
		return; /* timed out while the VM was made */
	if (!measured) {
		v->kind = PROBE_SLOW;
		v->code = 0;
		v->step[0] = '\0';
		v->insns_per_s = (uint64_t)PROBE_LOOPS_SHORT * 2 * 1000 / PROBE_RUN_MS_MAX;
	} else if (v->kind == PROBE_GOOD) {
		set_broken(v, "KVM_RUN", -ETIMEDOUT); /* fast, then stuck in an instruction */
	}
}

/* Ends the child. One that not even SIGKILL moves is stuck in the kernel: we do not wait for it. */
static void end_child(pid_t pid, int pidfd)
{
	struct pollfd p = { .fd = pidfd, .events = POLLIN };

	(void)kill(pid, SIGKILL);
	if (pidfd < 0 || poll(&p, 1, KILLED_MS_MAX) > 0)
		(void)waitpid(pid, NULL, 0);
}

static int run_probe(int kvm_fd, struct probe_verdict *v, struct err *e)
{
	_own_fd_ int read_fd = -1;
	_own_fd_ int write_fd = -1;
	_own_fd_ int pidfd = -1;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0)
		return err_sys(e, "pipe");
	read_fd = fds[0];
	write_fd = fds[1];
	pid = fork();
	if (pid < 0)
		return err_sys(e, "fork");
	if (pid == 0) {
		probe_guest_run(kvm_fd, write_fd);
		_exit(0);
	}
	(void)close(steal_fd(&write_fd));
	pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	listen_to(read_fd, v);
	end_child(pid, pidfd);
	return 0;
}

static void judge_open_error(const struct probe_env *env, struct probe_verdict *v, int r)
{
	struct stat st;

	v->code = r;
	if (r == -ENOENT || r == -ENODEV || r == -ENXIO)
		v->kind = PROBE_MISSING; /* a node without a driver opens to ENODEV or ENXIO */
	else if (r == -EACCES || r == -EPERM)
		v->kind = PROBE_FORBIDDEN;
	else
		set_broken(v, "open", r);
	if (v->kind == PROBE_FORBIDDEN && stat(env->kvm_path, &st) == 0)
		v->group_may = st.st_gid != 0 && (st.st_mode & 060) == 060;
}

static int decide(const struct probe_env *env, struct probe_verdict *v, struct err *e)
{
	struct probe_record key = { 0 };
	_own_fd_ int kvm_fd = -1;
	bool keyed;
	int r = fd_open(env->kvm_path, O_RDWR, 0, &kvm_fd, NULL);

	if (r < 0) {
		judge_open_error(env, v, r);
		return 0;
	}
	keyed = make_key(env, kvm_fd, &key);
	if (keyed && read_cache(env, &key, v))
		return 0;
	r = run_probe(kvm_fd, v, e);
	if (r == 0 && keyed)
		write_cache(env, &key, v);
	return r;
}

int probe_kvm(const struct probe_env *env, struct probe_verdict *ret, struct err *e)
{
	struct probe_verdict v = { 0 };
	uint64_t began = clock_mono_ns();
	int r = decide(env ? env : &real_env, &v, e);

	if (r < 0)
		return err_wrap(e, "probe /dev/kvm");
	v.took_us = (clock_mono_ns() - began) / 1000;
	*ret = v;
	return 0;
}

/* Two digits are enough: "4.1 million", "1200 million". */
static void put_speed(struct buf *b, uint64_t per_s)
{
	uint64_t tenths = per_s / 100000;

	if (tenths < 100)
		buf_printf(b, "%llu.%llu", (unsigned long long)(tenths / 10),
		           (unsigned long long)(tenths % 10));
	else
		buf_printf(b, "%llu", (unsigned long long)(tenths / 10));
	buf_put_str(b, " million instructions/s");
}

void probe_put_verdict(struct buf *b, const struct probe_verdict *v)
{
	switch (v->kind) {
	case PROBE_MISSING:
		buf_put_str(b, "there is no /dev/kvm");
		break;
	case PROBE_FORBIDDEN:
		buf_put_str(b, "/dev/kvm may not be opened by this user");
		break;
	case PROBE_BROKEN:
		if (v->code == -ENOEXEC)
			buf_printf(b, "/dev/kvm cannot run a kernel: it fails at '%s'", v->step);
		else
			buf_printf(b, "/dev/kvm does not work: %s: %s", v->step,
			           strerror(-v->code));
		break;
	case PROBE_SLOW:
		buf_put_str(b, "/dev/kvm emulates kernel mode in software (");
		put_speed(b, v->insns_per_s);
		buf_put_str(b, "), too slow for Linux");
		break;
	case PROBE_GOOD:
		buf_put_str(b, "/dev/kvm runs kernels in hardware (");
		put_speed(b, v->insns_per_s);
		buf_put_str(b, ")");
		break;
	}
}

const char *probe_remedy(const struct probe_verdict *v)
{
	switch (v->kind) {
	case PROBE_MISSING:
		return "enable virtualization in the firmware or, in a cloud, take a machine type "
		       "with nested virtualization; until then berm uses a software CPU";
	case PROBE_FORBIDDEN:
		if (v->group_may)
			return "add yourself to the group that owns it (sudo usermod -aG kvm "
			       "$USER) and log in again";
		return "have root give it to a group of yours: sudo groupadd -rf kvm; "
		       "sudo chgrp kvm /dev/kvm; sudo chmod 660 /dev/kvm; sudo usermod -aG kvm $USER; log in again";
	case PROBE_BROKEN:
		if (v->code == -EBUSY)
			return "another hypervisor holds the processor's virtualization: stop it";
		return "until that is repaired berm uses a software CPU";
	case PROBE_SLOW:
		return "take a machine with hardware or nested virtualization; here berm uses "
		       "QEMU's software CPU, which is faster than this";
	case PROBE_GOOD:
		break;
	}
	return "";
}
