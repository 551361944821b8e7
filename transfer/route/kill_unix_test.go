//go:build unix

package route

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/transfer"
)

// victim tells a child process which site's folder to watch, and when to kill
// itself: at one of the watcher's steps, or at one of the writes to the store.
type victim struct {
	Dir   string
	Step  int
	Write int64
	Mode  buckettest.Mode
}

const victimEnv = "DAVIT_TEST_WATCHER"

func TestMain(m *testing.M) {
	if text := os.Getenv(victimEnv); text != "" {
		var v victim
		err := json.Unmarshal([]byte(text), &v)
		if err == nil {
			err = v.run()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(3)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// run is one pass at prod, and is killed before it ends unless it has fewer steps.
func (v victim) run() error {
	die := func(string) { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }
	w := worldAt(v.Dir)
	var count *buckettest.Faulty
	w.prod.wrap = func(b bucket.Bucket) bucket.Bucket {
		if v.Write == 0 {
			return b
		}
		if count == nil {
			count = buckettest.NewFaulty(b, v.Write, v.Mode)
		}
		f := count.Wrap(b)
		f.Hook = die
		return f
	}
	watcher, err := w.prod.watcher(func(Event) {})
	if err != nil {
		return err
	}
	n := 0
	watcher.hook = func(step string) {
		if n++; n == v.Step {
			die(step)
		}
	}
	return watcher.Once(context.Background())
}

// TestKilled: the process is killed with kill -9, at each step of the watcher
// and at writes of the site below it; the next one finishes, and both sites agree.
func TestKilled(t *testing.T) {
	seed := newWorld(t)
	seed.release(t, "1.0", 1_300_000)
	kill := func(t *testing.T, v victim) (killed bool) {
		v.Dir = t.TempDir()
		if err := os.CopyFS(v.Dir, os.DirFS(seed.dir)); err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), victimEnv+"="+string(text))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && (!errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL) {
			t.Fatalf("%v\n%s", err, out)
		}
		w := worldAt(v.Dir)
		var told []string
		for range 3 { // results that were broken off are sent again
			told = append(told, kinds(w.prod.pass(t)), kinds(w.dev.pass(t)))
		}
		t.Log(strings.Join(told, " | "))
		w.settled(t, "1.0")
		return err != nil
	}
	steps, writes := 0, 0
	for kill(t, victim{Step: steps + 1}) {
		steps++
	}
	stride := int64(7)
	if os.Getenv("DAVIT_TEST_LONG") != "" {
		stride = 1
	}
	for at := int64(1); kill(t, victim{Write: at, Mode: buckettest.Mode(at / stride % 2)}); at += stride {
		writes++
	}
	if steps < 8 || writes < 3 {
		t.Fatalf("killed at %d steps and %d writes only", steps, writes)
	}
	t.Logf("killed at %d steps and %d writes", steps, writes)
}

// A watcher that is killed while its files lie half in done/ leaves no bundle
// that looks incomplete for ever, not even one that waits for a decision.
func TestHalfMoved(t *testing.T) {
	w := newWorld(t)
	w.release(t, "1.0", 1_300_000)
	w.prod.link.Accept = false
	func() {
		defer func() { recover() }()
		watcher, err := w.prod.watcher(func(Event) {})
		if err != nil {
			t.Fatal(err)
		}
		moved := 0
		watcher.hook = func(step string) {
			if step == "moved" {
				if moved++; moved == 1 {
					panic(errKilled)
				}
			}
		}
		watcher.stations[0].once(t.Context()) // in this goroutine, which can recover
	}()
	if n, _ := filepath.Glob(filepath.Join(w.prod.link.Inbox, "*.v*of*")); len(n) != 1 {
		t.Fatal(n)
	}
	if got := kinds(w.prod.pass(t)); got != "repeat, sent" {
		t.Fatal(got)
	}
	w.prod.with(t, func(s *transfer.Site) {
		if _, err := s.Accept(t.Context(), "shop", "1.0", "", false); err != nil {
			t.Fatal(err)
		}
	})
}
