package config

import (
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/go-sql-driver/mysql"
)

// Cluster says where the parts of a stack are if each has an address of its own, as on Kubernetes, and not all are on one machine.
type Cluster struct {
	// Machine is the stack that is moved there: its keys, passwords, accounts and logs' identities are those of the cluster.
	Machine Config
	// Root and State are the folders of the programs and of the stack's files in each part's container.
	Root, State string
	// Hosts are the names by which the parts reach the service of a port, by the port's name; this part's own have none.
	Hosts map[string]string
	// URLs are those by which clients reach the service of a port, by the port's name, without a slash at their end.
	URLs map[string]string
	// Without are the names of the services that something outside of the stack takes the place of.
	Without []string
	// Namespace is that of the parts, in which the log signers keep the leases of their election.
	Namespace string
	// DatabaseCopies is how many copies of MariaDB there are, all with the same data; one copy is an ordinary server.
	DatabaseCopies int
	// DSN is a file with the DSN of a MySQL that is not a part of the stack, in the form of github.com/go-sql-driver/mysql; empty if
	// MariaDB is a part.
	DSN string
	// Issuer, its client ID and its kind, as Fulcio's configuration names it, are of an OIDC issuer in place of Dex; empty if Dex is a part.
	Issuer, ClientID, IssuerType string
	// Attestations is the URL of a bucket for Rekor's attestations; empty if they are in a folder.
	Attestations string
	// The keys that a key management service keeps in place of a file or the token: URLs as in awskms://…; empty for those of the machine.
	FulcioKey, RekorKey, TSAKey string
	// PKCS11Module is the path, in the container, of a PKCS#11 module in place of SoftHSM; empty for SoftHSM.
	PKCS11Module string
	// PKCS11PIN is a file with the PIN of that module's token.
	PKCS11PIN string
}

// InCluster is c's stack as it is described on a cluster: with the default ports, and the folders and programs of a container.
func (c Config) InCluster(cluster Cluster) Config {
	cluster.Machine = c
	c.Cluster = &cluster
	c.Root, c.State, c.Programs = cluster.Root, cluster.State, filepath.Join(cluster.Root, "bin")
	c.Built, c.Checkouts = "", nil
	c.MariaDB, c.PKCS11Module, c.Services = "", cluster.PKCS11Module, nil
	c.offset, c.moved = 0, nil
	c.Listen = ListenAll
	return c
}

// Keeper is the configuration of the stack whose files hold the keys, passwords and accounts of c: c, or the machine's that is moved to a
// cluster.
func (c Config) Keeper() Config {
	if c.Cluster != nil {
		return c.Cluster.Machine
	}
	return c
}

// host is where programs of the stack reach p.
func (c Config) host(p Port) string {
	if c.Cluster != nil {
		return cmp.Or(c.Cluster.Hosts[p.Name], "127.0.0.1")
	}
	return "127.0.0.1"
}

// DatabaseHosts are the names by which the copies of MariaDB reach each other (https://kubernetes.io/docs/concepts/workloads/controllers/statefulset/#stable-network-id),
// or none if there is one copy.
func (c Config) DatabaseHosts() []string {
	var hosts []string
	if c.Cluster != nil && c.Cluster.DatabaseCopies > 1 {
		for i := range c.Cluster.DatabaseCopies {
			hosts = append(hosts, fmt.Sprintf("mariadb-%d.%s", i, CopiesHost("mariadb")))
		}
	}
	return hosts
}

// CopiesHost is the name, on a cluster, below which each copy of a service has a name of its own.
func CopiesHost(service string) string { return service + "-copies" }

// ReadDSN reads a file, of mode 0600, with a DSN of an account that may make databases. The DSN is not part of any error.
func ReadDSN(file string) (*mysql.Config, error) {
	if err := CheckPrivateFile(file); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	dsn, err := mysql.ParseDSN(strings.TrimSpace(string(text)))
	switch {
	case err != nil:
		return nil, errors.New("it holds no DSN as in user:password@tcp(db.example.org:3306)/?tls=true")
	case dsn.Net != "tcp":
		return nil, errors.New("its DSN has no address as in tcp(db.example.org:3306)")
	case dsn.TLSConfig == "" || dsn.TLSConfig == "false" || dsn.TLSConfig == "preferred":
		return nil, errors.New("its DSN does without TLS; accepted are tls=true and tls=skip-verify")
	case dsn.DBName != "":
		return nil, errors.New("its DSN names a database; accepted is a DSN without one, since the stack has three")
	}
	return dsn, nil
}

// RekorKey is the URL of Rekor's key at a key management service; empty if Rekor has it in a file.
func (c Config) RekorKey() string {
	if c.Cluster == nil {
		return ""
	}
	return c.Cluster.RekorKey
}
