package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"reflect"
	"slices"
	"strings"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
)

// PackageSource is one package to take in from this machine's disk.
type PackageSource struct {
	Source    string // file or folder
	Name      string // of the package; required
	Version   string // required
	MediaType string
	Path      string // where materialize puts it; required
}

// AttachmentSource is one attachment to take in.
type AttachmentSource struct {
	Source    string // file
	Name      string
	Type      string // sbom, attestation, licence, other …
	MediaType string
}

// ReleaseRequest says what a release shall be.
type ReleaseRequest struct {
	Project, Version, Notes string
	Packages                []PackageSource
	Attachments             []AttachmentSource
	Parameters              []manifest.Parameter
	Process                 manifest.Process
	// AllowCaseCollisions takes in trees with names that differ only in case.
	// They cannot be materialized on file systems that take them for one.
	AllowCaseCollisions bool
	Progress            func(done, total int64) // bytes read; may be nil
}

// ReleaseReport says what became of a release.
type ReleaseReport struct {
	Release *manifest.Release
	Digest  manifest.Digest
	Existed bool // the same release was there already: nothing was changed
	Size    int64
	Files   int64
	store.WriteStats
}

// ConflictError: a release of that project and version exists and is another.
type ConflictError struct {
	Project, Version string
	Held, New        manifest.Digest
	Difference       string // what differs, for people; may be empty
}

func (e *ConflictError) Error() string {
	msg := fmt.Sprintf("release %s %s exists and is another one (%s)", e.Project, e.Version, e.Held.Short())
	if e.Difference != "" {
		msg += ": " + e.Difference
	}
	return msg + ". Releases are never changed; choose another version"
}

// SourceError names a file that cannot be taken in.
type SourceError struct{ Path, Reason string }

func (e *SourceError) Error() string { return fmt.Sprintf("cannot take in %s: %s", e.Path, e.Reason) }

// CreateRelease takes packages in and records a release of them.
//
//	scan ▸ chunks ▸ packs ▸ release document ▸ audit entry, last
func (s *Site) CreateRelease(ctx context.Context, req ReleaseRequest) (*ReleaseReport, error) {
	defer s.verb()()
	r := &manifest.Release{Project: req.Project, Version: req.Version, Site: s.Name(),
		Created: manifest.NewTime(s.now()), Notes: req.Notes,
		Parameters: req.Parameters, Process: req.Process}
	total, err := s.scanSources(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	}
	if free, ok := s.Store.Free(ctx); ok && free < minFree {
		return nil, fmt.Errorf("create release: %w", &bucket.NoSpaceError{Where: "the store", Need: minFree, Have: free})
	}
	report := &ReleaseReport{Release: r}
	in := &ingest{progress: req.Progress, total: total, collisions: req.AllowCaseCollisions}
	report.WriteStats, err = s.Store.Write(ctx, func(w *store.Writer) error {
		for _, src := range req.Packages {
			p, err := in.pack(ctx, w, s.work, src)
			if err != nil {
				return err
			}
			r.Packages = append(r.Packages, *p)
			report.Size += p.Size
			report.Files += p.Files
		}
		for _, src := range req.Attachments {
			a, err := in.attachment(ctx, w, src)
			if err != nil {
				return err
			}
			r.Attachments = append(r.Attachments, *a)
			report.Size += a.Size
			report.Files++
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	}
	unlock, err := s.exclusive(ctx, "releases")
	if err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	}
	defer unlock()
	held, err := s.Index.Release(ctx, r.Project, r.Version)
	if err == nil {
		return s.existing(ctx, held.Digest, report)
	}
	if !errors.Is(err, ErrNotFound) {
		return nil, fmt.Errorf("create release: %w", err)
	}
	_, report.Digest, err = s.sign(ctx, releasesDir, r)
	if err == nil {
		err = s.record(ctx, manifest.Fact{ReleaseCreated: &manifest.ReleaseCreated{Release: report.Digest,
			Project: r.Project, Version: r.Version, Created: r.Created, Site: r.Site,
			Packages: len(r.Packages), Size: report.Size}})
	}
	if err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	}
	return report, nil
}

// minFree is the room that must be left before anything is taken in, in bytes:
// the rest depends on what is new, which only reading shows.
const minFree = 64 << 20

// existing answers a request for a release that is there: the same again is no
// change, as after a crash before the report; anything else is a conflict.
func (s *Site) existing(ctx context.Context, digest manifest.Digest, report *ReleaseReport) (*ReleaseReport, error) {
	held, err := s.release(ctx, digest)
	if err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	}
	again := *report.Release
	again.Created, again.Site = held.Created, held.Site
	if data, err := manifest.EncodeDocument(&again); err != nil {
		return nil, fmt.Errorf("create release: %w", err)
	} else if manifest.DigestOf(data) == digest {
		report.Release, report.Digest, report.Existed = held, digest, true
		return report, nil
	}
	return nil, &ConflictError{Project: held.Project, Version: held.Version, Held: digest,
		Difference: firstDifference(held, &again)}
}

func firstDifference(held, now *manifest.Release) string {
	byName := map[string]manifest.Package{}
	for _, p := range held.Packages {
		byName[p.Name] = p
	}
	for _, p := range now.Packages {
		h, ok := byName[p.Name]
		switch {
		case !ok:
			return fmt.Sprintf("it has no package %s", p.Name)
		case h.SHA256 != p.SHA256:
			return fmt.Sprintf("package %s has other content there", p.Name)
		case !reflect.DeepEqual(h, p):
			return fmt.Sprintf("package %s is described otherwise there", p.Name)
		}
		delete(byName, p.Name)
	}
	for name := range byName {
		return fmt.Sprintf("it has a package %s too", name)
	}
	return "notes, attachments, parameters or process differ"
}

// scanSources looks at everything before any of it is read, so that what
// cannot be taken in is said at once. It returns the bytes to read.
func (s *Site) scanSources(ctx context.Context, req ReleaseRequest) (int64, error) {
	if len(req.Packages) == 0 {
		return 0, errors.New("a release needs at least one package")
	}
	// A release with empty contents tells whether everything but the contents
	// is right, before hours are spent on reading them.
	if err := manifest.CheckProject(req.Project); err != nil {
		return 0, err
	}
	if err := manifest.CheckVersion(req.Version); err != nil {
		return 0, err
	}
	names, paths := map[string]bool{}, map[string]string{}
	var total int64
	for _, p := range req.Packages {
		if err := errors.Join(manifest.CheckPackage(p.Name), manifest.CheckVersion(p.Version), manifest.CheckPath(p.Path)); err != nil {
			return 0, err
		}
		if names[p.Name] {
			return 0, fmt.Errorf("two packages are called %s; name them apart with NAME@VERSION=PATH", p.Name)
		}
		names[p.Name] = true
		if other, ok := paths[manifest.FoldPath(p.Path)]; ok {
			return 0, fmt.Errorf("packages %s and %s would both be put at %s", other, p.Name, p.Path)
		}
		paths[manifest.FoldPath(p.Path)] = p.Name
		n, err := scanTree(ctx, p.Source)
		if err != nil {
			return 0, err
		}
		total += n
	}
	for _, a := range req.Attachments {
		info, err := os.Stat(a.Source)
		if err != nil {
			return 0, err
		}
		if !info.Mode().IsRegular() {
			return 0, &SourceError{a.Source, "an attachment must be a file"}
		}
		total += info.Size()
	}
	return total, nil
}

func scanTree(ctx context.Context, source string) (int64, error) {
	info, err := os.Stat(source)
	if err != nil {
		return 0, err
	}
	if info.Mode().IsRegular() {
		return info.Size(), nil
	}
	if !info.IsDir() {
		return 0, &SourceError{source, kindOf(info.Mode())}
	}
	var total int64
	// The last slash makes a link to a folder be walked as the folder.
	err = filepath.WalkDir(source+string(filepath.Separator), func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		switch t := d.Type(); {
		case t.IsDir(), t&fs.ModeSymlink != 0:
		case t.IsRegular():
			info, err := d.Info()
			if err != nil {
				return err
			}
			total += info.Size()
		default:
			return &SourceError{name, kindOf(t)}
		}
		return nil
	})
	return total, err
}

func kindOf(m fs.FileMode) string {
	switch {
	case m&fs.ModeDevice != 0:
		return "it is a device; a package holds files, folders and links"
	case m&fs.ModeNamedPipe != 0:
		return "it is a named pipe; a package holds files, folders and links"
	case m&fs.ModeSocket != 0:
		return "it is a socket; a package holds files, folders and links"
	}
	return "it is neither a file nor a folder nor a link"
}

// ingest is one CreateRelease at work.
type ingest struct {
	progress    func(done, total int64)
	done, total int64
	collisions  bool
}

// Read counts what passes, for progress.
type countReader struct {
	r  io.Reader
	in *ingest
	n  int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.in.done += int64(n)
	if c.in.progress != nil {
		c.in.progress(c.in.done, max(c.in.done, c.in.total))
	}
	return n, err
}

func (in *ingest) pack(ctx context.Context, w *store.Writer, temp string, src PackageSource) (*manifest.Package, error) {
	p := &manifest.Package{Name: src.Name, Version: src.Version, MediaType: src.MediaType, Path: src.Path}
	info, err := os.Stat(src.Source)
	if err != nil {
		return nil, err
	}
	if !info.IsDir() {
		p.Kind, p.Mode, p.Files = manifest.PackageFile, uint32(info.Mode().Perm()), 1
		p.Content, p.SHA256, err = in.file(w, src.Source)
		p.Size = p.Content.Size
		return p, err
	}
	p.Kind = manifest.PackageTree
	return p, in.tree(ctx, w, temp, src.Source, p)
}

func (in *ingest) attachment(ctx context.Context, w *store.Writer, src AttachmentSource) (*manifest.Attachment, error) {
	a := &manifest.Attachment{Name: src.Name, Type: src.Type, MediaType: src.MediaType}
	var err error
	a.Content, a.SHA256, err = in.file(w, src.Source)
	a.Size = a.Content.Size
	return a, err
}

// file takes in one file as a stream of its own.
func (in *ingest) file(w *store.Writer, name string) (chunk.Ref, manifest.Digest, error) {
	f, err := os.Open(name)
	if err != nil {
		return chunk.Ref{}, manifest.Digest{}, err
	}
	defer f.Close()
	before, err := f.Stat()
	if err != nil {
		return chunk.Ref{}, manifest.Digest{}, err
	}
	var sum store.FileSum
	st := w.NewStream()
	if err := in.add(st, f, before, name, func(s store.FileSum) error { sum = s; return nil }); err != nil {
		return chunk.Ref{}, manifest.Digest{}, err
	}
	ref, err := st.Close()
	return ref, sum.SHA256, err
}

// add feeds one open file and makes sure that it was not changed meanwhile.
func (in *ingest) add(st *store.Stream, f *os.File, before fs.FileInfo, name string, done func(store.FileSum) error) error {
	if !before.Mode().IsRegular() {
		return &SourceError{name, kindOf(before.Mode())}
	}
	r := &countReader{r: f, in: in}
	if err := st.Add(r, done); err != nil {
		return err
	}
	after, err := f.Stat()
	if err != nil {
		return err
	}
	if r.n != after.Size() || before.Size() != after.Size() || !before.ModTime().Equal(after.ModTime()) {
		return &SourceError{name, "it was changed while it was read; try again when nothing writes to it"}
	}
	return nil
}

// tree takes in a folder: its files one after another as one stream, its
// listing as another.
func (in *ingest) tree(ctx context.Context, w *store.Writer, temp, source string, p *manifest.Package) error {
	root, err := os.OpenRoot(source)
	if err != nil {
		return err
	}
	defer root.Close()
	spool := store.NewSpool(temp)
	defer spool.Close()
	t := &treeIngest{ingest: in, ctx: ctx, stream: w.NewStream(), listing: manifest.NewTreeWriter(spool), source: source, pkg: p}
	if err := t.folder(root, ""); err != nil {
		return err
	}
	if p.Content, err = t.stream.Close(); err != nil {
		return err
	}
	if err := t.listing.Close(); err != nil {
		return err
	}
	if a, b, ok := t.listing.CaseCollision(); ok {
		if !in.collisions {
			return &SourceError{filepath.Join(source, filepath.FromSlash(a)), fmt.Sprintf(
				"its name and %q differ only in case and would overwrite each other on Windows and macOS; rename one, or allow it with --allow-case-collisions", b)}
		}
		p.CaseSensitive = true
	}
	listing, err := spool.Reader()
	if err != nil {
		return err
	}
	st := w.NewStream()
	if err := st.Add(listing, func(sum store.FileSum) error { p.SHA256 = sum.SHA256; return nil }); err != nil {
		return err
	}
	ref, err := st.Close()
	p.Tree = &ref
	return err
}

type treeIngest struct {
	*ingest
	ctx     context.Context
	stream  *store.Stream
	listing *manifest.TreeWriter // touched only in callbacks of the stream
	source  string
	pkg     *manifest.Package
}

// folder walks one folder in the order of the listing: by the bytes of names.
func (t *treeIngest) folder(root *os.Root, at string) error {
	f, err := root.Open(".")
	if err != nil {
		return err
	}
	// Names alone: ReadDir below an os.Root keeps a description of every file,
	// which in a folder of 200,000 takes 50 MB.
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	slices.Sort(names)
	for _, base := range names {
		if err := t.ctx.Err(); err != nil {
			return context.Cause(t.ctx)
		}
		name := path.Join(at, base)
		if err := manifest.CheckTreePath(name); err != nil {
			return &SourceError{t.full(name), err.Error()}
		}
		info, err := root.Lstat(base)
		if err != nil {
			return err
		}
		switch kind := info.Mode().Type(); {
		case kind.IsDir():
			err = t.subfolder(root, base, name)
		case kind&fs.ModeSymlink != 0:
			err = t.link(root, base, name)
		case kind.IsRegular():
			err = t.file(root, base, name)
		default:
			err = &SourceError{t.full(name), kindOf(kind)}
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *treeIngest) full(name string) string {
	return filepath.Join(t.source, filepath.FromSlash(name))
}

func (t *treeIngest) subfolder(root *os.Root, base, name string) error {
	sub, err := root.OpenRoot(base)
	if err != nil {
		return err
	}
	defer sub.Close()
	info, err := sub.Stat(".")
	if err != nil {
		return err
	}
	entry := manifest.TreeEntry{Path: name, Type: manifest.TreeDir, Mode: uint32(info.Mode().Perm())}
	if err := t.stream.Then(func() error { return t.list(entry) }); err != nil {
		return err
	}
	return t.folder(sub, name)
}

func (t *treeIngest) link(root *os.Root, base, name string) error {
	target, err := root.Readlink(base)
	if err != nil {
		return err
	}
	entry := manifest.TreeEntry{Path: name, Type: manifest.TreeLink, Target: strings.ReplaceAll(target, string(filepath.Separator), "/")}
	return t.stream.Then(func() error { return t.list(entry) })
}

func (t *treeIngest) file(root *os.Root, base, name string) error {
	f, err := root.Open(base)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	mode := uint32(info.Mode().Perm())
	return t.add(t.stream, f, info, t.full(name), func(sum store.FileSum) error {
		t.pkg.Size += sum.Size
		t.pkg.Files++
		return t.list(manifest.TreeEntry{Path: name, Type: manifest.TreeFile, Mode: mode, Size: sum.Size, SHA256: sum.SHA256})
	})
}

func (t *treeIngest) list(e manifest.TreeEntry) error {
	if err := t.listing.Add(e); err != nil {
		return &SourceError{t.full(e.Path), err.Error()}
	}
	return nil
}

// storeFile takes a file that davit wrote itself in, from its beginning.
func (s *Site) storeFile(ctx context.Context, f *os.File) (ref chunk.Ref, sum store.FileSum, err error) {
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return ref, sum, err
	}
	_, err = s.Store.Write(ctx, func(w *store.Writer) (err error) {
		ref, sum, err = w.AddFile(f)
		return err
	})
	return ref, sum, err
}
