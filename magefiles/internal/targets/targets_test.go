package targets

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

var list = List{
	{"demo:keyless", "signs", "Keyless signs.", nil},
	{"exec", "runs a command", "Exec runs a command.", []Param{{"command", "string", false, "a command line for sh, such as 'npm test'"}}},
	{"logs", "prints the log", "Logs prints the log. Of a service.", []Param{
		{"service", "string", false, "a service, as status lists them, or all"},
		{"f", "bool", true, "go on"},
		{"n", "int", true, "how many lines; 100 if not given"},
	}},
	{"rekor:start", "starts", "Start starts.", nil},
	{"set", "sets", "Set sets.", []Param{{"index", "int", false, ""}, {"ratio", "float64", false, ""}, {"wait", "time.Duration", true, ""}}},
	{"start", "starts", "Start starts.", nil},
	{"status", "shows", "Status shows.", []Param{{"o", "string", true, "the form of the output: table or json"}, {"watch", "bool", true, ""}}},
}

const howLogsIsCalled = `go tool mage logs SERVICE [-f] [-n=N]

  SERVICE  a service, as status lists them, or all
  -f       go on
  -n=N     how many lines; 100 if not given`

func TestRightWordsAreAccepted(t *testing.T) {
	for _, words := range []string{
		"", "start", "START", "start status", "status -o=table -watch start", "status -O=x -WATCH=false", "status -o=",
		"logs rekor", "logs start", "logs rekor -f -n=5 start", "logs -x", "logs - start", "exec -f", "exec logs start", "exec demo:keyles",
		"set 1 2.5 -wait=5m", "set -1 -2e3",
	} {
		if err := list.Check(strings.Fields(words)); err != nil {
			t.Errorf("%s: %v", words, err)
		}
	}
	if err := list.Check([]string{"exec", ""}); err != nil {
		t.Error(err)
	}
}

func TestWrongWordsAreExplained(t *testing.T) {
	for words, want := range map[string]string{
		"demo:keyles":         "\"demo:keyles\" is not a target; the nearest is demo:keyless, and `go tool mage -l` lists them all",
		"start demo:keyles":   "\"demo:keyles\" is not a target; the nearest is demo:keyless, and `go tool mage -l` lists them all",
		"strat":               "\"strat\" is not a target; the nearest is start, and `go tool mage -l` lists them all",
		"sta":                 "\"sta\" is not a target; the nearest are set, start, and `go tool mage -l` lists them all",
		"quit":                "\"quit\" is not a target; `go tool mage -l` lists them all",
		"start -v":            "\"-v\" is neither a target nor for the one before; mage's own flags come before the first target",
		"logs":                "logs wants a service: " + howLogsIsCalled,
		"start logs":          "logs wants a service: " + howLogsIsCalled,
		"logs -f rekor":       "logs takes -f after SERVICE: " + howLogsIsCalled,
		"logs rekor -n=x":     "logs was given -n=x; accepted is a whole number: " + howLogsIsCalled,
		"logs rekor -n=":      "logs was given -n=; accepted is a whole number: " + howLogsIsCalled,
		"logs rekor -n":       "logs wants a value for -n, after an equals sign: " + howLogsIsCalled,
		"logs rekor -n 5":     "logs wants a value for -n, after an equals sign: " + howLogsIsCalled,
		"logs rekor -f=maybe": "logs was given -f=maybe; accepted is true or false: " + howLogsIsCalled,
		"logs rekor -q":       "logs has no flag -q: " + howLogsIsCalled,
		"logs rekor --f":      "logs has no flag --f: " + howLogsIsCalled,
		"logs rekor -f -x=1":  "logs has no flag -x: " + howLogsIsCalled,
		"exec":                "exec wants a command: go tool mage exec COMMAND\n\n  COMMAND  a command line for sh, such as 'npm test'",
		"exec true fals":      "\"fals\" is not a target; `go tool mage -l` lists them all",
		"set":                 "set wants an index and a ratio: go tool mage set INDEX RATIO [-wait=DURATION]\n\n  INDEX\n  RATIO\n  -wait=DURATION",
		"set 1":               "set wants a ratio: go tool mage set INDEX RATIO [-wait=DURATION]\n\n  INDEX\n  RATIO\n  -wait=DURATION",
		"set 1 x":             "set was given \"x\" for RATIO; accepted is a number: go tool mage set INDEX RATIO [-wait=DURATION]\n\n  INDEX\n  RATIO\n  -wait=DURATION",
		"set 1 2 -wait=5":     "set was given -wait=5; accepted is a duration, such as 5m30s: go tool mage set INDEX RATIO [-wait=DURATION]\n\n  INDEX\n  RATIO\n  -wait=DURATION",
		"status -v":           "status has no flag -v: go tool mage status [-o=table|json] [-watch]\n\n  -o=table|json  the form of the output: table or json\n  -watch",
	} {
		if err := list.Check(strings.Fields(words)); err == nil || err.Error() != want {
			t.Errorf("%s: got\n%v\nand not\n%s", words, err, want)
		}
	}
	if err := list.Check([]string{""}); err == nil || !strings.HasPrefix(err.Error(), `"" is not a target; `) {
		t.Errorf("an empty word: %v", err)
	}
}

func TestHelpSaysHowATargetIsCalled(t *testing.T) {
	got, err := list.Help("LOGS")
	if want := "Logs prints the log. Of a service.\n\n    " + howLogsIsCalled; err != nil || got != want {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := list.Help("log"); err == nil || !strings.Contains(err.Error(), "the nearest is logs") {
		t.Errorf("got %v", err)
	}
}

func TestTheListIsReadAsItWasWritten(t *testing.T) {
	got, err := decode(list.Encode())
	if err != nil || !reflect.DeepEqual(got, list) {
		t.Errorf("got %v, %v", got, err)
	}
	got, err = decode(List{{Name: "a", Comment: "one\ttwo\nthree"}}.Encode())
	if err != nil || len(got) != 1 || got[0].Comment != "one two three" {
		t.Errorf("got %v, %v", got, err)
	}
	for _, text := range []string{"", "\n", "target\ta\n", "flag\ta\tint\t\n", string(list.Encode()[:20])} {
		if got, err := decode([]byte(text)); err == nil {
			t.Errorf("%q is read as %v", text, got)
		}
	}
}

func TestChoicesAreThoseOfAComment(t *testing.T) {
	for comment, want := range map[string][]string{
		"the form of the output: table or json":                           {"table", "json"},
		"the form of the output: sh, fish, json or github (lines for it)": {"sh", "fish", "json", "github"},
		"bash, zsh or fish":                                                 {"bash", "zsh", "fish"},
		"the form: a, b or c; a if not given":                               {"a", "b", "c"},
		"a service, as status lists them, or all":                           nil,
		"list what this email address or URI has signed":                    nil,
		"what to measure, with commas between: start, stop; all but stop":   nil,
		"by what it is trusted: keys one by one (v2), or root, a file (v3)": nil,
		"": nil,
	} {
		if got := (Param{Comment: comment}).Choices(); !slices.Equal(got, want) {
			t.Errorf("%q: got %q, not %q", comment, got, want)
		}
	}
}
