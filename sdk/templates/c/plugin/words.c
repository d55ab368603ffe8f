#include "words.h"

static int is_blank(char c) {
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

struct summary count_words(struct string text) {
    struct summary summary = {0, {text.start, 0}};
    for (size_t end, start = 0; start < text.length; start = end + 1) {
        for (end = start; end < text.length && !is_blank(text.start[end]);) end++;
        if (end == start) continue;
        summary.words++;
        if (end - start > summary.longest.length) summary.longest = (struct string){text.start + start, end - start};
    }
    return summary;
}
