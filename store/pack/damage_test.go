package pack_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"testing"

	"filippo.io/age"

	"davit/store/pack"
)

// refused reports whether err says that a file is not what it should be.
func refused(err error) bool {
	return errors.Is(err, pack.ErrDamaged) || errors.Is(err, pack.ErrVersion) || errors.Is(err, pack.ErrWrongKey)
}

// everyDamage calls f with each way to change one byte of a file, to cut it
// short, and to make it longer.
func everyDamage(t *testing.T, file []byte, f func(t *testing.T, what string, file []byte)) {
	for i := range file {
		for _, bits := range []byte{0x01, 0x80, 0xff} {
			b := bytes.Clone(file)
			b[i] ^= bits
			f(t, fmt.Sprintf("byte %d changed by %#02x", i, bits), b)
		}
		f(t, fmt.Sprintf("cut short after %d bytes", i), file[:i:i])
	}
	f(t, "a byte more", append(bytes.Clone(file), 0))
}

// readAll reads every chunk of a pack.
func readAll(r *pack.Reader) ([][]byte, error) {
	var all [][]byte
	buf := make([]byte, pack.FrameBuffer)
	for i := range r.Table().Frames {
		plain, err := r.Frame(i, buf)
		if err != nil {
			return nil, err
		}
		for _, c := range r.Table().FrameChunks(i) {
			all = append(all, bytes.Clone(plain[c.Offset:c.Offset+c.Length]))
		}
	}
	return all, r.Verify(context.Background(), nil)
}

func TestEveryByte(t *testing.T) {
	k := newKeys(t)
	file, _ := seal(t, k, frame(t, []byte("hello, "), []byte("world\n")), frame(t, text(500, 1)))
	if _, err := readAll(open(t, file, k)); err != nil {
		t.Fatal(err)
	}
	everyDamage(t, file, func(t *testing.T, what string, file []byte) {
		r, err := pack.Open(bytes.NewReader(file), int64(len(file)), k)
		if err == nil {
			_, err = readAll(r)
		}
		if !refused(err) {
			t.Fatalf("%s: %v", what, err)
		}
	})
}

// The same inside the encryption, where whoever has our public key can write.
// Bits that zstd ignores may change, the chunks may not.
func TestEveryByteInside(t *testing.T) {
	want := [][]byte{[]byte("hello, "), []byte("world\n"), text(500, 1)}
	f0, f1 := frame(t, want[0], want[1]), frame(t, want[2])
	plain := append(bytes.Clone(f0.Data), f1.Data...)
	plain = pack.AppendTail(plain, table(t, f0, f1))
	ignored := 0
	everyDamage(t, plain, func(t *testing.T, what string, plain []byte) {
		r, err := pack.OpenPlain(bytes.NewReader(plain), int64(len(plain)))
		var got [][]byte
		if err == nil {
			got, err = readAll(r)
		}
		if err == nil {
			ignored++
			for i := range want {
				if !bytes.Equal(got[i], want[i]) {
					t.Fatalf("%s: chunk %d has other bytes", what, i)
				}
			}
		} else if !refused(err) {
			t.Fatalf("%s: %v", what, err)
		}
	})
	if ignored > 10 {
		t.Errorf("%d changes went unnoticed", ignored)
	}
}

// Verify lists exactly what is lost, and still passes what is not.
func TestVerifyListsDamage(t *testing.T) {
	k := newKeys(t)
	var frames []pack.Frame
	for i := range 10 {
		frames = append(frames, frame(t, random(40_000, byte(i)), random(30_000, byte(i+100))))
	}
	file, _ := seal(t, k, frames...)
	file[len(file)/2] ^= 1 // one block of 64 KiB
	r := open(t, file, k)
	var whole int
	err := r.Verify(context.Background(), func(pack.ChunkInfo) error { whole++; return nil })
	var lost *pack.DamagedError
	if !errors.As(err, &lost) || !errors.Is(err, pack.ErrDamaged) {
		t.Fatal(err)
	}
	if len(lost.Chunks)+whole != 20 || len(lost.Chunks) < 2 || len(lost.Chunks) > 6 {
		t.Fatalf("%d chunks lost, %d whole", len(lost.Chunks), whole)
	}
	for i, c := range lost.Chunks[1:] {
		if before := lost.Chunks[i]; c.Frame != before.Frame && c.Frame != before.Frame+1 {
			t.Fatalf("frames %d and %d are lost, but not between", before.Frame, c.Frame)
		}
	}
}

// encrypt makes an age file of a plaintext that no Writer would write.
func encrypt(t testing.TB, plain []byte, to ...age.Recipient) []byte {
	t.Helper()
	var file bytes.Buffer
	w, err := age.Encrypt(&file, to...)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// bomb is a zstd frame of blocks of 128 KiB zeros, four bytes each, with a
// window and a content size (none if below zero) that need not be true.
func bomb(window, size, blocks int) []byte {
	le := binary.LittleEndian
	b := []byte{0x28, 0xb5, 0x2f, 0xfd}
	exponent := byte(0)
	for window > 1<<(10+exponent) {
		exponent++
	}
	if size < 0 {
		b = append(b, 0, exponent<<3)
	} else {
		b = le.AppendUint32(append(b, 2<<6, exponent<<3), uint32(size))
	}
	for i := range blocks {
		header := uint32(128<<10)<<3 | 1<<1
		if i == blocks-1 {
			header |= 1
		}
		b = append(b, byte(header), byte(header>>8), byte(header>>16), 0)
	}
	return b
}

// allocates measures what f allocates in all, which bounds what it holds.
func allocates(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestFrameBomb(t *testing.T) {
	for name, data := range map[string][]byte{
		"blocks":         bomb(1<<20, 1000, 1<<18),
		"size unsaid":    bomb(1<<20, -1, 1<<18),
		"large window":   bomb(1<<30, 1000, 8),
		"more frames":    append(pack.AppendRaw(nil, make([]byte, 1000)), bomb(1<<20, -1, 1<<18)...),
		"second frame":   append(pack.AppendRaw(nil, make([]byte, 1000)), pack.AppendRaw(nil, make([]byte, 1000))...),
		"a byte more":    append(pack.AppendRaw(nil, make([]byte, 1000)), pack.AppendRaw(nil, make([]byte, 1))...),
		"trailing bytes": append(pack.AppendRaw(nil, make([]byte, 1000)), "junk"...),
	} {
		var err error
		if n := allocates(func() { _, err = pack.Decode(data, 1000, nil) }); n > 4<<20 {
			t.Errorf("%s: allocates %d bytes", name, n)
		}
		if !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// Counts are believed only as far as there are bytes.
func TestTableCounts(t *testing.T) {
	le := binary.LittleEndian
	for _, frames := range []uint32{0, 1, 1000, pack.MaxChunks, 1<<31 - 1, 1<<32 - 1} {
		for _, chunks := range []uint32{0, 1, 1000, pack.MaxChunks, 1<<31 - 1, 1<<32 - 1} {
			b := le.AppendUint32(le.AppendUint32(nil, frames), chunks)
			b = append(b, make([]byte, 1000)...)
			var err error
			if n := allocates(func() { _, err = pack.ParseTable(b) }); n > 1<<20 {
				t.Errorf("%d frames, %d chunks: allocates %d bytes", frames, chunks, n)
			}
			if !errors.Is(err, pack.ErrDamaged) {
				t.Errorf("%d frames, %d chunks: %v", frames, chunks, err)
			}
		}
	}
}

// A table that was put together by hand is checked before it is written.
func TestTableValidate(t *testing.T) {
	good := func() *pack.Table {
		return &pack.Table{
			Frames: []pack.FrameInfo{{Length: 9, Size: 13}, {Offset: 9, Length: 5, Size: 1, First: 2}},
			Chunks: []pack.ChunkInfo{{Length: 7}, {Offset: 7, Length: 6}, {Frame: 1, Length: 1}},
		}
	}
	b, err := good().AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := pack.ParseTable(b); err != nil || fmt.Sprint(got) != fmt.Sprint(good()) {
		t.Fatalf("%v, %v", got, err)
	}
	for name, change := range map[string]func(*pack.Table){
		"overlap":       func(t *pack.Table) { t.Frames[1].Offset-- },
		"gap":           func(t *pack.Table) { t.Frames[1].Offset++ },
		"start":         func(t *pack.Table) { t.Frames[0].Offset = 1 },
		"length":        func(t *pack.Table) { t.Frames[0].Length = 0 },
		"length above":  func(t *pack.Table) { t.Frames[1].Length = pack.MaxCompressed + 1 },
		"size":          func(t *pack.Table) { t.Frames[1].Size = 0 },
		"size above":    func(t *pack.Table) { t.Frames[0].Size = pack.MaxFrame + 1 },
		"first":         func(t *pack.Table) { t.Frames[1].First = 1 },
		"first above":   func(t *pack.Table) { t.Frames[1].First = 4 },
		"no chunk":      func(t *pack.Table) { t.Frames[1].First = 3 },
		"chunk frame":   func(t *pack.Table) { t.Chunks[1].Frame = 1 },
		"chunk offset":  func(t *pack.Table) { t.Chunks[1].Offset = 6 },
		"chunk empty":   func(t *pack.Table) { t.Chunks[2].Length = 0 },
		"chunk long":    func(t *pack.Table) { t.Chunks[1].Length = 7 },
		"chunk short":   func(t *pack.Table) { t.Chunks[1].Length = 5 },
		"chunk huge":    func(t *pack.Table) { t.Chunks[1].Length = 1<<32 - 1 },
		"no frames":     func(t *pack.Table) { t.Frames = nil },
		"nothing":       func(t *pack.Table) { *t = pack.Table{} },
		"fewer chunks":  func(t *pack.Table) { t.Chunks = t.Chunks[:1] },
		"too many":      func(t *pack.Table) { t.Chunks = append(t.Chunks, make([]pack.ChunkInfo, pack.MaxChunks)...) },
		"one chunk too": func(t *pack.Table) { t.Chunks = append(t.Chunks, pack.ChunkInfo{Frame: 1, Offset: 1, Length: 1}) },
	} {
		bad := good()
		change(bad)
		if _, err := bad.AppendBinary(nil); !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
