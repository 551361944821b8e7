package transfer

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"davit/internal/durable"
	"davit/manifest"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/transfer/content"
)

// MaterializeRequest says which packages to write where.
type MaterializeRequest struct {
	Project, Version string
	Dir              string   // made if needed; what lies there and is not of the release stays
	Packages         []string // names; all if empty
	Progress         func(done, total int64)
}

// MaterializeReport counts what was done.
type MaterializeReport struct {
	Files   int64 // files of the release
	Written int64 // files that were written
	Kept    int64 // files that were there already, byte for byte
	Bytes   int64 // bytes of all files
}

// Materialize writes the packages of a release to a folder. Files that are
// there and have the right content are left as they are, others are replaced
// in one step each; so it can be repeated after it was broken off, and is fast
// over the version before. Nothing outside the folder is ever written, also
// when links lie in it.
func (s *Site) Materialize(ctx context.Context, req MaterializeRequest) (*MaterializeReport, error) {
	rel, err := s.Index.Release(ctx, req.Project, req.Version)
	if err != nil {
		return nil, releaseError(ReleaseName{req.Project, req.Version}, err)
	}
	r, err := s.release(ctx, rel.Digest)
	if err != nil {
		return nil, fmt.Errorf("materialize: %w", err)
	}
	report, err := s.materialize(ctx, r, req)
	if err != nil {
		return nil, fmt.Errorf("materialize %s %s in %s: %w", req.Project, req.Version, req.Dir, err)
	}
	return report, nil
}

func (s *Site) materialize(ctx context.Context, r *manifest.Release, req MaterializeRequest) (*MaterializeReport, error) {
	packages, err := choosePackages(r, req.Packages)
	if err != nil {
		return nil, err
	}
	if err := os.MkdirAll(req.Dir, 0o755); err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(req.Dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	m := &materializer{s: s, ctx: ctx, root: root, dir: req.Dir, progress: req.Progress}
	for i := range packages {
		m.total += packages[i].Size
	}
	if free, err := durable.Free(req.Dir); err == nil && free < m.total {
		// What is there already may make it fit, so look before giving up.
		if have := m.present(packages); free < m.total-have {
			return nil, &bucket.NoSpaceError{Where: req.Dir, Need: m.total - have, Have: free}
		}
	}
	for i := range packages {
		if err := m.pack(&packages[i]); err != nil {
			return nil, err
		}
	}
	return &m.report, nil
}

func choosePackages(r *manifest.Release, names []string) ([]manifest.Package, error) {
	if len(names) == 0 {
		return r.Packages, nil
	}
	var chosen []manifest.Package
	for _, name := range names {
		i := slices.IndexFunc(r.Packages, func(p manifest.Package) bool { return p.Name == name })
		if i < 0 {
			var all []string
			for _, p := range r.Packages {
				all = append(all, p.Name)
			}
			return nil, fmt.Errorf("package %q of release %s %s: %w; it has: %s", name, r.Project, r.Version, ErrNotFound, strings.Join(all, ", "))
		}
		chosen = append(chosen, r.Packages[i])
	}
	return chosen, nil
}

// materializer is one Materialize at work. Two goroutines use it: the one that
// lists what is to be written and makes what needs no content, and the one
// that writes content. They share the queue and the counter done.
type materializer struct {
	s        *Site
	ctx      context.Context
	root     *os.Root
	dir      string
	progress func(done, total int64)
	done     atomic.Int64
	total    int64

	report  MaterializeReport // the lister's
	listing folders           // the lister's
	links   []manifest.TreeEntry
	modes   []dirMode
	buf     []byte // for files that may be right already

	target  folders // the writer's
	writing *outFile
	zero    chunk.Name // name of a chunk of zeros of the largest size
}

type dirMode struct {
	path string
	mode fs.FileMode
}

// outFile is one file to be written: under a temporary name, then renamed.
type outFile struct {
	path string
	mode fs.FileMode
	size int64

	root *os.Root
	base string
	temp string
	f    *os.File
	at   int64 // where the next chunk goes
	end  int64 // of what was written; holes are not
}

// present adds up the bytes of files that are there with the right size.
func (m *materializer) present(packages []manifest.Package) int64 {
	var n int64
	for _, p := range packages {
		if p.Kind == manifest.PackageFile {
			if info, err := m.root.Lstat(filepath.FromSlash(p.Path)); err == nil && info.Mode().IsRegular() {
				n += info.Size()
			}
			continue
		}
		filepath.WalkDir(filepath.Join(m.dir, filepath.FromSlash(p.Path)), func(_ string, d fs.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				if info, err := d.Info(); err == nil {
					n += info.Size()
				}
			}
			return nil
		})
	}
	return n
}

func (m *materializer) pack(p *manifest.Package) error {
	m.listing, m.target = folders{root: m.root}, folders{root: m.root}
	defer func() {
		if m.writing != nil {
			m.writing.drop()
			m.writing = nil
		}
		m.listing.close()
		m.target.close()
	}()
	if p.CaseSensitive {
		if err := m.needCase(); err != nil {
			return err
		}
	}
	if dir := path.Dir(p.Path); dir != "." {
		if err := m.mkdirs(dir); err != nil {
			return err
		}
	}
	if p.Kind == manifest.PackageTree {
		if err := m.mkdir(p.Path); err != nil {
			return err
		}
	}
	var queue content.Queue[*outFile]
	entries := func(yield func(chunk.Entry, error) bool) {
		err := content.Walk(m.ctx, m.s.Store, p, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
			e.Path = path.Join(p.Path, e.Path)
			if runtime.GOOS == "windows" {
				if err := manifest.CheckPath(e.Path); err != nil {
					return fmt.Errorf("this file system cannot have it: %w", err)
				}
			}
			return m.entry(e, chunks, &queue, yield)
		})
		if err != nil && err != content.ErrStopped {
			yield(chunk.Entry{}, err)
		}
	}
	if m.zero == (chunk.Name{}) {
		m.zero = chunk.NameOf(make([]byte, m.s.Store.Config().Chunk.Max))
	}
	if err := m.s.Store.Read(m.ctx, entries, func(e chunk.Entry, data []byte) error {
		return m.write(e, data, &queue)
	}); err != nil {
		return err
	}
	// Links last: no file is ever written through one.
	for _, l := range m.links {
		if err := m.link(l); err != nil {
			return err
		}
	}
	m.links = nil
	for _, d := range slices.Backward(m.modes) {
		root, base, err := m.listing.of(d.path)
		if err == nil {
			err = root.Chmod(base, d.mode)
		}
		if err != nil {
			return err
		}
	}
	m.modes = nil
	return nil
}

// needCase refuses a folder that takes two names for one.
func (m *materializer) needCase() error {
	const probe = ".davit-case-Probe"
	f, err := m.root.OpenFile(probe, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	f.Close()
	defer m.root.Remove(probe)
	if _, err := m.root.Lstat(strings.ToUpper(probe)); err == nil {
		return fmt.Errorf("the package has names that differ only in case, and %s is on a file system that takes them for one", m.dir)
	}
	return nil
}

// folders keeps the folders on the way to the last name open: names in the
// order of a listing then open each folder once, from its parent.
type folders struct {
	root *os.Root
	way  []openFolder
}

type openFolder struct {
	path string
	root *os.Root
}

// of opens the folder that name lies in, until the next call, and returns it
// with the last element.
func (f *folders) of(name string) (*os.Root, string, error) {
	dir, base := path.Split(name)
	dir = strings.TrimSuffix(dir, "/")
	for n := len(f.way); n > 0 && !within(dir, f.way[n-1].path); n-- {
		f.way[n-1].root.Close()
		f.way = f.way[:n-1]
	}
	at, root := "", f.root
	if n := len(f.way); n > 0 {
		at, root = f.way[n-1].path, f.way[n-1].root
	}
	for at != dir {
		element, _, _ := strings.Cut(strings.TrimPrefix(dir[len(at):], "/"), "/")
		sub, err := root.OpenRoot(element)
		if err != nil {
			return nil, "", err
		}
		at, root = path.Join(at, element), sub
		f.way = append(f.way, openFolder{at, root})
	}
	return root, base, nil
}

// within reports whether dir is parent or lies in it.
func within(dir, parent string) bool {
	return strings.HasPrefix(dir, parent) && (len(dir) == len(parent) || dir[len(parent)] == '/')
}

func (f *folders) close() {
	for _, o := range f.way {
		o.root.Close()
	}
	f.way = nil
}

func (m *materializer) mkdirs(dir string) error {
	if parent := path.Dir(dir); parent != "." {
		if err := m.mkdirs(parent); err != nil {
			return err
		}
	}
	return m.mkdir(dir)
}

// mkdir makes a folder unless it is there. A link in its place is not taken
// for one.
func (m *materializer) mkdir(dir string) error {
	root, base, err := m.listing.of(dir)
	if err != nil {
		return err
	}
	if err := root.Mkdir(base, 0o755); !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := root.Lstat(base)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return m.inTheWay(dir, "a folder")
	}
	return nil
}

func (m *materializer) inTheWay(name, wanted string) error {
	return fmt.Errorf("%s is in the way: the release has %s there. Move it away and try again", filepath.Join(m.dir, filepath.FromSlash(name)), wanted)
}

// entry makes what needs no content, and lists the chunks of the files that
// must be written.
func (m *materializer) entry(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error], queue *content.Queue[*outFile], yield func(chunk.Entry, error) bool) error {
	switch e.Type {
	case manifest.TreeDir:
		if err := m.mkdir(e.Path); err != nil {
			return err
		}
		m.modes = append(m.modes, dirMode{e.Path, fs.FileMode(e.Mode)})
		return nil
	case manifest.TreeLink:
		m.links = append(m.links, e)
		return nil
	}
	root, base, err := m.listing.of(e.Path)
	if err != nil {
		return err
	}
	same, err := m.same(root, base, e)
	if err != nil {
		return err
	}
	m.report.Files++
	m.report.Bytes += e.Size
	if same {
		m.report.Kept++
		m.step(e.Size)
		return nil
	}
	m.report.Written++
	out := &outFile{path: e.Path, mode: fs.FileMode(e.Mode), size: e.Size}
	if e.Size == 0 {
		if err := out.create(root, base); err != nil {
			return err
		}
		return out.finish()
	}
	queue.Push(out)
	for c, err := range chunks {
		if err != nil {
			return err
		}
		if !yield(c, nil) {
			return content.ErrStopped
		}
	}
	return nil
}

// same reports whether the file is there with the right content. If so, only
// its mode is set.
func (m *materializer) same(root *os.Root, base string, e manifest.TreeEntry) (bool, error) {
	info, err := root.Lstat(base)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if info.IsDir() {
		return false, m.inTheWay(e.Path, "a file")
	}
	if !info.Mode().IsRegular() || info.Size() != e.Size {
		return false, nil
	}
	f, err := root.Open(base)
	if err != nil {
		return false, nil // what cannot be read is replaced
	}
	defer f.Close()
	if m.buf == nil {
		m.buf = make([]byte, 256<<10)
	}
	sum := sha256.New()
	// The file's own WriteTo would make a small buffer for each.
	if _, err := io.CopyBuffer(sum, struct{ io.Reader }{f}, m.buf); err != nil || manifest.Digest(sum.Sum(nil)) != e.SHA256 {
		return false, nil
	}
	if mode := fs.FileMode(e.Mode); info.Mode().Perm() != mode {
		return true, root.Chmod(base, mode)
	}
	return true, nil
}

// write takes the next chunk of content.
func (m *materializer) write(e chunk.Entry, data []byte, queue *content.Queue[*outFile]) error {
	if m.writing == nil {
		out := queue.Pop()
		root, base, err := m.target.of(out.path)
		if err != nil {
			return err
		}
		if err := out.create(root, base); err != nil {
			return err
		}
		m.writing = out
	}
	out := m.writing
	// Zeros become a hole where the file system has holes.
	if e.Name != m.zero {
		if _, err := out.f.WriteAt(data, out.at); err != nil {
			return fmt.Errorf("write %s: %w", out.path, noSpace(m.dir, err))
		}
		out.end = out.at + int64(len(data))
	}
	out.at += int64(len(data))
	m.step(int64(len(data)))
	if out.at < out.size {
		return nil
	}
	m.writing = nil
	if err := out.finish(); err != nil {
		return fmt.Errorf("write %s: %w", out.path, noSpace(m.dir, err))
	}
	return nil
}

// noSpace says where room ran out.
func noSpace(where string, err error) error {
	if !durable.IsNoSpace(err) {
		return err
	}
	free, _ := durable.Free(where)
	return &bucket.NoSpaceError{Where: where, Have: free, Err: err}
}

func (m *materializer) step(n int64) {
	if done := m.done.Add(n); m.progress != nil {
		m.progress(done, m.total)
	}
}

// create opens a temporary file beside the target.
func (o *outFile) create(root *os.Root, base string) error {
	var r [8]byte
	rand.Read(r[:])
	o.root, o.base, o.temp = root, base, ".davit-tmp-"+hex.EncodeToString(r[:])
	var err error
	o.f, err = root.OpenFile(o.temp, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	return err
}

// finish gives the file its size, mode and name.
func (o *outFile) finish() error {
	var err error
	if o.end < o.size {
		err = o.f.Truncate(o.size)
	}
	err = errors.Join(err, o.f.Chmod(o.mode), o.f.Close())
	if err == nil {
		err = o.root.Rename(o.temp, o.base)
	}
	if err != nil {
		o.root.Remove(o.temp)
	}
	return err
}

func (o *outFile) drop() {
	o.f.Close()
	o.root.Remove(o.temp)
}

// link makes a symbolic link, replacing what is there unless it is a folder.
func (m *materializer) link(e manifest.TreeEntry) error {
	root, base, err := m.listing.of(e.Path)
	if err != nil {
		return err
	}
	target := filepath.FromSlash(e.Target)
	info, err := root.Lstat(base)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return err
	case info.IsDir():
		return m.inTheWay(e.Path, "a link")
	default:
		if now, err := root.Readlink(base); err == nil && now == target {
			return nil
		}
		if err := root.Remove(base); err != nil {
			return err
		}
	}
	return root.Symlink(target, base)
}
