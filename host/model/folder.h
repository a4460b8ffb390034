/* folder.h: folders that programs write into. Thread-safe. */
#ifndef PF_MODEL_FOLDER_H
#define PF_MODEL_FOLDER_H

/* Makes the folder and those above it that are missing. 0, also if it is there already, or -errno */
int pf_folder_make(const char *path);
#endif
