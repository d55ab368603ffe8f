#include <stddef.h>

/* Writes the greeting for a name, without an end of line. */
void greet(char *into, size_t size, const char *name);
