package transfer_test

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
)

// archives are packages as people ship them: compressed, so that one changed
// line changes nearly every byte.
func archives(t testing.TB, version string) map[string][]byte {
	t.Helper()
	var text bytes.Buffer
	for i := range 40_000 {
		fmt.Fprintf(&text, "line %d says %x\n", i, i*i*7919)
		if i == 100 {
			fmt.Fprintf(&text, "this is version %s\n", version)
		}
	}
	var gz bytes.Buffer
	g := gzip.NewWriter(&gz)
	g.Write(text.Bytes())
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	var z bytes.Buffer
	zw := zip.NewWriter(&z)
	for i := range 20 {
		w, err := zw.Create(fmt.Sprintf("part%d.txt", i))
		if err != nil {
			t.Fatal(err)
		}
		part := text.Bytes()[i*40_000 : (i+1)*40_000]
		if i == 7 {
			part = append([]byte(version), part...)
		}
		if _, err := w.Write(part); err != nil {
			t.Fatal(err)
		}
	}
	if err := zw.Close(); err != nil {
		t.Fatal(err)
	}
	// A binary that shares nothing in its chunks' borders with the last one.
	binary := append([]byte(strings.Repeat(version, 37)), random(9, 400_000)...)
	for i := range binary {
		if i%9000 == 0 {
			binary[i] ^= version[len(version)-1]
		}
	}
	return map[string][]byte{"app-" + version + ".log.gz": gz.Bytes(), "lib.zip": z.Bytes(), "tool": binary}
}

// createArchives makes a release with a package for each archive.
func (w *world) createArchives(p *place, version string) {
	w.t.Helper()
	dir := w.t.(*testing.T).TempDir()
	w.create(p, "shop", version, small, func(r *transfer.ReleaseRequest) {
		for name, data := range archives(w.t, version) {
			file := filepath.Join(dir, name)
			if err := os.WriteFile(file, data, 0o644); err != nil {
				w.t.Fatal(err)
			}
			r.Packages = append(r.Packages, transfer.PackageSource{Source: file, Name: name, Version: version, Path: name})
		}
	})
}

// back carries prod's receipts home.
func (w *world) back() {
	w.t.Helper()
	w.stick = w.folder()
	if _, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick}); err != nil {
		w.t.Fatal(err)
	}
	w.take(w.dev)
	w.stick = w.folder()
}

func (w *world) wantArchives(p *place, version string) {
	w.t.Helper()
	if _, err := p.VerifyRelease(ctx(), "shop", version); err != nil {
		w.t.Fatal(err)
	}
	dir := w.t.(*testing.T).TempDir()
	if _, err := p.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: version, Dir: dir}); err != nil {
		w.t.Fatal(err)
	}
	for name, data := range archives(w.t, version) {
		if got, err := os.ReadFile(filepath.Join(dir, name)); err != nil || !bytes.Equal(got, data) {
			w.t.Fatalf("%s: %d bytes instead of %d, %v", name, len(got), len(data), err)
		}
	}
}

func TestDeltas(t *testing.T) {
	w := newWorld(t)
	w.createArchives(w.dev, "1.0")
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.back()
	w.createArchives(w.dev, "1.1")
	plain := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.DryRun, r.NoDelta = true, true })
	plan := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.DryRun = true })
	sent := w.promote(w.dev, "prod", "shop", "1.1")
	if plan.Bytes != sent.Bytes || sent.Bytes != stickBytes(t, w) {
		t.Fatalf("planned %d, wrote %d", plan.Bytes, sent.Bytes)
	}
	if len(sent.Packages) != 3 || sent.Deltas == 0 || sent.Bytes > plain.Bytes/2 {
		t.Fatalf("with deltas %d bytes, without %d: %+v", sent.Bytes, plain.Bytes, sent.Packages)
	}
	for _, p := range sent.Packages {
		t.Logf("%+v", p)
		if p.Base != "shop 1.0" || p.Bytes > p.Plain {
			t.Errorf("%+v", p)
		}
	}
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
	w.wantArchives(w.prod, "1.1")
	for info := range w.prod.bucket.List(ctx(), "quarantine/") {
		t.Fatalf("left in quarantine: %s", info.Name)
	}
	// What lies in the work folder is sealed or gone.
	for _, p := range []*place{w.dev, w.prod} {
		entries, err := os.ReadDir(filepath.Join(p.dir, "work"))
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if strings.HasPrefix(e.Name(), "davit-") {
				t.Errorf("%s left %s", p.name, e.Name())
			}
		}
		wantSound(t, p)
	}
	// A release accepted later is made from its delta again after garbage was
	// collected in between.
	w.back()
	w.createArchives(w.dev, "1.2")
	w.promote(w.dev, "prod", "shop", "1.2")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	if _, err := w.prod.Collect(ctx(), false); err != nil {
		t.Fatal(err)
	}
	if _, err := w.prod.Accept(ctx(), "shop", "1.2", "", false); err != nil {
		t.Fatal(err)
	}
	w.wantArchives(w.prod, "1.2")
}

// A delta whose base is not here waits for it and stops nothing.
func TestDeltaWithoutBase(t *testing.T) {
	w := newWorld(t)
	var sticks []*bucket.Dir
	for _, v := range []string{"1.0", "1.1"} {
		w.createArchives(w.dev, v)
		w.stick = w.folder()
		w.promote(w.dev, "prod", "shop", v, func(r *transfer.ExportRequest) { r.AssumeDelivered = true })
		sticks = append(sticks, w.stick)
	}
	w.stick = sticks[1]
	r := w.take(w.prod)
	var waiting *transfer.WaitingError
	if len(r.Accepted) != 1 || !errors.As(r.Accepted[0].Err, &waiting) || !strings.Contains(waiting.Reason, "shop 1.0") {
		t.Fatalf("%+v", r)
	}
	w.stick = sticks[0]
	w.take(w.prod, func(r *transfer.ImportRequest) { r.AllowRollback = true })
	w.wantArchives(w.prod, "1.0")
	w.wantArchives(w.prod, "1.1")
}

// A peer whose card says nothing of deltas gets chunks.
func TestDeltaUnknownToPeer(t *testing.T) {
	w := newWorld(t)
	w.createArchives(w.dev, "1.0")
	w.createArchives(w.dev, "1.1")
	old := *w.prod.Card
	old.Delta, old.Encoders = 0, nil
	e, err := manifest.Sign(w.prod.keys.Signing, &old)
	if err != nil {
		t.Fatal(err)
	}
	card, err := e.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.dev.AddPeer(ctx(), transfer.PeerRequest{Card: card, Send: []string{"releases"}, Accept: []string{"results"}}); err != nil {
		t.Fatal(err)
	}
	w.promote(w.dev, "prod", "shop", "1.0")
	sent := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.AssumeDelivered = true })
	if sent.Deltas != 0 || len(sent.Packages) != 0 {
		t.Fatalf("%+v", sent)
	}
	w.take(w.prod)
	w.wantArchives(w.prod, "1.1")
}

// Deltas that lie, from a peer whose keys are good.
func TestForgedDeltas(t *testing.T) {
	for name, forge := range map[string]func(w *world, d *manifest.Bundle, packs []byte){
		"another base": func(w *world, d *manifest.Bundle, _ []byte) {
			d.Deltas[0].Base.SHA256 = manifest.DigestOf([]byte("x"))
		},
		"another package": func(w *world, d *manifest.Bundle, _ []byte) {
			d.Deltas[0].Package = "nothing"
		},
		"exchanged": func(w *world, d *manifest.Bundle, _ []byte) {
			d.Deltas[0].Target, d.Deltas[1].Target = d.Deltas[1].Target, d.Deltas[0].Target
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			w.createArchives(w.dev, "1.0")
			w.promote(w.dev, "prod", "shop", "1.0")
			w.take(w.prod)
			w.back()
			w.createArchives(w.dev, "1.1")
			w.promote(w.dev, "prod", "shop", "1.1")
			label, doc, rest, packs := w.letter()
			if len(doc.Deltas) < 2 {
				t.Fatalf("%+v", doc)
			}
			forge(w, doc, packs)
			w.forge(label, doc, rest, packs)
			r := w.take(w.prod)
			if b := r.Bundles[0]; b.State != transfer.OutcomeRefused || b.Cause != manifest.CauseContent {
				t.Fatalf("%+v", b)
			}
			if _, _, err := w.prod.Release(ctx(), "shop", "1.1"); !errors.Is(err, transfer.ErrNotFound) {
				t.Fatal(err)
			}
			wantSound(t, w.prod)
		})
	}
}
