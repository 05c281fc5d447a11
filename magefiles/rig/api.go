package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"strings"
	"time"
)

// writeKeys makes all keys, certificates, tokens and kubeconfigs, and CoreDNS's configuration.
func writeKeys(s spec) error {
	ca, caKey, err := certificate(s, "ca", &x509.Certificate{
		Subject: pkix.Name{CommonName: "rig"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}, nil, nil)
	if err != nil {
		return err
	}
	if _, _, err := certificate(s, "server", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver"},
		IPAddresses: []net.IP{net.ParseIP(outsideAddress), net.ParseIP(firstService), net.ParseIP("127.0.0.1")},
		DNSNames:    []string{"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + clusterDomain},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}, ca, caKey); err != nil {
		return err
	}
	if _, _, err := certificate(s, "kubelet-client", &x509.Certificate{
		Subject:     pkix.Name{CommonName: "kube-apiserver", Organization: []string{"system:masters"}},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
	}, ca, caKey); err != nil {
		return err
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return err
	}
	if err := writeKey(s.state("accounts.key"), key); err != nil {
		return err
	}

	users := [][2]string{
		{"admin", "admin,,system:masters"},
		{"kube-controller-manager", "system:kube-controller-manager,"},
		{"kube-scheduler", "system:kube-scheduler,"},
		{"kube-proxy", "system:kube-proxy,"},
	}
	for n := 1; n <= s.Nodes; n++ {
		users = append(users, [2]string{nodeName(n), "system:node:" + nodeName(n) + ",,system:nodes"})
	}
	var tokens strings.Builder
	for _, user := range users {
		token := rand.Text()
		fmt.Fprintf(&tokens, "%s,%s\n", token, strings.Replace(user[1], ",", ","+user[0], 1))
		kubeconfig := fmt.Sprintf(`apiVersion: v1
kind: Config
current-context: rig
clusters: [{name: rig, cluster: {server: %q, certificate-authority: %q}}]
users: [{name: rig, user: {token: %q}}]
contexts: [{name: rig, context: {cluster: rig, user: rig}}]
`, server, s.state("ca.crt"), token)
		if err := os.WriteFile(s.state(user[0]+".kubeconfig"), []byte(kubeconfig), 0o600); err != nil {
			return err
		}
		if user[0] == "admin" {
			if err := os.WriteFile(s.state("admin.token"), []byte(token), 0o600); err != nil {
				return err
			}
		}
	}
	if err := os.WriteFile(s.state("tokens"), []byte(tokens.String()), 0o600); err != nil {
		return err
	}
	return os.WriteFile(s.state("Corefile"), []byte(corefile(s)), 0o644)
}

// certificate writes a new key and its certificate, signed by the parent or by itself.
func certificate(s spec, name string, c, parent *x509.Certificate, parentKey *ecdsa.PrivateKey) (
	*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	if parent == nil {
		parent, parentKey = c, key
	}
	c.SerialNumber = big.NewInt(time.Now().UnixNano())
	c.NotBefore, c.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	c.KeyUsage |= x509.KeyUsageDigitalSignature
	der, err := x509.CreateCertificate(rand.Reader, c, parent, &key.PublicKey, parentKey)
	if err != nil {
		return nil, nil, fmt.Errorf("certificate of %s: %w", name, err)
	}
	text := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	if err := os.WriteFile(s.state(name+".crt"), text, 0o644); err != nil {
		return nil, nil, err
	}
	if err := writeKey(s.state(name+".key"), key); err != nil {
		return nil, nil, err
	}
	signed, err := x509.ParseCertificate(der)
	return signed, key, err
}

// writeKey writes a key in the one form that the API server takes for service accounts too.
func writeKey(path string, key *ecdsa.PrivateKey) error {
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return err
	}
	return os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}), 0o600)
}

// An api asks the API server as its administrator.
type api struct {
	client *http.Client
	token  string
}

func newAPI(s spec) (api, error) {
	ca, err := os.ReadFile(s.state("ca.crt"))
	if err != nil {
		return api{}, err
	}
	token, err := os.ReadFile(s.state("admin.token"))
	if err != nil {
		return api{}, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return api{
		client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}},
		token:  string(token),
	}, nil
}

// get reads an object into a value, or only finds out that it is there if the value is nil.
func (a api) get(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, server+path, nil)
	if err != nil {
		return err
	}
	request.Header.Set("Authorization", "Bearer "+a.token)
	body, err := fetch(a.client, request)
	if err != nil || into == nil {
		return err
	}
	return json.Unmarshal(body, into)
}

func (a api) nodeReady(ctx context.Context, name string) error {
	var node struct {
		Status struct {
			Conditions []struct{ Type, Status, Message string }
		}
	}
	if err := a.get(ctx, "/api/v1/nodes/"+name, &node); err != nil {
		return err
	}
	for _, c := range node.Status.Conditions {
		if c.Type == "Ready" && c.Status == "True" {
			return nil
		} else if c.Type == "Ready" {
			return fmt.Errorf("the kubelet says: %s", c.Message)
		}
	}
	return fmt.Errorf("the kubelet has said nothing yet")
}

func dnsReady(ctx context.Context) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://127.0.0.1:8181/ready", nil)
	if err != nil {
		return err
	}
	_, err = fetch(http.DefaultClient, request)
	return err
}

func fetch(client *http.Client, request *http.Request) ([]byte, error) {
	response, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", request.URL, response.Status, body)
	}
	return body, err
}
