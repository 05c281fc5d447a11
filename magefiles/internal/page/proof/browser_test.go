package proof

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"html/template"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/transparency-dev/merkle/rfc6962"
)

var screenshots = flag.String("screenshots", "", "write screenshots of the fragments into this `folder`")

// policy is a Content-Security-Policy that forbids inline scripts and styles, and whatever is from elsewhere.
const policy = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; frame-ancestors 'none'; base-uri 'none'"

// site serves pages with fragments, by name.
func site(t *testing.T, pages map[string][]template.HTML) string {
	page := template.Must(template.New("page").Parse(`<!doctype html><html lang="en"><head><meta charset="utf-8"><title>Proofs</title>
<meta name="viewport" content="width=device-width"><link rel="icon" href="/files/none.png"><link rel="stylesheet" href="/page.css">
<link rel="stylesheet" href="/files/proof.css"><script type="module" src="/files/proof.js"></script></head><body><main>{{range .}}{{.}}
{{end}}</main></body></html>`))
	mux := http.NewServeMux()
	mux.Handle("/files/", http.StripPrefix("/files/", http.FileServerFS(Files())))
	mux.HandleFunc("/files/none.png", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("/page.css", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/css")
		fmt.Fprint(w, `:root { color-scheme: light dark } body { margin: 0; background: var(--page); font: 16px/1.5 sans-serif }
			main { max-width: 80rem; margin: 0 auto; padding: 1rem } .proof + .proof { margin-top: 3rem }`)
	})
	for name, fragments := range pages {
		mux.HandleFunc("/"+name, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			if err := page.Execute(w, fragments); err != nil {
				t.Error(err)
			}
		})
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", policy)
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

// browser is a headless Chromium, which ends with its test and reaches nothing but this machine. The test fails if the
// browser writes anything to its console.
type browser struct {
	t   *testing.T
	ctx context.Context
	url string
}

func newBrowser(t *testing.T, url string, flags ...chromedp.ExecAllocatorOption) *browser {
	t.Helper()
	if _, err := exec.LookPath("chromium"); err != nil {
		t.Skip("chromium is not installed")
	}
	// Chromium is killed at the end, and then leaves its temporary folders.
	tmp, err := os.MkdirTemp("", "chromium")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(tmp) })
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.ExecPath("chromium"), chromedp.NoSandbox, chromedp.Env("TMPDIR="+tmp),
		chromedp.Flag("host-resolver-rules", "MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"))
	allocated, end := chromedp.NewExecAllocator(t.Context(), append(options, flags...)...)
	t.Cleanup(end)
	ctx, cancel := chromedp.NewContext(allocated)
	t.Cleanup(cancel)
	if err := chromedp.Do(ctx); err != nil {
		t.Fatalf("start chromium: %v", err)
	}
	messages := chromedp.Console(ctx)
	go func() {
		for message, err := range messages {
			if err != nil {
				return
			}
			t.Errorf("in the console: %v (%s:%d)", message, message.URL, message.Line)
		}
	}()
	return &browser{t, ctx, url}
}

func (b *browser) do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	if err := chromedp.Do(ctx, actions...); err != nil {
		b.t.Fatal(err)
	}
}

func evaluate[T any](b *browser, script string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	value, err := chromedp.Run(ctx, chromedp.Evaluate[T](script, chromedp.EvalAwaitPromise))
	if err != nil {
		b.t.Fatalf("%s: %v", script, err)
	}
	return value
}

// settled waits until all fragments are computed. It is to be waited for after all that changes a field.
const settled = `(async () => {
	do await new Promise(done => setTimeout(done, 20)); while (document.querySelector(".proof:has([data-check]):not([data-computed=yes])"));
})()`

// open opens a page and waits until its proofs are computed.
func (b *browser) open(name string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.url + "/" + name))
	evaluate[any](b, settled)
}

// edit replaces what the field of a selector has by a JavaScript expression of its value, and gives the verdict.
func (b *browser) edit(field, value string) string {
	b.t.Helper()
	evaluate[any](b, fmt.Sprintf(`(() => {
		const field = document.querySelector(%q), value = field.value;
		field.value = %s;
		field.dispatchEvent(new Event("input", {bubbles: true}));
	})()`, field, value))
	return b.verdict()
}

func (b *browser) verdict() string {
	b.t.Helper()
	evaluate[any](b, settled)
	return evaluate[string](b, `document.querySelector(".proof-verdict").innerText`)
}

func (b *browser) press(name string) {
	b.t.Helper()
	b.do(chromedp.Click(chromedp.Search(`//button[. = "` + name + `"]`)))
}

// states are the states of all nodes in the list, and in the drawings.
func (b *browser) states() string {
	return evaluate[string](b, `[...document.querySelectorAll(".proof [data-node]")].map(e => e.dataset.node + " " + e.dataset.state).join(", ")`)
}

func fragmentOf(t *testing.T, p interface{ HTML() (template.HTML, error) }) template.HTML {
	t.Helper()
	html, err := p.HTML()
	if err != nil {
		t.Fatal(err)
	}
	return html
}

// pages are what the tests and the screenshots show.
func pages(t *testing.T) map[string][]template.HTML {
	log := newTree(t, 100_000)
	one := func(proofs ...interface{ HTML() (template.HTML, error) }) []template.HTML {
		var list []template.HTML
		for _, p := range proofs {
			list = append(list, fragmentOf(t, p))
		}
		return list
	}
	var many []template.HTML
	for size := uint64(1); size <= 9; size++ {
		for index := range size {
			many = append(many, fragmentOf(t, log.inclusion(t, index, size)))
		}
		for older := range size {
			many = append(many, fragmentOf(t, log.consistency(t, older+1, size)))
		}
	}
	for _, index := range []uint64{0, 65_535, 65_536, 98_304, 99_999} {
		many = append(many, fragmentOf(t, log.inclusion(t, index, 100_000)))
	}
	for _, older := range []uint64{1, 65_536, 77_777, 99_999} {
		many = append(many, fragmentOf(t, log.consistency(t, older, 100_000)))
	}
	evil := strings.Repeat(`<img src=x onerror="console.error(1)"><script>console.error(1)</script> `+"\u202eright to left\u202c שלום ", 1200)
	small := newTree(t, 12).withLast(t, []byte(evil))
	bad := log.inclusion(t, 5, 7)
	bad.Root = bytes.Repeat([]byte{0x5a}, 32)
	binary := log.inclusion(t, 2, 3)
	binary.Leaf = []byte("\x00\x00\x01\r\n")
	binary.Root = rfc6962.DefaultHasher.HashChildren(binary.Hashes[0], rfc6962.DefaultHasher.HashLeaf(binary.Leaf))
	return map[string][]template.HTML{
		"many": many, "seven": one(log.inclusion(t, 5, 7)), "single": one(log.inclusion(t, 0, 1)), "large": one(log.inclusion(t, 77_777, 100_000)),
		"last": one(log.inclusion(t, 99_999, 100_000)), "consistency": one(log.consistency(t, 7, 13)), "power": one(log.consistency(t, 8, 13)),
		"equal": one(log.consistency(t, 7, 7)), "empty": one(Consistency{Newer: 7, NewerRoot: log.root(t, 7)}),
		"growth": one(log.consistency(t, 77_777, 100_000)), "evil": one(small.inclusion(t, 11, 12)), "bad": one(bad), "binary": one(binary),
		"two": one(log.inclusion(t, 5, 7), log.inclusion(t, 6, 7)),
	}
}

func TestInChromium(t *testing.T) {
	b := newBrowser(t, site(t, pages(t)), chromedp.Flag("force-prefers-reduced-motion", true))
	in := func(name string, test func(b *browser)) {
		t.Run(name, func(t *testing.T) { test(&browser{t, b.ctx, b.url}) })
	}
	signed := start(newTree(t, 7).root(t, 7))
	in("the roots of all sizes come out", func(b *browser) {
		b.open("many")
		// Of each fragment: its verdict, whether the roots that came out are the signed ones, and the states that are not "same".
		found := evaluate[[]string](b, `[...document.querySelectorAll(".proof")].map(proof => {
			const out = id => { const hash = proof.querySelector("[data-node=" + id + "] .proof-hash"); return hash.value ?? hash.textContent };
			return proof.querySelector(".proof-verdict").innerText
				+ [...proof.querySelectorAll("[data-check]")].map(check => " " + (check.dataset.hash === out(check.dataset.of)))
				+ [...proof.querySelectorAll("[data-node]")].map(node => node.dataset.state).filter(state => state !== "same");
		})`)
		if len(found) != 45+45+9 {
			t.Errorf("%d fragments", len(found))
		}
		for i, one := range found {
			if !strings.HasPrefix(one, "✓ It fits: the ") || strings.Contains(one, "false") || !strings.HasSuffix(one, " true") {
				b.t.Errorf("fragment %d: %s", i, one)
			}
		}
	})
	in("a byte of the entry", func(b *browser) {
		b.open("seven")
		fits := b.verdict()
		got := b.edit("[data-form=text]", `value.replace("5", "6")`)
		if !strings.HasPrefix(got, "✗ It breaks at the hash of the entry 5: it was ") || !strings.Contains(got, " The root that comes out is ") ||
			!strings.Contains(got, ", and the log has signed "+signed) {
			b.t.Error(got)
		}
		if got := b.states(); got != "n0 differs, n1 same, n2 differs, n3 same, n4 differs, n5 same, n6 differs" {
			b.t.Error(got)
		}
		shown := evaluate[string](b, `[...document.querySelectorAll(".proof-box")]
			.map(box => box.dataset.state + box.querySelector(".proof-box-sign").textContent).join(" ")
			+ document.querySelector(".proof-equals").textContent + " " + [...document.querySelectorAll(".proof-result .proof-state")].map(s => s.innerText)`)
		if shown != "same differs≠ same differs≠ same differs≠ same differs≠ edited✎≠ ≠ changed,≠ changed,≠ changed,≠ changed" {
			b.t.Errorf("the drawing shows %s", shown)
		}
		// The hash is that of what is in the field, as the server computes it.
		want := rfc6962.DefaultHasher.HashLeaf([]byte(`{"kind": "hashedrekord", "number": 6}`))
		if got := evaluate[string](b, `document.querySelector("[data-node=n0] .proof-hash").textContent`); got != fmt.Sprintf("%x", want) {
			b.t.Errorf("the hash of the changed entry is %s, want %x", got, want)
		}
		b.press("Put it back")
		if got := b.verdict(); got != fits || strings.Contains(b.states(), "differs") {
			b.t.Errorf("put back: %s, %s", got, b.states())
		}
	})
	in("a digit of each hash beside the path", func(b *browser) {
		b.open("seven")
		for i, want := range []string{
			"the entry 4 is not the genuine one. It breaks at the hash of the entries 4 to 5:",
			"the entry 6 is not the genuine one. It breaks at the hash of the entries 4 to 6:",
			"the entries 0 to 3 is not the genuine one. It breaks at the hash of the entries 0 to 6:",
		} {
			got := b.edit(fmt.Sprintf("[data-field=n%d]", 2*i+1), `(value[0] === "0" ? "1" : "0") + value.slice(1)`)
			if !strings.Contains(got, want) {
				b.t.Errorf("%s; want it to say %q", got, want)
			}
			if got := strings.Count(b.states(), "differs"); got != 3-i {
				b.t.Errorf("%d computed hashes differ when that %d is changed", got, i)
			}
			b.press("Put it back")
		}
	})
	in("the signed root", func(b *browser) {
		b.open("seven")
		got := b.edit("[data-check] [data-form]", `(value[0] === "0" ? "1" : "0") + value.slice(1)`)
		if !strings.HasPrefix(got, "✗ It breaks at the root. The root that comes out is "+signed+", and the field of the signed one has ") {
			b.t.Error(got)
		}
		// Whoever changes the entry and the root too gets what they computed, and not what the log has signed.
		b.edit("[data-form=text]", `value + "!"`)
		got = b.edit("[data-check] [data-form]", `document.querySelector("[data-node=n6] .proof-hash").textContent`)
		if !strings.Contains(got, "It breaks at the hash of the entry 5") || !strings.Contains(got, "and not what the log has signed: "+signed) {
			b.t.Error(got)
		}
		b.press("Put it back")
		if got := b.verdict(); !strings.HasPrefix(got, "✓") {
			b.t.Error(got)
		}
	})
	in("what is no hash", func(b *browser) {
		b.open("seven")
		for value, want := range map[string]string{
			`value.slice(1)`: "has 63 hex digits, and a SHA-256 has 64", `"x" + value.slice(1)`: "has “x”, which is no hex digit", `""`: "has 0 hex digits",
		} {
			if got := b.edit("[data-field=n3]", value); !strings.HasPrefix(got, "✗ The hash of the entry 6 "+want) {
				b.t.Errorf("%s: %s", value, got)
			}
			if got := b.states(); got != "n0 same, n1 same, n2 same, n3 unknown, n4 unknown, n5 same, n6 unknown" {
				b.t.Error(got)
			}
			b.press("Put it back")
		}
		if got := b.edit("[data-check] [data-form]", `"7"`); !strings.HasPrefix(got, "✗ The root in its field has 1 hex digits") {
			b.t.Error(got)
		}
		if got := b.edit("[data-field=n3]", `" " + value.toUpperCase().replace(/(.{8})/g, "$1 ")`); !strings.HasPrefix(got, "✗ The root in its field") {
			b.t.Error(got)
		}
		b.open("binary")
		if got := evaluate[string](b, `document.querySelector("[data-form=bytes]").value`); got != "0000010d 0a" {
			b.t.Errorf("a binary entry is shown as %q", got)
		}
		if got := b.edit("[data-form=bytes]", `value.slice(1)`); !strings.HasPrefix(got, "✗ The field of the entry 2 has 9 hex digits, and a byte has two") {
			b.t.Error(got)
		}
		if got := b.edit("[data-form=bytes]", `"0" + value + " "`); !strings.HasPrefix(got, "✓") {
			b.t.Error(got)
		}
	})
	in("consistency", func(b *browser) {
		b.open("consistency") // 7 to 13: 6, 7, 4 to 5, 0 to 3, 8 to 12
		flip := `(value[0] === "0" ? "1" : "0") + value.slice(1)`
		ids := strings.Fields(evaluate[string](b, `[...document.querySelectorAll("[data-field]")].map(f => f.dataset.field).join(" ")`))
		if len(ids) != 5 {
			b.t.Fatalf("fields %v", ids)
		}
		for i, want := range [][2]bool{{true, true}, {false, true}, {true, true}, {true, true}, {false, true}} {
			got := b.edit("[data-field="+ids[i]+"]", flip)
			if strings.Contains(got, "The older root that comes out is") != want[0] || strings.Contains(got, "The newer root that comes out is") != want[1] {
				b.t.Errorf("hash %d changed: %s", i, got)
			}
			b.press("Put it back")
		}
		got := b.edit("[data-check='older root'] [data-form]", flip)
		if !strings.HasPrefix(got, "✗ It breaks at the older root. The older root that comes out is") || strings.Contains(got, "The newer root") {
			b.t.Error(got)
		}
		b.open("power")
		got = b.edit("[data-field=n0]", flip)
		if !strings.HasPrefix(got, "✗ The hash of the entries 0 to 7 is not the genuine one. It breaks at the hash of the entries 0 to 12: ") {
			b.t.Error(got)
		}
		b.press("Put it back")
		if got := b.verdict(); !strings.HasPrefix(got, "✓ It fits: the newer root") {
			b.t.Error(got)
		}
		b.open("equal")
		if got := b.edit("[data-field=n0]", flip); !strings.HasPrefix(got, "✗ The hash of the entries 0 to 6 is not the genuine one. The newer root that") {
			b.t.Error(got)
		}
		b.open("empty")
		if got := b.verdict(); got != "✓ The older tree is empty. Every tree continues it, and no hash is needed." {
			b.t.Error(got)
		}
	})
	in("a proof that does not fit", func(b *browser) {
		b.open("bad")
		if got := b.verdict(); !strings.HasPrefix(got, "✗ It does not fit. The root that comes out is") || !strings.HasSuffix(got, "and the log has signed 5a5a5a5a.") {
			b.t.Error(got)
		}
	})
	in("an attacker's entry", func(b *browser) {
		b.open("evil")
		if got := b.verdict(); !strings.HasPrefix(got, "✓") {
			b.t.Error(got)
		}
		height := evaluate[float64](b, `document.querySelector("[data-form=text]").offsetHeight`)
		if height > 250 || evaluate[float64](b, `document.images.length + document.querySelectorAll("main script").length`) != 0 {
			b.t.Errorf("the entry is %v pixels high", height)
		}
	})
	in("the fragments of a page are apart", func(b *browser) {
		b.open("two")
		b.edit("[data-form=text]", `value + "x"`)
		if got := evaluate[string](b, `[...document.querySelectorAll(".proof-verdict")].map(v => v.innerText[0]).join("")`); got != "✗✓" {
			b.t.Errorf("verdicts %s", got)
		}
	})
	in("by keyboard", func(b *browser) {
		b.open("seven")
		focused := func() string {
			return evaluate[string](b, `document.activeElement.dataset.do ?? document.activeElement.dataset.field ?? document.activeElement.className`)
		}
		b.do(chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.Tab), chromedp.KeyEvent(kb.ArrowRight), chromedp.KeyEvent(kb.ArrowRight))
		got := evaluate[string](b, `document.activeElement.className + ": " + document.querySelector(".proof-whole").innerText`)
		if got != fmt.Sprintf("proof-frame: the entries 0 to 3: %x", subtree(newTree(b.t, 7), 0, 4)) {
			b.t.Errorf("after two arrows: %s", got)
		}
		b.do(chromedp.KeyEvent(kb.End), chromedp.KeyEvent(kb.Enter))
		if got := focused(); got != "n0" {
			b.t.Fatalf("Enter on the entry goes to %s", got)
		}
		b.do(chromedp.KeyEvent("!"))
		if got := b.verdict(); !strings.HasPrefix(got, "✗ It breaks at the hash of the entry 5") {
			b.t.Error(got)
		}
		for range 2 { // past the drawing, which is before the list, to the button
			b.do(chromedp.KeyEvent(kb.Tab, chromedp.KeyModifiers(chromedp.ModifierShift)))
		}
		if got := focused(); got != "back" {
			b.t.Fatalf("two back from the entry is %s", got)
		}
		b.do(chromedp.KeyEvent(kb.Enter))
		if got := b.verdict(); !strings.HasPrefix(got, "✓") {
			b.t.Error(got)
		}
	})
	in("nothing is cut", func(b *browser) {
		for _, name := range []string{"seven", "single", "large", "last", "consistency", "power", "equal", "empty", "growth", "evil", "bad", "binary"} {
			for _, width := range []int64{320, 375, 800, 1600} {
				b.do(chromedp.EmulateViewport(width, 900))
				b.open(name)
				// Elements beyond the window or with more in them than they show, texts wider than their box, and hashes not shown whole.
				cut := evaluate[string](b, `(() => {
					const all = selector => [...document.querySelectorAll(selector)];
					const outside = all(".proof, .proof *:not(textarea):not(pre)").filter(e => {
						const {left, right} = e.getBoundingClientRect();
						return right > innerWidth || left < 0 || !(e instanceof SVGElement) && e.clientWidth > 0 && e.scrollWidth > e.clientWidth + 1;
					});
					const wide = all(".proof-box").filter(box => [...box.querySelectorAll("text")]
						.some(text => text.getBBox().width > box.querySelector("rect").getBBox().width - 4));
					const hidden = all("textarea.proof-hash").filter(field => field.scrollHeight > field.clientHeight);
					return [...outside, ...wide, ...hidden].map(e => e.outerHTML.slice(0, 200)).join("\n");
				})()`)
				wide := evaluate[float64](b, `document.documentElement.scrollWidth`)
				if cut != "" || wide > float64(width) {
					b.t.Errorf("%s at %d pixels is %v wide; cut: %s", name, width, wide, cut)
				}
			}
		}
	})
}

func TestTheHashesAreComputedOneByOne(t *testing.T) {
	b := newBrowser(t, site(t, pages(t)))
	b.do(chromedp.Navigate(b.url + "/large"))
	// The states of the path's nodes, at each change: from all waiting to all computed, from the entry up.
	seen := evaluate[[]string](b, `new Promise(resolve => {
		const proof = document.querySelector(".proof"), seen = [];
		const look = () => {
			const states = [...proof.querySelectorAll(".proof-result")].map(e => e.dataset.state === "same" ? "s" : e.dataset.state === "waits" ? "w" : "?").join("");
			if (seen.at(-1) !== states) seen.push(states);
			if (seen.length > 3 && proof.dataset.computed === "yes") resolve(seen); else requestAnimationFrame(look);
		};
		look();
	})`)
	if last := seen[len(seen)-1]; last != strings.Repeat("s", 18) || len(seen) < 15 {
		t.Errorf("seen: %q", seen)
	}
	for _, states := range seen {
		if strings.Contains(states, "ws") || strings.Contains(states, "?") {
			t.Errorf("a hash was computed before what it is made of: %s", states)
		}
	}
	// Who edits while hashes are computed one by one sees the end at once.
	b.press("Compute again")
	if got := b.edit("[data-form=text]", `value + "x"`); !strings.HasPrefix(got, "✗ It breaks at the hash of the entry 77777") {
		t.Error(got)
	}
	// What was computed one by one has ended: it would mark its next node in less than half a second.
	if marked := evaluate[bool](b, `new Promise(resolve => {
		const end = performance.now() + 500;
		const look = () => document.querySelector(".now") ? resolve(true) : performance.now() > end ? resolve(false) : requestAnimationFrame(look);
		look();
	})`); marked {
		t.Error("the hashes are still computed one by one after a field was changed")
	}
}

func TestScreenshots(t *testing.T) {
	if *screenshots == "" {
		t.Skip("no -screenshots FOLDER")
	}
	url := site(t, pages(t))
	for scheme, flags := range map[string][]chromedp.ExecAllocatorOption{"light": nil, "dark": {chromedp.Flag("blink-settings", "preferredColorScheme=0")}} {
		t.Run(scheme, func(t *testing.T) {
			b := newBrowser(t, url, append(flags, chromedp.Flag("force-prefers-reduced-motion", true))...)
			if dark := evaluate[bool](b, `matchMedia("(prefers-color-scheme: dark)").matches`); dark != (scheme == "dark") {
				t.Errorf("the browser is dark: %v", dark)
			}
			for _, width := range []int64{375, 1600} {
				b.do(chromedp.EmulateViewport(width, 900))
				for _, name := range []string{"seven", "single", "large", "last", "consistency", "power", "growth", "evil", "binary", "bad", "equal", "empty"} {
					b.open(name)
					b.write(fmt.Sprintf("%s-%s-%d.png", name, scheme, width))
				}
				b.open("seven")
				b.edit("[data-field=n3]", `(value[0] === "0" ? "1" : "0") + value.slice(1)`)
				b.write(fmt.Sprintf("changed-%s-%d.png", scheme, width))
				b.open("consistency")
				b.edit("[data-field=n1]", `(value[0] === "0" ? "1" : "0") + value.slice(1)`)
				b.write(fmt.Sprintf("changed-consistency-%s-%d.png", scheme, width))
			}
		})
	}
}

// write writes what the whole page looks like.
func (b *browser) write(name string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, 5*time.Minute)
	defer cancel()
	image, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(*screenshots, name), image, 0o644); err != nil {
		b.t.Fatal(err)
	}
}
