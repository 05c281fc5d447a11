//go:build cgo

package main

import (
	"encoding/asn1"
	"encoding/binary"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"

	"github.com/miekg/pkcs11"
)

const (
	// keyLabel is the label under which Fulcio looks for its key: the default of its flag --hsm-key-label.
	keyLabel = "PKCS11CA"
	// keyID is the value of Fulcio's flag --hsm-caroot-id, by which Fulcio finds the certificate. Both halves of the key pair have
	// this ID, since crypto11 finds a public key by the ID of its private key.
	keyID = "1"
	// mostLabel is how many bytes a token's label has room for (PKCS#11, CK_TOKEN_INFO). Longer labels are refused:
	// C_InitToken would take their beginning only.
	mostLabel = 32
)

// secp384r1 is the object identifier 1.3.132.0.34 (SEC 2, section A.2.2).
var secp384r1 = asn1.ObjectIdentifier{1, 3, 132, 0, 34}

// session is a loaded module with, once logIn has been called, a session on a token.
type session struct {
	module string
	ctx    *pkcs11.Ctx
	handle pkcs11.SessionHandle
}

func open(module string) (*session, error) {
	ctx := pkcs11.New(module)
	if ctx == nil {
		return nil, fmt.Errorf("%s is not a PKCS#11 module that can be loaded here: name another with SIGLOCAL_PKCS11_MODULE", module)
	}
	if err := ctx.Initialize(); err != nil {
		ctx.Destroy()
		return nil, fmt.Errorf("%s: C_Initialize: %w", module, err)
	}
	return &session{module: module, ctx: ctx}, nil
}

func (s *session) close() {
	// The process ends next, so an error of the module does not matter.
	_ = s.ctx.Finalize()
	s.ctx.Destroy()
}

// find returns the slot of the token with the label.
func (s *session) find(label string) (slot uint, info pkcs11.TokenInfo, found bool, err error) {
	slots, err := s.ctx.GetSlotList(true)
	if err != nil {
		return 0, info, false, fmt.Errorf("C_GetSlotList: %w", err)
	}
	for _, candidate := range slots {
		candidateInfo, err := s.ctx.GetTokenInfo(candidate)
		if err != nil || candidateInfo.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 || strings.TrimRight(candidateInfo.Label, " \x00") != label {
			continue
		}
		if found {
			return 0, info, false, fmt.Errorf("%s holds two tokens labelled %q: name another with SIGLOCAL_PKCS11_TOKEN", s.module, label)
		}
		slot, info, found = candidate, candidateInfo, true
	}
	return slot, info, found, nil
}

// logIn opens a session on the token of o as its user.
func (s *session) logIn(o options) error {
	slot, _, found, err := s.find(o.token)
	if err != nil {
		return err
	}
	if !found {
		return fmt.Errorf("%s holds no token labelled %q: name the right one with SIGLOCAL_PKCS11_TOKEN, or put back the data of a lost one", o.module, o.token)
	}
	pin, err := readPIN(o.pinFile)
	if err != nil {
		return err
	}
	return s.openSession(slot, pkcs11.CKU_USER, pin, o)
}

func (s *session) openSession(slot, user uint, pin string, o options) (err error) {
	s.handle, err = s.ctx.OpenSession(slot, pkcs11.CKF_SERIAL_SESSION|pkcs11.CKF_RW_SESSION)
	if err != nil {
		return fmt.Errorf("token %q: C_OpenSession: %w", o.token, err)
	}
	err = s.ctx.Login(s.handle, user, pin)
	if errors.Is(err, pkcs11.Error(pkcs11.CKR_PIN_INCORRECT)) {
		file, variable := o.pinFile, "SIGLOCAL_HSM_PIN"
		if user == pkcs11.CKU_SO {
			file, variable = o.soPINFile, "SIGLOCAL_HSM_SO_PIN"
		}
		return fmt.Errorf("token %q does not take the PIN in %s: put the right one there, or into %s before the stack is first started", o.token, file, variable)
	}
	if err != nil {
		return fmt.Errorf("token %q: C_Login: %w", o.token, err)
	}
	return nil
}

// initToken makes what is missing of the token and its key pair, and leaves what is there.
func initToken(s *session, o options) error {
	slot, info, found, err := s.find(o.token)
	if err != nil {
		return err
	}
	if !found {
		if slot, err = s.newToken(o); err != nil {
			return err
		}
	}
	if !found || info.Flags&pkcs11.CKF_USER_PIN_INITIALIZED == 0 {
		if err := s.setPIN(slot, o); err != nil {
			return err
		}
	}
	if err := s.logIn(o); err != nil {
		return err
	}
	keys, err := s.privateKeys()
	if err != nil {
		return err
	}
	if len(keys) > 0 {
		fmt.Printf("token %q holds the key %s\n", o.token, keyLabel)
		return nil
	}
	if err := s.generateKey(); err != nil {
		return err
	}
	fmt.Printf("token %q holds the new key %s\n", o.token, keyLabel)
	return nil
}

// newToken initialises a free slot and returns the slot under which the token is found after that.
func (s *session) newToken(o options) (uint, error) {
	if len(o.token) > mostLabel {
		return 0, fmt.Errorf("the label %q has %d bytes; a token has room for %d: name another with SIGLOCAL_PKCS11_TOKEN", o.token, len(o.token), mostLabel)
	}
	slots, err := s.ctx.GetSlotList(true)
	if err != nil {
		return 0, fmt.Errorf("C_GetSlotList: %w", err)
	}
	soPIN, err := readPIN(o.soPINFile)
	if err != nil {
		return 0, err
	}
	for _, slot := range slots {
		info, err := s.ctx.GetTokenInfo(slot)
		if err != nil || info.Flags&pkcs11.CKF_TOKEN_INITIALIZED != 0 {
			continue
		}
		if err := s.ctx.InitToken(slot, soPIN, o.token); err != nil {
			return 0, fmt.Errorf("C_InitToken: %w", err)
		}
		slot, _, found, err := s.find(o.token)
		if err == nil && !found {
			err = fmt.Errorf("%s does not show the token %q that it has just made", o.module, o.token)
		}
		return slot, err
	}
	return 0, fmt.Errorf("%s has no free slot for the token %q: name one of its tokens with SIGLOCAL_PKCS11_TOKEN and that token's PIN with SIGLOCAL_HSM_PIN", o.module, o.token)
}

// setPIN logs in to the token as its security officer and sets the PIN of its user.
func (s *session) setPIN(slot uint, o options) error {
	soPIN, err := readPIN(o.soPINFile)
	if err != nil {
		return err
	}
	pin, err := readPIN(o.pinFile)
	if err != nil {
		return err
	}
	if err := s.openSession(slot, pkcs11.CKU_SO, soPIN, o); err != nil {
		return err
	}
	if err := s.ctx.InitPIN(s.handle, pin); err != nil {
		return fmt.Errorf("C_InitPIN: %w", err)
	}
	// The caller logs in as the user next, which PKCS#11 refuses while the security officer is logged in.
	return s.ctx.CloseSession(s.handle)
}

func (s *session) generateKey() error {
	curve, err := asn1.Marshal(secp384r1)
	if err != nil {
		return err
	}
	public := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_VERIFY, true),
		pkcs11.NewAttribute(pkcs11.CKA_EC_PARAMS, curve),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, keyLabel),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(keyID)),
	}
	private := []*pkcs11.Attribute{
		pkcs11.NewAttribute(pkcs11.CKA_TOKEN, true),
		pkcs11.NewAttribute(pkcs11.CKA_PRIVATE, true),
		pkcs11.NewAttribute(pkcs11.CKA_SENSITIVE, true),
		pkcs11.NewAttribute(pkcs11.CKA_EXTRACTABLE, false),
		pkcs11.NewAttribute(pkcs11.CKA_SIGN, true),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, keyLabel),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(keyID)),
	}
	mechanism := []*pkcs11.Mechanism{pkcs11.NewMechanism(pkcs11.CKM_EC_KEY_PAIR_GEN, nil)}
	if _, _, err := s.ctx.GenerateKeyPair(s.handle, mechanism, public, private); err != nil {
		return fmt.Errorf("C_GenerateKeyPair: %w", err)
	}
	return nil
}

// objects finds the token's objects that have all attributes.
func (s *session) objects(attributes ...*pkcs11.Attribute) ([]pkcs11.ObjectHandle, error) {
	if err := s.ctx.FindObjectsInit(s.handle, attributes); err != nil {
		return nil, fmt.Errorf("C_FindObjectsInit: %w", err)
	}
	const most = 1000
	found, _, err := s.ctx.FindObjects(s.handle, most)
	if err != nil {
		return nil, fmt.Errorf("C_FindObjects: %w", err)
	}
	return found, s.ctx.FindObjectsFinal(s.handle)
}

// privateKeys finds the CA's key.
func (s *session) privateKeys() ([]pkcs11.ObjectHandle, error) {
	return s.objects(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_PRIVATE_KEY),
		pkcs11.NewAttribute(pkcs11.CKA_LABEL, keyLabel))
}

func printCertificate(s *session, o options) error {
	if err := s.logIn(o); err != nil {
		return err
	}
	found, err := s.objects(
		pkcs11.NewAttribute(pkcs11.CKA_CLASS, pkcs11.CKO_CERTIFICATE),
		pkcs11.NewAttribute(pkcs11.CKA_ID, []byte(keyID)))
	if err != nil {
		return err
	}
	keys, err := s.privateKeys()
	if err != nil {
		return err
	}
	if len(keys) == 0 {
		return fmt.Errorf("token %q holds no private key labelled %s: put back the token's data", o.token, keyLabel)
	}
	if len(found) == 0 {
		return nil
	}
	attributes, err := s.ctx.GetAttributeValue(s.handle, found[0], []*pkcs11.Attribute{pkcs11.NewAttribute(pkcs11.CKA_VALUE, nil)})
	if err != nil {
		return fmt.Errorf("C_GetAttributeValue: %w", err)
	}
	return pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: attributes[0].Value})
}

func list(s *session, o options) error {
	slots, err := s.ctx.GetSlotList(true)
	if err != nil {
		return fmt.Errorf("C_GetSlotList: %w", err)
	}
	w := tabwriter.NewWriter(os.Stdout, 0, 4, 2, ' ', 0)
	fmt.Fprintf(w, "SLOT\tTOKEN\tMODEL\tSTATE\n")
	for _, slot := range slots {
		info, err := s.ctx.GetTokenInfo(slot)
		if err != nil {
			return fmt.Errorf("C_GetTokenInfo: %w", err)
		}
		label, state := strings.TrimRight(info.Label, " \x00"), "initialised"
		if info.Flags&pkcs11.CKF_TOKEN_INITIALIZED == 0 {
			label, state = "-", "free"
		}
		fmt.Fprintf(w, "%d\t%s\t%s\t%s\n", slot, label, strings.TrimRight(info.Model, " \x00"), state)
	}
	if err := s.logIn(o); err != nil {
		_ = w.Flush()
		return err
	}
	found, err := s.objects()
	if err != nil {
		return err
	}
	classes := map[uint]string{
		pkcs11.CKO_PRIVATE_KEY: "private key", pkcs11.CKO_PUBLIC_KEY: "public key", pkcs11.CKO_CERTIFICATE: "certificate",
		pkcs11.CKO_SECRET_KEY: "secret key", pkcs11.CKO_DATA: "data",
	}
	fmt.Fprintf(w, "\nOBJECT\tLABEL\tID\n")
	for _, object := range found {
		attributes, err := s.ctx.GetAttributeValue(s.handle, object, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_CLASS, nil), pkcs11.NewAttribute(pkcs11.CKA_LABEL, nil), pkcs11.NewAttribute(pkcs11.CKA_ID, nil),
		})
		if err != nil {
			return fmt.Errorf("C_GetAttributeValue: %w", err)
		}
		class, ok := classes[number(attributes[0].Value)]
		if !ok {
			class = fmt.Sprintf("class %#x", number(attributes[0].Value))
		}
		fmt.Fprintf(w, "%s\t%s\t%q\n", class, attributes[1].Value, attributes[2].Value)
	}
	return w.Flush()
}

// number reads a CK_ULONG as the module wrote it, in the machine's byte order.
func number(value []byte) uint {
	switch len(value) {
	case 8:
		return uint(binary.NativeEndian.Uint64(value))
	case 4:
		return uint(binary.NativeEndian.Uint32(value))
	}
	return 0
}
