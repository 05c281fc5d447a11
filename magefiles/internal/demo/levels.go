package demo

import (
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/cosign"
	"sigstore-local/magefiles/internal/demo/attack"
	"sigstore-local/magefiles/internal/stack"
)

// Keyed signs an image with a key and verifies it with the public key.
func (d *Demo) Keyed() error {
	d.buildImage()
	d.look("The image has a name by its digest, the hash of what is in it: whatever is signed below is about that and no other.")
	d.keyPair("cosign")
	d.step("Sign the image's digest with the private key. The signature goes into the registry, beside the image.",
		"cosign", "sign", "--key", d.key("cosign.key"), "--tlog-upload=false", d.imageRef)
	d.look("Nothing of the image was changed: its signature is an image of its own in the registry, under a tag that is made from the digest.")
	d.step("Verify it with the public key. There is no log yet, so nobody could notice a signature made with a stolen key.",
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("What was signed is small: which digest, and under which name. Who signed it, and when, it does not say.")
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), "--insecure-ignore-tlog=true", d.unsigned())
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), "--insecure-ignore-tlog=true", d.imageRef)
	d.look("All depends on the key: that it is kept, that everybody has the right public half, that its theft is noticed.")
	return d.done("A key signed the image, and only that key verifies it.", "demo:rekor")
}

// Logged signs with a key and makes it public in the transparency log.
func (d *Demo) Logged() error {
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	server := "--rekor_server=" + d.Config.URL(config.Rekor)
	d.keyPair("cosign")
	d.step("Sign a file with the private key.",
		"cosign", "sign-blob", "--key", d.key("cosign.key"), "--tlog-upload=false", "--b64=false", "--output-signature", artifact+".sig", artifact)
	entry := []string{server, "--store_tree_state=false", "--artifact", artifact, "--signature", artifact + ".sig", "--public-key", d.key("cosign.pub")}
	said := d.step("Upload the file's digest, its signature and the public key to the log: from now on everybody can see it.",
		append([]string{"rekor-cli", "upload"}, entry...)...)
	uuid := d.find(`/api/v1/log/entries/([0-9a-f]+)`, said)
	d.look("The log took only what verifies: it checked the signature before it made the entry. The file itself it never saw.")
	d.step("Show the entry as the log has it.",
		"rekor-cli", "get", server, "--store_tree_state=false", "--uuid", uuid)
	d.look("IntegratedTime is the log's word on when, Body what it keeps: a digest, a signature and who made it.")
	if d.lesson != nil {
		d.drawing(d.find(`index (\d+)`, said))
	}
	d.step("Verify that the entry is in the log: its inclusion proof leads to the root of the tree that the log has signed.",
		append([]string{"rekor-cli", "verify"}, entry...)...)
	d.look("A few hashes are enough, however many entries there are: each step up doubles how many the hash stands for.")
	d.buildImage()
	d.step("Sign the image, this time with an entry in the log.",
		"cosign", "sign", "--key", d.key("cosign.key"), "--tlog-upload=true", d.imageRef)
	d.step("Verify the signature with the public key, and its entry with the log's.",
		"cosign", "verify", "--key", d.key("cosign.pub"), d.imageRef)
	d.look("One more check is in the list: the log's promise that it has the entry, which came with the signature. No server was asked.")
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", "--key", d.key("cosign.pub"), d.unsigned())
	d.keyPair("other")
	d.refused("Another key did not sign this image, so verifying with it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	d.look("Whoever steals the key must now leave a trace, which its owner finds by watching the log: `go tool mage rekor:monitor`.")
	return d.done("A key signed the image, and the log shows when.", "demo:keyless")
}

// Keyless signs with an identity instead of a key, and verifies who signed.
func (d *Demo) Keyless() error {
	c := d.Config
	d.buildImage()
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return stack.IDToken(d.ctx, c, c.Email) })
	d.step("Sign in at Dex as "+c.Email+". Fulcio gives a certificate for that identity and a key that is then thrown away, "+
		"once the certificate is in the CT log, whose promise (SCT) it carries; the signature goes into Rekor.",
		"cosign", "sign", d.imageRef)
	d.look("The key lived for as long as this command took. What is left is the certificate, which says who, and the log's entry, which says when.")
	issuer := "--certificate-oidc-issuer=" + c.Issuer()
	identity := "--certificate-identity=" + c.Email
	d.step("Verify who signed: the certificate's identity and issuer, its chain to Fulcio's root, its SCT, and the entry in the log.",
		"cosign", "verify", identity, issuer, d.imageRef)
	d.look("No key is named: an identity and who vouches for it are. The certificate ran out minutes after it was made; the log shows that it was valid then.")
	d.refused("An image that nobody signed is refused.", cosign.NoSignature,
		"cosign", "verify", identity, issuer, d.unsigned())
	d.refused("Somebody else did not sign it: another identity is refused.", cosign.WrongIdentity,
		"cosign", "verify", "--certificate-identity="+attack.Mallory, issuer, d.imageRef)
	d.refused("Who vouches matters as much as for whom: another issuer is refused.", cosign.WrongIdentity,
		"cosign", "verify", identity, "--certificate-oidc-issuer=https://accounts.example.org", d.imageRef)
	d.look("Without the issuer, anybody who runs an issuer could vouch for any address.")
	d.keyPair("other")
	d.refused("A key that did not sign it is refused.", cosign.WrongKey,
		"cosign", "verify", "--key", d.key("other.pub"), d.imageRef)
	return d.done("No key was kept: "+c.Email+" signed the image, and everybody can check who and when.", "demo:tamper")
}

// Bundle signs a file into a Sigstore bundle, by Rekor v2 and a timestamp, and verifies it offline. Its trust has to be
// client.Root.
func (d *Demo) Bundle() error {
	c := d.Config
	artifact := d.write("artifact.txt", "An artifact to sign.\n")
	changed := d.write("changed.txt", "An artifact that somebody changed.\n")
	bundle := artifact + ".sigstore.json"
	d.secret("COSIGN_IDENTITY_TOKEN", d.mage("dex:token"), func() (string, error) { return stack.IDToken(d.ctx, c, c.Email) })
	d.step("Sign a file. The signing config tells cosign where: Fulcio gives the certificate, the timestamp authority says when, "+
		"Rekor v2 keeps the entry. All that a verifier needs goes into one bundle.",
		"cosign", "sign-blob", "--signing-config", c.Trust("signing_config.json"), "--trusted-root", c.Trust("trusted_root.json"),
		"--new-bundle-format", "--bundle", bundle, artifact)
	verify := func(identity, file string) []string {
		return []string{"cosign", "verify-blob", "--certificate-identity=" + identity, "--certificate-oidc-issuer=" + c.Issuer(),
			"--trusted-root", c.Trust("trusted_root.json"), "--new-bundle-format", "--use-signed-timestamps", "--bundle", bundle, file}
	}
	d.step("Verify it with the trusted root alone, which names the CA, the logs and the timestamp authority with their keys. No service is "+
		"asked: after `go tool mage stop`, and without a network, this says the same.",
		verify(c.Email, artifact)...)
	d.refused("Another file is refused.", cosign.WrongFile, verify(c.Email, changed)...)
	d.refused("Another identity is refused.", cosign.WrongIdentity, verify(attack.Mallory, artifact)...)
	return d.done("The bundle "+bundle+" is all that anybody needs beside the trusted root.", "demo:attest")
}
