package deflate_test

import (
	"bytes"
	"context"
	"io"
	"testing"

	"davit/transfer/delta/deflate"
	"davit/transfer/delta/deflate/go126"
	"davit/transfer/delta/deflate/go127"
)

// TestReset says that an encoder that was used before writes what a new one
// does: recipes are rebuilt by encoders out of a pool.
func TestReset(t *testing.T) {
	type writer interface {
		io.WriteCloser
		Reset(io.Writer)
	}
	all := readVectors(t)
	var inputs [][]byte
	for _, name := range []string{"zlib-1.2.13-python-stored", "pgzip-1.2.6-klauspost-1.18.0-256k-level5", "zlib-1.2.13-python-empty",
		"klauspost-1.18.0-level5", "zlib-1.2.13-python-one-byte", "gzip-gnu-level6-long"} {
		inputs = append(inputs, plainOf(t, all[name]))
	}
	encode := func(w writer, plain []byte) []byte {
		var b bytes.Buffer
		w.Reset(&b)
		w.Write(plain)
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	for level := 1; level <= 9; level++ {
		for name, fresh := range map[string]func() writer{
			"go126": func() writer { w, _ := go126.NewWriter(io.Discard, level); return w },
			"go127": func() writer { w, _ := go127.NewWriter(io.Discard, level); return w },
			"full":  func() writer { w, _ := go127.NewWriter(io.Discard, level); w.Full(); return w },
		} {
			used := fresh()
			for round := range 2 {
				for i, plain := range inputs {
					used.Reset(&full{left: 100 * i}) // and given up in the middle
					used.Write(inputs[(i+1)%len(inputs)])
					if i%2 == 0 {
						used.Close()
					}
					if !bytes.Equal(encode(used, plain), encode(fresh(), plain)) {
						t.Errorf("%s at level %d, round %d, input %d: a used encoder writes something else", name, level, round, i)
					}
				}
			}
		}
	}
}

// full is a writer that soon takes no more.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return 0, io.ErrShortWrite
	}
	f.left -= len(b)
	return len(b), nil
}

// TestTogether proves and rebuilds from several goroutines, which share pools.
func TestTogether(t *testing.T) {
	all := readVectors(t)
	for name, stream := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			plain := plainOf(t, stream)
			s, err := deflate.Prove(context.Background(), section(stream), section(plain), nil, deflate.Options{Workers: 2})
			if err != nil {
				t.Fatal(err)
			}
			roundTrip(t, s, stream)
		})
	}
}
