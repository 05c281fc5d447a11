// Package cosign makes key pairs with cosign, and knows the words in which cosign refuses a signature. A failure in other words
// is not a refusal.
package cosign

import "regexp"

// Messages about a signature, an attestation or a bundle.
var (
	NoSignature = regexp.MustCompile(`no signatures found`)
	WrongKey    = regexp.MustCompile(`invalid signature when validating|comparing public key PEMs|public key and certificate were provided but did not match|` +
		// In a bundle, the entry in the log is first made again with the key that is given, and is then another one.
		`failed to verify log inclusion: verifying log entry: verifying inclusion|accepted signatures do not match threshold|expected key signature, not certificate`)
	WrongFile     = regexp.MustCompile(`could not verify message: invalid signature|matching bundle to payload`)
	WrongDigest   = regexp.MustCompile(`(?i)(invalid or missing|missing or incorrect) digest in claim|does not match any digest in statement`)
	WrongIdentity = regexp.MustCompile(`none of the expected identities matched|expected SAN value|expected issuer value`)
	WrongPolicy   = regexp.MustCompile(`conflicting values`)
	NoAttestation = regexp.MustCompile(`(?m)no matching attestations:\s*$`)
)

// Messages about a certificate.
var (
	UnknownCA        = regexp.MustCompile(`certificate signed by unknown authority|leaf certificate verification failed`)
	NoSCT            = regexp.MustCompile(`does not include required embedded SCT|only able to verify 0 SCT entries`)
	WrongSCT         = regexp.MustCompile(`ctfe public key not found|only able to verify 0 SCT entries`)
	Expired          = regexp.MustCompile(`expected a signed timestamp to verify an expired certificate|leaf certificate verification failed`)
	UnknownTimestamp = regexp.MustCompile(`unable to verify signed timestamps`)
	NotLogged        = regexp.MustCompile(`signature not found in transparency log`)
)
