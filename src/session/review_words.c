#include "session/review_words.h"

#include "review/review.h"

#include <stddef.h>

static const char *word_of(const char *const *words, size_t count, size_t at)
{
	return at < count && words[at] ? words[at] : "other";
}

#define WORD_OF(words, at) word_of(words, sizeof(words) / sizeof((words)[0]), at)

const char *review_op_word(uint8_t op)
{
	static const char *const words[] = {
		[CHANGE_ADD] = "add",   [CHANGE_EDIT] = "edit",     [CHANGE_MODE] = "mode",
		[CHANGE_TYPE] = "type", [CHANGE_RENAME] = "rename", [CHANGE_DELETE] = "delete",
	};

	return WORD_OF(words, op);
}

const char *review_outcome_word(uint8_t state)
{
	static const char *const words[] = {
		[CHANGE_PROPOSED] = "proposed",   [CHANGE_BOTH] = "both",
		[CHANGE_CONFLICT] = "conflict",   [CHANGE_THERE] = "there",
		[CHANGE_STAYS_OUT] = "stays-out",
	};

	return WORD_OF(words, state);
}

const char *review_choice_word(uint8_t choice)
{
	static const char *const words[] = {
		[REVIEW_UNDECIDED] = "undecided",
		[REVIEW_ACCEPT] = "accepted",
		[REVIEW_REJECT] = "rejected",
		[REVIEW_HUNKS] = "hunks",
	};

	return WORD_OF(words, choice);
}

const char *review_kind_word(uint8_t kind)
{
	static const char *const words[] = {
		[WORK_FILE] = "file",
		[WORK_DIR] = "directory",
		[WORK_LINK] = "link",
	};

	return WORD_OF(words, kind);
}

const char *review_fate_word(uint8_t fate)
{
	static const char *const words[] = {
		[MERGE_LEFT] = "left",
		[MERGE_TAKEN] = "taken",
		[MERGE_SAME] = "same",
		[MERGE_CONFLICT] = "conflict",
	};

	return WORD_OF(words, fate);
}
