#define _GNU_SOURCE                    /* nftw, flock */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include "emulation.h"

enum { YOUNG_SECONDS = 60, OPEN_FOLDERS = 16 };

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *walk)
{
	(void)st;
	(void)type;
	(void)walk;
	remove(path);
	return 0;
}

static void remove_tree(const char *path)
{
	nftw(path, remove_one, OPEN_FOLDERS, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* A session is dead if its lock can be had, or if it is old and never got one */
static int dead(const char *folder)
{
	char path[PF_SESSION_PATH + 8];
	struct stat st;
	snprintf(path, sizeof path, "%s/lock", folder);
	int lock = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	if (lock < 0)
		return stat(folder, &st) == 0 && time(NULL) - st.st_mtime > YOUNG_SECONDS;
	int answer = flock(lock, LOCK_EX | LOCK_NB) == 0;
	close(lock);
	return answer;
}

int pf_session_sweep(const char *root)
{
	DIR *dir = opendir(root);
	struct dirent *entry;
	int count = 0;
	while (dir && (entry = readdir(dir))) {
		char folder[PF_SESSION_PATH];
		snprintf(folder, sizeof folder, "%s/%s", root, entry->d_name);
		if (entry->d_name[0] == 's' && dead(folder)) {
			remove_tree(folder);
			count++;
		}
	}
	if (dir)
		closedir(dir);
	return count;
}

/* /tmp is everybody's: the root must be a folder of ours that nobody else can write to */
static int open_root(char *root, size_t size, struct pf_error *error)
{
	struct stat st;
	snprintf(root, size, "/tmp/prefpga-%lu", (unsigned long)getuid());
	if (mkdir(root, 0700) != 0 && errno != EEXIST)
		return pf_fail(error, -errno, "%s: %s", root, strerror(errno));
	if (lstat(root, &st) != 0 || !S_ISDIR(st.st_mode) || st.st_uid != getuid()
	    || (st.st_mode & 022))
		return pf_fail(error, -EPERM, "%s is not a private folder of this user: remove it", root);
	return 0;
}

int pf_session_open(struct pf_emulation *emulation, struct pf_error *error)
{
	char root[32], path[sizeof emulation->folder + 8];
	int status = open_root(root, sizeof root, error);
	if (status != 0)
		return status;
	pf_session_sweep(root);
	snprintf(emulation->folder, sizeof emulation->folder, "%s/s%ld-XXXXXX", root, (long)getpid());
	if (!mkdtemp(emulation->folder))
		return pf_fail(error, -errno, "%s: %s", emulation->folder, strerror(errno));
	snprintf(path, sizeof path, "%s/lock", emulation->folder);
	emulation->lock = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (emulation->lock >= 0 && flock(emulation->lock, LOCK_EX | LOCK_NB) == 0)
		return 0;
	status = pf_fail(error, -errno, "%s: %s", path, strerror(errno));
	pf_session_close(emulation);
	return status;
}

void pf_session_close(struct pf_emulation *emulation)
{
	remove_tree(emulation->folder);
	if (emulation->lock >= 0)
		close(emulation->lock);
}
