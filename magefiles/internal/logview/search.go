package logview

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"time"

	"sigstore-local/magefiles/internal/console"
	"sigstore-local/magefiles/internal/rekorlog"
)

// found is what a search has found, as JSON has it.
type found struct {
	Log     string       `json:"log"`
	Total   uint64       `json:"total"`             // entries that match; Entries may have fewer
	Behind  uint64       `json:"behind,omitempty"`  // entries of the log that the index does not have yet
	Problem string       `json:"problem,omitempty"` // why the index does not go on
	Entries []foundEntry `json:"entries"`           // the newest first
}

// foundEntry is an entry whose inclusion proof holds.
type foundEntry struct {
	Index   uint64        `json:"index"`
	UUID    string        `json:"uuid,omitempty"`
	Logged  *time.Time    `json:"logged,omitempty"` // RFC 3339; not in Rekor v2, which keeps no time
	Kind    string        `json:"kind"`
	Version string        `json:"version"`
	Digests []string      `json:"digests"`
	Signers []foundSigner `json:"signers"`
	// OnlyIndex says that what was searched for is not in the entry itself: only the index says that the two belong together.
	OnlyIndex bool `json:"onlyIndex,omitempty"`
}

type foundSigner struct {
	Identity string     `json:"identity,omitempty"`
	Issuer   string     `json:"issuer,omitempty"`
	From     *time.Time `json:"from,omitempty"`
	To       *time.Time `json:"to,omitempty"`
	Key      string     `json:"key"` // SHA-256, as hex
	// OtherCA says that a CA that is not this stack's has certified the identity.
	OtherCA bool `json:"otherCA,omitempty"`
}

// Find prints, in the form table or json, the newest entries that have all that a query asks for, limit at most, and says how many
// more there are. It prints only entries whose inclusion proofs hold.
func (log Log) Find(ctx context.Context, out *console.Console, query rekorlog.Query, limit int, form string) error {
	answer, err := log.Search(ctx, query, limit)
	if err != nil {
		return broken(err)
	}
	result := found{Log: log.name, Total: answer.Total, Behind: answer.Behind, Problem: answer.Problem, Entries: []foundEntry{}}
	for _, entry := range answer.Entries {
		// An index can name what is not in the log. So nothing of an entry is shown before it is proven to be there.
		if _, err := log.Check(entry); err != nil {
			return broken(err)
		}
		what, err := rekorlog.Describe(entry.Body)
		if err != nil {
			return err
		}
		named := query.Names(what)
		result.Entries = append(result.Entries, log.foundEntry(entry, what, named))
		if form == "json" {
			continue
		}
		line := log.line(entry, what)
		if !named {
			line += fmt.Sprintf("\t(that it has to do with %s is not in the entry: only the log's index says so)", query)
		}
		fmt.Println(line)
	}
	if form == "json" {
		encoder := json.NewEncoder(os.Stdout)
		encoder.SetIndent("", "  ")
		if err := encoder.Encode(result); err != nil {
			return err
		}
	}
	switch shown := uint64(len(result.Entries)); {
	case answer.Total == 0:
		out.Printf("No entry of %s has %s.", log.name, query)
	case answer.Total > shown:
		out.Printf("These are the newest %d of %d entries of %s that have %s; -n shows more.", shown, answer.Total, log.name, query)
	}
	switch {
	case answer.Problem != "":
		out.Printf("The index does not go on, so that %d entries of the log were not searched: %s", answer.Behind, answer.Problem)
	case answer.Behind > 0:
		out.Printf("The index is still being made: %d entries of the log are not in it yet, and were not searched. Try again in a moment.", answer.Behind)
	}
	return nil
}

func (log Log) foundEntry(entry rekorlog.Entry, what rekorlog.Description, named bool) foundEntry {
	one := foundEntry{Index: entry.Index, UUID: entry.UUID, Kind: what.Kind, Version: what.Version, Digests: what.Digests, OnlyIndex: !named}
	if !entry.Integrated.IsZero() {
		one.Logged = &entry.Integrated
	}
	for _, signer := range what.Signers {
		shown := foundSigner{Identity: signer.Identity, Issuer: signer.Issuer, Key: signer.Key}
		if !signer.From.IsZero() {
			shown.From, shown.To = &signer.From, &signer.To
		}
		shown.OtherCA = signer.Identity != "" && !log.Certified(signer)
		one.Signers = append(one.Signers, shown)
	}
	return one
}
