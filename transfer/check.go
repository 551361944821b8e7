package transfer

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"os"
	"path/filepath"
	"strings"
	"time"

	"davit/internal/durable"
	"davit/manifest"
	"davit/manifest/index"
	"davit/store"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/content"
)

// CheckRequest says how deep to look.
type CheckRequest struct {
	ReadData bool // read every byte
	Progress func(done, total int64)
}

// CheckReport is what a check found.
type CheckReport struct {
	store.CheckReport
	Releases int
	Entries  int64
	Aside    []string // packs that RepairPacks moved to damaged/
}

// Check looks whether everything the site relies on is there and sound: packs,
// the documents and chunks of every release, and the audit log.
func (s *Site) Check(ctx context.Context, req CheckRequest) (*CheckReport, error) {
	defer s.verb()()
	report := &CheckReport{}
	var err error
	report.CheckReport, err = s.Store.Check(ctx, store.CheckOptions{ReadData: req.ReadData, Progress: req.Progress})
	if err != nil {
		return nil, err
	}
	bad := func(object string, err error) {
		report.Problems = append(report.Problems, store.Problem{Object: object, Reason: err.Error()})
	}
	releases, err := s.Index.Releases(ctx, "")
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	for _, rel := range releases {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		report.Releases++
		if err := s.checkRelease(ctx, rel.Digest); err != nil {
			bad(fmt.Sprintf("release %s %s", rel.Project, rel.Version), err)
		}
	}
	counts, err := s.Index.Counts(ctx)
	if err != nil {
		return nil, fmt.Errorf("check: %w", err)
	}
	if counts.Contradictions > 0 {
		bad("audit log", fmt.Errorf("%d of its facts contradict others and were set aside; see the table contradictions in the index", counts.Contradictions))
	}
	head, err := s.AuditVerify(ctx)
	report.Entries = head.Sequence
	if err != nil {
		bad("audit log", err)
	}
	return report, nil
}

func (s *Site) checkRelease(ctx context.Context, digest manifest.Digest) error {
	r, err := s.release(ctx, digest)
	if err != nil {
		return err
	}
	for _, ref := range content.Refs(r) {
		if err := s.Store.Complete(ctx, ref); err != nil {
			return err
		}
	}
	return nil
}

// VerifyReport says what was verified of a release.
type VerifyReport struct {
	Release *manifest.Release
	Digest  manifest.Digest
	Signer  string // site whose signature it bears
}

// VerifyRelease proves a release from the ground: its signature, its listings
// and every byte of its packages.
func (s *Site) VerifyRelease(ctx context.Context, project, version string) (*VerifyReport, error) {
	rel, err := s.Index.Release(ctx, project, version)
	if err != nil {
		return nil, releaseError(ReleaseName{project, version}, err)
	}
	e, err := s.envelope(ctx, releasesDir, rel.Digest)
	if err != nil {
		return nil, err
	}
	r, err := s.openRelease(ctx, e)
	if err != nil {
		return nil, err
	}
	if err := content.Verify(ctx, s.Store, r, nil); err != nil {
		return nil, err
	}
	return &VerifyReport{r, rel.Digest, r.Site}, nil
}

// AuditVerify proves the audit log unbroken, in the index and in the bucket,
// and returns its head.
func (s *Site) AuditVerify(ctx context.Context) (index.Head, error) {
	var last index.Head
	err := s.Index.Verify(ctx, func(h index.Head) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		_, digest, err := s.readEntry(ctx, h.Sequence)
		if err != nil {
			return &index.ChainError{Sequence: h.Sequence, Reason: fmt.Sprintf("in the store: %v", err)}
		}
		if digest != h.Digest {
			return &index.ChainError{Sequence: h.Sequence, Reason: "the store and the index hold different entries"}
		}
		last = h
		return nil
	})
	return last, err
}

// CollectReport is what garbage collection did, or would do.
type CollectReport struct {
	store.CollectReport
	Quarantined int   `json:"quarantined"` // objects of bundles that nothing waits for any more
	Quarantine  int64 `json:"quarantine"`  // their bytes
	Temporary   int   `json:"temporary"`   // files that broken-off work left behind
}

// Collect removes what no release, log or open bundle needs, what bundles left
// in quarantine that were refused, damaged or broken off, and what a crash left
// half written.
func (s *Site) Collect(ctx context.Context, dryRun bool) (*CollectReport, error) {
	report, err := s.collect(ctx, dryRun)
	if err != nil {
		return report, fmt.Errorf("collect garbage: %w", err)
	}
	return report, nil
}

func (s *Site) collect(ctx context.Context, dryRun bool) (report *CollectReport, err error) {
	shared, err := s.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shared()) }()
	// What another process has recorded meanwhile is needed too.
	if err := s.indexLost(ctx); err != nil {
		return nil, err
	}
	if _, err := s.CatchUp(ctx); err != nil {
		return nil, err
	}
	live, keep, err := s.live(ctx)
	if err != nil {
		return nil, err
	}
	report = &CollectReport{}
	report.CollectReport, err = s.Store.Collect(ctx, live, store.CollectOptions{DryRun: dryRun, Keep: func(n pack.Name) bool { return keep.packs[n] }})
	if err != nil {
		return report, err
	}
	for info, err := range s.bucket.List(ctx, quarantineDir) {
		if err != nil {
			return report, err
		}
		if id, _, _ := strings.Cut(strings.TrimPrefix(info.Name, quarantineDir), "/"); keep.bundles[id] {
			continue
		}
		report.Quarantined++
		report.Quarantine += info.Size
		if dryRun {
			continue
		}
		if err := s.bucket.Delete(ctx, info.Name); err != nil {
			return report, err
		}
	}
	if dryRun {
		return report, nil
	}
	// Nobody else is at work, so whatever has a temporary name was left behind.
	if d, ok := s.bucket.(interface {
		Sweep(context.Context, time.Duration) (int, error)
	}); ok {
		if report.Temporary, err = d.Sweep(ctx, 0); err != nil {
			return report, err
		}
	}
	if report.Dropped+report.Repacked+report.Unindexed+report.Quarantined == 0 {
		return report, nil
	}
	return report, s.record(ctx, manifest.Fact{StoreChanged: &manifest.StoreChanged{Verb: manifest.StoreGC,
		Packs: report.Dropped + report.Repacked + report.Unindexed, Bytes: max(0, report.Freed-report.Written+report.Quarantine)}})
}

// kept is what must stay because a decision on it is still to come.
type kept struct {
	packs   map[pack.Name]bool
	bundles map[string]bool // in quarantine, by the digest of the bundle document
}

// live lists the chunks that are needed, and what must stay for open bundles.
func (s *Site) live(ctx context.Context) (iter.Seq2[chunk.Entry, error], *kept, error) {
	releases, err := s.Index.Releases(ctx, "")
	if err != nil {
		return nil, nil, err
	}
	var refs []chunk.Ref
	for _, rel := range releases {
		r, err := s.release(ctx, rel.Digest)
		if err != nil {
			return nil, nil, err
		}
		refs = append(refs, content.Refs(r)...)
	}
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{})
	if err != nil {
		return nil, nil, err
	}
	for _, run := range runs {
		if run.Result.IsZero() {
			continue
		}
		e, err := s.envelope(ctx, resultsDir, run.Result)
		if err != nil {
			return nil, nil, err
		}
		result, err := manifest.Peek[manifest.Result](e)
		if err != nil {
			return nil, nil, err
		}
		refs = append(refs, result.Log.Content)
	}
	keep := &kept{map[pack.Name]bool{}, map[string]bool{}}
	items, err := s.Index.InboxOpen(ctx)
	if err != nil {
		return nil, nil, err
	}
	for _, it := range items {
		doc, err := s.bundle(ctx, it.BundleDigest)
		if err != nil {
			return nil, nil, err
		}
		keep.bundles[it.BundleDigest.String()] = true
		for _, p := range doc.Packs {
			keep.packs[p.Name] = true
		}
	}
	return s.chunksOf(ctx, refs), keep, nil
}

// RepairPacks sets damaged packs aside, so that what was in them can be stored
// again, and reports what is missing until it is: the next bundle that carries
// a release in full brings it back, or making the release again where it came
// from.
func (s *Site) RepairPacks(ctx context.Context, progress func(done, total int64)) (*CheckReport, error) {
	aside, err := s.setAside(ctx, progress)
	if err != nil {
		return nil, fmt.Errorf("repair packs: %w", err)
	}
	report, err := s.Check(ctx, CheckRequest{})
	if err != nil {
		return nil, fmt.Errorf("repair packs: %w", err)
	}
	report.Aside = aside
	return report, nil
}

func (s *Site) setAside(ctx context.Context, progress func(done, total int64)) (aside []string, err error) {
	shared, err := s.alone(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, shared()) }()
	names, err := s.Store.SetAside(ctx, progress)
	for _, n := range names {
		aside = append(aside, n.String())
	}
	if err != nil || len(aside) == 0 {
		return aside, err
	}
	return aside, s.record(ctx, manifest.Fact{StoreChanged: &manifest.StoreChanged{Verb: manifest.StoreRepair, Packs: len(aside), Detail: "damaged packs set aside"}})
}

// RepairIndex makes the index anew from the bucket. The file may be damaged or
// gone; what was in it that matters lies in the bucket too. The new index takes
// the place of the old one when it is complete, so that a repair that is broken
// off can be begun again. No other davit may be at work on the site.
func RepairIndex(ctx context.Context, o Options, progress func(done, total int64)) (*CheckReport, error) {
	report, err := repairIndex(ctx, o, progress)
	if err != nil {
		return nil, fmt.Errorf("repair index: %w", err)
	}
	return report, nil
}

func repairIndex(ctx context.Context, o Options, progress func(done, total int64)) (*CheckReport, error) {
	if err := os.MkdirAll(o.WorkDir, 0o700); err != nil {
		return nil, err
	}
	lock, ok, err := durable.TryLockExclusive(filepath.Join(o.WorkDir, lockName))
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, ErrBusy
	}
	defer lock.Unlock()
	rebuilt := o
	rebuilt.Index, rebuilt.rebuild = o.Index+".new", true
	if err := index.Remove(rebuilt.Index); err != nil {
		return nil, err
	}
	report, err := rebuildIndex(ctx, rebuilt, progress)
	if err != nil {
		return nil, err
	}
	if err := index.Remove(o.Index); err != nil {
		return nil, err
	}
	if err := os.Rename(rebuilt.Index, o.Index); err != nil {
		return nil, err
	}
	return report, durable.SyncDir(filepath.Dir(o.Index))
}

func rebuildIndex(ctx context.Context, o Options, progress func(done, total int64)) (report *CheckReport, err error) {
	// Opening applies every entry of the audit log to the empty index.
	s, err := open(ctx, o)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	report = &CheckReport{}
	if report.CheckReport, err = s.Store.Reindex(ctx, progress); err != nil {
		return nil, err
	}
	report.Adopted = nil // all of them, which says nothing
	if err := s.record(ctx, manifest.Fact{StoreChanged: &manifest.StoreChanged{Verb: manifest.StoreRepair, Packs: report.Packs, Bytes: report.Bytes}}); err != nil {
		return nil, err
	}
	releases, err := s.Index.Releases(ctx, "")
	if err != nil {
		return nil, err
	}
	report.Releases = len(releases)
	head, err := s.Index.Head(ctx)
	report.Entries = head.Sequence
	return report, err
}
