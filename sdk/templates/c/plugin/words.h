#include <stddef.h>

struct string { const char *start; size_t length; };

struct summary { unsigned words; struct string longest; };

/* How many words there are in a text, and the longest. */
struct summary count_words(struct string text);
