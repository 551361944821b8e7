package manifest

import (
	"cmp"
	"strings"

	"golang.org/x/mod/semver"
)

// CompareVersions orders versions: -1 when a comes before b, 1 when after, and
// 0 only when they are the same string. It is a total order.
//
// Semantic versions (a leading v is optional) come in their order. Others
// compare naturally, runs of digits as numbers, so that 2024.9 comes before
// 2024.10; between a semantic version and another the numbers before the first
// hyphen of the semantic one decide.
func CompareVersions(a, b string) int {
	// Comparing a pair one way when both are semantic and another way when
	// not would make circles (1.0.0-a < 1.0.0 < "1.0.0-" < 1.0.0-a). Comparing
	// the cores first, everything naturally, keeps it an order.
	coreA, semA := versionCore(a)
	coreB, semB := versionCore(b)
	if c := compareNatural(coreA, coreB); c != 0 {
		return c
	}
	switch {
	case semA == "" && semB != "":
		return -1
	case semA != "" && semB == "":
		return 1
	}
	return cmp.Or(semver.Compare(semA, semB), strings.Compare(a, b))
}

// versionCore returns what is compared first, and the version in the form of
// golang.org/x/mod/semver, or "" when it is not semantic.
func versionCore(v string) (core, sem string) {
	core = v
	if len(v) > 1 && (v[0] == 'v' || v[0] == 'V') && isDigit(v[1]) {
		core = v[1:]
	}
	sem = "v" + core
	if !semver.IsValid(sem) {
		return core, ""
	}
	core, _, _ = strings.Cut(semver.Canonical(sem)[1:], "-")
	return core, sem
}

// compareNatural compares byte by byte, runs of digits as numbers.
func compareNatural(a, b string) int {
	for a != "" && b != "" {
		if isDigit(a[0]) && isDigit(b[0]) {
			var x, y string
			x, a = cutDigits(a)
			y, b = cutDigits(b)
			if c := cmp.Or(cmp.Compare(len(x), len(y)), strings.Compare(x, y)); c != 0 {
				return c
			}
			continue
		}
		if c := cmp.Compare(a[0], b[0]); c != 0 {
			return c
		}
		a, b = a[1:], b[1:]
	}
	return cmp.Compare(len(a), len(b))
}

// cutDigits splits off the leading digits, without leading zeros.
func cutDigits(s string) (digits, rest string) {
	i := 0
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return strings.TrimLeft(s[:i], "0"), s[i:]
}

func isDigit(c byte) bool { return '0' <= c && c <= '9' }
