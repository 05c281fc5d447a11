package main

import (
	"fmt"
	"maps"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigstore-local/magefiles/internal/config"
)

// pages are README.md and those in docs, by their paths in the checkout.
func pages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob("../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	texts := map[string]string{}
	for _, file := range append(files, "../README.md") {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		texts[strings.TrimPrefix(filepath.ToSlash(file), "../")] = string(content)
	}
	return texts
}

// readmeLines is how long the README may be: it is where a reader comes in, and the rest is on the pages that it links to.
const readmeLines = 160

func TestTheReadmeIsShortAndLeadsToEveryPage(t *testing.T) {
	texts := pages(t)
	readme := texts["README.md"]
	if lines := strings.Count(readme, "\n"); lines > readmeLines {
		t.Errorf("README.md has %d lines, and may have %d: move what not every reader needs to a page in docs", lines, readmeLines)
	}
	if len(texts) < 2 {
		t.Fatal("there are no pages in docs")
	}
	for page := range texts {
		if page != "README.md" && !regexp.MustCompile(`\]\(`+regexp.QuoteMeta(page)+`[#)]`).MatchString(readme) {
			t.Errorf("README.md has no link to %s", page)
		}
	}
}

// settingsPage has the tables of all targets and variables.
const settingsPage = "docs/settings.md"

func TestThePageOnSettingsHasEveryTargetVariableAndPort(t *testing.T) {
	page := pages(t)[settingsPage]
	for _, target := range targets(t) {
		if !regexp.MustCompile("(?m)^\\| (`[\\w:]+`, )*`" + target + "`").MatchString(page) {
			t.Errorf("no table of %s has the target %s", settingsPage, target)
		}
	}
	for _, v := range config.Variables(described.Parts()...) {
		if !strings.Contains(page, "`"+v.Name+"`") {
			t.Errorf("%s does not have %s", settingsPage, v.Name)
		}
	}
}

// unknownNames are the targets and variables that a text uses and that there are not.
func unknownNames(text string, targets, variables []string) []string {
	var names []string
	for _, target := range targets {
		if namespace, _, ok := strings.Cut(target, ":"); ok && !slices.Contains(names, namespace) {
			names = append(names, namespace)
		}
	}
	var unknown []string
	inNamespace := regexp.MustCompile("`((?:" + strings.Join(names, "|") + `):[a-zA-Z]+)\b`)
	for _, used := range slices.Concat(regexp.MustCompile(`go tool mage ([a-z][\w:]*)`).FindAllStringSubmatch(text, -1), inNamespace.FindAllStringSubmatch(text, -1)) {
		if !slices.Contains(targets, used[1]) {
			unknown = append(unknown, used[1])
		}
	}
	for _, used := range regexp.MustCompile(`\bSIGLOCAL_[A-Z0-9_]+`).FindAllString(text, -1) {
		if !slices.Contains(variables, used) {
			unknown = append(unknown, used)
		}
	}
	return unknown
}

func TestNoPageUsesATargetOrVariableThatThereIsNot(t *testing.T) {
	known := targets(t)
	var variables []string
	for _, v := range config.Variables(described.Parts()...) {
		variables = append(variables, v.Name)
	}
	for page, text := range pages(t) {
		for _, name := range unknownNames(text, known, variables) {
			t.Errorf("%s uses %s, which there is not", page, name)
		}
	}
	const wrong = "`demo:key`, `demo:keyless -x`, `go tool mage strat` and SIGLOCAL_PROT"
	if got, want := unknownNames(wrong, known, variables), []string{"strat", "demo:key", "SIGLOCAL_PROT"}; !slices.Equal(got, want) {
		t.Errorf("of %s unknown are %q, not %q", wrong, got, want)
	}
}

// code matches what Markdown shows as it is: blocks, and text between backticks.
var code = regexp.MustCompile("(?ms)^```.*?^```$|`[^`\n]+`")

// link matches where Markdown and HTML say that something else is.
var link = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|srcset|href)="([^"]+)"`)

// anchors are the names by which GitHub has links lead to the headings of a page.
func anchors(text string) []string {
	var all []string
	for _, heading := range regexp.MustCompile(`(?m)^#+ +(.+)$`).FindAllStringSubmatch(regexp.MustCompile("(?ms)^```.*?^```$").ReplaceAllString(text, ""), -1) {
		name := regexp.MustCompile(`[^\p{L}\p{N}_ -]`).ReplaceAllString(strings.ToLower(heading[1]), "")
		name = strings.ReplaceAll(name, " ", "-")
		for i, plain := 1, name; slices.Contains(all, name); i++ {
			name = fmt.Sprintf("%s-%d", plain, i)
		}
		all = append(all, name)
	}
	return all
}

// broken are the links of a page that lead nowhere. Links to other machines are not followed.
func broken(texts map[string]string, page string) []string {
	var bad []string
	for _, found := range link.FindAllStringSubmatch(code.ReplaceAllString(texts[page], ""), -1) {
		to, err := url.Parse(found[1] + found[2])
		if err != nil {
			bad = append(bad, found[1]+found[2])
			continue
		}
		if to.Scheme != "" {
			continue
		}
		file := page
		if to.Path != "" {
			file = path.Join(path.Dir(page), to.Path)
		}
		text, isPage := texts[file]
		if _, err := os.Stat(filepath.Join("..", file)); !isPage && err != nil || to.Fragment != "" && !slices.Contains(anchors(text), to.Fragment) {
			bad = append(bad, to.String())
		}
	}
	return bad
}

func TestEveryLinkLeadsSomewhere(t *testing.T) {
	texts := pages(t)
	for page := range texts {
		for _, to := range broken(texts, page) {
			t.Errorf("%s has a link to %s, which there is not", page, to)
		}
	}
	texts = maps.Clone(texts)
	texts["docs/a.md"] = "# One `two`: three's\n\n```sh\n# no heading\n[a](b)\n```\n## Again\n## Again\n" +
		"[1](#one-two-threes) [2](../README.md) [3](#again-1) [4](https://example.org/x) `[5](x)` <img src=\"../go.mod\">" +
		"[6](#no-heading) [7](../READ.md) [8](../README.md#no) <source srcset=\"x.svg\">"
	if got, want := broken(texts, "docs/a.md"), []string{"#no-heading", "../READ.md", "../README.md#no", "x.svg"}; !slices.Equal(got, want) {
		t.Errorf("links that lead nowhere are %q, not %q", got, want)
	}
}
