package attack

import (
	"errors"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/stack"
)

func TestAnAttackThatNobodyNoticesFails(t *testing.T) {
	caught := Attack{Words: regexp.MustCompile(`woof`)}
	for name, test := range map[string]struct {
		attempt Attempt
		line    string
		failure string
	}{
		"noticed":                    {Attempt{Said: "who is there?\nError: woof, woof\n", Refusal: errors.New("exit status 1")}, "woof, woof", ""},
		"noticed by the error alone": {Attempt{Refusal: errors.New("woof")}, "woof", ""},
		"not noticed":                {Attempt{Said: "woof"}, "", "nobody noticed"},
		"another reason":             {Attempt{Said: "the dog is ill", Refusal: errors.New("exit status 1")}, "", "another reason than exit status 1"},
		"no reason":                  {Attempt{Refusal: errors.New("exit status 1")}, "", "another reason than exit status 1"},
	} {
		line, err := caught.Noticed(test.attempt)
		if line != test.line || (err == nil) != (test.failure == "") || err != nil && !strings.Contains(err.Error(), test.failure) {
			t.Errorf("%s: %q, %v", name, line, err)
		}
	}
}

func TestEachAttackIsDescribedInFullAndFoundByItsName(t *testing.T) {
	for of, want := range map[config.Stack][]string{
		config.Tutorial: {"rewritten-entry", "two-histories"},
		config.Tiles:    {"rewritten-tile", "cut-off-log", "split-view"},
		config.Whole:    {"rewritten-entry", "two-histories", "rewritten-tile", "cut-off-log", "split-view"},
	} {
		c := config.Config{Stack: of}
		var names []string
		for _, one := range All(c) {
			if one.Did == "" || one.Who == "" || one.Words == nil || one.Because == "" || one.Try == nil {
				t.Errorf("%q lacks something: %+v", one.Name, one)
			}
			if one.Name == "" || slices.Contains(names, one.Name) {
				t.Errorf("the name %q is empty or another one's too", one.Name)
			}
			names = append(names, one.Name)
			found, err := Named(c, one.Name)
			if err != nil || len(found) != 1 || found[0].Did != one.Did {
				t.Errorf("%s: found %v, %v", one.Name, found, err)
			}
		}
		if at := slices.Index(names, want[0]); at < 0 || !slices.Equal(names[at:at+len(want)], want) {
			t.Errorf("the attacks on %s are %v; those on its logs should be %v", of, names, want)
		}
	}
}

func TestAnAttackIsToldBeforeItIsMade(t *testing.T) {
	c := config.Config{Stack: config.Whole, Email: "user@example.org"}
	plans := map[string]string{}
	for _, one := range All(c) {
		plans[one.Name] = one.Plan(c)
		if strings.ContainsAny(plans[one.Name], "{}") || strings.Contains(plans[one.Name], "entry 0") {
			t.Errorf("%s: %s", one.Name, plans[one.Name])
		}
	}
	for name, want := range map[string]string{
		"rewritten-entry": "The log's operator rewrites an entry in MariaDB: it now is mallory@example.org's.",
		"other-identity":  "mallory@example.org signs in under their own name, and signs an image that user@example.org should have signed.",
	} {
		if plans[name] != want {
			t.Errorf("%s: the plan is %q, not %q", name, plans[name], want)
		}
	}
	target := &Target{Stack: &stack.Stack{Config: c}}
	rewritten, err := Named(c, "rewritten-entry")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := target.Did(rewritten[0], Attempt{Entry: 7}), "The log's operator rewrites entry 7 in MariaDB: it now is mallory@example.org's."; got != want {
		t.Errorf("after it, it is %q, not %q", got, want)
	}
}
