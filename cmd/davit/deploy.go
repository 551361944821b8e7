package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"davit/manifest"
	"davit/manifest/index"
	"davit/transfer"
)

func (p *program) deployCommand() *cli.Command {
	return &cli.Command{Name: "deploy", Usage: "run a release's process here", ArgsUsage: "PROJECT VERSION",
		Description: "Writes the release's files into a work folder and runs its steps there, one after another, with the parameters\n" +
			"in their environment. Output goes to stdout (stderr with --json) as it comes, secrets masked, and into the result.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "env", Aliases: []string{"e"}, Usage: "the `ENVIRONMENT` (required)"},
			&cli.BoolFlag{Name: "keep", Usage: "keep the work folder also after success"},
		},
		Action: p.withSite(p.deploy)}
}

// deploymentView is a deployment in JSON.
type deploymentView struct {
	ID          string     `json:"id"`
	Project     string     `json:"project"`
	Version     string     `json:"version"`
	Site        string     `json:"site"`
	Environment string     `json:"environment"`
	Actor       string     `json:"actor"`
	Status      string     `json:"status"`
	Message     string     `json:"message,omitempty"`
	Started     string     `json:"started"`
	Ended       string     `json:"ended,omitempty"`
	Steps       []stepView `json:"steps"`
	LogSize     int64      `json:"logSize"`
	Folder      string     `json:"folder,omitempty"` // the work folder, when it was kept
	Code        int        `json:"code"`
}

type stepView struct {
	Name    string `json:"name"`
	Status  string `json:"status"`
	Exit    int    `json:"exit"`
	Message string `json:"message,omitempty"`
	Started string `json:"started"`
	Ended   string `json:"ended"`
}

func viewResult(r *manifest.Result) deploymentView {
	v := deploymentView{ID: r.ID, Project: r.Project, Version: r.Version, Site: r.Site, Environment: r.Environment, Actor: r.Actor,
		Status: r.Status, Message: r.Message, Started: stamp(r.Started.Time), Ended: stamp(r.Ended.Time), Steps: []stepView{}, LogSize: r.Log.Size}
	for _, s := range r.Steps {
		v.Steps = append(v.Steps, stepView{s.Name, s.Status, s.Exit, s.Message, stamp(s.Started.Time), stamp(s.Ended.Time)})
	}
	return v
}

func (p *program) deploy(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
	args := c.Args().Slice()
	env := c.String("env")
	if env == "" {
		return usagef("--env ENVIRONMENT is missing: where is %s %s to be deployed?", printable(args[0]), printable(args[1]))
	}
	if err := manifest.CheckEnvironment(env); err != nil {
		return usage(err)
	}
	req := transfer.DeployRequest{Project: args[0], Version: args[1], Environment: env, Keep: c.Bool("keep"), Output: p.stdout}
	switch {
	case p.json && p.quiet:
		req.Output = nil
	case p.json:
		req.Output = p.stderr
	}
	report, err := s.Deploy(ctx, req)
	failed := (*transfer.DeployFailedError)(nil)
	if err != nil && !errors.As(err, &failed) {
		return err
	}
	v := viewResult(report.Result)
	v.Folder, v.Code = report.Folder, codeOf(err)
	if perr := p.result(v, func() { p.tellDeployment(v) }); perr != nil {
		return perr
	}
	if failed != nil {
		return p.reported(failed)
	}
	return nil
}

func (p *program) tellDeployment(v deploymentView) {
	if v.Status == manifest.StatusSucceeded {
		p.say("%s %s is deployed to %s (deployment %s).", v.Project, v.Version, v.Environment, v.ID[:8])
	} else {
		p.warn("the deployment of %s %s to %s %s: %s", v.Project, v.Version, v.Environment, statusWords(v.Status), printable(v.Message))
		p.say("What the steps said: davit log %s", v.ID[:8])
	}
	if v.Folder != "" {
		p.say("Its work folder was kept: %s", v.Folder)
	}
}

// statusWords makes a status the verb of a sentence.
func statusWords(status string) string {
	if status == manifest.StatusInterrupted {
		return "was interrupted"
	}
	return status
}

func (p *program) materializeCommand() *cli.Command {
	return &cli.Command{Name: "materialize", Usage: "write the files of a release to a folder", ArgsUsage: "PROJECT VERSION FOLDER",
		Description: "Files that are there already with the right content stay as they are; other files in the folder stay too.",
		Flags:       []cli.Flag{&cli.StringSliceFlag{Name: "package", Usage: "only the package `NAME`; may be given again"}},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			args := c.Args().Slice()
			req := transfer.MaterializeRequest{Project: args[0], Version: args[1], Dir: args[2], Packages: c.StringSlice("package")}
			var done func()
			req.Progress, done = p.progress("Writing")
			r, err := s.Materialize(ctx, req)
			done()
			if err != nil {
				return err
			}
			return p.result(struct {
				Project string `json:"project"`
				Version string `json:"version"`
				Folder  string `json:"folder"`
				Files   int64  `json:"files"`
				Written int64  `json:"written"`
				Kept    int64  `json:"kept"`
				Bytes   int64  `json:"bytes"`
			}{args[0], args[1], args[2], r.Files, r.Written, r.Kept, r.Bytes}, func() {
				p.say("%s %s is in %s: %s, %s; %d written, %d were there already.", args[0], args[1], args[2],
					count(r.Files, "file", "files"), size(r.Bytes), r.Written, r.Kept)
			})
		})}
}

func (p *program) logCommand() *cli.Command {
	return &cli.Command{Name: "log", Usage: "list deployments, or print the log of one", ArgsUsage: "[ID]",
		Description: "The beginning of an id is enough. Results that were settled from peers have their logs here too.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "project", Usage: "list only those of `PROJECT`"},
			&cli.IntFlag{Name: "limit", Value: 50, Usage: "list at most `N`, the newest first; 0 is all"},
		},
		Action: p.withSite(func(ctx context.Context, c *cli.Context, s *transfer.Site, _ *home) error {
			if c.NArg() == 0 {
				return p.listDeployments(ctx, c, s)
			}
			args := c.Args().Slice()
			return p.printLog(ctx, s, args[0])
		})}
}

func (p *program) listDeployments(ctx context.Context, c *cli.Context, s *transfer.Site) error {
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{Project: c.String("project"), Limit: c.Int("limit")})
	if err != nil {
		return err
	}
	views := []deploymentRowView{}
	rows := [][]string{{"ID", "RELEASE", "ENVIRONMENT", "STATUS", "BY", "STARTED", "MESSAGE"}}
	for _, r := range runs {
		views = append(views, viewDeployment(r, s.Name()))
		rows = append(rows, []string{r.ID[:8], r.Project + " " + r.Version, place(r), r.Status, r.Actor, when(r.Started), r.Message})
	}
	return p.result(struct {
		Deployments []deploymentRowView `json:"deployments"`
	}{views}, func() {
		if len(runs) == 0 {
			p.say("Nothing was deployed yet.")
			return
		}
		p.table(rows)
	})
}

// deploymentRowView is a deployment as the index knows it, in JSON.
type deploymentRowView struct {
	ID          string `json:"id"`
	Project     string `json:"project"`
	Version     string `json:"version"`
	Site        string `json:"site"`
	Environment string `json:"environment"`
	Actor       string `json:"actor"`
	Status      string `json:"status"`
	Started     string `json:"started"`
	Ended       string `json:"ended,omitempty"`
	Message     string `json:"message,omitempty"`
}

func viewDeployment(r index.Deployment, here string) deploymentRowView {
	site := r.Site
	if site == "" {
		site = here
	}
	return deploymentRowView{r.ID, r.Project, r.Version, site, r.Environment, r.Actor, r.Status, stamp(r.Started), stamp(r.Ended), r.Message}
}

// place writes where a deployment ran: a remote one as site/environment.
func place(r index.Deployment) string {
	if r.Site == "" {
		return r.Environment
	}
	return r.Site + "/" + r.Environment
}

// findDeployment finds a deployment by the beginning of its id.
func findDeployment(ctx context.Context, s *transfer.Site, prefix string) (index.Deployment, error) {
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{})
	if err != nil {
		return index.Deployment{}, err
	}
	var found []index.Deployment
	for _, r := range runs {
		if strings.HasPrefix(r.ID, strings.ToLower(prefix)) {
			found = append(found, r)
		}
	}
	switch len(found) {
	case 0:
		return index.Deployment{}, failf(exitNotFound, "no deployment %s is known here; see: davit log", printable(prefix))
	case 1:
		return found[0], nil
	}
	var names []string
	for _, r := range found {
		names = append(names, fmt.Sprintf("%s (%s %s, %s)", r.ID[:16], r.Project, r.Version, place(r)))
	}
	return index.Deployment{}, usagef("%s begins several deployments: %s; write more of the id", printable(prefix), list(names))
}

// maxJSONLog bounds the log inside a JSON document.
const maxJSONLog = 16 << 20

func (p *program) printLog(ctx context.Context, s *transfer.Site, prefix string) error {
	run, err := findDeployment(ctx, s, prefix)
	if err != nil {
		return err
	}
	if run.Result.IsZero() {
		return failf(exitNotFound, "deployment %s of %s %s to %s has not ended; its log comes with its result", run.ID[:8], run.Project, run.Version, place(run))
	}
	log, result, err := s.Log(ctx, run.ID)
	if err != nil {
		return fmt.Errorf("read log of deployment %s: %w", run.ID[:8], err)
	}
	defer log.Close()
	if p.json {
		text, err := io.ReadAll(io.LimitReader(log, maxJSONLog))
		if err != nil {
			return fmt.Errorf("read log of deployment %s: %w", run.ID[:8], err)
		}
		return p.printJSON(struct {
			deploymentView
			Log       string `json:"log"`
			Truncated bool   `json:"truncated"`
		}{viewResult(result), string(text), result.Log.Size > maxJSONLog})
	}
	p.say("Deployment %s: %s %s to %s by %s, %s, %s.", run.ID[:8], run.Project, run.Version, place(run), printable(run.Actor), when(run.Started), run.Status)
	var out io.Writer = p.stdout
	if onTerminal(p.stdout) {
		out = &terminalWriter{p.stdout}
	}
	if _, err := io.Copy(out, log); err != nil {
		return fmt.Errorf("print log of deployment %s: %w", run.ID[:8], err)
	}
	return nil
}

// terminalWriter keeps what came from elsewhere from steering the terminal.
type terminalWriter struct{ w io.Writer }

func (t *terminalWriter) Write(b []byte) (int, error) {
	safe := make([]byte, len(b))
	for i, c := range b {
		if c < ' ' && c != '\n' && c != '\t' && c != '\r' || c == 0x7f {
			c = '?'
		}
		safe[i] = c
	}
	return t.w.Write(safe)
}
