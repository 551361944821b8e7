package buckettest

import (
	"fmt"
	"strings"
	"testing"

	"davit/store/bucket"
)

// BadNames are names that every bucket must refuse.
func BadNames() []string {
	return []string{
		"", ".", "..", "/", "/abs", "a/", "a//b", "../escape", "a/../b", "a/..", "./a", "a/./b",
		".hidden", "a/.hidden", ".davit-tmp-x", `a\b`, `..\a`, "C:", "C:/x", "a:b", "a b", " a", "a ",
		"a\x00b", "a\nb", "\x7f", "a\tb", "ä", "a\u202eb", "a\xffb", "*", "a?b", "a*", "$HOME", "~", "a~1", "%2e%2e",
		"end.", "a./b", "nul", "CON", "com1.txt", "a/LPT9/b", "aux.tar.gz",
		strings.Repeat("x", bucket.MaxElement+1),
		strings.Repeat("abcdefg/", bucket.MaxName/8) + "h",
	}
}

func testNames(t *testing.T, b bucket.Bucket) {
	ctx := t.Context()
	put(t, b, "good", []byte("x"))
	for _, name := range BadNames() {
		q := fmt.Sprintf("%.40q", name)
		o, err := b.Open(ctx, name)
		if err == nil {
			o.Close()
		}
		wantErr(t, "Open "+q, err, bucket.ErrName)
		_, err = b.Stat(ctx, name)
		wantErr(t, "Stat "+q, err, bucket.ErrName)
		wantErr(t, "Delete "+q, b.Delete(ctx, name), bucket.ErrName)
		wantErr(t, "Put "+q, bucket.Put(ctx, b, name, nil), bucket.ErrName)
		wantErr(t, "Move to "+q, bucket.Move(ctx, b, "good", name), bucket.ErrName)
		wantErr(t, "Move from "+q, bucket.Move(ctx, b, name, "other"), bucket.ErrName)
		wantErr(t, "Copy to "+q, bucket.Copy(ctx, b, name, b, "good"), bucket.ErrName)
	}
	w := write(t, b, []byte("kept"))
	wantErr(t, "Commit", w.Commit(ctx, "../bad"), bucket.ErrName)
	if err := w.Commit(ctx, "better"); err != nil {
		t.Errorf("Commit after one with a bad name: %v", err)
	}
	for _, prefix := range []string{"/", "//", "..", "../", "a/../", ".", ".davit", "a//", `a\`, "a b", "a\x00", strings.Repeat("x", bucket.MaxElement+1), strings.Repeat("x/", 300)} {
		got, err := names(ctx, b, prefix)
		wantErr(t, fmt.Sprintf("List %.40q", prefix), err, bucket.ErrName)
		if len(got) > 0 {
			t.Errorf("List %.40q yields %q", prefix, got)
		}
	}
	wantNames(t, b, "", "better", "good")
}
