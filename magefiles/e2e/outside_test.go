package e2e

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"database/sql"
	"encoding/asn1"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
	corev1 "k8s.io/api/core/v1"
	networkingv1 "k8s.io/api/networking/v1"

	"sigstore-local/magefiles/internal/cluster"
	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/database"
	"sigstore-local/magefiles/internal/platform"
)

// outsiders are what is needed to serve something where clients are: an address, and files with a certificate, which is its own CA, and its key.
type outsiders struct{ host, certificate, key string }

// hosts is the domain whose names the rig's name server leads to where clients are.
const hosts = "sigstore.test"

// newOutsiders makes them, and lets this program trust them.
func newOutsiders(t *testing.T, dir, host string) outsiders {
	o := outsiders{host, filepath.Join(dir, "others.pem"), filepath.Join(dir, "others.key")}
	key, certificate := serverCertificate(t, host, "*."+hosts)
	if err := errors.Join(os.WriteFile(o.certificate, []byte(certificate), 0o600), os.WriteFile(o.key, []byte(key), 0o600)); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", o.certificate)
	return o
}

// byIngress moves a stack of tiles, whose clients then come by the names of an Ingress and with TLS, and whose Fulcio has the CA's key in an
// HSM of the user's, which an overlay leads it to: SoftHSM, as if it were another one.
func byIngress(t *testing.T, r rig, o outsiders) {
	machine := newStack(t)
	machine.env = slices.Concat(machine.env, r.env(), []string{"SIGLOCAL_STACK=tiles"})
	machine.must("start")
	signing := machine.signBundles(1)
	signing.more(t, 2)
	signed := signing.end()

	k := &kubernetes{machine: machine, rig: r, namespace: "hosts"}
	k.render(fmt.Sprintf(`domain: %s
hosts: {dex: login.%[1]s}
ingress: {class: tests, tlsSecret: hosts}
ca: %s
keys: {pkcs11: {module: /usr/lib/softhsm/libsofthsm2.so, token: %s, pinFile: %s}}
`, hosts, o.certificate, machine.config.PKCS11Token, machine.config.SecretFile(config.HSMPIN)))
	k.kubectl("create", "secret", "tls", "hosts", "--cert="+o.certificate, "--key="+o.key)
	files := []string{"--from-file=" + machine.file("softhsm2.conf", "directories.tokendir = /hsm\nobjectstore.backend = file\n")}
	token, err := filepath.Glob(filepath.Join(machine.config.Data("hsm"), "*", "*"))
	if err != nil || len(token) == 0 {
		t.Fatalf("the machine has no token: %v", err)
	}
	for _, file := range token {
		files = append(files, "--from-file="+file)
	}
	k.kubectl(append([]string{"create", "secret", "generic", "hsm"}, files...)...)
	overlay := filepath.Join(machine.config.State, "cluster", "overlay")
	if err := os.Mkdir(overlay, 0o700); err != nil {
		t.Fatal(err)
	}
	patched := strings.ReplaceAll(hsmOverlay, "IMAGE", r.Registry+"/team/sigstore-local@"+os.Getenv(clusterImage))
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(patched), 0o600); err != nil {
		t.Fatal(err)
	}
	k.serveIngress(o)
	k.move("overlay")

	k.client()
	for name := range k.config.Cluster.URLs {
		k.config.Cluster.URLs[name] = "https://" + cluster.PortName(k.config.PortNamed(name)) + "." + hosts
	}
	k.config.Cluster.URLs["DEX"] = "https://login." + hosts
	k.trust()
	k.verifyBundlesThere(signed)
	clients := k.signBundles(2)
	clients.more(t, 4)
	added := clients.end()
	k.verifyBundlesThere(added)
	if got := added[0].issuer; got != "https://login."+hosts {
		t.Errorf("clients have signed in at %s", got)
	}
	k.signsByNames(o)
	k.kubectl("delete", "namespace", k.namespace, "--wait=false")
}

// hsmOverlay gives Fulcio a module's configuration and token. A token is written to, so it is copied from its Secret.
const hsmOverlay = `resources: [../base]
patches:
- target: {kind: Deployment, name: fulcio}
  patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: fulcio}
    spec:
      template:
        spec:
          initContainers:
          - name: hsm
            image: IMAGE
            command: [cp, --recursive, --dereference, /hsm-files/., /hsm/token]
            securityContext: {allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {drop: [ALL]}}
            volumeMounts: [{name: hsm-files, mountPath: /hsm-files}, {name: hsm, mountPath: /hsm}]
          containers:
          - name: fulcio
            env: [{name: SOFTHSM2_CONF, value: /hsm/token/softhsm2.conf}]
            volumeMounts: [{name: hsm, mountPath: /hsm}]
          volumes:
          - {name: hsm-files, secret: {secretName: hsm}}
          - {name: hsm, emptyDir: {}}
`

// signsByNames lets cosign, which knows no more of the cluster than a name and the root of its TUF repository, sign and verify an image.
func (k *kubernetes) signsByNames(o outsiders) {
	k.t.Helper()
	token, err := k.token()
	if err != nil {
		k.t.Fatal(err)
	}
	in := *k.stack
	in.env = append(slices.Clone(in.env), "TUF_ROOT="+filepath.Join(k.home, "tuf"), "SSL_CERT_FILE="+o.certificate, "COSIGN_IDENTITY_TOKEN="+token)
	image := k.newImage(k.config.PublicURL(config.Registry), "registry."+hosts+"/example")
	for _, args := range [][]string{
		{"initialize", "--mirror=" + k.config.PublicURL(config.TUF), "--root=" + k.machine.config.Trust("root.json")},
		{"sign", "--yes", image},
		{"verify", "--certificate-identity=" + k.config.Email, "--certificate-oidc-issuer=" + k.config.Issuer(), image},
	} {
		if r := in.run(k.home, k.config.Program("v3/cosign"), args...); r.code != 0 {
			k.t.Fatalf("cosign %q: %s", args, r)
		}
	}
}

// serveIngress serves what the rendered Ingress says until the test ends, as a controller does.
func (k *kubernetes) serveIngress(o outsiders) {
	t := k.machine.t
	t.Helper()
	var ingress networkingv1.Ingress
	rendered := k.kubectl("create", "--dry-run=client", "--output=json", "--filename="+filepath.Join(k.machine.config.State, "cluster", "base", "ingress.yaml"))
	if err := json.Unmarshal([]byte(rendered), &ingress); err != nil {
		t.Fatal(err)
	}
	var secret corev1.Secret
	if err := json.Unmarshal([]byte(k.kubectl("get", "secret", ingress.Spec.TLS[0].SecretName, "--output=json")), &secret); err != nil {
		t.Fatal(err)
	}
	certificate, err := tls.X509KeyPair(secret.Data["tls.crt"], secret.Data["tls.key"])
	if err != nil {
		t.Fatal(err)
	}
	services := map[string]*url.URL{}
	for _, rule := range ingress.Spec.Rules {
		if !slices.Contains(ingress.Spec.TLS[0].Hosts, rule.Host) {
			t.Errorf("%s has no certificate", rule.Host)
		}
		to := rule.HTTP.Paths[0].Backend.Service
		services[rule.Host] = &url.URL{Scheme: "http", Host: fmt.Sprintf("%s.%s.svc.cluster.local:%d", to.Name, k.namespace, to.Port.Number)}
	}
	listener, err := tls.Listen("tcp", net.JoinHostPort(o.host, "443"), &tls.Config{Certificates: []tls.Certificate{certificate}})
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		service := services[r.Host]
		if service == nil {
			http.Error(w, "the Ingress has no rule for "+r.Host, http.StatusNotFound)
			return
		}
		proxy := httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
			p.SetURL(service)
			p.Out.Host = r.Host
			p.SetXForwarded()
		}}
		proxy.ServeHTTP(w, r)
	})}
	go func() { _ = server.Serve(listener) }() // until it is closed
	t.Cleanup(func() { _ = server.Close() })
}

// withOthers moves a smaller stack, whose databases, OIDC issuer and registry are then servers that are no part of the cluster.
func withOthers(t *testing.T, r rig, o outsiders) {
	k, signed := smaller(t, r, "outside")
	machine := k.machine
	dsn, open := machine.mySQL(o)
	issuer := machine.dex(o)
	k.moveWith("mysql: {dsnFile: "+dsn+"}\noidc: {issuer: '"+issuer+"', clientID: sigstore}\nregistry: "+r.Registry+"/team\nca: "+o.certificate+"\n", signed)
	k.config.Cluster.Issuer = issuer
	added := k.signsAlso(2)
	if got := identityOf(t, added[0]); got != issuer {
		t.Errorf("the certificate is for an identity of %s, not of %s", got, issuer)
	}
	if pods := k.names("pods"); slices.ContainsFunc(pods, regexp.MustCompile("mariadb|dex|registry").MatchString) {
		t.Errorf("the cluster has its own: %v", pods)
	}
	var entries, connections int
	if err := open.QueryRow("SELECT COUNT(*) FROM trillian.SequencedLeafData").Scan(&entries); err != nil || entries < len(signed)+len(added) {
		t.Errorf("the server has %d entries, %v", entries, err)
	}
	if err := open.QueryRow("SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = 'sigstore'").Scan(&connections); err != nil || connections == 0 {
		t.Errorf("%d connections of the cluster, %v", connections, err)
	}
	k.kubectl("delete", "namespace", k.namespace, "--wait=false")
}

// identityOf is the issuer of the identity that a signature's certificate is for
// (https://github.com/sigstore/fulcio/blob/main/docs/oid-info.md, issuer V2).
func identityOf(t *testing.T, one signature) (issuer string) {
	t.Helper()
	block, _ := pem.Decode(one.bundle.Cert)
	parsed, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	for _, extension := range parsed.Extensions {
		if extension.Id.String() == "1.3.6.1.4.1.57264.1.8" {
			if _, err := asn1.Unmarshal(extension.Value, &issuer); err != nil {
				t.Fatal(err)
			}
		}
	}
	return issuer
}

// dex runs a Dex with TLS, with the account of the stack's user, and returns its issuer.
func (s *stack) dex(o outsiders) (issuer string) {
	s.t.Helper()
	hash, err := bcrypt.GenerateFromPassword([]byte(strings.TrimSpace(s.read(s.config.SecretFile(config.DexPassword)))), bcrypt.DefaultCost) // the least that Dex takes
	if err != nil {
		s.t.Fatal(err)
	}
	issuer = "https://" + net.JoinHostPort(o.host, "8443")
	settings := s.file("others.dex.yaml", fmt.Sprintf(`issuer: %[1]s
storage: {type: memory}
web: {https: "%[2]s:8443", tlsCert: %[3]s, tlsKey: %[4]s}
oauth2: {skipApprovalScreen: true, passwordConnector: local, grantTypes: [password]}
enablePasswordDB: true
staticPasswords: [{email: %[5]q, hash: '%[6]s', username: a, userID: a}]
staticClients: [{id: sigstore, name: sigstore, public: true}]
frontend: {dir: %[7]s}
`, issuer, o.host, o.certificate, o.key, s.config.Email, hash, s.config.DexPages()))
	said := s.background(s.config.Program("dex"), "serve", settings)
	for end := time.Now().Add(time.Minute); ; time.Sleep(100 * time.Millisecond) {
		response, err := http.Get(issuer + "/keys")
		if err == nil {
			_ = response.Body.Close()
			return issuer
		}
		if time.Now().After(end) {
			s.t.Fatalf("Dex does not answer: %v: %s", err, said)
		}
	}
}

// background runs a program until the test ends, and returns what it says.
func (s *stack) background(program string, args ...string) *syncBuffer {
	s.t.Helper()
	var said syncBuffer
	cmd := exec.Command(program, args...)
	cmd.Stdout, cmd.Stderr = &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	return &said
}

// mySQL runs a server with TLS. It returns a file with its DSN, and a connection.
func (s *stack) mySQL(o outsiders) (dsn string, db *sql.DB) {
	s.t.Helper()
	dir := filepath.Join(s.home, "mysql")
	server := platform.FindMariaDB()
	install := exec.Command(platform.FindMariaDBInstaller(server), append([]string{"--no-defaults", "--datadir=" + dir, "--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", "--force"}, database.RootArgs()...)...)
	if out, err := install.CombinedOutput(); err != nil {
		s.t.Fatalf("%v: %s", err, out)
	}
	socket := filepath.Join(s.home, "mysql.sock")
	said := s.background(server, append([]string{"--no-defaults", "--datadir=" + dir, "--socket=" + socket, "--bind-address=" + o.host, "--port=3306", "--skip-name-resolve",
		"--ssl-cert=" + o.certificate, "--ssl-key=" + o.key, "--max-connections=500"}, database.RootArgs()...)...)
	db, err := sql.Open("mysql", "root@unix("+socket+")/")
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = db.Close() })
	for end := time.Now().Add(time.Minute); db.Ping() != nil; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(end) {
			s.t.Fatalf("the server does not answer: %s", said)
		}
	}
	for _, statement := range []string{"CREATE USER sigstore@'%' IDENTIFIED BY 'secret-of-mysql' REQUIRE SSL", "GRANT ALL ON *.* TO sigstore@'%'"} {
		if _, err := db.Exec(statement); err != nil {
			s.t.Fatal(err)
		}
	}
	return s.file("mysql.dsn", "sigstore:secret-of-mysql@tcp("+o.host+":3306)/?tls=true\n"), db
}

// serverCertificate makes a key, and a certificate of it for an IP address and a name that is its own CA, both in PEM.
func serverCertificate(t *testing.T, address, name string) (key, certificate string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "another server"}, IPAddresses: []net.IP{net.ParseIP(address)}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour), IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	text, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: text})), string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}
