package delta_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"davit/transfer/delta"
)

// TestCoder edits sources at random: what is coded comes back, with a page
// cache that holds all of the source and with one of two pages.
func TestCoder(t *testing.T) {
	big := append(prose(1, 200_000), noise(1, 100_000)...)
	rapid.Check(t, func(t *rapid.T) {
		source := big[:rapid.IntRange(0, len(big)).Draw(t, "size")]
		var target []byte
		for range rapid.IntRange(0, 8).Draw(t, "edits") {
			from := rapid.IntRange(0, len(source)).Draw(t, "from")
			to := min(len(source), from+rapid.IntRange(0, 80_000).Draw(t, "length"))
			piece := slices.Clone(source[from:to])
			for range rapid.IntRange(0, 5).Draw(t, "changes") {
				if len(piece) > 0 {
					piece[rapid.IntRange(0, len(piece)-1).Draw(t, "at")] ^= 0x55
				}
			}
			target = append(target, piece...)
			target = append(target, rapid.SliceOfN(rapid.Byte(), 0, 60).Draw(t, "new")...)
		}
		memory := rapid.SampledFrom([]int{128 << 10, 1 << 20}).Draw(t, "memory")
		s, err := delta.Encode(bg, source, target, memory)
		if err != nil {
			t.Fatal(err)
		}
		got, err := delta.Decode(bg, source, s, int64(len(target)), memory)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got, target) {
			t.Fatalf("%d bytes came back as %d others", len(target), len(got))
		}
	})
}

// TestCoderLong codes more than the encoder looks at at once.
func TestCoderLong(t *testing.T) {
	source := append(prose(3, 3<<20), noise(3, 4<<20)...)
	target := slices.Concat(source[1<<20:], noise(4, 200_000), source[:5<<20])
	s, err := delta.Encode(bg, source, target, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if n := len(slices.Concat(s[:]...)); n > 201_000 {
		t.Errorf("%d bytes for 200000 that are new", n)
	}
	got, err := delta.Decode(bg, source, s, int64(len(target)), 1<<20)
	if err != nil || !bytes.Equal(got, target) {
		t.Fatalf("%d bytes came back as %d others, %v", len(target), len(got), err)
	}
}

// TestCoderBinary: a shift of addresses costs differences and no literals.
func TestCoderBinary(t *testing.T) {
	source := noise(5, 400_000)
	target := bytes.Clone(source)
	for i := 0; i+4 < len(target); i += 40 {
		target[i] += 0x40
	}
	s, err := delta.Encode(bg, source, target, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if len(s[3]) > 100 || len(s[4]) < 9_000 || bytes.ContainsFunc(s[4][100:], func(r rune) bool { return r != 0x40 }) {
		t.Errorf("%d bytes of literals, %d of differences", len(s[3]), len(s[4]))
	}
}

func TestCoderRefuses(t *testing.T) {
	source := []byte("0123456789")
	const jump, differ = 1, 1
	tests := []struct {
		name                            string
		gaps, copies, addrs, lits, diff []byte
		size                            int64
	}{
		{"nothing", nil, nil, nil, nil, nil, 1},
		{"empty round", []byte{0}, []byte{0}, nil, nil, nil, 1},
		{"gap too long", []byte{5 << 1}, []byte{0}, nil, []byte("01234"), nil, 4},
		{"no copy", []byte{1 << 1}, nil, nil, []byte("0"), nil, 1},
		{"no literals", []byte{3 << 1}, []byte{0}, nil, []byte("01"), nil, 3},
		{"too many literals", []byte{1 << 1}, []byte{0}, nil, []byte("01"), nil, 1},
		{"too many gaps", []byte{1 << 1, 1 << 1}, []byte{0}, nil, []byte("0"), nil, 1},
		{"too many copies", []byte{1 << 1}, []byte{0, 0}, nil, []byte("0"), nil, 1},
		{"too many addresses", []byte{1 << 1}, []byte{0}, []byte{0}, []byte("0"), nil, 1},
		{"too many differences", []byte{1 << 1}, []byte{0}, nil, []byte("0"), []byte{0}, 1},
		{"copy without an address", []byte{0}, []byte{1<<1 | jump}, nil, nil, nil, 1},
		{"copy of nothing with an address", []byte{1 << 1}, []byte{jump}, []byte{2}, []byte("0"), nil, 1},
		{"copy too long", []byte{0}, []byte{2 << 1}, nil, nil, nil, 1},
		{"copy before the source", []byte{0}, []byte{1<<1 | jump}, []byte{1}, nil, nil, 1},
		{"copy after the source", []byte{0}, []byte{1<<1 | jump}, []byte{20}, nil, nil, 1},
		{"copy over the end", []byte{0}, []byte{2<<1 | jump}, []byte{18}, nil, nil, 2},
		{"go on over the end", []byte{0}, []byte{11 << 1}, nil, nil, nil, 11},
		{"go on behind the end", []byte{11 << 1}, []byte{1 << 1}, nil, make([]byte, 11), nil, 12},
		{"differ over the end", []byte{11<<1 | differ}, []byte{0}, nil, nil, make([]byte, 11), 11},
		{"differ behind the end", []byte{11 << 1, 1<<1 | differ}, []byte{0, 0}, nil, make([]byte, 11), []byte{0}, 12},
		{"differ in nothing", []byte{differ}, []byte{1 << 1}, nil, nil, nil, 1},
		{"no differences", []byte{2<<1 | differ}, []byte{0}, nil, nil, []byte{1}, 2},
		{"address too large", []byte{0}, []byte{1<<1 | jump}, bytes.Repeat([]byte{0xff}, 9), nil, nil, 1},
		{"number that is not short", []byte{1<<1 | 0x80, 0}, []byte{0}, nil, []byte("0"), nil, 1},
	}
	for _, test := range tests {
		got, err := delta.Decode(bg, source, [5][]byte{test.gaps, test.copies, test.addrs, test.lits, test.diff}, test.size, 1<<20)
		if !errors.Is(err, delta.ErrDamaged) || int64(len(got)) > test.size {
			t.Errorf("%s: %q, %v", test.name, got, err)
		}
	}
	// The same with what is right, so that the refusals are for their reasons.
	got, err := delta.Decode(bg, source, [5][]byte{{0, 1 << 1, 2<<1 | differ}, {2<<1 | jump, 0, 1 << 1}, {4}, []byte("x"), {0, 0xfe}}, 6, 1<<20)
	if err != nil || string(got) != "23x547" {
		t.Errorf("%q, %v", got, err)
	}
}
