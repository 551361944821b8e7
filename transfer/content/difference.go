package content

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"slices"
	"time"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
	"davit/transfer/delta"
	"davit/transfer/delta/deflate"
)

// Options for Make and Apply.
type Options struct {
	TempDir string

	// For Apply: whether there is room for so many bytes in TempDir and the
	// store; an error stops it. nil: not asked.
	Room func(need int64) error

	// For Make alone:
	Limit    int64                 // a difference of this size or more is delta.ErrNotWorth; 0: the size of the target
	Budget   time.Duration         // for proving, a GiB of what is looked into; 10 minutes if 0, and a minute at least
	Encoders []deflate.Encoder     // that the receiver has; nil: all of this build
	Held     func(chunk.Name) bool // whether the receiver has a chunk; nil: none. A hint: what is wrong costs bytes, nothing else
}

const (
	// A core proves some 40 MB a second of what is opened, which is several
	// times the package; but machines are busy with other things too.
	budgetGiB   = 10 * time.Minute
	budgetLeast = time.Minute
)

func (o Options) delta(size int64) delta.Options {
	perGiB := o.Budget
	if perGiB == 0 {
		perGiB = budgetGiB
	}
	return delta.Options{TempDir: o.TempDir, Limit: o.Limit, Encoders: o.Encoders,
		Budget: max(budgetLeast, time.Duration(float64(perGiB)*float64(size)/(1<<30)))}
}

// Result says what Make made.
type Result struct {
	delta.Result
	Files   int   // of a tree, that are carried
	Carried int64 // their bytes
	// Loose chunks are not in the difference: they must be with the receiver,
	// or travel otherwise.
	Loose []chunk.Entry
}

// Make writes the difference from base to target, packages of one kind that
// are both in st, and proves it before. Errors are those of [delta.Make]; the
// Result then says why.
func Make(ctx context.Context, st *store.Store, base, target *manifest.Package, w io.Writer, o Options) (*Result, error) {
	if base.Kind != target.Kind {
		return nil, fmt.Errorf("make difference: packages of kind %s and %s have none: %w", base.Kind, target.Kind, delta.ErrNotWorth)
	}
	if target.Kind == manifest.PackageTree {
		return makeTree(ctx, st, base, target, w, o)
	}
	old, err := spill(ctx, st, base.Content, o.TempDir)
	if err != nil {
		return nil, err
	}
	defer drop(old)
	now, err := spill(ctx, st, target.Content, o.TempDir)
	if err != nil {
		return nil, err
	}
	defer drop(now)
	r, err := delta.Make(ctx, old, base.Size, now, target.Size, w, o.delta(target.Size))
	if r == nil {
		return nil, err
	}
	return &Result{Result: *r}, err
}

// Apply takes target, which is not there, into st, by a difference from base,
// which is. Nothing refers to it then. An error that wraps ErrDamaged or
// ErrVersion, or one of those of [delta.Apply], says that the difference is to
// blame.
func Apply(ctx context.Context, st *store.Store, base, target *manifest.Package, difference io.ReaderAt, size int64, o Options) error {
	if base.Kind != target.Kind {
		return fmt.Errorf("%w: it is between packages of kind %s and %s", ErrDamaged, base.Kind, target.Kind)
	}
	if target.Kind == manifest.PackageTree {
		return applyTree(ctx, st, base, target, difference, size, o)
	}
	v, err := promised(difference, size, target.Size, target.Size)
	if err != nil {
		return err
	}
	if err := o.room(base.Size, v); err != nil {
		return err
	}
	old, err := spill(ctx, st, base.Content, o.TempDir)
	if err != nil {
		return err
	}
	defer drop(old)
	out, err := applyDelta(ctx, old, base.Size, difference, size, o)
	if err != nil {
		return err
	}
	defer drop(out)
	var ref chunk.Ref
	var sum store.FileSum
	if _, err := st.Write(ctx, func(w *store.Writer) error {
		ref, sum, err = w.AddFile(out)
		return err
	}); err != nil {
		return err
	}
	if manifest.Digest(sum.SHA256) != target.SHA256 || ref != target.Content {
		return fmt.Errorf("%w: it gives another file than the one that was signed", ErrDamaged)
	}
	return nil
}

// promised looks at the header of a delta whose target has least to most bytes.
func promised(d io.ReaderAt, size, least, most int64) (*delta.View, error) {
	v, err := delta.Inspect(d, size)
	if err != nil {
		return nil, err
	}
	if v.Target.Size < least || v.Target.Size > most {
		return nil, fmt.Errorf("%w: it promises %d bytes, which is not what was signed", ErrDamaged, v.Target.Size)
	}
	return v, nil
}

// room asks for what a delta takes at most: the base, opened too, the target,
// opened too and put together, and what of it is new in the store.
func (o Options) room(base int64, v *delta.View) error {
	if o.Room == nil {
		return nil
	}
	need := base + 3*v.Target.Size
	if v.Form == delta.Opened {
		need += v.Source + v.Opened
	}
	return o.Room(need)
}

func applyDelta(ctx context.Context, base io.ReaderAt, baseSize int64, d io.ReaderAt, size int64, o Options) (*os.File, error) {
	out, err := os.CreateTemp(o.TempDir, "davit-target-*")
	if err != nil {
		return nil, err
	}
	err = delta.Apply(ctx, base, baseSize, d, size, out, delta.Options{TempDir: o.TempDir})
	if err == nil {
		_, err = out.Seek(0, io.SeekStart)
	}
	if err != nil {
		drop(out)
		return nil, err
	}
	return out, nil
}

// makeTree makes the difference of two trees.
//
//	listings ▸ choose ▸ archive of base, archive of target ▸ rebuild ? ▸ delta
func makeTree(ctx context.Context, st *store.Store, base, target *manifest.Package, w io.Writer, o Options) (*Result, error) {
	if o.Held == nil {
		o.Held = func(chunk.Name) bool { return false }
	}
	have, err := newOrigins(ctx, st, base, o.TempDir)
	if err != nil {
		return nil, err
	}
	defer have.Close()
	chosen, err := choose(ctx, st, base, target, have, o.Held)
	if err != nil {
		return nil, err
	}
	h := &head{}
	for line := range chosen.partners {
		h.partners = append(h.partners, line)
	}
	slices.Sort(h.partners)
	now, nowSize, err := archiveTarget(ctx, st, target, chosen, h, o.TempDir)
	if err != nil {
		return nil, err
	}
	defer drop(now)
	if err := rebuild(ctx, st, have, h, now, nowSize, target, o.TempDir); errors.Is(err, ErrDamaged) {
		// Made with other chunks than this store cuts.
		return &Result{Result: delta.Result{Reason: "its files are cut into other chunks than here"}}, fmt.Errorf("make difference: %w: %v", delta.ErrNotWorth, err)
	} else if err != nil {
		return nil, err
	}
	old, oldSize, err := archiveBase(ctx, st, base, h.partners, math.MaxInt64, o.TempDir)
	if err != nil {
		return nil, err
	}
	defer drop(old)
	text := h.append(nil)
	do := o.delta(chosen.carried)
	if do.Limit == 0 {
		do.Limit = target.Size
	}
	if do.Limit -= int64(len(text)); do.Limit <= 0 {
		return &Result{Result: delta.Result{Reason: "the names of its chunks alone take as much"}}, fmt.Errorf("make difference: %w", delta.ErrNotWorth)
	}
	made, err := delta.Make(ctx, old, oldSize, now, nowSize, &headed{w: w, head: text}, do)
	if made == nil {
		return nil, err
	}
	r := &Result{Result: *made, Carried: chosen.carried, Loose: h.loose}
	r.Bytes += int64(len(text))
	for _, f := range chosen.files {
		if f.carried {
			r.Files++
		}
	}
	if made.Streams == 0 {
		r.Reason = "" // a tree without archives is no less well off raw
	}
	return r, err
}

// headed writes a head before the first byte.
type headed struct {
	w    io.Writer
	head []byte
}

func (h *headed) Write(p []byte) (int, error) {
	if h.head != nil {
		if _, err := h.w.Write(h.head); err != nil {
			return 0, err
		}
		h.head = nil
	}
	return h.w.Write(p)
}

// archiveTarget writes the archive of the target, and fills the head.
func archiveTarget(ctx context.Context, st *store.Store, target *manifest.Package, chosen *choice, h *head, temp string) (*os.File, int64, error) {
	a, err := newArchiver(ctx, st, temp)
	if err != nil {
		return nil, 0, err
	}
	short := store.NewSpool(temp)
	defer short.Close()
	full := st.Open(ctx, *target.Tree)
	defer full.Close()
	lines := bufio.NewReaderSize(full, maxLine)
	put := func(line []byte) error {
		h.listing += int64(len(line))
		_, err := short.Write(line)
		return err
	}
	read := func() ([]byte, error) {
		line, err := lines.ReadSlice('\n')
		if err != nil {
			err = fmt.Errorf("read listing: %w", err)
		}
		return line, err
	}
	files, at := chosen.files, int64(-1)
	line, err := read() // the header
	if err == nil {
		err = put(line)
	}
	if err == nil {
		err = Walk(ctx, st, target, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
			at++
			line, err := read()
			if err != nil {
				return err
			}
			if len(files) == 0 || files[0].line != at {
				return put(line)
			}
			f := files[0]
			files = files[1:]
			if f.carried {
				if err := a.add(e.Size, chunks); err != nil {
					return err
				}
				return put(shorten(line))
			}
			if e.Size > int64(st.Config().Chunk.Min) {
				for c, err := range chunks {
					if err != nil {
						return err
					}
					if h.loose = append(h.loose, c); len(h.loose) > maxLoose {
						return fmt.Errorf("more than %d chunks are new: %w", maxLoose, delta.ErrNotWorth)
					}
				}
			}
			return put(line)
		})
	}
	var listing io.Reader
	if err == nil {
		listing, err = short.Reader()
	}
	if err != nil {
		a.drop()
		return nil, 0, err
	}
	f, size, err := a.finish(listing, h.listing)
	if err != nil {
		a.drop()
	}
	return f, size, err
}

// archiveBase writes the archive of the base, of at most so many bytes.
func archiveBase(ctx context.Context, st *store.Store, base *manifest.Package, partners []int64, most int64, temp string) (*os.File, int64, error) {
	a, err := newArchiver(ctx, st, temp)
	if err != nil {
		return nil, 0, err
	}
	at := int64(-1)
	err = Walk(ctx, st, base, func(e manifest.TreeEntry, chunks iter.Seq2[chunk.Entry, error]) error {
		at++
		if len(partners) == 0 || partners[0] != at {
			return nil
		}
		partners = partners[1:]
		if e.Type != manifest.TreeFile || e.Size == 0 || e.Size > maxMember {
			return fmt.Errorf("%w: a partner is no file, or too large", ErrDamaged)
		}
		if most -= e.Size; most < 0 {
			return fmt.Errorf("%w: its partners are larger than it says", ErrDamaged)
		}
		return a.add(e.Size, chunks)
	})
	if err == nil && len(partners) > 0 {
		err = fmt.Errorf("%w: a partner is not in the base", ErrDamaged)
	}
	if err == nil {
		listing := st.Open(ctx, *base.Tree)
		defer listing.Close()
		var f *os.File
		var size int64
		if f, size, err = a.finish(listing, base.Tree.Size); err == nil {
			return f, size, nil
		}
	}
	a.drop()
	return nil, 0, err
}

func applyTree(ctx context.Context, st *store.Store, base, target *manifest.Package, difference io.ReaderAt, size int64, o Options) error {
	h, start, err := readHead(bufio.NewReaderSize(io.NewSectionReader(difference, 0, min(size, maxHead)), 64<<10))
	if err != nil {
		return err
	}
	if h.listing > target.Tree.Size {
		return fmt.Errorf("%w: its listing is longer than the one that was signed", ErrDamaged)
	}
	rest := io.NewSectionReader(difference, start, size-start)
	most := int64(len(archiveMagic)) + h.listing + target.Size + (target.Files+1)*(memberHead+1)
	v, err := promised(rest, size-start, 0, most)
	if err != nil {
		return err
	}
	if v.Base.Size > int64(len(archiveMagic))+base.Tree.Size+base.Size+(base.Files+1)*(memberHead+1) {
		return fmt.Errorf("%w: it builds on more than the base has", ErrDamaged)
	}
	if err := o.room(v.Base.Size, v); err != nil {
		return err
	}
	old, oldSize, err := archiveBase(ctx, st, base, h.partners, v.Base.Size, o.TempDir)
	if err != nil {
		return err
	}
	defer drop(old)
	now, err := applyDelta(ctx, old, oldSize, rest, size-start, o)
	if err != nil {
		return err
	}
	defer drop(now)
	info, err := now.Stat()
	if err != nil {
		return err
	}
	have, err := newOrigins(ctx, st, base, o.TempDir)
	if err != nil {
		return err
	}
	defer have.Close()
	return rebuild(ctx, st, have, h, now, info.Size(), target, o.TempDir)
}

// Loose reads from the difference of two packages the chunks that it leaves to
// others.
func Loose(kind string, r io.Reader) ([]chunk.Entry, error) {
	if kind != manifest.PackageTree {
		return nil, nil
	}
	h, _, err := readHead(bufio.NewReaderSize(r, 64<<10))
	if err != nil {
		return nil, err
	}
	return h.loose, nil
}

// spill writes a stream to a temporary file.
func spill(ctx context.Context, st *store.Store, ref chunk.Ref, temp string) (*os.File, error) {
	f, err := os.CreateTemp(temp, "davit-content-*")
	if err != nil {
		return nil, err
	}
	err = st.Read(ctx, st.Entries(ctx, ref), func(_ chunk.Entry, data []byte) error {
		_, err := f.Write(data)
		return err
	})
	if err != nil {
		drop(f)
		return nil, err
	}
	return f, nil
}

// Pattern is a name in which all numbers are alike: that of other versions.
func Pattern(name string) string { return numbers.ReplaceAllString(name, "#") }

// Sketch samples what is in a package: the content of a file, the chunks of a
// tree.
func Sketch(ctx context.Context, st *store.Store, p *manifest.Package, temp string) (delta.Sketch, error) {
	if p.Kind == manifest.PackageTree {
		var s delta.Sketch
		for e, err := range st.Entries(ctx, p.Content) {
			if err != nil {
				return nil, err
			}
			s = s.Add(binary.LittleEndian.Uint64(e.Name[:]))
		}
		return s, nil
	}
	f, err := spill(ctx, st, p.Content, temp)
	if err != nil {
		return nil, err
	}
	defer drop(f)
	return delta.MakeSketch(ctx, f, p.Size, delta.Options{TempDir: temp})
}
