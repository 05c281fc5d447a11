package inspect

import (
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	protobundle "github.com/sigstore/protobuf-specs/gen/pb-go/bundle/v1"
	protocommon "github.com/sigstore/protobuf-specs/gen/pb-go/common/v1"
	protorekor "github.com/sigstore/protobuf-specs/gen/pb-go/rekor/v1"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/demo/attack"
)

// of are the names of the checks with an outcome.
func of(report Report, outcome Outcome) []string {
	var names []string
	for _, one := range report.Checks {
		if one.Outcome == outcome {
			names = append(names, one.Name)
		}
	}
	return names
}

// consistent checks what holds for every report.
func consistent(tb testing.TB, report Report) {
	tb.Helper()
	if failed := of(report, Failed); report.OK != (len(failed) == 0) {
		tb.Errorf("OK is %t, and %q failed; the verdict is %q", report.OK, failed, report.Verdict)
	}
	if report.Verdict == "" {
		tb.Error("there is no verdict")
	}
	attacks := attack.All(config.Config{Stack: config.Whole})
	for _, one := range report.Checks {
		if (one.Outcome != Passed) && one.Detail == "" {
			tb.Errorf("%s is %s, and nothing says why", one.Name, one.Outcome)
		}
		for _, text := range []string{one.Compared, one.Detail, report.Verdict} {
			if len([]rune(text)) > mostWords+1 {
				tb.Errorf("%s has a text of %d bytes", one.Name, len(text))
			}
		}
		for _, name := range one.Attacks {
			if !slices.ContainsFunc(attacks, func(a attack.Attack) bool { return a.Name == name }) {
				tb.Errorf("%s: there is no attack %q", one.Name, name)
			}
		}
	}
}

func TestBundle(t *testing.T) {
	s, other := newSigstore(t), newSigstore(t)
	signer, stranger := newKey(t), newKey(t)
	subject := fmt.Sprintf("sha256:%x", sha256.Sum256(artifact))
	expected := Expected{Identity: alice, Issuer: issuer}
	withKey := Expected{Identity: alice, Issuer: issuer, KeyPEM: publicPEM(t, signer)}
	moved := func(b *protobundle.Bundle) { // to another certificate, with the same names
		b.VerificationMaterial.Content = &protobundle.VerificationMaterial_Certificate{
			Certificate: &protocommon.X509Certificate{RawBytes: s.certificate(t, signing{}, &stranger.PublicKey).Raw},
		}
	}
	tests := map[string]struct {
		how             signing
		by              *sigstore                 // s by default
		damage          func(*protobundle.Bundle) // nil for none
		subject         string                    // of the artifact by default; "-" if it is not known
		expected        Expected                  // expected by default
		failed, skipped string                    // names of checks, with spaces between them
		verdict         string                    // part of the verdict
	}{
		"message, Rekor v1":               {skipped: "timestamp", verdict: alice + ", as " + issuer + " says, has signed " + subject + ", at "},
		"message, Rekor v1 with proof":    {how: signing{proof: true}, skipped: "timestamp", verdict: "has signed " + subject},
		"message, Rekor v1 and timestamp": {how: signing{stamp: true}, verdict: "has signed " + subject},
		"message, Rekor v2":               {how: signing{tiles: true}, verdict: "has signed " + subject},
		"statement, Rekor v1":             {how: signing{statement: true}, skipped: "timestamp", verdict: "has signed " + subject},
		"statement, Rekor v2":             {how: signing{statement: true, tiles: true}, verdict: "has signed " + subject},
		"key, Rekor v1": {
			how: signing{key: signer}, expected: withKey, skipped: "timestamp identity", verdict: "The public key that is expected, sha256:",
		},
		"key, Rekor v2":            {how: signing{key: signer, tiles: true}, expected: withKey, skipped: "identity", verdict: "The public key that is expected, sha256:"},
		"key, statement":           {how: signing{key: signer, statement: true}, expected: withKey, skipped: "timestamp identity", verdict: "has signed " + subject},
		"key, statement, Rekor v2": {how: signing{key: signer, statement: true, tiles: true}, expected: withKey, skipped: "identity", verdict: "has signed " + subject},
		"key, Rekor v2, no timestamp": {
			how: signing{key: signer, tiles: true}, expected: withKey, skipped: "timestamp identity", verdict: "has signed " + subject,
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		},
		"a key that is expected counts for no certificate": {expected: withKey, skipped: "timestamp", verdict: alice + ", as"},
		"no artifact":            {subject: "-", skipped: "timestamp digest", verdict: "whatever has the digest " + strings.TrimPrefix(subject, "sha256:")},
		"no artifact, statement": {how: signing{statement: true}, subject: "-", skipped: "timestamp digest", verdict: "a statement, whatever it is about"},
		// Clients of before hashed with SHA-256 for every key, and sigstore-go accepts that of bundles.
		"P-384 with SHA-256": {how: signing{curve: elliptic.P384()}, skipped: "timestamp", verdict: "has signed " + subject},
		"a timestamp that does not count, beside the log's time": {
			how: signing{stamp: true}, skipped: "timestamp", verdict: "has signed " + subject, damage: otherStamp(t, other),
		},

		"other CA": {
			by: withCA(s, other), failed: "certificate", skipped: "timestamp validity sct identity", verdict: "failed to verify leaf certificate",
		},
		"no SCT":                  {how: signing{noSCT: true}, failed: "sct", skipped: "timestamp", verdict: "only able to verify 0 SCT entries"},
		"SCT of another log":      {how: signing{sctKey: other.ctKey}, failed: "sct", skipped: "timestamp", verdict: "only able to verify 0 SCT entries"},
		"logged after expiry":     {how: signing{logged: time.Hour - time.Minute}, failed: "validity", skipped: "timestamp", verdict: "integrated time outside certificate validity"},
		"logged before, v1 proof": {how: signing{logged: -time.Minute, proof: true}, failed: "validity", skipped: "timestamp", verdict: "integrated time outside certificate validity"},
		// The time of an entry without a promise is nobody's word, and sigstore-go compares it all the same.
		"logged after expiry, as nobody says": {
			how: signing{logged: 30 * time.Minute, proof: true, stamp: true}, failed: "validity", verdict: "integrated time outside certificate validity",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].InclusionPromise = nil },
		},
		"stamped before": {how: signing{tiles: true, valid: 20 * time.Minute}, failed: "validity", verdict: "failed to verify leaf certificate"},
		"no timestamp, Rekor v2": {
			how: signing{tiles: true}, failed: "validity", skipped: "timestamp", verdict: "threshold not met for verified signed & log entry integrated timestamps",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TimestampVerificationData = nil },
		},
		"timestamp of another authority": {
			how: signing{tiles: true}, failed: "timestamp validity", verdict: "threshold not met", damage: otherStamp(t, other),
		},
		"no log entry": {
			how: signing{stamp: true}, failed: "entry", verdict: "not enough verified log entries",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		},
		"a log that is not known": {
			how: signing{stamp: true}, failed: "entry", verdict: "not enough verified log entries",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].LogId.KeyId = []byte("other") },
		},
		"changed time": {
			how: signing{stamp: true}, failed: "entry", verdict: "not enough verified log entries",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime++ },
		},
		"changed time, and no other": {
			failed: "entry validity", skipped: "timestamp", verdict: "not enough verified log entries",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries[0].IntegratedTime++ },
		},
		"entry of another signature": {
			how: signing{stamp: true}, failed: "entry", verdict: "transparency log signature does not match",
			damage: func(b *protobundle.Bundle) {
				b.VerificationMaterial.TlogEntries = s.sign(t, signing{}).VerificationMaterial.TlogEntries
			},
		},
		"entry of another signature, Rekor v2": {
			how: signing{tiles: true}, failed: "entry", verdict: "verifying inclusion",
			damage: func(b *protobundle.Bundle) {
				b.VerificationMaterial.TlogEntries = s.sign(t, signing{tiles: true}).VerificationMaterial.TlogEntries
			},
		},
		"the same entry twice": {
			how: signing{stamp: true}, failed: "entry", verdict: "duplicate tlog entries",
			damage: func(b *protobundle.Bundle) {
				b.VerificationMaterial.TlogEntries = slices.Repeat(b.VerificationMaterial.TlogEntries, 2)
			},
		},
		"two entries, one of a log that is not known": {
			skipped: "timestamp", verdict: "has signed " + subject,
			damage: func(b *protobundle.Bundle) {
				strange := s.sign(t, signing{}).VerificationMaterial.TlogEntries[0]
				strange.LogId.KeyId = []byte(strings.Repeat("long", 10000))
				b.VerificationMaterial.TlogEntries = append(b.VerificationMaterial.TlogEntries, strange)
			},
		},
		"neither promise nor proof": {
			how: signing{tiles: true}, failed: "entry", verdict: "entry must contain an inclusion proof and/or promise",
			damage: func(b *protobundle.Bundle) {
				bare := s.sign(t, signing{}).VerificationMaterial.TlogEntries[0]
				bare.InclusionPromise = nil
				b.VerificationMaterial.TlogEntries = []*protorekor.TransparencyLogEntry{bare, b.VerificationMaterial.TlogEntries[0]}
			},
		},
		"changed signature": {
			how: signing{stamp: true}, failed: "entry timestamp validity signature", skipped: "digest", verdict: "transparency log signature does not match",
			damage: func(b *protobundle.Bundle) { (*signatureOf(b))[10] ^= 1 },
		},
		"changed signature, Rekor v1 without a timestamp": {
			failed: "entry validity signature", skipped: "timestamp digest", verdict: "transparency log signature does not match",
			damage: func(b *protobundle.Bundle) { (*signatureOf(b))[10] ^= 1 },
		},
		"changed statement": {
			how: signing{statement: true, tiles: true}, failed: "entry signature", skipped: "digest", verdict: "verifying inclusion",
			damage: func(b *protobundle.Bundle) { b.GetDsseEnvelope().Payload[5] ^= 1 },
		},
		"two signatures of a statement": {
			how: signing{statement: true, tiles: true}, failed: "signature", skipped: "digest", verdict: "exactly one signature is required",
			damage: func(b *protobundle.Bundle) {
				b.GetDsseEnvelope().Signatures = slices.Repeat(b.GetDsseEnvelope().Signatures, 2)
			},
		},
		"a message's digest is missing": {
			how: signing{tiles: true}, failed: "entry signature", skipped: "digest", verdict: "verifying inclusion",
			damage: func(b *protobundle.Bundle) { b.GetMessageSignature().MessageDigest.Digest = nil },
		},
		"other certificate":         {how: signing{tiles: true}, damage: moved, failed: "entry signature", skipped: "digest", verdict: "verifying inclusion"},
		"other artifact":            {subject: "sha256:" + strings.Repeat("0", 64), failed: "digest", skipped: "timestamp", verdict: "artifact does not match digest"},
		"other artifact, statement": {how: signing{statement: true}, subject: "sha256:" + strings.Repeat("0", 64), failed: "digest", skipped: "timestamp", verdict: "does not match any digest in statement"},
		"other identity":            {expected: Expected{Identity: "bob@example.org", Issuer: issuer}, failed: "identity", skipped: "timestamp", verdict: "expected SAN value"},
		"other issuer":              {expected: Expected{Identity: alice, Issuer: "http://elsewhere"}, failed: "identity", skipped: "timestamp", verdict: "expected issuer value"},
		"nobody is expected":        {expected: Expected{KeyPEM: publicPEM(t, signer)}, failed: "identity", skipped: "timestamp", verdict: "there must be subject alternative name criteria"},
		"other key": {
			how: signing{key: stranger}, expected: withKey, failed: "entry signature", skipped: "timestamp digest identity", verdict: "transparency log certificate does not match",
		},
		"other key, Rekor v2": {
			how: signing{key: stranger, tiles: true}, expected: withKey, failed: "entry signature", skipped: "digest identity", verdict: "verifying inclusion",
		},
		"no key is expected": {
			how: signing{key: signer, tiles: true}, failed: "entry signature", skipped: "digest identity", verdict: "no public key is expected",
		},
		"key, no log entry": {
			how: signing{key: signer}, expected: withKey, failed: "entry", skipped: "timestamp identity", verdict: "not enough verified log entries",
			damage: func(b *protobundle.Bundle) { b.VerificationMaterial.TlogEntries = nil },
		},
		"key, timestamp of another authority": {
			how: signing{key: signer, tiles: true}, expected: withKey, failed: "timestamp", skipped: "identity", verdict: "threshold not met", damage: otherStamp(t, other),
		},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			by := test.by
			if by == nil {
				by = s
			}
			if test.expected.Identity+test.expected.Issuer+string(test.expected.KeyPEM) == "" {
				test.expected = expected
			}
			about := Subject{Digest: subject}
			if test.subject != "" {
				about.Digest = strings.TrimPrefix(test.subject, "-")
			}
			made := by.sign(t, test.how)
			if test.damage != nil {
				test.damage(made)
			}
			report, err := Bundle(s, marshal(t, made), about, test.expected)
			if err != nil {
				t.Fatal(err)
			}
			consistent(t, report)
			for outcome, want := range map[Outcome]string{Failed: test.failed, Skipped: test.skipped} {
				got, want := of(report, outcome), strings.Fields(want)
				slices.Sort(got)
				slices.Sort(want)
				if !slices.Equal(got, want) {
					t.Errorf("%s are %q, not %q", outcome, got, want)
				}
			}
			if !strings.Contains(report.Verdict, test.verdict) {
				t.Errorf("the verdict is %q, without %q", report.Verdict, test.verdict)
			}
			if t.Failed() {
				text, _ := json.MarshalIndent(report.Checks, "", " ")
				t.Logf("%s\n%s", report.Verdict, text)
			}
		})
	}
}

// withCA is s with the CA of another one.
func withCA(s, other *sigstore) *sigstore {
	mixed := *s
	mixed.authority, mixed.caKey = other.authority, other.caKey
	return &mixed
}

// otherStamp puts a timestamp of another one's authority into a bundle.
func otherStamp(tb testing.TB, other *sigstore) func(*protobundle.Bundle) {
	return func(b *protobundle.Bundle) {
		stamp, err := other.TimestampResponse(*signatureOf(b))
		must(tb, err)
		b.VerificationMaterial.TimestampVerificationData.Rfc3161Timestamps[0].SignedTimestamp = stamp
	}
}

// The texts have to be true of keys and of logs that nobody knows.
func TestWords(t *testing.T) {
	s, signer := newSigstore(t), newKey(t)
	for _, how := range []signing{{key: signer}, {key: signer, tiles: true, statement: true}} {
		for _, expected := range []Expected{{}, {KeyPEM: publicPEM(t, signer)}} {
			report, err := Bundle(s, marshal(t, s.sign(t, how)), Subject{}, expected)
			must(t, err)
			text, err := json.Marshal(report)
			must(t, err)
			if strings.Contains(string(text), "key in the certificate") {
				t.Errorf("a signature with a key has no certificate: %s", text)
			}
		}
	}
	made := s.sign(t, signing{stamp: true})
	made.VerificationMaterial.TlogEntries[0].LogId.KeyId = []byte(strings.Repeat("x", 1000))
	report, err := Bundle(s, marshal(t, made), Subject{}, Expected{Identity: alice, Issuer: issuer})
	must(t, err)
	if entry := report.Checks[0]; !strings.HasSuffix(entry.Compared, "which the trusted root does not have, so it counts for nothing.") {
		t.Errorf("a log that nobody knows: %q", entry.Compared)
	}
}

func TestBundleRefuses(t *testing.T) {
	s := newSigstore(t)
	good := marshal(t, s.sign(t, signing{}))
	tests := map[string]struct {
		content  []byte
		subject  string
		key      string
		accepted string
	}{
		"no JSON":        {content: []byte("bundle"), accepted: "this is no Sigstore bundle"},
		"empty":          {content: []byte("{}"), accepted: "this is no Sigstore bundle"},
		"too large":      {content: make([]byte, MaxBundle+1), accepted: "accepted are at most 8388608"},
		"no certificate": {content: []byte(strings.Replace(string(good), `"rawBytes":"`, `"rawBytes":"AAAA`, 1)), accepted: "this is no Sigstore bundle"},
		"short digest":   {content: good, subject: "sha256:00", accepted: "64 hexadecimal digits"},
		"no hex":         {content: good, subject: "sha256:" + strings.Repeat("x", 64), accepted: "64 hexadecimal digits"},
		"other hash":     {content: good, subject: "sha512:" + strings.Repeat("0", 64), accepted: "64 hexadecimal digits"},
		"no PEM":         {content: marshal(t, s.sign(t, signing{key: newKey(t)})), key: "key", accepted: "accepted is one in PEM"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			_, err := Bundle(s, test.content, Subject{Digest: test.subject}, Expected{Identity: alice, Issuer: issuer, KeyPEM: []byte(test.key)})
			if err == nil || !strings.Contains(err.Error(), test.accepted) || len(err.Error()) > 5000 {
				t.Errorf("the error is %v, without %q", err, test.accepted)
			}
		})
	}
}

// Run it with -fuzzminimizetime=1x: verification covers other code with each run, so that an input never becomes minimal.
func FuzzBundle(f *testing.F) {
	s, signer := newSigstore(f), newKey(f)
	for _, how := range []signing{{}, {proof: true, stamp: true}, {tiles: true}, {statement: true}, {statement: true, tiles: true}, {key: signer, tiles: true}} {
		f.Add(marshal(f, s.sign(f, how)))
	}
	f.Fuzz(func(t *testing.T, content []byte) {
		for _, digest := range []string{"", fmt.Sprintf("sha256:%x", sha256.Sum256(artifact))} {
			report, err := Bundle(s, content, Subject{Digest: digest}, Expected{Identity: alice, Issuer: issuer, KeyPEM: publicPEM(t, signer)})
			if err == nil {
				consistent(t, report)
			}
		}
	})
}
