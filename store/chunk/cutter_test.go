package chunk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"davit/store/chunk"
)

// random returns n bytes that are the same every time.
func random(n int, seed byte) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

// cut returns the chunks of r, checking what Next promises.
func cut(t testing.TB, c *chunk.Cutter, p chunk.Params, r io.Reader) ([][]byte, error) {
	t.Helper()
	c.Reset(r)
	var chunks [][]byte
	for {
		b, err := c.Next()
		if err != nil {
			if b != nil {
				t.Fatalf("%d bytes together with error %v", len(b), err)
			}
			if _, again := c.Next(); !errors.Is(again, err) {
				t.Fatalf("Next after %v returns %v", err, again)
			}
			return chunks, err
		}
		if len(b) == 0 || len(b) > p.Max {
			t.Fatalf("a chunk of %d bytes", len(b))
		}
		if n := len(chunks); n > 0 && len(chunks[n-1]) < p.Min {
			t.Fatalf("chunk %d of %d bytes is not the last", n-1, len(chunks[n-1]))
		}
		chunks = append(chunks, bytes.Clone(b))
	}
}

func newCutter(t testing.TB, p chunk.Params) *chunk.Cutter {
	t.Helper()
	c, err := chunk.NewCutter(p)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

var small = chunk.Params{Min: 64, Normal: 256, Max: 1024}

func TestCutterBoundaries(t *testing.T) {
	for _, p := range []chunk.Params{small, chunk.DefaultParams()} {
		c := newCutter(t, p)
		for _, n := range []int{0, 1, p.Min - 1, p.Min, p.Min + 1, p.Normal, p.Max - 1, p.Max, p.Max + 1, 2*p.Max + 1, 9 * p.Max} {
			for name, data := range map[string][]byte{"random": random(n, 1), "zeros": make([]byte, n)} {
				chunks, err := cut(t, c, p, bytes.NewReader(data))
				if err != io.EOF {
					t.Fatalf("%s %d: %v", name, n, err)
				}
				if !bytes.Equal(bytes.Join(chunks, nil), data) {
					t.Fatalf("%s %d: the chunks are not the stream", name, n)
				}
				if n <= p.Min && n > 0 && len(chunks) != 1 {
					t.Fatalf("%s %d: %d chunks", name, n, len(chunks))
				}
			}
		}
	}
}

// How the reader hands out the stream must not move a cut.
func TestCutterReaders(t *testing.T) {
	c := newCutter(t, small)
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(0, 5000).Draw(rt, "n")
		data := random(n, rapid.Byte().Draw(rt, "seed"))
		want, err := cut(t, c, small, bytes.NewReader(data))
		if err != io.EOF {
			rt.Fatal(err)
		}
		if !bytes.Equal(bytes.Join(want, nil), data) {
			rt.Fatal("the chunks are not the stream")
		}
		for name, wrap := range map[string]func(io.Reader) io.Reader{
			"one byte": iotest.OneByteReader, "half": iotest.HalfReader, "data with error": iotest.DataErrReader,
			"pauses": func(r io.Reader) io.Reader { return &pausing{r: r} },
		} {
			got, err := cut(t, c, small, wrap(bytes.NewReader(data)))
			if err != io.EOF || !slices.EqualFunc(got, want, bytes.Equal) {
				rt.Fatalf("%s: other cuts, %v", name, err)
			}
		}
	})
}

// pausing returns 0, nil before every piece.
type pausing struct {
	r  io.Reader
	on bool
}

func (p *pausing) Read(b []byte) (int, error) {
	if p.on = !p.on; p.on {
		return 0, nil
	}
	return p.r.Read(b[:min(len(b), 7)])
}

// A stream that breaks anywhere must end in that error: were it to end in
// io.EOF, a truncated file would be stored as a whole one.
func TestCutterReaderError(t *testing.T) {
	c := newCutter(t, small)
	data := random(3000, 2)
	whole, _ := cut(t, c, small, bytes.NewReader(data))
	for _, broken := range []error{errors.New("disk on fire"), io.ErrUnexpectedEOF, io.ErrClosedPipe} {
		for n := 0; n <= len(data); n++ {
			for _, together := range []bool{false, true} {
				var r io.Reader = io.MultiReader(bytes.NewReader(data[:n]), iotest.ErrReader(broken))
				if together {
					r = iotest.DataErrReader(r)
				}
				chunks, err := cut(t, c, small, r)
				if err == io.EOF || !errors.Is(err, broken) {
					t.Fatalf("broken after %d bytes (together %v): %v, want %v", n, together, err, broken)
				}
				// What came before the error are chunks of the whole stream.
				if len(chunks) > len(whole) || !slices.EqualFunc(chunks, whole[:len(chunks)], bytes.Equal) {
					t.Fatalf("broken after %d bytes: other cuts", n)
				}
			}
		}
	}
	if _, err := cut(t, c, small, stuck{}); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("stuck reader: %v", err)
	}
	if _, err := cut(t, c, small, io.MultiReader(bytes.NewReader(data), stuck{})); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("reader stuck late: %v", err)
	}
}

func TestCutterNeedsReset(t *testing.T) {
	if _, err := newCutter(t, small).Next(); err == nil || err == io.EOF {
		t.Fatalf("Next without Reset: %v", err)
	}
	if _, err := chunk.NewCutter(chunk.Params{}); err == nil {
		t.Fatal("zero parameters were accepted")
	}
}

// Cuts that have moved would cost every store its duplicates.
func TestGoldenCuts(t *testing.T) {
	type golden struct {
		Params chunk.Params
		Seed   byte
		Size   int
		Cuts   []int
	}
	path := filepath.Join(vectors, "cuts.json")
	if *update {
		var all []golden
		for i, p := range []chunk.Params{small, {Min: 1000, Normal: 4096, Max: 5000}, chunk.DefaultParams()} {
			g := golden{Params: p, Seed: byte(i), Size: 20*p.Normal + 17}
			chunks, err := cut(t, newCutter(t, p), p, bytes.NewReader(random(g.Size, g.Seed)))
			if err != io.EOF {
				t.Fatal(err)
			}
			for _, c := range chunks {
				g.Cuts = append(g.Cuts, len(c))
			}
			all = append(all, g)
		}
		b, err := json.Marshal(all)
		if err != nil {
			t.Fatal(err)
		}
		write(t, path, append(bytes.ReplaceAll(b, []byte("},{"), []byte("},\n{")), '\n'))
	}
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	if err := json.Unmarshal(b, &all); err != nil || len(all) == 0 {
		t.Fatalf("%d cases, %v", len(all), err)
	}
	for _, g := range all {
		chunks, err := cut(t, newCutter(t, g.Params), g.Params, bytes.NewReader(random(g.Size, g.Seed)))
		if err != io.EOF {
			t.Fatal(err)
		}
		if len(chunks) < 5 {
			t.Fatalf("only %d chunks", len(chunks))
		}
		var cuts []int
		for _, c := range chunks {
			cuts = append(cuts, len(c))
		}
		if !slices.Equal(cuts, g.Cuts) {
			t.Errorf("%+v: cuts %v, want %v", g.Params, cuts, g.Cuts)
		}
	}
}

func TestCutterAllocations(t *testing.T) {
	c := newCutter(t, chunk.DefaultParams())
	r := new(bytes.Reader)
	for _, n := range []int{100, 4 << 20} {
		data := random(n, 3)
		if got := testing.AllocsPerRun(5, func() {
			r.Reset(data)
			c.Reset(r)
			for {
				if _, err := c.Next(); err != nil {
					return
				}
			}
		}); got != 0 {
			t.Errorf("%d bytes: %v allocations", n, got)
		}
	}
}

func BenchmarkCutter(b *testing.B) {
	for name, n := range map[string]int{"small": 4 << 10, "large": 32 << 20} {
		b.Run(name, func(b *testing.B) {
			data := random(n, 4)
			c := newCutter(b, chunk.DefaultParams())
			r := new(bytes.Reader)
			b.SetBytes(int64(n))
			b.ReportAllocs()
			for b.Loop() {
				r.Reset(data)
				c.Reset(r)
				for {
					if _, err := c.Next(); err != nil {
						break
					}
				}
			}
		})
	}
}
