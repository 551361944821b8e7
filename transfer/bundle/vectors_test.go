package bundle_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"
	"github.com/klauspost/reedsolomon"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

// parityFiles builds the volumes of a payload by the letter of FORMAT.md. line
// may change the header's line of each; edit a volume's data.
func parityFiles(t testing.TB, h bundle.Header, payload, statement []byte, line func(string) string) [][]byte {
	t.Helper()
	g := h.Geometry
	k, m, z, n := g.Data, g.Parity, g.Shard, h.Volumes
	code, err := reedsolomon.New(k, m, reedsolomon.WithLeopardGF(true))
	if err != nil {
		t.Fatal(err)
	}
	data := make([][]byte, n)
	rest := append(bytes.Clone(payload), make([]byte, int(g.Stripes)*k*z-len(payload))...)
	for first := 0; first < int(g.Stripes); first += g.Depth {
		d := min(g.Depth, int(g.Stripes)-first)
		cells := make([][]byte, k+m) // of this window: shard i of all its stripes
		for i := range cells {
			cells[i] = make([]byte, d*z)
			if i < k {
				rest = rest[copy(cells[i], rest):]
			}
		}
		for s := range d {
			stripe := make([][]byte, k+m)
			for i := range stripe {
				stripe[i] = cells[i][s*z:][:z]
			}
			if err := code.Encode(stripe); err != nil {
				t.Fatal(err)
			}
		}
		for i, cell := range cells {
			data[i%n] = append(data[i%n], cell...)
		}
	}
	files := make([][]byte, n)
	for v := range files {
		h.Volume = v + 1
		text := jsonLine(h)
		if line != nil {
			text = line(text)
		}
		header := headerOf(2, text)
		var sums []byte
		for shard := range slices.Chunk(data[v], z) {
			sums = binary.BigEndian.AppendUint64(sums, xxhash.Sum64(shard))
		}
		trailer := slices.Concat([]byte("DAVITSUM"), sums, header, sums, statement)
		trailer = binary.BigEndian.AppendUint64(trailer, xxhash.Sum64(statement))
		trailer = binary.BigEndian.AppendUint64(trailer, uint64(len(sums)/8))
		trailer = binary.BigEndian.AppendUint64(trailer, uint64(len(data[v])))
		trailer = binary.BigEndian.AppendUint32(trailer, uint32(z))
		trailer = binary.BigEndian.AppendUint32(trailer, 2)
		trailer = binary.BigEndian.AppendUint64(trailer, uint64(len(statement)))
		trailer = binary.BigEndian.AppendUint64(trailer, xxhash.Sum64(header))
		trailer = binary.BigEndian.AppendUint64(trailer, xxhash.Sum64(trailer))
		files[v] = slices.Concat(header, data[v], trailer, []byte("DAVITVOL"))
	}
	return files
}

func parityHeader(volumes int, payload, documents int64, g bundle.Geometry, statement int) bundle.Header {
	return bundle.Header{Version: 2, Label: testLabel(42), Volume: 1, Volumes: volumes, Payload: payload,
		Documents: documents, Geometry: g, Statement: statement}
}

var (
	smallGeometry   = bundle.Geometry{Data: 5, Parity: 1, Shard: 64, Stripes: 1, Depth: 1}
	windowsGeometry = bundle.Geometry{Data: 1, Parity: 2, Shard: 43_712, Stripes: 3, Depth: 2}
)

func acceptParity(t testing.TB) map[string][]byte {
	note := []byte("a statement")
	three := parityFiles(t, parityHeader(3, 131_100, 600, windowsGeometry, len(note)), pattern(131_100), note, nil)
	return map[string][]byte{
		"parity-single":       parityFiles(t, parityHeader(1, 300, 100, smallGeometry, len(note)), pattern(300), note, nil)[0],
		"parity-no-statement": parityFiles(t, parityHeader(1, 320, 100, smallGeometry, 0), pattern(320), nil, nil)[0],
		"parity-1-of-3":       three[0],
		"parity-2-of-3":       three[1],
		"parity-3-of-3":       three[2],
	}
}

// rejectParity: each part of a volume with parity wrong once.
func rejectParity(t testing.TB) map[string]vector {
	note := []byte("a statement")
	good := parityHeader(1, 300, 100, smallGeometry, len(note))
	line := jsonLine(good)
	build := func(edit func(string) string) []byte { return parityFiles(t, good, pattern(300), note, edit)[0] }
	// edited: the line changed, at both ends, and everything summed up anew.
	edited := func(from, to string) []byte {
		if strings.Count(line, from) != 1 {
			t.Fatal("edit " + from)
		}
		return build(func(s string) string { return strings.Replace(s, from, to, 1) })
	}
	at := func(i int, c byte) []byte {
		b := build(nil)
		if i < 0 {
			i += len(b)
		}
		if b[i] == c {
			t.Fatalf("byte %d is %d already", i, c)
		}
		b[i] = c
		return b
	}
	// sealed computes the trailer's sum anew.
	sealed := func(b []byte) []byte {
		binary.BigEndian.PutUint64(b[len(b)-16:], xxhash.Sum64(b[4096+6*64:len(b)-16]))
		return b
	}
	const sums = 4096 + 6*64 + 8
	const again, statement = sums + 48 + 4096, sums + 48 + 4096 + 48
	whole := build(nil)
	bothSums := at(sums, 0x55)
	bothSums[again] = 0x55
	otherHeader := append(bytes.Clone(edited(`"serial":42`, `"serial":43`)[:sums-8]), whole[sums-8:]...)
	return map[string]vector{
		"parity-header-only":       {whole[:bundle.HeaderSize], "cut off"},
		"parity-cut-off":           {whole[:len(whole)-1], "cut off"},
		"parity-byte-more":         {append(bytes.Clone(whole), 0), "too many"},
		"parity-empty-end":         {append(bytes.Clone(whole[:statement-4096]), make([]byte, len(whole)-statement+4096)...), "still empty"},
		"parity-header-byte":       {at(40, 'x'), "does not match its sum"},
		"parity-version-byte":      {at(13, '3'), "first header"},
		"parity-magic-byte":        {at(0, 'x'), "does not begin"},
		"parity-version-member":    {edited(`"version":2`, `"version":1`), "version 1 in a volume of version 2"},
		"parity-white-space":       {edited(`"data":5`, `"data": 5`), "one form"},
		"parity-unknown-member":    {edited(`"data":5`, `"data":5,"note":1`), "one form"},
		"parity-plain-members":     {edited(`"documents":100`, `"offset":0,"length":384,"documents":100`), "one form"},
		"parity-reordered-members": {edited(`"data":5,"parity":1`, `"parity":1,"data":5`), "one form"},
		"parity-missing-member":    {edited(`"depth":1,`, ``), "window of 0 stripes"},
		"parity-data-zero":         {edited(`"data":5`, `"data":0`), "no code"},
		"parity-data-other":        {edited(`"data":5`, `"data":4`), "are not how"},
		"parity-data-huge":         {edited(`"data":5`, `"data":4294967301`), "no code"},
		"parity-parity-zero":       {edited(`"parity":1`, `"parity":0`), "no code"},
		"parity-parity-negative":   {edited(`"parity":1`, `"parity":-1`), "no code"},
		"parity-parity-too-many":   {edited(`"parity":1`, `"parity":7`), "no code"},
		"parity-parity-huge":       {edited(`"parity":1`, `"parity":9223372036854775807`), "no code"},
		"parity-no-code":           {edited(`"data":5,"parity":1`, `"data":229,"parity":26`), "no code"},
		"parity-not-dealt":         {edited(`"volumes":1`, `"volumes":4`), "cannot be dealt"},
		"parity-volumes-too-many":  {edited(`"volumes":1`, `"volumes":256`), "256 volumes with parity"},
		"parity-volume-past-end":   {edited(`"volume":1`, `"volume":2`), "volume 2 of 1"},
		"parity-shard-zero":        {edited(`"shard":64`, `"shard":0`), "are not how"},
		"parity-shard-larger":      {edited(`"shard":64`, `"shard":128`), "are not how"},
		"parity-shard-negative":    {edited(`"shard":64`, `"shard":-64`), "are not how"},
		"parity-stripes-more":      {edited(`"stripes":1`, `"stripes":2`), "are not how"},
		"parity-stripes-huge":      {edited(`"stripes":1`, `"stripes":9223372036854775807`), "are not how"},
		"parity-depth-zero":        {edited(`"depth":1`, `"depth":0`), "window of 0"},
		"parity-depth-too-large":   {edited(`"depth":1`, `"depth":2`), "window of 2"},
		"parity-payload-huge":      {edited(`"payload":300`, `"payload":9007199254740991`), "are not how"},
		"parity-payload-longer":    {edited(`"payload":300`, `"payload":321`), "are not how"},
		"parity-statement-other":   {edited(`"statement":11`, `"statement":12`), "cut off"},
		"parity-statement-minus":   {edited(`"statement":11`, `"statement":-1`), "statement of -1"},
		"parity-statement-huge":    {edited(`"statement":11`, `"statement":32769`), "statement of 32769"},
		"parity-other-header":      {otherHeader, "another header"},
		"parity-data-byte":         {at(4096+299, 'x'), "1 of 6 shards"},
		"parity-padding-byte":      {at(4096+5*64-1, 'x'), "1 of 6 shards"},
		"parity-parity-byte":       {at(4096+6*64-1, 'x'), "1 of 6 shards"},
		"parity-sums-magic":        {sealed(at(sums-8, 'x')), "do not begin"},
		"parity-first-sum":         {sealed(at(sums, 0x55)), "lists of the shards' sums differ"},
		"parity-second-sum":        {sealed(at(again, 0x55)), "lists of the shards' sums differ"},
		"parity-both-sums":         {sealed(bothSums), "1 of 6 shards"},
		"parity-second-header":     {sealed(at(sums+48+40, 'x')), "second header"},
		"parity-statement":         {sealed(at(statement, 'x')), "statement does not match"},
		"parity-statement-sum":     {sealed(at(statement+11, 0x55)), "statement does not match"},
		"parity-footer-blocks":     {sealed(at(-49, 7)), "sizes contradict"},
		"parity-footer-length":     {sealed(at(-41, 7)), "sizes contradict"},
		"parity-footer-shard":      {sealed(at(-37, 7)), "sizes contradict"},
		"parity-footer-version":    {sealed(at(-33, 7)), "contradicts the header's version"},
		"parity-footer-statement":  {sealed(at(-25, 7)), "sizes contradict"},
		"parity-footer-header":     {sealed(at(-24, 0x55)), "another header"},
		"parity-trailer-sum":       {at(-16, 0x55), "do not match their own sum"},
		"parity-footer-magic":      {at(-1, 'x'), "missing or overwritten"},
	}
}

// What the writer writes is what FORMAT.md says, built here by hand, in one
// window and in many, and the example on that page is true.
func TestParityFormatPage(t *testing.T) {
	medium := bucket.NewMem()
	data := pattern(100_000)
	hello := func([32]byte) ([]byte, error) { return []byte("hello"), nil }
	w, err := bundle.NewWriterWith(t.Context(), medium, testLabel(42), int64(len(data)), 2000,
		bundle.Options{Parity: 0.1, StatementSize: 5, Statement: hello})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Seal(), w.Publish(t.Context())); err != nil {
		t.Fatal(err)
	}
	got := objects(t, medium)["davit-dev-to-prod-000042.v01of01"]
	h := parityHeader(1, 100_000, 2000, w.Layout().Geometry, 5)
	if want := parityFiles(t, h, data, []byte("hello"), nil)[0]; !bytes.Equal(got, want) {
		t.Fatal("the writer wrote something else than the format says")
	}
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimRight(string(got[:bundle.HeaderSize]), " \n")
	if example := "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"; !strings.Contains(string(page), example) {
		t.Errorf("the example in FORMAT.md should be\n%s\nof %d bytes, data to %d", example, len(got), bundle.HeaderSize+w.Layout().Volumes[0].Length)
	}
	payload := noise(twelvePayload, 3)
	many := bucket.NewMem()
	w = publishParity(t, many, payload, twelve(payload))
	h = parityHeader(12, int64(len(payload)), 1, w.Layout().Geometry, signSize)
	h.Label = testLabel(1)
	statements, err := only(t, many).Statements(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range parityFiles(t, h, payload, statements[0], nil) {
		if !bytes.Equal(objects(t, many)[w.Names()[i]], want) {
			t.Fatalf("volume %d is something else than the format says", i+1)
		}
	}
}

// The recipe in FORMAT.md puts a payload together without davit.
func TestParityByHand(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("there is no python3 here")
	}
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(page), "```python\n")
	recipe, _, end := strings.Cut(rest, "```\n")
	if !ok || !end {
		t.Fatal("there is no recipe in FORMAT.md")
	}
	folder := t.TempDir()
	d, err := bucket.OpenDir(folder)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	payload := noise(twelvePayload, 3)
	args := []string{filepath.Join(folder, "join.py"), filepath.Join(folder, "payload")}
	for _, name := range publishParity(t, d, payload, twelve(payload)).Names() {
		args = append(args, filepath.Join(folder, name))
	}
	if err := os.WriteFile(args[0], []byte(recipe), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(python, args...).CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(args[1]); err != nil || !bytes.Equal(got, payload) {
		t.Errorf("the payload came out changed (%v)", err)
	}
}

// The vectors of three volumes are a set that can be read without any two.
func TestParityVectorsRead(t *testing.T) {
	all := acceptParity(t)
	files := map[string][]byte{"a.v1of3": all["parity-1-of-3"], "b.v2of3": all["parity-2-of-3"], "c.v3of3": all["parity-3-of-3"]}
	for keep := range files {
		one := maps.Clone(files)
		maps.DeleteFunc(one, func(name string, _ []byte) bool { return name != keep })
		s := only(t, clone(t, one))
		if got := readAll(t, s); !bytes.Equal(got, pattern(131_100)) {
			t.Errorf("from %s alone the payload comes out changed", keep)
		}
	}
}

func TestInspectParity(t *testing.T) {
	all := acceptParity(t)
	for name, holds := range map[string]string{"parity-single": "all", "parity-1-of-3": "all", "parity-2-of-3": "none"} {
		b := all[name]
		v, err := bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b)))
		if err != nil || !v.Whole || v.Holds != holds || v.Format != "davit-volume/2" {
			t.Errorf("%s: %+v, %v", name, v, err)
			continue
		}
		if holds != "all" {
			continue
		}
		want := pattern(int(v.Header.Payload))
		docs, err := bundle.Documents(bytes.NewReader(b), v.Header)
		if err != nil || int64(len(docs)) != v.Header.Documents || !bytes.HasSuffix(want, docs) {
			t.Errorf("%s: documents of %d bytes, %v", name, len(docs), err)
		}
	}
	b := all["parity-1-of-3"]
	b[bundle.HeaderSize+1] ^= 1
	b[bundle.HeaderSize+2*43_712] ^= 1
	b[3] ^= 1
	v, err := bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil || v.Whole || v.Blocks != 3 || v.BlockSize != 43_712 || v.Header.Volume != 1 ||
		!slices.Equal(v.Damaged, []bundle.BlockRange{{First: 0, Count: 1}, {First: 2, Count: 1}}) {
		t.Errorf("%+v, %v", v, err)
	}
}

func FuzzParityTrailer(f *testing.F) {
	for _, b := range vectorFiles(f) {
		if bytes.HasPrefix(b, []byte(bundle.MagicPrefix+"2\n")) && len(b) >= bundle.HeaderSize+6*64 && len(b) < 20_000 {
			f.Add(b[:bundle.HeaderSize], b[bundle.HeaderSize+6*64:])
		}
	}
	f.Fuzz(func(t *testing.T, header, trailer []byte) {
		check := func(trailer []byte) {
			again, err := bundle.ReencodeParityTrailer(header, trailer)
			if err == nil && !bytes.Equal(again, trailer) {
				t.Fatal("parsed and encoded again, the trailer differs")
			}
		}
		check(trailer)
		if len(trailer) >= 16 { // help the fuzzer over the last sum
			trailer = bytes.Clone(trailer)
			binary.BigEndian.PutUint64(trailer[len(trailer)-16:], xxhash.Sum64(trailer[:len(trailer)-16]))
			check(trailer)
		}
	})
}
