package bench

import (
	"testing"
	"time"

	"sigstore-local/magefiles/internal/service"
)

func TestTheCriticalPathIsTheLongestWayAlongWhatServicesUse(t *testing.T) {
	services := []service.Service{
		{Name: "registry"},
		{Name: "mariadb", Uses: []service.Use{{Of: "data/mariadb"}}},
		{Name: "log-server", Uses: []service.Use{{Of: "mariadb/trillian"}, {Of: "secrets/database-password"}}},
		{Name: "ct", Uses: []service.Use{{Of: "log-server"}, {Of: "keys/ctfe.pem"}}},
		{Name: "dex", Uses: []service.Use{{Of: "mariadb/dex"}}},
		{Name: "fulcio", Uses: []service.Use{{Of: "dex"}, {Of: "ct"}, {Of: service.Token}}},
	}
	alone := map[string]time.Duration{"registry": 1, "mariadb": 10, "log-server": 100, "ct": 1000, "dex": 10000, "fulcio": 100000}
	if got := criticalPath(services, alone); got != 110010 {
		t.Errorf("by way of Dex it is %d, not 110010", got)
	}
	alone["dex"] = 5
	if got := criticalPath(services, alone); got != 101110 {
		t.Errorf("by way of the CT log it is %d, not 101110", got)
	}
	alone["registry"] = 1e6
	if got := criticalPath(services, alone); got != 1e6 {
		t.Errorf("one that uses none is the longest, %d", got)
	}
}
