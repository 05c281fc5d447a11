// Package cluster runs a stack on Kubernetes: from the descriptions of its services it makes what is needed there, moves the keys and the
// data of a machine's stack, and shows what runs.
package cluster

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
)

// Settings are those of the file that SIGLOCAL_CLUSTER names. Each has a default.
type Settings struct {
	Namespace  string             `yaml:"namespace"`  // in which all is
	Image      string             `yaml:"image"`      // by digest; that which cluster:images pushed last if empty
	PullSecret string             `yaml:"pullSecret"` // a Secret of the namespace with the credentials of the image's registry
	Services   map[string]Service `yaml:"services"`   // by the services' names, as status lists them
	Storage    Storage            `yaml:"storage"`
	Domain     string             `yaml:"domain"` // below which clients reach each service, as in rekor.DOMAIN
	Hosts      map[string]string  `yaml:"hosts"`  // by which clients reach services, in place of their names below the domain
	Ingress    Ingress            `yaml:"ingress"`
	CA         string             `yaml:"ca"` // a file with certificates of CAs that the programs trust beside the public ones
	MySQL      MySQL              `yaml:"mysql"`
	Registry   string             `yaml:"registry"` // where images and signatures are, as in registry.example.org/team, in place of the stack's own registry
	OIDC       OIDC               `yaml:"oidc"`
	Keys       Keys               `yaml:"keys"`

	// Attestations is the URL of a bucket for Rekor's attestations (https://gocloud.dev/howto/blob/#services).
	Attestations string `yaml:"attestations"`
}

// Service is what can be set of one service.
type Service struct {
	Replicas  int       `yaml:"replicas"`
	Resources Resources `yaml:"resources"`
}

// Resources are as in Kubernetes: quantities of cpu and memory.
type Resources struct {
	Requests map[string]string `yaml:"requests" json:"requests,omitempty"`
	Limits   map[string]string `yaml:"limits" json:"limits,omitempty"`
}

// Storage says which volumes there are.
type Storage struct {
	Class       string            `yaml:"class"`       // the StorageClass; the cluster's default if empty
	SharedClass string            `yaml:"sharedClass"` // one whose volumes several nodes can write at the same time (ReadWriteMany)
	Size        string            `yaml:"size"`        // of each volume, as in 10Gi
	Sizes       map[string]string `yaml:"sizes"`       // of the volumes of services, by the services' names
}

// Ingress says how requests come in from outside.
type Ingress struct {
	Class       string            `yaml:"class"`     // the IngressClass; no Ingress is made without one
	TLSSecret   string            `yaml:"tlsSecret"` // the Secret with the certificate of all hosts; clients use HTTP without one
	Annotations map[string]string `yaml:"annotations"`
}

// MySQL is a server in place of the stack's MariaDB.
type MySQL struct {
	DSNFile string `yaml:"dsnFile"` // its DSN with TLS, in a file of mode 0600
}

// OIDC is an issuer in place of Dex.
type OIDC struct {
	Issuer   string `yaml:"issuer"`
	ClientID string `yaml:"clientID"`
	Type     string `yaml:"type"` // as Fulcio's configuration has it, such as email
}

// Keys are those that are kept elsewhere than in a Secret: URLs as in awskms://…, which the services take as they are.
type Keys struct {
	Fulcio string `yaml:"fulcio"`
	Rekor  string `yaml:"rekor"`
	TSA    string `yaml:"tsa"`
	PKCS11 PKCS11 `yaml:"pkcs11"`
}

// PKCS11 is a module in place of SoftHSM, for Fulcio.
type PKCS11 struct {
	Module  string `yaml:"module"`  // its path in the image
	Token   string `yaml:"token"`   // the label
	PINFile string `yaml:"pinFile"` // of mode 0600
}

var (
	label     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	hostName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+$`)
	byDigest  = regexp.MustCompile(`^[a-zA-Z0-9._:/-]+@sha256:[0-9a-f]{64}$`)
	quantity  = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?(m|k|M|G|T|Ki|Mi|Gi|Ti)?$`)
	kmsURL    = regexp.MustCompile(`^(awskms|azurekms|gcpkms|hashivault)://\S+$`)
	bucketURL = regexp.MustCompile(`^(s3|gs)://\S+$`)
	plainName = regexp.MustCompile(`^[a-zA-Z0-9.-]+(:[0-9]+)?(/[a-z0-9._-]+)*$`)
)

// Read reads the settings in a file, or takes the defaults if there is no file, for a stack whose services describe gives. An error names
// the setting, what was found and what is accepted.
func Read(file string, c config.Config, describe func(config.Config) []service.Service) (Settings, error) {
	s := Settings{Namespace: "sigstore", Storage: Storage{Size: "10Gi"}}
	if file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return s, err
		}
		decoder := yaml.NewDecoder(bytes.NewReader(text))
		decoder.KnownFields(true)
		if err := decoder.Decode(&s); err != nil && !errors.Is(err, io.EOF) {
			return s, fmt.Errorf("%s: %s", file, words(err))
		}
	}
	if err := s.check(c, describe); err != nil {
		return s, fmt.Errorf("%s: %w", cmp.Or(file, "the settings"), err)
	}
	return s, nil
}

// words is what the YAML library says, in one line and without the names of Go's types.
func words(err error) string {
	said := strings.ReplaceAll(strings.TrimPrefix(err.Error(), "yaml: unmarshal errors:\n"), "\n", ";")
	said = regexp.MustCompile(`field (\S+) not found in type cluster\.\w+`).ReplaceAllString(said, "$1 is not a setting")
	said = regexp.MustCompile("cannot unmarshal !!\\w+ (`.*?`)? ?into int").ReplaceAllString(said, "found is $1; accepted is a number")
	said = regexp.MustCompile("cannot unmarshal !!\\w+ (`.*?`)? ?into string").ReplaceAllString(said, "found is a list or settings; accepted is a text")
	said = regexp.MustCompile("cannot unmarshal !!\\w+ (`.*?`)? ?into \\S+").ReplaceAllString(said, "found is $1; accepted are settings, each with its name")
	return strings.Join(strings.Fields(said), " ")
}

// wrong is an error about a setting.
func wrong(name, found, accepted string) error {
	return fmt.Errorf("%s is %q; accepted is %s", name, found, accepted)
}

func (s *Settings) check(c config.Config, describe func(config.Config) []service.Service) error {
	const aLabel = "1 to 63 small letters, digits and hyphens, as Kubernetes has it"
	for _, one := range []struct {
		name, found string
		fits        *regexp.Regexp
		accepted    string
		needed      bool
	}{
		{"namespace", s.Namespace, label, aLabel, true},
		{"image", s.Image, byDigest, "an image by digest, as in registry.example.org/sigstore-local@sha256:…", false},
		{"pullSecret", s.PullSecret, label, aLabel, false},
		{"storage.class", s.Storage.Class, label, aLabel, false},
		{"storage.sharedClass", s.Storage.SharedClass, label, aLabel, false},
		{"storage.size", s.Storage.Size, quantity, "an amount as in 10Gi", true},
		{"domain", s.Domain, hostName, "a host name with a dot, as in sigstore.example.org", false},
		{"ingress.class", s.Ingress.Class, label, aLabel, false},
		{"ingress.tlsSecret", s.Ingress.TLSSecret, label, aLabel, false},
		{"registry", s.Registry, plainName, "a registry and perhaps a path, as in registry.example.org/team", false},
		{"keys.fulcio", s.Keys.Fulcio, kmsURL, "a URL that begins with awskms://, azurekms://, gcpkms:// or hashivault://", false},
		{"keys.rekor", s.Keys.Rekor, kmsURL, "a URL that begins with awskms://, azurekms://, gcpkms:// or hashivault://", false},
		{"keys.tsa", s.Keys.TSA, kmsURL, "a URL that begins with awskms://, azurekms://, gcpkms:// or hashivault://", false},
		{"attestations", s.Attestations, bucketURL, "a URL that begins with s3:// or gs://", false},
	} {
		if one.found == "" && !one.needed {
			continue
		}
		if !one.fits.MatchString(one.found) {
			return wrong(one.name, one.found, one.accepted)
		}
	}
	for _, check := range []func() error{s.checkIngress, s.checkFiles, s.checkOIDC} {
		if err := check(); err != nil {
			return err
		}
	}
	return s.checkServices(c, describe)
}

func (s *Settings) checkIngress() error {
	if s.Ingress.Class != "" && s.Domain == "" {
		return errors.New("ingress.class is set, and domain is not: an Ingress needs the names of its hosts")
	}
	if s.Ingress.Class == "" && s.Ingress.TLSSecret != "" {
		return errors.New("ingress.tlsSecret is set, and ingress.class is not: only an Ingress has a certificate")
	}
	if s.Domain == "" && len(s.Hosts) > 0 {
		return errors.New("hosts is set, and domain is not: it is for the services that hosts does not name")
	}
	known := portNames()
	for _, name := range slices.Sorted(maps.Keys(s.Hosts)) {
		if !slices.Contains(known, name) {
			return wrong("in hosts a name", name, "one of "+strings.Join(known, ", "))
		}
		if !hostName.MatchString(s.Hosts[name]) {
			return wrong("hosts."+name, s.Hosts[name], "a host name with a dot, as in rekor.example.org")
		}
	}
	return nil
}

func (s *Settings) checkFiles() error {
	for _, file := range []struct {
		name  string
		value string
		check func(string) error
	}{
		{"ca", s.CA, checkCertificates},
		{"mysql.dsnFile", s.MySQL.DSNFile, func(file string) error { _, err := config.ReadDSN(file); return err }},
		{"keys.pkcs11.pinFile", s.Keys.PKCS11.PINFile, config.CheckPrivateFile},
	} {
		if file.value == "" {
			continue
		}
		if !filepath.IsAbs(file.value) {
			return wrong(file.name, file.value, "the absolute path of a file")
		}
		if err := file.check(file.value); err != nil {
			return fmt.Errorf("%s is %q: %w", file.name, file.value, err)
		}
	}
	given := s.Keys.PKCS11
	if given != (PKCS11{}) && (given.Module == "" || given.Token == "" || given.PINFile == "") {
		return errors.New("keys.pkcs11 is incomplete; accepted are module, token and pinFile together")
	}
	if given.Module != "" && s.Keys.Fulcio != "" {
		return errors.New("keys.fulcio and keys.pkcs11 are both set; accepted is one of them")
	}
	return nil
}

func checkCertificates(file string) error {
	text, err := os.ReadFile(file)
	if err == nil && !bytes.Contains(text, []byte("-----BEGIN CERTIFICATE-----")) {
		err = errors.New("it holds no certificate in PEM")
	}
	return err
}

func (s *Settings) checkOIDC() error {
	if s.OIDC == (OIDC{}) {
		return nil
	}
	issuer, err := url.Parse(s.OIDC.Issuer)
	if err != nil || issuer.Scheme != "https" || issuer.Host == "" {
		return wrong("oidc.issuer", s.OIDC.Issuer, "a URL that begins with https://")
	}
	s.OIDC.Type = cmp.Or(s.OIDC.Type, "email")
	kinds := []string{"email", "username", "uri", "github-workflow", "gitlab-pipeline", "kubernetes", "spiffe", "buildkite-job", "codefresh-workflow", "ci-provider"}
	if !slices.Contains(kinds, s.OIDC.Type) {
		return wrong("oidc.type", s.OIDC.Type, "one of "+strings.Join(kinds, ", "))
	}
	if s.OIDC.ClientID == "" {
		return errors.New("oidc.clientID is missing, which is what the issuer knows cosign as")
	}
	return nil
}

func (s *Settings) checkServices(c config.Config, describe func(config.Config) []service.Service) error {
	all := describe(s.Config(c))
	if len(s.passed(all)) > 0 {
		all = append(all, proxyService(nil))
	}
	var names []string
	for _, one := range all {
		names = append(names, one.Name)
	}
	accepted := "one of " + strings.Join(names, ", ")
	var keeping []string
	for _, one := range all {
		if len(folders(one)) > 0 {
			keeping = append(keeping, one.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Storage.Sizes)) {
		if !slices.Contains(keeping, name) {
			return wrong("in storage.sizes a name", name, "one of "+strings.Join(keeping, ", "))
		}
		if !quantity.MatchString(s.Storage.Sizes[name]) {
			return wrong("storage.sizes."+name, s.Storage.Sizes[name], "an amount as in 10Gi")
		}
	}
	for _, name := range slices.Sorted(maps.Keys(s.Services)) {
		at := slices.Index(names, name)
		if at < 0 {
			return wrong("in services a name", name, accepted)
		}
		set := s.Services[name]
		where := "services." + name
		if set.Replicas < 0 || set.Replicas > 50 {
			return fmt.Errorf("%s.replicas is %d; accepted is a number from 1 to 50", where, set.Replicas)
		}
		if why := all[at].Single; set.Replicas > 1 && why != "" {
			return fmt.Errorf("%s.replicas is %d; accepted is 1: %s", where, set.Replicas, why)
		}
		peers := len(all[at].Peers) > 0
		if peers && set.Replicas > 0 && set.Replicas%2 == 0 {
			return fmt.Errorf("%s.replicas is %d; accepted is an odd number: if half of the copies were away, the others could not know that they are not", where, set.Replicas)
		}
		if set.Replicas > 1 && !peers && len(folders(all[at])) > 0 && s.Storage.SharedClass == "" {
			return fmt.Errorf("%s.replicas is %d, and its copies share %s: name a StorageClass whose volumes several nodes can write with storage.sharedClass%s",
				where, set.Replicas, folders(all[at])[0], map[bool]string{true: ", or a bucket with attestations"}[name == "rekor"])
		}
		for kind, amounts := range map[string]map[string]string{"requests": set.Resources.Requests, "limits": set.Resources.Limits} {
			for resource, amount := range amounts {
				if resource != "cpu" && resource != "memory" {
					return wrong("in "+where+".resources."+kind+" a name", resource, "cpu or memory")
				}
				if !quantity.MatchString(amount) {
					return wrong(where+".resources."+kind+"."+resource, amount, "an amount as in 500m or 256Mi")
				}
			}
		}
	}
	return nil
}

// PortName is how settings, hosts and Kubernetes' objects name a port, such as rekor-tiles.
func PortName(p config.Port) string {
	return strings.ToLower(strings.ReplaceAll(p.Name, "_", "-"))
}

func portNames() []string {
	var names []string
	for _, port := range config.Public() {
		if port != config.Page {
			names = append(names, PortName(port))
		}
	}
	return names
}

// scheme is that of the URLs of an Ingress.
func (s Settings) scheme() string {
	if s.Ingress.TLSSecret != "" {
		return "https"
	}
	return "http"
}

// url is that by which clients reach port, which the service owner listens on.
func (s Settings) url(c config.Config, port config.Port, owner string) string {
	switch {
	case s.Domain == "":
		return "http://" + net.JoinHostPort(owner+"."+s.Namespace+".svc.cluster.local", fmt.Sprint(c.Port(port)))
	case s.Ingress.Class == "":
		return "http://" + net.JoinHostPort(s.host(port), fmt.Sprint(c.Port(port)))
	default:
		return s.scheme() + "://" + s.host(port)
	}
}

// host is the name by which clients from outside of the cluster reach port.
func (s Settings) host(port config.Port) string {
	return cmp.Or(s.Hosts[PortName(port)], PortName(port)+"."+s.Domain)
}
