package bundle_test

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/cespare/xxhash/v2"

	"davit/store/bucket"
	"davit/transfer/bundle"
)

var update = flag.Bool("update", false, "write the vectors anew")

const vectors = "../../test/vectors/volume"

// pattern is data that compresses well, so that the vectors stay small in the
// repository, and has no two equal blocks.
func pattern(size int) []byte {
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(i>>16) + byte(i)
	}
	return b
}

func testHeader(volume, volumes int, payload, offset, length, documents int64) bundle.Header {
	return bundle.Header{
		Version: 1, Label: testLabel(42), Volume: volume, Volumes: volumes,
		Payload: payload, Offset: offset, Length: length, Documents: documents,
	}
}

// headerText builds a header block by the letter of FORMAT.md, with any line.
func headerText(line string) []byte { return headerOf(1, line) }

func headerOf(version int, line string) []byte {
	b := fmt.Appendf(nil, "davit-volume/%d\n%s\n", version, line)
	b = fmt.Appendf(b, "%016x\n", xxhash.Sum64(b))
	return append(append(b, bytes.Repeat([]byte(" "), 4095-len(b))...), '\n')
}

// file builds a volume around a header block.
func file(header, data []byte) []byte {
	var sums []uint64
	for block := range slices.Chunk(data, bundle.BlockSize) {
		sums = append(sums, xxhash.Sum64(block))
	}
	return slices.Concat(header, data, bundle.EncodeTrailer(header, int64(len(data)), sums))
}

func jsonLine(h bundle.Header) string {
	b, err := json.Marshal(h)
	if err != nil {
		panic(err)
	}
	return string(b)
}

// sealTrailer computes the trailer's sum anew after a change.
func sealTrailer(b []byte, blocks int) []byte {
	at := len(b) - 16
	binary.BigEndian.PutUint64(b[at:], xxhash.Sum64(b[at-32-8*blocks-8:at]))
	return b
}

func acceptVectors() map[string][]byte {
	build := func(h bundle.Header) []byte {
		data := pattern(int(h.Payload))[h.Offset : h.Offset+h.Length]
		return file(headerText(jsonLine(h)), data)
	}
	other := testHeader(1, 1, 1, 0, 1, 1)
	other.Kind = "wants"
	other.Serial = 1<<53 - 1
	other.From, other.To = strings.Repeat("a", 32), strings.Repeat("b", 32)
	return map[string][]byte{
		"single":       build(testHeader(1, 1, 300, 0, 300, 100)),
		"blocks":       build(testHeader(1, 1, 100_000, 0, 100_000, 100)),
		"first-of-two": build(testHeader(1, 2, 65_536+500, 0, 65_536, 600)),
		"last-of-two":  build(testHeader(2, 2, 65_536+500, 65_536, 500, 600)),
		"other-kind":   build(other),
	}
}

// vector is a file and what the refusal says.
type vector = struct {
	data []byte
	want string
}

// rejectVectors maps a name to a file and to what the refusal says.
func rejectVectors() map[string]vector {
	data := pattern(300)
	good := testHeader(1, 1, 300, 0, 300, 100)
	line := jsonLine(good)
	whole := func() []byte { return file(headerText(line), data) }
	// edited: the line changed and everything summed up anew.
	edited := func(from, to string) []byte {
		if strings.Count(line, from) != 1 {
			panic("edit " + from)
		}
		return file(headerText(strings.Replace(line, from, to, 1)), data)
	}
	at := func(i int, c byte) []byte {
		b := whole()
		if i < 0 {
			i += len(b)
		}
		b[i] = c
		return b
	}
	twoVolumes := func(volume, volumes int, payload, offset, length int64) []byte {
		return file(headerText(jsonLine(testHeader(volume, volumes, payload, offset, length, 1))), pattern(int(length)))
	}
	v := map[string]vector{
		"empty":                 {nil, "less than a header"},
		"header-only":           {whole()[:bundle.HeaderSize], "cut off"},
		"cut-off":               {whole()[:4300], "cut off"},
		"byte-more":             {append(whole(), 0), "too many"},
		"not-a-volume":          {append([]byte("PK\x03\x04"), whole()[4:]...), "does not begin"},
		"version-2":             {append([]byte("davit-volume/2\n"), whole()[15:]...), "does not match its sum"},
		"version-3":             {append([]byte("davit-volume/3\n"), whole()[15:]...), "version 3"},
		"version-01":            {append([]byte("davit-volume/01\n"), whole()[16:]...), "does not begin"},
		"version-member":        {edited(`"version":1`, `"version":2`), "version 2"},
		"version-in-footer":     {sealTrailer(at(-25, 2), 1), "contradicts the header's version"},
		"line-without-end":      {append([]byte("davit-volume/1\n"), bytes.Repeat([]byte("x"), 5000)...), "no sum"},
		"header-byte":           {at(40, 'x'), "does not match its sum"},
		"header-sum":            {at(len("davit-volume/1\n")+len(line)+1, 'x'), "does not match its sum"},
		"padding":               {at(4000, '\t'), "one form"},
		"no-last-newline":       {at(4095, ' '), "one form"},
		"white-space":           {edited(`"serial":42`, `"serial": 42`), "one form"},
		"unknown-member":        {edited(`"serial":42`, `"serial":42,"note":"x"`), "one form"},
		"repeated-member":       {edited(`"serial":42`, `"serial":41,"serial":42`), "one form"},
		"reordered-members":     {edited(`"from":"dev","to":"prod"`, `"to":"prod","from":"dev"`), "one form"},
		"member-case":           {edited(`"serial"`, `"Serial"`), "one form"},
		"missing-member":        {edited(`"serial":42,`, ``), "serial 0"},
		"not-json":              {edited(`"serial":42,`, `"serial":`), "decode header"},
		"bundle-upper-case":     {edited(`"2b2c`, `"2B2C`), ""},
		"bundle-zero":           {edited(good.Bundle.String(), strings.Repeat("0", 32)), "zero"},
		"bundle-short":          {edited(good.Bundle.String(), good.Bundle.String()[2:]), "decode header"},
		"sender-path":           {edited(`"dev"`, `"../dev"`), "sender"},
		"recipient-empty":       {edited(`"prod"`, `""`), "recipient"},
		"serial-zero":           {edited(`"serial":42`, `"serial":0`), "serial 0"},
		"serial-fraction":       {edited(`"serial":42`, `"serial":4.2e1`), "decode header"},
		"serial-too-large":      {edited(`"serial":42`, `"serial":9007199254740992`), "serial"},
		"kind-upper-case":       {edited(`"releases"`, `"Releases"`), "kind"},
		"time-with-offset":      {edited(`26:53Z`, `26:53+00:00`), "decode header"},
		"time-with-fraction":    {edited(`26:53Z`, `26:53.5Z`), "decode header"},
		"volume-zero":           {edited(`"volume":1`, `"volume":0`), "volume 0 of 1"},
		"volume-past-end":       {edited(`"volume":1`, `"volume":2`), "volume 2 of 1"},
		"volumes-too-many":      {edited(`"volumes":1`, `"volumes":100000`), "volume 1 of 100000"},
		"payload-zero":          {edited(`"payload":300`, `"payload":0`), "payload of 0"},
		"payload-longer":        {edited(`"payload":300`, `"payload":301`), "are not what volume"},
		"payload-too-large":     {edited(`"payload":300`, `"payload":9007199254740992`), "payload of"},
		"offset-negative":       {edited(`"offset":0`, `"offset":-65536`), "are not what volume"},
		"offset-wrong":          {edited(`"offset":0`, `"offset":65536`), "are not what volume"},
		"length-zero":           {edited(`"length":300`, `"length":0`), "0 bytes of data"},
		"length-shorter":        {edited(`"length":300`, `"length":299`), "are not what volume"},
		"length-too-large":      {edited(`"length":300`, `"length":9223372036854775807`), "bytes of data"},
		"documents-zero":        {edited(`"documents":100`, `"documents":0`), "documents of 0"},
		"documents-larger":      {edited(`"documents":100`, `"documents":301`), "documents of 301"},
		"capacity-not-blocks":   {twoVolumes(1, 2, 1500, 0, 1000), "are not what volume"},
		"last-off-the-grid":     {twoVolumes(3, 3, 3*65_536, 65_536, 2*65_536), "are not what volume"},
		"last-too-long":         {twoVolumes(2, 2, 2*65_536+1, 65_536, 65_537), "are not what volume"},
		"volumes-do-not-fit":    {twoVolumes(1, 3, 65_536+500, 0, 65_536), "are not what volume"},
		"data-byte":             {at(4096+299, 'x'), "1 of 1 blocks"},
		"sums-magic":            {sealTrailer(at(4096+300, 'x'), 1), "do not begin"},
		"block-sum":             {at(4096+300+8, 0x55), "do not match their own sum"},
		"block-sum-resealed":    {sealTrailer(at(4096+300+8, 0x55), 1), "1 of 1 blocks"},
		"footer-magic":          {at(-1, 'x'), "missing or overwritten"},
		"footer-zeros":          {append(whole()[:4396+16], make([]byte, 48)...), "missing or overwritten"},
		"footer-blocks":         {sealTrailer(at(-41, 2), 1), "counts 2 blocks"},
		"footer-blocks-huge":    {sealTrailer(at(-48, 0xff), 1), "counts"},
		"footer-length":         {sealTrailer(at(-33, 301&0xff), 1), "announces 300 bytes, the footer 301"},
		"footer-length-huge":    {sealTrailer(at(-40, 0xff), 1), "counts"},
		"footer-block-size":     {sealTrailer(at(-29, 1), 1), "contradicts"},
		"footer-other-header":   {sealTrailer(at(-24, 0x55), 1), "another header"},
		"footer-trailer-sum":    {at(-16, 0x55), "do not match their own sum"},
		"trailer-of-other-file": {append(edited(`"serial":42`, `"serial":43`)[:4396], whole()[4396:]...), "another header"},
	}
	return v
}

// judge is what Inspect says of a file: nil when it is whole.
func judge(t testing.TB, b []byte) error {
	v, err := bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		return err
	}
	if v.Whole != (v.Damage == "") {
		t.Errorf("whole: %v, damage: %q", v.Whole, v.Damage)
	}
	if !v.Whole {
		return &bundle.DamageError{Reason: v.Damage}
	}
	return nil
}

func TestVectors(t *testing.T) {
	accept, reject := acceptVectors(), rejectVectors()
	maps.Copy(accept, acceptParity(t))
	maps.Copy(reject, rejectParity(t))
	all := map[string][]byte{}
	for name, b := range accept {
		all["accept/"+name] = b
		if err := judge(t, b); err != nil {
			t.Errorf("accept/%s: %v", name, err)
		}
	}
	for name, v := range reject {
		all["reject/"+name] = v.data
		err := judge(t, v.data)
		if err == nil || !strings.Contains(err.Error(), v.want) {
			t.Errorf("reject/%s: got %v, want an error with %q", name, err, v.want)
			continue
		}
		if want := name == "version-3"; errors.Is(err, bundle.ErrVersion) != want || errors.Is(err, bundle.ErrDamaged) == want {
			t.Errorf("reject/%s: wrong kind of error: %v", name, err)
		}
		// Scan reads the ends only, and sees all there is to see there.
		medium := bucket.NewMem()
		replace(t, medium, "x.v01of01", append([]byte{}, v.data...))
		unseen := []string{"data-byte", "sums-magic", "block-sum", "block-sum-resealed", "footer-trailer-sum",
			"parity-data-byte", "parity-parity-byte", "parity-padding-byte", "parity-sums-magic", "parity-first-sum", "parity-second-sum", "parity-both-sums",
			"parity-second-header", "parity-statement", "parity-statement-sum", "parity-trailer-sum"}
		if seen := len(scan(t, medium).Damaged) == 1; seen == slices.Contains(unseen, name) {
			t.Errorf("reject/%s: seen by Scan: %v", name, seen)
		}
	}
	if *update {
		for name, b := range all {
			path := filepath.Join(vectors, name+".volume")
			if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, b, 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	// The files are the format as it was; what is built here must stay the same.
	on := vectorFiles(t)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if b, ok := on[name]; !ok || !bytes.Equal(b, all[name]) {
			t.Errorf("%s: the file is missing or differs", name)
		}
		delete(on, name)
	}
	for name := range on {
		t.Errorf("%s: no test knows this file", name)
	}
}

// vectorFiles reads the vectors: at least one of each kind.
func vectorFiles(t testing.TB) map[string][]byte {
	t.Helper()
	files := map[string][]byte{}
	for _, kind := range []string{"accept", "reject"} {
		names, err := filepath.Glob(filepath.Join(vectors, kind, "*.volume"))
		if err != nil || len(names) == 0 {
			t.Fatalf("no vectors to %s in %s (%v)", kind, vectors, err)
		}
		for _, name := range names {
			b, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			files[kind+"/"+strings.TrimSuffix(filepath.Base(name), ".volume")] = b
		}
	}
	return files
}

// What the writer writes is what FORMAT.md says, built here by hand, and the
// example on that page is true.
func TestFormatPage(t *testing.T) {
	medium := bucket.NewMem()
	data := pattern(100_000)
	w, err := write(t.Context(), medium, testLabel(42), data, 2000, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	got := objects(t, medium)["davit-dev-to-prod-000042.v01of01"]
	want := file(headerText(jsonLine(testHeader(1, 1, 100_000, 0, 100_000, 2000))), data)
	if !bytes.Equal(got, want) || len(got) != 104_168 {
		t.Fatal("the writer wrote something else than the format says")
	}
	page, err := os.ReadFile("FORMAT.md")
	if err != nil {
		t.Fatal(err)
	}
	text := strings.TrimRight(string(got[:bundle.HeaderSize]), " \n")
	if example := "    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n"; !strings.Contains(string(page), example) {
		t.Errorf("the example in FORMAT.md should be\n%s", example)
	}
}

func TestInspect(t *testing.T) {
	b := acceptVectors()["last-of-two"]
	v, err := bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if !v.Whole || v.Name != "davit-dev-to-prod-000042.v02of02" || v.Holds != "part" || v.Blocks != 1 || v.Format != "davit-volume/1" {
		t.Errorf("%+v", v)
	}
	for holds, name := range map[string]string{"part": "first-of-two", "all": "single"} {
		b := acceptVectors()[name]
		if v, err := bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b))); err != nil || v.Holds != holds {
			t.Errorf("%s holds %s: %+v, %v", name, holds, v, err)
		}
	}
	b = acceptVectors()["blocks"]
	b[bundle.HeaderSize+70_000] ^= 1
	v, err = bundle.Inspect(t.Context(), bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	if v.Whole || !slices.Equal(v.Damaged, []bundle.BlockRange{{First: 1, Count: 1}}) {
		t.Errorf("%+v", v)
	}
	if !bundle.IsVolume(b) || bundle.IsVolume([]byte("davit")) {
		t.Error("IsVolume is wrong")
	}
}

// A header that parses is the only way to write what it says.
func FuzzHeader(f *testing.F) {
	for _, b := range vectorFiles(f) {
		if len(b) >= bundle.HeaderSize {
			f.Add(b[:bundle.HeaderSize])
		}
	}
	f.Fuzz(func(t *testing.T, block []byte) {
		checkHeader(t, block)
		// Help the fuzzer over the sum: take its bytes for the line of JSON.
		if line, _, _ := bytes.Cut(block, []byte("\n")); len(line) < 4000 {
			checkHeader(t, headerText(string(line)))
		}
		if _, rest, ok := bytes.Cut(block, []byte("\n")); ok {
			if line, _, _ := bytes.Cut(rest, []byte("\n")); len(line) < 4000 {
				checkHeader(t, headerText(string(line)))
				checkHeader(t, headerOf(2, string(line)))
			}
		}
	})
}

func checkHeader(t *testing.T, block []byte) {
	h, err := bundle.ParseHeader(block)
	if err != nil {
		return
	}
	again, err := h.Encode()
	if err != nil || !bytes.Equal(again, block) {
		t.Fatalf("parsed and encoded again, the header differs (%v)", err)
	}
	if h.Version == 1 && h.Offset+h.Length > h.Payload || h.Length < 1 || h.Volume > h.Volumes {
		t.Fatalf("a header that makes no sense was taken: %+v", h)
	}
}

func FuzzTrailer(f *testing.F) {
	for _, b := range vectorFiles(f) {
		if len(b) >= bundle.HeaderSize+300 {
			f.Add(b[:bundle.HeaderSize], b[bundle.HeaderSize+300:])
		}
	}
	f.Fuzz(func(t *testing.T, header, trailer []byte) {
		again, err := bundle.ReencodeTrailer(header, trailer)
		if err == nil && !bytes.Equal(again, trailer) {
			t.Fatal("parsed and encoded again, the trailer differs")
		}
		if len(trailer) >= 56 && len(trailer)%8 == 0 {
			sealed := sealTrailer(bytes.Clone(trailer), (len(trailer)-56)/8)
			again, err := bundle.ReencodeTrailer(header, sealed)
			if err == nil && !bytes.Equal(again, sealed) {
				t.Fatal("parsed and encoded again, the trailer differs")
			}
		}
	})
}

// Any file gets an answer, and a whole one is found by Scan and read back.
func FuzzFile(f *testing.F) {
	for _, b := range vectorFiles(f) {
		if len(b) < 20_000 { // larger ones take the fuzzer too long
			f.Add(b)
		}
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		whole := judge(t, b) == nil
		medium := bucket.NewMem()
		replace(t, medium, "x.v01of01", append([]byte{}, b...))
		found := scan(t, medium)
		useful := len(found.Damaged) == 1 && found.Damaged[0].Useful
		if len(found.Damaged) > 1 || len(found.Sets)+len(found.Damaged) != 1 && !(useful && len(found.Sets) == 1) {
			t.Fatalf("%d sets and %d damaged of one file", len(found.Sets), len(found.Damaged))
		}
		if len(found.Sets) == 0 {
			if whole {
				t.Fatalf("whole, but Scan says %s", found.Damaged[0].Reason)
			}
			return
		}
		err := found.Sets[0].Verify(t.Context(), nil)
		if errors.Is(err, bundle.ErrDamaged) == whole {
			t.Fatalf("whole: %v, Verify: %v", whole, err)
		}
		p, err := found.Sets[0].Open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		n, err := p.ReadAt(make([]byte, 1<<20), max(0, p.Size()-1<<20))
		if whole && found.Sets[0].Complete() && (err != io.EOF && err != nil || int64(n) != min(p.Size(), 1<<20)) {
			t.Fatalf("whole, and %d bytes of it can be read: %v", n, err)
		}
	})
}
