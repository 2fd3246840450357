/* An upper layer made by hand, sent as a guest's agent sends it, read as the host reads it. */
#include "../work/proposal_run.h"
#include "agent/export.h"
#include "agent/sha256.h"
#include "base/fdio.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>
#include <sys/xattr.h>

/* Only root may write the kernel's own. */
static const char *attrs(void)
{
	return geteuid() == 0 ? "trusted.overlay." : "user.overlay.";
}

static int upper(void)
{
	int fd;

	CHECK_OK(fd_open(test_tmpdir(), O_RDONLY | O_DIRECTORY, 0, &fd, NULL), NULL);
	return fd;
}

static void make_file(int dir_fd, const char *path, const char *content)
{
	struct err e = { 0 };
	int fd;

	CHECK_OK(fd_openat(dir_fd, path, O_WRONLY | O_CREAT | O_EXCL, 0644, &fd, &e), &e);
	CHECK_OK(fd_write_all(fd, content, strlen(content), &e), &e);
	(void)close(fd);
}

static void mark_bytes(int dir_fd, const char *path, const char *name, const char *value,
                       size_t len)
{
	char whole[64];
	int fd;

	(void)snprintf(whole, sizeof(whole), "%s%s", attrs(), name);
	CHECK_OK(fd_openat(dir_fd, path, O_RDONLY, 0, &fd, NULL), NULL);
	if (fsetxattr(fd, whole, value, len, 0) < 0)
		TEST_SKIP("the file system of %s takes no attribute %s", test_tmpdir(), whole);
	(void)close(fd);
}

static void mark(int dir_fd, const char *path, const char *name, const char *value)
{
	mark_bytes(dir_fd, path, name, value, strlen(value));
}

static int export_to(int dir_fd, int *ret_fd, struct err *e)
{
	*ret_fd = memory_file(span_of("", 0));
	return export_tree(dir_fd, *ret_fd, attrs(), e);
}

/* What is said to come is what comes. */
static void check_measure(int dir_fd, int spool_fd)
{
	uint64_t bytes = 0;
	struct err e = { 0 };
	struct stat st;

	CHECK_OK(export_measure(dir_fd, attrs(), &bytes, &e), &e);
	CHECK_EQ(fstat(spool_fd, &st), 0);
	CHECK_EQ(bytes, (uint64_t)st.st_size);
}

/* Exported, and read as the host does. Closes dir_fd. */
static struct proposal *sent(int dir_fd)
{
	const struct proposal_base base = { .find = fake_find };
	int index_fd = memory_file(span_of("", 0));
	struct proposal *p = NULL;
	struct err e = { 0 };
	int spool_fd;

	CHECK_OK(export_to(dir_fd, &spool_fd, &e), &e);
	check_measure(dir_fd, spool_fd);
	CHECK_OK(proposal_job_run(spool_fd, &base, index_fd, &e), &e);
	CHECK_OK(proposal_open(index_fd, spool_fd, &p, &e), &e);
	(void)close(spool_fd);
	(void)close(index_fd);
	(void)close(dir_fd);
	return p;
}

static void check_content(const struct proposal *p, const char *path, struct span want)
{
	struct proposal_node n = node_at(p, path);
	char *got = malloc(want.len + 1);

	CHECK(got != NULL);
	CHECK_EQ(n.size, want.len);
	CHECK_OK(proposal_read(p, &n, 0, got, want.len, NULL), NULL);
	CHECK_MEM(span_of(got, want.len), want);
	free(got);
}

static void check_sums(void (*init)(struct sha256 *s))
{
	uint8_t data[300];
	uint8_t got[SHA256_BYTES];
	uint8_t want[SHA256_BYTES];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 7);
	for (size_t len = 0; len <= sizeof(data); len++) {
		for (size_t cut = 0; cut <= len; cut += 37) {
			struct sha256 s;

			init(&s);
			sha256_add(&s, data, cut);
			sha256_add(&s, data + cut, len - cut);
			sha256_sum(&s, got);
			CHECK_EQ(EVP_Digest(data, len, want, NULL, EVP_sha256(), NULL), 1);
			CHECK_EQ(memcmp(got, want, sizeof(got)), 0);
		}
	}
}

TEST(sha256_is_the_one)
{
	check_sums(sha256_init);
}

TEST(sha256_is_the_same_on_any_processor)
{
	check_sums(sha256_init_plain);
}

TEST(an_empty_layer_is_a_root_alone)
{
	struct proposal_totals t;
	struct proposal *p = sent(upper());

	proposal_totals(p, &t);
	CHECK_EQ(t.entries, 1);
	proposal_free(p);
}

TEST(files_directories_and_links)
{
	int fd = upper();
	struct timespec times[2] = { { .tv_sec = 1 }, { .tv_sec = 1700000000, .tv_nsec = 7 } };
	struct proposal_node n;
	struct proposal *p;

	CHECK_EQ(mkdirat(fd, "b", 0750), 0);
	make_file(fd, "b/c", "content\n");
	make_file(fd, "b.c", "");
	make_file(fd, "b-c", "x");
	make_file(fd, "\xe9\n", "odd");
	CHECK_EQ(symlinkat("../../etc/passwd", fd, "l"), 0);
	CHECK_EQ(fchmodat(fd, "b/c", 0751, 0), 0);
	CHECK_EQ(utimensat(fd, "b/c", times, 0), 0);
	p = sent(fd);
	n = node_at(p, "b/c");
	CHECK_EQ(n.mode, 0751);
	CHECK_EQ(n.mtime_s, 1700000000);
	CHECK_EQ(n.mtime_ns, 7);
	check_content(p, "b/c", span_str("content\n"));
	check_content(p, "\xe9\n", span_str("odd"));
	CHECK_EQ(node_at(p, "b").mode, 0750);
	CHECK_EQ(node_at(p, "b").end, node_at(p, "b").index + 2);
	CHECK_SPAN(node_at(p, "l").target, "../../etc/passwd");
	proposal_free(p);
}

TEST(what_is_no_file_is_named)
{
	struct sockaddr_un at = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	int fd = upper();
	struct proposal *p;

	CHECK(sock >= 0);
	(void)snprintf(at.sun_path, sizeof(at.sun_path), "/proc/self/fd/%d/sock", fd);
	CHECK_EQ(bind(sock, (struct sockaddr *)&at, sizeof(at)), 0);
	(void)close(sock);
	CHECK_EQ(mkfifoat(fd, "pipe", 0600), 0);
	make_file(fd, "setuid", "x");
	CHECK_EQ(fchmodat(fd, "setuid", 04755, 0), 0);
	p = sent(fd);
	CHECK_EQ(node_at(p, "sock").why, PROPOSAL_WHY_SOCKET);
	CHECK_EQ(node_at(p, "pipe").why, PROPOSAL_WHY_FIFO);
	CHECK(node_at(p, "setuid").flags & PROPOSAL_MODE_CUT);
	proposal_free(p);
}

TEST(whiteouts_are_devices_of_zero)
{
	int fd = upper();
	struct proposal *p;

	if (mknodat(fd, "a", S_IFCHR, makedev(0, 0)) < 0)
		TEST_SKIP("this kernel lets nobody but root make a whiteout");
	make_file(fd, ".wh.a", "a file");
	p = sent(fd);
	CHECK_EQ(node_at(p, "a").kind, PROPOSAL_WHITEOUT);
	CHECK_EQ(node_at(p, ".wh.a").kind, PROPOSAL_FILE);
	proposal_free(p);
}

TEST(whiteouts_are_marked_files_where_the_directory_says_so)
{
	int fd = upper();
	struct proposal *p;

	CHECK_EQ(mkdirat(fd, "dir", 0755), 0);
	make_file(fd, "dir/file", "");
	make_file(fd, "dir/kept", "");
	make_file(fd, "marked", "");
	mark(fd, "dir", "opaque", "x");
	mark(fd, "dir/file", "whiteout", "");
	mark(fd, "marked", "whiteout", "");
	p = sent(fd);
	CHECK_EQ(node_at(p, "dir").flags, 0);
	CHECK_EQ(node_at(p, "dir/file").kind, PROPOSAL_WHITEOUT);
	CHECK_EQ(node_at(p, "dir/kept").kind, PROPOSAL_FILE);
	CHECK_EQ(node_at(p, "marked").kind, PROPOSAL_FILE);
	proposal_free(p);
}

TEST(marks_of_directories)
{
	int fd = upper();
	struct proposal *p;

	CHECK_EQ(mkdirat(fd, "dir", 0755), 0);
	CHECK_EQ(mkdirat(fd, "dir/moved", 0755), 0);
	CHECK_EQ(mkdirat(fd, "far", 0755), 0);
	CHECK_EQ(mkdirat(fd, "old", 0755), 0);
	CHECK_EQ(mkdirat(fd, "old/lost", 0755), 0);
	make_file(fd, "copied", "");
	mark(fd, "dir/moved", "redirect", "sub");
	mark(fd, "far", "redirect", "/old");
	mark(fd, "old", "opaque", "y");
	mark(fd, "old/lost", "redirect", "one");
	mark(fd, "copied", "metacopy", "");
	p = sent(fd);
	CHECK_SPAN(node_at(p, "dir/moved").target, "dir/sub");
	CHECK_SPAN(node_at(p, "far").target, "old");
	CHECK_EQ(node_at(p, "old").flags, PROPOSAL_OPAQUE);
	CHECK_EQ(node_at(p, "old/lost").why, PROPOSAL_WHY_NO_SOURCE);
	CHECK_EQ(node_at(p, "copied").why, PROPOSAL_WHY_METACOPY);
	proposal_free(p);
}

/* The guest's root can write anything there: it costs what it is on, and nothing else. */
TEST(t19_forged_redirects_lead_nowhere)
{
	static const struct {
		const char *name, *value;
		size_t len; /* 0: of value */
	} forged[] = {
		{ "up", "/../../etc", 0 }, { "inner", "/dir/../old", 0 },
		{ "dot", "/./dir", 0 },    { "empty", "/dir//sub", 0 },
		{ "last", "/dir/", 0 },    { "slash", "/", 0 },
		{ "name", "old/one", 0 },  { "self", ".", 0 },
		{ "nul", "dir\0x", 5 },
	};
	char part[300];
	int fd = upper();
	struct proposal *p;

	memset(part, 'x', sizeof(part));
	part[0] = '/';
	part[sizeof(part) - 1] = '\0';
	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++) {
		size_t len = forged[i].len ? forged[i].len : strlen(forged[i].value);

		CHECK_EQ(mkdirat(fd, forged[i].name, 0755), 0);
		mark_bytes(fd, forged[i].name, "redirect", forged[i].value, len);
	}
	CHECK_EQ(mkdirat(fd, "part", 0755), 0);
	mark(fd, "part", "redirect", part);
	make_file(fd, "part/file", "kept\n");
	make_file(fd, "z", "kept\n");
	p = sent(fd);
	for (size_t i = 0; i < sizeof(forged) / sizeof(forged[0]); i++)
		CHECK_EQ(node_at(p, forged[i].name).why, PROPOSAL_WHY_NO_SOURCE);
	CHECK_EQ(node_at(p, "part").why, PROPOSAL_WHY_NO_SOURCE);
	check_content(p, "part/file", span_str("kept\n"));
	check_content(p, "z", span_str("kept\n"));
	proposal_free(p);
}

/* Deeper than any base, by a name below it: the name is no redirect's whose target could be. */
TEST(t19_a_redirect_deeper_than_a_base_leads_nowhere)
{
	char deep[2 * EXPORT_DEPTH_MAX + 1];
	int fd = upper();
	struct proposal *p;

	for (size_t i = 0; i < sizeof(deep); i++)
		deep[i] = i % 2 ? 'd' : '/';
	deep[sizeof(deep) - 1] = '\0';
	CHECK_EQ(mkdirat(fd, "deep", 0755), 0);
	CHECK_EQ(mkdirat(fd, "deep/inner", 0755), 0);
	mark(fd, "deep", "redirect", deep);
	mark(fd, "deep/inner", "redirect", "x");
	p = sent(fd);
	CHECK_EQ(node_at(p, "deep").why, PROPOSAL_WHY_NO_SOURCE);
	CHECK_EQ(node_at(p, "deep/inner").why, PROPOSAL_WHY_NO_SOURCE);
	proposal_free(p);
}

/* As the kernel takes them: what is not its own mark hides nothing. */
TEST(t19_an_opaque_mark_that_is_none)
{
	int fd = upper();
	struct proposal *p;

	CHECK_EQ(mkdirat(fd, "dir", 0755), 0);
	mark(fd, "dir", "opaque", "yes");
	p = sent(fd);
	CHECK_EQ(node_at(p, "dir").flags, 0);
	proposal_free(p);
}

/* What a renamed directory renames is at its old place in the base. */
TEST(a_rename_within_a_rename)
{
	int fd = upper();
	struct proposal *p;

	CHECK_EQ(mkdirat(fd, "new", 0755), 0);
	CHECK_EQ(mkdirat(fd, "new/inner", 0755), 0);
	mark(fd, "new", "redirect", "dir");
	mark(fd, "new/inner", "redirect", "sub");
	p = sent(fd);
	CHECK_SPAN(node_at(p, "new/inner").target, "dir/sub");
	CHECK_EQ(node_at(p, "new/inner").why, PROPOSAL_WHY_NONE);
	proposal_free(p);
}

TEST(holes_stay_holes)
{
	enum { SPARSE_BYTES = 32 << 20 };
	int fd = upper();
	struct proposal_node n;
	struct proposal *p;
	struct stat st;
	char got[8];
	int file;

	CHECK_OK(fd_openat(fd, "sparse", O_RDWR | O_CREAT, 0600, &file, NULL), NULL);
	CHECK_EQ(ftruncate(file, SPARSE_BYTES), 0);
	CHECK_EQ(pwrite(file, "middle", 6, SPARSE_BYTES / 2), 6);
	CHECK_EQ(fstat(file, &st), 0);
	if (st.st_blocks * 512 >= SPARSE_BYTES)
		TEST_SKIP("the file system of %s has no holes", test_tmpdir());
	(void)close(file);
	p = sent(fd);
	n = node_at(p, "sparse");
	CHECK_EQ(n.size, SPARSE_BYTES);
	CHECK(n.stored_bytes < 1 << 20);
	CHECK_OK(proposal_read(p, &n, SPARSE_BYTES / 2 - 1, got, 8, NULL), NULL);
	CHECK_MEM(span_of(got, 8), span_of("\0middle", 8));
	proposal_free(p);
}

TEST(more_holes_than_there_may_be_are_sent_as_zeros)
{
	enum { STEP = 16 << 10, PIECES = EXPORT_EXTENTS_MAX + 100 };
	int fd = upper();
	struct proposal_node n;
	struct proposal *p;
	struct stat st;
	uint8_t got[STEP];
	int file;

	CHECK_OK(fd_openat(fd, "sparse", O_RDWR | O_CREAT, 0600, &file, NULL), NULL);
	for (unsigned i = 0; i < PIECES; i++)
		CHECK_EQ(pwrite(file, "x", 1, (off_t)i * STEP), 1);
	CHECK_EQ(fstat(file, &st), 0);
	if (st.st_blocks * 512 >= st.st_size)
		TEST_SKIP("the file system of %s has no holes", test_tmpdir());
	(void)close(file);
	p = sent(fd);
	n = node_at(p, "sparse");
	CHECK(n.extent_count <= PROPOSAL_EXTENTS_MAX);
	for (unsigned i = 0; i + 1 < PIECES; i++) {
		CHECK_OK(proposal_read(p, &n, (uint64_t)i * STEP, got, STEP, NULL), NULL);
		CHECK_EQ(got[0], 'x');
		CHECK(proposal_all_zero(span_of(got + 1, STEP - 1)));
	}
	proposal_free(p);
}

/* A byte in every MiB, of more pieces than can be told: GiBs of zeros for a few MiB of disk. */
TEST(more_holes_than_are_worth_it_become_a_word)
{
	enum { PIECES = EXPORT_EXTENTS_MAX + 100 };
	int fd = upper();
	struct proposal_totals t;
	struct proposal *p;
	struct stat st;
	int file;

	CHECK_OK(fd_openat(fd, "scattered", O_RDWR | O_CREAT, 0600, &file, NULL), NULL);
	for (unsigned i = 0; i < PIECES; i++)
		CHECK_EQ(pwrite(file, "x", 1, (off_t)i << 20), 1);
	CHECK_EQ(fstat(file, &st), 0);
	if (st.st_blocks * 512 >= st.st_size)
		TEST_SKIP("the file system of %s has no holes", test_tmpdir());
	(void)close(file);
	make_file(fd, "z", "kept\n");
	p = sent(fd);
	CHECK_EQ(node_at(p, "scattered").kind, PROPOSAL_OTHER);
	CHECK_EQ(node_at(p, "scattered").why, PROPOSAL_WHY_SPARSE);
	CHECK(strstr(proposal_why_text(PROPOSAL_WHY_SPARSE), "holes"));
	check_content(p, "z", span_str("kept\n"));
	proposal_totals(p, &t);
	CHECK(t.spool_bytes < 16 << 10);
	proposal_free(p);
}

TEST(what_is_too_deep_is_told_at_the_last_that_is_not)
{
	char path[2 * EXPORT_DEPTH_MAX];
	int fd = upper();
	int at = dup(fd);
	struct proposal *p;

	for (unsigned i = 0; i < EXPORT_DEPTH_MAX + 2; i++) {
		int next;

		CHECK_EQ(mkdirat(at, "d", 0755), 0);
		CHECK_OK(fd_openat(at, "d", O_RDONLY | O_DIRECTORY, 0, &next, NULL), NULL);
		(void)close(at);
		at = next;
	}
	(void)close(at);
	for (size_t i = 0; i < sizeof(path); i++)
		path[i] = i % 2 ? '/' : 'd';
	path[sizeof(path) - 1] = '\0';
	p = sent(fd);
	CHECK_EQ(node_at(p, path).why, PROPOSAL_WHY_DEEP);
	CHECK_EQ(node_at(p, "d").why, PROPOSAL_WHY_NONE);
	proposal_free(p);
	fd = upper(); /* deeper than the harness cleans up */
	while (renameat(fd, "d/d", fd, "e") == 0)
		CHECK(unlinkat(fd, "d", AT_REMOVEDIR) == 0 && renameat(fd, "e", fd, "d") == 0);
	(void)close(fd);
}

TEST(ten_thousand_names_are_in_order)
{
	enum { NAMES = 10000 };
	int fd = upper();
	struct proposal_totals t;
	struct proposal *p;
	char name[16];

	for (unsigned i = 0; i < NAMES; i++) {
		(void)snprintf(name, sizeof(name), "%x", i * 7919 % 65536 + 65536);
		CHECK_EQ(symlinkat("x", fd, name), 0);
	}
	p = sent(fd);
	proposal_totals(p, &t);
	CHECK_EQ(t.entries, NAMES + 1);
	proposal_free(p);
}

TEST(a_file_that_cannot_be_read_is_an_error_with_its_name)
{
	int fd = upper();
	struct err e = { 0 };
	int spool_fd;

	make_file(fd, "closed", "x");
	CHECK_EQ(fchmodat(fd, "closed", 0, 0), 0);
	CHECK_EQ(fchmod(fd, 0755), 0);
	if (geteuid() == 0)
		CHECK_EQ(seteuid(65534), 0); /* root may read everything */
	CHECK_EQ(export_to(fd, &spool_fd, &e), -EACCES);
	CHECK(strstr(e.text, "closed"));
	CHECK_EQ(seteuid(getuid()), 0);
	(void)close(spool_fd);
	(void)close(fd);
}

TEST(a_reader_that_goes_away_is_an_error)
{
	int fd = upper();
	struct err e = { 0 };
	int full;

	CHECK_OK(fd_open("/dev/full", O_WRONLY, 0, &full, NULL), NULL);
	CHECK_EQ(export_tree(fd, full, attrs(), &e), -ENOSPC);
	(void)close(full);
	(void)close(fd);
}

TEST_MAIN()
