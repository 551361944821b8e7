package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// arrange lets flags stand anywhere on the command line: it moves those of the
// program to its front and those of a command before its arguments, where the
// library looks for them. What follows "--" stays as it is.
func arrange(app *cli.App, args []string) []string {
	if len(args) == 0 || args[len(args)-1] == "--generate-bash-completion" {
		return args
	}
	var global, own, rest []string
	commands, flags := app.Commands, []cli.Flag(nil)
	var path []string
	descend := true
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if cmd := find(commands, arg); descend && cmd != nil {
				path = append(path, arg)
				commands, flags = cmd.Subcommands, cmd.Flags
				descend = len(commands) > 0
				continue
			}
			descend = false
			rest = append(rest, arg)
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		to, flag := &own, lookup(flags, name)
		if flag == nil && name != "help" && name != "h" { // help is the command's
			if flag = lookup(app.Flags, name); flag != nil {
				to = &global
			}
		}
		*to = append(*to, arg)
		if _, isBool := flag.(*cli.BoolFlag); flag != nil && !isBool && !hasValue && i+1 < len(args) {
			i++
			*to = append(*to, args[i])
		}
	}
	if slices.Contains(own, "--help") || slices.Contains(own, "-h") {
		rest = nil // urfave takes what follows for the name of a topic
	}
	out := append([]string{args[0]}, global...)
	out = append(append(out, path...), own...)
	if slices.ContainsFunc(rest, func(s string) bool { return strings.HasPrefix(s, "-") }) {
		out = append(out, "--")
	}
	return append(out, rest...)
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func lookup(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// wantsJSON looks for --json in arranged arguments.
func wantsJSON(args []string) bool {
	for _, a := range args {
		switch a {
		case "--":
			return false
		case "--json", "-json", "--json=true":
			return true
		}
	}
	return false
}

// suggest returns the command nearest to what was typed, if one is near.
func suggest(commands []*cli.Command, typed string) string {
	best, nearest := "", 3
	for _, c := range commands {
		if d := distance(c.Name, typed); d < nearest || strings.HasPrefix(c.Name, typed) && len(typed) > 1 {
			best, nearest = c.Name, d
		}
	}
	return best
}

// distance counts the letters to change, add or drop between two words.
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range a {
		last := row[0]
		row[0] = i + 1
		for j := range b {
			cost := last
			if a[i] != b[j] {
				cost++
			}
			last = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// splitList splits "a,b" given once or several times; "none" is nothing.
func splitList(values []string) []string {
	out := []string{}
	for _, v := range values {
		for s := range strings.SplitSeq(v, ",") {
			if s = strings.TrimSpace(s); s != "" && s != "none" {
				out = append(out, s)
			}
		}
	}
	return out
}
