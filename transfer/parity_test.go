package transfer_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer"
	"davit/transfer/bundle"
)

// A bundle with parity does without volumes that are lost, and with damage in
// every one of them; what is beyond it waits for the rest.
func TestParity(t *testing.T) {
	w := newWorld(t)
	w.create(w.dev, "shop", "1.0", map[string]string{"big": string(random(5, 7_000_000))})
	parity := func(r *transfer.ExportRequest) { r.VolumeSize, r.Parity = 1<<20, 0.2 }
	plan := w.promote(w.dev, "prod", "shop", "1.0", parity, func(r *transfer.ExportRequest) { r.DryRun = true })
	sent := w.promote(w.dev, "prod", "shop", "1.0", parity)
	if plan.Bytes != sent.Bytes || sent.Bytes != stickBytes(t, w) || sent.Spare < 1 || len(sent.Files) < 8 {
		t.Fatalf("%+v, planned %d", sent, plan.Bytes)
	}
	whole := w.stick
	bring := func(change func(volume int, data []byte) []byte) transfer.BundleOutcome {
		t.Helper()
		w.stick = w.folder()
		for i, name := range sent.Files {
			data, err := bucket.Get(ctx(), whole, name, 2<<20)
			if err != nil {
				t.Fatal(err)
			}
			if data = change(i, data); data != nil {
				if err := os.WriteFile(filepath.Join(w.stick.Path(), name), data, 0o644); err != nil {
					t.Fatal(err)
				}
			}
		}
		return w.take(w.prod).Bundles[0]
	}
	// The seal tells whose the payload is, to anybody who knows the sender.
	found, err := bundle.Scan(ctx(), whole)
	if err != nil || len(found.Sets) != 1 {
		t.Fatalf("%+v, %v", found, err)
	}
	statements, err := found.Sets[0].Statements(ctx())
	if err != nil || len(statements) != 1 {
		t.Fatalf("%d statements, %v", len(statements), err)
	}
	e, err := manifest.ParseEnvelope(statements[0])
	if err != nil {
		t.Fatal(err)
	}
	seal, err := manifest.Open[manifest.Seal](e, w.dev.Card.Signing)
	if err != nil || seal.Bundle != sent.Bundle || seal.Serial != 1 || seal.Size != found.Sets[0].Payload {
		t.Fatalf("%+v, %v", seal, err)
	}
	// One volume more is lost than may be.
	b := bring(func(v int, data []byte) []byte {
		if v <= sent.Spare {
			return nil
		}
		return data
	})
	if b.State != transfer.OutcomeIncomplete || len(b.Missing) != sent.Spare+1 || b.Kept == 0 {
		t.Fatalf("%+v", b)
	}
	// As many as may be, and a damaged block in each of the others is too much.
	if err := os.RemoveAll(filepath.Join(w.prod.dir, "work", "incoming")); err != nil {
		t.Fatal(err)
	}
	b = bring(func(v int, data []byte) []byte {
		if v < sent.Spare {
			return nil
		}
		for at := 5000; at < len(data)-80_000; at += 60_000 {
			data[at] ^= 1
		}
		return data
	})
	if b.State != transfer.OutcomeIncomplete || !strings.Contains(b.Reason, "more than parity can replace") || len(b.Repaired) > 0 {
		t.Fatalf("%+v", b)
	}
	// As many as may be.
	b = bring(func(v int, data []byte) []byte {
		if v < sent.Spare {
			return nil
		}
		return data
	})
	if b.State != transfer.OutcomeTaken || len(b.Repaired) != sent.Spare {
		t.Fatalf("%+v", b)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
	wantSound(t, w.prod)
	// Damage in every volume, and none lost.
	w.create(w.dev, "shop", "1.1", map[string]string{"big": string(random(6, 7_000_000))})
	w.stick = w.folder()
	sent = w.promote(w.dev, "prod", "shop", "1.1", parity)
	whole = w.stick
	b = bring(func(v int, data []byte) []byte {
		data[200_000+v*70_000] ^= 1
		return data
	})
	if b.State != transfer.OutcomeTaken || len(b.Repaired) > 0 {
		t.Fatalf("%+v", b)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.1"); err != nil {
		t.Fatal(err)
	}
}
