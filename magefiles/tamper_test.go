package main

import (
	"errors"
	"regexp"
	"strings"
	"testing"
)

func TestAnAttackThatNobodyNoticesFails(t *testing.T) {
	caught := attack{did: "A door is opened.", who: "The dog", reason: regexp.MustCompile(`woof`)}
	for name, test := range map[string]struct {
		said string
		err  error
		want string
	}{
		"noticed":                    {"woof, woof", errors.New("exit status 1"), ""},
		"noticed by the error alone": {"", errors.New("woof"), ""},
		"not noticed":                {"woof", nil, "attack 1: A door is opened. Nobody noticed"},
		"another reason":             {"the dog is ill", errors.New("exit status 1"), "another reason than exit status 1"},
		"no reason":                  {"", errors.New("exit status 1"), "another reason than exit status 1"},
	} {
		tamper := &tamper{demo: &demo{ctx: t.Context()}}
		err := tamper.noticed(caught, test.said, test.err)
		if got := errorText(err); (test.want == "") != (err == nil) || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, not %q", name, got, test.want)
		}
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
