#include "session/review_open.h"
#include "session/fetching.h"

#include "base/fdio.h"
#include "base/log.h"
#include "lib/work_rescue.h"
#include "work/undo.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

/* --- classes --- */

static int add_classes(struct class_list *l, const char *path, bool must, struct err *e)
{
	_own_free_ char *text = NULL;
	size_t len = 0;
	int r = fd_read_file(AT_FDCWD, path, CLASS_LIST_MAX, &text, &len, e);

	if (r == -ENOENT && !must) {
		err_clear(e);
		return 0;
	}
	return r < 0 ? r : class_list_add(l, path, span_of(text, len), e);
}

/* A relative XDG_CONFIG_HOME is none: XDG Base Directory Specification 0.8. */
static int add_users_classes(const struct cli *c, struct class_list *l, struct err *e)
{
	const char *config = cli_env(c, "XDG_CONFIG_HOME");
	const char *home = cli_env(c, "HOME");
	char path[PATH_MAX];
	int n = 0;

	if (config && config[0] == '/')
		n = snprintf(path, sizeof(path), "%s/berm/classes.list", config);
	else if (home && home[0] == '/')
		n = snprintf(path, sizeof(path), "%s/.config/berm/classes.list", home);
	if (n < 0 || (size_t)n >= sizeof(path))
		return err_set(e, -ENAMETOOLONG, "the path of your configuration is too long");
	return n > 0 ? add_classes(l, path, false, e) : 0;
}

int review_classes(struct cli *c, struct class_list **ret, struct err *e)
{
	_own_(class_list_free) struct class_list *l = NULL;
	char path[PATH_MAX + 32];
	int r = cli_paths(c, e);

	if (r == 0)
		r = class_list_new(&l, e);
	if (r < 0)
		return r;
	(void)snprintf(path, sizeof(path), "%s/classes.list", c->paths.share);
	r = add_classes(l, path, true, e);
	if (r == 0)
		r = add_users_classes(c, l, e);
	if (r == 0)
		*ret = steal_ptr(&l);
	return r;
}

/* --- what it tells meanwhile --- */

static void show_progress(void *arg, const char *what, uint64_t done, uint64_t of)
{
	struct review_opened *o = arg;
	char storage[SPINNER_TEXT_MAX];
	struct buf b;

	if (o->quiet)
		return;
	buf_init(&b, storage, sizeof(storage));
	buf_put_str(&b, what);
	if (of > 0)
		buf_printf(&b, ", %llu of %llu", (unsigned long long)done, (unsigned long long)of);
	spinner_say(&o->spinner, buf_span(&b));
}

static void keep_said(void *arg, const char *path, enum apply_word w)
{
	struct review_opened *o = arg;
	struct review_said *more;
	char *copy;

	if (w == APPLY_APPLIED || w == APPLY_ALREADY)
		return;
	if (o->said_count == REVIEW_SAID_MAX) {
		o->said_more++;
		return;
	}
	more = reallocarray(o->said, o->said_count + 1, sizeof(*more));
	if (more)
		o->said = more;
	copy = more ? strdup(path) : NULL;
	if (!copy) { /* it is counted all the same */
		o->said_more++;
		return;
	}
	o->said[o->said_count++] = (struct review_said){ copy, w };
}

static void forget_said(struct review_opened *o)
{
	for (size_t i = 0; i < o->said_count; i++)
		free(o->said[i].path);
	o->said_count = o->said_more = 0;
}

/* --- opening --- */

void review_opened_init(struct review_opened *o)
{
	*o = (struct review_opened){ .root_fd = -1, .spool_fd = -1 };
	work_session_init(&o->s);
}

static void on_rescue_tick(void *arg)
{
	fetching_tick(arg);
}

static int rescue(struct review_opened *o, struct err *e)
{
	static const char words[] = "fetching the work of a guest that is gone";
	struct fetching fetching;
	struct work_rescue how = { .minimum_level = LEVEL_EMULATED,
		                   .tick = on_rescue_tick,
		                   .arg = &fetching };
	const char *engine = cli_env(o->cli, "BERM_ENGINE");
	int r = work_session_vm_dead(&o->s, e);

	if (r < 0)
		return r;
	if (engine && strcmp(engine, "kvm") == 0)
		how.engine = SPEC_ENGINE_KVM;
	else if (engine && strcmp(engine, "qemu") == 0)
		how.engine = SPEC_ENGINE_QEMU;
	log_info("session %s: its work was not collected (%s); %s", o->s.info.id, o->s.info.why,
	         words);
	spinner_say(&o->spinner, span_str(words));
	fetching_init(&fetching, o->cli->state_fd, &o->s, &o->spinner);
	how.collect_bytes = o->fetch_bytes;
	r = work_session_rescue(&o->cli->paths, o->cli->state_fd, &o->s, &how, e);
	spinner_clear(&o->spinner);
	return r;
}

/*
 * What was packed is on the disk before the work is there to be read. Only a machine that went down
 * in a session's first moments leaves a doubt, and no work is given up for that.
 */
static void tell_torn(const struct work_session *s)
{
	if (*s->info.boot && !work_session_base_whole(s))
		log_warn("session %s: the machine went down before what was packed of the "
		         "workspace was on the disk. Parts of that may be missing, and a change "
		         "is then held against zeros: look at each before you accept it",
		         s->info.id);
}

/*
 * A guest writes to its disk seconds after a program wrote to a file, unless that one asks for it.
 * So what a rescue finds is often not the last that was done, and nobody could tell by looking.
 */
static void tell_rescued(const struct review_opened *o)
{
	const char *id = o->s.info.id;

	if (!o->rescued)
		return;
	if (review_count(o->review) == 0)
		log_warn("session %s: nothing of the agent's work had reached the guest's disk "
		         "when its machine ended, so there is nothing to rescue (berm discard %s "
		         "removes the session)",
		         id, id);
	else
		log_warn("session %s: rescued what had reached the guest's disk; what the agent "
		         "wrote in the last seconds before its machine ended may be missing, or "
		         "be there in part",
		         id);
}

/* Locked, its work fetched, no machine alive: what is left is to read it. */
static int hold(struct review_opened *o, const char *what, struct err *e)
{
	int r = o->s.lock_fd >= 0 ? 0 : work_session_lock(&o->s, what, e);

	if (r == 0)
		r = cli_state(o->cli, e);
	if (r < 0)
		return r;
	if (o->s.info.state < SESSION_RUNNING)
		return err_set(e, -ENODATA,
		               "no guest ever ran in session %s: there is nothing to review "
		               "(berm discard %s removes it)",
		               o->s.info.id, o->s.info.id);
	if (o->s.info.state == SESSION_UNCHANGED)
		return err_set(e, -ENODATA,
		               "nothing was changed in session %s: what it has of its workspace is "
		               "kept for the next session there, and there is nothing to review "
		               "(berm discard %s removes it)",
		               o->s.info.id, o->s.info.id);
	if (*o->s.info.handed_to) /* without its base the spool says nothing */
		return work_session_vm_dead(&o->s, e);
	tell_torn(&o->s);
	if (o->s.info.state == SESSION_UNCOLLECTED) {
		r = rescue(o, e);
		o->rescued = r == 0;
	}
	return r == 0 ? work_session_open_spool(&o->s, &o->spool_fd, e) : r;
}

static int open_root(struct review_opened *o, struct err *e)
{
	char shown[200];
	struct buf b;
	int r = fd_open(o->s.info.root, O_RDONLY | O_DIRECTORY, 0, &o->root_fd, e);

	if (r != -ENOENT && r != -ENOTDIR)
		return r;
	buf_init(&b, shown, sizeof(shown));
	buf_put_escaped(&b, span_of(o->s.info.root, strnlen(o->s.info.root, 40)));
	return err_set(e, r,
	               "the workspace %s of session %s is not there any more: put it back, or give "
	               "the session up with berm discard %s",
	               buf_cstr(&b), o->s.info.id, o->s.info.id);
}

static void find_programs(struct review_opened *o)
{
	const char *libexec = o->cli->paths.libexec;

	(void)snprintf(o->unpack_path, sizeof(o->unpack_path), "%s/berm-unpack", libexec);
	(void)snprintf(o->diff_path, sizeof(o->diff_path), "%s/berm-diff", libexec);
}

static struct review_on on_of(struct review_opened *o)
{
	const struct work_session_info *info = &o->s.info;

	return (struct review_on){
		.session_fd = o->s.dir_fd,
		.root_fd = o->root_fd,
		.spool_fd = o->spool_fd,
		.root = { .dev = (uint64_t)major(info->root_dev) << 32 | minor(info->root_dev),
		          .ino = info->root_ino,
		          .btime_ns = (int64_t)info->root_btime_ns },
		.session = info->id,
		.unpack_path = o->unpack_path,
		.diff_path = o->diff_path,
		.classes = o->classes,
		.progress = show_progress,
		.progress_arg = o,
		.said = keep_said,
		.said_arg = o,
	};
}

/* Of a review, or of what came before one; r is its result. */
static int tell_opened(struct review_opened *o, int r, struct err *e)
{
	const char *id = o->s.info.id;

	spinner_clear(&o->spinner);
	if (r == -ESTALE) /* says all */
		return r;
	if (r < 0)
		return err_wrap(e, "session %s (nothing of it is lost)", id);
	if (o->recovered == APPLY_TAKEN_BACK)
		log_info("session %s: an apply or undo was interrupted, and is taken back", id);
	else if (o->recovered == APPLY_GONE_FORWARD)
		log_info("session %s: an apply or undo was interrupted, and is finished now", id);
	return 0;
}

/*
 * What came of the guest is no work, though its agent said that it was all of it. As long as the
 * disk is there nothing depends on that one's word: the next to ask has it read by another.
 */
static void take_for_uncollected(struct review_opened *o, struct err *e)
{
	struct work_session_info *info = &o->s.info;
	struct err saving = { 0 };
	struct stat st;

	if (info->state != SESSION_SPOOLED ||
	    fstatat(o->s.dir_fd, "scratch.img", &st, AT_SYMLINK_NOFOLLOW) < 0)
		return;
	info->state = SESSION_UNCOLLECTED;
	(void)snprintf(info->why, sizeof(info->why), "%s", e->text);
	if (work_session_save(&o->s, &saving) < 0) {
		log_warn("%s", saving.text);
		return;
	}
	(void)err_set(e, e->code, "%s; berm review %s fetches it from the guest's disk", info->why,
	              info->id);
}

static int read_it(struct review_opened *o, struct err *e)
{
	const struct review_on on = on_of(o);
	int r = review_open(&on, &o->review, &o->recovered, e);

	if (r == -EPROTO)
		take_for_uncollected(o, e);
	return tell_opened(o, r, e);
}

/* What can be done with a session whose base another one has: an undo, and its removal. */
static int open_bare(struct review_opened *o, bool undo, struct err *e)
{
	const struct review_on on = on_of(o);
	const struct work_session_info *info = &o->s.info;
	uint32_t generation = 0;
	bool back;
	int r = tell_opened(o, review_recover(&on, &o->recovered, e), e);

	if (r < 0 || undo)
		return r;
	back = undo_last(o->s.dir_fd, &generation, NULL) == 0 && generation > 0;
	return err_set(e, -ENODATA,
	               "all of session %s was applied, and session %s was packed over its base: "
	               "its changes cannot be shown any more (%s%s%sberm discard %s removes it)",
	               info->id, info->handed_to, back ? "berm undo " : "", back ? info->id : "",
	               back ? " takes them back, " : "", info->id);
}

uint64_t review_opened_commits(struct review_opened *o)
{
	struct gitobj_totals t;

	review_repos_totals(o->review, &t);
	return o->s.info.commits_home < t.refs ? t.commits : 0;
}

bool review_opened_waits(struct review_opened *o)
{
	struct review_totals t;

	review_totals(o->review, &t);
	return t.undecided > 0 || t.accepted > 0 ||
	       (!o->s.info.commits_declined && review_opened_commits(o) > 0);
}

uint64_t review_opened_git_lost(struct review_opened *o)
{
	struct review_totals t;
	uint64_t lost;

	review_totals(o->review, &t);
	lost = t.git_objects;
	for (size_t i = 0; i < review_repos(o->review); i++) {
		const struct review_repo *repo = review_repo(o->review, i);

		if (repo->commits)
			lost -= repo->objects;
	}
	return lost;
}

/* Commits that a later apply could bring home, or that nothing can: those stay. */
static uint64_t commits_left(struct review_opened *o)
{
	struct gitobj_totals t;
	uint64_t lost = review_opened_git_lost(o);

	review_repos_totals(o->review, &t);
	lost += *review_repo(o->review, 0)->why != '\0';
	return lost +
	       (o->s.info.commits_home < (uint64_t)t.refs + t.refused ? t.refs + t.refused : 0);
}

/* What git ignores can be made again, and is not missed by anybody who said no to it. */
static uint64_t left_of(struct review_opened *o, const struct review_totals *t)
{
	return t->rejected - t->rejected_of[REVIEW_IGNORED] + commits_left(o);
}

static int note(struct review_opened *o, uint8_t state, struct err *e)
{
	struct work_session_info *info = &o->s.info;
	bool applied = state == SESSION_APPLIED;
	struct review_totals t;

	review_totals(o->review, &t);
	if (info->state == state && info->undecided == t.undecided &&
	    applied == (info->left != SESSION_UNKNOWN))
		return 0;
	info->state = state;
	info->undecided = t.undecided;
	info->left = applied ? left_of(o, &t) : SESSION_UNKNOWN;
	return work_session_save(&o->s, e);
}

static uint8_t state_now(struct review_opened *o)
{
	return review_opened_waits(o) ? SESSION_PENDING : SESSION_APPLIED;
}

static int begin(struct cli *c, struct work_session *s, const char *what, bool undo,
                 uint64_t fetch_bytes, struct review_opened *ret, struct err *e)
{
	int r;

	review_opened_init(ret);
	ret->fetch_bytes = fetch_bytes;
	ret->s = *s;
	work_session_init(s);
	ret->cli = c;
	ret->spinner.enabled = cli_redraws(c, c->err_tty);
	r = hold(ret, what, e);
	if (r == 0)
		r = open_root(ret, e);
	if (r == 0 && *ret->s.info.handed_to)
		return open_bare(ret, undo, e);
	if (r == 0)
		r = review_classes(c, &ret->classes, e);
	if (r == 0) {
		find_programs(ret);
		r = read_it(ret, e);
	}
	if (r == 0)
		tell_rescued(ret);
	return r == 0 ? note(ret, state_now(ret), e) : r;
}

int review_opened_begin(struct cli *c, struct work_session *s, const char *what,
                        uint64_t fetch_bytes, struct review_opened *ret, struct err *e)
{
	int r = begin(c, s, what, false, fetch_bytes, ret, e);

	if (r < 0)
		review_opened_end(ret);
	return r;
}

int review_opened_begin_undo(struct cli *c, struct work_session *s, struct review_opened *ret,
                             struct err *e)
{
	int r = begin(c, s, "undo", true, 0, ret, e);

	if (r < 0)
		review_opened_end(ret);
	return r;
}

void review_opened_end(struct review_opened *o)
{
	struct err e = { 0 };

	spinner_clear(&o->spinner);
	if (o->review && note(o, state_now(o), &e) < 0)
		log_warn("%s", e.text);
	/* its work was read and judged: the disk it was on is no longer the only copy */
	if (o->review && work_session_drop_scratch(&o->s, &e) < 0)
		log_warn("%s", e.text);
	review_free(o->review);
	class_list_free(o->classes);
	own_close_fd(&o->root_fd);
	own_close_fd(&o->spool_fd);
	forget_said(o);
	free(o->said);
	work_session_close(&o->s);
	review_opened_init(o);
}

/* --- applying --- */

/* A full disk: of the workspace, or of the state, where what is displaced may be kept. */
static int say_full(const struct review_opened *o, const char *done, int r, struct err *e)
{
	struct err was = *e;

	if ((r != -ENOSPC && r != -EDQUOT) || apply_interrupted(o->s.dir_fd))
		return r;
	return err_set(e, r,
	               "nothing was %s: %s; make room where the workspace is, and where "
	               "berm's state is",
	               done, was.text);
}

int review_opened_apply(struct review_opened *o, enum apply_mode mode, bool commits,
                        struct review_outcome *ret, struct err *ret_commits_e, struct err *e)
{
	int r = note(o, SESSION_APPLYING, e);

	if (r < 0)
		return r;
	forget_said(o);
	r = review_apply(o->review, mode, commits, ret, ret_commits_e, e);
	spinner_clear(&o->spinner);
	if (r == 0)
		o->s.info.commits_declined = !commits;
	if (r == 0 && ret->commits_refs > 0)
		o->s.info.commits_home = ret->commits_refs;
	if (r < 0) { /* its own error says more than what follows of it */
		(void)note(o, apply_interrupted(o->s.dir_fd) ? SESSION_APPLYING : SESSION_PENDING,
		           NULL);
		return say_full(o, "applied", r, e);
	}
	return note(o, state_now(o), e);
}

static int undo_bare(struct review_opened *o, enum apply_mode mode, struct review_outcome *ret,
                     struct err *e)
{
	const struct review_on on = on_of(o);
	int r;

	forget_said(o);
	r = review_undo_files(&on, mode, ret, e);
	return r < 0 ? say_full(o, "undone", r, e) : r;
}

int review_opened_undo(struct review_opened *o, enum apply_mode mode, struct review_outcome *ret,
                       struct err *e)
{
	int r;

	if (!o->review) /* its state stays: nothing in it is ever decided on again */
		return undo_bare(o, mode, ret, e);
	r = note(o, SESSION_APPLYING, e);
	if (r < 0)
		return r;
	forget_said(o);
	r = review_undo(o->review, mode, ret, e);
	spinner_clear(&o->spinner);
	if (r < 0) {
		(void)note(o, apply_interrupted(o->s.dir_fd) ? SESSION_APPLYING : state_now(o),
		           NULL);
		return say_full(o, "undone", r, e);
	}
	return note(o, state_now(o), e);
}
