package foreground

import (
	"strings"
	"testing"
	"time"

	"sigstore-local/magefiles/internal/config"
	"sigstore-local/magefiles/internal/service"
	"sigstore-local/magefiles/internal/stack"
)

func TestThePauseGrowsForAServiceThatDiesAgainAndAgain(t *testing.T) {
	now := time.Now()
	known := fate{}
	var pauses []time.Duration
	for range 9 {
		known.pause = nextPause(known, now)
		pauses = append(pauses, known.pause)
		known.started = now
	}
	for i, want := range []time.Duration{time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute} {
		if pauses[i] != want {
			t.Errorf("the pause %d is %s, not %s", i, pauses[i], want)
		}
	}
	if got := nextPause(known, now.Add(soon+time.Second)); got != firstPause {
		t.Errorf("after a long life it is %s", got)
	}
}

func TestTheEndTellsWhetherAllWasWell(t *testing.T) {
	for state, well := range map[service.State]bool{service.Ready: true, service.Stopped: true, service.Starting: true, service.Crashed: false, service.NotAnswering: false} {
		if err := End([]stack.Row{{Service: "a", State: service.Ready}, {Service: "b", State: state}}); (err == nil) != well {
			t.Errorf("%s: %v", state, err)
		}
	}
}

func TestAUnitQuotesWhatIsSpecialInUnits(t *testing.T) {
	unit := Unit(config.Config{Root: "/a b/100%", State: "/s"}, []string{`NAME=say "$HOME" \ 5%`}, "/a b/run", "run")
	for _, want := range []string{
		"WorkingDirectory=/a b/100%%\n", `Environment="NAME=say \"$$HOME\" \\ 5%%"` + "\n", `ExecStart="/a b/run" "run"` + "\n", "KillMode=mixed\n",
	} {
		if !strings.Contains(unit, want) {
			t.Errorf("it lacks %s:\n%s", want, unit)
		}
	}
}
