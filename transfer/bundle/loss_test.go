package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/store/bucket/buckettest"
	"davit/transfer/bundle"
)

// damageShards flips a byte in blocks of a volume.
func damageShards(b []byte, g bundle.Geometry, blocks ...int64) []byte {
	b = bytes.Clone(b)
	for _, block := range blocks {
		b[bundle.HeaderSize+block*int64(g.Shard)+block%int64(g.Shard)] ^= 0x40
	}
	return b
}

// repaired checks that a set, whatever is wrong with it, is read as the payload
// and repaired to the same volumes.
func repaired(t interface {
	Helper()
	Fatalf(string, ...any)
	Context() context.Context
}, s *bundle.Set, payload []byte, clean map[string][]byte) {
	t.Helper()
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	defer p.Close()
	got := make([]byte, p.Size())
	if _, err := p.ReadAt(got, 0); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("the payload came back changed (%v)", err)
	}
	r, err := s.Examine(t.Context(), nil)
	if err != nil || !r.Repairable || r.Gone != nil {
		t.Fatalf("Examine: %+v, %v", r, err)
	}
	to := bucket.NewMem()
	names, err := s.Repair(t.Context(), to, bundle.RepairOptions{})
	if err != nil {
		t.Fatalf("Repair: %v", err)
	}
	if len(names) != len(r.Volumes) {
		t.Fatalf("repaired %v, announced %v", names, r.Volumes)
	}
	for i, name := range names {
		b, err := bucket.Get(t.Context(), to, name, 1<<30)
		if err != nil || !bytes.Equal(b, clean[name]) || name != s.Name(r.Volumes[i], s.Volumes) {
			t.Fatalf("%s is not what it was (%v)", name, err)
		}
	}
}

// Any loss within the parity of every stripe is repaired to the same bytes; of
// any beyond it, exactly the stripes are named, and the others can be read.
func TestLossProperties(t *testing.T) {
	noise := noise(1<<20, 21)
	rapid.Check(t, func(rt *rapid.T) {
		volumes := rapid.IntRange(1, 6).Draw(rt, "volumes")
		per := rapid.IntRange(1, 4).Draw(rt, "shards a volume")
		if volumes*per < 2 {
			per = 2
		}
		parity := rapid.IntRange(1, volumes*per/2).Draw(rt, "parity")
		payload := noise[:rapid.IntRange(1, len(noise)).Draw(rt, "payload")]
		o := signed(bundle.Options{}.WithGeometry(int64(len(payload)), volumes*per-parity, parity, volumes, rapid.IntRange(1, 5).Draw(rt, "depth")))
		medium := bucket.NewMem()
		w, err := writeParity(rt.Context(), medium, testLabel(1), payload, o)
		if err == nil {
			err = w.Publish(rt.Context())
		}
		if err != nil {
			rt.Fatal(err)
		}
		g := w.Layout().Geometry
		clean := objects(t, medium)
		places := g.Shards(int64(len(payload)), volumes)

		// First whole volumes, then shards here and there. Of some stripes, if
		// any, one too many.
		lost := map[int64]int{}
		gone := map[int]bool{}
		for range rapid.IntRange(0, parity/per).Draw(rt, "volumes lost") {
			gone[rapid.IntRange(1, volumes).Draw(rt, "volume")] = true
		}
		for s := range g.Stripes {
			lost[s] = len(gone) * per
		}
		target := map[int64]int{}
		beyond := rapid.IntRange(0, 2).Draw(rt, "beyond") == 0
		for s := range g.Stripes {
			target[s] = rapid.IntRange(lost[s], parity).Draw(rt, "lost")
			if beyond && rapid.Bool().Draw(rt, "too many") {
				target[s] = parity + 1
			}
		}
		rand.New(rand.NewPCG(1, uint64(rapid.IntRange(0, 1<<30).Draw(rt, "order")))).Shuffle(len(places), func(i, j int) {
			places[i], places[j] = places[j], places[i]
		})
		blocks := map[int][]int64{}
		for _, p := range places {
			if !gone[p.Volume] && lost[p.Stripe] < target[p.Stripe] {
				lost[p.Stripe]++
				blocks[p.Volume] = append(blocks[p.Volume], p.Block)
			}
		}
		var dead []int64
		for s := range g.Stripes {
			if lost[s] > parity {
				dead = append(dead, s)
			}
		}
		files := maps.Clone(clean)
		for n, name := range w.Names() {
			if gone[n+1] {
				delete(files, name)
			} else {
				files[name] = damageShards(clean[name], g, blocks[n+1]...)
			}
		}
		s := only(t, clone(t, files))
		if s.Complete() != (len(gone) == 0) || !s.Enough() {
			rt.Fatalf("complete %v, enough %v with %d volumes gone", s.Complete(), s.Enough(), len(gone))
		}
		if len(dead) == 0 {
			repaired(rt, s, payload, clean)
		} else {
			unrepairable(rt, s, payload, g, dead)
		}
		checkNamed(rt, s, w.Names(), gone, blocks)
	})
}

// checkNamed: the report names all that was damaged and nothing else.
func checkNamed(t *rapid.T, s *bundle.Set, names []string, gone map[int]bool, blocks map[int][]int64) {
	r, err := s.Examine(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var wantFiles, files []string
	for n, name := range names {
		if len(blocks[n+1]) > 0 {
			wantFiles = append(wantFiles, name)
		}
	}
	for _, d := range r.Damaged {
		files = append(files, d.File)
		var got []int64
		for _, run := range d.Blocks {
			for i := range run.Count {
				got = append(got, run.First+i)
			}
		}
		want := slices.Sorted(slices.Values(blocks[slices.Index(names, d.File)+1]))
		if !slices.Equal(got, want) {
			t.Fatalf("%s: shards %v, want %v", d.File, got, want)
		}
	}
	if !slices.Equal(files, wantFiles) || len(r.Missing) != len(gone) {
		t.Fatalf("damaged %v, want %v; missing %v", files, wantFiles, r.Missing)
	}
	if (r.Err() == nil) != (len(files)+len(gone) == 0) {
		t.Fatalf("Err: %v", r.Err())
	}
}

// unrepairable: the stripes named are the ones, everything else can be read,
// and Repair leaves nothing behind.
func unrepairable(t *rapid.T, s *bundle.Set, payload []byte, g bundle.Geometry, dead []int64) {
	r, err := s.Examine(t.Context(), nil)
	if err != nil || r.Repairable || r.Gone == nil || r.Err() == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	var named []int64
	for _, run := range r.Gone.Stripes {
		for i := range run.Count {
			named = append(named, run.First+i)
		}
	}
	if !slices.Equal(named, dead) {
		t.Fatalf("stripes %v are named, %v are dead", named, dead)
	}
	to := bucket.NewMem()
	var gone *bundle.StripeError
	if _, err := s.Repair(t.Context(), to, bundle.RepairOptions{}); !errors.As(err, &gone) {
		t.Fatalf("Repair: %v", err)
	}
	if _, err := s.Repair(t.Context(), to, bundle.RepairOptions{All: true}); !errors.As(err, &gone) || gone.Stripes[0].First != dead[0] {
		t.Fatalf("Repair all: %v", err)
	}
	for range to.List(t.Context(), "") {
		t.Fatal("Repair left something visible")
	}
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	for at := 0; at < len(payload); at += g.Shard {
		b := make([]byte, min(g.Shard, len(payload)-at))
		_, err := p.ReadAt(b, int64(at))
		stripe, _, _ := g.At(int64(len(payload)), s.Volumes, int64(at))
		switch {
		case err == nil && !bytes.Equal(b, payload[at:at+len(b)]):
			t.Fatalf("other bytes at %d", at)
		case err == nil:
		case !slices.Contains(dead, stripe):
			t.Fatalf("stripe %d can be read: %v", stripe, err)
		case !errors.As(err, &gone) || gone.Stripes[0] != (bundle.BlockRange{First: stripe, Count: 1}) || gone.Lost <= g.Parity:
			t.Fatalf("stripe %d: %v", stripe, err)
		case !errors.Is(err, bundle.ErrDamaged) || errors.Is(err, bundle.ErrIncomplete) != (len(r.Missing) > 0):
			t.Fatalf("wrong kind of error: %v", err)
		}
	}
}

// Any two of twelve may be lost, and no third.
func TestTwoOfTwelve(t *testing.T) {
	payload := noise(300_000, 31)
	medium := bucket.NewMem()
	o := signed(bundle.Options{Parity: 1. / 6}).WithVolumes(300_000, 12)
	w := publishParity(t, medium, payload, o)
	if w.Layout().Spare() != 2 {
		t.Fatalf("%d may be lost: %+v", w.Layout().Spare(), w.Layout().Geometry)
	}
	clean, names := objects(t, medium), w.Names()
	pairs := 0
	for i := range names {
		for j := range i {
			files := maps.Clone(clean)
			delete(files, names[i])
			delete(files, names[j])
			s := only(t, clone(t, files))
			if s.Complete() || !s.Enough() {
				t.Fatalf("without %d and %d: complete %v, enough %v", i+1, j+1, s.Complete(), s.Enough())
			}
			repaired(t, s, payload, clean)
			pairs++
			third := (i + j + 1) % 12
			for third == i || third == j {
				third = (third + 1) % 12
			}
			delete(files, names[third])
			s = only(t, clone(t, files))
			if s.Enough() {
				t.Fatal("three may be lost?")
			}
			err := s.Verify(t.Context(), nil)
			var lacks *bundle.IncompleteError
			var gone *bundle.StripeError
			if !errors.As(err, &lacks) || len(lacks.Missing) != 3 || !errors.As(err, &gone) || len(gone.Missing) != 3 {
				t.Fatalf("Verify: %v", err)
			}
		}
	}
	if pairs != 66 {
		t.Fatalf("%d pairs", pairs)
	}
}

// A single volume with a hole in it, wherever it lies, as large as the parity
// of a window.
func TestHoleInOneVolume(t *testing.T) {
	payload := noise(2_000_000, 41)
	medium := bucket.NewMem()
	o := signed(bundle.Options{}.WithGeometry(int64(len(payload)), 9, 3, 1, 2))
	w := publishParity(t, medium, payload, o)
	g, clean, name := w.Layout().Geometry, objects(t, medium), w.Names()[0]
	if g.Stripes != 4 || g.Depth != 2 {
		t.Fatalf("%+v", g)
	}
	hole := g.Parity * g.Depth * g.Shard
	data := int(w.Layout().Volumes[0].Length)
	for at := bundle.HeaderSize; at+hole <= bundle.HeaderSize+data; at += g.Shard {
		b := bytes.Clone(clean[name])
		clear(b[at : at+hole])
		s := only(t, clone(t, map[string][]byte{"a/" + name: b}))
		repaired(t, s, payload, clean)
	}
	b := bytes.Clone(clean[name])
	clear(b[bundle.HeaderSize : bundle.HeaderSize+hole+1])
	s := only(t, clone(t, map[string][]byte{name: b}))
	var gone *bundle.StripeError
	if err := s.Verify(t.Context(), nil); !errors.As(err, &gone) || len(gone.Stripes) != 1 || gone.Stripes[0] != (bundle.BlockRange{First: 0, Count: 1}) {
		t.Errorf("a byte more: %v", err)
	}
}

// Whichever byte of a volume changes, the payload is read all the same, and the
// volume is written anew as it was.
func TestAnyByteOfParityVolume(t *testing.T) {
	payload := noise(20_000, 51)
	for _, volumes := range []int{1, 3} {
		medium := bucket.NewMem()
		w := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 20, 10, volumes, 1)))
		clean, name := objects(t, medium), w.Names()[0]
		size := len(clean[name])
		check := func(t interface {
			Helper()
			Fatalf(string, ...any)
			Context() context.Context
		}, at int, flip byte) {
			t.Helper()
			files := maps.Clone(clean)
			files[name] = bytes.Clone(clean[name])
			files[name][at] ^= flip
			m := bucket.NewMem()
			for n, b := range files {
				if err := bucket.Put(t.Context(), m, n, b); err != nil {
					t.Fatalf("%v", err)
				}
			}
			found, err := bundle.Scan(t.Context(), m)
			if err != nil || len(found.Sets) != 1 {
				t.Fatalf("byte %d: %+v, %v", at, found, err)
			}
			s := found.Sets[0]
			var reason string
			ends := at < bundle.HeaderSize || at >= size-56 && (at < size-16 || at >= size-8) // only the whole trailer tells its sum
			if ends != (len(found.Damaged) == 1) || ends && !found.Damaged[0].Useful || s.Complete() == ends || !s.Enough() {
				t.Fatalf("byte %d: damaged %+v, complete %v, enough %v", at, found.Damaged, s.Complete(), s.Enough())
			}
			r, err := s.Examine(t.Context(), nil)
			if err != nil || !r.Repairable || len(r.Damaged) != 1 || r.Damaged[0].File != name || !slices.Equal(r.Volumes, []int{1}) {
				t.Fatalf("byte %d: %+v, %v", at, r, err)
			}
			reason = r.Damaged[0].Reason
			data := at >= bundle.HeaderSize && at < bundle.HeaderSize+int(w.Layout().Volumes[0].Length)
			if data && !strings.Contains(reason, "1 of") {
				t.Fatalf("byte %d: %s", at, reason)
			}
			if err := s.Verify(t.Context(), nil); !errors.Is(err, bundle.ErrDamaged) {
				t.Fatalf("byte %d: Verify: %v", at, err)
			}
			if at >= size-56-8-signSize && at < size-56 && volumes == 1 {
				return // the only statement: the payload is whole, the volume is not
			}
			repaired(t, s, payload, clean)
		}
		rapid.Check(t, func(rt *rapid.T) {
			at := rapid.OneOf(
				rapid.IntRange(0, size-1),
				rapid.IntRange(0, bundle.HeaderSize-1),
				rapid.IntRange(size-4700, size-1),
			).Draw(rt, "at")
			check(rt, at, byte(rapid.IntRange(1, 255).Draw(rt, "flip")))
		})
		for at := size - 200; at < size; at++ {
			check(t, at, 1)
		}
	}
}

// The only volume, and its statement is gone: the payload can be read, but the
// volume cannot be written as it was.
func TestStatementLost(t *testing.T) {
	payload := noise(20_000, 51)
	medium := bucket.NewMem()
	name := publishParity(t, medium, payload, signed(bundle.Options{Parity: 0.2})).Names()[0]
	b := objects(t, medium)[name]
	b[len(b)-56-1] ^= 1
	replace(t, medium, name, b)
	s := only(t, medium)
	if got := readAll(t, s); !bytes.Equal(got, payload) {
		t.Error("the payload came back changed")
	}
	if _, err := s.Repair(t.Context(), bucket.NewMem(), bundle.RepairOptions{}); !errors.Is(err, bundle.ErrDamaged) || !strings.Contains(err.Error(), "statement") {
		t.Errorf("Repair: %v", err)
	}
	if _, err := s.Statements(t.Context()); !errors.Is(err, bundle.ErrDamaged) {
		t.Errorf("Statements: %v", err)
	}
}

// Two copies of one volume, each damaged elsewhere, make one whole.
func TestCopiesDamagedElsewhere(t *testing.T) {
	payload := noise(500_000, 61)
	medium := bucket.NewMem()
	w := publishParity(t, medium, payload, signed(bundle.Options{Parity: 0.1}))
	g, name := w.Layout().Geometry, w.Names()[0]
	clean := objects(t, medium)
	var odd, even, all []int64
	for b := range w.Layout().Volumes[0].Length / int64(g.Shard) {
		all = append(all, b)
		if b%2 == 0 {
			even = append(even, b)
		} else {
			odd = append(odd, b)
		}
	}
	files := map[string][]byte{"a/" + name: damageShards(clean[name], g, odd...), "b/HOLIDAY.V07OF09": damageShards(clean[name], g, even...)}
	s := only(t, clone(t, files))
	repaired(t, s, payload, clean)
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.ReadAt(make([]byte, len(payload)), 0); err != nil || p.Repaired() != 0 {
		t.Errorf("%d shards were computed that are there (%v)", p.Repaired(), err)
	}
	files["a/"+name] = damageShards(clean[name], g, all...)
	if err := only(t, clone(t, files)).Verify(t.Context(), nil); !errors.Is(err, bundle.ErrDamaged) || !strings.Contains(err.Error(), "cannot be repaired") {
		t.Errorf("half of the shards are whole: %v", err)
	}
	// One copy whole: nothing counts as damaged.
	files["c.v1of1"] = clean[name]
	if err := only(t, clone(t, files)).Verify(t.Context(), nil); err != nil {
		t.Error(err)
	}
}

// Volumes cut off, too long, empty at the end, of another bundle, of another
// layout, and foreign files.
func TestParityMixedMedium(t *testing.T) {
	payload := noise(200_000, 71)
	medium, other := bucket.NewMem(), bucket.NewMem()
	w := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 8, 4, 4, 1)))
	clean, names := objects(t, medium), w.Names()
	stray := publishParity(t, other, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 9, 3, 4, 1))).Names()[0]
	plain := publish(t, other, testLabel(2), payload)
	size := len(clean[names[0]])
	for what, b := range map[string][]byte{
		"cut off":          clean[names[1]][:size-1],
		"cut to a header":  clean[names[1]][:bundle.HeaderSize],
		"nothing":          {},
		"a byte too many":  append(bytes.Clone(clean[names[1]]), 0),
		"empty at the end": append(bytes.Clone(clean[names[1]][:size/2]), make([]byte, size-size/2)...),
	} {
		files := maps.Clone(clean)
		files[names[1]] = b
		m := clone(t, files)
		found := scan(t, m)
		if len(found.Damaged) != 1 || found.Damaged[0].Useful || len(found.Sets) != 1 || !slices.Equal(found.Sets[0].Missing(), []int{2}) {
			t.Fatalf("%s: %+v", what, found)
		}
		repaired(t, found.Sets[0], payload, clean)
		if what != "empty at the end" {
			continue
		}
		// A single volume that is still being copied is not enough.
		single := bucket.NewMem()
		name := publishParity(t, single, payload, bundle.Options{Parity: 0.1}).Names()[0]
		half := objects(t, single)[name]
		clear(half[len(half)/2:])
		replace(t, single, name, half)
		if found := scan(t, single); len(found.Sets) != 0 || len(found.Damaged) != 1 {
			t.Errorf("half a volume: %+v", found)
		}
	}
	files := map[string][]byte{"notes.txt": []byte("hello"), "song.v01of02": noise(10_000, 1)}
	for i, name := range names {
		files[fmt.Sprintf("f%d/X.V%dOF%d", i, 9-i, i)] = clean[name]
	}
	files["z/"+stray] = objects(t, other)[stray]
	files[plain[0]] = objects(t, other)[plain[0]]
	found := scan(t, clone(t, files))
	if len(found.Sets) != 2 || len(found.Damaged) != 2 || found.Foreign != 1 {
		t.Fatalf("%+v", found)
	}
	if d := found.Damaged[1]; d.Name != "z/"+stray || !strings.Contains(d.Reason, "contradicts") {
		t.Errorf("%+v", d)
	}
	s := found.Sets[0]
	if !s.Complete() || s.Geometry().Data != 8 {
		t.Errorf("%+v", s)
	}
	repaired(t, s, payload, clean)
}

// Sectors that cannot be read are as good as damaged; when they are too many,
// the medium failed and the bundle is not called damaged.
func TestParityBadSector(t *testing.T) {
	payload := noise(2_000_000, 81)
	medium := bucket.NewMem()
	w := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 9, 3, 1, 2)))
	clean := objects(t, medium)
	shard := int64(w.Layout().Geometry.Shard)
	bad := &openCounter{Reader: medium, badFrom: bundle.HeaderSize + 3*shard + 5, badTo: bundle.HeaderSize + 5*shard + 5}
	repaired(t, only(t, bad), payload, clean)
	size := int64(len(clean[w.Names()[0]]))
	for _, at := range []int64{0, size - 1, size - 56 - 8 - signSize - 100, size - 4096 - 2*384 - 56 - 8 - signSize + 100} { // the ends, and sums
		bad.badFrom, bad.badTo = at, at+1
		repaired(t, scan(t, bad).Sets[0], payload, clean)
	}
	bad.badFrom, bad.badTo = bundle.HeaderSize+shard, bundle.HeaderSize+10*shard
	s := only(t, bad)
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = io.ReadAll(io.NewSectionReader(p, 0, p.Size()))
	if !errors.Is(err, errSector) || errors.Is(err, bundle.ErrDamaged) || errors.Is(err, bundle.ErrIncomplete) {
		t.Errorf("ReadAt gives %v", err)
	}
	p.Close()
	if bad.open != 0 {
		t.Errorf("%d files stay open", bad.open)
	}
}

// The medium changes between Scan and reading.
func TestParityChangedSinceScan(t *testing.T) {
	payload := noise(500_000, 91)
	for what, change := range map[string]func(b []byte) []byte{
		"cut off":    func(b []byte) []byte { return b[:len(b)-1] },
		"taken away": func([]byte) []byte { return nil },
		"another's": func(b []byte) []byte {
			return append(noise(bundle.HeaderSize, 3), noise(len(b)-bundle.HeaderSize, 2)...)
		},
	} {
		medium := bucket.NewMem()
		names := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 8, 4, 4, 1))).Names()
		clean := objects(t, medium)
		s := only(t, medium)
		for _, name := range names[1:3] {
			replace(t, medium, name, change(clean[name]))
			if name == names[1] {
				repaired(t, s, payload, clean)
			}
		}
		p, err := s.Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		_, err = p.ReadAt(make([]byte, len(payload)), 0)
		var gone *bundle.StripeError
		if !errors.As(err, &gone) || !strings.Contains(err.Error(), names[1]) || !strings.Contains(err.Error(), names[2]) {
			t.Errorf("%s: %v", what, err)
		}
		p.Close()
	}
}

func TestParityCancelled(t *testing.T) {
	medium := bucket.NewMem()
	payload := noise(twelvePayload, 13)
	names := publishParity(t, medium, payload, twelve(payload)).Names()
	replace(t, medium, names[0], nil)
	s := only(t, medium)
	ctx, cancel := context.WithCancel(t.Context())
	if _, err := s.Examine(ctx, func(done, total int64) { cancel() }); !errors.Is(err, context.Canceled) {
		t.Errorf("Examine gives %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	p, err := s.Open(ctx)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	if _, err := p.ReadAt(make([]byte, 100_000), 0); err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := p.ReadAt(make([]byte, 100_000), int64(len(payload)/2)); !errors.Is(err, context.Canceled) {
		t.Errorf("ReadAt gives %v", err)
	}
	ctx, cancel = context.WithCancel(t.Context())
	to := bucket.NewMem()
	_, err = s.Repair(ctx, to, bundle.RepairOptions{Volumes: []int{1}, Progress: func(done, total int64) { cancel() }})
	if !errors.Is(err, context.Canceled) || errors.Is(err, bundle.ErrDamaged) || len(objects(t, to)) != 0 {
		t.Errorf("Repair gives %v", err)
	}
}

// byteCounter counts the bytes that are read.
type byteCounter struct {
	bucket.Reader
	read atomic.Int64
}

func (c *byteCounter) Open(ctx context.Context, name string) (bucket.Object, error) {
	o, err := c.Reader.Open(ctx, name)
	return &countedBytes{o, c}, err
}

type countedBytes struct {
	bucket.Object
	c *byteCounter
}

func (o *countedBytes) ReadAt(p []byte, at int64) (int, error) {
	n, err := o.Object.ReadAt(p, at)
	o.c.read.Add(int64(n))
	return n, err
}

// With everything there, no parity is read; with a volume lost, a pass over the
// payload reads each shard once.
func TestReadsNoMoreThanNeeded(t *testing.T) {
	payload := noise(twelvePayload, 13)
	medium := bucket.NewMem()
	w := publishParity(t, medium, payload, twelve(payload))
	g := w.Layout().Geometry
	for _, lose := range []bool{false, true} {
		if lose {
			replace(t, medium, w.Names()[2], nil)
		}
		counted := &byteCounter{Reader: medium}
		p, err := only(t, medium).OpenOn(t.Context(), counted)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.Copy(io.Discard, io.NewSectionReader(p, 0, p.Size())); err != nil {
			t.Fatal(err)
		}
		p.Close()
		most := g.Stripes * int64(g.Data*g.Shard)
		if n := counted.read.Load(); n > most+most/100+12*(4096+5000) {
			t.Errorf("%d bytes were read for a payload of %d, lost: %v", n, len(payload), lose)
		}
	}
}

// A volume is lost, and yet what stands in another is read from there alone.
func TestShortReadsStayShort(t *testing.T) {
	payload := noise(twelvePayload, 13)
	medium := bucket.NewMem()
	w := publishParity(t, medium, payload, twelve(payload))
	g := w.Layout().Geometry
	replace(t, medium, w.Names()[2], nil)
	counted := &byteCounter{Reader: medium}
	p, err := only(t, medium).OpenOn(t.Context(), counted)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	b := make([]byte, 100)
	for _, at := range []int{g.Depth*g.Shard + 5, len(payload) - 100, g.Depth*g.Shard + 105} { // cell 1, the last, and again
		if _, err := p.ReadAt(b, int64(at)); err != nil || !bytes.Equal(b, payload[at:at+100]) {
			t.Fatalf("at %d: %v", at, err)
		}
	}
	if n := counted.read.Load(); n > 2*int64(g.Shard+4096+5000) {
		t.Errorf("%d bytes were read for 300", n)
	}
	if _, err := p.ReadAt(b, int64(2*g.Depth*g.Shard)); err != nil || p.Repaired() == 0 { // cell 2 is lost
		t.Errorf("%d repaired, %v", p.Repaired(), err)
	}
}

// Every step of a repair broken, in both ways: nothing half is visible, and
// after an error nothing at all.
func TestRepairBrokenSteps(t *testing.T) {
	payload := noise(600_000, 5)
	medium := bucket.NewMem()
	names := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 4, 2, 3, 1))).Names()
	clean := objects(t, medium)
	replace(t, medium, names[1], nil)
	s := only(t, medium)
	for _, dead := range []bool{false, true} {
		t.Run(fmt.Sprint("dead ", dead), func(t *testing.T) {
			buckettest.Walk(t, func(t *testing.T, at int64, mode buckettest.Mode) bool {
				f := buckettest.NewFaulty(bucket.NewMem(), at, mode)
				f.Dead = dead
				_, err := s.Repair(t.Context(), f, bundle.RepairOptions{All: true})
				if f.Fired() != (err != nil) || err != nil && !errors.Is(err, buckettest.ErrInjected) {
					t.Fatalf("fault came: %v, error: %v", f.Fired(), err)
				}
				got := objects(t, f)
				if err == nil && !same(got, clean) || err != nil && !dead && len(got) > 0 {
					t.Fatalf("%d volumes on the medium, error %v", len(got), err)
				}
				for name, b := range got {
					if !bytes.Equal(b, clean[name]) {
						t.Fatalf("%s is not whole", name)
					}
				}
				return f.Fired()
			})
		})
	}
}

func TestRepairRefused(t *testing.T) {
	payload := noise(2*capacity, 5)
	medium := bucket.NewMem()
	publish(t, medium, testLabel(1), payload)
	if _, err := only(t, medium).Repair(t.Context(), bucket.NewMem(), bundle.RepairOptions{}); err == nil {
		t.Error("a bundle without parity is repaired")
	}
	medium = bucket.NewMem()
	w := publishParity(t, medium, payload, signed(bundle.Options{}.WithGeometry(int64(len(payload)), 8, 4, 4, 1)))
	s := only(t, medium)
	if names, err := s.Repair(t.Context(), medium, bundle.RepairOptions{}); err != nil || len(names) > 0 {
		t.Errorf("nothing to repair: %v, %v", names, err)
	}
	var taken *bundle.ExistError
	if _, err := s.Repair(t.Context(), medium, bundle.RepairOptions{All: true}); !errors.As(err, &taken) {
		t.Errorf("onto itself: %v", err)
	}
	for _, volumes := range [][]int{{0}, {5}, {2, 1}, {2, 2}} {
		if _, err := s.Repair(t.Context(), bucket.NewMem(), bundle.RepairOptions{Volumes: volumes}); err == nil {
			t.Errorf("volumes %v: accepted", volumes)
		}
	}
	full := fullBucket{bucket.NewMem(), 2*w.Layout().Volumes[0].FileSize - 1}
	var space *bucket.NoSpaceError
	if _, err := s.Repair(t.Context(), full, bundle.RepairOptions{Volumes: []int{1, 3}}); !errors.As(err, &space) || space.Need != full.free+1 {
		t.Errorf("one byte too few: %v", err)
	}
	full.free++
	var last int64
	names, err := s.Repair(t.Context(), full, bundle.RepairOptions{Volumes: []int{1, 3}, Progress: func(done, total int64) { last = total - done }})
	if err != nil || !slices.Equal(names, []string{w.Names()[0], w.Names()[2]}) || last != 0 {
		t.Errorf("%v, %v, %d left", names, err, last)
	}
}
