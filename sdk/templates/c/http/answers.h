#include <stddef.h>

/* Writes what there is to say to a path, with or without a query; answers the status. */
int answer(char *into, size_t size, const char *target, size_t length);
