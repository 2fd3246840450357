/*
 * gitdir_internal: the parts of gitdir, shared by its files.
 */
#pragma once

#include "work/gitdir.h"

#include <limits.h>
#include <sys/stat.h>

enum {
	TREE_FDS_MAX = 16,      /* the directories of one repository outside */
	TREE_TEXTS_MAX = 8,     /* its files that are not where git has them */
	TREE_CHILDREN_MAX = 12, /* of its top */
	TREE_REFS_MAX = 3,      /* refs that a worktree has for itself */
};

/* Where the walk is: each level's path is the front of the next one's. */
struct git_level {
	uint16_t path_len;
	bool named; /* it, or one above it, is called .git */
};

/* A repository outside that enters as the directory .git. */
struct git_tree {
	size_t fd_count, text_count, count;
	int fds[TREE_FDS_MAX];
	char *texts[TREE_TEXTS_MAX];
	struct pack_graft top;
	struct pack_graft children[TREE_CHILDREN_MAX];
	struct pack_graft refs[TREE_REFS_MAX];
	struct pack_graft head_log, sparse;
	bool worktree; /* put together from two; else the one directory */
};

void git_tree_free(struct git_tree *t);
OWN_DEFINE(struct git_tree, git_tree_free)

struct git_moved {
	char *from; /* its real path on the host */
	char *to;   /* its path in the workspace */
};

struct git_noted {
	enum gitdir_note note;
	uint32_t path_len, text_len;
	char *both; /* path and text, one after the other */
};

struct gitdir {
	struct gitdir_options opt;
	int root_fd;                  /* borrowed */
	char guest_at[WPATH_MAX + 1]; /* of opt.guest_at */
	char root_real[PATH_MAX];     /* without a slash at its end: "" for the root of all */
	struct git_level levels[WPATH_DEPTH_MAX + 1];
	unsigned level_count;
	uint8_t path[WPATH_MAX]; /* of the last level */
	char *text;              /* the content of `file` */
	struct pack_graft file;
	struct git_tree *tree;  /* in use while the walk is beneath tree_path */
	uint16_t tree_path_len; /* how much of `path` is its place */
	size_t moved_count, note_count;
	struct git_moved moved[GITDIR_MOVED_MAX];
	struct git_noted notes[GITDIR_NOTES_MAX];
	uint64_t note_totals[GITDIR_NOTE_COUNT];
};

/* -- gitdir_note.c */

void git_note(struct gitdir *g, enum gitdir_note note, struct span path, struct span text);

/* -- gitdir_text.c: files that are written anew */

/* A regular file of at most max bytes, through no link. ret_text is the caller's to free. */
_must_ int git_read(int dir_fd, const char *path, size_t max, char **ret_text, size_t *ret_len,
                    struct stat *ret_st, struct err *e);

/* A cleaned configuration. path is for notes, depth as gitconfig_clean() has it. */
_must_ int git_clean_config(struct gitdir *g, struct span path, unsigned depth, struct span text,
                            char **ret_text, size_t *ret_len, struct err *e);

/* Each answers like a judge: replaces what is there, skips it, or lets it enter. */
_must_ int git_judge_config(struct gitdir *g, const struct pack_entry *entry,
                            struct pack_answer *ret, struct err *e);
_must_ int git_judge_urls(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                          struct err *e);
_must_ int git_judge_alternates(struct gitdir *g, const struct pack_entry *entry,
                                struct pack_answer *ret, struct err *e);
/* gitdir of a worktree's directory: the way back to its .git file. */
_must_ int git_judge_back(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                          struct err *e);
/* HEAD of a repository without history: it has to name a branch. */
_must_ int git_judge_head(struct gitdir *g, const struct pack_entry *entry, struct pack_answer *ret,
                          struct err *e);

/* This text takes the file's place; taken over. */
int git_replace(struct gitdir *g, char *text, size_t len, const struct stat *st,
                struct pack_answer *ret);
/* Does not enter; why is a literal. */
int git_skip(const char *why, struct pack_answer *ret);

/* -- gitdir_find.c: where things are */

/* The real path of an open directory, NUL-ended. */
_must_ int git_real_path(int fd, char ret[PATH_MAX]);
/* What follows the root in a real path, if it is inside. */
_must_ bool git_inside(const struct gitdir *g, const char *real, struct span *ret_rel);
/* "../" as often as needed from a directory `depth` deep, then rel; "." for nothing at all. */
void git_put_relative(struct buf *out, unsigned depth, struct span rel);
/* Has the directory (of dir_fd, or `name` in it, NULL for itself) the shape of a git directory? */
_must_ bool git_has_shape(int dir_fd, const char *name);

/* -- gitdir_worktree.c */

/* A file called .git. */
_must_ int git_judge_pointer(struct gitdir *g, const struct pack_entry *entry,
                             struct pack_answer *ret, struct err *e);
/* Before the walk: submodules that come before .git need to know where it went. */
_must_ int git_look_ahead(struct gitdir *g, struct err *e);

/* -- gitdir.c */

void git_enter_level(struct gitdir *g, struct span path, bool named);
