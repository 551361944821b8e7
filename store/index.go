package store

import (
	"context"
	"iter"

	"davit/store/chunk"
	"davit/store/pack"
)

// Location says where one chunk lies: in which pack, in which of its frames,
// and where in that frame's plaintext. The zero Location means "not held".
type Location struct {
	Pack   int64  // the index's own number for the pack, 1 or more
	Frame  uint32 // number of the frame in the pack
	Offset uint32 // bytes into the frame's plaintext
	Length uint32 // bytes
}

// Held reports whether the location points at a chunk.
func (l Location) Held() bool { return l.Pack != 0 }

// PackInfo is what the index knows of a pack.
type PackInfo struct {
	ID     int64 // the index's own number, 1 or more, never reused
	Name   pack.Name
	Size   int64 // bytes of the object
	Chunks int   // chunks in its table
}

// Index remembers which pack holds which chunk. It holds nothing that cannot
// be rebuilt from the packs. All methods are safe for concurrent use, also by
// several processes on one index.
type Index interface {
	// Locate sets out[i] to where names[i] lies, or to the zero Location when
	// no pack in the index holds it. len(out) must equal len(names).
	Locate(ctx context.Context, names []chunk.Name, out []Location) error

	// AddPack records a pack and all its chunks in one transaction, durable
	// when it returns, and gives its number. Where a chunk is held by an older
	// pack, that place stays. Adding a pack that is there already adds those
	// of its chunks that are held nowhere.
	AddPack(ctx context.Context, name pack.Name, size int64, table *pack.Table) (int64, error)

	// Pack returns what is known of one pack by number.
	Pack(ctx context.Context, id int64) (PackInfo, error)

	// Packs lists all packs in the order they were added.
	Packs(ctx context.Context) iter.Seq2[PackInfo, error]

	// ReplacePack forgets the pack old and the chunks located in it and, in the
	// same transaction, records the pack name as AddPack does. With a zero name
	// nothing takes old's place. An absent old is no error.
	ReplacePack(ctx context.Context, old, name pack.Name, size int64, table *pack.Table) error
}
