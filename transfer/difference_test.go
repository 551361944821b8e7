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
	"davit/manifest/index"
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
	if len(r.Accepted) != 1 || !errors.As(r.Accepted[0].Err, &waiting) || !strings.Contains(waiting.Reason, "shop 1.0 (bundle 1)") {
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
		"a folder": func(w *world, d *manifest.Bundle, _ []byte) {
			d.Deltas[0].Kind = manifest.PackageTree
		},
		"an attachment": func(w *world, d *manifest.Bundle, _ []byte) {
			d.Deltas[0].Package, d.Deltas[0].Attachment = "", d.Deltas[0].Package
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

// A changed line in a folder, and a changed attachment, cost next to nothing.
func TestTreeDeltas(t *testing.T) {
	w := newWorld(t)
	appFiles := func(version string) map[string]string {
		files := appFiles(version)
		for i := range 200 {
			files[fmt.Sprintf("doc/%03d.txt", i)] = fmt.Sprint("page ", i)
		}
		return files
	}
	sbom := func(version string) func(*transfer.ReleaseRequest) {
		file := filepath.Join(t.TempDir(), "sbom.json")
		text := "version " + version + string(random(3, 200_000))
		if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return func(r *transfer.ReleaseRequest) {
			r.Attachments = append(r.Attachments, transfer.AttachmentSource{Source: file, Name: "sbom.json", Type: "sbom"})
		}
	}
	w.create(w.dev, "shop", "1.0", appFiles("1.0"), sbom("1.0"))
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.back()
	w.create(w.dev, "shop", "1.1", appFiles("1.1"), sbom("1.1"))
	plain := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.DryRun, r.NoDelta = true, true })
	plan := w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.DryRun = true })
	sent := w.promote(w.dev, "prod", "shop", "1.1")
	if plan.Bytes != sent.Bytes || sent.Bytes != stickBytes(t, w) {
		t.Fatalf("planned %d, wrote %d", plan.Bytes, sent.Bytes)
	}
	if sent.Deltas != 2 || sent.SentChunks != 0 || sent.Bytes > plain.Bytes-50_000 || sent.Saved < 20_000 || len(sent.Base) != 1 || sent.Base[0].Serial != 1 {
		t.Fatalf("with deltas %d bytes, without %d: %+v", sent.Bytes, plain.Bytes, sent)
	}
	for _, p := range sent.Packages {
		if p.Base != "shop 1.0" || p.Bytes > 3000 || p.Form == transfer.FormChunks {
			t.Errorf("%+v", p)
		}
	}
	shipments, err := w.dev.Index.Shipments(ctx(), index.ShipmentFilter{Peer: "prod"})
	if err != nil || len(shipments) != 2 || shipments[1].Saved != sent.Saved || shipments[0].Saved != 0 {
		t.Fatalf("%+v, %v", shipments, err)
	}
	// A second peer that holds the same costs no second search; the same delta is
	// sealed for it.
	kept, err := os.ReadDir(filepath.Join(w.dev.dir, "work", "deltas"))
	if err != nil || len(kept) != 2 {
		t.Fatalf("%v, %v", kept, err)
	}
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
	received, err := w.prod.Index.Received(ctx(), "dev")
	if err != nil || len(received) != 2 || received[1].Saved != sent.Saved {
		t.Fatalf("%+v, %v", received, err)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := w.prod.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.1", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, filepath.Join(dir, "app"), appFiles("1.1"))
	wantSound(t, w.prod)
}

// Every third bundle of a project builds on nothing, whatever is known.
func TestFullEvery(t *testing.T) {
	w := newWorld(t)
	var full []bool
	for i := range 7 {
		v := fmt.Sprintf("1.%d", i)
		w.create(w.dev, "shop", v, appFiles(v))
		r := w.promote(w.dev, "prod", "shop", v, func(r *transfer.ExportRequest) { r.AssumeDelivered, r.FullEvery = true, 3 })
		full = append(full, len(r.Base) == 0)
		if r.Full != (i == 3 || i == 6) {
			t.Errorf("%d: full is %v", i, r.Full)
		}
	}
	if fmt.Sprint(full) != "[true false false true false false true]" {
		t.Fatal(full)
	}
}

// A package that was given quite another name is found by what is in it.
func TestRenamedPackage(t *testing.T) {
	w := newWorld(t)
	create := func(v string, names map[string]string) {
		all := archives(t, v)
		dir := t.TempDir()
		w.create(w.dev, "shop", v, small, func(r *transfer.ReleaseRequest) {
			for name, of := range names {
				data := all[strings.Replace(of, "V", v, 1)]
				file := filepath.Join(dir, name)
				if err := os.WriteFile(file, data, 0o644); err != nil {
					t.Fatal(err)
				}
				r.Packages = append(r.Packages, transfer.PackageSource{Source: file, Name: name, Version: v, Path: name})
			}
		})
	}
	create("1.0", map[string]string{"server.log.gz": "app-V.log.gz", "classes.zip": "lib.zip", "helper": "tool"})
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.back()
	create("1.1", map[string]string{"backend.gz": "app-V.log.gz", "archive": "lib.zip", "program": "tool"})
	sent := w.promote(w.dev, "prod", "shop", "1.1")
	if sent.Deltas != 3 {
		t.Fatalf("%+v", sent.Packages)
	}
	w.take(w.prod)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
		t.Fatal(err)
	}
}
