package transfer_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer"
	"davit/transfer/bundle"
)

// refused imports what is on the stick and wants it refused for that cause.
func (w *world) refused(p *place, cause string) {
	w.t.Helper()
	report := w.take(p)
	if len(report.Bundles) != 1 || report.Bundles[0].State != transfer.OutcomeRefused || report.Bundles[0].Cause != cause || report.Bundles[0].Reason == "" {
		w.t.Fatalf("want refused for %s, have %+v", cause, report.Bundles)
	}
	if all, err := p.Index.Releases(ctx(), ""); err != nil || len(all) != 0 {
		w.t.Fatalf("something came in: %+v, %v", all, err)
	}
	if all, err := p.Index.Received(ctx(), ""); err != nil || len(all) != 0 {
		w.t.Fatalf("it was recorded as received: %+v, %v", all, err)
	}
	// What a peer signed is in the log, once; what anybody could have written
	// is not.
	w.take(p)
	known, err := p.Index.Refused(ctx())
	if err != nil || len(known) > 1 || len(known) == 1 && known[0].Cause != cause {
		w.t.Fatalf("in the log: %+v, %v", known, err)
	}
	if signed := cause == manifest.CauseContent || cause == manifest.CauseGrant; signed && len(known) != 1 {
		w.t.Fatalf("%d refusals are in the log", len(known))
	}
	wantSound(w.t, p)
}

func wantSound(t testing.TB, p *place) {
	t.Helper()
	report, err := p.Check(ctx(), transfer.CheckRequest{ReadData: true})
	if err != nil || len(report.Problems) > 0 {
		t.Fatalf("%s: %+v, %v", p.name, report, err)
	}
}

func TestUnknownSender(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	if err := w.prod.RemovePeer(ctx(), "dev"); err != nil {
		t.Fatal(err)
	}
	w.refused(w.prod, manifest.CauseSignature)
}

func TestNoGrant(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	card, err := w.dev.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.prod.AddPeer(ctx(), transfer.PeerRequest{Card: card, Accept: []string{"results"}}); err != nil {
		t.Fatal(err)
	}
	w.refused(w.prod, manifest.CauseGrant)
	// And none to send.
	var grant *transfer.GrantError
	_, err = w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.0"}}, Medium: w.folder()})
	if !errors.As(err, &grant) {
		t.Fatal(err)
	}
}

// Somebody else's keys under a known name: whoever has only the cards cannot
// make a bundle that is taken.
func TestImpostor(t *testing.T) {
	w := newWorld(t)
	evil := w.place("dev")
	card, err := w.prod.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := evil.AddPeer(ctx(), transfer.PeerRequest{Card: card, Send: []string{"releases"}}); err != nil {
		t.Fatal(err)
	}
	w.create(evil, "shop", "1.0", small)
	w.promote(evil, "prod", "shop", "1.0")
	w.refused(w.prod, manifest.CauseSignature)
	// Nor does its card replace the one known.
	card, err = evil.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	var change *transfer.KeyChangeError
	if _, err := w.prod.AddPeer(ctx(), transfer.PeerRequest{Card: card}); !errors.As(err, &change) || change.Old == change.New {
		t.Fatal(err)
	}
}

// A bundle made with an old card of the recipient, whose keys are gone.
func TestOtherKeys(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	fresh := w.place("prod")
	card, err := w.dev.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fresh.AddPeer(ctx(), transfer.PeerRequest{Card: card, Accept: []string{"releases"}}); err != nil {
		t.Fatal(err)
	}
	w.refused(fresh, manifest.CauseRecipient)
}

func TestForAnotherSite(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	third := w.place("third")
	report := w.take(third)
	if report.Bundles[0].State != transfer.OutcomeElsewhere {
		t.Fatalf("%+v", report)
	}
}

func TestRepeat(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	before, _ := w.prod.Index.Head(ctx())
	for range 2 {
		if r := w.take(w.prod); r.Bundles[0].State != transfer.OutcomeRepeat {
			t.Fatalf("%+v", r)
		}
	}
	if after, _ := w.prod.Index.Head(ctx()); after != before {
		t.Fatal("a repeat changed something")
	}
}

// Two bundles with one serial: dev was restored from a copy.
func TestFork(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.dev.Close()
	w.prod.Close()
	old := w.clone(t)
	for _, p := range []*place{w.dev, w.prod, old.dev} {
		if err := p.open(p.bucket); err != nil {
			t.Fatal(err)
		}
		defer p.Close()
	}
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	w.create(old.dev, "shop", "1.1", small)
	old.promote(old.dev, "prod", "shop", "1.1")
	w.stick = old.stick
	report := w.take(w.prod)
	if b := report.Bundles[0]; b.State != transfer.OutcomeRefused || b.Cause != manifest.CauseFork {
		t.Fatalf("%+v", b)
	}
	// One that goes on from the other history is found out too.
	w.stick = old.folder()
	old.stick = w.stick
	w.create(old.dev, "shop", "1.2", small)
	old.promote(old.dev, "prod", "shop", "1.2")
	report = w.take(w.prod)
	if b := report.Bundles[0]; b.State != transfer.OutcomeRefused || b.Cause != manifest.CauseFork {
		t.Fatalf("%+v", b)
	}
	if all, _ := w.prod.Index.Releases(ctx(), ""); len(all) != 1 {
		t.Fatalf("%+v", all)
	}
}

// Bundles come in the wrong order: gaps are named and never block, and what
// builds on something absent waits for it.
func TestOrder(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"big": string(random(3, 300_000)), "v": "1"}
	var sticks []*bucket.Dir
	for _, v := range []string{"1.0", "1.1", "1.2"} {
		files["v"] = v
		w.create(w.dev, "shop", v, files)
		w.stick = w.folder()
		w.promote(w.dev, "prod", "shop", v, func(r *transfer.ExportRequest) { r.AssumeDelivered = true })
		sticks = append(sticks, w.stick)
	}
	w.stick = sticks[2]
	r := w.take(w.prod)
	b := r.Bundles[0]
	if b.State != transfer.OutcomeTaken || fmt.Sprint(b.Gap) != "[1 2]" || len(b.Missing) == 0 {
		t.Fatalf("%+v", b)
	}
	var waiting *transfer.WaitingError
	if len(r.Accepted) != 1 || !errors.As(r.Accepted[0].Err, &waiting) || !strings.Contains(r.Accepted[0].Reason, "shop 1.1") {
		t.Fatalf("%+v", r.Accepted)
	}
	if _, err := w.prod.Accept(ctx(), "shop", "1.2", "", false); !errors.As(err, &waiting) {
		t.Fatal(err)
	}
	// The first comes: 1.2 completes by itself, and 1.0 goes before it.
	w.stick = sticks[0]
	if r = w.take(w.prod); len(r.Accepted) < 1 {
		t.Fatalf("%+v", r)
	}
	w.stick = sticks[1]
	w.take(w.prod, func(r *transfer.ImportRequest) { r.AllowRollback = true })
	for _, v := range []string{"1.0", "1.1", "1.2"} {
		if _, err := w.prod.VerifyRelease(ctx(), "shop", v); err != nil {
			t.Fatal(err)
		}
	}
}

func TestOlder(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "2.0", small)
	w.create(w.dev, "shop", "1.9", map[string]string{"old": "yes"})
	w.promote(w.dev, "prod", "shop", "2.0")
	w.take(w.prod)
	w.stick = w.folder()
	w.promote(w.dev, "prod", "shop", "1.9")
	r := w.take(w.prod)
	var older *transfer.OlderError
	if len(r.Accepted) != 1 || !errors.As(r.Accepted[0].Err, &older) || older.Held != "2.0" {
		t.Fatalf("%+v", r)
	}
	if _, err := w.prod.Accept(ctx(), "shop", "1.9", "", false); !errors.As(err, &older) {
		t.Fatal(err)
	}
	if d, err := w.prod.Accept(ctx(), "shop", "1.9", "", true); err != nil || d.State != manifest.StateAccepted {
		t.Fatalf("%+v, %v", d, err)
	}
	entries, err := w.prod.Index.Entries(ctx(), 0, 100)
	if err != nil || !bytes.Contains(entries[len(entries)-1].Payload, []byte(`"rollback":true`)) {
		t.Fatal("the rollback is not in the log")
	}
}

func TestConflict(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.create(w.prod, "shop", "1.0", map[string]string{"other": "yes"})
	w.promote(w.dev, "prod", "shop", "1.0")
	r := w.take(w.prod)
	if s := r.Bundles[0].Releases[0]; s.State != manifest.StateConflict {
		t.Fatalf("%+v", r)
	}
	wantSound(t, w.prod)
}

func TestReject(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	if _, err := w.prod.Reject(ctx(), "shop", "1.0", "", "not before the freeze ends"); err != nil {
		t.Fatal(err)
	}
	for info, err := range w.prod.bucket.List(ctx(), "quarantine/") {
		t.Fatalf("left in quarantine: %v, %v", info, err)
	}
	if _, err := w.prod.Accept(ctx(), "shop", "1.0", "", false); !errors.Is(err, transfer.ErrNotFound) {
		t.Fatal(err)
	}
	w.stick = w.folder()
	if _, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick}); err != nil {
		t.Fatal(err)
	}
	w.take(w.dev)
	// Dev knows why, and does not count it as held.
	holds, err := w.dev.Index.Holdings(ctx(), "prod")
	if err != nil || len(holds) != 0 {
		t.Fatalf("%+v, %v", holds, err)
	}
}

// letter reads the documents of the bundle on the stick, as prod would.
func (w *world) letter() (bundle.Label, *manifest.Bundle, []*manifest.Envelope, []byte) {
	w.t.Helper()
	found, err := bundle.Scan(ctx(), w.stick)
	if err != nil || len(found.Sets) != 1 {
		w.t.Fatalf("%+v, %v", found, err)
	}
	p, err := found.Sets[0].Open(ctx())
	if err != nil {
		w.t.Fatal(err)
	}
	defer p.Close()
	payload := make([]byte, p.Size())
	if _, err := p.ReadAt(payload, 0); err != nil && err != io.EOF {
		w.t.Fatal(err)
	}
	keys, err := w.prod.keys.PackKeys()
	if err != nil {
		w.t.Fatal(err)
	}
	at := p.Size() - p.DocumentsSize()
	text, err := pack.Decrypt(payload[at:], keys)
	if err != nil {
		w.t.Fatal(err)
	}
	var all []*manifest.Envelope
	for line := range bytes.Lines(text) {
		e, err := manifest.ParseEnvelope(line[:len(line)-1])
		if err != nil {
			w.t.Fatal(err)
		}
		all = append(all, e)
	}
	doc, err := manifest.Peek[manifest.Bundle](all[0])
	if err != nil {
		w.t.Fatal(err)
	}
	return found.Sets[0].Label, doc, all[1:], payload[:at]
}

// forge writes a bundle that dev really signed, but that davit would not make.
func (w *world) forge(label bundle.Label, doc manifest.Document, rest []*manifest.Envelope, packs []byte) {
	w.t.Helper()
	first, err := manifest.Sign(w.dev.keys.Signing, doc)
	if err != nil {
		w.t.Fatal(err)
	}
	var text []byte
	for _, e := range append([]*manifest.Envelope{first}, rest...) {
		data, err := e.Marshal()
		if err != nil {
			w.t.Fatal(err)
		}
		text = append(append(text, bytes.TrimSpace(data)...), '\n')
	}
	keys, err := manifest.RecipientKeys(w.prod.Card.Recipients)
	if err != nil {
		w.t.Fatal(err)
	}
	sealed, err := pack.Encrypt(text, keys)
	if err != nil {
		w.t.Fatal(err)
	}
	w.stick = w.folder()
	payload := append(bytes.Clone(packs), sealed...)
	bw, err := bundle.NewWriter(ctx(), w.stick, label, int64(len(payload)), int64(len(sealed)), 0)
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := bw.Write(payload); err != nil {
		w.t.Fatal(err)
	}
	if err := errors.Join(bw.Seal(), bw.Publish(ctx())); err != nil {
		w.t.Fatal(err)
	}
}

// What dev's keys sign is not believed where it contradicts itself, its
// surroundings or what is known.
func TestForgedBundles(t *testing.T) {
	for name, c := range map[string]struct {
		cause string
		forge func(w *world, l *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, packs *[]byte)
	}{
		"passed on": {manifest.CauseRecipient, func(_ *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.To = "other"
		}},
		"for old keys": {manifest.CauseRecipient, func(_ *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.ToKey = manifest.DigestOf([]byte("x"))
		}},
		"from old keys": {manifest.CauseSignature, func(_ *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.FromKey = manifest.DigestOf([]byte("x"))
		}},
		"from a stranger": {manifest.CauseSignature, func(_ *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.From = "stranger"
		}},
		"other serial on the label": {manifest.CauseContent, func(_ *world, l *bundle.Label, _ *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			l.Serial = 7
		}},
		"other id on the label": {manifest.CauseContent, func(_ *world, l *bundle.Label, _ *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			l.Bundle = manifest.NewBundleID()
		}},
		"a document less": {manifest.CauseContent, func(_ *world, _ *bundle.Label, _ *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			*rest = nil
		}},
		"a document more": {manifest.CauseContent, func(_ *world, _ *bundle.Label, _ *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			*rest = append(*rest, (*rest)[0])
		}},
		"another document": {manifest.CauseContent, func(w *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.Documents[0].Digest = manifest.DigestOf([]byte("x"))
		}},
		"a pack of another size": {manifest.CauseContent, func(_ *world, _ *bundle.Label, d *manifest.Bundle, _ *[]*manifest.Envelope, _ *[]byte) {
			d.Packs[0].Size++
		}},
		"bytes that belong to nothing": {manifest.CauseContent, func(_ *world, _ *bundle.Label, _ *manifest.Bundle, _ *[]*manifest.Envelope, packs *[]byte) {
			*packs = append(*packs, 0)
		}},
		"a release by a stranger": {manifest.CauseSignature, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			w.resign(d, rest, w.dev.keys.Signing, func(r *manifest.Release) { r.Site = "stranger" })
		}},
		"a release by the recipient": {manifest.CauseSignature, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			w.resign(d, rest, w.dev.keys.Signing, func(r *manifest.Release) { r.Site = "prod" })
		}},
		"a release signed by others": {manifest.CauseSignature, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			key, err := manifest.GenerateSigningKey()
			if err != nil {
				w.t.Fatal(err)
			}
			w.resign(d, rest, key, func(*manifest.Release) {})
		}},
		"a package with another sum": {manifest.CauseContent, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			w.resign(d, rest, w.dev.keys.Signing, func(r *manifest.Release) { r.Packages[1].SHA256 = manifest.DigestOf([]byte("x")) })
		}},
		"a package of another size": {manifest.CauseContent, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			w.resign(d, rest, w.dev.keys.Signing, func(r *manifest.Release) { r.Packages[0].Size++; r.Packages[0].Content.Size++ })
		}},
		"a package with other files": {manifest.CauseContent, func(w *world, _ *bundle.Label, d *manifest.Bundle, rest *[]*manifest.Envelope, _ *[]byte) {
			w.resign(d, rest, w.dev.keys.Signing, func(r *manifest.Release) { r.Packages[0].Files++ })
		}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			blob := filepath.Join(t.TempDir(), "blob")
			if err := os.WriteFile(blob, random(1, 300_000), 0o644); err != nil {
				t.Fatal(err)
			}
			w.create(w.dev, "shop", "1.0", small, func(r *transfer.ReleaseRequest) {
				r.Packages = append(r.Packages, transfer.PackageSource{Source: blob, Name: "blob", Version: "1.0", Path: "blob"})
			})
			w.promote(w.dev, "prod", "shop", "1.0")
			label, doc, rest, packs := w.letter()
			c.forge(w, &label, doc, &rest, &packs)
			w.forge(label, doc, rest, packs)
			w.refused(w.prod, c.cause)
		})
	}
}

// resign replaces the release in a letter by a changed one.
func (w *world) resign(d *manifest.Bundle, rest *[]*manifest.Envelope, key *manifest.SigningKey, change func(*manifest.Release)) {
	w.t.Helper()
	r, err := manifest.Peek[manifest.Release]((*rest)[0])
	if err != nil {
		w.t.Fatal(err)
	}
	change(r)
	e, err := manifest.Sign(key, r)
	if err != nil {
		w.t.Fatal(err)
	}
	(*rest)[0] = e
	d.Documents[0].Digest = e.Digest()
}

// A forged bundle that is forged in nothing is taken: the test above tests
// what it says.
func TestForgeNothing(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	label, doc, rest, packs := w.letter()
	w.forge(label, doc, rest, packs)
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
}

// Listings that lead out of the folder, and others that no davit writes, come
// from a peer whose keys are good. They are refused at import, before anybody
// could materialize them.
func TestHostileListings(t *testing.T) {
	const (
		head  = `{"davit":"tree","version":1}` + "\n"
		empty = `"type":"file","mode":420,"size":0,"sha256":"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"}` + "\n"
	)
	for name, listing := range map[string]string{
		"traversal":      head + `{"path":"../evil",` + empty,
		"absolute":       head + `{"path":"/etc/evil",` + empty,
		"dot dot within": head + `{"path":"a","type":"dir","mode":493}` + "\n" + `{"path":"a/../../evil",` + empty,
		"link out":       head + `{"path":"out","type":"link","target":"../../.."}` + "\n",
		"link absolute":  head + `{"path":"out","type":"link","target":"/etc"}` + "\n",
		"through a link": head + `{"path":"out","type":"link","target":"."}` + "\n" + `{"path":"out/evil",` + empty,
		"device":         head + `{"path":"dev","type":"device","mode":420}` + "\n",
		"setuid":         head + strings.Replace(`{"path":"su",`+empty, "420", "2541", 1),
		"collision":      head + `{"path":"A",` + empty + `{"path":"a",` + empty,
		"order":          head + `{"path":"b",` + empty + `{"path":"a",` + empty,
		"newer":          `{"davit":"tree","version":2}` + "\n",
		"nonsense":       "\x00\x01\x02 no listing at all",
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			var ref chunk.Ref
			if _, err := w.dev.Store.Write(ctx(), func(sw *store.Writer) error {
				st := sw.NewStream()
				if err := st.Add(strings.NewReader(listing), nil); err != nil {
					return err
				}
				var err error
				ref, err = st.Close()
				return err
			}); err != nil {
				t.Fatal(err)
			}
			err := w.dev.ForgeRelease(ctx(), &manifest.Release{Project: "shop", Version: "1.0", Site: "dev", Created: manifest.NewTime(w.now),
				Packages: []manifest.Package{{Name: "app", Version: "1.0", Path: "app", Kind: manifest.PackageTree,
					Files: int64(strings.Count(listing, `"file"`)), SHA256: manifest.DigestOf([]byte(listing)), Tree: &ref}}})
			if err != nil {
				t.Fatal(err)
			}
			w.promote(w.dev, "prod", "shop", "1.0")
			w.refused(w.prod, manifest.CauseContent)
			dir := t.TempDir()
			if _, err := w.dev.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: filepath.Join(dir, "a", "b")}); err == nil {
				t.Error("it could be materialized")
			}
			if _, err := os.Lstat(filepath.Join(dir, "evil")); err == nil {
				t.Error("something was written outside")
			}
		})
	}
}

// Every byte of a small bundle is changed, and it is cut and lengthened; it is
// never taken, and nothing of it stays.
func TestDamagedBundles(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	sent := w.promote(w.dev, "prod", "shop", "1.0")
	name := filepath.Join(w.stick.Path(), sent.Files[0])
	whole, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	try := func(what string, data []byte) {
		t.Helper()
		if err := os.WriteFile(name, data, 0o644); err != nil {
			t.Fatal(err)
		}
		report, err := w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true})
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if len(report.Damaged) == 0 && len(report.Bundles) == 0 {
			t.Fatalf("%s: nothing is said", what)
		}
		for _, b := range report.Bundles {
			if b.State != transfer.OutcomeDamaged && b.State != transfer.OutcomeRefused && b.State != transfer.OutcomeIncomplete {
				t.Fatalf("%s: %+v", what, b)
			}
		}
		if all, err := w.prod.Index.Received(ctx(), ""); err != nil || len(all) > 0 {
			t.Fatalf("%s: %+v, %v", what, all, err)
		}
	}
	step := len(whole)/400 + 1
	for at := 0; at < len(whole); at += step {
		bad := bytes.Clone(whole)
		bad[at] ^= 0x10
		try(fmt.Sprintf("byte %d changed", at), bad)
	}
	for n := 0; n < len(whole); n += len(whole)/40 + 1 {
		try(fmt.Sprintf("cut to %d bytes", n), whole[:n])
	}
	try("a byte more", append(bytes.Clone(whole), 0))
	if err := os.WriteFile(name, whole, 0o644); err != nil {
		t.Fatal(err)
	}
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
	wantSound(t, w.prod)
}

// Volumes are missing, one is there twice and the first copy is bad.
func TestVolumes(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", map[string]string{"big": string(random(1, 3<<20))})
	sent := w.promote(w.dev, "prod", "shop", "1.0", func(r *transfer.ExportRequest) { r.VolumeSize = 1 << 20 })
	if len(sent.Files) != 4 {
		t.Fatalf("%+v", sent)
	}
	dir := w.stick.Path()
	hide := filepath.Join(t.TempDir(), "v2")
	second := filepath.Join(dir, sent.Files[1])
	if err := os.Rename(second, hide); err != nil {
		t.Fatal(err)
	}
	r := w.take(w.prod, func(r *transfer.ImportRequest) { r.DryRun = true })
	if b := r.Bundles[0]; b.State != transfer.OutcomeIncomplete || len(b.Missing) != 1 || b.Missing[0] != sent.Files[1] {
		t.Fatalf("%+v", b)
	}
	// What else is wrong is said at once, so that one courier brings it all.
	fourth := filepath.Join(dir, sent.Files[3])
	last, err := os.ReadFile(fourth)
	if err != nil {
		t.Fatal(err)
	}
	spoilt := bytes.Clone(last)
	spoilt[5000] ^= 1
	if err := os.WriteFile(fourth, spoilt, 0o644); err != nil {
		t.Fatal(err)
	}
	r = w.take(w.prod)
	if b := r.Bundles[0]; b.State != transfer.OutcomeIncomplete || len(b.Missing) != 2 || b.Missing[1] != sent.Files[3] {
		t.Fatalf("%+v", b)
	}
	if err := os.WriteFile(fourth, last, 0o644); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(hide)
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(data)
	bad[len(bad)/2] ^= 1
	if err := errors.Join(os.WriteFile(second, bad, 0o644)); err != nil {
		t.Fatal(err)
	}
	r = w.take(w.prod)
	if b := r.Bundles[0]; b.State != transfer.OutcomeDamaged || !strings.Contains(b.Reason, sent.Files[1]) {
		t.Fatalf("%+v", b)
	}
	if err := os.MkdirAll(filepath.Join(dir, "zcopy"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "zcopy", sent.Files[1]), data, 0o644); err != nil {
		t.Fatal(err)
	}
	if r = w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
}

// What cannot be a package is said before anything is read.
func TestSourcesRefused(t *testing.T) {
	w := newWorld(t)
	mkdir := func(t *testing.T) string { return filepath.Join(t.TempDir()) }
	for name, prepare := range map[string]func(dir string) error{
		"pipe":          func(dir string) error { return mkfifo(filepath.Join(dir, "pipe")) },
		"link out":      func(dir string) error { return os.Symlink("../../etc", filepath.Join(dir, "out")) },
		"link absolute": func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "out")) },
		"case collision": func(dir string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "A"), nil, 0o644), os.WriteFile(filepath.Join(dir, "a"), nil, 0o644))
		},
		"control": func(dir string) error { return os.WriteFile(filepath.Join(dir, "a\nb"), nil, 0o644) },
	} {
		t.Run(name, func(t *testing.T) {
			dir := mkdir(t)
			if err := prepare(dir); err != nil {
				t.Skip(err)
			}
			_, err := w.dev.CreateRelease(ctx(), transfer.ReleaseRequest{Project: "bad", Version: "1",
				Packages: []transfer.PackageSource{{Source: dir, Name: "app", Version: "1", Path: "app"}}})
			var source *transfer.SourceError
			if !errors.As(err, &source) || !strings.HasPrefix(source.Path, dir) {
				t.Fatal(err)
			}
		})
	}
	if all, _ := w.dev.Index.Releases(ctx(), ""); len(all) != 0 {
		t.Fatalf("%+v", all)
	}
	wantSound(t, w.dev)
}

// A release of the same name is the same release or a conflict.
func TestReleaseAgain(t *testing.T) {
	w := newWorld(t)
	first := w.create(w.dev, "shop", "1.0", small)
	again := w.create(w.dev, "shop", "1.0", small)
	if !again.Existed || again.Digest != first.Digest {
		t.Fatalf("%+v", again)
	}
	_, err := w.dev.CreateRelease(ctx(), transfer.ReleaseRequest{Project: "shop", Version: "1.0",
		Packages: []transfer.PackageSource{{Source: tree(t, map[string]string{"x": "y"}), Name: "app", Version: "1.0", Path: "app"}}})
	var conflict *transfer.ConflictError
	if !errors.As(err, &conflict) || !strings.Contains(err.Error(), "other content") {
		t.Fatal(err)
	}
}

// The clock goes back by years: order and validity do not depend on it.
func TestClockSetBack(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.now = w.now.AddDate(-20, 0, 0)
	w.take(w.prod)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
	w.create(w.dev, "shop", "1.1", map[string]string{"a.txt": "new"})
	w.stick = w.folder()
	w.promote(w.dev, "prod", "shop", "1.1")
	w.take(w.prod)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
		t.Fatal(err)
	}
	for _, p := range []*place{w.dev, w.prod} {
		if _, err := p.AuditVerify(ctx()); err != nil {
			t.Fatal(err)
		}
	}
}

// Two processes act on one site at once: every act takes place, once.
func TestTwoProcesses(t *testing.T) {
	w := newWorld(t)
	other := &place{w: w, name: "dev", keys: w.dev.keys, dir: w.dev.dir}
	dir, err := bucket.OpenDir(filepath.Join(w.dev.dir, "store"))
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	other.bucket = dir
	if err := other.open(dir); err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	const each = 8
	errs := make(chan error)
	for i, p := range []*place{w.dev, other} {
		go func() {
			var err error
			for n := range each {
				name := fmt.Sprintf("V%d_%d", i, n)
				if e := p.SetValue(ctx(), "shop", "", name, "x", false); e != nil {
					err = errors.Join(err, e)
				}
			}
			errs <- err
		}()
	}
	if err := errors.Join(<-errs, <-errs); err != nil {
		t.Fatal(err)
	}
	values, err := w.dev.Index.Values(ctx(), "shop")
	if err != nil || len(values) != 2*each {
		t.Fatalf("%d values, %v", len(values), err)
	}
	wantSound(t, w.dev)
	// Collecting garbage must be alone.
	if _, err := other.Collect(ctx(), false); !errors.Is(err, transfer.ErrBusy) {
		t.Fatal(err)
	}
}

// A cancelled verb leaves nothing that stands in the way of the next.
func TestCancelled(t *testing.T) {
	w := newWorld(t)
	stop, cancel := context.WithCancel(ctx())
	source := tree(t, appFiles("1.0"))
	req := transfer.ReleaseRequest{Project: "shop", Version: "1.0", Packages: []transfer.PackageSource{{Source: source, Name: "app", Version: "1.0", Path: "app"}}}
	req.Progress = func(done, _ int64) {
		if done > 500_000 {
			cancel()
		}
	}
	if _, err := w.dev.CreateRelease(stop, req); !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	req.Progress = nil
	if _, err := w.dev.CreateRelease(ctx(), req); err != nil {
		t.Fatal(err)
	}
	stop, cancel = context.WithCancel(ctx())
	ex := transfer.ExportRequest{Peer: "prod", Releases: []transfer.ReleaseName{{Project: "shop", Version: "1.0"}}, Medium: w.stick, Progress: func(int64, int64) { cancel() }}
	w.dev.Export(stop, ex)
	ex.Progress = nil
	if sent, err := w.dev.Export(ctx(), ex); err != nil || sent.Bundle.IsZero() {
		t.Fatalf("%+v, %v", sent, err)
	}
	w.take(w.prod)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
}
