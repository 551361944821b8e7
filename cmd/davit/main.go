// Command davit moves software releases across gaps: between regions, through
// drop folders, over one-way links and on removable media, and brings the
// results of deployments back.
//
// This package is what people see of it: commands, flags, the config file,
// prompts, tables, JSON and exit codes. What the commands do is in package
// transfer. There is one file per group of commands:
//
//	init.go       init, card
//	peer.go       peer add | list | show | remove
//	release.go    release create | list | show | diff | verify   (process.go: the process file)
//	promote.go    promote, export, shipment list | lost
//	import.go     import, settle
//	watch.go      watch
//	inbox.go      inbox list | show | accept | reject
//	deploy.go     deploy, materialize, log       (values.go: set, unset, values)
//	status.go     status
//	maintain.go   check, repair index, gc, audit log | verify
//	inspect.go    inspect
//	help.go       help, completion, man
//
// # Rules for what is said
//
// Data goes to stdout and words to stderr, so that a pipe gets the one and a
// person both. With --json there is one JSON document on stdout whatever
// happens, errors included; watch, which does not end, writes one on each line. An error is one sentence that says what happened to
// what, and then what to do about it; its exit code says the same to a script
// (exit.go). Text that came from another site is shown without control
// characters. A secret value is never taken from a command line and never shown.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// version is set by the build: -ldflags "-X main.version=1.2.3".
var version = "0.1.0-dev"

// now is the clock; tests turn it.
var now = time.Now

// memoryLimit keeps the program small with large inputs: under 200 MiB resident,
// and under 300 where it makes deltas.
const memoryLimit = 180 << 20

func main() {
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(50)
	}
	// Whoever reads our output may have enough of it, as head and grep -q do.
	// That must not kill a deployment half way.
	signal.Ignore(syscall.SIGPIPE)
	// The first signal ends the work in good order, the second ends the program.
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop)
	code := run(ctx, os.Args, os.Stdin, os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// program is one run of davit: where it reads and writes, and the global flags.
type program struct {
	stdin  io.Reader
	stdout io.Writer
	stderr io.Writer

	json, quiet bool
	lines       bool // a JSON document is one line
	log         *slog.Logger
	failed      error // what the report that was printed amounts to
}

// run is the whole program but for the process around it.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	p := &program{stdin: stdin, stdout: stdout, stderr: stderr, log: slog.New(slog.DiscardHandler)}
	app := p.app()
	args = arrange(app, args)
	p.json = wantsJSON(args) // known before parsing, for errors of parsing
	err := app.RunContext(ctx, args)
	if err != nil && ctx.Err() != nil && errors.Is(err, context.Canceled) {
		err = errInterrupted
	}
	if err == nil {
		err = p.failed
		if err == nil {
			return exitOK
		}
	} else {
		p.fail(err)
	}
	code, _ := classify(err)
	return code
}

// reported ends a command whose report has been printed and says all: only the
// exit code is left.
func (p *program) reported(err error) error {
	p.failed = err
	return nil
}

func (p *program) app() *cli.App {
	app := &cli.App{
		Name:      "davit",
		Usage:     "carry software releases across a gap, and their results back",
		UsageText: "davit COMMAND [ARGUMENT…] [--flags anywhere]",
		Version:   version,
		Description: "A site is one davit installation. Two sites exchange cards once, and then bundles on any medium:\n" +
			"release create ▸ promote ▸ (carry) ▸ import ▸ inbox accept ▸ deploy ▸ export --results ▸ (carry) ▸ settle",
		Writer:                    p.stdout,
		ErrWriter:                 p.stderr,
		Reader:                    p.stdin,
		HideHelpCommand:           true,
		HideVersion:               true,
		EnableBashCompletion:      true,
		DisableSliceFlagSeparator: true,
		ExitErrHandler:            func(*cli.Context, error) {},
		Before:                    p.before,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "config", Aliases: []string{"c"}, EnvVars: []string{"DAVIT_CONFIG"}, Usage: "the site: its `FOLDER` or davit.yaml (default ~/.davit)"},
			&cli.StringFlag{Name: "actor", EnvVars: []string{"DAVIT_ACTOR"}, Usage: "`WHO` acts, for the audit log (default user@host)"},
			&cli.BoolFlag{Name: "json", EnvVars: []string{"DAVIT_JSON"}, Usage: "one JSON document on stdout, errors included"},
			&cli.BoolFlag{Name: "quiet", Aliases: []string{"q"}, EnvVars: []string{"DAVIT_QUIET"}, Usage: "no words on stderr but errors"},
			&cli.BoolFlag{Name: "verbose", Aliases: []string{"v"}, EnvVars: []string{"DAVIT_VERBOSE"}, Usage: "tell what happens inside, on stderr"},
			&cli.BoolFlag{Name: "version", Usage: "print the version"},
			cli.HelpFlag, // urfave leaves it out beside a help command of our own
		},
		Action: func(c *cli.Context) error {
			if c.Bool("version") {
				return p.printVersion()
			}
			return unknownCommand(c, c.App.Commands, "davit")
		},
	}
	app.Commands = []*cli.Command{
		p.initCommand(), p.cardCommand(), p.peerCommand(),
		p.releaseCommand(), p.promoteCommand(), p.exportCommand(), p.shipmentCommand(), p.bundleCommand(),
		p.importCommand(), p.settleCommand(), p.receiptCommand(), p.inboxCommand(), p.watchCommand(),
		p.setCommand(), p.unsetCommand(), p.valuesCommand(),
		p.deployCommand(), p.materializeCommand(), p.logCommand(),
		p.statusCommand(),
		p.checkCommand(), p.repairCommand(), p.gcCommand(), p.auditCommand(), p.inspectCommand(),
		p.helpCommand(), p.completionCommand(), p.manCommand(), p.versionCommand(),
	}
	finish(app)
	return app
}

func (p *program) before(c *cli.Context) error {
	p.json, p.quiet = c.Bool("json"), c.Bool("quiet")
	if c.Bool("verbose") {
		p.log = slog.New(slog.NewTextHandler(p.stderr, &slog.HandlerOptions{Level: slog.LevelDebug}))
	}
	return nil
}

// group is a command that only has others below it.
func group(name, usage string, sub ...*cli.Command) *cli.Command {
	return &cli.Command{Name: name, Usage: usage, Subcommands: sub, HideHelpCommand: true,
		Action: func(c *cli.Context) error { return unknownCommand(c, sub, "davit "+name) }}
}

// unknownCommand answers a command that is none: with help when nothing was
// asked for.
func unknownCommand(c *cli.Context, commands []*cli.Command, prefix string) error {
	if !c.Args().Present() {
		if c.Bool("json") {
			return usagef("a command is missing; see: %s --help", prefix)
		}
		if len(c.Lineage()) > 2 {
			return cli.ShowSubcommandHelp(c)
		}
		return cli.ShowAppHelp(c)
	}
	name := c.Args().First()
	msg := fmt.Sprintf("%q is no command of %s", printable(name), prefix)
	if guess := suggest(commands, name); guess != "" {
		msg += fmt.Sprintf("; did you mean %s %s?", prefix, guess)
	} else {
		msg += fmt.Sprintf("; see: %s --help", prefix)
	}
	return usagef("%s", msg)
}

// finish gives every command what all of them share.
func finish(app *cli.App) {
	onUsage := func(c *cli.Context, err error, _ bool) error {
		name := "davit"
		if c.Command != nil && c.Command.HelpName != "" {
			name = c.Command.HelpName
		}
		return usagef("%v; see: %s --help", err, name)
	}
	app.OnUsageError = onUsage
	var each func([]*cli.Command)
	each = func(commands []*cli.Command) {
		for _, c := range commands {
			c.OnUsageError = onUsage
			c.HideHelpCommand = true
			if act := c.Action; len(c.Subcommands) == 0 {
				c.Action = func(c *cli.Context) error {
					// Before anything is opened: a slip costs nothing.
					if err := checkArguments(c); err != nil {
						return err
					}
					return act(c)
				}
			}
			each(c.Subcommands)
		}
	}
	each(app.Commands)
}

// checkArguments compares the arguments with what the command says it takes:
// NAME is one, [NAME] may be left out, and a last NAME… is one or more.
func checkArguments(c *cli.Context) error {
	names := strings.Fields(c.Command.ArgsUsage)
	least, most := 0, len(names)
	for _, n := range names {
		if !optional(n) {
			least++
		}
		if strings.HasSuffix(strings.TrimSuffix(n, "]"), "…") {
			most = math.MaxInt
		}
	}
	call := strings.TrimSpace(c.Command.HelpName + " " + c.Command.ArgsUsage)
	switch n := c.NArg(); {
	case n < least:
		return usagef("%s is missing; the command is: %s", names[n], call)
	case n > most:
		return usagef("%q is one argument too many; the command is: %s", printable(c.Args().Get(most)), call)
	}
	return nil
}

func optional(name string) bool { return strings.HasPrefix(name, "[") && strings.HasSuffix(name, "]") }
