// Package config is the stack's configuration as a value: where things are kept, which addresses they use, and what
// the user has asked for. It is the only reader of the variables that set them.
package config

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"sigstore-local/magefiles/internal/nearest"
	"sigstore-local/magefiles/internal/project"
)

// Valid says whether text can be a secret: 4 to 64 characters that are plain in a DSN, a shell-like flag file, JSON, YAML
// and a text proto alike.
func Valid(text string) bool { return secretValue.MatchString(text) }

// Port is a port that a service of the stack listens on. SIGLOCAL_PORT_ and its name is the variable that moves it.
type Port struct {
	Name    string // in capitals, as in REKOR
	Default int
}

// The ports that others than the service itself have to know. A port that only the service has to know is in its description.
var (
	Registry   = Port{"REGISTRY", 1338}
	LogServer  = Port{"LOG_SERVER", 8091}
	Rekor      = Port{"REKOR", 3000}
	CT         = Port{"CT", 6105}
	CTTiles    = Port{"CT_TILES", 6962} // by which clients read TesseraCT's log and add to it
	Dex        = Port{"DEX", 5556}
	Fulcio     = Port{"FULCIO", 5555}
	TSA        = Port{"TSA", 3004}
	RekorTiles = Port{"REKOR_TILES", 3003} // by which clients read and write Rekor v2's log
	TUF        = Port{"TUF", 8080}
	Page       = Port{"PAGE", 8088} // of the stack in the browser

	RekorTilesHTTP = Port{"REKOR_TILES_HTTP", 3002} // of Rekor v2's own server
	TesseractHTTP  = Port{"TESSERACT_HTTP", 6963}   // of TesseraCT's own server

	MariaDB = Port{"MARIADB", 3306} // on a cluster alone: on a machine it has a socket

	Debug    = Port{"DEBUG", 2345}    // Delve's, while a service is debugged
	Callback = Port{"CALLBACK", 5557} // cosign's, while it waits until somebody has signed in
)

// shared lists the ports above.
func shared() []Port {
	return []Port{Registry, LogServer, Rekor, CT, CTTiles, TesseractHTTP, Dex, Fulcio, TSA, RekorTiles, RekorTilesHTTP, TUF, Page, Debug, Callback}
}

// Public lists those of the ports above by which clients reach the stack.
func Public() []Port {
	return []Port{Registry, Rekor, CT, CTTiles, Dex, Fulcio, TSA, RekorTiles, TUF, Page}
}

// Secret names a password or PIN of the stack; it is also the name of its file in Config.Secrets.
type Secret string

// The secrets of the stack. Each is random unless its variable sets it before the stack is first started.
const (
	DatabasePassword Secret = "database-password"
	HSMPIN           Secret = "hsm-pin"
	HSMSOPIN         Secret = "hsm-so-pin"
	CTKeyPassword    Secret = "ct-key-password"
	DexPassword      Secret = "dex-password"
	CosignPassword   Secret = "cosign-password"
	PageToken        Secret = "page-token" // lets who has it change something by the page
)

var secrets = []Secret{DatabasePassword, HSMPIN, HSMSOPIN, CTKeyPassword, DexPassword, CosignPassword, PageToken}

// ProtectsFile is the path of the file or folder that was made with the secret s and is of no use without it; empty if a new secret
// can take the place of s at any time.
func (c Config) ProtectsFile(s Secret) string {
	switch s {
	case DatabasePassword:
		return c.Data("mariadb")
	case HSMPIN:
		return c.Key("ca-root.pem")
	case CTKeyPassword:
		return c.Key("ctfe.pem")
	case CosignPassword:
		return c.Key("cosign.key")
	default:
		return ""
	}
}

// Variable is the environment variable that sets s, such as SIGLOCAL_HSM_PIN.
func (s Secret) Variable() string {
	return prefix + strings.ToUpper(strings.ReplaceAll(string(s), "-", "_"))
}

// Variable is the environment variable that sets p, such as SIGLOCAL_PORT_REKOR.
func (p Port) Variable() string { return prefix + "PORT_" + p.Name }

// Installing says whether missing system packages are installed.
type Installing string

// The values of SIGLOCAL_INSTALL.
const (
	InstallAuto  Installing = "auto"
	InstallNever Installing = "never"
)

// Tuning says whose performance settings the logs and their database run with. Durability is the same with all.
type Tuning string

// The values of SIGLOCAL_TUNING.
const (
	TunedLocal    Tuning = "local"    // a signature is in the log within milliseconds
	TunedUpstream Tuning = "upstream" // the programs' own defaults
)

// Listening says on which addresses clients can reach a stack.
type Listening string

// The values of SIGLOCAL_LISTEN.
const (
	ListenLoopback Listening = "loopback"
	ListenAll      Listening = "all" // of the machine or container
)

// DefaultHost is the host by which clients reach a stack that listens on loopback.
const DefaultHost = "localhost"

// Stack says which services make up a stack.
type Stack string

// The values of SIGLOCAL_STACK.
const (
	Tutorial Stack = "tutorial" // Rekor v1 and the CT log over Trillian and MariaDB, as in the tutorial
	Tiles    Stack = "tiles"    // Rekor v2 and TesseraCT, both logs as tiles in files, and no database
	Whole    Stack = "all"      // the services of both
)

// CTLogService is the service that runs the CT log in which Fulcio logs certificates.
type CTLogService string

// The values of SIGLOCAL_CT_LOG.
const (
	TrillianCT CTLogService = "ct"        // over Trillian and MariaDB
	TesseraCT  CTLogService = "tesseract" // tiles in files
)

// Config says where a stack keeps its things and how it is reached. Every path is absolute.
type Config struct {
	Root     string // the checkout
	State    string // all that one stack makes: configuration, data, keys, secrets, logs, PIDs
	Programs string // the built programs, shared by every stack of the checkout
	Built    string // the programs of this stack that are built from checkouts, each source's in a folder of its own

	Install       Installing
	MariaDB       string   // mariadbd, if the user named one
	Services      []string // what start runs, by the names of services or sources; all if empty
	PKCS11Module  string   // the PKCS#11 module, if the user named one
	PKCS11Token   string   // the label of the token that holds the CA's key
	Email         string   // the identity that signs
	Users         []string // other identities that Dex vouches for
	GitHub        OAuthApp // by which Dex lets people sign in at GitHub, if there is one
	DexConnectors string   // a file with more ways to sign in, if the user named one
	Tuning        Tuning
	Listen        Listening
	Host          string // the name or IPv4 address by which clients reach the stack
	Stack         Stack
	CTLogService  CTLogService // the one that Fulcio uses; others may run beside it
	ClusterFile   string       // with the settings of a cluster, if the user named one
	Cluster       *Cluster     // where its parts are; nil if all are on this machine
	PresetSecrets map[Secret]string
	Checkouts     map[string]string // folders of the checkouts, by the names of the sources that are built from them

	// Settings are the variables that it was made of, NAME=value, without those whose value is secret.
	Settings []string

	offset  int          // is added to every default port
	moved   map[Port]int // the ports that have a number of their own, whatever the offset
	ports   []Port       // all that are known, by name
	sources []Source     // all that are known
}

// OAuthApp is what an identity provider knows an application by.
type OAuthApp struct{ ClientID, ClientSecret string }

const prefix = "SIGLOCAL_"

// Variable describes one environment variable that Load reads.
type Variable struct {
	Name, Accepts string
	Secret        bool // its value must not be shown
	set           func(c *Config, value string) error
}

// Part is what Load has to know of a service or client, whose description in turn needs the configuration.
type Part struct {
	Service string // the service's name; empty for a client
	Ports   []Port
	Source  *Source // nil if none can replace what is pinned
}

// named are the names by which a user can mean services: their own, and those of the sources that they are built from.
func named(parts []Part) []string {
	var services, sources []string
	for _, part := range parts {
		if part.Service == "" {
			continue
		}
		services = append(services, part.Service)
		if part.Source != nil && !slices.Contains(sources, part.Source.Name) {
			sources = append(sources, part.Source.Name)
		}
	}
	return append(services, slices.DeleteFunc(sources, func(name string) bool { return slices.Contains(services, name) })...)
}

// portsOf lists every port that is known, by name.
func portsOf(parts []Part) []Port {
	ports := shared()
	for _, part := range parts {
		for _, port := range part.Ports {
			if !slices.Contains(ports, port) {
				ports = append(ports, port)
			}
		}
	}
	slices.SortFunc(ports, func(a, b Port) int { return strings.Compare(a.Name, b.Name) })
	return ports
}

// sourcesOf lists every source, each once.
func sourcesOf(parts []Part) []Source {
	var sources []Source
	for _, part := range parts {
		if part.Source != nil && !slices.ContainsFunc(sources, func(s Source) bool { return s.Name == part.Source.Name }) {
			sources = append(sources, *part.Source)
		}
	}
	return sources
}

// Variables lists every variable that Load knows for a stack of parts, in the order of docs/settings.md.
func Variables(parts ...Part) []Variable {
	ports := portsOf(parts)
	maxOffset := 65535 - slices.MaxFunc(ports, func(a, b Port) int { return a.Default - b.Default }).Default
	vars := []Variable{
		{Name: "SIGLOCAL_STATE", Accepts: "an absolute path " + plainState, set: setState},
		{Name: "SIGLOCAL_STACK", Accepts: `"tutorial", "tiles" or "all"`, set: func(c *Config, v string) error {
			c.Stack = Stack(v)
			if !slices.Contains([]Stack{Tutorial, Tiles, Whole}, c.Stack) {
				return errNotAccepted
			}
			return nil
		}},
		{Name: "SIGLOCAL_CT_LOG", Accepts: `"ct" or "tesseract", the service that is Fulcio's CT log`, set: func(c *Config, v string) error {
			c.CTLogService = CTLogService(v)
			if c.CTLogService != TrillianCT && c.CTLogService != TesseraCT {
				return errNotAccepted
			}
			return nil
		}},
		{Name: "SIGLOCAL_INSTALL", Accepts: `"auto" or "never"`, set: func(c *Config, v string) error {
			c.Install = Installing(v)
			if c.Install != InstallAuto && c.Install != InstallNever {
				return errNotAccepted
			}
			return nil
		}},
		{Name: "SIGLOCAL_SERVICES", Accepts: "names with commas between them, of " + strings.Join(named(parts), ", "), set: func(c *Config, v string) error {
			c.Services = strings.Split(v, ",")
			for _, name := range c.Services {
				if !slices.Contains(named(parts), name) {
					return errNotAccepted
				}
			}
			return nil
		}},
		{Name: "SIGLOCAL_EMAIL", Accepts: "an email address in lower case such as user@example.org", set: func(c *Config, v string) error {
			c.Email = v
			return CheckEmail(v)
		}},
		{Name: "SIGLOCAL_USERS", Accepts: "email addresses in lower case with commas between them, such as alice@example.org,bob@example.org", set: func(c *Config, v string) error {
			c.Users = strings.Split(v, ",")
			for _, email := range c.Users {
				if err := CheckEmail(email); err != nil {
					return err
				}
			}
			return nil
		}},
		{Name: "GITHUB_CLIENT_ID", Accepts: plainSecret, Secret: true, set: secret(func(c *Config, v string) { c.GitHub.ClientID = v })},
		{Name: "GITHUB_CLIENT_SECRET", Accepts: plainSecret, Secret: true, set: secret(func(c *Config, v string) { c.GitHub.ClientSecret = v })},
		{Name: "SIGLOCAL_GITHUB_FILE", Accepts: "the absolute path of a file of mode 0600 with the lines GITHUB_CLIENT_ID=… and GITHUB_CLIENT_SECRET=…", set: readGitHub},
		{Name: "SIGLOCAL_DEX_CONNECTORS", Accepts: "the absolute path of a file of mode 0600 with a YAML list of Dex's connectors", set: func(c *Config, v string) error {
			c.DexConnectors = v
			return CheckPrivateFile(v)
		}},
		{Name: "SIGLOCAL_MARIADBD", Accepts: "the absolute path of a mariadbd program, without colons and spaces", set: setMariaDB},
		{Name: "SIGLOCAL_PKCS11_MODULE", Accepts: "the absolute path of a PKCS#11 module, a shared library", set: func(c *Config, v string) error {
			c.PKCS11Module = v
			_, err := checkFile(v)
			return err
		}},
		{Name: "SIGLOCAL_PKCS11_TOKEN", Accepts: "a token label of 1 to 32 bytes of UTF-8, without control characters and without a space at its end", set: setToken},
		{Name: "SIGLOCAL_TUNING", Accepts: `"local" or "upstream"`, set: func(c *Config, v string) error {
			c.Tuning = Tuning(v)
			if c.Tuning != TunedLocal && c.Tuning != TunedUpstream {
				return errNotAccepted
			}
			return nil
		}},
		{Name: "SIGLOCAL_LISTEN", Accepts: `"loopback" or "all", the addresses on which clients reach it`, set: func(c *Config, v string) error {
			c.Listen = Listening(v)
			if c.Listen != ListenLoopback && c.Listen != ListenAll {
				return errNotAccepted
			}
			return nil
		}},
		{Name: "SIGLOCAL_HOST", Accepts: "a host name in lower case or an IPv4 address, such as sigstore or 192.0.2.1, by which clients reach it", set: setHost},
		{Name: "SIGLOCAL_CLUSTER", Accepts: "the absolute path of a file with settings of cluster:render", set: func(c *Config, v string) error {
			c.ClusterFile = v
			_, err := checkFile(v)
			return err
		}},
		{Name: "SIGLOCAL_PORT_OFFSET", Accepts: fmt.Sprintf("a whole number from 0 to %d, added to every default port", maxOffset), set: func(c *Config, v string) error {
			offset, err := strconv.Atoi(v)
			if err != nil || offset < 0 || offset > maxOffset {
				return errNotAccepted
			}
			c.offset = offset
			return nil
		}},
	}
	for _, port := range ports {
		vars = append(vars, Variable{Name: port.Variable(), Accepts: "a port from 1 to 65535", set: func(c *Config, v string) error {
			number, err := strconv.Atoi(v)
			if err != nil || number < 1 || number > 65535 {
				return errNotAccepted
			}
			c.moved[port] = number
			return nil
		}})
	}
	for _, source := range sourcesOf(parts) {
		vars = append(vars, Variable{Name: source.Variable(), Accepts: "the absolute path of a checkout of " + source.Module, set: func(c *Config, v string) error {
			folder, err := source.checkout(v)
			c.Checkouts[source.Name] = folder
			return err
		}})
	}
	for _, name := range secrets {
		vars = append(vars, Variable{Name: name.Variable(), Accepts: plainSecret, Secret: true, set: secret(func(c *Config, v string) { c.PresetSecrets[name] = v })})
	}
	return vars
}

// What Valid accepts, for programs and for people.
const (
	secretText  = `[A-Za-z0-9._~+=-]{4,64}`
	plainSecret = "4 to 64 letters, digits or any of . _ ~ + = -"
)

var (
	errNotAccepted = errors.New("not accepted")

	secretValue = regexp.MustCompile(`^` + secretText + `$`)
	gitHubFile  = regexp.MustCompile(`^GITHUB_CLIENT_ID=(` + secretText + `)\nGITHUB_CLIENT_SECRET=(` + secretText + `)\n?$`)
	plainHost   = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)*$`)
	onlyDigits  = regexp.MustCompile(`^[0-9.]+$`) // an address, or a mistaken one
	plainEmail  = regexp.MustCompile(`^[a-z0-9._+-]+@[a-z0-9-]+(\.[a-z0-9-]+)*$`)
)

// Load reads the configuration from environ, strings of the form NAME=value, for the checkout at root and a stack of parts.
// An error names the variable, what was found and what is accepted.
func Load(root string, environ []string, parts ...Part) (Config, error) {
	c := Config{
		Root:          root,
		State:         filepath.Join(root, "state"),
		Programs:      filepath.Join(root, "state", "bin"),
		Install:       InstallAuto,
		PKCS11Token:   "sigstore-local",
		Email:         "user@example.org",
		Tuning:        TunedLocal,
		Listen:        ListenLoopback,
		Host:          DefaultHost,
		PresetSecrets: map[Secret]string{},
		Checkouts:     map[string]string{},
		moved:         map[Port]int{},
		ports:         portsOf(parts),
		sources:       sourcesOf(parts),
	}
	if project.Packaged() {
		c.Programs = filepath.Join(root, "bin")
	}
	given := map[string]string{}
	for _, entry := range environ {
		name, value, _ := strings.Cut(entry, "=")
		given[name] = value
	}
	for _, v := range Variables(parts...) {
		value, ok := given[v.Name]
		delete(given, v.Name)
		if !ok || value == "" {
			continue
		}
		if err := v.set(&c, value); err != nil {
			if v.Secret {
				value = fmt.Sprintf("a text of %d characters", len(value))
			} else {
				value = strconv.Quote(value)
			}
			if !errors.Is(err, errNotAccepted) {
				return Config{}, fmt.Errorf("%s is %s: %w; accepted is %s", v.Name, value, err, v.Accepts)
			}
			return Config{}, fmt.Errorf("%s is %s; accepted is %s", v.Name, value, v.Accepts)
		}
		if !v.Secret {
			c.Settings = append(c.Settings, v.Name+"="+value)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if !strings.HasPrefix(name, prefix) {
			continue
		}
		var known []string
		for _, v := range Variables(parts...) {
			known = append(known, v.Name)
		}
		near, _ := nearest.To(name, known)
		return Config{}, fmt.Errorf("%s is not a variable of this project; the nearest is %s", name, near[0])
	}
	if (c.GitHub.ClientID == "") != (c.GitHub.ClientSecret == "") {
		return Config{}, errors.New("only one of GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET is set; accepted are both or neither")
	}
	if err := c.chooseStack(); err != nil {
		return Config{}, err
	}
	if err := c.checkPorts(); err != nil {
		return Config{}, err
	}
	c.Built = filepath.Join(c.State, "checkouts")
	if err := c.checkState(); err != nil {
		return Config{}, err
	}
	return c, c.checkHost()
}

// Beside is c for daemons, other than MariaDB, that run beside those of c: with the same settings and programs, in the folder
// state and with other numbers for some ports.
func (c Config) Beside(state string, ports map[Port]int) (Config, error) {
	c.State = state
	c.moved = maps.Clone(c.moved)
	maps.Copy(c.moved, ports)
	return c, errors.Join(plain(c.State), c.checkPorts())
}

// Without is environ without the variables that Load reads.
func Without(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(entry string) bool {
		name, _, _ := strings.Cut(entry, "=")
		return strings.HasPrefix(name, prefix) || slices.ContainsFunc(Variables(), func(v Variable) bool { return v.Name == name })
	})
}

// CheckEmail refuses what is not an email address in lower case, the form in which Dex keeps and vouches for it.
func CheckEmail(email string) error {
	if !plainEmail.MatchString(email) {
		return errNotAccepted
	}
	return nil
}

func setState(c *Config, value string) error {
	c.State = filepath.Clean(value)
	if !filepath.IsAbs(value) {
		return errNotAccepted
	}
	if c.State == "/" {
		return errors.New("it would fill the root folder")
	}
	return plain(c.State)
}

// setHost refuses what is no host, and addresses that lead nowhere.
func setHost(c *Config, value string) error {
	c.Host = value
	address := net.ParseIP(value)
	switch {
	case len(value) > 253 || !plainHost.MatchString(value) || address == nil && onlyDigits.MatchString(value):
		return errNotAccepted
	case address.IsUnspecified() || address.IsMulticast():
		return errors.New("no client can reach a stack by that address")
	}
	return nil
}

// checkHost refuses a host by which no client could reach the stack, or by which clients could not verify what Rekor v2 has logged.
func (c Config) checkHost() error {
	if c.Listen == ListenLoopback && c.Host != DefaultHost && c.Host != "127.0.0.1" {
		return fmt.Errorf("SIGLOCAL_HOST is %q, and clients reach the stack by localhost alone: set SIGLOCAL_LISTEN=all too, or leave SIGLOCAL_HOST out", c.Host)
	}
	checkpoint, err := os.ReadFile(filepath.Join(c.Data("rekor-tiles"), "checkpoint"))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) {
		return nil // nothing was logged, or it is another user's folder, which is refused before anything is done in it
	}
	if err != nil {
		return err
	}
	// A checkpoint that is damaged is noticed when its log is started.
	origin, _, whole := strings.Cut(string(checkpoint), "\n")
	if whole && plainHost.MatchString(origin) && origin != c.RekorV2Origin() {
		return fmt.Errorf("SIGLOCAL_HOST is %q, and Rekor v2's log in %s was begun as that of %q, which each of its checkpoints says: set SIGLOCAL_HOST=%s, or name another folder with SIGLOCAL_STATE",
			c.Host, c.State, origin, origin)
	}
	return nil
}

// plainState says how the path of a state folder must be, beside absolute.
const plainState = "in UTF-8 without : @ , # = and without control and other invisible characters"

// special are the characters that a state folder's path cannot have, since there is no way to quote them for some program.
var special = []struct{ text, why string }{
	{":", "would end a folder in PATH and TMPDIR"},
	{"@", "would end the password in the DSN that Dex makes"},
	{",", "would end the name of a public key for rekor-cli"},
	{"#", "would begin a comment in SoftHSM's configuration"},
	{"=", "would end the name of a folder in SoftHSM's configuration"},
}

// plain refuses a path for the state folder that some program of the stack cannot be given.
func plain(path string) error {
	if !project.Legible(path) {
		return errNotAccepted
	}
	for _, s := range special {
		if strings.Contains(path, s.text) {
			return fmt.Errorf("a %q %s", s.text, s.why)
		}
	}
	return nil
}

// setMariaDB refuses a path by which mariadb-install-db, a shell script beside the server, cannot be called.
func setMariaDB(c *Config, value string) error {
	c.MariaDB = value
	if strings.ContainsFunc(value, unicode.IsSpace) {
		return errors.New("MariaDB's own mariadb-install-db beside it cannot be called by a path with a space")
	}
	if strings.Contains(value, ":") {
		return errors.New("a colon would end its folder in PATH")
	}
	_, err := checkFile(value)
	return err
}

// setToken accepts every label that a token can have and be found by.
func setToken(c *Config, value string) error {
	c.PKCS11Token = value
	switch {
	case len(value) > maxTokenLabel:
		return fmt.Errorf("that has %d bytes", len(value))
	case strings.HasSuffix(value, " "):
		return errors.New("PKCS#11 fills labels up with spaces, so that one at the end is not part of it")
	case !utf8.ValidString(value) || strings.ContainsFunc(value, unicode.IsControl):
		return errNotAccepted
	}
	return nil
}

// maxTokenLabel is how many bytes a token's label has room for (PKCS#11, CK_TOKEN_INFO).
const maxTokenLabel = 32

// secret accepts what Valid does.
func secret(set func(c *Config, value string)) func(*Config, string) error {
	return func(c *Config, value string) error {
		if !Valid(value) {
			return errNotAccepted
		}
		set(c, value)
		return nil
	}
}

// checkFile refuses what is not the absolute path of a regular file.
func checkFile(path string) (fs.FileMode, error) {
	if !filepath.IsAbs(path) || !project.Legible(path) {
		return 0, errNotAccepted
	}
	info, err := os.Stat(path)
	if err != nil {
		return 0, errors.Unwrap(err)
	}
	if !info.Mode().IsRegular() {
		return 0, errors.New("not a file")
	}
	return info.Mode().Perm(), nil
}

// CheckPrivateFile refuses a file that others than its owner can read.
func CheckPrivateFile(path string) error {
	mode, err := checkFile(path)
	if err == nil && mode&0o077 != 0 {
		return fmt.Errorf("it has mode %04o, with which others can read what is secret in it", mode)
	}
	return err
}

// readGitHub reads the values of GITHUB_CLIENT_ID and GITHUB_CLIENT_SECRET from a file.
func readGitHub(c *Config, path string) error {
	if c.GitHub != (OAuthApp{}) {
		return errors.New("GITHUB_CLIENT_ID or GITHUB_CLIENT_SECRET is set too")
	}
	if err := CheckPrivateFile(path); err != nil {
		return err
	}
	content, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	found := gitHubFile.FindSubmatch(content)
	if found == nil {
		return errNotAccepted
	}
	c.GitHub = OAuthApp{ClientID: string(found[1]), ClientSecret: string(found[2])}
	return nil
}

func (c Config) checkPorts() error {
	taken := map[int]Port{}
	for _, port := range c.ports {
		number := c.Port(port)
		if other, ok := taken[number]; ok {
			return fmt.Errorf("%s and %s are both port %d; accepted are ports that differ", other.Variable(), port.Variable(), number)
		}
		taken[number] = port
	}
	return nil
}

// MaxSocketPath is how many bytes the path of a Unix socket may have: one less than sun_path in sockaddr_un.
func MaxSocketPath() int {
	if runtime.GOOS == "linux" {
		return 107
	}
	return 103
}

func (c Config) checkState() error {
	if err := plain(c.State); err != nil {
		return fmt.Errorf("the checkout's state folder is %q: %w; accepted is a path %s: move the checkout, or name another folder with SIGLOCAL_STATE",
			c.State, err, plainState)
	}
	for _, socket := range []string{c.DatabaseSocket(), c.FulcioSocket()} {
		if len(socket) > MaxSocketPath() {
			return fmt.Errorf("the socket's path %s has %d bytes; accepted are at most %d on this system "+
				"(set SIGLOCAL_STATE to a folder with a shorter path)", socket, len(socket), MaxSocketPath())
		}
	}
	return nil
}

// Ports lists every port that is known, by name.
func (c Config) Ports() []Port { return c.ports }

// PortNamed is the port of a name such as REKOR. It panics if there is none, which is a programmer's mistake.
func (c Config) PortNamed(name string) Port {
	return c.ports[slices.IndexFunc(c.ports, func(p Port) bool { return p.Name == name })]
}

// Port is the number of p.
func (c Config) Port(p Port) int {
	if number, ok := c.moved[p]; ok {
		return number
	}
	return p.Default + c.offset
}

// Address is where programs of the stack reach p, such as 127.0.0.1:3000. Where its service listens is ListenAddress.
func (c Config) Address(p Port) string {
	return net.JoinHostPort(c.host(p), strconv.Itoa(c.Port(p)))
}

// AddressHost is that address without the port.
func (c Config) AddressHost(p Port) string { return c.host(p) }

// Localhost is the address of p by the name localhost, such as localhost:1338. Clients speak to a registry on localhost without TLS.
// On a cluster it is Address.
func (c Config) Localhost(p Port) string {
	if c.Cluster != nil {
		return c.Address(p)
	}
	return net.JoinHostPort("localhost", strconv.Itoa(c.Port(p)))
}

// ListenAddress is the address on which the service of p listens, such as 127.0.0.1:3000.
func (c Config) ListenAddress(p Port) string {
	return net.JoinHostPort(c.ListenHost(p), strconv.Itoa(c.Port(p)))
}

// ListenHost is that address without the port.
func (c Config) ListenHost(p Port) string {
	if c.Cluster != nil || c.Listen == ListenAll && slices.Contains(Public(), p) {
		return "0.0.0.0"
	}
	return "127.0.0.1"
}

// PublicPorts are the ports by which clients reach the services of the stack, of those that listens lists.
func PublicPorts(listens []Port) []Port {
	return slices.DeleteFunc(slices.Clone(listens), func(p Port) bool { return !slices.Contains(Public(), p) })
}

// Public is the host and port by which clients reach p, such as localhost:5556. What is signed for clients names services so.
func (c Config) Public(p Port) string { return net.JoinHostPort(c.Host, strconv.Itoa(c.Port(p))) }

// PublicURL is the URL by which clients reach p: URL, unless they are elsewhere and use another name than localhost.
func (c Config) PublicURL(p Port) string {
	if c.Cluster != nil {
		return c.Cluster.URLs[p.Name]
	}
	if c.Host == DefaultHost {
		return c.URL(p)
	}
	return "http://" + c.Public(p)
}

// URL is the base URL of p for programs of the stack, without a slash at its end.
func (c Config) URL(p Port) string { return "http://" + c.Address(p) }

// Issuer is the URL by which Fulcio trusts Dex as an OIDC issuer, and at which clients sign in.
func (c Config) Issuer() string {
	switch {
	case c.Cluster == nil:
		return "http://" + c.Public(Dex)
	case c.Cluster.Issuer != "":
		return c.Cluster.Issuer
	default:
		return c.PublicURL(Dex)
	}
}

// IssuerClient is what the issuer knows cosign as (OpenID Connect Core, client_id), and IssuerType is how Fulcio reads the issuer's tokens
// (https://github.com/sigstore/fulcio/blob/main/docs/oidc.md).
func (c Config) IssuerClient() string {
	if c.Cluster != nil && c.Cluster.Issuer != "" {
		return c.Cluster.ClientID
	}
	return "sigstore"
}

// IssuerType is described at IssuerClient.
func (c Config) IssuerType() string {
	if c.Cluster != nil && c.Cluster.Issuer != "" {
		return c.Cluster.IssuerType
	}
	return "email"
}

// DexPages is the folder of the pages that Dex shows, in the form that its frontend.dir takes.
func (c Config) DexPages() string { return filepath.Join(c.Root, "templates", "dex") }

// CTLog is the URL, with its prefix, at which Fulcio adds certificates to the CT log that it uses.
func (c Config) CTLog() string {
	if c.CTLogService == TesseraCT {
		return c.URL(TesseractHTTP) + "/sigstore"
	}
	return c.TrillianCT()
}

// CTLogKey is the file of that log's public key.
func (c Config) CTLogKey() string {
	if c.CTLogService == TesseraCT {
		return c.Key("tesseract.pub")
	}
	return c.Key("ctfe.pub")
}

// TrillianCT is the URL of the CT log over Trillian, with its prefix.
func (c Config) TrillianCT() string { return "http://" + c.Localhost(CT) + "/sigstore" }

// TesseraCT is the URL of the CT log of tiles, with its prefix.
func (c Config) TesseraCT() string { return "http://" + c.Localhost(CTTiles) + "/sigstore" }

// TesseraCTOrigin is what the checkpoints of the CT log of tiles begin with. It is part of what is signed, and so has no port,
// which may change.
func (c Config) TesseraCTOrigin() string { return "localhost/sigstore" }

// RekorV2 is the URL of Rekor v2.
func (c Config) RekorV2() string { return "http://" + c.Localhost(RekorTiles) }

// RekorV2Origin is what the checkpoints of Rekor v2 begin with (https://c2sp.org/tlog-checkpoint). Clients take it from the host
// in the log's URL in the trusted root. It is part of what is signed, and so has no port, which may change.
func (c Config) RekorV2Origin() string { return c.Host }

// TUFMirror is the URL of the TUF repository.
func (c Config) TUFMirror() string {
	if c.Cluster != nil {
		return c.PublicURL(TUF)
	}
	return "http://" + c.Public(TUF)
}

// PageURL is the URL of the stack in the browser.
func (c Config) PageURL() string { return "http://" + c.Public(Page) }

// Image is the reference of a repository in the stack's registry.
func (c Config) Image(repository string) string { return c.Localhost(Registry) + "/" + repository }

// Cosign is the name of the pinned program that is the stack's cosign: of version 3 in a stack of tiles, and of version 2 in
// others.
func (c Config) Cosign() string {
	if c.Stack == Tiles {
		return "v3/cosign"
	}
	return "cosign"
}

// Program is the path of a built program: one of the stack's own if it is built from a checkout.
func (c Config) Program(name string) string {
	if source, ok := c.CheckedOut(name); ok {
		return filepath.Join(c.CheckoutPrograms(source), name)
	}
	if name == "cosign" {
		name = c.Cosign()
	}
	return filepath.Join(c.Programs, name)
}

// CheckoutPrograms is the folder of the programs of source that are built from its checkout.
func (c Config) CheckoutPrograms(source Source) string { return filepath.Join(c.Built, source.Name) }

// Sources lists what can be built from a checkout.
func (c Config) Sources() []Source { return c.sources }

// CheckedOut finds the source of a program, and says whether that is built from a checkout.
func (c Config) CheckedOut(program string) (Source, bool) {
	for _, source := range c.sources {
		if _, ok := source.Programs[program]; ok {
			_, ok := c.Checkouts[source.Name]
			return source, ok
		}
	}
	return Source{}, false
}

// ConfigFile is the path of a rendered configuration file.
func (c Config) ConfigFile(name string) string { return filepath.Join(c.State, "config", name) }

// Data is the path of a service's data.
func (c Config) Data(name string) string { return filepath.Join(c.State, "data", name) }

// Key is the path of a key, public key or certificate.
func (c Config) Key(name string) string { return filepath.Join(c.State, "keys", name) }

// Trust is the path of a file from which clients learn what to trust.
func (c Config) Trust(name string) string { return filepath.Join(c.State, "trust", name) }

// SigningConfig is the file from which clients on this machine learn where to sign. For those that are elsewhere it is
// Trust("signing_config.json"), in which services have the names that lead there from elsewhere.
func (c Config) SigningConfig() string {
	if c.Host == DefaultHost {
		return c.Trust("signing_config.json")
	}
	return c.Trust("signing_config.here.json")
}

// Log is the path of a service's log.
func (c Config) Log(service string) string { return filepath.Join(c.State, "logs", service+".log") }

// Run is the path of a file that lives as long as a process: a PID file, a lock, a socket.
func (c Config) Run(name string) string { return filepath.Join(c.State, "run", name) }

// SecretFile is the path of the file that holds s.
func (c Config) SecretFile(s Secret) string { return filepath.Join(c.State, "secrets", string(s)) }

// Home is the HOME of every program that the stack runs, so that none touches the user's.
func (c Config) Home() string { return filepath.Join(c.State, "home") }

// FromHome is path, which is in the state folder, relative to Home, in which every program of the stack runs. So it does not
// hold the state folder's own path, which some configuration files cannot quote.
func (c Config) FromHome(path string) string {
	relative, err := filepath.Rel(c.Home(), path)
	if err != nil {
		return path // not reached: between two absolute paths there always is a relative one
	}
	return relative
}

// FromState is path, which is in the state folder, relative to that, in the form of service.Use.Of.
func (c Config) FromState(path string) string {
	relative, err := filepath.Rel(c.State, path)
	if err != nil {
		return path // of two absolute paths there always is one
	}
	return filepath.ToSlash(relative)
}

// AttestationBucket is the URL of the folder or bucket in which Rekor keeps attestations.
func (c Config) AttestationBucket() string {
	if c.Cluster != nil && c.Cluster.Attestations != "" {
		return c.Cluster.Attestations
	}
	return (&url.URL{Scheme: "file", Path: c.Data("rekor-attestations")}).String()
}

// DatabaseSocket is the path of MariaDB's Unix socket.
func (c Config) DatabaseSocket() string { return c.Run("mariadb.sock") }

// FulcioSocket is the path of the Unix socket of Fulcio's legacy gRPC server.
func (c Config) FulcioSocket() string { return c.Run("fulcio.sock") }

// Folders lists the folders of a stack, each to be of mode 0700.
func (c Config) Folders() []string {
	folders := []string{c.State}
	for _, name := range []string{"checkouts", "cluster", "config", "data", "home", "keys", "logs", "run", "secrets", "support", "tmp", "trust"} {
		folders = append(folders, filepath.Join(c.State, name))
	}
	return folders
}
