// The task {{name}}: greets whoever its arguments name.
package main

import (
	"fmt"
	"os"
)

func main() {
	if len(os.Args) < 2 {
		fmt.Fprintln(os.Stderr, "usage: {{name}} NAME...")
		os.Exit(2)
	}
	for _, name := range os.Args[1:] {
		fmt.Println(greeting(name))
	}
}

func greeting(name string) string {
	return "Hello, " + name + "!"
}
