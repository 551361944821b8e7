package pack_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"testing"

	"filippo.io/age"

	"davit/store/chunk"
	"davit/store/pack"
)

// seeds are the plaintexts of the vectors: fuzzing starts inside age, for no
// fuzzer gets through it.
func seeds(f *testing.F) [][]byte {
	files, err := filepath.Glob(filepath.Join(vectors, "*", "*.age"))
	if err != nil || len(files) == 0 {
		f.Fatalf("no vectors: %v", err)
	}
	identity, err := os.Open(filepath.Join(vectors, "identity.txt"))
	if err != nil {
		f.Fatal(err)
	}
	defer identity.Close()
	ids, err := age.ParseIdentities(identity)
	if err != nil {
		f.Fatal(err)
	}
	var all [][]byte
	for _, path := range files {
		file, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		r, err := age.Decrypt(bytes.NewReader(file), ids...)
		if err != nil {
			continue // vectors of what stands outside age
		}
		if plain, err := io.ReadAll(r); err == nil {
			all = append(all, plain)
		}
	}
	if len(all) < 20 {
		f.Fatalf("only %d seeds", len(all))
	}
	return all
}

func FuzzTable(f *testing.F) {
	n := 0
	for _, plain := range seeds(f) {
		if i := bytes.Index(plain, []byte{0x5a, 0x2a, 0x4d, 0x18}); i >= 0 && len(plain) > i+8+40 {
			f.Add(plain[i+8 : len(plain)-40])
			n++
		}
	}
	if n == 0 {
		f.Fatal("no seeds")
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		table, err := pack.ParseTable(data)
		if err != nil {
			if !refused(err) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		if err := table.Validate(); err != nil {
			t.Fatal(err)
		}
		b, err := table.AppendBinary(nil)
		if err != nil || !bytes.Equal(b, data) {
			t.Fatalf("a table that was accepted encodes to other bytes, %v", err)
		}
		if d := table.Describe(); d.Chunks != len(table.Chunks) || len(d.Frames) != len(table.Frames) {
			t.Fatalf("described as %d chunks in %d frames", d.Chunks, len(d.Frames))
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, plain := range seeds(f) {
		f.Add(plain)
	}
	f.Fuzz(func(t *testing.T, plain []byte) {
		r, err := pack.OpenPlain(bytes.NewReader(plain), int64(len(plain)))
		if err != nil {
			if !refused(err) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		chunks, err := readAll(r)
		if err != nil {
			if !refused(err) {
				t.Fatalf("error of no class: %v", err)
			}
			return
		}
		for i, c := range r.Table().Chunks {
			if chunk.NameOf(chunks[i]) != c.Name {
				t.Fatalf("chunk %d has other bytes", i)
			}
		}
		// All of the plaintext is frames, table and footer.
		if end := len(plain) - len(pack.AppendTail(nil, r.Table())); !bytes.Equal(pack.AppendTail(bytes.Clone(plain[:end]), r.Table()), plain) {
			t.Fatal("a pack that was accepted encodes to other bytes")
		}
	})
}

// FuzzFrame decompresses anything, and holds on to the size that was asked for.
func FuzzFrame(f *testing.F) {
	f.Add(bomb(1<<20, 1000, 64), uint32(1000))
	f.Add(bomb(1<<20, -1, 64), uint32(1000))
	f.Add(pack.AppendRaw(nil, []byte("hello, world\n")), uint32(13))
	f.Add(frame(f, text(3000, 1)).Data, uint32(3000))
	f.Fuzz(func(t *testing.T, data []byte, size uint32) {
		n := int(size%pack.MaxFrame) + 1
		for _, buf := range [][]byte{nil, make([]byte, n)} {
			plain, err := pack.Decode(data, n, buf)
			if err != nil {
				if !refused(err) {
					t.Fatalf("error of no class: %v", err)
				}
			} else if len(plain) != n {
				t.Fatalf("%d bytes, not %d", len(plain), n)
			}
		}
	})
}
