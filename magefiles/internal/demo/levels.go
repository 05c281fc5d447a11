package demo

import (
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/logview"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/stack"
)

// Keyed signs an image with a key and verifies it with the public key.
func (d *Demo) Keyed() error {
	d.buildImage()
	d.look("The image's name ends with its digest, a hash of its content. What is signed below is about this digest, and so about no other image.")
	d.keyPair("cosign")
	sign := []string{"cosign", "sign", "--key", d.key("cosign.key")}
	stored := "The image was not changed. The registry stores its signature as another image, under a tag that is made from the digest."
	if d.tiles() {
		services := d.Config.Data("no-services.json")
		d.step("Make a signing config that names no services. cosign's version 3 signs as such a file says.",
			"cosign", "signing-config", "create", "--out", services)
		sign = append(sign, "--signing-config", services)
		stored = "The image was not changed. The registry stores the signature in a Sigstore bundle, as an artifact that refers to the image's digest."
	} else {
		sign = append(sign, "--tlog-upload=false")
	}
	d.step("Sign the image's digest with the private key. The signature goes into the registry, beside the image.", append(sign, d.imageRef)...)
	d.look("%s", stored)
	d.step("Verify the signature with the public key. There is no log yet, so nobody could notice a signature made with a stolen key.",
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("The text that was signed is short: the image's digest and its name. It does not say who signed, or when.")
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.unsigned())
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("Everything depends on the key: its owner must keep it secret and notice if it is stolen, and everybody must have the right public half.")
	return d.done("A key signed the image, and only that key verifies it.", "demo:rekor")
}

// Logged signs with a key and makes it public in the transparency log.
func (d *Demo) Logged() error {
	if d.tiles() {
		return d.loggedInTiles()
	}
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	server := "--rekor_server=" + d.Config.URL(config.Rekor)
	d.keyPair("cosign")
	d.step("Sign a file with the private key.",
		"cosign", "sign-blob", "--key", d.key("cosign.key"), "--tlog-upload=false", "--b64=false", "--output-signature", artifact+".sig", artifact)
	entry := []string{server, "--store_tree_state=false", "--artifact", artifact, "--signature", artifact + ".sig", "--public-key", d.key("cosign.pub")}
	said := d.step("Upload the file's digest, its signature and the public key to the log: from now on everybody can see it.",
		append([]string{"rekor-cli", "upload"}, entry...)...)
	uuid := d.find(`/api/v1/log/entries/([0-9a-f]+)`, said)
	d.look("The log verified the signature before it made the entry. It never saw the file itself, only the digest.")
	d.step("Show the entry as the log has it.",
		"rekor-cli", "get", server, "--store_tree_state=false", "--uuid", uuid)
	d.look("IntegratedTime is when the log made the entry. Body is what the log keeps: the digest, the signature, and the public key that verifies it.")
	if d.lesson != nil {
		d.drawing(logview.Rekor, d.find(`index (\d+)`, said))
	}
	d.step("Verify that the entry is in the log: its inclusion proof leads to the root of the tree that the log has signed.",
		append([]string{"rekor-cli", "verify"}, entry...)...)
	d.look("A few hashes are enough, however many entries the log has: at each step up the tree, the hash stands for twice as many entries.")
	d.buildImage()
	d.step("Sign the image, this time with an entry in the log.",
		"cosign", "sign", "--key", d.key("cosign.key"), "--tlog-upload=true", d.imageRef)
	d.step("Verify the signature with the public key, and its entry in the log with the log's public key.",
		"cosign", "verify", "--key", d.key("cosign.pub"), d.imageRef)
	d.look("cosign lists one more check: the log's promise to have the entry. That promise is stored with the signature, so the log was not asked.")
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), d.unsigned())
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	d.look("Whoever signs with a stolen key must now leave an entry in the log, and the key's owner finds it by watching the log: `%s rekor:monitor`.", project.Command)
	return d.done("A key signed the image, and the log shows when.", "demo:keyless")
}

// loggedInTiles is Logged with Rekor v2, which has no client of its own.
func (d *Demo) loggedInTiles() error {
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	bundle := artifact + ".key.sigstore.json"
	d.keyPair("cosign")
	d.step("Sign a file with the private key. cosign uploads the file's digest, its signature and the public key to the log: from now on everybody can "+
		"see them. It answers once the entry is in the tree, and the bundle gets the proof.",
		"cosign", "sign-blob", "--key", d.key("cosign.key"), "--bundle", bundle, artifact)
	d.look("The log verified the signature before it made the entry, and keeps no time. When the file was signed, the timestamp authority's signature in the bundle says.")
	if d.lesson != nil {
		d.drawing(logview.RekorV2, d.logIndex(bundle))
	}
	d.step("Verify that the entry is in the log: its inclusion proof leads to the root of the tree, and the log has signed the root in a checkpoint.",
		"cosign", "verify-blob", "--key", d.key("cosign.pub"), "--bundle", bundle, artifact)
	d.look("The log gave no promise to be kept later, such as the signed entry timestamp of Rekor v1: it waited for a checkpoint, which proves the entry. " +
		"A checkpoint is short. Whoever sees two of them can demand the proof that the second tree continues the first, and a witness does that for everybody.")
	d.buildImage()
	d.step("Sign the image, this time with an entry in the log.", "cosign", "sign", "--key", d.key("cosign.key"), d.imageRef)
	d.step("Verify the signature with the public key, and its entry in the log with the log's public key, which is in the trusted root.",
		"cosign", "verify", "--key", d.key("cosign.pub"), d.imageRef)
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), d.unsigned())
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	return d.done("A key signed the image, and the log shows it to everybody.", "demo:keyless")
}

// Keyless signs with an identity instead of a key, and verifies who signed.
func (d *Demo) Keyless() error {
	c := d.Config
	d.buildImage()
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return stack.IDToken(d.ctx, c, c.Email) })
	d.step("Sign in at Dex as "+c.Email+". Fulcio certifies a fresh key for that identity and logs the certificate in the CT log, "+
		"whose promise (SCT) the certificate carries. cosign signs with the key, logs the signature in Rekor, and throws the key away.",
		"cosign", "sign", d.imageRef)
	if d.tiles() {
		d.look("The key existed only while this command ran. What is left is in one bundle: the certificate says who signed, the timestamp when, and the " +
			"entry's proof that the log has it. The SCT is of a log of tiles: it says at which index the certificate is, so that anybody can fetch its tile.")
	} else {
		d.look("The key existed only while this command ran. What is left is the certificate, which says who signed, and the entry in the log, which says when.")
	}
	issuer := "--certificate-oidc-issuer=" + c.Issuer()
	identity := "--certificate-identity=" + c.Email
	d.step("Verify who signed: the certificate's identity and issuer, its chain to Fulcio's root, its SCT, and the entry in the log.",
		"cosign", "verify", identity, issuer, d.imageRef)
	when := "the log"
	if d.tiles() {
		when = "the timestamp"
	}
	d.look("The command names no key, but an identity and the issuer that vouches for it. The certificate is valid for a few minutes only; %s shows that the signature was made in that time.", when)
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", identity, issuer, d.unsigned())
	d.refused("Somebody else did not sign this image: another identity is refused.", cosign.WrongIdentity,
		"cosign", "verify", "--certificate-identity="+attack.Mallory, issuer, d.imageRef)
	d.refused("The issuer that vouches for the identity matters too: another issuer is refused.", cosign.WrongIdentity,
		"cosign", "verify", identity, "--certificate-oidc-issuer=https://accounts.example.org", d.imageRef)
	d.look("If the issuer were not checked, anybody could run an issuer of their own and vouch for any email address.")
	d.keyPair("other")
	d.refused("A key that did not sign this image is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	return d.done("No key was kept: "+c.Email+" signed the image, and everybody can check who and when.", "demo:tamper")
}

// Bundle signs a file into a Sigstore bundle, with an entry in the signature log, and verifies the bundle offline. The demo must
// have been made with client.Root.
func (d *Demo) Bundle() error {
	c := d.Config
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	changed := d.write("changed.txt", "An artifact that somebody changed.\n")
	bundle := artifact + ".sigstore.json"
	trusted := []string{"--trusted-root", c.Trust("trusted_root.json")}
	sign := append([]string{"cosign", "sign-blob", "--signing-config", c.SigningConfig()}, trusted...)
	verified := append([]string{}, trusted...)
	if !d.tiles() {
		// Version 3 of cosign knows no other format.
		sign, verified = append(sign, "--new-bundle-format"), append(verified, "--new-bundle-format")
	}
	log := "the timestamp authority signs the time, and Rekor v2 keeps the entry"
	if c.Stack.Includes(config.Tiles) {
		verified = append(verified, "--use-signed-timestamps")
	} else {
		log = "and Rekor keeps the entry and signs its time"
	}
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return stack.IDToken(d.ctx, c, c.Email) })
	d.step("Sign a file. cosign finds the services in the signing config: Fulcio gives the certificate, "+log+". "+
		"Everything that a verifier needs from them goes into one bundle.", append(sign, "--bundle", bundle, artifact)...)
	verify := func(identity, file string) []string {
		args := []string{"cosign", "verify-blob", "--certificate-identity=" + identity, "--certificate-oidc-issuer=" + c.Issuer()}
		return append(append(args, verified...), "--bundle", bundle, file)
	}
	d.step("Verify the bundle with nothing but the trusted root, which has the keys of the CA, the logs and the timestamp authority. No service is "+
		"asked: the command also works after `"+project.Command+" stop` and without a network.",
		verify(c.Email, artifact)...)
	d.refused("Another file is refused.", cosign.WrongFile, verify(c.Email, changed)...)
	d.refused("Another identity is refused.", cosign.WrongIdentity, verify(attack.Mallory, artifact)...)
	return d.done("To verify the file, anybody needs only the bundle "+bundle+" and the trusted root.", "demo:attest")
}
