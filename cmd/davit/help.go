package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"
)

func (p *program) helpCommand() *cli.Command {
	return &cli.Command{Name: "help", Usage: "help on a command, or on exit-codes", ArgsUsage: "[COMMAND…]",
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			if len(args) == 0 {
				return cli.ShowAppHelp(c)
			}
			if args[0] == "exit-codes" {
				return p.printExitCodes()
			}
			commands, path := c.App.Commands, "davit"
			for i, name := range args {
				cmd := find(commands, name)
				if cmd == nil {
					return usagef("%q is no command of %s; see: %s --help", printable(name), path, path)
				}
				path += " " + name
				if i == len(args)-1 {
					// The library prints the help of a command best itself.
					return c.App.RunContext(c.Context, append(append([]string{c.App.Name}, args...), "--help"))
				}
				commands = cmd.Subcommands
			}
			return nil
		}}
}

func (p *program) printExitCodes() error {
	type codeView struct {
		Code    int    `json:"code"`
		Kind    string `json:"kind"`
		Meaning string `json:"meaning"`
	}
	var views []codeView
	rows := [][]string{{"CODE", "KIND", "MEANING"}}
	for _, c := range exitCodes {
		views = append(views, codeView{c.code, c.kind, c.meaning})
		rows = append(rows, []string{fmt.Sprint(c.code), c.kind, c.meaning})
	}
	return p.result(map[string]any{"exitCodes": views}, func() {
		p.table(rows)
		p.put("\nAn import of several bundles exits with the worst: damage, refused, conflict, incomplete, ok.")
	})
}

const bashCompletion = `# davit completion for bash; put it into ~/.bashrc: source <(davit completion bash)
_davit() {
  local cur words
  cur="${COMP_WORDS[COMP_CWORD]}"
  words=$("${COMP_WORDS[@]:0:$COMP_CWORD}" ${cur:+$([[ "$cur" == -* ]] && printf %s "$cur")} --generate-bash-completion 2>/dev/null)
  COMPREPLY=($(compgen -W "$words" -- "$cur"))
}
complete -o bashdefault -o default -F _davit davit
`

const zshCompletion = `#compdef davit
# davit completion for zsh; put it into ~/.zshrc: source <(davit completion zsh)
_davit() {
  local -a opts
  local cur="${words[-1]}"
  if [[ "$cur" == -* ]]; then
    opts=("${(@f)$(${words[@]:0:#words[@]-1} ${cur} --generate-bash-completion 2>/dev/null)}")
  else
    opts=("${(@f)$(${words[@]:0:#words[@]-1} --generate-bash-completion 2>/dev/null)}")
  fi
  if [[ "${opts[1]}" != "" ]]; then _describe 'values' opts; else _files; fi
}
compdef _davit davit
`

func (p *program) completionCommand() *cli.Command {
	return &cli.Command{Name: "completion", Usage: "print the completion script of a shell", ArgsUsage: "bash|zsh|fish",
		Action: func(c *cli.Context) error {
			args := c.Args().Slice()
			script := ""
			switch args[0] {
			case "bash":
				script = bashCompletion
			case "zsh":
				script = zshCompletion
			case "fish":
				fish, err := c.App.ToFishCompletion()
				if err != nil {
					return fmt.Errorf("make completion: %w", err)
				}
				script = fish
			default:
				return usagef("%q is no shell that davit can complete in; bash, zsh and fish are", printable(args[0]))
			}
			p.put("%s", strings.TrimRight(script, "\n"))
			return nil
		}}
}

func (p *program) manCommand() *cli.Command {
	return &cli.Command{Name: "man", Usage: "print the man page: davit man | man -l -",
		Action: func(c *cli.Context) error {
			page, err := c.App.ToMan()
			if err != nil {
				return fmt.Errorf("make man page: %w", err)
			}
			p.put("%s", strings.TrimRight(page, "\n"))
			return nil
		}}
}

func (p *program) versionCommand() *cli.Command {
	return &cli.Command{Name: "version", Usage: "print the version", Action: func(c *cli.Context) error { return p.printVersion() }}
}

func (p *program) printVersion() error {
	return p.result(map[string]string{"version": version}, func() { p.put("davit %s", version) })
}
