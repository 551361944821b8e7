package main

import (
	_ "embed"
	"fmt"
	"slices"
	"strings"
)

//go:embed pairs.txt
var pairsTable string

// row is one line of pairs.txt.
type row struct {
	ecosystem, name, old, new string
	native, minor, quick      bool
}

func (r row) String() string {
	return fmt.Sprintf("%s %s %s → %s", r.ecosystem, r.name, r.old, r.new)
}

// label is short enough for a table.
func (r row) label() string {
	name := r.name
	if i := strings.LastIndexAny(name, ":/"); i >= 0 && len(name) > 24 {
		name = name[i+1:]
	}
	return name + " " + clip(strings.TrimPrefix(r.new, "v"), 16)
}

func clip(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return s[:n-1] + "…"
}

func readTable(text string) ([]row, error) {
	var rows []row
	for i, line := range strings.Split(text, "\n") {
		line, _, _ = strings.Cut(line, "#")
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		if len(f) < 4 || len(f) > 5 {
			return nil, fmt.Errorf("read table of pairs: line %d has %d words, not 4 or 5", i+1, len(f))
		}
		r := row{ecosystem: f[0], name: f[1], old: f[2], new: f[3]}
		if len(f) == 5 {
			for _, what := range strings.Split(f[4], ",") {
				switch what {
				case "native":
					r.native = true
				case "minor":
					r.minor = true
				case "quick":
					r.quick = true
				default:
					return nil, fmt.Errorf("read table of pairs: line %d: %q says nothing", i+1, what)
				}
			}
		}
		if slices.ContainsFunc(rows, func(o row) bool {
			return o.ecosystem == r.ecosystem && o.name == r.name && o.old == r.old && o.new == r.new
		}) {
			return nil, fmt.Errorf("read table of pairs: line %d is there twice", i+1)
		}
		rows = append(rows, r)
	}
	return rows, nil
}
