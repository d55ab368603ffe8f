/* The task {{name}}: greets whoever its arguments name. */
#include "greet.h"
#include <stdio.h>

int main(int argc, char **argv) {
    if (argc < 2) {
        fprintf(stderr, "usage: {{name}} NAME...\n");
        return 2;
    }
    for (int i = 1; i < argc; i++) {
        char line[1024];
        greet(line, sizeof line, argv[i]);
        puts(line);
    }
    return 0;
}
