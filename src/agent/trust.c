#include "agent/trust.h"

#include "agent/jks.h"
#include "base/buf.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/log.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/param.h>
#include <sys/stat.h>
#include <unistd.h>

static const char cert_name[] = "berm.crt";
static const char new_suffix[] = ".berm-new";
static const char links_dir[] = "etc/ssl/certs";
static const char cert_file[] = "/usr/local/share/ca-certificates/berm.crt"; /* the first dir's */

/* Where each family of distributions keeps what an administrator adds. */
static const struct {
	const char *dir;
	bool make; /* else only where it exists */
} cert_dirs[TRUST_CERTS] = {
	{ "usr/local/share/ca-certificates", true },
	{ "etc/pki/ca-trust/source/anchors", false },
};

/* What programs read; some of these are links to others. The first that exists is reported. */
static const char *const bundle_paths[TRUST_BUNDLES] = {
	"/etc/ssl/certs/ca-certificates.crt",                /* Debian, Alpine, Arch; Go's first */
	"/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* Fedora */
	"/etc/pki/tls/certs/ca-bundle.crt",                  /* older ones of that family */
	"/var/lib/ca-certificates/ca-bundle.pem",            /* SUSE */
	"/etc/ssl/cert.pem",                                 /* OpenSSL's own default */
};

/* Java's own stores, at the places where distributions and images keep them. */
static const char *const java_paths[] = {
	"etc/ssl/certs/java/cacerts", /* Debian */
	"etc/pki/java/cacerts",       /* Fedora's old ones */
	"etc/pki/ca-trust/extracted/java/cacerts",
	"opt/java/openjdk/lib/security/cacerts", /* images of the JDK */
	"usr/local/openjdk-17/lib/security/cacerts",
	"usr/local/openjdk-11/lib/security/cacerts",
};

void trust_init(struct trust *t)
{
	*t = (struct trust){ .links_fd = -1 };
	for (size_t i = 0; i < TRUST_CERTS; i++)
		t->cert_fds[i] = -1;
	for (size_t i = 0; i < TRUST_BUNDLES; i++)
		t->bundles[i].fd = -1;
	memset(t->room, '\n', sizeof(t->room));
}

static int open_root(int *ret_fd)
{
	return fd_open("/", O_RDONLY | O_DIRECTORY, 0, ret_fd, NULL);
}

static int open_dir(int root, const char *path, int *ret_fd)
{
	return fd_open_beneath(root, path, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_XDEV, ret_fd,
	                       NULL);
}

/* A plain file of the root's own mount. */
static int open_plain(int dir, const char *path, int flags)
{
	_own_fd_ int fd = -1;
	struct stat st;

	if (fd_open_beneath(dir, path, O_RDWR | O_NONBLOCK | flags, flags & O_CREAT ? 0644 : 0,
	                    RESOLVE_NO_XDEV, &fd, NULL) < 0 ||
	    fstat(fd, &st) < 0 || !S_ISREG(st.st_mode))
		return -1;
	return steal_fd(&fd);
}

/* mkdir -p */
static void make_dirs(int root, const char *path)
{
	char part[WIRE_NAME_MAX];
	size_t len = strlen(path);

	assert(len < sizeof(part));
	for (size_t i = 1; i <= len; i++) {
		if (path[i] != '/' && path[i] != '\0')
			continue;
		memcpy(part, path, i);
		part[i] = '\0';
		if (mkdirat(root, part, 0755) < 0 && errno != EEXIST)
			return; /* the open says so */
	}
}

static bool same_file(int a, int b)
{
	struct stat s;
	struct stat t;

	return fstat(a, &s) == 0 && fstat(b, &t) == 0 && s.st_dev == t.st_dev &&
	       s.st_ino == t.st_ino;
}

static bool opened_before(const struct trust *t, size_t index)
{
	for (size_t i = 0; i < index; i++)
		if (t->bundles[i].fd >= 0 && same_file(t->bundles[i].fd, t->bundles[index].fd))
			return true;
	return false;
}

static bool write_at(int fd, const void *data, size_t len, uint64_t at)
{
	return pwrite(fd, data, len, (off_t)at) == (ssize_t)len;
}

/* Room behind what is there, which ends in a line's end. */
static bool add_room(const struct trust *t, struct trust_bundle *b)
{
	char last = '\n';
	struct stat st;

	if (fstat(b->fd, &st) < 0 || st.st_size > TRUST_BUNDLE_MAX)
		return false;
	b->at = (uint64_t)st.st_size;
	if (b->at > 0 && pread(b->fd, &last, 1, (off_t)b->at - 1) != 1)
		return false;
	if (last != '\n' && !write_at(b->fd, "\n", 1, b->at++))
		return false;
	return write_at(b->fd, t->room, sizeof(t->room), b->at);
}

static void open_bundles(struct trust *t, int root)
{
	for (size_t i = 0; i < TRUST_BUNDLES; i++) {
		struct trust_bundle *b = &t->bundles[i];

		own_close_fd(&b->fd);
		b->fd = open_plain(root, bundle_paths[i] + 1, 0);
		if (b->fd >= 0 && opened_before(t, i)) {
			own_close_fd(&b->fd);
			b->fd = -1;
		}
	}
}

static void open_certs(struct trust *t, int root, int flags)
{
	for (size_t i = 0; i < TRUST_CERTS; i++) {
		_own_fd_ int dir = -1;

		own_close_fd(&t->cert_fds[i]);
		t->cert_fds[i] = -1;
		if (open_dir(root, cert_dirs[i].dir, &dir) == 0)
			t->cert_fds[i] = open_plain(dir, cert_name, flags);
	}
}

static void open_all(struct trust *t, int root, int flags)
{
	open_bundles(t, root);
	open_certs(t, root, flags);
	own_close_fd(&t->links_fd);
	t->links_fd = -1;
	if (open_dir(root, links_dir, &t->links_fd) < 0)
		t->links_fd = -1;
}

void trust_open(struct trust *t)
{
	_own_fd_ int root = -1;

	if (t->ready && open_root(&root) == 0)
		open_all(t, root, 0);
}

/* An image that trusts nobody: programs find this one, where most look first. */
static void make_bundle(struct trust *t, int root)
{
	for (size_t i = 0; i < TRUST_BUNDLES; i++)
		if (t->bundles[i].fd >= 0)
			return;
	make_dirs(root, links_dir);
	t->bundles[0].fd = open_plain(root, bundle_paths[0] + 1, O_CREAT);
}

void trust_prepare(struct trust *t)
{
	_own_fd_ int root = -1;

	if (open_root(&root) < 0)
		return;
	for (size_t i = 0; i < TRUST_CERTS; i++)
		if (cert_dirs[i].make)
			make_dirs(root, cert_dirs[i].dir);
	t->ready = true;
	open_all(t, root, O_CREAT);
	make_bundle(t, root);
	for (size_t i = 0; i < TRUST_BUNDLES; i++) {
		struct trust_bundle *b = &t->bundles[i];

		if (b->fd < 0 || add_room(t, b))
			continue;
		log_warn("%s: no room for a certificate", bundle_paths[i]);
		own_close_fd(&b->fd);
		b->fd = -1;
	}
}

/* --- a new life --- */

/* Is the room where we left it, in a file that has its name? */
static bool room_is_there(const struct trust *t, const struct trust_bundle *b)
{
	char found[TRUST_ROOM];
	struct stat st;

	return fstat(b->fd, &st) == 0 && st.st_nlink > 0 &&
	       pread(b->fd, found, sizeof(found), (off_t)b->at) == (ssize_t)sizeof(found) &&
	       memcmp(found, t->room, sizeof(found)) == 0;
}

/* Without the old certificate, which may be anywhere in it. */
static size_t cut_out(char *text, size_t len, const char *what, size_t what_len)
{
	char *at;

	while (what_len > 0 && (at = memmem(text, len, what, what_len))) {
		len -= what_len;
		memmove(at, at + what_len, len - (size_t)(at - text));
	}
	return len;
}

/* A file in the place of another: all of it or nothing. room: TRUST_ROOM bytes more, or NULL. */
static bool write_new(int root, const char *path, const char *text, size_t len, const char *room,
                      int *ret_fd)
{
	char name[WIRE_NAME_MAX];
	_own_fd_ int fd = -1;

	(void)snprintf(name, sizeof(name), "%s%s", path, new_suffix);
	(void)unlinkat(root, name, 0);
	if (fd_openat(root, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0644, &fd, NULL) < 0)
		return false;
	if (!write_at(fd, text, len, 0) || (room && !write_at(fd, room, TRUST_ROOM, len)) ||
	    renameat(root, name, root, path) < 0) {
		(void)unlinkat(root, name, 0);
		return false;
	}
	*ret_fd = steal_fd(&fd);
	return true;
}

/* A bundle that the guest made anew or edited: we do the same. `room` is what it is to end in. */
static bool rewrite(const struct trust *t, struct trust_bundle *b, const char *path,
                    const char *room)
{
	_own_free_ char *text = NULL;
	_own_fd_ int root = -1;
	struct stat st;
	size_t len;
	int fd = -1;

	if (open_root(&root) < 0 || fstat(b->fd, &st) < 0 || st.st_size > TRUST_BUNDLE_MAX)
		return false;
	len = (size_t)st.st_size;
	text = malloc(len + 1);
	if (!text || pread(b->fd, text, len, 0) != (ssize_t)len)
		return false;
	len = cut_out(text, len, t->room, t->pem_len);
	if (len > 0 && text[len - 1] != '\n')
		text[len++] = '\n';
	if (!write_new(root, path, text, len, room, &fd))
		return false;
	own_close_fd(&b->fd);
	b->fd = fd;
	b->at = len;
	return true;
}

/* True: some bundle has it; ret_path is the first. */
static bool set_bundles(struct trust *t, const char *room, const char **ret_path)
{
	bool any = false;

	for (size_t i = 0; i < TRUST_BUNDLES; i++) {
		struct trust_bundle *b = &t->bundles[i];

		if (b->fd < 0)
			continue;
		if (!(room_is_there(t, b) ? write_at(b->fd, room, TRUST_ROOM, b->at)
		                          : rewrite(t, b, bundle_paths[i] + 1, room))) {
			log_warn("%s: the certificate does not get into it", bundle_paths[i]);
			continue;
		}
		*ret_path = any ? *ret_path : bundle_paths[i];
		any = true;
	}
	return any;
}

static void cert_path(size_t index, char ret[static WIRE_NAME_MAX])
{
	(void)snprintf(ret, WIRE_NAME_MAX, "%s/%s", cert_dirs[index].dir, cert_name);
}

static bool has_name(int fd)
{
	struct stat st;

	return fd >= 0 && fstat(fd, &st) == 0 && st.st_nlink > 0;
}

/*
 * The one that stands alone, which `room` begins with; without one the file goes. Where the one
 * before was longer by a few bytes, empty lines follow: to cut a file is a way that the kernel of a
 * restored guest has not been yet, and slow for that.
 */
static bool set_cert(struct trust *t, size_t index, struct span pem, const char *room)
{
	const size_t len = MAX(pem.len, t->pem_len);
	int *fd = &t->cert_fds[index];
	char path[WIRE_NAME_MAX];
	_own_fd_ int root = -1;
	struct stat st;

	cert_path(index, path);
	if (pem.len == 0) {
		if (has_name(*fd) && open_root(&root) == 0)
			(void)unlinkat(root, path, 0);
		return false;
	}
	if (!has_name(*fd) && (cert_dirs[index].make || *fd >= 0) && open_root(&root) == 0) {
		own_close_fd(fd);
		*fd = open_plain(root, path, O_CREAT);
	}
	if (*fd < 0 || fstat(*fd, &st) < 0 || !write_at(*fd, room, len, 0))
		return false;
	return st.st_size <= (off_t)len || ftruncate(*fd, (off_t)len) == 0;
}

/* As c_rehash makes it: <hash>.<n> in the directory of certificates. */
static void set_link(struct trust *t, uint32_t name_hash)
{
	char target[WIRE_NAME_MAX] = "/";

	if (t->links_fd < 0 || (t->link[0] && t->name_hash == name_hash))
		return;
	if (t->link[0])
		(void)unlinkat(t->links_fd, t->link, 0);
	t->link[0] = '\0';
	t->name_hash = name_hash;
	if (name_hash == 0)
		return;
	(void)snprintf(target, sizeof(target), "/%s/%s", cert_dirs[0].dir, cert_name);
	for (unsigned n = 0; n < TRUST_LINKS_MAX; n++) {
		(void)snprintf(t->link, sizeof(t->link), "%08" PRIx32 ".%u", name_hash, n);
		if (symlinkat(target, t->links_fd, t->link) == 0)
			return;
		if (errno != EEXIST)
			break;
	}
	log_warn("/%s: no link to the certificate", links_dir);
	t->link[0] = '\0';
}

/* --- Java --- */

static int read_store(int fd, uint8_t **ret, size_t *ret_len)
{
	_own_free_ uint8_t *at = NULL;
	struct stat st;

	if (fstat(fd, &st) < 0 || st.st_size <= 0 || st.st_size > TRUST_BUNDLE_MAX)
		return -EFBIG;
	at = malloc((size_t)st.st_size);
	if (!at || pread(fd, at, (size_t)st.st_size, 0) != st.st_size)
		return -EIO;
	*ret_len = (size_t)st.st_size;
	*ret = steal_ptr(&at);
	return 0;
}

static void set_java(const struct trust *t, int root, const char *path, struct span der)
{
	_own_fd_ int fd = open_plain(root, path, 0);
	_own_free_ uint8_t *store = NULL;
	_own_free_ uint8_t *made = NULL;
	_own_fd_ int made_fd = -1;
	struct buf out;
	size_t len = 0;
	int r;

	if (fd < 0)
		return;
	r = read_store(fd, &store, &len);
	made = r == 0 ? malloc(len + JKS_ENTRY_MAX) : NULL;
	if (made) {
		buf_init(&out, made, len + JKS_ENTRY_MAX);
		r = jks_put(span_of(store, len), span_of(t->der, t->der_len), der, &out);
	} else if (r == 0) {
		r = -ENOMEM;
	}
	if (r < 0)
		log_warn("/%s: Java does not get the certificate: it is %s", path,
		         r == -EBADMSG ? "no JKS store with the usual password"
		                       : "too large, or cannot be read");
	else if (!write_new(root, path, (const char *)made, out.len, NULL, &made_fd))
		log_warn("/%s: the certificate does not get into it", path);
}

/* Those that are there; most images have none. */
static void set_javas(struct trust *t, struct span pem)
{
	uint8_t room[JKS_DER_MAX];
	struct buf der;
	_own_fd_ int root = -1;

	if (pem.len == 0 && t->der_len == 0)
		return;
	buf_init(&der, room, sizeof(room));
	if (pem.len > 0 && !jks_der(pem, &der)) /* not the gate's, then */
		der.len = 0;
	if (open_root(&root) < 0)
		return;
	for (size_t i = 0; i < sizeof(java_paths) / sizeof(java_paths[0]); i++)
		set_java(t, root, java_paths[i], buf_span(&der));
	memcpy(t->der, room, der.len);
	t->der_len = der.len;
}

void trust_adopt(struct trust *t, const struct wire_trust *want, struct wire_trusted *ret_where)
{
	static const struct wire_trust nobody;
	const struct span pem = want ? want->pem : nobody.pem;
	const char *bundle = "";
	char room[TRUST_ROOM];
	bool alone = false;

	*ret_where = (struct wire_trusted){ .cert = span_str(""), .bundle = span_str("") };
	if (!t->ready || (!want && t->pem_len == 0 && t->adopted))
		return;
	assert(pem.len <= sizeof(room));
	memset(room, '\n', sizeof(room));
	if (pem.len > 0)
		memcpy(room, pem.at, pem.len);
	for (size_t i = 0; i < TRUST_CERTS; i++)
		if (set_cert(t, i, pem, room) && i == 0)
			alone = true;
	(void)set_bundles(t, room, &bundle);
	set_javas(t, pem);
	set_link(t, alone && want ? want->name_hash : 0);
	memcpy(t->room, room, sizeof(room));
	t->pem_len = pem.len;
	t->adopted = true;
	if (pem.len == 0)
		return;
	ret_where->bundle = span_str(bundle);
	ret_where->cert = span_str(alone ? cert_file : bundle);
}
