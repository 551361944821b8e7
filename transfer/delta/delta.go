// Package delta says how to get one file from another that is already there,
// and looks into packages to do so.
//
// Packages are compressed archives: two versions may share all but a few bytes
// and not one compressed block. So both are opened, gzip and zip, one in
// another; the new one is coded as copies from the old one and what is new; and
// a recipe closes it again, bit for bit:
//
//	Make:   base   ▸ open ─────────▸ source ─┐
//	        target ▸ open ▸ prove ─▸ opened ─┴▸ encode ▸ delta ▸ apply ▸ sha256 ?
//	Apply:  base   ▸ open ─────────▸ source ─┐
//	                                  delta ─┴▸ decode ▸ opened ▸ close ▸ sha256 ? ▸ target
//
// [Make] tries the opened form and the raw one, which opens nothing, and returns
// the smaller only after applying it. A delta exists on its way from one site to
// another and nowhere else: who applies it keeps the original bytes, so nothing
// that is kept depends on an encoder, or on this package, for ever.
//
// Package deflate knows how to close deflate streams; the rest of opening
// (open.go, zip.go, gzip.go, tar.go) writes down the parts of a file as a
// structure (structure.go), which close.go turns back. The coder (index.go,
// encode.go, decode.go) knows nothing of archives.
//
// FORMAT.md holds the format. A delta comes from a medium that nobody vouches
// for: [Apply] bounds memory, disk and time by what the sizes in its header
// allow, and gives out no byte of a target before its SHA-256 is right.
package delta

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"davit/transfer/delta/deflate"
)

var (
	// ErrDamaged is wrapped by every error that says that a delta is not what
	// the format allows, or does not give what it promises.
	ErrDamaged = errors.New("delta is damaged")

	// ErrVersion is wrapped when a delta is of a format version or form that
	// this build does not know.
	ErrVersion = errors.New("delta is of an unknown version")

	// ErrWrongBase is wrapped when a delta was made against another base than
	// the one given.
	ErrWrongBase = errors.New("delta is for another base")

	// ErrNotWorth is wrapped when no delta is smaller than the limit.
	ErrNotWorth = errors.New("delta is not worth it")

	// ErrTooLarge is wrapped when opening a file would take more than is
	// allowed: a bomb, or a very large package.
	ErrTooLarge = errors.New("too large when opened")
)

// EncoderError says that a delta needs encoders that this build has not.
type EncoderError struct{ Encoders []deflate.Encoder }

func (e *EncoderError) Error() string {
	names := make([]string, len(e.Encoders))
	for i, n := range e.Encoders {
		names[i] = fmt.Sprint(n)
	}
	return "delta needs deflate encoders that are not known here: " + strings.Join(names, ", ")
}

// Options for [Make] and [Apply]. The zero value is good.
type Options struct {
	TempDir   string        // where temporary files go; "": os.TempDir
	MaxOpened int64         // opened size of one file; 0: 64 times the file and 64 MiB, which it never exceeds
	Workers   int           // goroutines that open and close streams; 0: one for each processor
	Budget    time.Duration // Make: how long streams are proven, what is left is carried as it is; 0: no bound
	Limit     int64         // Make: a delta of this size or more is ErrNotWorth; 0: the size of the target

	// Encoders that the receiver has, from its card. nil: all of this build.
	Encoders []deflate.Encoder
}

// The forms of a delta.
const (
	Opened = "opened" // between the opened files
	Raw    = "raw"    // between the files as they are
)

// Result says what Make made, for people who ask why a package costs what it does.
type Result struct {
	Form     string            // Opened or Raw
	Bytes    int64             // of the delta
	Opened   int64             // size of the opened target; of the target in the raw form
	Streams  int               // deflate streams in the target
	Kept     int               // of them, those that the base has with the same bytes
	Proven   int               // of them, those that an encoder gives back
	Unproven int64             // compressed bytes of the others
	Encoders []deflate.Encoder // that the receiver needs
	Reason   string            // why not the opened form, or why not all of it; "" when there is nothing to say
}
