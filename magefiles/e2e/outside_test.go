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
	"sigstore-local/magefiles/internal/keys"
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

// byIngress moves a stack whose clients then come by the names of an Ingress and with TLS, and whose keys and attestations are elsewhere: at a
// KMS, in a bucket, and in an HSM of the user's, which an overlay leads Fulcio to (SoftHSM, as if it were another one).
func byIngress(t *testing.T, r rig, o outsiders) {
	machine := newStack(t)
	machine.env = slices.Concat(machine.env, r.env(), account, []string{"SSL_CERT_FILE=" + o.certificate, "AWS_CA_BUNDLE=" + o.certificate})
	machine.must("start")
	signing, bundling := machine.sign(1), machine.signBundles(1)
	signing.more(t, 2)
	bundling.more(t, 2)
	signed, bundles := signing.end(), bundling.end()
	(&kubernetes{stack: machine, machine: machine}).attest(machine.image(machine.must("demo:keyless")))

	k := &kubernetes{machine: machine, rig: r, namespace: "hosts"}
	objects := filepath.Join(machine.home, "objects")
	if err := os.MkdirAll(filepath.Join(objects, "attestations"), 0o700); err != nil {
		t.Fatal(err)
	}
	k.render(fmt.Sprintf(`domain: %[1]s
hosts: {dex: login.%[1]s}
ingress: {class: tests, tlsSecret: hosts}
ca: %[2]s
attestations: s3://attestations?endpoint=https://s3.%[1]s&use_path_style=true
services: {rekor: {replicas: 2}}
keys:
  pkcs11: {module: /usr/lib/softhsm/libsofthsm2.so, token: %[3]s, pinFile: %[4]s}
  rekor: awskms://kms.%[1]s/alias/rekor
  tsa: awskms://kms.%[1]s/alias/tsa
`, hosts, o.certificate, machine.config.PKCS11Token, machine.config.SecretFile(config.HSMPIN)))
	k.kubectl("create", "secret", "tls", "hosts", "--cert="+o.certificate, "--key="+o.key)
	k.kubectl("create", "secret", "generic", "aws", "--from-env-file="+machine.file("aws", strings.Join(account, "\n")))
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
	patched := strings.ReplaceAll(elsewhereOverlay, "IMAGE", r.Registry+"/team/sigstore-local@"+os.Getenv(clusterImage))
	if err := os.WriteFile(filepath.Join(overlay, "kustomization.yaml"), []byte(patched), 0o600); err != nil {
		t.Fatal(err)
	}
	k.serveIngress(o, map[string]*url.URL{"kms." + hosts: machine.kms(r), "s3." + hosts: machine.s3(r, objects)})
	k.move("overlay")
	bucket := filepath.Join(objects, "attestations")
	if here, there := attestations(t, machine.config.Data("rekor-attestations")), attestations(t, bucket); here == 0 || there != here {
		t.Errorf("of the machine's %d attestations %d are in the bucket", here, there)
	}

	k.client()
	for name := range k.config.Cluster.URLs {
		k.config.Cluster.URLs[name] = "https://" + cluster.PortName(k.config.PortNamed(name)) + "." + hosts
	}
	k.config.Cluster.URLs["DEX"] = "https://login." + hosts
	k.trust()
	k.verifyEach(signed)
	k.verifyBundlesThere(bundles)
	k.signsAlso(2)
	clients := k.signBundles(2)
	clients.more(t, 4)
	added := clients.end()
	k.verifyBundlesThere(added)
	if got := added[0].issuer; got != "https://login."+hosts {
		t.Errorf("clients have signed in at %s", got)
	}
	k.signsByNames()
	before := attestations(t, bucket)
	k.attest(k.newImage(k.config.PublicURL(config.Registry), "registry."+hosts+"/example"))
	if after := attestations(t, bucket); after != before+1 {
		t.Errorf("the bucket had %d attestations, and has %d", before, after)
	}
	k.kubectl("delete", "namespace", k.namespace, "--wait=false")
}

// account is of the KMS and the bucket.
var account = []string{"AWS_ACCESS_KEY_ID=tests", "AWS_SECRET_ACCESS_KEY=secret-of-tests", "AWS_REGION=eu-central-1"}

// kms runs a KMS that has the machine's keys, and returns its URL.
func (s *stack) kms(r rig) *url.URL {
	s.t.Helper()
	var seed strings.Builder
	seed.WriteString("Keys:\n  Asymmetric:\n    Ecc:\n")
	aliases := "Aliases:\n"
	for i, name := range []string{"rekor", "tsa"} {
		file := map[string]string{"rekor": "rekor.pem", "tsa": filepath.Join("tsa", keys.TimestampingKey)}[name]
		id := fmt.Sprintf("00000000-0000-4000-8000-%012d", i)
		key := strings.ReplaceAll(strings.TrimSpace(sec1(s.t, s.read(s.config.Key(file)))), "\n", "\n          ")
		fmt.Fprintf(&seed, "      - Metadata: {KeyId: %s, KeyUsage: SIGN_VERIFY}\n        PrivateKeyPem: |\n          %s\n", id, key)
		aliases += fmt.Sprintf("  - {AliasName: alias/%s, TargetKeyId: %s}\n", name, id)
	}
	s.background([]string{"PORT=7071", "KMS_REGION=eu-central-1", "KMS_SEED_PATH=" + s.file("seed.yaml", seed.String()+aliases), "KMS_DATA_PATH=" + filepath.Join(s.home, "kms")},
		r.program("local-kms"))
	return &url.URL{Scheme: "http", Host: "127.0.0.1:7071"}
}

// sec1 is a private key of an elliptic curve, in whichever form it is, in that of SEC 1.
func sec1(t *testing.T, key string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(key))
	content := block.Bytes
	if parsed, err := x509.ParsePKCS8PrivateKey(content); err == nil {
		if content, err = x509.MarshalECPrivateKey(parsed.(*ecdsa.PrivateKey)); err != nil {
			t.Fatal(err)
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: content}))
}

// s3 runs a server of buckets, which are the folders in a folder, and returns its URL.
func (s *stack) s3(r rig, folder string) *url.URL {
	s.t.Helper()
	beside := filepath.Join(s.home, "metadata")
	if err := os.Mkdir(beside, 0o700); err != nil {
		s.t.Fatal(err)
	}
	s.background([]string{"ROOT_ACCESS_KEY_ID=tests", "ROOT_SECRET_ACCESS_KEY=secret-of-tests"},
		r.program("versitygw"), "--port=127.0.0.1:7070", "--region=eu-central-1", "posix", "--sidecar="+beside, folder)
	return &url.URL{Scheme: "http", Host: "127.0.0.1:7070"}
}

// attestations counts those in a folder: Rekor has a second file for each, with its type, and a server of buckets a folder for what is not
// complete.
func attestations(t *testing.T, folder string) int {
	t.Helper()
	all, err := os.ReadDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	return len(slices.DeleteFunc(all, func(one os.DirEntry) bool { return one.IsDir() || strings.HasSuffix(one.Name(), ".attrs") }))
}

// attest attests an image, in the form of entry whose attestations Rekor keeps.
func (k *kubernetes) attest(image string) {
	k.t.Helper()
	token, err := k.token()
	if err != nil {
		k.t.Fatal(err)
	}
	predicate := k.file("predicate.json", `{"built": "here"}`)
	if r := k.cosign("attest", "--yes", "--rekor-entry-type=intoto", "--identity-token="+token, "--predicate="+predicate, image); r.code != 0 {
		k.t.Fatalf("%s", r)
	}
}

// elsewhereOverlay gives Fulcio a module's configuration and token, and Rekor and the timestamp authority the account of the KMS. A token is
// written to, so it is copied from its Secret.
const elsewhereOverlay = `resources: [../base]
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
- target: {kind: Deployment, name: rekor}
  patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: rekor}
    spec: {template: {spec: {containers: [{name: rekor, envFrom: [{secretRef: {name: aws}}]}]}}}
- target: {kind: Deployment, name: tsa}
  patch: |-
    apiVersion: apps/v1
    kind: Deployment
    metadata: {name: tsa}
    spec: {template: {spec: {containers: [{name: tsa, envFrom: [{secretRef: {name: aws}}]}]}}}
`

// signsByNames lets cosign, which knows no more of the cluster than a name and the root of its TUF repository, sign and verify an image.
func (k *kubernetes) signsByNames() {
	k.t.Helper()
	token, err := k.token()
	if err != nil {
		k.t.Fatal(err)
	}
	in := *k.stack
	in.env = append(slices.Clone(in.env), "TUF_ROOT="+filepath.Join(k.home, "tuf"), "COSIGN_IDENTITY_TOKEN="+token)
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

// serveIngress serves what the rendered Ingress says until the test ends, as a controller does, and further services by the names of their
// hosts.
func (k *kubernetes) serveIngress(o outsiders, services map[string]*url.URL) {
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
	said := s.background(nil, s.config.Program("dex"), "serve", settings)
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

// background runs a program, with further variables, until the test ends, and returns what it says.
func (s *stack) background(env []string, program string, args ...string) *syncBuffer {
	s.t.Helper()
	var said syncBuffer
	cmd := exec.Command(program, args...)
	cmd.Env, cmd.Stdout, cmd.Stderr = append(os.Environ(), env...), &said, &said
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		if s.t.Failed() {
			s.t.Logf("%s: %s", program, &said)
		}
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
	said := s.background(nil, server, append([]string{"--no-defaults", "--datadir=" + dir, "--socket=" + socket, "--bind-address=" + o.host, "--port=3306", "--skip-name-resolve",
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
