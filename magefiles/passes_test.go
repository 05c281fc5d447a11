package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/traffic"
)

// told are the services of c with what their logs tell of, and nothing else.
func told(c config.Config) []service.Service {
	var all []service.Service
	for _, one := range services(c) {
		all = append(all, service.Service{Name: one.Name, Passes: one.Passes})
	}
	return all
}

func TestWhatPassesIsAlongAnArrowAndCanBeRead(t *testing.T) {
	for _, settings := range everyStack {
		t.Run(strings.Join(settings, " "), func(t *testing.T) {
			c := testConfig(t, settings...)
			arrows := map[string]bool{}
			for _, one := range slices.Concat(clients(c), services(c)) {
				for _, use := range one.Uses {
					to, _, _ := strings.Cut(use.Of, "/")
					arrows[one.Name+" "+to] = true
				}
			}
			var count int
			for _, one := range told(c) {
				for _, passage := range one.Passes {
					count++
					if !arrows[passage.From+" "+passage.To] {
						t.Errorf("%s: Passes has an arrow from %s to %s, and Uses does not", one.Name, passage.From, passage.To)
					}
					if passage.From != one.Name && passage.To != one.Name {
						t.Errorf("%s: its log tells of what passes from %s to %s", one.Name, passage.From, passage.To)
					}
					if passage.What == "" || len(strings.Fields(passage.What)) > 4 {
						t.Errorf("%s: what passes is %q", one.Name, passage.What)
					}
					if !strings.HasPrefix(passage.Line, "^") {
						t.Errorf("%s: %s does not begin with ^", one.Name, passage.Line)
					}
				}
			}
			if count < 6 {
				t.Errorf("only %d are told", count)
			}
			ended, end := context.WithCancel(t.Context())
			end()
			logs := func(name string) string { return filepath.Join(t.TempDir(), name) }
			if err := traffic.Follow(ended, told(c), logs, nil); err != nil {
				t.Error(err)
			}
		})
	}
}

// An end-to-end test calls this one with the variable PASSES, the file to write what is told to, as the stack of SIGLOCAL_STACK has it.
func TestWhatPassesIsData(t *testing.T) {
	c := testConfig(t, "SIGLOCAL_STACK="+os.Getenv("SIGLOCAL_STACK"))
	type data struct {
		Name   string
		Passes []service.Passage
	}
	var all, again []data
	for _, one := range services(c) {
		all = append(all, data{one.Name, one.Passes})
	}
	content, err := json.Marshal(all)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(content, &again); err != nil || !reflect.DeepEqual(all, again) {
		t.Errorf("%v: %+v became %+v", err, all, again)
	}
	if file := os.Getenv("PASSES"); file != "" {
		if err := os.WriteFile(file, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// said are lines of the parts' logs in the stack of a setting, shortened, and what they tell; nothing if that is empty. T stands for a
// time in the form that the log has.
var said = []struct{ stack, service, line, want string }{
	{"", "ct", `I1126 T   13165 handlers.go:206] sigstore{585505313880911010}: AddPreChain <= st=200`, "fulcio ct SCT"},
	{"", "ct", `I1126 T   13165 handlers.go:522] sigstore{585505313880911010}: AddPreChain <= grpc.QueueLeaves err=<nil>`, "ct log-server certificate"},
	{"", "ct", `I1126 T   13165 handlers.go:522] sigstore{585505313880911010}: AddPreChain <= grpc.QueueLeaves err=rpc error: code = Unavailable`, ""},
	{"", "ct", `I1126 T   13165 handlers.go:206] sigstore{585505313880911010}: AddPreChain <= st=400`, ""},
	{"", "ct", `I1126 T   13165 handlers.go:206] sigstore{585505313880911010}: GetSTH <= st=200`, ""},
	{"", "ct", `I1126 T   13165 handlers.go:180] sigstore{585505313880911010}: request POST "/sigstore/ct/v1/add-pre-chain?sigstore{1}: AddPreChain <= st=200" => AddPreChain`, ""},
	{"SIGLOCAL_CT_LOG=tesseract", "ct", `I1126 T   13165 handlers.go:206] sigstore{585505313880911010}: AddPreChain <= st=200`, ""},
	{"SIGLOCAL_CT_LOG=tesseract", "tesseract", `I1126 T   25534 handlers.go:237] localhost/sigstore: AddPreChain <= st=200`, "fulcio tesseract SCT"},
	{"", "log-signer", `I1126 T   13137 operation_manager.go:453] 8957249626394644867: processed 1 items in 0.00 seconds (242.84 qps)`, "log-signer mariadb entries"},
	{"", "fulcio", `T	` + "\x1b[35mDEBUG\x1b[0m" + `	log/log.go:106	finished unary call with code OK	{"grpc.start_time": "2026-11-26T11:43:00Z", "system": "grpc", "grpc.service": "dev.sigstore.fulcio.v1beta.CA", "grpc.method": "CreateSigningCertificate", "grpc.code": "OK", "requestID": "-dLLBlX-", "grpc.time_ms": 12.528}`, "cosign fulcio ID token, certificate request"},
	{"", "fulcio", `T	` + "\x1b[35mDEBUG\x1b[0m" + `	log/log.go:106	finished unary call with code OK	{"system": "grpc", "grpc.service": "dev.sigstore.fulcio.v2.CA", "grpc.method": "CreateSigningCertificate", "grpc.code": "OK", "requestID": "iYz8ib-N", "grpc.time_ms": 9.887}`, "bundle fulcio ID token, certificate request"},
	{"", "fulcio", `T	` + "\x1b[35mDEBUG\x1b[0m" + `	log/log.go:106	finished unary call with code InvalidArgument	{"system": "grpc", "grpc.service": "dev.sigstore.fulcio.v2.CA", "grpc.method": "CreateSigningCertificate", "grpc.code": "InvalidArgument", "requestID": "56xW-K-s", "grpc.time_ms": 0.5}`, ""},
	{"", "fulcio", `T	` + "\x1b[35mDEBUG\x1b[0m" + `	log/log.go:106	finished unary call with code OK	{"system": "grpc", "grpc.service": "dev.sigstore.fulcio.v2.CA", "grpc.method": "GetTrustBundle", "grpc.code": "OK", "requestID": "kXurSB0b", "grpc.time_ms": 0.053}`, ""},
	{"", "rekor", `{"severity":"INFO","time":"T","caller":"github.com/sigstore/rekor@v1.5.4/x.go:242","message":"completed request","operation":{"id":"vm/gD4SmF6alJ-000002"},"httpRequest":{"requestMethod":"POST","requestUrl":"http://127.0.0.1:3000/api/v1/log/entries","requestSize":"1850","status":201,"responseSize":"3237","userAgent":"cosign/v2.6.5 (linux; amd64)","remoteIp":"127.0.0.1:56624","latency":"0.063608731s","protocol":"HTTP/1.1"}}`, "cosign rekor entry"},
	{"", "rekor", `{"severity":"INFO","time":"T","caller":"github.com/sigstore/rekor@v1.5.4/x.go:242","message":"completed request","operation":{"id":"vm/PGGs1foPwn-000005"},"httpRequest":{"requestMethod":"POST","requestUrl":"http://127.0.0.1:3000/api/v1/log/entries","requestSize":"558","status":201,"responseSize":"1517","userAgent":"rekor-cli/v1.5.4 (linux; amd64)","remoteIp":"127.0.0.1:42050","latency":"0.071942226s","protocol":"HTTP/1.1"}}`, "rekor-cli rekor entry"},
	{"", "rekor", `{"severity":"INFO","time":"T","caller":"github.com/sigstore/rekor@v1.5.4/x.go:242","message":"completed request","operation":{"id":"vm/PGGs1foPwn-000009"},"httpRequest":{"requestMethod":"POST","requestUrl":"http://127.0.0.1:3000/api/v1/log/entries/retrieve","requestSize":"608","status":200,"responseSize":"1515","userAgent":"rekor-cli/v1.5.4","remoteIp":"127.0.0.1:42086","latency":"0.003473409s","protocol":"HTTP/1.1"}}`, ""},
	{"", "rekor", `{"severity":"INFO","time":"T","caller":"github.com/sigstore/rekor@v1.5.4/x.go:242","message":"completed request","operation":{"id":"vm/PGGs1foPwn-000010"},"httpRequest":{"requestMethod":"POST","requestUrl":"http://127.0.0.1:3000/api/v1/log/entries","requestSize":"608","status":409,"responseSize":"15","userAgent":"cosign\",\"status\":201,\"latency\":\"0s","remoteIp":"127.0.0.1:42086","latency":"0.003473409s","protocol":"HTTP/1.1"}}`, ""},
	{"", "dex", `time=T level=INFO msg="login successful" connector_id=local username="" preferred_username="" email=user@example.org groups=[] client_remote_addr=127.0.0.1`, "browser dex sign-in"},
	{"", "dex", `time=T level=ERROR msg="failed to login user: login successful" err="x"`, ""},
	{"", "tsa", `{"severity":"info","ts":T,"caller":"restapi/configure_timestamp_server.go:105","message":"[vm/tmeD7cusDG-000003] \"POST http://127.0.0.1:3004/api/v1/timestamp HTTP/1.1\" from 127.0.0.1:49642 - 200 713B in 567.046µs"}`, "bundle tsa timestamp"},
	{"", "tsa", `{"severity":"info","ts":T,"caller":"restapi/configure_timestamp_server.go:105","message":"[vm/tmeD7cusDG-000002] \"GET http://127.0.0.1:3004/api/v1/timestamp/certchain HTTP/1.1\" from 127.0.0.1:49634 - 200 2093B in 154.62µs"}`, ""},
	{"", "tsa", `{"severity":"info","ts":T,"caller":"restapi/configure_timestamp_server.go:105","message":"[vm/tmeD7cusDG-000004] \"POST http://127.0.0.1:3004/api/v1/timestamp HTTP/1.1\" from 127.0.0.1:49642 - 400 71B in 67.046µs"}`, ""},
	{"", "rekor-tiles", `time=T level=INFO msg="finished call" protocol=grpc grpc.component=server grpc.service=dev.sigstore.rekor.v2.Rekor grpc.method=CreateEntry grpc.method_type=unary peer.address=127.0.0.1:49712 grpc.start_time=2026-11-26T11:44:17Z grpc.code=OK grpc.time_ms=25.351`, "tiles rekor-tiles entry"},
	{"", "rekor-tiles", `time=T level=INFO msg="finished call" protocol=grpc grpc.component=server grpc.service=dev.sigstore.rekor.v2.Rekor grpc.method=CreateEntry grpc.method_type=unary peer.address=127.0.0.1:49712 grpc.code=InvalidArgument grpc.error="x" grpc.time_ms=25.351`, ""},
	{"", "tiles", `T rekor-tiles: "POST" "/api/v2/log/entries": 201 in 26.351ms`, "bundle tiles entry"},
	{"SIGLOCAL_STACK=tiles", "tiles", `T rekor-tiles: "POST" "/api/v2/log/entries": 201 in 26.351ms`, "cosign tiles entry"},
	{"", "tiles", `T tesseract: "POST" "/sigstore/ct/v1/add-chain": 200 in 1.5s`, "tiles tesseract certificate"},
	{"", "tiles", `T rekor-tiles: "POST" "/api/v2/log/entries": 400 in 26.351ms`, ""},
	{"", "registry", `T stored "rekor-cli" "sha256-c8f991e0a774b028b99fae1e637d3015fdf3fbd6fa4c9ca1e8b38b54dcc79b84.sig": signature`, "cosign registry signature"},
	{"", "registry", `T stored "rekor-cli" "latest": manifest`, ""},
}

// written are the forms of times in the parts' logs.
var written = map[string]string{
	"ct": "15:04:05.000000", "tesseract": "15:04:05.000000", "log-signer": "15:04:05.000000", "fulcio": "2006-01-02T15:04:05.000Z0700",
	"rekor": time.RFC3339Nano, "dex": "2006-01-02T15:04:05.000Z07:00", "rekor-tiles": "2006-01-02T15:04:05.000Z07:00", "tsa": "epoch",
	"tiles": "2006/01/02 15:04:05.000000", "registry": "2006/01/02 15:04:05.000000",
}

func TestTheLogsTellWhatPasses(t *testing.T) {
	lines, covered := map[string][][2]string{}, map[string]bool{} // service and line, by the stack
	want := map[string][]string{}
	for _, one := range said {
		lines[one.stack] = append(lines[one.stack], [2]string{one.service, one.line})
		if one.want != "" {
			want[one.stack], covered[one.want] = append(want[one.stack], one.want), true
		}
	}
	for settings := range lines {
		t.Run(settings, func(t *testing.T) {
			c := testConfig(t, strings.Fields(settings)...)
			got := toldBy(t, c, lines[settings])
			slices.Sort(got)
			slices.Sort(want[settings])
			if !slices.Equal(got, want[settings]) {
				t.Errorf("told is\n%s\nnot\n%s", strings.Join(got, "\n"), strings.Join(want[settings], "\n"))
			}
		})
	}
	for _, settings := range everyStack {
		for _, one := range told(testConfig(t, settings...)) {
			for _, passage := range one.Passes {
				// Names of clients differ between stacks.
				if key := passage.From + " " + passage.To + " " + passage.What; !covered[key] && passage.From != "cosign" {
					t.Errorf("%s: no line here tells %q", one.Name, key)
				}
			}
		}
	}
}

// toldBy is what lines of services' logs tell, each of which has to be told with the line's own time.
func toldBy(t *testing.T, c config.Config, lines [][2]string) []string {
	t.Helper()
	dir := t.TempDir()
	logs := func(name string) string { return filepath.Join(dir, name+".log") }
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	// Times in logs have milliseconds or more.
	at := time.Now().Truncate(time.Millisecond).Add(123 * time.Microsecond)
	for _, one := range lines {
		stamp := at.Format(written[one[0]])
		if written[one[0]] == "epoch" {
			stamp = fmt.Sprintf("%.6f", float64(at.UnixMicro())/1e6)
		}
		line := strings.Replace(strings.Replace(one[1], "1126 T", at.Format("0102")+" T", 1), "T", stamp, 1)
		// There was no log when it began to be followed.
		time.AfterFunc(50*time.Millisecond, func() {
			f, err := os.OpenFile(logs(one[0]), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err == nil {
				_, err = f.WriteString(line + "\n")
			}
			if err := errors.Join(err, f.Close()); err != nil {
				t.Error(err)
			}
		})
	}
	var got []string
	if err := traffic.Follow(ctx, told(c), logs, func(event traffic.Event) error {
		got = append(got, event.From+" "+event.To+" "+event.What)
		if after := event.At.Sub(at); after > time.Millisecond {
			t.Errorf("%+v is told of %s after the time of the line, when the line was read", event, after)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}
