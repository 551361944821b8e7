package pack_test

import (
	"bytes"
	"errors"
	"io"
	"math"
	"testing"

	"filippo.io/age"
	"github.com/klauspost/compress/zstd"

	"davit/store/pack"
)

func TestSeal(t *testing.T) {
	k := newKeys(t)
	for _, n := range []int{0, 1, 1000, 70_000, 3 << 20} {
		for _, doc := range [][]byte{text(n, 1), random(n, 1)} {
			file, err := pack.Seal(doc, k)
			if err != nil {
				t.Fatal(err)
			}
			for _, max := range []int64{int64(n), int64(n) + 1, math.MaxInt64} {
				if got, err := pack.Unseal(file, k, max); err != nil || !bytes.Equal(got, doc) {
					t.Fatalf("%d bytes, at most %d: other bytes, %v", n, max, err)
				}
			}
			if n == 0 {
				continue
			}
			for _, max := range []int64{int64(n) - 1, 0} {
				var large *pack.TooLargeError
				if got, err := pack.Unseal(file, k, max); !errors.As(err, &large) || large.Limit != max || got != nil {
					t.Fatalf("%d bytes, at most %d: %d bytes, %v", n, max, len(got), err)
				}
			}
		}
	}
}

func TestUnsealRefuses(t *testing.T) {
	k := newKeys(t)
	doc := []byte("a document\n")
	file, err := pack.Seal(doc, k)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := pack.Unseal(file, newKeys(t), 100); !errors.Is(err, pack.ErrWrongKey) {
		t.Errorf("another key: %v", err)
	}
	if _, err := pack.Unseal(file, pack.Keys{}, 100); !errors.Is(err, pack.ErrWrongKey) {
		t.Errorf("no key: %v", err)
	}
	everyDamage(t, file, func(t *testing.T, what string, file []byte) {
		if got, err := pack.Unseal(file, k, 100); !refused(err) || got != nil {
			t.Fatalf("%s: %q, %v", what, got, err)
		}
	})
	other := bytes.Replace(file, []byte("/v1\n"), []byte("/v2\n"), 1)
	if _, err := pack.Unseal(other, k, 100); !errors.Is(err, pack.ErrVersion) {
		t.Errorf("age v2: %v", err)
	}
}

// A document of gigabytes in a few kilobytes must cost neither time nor memory.
func TestUnsealBomb(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	k := pack.NewKeys(nil, []age.Identity{id})
	for name, plain := range map[string][]byte{
		"blocks":        bomb(1<<20, 64<<20, 512),
		"size unsaid":   bomb(1<<20, -1, 512),
		"large window":  bomb(1<<30, 64<<20, 512),
		"many frames":   bytes.Repeat(bomb(1<<20, 1<<20, 8), 64),
		"a size alone":  bomb(1<<20, 1<<31, 1),
		"not zstd":      []byte("not zstd"),
		"cut short":     bomb(1<<20, 1<<20, 8)[:20],
		"trailing junk": append(bomb(1<<20, 1<<17, 1), "junk"...),
	} {
		file := encrypt(t, plain, id.Recipient())
		allocated := allocates(func() {
			_, err = pack.Unseal(file, k, 1<<18)
		})
		var large *pack.TooLargeError
		if !errors.As(err, &large) && !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("%s: %v", name, err)
		}
		if allocated > 16<<20 {
			t.Errorf("%s: allocates %d bytes", name, allocated)
		}
	}
}

// An end that age or zstd marks as too early must not look like the end of the
// document, wherever it falls: also between two blocks of age, and between two
// frames of zstd.
func TestUnsealCutShort(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	k := pack.NewKeys(nil, []age.Identity{id})
	plain := pack.AppendRaw(nil, text(300, 1))
	for n := range plain {
		if got, err := pack.Unseal(encrypt(t, plain[:n], id.Recipient()), k, 1000); !errors.Is(err, pack.ErrDamaged) {
			t.Errorf("cut short after %d of %d bytes inside age: %d bytes, %v", n, len(plain), len(got), err)
		}
	}
	const block, tag = 64 << 10, 16
	first := pack.AppendRaw(nil, random(block-10, 1))
	second := pack.AppendRaw(nil, random(1000, 2))
	if len(first) != block {
		t.Fatalf("the first frame has %d bytes, not one block of age", len(first))
	}
	file := encrypt(t, append(first, second...), id.Recipient())
	if got, err := pack.Unseal(file, k, 1<<20); err != nil || len(got) != block-10+1000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	cut := file[:len(file)-len(second)-tag]
	if got, err := pack.Unseal(cut, k, 1<<20); !errors.Is(err, pack.ErrDamaged) {
		t.Errorf("cut short between two frames: %d bytes, %v", len(got), err)
	}
}

// What people seal by hand, `zstd | age -r …`, can be read.
func TestUnsealStream(t *testing.T) {
	id, err := age.GenerateHybridIdentity()
	if err != nil {
		t.Fatal(err)
	}
	doc := text(300_000, 5)
	var plain bytes.Buffer
	z, err := zstd.NewWriter(&plain, zstd.WithEncoderLevel(zstd.SpeedBestCompression))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(z, bytes.NewReader(doc)); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	got, err := pack.Unseal(encrypt(t, plain.Bytes(), id.Recipient()), pack.NewKeys(nil, []age.Identity{id}), 1<<20)
	if err != nil || !bytes.Equal(got, doc) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestEncrypt(t *testing.T) {
	k := newKeys(t)
	for _, n := range []int{0, 1, 64<<10 - 1, 64 << 10, 64<<10 + 1, 200_000} {
		doc := text(n, 1)
		file, err := pack.Encrypt(doc, k)
		if err != nil {
			t.Fatal(err)
		}
		if size, err := pack.EncryptedSize(int64(n), k); err != nil || size != int64(len(file)) {
			t.Errorf("%d bytes: EncryptedSize says %d, %v; it is %d", n, size, err, len(file))
		}
		if got, err := pack.Decrypt(file, k); err != nil || !bytes.Equal(got, doc) {
			t.Errorf("%d bytes: other bytes, %v", n, err)
		}
	}
	file, err := pack.Encrypt([]byte("a letter\n"), k)
	if err != nil {
		t.Fatal(err)
	}
	everyDamage(t, file, func(t *testing.T, what string, file []byte) {
		if got, err := pack.Decrypt(file, k); !refused(err) || got != nil {
			t.Fatalf("%s: %q, %v", what, got, err)
		}
	})
	for _, other := range []pack.Keys{newKeys(t), {}} {
		if _, err := pack.Decrypt(file, other); !errors.Is(err, pack.ErrWrongKey) {
			t.Errorf("%v: %v", other, err)
		}
	}
}
