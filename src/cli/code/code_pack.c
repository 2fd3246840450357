#include "cli/code/code.h"

#include "base/clock.h"
#include "base/fdio.h"
#include "base/kernel_gaps.h"
#include "base/log.h"
#include "base/units.h"
#include "session/review_open.h"
#include "state/work_base.h"
#include "work/apply.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>

enum { QUIET_MS = 1000, TELL_MS = 120 };

static const char report_name[] = "pack.json";

/* --- the workspace --- */

static void open_home(struct code *k)
{
	const char *home = cli_env(k->c, "HOME");

	if (!home || home[0] != '/' ||
	    fd_open(home, O_RDONLY | O_DIRECTORY, 0, &k->home_fd, NULL) < 0)
		k->home_fd = -1;
}

static int find_mount(struct code *k, struct err *e)
{
	const char *at = k->opt.same_path ? k->root : CODE_MOUNT;

	(void)snprintf(k->mount, sizeof(k->mount), "%s", at);
	if (wire_parse_mount_point(span_str(k->mount)) < 0)
		return err_set(e, -EINVAL,
		               "--same-path: '%s' in the guest would hide what it needs itself: "
		               "leave the flag away, and the workspace is at " CODE_MOUNT,
		               k->root);
	return 0;
}

int code_open_workspace(struct code *k, struct err *e)
{
	const char *dir = k->opt.dir ? k->opt.dir : ".";
	char *real = NULL;
	int r = fd_open(dir, O_RDONLY | O_DIRECTORY, 0, &k->root_fd, e);

	if (r < 0)
		return err_wrap(e, "the workspace");
	real = realpath(dir, NULL);
	if (!real || strlen(real) >= SESSION_ROOT_MAX || fstat(k->root_fd, &k->root_st) < 0)
		r = err_sys(e, "the workspace '%s'", dir);
	else
		(void)snprintf(k->root, sizeof(k->root), "%s", real);
	free(real);
	open_home(k);
	if (r == 0)
		r = pack_check_root(k->root_fd, k->home_fd, k->c->state_fd, true, e);
	if (r == 0 && !k->opt.wide &&
	    pack_check_root(k->root_fd, k->home_fd, k->c->state_fd, false, e) < 0)
		return err_set(e, -EPERM,
		               "'%s' is your home directory or the whole file system: go to a "
		               "project's, name one with -C, or say --wide",
		               k->root);
	return r == 0 ? find_mount(k, e) : r;
}

/* --- what does not enter --- */

static int add_tier(struct code *k, enum exclude_tier tier, const char *name, struct err *e)
{
	_own_free_ char *text = NULL;
	char path[PATH_MAX + 64];
	size_t len = 0;
	int r;

	(void)snprintf(path, sizeof(path), "%s/exclude/%s", k->c->paths.share, name);
	r = fd_read_file(AT_FDCWD, path, CODE_TIER_MAX, &text, &len, e);
	if (r == -ENOENT)
		return err_set(e, r, "'%s' is missing: run 'make install' again", path);
	return r == 0 ? exclude_add(k->exclude, tier, name, span_of(text, len), e) : r;
}

/* ~/.config/berm/ignore, beside the agents' profiles. */
static int add_users(struct code *k, struct err *e)
{
	_own_free_ char *text = NULL;
	char path[PATH_MAX + 16];
	size_t len = 0;
	int r;

	if (!k->places.user_path[0])
		return 0;
	(void)snprintf(path, sizeof(path), "%s/../ignore", k->places.user_path);
	r = fd_read_file(AT_FDCWD, path, CODE_TIER_MAX, &text, &len, NULL);
	if (r == -ENOENT || r == -ENOTDIR)
		return 0;
	if (r < 0)
		return err_set(e, r, "your own patterns, '%s': %s", path, strerrordesc_np(-r));
	return exclude_add(k->exclude, EXCLUDE_USER, "~/.config/berm/ignore", span_of(text, len),
	                   e);
}

/* The workspace's own word comes before its user's, which is the later one and wins. */
static int add_workspaces(struct code *k, struct err *e)
{
	int r = 0;

	for (unsigned i = 0; r == 0 && i < k->agent->exclude.count; i++)
		r = exclude_add_at(k->exclude, EXCLUDE_USER, AGENT_WORKSPACE_FILE,
		                   k->agent->exclude_lines[i], span_str(k->agent->exclude.at[i]),
		                   e);
	return r;
}

/* workspace: of the policy files, which only keep out more. */
static int add_policys(struct code *k, struct err *e)
{
	const struct policy_draft *d = k->run.egress.draft;
	unsigned count = d ? policy_draft_excludes(d) : 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < count; i++) {
		struct policy_exclude x = policy_draft_exclude(d, i);

		r = exclude_add_at(k->exclude, EXCLUDE_USER, x.label, x.line, span_str(x.pattern),
		                   e);
	}
	if (r == 0 && d && policy_draft_skips_cost(d))
		exclude_cost_too(k->exclude);
	return r;
}

static int make_judges(struct code *k, struct err *e)
{
	struct gitdir_options git = { .history = !k->opt.no_history,
		                      .guest_at = span_str(k->mount),
		                      .next = exclude_judge };
	int r = exclude_new(&k->exclude, e);

	if (r == 0)
		r = add_tier(k, EXCLUDE_SECRET, "secret.ignore", e);
	if (r == 0)
		r = add_tier(k, EXCLUDE_COST, "cost.ignore", e);
	if (r == 0)
		r = add_workspaces(k, e);
	if (r == 0)
		r = add_users(k, e);
	if (r == 0)
		r = add_policys(k, e);
	if (r == 0 && *k->opt.exclude)
		r = exclude_add(k->exclude, EXCLUDE_USER, "--exclude", span_str(k->opt.exclude), e);
	for (size_t i = 0; r == 0 && i < k->take_back.count; i++)
		r = exclude_take_back(k->exclude, span_str(k->take_back.items[i]), e);
	if (r < 0)
		return r;
	if (k->opt.skip_cost)
		exclude_cost_too(k->exclude);
	r = exclude_begin(k->exclude, k->root_fd, e);
	git.next_arg = k->exclude;
	return r == 0 ? gitdir_new(k->root_fd, &git, &k->gitdir, e) : r;
}

static void count_hit(struct code_hits *h, const struct pack_entry *entry, struct span rule)
{
	char text[CODE_RULE_TEXT_MAX];
	struct stat st;
	unsigned i;

	(void)snprintf(text, sizeof(text), "%.*s", (int)(rule.len < 1000 ? rule.len : 1000),
	               (const char *)rule.at);
	for (i = 0; i < h->count && strcmp(h->rules[i].text, text) != 0; i++)
		continue;
	if (i == CODE_RULES_MAX) {
		h->more++;
		return;
	}
	if (i == h->count) {
		memcpy(h->rules[i].text, text, sizeof(text));
		h->count++;
	}
	h->rules[i].hits++;
	if (fstatat(entry->dir_fd, entry->name, &st, AT_SYMLINK_NOFOLLOW) == 0 &&
	    S_ISREG(st.st_mode))
		h->rules[i].bytes += (uint64_t)st.st_size;
}

/* gitdir's answer, which asks exclude's, with its hits counted; links are noted for review. */
static int judge(void *arg, const struct pack_entry *entry, struct pack_answer *ret, struct err *e)
{
	struct code *k = arg;
	int r = gitdir_judge(k->gitdir, entry, ret, e);

	if (r == 0 && ret->verdict == PACK_SKIP && ret->rule.len > 0)
		count_hit(k->hits, entry, ret->rule);
	/* one that does not enter is on the host all the same */
	if (k->links && entry->kind == WORK_LINK)
		review_links_meet(k->links, k->classes, k->root_fd, entry->path);
	return r;
}

/* --- the walk --- */

struct walk {
	struct code *k;
	uint64_t begun_ms, told_ms;
};

/* A signal that is to end us; what it is stays noted. */
static bool interrupted(struct code *k)
{
	struct signalfd_siginfo si;

	while (k->catching && read(k->s.signal_fd, &si, sizeof(si)) == (ssize_t)sizeof(si))
		if (si.ssi_signo != SIGWINCH && si.ssi_signo != SIGTSTP)
			k->s.interrupted = (int)si.ssi_signo;
	return k->s.interrupted != 0;
}

static int on_progress(void *arg, const struct pack_totals *so_far)
{
	struct walk *w = arg;
	uint64_t now = clock_mono_ms();
	char storage[96];
	struct buf b;

	if (interrupted(w->k))
		return -ECANCELED;
	if (now - w->begun_ms < QUIET_MS || now - w->told_ms < TELL_MS)
		return 0;
	w->told_ms = now;
	buf_init(&b, storage, sizeof(storage));
	buf_printf(&b, "packing the workspace: %llu files, ", (unsigned long long)so_far->files);
	units_put_size(&b, so_far->file_bytes);
	spinner_say(&w->k->s.spinner, buf_span(&b));
	return 0;
}

/* The guest's user, where the image gives a number; root, as a rule. */
static void find_owner(const struct code *k, struct pack_options *opt)
{
	struct span user = span_str(k->run.spec.user ? k->run.spec.user : "");
	struct span uid;
	uint64_t u, g;

	if (!take_until(&user, ':', &uid))
		return;
	if (span_to_u64(uid, &u) && span_to_u64(user, &g) && u < UINT32_MAX && g < UINT32_MAX) {
		opt->uid = (uint32_t)u;
		opt->gid = (uint32_t)g;
	}
}

static void never_state(const struct code *k, struct pack_options *opt)
{
	struct stat st;

	if (k->c->state_fd < 0 || fstat(k->c->state_fd, &st) < 0)
		return;
	opt->never[0].dev = st.st_dev;
	opt->never[0].ino = st.st_ino;
	opt->never_count = 1;
}

/* What the walk writes, borrowed. */
struct base_files {
	int image, manifest, report;
	struct base *earlier; /* or NULL */
	bool over;            /* the image is that one's */
	bool same;            /* it is only held against that one; a report is written */
};

static int walk(struct code *k, const struct base_files *f, struct err *e)
{
	struct walk w = { .k = k, .begun_ms = clock_mono_ms() };
	struct pack_options opt = { .cross_mounts = k->opt.cross_mounts,
		                    .count_only = k->opt.dry_run,
		                    .judge = judge,
		                    .judge_arg = k,
		                    .progress = on_progress,
		                    .progress_arg = &w,
		                    .earlier = f->earlier,
		                    .over = f->over,
		                    .same = f->same };
	int r;

	find_owner(k, &opt);
	never_state(k, &opt);
	r = pack_run(k->root_fd, &opt, f->image, f->manifest, f->report, &k->totals, e);
	spinner_clear(&k->s.spinner);
	k->pack_ms = clock_mono_ms() - w.begun_ms;
	/* a tree that was packed before the signal was looked at is not wanted either */
	if (k->s.interrupted || interrupted(k))
		return err_set(e, -EINTR, "packing the workspace was interrupted");
	return r;
}

static int make_file(const struct work_session *s, const char *name, int *ret_fd, struct err *e)
{
	return fd_openat(s->dir_fd, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600, ret_fd, e);
}

/* A walk was given up in the middle: the next one is asked and counted from the beginning. */
static int judge_anew(struct code *k, struct err *e)
{
	int r;

	gitdir_free(k->gitdir);
	exclude_free(k->exclude);
	review_links_free(k->links);
	k->gitdir = NULL;
	k->exclude = NULL;
	k->links = NULL;
	memset(k->hits, 0, sizeof(*k->hits));
	r = make_judges(k, e);
	return r == 0 ? review_links_new(&k->links, e) : r;
}

/* A work_base_same_fn. The walk that says yes is the session's own: its report, links and hits. */
static int is_same(void *arg, struct base *b, struct err *e)
{
	struct code *k = arg;
	_own_fd_ int report = -1;
	struct err differs = { 0 };
	struct base_totals of;
	struct base_files f = { .image = -1, .manifest = -1, .earlier = b, .same = true };
	int r;

	base_totals(b, &of);
	if (of.image_bytes !=
	    WORK_DISK_BYTES) /* of another berm: a guest's disks are of one size */
		return 0;
	r = make_file(&k->work, report_name, &report, e);
	f.report = report;
	if (r == 0)
		r = walk(k, &f, &differs);
	if (r == 0)
		return 1;
	(void)unlinkat(k->work.dir_fd, report_name, 0);
	if (r == -ECANCELED || r == -EINTR) {
		*e = differs;
		return r;
	}
	/* a base that cannot be read is none; a tree that cannot says so again when it is packed */
	r = judge_anew(k, e);
	return r;
}

/* 1: nothing has changed, and the session has what an earlier one packed. */
static int share(struct code *k, struct err *e)
{
	int r = work_base_share(k->c->state_fd, &k->work, is_same, k, k->packed_as, e);

	/* the walk said yes, and then the files were gone or could have no other name */
	if (r == 0 && k->totals.dirs > 0) {
		(void)unlinkat(k->work.dir_fd, report_name, 0);
		r = judge_anew(k, e);
	}
	return r;
}

static int pack_files(struct code *k, struct err *e)
{
	_own_(work_base_fini) struct work_base earlier;
	_own_fd_ int manifest = -1;
	_own_fd_ int report = -1;
	_own_fd_ int made = -1;
	struct base_files f;
	int r = 0;

	work_base_find(k->c->state_fd, &k->work, &earlier);
	if (earlier.image_fd < 0)
		r = make_file(&k->work, "base.erofs", &made, e);
	if (r == 0)
		r = make_file(&k->work, "base.manifest", &manifest, e);
	if (r == 0)
		r = make_file(&k->work, report_name, &report, e);
	f = (struct base_files){ .earlier = earlier.base,
		                 .over = earlier.image_fd >= 0,
		                 .image = earlier.image_fd >= 0 ? earlier.image_fd : made,
		                 .manifest = manifest,
		                 .report = report };
	if (r == 0)
		r = walk(k, &f, e);
	if (r == 0 && f.over)
		memcpy(k->packed_over, earlier.from, sizeof(k->packed_over));
	return r;
}

/*
 * What was written over an earlier image has that one's blocks on the disk until its own are there:
 * it is a base only then. Any other is synced while its guest is at work (code_run.c).
 */
static int pack_into(struct code *k, struct err *e)
{
	struct work_session_info *info = &k->work.info;
	uint64_t begun_ms = clock_mono_ms();
	int r;

	info->snapshot_ns = clock_real_ns();
	r = share(k, e);
	if (r == 0) {
		info->snapshot_ns = clock_real_ns();
		r = pack_files(k, e);
	}
	if (r >= 0)
		r = review_links_save(k->links, k->work.dir_fd, e);
	if (r == 0 && *k->packed_over)
		r = work_session_sync_base(&k->work, e);
	if (r < 0)
		return r;
	info->state = SESSION_PACKED;
	k->pack_ms = clock_mono_ms() - begun_ms;
	return work_session_save(&k->work, e);
}

static int make_session(struct code *k, struct err *e)
{
	struct work_session_info info = { .root_dev = k->root_st.st_dev,
		                          .root_ino = k->root_st.st_ino };
	struct apply_root root = { 0 };
	int r = apply_root_of(k->root_fd, &root, e);

	if (r < 0)
		return r;
	info.root_btime_ns = (uint64_t)root.btime_ns;
	(void)snprintf(info.root, sizeof(info.root), "%s", k->root);
	(void)snprintf(info.mount, sizeof(info.mount), "%s", k->mount);
	(void)snprintf(info.agent, sizeof(info.agent), "%.*s", SPEC_NAME_MAX, k->agent->name);
	(void)snprintf(info.image, sizeof(info.image), "%s", k->run.spec.image);
	(void)snprintf(info.image_id, sizeof(info.image_id), "%s", k->run.spec.image_id);
	return work_session_new(k->c->state_fd, &info, "pack", &k->work, e);
}

int code_pack(struct code *k, struct err *e)
{
	const struct base_files none = { .image = -1, .manifest = -1, .report = -1 };
	int r;

	k->hits = calloc(1, sizeof(*k->hits));
	if (!k->hits)
		return err_set(e, -ENOMEM, "out of memory");
	r = make_judges(k, e);
	if (r == 0 && k->opt.dry_run)
		return walk(k, &none, e);
	if (r == 0)
		r = review_classes(k->c, &k->classes, e);
	if (r == 0)
		r = review_links_new(&k->links, e);
	if (r == 0)
		r = make_session(k, e);
	return r == 0 ? pack_into(k, e) : r;
}

int code_measure(struct code *k, struct span path, struct pack_totals *ret, struct err *e)
{
	const struct pack_options opt = { .count_only = true };
	char name[WPATH_MAX + 1];
	_own_fd_ int fd = -1;
	int r;

	if (path.len >= sizeof(name))
		return err_set(e, -ENAMETOOLONG, "the path is too long");
	memcpy(name, path.at, path.len);
	name[path.len] = '\0';
	r = fd_open_beneath(k->root_fd, name, O_RDONLY | O_DIRECTORY, 0, RESOLVE_NO_SYMLINKS, &fd,
	                    e);
	return r == 0 ? pack_run(fd, &opt, -1, -1, -1, ret, e) : r;
}
