/* replay.c: runs a fuzz target over files, or over all files of folders, without libFuzzer. A crash names the file. */
#include <dirent.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static int replayed;

static int replay_file(const char *path, size_t size)
{
	FILE *file = fopen(path, "rb");
	uint8_t *data = malloc(size + !size);

	if (!file || !data || fread(data, 1, size, file) != size) {
		fprintf(stderr, "%s: cannot be read\n", path);
		exit(1);
	}
	fclose(file);
	printf("%s\n", path);
	fflush(stdout);
	LLVMFuzzerTestOneInput(data, size);
	free(data);
	return replayed++;
}

static void replay(const char *path)
{
	struct stat facts;
	struct dirent *entry;
	DIR *folder;
	char below[4096];

	if (stat(path, &facts)) {
		fprintf(stderr, "%s: not there\n", path);
		exit(1);
	}
	if (!S_ISDIR(facts.st_mode)) {
		replay_file(path, (size_t)facts.st_size);
		return;
	}
	folder = opendir(path);
	while (folder && (entry = readdir(folder))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(below, sizeof below, "%s/%s", path, entry->d_name);
		replay(below);
	}
	closedir(folder);
}

int main(int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		replay(argv[i]);
	printf("%d inputs\n", replayed);
	return replayed ? 0 : 1;
}
