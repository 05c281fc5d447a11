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
	ctService := string(t.Config.CTLogService)
	own, err := t.beside("fulcio", ctService)
	if err != nil {
		return "", nil, err
	}
	if err := t.copyCA(own); err != nil {
		return "", nil, err
	}
	fulcio, ct := stack.One(own.All(), "fulcio"), stack.One(own.All(), ctService)
	stop = func() {
		end(ctx, own, fulcio)
		end(ctx, own, ct)
	}
	defer func() {
		if err != nil {
			stop()
		}
	}()
	url = own.Config.URL(config.Fulcio)
	if !ctLog {
		fulcio = fulcio.With("--ct-log-url", "").With("--ct-log-public-key-path", "")
		return url, stop, starting(own.Engine.Start(ctx, fulcio, nil))
	}
	values := service.Values{}
	if t.Config.CTLogService == config.TesseraCT {
		if err := keys.Ensure(keys.SEC1, own.Config.Key("tesseract.pem"), own.Config.Key("tesseract.pub"), ""); err != nil {
			return "", stop, err
		}
		fulcio = fulcio.With("--ct-log-url", ct.Address)
	} else {
		password, err := statedir.Secret(own.Config, config.CTKeyPassword)
		if err != nil {
			return "", stop, err
		}
		if err := keys.Ensure(keys.ECDSA, own.Config.Key("ctfe.pem"), own.Config.Key("ctfe.pub"), password); err != nil {
			return "", stop, err
		}
		if values["Tree"], err = database.Tree(ctx, t.Config, "ct"); err != nil {
			return "", stop, err
		}
	}
	if err := starting(own.Engine.Start(ctx, ct, values)); err != nil {
		return "", stop, err
	}
	return url, stop, starting(own.Engine.Start(ctx, fulcio, nil))
}

// copyCA gives a Fulcio of the attacker's what the stack's has of the CA.
func (t *Target) copyCA(own *stack.Stack) error {
	// The new Fulcio needs copies of the token's PIN, of the CA's certificate and, if the token is SoftHSM's, of the token.
	for _, file := range []string{t.Config.SecretFile(config.HSMPIN), t.Config.Key("ca-root.pem")} {
		content, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, err := filepath.Rel(t.Config.State, file)
		if err != nil {
			return err
		}
		if err := statedir.WriteSecret(filepath.Join(own.Config.State, relative), content); err != nil {
			return err
		}
	}
	if err := statedir.Copy(own.Config.Data("hsm"), t.Config.Data("hsm")); err != nil {
		return err
	}
	for _, name := range []string{"softhsm2.conf", "crypto11.json"} {
		if err := service.Configure(own.Config, name, service.Values{"Module": stack.PKCS11Module(own.Config)}); err != nil {
			return err
		}
	}
	return nil
}

// starting drops the first result of Engine.Start.
func starting(_ bool, err error) error { return err }

// otherSignIn runs a second Dex with the same accounts as the target's, whose tokens expire after a second, and which knows one more
// client, with the ID "another". It returns the URL of the second Dex, the stack whose Fulcio trusts it, and a function that ends
// what was started. If Dex keeps its keys in a database, the second one signs with the same keys under the same issuer URL, and
// the Fulcio is the target's. If not, the second one is an issuer of its own, beside a Fulcio that trusts it.
func (t *Target) otherSignIn(ctx context.Context) (url string, trusts *stack.Stack, stop func(), err error) {
	services := []string{"dex"}
	if !t.Config.HasDatabase() {
		services = append(services, "fulcio")
	}
	own, err := t.beside(services...)
	if err != nil {
		return "", nil, nil, err
	}
	endAll := func() {
		for _, name := range services {
			end(ctx, own, stack.One(own.All(), name))
		}
	}
	defer func() {
		if err != nil {
			endAll()
		}
	}()
	text, err := service.Render(t.Config, "dex.yaml", nil, statedir.Secret)
	if err != nil {
		return "", nil, nil, err
	}
	text, err = edited(text, "http: "+t.Config.ListenAddress(config.Dex), "http: "+own.Config.ListenAddress(config.Dex),
		"staticClients:\n", "expiry:\n  idTokens: 1s\nstaticClients:\n  - id: another\n    name: another\n    public: true\n")
	trusts = t.Stack
	if err == nil && !t.Config.HasDatabase() {
		text, err = edited(text, "issuer: "+t.Config.Issuer(), "issuer: "+own.Config.Issuer())
		trusts = own
	}
	if err != nil {
		return "", nil, nil, fmt.Errorf("dex.yaml: %w", err)
	}
	if err := statedir.WriteSecret(own.Config.ConfigFile("dex.yaml"), text); err != nil {
		return "", nil, nil, err
	}
	dex := stack.One(own.All(), "dex")
	dex.Templates = nil
	if err := starting(own.Engine.Start(ctx, dex, nil)); err != nil {
		return "", nil, nil, err
	}
	if trusts == own {
		if err := t.copyCA(own); err != nil {
			return "", nil, nil, err
		}
		// No certificate is expected, so no CT log is needed.
		fulcio := stack.One(own.All(), "fulcio").With("--ct-log-url", "").With("--ct-log-public-key-path", "")
		if err := starting(own.Engine.Start(ctx, fulcio, nil)); err != nil {
			return "", nil, nil, err
		}
	}
	return own.Config.URL(config.Dex), trusts, endAll, nil
}
