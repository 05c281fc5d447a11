package service

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"os"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"

	"sigstore-local/magefiles/internal/accounts"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/statedir"
	"sigstore-local/templates"
)

// Values are what only the running stack knows, such as the ID of a Trillian tree, by the name that templates use.
type Values map[string]any

// StandIns are Values for rendering a template while the stack does not run.
func StandIns() Values { return Values{"Tree": 0, "Module": ""} }

// Secrets gives the text of a secret of a stack, as statedir.Secret does.
type Secrets func(config.Config, config.Secret) (string, error)

// view is what templates see: the configuration's fields and methods, Values, and what must be kept secret.
type view struct {
	config.Config
	Values  Values
	secret  Secrets
	private *bool // is set once the template has seen something that must be kept secret
}

// These take the port's name, since templates have only strings.
func (v view) Port(name string) int       { return v.Config.Port(v.PortNamed(name)) }
func (v view) Address(name string) string { return v.Config.Address(v.PortNamed(name)) }
func (v view) URL(name string) string     { return v.Config.URL(v.PortNamed(name)) }

func (v view) ListenAddress(name string) string {
	return v.Config.ListenAddress(v.PortNamed(name))
}
func (v view) ListenHost(name string) string { return v.Config.ListenHost(v.PortNamed(name)) }
func (v view) Public(name string) string     { return v.Config.Public(v.PortNamed(name)) }
func (v view) PublicURL(name string) string  { return v.Config.PublicURL(v.PortNamed(name)) }
func (v view) Localhost(name string) string  { return v.Config.Localhost(v.PortNamed(name)) }

// Elsewhere is the URL by which clients reach the port on a cluster, where the trusted root still has the URL that the machine had.
func (v view) Elsewhere(name string) string {
	if v.Cluster == nil {
		return ""
	}
	return v.PublicURL(name)
}

func (v view) AddressHost(name string) string { return v.Config.AddressHost(v.PortNamed(name)) }

// DatabasePort is MariaDB's port on a cluster.
func (v view) DatabasePort() int { return v.Config.Port(config.MariaDB) }

// Keeper is the view of the stack that the keys and the names in the trusted root are those of.
func (v view) Keeper() view { v.Config = v.Config.Keeper(); return v }

// Accounts are the local accounts of a Dex without a database.
func (v view) Accounts() ([]accounts.Account, error) {
	*v.private = true
	return accounts.List(v.Config.Keeper())
}

// Secret is the text of the secret name.
func (v view) Secret(name string) (string, error) {
	*v.private = true
	return v.secret(v.Config, config.Secret(name))
}

// TokenPIN is the PIN of the token that holds the CA's key.
func (v view) TokenPIN() (string, error) {
	if v.Cluster == nil || v.Cluster.PKCS11PIN == "" {
		return v.Secret(string(config.HSMPIN))
	}
	*v.private = true
	pin, err := os.ReadFile(v.Cluster.PKCS11PIN)
	return strings.TrimSuffix(string(pin), "\n"), err
}

// access says how a program gets into its database.
type access struct {
	Host           string // or the path of a socket
	Port           int    // 0 for a socket
	User, Password string
	TLS            string // as go-sql-driver/mysql has it
}

// Database is the access to the database name for the account of that name.
func (v view) Database(name string) (access, error) {
	if v.Cluster != nil && v.Cluster.DSN != "" {
		dsn, err := v.givenDSN()
		if err != nil {
			return access{}, err
		}
		host, port, err := net.SplitHostPort(dsn.Addr)
		if err != nil {
			return access{}, fmt.Errorf("the address in the DSN: %w", err)
		}
		number, err := strconv.Atoi(port)
		return access{Host: host, Port: number, User: dsn.User, Password: dsn.Passwd, TLS: dsn.TLSConfig}, err
	}
	password, err := v.Secret(string(config.DatabasePassword))
	if err != nil || v.Cluster == nil {
		return access{Host: v.DatabaseSocket(), User: name, Password: password, TLS: "false"}, err
	}
	return access{Host: v.Config.AddressHost(config.MariaDB), Port: v.DatabasePort(), User: name, Password: password, TLS: "false"}, nil
}

// A server that is cut off does not say so: without these limits a query is waited for until TCP gives up, which takes minutes.
const (
	dialLimit  = 5 * time.Second
	queryLimit = 30 * time.Second
)

// DSN is the data source name of the database name for the account of that name, in the form of github.com/go-sql-driver/mysql.
func (v view) DSN(name string) (string, error) {
	local := v.Tuning == config.TunedLocal
	if v.Cluster != nil && v.Cluster.DSN != "" {
		dsn, err := v.givenDSN()
		if err != nil {
			return "", err
		}
		dsn.DBName, dsn.InterpolateParams = name, local
		dsn.Timeout, dsn.ReadTimeout, dsn.WriteTimeout = cmp.Or(dsn.Timeout, dialLimit), cmp.Or(dsn.ReadTimeout, queryLimit), cmp.Or(dsn.WriteTimeout, queryLimit)
		return dsn.FormatDSN(), nil
	}
	password, err := v.Secret(string(config.DatabasePassword))
	if err != nil {
		return "", err
	}
	address, parameters := "unix("+v.FromHome(v.DatabaseSocket())+")", []string(nil)
	if v.Cluster != nil {
		address = "tcp(" + v.Config.Address(config.MariaDB) + ")"
		parameters = append(parameters, "timeout="+dialLimit.String(), "readTimeout="+queryLimit.String(), "writeTimeout="+queryLimit.String())
	}
	if local {
		parameters = append(parameters, "interpolateParams=true")
	}
	dsn := name + ":" + password + "@" + address + "/" + name
	if parameters != nil {
		dsn += "?" + strings.Join(parameters, "&")
	}
	return dsn, nil
}

// givenDSN reads the DSN of a MySQL that the user has.
func (v view) givenDSN() (*mysql.Config, error) {
	*v.private = true
	return config.ReadDSN(v.Cluster.DSN)
}

// List is the YAML list in a file, indented so that it can only continue a list in a template, and begin nothing else.
func (v view) List(file string) (string, error) {
	*v.private = true
	content, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	margin := ""
	if first := firstItem.FindSubmatch(content); first != nil {
		margin = string(first[1])
	}
	var list strings.Builder
	for line := range strings.Lines(string(content)) {
		list.WriteString("  " + strings.TrimPrefix(line, margin))
	}
	return list.String(), nil
}

var firstItem = regexp.MustCompile(`(?m)^( *)-`)

// Render is the configuration file that the template name makes of c.
func Render(c config.Config, name string, values Values, secrets Secrets) ([]byte, error) {
	text, _, err := RenderPrivate(c, name, values, secrets)
	return text, err
}

// RenderPrivate is Render, and says whether something in the file must be kept secret.
func RenderPrivate(c config.Config, name string, values Values, secrets Secrets) (text []byte, private bool, err error) {
	text, err = templates.Render(name, view{c, values, secrets, &private})
	return text, private, err
}

// Configure renders the template name into the folder of configuration files, readable by its owner alone.
func Configure(c config.Config, name string, values Values) error {
	text, err := Render(c, name, values, statedir.Secret)
	if err != nil {
		return err
	}
	// A file that has this content already is not written again: flushing it to the disk takes as long as a daemon's start.
	if there, err := os.ReadFile(c.ConfigFile(name)); err == nil && bytes.Equal(there, text) {
		return os.Chmod(c.ConfigFile(name), 0o600)
	}
	return statedir.WriteSecret(c.ConfigFile(name), text)
}
