#include "work/apply_inner.h"

#include <assert.h>

static const char *const point_names[AP_POINTS] = {
	[AP_LOCKED] = "locked",
	[AP_CHECKED] = "checked",
	[AP_JOURNAL_MADE] = "journal-made",
	[AP_JOURNAL_SYNCED] = "journal-synced",
	[AP_SESSION_SYNCED] = "session-synced",
	[AP_STAGE_MADE] = "stage-made",
	[AP_STAGE_PROBED] = "stage-probed",
	[AP_FILE_MADE] = "file-made",
	[AP_FILE_PART] = "file-part",
	[AP_FILE_BYTES] = "file-bytes",
	[AP_FILE_XATTRS] = "file-xattrs",
	[AP_FILE_MODE] = "file-mode",
	[AP_LINK_MADE] = "link-made",
	[AP_DIR_MADE] = "dir-made",
	[AP_STAGED] = "staged",
	[AP_STAMPED] = "stamped",
	[AP_SLOT_SYNCED] = "slot-synced",
	[AP_STAGE_SYNCED] = "stage-synced",
	[AP_STEP_WRITTEN] = "step-written",
	[AP_STEPS_WRITTEN] = "steps-written",
	[AP_STEPS_SYNCED] = "steps-synced",
	[AP_COMMIT_WRITTEN] = "commit-written",
	[AP_COMMIT_SYNCED] = "commit-synced",
	[AP_STEP] = "step",
	[AP_CHMOD_DONE] = "chmod-done",
	[AP_OUT_RENAMED] = "out-renamed",
	[AP_OUT_CHECKED] = "out-checked",
	[AP_MOVE_RENAMED] = "move-renamed",
	[AP_MOVE_OUT] = "move-out",
	[AP_MOVE_IN] = "move-in",
	[AP_IN_RENAMED] = "in-renamed",
	[AP_SWAP_EXCHANGED] = "swap-exchanged",
	[AP_SWAP_OUT] = "swap-out",
	[AP_SWAP_CHECKED] = "swap-checked",
	[AP_SWAP_BACK] = "swap-back",
	[AP_STEPS_DONE] = "steps-done",
	[AP_PLACE_SYNCED] = "place-synced",
	[AP_PLACES_SYNCED] = "places-synced",
	[AP_DONE_WRITTEN] = "done-written",
	[AP_DONE_SYNCED] = "done-synced",
	[AP_UNDO_MADE] = "undo-made",
	[AP_KEEP_COPIED] = "keep-copied",
	[AP_KEEP_MOVED] = "keep-moved",
	[AP_UNDO_SYNCED] = "undo-synced",
	[AP_STAGE_EMPTIED] = "stage-emptied",
	[AP_STAGE_REMOVED] = "stage-removed",
	[AP_ROOT_SYNCED] = "root-synced",
	[AP_JOURNAL_MOVED] = "journal-moved",
	[AP_FINISHED] = "finished",
	[AP_ABORT_WRITTEN] = "abort-written",
	[AP_ABORT_SYNCED] = "abort-synced",
	[AP_BACK_STEP] = "back-step",
	[AP_BACK_RENAMED] = "back-renamed",
	[AP_BACK_EXCHANGED] = "back-exchanged",
	[AP_BACK_CHMOD] = "back-chmod",
	[AP_BACK_DONE] = "back-done",
	[AP_RECOVER_LOCKED] = "recover-locked",
	[AP_RECOVER_READ] = "recover-read",
	[AP_RECOVER_JUDGED] = "recover-judged",
};

static const char *const word_texts[APPLY_WORDS] = {
	[APPLY_APPLIED] = "applied",
	[APPLY_ALREADY] = "already so",
	[APPLY_STAYS] = "stays: it holds what was not reviewed",
	[APPLY_BACK_CHANGED] = "changed on the host since its review",
	[APPLY_BACK_EXISTS] = "the host has something there since its review",
	[APPLY_BACK_KIND] = "the host has something there that is never touched",
	[APPLY_BACK_PARENT] = "its directory is not there",
	[APPLY_BACK_LINKS] = "has several hard links, which a change would part",
	[APPLY_KEPT_BOTH] = "changed while it was applied: both versions are kept",
	[APPLY_LABEL_LOST] = "applied, but a security label could not be kept",
	[APPLY_MOMENT_ABSENT] = "applied; this file system could not do it in one step",
};

const char *apply_point_name(enum apply_point p)
{
	assert(p < AP_POINTS);
	return point_names[p];
}

const char *apply_word_text(enum apply_word w)
{
	assert(w < APPLY_WORDS);
	return word_texts[w];
}

int apply_at(const struct apply_on *on, enum apply_point p, struct err *e)
{
	int r = on->point ? on->point(on->point_arg, p) : 0;

	return r < 0 ? err_set(e, r, "at '%s'", point_names[p]) : 0;
}

void apply_say(struct apply_run *r, const char *path, enum apply_word w)
{
	r->result.words[w]++;
	if (r->on->said)
		r->on->said(r->on->said_arg, path, w);
}
