/*
 * PID 1 of the kernel selftest: tries each feature that guests rely on and prints one line for it,
 * "ok NAME" or "FAIL NAME: why", then "N passed, N failed", to the kernel log's console.
 *
 * Features are tried by use, not by configuration: a file system is mounted and read, a ring is
 * set up, a table is created over netlink. vda is a squashfs (zstd) with a file "hello", vdb
 * another (lz4), vdc an empty disk that already holds an ext4.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <linux/loop.h>
#include <linux/netfilter.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <linux/netlink.h>
#include <linux/seccomp.h>
#include <linux/userfaultfd.h>
#include <mqueue.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/fanotify.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/reboot.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { NAME_MAX_BYTES = 64, TEXT_MAX = 4096, NL_MAX = 8192 };

static unsigned passed;
static unsigned failed;

/* ok is a system call's result or a truth: negative means failure, and errno says why. */
static void check(const char *name, long ok)
{
	if (ok >= 0) {
		passed++;
		printf("ok %s\n", name);
	} else {
		failed++;
		printf("FAIL %s: %s\n", name, strerror(errno));
	}
}

static long truth(bool is, int why)
{
	if (is)
		return 0;
	errno = why;
	return -1;
}

static bool file_has(const char *path, const char *word)
{
	char text[TEXT_MAX];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return false;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	if (n < 0)
		return false;
	text[n] = '\0';
	return strstr(text, word) != NULL;
}

static int put(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0755);
	ssize_t n;

	if (fd < 0)
		return -1;
	n = write(fd, text, strlen(text));
	close(fd);
	return n < 0 ? -1 : 0;
}

static void test_pseudo_fs(void)
{
	mkdir("/proc", 0755);
	mkdir("/sys", 0755);
	mkdir("/dev", 0755);
	mkdir("/tmp", 0755);
	check("proc", mount("proc", "/proc", "proc", 0, ""));
	check("sysfs", mount("sys", "/sys", "sysfs", 0, ""));
	check("devtmpfs", mount("dev", "/dev", "devtmpfs", 0, ""));
	mkdir("/dev/pts", 0755);
	mkdir("/dev/mqueue", 0755);
	mkdir("/dev/huge", 0755);
	check("devpts", mount("pts", "/dev/pts", "devpts", 0, "ptmxmode=0666"));
	check("mqueue-fs", mount("mq", "/dev/mqueue", "mqueue", 0, ""));
	check("hugetlbfs", mount("huge", "/dev/huge", "hugetlbfs", 0, ""));
	check("tmpfs", mount("tmp", "/tmp", "tmpfs", 0, ""));
	put("/tmp/x", "x");
	check("tmpfs-xattr-trusted", setxattr("/tmp/x", "trusted.t", "1", 1, 0));
	check("tmpfs-xattr-user", setxattr("/tmp/x", "user.t", "1", 1, 0));
	check("tmpfs-xattr-security", setxattr("/tmp/x", "security.capability",
	                                       "\0\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 20, 0));
}

static void test_disks(void)
{
	/* version 2, one ACL_USER_OBJ ... ACL_OTHER set with a named user: what setfacl writes */
	static const uint8_t acl[] = { 2,    0,    0,    0, 1,    0,    7,    0,    0xff,
		                       0xff, 0xff, 0xff, 2, 0,    6,    0,    1,    0,
		                       0,    0,    4,    0, 5,    0,    0xff, 0xff, 0xff,
		                       0xff, 0x10, 0,    7, 0,    0xff, 0xff, 0xff, 0xff,
		                       0x20, 0,    5,    0, 0xff, 0xff, 0xff, 0xff };
	struct loop_config config = { 0 };
	char path[NAME_MAX_BYTES];
	int control;
	int number;

	mkdir("/img", 0755);
	mkdir("/lz4", 0755);
	mkdir("/ext4", 0755);
	mkdir("/merged", 0755);
	mkdir("/looped", 0755);
	check("squashfs-zstd", mount("/dev/vda", "/img", "squashfs", MS_RDONLY, ""));
	check("squashfs-read", truth(file_has("/img/hello", "hello"), ENODATA));
	check("squashfs-xattr", getxattr("/img/hello", "user.berm", path, sizeof(path)));
	check("squashfs-lz4", mount("/dev/vdb", "/lz4", "squashfs", MS_RDONLY, ""));
	check("squashfs-lz4-read", truth(file_has("/lz4/hello", "hello"), ENODATA));
	check("ext4", mount("/dev/vdc", "/ext4", "ext4", 0, ""));
	mkdir("/ext4/upper", 0755);
	mkdir("/ext4/work", 0755);
	put("/ext4/file", "file");
	check("ext4-xattr", setxattr("/ext4/file", "user.t", "1", 1, 0));
	check("ext4-acl", setxattr("/ext4/file", "system.posix_acl_access", acl, sizeof(acl), 0));
	check("overlayfs", mount("o", "/merged", "overlay", 0,
	                         "lowerdir=/img,upperdir=/ext4/upper,workdir=/ext4/work"));
	check("overlayfs-copy-up", put("/merged/hello", "HELLO"));
	check("overlayfs-lower-kept", truth(file_has("/img/hello", "hello"), EIO));
	check("overlayfs-whiteout", unlink("/merged/dir/gone"));

	control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
	check("loop-control", control);
	number = ioctl(control, LOOP_CTL_GET_FREE);
	snprintf(path, sizeof(path), "/dev/loop%d", number);
	config.fd = (uint32_t)open("/img/inner.squashfs", O_RDONLY | O_CLOEXEC);
	config.info.lo_flags = LO_FLAGS_READ_ONLY;
	check("loop", ioctl(open(path, O_RDONLY | O_CLOEXEC), LOOP_CONFIGURE, &config));
	check("loop-mount", mount(path, "/looped", "squashfs", MS_RDONLY, ""));
}

static void test_cgroups(void)
{
	check("cgroup2", mount("cg", "/sys/fs/cgroup", "cgroup2", 0, ""));
	check("cgroup-memory", put("/sys/fs/cgroup/cgroup.subtree_control", "+memory"));
	check("cgroup-pids", put("/sys/fs/cgroup/cgroup.subtree_control", "+pids"));
	check("cgroup-cpu", put("/sys/fs/cgroup/cgroup.subtree_control", "+cpu"));
	check("cgroup-io", put("/sys/fs/cgroup/cgroup.subtree_control", "+io"));
	check("cgroup-cpuset", put("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset"));
	check("cgroup-mkdir", mkdir("/sys/fs/cgroup/t", 0755));
	check("cgroup-memory-max", put("/sys/fs/cgroup/t/memory.max", "64M"));
	check("cgroup-pids-max", put("/sys/fs/cgroup/t/pids.max", "10"));
	check("cgroup-cpu-max", put("/sys/fs/cgroup/t/cpu.max", "10000 100000"));
	check("cgroup-io-max", access("/sys/fs/cgroup/t/io.max", W_OK));
	check("cgroup-freeze", put("/sys/fs/cgroup/t/cgroup.freeze", "1"));
	check("cgroup-kill", put("/sys/fs/cgroup/t/cgroup.kill", "1"));
}

static int in_child(int (*what)(void))
{
	int status;
	pid_t pid = fork();

	if (pid == 0)
		_exit(what() < 0 ? errno : 0);
	if (pid < 0 || waitpid(pid, &status, 0) != pid)
		return -1;
	errno = WIFEXITED(status) ? WEXITSTATUS(status) : EFAULT;
	return errno ? -1 : 0;
}

static int unshare_user(void)
{
	return unshare(CLONE_NEWUSER);
}

static int unshare_rest(void)
{
	return unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWPID | CLONE_NEWNET |
	               CLONE_NEWCGROUP | CLONE_NEWTIME);
}

static int seccomp_errno(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, 0),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_getppid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EXDEV),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = 4, .filter = code };

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) < 0)
		return -1;
	return syscall(SYS_getppid) == -1 && errno == EXDEV ? 0 : -1;
}

static int seccomp_listener(void)
{
	struct sock_filter code[] = { BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW) };
	struct sock_fprog prog = { .len = 1, .filter = code };

	return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER,
	                    &prog);
}

static int landlock_denies(void)
{
	uint64_t handled[3] = { 1 << 2 /* READ_FILE */ };
	int fd = (int)syscall(SYS_landlock_create_ruleset, handled, 8, 0);

	prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
	if (fd < 0 || syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		return -1;
	fd = open("/proc/version", O_RDONLY);
	if (fd < 0 && errno == EACCES)
		return 0;
	errno = EPERM;
	return -1;
}

static void test_confinement(void)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, 1 /* version */);

	check("namespace-user", in_child(unshare_user));
	check("namespaces-rest", in_child(unshare_rest));
	check("seccomp-filter", in_child(seccomp_errno));
	check("seccomp-listener", in_child(seccomp_listener));
	printf("landlock ABI %ld\n", abi);
	check("landlock-abi-6", truth(abi >= 6, ENOSYS));
	check("landlock-denies", in_child(landlock_denies));
}

static void test_fds(void)
{
	uint8_t params[120] = { 0 }; /* struct io_uring_params */
	sigset_t none;
	struct uffdio_api api = { .api = UFFD_API };
	struct iovec mine = { .iov_base = params, .iov_len = 4 };
	uint8_t got[4];
	struct iovec to = { .iov_base = got, .iov_len = 4 };
	unsigned long aio = 0;
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct {
		struct file_handle *h;
		uint8_t raw[sizeof(unsigned) + sizeof(int) + 128];
	} handle = { 0 };
	int mount_id;
	int fd;

	sigemptyset(&none);
	check("io_uring", syscall(SYS_io_uring_setup, 8, params));
	check("epoll", epoll_create1(EPOLL_CLOEXEC));
	check("eventfd", eventfd(0, EFD_CLOEXEC));
	check("timerfd", timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC));
	check("signalfd", signalfd(-1, &none, SFD_CLOEXEC));
	check("inotify", inotify_add_watch(inotify_init1(IN_CLOEXEC), "/tmp", IN_CREATE));
	check("fanotify", fanotify_init(FAN_CLASS_NOTIF | FAN_CLOEXEC, O_RDONLY));
	check("memfd", memfd_create("m", MFD_CLOEXEC | MFD_ALLOW_SEALING));
	fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	check("userfaultfd", fd);
	check("userfaultfd-api", ioctl(fd, UFFDIO_API, &api));
	check("aio", syscall(SYS_io_setup, 8, &aio));
	check("pidfd", syscall(SYS_pidfd_open, getpid(), 0));
	check("kcmp", syscall(SYS_kcmp, getpid(), getpid(), 0, 0, 0));
	check("process_vm_readv", process_vm_readv(getpid(), &to, 1, &mine, 1, 0));
	check("membarrier", syscall(SYS_membarrier, 0, 0, 0));
	check("openat2", syscall(SYS_openat2, AT_FDCWD, "/", (uint64_t[3]){ O_PATH }, 24));
	fd = open("/tmp/lock", O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	check("posix-lock", fcntl(fd, F_SETLK, &lock));
	check("ofd-lock", fcntl(open("/tmp/lock2", O_RDWR | O_CREAT, 0644), F_OFD_SETLK, &lock));
	*(unsigned *)(void *)handle.raw = 128;
	check("file-handle",
	      syscall(SYS_name_to_handle_at, AT_FDCWD, "/ext4/file", handle.raw, &mount_id, 0));
	check("keyctl", syscall(SYS_keyctl, 1 /* join a session keyring */, NULL));
}

static void test_ipc_and_memory(void)
{
	struct mq_attr attr = { .mq_maxmsg = 4, .mq_msgsize = 64 };
	void *map;

	check("sysv-shm", shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
	check("sysv-sem", semget(IPC_PRIVATE, 1, IPC_CREAT | 0600));
	check("posix-mqueue", mq_open("/q", O_CREAT | O_RDWR, 0600, &attr));
	map = mmap(NULL, 4 << 20, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	check("thp-madvise", madvise(map, 4 << 20, MADV_HUGEPAGE));
	check("thp-is-madvise",
	      truth(file_has("/sys/kernel/mm/transparent_hugepage/enabled", "[madvise]"), EINVAL));
	check("pty", open("/dev/ptmx", O_RDWR | O_CLOEXEC | O_NOCTTY));
	check("dev-tty", mknod("/tmp/tty", S_IFCHR | 0600, 5 << 8));
	check("fuse", open("/dev/fuse", O_RDWR | O_CLOEXEC));
	check("hwrng", open("/dev/hwrng", O_RDONLY | O_CLOEXEC));
	check("getrandom", syscall(SYS_getrandom, &attr, 8, 1 /* GRND_NONBLOCK */));
	mkdir("/binfmt", 0755);
	check("binfmt_misc", mount("b", "/binfmt", "binfmt_misc", 0, ""));
	check("smaps", truth(file_has("/proc/self/smaps", "Rss"), ENOENT));
	check("core-pattern", put("/proc/sys/kernel/core_pattern", "core"));
	check("user-ns-limit", access("/proc/sys/user/max_user_namespaces", W_OK));
}

static int bpf_load(void)
{
	/* r0 = 1; exit: what a container runtime's device program boils down to */
	struct bpf_insn code[] = {
		{ .code = BPF_ALU64 | BPF_MOV | BPF_K, .dst_reg = 0, .imm = 1 },
		{ .code = BPF_JMP | BPF_EXIT },
	};
	union bpf_attr attr = { 0 };

	attr.prog_type = BPF_PROG_TYPE_CGROUP_DEVICE;
	attr.insn_cnt = 2;
	attr.insns = (uint64_t)(uintptr_t)code;
	attr.license = (uint64_t)(uintptr_t) "GPL";
	return (int)syscall(SYS_bpf, BPF_PROG_LOAD, &attr, sizeof(attr));
}

/* A netlink message under construction: bounded, and silently full rather than overrun. */
struct nl {
	uint8_t data[NL_MAX];
	size_t bytes;
	size_t head; /* of the message being built */
};

static void nl_put(struct nl *m, const void *data, size_t bytes)
{
	size_t padded = (bytes + 3) & ~(size_t)3;

	if (padded > sizeof(m->data) - m->bytes)
		return;
	memset(m->data + m->bytes, 0, padded);
	memcpy(m->data + m->bytes, data, bytes);
	m->bytes += padded;
}

static void nl_begin(struct nl *m, uint16_t type, uint16_t flags, const void *body, size_t bytes)
{
	struct nlmsghdr h = { .nlmsg_type = type,
		              .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | flags) };

	m->head = m->bytes;
	nl_put(m, &h, sizeof(h));
	nl_put(m, body, bytes);
}

static void nl_end(struct nl *m)
{
	uint32_t bytes = (uint32_t)(m->bytes - m->head);

	memcpy(m->data + m->head, &bytes, sizeof(bytes));
}

static size_t nl_attr(struct nl *m, uint16_t type, const void *data, size_t bytes)
{
	struct nlattr a = { .nla_len = (uint16_t)(sizeof(a) + bytes), .nla_type = type };
	size_t at = m->bytes;

	nl_put(m, &a, sizeof(a));
	if (bytes)
		nl_put(m, data, bytes);
	return at;
}

static void nl_nest_end(struct nl *m, size_t at)
{
	uint16_t bytes = (uint16_t)(m->bytes - at);

	memcpy(m->data + at, &bytes, sizeof(bytes));
}

static void nl_text(struct nl *m, uint16_t type, const char *s)
{
	nl_attr(m, type, s, strlen(s) + 1);
}

static void nl_be32(struct nl *m, uint16_t type, uint32_t v)
{
	v = htonl(v);
	nl_attr(m, type, &v, sizeof(v));
}

/* Sends the batch; -1 and errno if the kernel refused any part of it. */
static int nl_talk(const struct nl *m, int protocol, int acks)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, protocol);
	uint8_t in[NL_MAX];
	int rc = 0;

	if (fd < 0 || send(fd, m->data, m->bytes, 0) < 0)
		return -1;
	while (acks > 0 && rc == 0) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		ssize_t n = poll(&p, 1, 1000) == 1 ? recv(fd, in, sizeof(in), 0) : -1;
		struct nlmsghdr *h = (void *)in;

		if (n < 0) {
			errno = ETIMEDOUT;
			rc = -1;
		}
		for (; n > 0 && NLMSG_OK(h, (uint32_t)n); h = NLMSG_NEXT(h, n)) {
			const struct nlmsgerr *e = NLMSG_DATA(h);

			if (h->nlmsg_type != NLMSG_ERROR)
				continue;
			acks--;
			if (e->error) {
				errno = -e->error;
				rc = -1;
			}
		}
	}
	close(fd);
	return rc;
}

static void nft_expr(struct nl *m, const char *name)
{
	size_t at = nl_attr(m, NFTA_LIST_ELEM | NLA_F_NESTED, NULL, 0);

	nl_text(m, NFTA_EXPR_NAME, name);
	nl_nest_end(m, at);
}

/* An inet table with a postrouting nat chain and the rule "masquerade", in one transaction. */
static int nft_masquerade(void)
{
	struct nfgenmsg batch = { .nfgen_family = AF_UNSPEC,
		                  .res_id = htons(NFNL_SUBSYS_NFTABLES) };
	struct nfgenmsg inet = { .nfgen_family = NFPROTO_INET };
	struct nl m = { .bytes = 0 };
	size_t at;

	nl_begin(&m, NFNL_MSG_BATCH_BEGIN, 0, &batch, sizeof(batch));
	nl_end(&m);
	nl_begin(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWTABLE, NLM_F_CREATE | NLM_F_ACK, &inet,
	         sizeof(inet));
	nl_text(&m, NFTA_TABLE_NAME, "t");
	nl_end(&m);
	nl_begin(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWCHAIN, NLM_F_CREATE | NLM_F_ACK, &inet,
	         sizeof(inet));
	nl_text(&m, NFTA_CHAIN_TABLE, "t");
	nl_text(&m, NFTA_CHAIN_NAME, "c");
	at = nl_attr(&m, NFTA_CHAIN_HOOK | NLA_F_NESTED, NULL, 0);
	nl_be32(&m, NFTA_HOOK_HOOKNUM, NF_INET_POST_ROUTING);
	nl_be32(&m, NFTA_HOOK_PRIORITY, 100);
	nl_nest_end(&m, at);
	nl_text(&m, NFTA_CHAIN_TYPE, "nat");
	nl_end(&m);
	nl_begin(&m, NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_NEWRULE, NLM_F_CREATE | NLM_F_ACK, &inet,
	         sizeof(inet));
	nl_text(&m, NFTA_RULE_TABLE, "t");
	nl_text(&m, NFTA_RULE_CHAIN, "c");
	at = nl_attr(&m, NFTA_RULE_EXPRESSIONS | NLA_F_NESTED, NULL, 0);
	nft_expr(&m, "counter");
	nft_expr(&m, "masq");
	nl_nest_end(&m, at);
	nl_end(&m);
	nl_begin(&m, NFNL_MSG_BATCH_END, 0, &batch, sizeof(batch));
	nl_end(&m);
	return nl_talk(&m, NETLINK_NETFILTER, 3);
}

/* Asks nft_compat, as iptables-nft does, whether an xtables match or target exists. */
static int xtables_has(uint8_t family, const char *name, uint32_t revision, uint32_t target)
{
	struct nfgenmsg g = { .nfgen_family = family };
	struct nl m = { .bytes = 0 };

	nl_begin(&m, NFNL_SUBSYS_NFT_COMPAT << 8 | 0, NLM_F_ACK, &g, sizeof(g));
	nl_text(&m, 1, name);
	nl_be32(&m, 2, revision);
	nl_be32(&m, 3, target);
	nl_end(&m);
	return nl_talk(&m, NETLINK_NETFILTER, 1);
}

static int link_add(const char *kind)
{
	struct {
		uint8_t family, pad;
		uint16_t type;
		int32_t index;
		uint32_t flags, change;
	} body = { 0 };
	struct nl m = { .bytes = 0 };
	char name[NAME_MAX_BYTES];
	size_t at;

	snprintf(name, sizeof(name), "t-%s", kind);
	nl_begin(&m, 16 /* RTM_NEWLINK */, NLM_F_CREATE | NLM_F_EXCL | NLM_F_ACK, &body,
	         sizeof(body));
	nl_text(&m, 3 /* IFLA_IFNAME */, name);
	at = nl_attr(&m, 18 /* IFLA_LINKINFO */ | NLA_F_NESTED, NULL, 0);
	nl_text(&m, 1 /* IFLA_INFO_KIND */, kind);
	nl_nest_end(&m, at);
	nl_end(&m);
	return nl_talk(&m, NETLINK_ROUTE, 1);
}

static void test_net(void)
{
	static const struct {
		const char *name;
		uint8_t family, revision, target;
	} xt[] = {
		{ "addrtype", 2, 1, 0 }, { "conntrack", 2, 3, 0 }, { "comment", 2, 0, 0 },
		{ "mark", 2, 1, 0 },     { "multiport", 2, 1, 0 }, { "limit", 2, 0, 0 },
		{ "tcp", 2, 0, 0 },      { "statistic", 2, 0, 0 }, { "MASQUERADE", 2, 0, 1 },
		{ "DNAT", 2, 2, 1 },     { "SNAT", 2, 1, 1 },      { "REJECT", 2, 0, 1 },
		{ "REJECT", 10, 0, 1 },  { "TCPMSS", 2, 0, 1 },    { "REDIRECT", 2, 0, 1 },
	};
	struct ifreq ifr = { 0 };
	char name[NAME_MAX_BYTES];
	int tun = open("/dev/net/tun", O_RDWR | O_CLOEXEC);

	memcpy(ifr.ifr_name, "tun7", 5);
	ifr.ifr_flags = IFF_TUN | IFF_NO_PI;
	check("tun", ioctl(tun, TUNSETIFF, &ifr));
	check("ipv6", socket(AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, 0));
	check("packet", socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
	check("unix", socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0));
	check("sock_diag", socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, 4));
	check("bridge", link_add("bridge"));
	check("veth", link_add("veth"));
	check("dummy", link_add("dummy"));
	check("virtio-net", access("/sys/class/net/eth0", F_OK));
	check("br_netfilter", access("/proc/sys/net/bridge/bridge-nf-call-iptables", F_OK));
	check("nf_tables-masquerade", nft_masquerade());
	check("nf_conntrack", access("/proc/sys/net/netfilter/nf_conntrack_max", F_OK));
	for (size_t i = 0; i < sizeof(xt) / sizeof(xt[0]); i++) {
		snprintf(name, sizeof(name), "iptables-nft-%s-%u", xt[i].name, xt[i].family);
		check(name, xtables_has(xt[i].family, xt[i].name, xt[i].revision, xt[i].target));
	}
	check("bpf-cgroup-device", bpf_load());
	check("bpf-unprivileged-off",
	      truth(!file_has("/proc/sys/kernel/unprivileged_bpf_disabled", "0"), EPERM));
}

int main(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
	test_pseudo_fs();
	test_disks();
	test_cgroups();
	test_confinement();
	test_fds();
	test_ipc_and_memory();
	test_net();
	check("virtio-balloon",
	      truth(access("/sys/bus/virtio/drivers/virtio_balloon", F_OK) == 0, ENOENT));
	check("agent-port", access("/dev/vport0p1", F_OK));
	printf("%u passed, %u failed\n", passed, failed);
	sync();
	reboot(RB_AUTOBOOT);
}
