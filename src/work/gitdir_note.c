#include "work/gitdir_internal.h"

#include <stdlib.h>
#include <string.h>

void git_note(struct gitdir *g, enum gitdir_note note, struct span path, struct span text)
{
	size_t text_len = text.len < GITDIR_NOTE_TEXT_MAX ? text.len : GITDIR_NOTE_TEXT_MAX;
	char *both;

	if (g->note_totals[note]++ >= GITDIR_NOTES_MAX || g->note_count >= GITDIR_NOTES_MAX)
		return;
	both = malloc(path.len + text_len + 1);
	if (both == NULL)
		return; /* it is counted */
	memcpy(both, path.at, path.len);
	if (text_len > 0)
		memcpy(both + path.len, text.at, text_len);
	g->notes[g->note_count++] = (struct git_noted){ .note = note,
		                                        .path_len = (uint32_t)path.len,
		                                        .text_len = (uint32_t)text_len,
		                                        .both = both };
}

const char *gitdir_note_text(enum gitdir_note n)
{
	switch (n) {
	case GITDIR_NOTE_HISTORY:
		return "enters with all that was ever committed";
	case GITDIR_NOTE_NO_HISTORY:
		return "enters without its history, as before a first commit";
	case GITDIR_NOTE_CONFIG:
		return "enters without a setting";
	case GITDIR_NOTE_CONFIG_BAD:
		return "does not enter: it is no git configuration";
	case GITDIR_NOTE_URLS:
		return "enters without the users and passwords in its URLs";
	case GITDIR_NOTE_WORKTREE:
		return "enters as a repository of its own, made from the worktree's";
	case GITDIR_NOTE_SEPARATE:
		return "enters as the directory it stands for";
	case GITDIR_NOTE_REWRITTEN:
		return "enters with a path that holds in the guest too";
	case GITDIR_NOTE_OUTSIDE:
		return "leads outside the workspace, to what does not lead back: git will not work "
		       "there";
	case GITDIR_NOTE_NOWHERE:
		return "leads to a directory that is not there";
	case GITDIR_NOTE_ALTERNATES:
		return "borrows objects from outside the workspace, which do not enter: run git "
		       "repack -a -d to have them inside";
	case GITDIR_NOTE_COUNT:
		break;
	}
	return "?";
}

int gitdir_each_note(const struct gitdir *g, gitdir_note_fn *each, void *arg, struct err *e)
{
	for (size_t i = 0; i < g->note_count; i++) {
		const struct git_noted *n = &g->notes[i];
		int r = each(arg, n->note, span_of(n->both, n->path_len),
		             span_of(n->both + n->path_len, n->text_len), e);

		if (r != 0)
			return r;
	}
	return 0;
}

uint64_t gitdir_count_notes(const struct gitdir *g, enum gitdir_note note)
{
	return g->note_totals[note];
}
