package deflate_test

import (
	"bytes"
	"compress/flate"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"davit/transfer/delta/deflate"
)

func TestInflate(t *testing.T) {
	for name, stream := range readVectors(t) {
		plain := plainOf(t, stream)
		var out bytes.Buffer
		compressed, n, err := deflate.Inflate(bytes.NewReader(slices.Concat(stream, []byte("what follows"))), &out, deflate.Limits{})
		if err != nil || compressed != int64(len(stream)) || n != int64(len(plain)) || !bytes.Equal(out.Bytes(), plain) {
			t.Errorf("%s: %d and %d bytes, %v", name, compressed, n, err)
		}
		if _, _, err := deflate.Inflate(bytes.NewReader(stream), nil, deflate.Limits{Plain: n}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if n > 1 {
			if _, _, err := deflate.Inflate(bytes.NewReader(stream), nil, deflate.Limits{Plain: n - 1}); !errors.Is(err, deflate.ErrLimit) {
				t.Errorf("%s: limit was passed: %v", name, err)
			}
		}
		if _, _, err := deflate.Inflate(bytes.NewReader(stream[:len(stream)-1]), nil, deflate.Limits{}); !errors.Is(err, deflate.ErrDamaged) || !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%s: cut short it gives %v", name, err)
		}
	}
	bad := errors.New("bad sector")
	if _, _, err := deflate.Inflate(io.MultiReader(bytes.NewReader(readVectors(t)["node20-level9"][:99]), errReader{bad}), nil, deflate.Limits{}); !errors.Is(err, bad) || errors.Is(err, deflate.ErrDamaged) {
		t.Errorf("an error of reading became %v", err)
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

// TestCorrections changes streams, which stay valid, so that no model fits any
// more: proving must find the corrections, and rebuilding must follow them.
func TestCorrections(t *testing.T) {
	all := readVectors(t)
	for _, name := range []string{"zlib-1.2.13-python-level6-flushed", "zlib-1.2.13-python-stored"} {
		stream := all[name]
		s, err := deflate.Prove(context.Background(), section(stream), section(plainOf(t, stream)), nil, deflate.Options{})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if name != "zlib-1.2.13-python-stored" && s.Corrections() == 0 {
			t.Errorf("%s: nothing to correct, so this tests nothing", name)
		}
	}
	// Bits that no encoder sets: behind the end.
	stream := bytes.Clone(all["zlib-1.2.13-python-level6"])
	stream[len(stream)-1] |= 0x80
	s, err := deflate.Prove(context.Background(), section(stream), section(plainOf(t, stream)), nil, deflate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	roundTrip(t, s, stream)
}

func roundTrip(t *testing.T, s *deflate.Stream, stream []byte) {
	t.Helper()
	kept, err := deflate.Unmarshal(s.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(kept.Marshal(), s.Marshal()) {
		t.Fatal("recipe does not come back")
	}
	var out bytes.Buffer
	if err := deflate.Rebuild(context.Background(), kept, bytes.NewReader(plainOf(t, stream)), &out, 2); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(out.Bytes(), stream) {
		t.Fatal("rebuilt stream differs")
	}
}

// TestHint says that what proved one stream is tried first on the next.
func TestHint(t *testing.T) {
	all := readVectors(t)
	prove := func(name string, hint *deflate.Stream, o deflate.Options) (*deflate.Stream, error) {
		return deflate.Prove(context.Background(), section(all[name]), section(plainOf(t, all[name])), hint, o)
	}
	nine, err := prove("zlib-1.2.13-python-level9", nil, deflate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	// Any model fits one byte: the hint decides.
	s, err := prove("zlib-1.2.13-python-one-byte", nine, deflate.Options{})
	if err != nil || s.Encoder != nine.Encoder || !bytes.Equal(s.Params, nine.Params) {
		t.Errorf("hint was not followed: %v, %v", s, err)
	}
	// A hint that is wrong does no harm.
	if s, err := prove("node20-level4", nine, deflate.Options{Trust: true}); err != nil || s.Encoder != deflate.ZlibChromium {
		t.Errorf("hint misled: %v, %v", s, err)
	}
	// Who may not use an encoder does not.
	if s, err := prove("node20-level4", nil, deflate.Options{Encoders: []deflate.Encoder{deflate.Zlib, 999}}); !errors.Is(err, deflate.ErrUnproven) {
		t.Errorf("forbidden encoder: %v, %v", s, err)
	}
	if s, err := prove("zlib-1.2.13-python-one-byte", nine, deflate.Options{Encoders: []deflate.Encoder{deflate.Go126}}); err == nil && s.Encoder == deflate.Zlib {
		t.Errorf("forbidden hint was used: %v", s)
	}
	if s, err := prove("zlib-1.2.13-python-level9", nil, deflate.Options{Encoders: []deflate.Encoder{}}); !errors.Is(err, deflate.ErrUnproven) {
		t.Errorf("no encoder: %v, %v", s, err)
	}
}

// TestSegments takes a stream of several segments, which are rebuilt at once.
func TestSegments(t *testing.T) {
	stream := readVectors(t)["zlib-1.2.13-python-level6-segments"]
	for _, workers := range []int{1, 3} {
		s, err := deflate.Prove(context.Background(), section(stream), section(plainOf(t, stream)), nil, deflate.Options{Workers: workers})
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(s.String(), "3 segments") || s.Corrections() != 0 {
			t.Errorf("two segments without corrections were expected: %s", s)
		}
		roundTrip(t, s, stream)
	}
}

// TestProperties proves streams of random plain bytes.
func TestProperties(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.SliceOfN(rapid.Byte(), 1, 12), 1, 20).Draw(t, "words")
		order := rapid.SliceOfN(rapid.IntRange(0, len(words)-1), 0, 3000).Draw(t, "order")
		var plain []byte
		for _, i := range order {
			plain = append(plain, words[i]...)
		}
		var b bytes.Buffer
		w, _ := flate.NewWriter(&b, rapid.IntRange(-2, 9).Draw(t, "level"))
		w.Write(plain)
		w.Close()
		stream := b.Bytes()
		var out bytes.Buffer
		n, m, err := deflate.Inflate(bytes.NewReader(stream), &out, deflate.Limits{})
		if err != nil || n != int64(len(stream)) || m != int64(len(plain)) || !bytes.Equal(out.Bytes(), plain) {
			t.Fatalf("inflate: %d, %d, %v", n, m, err)
		}
		s, err := deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{Trust: true})
		if errors.Is(err, deflate.ErrUnproven) {
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		out.Reset()
		if err := deflate.Rebuild(context.Background(), s, bytes.NewReader(plain), &out, 0); err != nil || !bytes.Equal(out.Bytes(), stream) {
			t.Fatalf("what was proven does not come back: %v", err)
		}
	})
}

// TestLies changes recipes at random: what comes out is an error or bytes, in
// bounded time and never more bytes than the recipe says.
func TestLies(t *testing.T) {
	all := readVectors(t)
	r := rand.New(rand.NewPCG(1, 2))
	for _, name := range []string{"zlib-1.2.13-python-level6-flushed", "node20-level1", "zlib-1.2.13-python-stored"} {
		plain := plainOf(t, all[name])
		s, err := deflate.Prove(context.Background(), section(all[name]), section(plain), nil, deflate.Options{})
		if err != nil {
			t.Fatal(err)
		}
		good := s.Marshal()
		failed := 0
		for range 150 {
			bad := bytes.Clone(good)
			for range 1 + r.IntN(3) {
				bad[r.IntN(len(bad))] ^= 1 << r.IntN(8)
			}
			if lie(t, bad, plain) {
				failed++
			}
		}
		if failed == 0 {
			t.Errorf("%s: no lie was noticed", name)
		}
	}
	for _, plain := range [][]byte{nil, []byte("short")} {
		s, _ := deflate.Prove(context.Background(), section(all["node20-level9"]), section(plainOf(t, all["node20-level9"])), nil, deflate.Options{})
		if err := deflate.Rebuild(context.Background(), s, bytes.NewReader(plain), io.Discard, 0); err == nil {
			t.Error("plain bytes that are missing were not missed")
		}
	}
	if err := deflate.Rebuild(context.Background(), &deflate.Stream{}, bytes.NewReader(nil), io.Discard, 0); !errors.Is(err, deflate.ErrDamaged) {
		t.Errorf("empty recipe: %v", err)
	}
}

// lie rebuilds from a recipe that may be anything, and reports whether that
// failed.
func lie(t testing.TB, recipe, plain []byte) bool {
	s, err := deflate.Unmarshal(recipe)
	if err != nil {
		var unknown *deflate.EncoderError
		if !errors.Is(err, deflate.ErrDamaged) && !errors.As(err, &unknown) {
			t.Fatalf("unexpected error %v", err)
		}
		return true
	}
	if s.Plain > 1<<20 || s.Compressed > 1<<24 {
		return true // as a caller would say
	}
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for _, workers := range []int{1, 2} {
		var out bytes.Buffer
		err = deflate.Rebuild(ctx, s, bytes.NewReader(plain), &out, workers)
		if int64(out.Len()) > s.Compressed || err == nil && int64(out.Len()) != s.Compressed {
			t.Fatalf("%d bytes, %d are allowed", out.Len(), s.Compressed)
		}
		if ctx.Err() != nil {
			t.Fatal("takes too long")
		}
	}
	return err != nil
}

func TestStopped(t *testing.T) {
	all := readVectors(t)
	stream := all["zlib-1.2.13-python-level6-mem8-long"]
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if _, err := deflate.Prove(ctx, section(stream), section(plainOf(t, stream)), nil, deflate.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("prove: %v", err)
	}
	s, err := deflate.Prove(context.Background(), section(stream), section(plainOf(t, stream)), nil, deflate.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := deflate.Rebuild(ctx, s, bytes.NewReader(plainOf(t, stream)), io.Discard, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("rebuild: %v", err)
	}
}

func FuzzInflate(f *testing.F) {
	for _, stream := range readVectors(f) {
		f.Add(stream[:min(len(stream), 3000)])
	}
	f.Fuzz(func(t *testing.T, stream []byte) {
		r := bytes.NewReader(stream)
		want, wantErr := io.ReadAll(io.LimitReader(flate.NewReader(r), 1<<20+1))
		if len(want) > 1<<20 {
			return
		}
		var out bytes.Buffer
		n, _, err := deflate.Inflate(bytes.NewReader(stream), &out, deflate.Limits{Plain: 1 << 20})
		if (err == nil) != (wantErr == nil) {
			t.Fatalf("we say %v, Go says %v", err, wantErr)
		}
		if err != nil {
			return
		}
		if !bytes.Equal(out.Bytes(), want) || n != int64(len(stream)-r.Len()) {
			t.Fatal("plain bytes or length differ from Go's")
		}
		few := []deflate.Encoder{deflate.Zlib, deflate.Klauspost} // all would be slow
		if s, err := deflate.Prove(context.Background(), section(stream[:n]), section(want), nil, deflate.Options{Trust: true, Encoders: few}); err == nil {
			out.Reset()
			if err := deflate.Rebuild(context.Background(), s, bytes.NewReader(want), &out, 0); err != nil || !bytes.Equal(out.Bytes(), stream[:n]) {
				t.Fatalf("what was proven does not come back: %v", err)
			}
		}
	})
}

func FuzzRecipe(f *testing.F) {
	all := readVectors(f)
	for name, stream := range all {
		if len(stream) > 25000 {
			continue
		}
		plain := plainOf(f, stream)
		s, err := deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{})
		if err != nil {
			f.Fatal(name, err)
		}
		f.Add(s.Marshal(), plain[:min(len(plain), 5000)])
	}
	f.Fuzz(func(t *testing.T, recipe, plain []byte) {
		if s, err := deflate.Unmarshal(recipe); err == nil && !bytes.Equal(s.Marshal(), recipe) {
			if again, err := deflate.Unmarshal(s.Marshal()); err != nil || !bytes.Equal(again.Marshal(), s.Marshal()) {
				t.Fatal("recipe changes when it is read and written")
			}
		}
		lie(t, recipe, plain)
	})
}
