package cluster

import (
	"fmt"
	"net/url"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/image"
	"sigstore-local/magefiles/internal/project"
	"sigstore-local/magefiles/internal/service"
)

// Workload is what runs in one pod: a service, or several that use the same folder.
type Workload struct {
	Name     string            `json:"name"`
	Services []service.Service `json:"services"`
	Replicas int               `json:"replicas"`
	// Surges says that an update starts a new copy before it ends an old one. One that does not is away meanwhile.
	Surges bool `json:"surges"`

	Volumes []Volume `json:"volumes"` // with the data that the services keep; one for all copies if it surges, or else one for each
	// Files are those that the services need, below the folder of the stack, by whether they must be kept secret.
	Public  map[string]string `json:"public"`  // their contents
	Private []string          `json:"private"` // whose contents cluster:secrets knows
	// Placed are folders of private files, each in one file of the Secret, that are unpacked for each copy.
	Placed []string `json:"placed"`
	Writes []string `json:"writes"` // further folders that its programs write into and that end with a pod

	// Passes are the services of other workloads whose requests its pods take and pass on. Only the proxy has any.
	Passes []string `json:"passes"`

	Uses   []string `json:"uses"`   // the services of other workloads that it uses
	Awaits Awaited  `json:"awaits"` // what has to be there before its services are started
	// Outside are the URLs of what its services reach and that is not part of the stack.
	Outside []string `json:"outside"`
	Elects  bool     `json:"elects"` // its copies elect one among them, by leases
	// Peers are the ports by which its copies, each with a volume of its own, talk to each other; none if it has no such copies.
	Peers []config.Port `json:"peers"`

	there   config.Config // as its services see the stack
	missing error         // a file that its services need and that is not on the machine; nil if all are
}

// Awaited is what a pod waits for before its services are started, since some of them end if they do not find it.
type Awaited struct {
	URLs      []string `json:"urls"`      // are answered
	Addresses []string `json:"addresses"` // take connections
	Database  string   `json:"database"`  // a file with a DSN: the moved data is in this database
	Install   bool     `json:"install"`   // a MariaDB is made in its folder, and the moved data is in it
	Copies    []string `json:"copies"`    // the hosts of all copies of that MariaDB, if it has several
}

// Volume is a folder of a workload that outlives its pods.
type Volume struct {
	Folder string `json:"folder"` // below the folder of the stack, such as data/registry
	Size   string `json:"size"`

	derived []string // folders of it, below it, that are made anew from the rest
}

// AwaitContainer is the name of the container that waits for the data of its pod.
const AwaitContainer = "await"

// RootDSN is the file that the container of a MariaDB has for its administrator.
const RootDSN = "run/root.dsn"

// Scratch are the folders, below the stack's, of each pod that its programs write into and that end with it.
func Scratch() []string { return []string{"home", "run", "tmp"} }

// Config is the configuration of a stack c as it is on a cluster, as far as that is the same for all of its parts.
func (s Settings) Config(c config.Config) config.Config {
	return s.configFor(c, nil, nil)
}

// configFor is the configuration as the services of a pod see it, whose own ports they reach on loopback. Owners are the services that
// listen on each port.
func (s Settings) configFor(c config.Config, owners map[string]string, own []service.Service) config.Config {
	cluster := config.Cluster{
		Root: image.Folder, State: image.State, Namespace: s.Namespace,
		Hosts: map[string]string{}, URLs: map[string]string{}, DatabaseCopies: s.Services["mariadb"].Replicas,
		DSN: s.MySQL.DSNFile, Issuer: s.OIDC.Issuer, ClientID: s.OIDC.ClientID, IssuerType: s.OIDC.Type, Attestations: s.Attestations,
		FulcioKey: s.Keys.Fulcio, RekorKey: s.Keys.Rekor, TSAKey: s.Keys.TSA,
		PKCS11Module: s.Keys.PKCS11.Module, PKCS11PIN: s.Keys.PKCS11.PINFile,
	}
	for name, set := range map[string]bool{"mariadb": s.MySQL.DSNFile != "", "dex": s.OIDC.Issuer != "", "registry": s.Registry != ""} {
		if set {
			cluster.Without = append(cluster.Without, name)
		}
	}
	slices.Sort(cluster.Without)
	if s.Keys.PKCS11.Token != "" {
		c.PKCS11Token = s.Keys.PKCS11.Token
	}
	there := c.InCluster(cluster)
	for _, port := range append(there.Ports(), config.MariaDB) {
		owner := owners[port.Name]
		if owner == "" {
			continue
		}
		there.Cluster.URLs[port.Name] = s.url(there, port, owner)
		if !slices.ContainsFunc(own, func(one service.Service) bool { return one.Name == owner }) {
			there.Cluster.Hosts[port.Name] = owner
		}
	}
	return there
}

// surges says whether an update starts a new copy of a service before it ends an old one: it does unless there can be only one, or each
// has a volume of its own.
func (s Settings) surges(one service.Service) bool {
	return one.Single == "" && len(one.Peers) == 0 && (len(folders(one)) == 0 || s.Storage.SharedClass != "")
}

// folders are those in which a service keeps data, such as data/registry.
func folders(one service.Service) []string {
	var all []string
	for _, use := range one.Uses {
		// SoftHSM's tokens and Dex's accounts are written by the machine's targets alone.
		if strings.HasPrefix(use.Of, "data/") && !slices.Contains(one.Derived, use.Of) && use.Of != "data/hsm" && use.Of != "data/dex-accounts.json" {
			all = append(all, use.Of)
		}
	}
	return all
}

// Workloads are those of the stack c on a cluster, described by describe.
func (s Settings) Workloads(c config.Config, describe func(config.Config) []service.Service) ([]Workload, error) {
	owners := map[string]string{}
	for _, one := range describe(s.Config(c)) {
		for _, port := range one.Listens {
			owners[port.Name] = one.Name
		}
	}
	// As pods see those services that are in none of them.
	plain := describe(s.configFor(c, owners, nil))
	groups := grouped(plain)
	var all []Workload
	for _, group := range groups {
		there := s.configFor(c, owners, group)
		// The service that shares folders with the others comes last.
		w := Workload{Name: group[len(group)-1].Name, Replicas: 1, Surges: true, Public: map[string]string{}, there: there}
		for _, one := range describe(there) {
			if !slices.ContainsFunc(group, func(member service.Service) bool { return member.Name == one.Name }) {
				continue
			}
			w.Services = append(w.Services, one)
			if err := s.add(&w, there, one, plain); err != nil {
				return nil, err
			}
		}
		slices.Sort(w.Private)
		w.Private = slices.Compact(w.Private)
		slices.Sort(w.Uses)
		w.Uses = slices.Compact(w.Uses)
		all = append(all, w)
	}
	if passed := s.passed(plain); len(passed) > 0 {
		all = append(all, s.proxy(passed))
	}
	return all, nil
}

// grouped puts the services together that keep data in the same folder, in the order of the services.
func grouped(all []service.Service) [][]service.Service {
	var groups [][]service.Service
	for _, one := range all {
		joined := []service.Service{one}
		groups = slices.DeleteFunc(groups, func(group []service.Service) bool {
			share := slices.ContainsFunc(group, func(member service.Service) bool {
				return slices.ContainsFunc(folders(member), func(folder string) bool { return slices.Contains(folders(one), folder) })
			})
			if share {
				joined = append(slices.Clone(group), joined...)
			}
			return share
		})
		groups = append(groups, joined)
	}
	return groups
}

// configFile is the path of a configuration file below the folder of the stack.
var configFile = regexp.MustCompile(regexp.QuoteMeta(image.State) + `/(config/[a-z0-9_.-]+)`)

// add adds a service, as there describes it, to a workload.
func (s Settings) add(w *Workload, there config.Config, one service.Service, all []service.Service) error {
	if set := s.Services[one.Name].Replicas; set > 0 {
		w.Replicas = set
	}
	w.Surges = w.Surges && s.surges(one)
	if one.Ready.Database {
		// It is made with the password that its accounts then have.
		w.Awaits.Copies = there.DatabaseHosts()
		w.Awaits.Install, w.Private = true, append(w.Private, there.FromState(there.SecretFile(config.DatabasePassword)))
	}
	for _, folder := range folders(one) {
		if !slices.ContainsFunc(w.Volumes, func(v Volume) bool { return v.Folder == folder }) {
			size := s.Storage.Size
			if set := s.Storage.Sizes[one.Name]; set != "" {
				size = set
			}
			w.Volumes = append(w.Volumes, Volume{Folder: folder, Size: size})
		}
	}
	for i, volume := range w.Volumes {
		for _, folder := range one.Derived {
			if inside, ok := strings.CutPrefix(folder, volume.Folder+"/"); ok {
				w.Volumes[i].derived = append(volume.derived, inside)
			}
		}
	}
	for _, use := range one.Uses {
		kind, _, _ := strings.Cut(use.Of, "/")
		switch {
		case use.Of == "trust":
			w.Writes = append(w.Writes, use.Of)
		case kind == "keys" || kind == "secrets" || use.Of == "data/hsm":
			w.addFile(there, use.Of)
		case kind != "data" && use.Of != service.Token:
			s.use(w, there, kind, all)
		}
	}
	for _, name := range one.Publishes {
		if strings.HasPrefix(name, "keys/") {
			w.addFile(there, name)
		}
	}
	for _, name := range configFiles(one) {
		text, private, err := service.RenderPrivate(there, path.Base(name), values(there), placeholder)
		if err != nil {
			return err
		}
		w.Outside = append(w.Outside, outside(string(text))...)
		if private {
			w.Private = append(w.Private, name)
		} else {
			w.Public[name] = string(text)
		}
	}
	w.Outside = append(w.Outside, outside(strings.Join(one.Args, "\n"))...)
	w.Peers = append(w.Peers, one.Peers...)
	w.Elects = w.Elects || one.Elects
	return nil
}

// addFile adds a file or folder of the machine's stack.
func (w *Workload) addFile(there config.Config, name string) {
	info, err := os.Stat(filepath.Join(there.Keeper().State, filepath.FromSlash(name)))
	switch {
	case err != nil:
		w.missing = fmt.Errorf("the stack on this machine, whose keys the cluster gets, lacks a part: %w: start it once with `"+project.Command+" start`", err)
	case info.IsDir():
		w.Placed = append(w.Placed, name)
	default:
		w.Private = append(w.Private, name)
	}
}

// complete are the Workloads of a stack that has all files that the pods need.
func (s Settings) complete(c config.Config, describe func(config.Config) []service.Service) ([]Workload, error) {
	all, err := s.Workloads(c, describe)
	if err != nil {
		return nil, err
	}
	for _, w := range all {
		if w.missing != nil {
			return nil, w.missing
		}
	}
	return all, nil
}

// use adds to what a workload uses and awaits a service of all, if that is part of another workload.
func (s Settings) use(w *Workload, there config.Config, name string, all []service.Service) {
	at := slices.IndexFunc(all, func(one service.Service) bool { return one.Name == name })
	own := slices.ContainsFunc(w.Services, func(one service.Service) bool { return one.Name == name })
	switch {
	case at < 0 && name == "mariadb":
		w.Awaits.Database = databaseDSN
		w.Private = append(w.Private, databaseDSN)
		if dsn, err := config.ReadDSN(s.MySQL.DSNFile); err == nil { // which check has read
			w.Outside = append(w.Outside, "mysql://"+dsn.Addr)
		}
	case name == "dex" && strings.HasPrefix(there.Issuer(), "https://"):
		// The issuer is asked at its own address, also if an Ingress leads back from there.
		w.Outside = append(w.Outside, there.Issuer())
		if at >= 0 {
			w.Uses, w.Awaits.URLs = append(w.Uses, name), append(w.Awaits.URLs, all[at].Ready.URL)
		}
	case at < 0 || own || there.Cluster.Hosts[all[at].Listens[0].Name] == "":
	case all[at].Ready.Database:
		w.Uses = append(w.Uses, name)
		w.Awaits.Addresses = append(w.Awaits.Addresses, there.Address(all[at].Listens[0]))
	default:
		w.Uses = append(w.Uses, name)
		// The probe names the service as the stack's other pods do.
		w.Awaits.URLs = append(w.Awaits.URLs, all[at].Ready.URL)
	}
}

// databaseDSN is the file with the DSN of a MySQL in place of MariaDB.
const databaseDSN = "config/database.dsn"

// elsewhere matches the URLs of keys and buckets that services outside of the stack keep.
var elsewhere = regexp.MustCompile(`\b(awskms|azurekms|gcpkms|hashivault|s3|gs)://[^\s"]*`)

// outside are the URLs of what a text names that is not part of the stack.
func outside(text string) []string {
	var all []string
	for _, found := range elsewhere.FindAllStringSubmatch(text, -1) {
		kind, own := found[1], ""
		// A server of one's own, in place of the provider's.
		if at, err := url.Parse(found[0]); err == nil {
			own = at.Query().Get("endpoint")
			if kind == "awskms" && at.Host != "" {
				own = "https://" + at.Host
			}
		}
		if own != "" {
			all = append(all, own)
		}
		all = append(all, "https://"+kind) // which also gives credentials
		if kind == "hashivault" {
			all = append(all, "https://vault:8200") // the usual port of a server of one's own
		}
	}
	return all
}

// configFiles are the configuration files that a service's arguments and variables name.
func configFiles(one service.Service) []string {
	text := strings.Join(slices.Concat(one.Args, one.First, one.Env), "\n")
	var names []string
	for _, found := range configFile.FindAllStringSubmatch(text, -1) {
		if !slices.Contains(names, found[1]) {
			names = append(names, found[1])
		}
	}
	return names
}

// values stand for what only the running stack knows.
func values(there config.Config) service.Values {
	values := service.StandIns()
	values["Module"] = pkcs11Module(there)
	return values
}

// softHSM is the path of SoftHSM's module where Debian's package, of which an image is made, has it.
const softHSM = "/usr/lib/softhsm/libsofthsm2.so"

func pkcs11Module(there config.Config) string {
	if there.PKCS11Module != "" {
		return there.PKCS11Module
	}
	return softHSM
}

// placeholder stands for a secret in a file that is rendered only to learn whether there is one in it.
func placeholder(_ config.Config, name config.Secret) (string, error) { return string(name), nil }

// program is the path of one of this project's programs in a container.
func program(name string) string { return path.Join(image.Folder, "bin", name) }
