package transfer_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
)

// world is two sites and the folder that is carried between them.
type world struct {
	t         testing.TB
	dev, prod *place
	stick     *bucket.Dir
	over      bucket.Bucket // stands before the stick, if set
	clock     sync.Mutex    // guards now while goroutines act
	now       time.Time
}

// place is where one site lives; site is it, open.
type place struct {
	w    *world
	name string
	keys *manifest.SiteKeys
	dir  string
	*transfer.Site
	bucket bucket.Bucket
}

func newWorld(t testing.TB) *world {
	t.Helper()
	w := &world{t: t, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	w.dev, w.prod = w.place("dev"), w.place("prod")
	w.stick = w.folder()
	w.meet(w.dev, w.prod)
	return w
}

func (w *world) folder() *bucket.Dir {
	w.t.Helper()
	d, err := bucket.CreateDir(filepath.Join(w.t.TempDir(), "stick"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { d.Close() })
	return d
}

// tick moves the clock, so that no two moments are equal.
func (w *world) tick() time.Time {
	w.clock.Lock()
	defer w.clock.Unlock()
	w.now = w.now.Add(time.Second)
	return w.now
}

func (w *world) place(name string) *place {
	w.t.Helper()
	keys, err := manifest.GenerateSiteKeys()
	if err != nil {
		w.t.Fatal(err)
	}
	p := &place{w: w, name: name, keys: keys, dir: w.t.TempDir()}
	dir, err := bucket.CreateDir(filepath.Join(p.dir, "store"))
	if err != nil {
		w.t.Fatal(err)
	}
	p.bucket = dir
	if p.Site, err = transfer.Create(w.t.Context(), p.options()); err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { p.Site.Close(); dir.Close() })
	return p
}

func (p *place) options() transfer.Options {
	return transfer.Options{Name: p.name, Bucket: p.bucket, Index: filepath.Join(p.dir, "index.sqlite"), WorkDir: filepath.Join(p.dir, "work"),
		Keys: p.keys, Actor: "tester@" + p.name, Davit: "test", Now: p.w.tick}
}

// meet exchanges cards: dev sends releases, prod sends results.
func (w *world) meet(dev, prod *place) {
	w.t.Helper()
	card := func(p *place) []byte {
		data, err := p.CardEnvelope(w.t.Context())
		if err != nil {
			w.t.Fatal(err)
		}
		return data
	}
	if _, err := dev.AddPeer(w.t.Context(), transfer.PeerRequest{Card: card(prod), Send: []string{"releases"}, Accept: []string{"results"}}); err != nil {
		w.t.Fatal(err)
	}
	if _, err := prod.AddPeer(w.t.Context(), transfer.PeerRequest{Card: card(dev), Send: []string{"results"}, Accept: []string{"releases"}}); err != nil {
		w.t.Fatal(err)
	}
}

// tree writes files, given as path and content, to a new folder.
func tree(t testing.TB, files map[string]string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "app")
	for name, content := range files {
		p := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(p), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(p, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// appFiles is a tree of some size, most of which is the same in all versions.
func appFiles(version string) map[string]string {
	files := map[string]string{"VERSION": version + "\n", "bin/run.sh": "#!/bin/sh\necho running " + version + "\n", "empty": ""}
	for i := range 30 {
		var b bytes.Buffer
		for j := range 800 {
			fmt.Fprintf(&b, "file %d line %d %x\n", i, j, i*j*7919)
		}
		files[fmt.Sprintf("lib/part%02d.txt", i)] = b.String()
	}
	files["lib/big.bin"] = string(random(1, 700_000))
	return files
}

func random(seed byte, n int) []byte {
	b := make([]byte, n)
	x := uint64(seed) + 88172645463325252
	for i := range b {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
		b[i] = byte(x)
	}
	return b
}

func (w *world) create(p *place, project, version string, files map[string]string, change ...func(*transfer.ReleaseRequest)) *transfer.ReleaseReport {
	w.t.Helper()
	req := transfer.ReleaseRequest{Project: project, Version: version,
		Packages: []transfer.PackageSource{{Source: tree(w.t, files), Name: "app", Version: version, Path: "app"}}}
	for _, f := range change {
		f(&req)
	}
	report, err := p.CreateRelease(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) promote(p *place, to, project, version string, change ...func(*transfer.ExportRequest)) *transfer.ExportReport {
	w.t.Helper()
	req := transfer.ExportRequest{Peer: to, Releases: []transfer.ReleaseName{{Project: project, Version: version}}, Medium: w.stick, MediumName: "the stick"}
	for _, f := range change {
		f(&req)
	}
	report, err := p.Export(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

func (w *world) take(p *place, change ...func(*transfer.ImportRequest)) *transfer.ImportReport {
	w.t.Helper()
	req := transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true}
	for _, f := range change {
		f(&req)
	}
	report, err := p.Import(w.t.Context(), req)
	if err != nil {
		w.t.Fatal(err)
	}
	return report
}

// wantFiles compares a folder with files.
func wantFiles(t testing.TB, dir string, files map[string]string) {
	t.Helper()
	n := 0
	err := filepath.WalkDir(dir, func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		rel, _ := filepath.Rel(dir, p)
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		if content, ok := files[filepath.ToSlash(rel)]; !ok || content != string(data) {
			t.Errorf("%s: %d bytes, want %d (listed: %v)", rel, len(data), len(content), ok)
		}
		n++
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if n != len(files) {
		t.Errorf("%d files in %s, want %d", n, dir, len(files))
	}
}

func process(steps ...manifest.Step) func(*transfer.ReleaseRequest) {
	return func(r *transfer.ReleaseRequest) { r.Process = manifest.Process{Steps: steps} }
}

func shell(name, script string) manifest.Step {
	return manifest.Step{Name: name, Run: []string{"/bin/sh", "-c", script}, Timeout: 60}
}

var ctx = context.Background

func readAll(t testing.TB, r io.ReadCloser) string {
	t.Helper()
	defer r.Close()
	data, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// medium is the stick, or what stands before it to break it.
func (w *world) medium() bucket.Bucket {
	if w.over != nil {
		return w.over
	}
	return w.stick
}

func wantSame(t testing.TB, a, b any) {
	t.Helper()
	x, err := json.MarshalIndent(a, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	y, err := json.MarshalIndent(b, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(x, y) {
		t.Fatalf("not the same:\n%s\n%s", x, y)
	}
}
