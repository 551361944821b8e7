package manifest_test

import (
	"strings"
	"testing"

	"pgregory.net/rapid"

	"davit/manifest"
)

func TestNames(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, c := range []struct {
		what      string
		check     func(string) error
		good, bad []string
	}{
		{"site", manifest.CheckSite,
			[]string{"dev", "a", "0", "eu-west-1", strings.Repeat("a", 32)},
			[]string{"", "-a", "Dev", "a_b", "a.b", "a/b", "a\n", "é", strings.Repeat("a", 33)}},
		{"project", manifest.CheckProject,
			[]string{"shop", "Shop.Web_2-x", "7zip"},
			[]string{"", ".", "..", ".x", "-x", "a/b", "a b", long, "a\x00"}},
		{"version", manifest.CheckVersion,
			[]string{"1.2.3", "v1.0.0-rc.1+build", "2024-11-24", "1~beta", "20241124"},
			[]string{"", "-1", "..", "1/2", "1:2", "1 2", long}},
		{"environment", manifest.CheckEnvironment,
			[]string{"production", "qa_2", "eu.west"},
			[]string{"", "prod/production", "-", "a b"}},
		{"parameter", manifest.CheckParameter,
			[]string{"A", "_x", "DB_PASSWORD", "a1"},
			[]string{"", "1a", "a-b", "A=B", "a b", "PATH\x00"}},
		{"package", manifest.CheckPackage,
			[]string{"web", "@angular/core", "k8s.io/api", "libstdc++6", "git.sr.ht/~user/x", "gopkg.in/yaml.v3", "_x"},
			[]string{"", "/", "a/", "/a", "a//b", ".", "..", "a/../b", "a/.b", "@", "@@a", "a@b", "a b", "a\\b", long}},
		{"path", manifest.CheckPath,
			[]string{"a", ".hidden", "a/b/c.tar.gz", "Foo::Bar.3pm", "...x", "com", "com10", "console", "auxiliary.c", "日本語/ü", "a b", `q"uote`, "-rf", "~", "$HOME",
				strings.Repeat("a/", 511) + "a", strings.Repeat("é", 127)},
			[]string{"", "/", "/a", "a/", "a//b", ".", "..", "../a", "a/..", "a/./b", "a\\b", `\\server\share`, "C:", "c:/x", "C:x", "a/C:/b",
				"a\x00", "a\n", "a\x7f", "a\u0085", "a\u2028b", "\u202egpj.exe", "a.", "a ", "a./b", "a /b", "...", "nul", "NUL", "Nul.txt", "con.tar.gz", "aux ", "nul .txt",
				"com1", "LPT9.log", "COM\u00b9", "CONIN$", "a/prn/b", "\xff", "a\xc3", "\xed\xa0\x80",
				strings.Repeat("a", 256), strings.Repeat("a/", 512) + "a"}},
	} {
		for _, s := range c.good {
			if err := c.check(s); err != nil {
				t.Errorf("%s %q: %v", c.what, s, err)
			}
		}
		for _, s := range c.bad {
			err := c.check(s)
			if err == nil {
				t.Errorf("%s %q is allowed", c.what, s)
			} else if len(err.Error()) > 400 || strings.ContainsAny(err.Error(), "\x00\n\x1b\u202e") {
				t.Errorf("%s %q: error is not for people: %q", c.what, s, err)
			}
		}
	}
}

func TestFoldPath(t *testing.T) {
	for _, same := range [][2]string{
		{"README.md", "readme.MD"},
		{"\u00c9", "e\u0301"},    // É composed, é decomposed
		{"\u212a", "k"},          // the Kelvin sign
		{"\ufb01le", "\ufb01LE"}, // a ligature
		{"GROSS", "groß"},
		{"\u0391\u03a3", "\u03b1\u03c2"}, // a final sigma
		{"a/B", "A/b"},
	} {
		if a, b := manifest.FoldPath(same[0]), manifest.FoldPath(same[1]); a != b {
			t.Errorf("%q folds to %q and %q to %q", same[0], a, same[1], b)
		}
	}
	if manifest.FoldPath("a-b") == manifest.FoldPath("a_b") {
		t.Error("different names fold to the same")
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.String().Draw(t, "s")
		if once := manifest.FoldPath(s); manifest.FoldPath(once) != once {
			t.Fatalf("%q folds to %q, and that to %q", s, once, manifest.FoldPath(once))
		}
	})
}
