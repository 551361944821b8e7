package pack

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"sync"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"
)

// maxSealedWindow is the largest zstd window of a sealed document: what
// `zstd -19` uses, so that documents sealed by hand can be read.
const maxSealedWindow = 8 << 20

// Seal compresses and encrypts one small document. `age -d | zstd -d` opens
// it again.
func Seal(data []byte, k Keys) ([]byte, error) {
	compressed := sealers.Get().(*zstd.Encoder)
	plain := compressed.EncodeAll(data, nil)
	sealers.Put(compressed)

	var file bytes.Buffer
	file.Grow(len(plain) + 4<<10)
	w, err := age.Encrypt(&file, k.recipients...)
	if err != nil {
		return nil, fmt.Errorf("seal document: %w", err)
	}
	if _, err := w.Write(plain); err != nil {
		return nil, fmt.Errorf("seal document: %w", err)
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("seal document: %w", err)
	}
	return file.Bytes(), nil
}

// Unseal opens what Seal made. A document longer than max bytes gives a
// *TooLargeError before more than that was decompressed.
func Unseal(data []byte, k Keys, max int64) ([]byte, error) {
	const doing = "open sealed document"
	if len(k.identities) == 0 {
		return nil, fmt.Errorf("%s: %w", doing, ErrWrongKey)
	}
	plain, err := age.Decrypt(bytes.NewReader(data), k.identities...)
	if err != nil {
		return nil, explain(doing, whyNotAge(data, err))
	}
	d := unsealers.Get().(*zstd.Decoder)
	defer func() {
		d.Reset(nil)
		unsealers.Put(d)
	}()
	inside := &ending{r: plain}
	if err := d.Reset(inside); err != nil {
		return nil, explain(doing, err)
	}
	// The buffer grows with what was really decompressed, whatever size the
	// frame claims.
	var doc bytes.Buffer
	n, err := io.Copy(&doc, io.LimitReader(d, min(max, math.MaxInt64-1)+1))
	if n > max {
		return nil, fmt.Errorf("%s: %w", doing, &TooLargeError{Limit: max})
	}
	if err == nil {
		err = inside.check()
	}
	if err != nil {
		return nil, explain(doing, err)
	}
	return doc.Bytes(), nil
}

// ending remembers how a stream ended. The zstd decoder takes any end between
// two frames for a good one, even the io.ErrUnexpectedEOF with which age says
// that the rest of the file is missing.
type ending struct {
	r   io.Reader
	n   int64
	err error
}

func (e *ending) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	e.n += int64(n)
	if err != nil && e.err == nil {
		e.err = err
	}
	return n, err
}

// check says whether the stream was read to its proper end.
func (e *ending) check() error {
	switch {
	case e.err == nil:
		return errors.New("there is more than the zstd frames")
	case e.err != io.EOF:
		return e.err
	case e.n == 0:
		return errors.New("there is nothing inside age")
	}
	return nil
}

// Encoders and decoders are dear to make and hold memory, so they are pooled.
// That the options are valid is tested, so errors cannot occur.
var (
	sealers = sync.Pool{New: func() any {
		e, _ := zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1), zstd.WithWindowSize(MaxFrame),
			zstd.WithLowerEncoderMem(true), zstd.WithZeroFrames(true), zstd.WithEncoderCRC(false))
		return e
	}}
	unsealers = sync.Pool{New: func() any {
		d, _ := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxSealedWindow))
		return d
	}}
)
