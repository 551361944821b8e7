package transfer_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"davit/manifest"
	"davit/manifest/index"
	"davit/store/bucket"
	"davit/transfer"
)

// The whole way of two releases, and of the results back.
func TestLifeOfARelease(t *testing.T) {
	w := newWorld(t)
	run := process(shell("say", `cat app/VERSION; echo "url $URL"`), shell("check", `test -f app/lib/big.bin`))
	url := func(r *transfer.ReleaseRequest) {
		r.Parameters = []manifest.Parameter{{Name: "URL", Type: "string", Required: true, Sensitive: true}}
	}
	first := w.create(w.dev, "shop", "1.0", appFiles("1.0"), run, url)
	if first.Files != 34 || first.NewBytes < 700_000 {
		t.Fatalf("%+v", first)
	}

	// The dry run knows the bytes that the real one writes.
	plan := w.promote(w.dev, "prod", "shop", "1.0", func(r *transfer.ExportRequest) { r.DryRun = true })
	sent := w.promote(w.dev, "prod", "shop", "1.0")
	if plan.Bytes != sent.Bytes || len(plan.Files) != 1 || plan.Files[0] != sent.Files[0] {
		t.Fatalf("planned %+v, wrote %+v", plan, sent)
	}
	if got := stickBytes(t, w); got != sent.Bytes {
		t.Fatalf("%d bytes on the stick, %d reported", got, sent.Bytes)
	}

	// Prod looks before it takes.
	seen := w.take(w.prod, func(r *transfer.ImportRequest) { r.DryRun, r.Accept = true, false })
	if len(seen.Bundles) != 1 || seen.Bundles[0].State != transfer.OutcomeTaken || len(seen.Bundles[0].Releases) != 1 {
		t.Fatalf("%+v", seen)
	}
	if received, _ := w.prod.Index.Received(ctx(), ""); len(received) != 0 {
		t.Fatal("a dry run took the bundle in")
	}
	took := w.take(w.prod, func(r *transfer.ImportRequest) { r.Accept = false })
	if s := took.Bundles[0]; s.State != transfer.OutcomeTaken || s.Releases[0].State != manifest.StateWaiting {
		t.Fatalf("%+v", s)
	}
	if _, _, err := w.prod.Release(ctx(), "shop", "1.0"); !errors.Is(err, transfer.ErrNotFound) {
		t.Fatalf("visible before it was accepted: %v", err)
	}
	if d, err := w.prod.Accept(ctx(), "shop", "1.0", "", false); err != nil || d.State != manifest.StateAccepted {
		t.Fatalf("%+v, %v", d, err)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "out")
	if _, err := w.prod.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.0", Dir: dir}); err != nil {
		t.Fatal(err)
	}
	wantFiles(t, filepath.Join(dir, "app"), appFiles("1.0"))

	// Deploy: first without the value, then with it.
	_, err := w.prod.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production"})
	var missing *transfer.MissingValuesError
	if !errors.As(err, &missing) || len(missing.Names) != 1 || missing.Names[0] != "URL" {
		t.Fatal(err)
	}
	const secret = "postgres://u:hunter22@db"
	if err := w.prod.SetValue(ctx(), "shop", "production", "URL", secret, false); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	run1, err := w.prod.Deploy(ctx(), transfer.DeployRequest{Project: "shop", Version: "1.0", Environment: "production", Output: &out})
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if !strings.Contains(out.String(), "url ***\n") || strings.Contains(out.String(), "hunter22") || !strings.Contains(out.String(), "1.0\n") {
		t.Fatal(out.String())
	}
	if run1.Result.Status != manifest.StatusSucceeded || len(run1.Result.Steps) != 2 {
		t.Fatalf("%+v", run1.Result)
	}

	// The result and the receipt go back.
	w.stick = w.folder()
	back, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick, MediumName: "the stick"})
	if err != nil || back.Receipts != 1 || back.Results != 1 || back.Kind != manifest.KindResults {
		t.Fatalf("%+v, %v", back, err)
	}
	settled, err := w.dev.Settle(ctx(), transfer.ImportRequest{Medium: w.stick, MediumName: "the stick"})
	if err != nil || len(settled.Bundles) != 1 || settled.Bundles[0].State != transfer.OutcomeTaken {
		t.Fatalf("%+v, %v", settled, err)
	}
	status, err := w.dev.Status(ctx())
	if err != nil {
		t.Fatal(err)
	}
	cell := status.Projects[0].Deployed["prod/production"]
	if cell.Status != manifest.StatusSucceeded || cell.Version != "1.0" || cell.Actor != "tester@prod" {
		t.Fatalf("%+v", status.Projects)
	}
	if len(status.Shipments) != 1 || status.Shipments[0].State != "acknowledged" {
		t.Fatalf("%+v", status.Shipments)
	}
	log, _, err := w.dev.Log(ctx(), run1.Result.ID)
	if err != nil {
		t.Fatal(err)
	}
	if text := readAll(t, log); text != out.String() {
		t.Fatalf("the log at dev is\n%s\nand was\n%s", text, out.String())
	}

	// Of the second release only the difference travels, and it builds on the
	// first.
	w.stick = w.folder()
	w.create(w.dev, "shop", "1.1", appFiles("1.1"), run, url)
	second := w.promote(w.dev, "prod", "shop", "1.1")
	if second.Bytes > sent.Bytes/10 || len(second.Base) != 1 || second.Base[0].Version != "1.0" {
		t.Fatalf("first %d bytes, second %d, on %+v", sent.Bytes, second.Bytes, second.Base)
	}
	if second.Receipts != 1 { // for the results
		t.Fatalf("%+v", second)
	}
	took = w.take(w.prod)
	if len(took.Accepted) != 1 || took.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", took)
	}
	report, err := w.prod.Materialize(ctx(), transfer.MaterializeRequest{Project: "shop", Version: "1.1", Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	if report.Written != 2 || report.Kept != 32 {
		t.Fatalf("%+v", report)
	}
	wantFiles(t, filepath.Join(dir, "app"), appFiles("1.1"))
	if sh, _ := w.prod.Index.Shipments(ctx(), index.ShipmentFilter{}); len(sh) != 1 || sh[0].State != "acknowledged" {
		t.Fatalf("%+v", sh)
	}
	// What prod holds now is not sent again.
	w.stick = w.folder()
	if _, err := w.prod.Export(ctx(), transfer.ExportRequest{Peer: "dev", Results: true, Medium: w.stick, MediumName: "the stick"}); err != nil {
		t.Fatal(err)
	}
	w.take(w.dev)
	if r := w.promote(w.dev, "prod", "shop", "1.1"); r.Nothing == "" {
		t.Fatalf("sent again: %+v", r)
	}
	for _, p := range []*place{w.dev, w.prod} {
		check, err := p.Check(ctx(), transfer.CheckRequest{ReadData: true})
		if err != nil || len(check.Problems) > 0 || len(check.Adopted) > 0 {
			t.Fatalf("%s: %+v, %v", p.name, check, err)
		}
	}
}

func stickBytes(t *testing.T, w *world) int64 {
	t.Helper()
	var n int64
	for info, err := range w.stick.List(ctx(), "") {
		if err != nil {
			t.Fatal(err)
		}
		n += info.Size
	}
	return n
}

// Volumes come on one stick after another, in no order, some of them damaged.
func TestVolumesOnSeveralSticks(t *testing.T) {
	w := newWorld(t)
	files := map[string]string{"big": string(random(5, 4_500_000))}
	w.create(w.dev, "shop", "1.0", files)
	sent := w.promote(w.dev, "prod", "shop", "1.0", func(r *transfer.ExportRequest) { r.VolumeSize = 1 << 20 })
	if len(sent.Files) < 5 {
		t.Fatal(sent.Files)
	}
	whole := w.stick
	bring := func(damage bool, volumes ...int) *transfer.ImportReport {
		t.Helper()
		w.stick = w.folder()
		for _, v := range volumes {
			data, err := bucket.Get(ctx(), whole, sent.Files[v], 2<<20)
			if err != nil {
				t.Fatal(err)
			}
			if damage {
				data[50_000] ^= 1
			}
			if err := os.WriteFile(filepath.Join(w.stick.Path(), sent.Files[v]), data, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		return w.take(w.prod)
	}
	last := len(sent.Files) - 1
	for i, step := range []struct {
		damage        bool
		volumes       []int
		kept, missing int
	}{{false, []int{2, last}, 2, last - 1}, {true, []int{0}, 2, last - 1}, {false, []int{2}, 2, last - 1}, {false, []int{0, 1}, 4, last - 3}} {
		r := bring(step.damage, step.volumes...)
		b := r.Bundles[0]
		if b.State != transfer.OutcomeIncomplete || b.Kept != step.kept || len(b.Missing) != step.missing {
			t.Fatalf("step %d: %+v", i, b)
		}
	}
	var rest []int
	for v := 3; v < last; v++ {
		rest = append(rest, v)
	}
	r := bring(false, rest...)
	if len(r.Accepted) != 1 || r.Accepted[0].State != manifest.StateAccepted {
		t.Fatalf("%+v", r)
	}
	if _, err := w.prod.VerifyRelease(ctx(), "shop", "1.0"); err != nil {
		t.Fatal(err)
	}
	if left, err := filepath.Glob(filepath.Join(w.prod.dir, "work", "incoming", "*", "*")); err != nil || len(left) > 0 {
		t.Fatalf("%v %v", left, err)
	}
	// Of a stranger nothing is kept.
	w.create(w.dev, "shop", "1.1", map[string]string{"big": string(random(6, 4_500_000))})
	w.stick = w.folder()
	sent = w.promote(w.dev, "prod", "shop", "1.1", func(r *transfer.ExportRequest) { r.VolumeSize = 1 << 20 })
	whole = w.stick
	if err := w.prod.RemovePeer(ctx(), "dev"); err != nil {
		t.Fatal(err)
	}
	if b := bring(false, 1, 2).Bundles[0]; b.State != transfer.OutcomeIncomplete || b.Kept != 0 {
		t.Fatalf("%+v", b)
	}
}
