package manifest

import (
	"errors"
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// MaxSize bounds every count and size in a document: every JSON reader holds
// integers up to here exactly.
const MaxSize = 1<<53 - 1

// at returns the first of errs, prefixed with what it is about, or nil.
func at(what string, errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return fmt.Errorf("%s: %w", what, err)
		}
	}
	return nil
}

// item says what an error is about when that is one element of a list. It
// names the element only when there is an error, since lists are long.
func item(what string, i int, name string, errs ...error) error {
	for _, err := range errs {
		if err != nil {
			if len(name) > 100 || name == "" || checkLine(name, 0, 100) != nil {
				return fmt.Errorf("%s %d: %w", what, i+1, err)
			}
			return fmt.Errorf("%s %d (%s): %w", what, i+1, name, err)
		}
	}
	return nil
}

// list refuses lists outside bounds.
func list(what string, n, least, most int) error {
	switch {
	case n < least:
		return fmt.Errorf("%d %s, at least %d needed", n, what, least)
	case n > most:
		return fmt.Errorf("%d %s, at most %d allowed", n, what, most)
	}
	return nil
}

// between refuses numbers outside bounds.
func between(n, least, most int64) error {
	if n < least || n > most {
		return fmt.Errorf("%d is not between %d and %d", n, least, most)
	}
	return nil
}

// oneOf refuses words that are not listed.
func oneOf(s string, words ...string) error {
	for _, w := range words {
		if s == w {
			return nil
		}
	}
	if len(s) > 40 {
		return fmt.Errorf("a word of %d bytes is none of %s", len(s), strings.Join(words, ", "))
	}
	return fmt.Errorf("%q is none of %s", s, strings.Join(words, ", "))
}

// present refuses the zero value of a digest or the like.
func present(v interface{ IsZero() bool }) error {
	if v.IsZero() {
		return errors.New("is missing")
	}
	return nil
}

// absent refuses what must not be given together with something else.
func absent(what string, given bool) error {
	if given {
		return fmt.Errorf("%s must not be given", what)
	}
	return nil
}

// checkLine refuses what is not one line of readable text of least to most
// bytes. The value is not in the error: it may be anything.
func checkLine(s string, least, most int) error {
	switch {
	case len(s) < least:
		return errors.New("is missing")
	case len(s) > most:
		return fmt.Errorf("text of %d bytes, at most %d allowed", len(s), most)
	}
	return checkRunes(s)
}

// checkText refuses what is not readable text: lines and tabs are fine.
func checkText(s string, most int) error {
	if len(s) > most {
		return fmt.Errorf("text of %d bytes, at most %d allowed", len(s), most)
	}
	if !utf8.ValidString(s) {
		return errors.New("text is not valid UTF-8")
	}
	for _, r := range s {
		if unicode.IsControl(r) && r != '\n' && r != '\t' && r != '\r' {
			return fmt.Errorf("text has the control character %U", r)
		}
	}
	return nil
}

// checkFree refuses what cannot stand in an environment variable or be an
// argument of a program. The value is never in the error: it may be a secret.
func checkFree(s string) error {
	switch {
	case len(s) > MaxValue:
		return fmt.Errorf("value of %d bytes, at most %d allowed", len(s), MaxValue)
	case !utf8.ValidString(s):
		return errors.New("value is not valid UTF-8")
	case strings.IndexByte(s, 0) >= 0:
		return errors.New("value has a NUL character")
	}
	return nil
}

// checkRunID refuses what NewRunID does not make.
func checkRunID(s string) error {
	_, err := ParseBundleID(s)
	return err
}

// chain checks a link of a chain: the first has no predecessor, all others do.
func chain(number int64, previous Digest) error {
	switch {
	case number < 1 || number > MaxSize:
		return fmt.Errorf("number %d is not between 1 and %d", number, int64(MaxSize))
	case number == 1 && !previous.IsZero():
		return errors.New("the first of its kind names one before it")
	case number > 1 && previous.IsZero():
		return fmt.Errorf("number %d does not name the one before it", number)
	}
	return nil
}

// seen finds repetitions.
type seen[K comparable] map[K]struct{}

func (s seen[K]) add(k K) error {
	if _, ok := s[k]; ok {
		return errors.New("is there twice")
	}
	s[k] = struct{}{}
	return nil
}

// first returns the first of errs that is one.
func first(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}
