package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/cases"
	"golang.org/x/text/unicode/norm"
)

// Bounds of paths. They fit every file system davit runs on.
const (
	MaxPath    = 1024 // bytes of a whole path
	MaxElement = 255  // bytes of one element
)

var (
	siteForm        = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
	projectForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	versionForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._+~-]{0,127}$`)
	environmentForm = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)
	parameterForm   = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,63}$`)
	packageForm     = regexp.MustCompile(`^@?[A-Za-z0-9_~][A-Za-z0-9._+~-]*$`)
	reservedForm    = regexp.MustCompile(`(?i)^(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])$`)
)

// CheckSite refuses what cannot be the name of a site: 1 to 32 lower-case
// letters, digits and hyphens, not beginning with a hyphen.
func CheckSite(name string) error {
	return checkForm("site name", name, siteForm, "1 to 32 of a-z, 0-9 and -, not beginning with -")
}

// CheckProject refuses what cannot be the name of a project.
func CheckProject(name string) error {
	return checkForm("project name", name, projectForm, "1 to 64 of A-Z, a-z, 0-9 and . _ -, beginning with a letter or digit")
}

// CheckVersion refuses what cannot be a version.
func CheckVersion(version string) error {
	return checkForm("version", version, versionForm, "1 to 128 of A-Z, a-z, 0-9 and . _ + ~ -, beginning with a letter or digit")
}

// CheckEnvironment refuses what cannot be the name of an environment. A slash
// cannot stand in it: site/environment is how people write a remote one.
func CheckEnvironment(name string) error {
	return checkForm("environment", name, environmentForm, "1 to 64 of A-Z, a-z, 0-9 and . _ -, beginning with a letter or digit")
}

// CheckParameter refuses what cannot be the name of a parameter, which is also
// the name of an environment variable.
func CheckParameter(name string) error {
	return checkForm("parameter name", name, parameterForm, "1 to 64 of A-Z, a-z, 0-9 and _, not beginning with a digit")
}

// CheckPackage refuses what cannot be the name of a package. Names of the
// usual ecosystems are fine: "@angular/core", "k8s.io/api", "libstdc++6".
func CheckPackage(name string) error {
	const want = "elements of A-Z, a-z, 0-9 and . _ + ~ - separated by /, each beginning with a letter, digit, _, ~ or @, at most 255 bytes"
	if len(name) > 255 {
		return fmt.Errorf("package name of %d bytes: want %s", len(name), want)
	}
	for element := range strings.SplitSeq(name, "/") {
		if !packageForm.MatchString(element) {
			return fmt.Errorf("package name %q: want %s", name, want)
		}
	}
	return nil
}

func checkForm(what, s string, form *regexp.Regexp, want string) error {
	switch {
	case s == "":
		return fmt.Errorf("%s is empty: want %s", what, want)
	case len(s) > 128:
		return fmt.Errorf("%s of %d bytes: want %s", what, len(s), want)
	case !form.MatchString(s):
		return fmt.Errorf("%s %q: want %s", what, s, want)
	}
	return nil
}

// CheckPath refuses every path that is not relative, slash-separated and safe
// to create below a folder on Linux, macOS and Windows alike. What it lets
// through is clean: path.Clean would not change it.
func CheckPath(p string) error {
	err := checkPath(p)
	if err == nil {
		err = portable(p)
	}
	return ofPath(p, err)
}

// CheckTreePath is CheckPath for paths within a tree, which are as their
// makers called them: it lets through what Windows alone cannot have, such as
// drivers/aux.c. Who writes a tree on Windows must ask CheckPath as well.
func CheckTreePath(p string) error {
	return ofPath(p, checkPath(p))
}

// ofPath says which path an error is about.
func ofPath(p string, err error) error {
	if err == nil {
		return nil
	}
	if len(p) > 100 {
		p = strings.ToValidUTF8(p[:100], "?") + "…"
	}
	return fmt.Errorf("path %q: %w", p, err)
}

// portable refuses what Windows alone cannot have in a path.
func portable(p string) error {
	for e := range strings.SplitSeq(p, "/") {
		switch e[len(e)-1] { // checkPath lets no element be empty
		case '.', ' ':
			return errors.New("has an element ending in a dot or a space, which Windows drops")
		}
		if len(e) >= 2 && e[1] == ':' && isLetter(e[0]) {
			return errors.New("has a drive letter")
		}
		// Windows takes "nul", "NUL.txt" and "nul .txt" for the device.
		base, _, _ := strings.Cut(e, ".")
		base = strings.TrimRight(base, " ")
		if len(base) >= 3 && len(base) <= 7 && reservedForm.MatchString(base) {
			return fmt.Errorf("has the element %q, a device name on Windows", e)
		}
	}
	return nil
}

func checkPath(p string) error {
	switch {
	case p == "":
		return errors.New("is empty")
	case len(p) > MaxPath:
		return fmt.Errorf("is longer than %d bytes", MaxPath)
	case p[0] == '/':
		return errors.New("is absolute")
	}
	for rest, more := p, true; more; {
		var element string
		element, rest, more = strings.Cut(rest, "/")
		if err := checkElement(element); err != nil {
			return err
		}
	}
	return nil
}

// checkElement checks one element of a path. Its first pass over plain ASCII
// decides nearly all names, since listings hold hundreds of thousands.
func checkElement(e string) error {
	switch {
	case e == "":
		return errors.New("has an empty element")
	case e == "." || e == "..":
		return fmt.Errorf("has the element %q", e)
	case len(e) > MaxElement:
		return fmt.Errorf("has an element longer than %d bytes", MaxElement)
	}
	ascii := true
	for i := 0; i < len(e); i++ {
		switch c := e[i]; {
		case c == '\\':
			return errors.New("has a backslash")
		case c < 0x20 || c == 0x7f:
			return errors.New("has a control character")
		case c >= 0x80:
			ascii = false
		}
	}
	if !ascii {
		if err := checkRunes(e); err != nil {
			return err
		}
	}
	return nil
}

func isLetter(c byte) bool { return 'a' <= c|0x20 && c|0x20 <= 'z' }

// checkRunes refuses broken UTF-8, and characters that break a line or turn
// the direction of writing, so that what a person reads is what is meant.
func checkRunes(s string) error {
	if !utf8.ValidString(s) {
		return errors.New("is not valid UTF-8")
	}
	for _, r := range s {
		switch {
		case unicode.IsControl(r), r == 0x2028, r == 0x2029:
			return errors.New("has a control character")
		case 0x202a <= r && r <= 0x202e, 0x2066 <= r && r <= 0x2069:
			return errors.New("has a character that turns the direction of writing")
		}
	}
	return nil
}

// FoldPath returns a form of p that is equal for two paths that a file system
// blind to case, or one that normalizes Unicode, may take for one. Folding a
// folded path changes nothing.
func FoldPath(p string) string {
	upper := false
	for i := 0; i < len(p); i++ {
		c := p[i]
		if c >= 0x80 {
			// Folding can undo a composition, so normalize on both sides.
			return norm.NFC.String(strings.Map(smallest, cases.Fold().String(norm.NFD.String(p))))
		}
		upper = upper || 'A' <= c && c <= 'Z'
	}
	if !upper {
		return p
	}
	return strings.ToLower(p)
}

// smallest returns one and the same of all runes that differ only in case: the
// least, or its lower case if it is an ASCII letter. It settles the scripts
// in which full folding maps two runes to each other, such as Cherokee.
func smallest(r rune) rune {
	least := r
	for o := unicode.SimpleFold(r); o != r; o = unicode.SimpleFold(o) {
		least = min(least, o)
	}
	if 'A' <= least && least <= 'Z' {
		least += 'a' - 'A'
	}
	return least
}
