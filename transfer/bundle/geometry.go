package bundle

import (
	"fmt"
	"math"
	"math/bits"
)

const (
	// MaxParityVolumes is the largest number of volumes of a bundle with parity.
	MaxParityVolumes = 255
	// MaxStatement bounds the statement at the end of each volume.
	MaxStatement = 32 << 10
	// maxShard is the largest shard, and so how much a sum covers.
	maxShard = 64 << 10
	// shardUnit is what Leopard's kernels take at once: shards are multiples.
	shardUnit = 64
	// fieldOrder is how many shards a stripe may have in GF(2^8).
	fieldOrder = 256
	// maxWindow bounds the memory of a window, parity included.
	maxWindow = 32 << 20
)

// Geometry says how a payload is cut into shards that repair each other. The
// zero value is a bundle without parity.
type Geometry struct {
	Data    int   `json:"data"`    // shards of payload in a stripe
	Parity  int   `json:"parity"`  // shards of parity in a stripe: so many of a stripe may be lost
	Shard   int   `json:"shard"`   // bytes of a shard
	Stripes int64 `json:"stripes"` // of the payload
	Depth   int   `json:"depth"`   // stripes of a window, which damage in one place is spread over
}

// shards is how many shards a stripe has.
func (g Geometry) shards() int { return g.Data + g.Parity }

// validate reports what is wrong with a geometry for a payload over so many
// volumes. Stripes and shard size follow from the rest, so nobody can make a
// reader work with millions of tiny shards.
func (g Geometry) validate(payload int64, volumes int) error {
	if volumes > MaxParityVolumes {
		return fmt.Errorf("check geometry: %d volumes with parity, more than %d", volumes, MaxParityVolumes)
	}
	if g.Data < 1 || g.Parity < 1 || g.Data > fieldOrder || g.Parity > g.Data+1 || !leopardFits(g.Data, g.Parity) {
		return fmt.Errorf("check geometry: no code has %d data and %d parity shards", g.Data, g.Parity)
	}
	if g.shards()%volumes != 0 {
		return fmt.Errorf("check geometry: %d shards cannot be dealt evenly to %d volumes", g.shards(), volumes)
	}
	if stripes, shard := cut(payload, g.Data); g.Stripes != stripes || g.Shard != shard {
		return fmt.Errorf("check geometry: %d stripes with shards of %d bytes are not how %d bytes are cut", g.Stripes, g.Shard, payload)
	}
	if g.Depth < 1 || int64(g.Depth) > g.Stripes || g.Depth > 1 && int64(g.Depth)*int64(g.shards()*g.Shard) > maxWindow {
		return fmt.Errorf("check geometry: a window of %d stripes", g.Depth)
	}
	return nil
}

// leopardFits reports whether the code exists: Leopard rounds the parity up
// to a power of two and takes the data in groups of as many.
func leopardFits(data, parity int) bool {
	group := 1 << bits.Len(uint(parity-1))
	return (data+group-1)/group*group+group <= fieldOrder
}

// cut says into how many stripes a payload is cut, and how small the shards
// can be then.
func cut(payload int64, data int) (stripes int64, shard int) {
	stripes = ceilDiv(payload, int64(data)*maxShard)
	return stripes, int(ceilDiv(ceilDiv(payload, int64(data)*stripes), shardUnit) * shardUnit)
}

// Options say how a bundle is laid over volumes. The zero value is volumes of
// the default size without parity.
type Options struct {
	VolumeSize int64 // largest file in bytes; 0 means DefaultVolumeSize
	// Parity is the share of the volumes, from 0 to 0.5, that repairs the
	// rest: with 0.1 a tenth of each stripe may be lost, wherever it lies.
	Parity float64
	// StatementSize is the exact length of what Statement returns, at most
	// MaxStatement; only volumes with parity carry one.
	StatementSize int
	// Statement is called by Seal with the SHA-256 of the payload. What it
	// returns stands in every volume, under a sum, and means nothing here.
	Statement func(payload [32]byte) ([]byte, error)
	// TempDir takes the sums of a bundle with parity of more than about
	// 128 GiB while it is written; "" means the system's.
	TempDir string

	forced *spread // of tests: a geometry that Plan would not choose
}

// millionths is the parity share as a whole number, so that a tenth of 240 is
// 24 and not 24.000000000000004.
func (o Options) millionths() (int64, error) {
	share := int64(math.Round(o.Parity * 1e6))
	if math.IsNaN(o.Parity) || o.Parity <= 0 || share < 1 || o.Parity > 0.5 {
		return 0, fmt.Errorf("plan volumes: a parity share of %g is not above 0 and at most 0.5", o.Parity)
	}
	if o.StatementSize < 0 || o.StatementSize > MaxStatement {
		return 0, fmt.Errorf("plan volumes: a statement of %d bytes is not between 0 and %d", o.StatementSize, MaxStatement)
	}
	return share, nil
}

// PlanWith is Plan with all options.
func PlanWith(payload int64, o Options) (Layout, error) {
	if o.Parity == 0 {
		if o.StatementSize != 0 {
			return Layout{}, fmt.Errorf("plan volumes: only volumes with parity carry a statement")
		}
		return Plan(payload, o.VolumeSize)
	}
	share, err := o.millionths()
	if err != nil {
		return Layout{}, err
	}
	size, err := checkSizes(payload, o.VolumeSize)
	if err != nil {
		return Layout{}, err
	}
	if o.forced != nil {
		return o.forced.layout(o.StatementSize), nil
	}
	// Fewer volumes than these could not even hold the payload.
	for volumes := int(min(max(1, payload/size), MaxParityVolumes)); volumes <= MaxParityVolumes; volumes++ {
		if g, ok := fit(payload, share, volumes, o.StatementSize, size); ok {
			return spread{Geometry: g, volumes: volumes, payload: payload}.layout(o.StatementSize), nil
		}
	}
	return Layout{}, fmt.Errorf("plan volumes: %d bytes with parity would need more than %d volumes of %d bytes; choose a larger volume size or no parity",
		payload, MaxParityVolumes, size)
}

// fit finds the geometry for so many volumes, if their files can be small
// enough. Of those that take nearly the least room, to a hundredth, it takes
// the one with the most shards, because damage rarely comes in large pieces.
func fit(payload, share int64, volumes, statement int, size int64) (best Geometry, ok bool) {
	var all []Geometry
	least := int64(math.MaxInt64)
	fileSize := func(g Geometry) int64 {
		return spread{Geometry: g, volumes: volumes, payload: payload}.fileSize(statement)
	}
	for shards := volumes; shards <= fieldOrder; shards += volumes {
		parity := int(ceilDiv(share*int64(shards), 1e6))
		for parity < shards && !leopardFits(shards-parity, parity) {
			parity++
		}
		if parity >= shards {
			continue
		}
		g := Geometry{Data: shards - parity, Parity: parity}
		g.Stripes, g.Shard = cut(payload, g.Data)
		if file := fileSize(g); file <= size {
			all = append(all, g)
			least = min(least, file)
		}
	}
	for _, g := range all { // in order of shards
		if fileSize(g) <= least+least/100 {
			best, ok = g, true
		}
	}
	if ok {
		best.Depth = depth(best)
	}
	return best, ok
}

// depth chooses windows as large as may be, and all of nearly the same size.
func depth(g Geometry) int {
	most := max(1, maxWindow/int64(g.shards()*g.Shard))
	return int(ceilDiv(g.Stripes, ceilDiv(g.Stripes, most)))
}

// spread knows where each shard lies. Volumes are counted from 0 here.
//
// A window is a run of Depth stripes, the last may have fewer. The payload of
// a window is laid out as cells, one for each data shard i of its stripes:
// cell i is shard i of the first stripe, of the second, and so on. So a volume
// that is read in order gives long runs of payload, and damage in one place
// hits each stripe of the window in turn. Cell i goes to volume i mod volumes.
type spread struct {
	Geometry
	volumes int
	payload int64
}

// perVolume is how many shards of each stripe a volume has.
func (s spread) perVolume() int { return s.shards() / s.volumes }

// blocks is how many shards a volume has.
func (s spread) blocks() int64 { return int64(s.perVolume()) * s.Stripes }

// volumeData is how many bytes of shards a volume has.
func (s spread) volumeData() int64 { return s.blocks() * int64(s.Shard) }

func (s spread) fileSize(statement int) int64 {
	return HeaderSize + s.volumeData() + parityTrailerSize(s.blocks(), statement)
}

func (s spread) layout(statement int) Layout {
	layout := Layout{Volumes: make([]VolumeRange, s.volumes), Geometry: s.Geometry}
	for i := range layout.Volumes {
		layout.Volumes[i] = VolumeRange{Length: s.volumeData(), FileSize: s.fileSize(statement)}
		layout.Total += layout.Volumes[i].FileSize
	}
	return layout
}

func (s spread) windows() int64 { return ceilDiv(s.Stripes, int64(s.Depth)) }

// stripesIn is how many stripes a window has.
func (s spread) stripesIn(window int64) int {
	return int(min(int64(s.Depth), s.Stripes-window*int64(s.Depth)))
}

// windowPayload is how many bytes of payload a full window takes.
func (s spread) windowPayload() int64 { return int64(s.Depth) * int64(s.Data) * int64(s.Shard) }

// place is one shard: stripe d of a window, number i in the stripe.
type place struct {
	window int64
	d, i   int
}

// at finds the byte of the payload: in which shard it is, and where in it.
func (s spread) at(offset int64) (p place, within int) {
	p.window = offset / s.windowPayload()
	rest := int(offset % s.windowPayload())
	cell := s.stripesIn(p.window) * s.Shard
	p.i, rest = rest/cell, rest%cell
	p.d = rest / s.Shard
	return p, rest % s.Shard
}

// block is where the shard lies among those of its volume.
func (s spread) block(p place) (volume int, block int64) {
	return p.i % s.volumes, s.firstBlock(p.window) + int64(p.i/s.volumes*s.stripesIn(p.window)+p.d)
}

// firstBlock is where a window begins in each volume.
func (s spread) firstBlock(window int64) int64 {
	return window * int64(s.Depth) * int64(s.perVolume())
}

// stripe says to which stripe a block of a volume belongs.
func (s spread) stripe(block int64) int64 {
	full := int64(s.Depth) * int64(s.perVolume())
	window := block / full
	return window*int64(s.Depth) + block%full%int64(s.stripesIn(window))
}

// dataCells is how many of a volume's cells in a window are payload; they come
// before its parity.
func (s spread) dataCells(volume int) int {
	return max(0, int(ceilDiv(int64(s.Data-volume), int64(s.volumes))))
}
