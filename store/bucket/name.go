package bucket

import (
	"fmt"
	"strings"
)

// What CheckName allows at most, in bytes.
const (
	MaxName    = 512
	MaxElement = 128
)

// CheckName returns nil if name can be the name of an object, else an error
// that is ErrName and says what is wrong.
//
// A name is at most 512 bytes long: elements of 1 to 128 ASCII letters, digits,
// '.', '_' and '-', separated by single slashes. An element does not start with
// '.' (hidden files, "..") or end with one, and is not one that Windows keeps
// for devices, with or without an extension ("nul", "COM1.txt"): a stick
// written here must be readable there.
func CheckName(name string) error {
	if len(name) > MaxName {
		return badName(name, fmt.Sprintf("longer than %d bytes", MaxName))
	}
	for element := range strings.SplitSeq(name, "/") {
		if why := checkElement(element); why != "" {
			return badName(name, why)
		}
	}
	return nil
}

// CheckPrefix returns nil if prefix is empty or an object's name can start with
// it, else an error that is ErrName. Buckets call it in List.
func CheckPrefix(prefix string) error {
	if len(prefix) > MaxName {
		return badName(prefix, fmt.Sprintf("longer than %d bytes", MaxName))
	}
	folder, rest := splitPrefix(prefix)
	if folder != "" {
		if err := CheckName(folder); err != nil {
			return err
		}
	}
	if strings.HasPrefix(prefix, "/") {
		return badName(prefix, "an element is empty")
	}
	if rest != "" {
		if why := checkCharacters(rest); why != "" {
			return badName(prefix, why)
		}
	}
	return nil
}

// splitPrefix returns the folder that holds every name with that prefix, and
// what the rest of the name starts with.
func splitPrefix(prefix string) (folder, rest string) {
	if i := strings.LastIndexByte(prefix, '/'); i >= 0 {
		return prefix[:i], prefix[i+1:]
	}
	return "", prefix
}

func badName(name, why string) error {
	if len(name) > 80 {
		name = name[:80] + "..."
	}
	return fmt.Errorf("%w: %q: %s", ErrName, name, why)
}

// checkElement says what is wrong with an element of a name, or nothing.
func checkElement(e string) string {
	if why := checkCharacters(e); why != "" {
		return why
	}
	if e[len(e)-1] == '.' {
		return "an element ends with a dot"
	}
	if isDevice(e) {
		return "an element is the name of a Windows device"
	}
	return ""
}

func checkCharacters(e string) string {
	switch {
	case e == "":
		return "an element is empty"
	case len(e) > MaxElement:
		return fmt.Sprintf("an element is longer than %d bytes", MaxElement)
	case e[0] == '.':
		return "an element starts with a dot"
	}
	for i := range len(e) {
		switch c := e[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '.' || c == '_' || c == '-':
		default:
			return fmt.Sprintf("the character %q is not allowed", e[i:i+1])
		}
	}
	return ""
}

func isDevice(e string) bool {
	base, _, _ := strings.Cut(e, ".")
	switch len(base) {
	case 3:
		switch strings.ToLower(base) {
		case "con", "prn", "aux", "nul":
			return true
		}
	case 4:
		switch strings.ToLower(base[:3]) {
		case "com", "lpt":
			return '0' <= base[3] && base[3] <= '9'
		}
	}
	return false
}
