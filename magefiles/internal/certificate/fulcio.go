package certificate

import (
	"encoding/asn1"
	"strconv"
	"strings"
	"unicode"
)

// fulcio begins the OIDs of Fulcio's extensions, each of which has one number more.
const fulcio = "1.3.6.1.4.1.57264.1."

// fulcioExtensions are Fulcio's extensions, in the order of their numbers, from 1 on: each one's heading in Fulcio's list
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md), and what it means.
var fulcioExtensions = []struct{ heading, meaning string }{
	{"Issuer (deprecated)", "Who vouches for the identity: the issuer of the ID token that was shown to Fulcio. Later versions have Issuer (V2)."},
	{"GitHub Workflow Trigger (deprecated)", "What made GitHub run the workflow. Later versions have Build Trigger."},
	{"GitHub Workflow SHA (deprecated)", "The commit on which the workflow ran. Later versions have Source Repository Digest."},
	{"GitHub Workflow Name (deprecated)", "The workflow that ran. Later versions have Build Config URI."},
	{"GitHub Workflow Repository (deprecated)", "The repository in which the workflow ran. Later versions have Source Repository URI."},
	{"GitHub Workflow Ref (deprecated)", "The branch or tag on which the workflow ran. Later versions have Source Repository Ref."},
	{"OtherName SAN", "A username, which belongs into the subject alternative name."},
	{"Issuer (V2)", "Who vouches for the identity: the issuer of the ID token that was shown to Fulcio."},
	{"Build Signer URI", "The build instructions that signed, such as a workflow that others call."},
	{"Build Signer Digest", "The version of the build instructions that signed, such as a commit."},
	{"Runner Environment", "Whether the build ran on the platform's own machines or on its customer's."},
	{"Source Repository URI", "The repository whose source was built."},
	{"Source Repository Digest", "The version of the source that was built, such as a commit."},
	{"Source Repository Ref", "The branch or tag that was built."},
	{"Source Repository Identifier", "What the platform calls the repository, whatever its name is changed to."},
	{"Source Repository Owner URI", "Whose repository it is."},
	{"Source Repository Owner Identifier", "What the platform calls the repository's owner, whatever its name is changed to."},
	{"Build Config URI", "The build instructions with which the build began."},
	{"Build Config Digest", "The version of the build instructions with which the build began, such as a commit."},
	{"Build Trigger", "What made the build run, such as a push."},
	{"Run Invocation URI", "The one run of the build in which the certificate was asked for."},
	{"Source Repository Visibility At Signing", "Who could read the repository when the certificate was asked for, such as public."},
	{"Deployment Environment", "Where the job deploys to, as far as the platform protects that, such as production."},
	{"Token Subject", "The subject of the ID token that was shown to Fulcio, as its issuer wrote it."},
}

// list is where Fulcio's extensions are defined.
const list = "https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md"

// definition is the URL of the definition of the extension of a number. GitHub makes the anchor of a heading from its letters and
// digits, in lower case, and its hyphens, with a hyphen for each space.
func definition(number string) string {
	heading, _, ok := known(number)
	if !ok {
		return list
	}
	anchor := strings.Map(func(r rune) rune {
		switch {
		case r == ' ' || r == '-':
			return '-'
		case unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, fulcio+number+" | "+heading)
	return list + "#" + anchor
}

func known(number string) (heading, meaning string, ok bool) {
	n, err := strconv.Atoi(number)
	if err != nil || n < 1 || n > len(fulcioExtensions) {
		return "", "", false
	}
	return fulcioExtensions[n-1].heading, fulcioExtensions[n-1].meaning, true
}

// fulcioExtension describes the extension of a number. Those up to 6 hold a text as it is, later ones a UTF8String.
func fulcioExtension(number string, value []byte) Field {
	heading, meaning, ok := known(number)
	field := Field{Name: heading, Value: string(value), Link: definition(number), Meaning: meaning}
	if !ok {
		field.Name, field.Meaning = "Extension "+number+" of Fulcio", "It is newer than what is known here."
	}
	if n, err := strconv.Atoi(number); ok && err == nil && n <= 6 {
		return field
	}
	var text string
	if rest, err := asn1.Unmarshal(value, &text); err != nil || len(rest) > 0 {
		return unreadable(field.Name, value, field.Link)
	}
	field.Value = text
	return field
}
