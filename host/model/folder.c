#include "folder.h"
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

int pf_folder_make(const char *path)
{
	char above[4096];
	struct stat st;
	if (strlen(path) >= sizeof above)
		return -ENAMETOOLONG;
	strcpy(above, path);
	for (char *slash = strchr(above + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		if (mkdir(above, 0777) != 0 && errno != EEXIST)
			return -errno;
		*slash = '/';
	}
	if (mkdir(path, 0777) == 0)
		return 0;
	if (errno != EEXIST)
		return -errno;
	return stat(path, &st) == 0 && S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}
