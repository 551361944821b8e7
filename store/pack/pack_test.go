package pack_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"

	"filippo.io/age"
	"pgregory.net/rapid"

	"davit/store/chunk"
	"davit/store/pack"
)

// tester is a test or a property.
type tester interface {
	Helper()
	Fatal(...any)
	Fatalf(string, ...any)
}

// newKeys makes the keys of one site.
func newKeys(t tester) pack.Keys {
	t.Helper()
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	return pack.NewKeys([]age.Recipient{id.Recipient()}, []age.Identity{id})
}

// text returns n bytes that compress like prose, the same every time.
func text(n int, seed uint64) []byte {
	r := rand.New(rand.NewPCG(seed, 1))
	words := make([]string, 2000)
	for i := range words {
		for range 2 + r.IntN(9) {
			words[i] += string(rune('a' + r.IntN(26)))
		}
	}
	zipf := rand.NewZipf(r, 1.2, 3, uint64(len(words)-1))
	b := make([]byte, 0, n+16)
	for len(b) < n {
		b = append(append(b, words[zipf.Uint64()]...), ' ')
	}
	return b[:n]
}

// random returns n bytes that do not compress, the same every time.
func random(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// frame compresses chunks into a frame.
func frame(t tester, chunks ...[]byte) pack.Frame {
	t.Helper()
	e, err := pack.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	plain := bytes.Join(chunks, nil)
	f := pack.Frame{Data: e.Encode(nil, plain), Size: len(plain)}
	for _, c := range chunks {
		f.Chunks = append(f.Chunks, chunk.Entry{Name: chunk.NameOf(c), Length: uint32(len(c))})
	}
	return f
}

// seal makes a pack of frames.
func seal(t tester, k pack.Keys, frames ...pack.Frame) ([]byte, pack.Summary) {
	t.Helper()
	var file bytes.Buffer
	w, err := pack.NewWriter(&file, k)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frames {
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	want := w.Size()
	s, err := w.Close()
	if err != nil {
		t.Fatal(err)
	}
	if s.Size != int64(file.Len()) || s.Size != want || s.Name != pack.Name(sha256.Sum256(file.Bytes())) {
		t.Fatalf("summary %s, %d bytes (expected %d); the file has %d", s.Name, s.Size, want, file.Len())
	}
	return file.Bytes(), s
}

func open(t tester, file []byte, k pack.Keys) *pack.Reader {
	t.Helper()
	r, err := pack.Open(bytes.NewReader(file), int64(len(file)), k)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestRoundTrip(t *testing.T) {
	k := newKeys(t)
	rapid.Check(t, func(t *rapid.T) {
		var all [][]byte
		var frames []pack.Frame
		var lengths []int
		for range rapid.IntRange(1, 6).Draw(t, "frames") {
			var chunks [][]byte
			for range rapid.IntRange(1, 9).Draw(t, "chunks") {
				n := rapid.IntRange(1, 50_000).Draw(t, "length")
				if rapid.Bool().Draw(t, "random") {
					chunks = append(chunks, random(n, byte(n)))
				} else {
					chunks = append(chunks, text(n, uint64(n)))
				}
			}
			all = append(all, chunks...)
			frames = append(frames, frame(t, chunks...))
			lengths = append(lengths, len(frames[len(frames)-1].Data))
		}
		file, summary := seal(t, k, frames...)
		if size, err := pack.SealedSize(lengths, len(all), k); err != nil || size != int64(len(file)) {
			t.Fatalf("SealedSize says %d, %v; the pack has %d bytes", size, err, len(file))
		}
		r := open(t, file, k)
		if got, want := fmt.Sprint(*r.Table()), fmt.Sprint(*summary.Table); got != want {
			t.Fatalf("table read: %s\nwritten: %s", got, want)
		}
		buf := make([]byte, 0, pack.FrameBuffer)
		for i, c := range r.Table().Chunks {
			plain, err := r.Frame(int(c.Frame), buf)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(plain[c.Offset:c.Offset+c.Length], all[i]) || c.Name != chunk.NameOf(all[i]) {
				t.Fatalf("chunk %d has other bytes", i)
			}
		}
		// Frames move to another pack as they are.
		for i, f := range frames {
			if data, err := r.Compressed(i, buf); err != nil || !bytes.Equal(data, f.Data) {
				t.Fatalf("frame %d, compressed, has other bytes, %v", i, err)
			}
		}
		n := 0
		if err := r.Verify(context.Background(), func(c pack.ChunkInfo) error {
			if c != r.Table().Chunks[n] {
				t.Fatalf("Verify passes %v as chunk %d", c, n)
			}
			n++
			return nil
		}); err != nil || n != len(all) {
			t.Fatalf("Verify: %d of %d chunks, %v", n, len(all), err)
		}
	})
}

// SealedSize must hold around age's blocks of 64 KiB, and for any recipients.
func TestSealedSize(t *testing.T) {
	x1, _ := age.GenerateX25519Identity()
	x2, _ := age.GenerateX25519Identity()
	two := pack.NewKeys([]age.Recipient{x1.Recipient(), x2.Recipient()}, nil)
	const tail = 8 + 8 + 12 + 36 + 40
	for _, k := range []pack.Keys{newKeys(t), two} {
		for _, block := range []int{1, 2} {
			for d := -2; d <= 2; d++ {
				plain := random(block<<16-tail-13+d, 1)
				f := frame(t, plain)
				file, _ := seal(t, k, f)
				size, err := pack.SealedSize([]int{len(f.Data)}, 1, k)
				if err != nil || size != int64(len(file)) {
					t.Errorf("%v, %d bytes: SealedSize says %d, %v; the pack has %d", k, len(plain), size, err, len(file))
				}
			}
		}
	}
	if _, err := pack.SealedSize([]int{1}, 1, pack.Keys{}); err == nil {
		t.Error("a size without recipients")
	}
}

func TestEncoder(t *testing.T) {
	e, err := pack.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{1, 2, 255, 256, 257, 1023, 1024, 65_791, 65_792, 128 << 10, 128<<10 + 1, pack.FrameTarget, pack.MaxFrame} {
		for name, plain := range map[string][]byte{"random": random(n, 1), "zeros": make([]byte, n), "text": text(n, 1)} {
			prefix := []byte("before")
			data := e.Encode(prefix, plain)
			if !bytes.HasPrefix(data, prefix) {
				t.Fatalf("%s %d: what was in dst is gone", name, n)
			}
			data = data[len(prefix):]
			if len(data) > n+n>>10+16 || len(data) > pack.MaxCompressed {
				t.Errorf("%s %d: grows to %d", name, n, len(data))
			}
			for _, data := range [][]byte{data, pack.AppendRaw(nil, plain)} {
				got, err := pack.Decode(data, n, nil)
				if err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s %d: other bytes, %v", name, n, err)
				}
				if got, err := pack.Decode(data, n, make([]byte, n)); err != nil || !bytes.Equal(got, plain) {
					t.Fatalf("%s %d: into a tight buffer: %v", name, n, err)
				}
				for _, other := range []int{n - 1, n + 1} {
					if _, err := pack.Decode(data, other, nil); !errors.Is(err, pack.ErrDamaged) {
						t.Fatalf("%s %d as %d: %v", name, n, other, err)
					}
				}
			}
		}
	}
}

func TestWriterRefuses(t *testing.T) {
	w, err := pack.NewWriter(io.Discard, newKeys(t))
	if err != nil {
		t.Fatal(err)
	}
	good := frame(t, []byte("hello, "), []byte("world\n"))
	if _, err := w.Close(); err == nil {
		t.Error("an empty pack was closed")
	}
	if err := w.Add(good); err == nil {
		t.Error("Add after Close")
	}
	if w, err = pack.NewWriter(io.Discard, newKeys(t)); err != nil {
		t.Fatal(err)
	}
	before := w.Size()
	entry := func(n uint32) chunk.Entry { return chunk.Entry{Length: n} }
	for name, f := range map[string]pack.Frame{
		"empty":         {},
		"no data":       {Size: 13, Chunks: good.Chunks},
		"no chunks":     {Data: good.Data, Size: 13},
		"not zstd":      {Data: []byte("not a frame at all"), Size: 13, Chunks: good.Chunks},
		"skippable":     {Data: pack.AppendTail(nil, table(t, good)), Size: 13, Chunks: good.Chunks},
		"size":          {Data: good.Data, Size: 14, Chunks: []chunk.Entry{entry(14)}},
		"size too big":  {Data: good.Data, Size: pack.MaxFrame + 1, Chunks: []chunk.Entry{entry(pack.MaxFrame + 1)}},
		"data too big":  {Data: make([]byte, pack.MaxCompressed+1), Size: 13, Chunks: good.Chunks},
		"zero chunk":    {Data: good.Data, Size: 13, Chunks: append([]chunk.Entry{entry(0)}, good.Chunks...)},
		"chunks above":  {Data: good.Data, Size: 13, Chunks: append([]chunk.Entry{entry(1)}, good.Chunks...)},
		"chunks below":  {Data: good.Data, Size: 13, Chunks: good.Chunks[:1]},
		"chunks wrap":   {Data: good.Data, Size: 13, Chunks: []chunk.Entry{entry(math.MaxUint32), entry(14)}},
		"negative size": {Data: good.Data, Size: -13, Chunks: good.Chunks},
	} {
		if err := w.Add(f); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if w.Size() != before || w.Chunks() != 0 {
		t.Error("a refused frame left something")
	}
	if err := w.Add(good); err != nil || w.Chunks() != 2 {
		t.Errorf("a good frame after bad ones: %v", err)
	}
	if _, err := pack.NewWriter(io.Discard, pack.Keys{}); err == nil {
		t.Error("a pack without recipients")
	}
}

// table is the table of a pack with these frames.
func table(t tester, frames ...pack.Frame) *pack.Table {
	_, s := seal(t, newKeys(t), frames...)
	return s.Table
}

func TestWriterFull(t *testing.T) {
	k := newKeys(t)
	w, err := pack.NewWriter(io.Discard, k)
	if err != nil {
		t.Fatal(err)
	}
	const n = 1 << 16
	f := pack.Frame{Data: pack.AppendRaw(nil, make([]byte, n)), Size: n, Chunks: make([]chunk.Entry, n)}
	for i := range f.Chunks {
		f.Chunks[i] = chunk.Entry{Name: chunk.NameOf([]byte{0}), Length: 1}
	}
	for w.Chunks() < pack.MaxChunks {
		if err := w.Add(f); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Add(frame(t, []byte{0})); !errors.Is(err, pack.ErrFull) {
		t.Fatalf("beyond the bound: %v", err)
	}
	s, err := w.Close()
	if err != nil || len(s.Table.Chunks) != pack.MaxChunks {
		t.Fatalf("a full pack does not close: %v", err)
	}
}

// A disk that fails at any byte must fail the pack.
func TestWriterError(t *testing.T) {
	k := newKeys(t)
	f := frame(t, random(70_000, 1))
	_, s := seal(t, k, f)
	broken := errors.New("disk on fire")
	for at := int64(0); at < s.Size; at += 97 {
		for _, short := range []bool{false, true} {
			d := &failing{left: at, err: broken}
			if short {
				d.err = nil
			}
			w, err := pack.NewWriter(d, k)
			if err == nil {
				if err = w.Add(f); err == nil {
					_, err = w.Close()
				} else if _, again := w.Close(); again == nil {
					t.Fatalf("at %d: Close after a failed Add", at)
				}
			}
			if want := broken; !errors.Is(err, want) && !(short && errors.Is(err, io.ErrShortWrite)) {
				t.Fatalf("at %d: %v", at, err)
			}
		}
	}
}

// failing takes left bytes, then returns err.
type failing struct {
	left int64
	err  error
}

func (f *failing) Write(p []byte) (int, error) {
	if int64(len(p)) <= f.left {
		f.left -= int64(len(p))
		return len(p), nil
	}
	n := f.left
	f.left = 0
	return int(n), f.err
}

// An object that cannot be read is not damaged: nobody may delete or
// quarantine a pack because a network was down.
func TestReaderError(t *testing.T) {
	k := newKeys(t)
	file, _ := seal(t, k, frame(t, random(100_000, 1)), frame(t, random(100_000, 2)))
	broken := errors.New("network is down")
	read := func(src io.ReaderAt) error {
		r, err := pack.Open(src, int64(len(file)), k)
		if err != nil {
			return err
		}
		if _, err := r.Frame(0, nil); err != nil {
			return err
		}
		if _, err := r.Compressed(1, nil); err != nil {
			return err
		}
		return r.Verify(context.Background(), nil)
	}
	whole := &flaky{ReaderAt: bytes.NewReader(file), at: math.MaxInt, err: broken}
	if err := read(whole); err != nil {
		t.Fatal(err)
	}
	if whole.n < 5 {
		t.Fatalf("only %d reads", whole.n)
	}
	for at := 1; at <= whole.n; at++ {
		for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
			err := read(&flaky{ReaderAt: bytes.NewReader(file), at: at, err: failure})
			if !errors.Is(err, failure) || errors.Is(err, pack.ErrDamaged) {
				t.Errorf("read %d of %d fails: %v", at, whole.n, err)
			}
		}
	}
}

// flaky fails from read number at on.
type flaky struct {
	io.ReaderAt
	at, n int
	err   error
}

func (f *flaky) ReadAt(p []byte, off int64) (int, error) {
	if f.n++; f.n >= f.at {
		return 0, f.err
	}
	return f.ReaderAt.ReadAt(p, off)
}

func TestReaderConcurrent(t *testing.T) {
	k := newKeys(t)
	var frames []pack.Frame
	var want [][]byte
	for i := range 8 {
		want = append(want, text(90_000+i, uint64(i)))
		frames = append(frames, frame(t, want[i]))
	}
	file, _ := seal(t, k, frames...)
	r := open(t, file, k)
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			var buf []byte
			for n := range 40 {
				i := (n*3 + g) % len(want)
				var err error
				if buf, err = r.Frame(i, buf); err != nil || !bytes.Equal(buf, want[i]) {
					t.Errorf("frame %d: other bytes, %v", i, err)
					return
				}
			}
		})
	}
	wg.Wait()
	for _, i := range []int{-1, len(want)} {
		if _, err := r.Frame(i, nil); err == nil {
			t.Errorf("frame %d exists", i)
		}
		if _, err := r.Compressed(i, nil); err == nil {
			t.Errorf("frame %d exists", i)
		}
	}
}

func TestVerifyStops(t *testing.T) {
	k := newKeys(t)
	file, _ := seal(t, k, frame(t, []byte("a")), frame(t, []byte("b")))
	r := open(t, file, k)
	enough := errors.New("enough")
	if err := r.Verify(context.Background(), func(pack.ChunkInfo) error { return enough }); err != enough {
		t.Errorf("fn's error became %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := r.Verify(ctx, nil); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestName(t *testing.T) {
	n := pack.Name(sha256.Sum256([]byte("abc")))
	s := n.String()
	if got, err := pack.ParseName(s); err != nil || got != n {
		t.Fatalf("parsed %s, %v", got, err)
	}
	for _, bad := range []string{"", s[1:], s + "0", strings.ToUpper(s), "+" + s[1:], s[:63] + "\n", s[:30] + "  " + s[32:]} {
		if _, err := pack.ParseName(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

// Nothing that a person or a log may print shows a key.
func TestKeysDoNotShow(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	k := pack.NewKeys([]age.Recipient{id.Recipient()}, []age.Identity{id})
	for _, v := range []any{k, &k, []pack.Keys{k}, struct{ K pack.Keys }{k}} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			if s := fmt.Sprintf(verb, v); len(s) > 200 || strings.Contains(s, "AGE-SECRET") || strings.Contains(s, "age1") {
				t.Errorf("%s prints %q", verb, s)
			}
		}
	}
}

func TestSniff(t *testing.T) {
	k := newKeys(t)
	file, _ := seal(t, k, frame(t, []byte("x")))
	doc, err := pack.Seal([]byte("x"), k)
	if err != nil {
		t.Fatal(err)
	}
	if !pack.Sniff(file[:19]) || !pack.Sniff(doc) || pack.Sniff(nil) || pack.Sniff(file[:18]) || pack.Sniff([]byte("DAVITLST-and-what-follows")) {
		t.Error("Sniff is wrong")
	}
}
