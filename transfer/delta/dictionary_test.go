package delta_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"

	"davit/transfer/delta"
)

// TestDictionary: what the rounds say is taken from the source, byte for byte.
func TestDictionary(t *testing.T) {
	source := noise(1, 20_000)
	number := func(ns ...int) (b []byte) {
		for _, n := range ns {
			for ; n >= 128; n >>= 7 {
				b = append(b, byte(n)|0x80)
			}
			b = append(b, byte(n))
		}
		return b
	}
	const jump, differ = 1, 1
	for name, test := range map[string]struct {
		gaps, copies, addresses []byte
		want                    []byte
	}{
		"no gap":      {number(0), number(900 << 1), nil, nil},
		"differences": {number(0, 30<<1|differ), number(900<<1, 0), nil, nil},
		"replaced":    {number(0, 10<<1, 0), number(900<<1, 500<<1), nil, source[900-128 : 910+128]},
		"at the edges": {number(10<<1, 0, 5<<1), number(500<<1, 19_480<<1, 0), nil,
			slices.Concat(source[:138], source[19_990-128:])},
		"deleted":           {number(0, 10<<1), number(900<<1, 50<<1|jump), number(3000 << 1), source[900-128 : 3910+128]},
		"deleted too much":  {number(0, 10<<1), number(900<<1, 50<<1|jump), number(4087 << 1), source[900-128 : 910+128]},
		"back":              {number(0, 10<<1), number(900<<1, 50<<1|jump), number(700<<1 - 1), source[900-128 : 910+128]},
		"one run":           {number(0, 10<<1, 10<<1), number(900<<1, 100<<1, 0), nil, source[900-128 : 1020+128]},
		"one run, touching": {number(0, 10<<1, 10<<1), number(900<<1, 256<<1, 0), nil, source[900-128 : 1176+128]},
		"two runs": {number(0, 10<<1, 10<<1), number(900<<1, 257<<1, 0), nil,
			slices.Concat(source[900-128:910+128], source[1167-128:1177+128])},
		"behind the source": {number(0, 300<<1), number(20_000<<1, 0), nil, source[20_000-128:]},
	} {
		size := int64(0)
		for _, b := range [][]byte{test.gaps, test.copies} {
			n, shift := 0, 0
			for _, c := range b {
				n, shift = n|int(c&0x7f)<<shift, shift+7
				if c < 0x80 {
					size, n, shift = size+int64(n>>1), 0, 0
				}
			}
		}
		got, err := delta.Dictionary(bg, source, [5][]byte{test.gaps, test.copies, test.addresses}, size)
		if err != nil || !bytes.Equal(got, test.want) {
			t.Errorf("%s: %d bytes instead of %d, %v", name, len(got), len(test.want), err)
		}
	}
	// Not more than there may be, and damage is damage.
	big := noise(2, 5<<20)
	got, err := delta.Dictionary(bg, big, [5][]byte{number(5 << 20 << 1), {0}, nil}, 5<<20)
	if err != nil || !bytes.Equal(got, big[:4<<20]) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	if _, err := delta.Dictionary(bg, big, [5][]byte{{4}, {0}, nil}, 5<<20); !errors.Is(err, delta.ErrDamaged) {
		t.Error(err)
	}
}

// TestEditedText: words in another order cost little more than their order,
// though they are too short to be copied.
func TestEditedText(t *testing.T) {
	var base, target []byte
	for i, c := range noise(1, 60_000) {
		base = append(base, 'a'+c%26)
		switch {
		case i%60 == 59:
			base = append(base, '\n')
		case i%12 == 11:
			base = append(base, ' ')
		}
	}
	for i, line := range bytes.Split(base, []byte("\n")) {
		words := bytes.Fields(line)
		if i%20 == 7 {
			slices.Reverse(words)
		}
		target = append(append(target, bytes.Join(words, []byte(" "))...), '\n')
	}
	d, _ := makeApply(t, base, target, delta.Options{})
	if len(d) > 1300 { // 50 lines of 60 letters, 4.7 bits each, would be 1,763
		t.Errorf("%d bytes", len(d))
	}
}
