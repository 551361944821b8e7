package transfer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
	"davit/transfer"
	"davit/transfer/bundle"
)

// third is a further peer of prod that sends releases.
func (w *world) third(name string) *place {
	w.t.Helper()
	p := w.place(name)
	w.meet(p, w.prod)
	return p
}

// A peer that copies another's bundle id, packs and all, gets at nothing of it.
func TestQuarantineIsNotShared(t *testing.T) {
	w := newWorld(t)
	mallory := w.third("mallory")
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	label, doc, rest, packs := w.letter()
	doc.From, doc.FromKey = "mallory", mallory.Card.KeyDigest()
	label.From = "mallory"
	w.dev.keys, mallory.keys = mallory.keys, w.dev.keys // mallory signs
	w.forge(label, doc, rest, packs)
	w.dev.keys, mallory.keys = mallory.keys, w.dev.keys
	w.take(w.prod)
	if _, err := w.prod.Reject(ctx(), "shop", "1.0", "mallory", "no"); err != nil && !errors.Is(err, transfer.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := w.prod.Accept(ctx(), "shop", "1.0", "dev", false); err != nil && !errors.Is(err, transfer.ErrNotFound) {
		t.Fatal(err)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
}

// Receipts need no grant, so packs must not come along with them.
func TestPacksNeedAGrant(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	label, doc, _, packs := w.letter()
	receipt, err := manifest.Sign(w.dev.keys.Signing, &manifest.Receipt{Version: 1, Site: "dev", Peer: "prod", Bundle: manifest.NewBundleID(),
		Serial: 1, Digest: manifest.DigestOf([]byte("x")), Revision: 1, Created: manifest.NewTime(w.now), State: manifest.ReceiptWhole})
	if err != nil {
		t.Fatal(err)
	}
	doc.Kind, label.Kind = manifest.KindResults, manifest.KindResults
	doc.Documents = []manifest.BundleDocument{{Kind: manifest.DocumentReceipt, Digest: receipt.Digest()}}
	w.forge(label, doc, []*manifest.Envelope{receipt}, packs)
	w.refused(w.prod, manifest.CauseContent)
	for info := range w.prod.bucket.List(ctx(), "quarantine/") {
		t.Fatalf("in quarantine: %s", info.Name)
	}
}

// Two peers send a release of one name: whose is meant must be said.
func TestAcceptWhose(t *testing.T) {
	w := newWorld(t)
	mallory := w.third("mallory")
	w.create(w.dev, "shop", "1.0", small)
	w.create(mallory, "shop", "1.0", map[string]string{"evil": "yes"})
	w.promote(w.dev, "prod", "shop", "1.0")
	w.promote(mallory, "prod", "shop", "1.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	var ambiguous *transfer.AmbiguousError
	if _, err := w.prod.Accept(ctx(), "shop", "1.0", "", false); !errors.As(err, &ambiguous) || len(ambiguous.Peers) != 2 {
		t.Fatal(err)
	}
	if d, err := w.prod.Accept(ctx(), "shop", "1.0", "dev", false); err != nil || d.Peer != "dev" {
		t.Fatalf("%+v, %v", d, err)
	}
}

// A grant that was withdrawn while a release waited is withdrawn.
func TestAcceptLooksAgain(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	// Another stick does not decide on what lies in the inbox.
	w.stick = w.folder()
	if r := w.take(w.prod); len(r.Accepted) != 0 {
		t.Fatalf("%+v", r)
	}
	if err := w.prod.RemovePeer(ctx(), "dev"); err != nil {
		t.Fatal(err)
	}
	var refused *transfer.RefusedError
	if _, err := w.prod.Accept(ctx(), "shop", "1.0", "", false); !errors.As(err, &refused) {
		t.Fatal(err)
	}
}

// An undecided release cannot make a secret public.
func TestSecretStaysSecret(t *testing.T) {
	w := newWorld(t)
	declare := func(sensitive bool) func(*transfer.ReleaseRequest) {
		return func(r *transfer.ReleaseRequest) {
			r.Parameters = []manifest.Parameter{{Name: "PASSWORD", Type: "string", Sensitive: sensitive}}
		}
	}
	w.create(w.prod, "shop", "1.0", small, declare(true))
	w.create(w.dev, "shop", "2.0", small, declare(false))
	w.promote(w.dev, "prod", "shop", "2.0")
	w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	if sensitive, err := w.prod.IsSensitive(ctx(), "shop", "PASSWORD"); err != nil || !sensitive {
		t.Fatal(sensitive, err)
	}
	if err := w.prod.SetValue(ctx(), "shop", "", "PASSWORD", "hunter2", false); err != nil {
		t.Fatal(err)
	}
	values, err := w.prod.Index.Values(ctx(), "shop")
	if err != nil || len(values) != 1 || values[0].Value != "" || values[0].Sealed == "" {
		t.Fatalf("%+v, %v", values, err)
	}
}

// A few lists that name each other would take years to walk.
func TestListBomb(t *testing.T) {
	w := newWorld(t)
	var root chunk.Name
	if _, err := w.dev.Store.Write(ctx(), func(sw *store.Writer) error {
		level := bytes.Repeat([]byte("x"), 16<<10)
		for range 4 {
			var list []byte
			e := chunk.Entry{Name: chunk.NameOf(level), Length: uint32(len(level))}
			list = chunk.AppendListHeader(list)
			for len(list) < 15_000 {
				list = chunk.AppendEntry(list, e)
			}
			for _, data := range [][]byte{level, list} {
				st := sw.NewStream()
				if err := st.Add(bytes.NewReader(data), nil); err != nil {
					return err
				}
				if _, err := st.Close(); err != nil {
					return err
				}
			}
			level = list
		}
		root = chunk.NameOf(level)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	ref := chunk.Ref{Size: manifest.MaxSize, Depth: 4, Root: root}
	if err := w.dev.Store.Complete(ctx(), ref); !errors.Is(err, store.ErrList) {
		t.Fatal(err)
	}
}

// A release that says it is of another length than it is does not get in.
func TestWrongLength(t *testing.T) {
	w := newWorld(t)
	const listing = `{"davit":"tree","version":1}` + "\n" + `{"path":"a","type":"file","mode":420,"size":7,"sha256":"b94d27b9934d3e08a52e52d7da7dabfac484efe37a5380ee9088f7ace2efcde9"}` + "\n"
	var tree, content chunk.Ref
	if _, err := w.dev.Store.Write(ctx(), func(sw *store.Writer) error {
		for text, ref := range map[string]*chunk.Ref{listing: &tree, "hello world": &content} {
			st := sw.NewStream()
			if err := st.Add(strings.NewReader(text), nil); err != nil {
				return err
			}
			var err error
			if *ref, err = st.Close(); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	content.Size = 7 // it is 11
	if err := w.dev.ForgeRelease(ctx(), &manifest.Release{Project: "shop", Version: "1.0", Site: "dev", Created: manifest.NewTime(w.now),
		Packages: []manifest.Package{{Name: "app", Version: "1.0", Path: "app", Kind: manifest.PackageTree, Files: 1, Size: 7,
			SHA256: manifest.DigestOf([]byte(listing)), Tree: &tree, Content: content}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.dev.VerifyRelease(ctx(), "shop", "1.0"); !errors.Is(err, store.ErrList) {
		t.Fatal(err)
	}
}

// A site that lost its keys begins anew, and that is no fork.
func TestPeerBeginsAnew(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	anew := w.place("dev")
	card, err := anew.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.prod.AddPeer(ctx(), transfer.PeerRequest{Card: card, Accept: []string{"releases"}, Replace: true}); err != nil {
		t.Fatal(err)
	}
	card, err = w.prod.CardEnvelope(ctx())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := anew.AddPeer(ctx(), transfer.PeerRequest{Card: card, Send: []string{"releases"}}); err != nil {
		t.Fatal(err)
	}
	w.stick = w.folder()
	w.create(anew, "shop", "1.1", map[string]string{"new": "keys"})
	w.promote(anew, "prod", "shop", "1.1")
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
}

// Junk that carries the id of a genuine bundle does not hide it.
func TestJunkHidesNothing(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", small)
	sent := w.promote(w.dev, "prod", "shop", "1.0")
	label := bundle.Label{Bundle: sent.Bundle, From: "aaa", To: "prod", Serial: 1, Kind: "releases", Created: manifest.NewTime(w.now)}
	bw, err := bundle.NewWriter(ctx(), w.stick, label, 100, 100, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := bw.Write(bytes.Repeat([]byte("junk"), 25)); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(bw.Seal(), bw.Publish(ctx())); err != nil {
		t.Fatal(err)
	}
	if r := w.take(w.prod); len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
}

// Garbage collection knows what another process recorded a moment ago.
func TestCollectCatchesUp(t *testing.T) {
	w := newWorld(t)
	slow := &place{w: w, name: "dev", keys: w.dev.keys, dir: t.TempDir(), bucket: w.dev.bucket}
	if _, err := transfer.RepairIndex(ctx(), slow.options(), nil); err != nil { // an index of its own
		t.Fatal(err)
	}
	if err := slow.open(slow.bucket); err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	w.create(w.dev, "shop", "1.0", small)
	if _, err := slow.Collect(ctx(), false); err != nil {
		// Its index lacks the pack, which it says; it must not remove it.
		t.Log(err)
	}
	if _, err := w.dev.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
}

// What was damaged or lost here comes back with the same release.
func TestHeal(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"big": string(random(4, 300_000))}
	w.create(w.dev, "shop", "1.0", files)
	w.promote(w.dev, "prod", "shop", "1.0")
	w.take(w.prod)
	flipped := 0
	if err := filepath.WalkDir(filepath.Join(w.prod.dir, "store", "packs"), func(p string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(p)
		if err != nil {
			return err
		}
		data[len(data)/2] ^= 1
		flipped++
		return os.WriteFile(p, data, 0o644)
	}); err != nil || flipped == 0 {
		t.Fatal(flipped, err)
	}
	report, err := w.prod.Check(ctx(), transfer.CheckRequest{ReadData: true})
	if err != nil || len(report.Problems) == 0 {
		t.Fatalf("%+v, %v", report, err)
	}
	report, err = w.prod.RepairPacks(ctx(), nil)
	if err != nil || len(report.Aside) != flipped || len(report.Problems) != 1 {
		t.Fatalf("%+v, %v", report, err)
	}
	w.stick = w.folder()
	w.promote(w.dev, "prod", "shop", "1.0", func(r *transfer.ExportRequest) { r.Full = true })
	w.take(w.prod)
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
	wantSound(t, w.prod)
}
