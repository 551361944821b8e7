package manifest_test

import (
	"slices"
	"testing"

	"golang.org/x/mod/semver"
	"pgregory.net/rapid"

	"davit/manifest"
)

func TestCompareVersions(t *testing.T) {
	for _, ordered := range [][]string{
		{"1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0-rc.1", "1.0.0", "1.0.1", "1.2.0", "1.10.0", "2.0.0"},
		{"v1.9.0", "1.10.0", "v1.11.0"},
		{"2024.9", "2024.10", "2024.10.1"},
		{"2024-09-30", "2024-10-01"},
		{"r9", "r10", "r10a", "r11"},
		{"1.2.3.4", "1.2.3.5", "1.2.3.10"},
		{"release9", "release010", "release10", "release11"},
		{"1", "2", "10"},
		{"99999999999999999999998", "99999999999999999999999"},
	} {
		shuffled := slices.Clone(ordered)
		slices.Reverse(shuffled)
		slices.SortFunc(shuffled, manifest.CompareVersions)
		if !slices.Equal(shuffled, ordered) {
			t.Errorf("sorted %q, want %q", shuffled, ordered)
		}
	}
	if manifest.CompareVersions("1.0", "1.0.0") == 0 || manifest.CompareVersions("v1.0.0", "1.0.0") == 0 || manifest.CompareVersions("1.0.0+a", "1.0.0+b") == 0 {
		t.Error("two versions are taken for one")
	}
}

// someVersion draws versions of a small alphabet, semantic ones among them, so
// that near misses are frequent.
var someVersion = rapid.OneOf(
	rapid.StringMatching(`v?[0-2](\.[01]{1,2}){0,3}(-[a0.]{0,3})?(\+b)?`),
	rapid.StringMatching(`v?[0-2]\.[0-2]\.[0-2](-(a|0|a\.1|a\.10|rc1))?(\+[ab])?`),
	rapid.StringMatching(`[v01.a+~-]{0,6}`),
)

func TestCompareVersionsIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := someVersion.Draw(t, "a"), someVersion.Draw(t, "b"), someVersion.Draw(t, "c")
		ab, ba := manifest.CompareVersions(a, b), manifest.CompareVersions(b, a)
		if ab != -ba {
			t.Fatalf("%q and %q: %d one way, %d the other", a, b, ab, ba)
		}
		if (ab == 0) != (a == b) {
			t.Fatalf("%q and %q: %d", a, b, ab)
		}
		if ab <= 0 && manifest.CompareVersions(b, c) <= 0 && manifest.CompareVersions(a, c) > 0 {
			t.Fatalf("%q ≤ %q ≤ %q, but the last is less than the first", a, b, c)
		}
	})
}

func TestCompareVersionsIsSemver(t *testing.T) {
	semantic := rapid.StringMatching(`v[0-9]{1,2}\.[0-9]{1,2}\.[0-9]{1,2}(-[a-c0-9]{1,2}(\.[a-c0-9]{1,2})?)?`).Filter(semver.IsValid)
	rapid.Check(t, func(t *rapid.T) {
		a, b := semantic.Draw(t, "a"), semantic.Draw(t, "b")
		if want := semver.Compare(a, b); want != 0 && manifest.CompareVersions(a, b) != want {
			t.Fatalf("%q and %q: %d, want %d", a, b, manifest.CompareVersions(a, b), want)
		}
	})
}
