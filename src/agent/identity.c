#include "agent/identity.h"

#include "agent/agent.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/random.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

enum {
	NS_PER_S = 1000000000,
	HOSTS_MAX = 256 + 2 * WIRE_HOSTNAME_MAX,
	ID_TEXT_BYTES = 2 * WIRE_MACHINE_ID_BYTES + 2,
	UUID_TEXT_MAX = 64, /* 36 and a newline */
};

static int add_entropy(int random_fd, const uint8_t *seed, struct err *e)
{
	struct rand_pool_info head = { .entropy_count = 8 * WIRE_ENTROPY_BYTES,
		                       .buf_size = WIRE_ENTROPY_BYTES };
	uint8_t pool[sizeof(head) + WIRE_ENTROPY_BYTES];
	int r = 0;

	memcpy(pool, &head, sizeof(head));
	memcpy(pool + sizeof(head), seed, WIRE_ENTROPY_BYTES);
	if (ioctl(random_fd, RNDADDENTROPY, pool) < 0)
		r = err_sys(e, "add entropy");
	else if (ioctl(random_fd, RNDRESEEDCRNG) < 0)
		r = err_sys(e, "reseed the random generator");
	explicit_bzero(pool, sizeof(pool));
	return r;
}

int identity_set_clock(uint64_t realtime_ns, struct err *e)
{
	struct timespec ts = { .tv_sec = (time_t)(realtime_ns / NS_PER_S),
		               .tv_nsec = (long)(realtime_ns % NS_PER_S) };

	if (clock_settime(CLOCK_REALTIME, &ts) < 0) /* banned-ok: sets it, reads nothing */
		return err_sys(e, "set the clock");
	return 0;
}

void identity_init(struct identity_files *f)
{
	for (size_t i = 0; i < IDENTITY_FILES; i++)
		f->fds[i] = -1;
}

/* -1 unless it is, or now becomes, a plain file in a plain directory of the root's own mount. */
static int open_plain(int root_fd, const char *path, int flags)
{
	const uint64_t resolve = RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV;
	_own_fd_ int fd = -1;
	struct stat st;

	if (fd_open_beneath(root_fd, path, O_RDWR | O_NONBLOCK | flags, flags & O_CREAT ? 0644 : 0,
	                    resolve, &fd, NULL) < 0)
		return -1;
	if (fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return steal_fd(&fd);
}

void identity_open(struct identity_files *f)
{
	static const struct {
		const char *path;
		int flags;
	} places[IDENTITY_FILES] = {
		[IDENTITY_HOSTNAME] = { "etc/hostname", O_CREAT },
		[IDENTITY_HOSTS] = { "etc/hosts", O_CREAT },
		[IDENTITY_MACHINE] = { "etc/machine-id", O_CREAT },
		[IDENTITY_DBUS] = { "var/lib/dbus/machine-id", 0 },
	};
	_own_fd_ int root = -1;

	for (size_t i = 0; i < IDENTITY_FILES; i++)
		own_close_fd(&f->fds[i]);
	identity_init(f);
	if (fd_open("/", O_RDONLY | O_DIRECTORY, 0, &root, NULL) < 0)
		return;
	for (size_t i = 0; i < IDENTITY_FILES; i++)
		f->fds[i] = open_plain(root, places[i].path, places[i].flags);
}

/* A guest with a full disk keeps its old names: no reason to refuse it an identity. */
static void write_file(int fd, const char *text)
{
	size_t len = strlen(text);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0 || st.st_nlink == 0)
		return;
	if (pwrite(fd, text, len, 0) == (ssize_t)len && st.st_size > (off_t)len &&
	    ftruncate(fd, (off_t)len) < 0)
		return;
}

static const char hosts_head[] = "127.0.0.1\tlocalhost\n127.0.1.1\t";
static const char hosts_tail[] = "\n::1\tlocalhost ip6-localhost ip6-loopback\n";

static void write_hostname(const struct identity_files *f, const char *hostname)
{
	char text[HOSTS_MAX];

	(void)snprintf(text, sizeof(text), "%s\n", hostname);
	write_file(f->fds[IDENTITY_HOSTNAME], text);
}

static void write_hosts(const struct identity_files *f, const char *hostname)
{
	char text[HOSTS_MAX];

	(void)snprintf(text, sizeof(text), "%s%s%s", hosts_head, hostname, hosts_tail);
	write_file(f->fds[IDENTITY_HOSTS], text);
}

void identity_write_names(const struct identity_files *f, const char *hostname)
{
	write_hostname(f, hostname);
	write_hosts(f, hostname);
}

/* Does /etc/hosts hold what we write, whatever the name? Then nobody added a line of their own. */
static bool hosts_are_ours(const struct identity_files *f)
{
	const size_t head = sizeof(hosts_head) - 1;
	const size_t tail = sizeof(hosts_tail) - 1;
	char text[HOSTS_MAX];
	ssize_t n;

	if (f->fds[IDENTITY_HOSTS] < 0)
		return false;
	n = pread(f->fds[IDENTITY_HOSTS], text, sizeof(text), 0);
	if (n < 0 || (size_t)n <= head + tail || (size_t)n == sizeof(text))
		return false;
	return memcmp(text, hosts_head, head) == 0 &&
	       memcmp(text + n - tail, hosts_tail, tail) == 0 &&
	       !memchr(text + head, '\n', (size_t)n - head - tail);
}

static void write_machine_id(const struct identity_files *f,
                             const uint8_t id[WIRE_MACHINE_ID_BYTES])
{
	char text[ID_TEXT_BYTES];
	struct buf b;

	buf_init(&b, text, sizeof(text));
	for (size_t i = 0; i < WIRE_MACHINE_ID_BYTES; i++)
		buf_printf(&b, "%02x", id[i]);
	buf_put_u8(&b, '\n');
	write_file(f->fds[IDENTITY_MACHINE], buf_cstr(&b));
	write_file(f->fds[IDENTITY_DBUS], buf_cstr(&b));
}

static int set_hostname(const struct identity_files *f, struct span name, struct err *e)
{
	char text[WIRE_HOSTNAME_MAX + 1] = { 0 };
	char now[WIRE_HOSTNAME_MAX + 1];

	if (name.len == 0)
		return 0;
	memcpy(text, name.at, name.len);
	/* the files hold it already then: two writes less before the first command */
	if (gethostname(now, sizeof(now)) == 0 && strcmp(now, text) == 0)
		return 0;
	if (sethostname(text, name.len) < 0)
		return err_sys(e, "set the host name");
	write_hostname(f, text);
	if (hosts_are_ours(f))
		write_hosts(f, text);
	return 0;
}

static const char boot_id[] = "/proc/sys/kernel/random/boot_id";
static const char other_id[] = "/run/.boot_id";

/* A random UUID of the kernel's, each time another, into a file of its own. */
static int make_other_id(struct err *e)
{
	_own_free_ char *text = NULL;
	_own_fd_ int fd = -1;
	size_t len = 0;
	int r = fd_read_file(AT_FDCWD, "/proc/sys/kernel/random/uuid", UUID_TEXT_MAX, &text, &len,
	                     e);

	if (r == 0)
		r = fd_open(other_id, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW, 0444, &fd, e);
	return r == 0 ? fd_write_all(fd, text, len, e) : r;
}

void identity_hide_boot_id(struct agent *a)
{
	struct err e = { 0 };
	int r;

	if (a->boot_id_hidden)
		return;
	r = make_other_id(&e);
	if (r == 0 && mount(other_id, boot_id, NULL, MS_BIND, NULL) < 0)
		r = err_sys(&e, "mount over '%s'", boot_id);
	(void)unlink(other_id);
	a->boot_id_hidden = r == 0;
	if (r < 0)
		log_warn("%s", e.text);
}

void identity_show_boot_id(struct agent *a)
{
	if (a->boot_id_hidden && umount2(boot_id, MNT_DETACH) < 0)
		log_warn("unmount '%s': %s", boot_id, strerror(errno));
	a->boot_id_hidden = false;
}

void identity_reopen(struct agent *a)
{
	identity_open(&a->names);
	network_open_files(&a->network);
	trust_open(&a->trust);
}

static int adopt_network(struct agent *a, const struct wire_identity *id, struct err *e)
{
	struct err why = { 0 };

	if (!id->has_network || network_adopt(&a->network, &id->network, &why) == 0)
		return 0;
	if (a->hold == HOLD_NONE)
		return err_set(e, why.code, "%s", why.text);
	log_warn("%s", why.text);
	return 0;
}

int identity_adopt(struct agent *a, const struct wire_identity *id, struct wire_trusted *ret_where,
                   struct err *e)
{
	int r = add_entropy(a->random_fd, id->entropy, e);

	if (r == 0)
		r = identity_set_clock(id->realtime_ns, e);
	if (r == 0)
		r = set_hostname(&a->names, id->hostname, e);
	if (r == 0)
		write_machine_id(&a->names, id->machine_id);
	if (r == 0)
		r = adopt_network(a, id, e);
	if (r == 0)
		trust_adopt(&a->trust, id->has_trust ? &id->trust : NULL, ret_where);
	if (r == 0 && id->has_workspace && !a->rescue)
		r = workspace_mount(&a->workspace, a->scratch_fd, &id->workspace, e);
	if (r == 0)
		r = cgroup_limit(&a->cg, id->memory_max, id->pids_max, e);
	return r;
}
