package attack

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/keys"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
	"sigstore-local/magefiles/internal/statedir"
)

// beside is a stack of the attacker's. Its services of the given names run beside the target's, on free ports, and use the
// target's other services.
func (t *Target) beside(services ...string) (*stack.Stack, error) {
	t.made++
	own, err := t.Beside(t.scratch.Path(fmt.Sprint("a", t.made)), services...)
	if err != nil {
		return nil, err
	}
	return own, statedir.MakeFolders(own.Config)
}

// end ends a service of the attacker's, also after Ctrl-C. If that fails, the service ends when the scratch folder is closed.
func end(ctx context.Context, own *stack.Stack, one service.Service) {
	_ = own.Engine.Stop(context.WithoutCancel(ctx), one)
}

// rogueFulcio runs another Fulcio with the CA's real key, as the CA's operator can. If ctLog is true, this Fulcio uses another CT
// log, which has a key of its own, and otherwise none. rogueFulcio returns the URL of this Fulcio, and a function that ends it
// and its CT log.
func (t *Target) rogueFulcio(ctx context.Context, ctLog bool) (url string, stop func(), err error) {
	own, err := t.beside("fulcio", "ct")
	if err != nil {
		return "", nil, err
	}
	// The new Fulcio needs copies of the token's PIN, of the CA's certificate and, if the token is SoftHSM's, of the token.
	for _, file := range []string{t.Config.SecretFile(config.HSMPIN), t.Config.Key("ca-root.pem")} {
		content, err := os.ReadFile(file)
		if err != nil {
			return "", nil, err
		}
		relative, err := filepath.Rel(t.Config.State, file)
		if err != nil {
			return "", nil, err
		}
		if err := statedir.WriteSecret(filepath.Join(own.Config.State, relative), content); err != nil {
			return "", nil, err
		}
	}
	if err := statedir.Copy(own.Config.Data("hsm"), t.Config.Data("hsm")); err != nil {
		return "", nil, err
	}
	for _, name := range []string{"softhsm2.conf", "crypto11.json"} {
		if err := service.Configure(own.Config, name, service.Values{"Module": stack.PKCS11Module(own.Config)}); err != nil {
			return "", nil, err
		}
	}
	fulcio := stack.One(own.All(), "fulcio")
	ct := stack.One(own.All(), "ct")
	stop = func() {
		end(ctx, own, fulcio)
		end(ctx, own, ct)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	if !ctLog {
		fulcio = fulcio.With("--ct-log-url", "").With("--ct-log-public-key-path", "")
		return own.Config.URL(config.Fulcio), stop, starting(own.Engine.Start(ctx, fulcio, nil))
	}
	password, err := statedir.Secret(own.Config, config.CTKeyPassword)
	if err != nil {
		return "", stop, err
	}
	if err := keys.Ensure(keys.ECDSA, own.Config.Key("ctfe.pem"), own.Config.Key("ctfe.pub"), password); err != nil {
		return "", stop, err
	}
	tree, err := database.Tree(ctx, t.Config, "ct")
	if err != nil {
		return "", stop, err
	}
	if err := starting(own.Engine.Start(ctx, ct, service.Values{"Tree": tree})); err != nil {
		return "", stop, err
	}
	return own.Config.URL(config.Fulcio), stop, starting(own.Engine.Start(ctx, fulcio, nil))
}

// starting drops the first result of Engine.Start.
func starting(_ bool, err error) error { return err }

// otherDex runs a second Dex with the same accounts, keys and issuer URL as the target's. Tokens of the second one expire after a
// second, and it knows one more client, with the ID "another". otherDex returns the URL of the second Dex and a function that
// ends it.
func (t *Target) otherDex(ctx context.Context) (url string, stop func(), err error) {
	own, err := t.beside("dex")
	if err != nil {
		return "", nil, err
	}
	text, err := service.Render(t.Config, "dex.yaml", nil, statedir.Secret)
	if err != nil {
		return "", nil, err
	}
	text, err = edited(text, "http: "+t.Config.Address(config.Dex), "http: "+own.Config.Address(config.Dex),
		"staticClients:\n", "expiry:\n  idTokens: 1s\nstaticClients:\n  - id: another\n    name: another\n    public: true\n")
	if err != nil {
		return "", nil, fmt.Errorf("dex.yaml: %w", err)
	}
	if err := statedir.WriteSecret(own.Config.ConfigFile("dex.yaml"), text); err != nil {
		return "", nil, err
	}
	dex := stack.One(own.All(), "dex")
	dex.Templates = nil
	stop = func() { end(ctx, own, dex) }
	if err := starting(own.Engine.Start(ctx, dex, nil)); err != nil {
		stop()
		return "", nil, err
	}
	return own.Config.URL(config.Dex), stop, nil
}
