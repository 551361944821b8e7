package manifest_test

import (
	"errors"
	"strings"
	"testing"

	"davit/manifest"
)

func receiptOf(states ...string) *manifest.Receipt {
	r := &manifest.Receipt{Digest: digest("bundle"), Revision: 2, State: manifest.ReceiptWhole}
	for _, s := range states {
		r.Releases = append(r.Releases, manifest.ReceiptRelease{State: s})
	}
	return r
}

func TestReceiptCode(t *testing.T) {
	secret := manifest.NewSecret()
	for _, states := range [][]string{nil, {manifest.StateWaiting}, {manifest.StateAccepted, manifest.StateAccepted},
		{manifest.StateRejected}, {manifest.StateAccepted, manifest.StateRejected, manifest.StateConflict}} {
		text, err := manifest.ReceiptCode(secret, receiptOf(states...))
		if err != nil {
			t.Fatal(err)
		}
		for _, typed := range []string{text, strings.ToLower(text), " " + strings.ReplaceAll(text, "-", " "), strings.NewReplacer("0", "o", "1", "l").Replace(text)} {
			c, err := manifest.ParseCode(typed)
			if err != nil {
				t.Fatalf("%q: %v", typed, err)
			}
			if got, ok := c.States(len(states)); !ok || strings.Join(got, " ") != strings.Join(states, " ") || c.Revision != 2 {
				t.Errorf("%s says %v, %v", text, got, ok)
			}
			if !c.Verify(secret, digest("bundle")) || c.Verify(manifest.NewSecret(), digest("bundle")) || c.Verify(secret, digest("other")) || c.Verify(manifest.Digest{}, digest("bundle")) {
				t.Errorf("%s verifies for the wrong bundles", text)
			}
		}
		if len(strings.ReplaceAll(text, "-", "")) > 20 && len(states) < 2 {
			t.Errorf("%s is long", text)
		}
		// Every slip of one character, and every exchange of neighbours.
		plain := strings.ReplaceAll(text, "-", "")
		for i := range plain {
			for _, c := range "0123456789ABCDEFGHJKMNPQRSTVWXYZ" {
				if byte(c) != plain[i] {
					wantMistyped(t, plain[:i]+string(c)+plain[i+1:])
				}
			}
			if i > 0 && plain[i] != plain[i-1] {
				wantMistyped(t, plain[:i-1]+plain[i:i+1]+plain[i-1:i]+plain[i+1:])
			}
			if len(plain) == 20 { // of a longer one the check alone tells, and not always
				wantMistyped(t, plain[:i]+plain[i+1:])
			}
		}
	}
	for _, s := range []string{"", "U" + strings.Repeat("0", 19), strings.Repeat("0", 1000), strings.Repeat("Z", 20)} {
		wantMistyped(t, s)
	}
}

func wantMistyped(t *testing.T, s string) {
	t.Helper()
	if _, err := manifest.ParseCode(s); !errors.Is(err, manifest.ErrCodeTyped) {
		t.Errorf("%q: %v", s, err)
	}
}

func TestNoReceiptCode(t *testing.T) {
	incomplete := receiptOf()
	incomplete.State = manifest.ReceiptIncomplete
	for what, r := range map[string]*manifest.Receipt{"incomplete": incomplete, "a state that no code has": receiptOf("odd")} {
		if _, err := manifest.ReceiptCode(manifest.NewSecret(), r); !errors.Is(err, manifest.ErrCodeState) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if _, err := manifest.ReceiptCode(manifest.Digest{}, receiptOf()); !errors.Is(err, manifest.ErrCodeState) {
		t.Error(err)
	}
}

func FuzzParseCode(f *testing.F) {
	text, err := manifest.ReceiptCode(manifest.NewSecret(), receiptOf(manifest.StateAccepted, manifest.StateRejected))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(text)
	f.Add("")
	f.Fuzz(func(t *testing.T, s string) {
		if c, err := manifest.ParseCode(s); err == nil {
			c.States(2)
			c.Verify(manifest.NewSecret(), digest("bundle"))
		} else if !errors.Is(err, manifest.ErrCodeTyped) {
			t.Fatal(err)
		}
	})
}
