package bundle

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"davit/store/bucket"
)

// Publish makes the volumes visible, from the last to the first. When it
// returns nil, all are, durably. After an error it may be called again and
// goes on where it broke off, unless the error is an *ExistError: then another
// bundle has the name, and only Abort is left.
func (w *Writer) Publish(ctx context.Context) error {
	switch w.state {
	case published:
		return nil
	case sealed:
	default:
		return errors.New("publish bundle: it is not sealed")
	}
	for _, v := range slices.Backward(w.begun) {
		if v.visible {
			continue
		}
		name := w.common.Name(v.header.Volume, w.common.Volumes)
		if err := w.commit(ctx, name, v); err != nil {
			return fmt.Errorf("publish volume %d of %d: %w", v.header.Volume, w.common.Volumes, err)
		}
		v.visible = true
	}
	w.state = published
	return nil
}

// commit gives one volume its name. An earlier try may have failed and yet
// have taken effect, here or in a bucket that tries again by itself, so what
// the name holds decides.
func (w *Writer) commit(ctx context.Context, name string, v *volumeFile) error {
	again := v.tried
	v.tried = true
	err := v.out.Commit(ctx, name)
	taken := errors.Is(err, bucket.ErrExist)
	if err == nil || !taken && !again {
		return err
	}
	switch ours, lookErr := w.holds(ctx, name, v); {
	case lookErr != nil:
		return errors.Join(err, lookErr)
	case ours:
		return nil
	case taken:
		return w.exists(ctx, name)
	}
	return err
}

// holds reports whether name holds this volume. The footer carries the sums of
// the header and of all block sums, so comparing it compares everything.
func (w *Writer) holds(ctx context.Context, name string, v *volumeFile) (bool, error) {
	o, err := w.medium.Open(ctx, name)
	if errors.Is(err, bucket.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s on the medium: %w", name, err)
	}
	defer o.Close()
	if o.Size() != v.header.fileSize() {
		return false, nil
	}
	end := make([]byte, len(v.footer))
	if err := readFull(o, end, o.Size()-int64(len(end))); err != nil {
		return false, fmt.Errorf("look at %s on the medium: %w", name, err)
	}
	return bytes.Equal(end, v.footer), nil
}

// exists says what a taken name holds.
func (w *Writer) exists(ctx context.Context, name string) error {
	e := &ExistError{Name: name, Holder: "something that is no volume this davit can read", Err: bucket.ErrExist}
	o, err := w.medium.Open(ctx, name)
	if err != nil {
		return e // the name is taken, whatever keeps it from being read
	}
	defer o.Close()
	block := make([]byte, HeaderSize)
	if readFull(o, block, 0) == nil {
		if h, err := parseHeader(block); err == nil {
			e.Holder = h.Label.String()
		}
	}
	return e
}
