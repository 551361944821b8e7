package transfer

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"davit/manifest"
	"davit/store"
	"davit/store/bucket"
	"davit/store/chunk"
	"davit/store/pack"
	"davit/transfer/content"
	"davit/transfer/delta"
)

// A delta that was made once is kept, sealed to the site's own keys, so that a
// dry run, the real one and an export to another peer make it once together.
// Losing one costs time and nothing else: what cannot be read is made anew, and
// where there is no room nothing is kept.

const (
	deltasDir   = "deltas"
	deltasFresh = 24 * time.Hour
)

var deltasKept = int64(2 << 30) // bytes of deltas kept for later exports; tests change it

// keptDelta is what stands before a delta that is kept.
type keptDelta struct {
	Form     string   `json:"form"` // FormChunks: there is none
	Bytes    int64    `json:"bytes"`
	Absent   bool     `json:"absent"` // it was too large for the peer it was made for
	Files    int      `json:"files"`
	Encoders []string `json:"encoders"`
	Reason   string   `json:"reason"`
	file     string
}

// difference makes the delta from one package to another, or finds it among
// those made before. It depends on the two, on the release of the base, on the
// encoders of the peer and the budget; that its chunks would take plain bytes
// decides only whether it is of use.
func (s *Site) difference(ctx context.Context, release manifest.Digest, base, target *manifest.Package, plain int64, o content.Options) (keptDelta, error) {
	dir := filepath.Join(s.work, deltasDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return keptDelta{}, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "%d %v %d %s %v %v", deltaVersion, o.Encoders, o.Budget, release, content.PackageRefs(base), content.PackageRefs(target)))
	file := filepath.Join(dir, hex.EncodeToString(key[:16]))
	if kept, err := s.findKept(file); err == nil && (!kept.Absent || kept.Bytes >= plain) {
		return kept.toPeer(plain), nil
	}
	raw, err := os.CreateTemp(s.work, "davit-delta-*")
	if err != nil {
		return keptDelta{}, err
	}
	defer dropFile(raw)
	made := keptDelta{file: file}
	result, err := content.Make(ctx, s.Store, base, target, raw, o)
	switch {
	case err == nil:
		made.Form, made.Bytes, made.Reason, made.Files = result.Form, result.Bytes, result.Reason, result.Files
		made.Absent = made.Bytes >= plain
		for _, e := range result.Encoders {
			made.Encoders = append(made.Encoders, e.String())
		}
	case errors.Is(err, delta.ErrNotWorth):
		made.Form, made.Reason = FormChunks, noSmaller
		if result != nil && result.Reason != "" {
			made.Reason += " (" + result.Reason + ")"
		}
	case errors.Is(err, delta.ErrTooLarge):
		made.Form, made.Reason = FormChunks, err.Error()
	case ctx.Err() != nil:
		return keptDelta{}, context.Cause(ctx)
	case errors.Is(err, store.ErrDamaged), errors.Is(err, store.ErrMissing):
		// If it is the target, the export fails when it reads that.
		return keptDelta{Form: FormChunks, Reason: "it or its base is damaged here; run davit check"}, nil
	default:
		return s.noRoom(err)
	}
	if err := s.keepDelta(file, made, raw); err != nil {
		return s.noRoom(err)
	}
	s.pruneDeltas(dir)
	return made.toPeer(plain), nil
}

// toPeer is what a delta is to a peer for which the chunks take plain bytes.
func (k keptDelta) toPeer(plain int64) keptDelta {
	if k.Form != FormChunks && k.Bytes >= plain {
		k.Form, k.Reason = FormChunks, noSmaller
	}
	return k
}

// noRoom lets a package go as chunks where there is no room for its delta.
func (s *Site) noRoom(err error) (keptDelta, error) {
	if err = noSpace(s.work, err); is[*bucket.NoSpaceError](err) {
		return keptDelta{Form: FormChunks, Reason: "there is no room in the work folder to make a delta"}, nil
	}
	return keptDelta{}, err
}

// keepDelta writes a delta to its place, sealed to the site's own keys.
func (s *Site) keepDelta(file string, made keptDelta, raw *os.File) error {
	keys, err := s.keys.PackKeys()
	if err != nil {
		return err
	}
	head, err := json.Marshal(made)
	if err != nil {
		return err
	}
	temp, err := os.CreateTemp(filepath.Dir(file), "davit-delta-*")
	if err != nil {
		return err
	}
	defer dropFile(temp)
	w, err := pack.NewEncryptor(temp, keys)
	if err != nil {
		return err
	}
	if _, err := w.Write(append(head, '\n')); err != nil {
		return err
	}
	if made.Form != FormChunks && !made.Absent {
		if _, err := raw.Seek(0, io.SeekStart); err != nil {
			return err
		}
		if n, err := io.Copy(w, raw); err != nil {
			return err
		} else if n != made.Bytes {
			return fmt.Errorf("internal error: the delta has %d bytes instead of %d", n, made.Bytes)
		}
	}
	if err := errors.Join(w.Close(), temp.Close()); err != nil {
		return err
	}
	return os.Rename(temp.Name(), file)
}

// openKept opens a delta that was kept; r reads the delta itself.
func (s *Site) openKept(file string) (*os.File, io.Reader, keptDelta, error) {
	kept := keptDelta{}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, kept, err
	}
	keys, err := s.keys.PackKeys()
	if err == nil {
		var plain io.Reader
		if plain, err = pack.NewDecryptor(bufio.NewReaderSize(f, 256<<10), keys); err == nil {
			r := bufio.NewReaderSize(plain, 64<<10)
			var head []byte
			if head, err = r.ReadSlice('\n'); err == nil {
				if err = json.Unmarshal(head, &kept); err == nil {
					kept.file = file
					return f, r, kept, nil
				}
			}
		}
	}
	f.Close()
	return nil, nil, kept, err
}

// findKept finds a delta that was kept and reads it to its end: written without
// waiting for the disk, it may have been cut off by a power cut. One that is
// found is safe from pruning for a day.
func (s *Site) findKept(file string) (keptDelta, error) {
	f, r, kept, err := s.openKept(file)
	if err != nil {
		return kept, err
	}
	defer f.Close()
	n, err := io.Copy(io.Discard, r)
	want := kept.Bytes
	if kept.Form == FormChunks || kept.Absent {
		want = 0
	}
	if err == nil && n != want {
		err = fmt.Errorf("a kept delta has %d bytes instead of %d", n, want)
	}
	if err == nil {
		now := time.Now()
		err = os.Chtimes(file, now, now)
	}
	if err != nil {
		s.log.Warn("kept delta is made anew", "error", err)
	}
	return kept, err
}

// looseChunks lists the chunks that a kept delta does not bring.
func (s *Site) looseChunks(made keptDelta, kind string) ([]chunk.Entry, error) {
	f, r, _, err := s.openKept(made.file)
	if err != nil {
		return nil, fmt.Errorf("read delta again: %w", err)
	}
	defer f.Close()
	return content.Loose(kind, r)
}

// copyKept writes a kept delta to w, for keys.
func (s *Site) copyKept(w io.Writer, d *difference, keys pack.Keys) error {
	f, r, _, err := s.openKept(d.file)
	if err != nil {
		return fmt.Errorf("read delta of package %s again: %w", d.Package+d.Attachment, err)
	}
	defer f.Close()
	enc, err := pack.NewEncryptor(w, keys)
	if err != nil {
		return err
	}
	n, err := io.Copy(enc, r)
	if err == nil && n != d.bytes {
		err = fmt.Errorf("it has %d bytes instead of %d", n, d.bytes)
	}
	if err != nil {
		return fmt.Errorf("read delta of package %s again: %w; try the export again", d.Package+d.Attachment, err)
	}
	return enc.Close()
}

// pruneDeltas removes the deltas that were not used for the longest time, but
// none of the last day: an export may be about to write it. It is no matter if
// one cannot be removed.
func (s *Site) pruneDeltas(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	var (
		files []os.FileInfo
		sum   int64
	)
	for _, e := range entries {
		if info, err := e.Info(); err == nil {
			files = append(files, info)
			sum += info.Size()
		}
	}
	slices.SortFunc(files, func(a, b os.FileInfo) int { return a.ModTime().Compare(b.ModTime()) })
	for _, f := range files {
		if sum <= deltasKept || time.Since(f.ModTime()) < deltasFresh {
			return
		}
		if err := os.Remove(filepath.Join(dir, f.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			s.log.Warn("remove kept delta", "error", err)
		}
		sum -= f.Size()
	}
}

// sketch makes the sketch of a package, or finds it beside the deltas.
func (s *Site) sketch(ctx context.Context, p *manifest.Package) (delta.Sketch, error) {
	dir := filepath.Join(s.work, deltasDir)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	keys, err := s.keys.PackKeys()
	if err != nil {
		return nil, err
	}
	key := sha256.Sum256(fmt.Appendf(nil, "sketch %d %v", deltaVersion, content.PackageRefs(p)))
	file := filepath.Join(dir, "sketch-"+hex.EncodeToString(key[:16]))
	if sealed, err := os.ReadFile(file); err == nil {
		if b, err := pack.Decrypt(sealed, keys); err == nil && len(b)%8 == 0 {
			var out delta.Sketch
			for ; len(b) > 0; b = b[8:] {
				out = append(out, binary.LittleEndian.Uint64(b))
			}
			return out, nil
		}
	}
	out, err := content.Sketch(ctx, s.Store, p, s.work)
	if err != nil {
		return nil, noSpace(s.work, err)
	}
	var b []byte
	for _, h := range out {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	sealed, err := pack.Encrypt(b, keys)
	if err != nil {
		return nil, err
	}
	if err := os.WriteFile(file, sealed, 0o600); err != nil {
		return nil, noSpace(s.work, err)
	}
	return out, nil
}

func dropFile(f *os.File) {
	f.Close()
	os.Remove(f.Name())
}

// isTemporary reports whether a file in the work folder, or among the kept
// deltas, is what a broken-off run left.
func isTemporary(name string) bool {
	return strings.HasPrefix(name, "davit-") || strings.HasPrefix(name, ".davit-tmp-")
}
