package main

import "testing"

func TestItGreets(t *testing.T) {
	if status, text := answer("/greet/you?x=1"); status != 200 || text != "Hello, you!\n" {
		t.Errorf("%d %q", status, text)
	}
}

func TestNothingElseIsThere(t *testing.T) {
	if status, _ := answer("/nowhere"); status != 404 {
		t.Error(status)
	}
}
