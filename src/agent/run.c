#include "agent/run.h"

#include "agent/report.h"
#include "agent/user.h"
#include "base/fdio.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum {
	ENV_ADDED_MAX = 4, /* HOME, PATH, TERM, USER */
	ENV_TEXT_MAX = 8 + WIRE_PATH_MAX,
	PTY_PATH_MAX = 32,
};

#define DEFAULT_PATH "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

/* Everything a command is started with; on the child's stack. */
struct plan {
	struct wire_exec x;
	struct user user;
	char *argv[WIRE_ARGS_MAX + 1];
	char *envp[WIRE_ARGS_MAX + ENV_ADDED_MAX + 1];
	size_t envc;
	char home[ENV_TEXT_MAX], name[ENV_TEXT_MAX];
	char cwd[WIRE_PATH_MAX + 1];
};

/*
 * Turns a list of str16 into C strings, in place: each string moves onto its own length field,
 * which leaves two bytes behind it, one of them for the NUL.
 */
static void point_at(struct span list, char **ret)
{
	struct span s;
	size_t n = 0;

	while (wire_next_str(&list, &s)) {
		char *at = (char *)(uintptr_t)s.at - 2; /* our own mail, writable */

		memmove(at, s.at, s.len);
		at[s.len] = '\0';
		ret[n++] = at;
	}
	ret[n] = NULL;
}

/* The value of `name` (with its "=") in the environment, or NULL. */
static const char *env_get(const struct plan *p, const char *name)
{
	size_t len = strlen(name);

	for (size_t i = 0; i < p->envc; i++)
		if (strncmp(p->envp[i], name, len) == 0)
			return p->envp[i] + len;
	return NULL;
}

/* execve's types lack a const; it writes nothing. */
static void env_add(struct plan *p, const char *entry)
{
	p->envp[p->envc++] = (char *)(uintptr_t)entry;
	p->envp[p->envc] = NULL;
}

static void complete_env(struct plan *p)
{
	static const char path[] = DEFAULT_PATH;
	static const char term[] = "TERM=xterm";

	if (!env_get(p, "PATH="))
		env_add(p, path);
	if (!env_get(p, "HOME=")) {
		(void)snprintf(p->home, sizeof(p->home), "HOME=%s",
		               p->user.home[0] ? p->user.home : "/");
		env_add(p, p->home);
	}
	if (!env_get(p, "USER=") && p->user.name[0]) {
		(void)snprintf(p->name, sizeof(p->name), "USER=%s", p->user.name);
		env_add(p, p->name);
	}
	if (p->x.flags & WIRE_EXEC_TTY && !env_get(p, "TERM="))
		env_add(p, term);
}

static int set_terminal(int pty, struct err *e)
{
	char path[PTY_PATH_MAX];
	int fd;
	int r;

	(void)snprintf(path, sizeof(path), "/dev/pts/%d", pty);
	r = fd_open(path, O_RDWR | O_NOCTTY, 0, &fd, e);
	if (r < 0)
		return r;
	if (ioctl(fd, TIOCSCTTY, 0) < 0)
		return err_sys(e, "take '%s' as the terminal", path);
	if (dup2(fd, STDIN_FILENO) < 0 || dup2(fd, STDOUT_FILENO) < 0 ||
	    dup2(fd, STDERR_FILENO) < 0)
		return err_sys(e, "duplicate the terminal");
	(void)close(fd);
	return 0;
}

static int set_stdio(const struct plan *p, int pty, struct err *e)
{
	int fd;
	int r;

	if (setsid() < 0)
		return err_sys(e, "setsid");
	if (p->x.flags & WIRE_EXEC_TTY)
		return set_terminal(pty, e);
	if (p->x.flags & WIRE_EXEC_STDIN)
		return 0;
	r = fd_open("/dev/null", O_RDONLY, 0, &fd, e);
	if (r < 0)
		return r;
	if (dup2(fd, STDIN_FILENO) < 0)
		return err_sys(e, "duplicate /dev/null");
	(void)close(fd);
	return 0;
}

static int set_rlimits(const struct wire_exec *x, struct err *e)
{
	for (uint32_t i = 0; i < x->rlimit_count; i++) {
		const struct wire_rlimit *l = &x->rlimits[i];
		struct rlimit to = { .rlim_cur = l->soft, .rlim_max = l->hard };

		if (l->resource > INT32_MAX || prlimit(0, (int)l->resource, &to, NULL) < 0)
			return err_sys(e, "set resource limit %u", l->resource);
	}
	return 0;
}

static int set_user(const struct user *u, int pty, struct err *e)
{
	gid_t groups[PASSWD_GROUPS_MAX];

	if (pty >= 0 && fchown(STDIN_FILENO, u->uid, (gid_t)-1) < 0)
		return err_sys(e, "own the terminal");
	if (u->uid == 0 && u->gid == 0 && u->group_count == 0)
		return 0; /* what the agent is already */
	for (size_t i = 0; i < u->group_count; i++)
		groups[i] = u->groups[i];
	if (setgroups(u->group_count, groups) < 0)
		return err_sys(e, "set the groups");
	if (setresgid(u->gid, u->gid, u->gid) < 0 || setresuid(u->uid, u->uid, u->uid) < 0)
		return err_sys(e, "become user %u:%u", u->uid, u->gid);
	return 0;
}

static int set_cwd(const struct plan *p, struct err *e)
{
	if (p->cwd[0])
		return chdir(p->cwd) < 0 ? err_sys(e, "directory '%s'", p->cwd) : 0;
	/* nobody asked for it, so a home that is not there is no failure */
	if ((!p->user.home[0] || chdir(p->user.home) < 0) && chdir("/") < 0)
		return err_sys(e, "directory '/'");
	return 0;
}

/* Tries each directory of PATH. Returns the errno to report; does not return if one starts. */
static int exec_from_path(const struct plan *p)
{
	const char *list = env_get(p, "PATH=");
	struct span rest = span_str(list ? list : "");
	char path[WIRE_PATH_MAX + 1];
	struct span dir;
	int worst = ENOENT;

	while (take_until(&rest, ':', &dir)) {
		int n = snprintf(path, sizeof(path), "%.*s%s%s", (int)dir.len, (const char *)dir.at,
		                 dir.len ? "/" : "./", p->argv[0]);

		if (n < 0 || (size_t)n >= sizeof(path))
			continue;
		(void)execve(path, p->argv, p->envp);
		if (errno == EACCES)
			worst = EACCES; /* there, but not for us: look on, and say so at the end */
		else if (errno != ENOENT && errno != ENOTDIR && errno != ELOOP)
			return errno;
		else if (access(path, F_OK) == 0)
			return -ENOENT; /* the file is there, so what is missing is its interpreter
			                 */
	}
	return worst;
}

_Noreturn static void run_command(const struct plan *p)
{
	char text[WIRE_TEXT_MAX];
	const char *why = "";
	int code;

	if (!p->argv[0][0]) {
		code = ENOENT;
	} else if (strchr(p->argv[0], '/')) {
		(void)execve(p->argv[0], p->argv, p->envp);
		code = errno;
		if (code == ENOENT && access(p->argv[0], F_OK) == 0)
			code = -ENOENT;
	} else {
		code = exec_from_path(p);
	}
	if (code == -ENOENT) {
		code = ENOENT;
		why = " (it is there, but the interpreter it names is not)";
	}
	(void)snprintf(text, sizeof(text), "command '%.900s'%s", p->argv[0], why);
	report_end((uint32_t)code, WIRE_AT_EXEC, text);
}

void run_exec(struct mail *mail)
{
	struct plan p = { 0 };
	struct err e = { 0 };

	if (wire_parse_exec(span_of(mail->payload, mail->bytes), &p.x) < 0)
		report_end(EINVAL, WIRE_AT_SYSTEM, "the command's description is malformed");
	if (user_find(p.x.user, &p.user, &e) < 0)
		report_err(&e, WIRE_AT_USER);
	memcpy(p.cwd, p.x.cwd.at, p.x.cwd.len);
	point_at(p.x.argv, p.argv);
	point_at(p.x.envv, p.envp);
	p.envc = p.x.envc;
	complete_env(&p);
	if (set_stdio(&p, mail->pty, &e) < 0 || set_rlimits(&p.x, &e) < 0 ||
	    set_user(&p.user, mail->pty, &e) < 0)
		report_err(&e, WIRE_AT_SYSTEM);
	if (set_cwd(&p, &e) < 0)
		report_err(&e, WIRE_AT_CWD);
	run_command(&p);
}
