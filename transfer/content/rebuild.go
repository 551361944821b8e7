package content

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"

	"davit/manifest"
	"davit/store"
	"davit/store/chunk"
)

// Marks in the line of a file.
var (
	fileMode = []byte(`","type":"file","mode":`)
	sizeMark = []byte(`,"size":`)
	sumMark  = []byte(`,"sha256":"`)
	lineEnd  = []byte("\"}\n")
)

const (
	maxLine    = 8 << 10   // longer than a line of a listing can be
	lineWindow = 256 << 10 // bytes of lines that wait for the files before them
)

// shorten leaves out of the line of a file what the file itself tells.
func shorten(line []byte) []byte {
	i := bytes.LastIndex(line, sizeMark)
	return append(line[:i:i], "}\n"...)
}

// isShort reports whether a line is of a carried file.
func isShort(line []byte) bool {
	return bytes.Contains(line, fileMode) && !bytes.HasSuffix(line, lineEnd)
}

// lengthen undoes shorten.
func lengthen(line []byte, sum store.FileSum) []byte {
	line = append(line[:len(line)-2:len(line)-2], sizeMark...)
	line = strconv.AppendInt(line, sum.Size, 10)
	line = append(line, sumMark...)
	line = hex.AppendEncode(line, sum.SHA256[:])
	return append(line, lineEnd...)
}

// parseFile reads size and sum from the whole line of a file; of others ok is
// false.
func parseFile(line []byte) (e manifest.TreeEntry, ok bool) {
	i, j := bytes.LastIndex(line, sizeMark), bytes.LastIndex(line, sumMark)
	if !bytes.Contains(line, fileMode) || i < 0 || j < i || len(line)-j != len(sumMark)+2*len(e.SHA256)+len(lineEnd) {
		return e, false
	}
	var err error
	if e.Size, err = strconv.ParseInt(string(line[i+len(sizeMark):j]), 10, 64); err != nil || e.Size < 0 {
		return e, false
	}
	_, err = hex.Decode(e.SHA256[:], line[j+len(sumMark):len(line)-len(lineEnd)])
	return e, err == nil
}

// rebuilder puts a tree together from an archive and its base.
type rebuilder struct {
	base    *origins
	loose   []chunk.Entry
	content *store.Stream
	listing *store.Spool
	left    int64 // bytes that the files may still have; touched in callbacks only
}

// rebuild takes the tree that an archive and its base make into the store, and
// compares it with what the package should be.
func rebuild(ctx context.Context, st *store.Store, base *origins, h *head, archive io.ReaderAt, size int64, p *manifest.Package, temp string) error {
	files, text, err := openArchive(archive, size, h.listing)
	if err != nil {
		return err
	}
	r := &rebuilder{base: base, loose: h.loose, listing: store.NewSpool(temp), left: p.Size}
	defer r.listing.Close()
	_, err = st.Write(ctx, func(w *store.Writer) error {
		r.content = w.NewStream()
		if err := r.lines(ctx, files, text); err != nil {
			return err
		}
		content, err := r.content.Close()
		if err != nil {
			return err
		}
		if len(r.loose) > 0 || !files.done() {
			return fmt.Errorf("%w: it has more than the listing names", ErrDamaged)
		}
		if content != p.Content {
			return fmt.Errorf("%w: the files of package %s are not those that were signed", ErrDamaged, p.Name)
		}
		listing, err := r.listing.Reader()
		if err != nil {
			return err
		}
		tree, sum, err := w.AddFile(listing)
		if err != nil {
			return err
		}
		if p.Tree == nil || tree != *p.Tree || manifest.Digest(sum.SHA256) != p.SHA256 {
			return fmt.Errorf("%w: the listing of package %s is not the one that was signed", ErrDamaged, p.Name)
		}
		return nil
	})
	if errors.Is(err, store.ErrTooManyChunks) {
		return fmt.Errorf("%w: %v", ErrDamaged, err)
	}
	return err
}

// lines goes through the short listing.
func (r *rebuilder) lines(ctx context.Context, files *members, text io.Reader) error {
	in := bufio.NewReaderSize(text, maxLine)
	waiting := 0
	for {
		if err := ctx.Err(); err != nil {
			return context.Cause(ctx)
		}
		line, err := in.ReadSlice('\n')
		switch {
		case err == io.EOF && len(line) == 0:
			return nil
		case err == io.EOF, errors.Is(err, bufio.ErrBufferFull):
			return fmt.Errorf("%w: a line of its listing does not end", ErrDamaged)
		case err != nil:
			return err
		}
		line = bytes.Clone(line)
		if waiting += len(line); waiting > lineWindow {
			if err := r.content.Push(); err != nil {
				return err
			}
			waiting = 0
		}
		if !isShort(line) {
			if err := r.content.Then(func() error { return r.line(line) }); err != nil {
				return err
			}
			continue
		}
		file, err := files.next()
		if err != nil {
			return err
		}
		if err := r.content.Add(file, func(sum store.FileSum) error {
			if err := r.take(sum.Size); err != nil {
				return err
			}
			_, err := r.listing.Write(lengthen(line, sum))
			return err
		}); err != nil {
			return err
		}
	}
}

// line takes a line as it is, and the chunks of its file from elsewhere.
func (r *rebuilder) line(line []byte) error {
	if _, err := r.listing.Write(line); err != nil {
		return err
	}
	e, ok := parseFile(line)
	if !ok || e.Size == 0 {
		return nil
	}
	if err := r.take(e.Size); err != nil {
		return err
	}
	switch {
	case e.Size <= r.base.min:
		return r.content.Refer(chunk.Entry{Name: chunk.Name(e.SHA256), Length: uint32(e.Size)})
	case r.base.has(&e):
		return r.base.chunks(&e, r.content.Refer)
	}
	for left := e.Size; left > 0; {
		if len(r.loose) == 0 || int64(r.loose[0].Length) > left {
			return fmt.Errorf("%w: the chunks of a file are not in it", ErrDamaged)
		}
		if err := r.content.Refer(r.loose[0]); err != nil {
			return err
		}
		left -= int64(r.loose[0].Length)
		r.loose = r.loose[1:]
	}
	return nil
}

// take counts the bytes of a file, so that a few lines cannot name more than
// there is to be.
func (r *rebuilder) take(n int64) error {
	if r.left -= n; r.left < 0 {
		return fmt.Errorf("%w: its files are larger than was signed", ErrDamaged)
	}
	return nil
}
