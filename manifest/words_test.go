package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/manifest"
)

func TestFingerprintWordsComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var f manifest.Fingerprint
		copy(f[:], rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "bits"))
		words := f.Words()
		if n := len(strings.Fields(words)); n != 12 {
			t.Fatalf("%d words", n)
		}
		for _, typed := range []string{words, strings.ToUpper(words), "  " + strings.ReplaceAll(words, " ", "\n\t") + "\n", f.String(), strings.ToUpper(f.String()), f.String()[:8] + " " + f.String()[8:]} {
			if got, err := manifest.ParseFingerprint(typed); err != nil || got != f {
				t.Fatalf("%q: %v, %v", typed, got, err)
			}
		}
	})
	for _, f := range []manifest.Fingerprint{{}, {15: 1}, {0: 0x80}} { // leading zeros
		if got, err := manifest.ParseFingerprint(f.Words()); err != nil || got != f {
			t.Errorf("%s: %v, %v", f, got, err)
		}
	}
}

func TestSlipsAreFound(t *testing.T) {
	f := manifest.Fingerprint{0xda, 0x51, 15: 7}
	words := strings.Fields(f.Words())
	with := func(i int, w string) string {
		changed := append([]string{}, words...)
		changed[i] = w
		return strings.Join(changed, " ")
	}
	for _, c := range []struct{ typed, want string }{
		{"", "0 words"},
		{strings.Join(words[:11], " "), "11 words"},
		{f.Words() + " zoo", "13 words"},
		{with(2, "abandn"), `word 3, "abandn", is not in the word list; "abandon" is`},
		{with(3, "zooo"), `word 4, "zooo", is not in the word list; "zoo" is`},
		{with(11, "xyzzy"), `word 12, "xyzzy", is not in the word list`},
		{f.String()[:31], "word 1"},
		{strings.Repeat("a ", 1000), "too many"},
	} {
		_, err := manifest.ParseFingerprint(c.typed)
		if !errors.Is(err, manifest.ErrWords) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%.60q: error is %v, want %q", c.typed, err, c.want)
		}
	}
	// Listed words in the wrong place: four bits of checksum find 15 of 16.
	found := 0
	for i := range 160 {
		w := manifest.Fingerprint{byte(i), 7, byte(i * 3)}.Words()
		if _, err := manifest.ParseFingerprint(with(i%12, strings.Fields(w)[0])); err != nil {
			found++
		}
	}
	if found < 130 {
		t.Errorf("only %d of 160 wrong words were found", found)
	}
}
