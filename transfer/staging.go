package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path"
	"path/filepath"
	"strings"
	"time"

	"davit/manifest"
	"davit/store/bucket"
	"davit/transfer/bundle"
)

// Volumes of one bundle may come on several media, one after another. What an
// import finds of a bundle that is not complete it keeps under work/incoming,
// and the next import looks there too.
//
//	medium, kept volumes ▸ pile ▸ scan ▸ complete? import : keep what the medium has
//
// Kept volumes are copies, and as hostile as the medium they came from.

const (
	incomingDir = "incoming"
	keptFor     = 90 * 24 * time.Hour // a volume that nothing completes
	keptPrefix  = "(kept here)/"      // before names in a pile
)

// pile is a medium with the volumes kept before on top of it.
type pile struct {
	medium bucket.Reader
	kept   *bucket.Dir
}

func (p *pile) Open(ctx context.Context, name string) (bucket.Object, error) {
	if rest, ok := strings.CutPrefix(name, keptPrefix); ok {
		return p.kept.Open(ctx, rest)
	}
	return p.medium.Open(ctx, name)
}

func (p *pile) Stat(ctx context.Context, name string) (bucket.Info, error) {
	if rest, ok := strings.CutPrefix(name, keptPrefix); ok {
		return p.kept.Stat(ctx, rest)
	}
	return p.medium.Stat(ctx, name)
}

func (p *pile) List(ctx context.Context, prefix string) iter.Seq2[bucket.Info, error] {
	return func(yield func(bucket.Info, error) bool) {
		if prefix != "" {
			yield(bucket.Info{}, errors.New("internal error: a pile is listed whole"))
			return
		}
		for info, err := range p.kept.List(ctx, "") {
			info.Name = keptPrefix + info.Name
			if !yield(info, err) || err != nil {
				return
			}
		}
		for info, err := range p.medium.List(ctx, "") {
			if !yield(info, err) || err != nil {
				return
			}
		}
	}
}

// pile puts the kept volumes on a medium, without those that waited too long.
func (s *Site) pile(ctx context.Context, medium bucket.Reader, dryRun bool) (*pile, error) {
	kept, err := bucket.CreateDir(filepath.Join(s.work, incomingDir))
	if err != nil {
		return nil, fmt.Errorf("open folder of kept volumes: %w", err)
	}
	p := &pile{medium, kept}
	if dryRun {
		return p, nil
	}
	err = p.prune(ctx, s)
	if err != nil {
		kept.Close()
		return nil, err
	}
	return p, nil
}

func (p *pile) prune(ctx context.Context, s *Site) error {
	if _, err := p.kept.Sweep(ctx, staleExport); err != nil {
		return fmt.Errorf("sweep kept volumes: %w", err)
	}
	for info, err := range p.kept.List(ctx, "") {
		if err != nil {
			return fmt.Errorf("list kept volumes: %w", err)
		}
		if s.now().Sub(info.Modified) > keptFor {
			s.log.Warn("volume that nothing completed is removed", "volume", path.Base(info.Name))
			if err := p.kept.Delete(ctx, info.Name); err != nil {
				return err
			}
		}
	}
	return nil
}

// keep copies the volumes of a set that lie on the medium alone, and returns
// how many of the set are kept then. Those that verify found damaged stay where
// they are.
func (s *Site) keepVolumes(ctx context.Context, p *pile, set *bundle.Set, damaged map[string]bool) (int, error) {
	// Anybody can write a label; but only of peers is anything kept.
	if _, err := s.Index.Peer(ctx, set.From); errors.Is(err, ErrNotFound) {
		return 0, nil
	} else if err != nil {
		return 0, err
	}
	var need int64
	from := map[int]string{}
	n := 0
	for volume, names := range set.Present {
		have := false
		for _, name := range names {
			switch {
			case damaged[name]:
			case strings.HasPrefix(name, keptPrefix):
				have = true
			default:
				from[volume] = name
			}
		}
		if have {
			delete(from, volume)
			n++
			continue
		}
		if name, ok := from[volume]; ok {
			info, err := p.Stat(ctx, name)
			if err != nil {
				return n, fromMedium(err)
			}
			need += info.Size
		}
	}
	if free, err := p.kept.Free(ctx); err == nil && free < need+minFree {
		return n, &bucket.NoSpaceError{Where: "the work folder", Need: need + minFree, Have: free}
	}
	for volume, name := range from {
		if err := p.copy(ctx, name, keptName(set, volume)); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

func keptName(set *bundle.Set, volume int) string {
	return set.Bundle.String() + "/" + set.Name(volume, set.Volumes)
}

func (p *pile) copy(ctx context.Context, from, to string) error {
	o, err := p.Open(ctx, from)
	if err != nil {
		return fromMedium(err)
	}
	defer o.Close()
	w, err := p.kept.Create(ctx)
	if err != nil {
		return err
	}
	defer w.Abort()
	buf := make([]byte, 1<<20)
	for at := int64(0); at < o.Size(); {
		if err := ctx.Err(); err != nil {
			return err
		}
		n, err := o.ReadAt(buf[:min(int64(len(buf)), o.Size()-at)], at)
		if n == 0 && err != nil {
			if err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return fromMedium(err)
		}
		if _, err := w.Write(buf[:n]); err != nil {
			return err
		}
		at += int64(n)
	}
	// One that lies there belonged to a set that contradicts this one.
	if err := p.kept.Delete(ctx, to); err != nil {
		return err
	}
	return w.Commit(ctx, to)
}

// letGo removes the kept volumes of a bundle.
func (p *pile) letGo(ctx context.Context, id manifest.BundleID) error {
	for info, err := range p.kept.List(ctx, id.String()+"/") {
		if err != nil {
			return err
		}
		if err := p.kept.Delete(ctx, info.Name); err != nil {
			return err
		}
	}
	return nil
}
