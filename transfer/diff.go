package transfer

import (
	"context"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"

	"davit/manifest"
	"davit/store/chunk"
	"davit/transfer/content"
)

// Difference between two releases.
type Difference struct {
	From, To manifest.ReleaseRef
	Packages []PackageDifference
	Settings []string // what else differs: parameters, process, notes
	NewBytes int64    // plaintext of chunks that only the second needs
}

// PackageDifference says how one package differs.
type PackageDifference struct {
	Name     string
	Change   string // added, removed, changed
	From, To string // versions
	OldSize  int64
	NewSize  int64
	Files    []FileDifference // of trees
	NewBytes int64            // plaintext of chunks that the release before does not have
}

// FileDifference says how one file of a tree differs.
type FileDifference struct {
	Path   string
	Change string // added, removed, changed
}

// Diff compares two releases of a project.
func (s *Site) Diff(ctx context.Context, project, from, to string) (*Difference, error) {
	d := &Difference{}
	a, err := s.named(ctx, project, from, &d.From)
	if err != nil {
		return nil, err
	}
	b, err := s.named(ctx, project, to, &d.To)
	if err != nil {
		return nil, err
	}
	held := map[chunk.Name]bool{}
	for e, err := range s.chunksOf(ctx, content.Refs(a)) {
		if err != nil {
			return nil, fmt.Errorf("compare releases: %w", err)
		}
		held[e.Name] = true
	}
	old := map[string]manifest.Package{}
	for _, p := range a.Packages {
		old[p.Name] = p
	}
	for _, p := range b.Packages {
		before, ok := old[p.Name]
		delete(old, p.Name)
		pd := PackageDifference{Name: p.Name, Change: "added", To: p.Version, NewSize: p.Size}
		if ok {
			if before.SHA256 == p.SHA256 && before.Version == p.Version && before.Path == p.Path {
				continue
			}
			pd.Change, pd.From, pd.OldSize = "changed", before.Version, before.Size
			if before.SHA256 != p.SHA256 && before.Tree != nil && p.Tree != nil {
				if pd.Files, err = s.diffTrees(ctx, *before.Tree, *p.Tree); err != nil {
					return nil, fmt.Errorf("compare package %s: %w", p.Name, err)
				}
			}
		}
		refs := []chunk.Ref{p.Content}
		if p.Tree != nil {
			refs = append(refs, *p.Tree)
		}
		for e, err := range s.chunksOf(ctx, refs) {
			if err != nil {
				return nil, fmt.Errorf("compare package %s: %w", p.Name, err)
			}
			if !held[e.Name] {
				held[e.Name] = true
				pd.NewBytes += int64(e.Length)
			}
		}
		d.NewBytes += pd.NewBytes
		d.Packages = append(d.Packages, pd)
	}
	for _, p := range a.Packages {
		if _, gone := old[p.Name]; gone {
			d.Packages = append(d.Packages, PackageDifference{Name: p.Name, Change: "removed", From: p.Version, OldSize: p.Size})
		}
	}
	slices.SortStableFunc(d.Packages, func(x, y PackageDifference) int { return strings.Compare(x.Name, y.Name) })
	d.Settings = diffSettings(a, b)
	return d, nil
}

func (s *Site) named(ctx context.Context, project, version string, ref *manifest.ReleaseRef) (*manifest.Release, error) {
	rel, err := s.Index.Release(ctx, project, version)
	if err != nil {
		return nil, releaseError(ReleaseName{project, version}, err)
	}
	*ref = manifest.ReleaseRef{Release: rel.Digest, Project: project, Version: version}
	return s.release(ctx, rel.Digest)
}

// Release returns a visible release with its digest.
func (s *Site) Release(ctx context.Context, project, version string) (*manifest.Release, manifest.Digest, error) {
	var ref manifest.ReleaseRef
	r, err := s.named(ctx, project, version, &ref)
	return r, ref.Release, err
}

// InboxRelease returns a release that waits in the inbox.
func (s *Site) InboxRelease(ctx context.Context, project, version, from string) (*manifest.Release, manifest.Digest, error) {
	it, err := s.inboxItem(ctx, project, version, from)
	if err != nil {
		return nil, manifest.Digest{}, err
	}
	r, err := s.release(ctx, it.Release)
	return r, it.Release, err
}

func diffSettings(a, b *manifest.Release) []string {
	var out []string
	compare := func(what string, x, y any) {
		if fmt.Sprintf("%#v", x) != fmt.Sprintf("%#v", y) {
			out = append(out, what)
		}
	}
	old := map[string]string{}
	for _, p := range a.Parameters {
		old[p.Name] = describeParameter(p)
	}
	for _, p := range b.Parameters {
		before, ok := old[p.Name]
		delete(old, p.Name)
		switch {
		case !ok:
			out = append(out, "parameter "+p.Name+" added")
		case before != describeParameter(p):
			out = append(out, "parameter "+p.Name+" changed")
		}
	}
	for _, p := range a.Parameters {
		if _, gone := old[p.Name]; gone {
			out = append(out, "parameter "+p.Name+" removed")
		}
	}
	compare("process", a.Process, b.Process)
	compare("notes", a.Notes, b.Notes)
	compare("attachments", a.Attachments, b.Attachments)
	return out
}

func describeParameter(p manifest.Parameter) string {
	def := "-"
	if p.Default != nil {
		def = "=" + *p.Default
	}
	return fmt.Sprint(p.Type, p.Required, p.Sensitive, def, p.Environments, p.Description)
}

// diffTrees walks two listings side by side; both are sorted.
func (s *Site) diffTrees(ctx context.Context, a, b chunk.Ref) ([]FileDifference, error) {
	nextA, stopA := iter.Pull2(s.listing(ctx, a))
	defer stopA()
	nextB, stopB := iter.Pull2(s.listing(ctx, b))
	defer stopB()
	var out []FileDifference
	x, errA, okA := nextA()
	y, errB, okB := nextB()
	for okA || okB {
		if errA != nil {
			return nil, errA
		}
		if errB != nil {
			return nil, errB
		}
		c := 0
		switch {
		case !okB:
			c = -1
		case !okA:
			c = 1
		default:
			c = manifest.ComparePaths(x.Path, y.Path)
		}
		if c == 0 && x != y {
			out = append(out, FileDifference{y.Path, "changed"})
		}
		if c < 0 {
			out = append(out, FileDifference{x.Path, "removed"})
		}
		if c > 0 {
			out = append(out, FileDifference{y.Path, "added"})
		}
		if c <= 0 {
			x, errA, okA = nextA()
		}
		if c >= 0 {
			y, errB, okB = nextB()
		}
	}
	return out, nil
}

func (s *Site) listing(ctx context.Context, ref chunk.Ref) iter.Seq2[manifest.TreeEntry, error] {
	return func(yield func(manifest.TreeEntry, error) bool) {
		f := s.Store.Open(ctx, ref)
		defer f.Close()
		r := manifest.NewTreeReader(f)
		for {
			e, err := r.Next()
			if err == io.EOF || !yield(e, err) || err != nil {
				return
			}
		}
	}
}
