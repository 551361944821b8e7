// Package deflate closes a deflate stream again, bit for bit.
//
// A package that is opened to be compared with its older version has to be
// closed again where it arrives, and what comes out must be the very bytes that
// its maker wrote. Deflate lets every encoder choose its own matches, blocks and
// codes, so this package keeps models of the encoders that packages are made
// with, and writes down in what a stream departs from its model:
//
//	raw deflate ▸ [Inflate] ▸ plain
//	raw deflate + plain ▸ [Prove] ▸ [Stream], a few bytes (or [ErrUnproven])
//	[Stream] + plain ▸ [Rebuild] ▸ raw deflate, the same bytes
//
// A [Stream] names its model by an [Encoder] number. What a number means never
// changes, whatever becomes of the libraries in go.mod: each model stands in
// this folder by itself, and vectors made by the real producers pin it.
// FORMAT.md holds the format of a recipe, the list of the models, and the rule
// how to add one.
//
// Recipes come from media that nobody vouches for. Rebuild bounds memory and
// time by the lengths that its caller allows, and whatever it is given it
// returns an error or bytes, which the caller compares with the hash it expects.
package deflate

import (
	"errors"
	"fmt"
)

// Encoder numbers a frozen model of an encoder. Numbers go into recipes and
// cards: they are never used again for something else.
type Encoder uint16

// The encoders. Levels and the like are parameters of a Stream.
const (
	Zlib         Encoder = 1  // zlib as everybody knows it: java, Python, Maven, old Node
	ZlibChromium Encoder = 2  // zlib with Chromium's 4-byte hash: npm on Node 18 and newer
	ZlibCRC32C   Encoder = 3  // zlib with a hash made of CRC32C: npm on Node 12 to 16, x64
	Gzip         Encoder = 4  // GNU gzip and Info-ZIP zip, which end blocks by another rule
	ZlibMedium   Encoder = 5  // Intel's zlib, "medium": .NET Core 2 to 8 on Windows
	Go126        Encoder = 16 // Go's compress/flate as of 1.26
	Klauspost    Encoder = 17 // klauspost/compress/flate as of 1.18.6, which equals Go 1.27
	Pgzip        Encoder = 18 // klauspost/pgzip with klauspost/compress as of 1.16 to 1.18.0: buildah
	Klauspost116 Encoder = 19 // klauspost/compress/flate as of 1.16 to 1.18.0
)

var (
	// ErrUnproven is wrapped when no model gives a stream back with a recipe
	// that is worth having. The stream is to be carried as it is.
	ErrUnproven = errors.New("no encoder model fits")

	// ErrDamaged is wrapped by every error that says that bytes, of a stream or
	// of a recipe, are not what their format allows.
	ErrDamaged = errors.New("damaged")

	// ErrLimit is wrapped when a stream is longer than the caller allows.
	ErrLimit = errors.New("longer than allowed")
)

// EncoderError says that a recipe needs an encoder that this build has not.
type EncoderError struct{ Encoder Encoder }

func (e *EncoderError) Error() string {
	return fmt.Sprintf("encoder %d is not known here", uint16(e.Encoder))
}

// Limits bound what is read and written. Zero means no limit: memory is bounded
// whatever the lengths are.
type Limits struct {
	Plain      int64
	Compressed int64
}

// Options say how hard to try.
type Options struct {
	Encoders []Encoder // the models that may be used; nil: all
	Workers  int       // how many goroutines may work on one stream; 0: one
	Trust    bool      // do not rebuild to compare: for who rebuilds everything anyway
}
