/*
 * Landlock by raw system calls. The distribution's header lags the kernel by years, so names and
 * structs are our own, up to ABI 7; what the running kernel lacks is masked out of the ruleset and
 * the level reached is reported. Everything Landlock can handle is handled, so a right that is not
 * given by a rule is refused.
 *
 * Source: linux/landlock.h and Documentation/userspace-api/landlock.rst, Linux 6.15.
 */
#include "base/fdio.h"
#include "jail/internal.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>

enum { LANDLOCK_ABI_KNOWN = 7 };

enum {
	LL_CREATE_VERSION = 1U << 0,
	LL_RULE_PATH_BENEATH = 1,
	LL_RESTRICT_LOG_NEW_EXEC_ON = 1U << 1, /* ABI 7: audit denials of the program we exec */
};

enum {
	LL_FS_EXECUTE = 1U << 0,
	LL_FS_WRITE_FILE = 1U << 1,
	LL_FS_READ_FILE = 1U << 2,
	LL_FS_READ_DIR = 1U << 3,
	LL_FS_REMOVE_DIR = 1U << 4,
	LL_FS_REMOVE_FILE = 1U << 5,
	LL_FS_MAKE_CHAR = 1U << 6,
	LL_FS_MAKE_DIR = 1U << 7,
	LL_FS_MAKE_REG = 1U << 8,
	LL_FS_MAKE_SOCK = 1U << 9,
	LL_FS_MAKE_FIFO = 1U << 10,
	LL_FS_MAKE_BLOCK = 1U << 11,
	LL_FS_MAKE_SYM = 1U << 12,
	LL_FS_REFER = 1U << 13,     /* ABI 2 */
	LL_FS_TRUNCATE = 1U << 14,  /* ABI 3 */
	LL_FS_IOCTL_DEV = 1U << 15, /* ABI 5 */

	LL_FS_FILE_ONLY = LL_FS_EXECUTE | LL_FS_WRITE_FILE | LL_FS_READ_FILE | LL_FS_TRUNCATE |
	                  LL_FS_IOCTL_DEV, /* all a rule on a non-directory may name */
	LL_FS_ABI_1 = (1U << 13) - 1,
	LL_FS_ABI_2 = (1U << 14) - 1,
	LL_FS_ABI_3 = (1U << 15) - 1,
	LL_FS_ABI_5 = (1U << 16) - 1,
	LL_NET_BIND = 1U << 0,    /* TCP; ABI 4 */
	LL_NET_CONNECT = 1U << 1, /* the same */
};

struct ll_ruleset_attr {
	uint64_t handled_access_fs;
	uint64_t handled_access_net;
	uint64_t scoped;
};

struct ll_path_beneath_attr {
	uint64_t allowed_access;
	int32_t parent_fd;
} __attribute__((packed)); /* as the kernel has it */

unsigned jail_landlock_abi(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0UL, LL_CREATE_VERSION);

	if (abi <= 0)
		return 0;
	return abi > LANDLOCK_ABI_KNOWN ? LANDLOCK_ABI_KNOWN : (unsigned)abi;
}

static uint64_t fs_handled(unsigned abi)
{
	if (abi >= 5)
		return LL_FS_ABI_5;
	if (abi >= 3)
		return LL_FS_ABI_3;
	return abi >= 2 ? LL_FS_ABI_2 : LL_FS_ABI_1;
}

static uint64_t fs_allowed(unsigned access)
{
	uint64_t got = 0;

	if (access & JAIL_READ)
		got |= LL_FS_READ_FILE | LL_FS_READ_DIR;
	if (access & JAIL_WRITE)
		got |= LL_FS_WRITE_FILE | LL_FS_TRUNCATE;
	if (access & JAIL_EXEC)
		got |= LL_FS_EXECUTE;
	if (access & JAIL_MAKE)
		got |= LL_FS_REMOVE_DIR | LL_FS_REMOVE_FILE | LL_FS_MAKE_DIR | LL_FS_MAKE_REG |
		       LL_FS_MAKE_SOCK | LL_FS_MAKE_FIFO | LL_FS_MAKE_SYM | LL_FS_REFER;
	if (access & JAIL_IOCTL)
		got |= LL_FS_IOCTL_DEV;
	return got; /* never device nodes: nobody in a jail makes those */
}

static int add_path(int ruleset_fd, uint64_t handled, const struct jail_path *p, bool new_root,
                    struct err *e)
{
	const char *path = p->as && new_root ? p->as : p->path;
	struct ll_path_beneath_attr rule = { .allowed_access = fs_allowed(p->access) & handled };
	_own_fd_ int opened = -1;
	struct stat st;
	int r;

	rule.parent_fd = p->fd;
	if (path) {
		r = fd_open(path, O_PATH, 0, &opened, e);
		if (r == -ENOENT && p->access & JAIL_OPTIONAL) {
			err_clear(e);
			return 0;
		}
		if (r < 0)
			return r;
		rule.parent_fd = opened;
	}
	if (fstat(rule.parent_fd, &st) < 0)
		return err_sys(e, "look at '%s'", path ? path : p->why);
	if (!S_ISDIR(st.st_mode))
		rule.allowed_access &= LL_FS_FILE_ONLY;
	if (rule.allowed_access == 0)
		return 0; /* all it would give is not handled by this kernel */
	if (syscall(SYS_landlock_add_rule, ruleset_fd, LL_RULE_PATH_BENEATH, &rule, 0UL) < 0)
		return err_sys(e, "allow '%s'", path ? path : p->why);
	return 0;
}

static int add_paths(int ruleset_fd, uint64_t handled, const struct jail_path *paths, size_t count,
                     bool new_root, struct err *e)
{
	for (size_t i = 0; i < count; i++) {
		int r = add_path(ruleset_fd, handled, &paths[i], new_root, e);

		if (r < 0)
			return r;
	}
	return 0;
}

/* The kernel refuses a restrict flag it does not know, so ask for it only from ABI 7 on. */
static int restrict_self(int ruleset_fd, unsigned abi, struct err *e)
{
	unsigned flags = abi >= 7 ? LL_RESTRICT_LOG_NEW_EXEC_ON : 0;

	if (syscall(SYS_landlock_restrict_self, ruleset_fd, flags) < 0)
		return err_sys(e, "enforce");
	return 0;
}

/* What Landlock and seccomp want first. It stands here for those who close only this much. */
int jail_no_new_privs(struct err *e)
{
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "no_new_privs");
	return 0;
}

int jail_landlock(const struct jail_profile *p, const struct jail_params *params,
                  struct jail_report *ret, struct err *e)
{
	unsigned abi = jail_landlock_abi();
	struct ll_ruleset_attr attr = { .handled_access_fs = fs_handled(abi) };
	_own_fd_ int fd = -1;
	int r;

	ret->landlock_abi = abi;
	if (abi < p->landlock_abi_min || abi == 0)
		return err_set(e, -ENOSYS,
		               "this kernel's Landlock is at ABI %u and the %s jail needs %u; boot "
		               "one with Landlock (Linux 5.13 or later, \"landlock\" in lsm=)",
		               abi, p->name, p->landlock_abi_min ? p->landlock_abi_min : 1);
	if (abi >= 4)
		attr.handled_access_net = LL_NET_BIND | (p->landlock_connect ? 0 : LL_NET_CONNECT);
	if (abi >= 6)
		attr.scoped = p->landlock_scopes;
	fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0U);
	if (fd < 0)
		return err_sys(e, "create a ruleset");
	r = add_paths(fd, attr.handled_access_fs, p->paths, p->path_count, ret->new_root, e);
	if (r == 0)
		r = add_paths(fd, attr.handled_access_fs, params->paths, params->path_count,
		              ret->new_root, e);
	if (r == 0)
		r = restrict_self(fd, abi, e);
	if (r < 0)
		return r;
	ret->landlock = true;
	ret->landlock_net = abi >= 4;
	ret->landlock_scopes = abi >= 6;
	return 0;
}
