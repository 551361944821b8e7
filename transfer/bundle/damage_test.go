package bundle_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"

	"pgregory.net/rapid"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

// openCounter counts files open, and can make ranges of them unreadable.
type openCounter struct {
	bucket.Reader
	badFrom, badTo int64 // bytes of each file that cannot be read

	mu         sync.Mutex
	open, most int // guarded by mu
}

func (c *openCounter) Open(ctx context.Context, name string) (bucket.Object, error) {
	o, err := c.Reader.Open(ctx, name)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open++
	c.most = max(c.most, c.open)
	return &countedObject{Object: o, c: c}, nil
}

type countedObject struct {
	bucket.Object
	c *openCounter
}

var errSector = errors.New("bad sector")

func (o *countedObject) ReadAt(p []byte, at int64) (int, error) {
	if at < o.c.badTo && at+int64(len(p)) > o.c.badFrom {
		return 0, errSector
	}
	return o.Object.ReadAt(p, at)
}

func (o *countedObject) Close() error {
	o.c.mu.Lock()
	defer o.c.mu.Unlock()
	o.c.open--
	return o.Object.Close()
}

// Whichever byte of a volume changes, it is noticed, and where it lies in the
// data the block is named.
func TestAnyByteChanged(t *testing.T) {
	medium := bucket.NewMem()
	names := publish(t, medium, testLabel(1), noise(capacity+3*bundle.BlockSize+77, 7))
	clean := objects(t, medium)
	check := func(t interface {
		Fatalf(string, ...any)
		Context() context.Context
	}, name string, at int64, flip byte) {
		b := bytes.Clone(clean[name])
		b[at] ^= flip
		m := bucket.NewMem()
		for n, data := range clean {
			if n == name {
				data = b
			}
			if err := bucket.Put(t.Context(), m, n, data); err != nil {
				t.Fatalf("%v", err)
			}
		}
		found, err := bundle.Scan(t.Context(), m)
		if err != nil {
			t.Fatalf("%v", err)
		}
		if len(found.Damaged) == 1 && found.Damaged[0].Name == name && len(found.Sets) == 1 {
			if at >= bundle.HeaderSize && at < int64(len(b))-48 {
				t.Fatalf("Scan claims to know of byte %d", at)
			}
			if found.Sets[0].Complete() {
				t.Fatalf("the set is complete with a damaged volume")
			}
			if err := found.Sets[0].Verify(t.Context(), nil); !errors.Is(err, bundle.ErrIncomplete) {
				t.Fatalf("Verify of an incomplete set: %v", err)
			}
			return
		}
		if len(found.Damaged) != 0 || len(found.Sets) != 1 {
			t.Fatalf("byte %d of %s: Scan found %+v", at, name, found)
		}
		err = found.Sets[0].Verify(t.Context(), nil)
		var d *bundle.DamageError
		if !errors.As(err, &d) || !errors.Is(err, bundle.ErrDamaged) || d.File != name {
			t.Fatalf("byte %d of %s: Verify gives %v", at, name, err)
		}
		dataEnd := int64(len(b)) - 48 - 8 - 8*(int64(len(b))/bundle.BlockSize+1) // roughly
		if at >= bundle.HeaderSize && at < dataEnd {
			want := []bundle.BlockRange{{First: (at - bundle.HeaderSize) / bundle.BlockSize, Count: 1}}
			if !slices.Equal(d.Blocks, want) {
				t.Fatalf("byte %d of %s: blocks %v, want %v", at, name, d.Blocks, want)
			}
		}
	}
	rapid.Check(t, func(rt *rapid.T) {
		name := rapid.SampledFrom(names).Draw(rt, "name")
		size := int64(len(clean[name]))
		at := rapid.OneOf(
			rapid.Int64Range(0, size-1),
			rapid.Int64Range(0, bundle.HeaderSize-1),
			rapid.Int64Range(size-300, size-1),
		).Draw(rt, "at")
		check(rt, name, at, byte(rapid.IntRange(1, 255).Draw(rt, "flip")))
	})
	for _, name := range names { // and each byte of the ends, once
		size := int64(len(clean[name]))
		for at := size - 80; at < size; at++ {
			check(t, name, at, 1)
		}
	}
}

func TestTruncated(t *testing.T) {
	medium := bucket.NewMem()
	names := publish(t, medium, testLabel(1), noise(2*capacity, 9))
	whole := objects(t, medium)[names[1]]
	for _, keep := range []int{0, 1, bundle.HeaderSize - 1, bundle.HeaderSize, bundle.HeaderSize + 1, len(whole) / 2, len(whole) - 48, len(whole) - 1} {
		replace(t, medium, names[1], whole[:keep])
		found := scan(t, medium)
		if len(found.Damaged) != 1 || found.Damaged[0].Name != names[1] || !errors.Is(found.Damaged[0].Err, bundle.ErrDamaged) {
			t.Fatalf("%d of %d bytes: %+v", keep, len(whole), found.Damaged)
		}
		if got := found.Sets[0].Missing(); !slices.Equal(got, []int{2}) {
			t.Fatalf("%d of %d bytes: missing %v", keep, len(whole), got)
		}
	}
	// Room taken in advance, as some file managers do, does not count as arrived.
	replace(t, medium, names[1], append(bytes.Clone(whole[:len(whole)/2]), make([]byte, len(whole)-len(whole)/2)...))
	if found := scan(t, medium); len(found.Damaged) != 1 {
		t.Error("a file whose second half is still zeros counts as a volume")
	}
	replace(t, medium, names[1], append(bytes.Clone(whole), 0))
	if found := scan(t, medium); len(found.Damaged) != 1 || !strings.Contains(found.Damaged[0].Reason, "1 bytes too many") {
		t.Errorf("a byte too many: %+v", found.Damaged)
	}
}

// The medium changes between Scan and reading.
func TestChangedSinceScan(t *testing.T) {
	payload := noise(2*capacity, 9)
	for what, test := range map[string]struct {
		change func(whole []byte) []byte
		want   error
	}{
		"cut off":      {func(b []byte) []byte { return b[:len(b)-1] }, bundle.ErrDamaged},
		"other header": {func(b []byte) []byte { b = bytes.Clone(b); b[200] ^= 1; return b }, bundle.ErrDamaged},
		"taken away":   {func([]byte) []byte { return nil }, bundle.ErrIncomplete},
	} {
		t.Run(what, func(t *testing.T) {
			medium := bucket.NewMem()
			names := publish(t, medium, testLabel(1), payload)
			s := only(t, medium)
			replace(t, medium, names[1], test.change(objects(t, medium)[names[1]]))
			p, err := s.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			defer p.Close()
			buf := make([]byte, len(payload))
			n, err := p.ReadAt(buf, 0)
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), names[1]) {
				t.Errorf("ReadAt gives %v", err)
			}
			if n != capacity || !bytes.Equal(buf[:n], payload[:n]) {
				t.Errorf("ReadAt gave %d bytes of the volume that is there", n)
			}
			if err := s.Verify(t.Context(), nil); !errors.Is(err, test.want) {
				t.Errorf("Verify gives %v", err)
			}
		})
	}
}

func TestMissingVolume(t *testing.T) {
	medium := bucket.NewMem()
	payload := noise(5*capacity, 11)
	names := publish(t, medium, testLabel(1), payload)
	replace(t, medium, names[1], nil)
	replace(t, medium, names[2], nil)
	s := only(t, medium)
	if s.Complete() || !slices.Equal(s.Missing(), []int{2, 3}) {
		t.Fatalf("missing %v", s.Missing())
	}
	var lacks *bundle.IncompleteError
	if err := s.Verify(t.Context(), nil); !errors.As(err, &lacks) || !strings.Contains(err.Error(), "volumes 2 to 3 of 5") {
		t.Errorf("Verify gives %v", err)
	}
	p, err := s.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer p.Close()
	_, err = p.ReadAt(make([]byte, 10), capacity-5)
	var missing *bundle.MissingVolumeError
	if !errors.As(err, &missing) || missing.Volume != 2 || missing.Volumes != 5 || missing.Name != names[1] {
		t.Errorf("ReadAt gives %v", err)
	}
	// The documents, at the end, can be read all the same.
	if b, err := io.ReadAll(p.Documents()); err != nil || !bytes.HasSuffix(payload, b) || len(b) == 0 {
		t.Errorf("documents: %v", err)
	}
}

func TestBadSector(t *testing.T) {
	medium := bucket.NewMem()
	publish(t, medium, testLabel(1), noise(capacity, 13))
	bad := &openCounter{Reader: medium, badFrom: bundle.HeaderSize + 3*bundle.BlockSize + 5, badTo: bundle.HeaderSize + 4*bundle.BlockSize + 5}
	err := only(t, bad).Verify(t.Context(), nil)
	var d *bundle.DamageError
	if !errors.As(err, &d) || !errors.Is(err, errSector) || !slices.Equal(d.Blocks, []bundle.BlockRange{{First: 3, Count: 2}}) {
		t.Errorf("Verify gives %v", err)
	}
	if bad.open != 0 {
		t.Errorf("%d files stay open", bad.open)
	}
	bad.badFrom, bad.badTo = 0, 1
	if found := scan(t, bad); len(found.Damaged) != 1 || !errors.Is(found.Damaged[0].Err, errSector) {
		t.Errorf("a header that cannot be read: %+v", found)
	}
}

func TestVerifyCancelled(t *testing.T) {
	medium := bucket.NewMem()
	publish(t, medium, testLabel(1), noise(3*capacity, 13))
	s := only(t, medium)
	ctx, cancel := context.WithCancel(t.Context())
	err := s.Verify(ctx, func(done, total int64) { cancel() })
	if !errors.Is(err, context.Canceled) || errors.Is(err, bundle.ErrDamaged) {
		t.Errorf("Verify gives %v", err)
	}
}

// A medium that many hands went through: several bundles, renamed files,
// folders, copies, other people's files.
func TestMixedMedium(t *testing.T) {
	medium := bucket.NewMem()
	payloads := map[int64][]byte{}
	for serial := int64(1); serial <= 3; serial++ {
		payloads[serial] = noise(2*capacity+int(serial), uint64(serial))
		names := publish(t, medium, testLabel(serial), payloads[serial])
		if serial == 2 {
			move(t, medium, names[0], "HOLIDAY.V03OF03") // the number is wrong too
			move(t, medium, names[1], "from-the-stick/backup/x.v1of1")
			if err := bucket.Copy(t.Context(), medium, "copies/"+names[2], medium, names[2]); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, name := range []string{"notes.txt", "v01of02", "davit.v01", "davit.v01of", "davit.vXofY", "davit-dev-to-prod-000001.v01of03.part"} {
		replace(t, medium, name, []byte("hello"))
	}
	replace(t, medium, "song.v01of02", noise(10_000, 1))
	replace(t, medium, "future.v01of02", append([]byte("davit-volume/3\n"), noise(10_000, 1)...))

	found := scan(t, medium)
	if found.Foreign != 6 {
		t.Errorf("%d foreign files, want 6", found.Foreign)
	}
	if len(found.Damaged) != 2 || found.Damaged[0].Name != "future.v01of02" || found.Damaged[1].Name != "song.v01of02" {
		t.Fatalf("damaged: %+v", found.Damaged)
	}
	if err := found.Damaged[0].Err; !errors.Is(err, bundle.ErrVersion) || errors.Is(err, bundle.ErrDamaged) {
		t.Errorf("a newer volume is %v", err)
	}
	if !errors.Is(found.Damaged[1].Err, bundle.ErrDamaged) {
		t.Errorf("noise is %v", found.Damaged[1].Err)
	}
	if len(found.Sets) != 3 {
		t.Fatalf("%d sets, want 3", len(found.Sets))
	}
	for i, s := range found.Sets {
		if s.Serial != int64(i+1) {
			t.Errorf("set %d has serial %d", i, s.Serial)
		}
		if err := s.Verify(t.Context(), nil); err != nil {
			t.Error(err)
		}
		if !bytes.Equal(readAll(t, s), payloads[s.Serial]) {
			t.Errorf("bundle %d came back changed", s.Serial)
		}
	}
}

func move(t *testing.T, medium bucket.Bucket, from, to string) {
	t.Helper()
	if err := bucket.Move(t.Context(), medium, from, to); err != nil {
		t.Fatal(err)
	}
}

// One bundle id with two layouts: never mixed, and the fuller one is kept
// whatever the files are called.
func TestContradiction(t *testing.T) {
	payload := noise(3*capacity, 15)
	for _, prefix := range []string{"a/", "z/"} {
		medium := bucket.NewMem()
		publish(t, medium, testLabel(1), payload)
		other := bucket.NewMem()
		w, err := write(t.Context(), other, testLabel(1), payload, 1, 2*smallest)
		if err != nil {
			t.Fatal(err)
		}
		if err := w.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		stray := w.Names()[0]
		if err := bucket.Copy(t.Context(), medium, prefix+stray, other, stray); err != nil {
			t.Fatal(err)
		}
		found := scan(t, medium)
		if len(found.Sets) != 1 || !found.Sets[0].Complete() || !bytes.Equal(readAll(t, found.Sets[0]), payload) {
			t.Fatalf("%s: sets %+v", prefix, found.Sets)
		}
		if len(found.Damaged) != 1 || found.Damaged[0].Name != prefix+stray || !strings.Contains(found.Damaged[0].Reason, "contradicts") {
			t.Errorf("%s: damaged %+v", prefix, found.Damaged)
		}
		if h := found.Damaged[0].Header; h == nil || h.Volumes != 2 {
			t.Errorf("%s: the header is lost", prefix)
		}
	}
}

// A volume that was carried a second time mends a damaged first copy.
func TestSecondCopy(t *testing.T) {
	medium := bucket.NewMem()
	payload := noise(2*capacity, 17)
	names := publish(t, medium, testLabel(1), payload)
	bad := bytes.Clone(objects(t, medium)[names[0]])
	bad[bundle.HeaderSize+100_000] ^= 1
	for _, again := range []string{"again/", "x/"} { // before and after the first in order
		if err := bucket.Copy(t.Context(), medium, again+names[0], medium, names[0]); err != nil {
			t.Fatal(err)
		}
	}
	for _, broken := range [][]string{{"again/" + names[0]}, {names[0]}} {
		for _, name := range broken {
			replace(t, medium, name, bad)
		}
		s := only(t, medium)
		if err := s.Verify(t.Context(), nil); err != nil {
			t.Fatalf("with one whole copy: %v", err)
		}
		if !bytes.Equal(readAll(t, s), payload) {
			t.Fatal("the damaged copy was read")
		}
	}
	replace(t, medium, "x/"+names[0], bad)
	err := only(t, medium).Verify(t.Context(), nil)
	if !errors.Is(err, bundle.ErrDamaged) || strings.Count(fmt.Sprint(err), "block 1") != 3 {
		t.Errorf("three damaged copies: %v", err)
	}
}

func TestMessages(t *testing.T) {
	l := testLabel(1)
	for want, err := range map[string]error{
		"volume x is damaged: bad: block 3, blocks 5 to 6": &bundle.DamageError{File: "x", Reason: "bad",
			Blocks: []bundle.BlockRange{{First: 3, Count: 1}, {First: 5, Count: 2}}},
		"volume 2 of 3 is missing: look for y": &bundle.MissingVolumeError{Volume: 2, Volumes: 3, Name: "y"},
		l.String() + " lacks volume 3 of 9":    &bundle.IncompleteError{Label: l, Volumes: 9, Missing: []int{3}},
		l.String() + " lacks volumes 1, 3 to 5 of 9": &bundle.IncompleteError{
			Label: l, Volumes: 9, Missing: []int{1, 3, 4, 5}},
		l.String() + " lacks volumes 1, 3, 5, 7, 9, 11, 13, 15, and 2 more of 20": &bundle.IncompleteError{
			Label: l, Volumes: 20, Missing: []int{1, 3, 5, 7, 9, 11, 13, 15, 17, 19}},
	} {
		if err.Error() != want {
			t.Errorf("got  %s\nwant %s", err, want)
		}
	}
}
