// The service {{name}}: what it answers.
package main

import (
	"net/url"
	"strings"
)

// What there is to start is in the host's hands.
func main() {}

// Status and text for a path, with or without a query.
func answer(target string) (int, string) {
	path, _, _ := strings.Cut(target, "?")
	if path == "/" {
		return 200, "Hello from {{name}}!\n"
	}
	if name, found := strings.CutPrefix(path, "/greet/"); found && name != "" && !strings.Contains(name, "/") {
		if decoded, err := url.PathUnescape(name); err == nil {
			return 200, "Hello, " + decoded + "!\n"
		}
	}
	return 404, "not found\n"
}
