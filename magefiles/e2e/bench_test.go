package e2e

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	_ "github.com/go-sql-driver/mysql" // the driver

	"sigstore-local/magefiles/internal/config"
)

func TestNoTuningTradesDurabilityForSpeed(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	pinned := s.env
	for _, tuning := range []config.Tuning{config.TunedLocal, config.TunedUpstream} {
		s.env = append(pinned, "SIGLOCAL_TUNING="+string(tuning))
		s.must("trillian:start")
		password := strings.TrimSpace(s.read(s.config.SecretFile(config.DatabasePassword)))
		db, err := sql.Open("mysql", fmt.Sprintf("root:%s@unix(%s)/", password, s.config.DatabaseSocket()))
		if err != nil {
			t.Fatal(err)
		}
		var flush, doublewrite, method string
		err = db.QueryRowContext(t.Context(), "SELECT @@innodb_flush_log_at_trx_commit, @@innodb_doublewrite, @@innodb_flush_method").Scan(&flush, &doublewrite, &method)
		_ = db.Close()
		if err != nil || flush != "1" || doublewrite == "0" || method != "O_DIRECT" && method != "fsync" {
			t.Errorf("tuned %s: innodb_flush_log_at_trx_commit is %s, innodb_doublewrite %s, innodb_flush_method %s: %v", tuning, flush, doublewrite, method, err)
		}
		s.must("trillian:stop")
	}
}

func TestBenchMeasuresOnStacksOfItsOwnAndLeavesNothing(t *testing.T) {
	t.Parallel()
	s := newStack(t)
	r := s.mage("bench", "-only=stop,commands", "-runs=1", "-o=json")
	var result struct {
		Machine string
		Runs    int
		Figures []struct {
			Figure string
			Median float64
			Ratio  float64
			Holds  bool
		}
	}
	if err := json.Unmarshal([]byte(r.stdout), &result); r.code != 0 || err != nil {
		t.Fatalf("%v: %s", err, r)
	}
	if result.Runs != 1 || !strings.Contains(result.Machine, "processors") || len(result.Figures) != 5 {
		t.Errorf("%s", r)
	}
	for _, f := range result.Figures {
		if strings.Contains(f.Figure, "lost") != (f.Median == 0) {
			t.Errorf("%s: %g", f.Figure, f.Median)
		}
		// These aims hold on a loaded machine, too.
		if (strings.Contains(f.Figure, "lost") || f.Ratio > 0) && !f.Holds {
			t.Errorf("%s: %g, %g times", f.Figure, f.Median, f.Ratio)
		}
	}
	s.nothingInScratch()
}
