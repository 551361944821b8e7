package bundle_test

import (
	"math"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/transfer/bundle"
)

func TestPlanParity(t *testing.T) {
	const gib = 1 << 30
	for _, test := range []struct {
		payload, size int64
		share         float64
		volumes       int
		data, parity  int
		file          int64 // 0: not asked
		err           string
	}{
		{1, 0, 0.1, 1, 2, 1, 8504, ""},
		{20 << 10, 0, 0.1, 1, 18, 2, 31_624, ""},
		{1 << 20, 0, 0.1, 1, 222, 25, 1_182_008, ""},
		{10 * gib, 0, 0.1, 3, 224, 25, 0, ""},
		{40 * gib, 0, 0.1, 12, 216, 24, 0, ""},
		{gib, smallest, 0.1, 0, 0, 0, 0, "larger volume size or no parity"},
		{100, 0, 0.51, 0, 0, 0, 0, "parity share"},
		{100, 0, -0.1, 0, 0, 0, 0, "parity share"},
		{100, 0, 1e-9, 0, 0, 0, 0, "parity share"},
		{100, 0, math.NaN(), 0, 0, 0, 0, "parity share"},
		{0, 0, 0.1, 0, 0, 0, 0, "payload of 0"},
		{1 << 53, 0, 0.1, 0, 0, 0, 0, "payload of"},
		{1<<53 - 1, 0, 0.1, 0, 0, 0, 0, "larger volume size"},
		{1, smallest - 1, 0.1, 0, 0, 0, 0, "volume size"},
	} {
		got, err := bundle.PlanWith(test.payload, bundle.Options{VolumeSize: test.size, Parity: test.share})
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%d with %g: error %v, want one with %q", test.payload, test.share, err, test.err)
			}
			continue
		}
		g := got.Geometry
		if err != nil || len(got.Volumes) != test.volumes || g.Data != test.data || g.Parity != test.parity ||
			test.file > 0 && got.Volumes[0].FileSize != test.file {
			t.Errorf("%d with %g: %d volumes of %d, %+v, error %v", test.payload, test.share, len(got.Volumes), got.Volumes[0].FileSize, g, err)
		}
	}
	for _, size := range []int{-1, bundle.MaxStatement + 1} {
		if _, err := bundle.PlanWith(1, bundle.Options{Parity: 0.1, StatementSize: size}); err == nil {
			t.Errorf("a statement of %d bytes is planned", size)
		}
	}
	if _, err := bundle.PlanWith(1, bundle.Options{StatementSize: 1}); err == nil {
		t.Error("a statement without parity is planned")
	}
}

// Small bundles stay small.
func TestParityOverhead(t *testing.T) {
	for payload := int64(1); payload < 1<<34; payload = payload*5/4 + 1 {
		for _, share := range []float64{0.05, 0.1, 0.2, 1. / 3, 0.5} {
			l, err := bundle.PlanWith(payload, bundle.Options{Parity: share})
			if err != nil {
				t.Fatal(err)
			}
			// Ends of 8 KiB a volume; parity; sums; padding to 64 bytes a shard
			// and what the share of few shards is rounded up by.
			most := float64(len(l.Volumes)*8300) + 1.05*float64(payload)/(1-share) + 2048
			if float64(l.Total) > most {
				t.Errorf("%d bytes with %g take %d, more than %.0f: %+v", payload, share, l.Total, most, l.Geometry)
			}
		}
	}
}

func TestPlanParityProperties(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		payload := rapid.OneOf(rapid.Int64Range(1, 1<<20), rapid.Int64Range(1, 1<<32), rapid.Int64Range(1, 1<<43)).Draw(rt, "payload")
		size := rapid.OneOf(rapid.Int64Range(smallest, 1<<24), rapid.Int64Range(smallest, bundle.MaxVolumeSize)).Draw(rt, "size")
		millionths := rapid.OneOf(rapid.SampledFrom([]int{100_000, 500_000, 333_333, 1}), rapid.IntRange(1, 500_000)).Draw(rt, "share")
		o := bundle.Options{VolumeSize: size, Parity: float64(millionths) / 1e6, StatementSize: rapid.IntRange(0, bundle.MaxStatement).Draw(rt, "statement")}
		l, err := bundle.PlanWith(payload, o)
		if err != nil {
			if room := 255 * (size - 45_000) / 2; payload < room-255*65_536*2 {
				rt.Fatalf("there is room for %d: %v", room, err)
			}
			return
		}
		g, n := l.Geometry, len(l.Volumes)
		shards := g.Data + g.Parity
		if n > 255 || shards > 256 || shards%n != 0 {
			rt.Fatalf("%d volumes, %+v", n, g)
		}
		if g.Parity*1_000_000 < millionths*shards {
			rt.Fatalf("the share is not kept: %+v", g)
		}
		if most := millionths * n / 1_000_000; most > l.Spare() {
			rt.Fatalf("%d volumes may be lost, not %d: %+v", l.Spare(), most, g)
		}
		if room := g.Stripes * int64(g.Data*g.Shard); room < payload || room-payload >= g.Stripes*int64(g.Data*64) {
			rt.Fatalf("%d bytes in shards for %d: %+v", payload, room, g)
		}
		if g.Shard%64 != 0 || g.Shard > 65_536 || g.Depth*shards*g.Shard > 32<<20 {
			rt.Fatalf("%+v", g)
		}
		if err := g.Validate(payload, n); err != nil {
			rt.Fatalf("no reader takes it: %v", err)
		}
		want := 4096 + l.Volumes[0].Length + 8 + 2*l.Volumes[0].Length/int64(g.Shard)*8 + 4096 + int64(o.StatementSize) + 8 + 56
		for _, v := range l.Volumes {
			if v.FileSize != want || v.FileSize > size || v.Offset != 0 || v.Length != g.Stripes*int64(shards/n*g.Shard) {
				rt.Fatalf("%+v, want %d of %d", v, want, size)
			}
		}
		if l.Total != int64(n)*want {
			rt.Fatalf("total %d", l.Total)
		}
	})
}

// Every shard has its place and no two the same; bytes of the payload are in
// order; a run of damage in a volume hits each stripe of a window in turn.
func TestShardPlaces(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		volumes := rapid.IntRange(1, 5).Draw(rt, "volumes")
		per := rapid.IntRange(1, 4).Draw(rt, "shards a volume")
		parity := rapid.IntRange(1, max(1, volumes*per/2)).Draw(rt, "parity")
		data := volumes*per - parity
		if data < 1 {
			return
		}
		payload := rapid.Int64Range(1, 2<<20).Draw(rt, "payload")
		l, err := bundle.PlanWith(payload, bundle.Options{}.WithGeometry(payload, data, parity, volumes, rapid.IntRange(1, 7).Draw(rt, "depth")))
		if err != nil {
			rt.Fatal(err)
		}
		g := l.Geometry
		if err := g.Validate(payload, volumes); err != nil {
			rt.Fatal(err)
		}
		type at struct {
			volume int
			block  int64
		}
		taken := map[at]bundle.ShardPlace{}
		all := g.Shards(payload, volumes)
		for _, p := range all {
			if other, ok := taken[at{p.Volume, p.Block}]; ok {
				rt.Fatalf("%+v and %+v", p, other)
			}
			taken[at{p.Volume, p.Block}] = p
			if got := g.Stripe(payload, volumes, p.Block); got != p.Stripe {
				rt.Fatalf("%+v is of stripe %d", p, got)
			}
			if p.Volume != p.Number%volumes+1 || p.Block < 0 || p.Block >= l.Volumes[0].Length/int64(g.Shard) {
				rt.Fatalf("%+v", p)
			}
		}
		if int64(len(all)) != g.Stripes*int64(data+parity) {
			rt.Fatalf("%d shards", len(all))
		}
		var data0 []bundle.ShardPlace
		for _, p := range all {
			if p.Number < data {
				data0 = append(data0, p)
			}
		}
		for range 20 {
			offset := rapid.Int64Range(0, payload-1).Draw(rt, "offset")
			stripe, number, within := g.At(payload, volumes, offset)
			p := data0[offset/int64(g.Shard)]
			if p.Stripe != stripe || p.Number != number || int64(within) != offset%int64(g.Shard) {
				rt.Fatalf("byte %d is in stripe %d, shard %d, byte %d, not in %+v", offset, stripe, number, within, p)
			}
		}
		// A run of parity times depth blocks hits no stripe more than parity times.
		last := (g.Stripes - 1) / int64(g.Depth) * int64(g.Depth) * int64(per)
		blocks := l.Volumes[0].Length / int64(g.Shard)
		depth := int64(g.Depth)
		from := rapid.Int64Range(0, blocks-1).Draw(rt, "from")
		if from+depth*int64(parity) > last { // the last window may be smaller
			depth = g.Stripes - (g.Stripes-1)/int64(g.Depth)*int64(g.Depth)
		}
		hits := map[int64]int{}
		for b := from; b < min(blocks, from+depth*int64(parity)); b++ {
			hits[g.Stripe(payload, volumes, b)]++
		}
		for s, n := range hits {
			if n > parity {
				rt.Fatalf("a run at %d hits stripe %d %d times", from, s, n)
			}
		}
	})
}
