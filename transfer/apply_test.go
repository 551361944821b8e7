package transfer_test

import (
	"testing"

	"davit/manifest"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer"
)

// A release whose chunk list contradicts itself is refused and in the log, with
// a delta or without.
func TestContradictingListBesideADelta(t *testing.T) {
	for _, withDelta := range []bool{false, true} {
		w := newWorld(t)
		w.ready(func(v byte) map[string][]byte { return map[string][]byte{"disk": image(v, 300_000)} })
		w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.Full = true })
		label, doc, rest, packs := w.letter()
		r, err := manifest.Peek[manifest.Release](rest[0])
		if err != nil {
			t.Fatal(err)
		}
		old, ref, err := w.dev.Release(ctx(), "shop", "1.0")
		if err != nil {
			t.Fatal(err)
		}
		i := len(r.Packages) - 1
		p := &r.Packages[i]
		p.Size++
		p.Content.Size++
		e, err := manifest.Sign(w.dev.keys.Signing, r)
		if err != nil {
			t.Fatal(err)
		}
		rest[0], doc.Documents[0].Digest = e, e.Digest()
		if withDelta {
			b := old.Packages[len(old.Packages)-1]
			keys, _ := manifest.RecipientKeys(w.prod.Card.Recipients)
			d, err := pack.Encrypt([]byte("nothing"), keys)
			if err != nil {
				t.Fatal(err)
			}
			doc.Base = []manifest.BundleBase{{Project: "shop", Version: "1.0", Release: ref}}
			doc.Deltas = []manifest.BundleDelta{{Name: manifest.DigestOf(d), Size: int64(len(d)), Kind: p.Kind, Form: "raw",
				Target: manifest.BundleFile{SHA256: p.SHA256, Size: p.Size}, Base: manifest.BundleFile{SHA256: b.SHA256, Size: b.Size}, Release: ref, Package: b.Name}}
			packs = append(packs, d...)
		}
		w.forge(label, doc, rest, packs)
		report := w.take(w.prod)
		refused, err := w.prod.Index.Refused(ctx())
		t.Logf("with a delta %v: %s, %s; %d refusals in the log, %v", withDelta, report.Bundles[0].State, report.Bundles[0].Reason, len(refused), err)
		if report.Bundles[0].State != transfer.OutcomeRefused || len(refused) != 1 {
			t.Errorf("with a delta %v: not refused", withDelta)
		}
	}
}

// What a bad peer sends does not keep others' releases from being accepted.
func TestBadPeerStopsNoOther(t *testing.T) {
	w := newWorld(t)
	other := w.place("other")
	w.meet(other, w.prod)
	list := chunk.AppendEntry(chunk.AppendListHeader(nil), chunk.Entry{Name: chunk.Name{9}, Length: 5})
	w.createFiles(w.dev, "lib", "0.0.1", map[string][]byte{"list": list})
	w.promote(w.dev, "prod", "lib", "0.0.1")
	lib := w.stick
	w.stick = w.folder()
	w.create(w.dev, "evil", "0.0.2", small)
	w.promote(w.dev, "prod", "evil", "0.0.2")
	label, doc, rest, _ := w.letter()
	r, err := manifest.Peek[manifest.Release](rest[0])
	if err != nil {
		t.Fatal(err)
	}
	sum := manifest.DigestOf([]byte("anything"))
	r.Packages = []manifest.Package{{Name: "p", Version: "1", Path: "p", Kind: manifest.PackageFile, Mode: 0o644, Size: 10, Files: 1, SHA256: sum,
		Content: chunk.Ref{Root: chunk.NameOf(list), Depth: 1, Size: 10}}}
	e, err := manifest.Sign(w.dev.keys.Signing, r)
	if err != nil {
		t.Fatal(err)
	}
	keys, _ := manifest.RecipientKeys(w.prod.Card.Recipients)
	d, err := pack.Encrypt([]byte("nothing"), keys)
	if err != nil {
		t.Fatal(err)
	}
	nowhere := manifest.DigestOf([]byte("no such release"))
	rest[0], doc.Documents[0].Digest, doc.Packs = e, e.Digest(), nil
	doc.Base = []manifest.BundleBase{{Project: "evil", Version: "0.0.1", Release: nowhere}}
	doc.Deltas = []manifest.BundleDelta{{Name: manifest.DigestOf(d), Size: int64(len(d)), Kind: manifest.PackageFile, Form: "raw",
		Target: manifest.BundleFile{SHA256: sum, Size: 10}, Base: manifest.BundleFile{SHA256: sum, Size: 9}, Release: nowhere, Package: "p"}}
	w.forge(label, doc, rest, d)
	first := w.take(w.prod)
	t.Logf("evil: %s; %+v", first.Bundles[0].State, first.Accepted)
	w.stick = lib
	_, err = w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true})
	t.Log("lib: ", err)
	// Now another peer, who is good.
	for _, v := range []string{"1.0", "1.1"} {
		w.create(other, "good", v, appFiles(v))
		w.stick = w.folder()
		w.promote(other, "prod", "good", v)
		_, err = w.prod.Import(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick", Accept: true})
		t.Logf("good %s: %v", v, err)
		if _, _, err := w.prod.Release(ctx(), "good", v); err != nil {
			t.Errorf("the good peer's release did not come in: %v", err)
		}
	}
}
