#include "base/fdio.h"
#include "base/log.h"
#include "base/units.h"
#include "cli/verbs.h"
#include "session/review_text.h"
#include "work/undo.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { OPT_YES = 1, ANSWER_MAX = 64 };

static const struct opt discard_opts[] = {
	{ OPT_YES, 'y', "yes", NULL, COMPLETE_NONE, "do not ask" },
	OPT_END_ROW,
};

static void put_size(uint64_t bytes, FILE *f)
{
	char storage[32];
	struct buf b;

	buf_init(&b, storage, sizeof(storage));
	units_put_size(&b, bytes);
	(void)fputs(buf_cstr(&b), f);
}

/* Nobody can tell whose it was. */
static void say_damaged(const struct work_session *s, FILE *f)
{
	review_text_put(f, span_str(s->info.why));
	(void)fputs("\nwould be lost: all that is in there, ", f);
	put_size(work_session_disk_bytes(s), f);
	(void)fputs(", whatever it is\n", f);
}

static void say_whose(const struct work_session *s, FILE *f)
{
	(void)fprintf(f, "session %s: ", s->info.id);
	review_text_put(f, span_str(*s->info.agent ? s->info.agent : "a command"));
	(void)fputs(" on ", f);
	review_text_put(f, span_str(s->info.root));
	(void)fputs(", ", f);
	put_size(work_session_disk_bytes(s), f);
	(void)fputs("\n", f);
}

static void say_review_loss(struct review_opened *o, FILE *f)
{
	struct review_totals t;
	bool lost;

	review_totals(o->review, &t);
	lost = review_opened_waits(o) || t.rejected > 0 || review_opened_git_lost(o) > 0;
	(void)fputs(lost ? "would be lost: what is not applied of " : "nothing else is lost of ",
	            f);
	review_text_counts(o, f);
}

/* What would be lost, as far as it can be told without fetching anything. */
static void say_loss(struct cli *c, struct work_session *s, struct review_opened *o, FILE *f)
{
	uint32_t generation = 0;
	struct err why = { 0 };
	bool handed = *s->info.handed_to;

	if (s->info.state == SESSION_NONE) {
		say_damaged(s, f);
		return;
	}
	say_whose(s, f);
	if (s->info.state < SESSION_RUNNING) {
		(void)fputs("no guest ever ran in it\n", f);
		return;
	}
	if (s->info.state == SESSION_UNCHANGED) {
		(void)fputs("nothing was changed in it: the next session is packed from nothing\n",
		            f);
		return;
	}
	if (s->info.state == SESSION_UNCOLLECTED) {
		(void)fputs("would be lost: all of the guest's work, which nobody has looked at "
		            "(berm review fetches it)\n",
		            f);
		return;
	}
	if (undo_last(s->dir_fd, &generation, NULL) == 0 && generation > 0)
		(void)fputs("would be lost: the way back from what was applied (berm undo)\n", f);
	/* also to end what was interrupted; that of a session that was packed over says no more */
	if (review_opened_begin(c, s, "discard", 0, o, &why) < 0) {
		if (handed)
			return;
		(void)fputs("would be lost: all of its work, which cannot be shown: ", f);
		/* its advice is to discard, which is what is asked about here */
		review_text_put(f, span_str(why.code == -ESTALE ? "its directory has been replaced"
		                                                : why.text));
		(void)fputs("\n", f);
		return;
	}
	say_review_loss(o, f);
}

/* Yes, whole; anything else, an empty line and the end of input are no. */
static bool ask(void)
{
	char answer[ANSWER_MAX] = "";
	ssize_t n;

	(void)fflush(stdout);
	(void)fputs("Remove it for good? Type yes: ", stderr);
	do
		n = read(STDIN_FILENO, answer, sizeof(answer) - 1);
	while (n < 0 && errno == EINTR);
	return n > 0 && strcmp(answer, "yes\n") == 0;
}

static int discard(struct cli *c, struct work_session *s, bool yes, bool *ret_kept, struct err *e)
{
	_own_(review_opened_end) struct review_opened o;
	char id[SESSION_ID_LEN + 1];
	int r;

	review_opened_init(&o);
	memcpy(id, s->info.id, sizeof(id));
	if (!yes && !c->in_tty)
		return err_set(e, -EPERM,
		               "there is no terminal to ask on: berm discard %s --yes removes it "
		               "(berm diff %s shows what is in it)",
		               id, id);
	r = work_session_lock(s, "discard", e);
	if (r == 0)
		r = work_session_vm_dead(s, e);
	if (r < 0)
		return r;
	say_loss(c, s, &o, stderr);
	*ret_kept = !yes && !ask();
	if (*ret_kept)
		return 0;
	review_opened_end(&o);
	work_session_close(s);
	return work_session_find_any(c->state_fd, id, s, e);
}

static int remove_it(struct cli *c, struct work_session *s, struct err *e)
{
	int r = work_session_lock(s, "discard", e);

	if (r == 0 && s->info.state == SESSION_NONE && apply_interrupted(s->dir_fd))
		return err_set(e, -EINPROGRESS,
		               "an apply of session %s was interrupted, and only its files can end "
		               "it: mend its session.json, in sessions/%s of the state directory",
		               s->info.id, s->info.id);
	if (r == 0 && apply_interrupted(s->dir_fd))
		return err_set(e, -EINPROGRESS,
		               "an apply of session %s was interrupted and could not be ended: "
		               "berm apply %s says why",
		               s->info.id, s->info.id);
	return r == 0 ? work_session_remove(c->state_fd, s, e) : r;
}

static int run_discard(struct cli *c, const struct args *a)
{
	_own_(work_session_close) struct work_session s;
	char id[SESSION_ID_LEN + 1];
	struct err e = { 0 };
	bool kept = false;
	int r = cli_state(c, &e);

	work_session_init(&s);
	if (r == 0)
		r = work_session_find_any(c->state_fd, a->words[0], &s, &e);
	if (r < 0)
		return cli_fail(&e);
	memcpy(id, s.info.id, sizeof(id));
	r = discard(c, &s, args_has(a, OPT_YES), &kept, &e);
	if (r == 0 && kept) {
		log_info("session %s is kept as it is", id);
		return CLI_EXIT_PENDING;
	}
	if (r == 0)
		r = remove_it(c, &s, &e);
	if (r < 0)
		return cli_fail(&e);
	(void)printf("%s\n", id);
	return 0;
}

const struct verb verb_discard = {
	.name = "discard",
	.summary = "Remove a session for good: its work, its decisions, its way back",
	.args = "SESSION",
	.about =
		"Says what would be lost, and asks. The workspace is not touched. Nothing else removes a\n"
		"session.\n"
		"\n"
		"Exit status: 0 removed; 3 kept; 125 an error.\n",
	.examples = "berm discard 3f2a\n"
		    "berm discard 3f2a --yes\n",
	.opts = discard_opts,
	.run = run_discard,
	.words_min = 1,
	.words_max = 1,
	.words = COMPLETE_SESSION,
};
