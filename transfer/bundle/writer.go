package bundle

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/cespare/xxhash/v2"

	"davit/manifest"
	"davit/store/bucket"
)

// Writer lays a payload over volumes. It is an io.Writer of the payload from
// beginning to end, for one goroutine. See the package comment for the order
// of calls.
type Writer struct {
	ctx    context.Context // governs Write and Seal, which take none
	medium bucket.Bucket
	common common
	layout Layout

	begun  []*volumeFile   // volumes 1 to len(begun); without parity all but the last are closed
	parity *parityPipeline // nil without parity
	at     int64           // bytes of payload taken
	state  writerState
	err    error // the first failure of Write or Seal
}

type writerState int

const (
	writing writerState = iota
	sealed
	published
	aborted
)

// volumeFile is one volume on its way to the medium.
type volumeFile struct {
	out    bucket.Writer
	header Header
	block  []byte // the encoded header, until the volume is full
	buf    *bufio.Writer
	sum    xxhash.Digest
	sums   []uint64
	left   int64 // bytes of data still to come

	footer  []byte // tells this volume from any other
	tried   bool   // Commit was called
	visible bool   // and it, or a look at the medium, said the name is ours
}

// writeBuffer gathers small writes; larger ones pass it by.
const writeBuffer = 256 << 10

// NewWriter starts a bundle with a payload of the given length, the last
// documents bytes of which are the documents part. volumeSize 0 means
// DefaultVolumeSize. It fails with an *ExistError when a name is taken and
// with a *bucket.NoSpaceError when the medium can tell that it has no room;
// nothing is written in either case.
func NewWriter(ctx context.Context, medium bucket.Bucket, label Label, payload, documents, volumeSize int64) (*Writer, error) {
	return NewWriterWith(ctx, medium, label, payload, documents, Options{VolumeSize: volumeSize})
}

// NewWriterWith is NewWriter with all options.
func NewWriterWith(ctx context.Context, medium bucket.Bucket, label Label, payload, documents int64, o Options) (*Writer, error) {
	layout, err := PlanWith(payload, o)
	if err != nil {
		return nil, err
	}
	if (o.Statement != nil) != (o.StatementSize > 0) {
		return nil, errors.New("start bundle: a statement needs its size and something that makes it")
	}
	label.Created = manifest.NewTime(label.Created.Time) // as the header will say it
	w := &Writer{
		ctx: ctx, medium: medium, layout: layout,
		common: common{
			Version: plainVersion, Label: label, Volumes: len(layout.Volumes), Payload: payload,
			Documents: documents, Capacity: layout.Volumes[0].Length,
		},
	}
	if o.Parity != 0 {
		w.common.Version, w.common.Geometry, w.common.Statement = parityVersion, layout.Geometry, o.StatementSize
		if w.parity, err = newParityPipeline(w, o); err != nil {
			return nil, err
		}
	}
	if err := w.common.volume(1).Validate(); err != nil {
		return nil, err
	}
	if err := w.checkMedium(w.Names(), layout.Total); err != nil {
		return nil, err
	}
	return w, nil
}

// checkMedium reports whether the names are free and there is room enough.
func (w *Writer) checkMedium(names []string, total int64) error {
	for _, name := range names {
		switch _, err := w.medium.Stat(w.ctx, name); {
		case err == nil:
			return w.exists(w.ctx, name)
		case !errors.Is(err, bucket.ErrNotExist):
			return fmt.Errorf("look for %s on the medium: %w", name, err)
		}
	}
	if s, ok := w.medium.(bucket.Spacer); ok {
		switch free, err := s.Free(w.ctx); {
		case errors.Is(err, errors.ErrUnsupported):
		case err != nil:
			return fmt.Errorf("ask for free space on the medium: %w", err)
		case free < total:
			return &bucket.NoSpaceError{Where: where(w.medium), Need: total, Have: free}
		}
	}
	return nil
}

// where names a medium for people as well as it can.
func where(medium bucket.Bucket) string {
	if p, ok := medium.(interface{ Path() string }); ok {
		return p.Path()
	}
	return "the medium"
}

// Names lists the file names of all volumes in order.
func (w *Writer) Names() []string {
	names := make([]string, w.common.Volumes)
	for i := range names {
		names[i] = w.common.Name(i+1, w.common.Volumes)
	}
	return names
}

// Layout says how the payload lies over the volumes.
func (w *Writer) Layout() Layout { return w.layout }

// Write takes the next bytes of the payload. After an error only Abort is of
// use.
func (w *Writer) Write(p []byte) (int, error) {
	if w.err != nil {
		return 0, w.err
	}
	if w.state != writing {
		return 0, errors.New("write bundle: it is closed")
	}
	if int64(len(p)) > w.common.Payload-w.at {
		w.err = fmt.Errorf("write bundle: more than the %d bytes announced", w.common.Payload)
		return 0, w.err
	}
	write := w.write
	if w.parity != nil {
		write = w.parity.write
	}
	n, err := write(p)
	w.at += int64(n)
	w.err = err
	return n, err
}

func (w *Writer) write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		v, err := w.current()
		if err != nil {
			return done, err
		}
		n, err := v.write(p[done:])
		done += n
		if err == nil && v.left == 0 {
			err = v.finish()
		}
		if err != nil {
			return done, fmt.Errorf("write volume %d of %d: %w", v.header.Volume, w.common.Volumes, err)
		}
	}
	return done, nil
}

// current is the volume that takes the next byte.
func (w *Writer) current() (*volumeFile, error) {
	if n := len(w.begun); n > 0 && w.begun[n-1].left > 0 {
		return w.begun[n-1], nil
	}
	if err := w.ctx.Err(); err != nil {
		return nil, err
	}
	v, err := w.begin(len(w.begun) + 1)
	if err != nil {
		return nil, err
	}
	v.buf = bufio.NewWriterSize(v.out, writeBuffer)
	if _, err := v.buf.Write(v.block); err != nil {
		return nil, fmt.Errorf("write header of volume %d of %d: %w", v.header.Volume, v.header.Volumes, err)
	}
	return v, nil
}

// begin creates a volume.
func (w *Writer) begin(n int) (*volumeFile, error) {
	h := w.common.volume(n)
	block, err := h.encode()
	if err != nil {
		return nil, err
	}
	out, err := w.medium.Create(w.ctx)
	if err != nil {
		return nil, fmt.Errorf("create volume %d of %d: %w", h.Volume, h.Volumes, err)
	}
	v := &volumeFile{out: out, header: h, block: block, left: h.Length}
	v.sum.Reset()
	w.begun = append(w.begun, v)
	return v, nil
}

// write takes bytes up to the end of the volume.
func (v *volumeFile) write(p []byte) (int, error) {
	p = p[:min(int64(len(p)), v.left)]
	n, err := v.buf.Write(p)
	p = p[:n]
	for len(p) > 0 {
		at := v.header.Length - v.left
		part := p[:min(int64(len(p)), BlockSize-at%BlockSize)]
		v.sum.Write(part)
		v.left -= int64(len(part))
		p = p[len(part):]
		if v.left == 0 || (v.header.Length-v.left)%BlockSize == 0 {
			v.sums = append(v.sums, v.sum.Sum64())
			v.sum.Reset()
		}
	}
	return n, err
}

// finish writes the trailer and lets go of the file.
func (v *volumeFile) finish() error {
	trailer := encodeTrailer(v.block, v.header.Length, v.sums)
	if _, err := v.buf.Write(trailer); err != nil {
		return err
	}
	if err := v.buf.Flush(); err != nil {
		return err
	}
	v.footer = slices.Clone(trailer[len(trailer)-footerSize:])
	v.block, v.sums, v.buf = nil, nil, nil
	return v.out.Close()
}

// Seal ends writing. When it returns nil, all volumes are on the medium to
// the last byte and survive a power cut, but no name is visible.
func (w *Writer) Seal() error {
	if w.err != nil {
		return w.err
	}
	if w.state == sealed {
		return nil
	}
	if w.state != writing {
		return errors.New("seal bundle: it is closed")
	}
	if w.at != w.common.Payload {
		w.err = fmt.Errorf("seal bundle: %d of the %d bytes announced were written", w.at, w.common.Payload)
		return w.err
	}
	if w.parity != nil {
		if w.err = w.parity.seal(); w.err != nil {
			return w.err
		}
	}
	w.state = sealed
	return nil
}

// Abort takes everything back that is on the medium, hidden or visible. It
// does nothing after Publish has returned nil, and nothing the second time.
func (w *Writer) Abort() error {
	if w.state == published || w.state == aborted {
		return nil
	}
	w.state = aborted
	if w.parity != nil {
		w.parity.end()
	}
	ctx := context.WithoutCancel(w.ctx) // tidying is most needed after a cancel
	var errs []error
	for _, v := range w.begun {
		if err := w.takeBack(ctx, v); err != nil {
			errs = append(errs, fmt.Errorf("take back volume %d of %d: %w", v.header.Volume, w.common.Volumes, err))
		}
	}
	return errors.Join(errs...)
}

func (w *Writer) takeBack(ctx context.Context, v *volumeFile) error {
	if !v.tried {
		return v.out.Abort()
	}
	// A commit that failed may have taken effect all the same, so go by what
	// the name holds, and never remove what is another's.
	name := w.common.Name(v.header.Volume, w.common.Volumes)
	ours, err := w.holds(ctx, name, v)
	if err == nil && ours {
		err = w.medium.Delete(ctx, name)
	}
	return errors.Join(err, v.out.Abort())
}
