package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) setCommand() *cli.Command {
	return &cli.Command{Name: "set", Usage: "give parameters of a project their values here", ArgsUsage: "PROJECT NAME[=VALUE]…",
		Description: "NAME=VALUE for what anybody may see; NAME= sets it empty. A secret never stands on the command line, where the\n" +
			"process list and the shell's history keep it: davit set PROJECT NAME asks for it, or takes it from --stdin or\n" +
			"--value-file (one line end at its end is dropped), and seals it at once.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "env", Aliases: []string{"e"}, Usage: "only for `ENVIRONMENT`; without it for all"},
			&cli.BoolFlag{Name: "sensitive", Usage: "keep it as a secret although no release declares it as one"},
			&cli.BoolFlag{Name: "stdin", Usage: "read the value from stdin"},
			&cli.StringFlag{Name: "value-file", Usage: "read the value from `FILE`"},
		},
		Action: p.withSite(p.set)}
}

func (p *program) set(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	project, env := args[0], c.String("env")
	if err := checkProjectEnv(project, env); err != nil {
		return err
	}
	names := make([]string, 0, len(args)-1)
	values := map[string]string{}
	unknown := false
	for _, arg := range args[1:] {
		name, value, inline := strings.Cut(arg, "=")
		// The value never stands in a message: it may be a secret.
		if err := manifest.CheckParameter(name); err != nil {
			return usage(err)
		}
		declared, err := s.Declared(ctx, project, name)
		if err != nil {
			return err
		}
		sensitive := declared != nil && declared.Sensitive
		// What no release declares yet may be a secret: what was not typed on
		// the command line is kept as one.
		if declared == nil && !inline {
			unknown = true
		}
		if declared == nil {
			p.warn("No release of %s declares %s, here or in the inbox", printable(project), name)
		}
		switch {
		case inline && (c.Bool("stdin") || c.IsSet("value-file")):
			return usagef("%s has its value twice; write the name alone with --stdin or --value-file", name)
		case inline && value != "" && (sensitive || c.Bool("sensitive")):
			return usagef("%s is a secret, and a value on the command line is not: the process list and the shell's history show it. Nothing was set; if the real value was typed, consider it known. Run instead: davit set %s %s%s", name, project, name, envFlag(env))
		case !inline:
			if len(args) > 2 {
				return usagef("%s has no value; give several as NAME=VALUE, or one name alone to be asked for its value", name)
			}
			if value, err = p.readValue(c, project, name, env); err != nil {
				return err
			}
		}
		if declared != nil && value != "" {
			if err := declared.CheckValue(value); err != nil {
				return usagef("%v; nothing was set", err)
			}
		}
		if _, twice := values[name]; twice {
			return usagef("%s is given twice", name)
		}
		names = append(names, name)
		values[name] = value
	}
	for _, name := range names {
		if err := s.SetValue(ctx, project, env, name, values[name], c.Bool("sensitive") || unknown); err != nil {
			return fmt.Errorf("%s was not set: %w", name, err)
		}
	}
	return p.result(map[string]any{"project": project, "environment": env, "set": names}, func() {
		p.say("Set %s of %s for %s.", list(names), project, envWords(env))
	})
}

func checkProjectEnv(project, env string) error {
	if err := manifest.CheckProject(project); err != nil {
		return usage(err)
	}
	if env != "" {
		return usage(manifest.CheckEnvironment(env))
	}
	return nil
}

func envFlag(env string) string {
	if env == "" {
		return ""
	}
	return " --env " + env
}

func envWords(env string) string {
	if env == "" {
		return "all environments"
	}
	return env
}

// readValue gets a value by a way on which nobody else sees it.
func (p *program) readValue(c *cli.Context, project, name, env string) (string, error) {
	var r io.Reader
	switch path := c.String("value-file"); {
	case path != "" && c.Bool("stdin"):
		return "", usagef("--stdin and --value-file exclude each other")
	case path != "":
		f, err := os.Open(path)
		if err != nil {
			return "", failf(exitUnreachable, "the file with the value of %s cannot be read: %v", name, plain(err))
		}
		defer f.Close()
		r = f
	case c.Bool("stdin"):
		r = p.stdin
	default:
		value, err := p.askSecret(fmt.Sprintf("Value of %s for %s (not shown): ", name, envWords(env)))
		if is[*usageError](err) {
			return "", usagef("%s has no value and there is no terminal to ask for it; use: davit set %s %s%s --stdin (or --value-file FILE), or NAME=VALUE if it is no secret", name, project, name, envFlag(env))
		}
		return value, err
	}
	data, err := io.ReadAll(io.LimitReader(r, manifest.MaxValue+3))
	if err != nil {
		return "", fmt.Errorf("read value of %s: %w", name, err)
	}
	value := chomp(string(data))
	if len(value) > manifest.MaxValue {
		return "", usagef("the value of %s is longer than %d bytes", name, manifest.MaxValue)
	}
	return value, nil
}

func (p *program) unsetCommand() *cli.Command {
	return &cli.Command{Name: "unset", Usage: "take values of parameters away again", ArgsUsage: "PROJECT NAME…",
		Flags: []cli.Flag{&cli.StringFlag{Name: "env", Aliases: []string{"e"}, Usage: "the one for `ENVIRONMENT`; without it the one for all"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			args := c.Args().Slice()
			project, env := args[0], c.String("env")
			if err := checkProjectEnv(project, env); err != nil {
				return err
			}
			overlay, err := s.Index.Values(ctx, project)
			if err != nil {
				return err
			}
			for _, name := range args[1:] {
				if !slices.ContainsFunc(overlay, func(v index.Value) bool { return v.Name == name && v.Environment == env }) {
					return failf(exitNotFound, "%s of %s is not set here for %s; see: davit values %s", printable(name), project, envWords(env), project)
				}
			}
			for _, name := range args[1:] {
				if err := s.UnsetValue(ctx, project, env, name); err != nil {
					return fmt.Errorf("%s was not unset: %w", name, err)
				}
			}
			return p.result(map[string]any{"project": project, "environment": env, "unset": args[1:]}, func() {
				p.say("Unset %s of %s for %s.", list(args[1:]), project, envWords(env))
			})
		})}
}

func (p *program) valuesCommand() *cli.Command {
	return &cli.Command{Name: "values", Usage: "show the parameters of a project and where their values come from", ArgsUsage: "PROJECT",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "env", Aliases: []string{"e"}, Usage: "only for `ENVIRONMENT`"},
			&cli.StringFlag{Name: "release", Usage: "as the release `VERSION` declares them (default: the newest here, else in the inbox)"},
		},
		Action: p.withSite(p.showValues)}
}

// valueView is a parameter's value in JSON; a secret is not in it.
type valueView struct {
	Environment string `json:"environment"` // "" is every environment
	Name        string `json:"name"`
	Type        string `json:"type,omitempty"`
	Required    bool   `json:"required"`
	Sensitive   bool   `json:"sensitive"`
	Set         bool   `json:"set"`
	Value       string `json:"value"`
	From        string `json:"from,omitempty"`
	Missing     bool   `json:"missing"`
	Declared    bool   `json:"declared"` // by the release; others have no effect on it
}

func (p *program) showValues(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	project := args[0]
	if err := checkProjectEnv(project, c.String("env")); err != nil {
		return err
	}
	overlay, err := s.Index.Values(ctx, project)
	if err != nil {
		return err
	}
	r, err := declaring(ctx, s, project, c.String("release"))
	if err != nil && (!errors.Is(err, transfer.ErrNotFound) || len(overlay) == 0) {
		return err
	}
	if err != nil { // values that were set before any release came
		r = &manifest.Release{Project: project}
	}
	environments, err := environmentsOf(ctx, s, r, overlay, c.String("env"))
	if err != nil {
		return err
	}
	views := []valueView{}
	missing := map[string][]string{}
	for _, env := range environments {
		states, err := s.ParameterStates(ctx, r, env)
		if err != nil {
			return err
		}
		for _, q := range states {
			v := valueView{Environment: env, Name: q.Name, Type: q.Type, Required: q.Required, Sensitive: q.Sensitive || q.Hidden,
				Set: q.From != "", Value: q.Value, From: q.From, Missing: q.Missing(), Declared: true}
			if q.Hidden {
				v.Value = "***"
			}
			if v.Missing {
				missing[env] = append(missing[env], q.Name)
			}
			views = append(views, v)
		}
		for _, o := range overlay {
			if o.Environment != env || slices.ContainsFunc(r.Parameters, func(q manifest.Parameter) bool { return q.Name == o.Name }) {
				continue
			}
			v := valueView{Environment: env, Name: o.Name, Sensitive: o.Sensitive, Set: true, Value: o.Value, From: "set here, not declared"}
			if o.Sensitive {
				v.Value = "***"
			}
			views = append(views, v)
		}
	}
	return p.result(struct {
		Project string      `json:"project"`
		Version string      `json:"version,omitempty"` // whose declarations these are
		Values  []valueView `json:"values"`
	}{project, r.Version, views}, func() { p.tellValues(r, views, missing) })
}

func (p *program) tellValues(r *manifest.Release, views []valueView, missing map[string][]string) {
	if len(views) == 0 {
		p.say("%s declares no parameters, and none is set here.", strings.TrimSpace(r.Project+" "+r.Version))
		return
	}
	rows := [][]string{{"ENVIRONMENT", "PARAMETER", "VALUE", "FROM"}}
	for _, v := range views {
		env, value, from := v.Environment, v.Value, v.From
		if env == "" {
			env = "(all)"
		}
		switch {
		case v.Missing:
			value, from = "MISSING", "required"
		case !v.Set:
			value, from = "-", "not set, not required"
		case value == "":
			value = `""`
		}
		if text := []rune(value); len(text) > 60 {
			value = string(text[:59]) + "…"
		}
		rows = append(rows, []string{env, v.Name, value, from})
	}
	p.table(rows)
	for _, env := range slices.Sorted(maps.Keys(missing)) {
		name := env
		if name == "" {
			name = "ENVIRONMENT"
		}
		p.say("Missing for %s: %s", envWords(env), setAdvice(r.Project, missing[env], name))
	}
}

// declaring finds the release whose parameters count: the one named, else the
// newest here, else the newest in the inbox.
func declaring(ctx context.Context, s *transfer.Site, project, version string) (*manifest.Release, error) {
	if version == "" {
		all, err := s.Index.Releases(ctx, project)
		if err != nil {
			return nil, err
		}
		if len(all) > 0 {
			version = all[len(all)-1].Version
		}
	}
	if version != "" {
		r, _, err := s.Release(ctx, project, version)
		if !errors.Is(err, transfer.ErrNotFound) {
			return r, err
		}
	}
	items, err := s.Index.InboxOpen(ctx)
	if err != nil {
		return nil, err
	}
	newest := ""
	for _, it := range items {
		if it.Project == project && (version == "" || it.Version == version) && (newest == "" || manifest.CompareVersions(it.Version, newest) > 0) {
			newest = it.Version
		}
	}
	if newest == "" {
		return nil, fmt.Errorf("there is no release %s here or in the inbox; see: davit release list: %w", strings.TrimSpace(project+" "+version), transfer.ErrNotFound)
	}
	r, _, err := s.InboxRelease(ctx, project, newest, "")
	return r, err
}

// environmentsOf lists the environments that values can be asked for.
func environmentsOf(ctx context.Context, s *transfer.Site, r *manifest.Release, overlay []index.Value, only string) ([]string, error) {
	if only != "" {
		return []string{only}, nil
	}
	all := map[string]bool{}
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{Project: r.Project, Site: index.Here})
	if err != nil {
		return nil, err
	}
	for _, run := range runs {
		all[run.Environment] = true
	}
	for _, q := range r.Parameters {
		for e := range q.Environments {
			all[e] = true
		}
	}
	for _, v := range overlay {
		all[v.Environment] = true
	}
	if len(all) == 0 {
		all[""] = true
	}
	return slices.Sorted(maps.Keys(all)), nil
}
