//go:build unix

package transfer_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"davit/manifest"
	"davit/store/bucket"
	"davit/store/bucket/buckettest"
)

// victim tells a child process which verb to do where, and at which of its
// writes to kill itself.
type victim struct {
	Dev, Prod, Stick, Source string
	Now                      time.Time
	Verb                     int
	At                       int64
	Mode                     buckettest.Mode
}

const victimEnv = "DAVIT_TEST_VICTIM"

func TestMain(m *testing.M) {
	if text := os.Getenv(victimEnv); text != "" {
		var v victim
		if err := json.Unmarshal([]byte(text), &v); err == nil {
			err = v.run()
			fmt.Fprintln(os.Stderr, err)
			if err == nil {
				os.Exit(0)
			}
		}
		os.Exit(3)
	}
	os.Exit(m.Run())
}

// run does the verb, and is killed before it ends unless it has fewer writes.
func (v victim) run() error {
	w := &world{now: v.Now}
	w.dev, w.prod = &place{w: w, name: "dev", dir: v.Dev}, &place{w: w, name: "prod", dir: v.Prod}
	var err error
	for _, p := range []*place{w.dev, w.prod} {
		if p.keys, err = loadKeys(p.dir); err != nil {
			return err
		}
		if p.bucket, err = bucket.OpenDir(filepath.Join(p.dir, "store")); err != nil {
			return err
		}
	}
	if w.stick, err = bucket.OpenDir(v.Stick); err != nil {
		return err
	}
	verb := story(v.Source)[v.Verb]
	p := verb.who(w)
	faulty := buckettest.NewFaulty(p.bucket, v.At, v.Mode)
	faulty.Hook = func(string) { syscall.Kill(os.Getpid(), syscall.SIGKILL); select {} }
	stick := faulty.Wrap(w.stick)
	stick.Hook = faulty.Hook
	if verb.stick {
		w.over = stick
	}
	if err := p.open(faulty); err != nil {
		return err
	}
	defer p.Close()
	return verb.act(w)
}

func (p *place) saveKeys() {
	p.w.t.Helper()
	if err := errors.Join(os.WriteFile(filepath.Join(p.dir, "identity"), p.keys.MarshalIdentity(), 0o600),
		os.WriteFile(filepath.Join(p.dir, "signing"), p.keys.MarshalSigning(), 0o600)); err != nil {
		p.w.t.Fatal(err)
	}
}

func loadKeys(dir string) (*manifest.SiteKeys, error) {
	identity, err := os.ReadFile(filepath.Join(dir, "identity"))
	if err != nil {
		return nil, err
	}
	signing, err := os.ReadFile(filepath.Join(dir, "signing"))
	if err != nil {
		return nil, err
	}
	return manifest.ParseSiteKeys(identity, signing, nil)
}

// kill -9 at the writes of every verb: another process does it and is killed,
// this one does it again. The short run takes every seventh write, the long
// one all.
func TestKilled(t *testing.T) {
	every := int64(7)
	if long {
		every = 1
	}
	base := newWorld(t)
	base.dev.saveKeys()
	base.prod.saveKeys()
	base.dev.Close()
	base.prod.Close()
	source := tree(t, small)
	killed := 0
	for n, s := range story(source) {
		t.Run(s.name, func(t *testing.T) {
			for _, mode := range []buckettest.Mode{buckettest.Fail, buckettest.FailPersisted} {
				for at := int64(1) + int64(n)%every; ; at += every {
					w := base.clone(t)
					s.who(w) // what the verb needs to have something to do
					if !killAt(t, w, victim{w.dev.dir, w.prod.dir, w.stick.Path(), source, w.now, n, at, mode}) {
						break
					}
					killed++
					p := s.who(w)
					if err := p.open(p.bucket); err != nil {
						t.Fatalf("killed at write %d (%s): %v", at, mode, err)
					}
					if err := s.act(w); err != nil {
						t.Fatalf("killed at write %d (%s): %v", at, mode, err)
					}
					s.check(t, w)
					wantSound(t, p)
					p.Close()
				}
			}
		})
		p := s.who(base)
		if err := p.open(p.bucket); err != nil {
			t.Fatal(err)
		}
		if s.name == "export results" {
			base.stick = base.folder()
		}
		if err := s.act(base); err != nil {
			t.Fatal(err)
		}
		p.Close()
	}
	if killed < 20 {
		t.Fatalf("only %d processes were killed", killed)
	}
}

// killAt reports whether the child was killed, and not at its end before.
func killAt(t *testing.T, w *world, v victim) bool {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), victimEnv+"="+string(text))
	out, err := cmd.CombinedOutput()
	if err == nil {
		return false
	}
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("the child was not killed: %v\n%s", err, strings.TrimSpace(string(out)))
	}
	return true
}
