package chunk

import "fmt"

// MaxDepth is the largest number of lists between a Ref's root and its stream.
const MaxDepth = 4

// Ref says how to get a stream back from one name. With Depth 0 the root is
// the stream itself, one chunk. With Depth 1 it is a chunk whose bytes are the
// whole list of the stream's chunks; with Depth 2 that list names the chunks
// of a stream that is itself the list; and so on. The zero Ref is the
// empty stream.
type Ref struct {
	Size  int64 `json:"size"`
	Depth int   `json:"depth"`
	Root  Name  `json:"root"`
}

// Validate checks what can be known of a reference without its chunks.
func (r Ref) Validate() error {
	switch {
	case r.Size < 0:
		return fmt.Errorf("chunk reference: size %d is negative: %w", r.Size, ErrDamaged)
	case r.Depth < 0 || r.Depth > MaxDepth:
		return fmt.Errorf("chunk reference: depth %d is not between 0 and %d: %w", r.Depth, MaxDepth, ErrDamaged)
	case r.Size == 0 && (r.Depth != 0 || !r.Root.IsZero()):
		return fmt.Errorf("chunk reference: an empty stream with depth %d and root %s: %w", r.Depth, r.Root, ErrDamaged)
	case r.Size > 0 && r.Root.IsZero():
		return fmt.Errorf("chunk reference: %d bytes without a root: %w", r.Size, ErrDamaged)
	case r.Depth == 0 && r.Size > MaxSize:
		return fmt.Errorf("chunk reference: %d bytes in one chunk, at most %d fit: %w", r.Size, MaxSize, ErrDamaged)
	}
	return nil
}
