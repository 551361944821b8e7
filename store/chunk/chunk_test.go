package chunk_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"testing/iotest"

	"pgregory.net/rapid"

	"davit/store/chunk"
)

func TestName(t *testing.T) {
	const abc = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
	n := chunk.NameOf([]byte("abc"))
	if n.String() != abc {
		t.Fatalf("name of abc is %s", n)
	}
	if got, err := chunk.ParseName(abc); err != nil || got != n {
		t.Fatalf("parsed %s, %v", got, err)
	}
	for _, bad := range []string{"", abc[1:], abc + "0", strings.ToUpper(abc), "0x" + abc[2:], abc[:63] + "g", abc[:63] + "\x00"} {
		if _, err := chunk.ParseName(bad); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
	var zero chunk.Name
	if !zero.IsZero() || n.IsZero() {
		t.Error("IsZero is wrong")
	}
}

func TestParams(t *testing.T) {
	for _, good := range []chunk.Params{chunk.DefaultParams(), {64, 128, 129}, {1000, 1 << 19, 1 << 20}} {
		if err := good.Validate(); err != nil {
			t.Errorf("%+v: %v", good, err)
		}
	}
	for _, bad := range []chunk.Params{
		{}, {63, 128, 256}, {-64, 128, 256}, {64, -128, 256}, {128, 128, 256}, {64, 128, 128}, {64, 100, 256},
		{64, 128, 1<<20 + 1}, {64, math.MinInt, 256}, {64, 128, math.MaxInt},
	} {
		if bad.Validate() == nil {
			t.Errorf("%+v was accepted", bad)
		}
	}
}

func TestRef(t *testing.T) {
	name := chunk.NameOf([]byte("x"))
	good := map[string]chunk.Ref{
		`{"size":0,"depth":0,"root":"` + strings.Repeat("0", 64) + `"}`: {},
		`{"size":1,"depth":0,"root":"` + name.String() + `"}`:           {Size: 1, Root: name},
		`{"size":9000000000,"depth":4,"root":"` + name.String() + `"}`:  {Size: 9e9, Depth: 4, Root: name},
	}
	for text, want := range good {
		b, err := json.Marshal(want)
		if err != nil || string(b) != text {
			t.Errorf("encodes to %s, %v", b, err)
		}
		var got chunk.Ref
		if err := json.Unmarshal([]byte(text), &got); err != nil || got != want {
			t.Errorf("decodes to %+v, %v", got, err)
		}
		if err := want.Validate(); err != nil {
			t.Errorf("%s: %v", text, err)
		}
	}
	for _, bad := range []chunk.Ref{
		{Size: -1, Root: name}, {Size: 1}, {Root: name}, {Depth: 1}, {Size: 1, Depth: 5, Root: name}, {Size: 1, Depth: -1, Root: name},
		{Size: chunk.MaxSize + 1, Root: name}, {Size: 1, Depth: 1},
	} {
		if err := bad.Validate(); !errors.Is(err, chunk.ErrDamaged) {
			t.Errorf("%+v: %v", bad, err)
		}
	}
}

func TestListRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var entries []chunk.Entry
		for range rapid.IntRange(1, 400).Draw(t, "n") {
			entries = append(entries, chunk.Entry{
				Name:   chunk.NameOf(rapid.SliceOfN(rapid.Byte(), 0, 4).Draw(t, "name")),
				Length: rapid.Uint32Range(1, 5000).Draw(t, "length"),
			})
		}
		var r io.Reader = bytes.NewReader(encode(entries...))
		switch rapid.IntRange(0, 3).Draw(t, "reader") {
		case 1:
			r = iotest.OneByteReader(r)
		case 2:
			r = iotest.HalfReader(r)
		case 3:
			r = iotest.DataErrReader(r)
		}
		l := chunk.NewListReader(r, 5000)
		for i, want := range entries {
			if got, err := l.Next(); err != nil || got != want {
				t.Fatalf("entry %d is %+v, %v; want %+v", i, got, err, want)
			}
		}
		for range 2 {
			if _, err := l.Next(); err != io.EOF {
				t.Fatalf("after the last: %v", err)
			}
		}
	})
}

func TestListReaderError(t *testing.T) {
	broken := errors.New("disk on fire")
	list := encode(entry("a"), entry("bc"))
	for _, failure := range []error{broken, io.ErrUnexpectedEOF} {
		for n := range len(list) + 1 {
			l := chunk.NewListReader(io.MultiReader(bytes.NewReader(list[:n]), iotest.ErrReader(failure)), 0)
			for i := 0; ; i++ {
				_, err := l.Next()
				if err == nil && i < 2 {
					continue
				}
				if !errors.Is(err, failure) || errors.Is(err, chunk.ErrDamaged) {
					t.Fatalf("broken after %d bytes: %v", n, err)
				}
				break
			}
		}
	}
	if _, err := chunk.NewListReader(stuck{}, 0).Next(); !errors.Is(err, io.ErrNoProgress) {
		t.Fatalf("stuck reader: %v", err)
	}
	if _, err := chunk.NewListReader(bytes.NewReader(list), 1).Next(); err != nil {
		t.Fatal(err)
	}
	l := chunk.NewListReader(bytes.NewReader(list), 1)
	l.Next()
	if _, err := l.Next(); !errors.Is(err, chunk.ErrDamaged) {
		t.Fatalf("chunk above the bound: %v", err)
	}
	l.Reset(bytes.NewReader(list), 2)
	for range 2 {
		if _, err := l.Next(); err != nil {
			t.Fatalf("after Reset: %v", err)
		}
	}
}

// stuck is a reader that never says anything.
type stuck struct{}

func (stuck) Read([]byte) (int, error) { return 0, nil }

func BenchmarkListReader(b *testing.B) {
	list := chunk.AppendListHeader(nil)
	for i := range 7000 {
		list = chunk.AppendEntry(list, chunk.Entry{Length: uint32(i + 1)})
	}
	r := new(bytes.Reader)
	l := chunk.NewListReader(r, 0)
	b.SetBytes(int64(len(list)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset(list)
		l.Reset(r, 0)
		for {
			if _, err := l.Next(); err != nil {
				break
			}
		}
	}
}
