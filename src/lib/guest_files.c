#include "lib/guest.h"

#include "base/fdio.h"
#include "engine/qemu.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#if defined(__x86_64__)
#include <cpuid.h>
#endif

void guest_files_init(struct guest_files *g)
{
	*g = (struct guest_files){ .kernel_fd = -1,
		                   .initrd_fd = -1,
		                   .kvm_fd = -1,
		                   .qemu_fd = -1,
		                   .net_fd = -1,
		                   .workspace_fd = -1,
		                   .scratch_fd = -1 };
}

void guest_files_close(struct guest_files *g)
{
	own_close_fd(&g->kernel_fd);
	own_close_fd(&g->initrd_fd);
	own_close_fd(&g->kvm_fd);
	own_close_fd(&g->qemu_fd);
	own_close_fd(&g->net_fd);
	own_close_fd(&g->workspace_fd);
	own_close_fd(&g->scratch_fd);
	guest_files_init(g);
}

void guest_files_close_scope(struct guest_files *g)
{
	guest_files_close(g);
}

static int open_shared(int share_fd, const char *name, const char *what, int *ret_fd, struct err *e)
{
	int r = fd_openat(share_fd, name, O_RDONLY, 0, ret_fd, e);

	if (r == -ENOENT)
		return err_set(e, r,
		               "the %s is not installed: run 'make install', or 'berm doctor'",
		               what);
	return r;
}

/* One line of words; the file may end in a newline. */
static int read_cmdline(int share_fd, char ret[ENGINE_CMDLINE_MAX], struct err *e)
{
	_own_free_ char *text = NULL;
	size_t len;
	int r = fd_read_file(share_fd, "cmdline", ENGINE_CMDLINE_MAX - 1, &text, &len, e);

	if (r < 0)
		return r;
	(void)snprintf(ret, ENGINE_CMDLINE_MAX, "%.*s", (int)strcspn(text, "\n"), text);
	return 0;
}

static int open_engine(struct guest_files *g, struct err *e)
{
	int r;

	if (g->engine->id == ENGINE_KVM)
		return fd_open("/dev/kvm", O_RDWR, 0, &g->kvm_fd, e);
	r = qemu_find(&g->qemu, e);
	return r == 0 ? fd_open(g->qemu, O_RDONLY, 0, &g->qemu_fd, e) : r;
}

int guest_files_open(const struct paths *p, const struct engine_ops *engine,
                     struct guest_files *ret, struct err *e)
{
	_own_(guest_files_close) struct guest_files g;
	_own_fd_ int share_fd = -1;
	int r;

	guest_files_init(&g);
	g.engine = engine;
	r = fd_open(p->share, O_RDONLY | O_DIRECTORY, 0, &share_fd, e);
	if (r == 0)
		r = open_shared(share_fd, "vmlinux", "guest kernel", &g.kernel_fd, e);
	if (r == 0)
		r = open_shared(share_fd, "initramfs.cpio", "guest agent", &g.initrd_fd, e);
	if (r == 0)
		r = read_cmdline(share_fd, g.cmdline, e);
	if (r == 0)
		r = open_engine(&g, e);
	if (r < 0)
		return r;
	*ret = g;
	guest_files_init(&g);
	return 0;
}

/* A file is the same if all of these are; nobody sets the change time but the kernel. */
static void put_identity(struct buf *b, const char *name, const struct stat *st)
{
	buf_printf(b, "%s %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 ".%09ld\n", name,
	           (uint64_t)st->st_dev, (uint64_t)st->st_ino, (int64_t)st->st_size,
	           (int64_t)st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

/*
 * The brand string: a restored guest keeps the time stamp counter's frequency it was told at boot.
 */
static void put_cpu(struct buf *b)
{
#if defined(__x86_64__)
	unsigned words[12] = { 0 };

	for (unsigned i = 0; i < 3; i++)
		(void)__get_cpuid(0x80000002 + i, &words[4 * i], &words[4 * i + 1],
		                  &words[4 * i + 2], &words[4 * i + 3]);
	buf_printf(b, "cpu %.*s\n", (int)sizeof(words), (const char *)words);
#else
	(void)b;
#endif
}

static void put_size(struct buf *b, const struct spec *spec)
{
	buf_printf(b, "cpus %" PRIu32 "%s\nmemory %" PRIu64 "\ndisk %" PRIu64 "\nnetwork %s\n%s",
	           spec->limits.cpus, spec->host_cpu ? " host" : "", spec->limits.memory_bytes,
	           spec->limits.disk_bytes, spec->network ? "card" : "none",
	           spec->workspace ? "workspace disk\n" : "");
}

void guest_put_key(struct buf *b, const struct guest_files *g, const struct spec *spec)
{
	struct stat st;

	buf_printf(b, "berm %s\nengine %s\n", BERM_VERSION, g->engine->name);
	if (fstat(g->kernel_fd, &st) == 0)
		put_identity(b, "kernel", &st);
	if (fstat(g->initrd_fd, &st) == 0)
		put_identity(b, "agent", &st);
	if (g->qemu_fd >= 0 && fstat(g->qemu_fd, &st) == 0)
		put_identity(b, "qemu", &st);
	put_cpu(b);
	buf_printf(b, "cmdline %s\n", g->cmdline);
	buf_printf(b, "image %s\n", spec->image_id);
	put_size(b, spec);
	for (size_t i = 0; spec->warm && spec->warm[i]; i++)
		buf_printf(b, "warm %zu %s\n", strlen(spec->warm[i]), spec->warm[i]);
}

static int put_contents(struct buf *b, const char *name, int fd, struct err *e)
{
	struct stat st;
	uint64_t hash;
	int r;

	if (fd < 0)
		return 0;
	if (fstat(fd, &st) < 0)
		return err_sys(e, "stat the %s", name);
	r = saved_hash(fd, &hash, e);
	if (r == 0)
		buf_printf(b, "%s %" PRIu64 " %016" PRIx64 "\n", name, (uint64_t)st.st_size, hash);
	return r;
}

int guest_put_machine(struct buf *b, const struct guest_files *g, const struct spec *spec,
                      struct err *e)
{
	int r;

	buf_printf(b, "berm %s\nengine %s\n", BERM_VERSION, g->engine->name);
	r = put_contents(b, "kernel", g->kernel_fd, e);
	if (r == 0)
		r = put_contents(b, "agent", g->initrd_fd, e);
	if (r == 0)
		r = put_contents(b, "qemu", g->qemu_fd, e);
	put_cpu(b);
	buf_printf(b, "cmdline %s\nimage %s\n", g->cmdline, spec->image_id);
	put_size(b, spec);
	return r;
}
