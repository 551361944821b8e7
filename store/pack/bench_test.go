package pack_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"davit/store/chunk"
	"davit/store/pack"
)

var contents = map[string][]byte{"text": text(pack.FrameTarget, 1), "random": random(pack.FrameTarget, 1)}

func BenchmarkEncoder(b *testing.B) {
	for name, plain := range contents {
		b.Run(name, func(b *testing.B) {
			e, err := pack.NewEncoder()
			if err != nil {
				b.Fatal(err)
			}
			buf := make([]byte, 0, pack.MaxCompressed)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				buf = e.Encode(buf[:0], plain)
			}
			b.ReportMetric(float64(len(plain))/float64(len(buf)), "ratio")
		})
	}
}

// split says that plain is chunks of 64 KiB.
func split(plain []byte) []chunk.Entry {
	var entries []chunk.Entry
	for len(plain) > 0 {
		n := min(len(plain), 64<<10)
		entries = append(entries, chunk.Entry{Name: chunk.NameOf(plain[:n]), Length: uint32(n)})
		plain = plain[n:]
	}
	return entries
}

func BenchmarkWriter(b *testing.B) {
	k := newKeys(b)
	plain := contents["random"]
	f := frame(b, plain)
	f.Chunks = split(plain)
	const frames = 64
	b.SetBytes(frames * int64(len(f.Data)))
	b.ReportAllocs()
	for b.Loop() {
		w, err := pack.NewWriter(io.Discard, k)
		if err != nil {
			b.Fatal(err)
		}
		for range frames {
			if err := w.Add(f); err != nil {
				b.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

func benchmarkPack(b *testing.B, plain []byte) *pack.Reader {
	k := newKeys(b)
	f := frame(b, plain)
	f.Chunks = split(plain)
	file, _ := seal(b, k, f, f, f, f, f, f, f, f)
	return open(b, file, k)
}

func BenchmarkReaderFrame(b *testing.B) {
	for name, plain := range contents {
		b.Run(name, func(b *testing.B) {
			r := benchmarkPack(b, plain)
			buf := make([]byte, pack.FrameBuffer)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, err := r.Frame(i%8, buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkDecode(b *testing.B) {
	for name, plain := range contents {
		b.Run(name, func(b *testing.B) {
			data := frame(b, plain).Data
			buf := make([]byte, pack.FrameBuffer)
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, err := pack.Decode(data, len(plain), buf); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkReaderVerify(b *testing.B) {
	r := benchmarkPack(b, contents["text"])
	b.SetBytes(8 * int64(len(contents["text"])))
	b.ReportAllocs()
	for b.Loop() {
		if err := r.Verify(context.Background(), nil); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkOpen(b *testing.B) {
	k := newKeys(b)
	f := pack.Frame{Data: pack.AppendRaw(nil, make([]byte, 1000)), Size: 1000, Chunks: split(make([]byte, 1000))}
	frames := make([]pack.Frame, 1000)
	for i := range frames {
		frames[i] = f
	}
	file, _ := seal(b, k, frames...)
	src := bytes.NewReader(file)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := pack.Open(src, int64(len(file)), k); err != nil {
			b.Fatal(err)
		}
	}
}

// The hot paths must not allocate for each chunk; a handful for each frame is
// what age and the pools take.
func TestAllocations(t *testing.T) {
	k := newKeys(t)
	plain := make([]byte, 100_000)
	e, err := pack.NewEncoder()
	if err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 0, pack.MaxCompressed)
	if n := testing.AllocsPerRun(20, func() { buf = e.Encode(buf[:0], plain) }); n > 0 {
		t.Errorf("Encode allocates %v times", n)
	}
	f := pack.Frame{Data: buf, Size: len(plain)}
	for range plain {
		f.Chunks = append(f.Chunks, chunk.Entry{Name: chunk.NameOf([]byte{0}), Length: 1})
	}
	var file bytes.Buffer
	file.Grow(16 << 20)
	if n := testing.AllocsPerRun(3, func() {
		file.Reset()
		w, err := pack.NewWriter(&file, k)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := w.Add(f); err != nil {
				t.Fatal(err)
			}
		}
		if _, err := w.Close(); err != nil {
			t.Fatal(err)
		}
	}); n > 500 {
		t.Errorf("a Writer of 200,000 chunks allocates %v times", n)
	}
	r := open(t, file.Bytes(), k)
	plain = make([]byte, pack.FrameBuffer)
	if n := testing.AllocsPerRun(20, func() {
		if _, err := r.Frame(0, plain); err != nil {
			t.Fatal(err)
		}
	}); n > 6 {
		t.Errorf("Frame allocates %v times", n)
	}
}
