package main

import "testing"

func TestItGreets(t *testing.T) {
	if found := greeting("you"); found != "Hello, you!" {
		t.Errorf("%q", found)
	}
}
