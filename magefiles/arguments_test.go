package main

import (
	"strings"
	"testing"
)

func TestBadArgumentsAreRefused(t *testing.T) {
	text := func(s string) *string { return &s }
	number := func(n int) *int { return &n }
	ctx := t.Context()
	search := func(identity, digest, key *string, n *int, o *string) error {
		return Rekor.Search(Rekor{}, ctx, identity, digest, key, nil, n, o)
	}
	refused := 0
	for name, test := range map[string]struct {
		err  error
		want string
	}{
		"status yaml":      {Status(ctx, text("yaml"), nil, nil), "table, json"},
		"status empty":     {Status(ctx, text(""), nil, nil), "table, json"},
		"status JSON":      {Status(ctx, text("JSON"), nil, nil), "table, json"},
		"doctor xml":       {Doctor(ctx, text("xml")), "table, json"},
		"doctor empty":     {Doctor(ctx, text("")), "table, json"},
		"env csh":          {Env(ctx, text("csh"), nil, nil, nil), "sh, fish, json, github"},
		"env empty":        {Env(ctx, text(""), nil, nil, nil), "sh, fish, json, github"},
		"env SH":           {Env(ctx, text("SH"), nil, nil, nil), "sh, fish, json, github"},
		"env -files=a":     {Env(ctx, nil, nil, nil, text("a")), `-files is "a"; accepted is an absolute path`},
		"env v3":           {Env(ctx, nil, nil, text("v3"), nil), "keys, root"},
		"explain png":      {Explain(ctx, text("png")), "text, svg, mermaid"},
		"explain empty":    {Explain(ctx, text("")), "text, svg, mermaid"},
		"logs nobody":      {Logs(ctx, "nobody", nil, nil), "accepted are all, registry"},
		"logs empty":       {Logs(ctx, "", nil, nil), "accepted are all, registry"},
		"logs path":        {Logs(ctx, "../secrets/hsm-pin", nil, nil), "accepted are all, registry"},
		"logs Rekor":       {Logs(ctx, "Rekor", nil, nil), "accepted are all, registry"},
		"logs -n=-1":       {Logs(ctx, "rekor", nil, number(-1)), "from 0"},
		"restart nobody":   {Restart(ctx, "nobody"), "accepted are all, registry"},
		"restart empty":    {Restart(ctx, ""), "accepted are all, registry"},
		"restart cosign":   {Restart(ctx, "cosign"), "tuf, page, trillian"},
		"tamper nothing":   {Demo.Tamper(Demo{}, ctx, nil, text("")), "changed-image, moved-signature"},
		"tamper nobody":    {Demo.Tamper(Demo{}, ctx, nil, text("own-ca,own-dog")), `"own-dog"`},
		"tamper yaml":      {Demo.Tamper(Demo{}, ctx, text("yaml"), nil), `-o is "yaml"; accepted is one of text, json`},
		"keyed table":      {Demo.Keyed(Demo{}, ctx, text("table")), "text, json"},
		"tour -chapter=0":  {Demo.Tour(Demo{}, ctx, nil, number(0)), "-chapter is 0; accepted is a number from 1 to 4"},
		"tour -chapter=5":  {Demo.Tour(Demo{}, ctx, nil, number(5)), "-chapter is 5; accepted is a number from 1 to 4"},
		"exec empty":       {Exec(ctx, ""), "npm test"},
		"token name":       {Dex.Token(Dex{}, ctx, text("alice")), "alice@example.org"},
		"token empty":      {Dex.Token(Dex{}, ctx, text("")), "alice@example.org"},
		"token upper case": {Dex.Token(Dex{}, ctx, text("Alice@example.org")), "lower case"},
		"token two":        {Dex.Token(Dex{}, ctx, text("a@example.org,b@example.org")), "alice@example.org"},
		"token quote":      {Dex.Token(Dex{}, ctx, text("a'b@example.org")), "alice@example.org"},
		"token space":      {Dex.Token(Dex{}, ctx, text("a @example.org")), "alice@example.org"},
		"watch nobody":     {Watch(ctx, "nobody"), "accepted are trillian, log-server, log-signer, rekor, "},
		"watch no source":  {Watch(ctx, "rekor"), "SIGLOCAL_SRC_REKOR is not set"},
		"watch log-server": {Watch(ctx, "log-server"), "SIGLOCAL_SRC_TRILLIAN is not set"},
		"debug trillian":   {Debug(ctx, "trillian"), "accepted are log-server, log-signer"},
		"debug nobody":     {Debug(ctx, "nobody"), "accepted are registry, log-server"},
		"debug mariadb":    {Debug(ctx, "mariadb"), "accepted are registry, log-server"},
		"debug all":        {Debug(ctx, "all"), "accepted are registry, log-server"},
		"versions yaml":    {Versions(ctx, text("yaml")), "table, json"},
		"bump nobody":      {Bump(ctx, "nobody"), "is not one module that go.mod pins"},
		"bump empty":       {Bump(ctx, ""), "is not one module that go.mod pins"},
		"bump version":     {Bump(ctx, "@v1.0.0"), "is not one module that go.mod pins"},
		"bench yaml":       {Bench(ctx, text("yaml"), nil, nil, nil), "table, json"},
		"bench nothing":    {Bench(ctx, nil, text(""), nil, nil), "start, stop"},
		"bench speed":      {Bench(ctx, nil, text("start,speed"), nil, nil), `"speed"`},
		"bench -runs=0":    {Bench(ctx, nil, nil, number(0), nil), "from 1"},
		"bench -entries=1": {Bench(ctx, nil, nil, nil, number(1)), "from 1000"},
		"show nothing":     {Rekor.Show(Rekor{}, ctx, "", nil), "a whole number from 0"},
		"show -1":          {Rekor.Show(Rekor{}, ctx, "-1", nil), "a whole number from 0"},
		"show a UUID":      {Rekor.Show(Rekor{}, ctx, "24296fb2e1", nil), "a whole number from 0"},
		"show of a CT log": {Rekor.Show(Rekor{}, ctx, "0", text("ct")), `-log is "ct"; accepted is one of rekor, rekor-tiles`},
		"monitor no log":   {Rekor.Monitor(Rekor{}, ctx, nil, nil, text("")), "accepted is one of rekor, rekor-tiles"},
		"search nothing":   {search(nil, nil, nil, nil, nil), "at least one of -identity, -digest and -key"},
		"search a digest":  {search(nil, text("ab"), nil, nil, nil), `the digest is "ab"; accepted are sha256:`},
		"search a key":     {search(nil, nil, text("no.pub"), nil, nil), `the key is "no.pub", and there is no such file; accepted is a PEM file`},
		"search -n=0":      {search(text("a@b.c"), nil, nil, number(0), nil), "-n is 0; accepted is a number of entries from 1"},
		"search yaml":      {search(text("a@b.c"), nil, nil, nil, text("yaml")), "table, json"},
		"reset":            {Reset(ctx, nil), "reset -yes"},
	} {
		if test.err == nil || !strings.Contains(test.err.Error(), test.want) {
			t.Errorf("%s: the message does not say %q: %v", name, test.want, test.err)
			continue
		}
		refused++
	}
	t.Logf("%d bad arguments are refused", refused)
}
