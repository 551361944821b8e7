package transfer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"davit/internal/durable"
	"davit/manifest"
	"davit/manifest/index"
)

// DeployRequest says what to deploy where.
type DeployRequest struct {
	Project, Version, Environment string
	Output                        io.Writer // gets the log as it grows, secrets masked; may be nil
	Keep                          bool      // keep the work folder also after success
	Progress                      func(done, total int64)
}

// DeployReport says how a deployment ended.
type DeployReport struct {
	Result *manifest.Result
	Digest manifest.Digest
	Folder string // the work folder, "" when it was removed
}

// MissingValuesError: required parameters have no value.
type MissingValuesError struct {
	Project, Version, Environment string
	Names                         []string
}

func (e *MissingValuesError) Error() string {
	return fmt.Sprintf("%s %s cannot be deployed to %s: %s no value. Set with: davit set %s NAME=VALUE --env %s (NAME= sets it empty)",
		e.Project, e.Version, e.Environment, have(e.Names), e.Project, e.Environment)
}

func have(names []string) string {
	if len(names) == 1 {
		return "parameter " + names[0] + " has"
	}
	return "parameters " + joinAnd(names) + " have"
}

// DeployFailedError: the deployment ran and did not succeed.
type DeployFailedError struct {
	Result *manifest.Result
	Folder string
}

func (e *DeployFailedError) Error() string {
	return fmt.Sprintf("deployment of %s %s to %s %s: %s", e.Result.Project, e.Result.Version, e.Result.Environment, e.Result.Status, e.Result.Message)
}

// Deploy materializes a release and runs its process. However it ends, a
// signed result says so, with the whole output; a result other than success is
// returned with a *DeployFailedError.
//
//	values ▸ audit entry: started ▸ materialize ▸ steps ▸ log into the store ▸ result ▸ audit entry: ended
func (s *Site) Deploy(ctx context.Context, req DeployRequest) (*DeployReport, error) {
	if err := manifest.CheckEnvironment(req.Environment); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	rel, err := s.Index.Release(ctx, req.Project, req.Version)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", releaseError(ReleaseName{req.Project, req.Version}, err))
	}
	r, err := s.release(ctx, rel.Digest)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if len(r.Process.Steps) == 0 {
		return nil, fmt.Errorf("deploy: %w", notFound("release %s %s has no process; davit materialize writes its files", r.Project, r.Version))
	}
	values, err := s.resolve(ctx, r, req.Environment)
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	lock, ok, err := durable.TryLockExclusive(s.deployLock(req.Project, req.Environment))
	if err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("deploy: %s is being deployed to %s right now: %w", req.Project, req.Environment, ErrBusy)
	}
	defer lock.Unlock()
	defer s.verb()()
	if err := s.endInterrupted(ctx, req.Project, req.Environment); err != nil {
		return nil, fmt.Errorf("deploy: %w", err)
	}
	d := &deployment{s: s, req: req, release: r, values: values}
	report, err := d.run(ctx, rel.Digest)
	if err != nil {
		return nil, fmt.Errorf("deploy %s %s to %s: %w", r.Project, r.Version, req.Environment, err)
	}
	if report.Result.Status != manifest.StatusSucceeded {
		return report, &DeployFailedError{report.Result, report.Folder}
	}
	return report, nil
}

func (s *Site) deployLock(project, environment string) string {
	return filepath.Join(s.work, "deploy-"+project+"@"+environment+".lock") // no name has an @
}

// resolved is the value of one parameter.
type resolved struct {
	value     string
	sensitive bool
}

// resolve finds the value of every parameter, secrets opened.
func (s *Site) resolve(ctx context.Context, r *manifest.Release, environment string) (map[string]resolved, error) {
	overlay, err := s.Index.Values(ctx, r.Project)
	if err != nil {
		return nil, err
	}
	out := map[string]resolved{}
	var missing []string
	for _, p := range r.Parameters {
		v := precedence(overlay, p, environment)
		if v.from == "" {
			if p.Required {
				missing = append(missing, p.Name)
			}
			continue
		}
		if v.sealed {
			if v.value, err = s.keys.UnsealValue(v.value); err != nil {
				return nil, fmt.Errorf("open value of parameter %s: %w", p.Name, err)
			}
		}
		// A value left empty on purpose is allowed whatever the type.
		if v.value != "" {
			if err := p.CheckValue(v.value); err != nil {
				return nil, &ValueError{p.Name, environment, err}
			}
		}
		out[p.Name] = resolved{v.value, v.sensitive}
	}
	if len(missing) > 0 {
		return nil, &MissingValuesError{r.Project, r.Version, environment, missing}
	}
	return out, nil
}

// ValueError: a value is not of the type that its parameter declares.
type ValueError struct {
	Name, Environment string
	Err               error
}

func (e *ValueError) Error() string {
	if e.Environment == "" {
		return fmt.Sprintf("value of parameter %s: %v", e.Name, e.Err)
	}
	return fmt.Sprintf("value of parameter %s for %s: %v", e.Name, e.Environment, e.Err)
}

func (e *ValueError) Unwrap() error { return e.Err }

// deployment is one Deploy at work.
type deployment struct {
	s       *Site
	req     DeployRequest
	release *manifest.Release
	values  map[string]resolved
	folder  string
	log     *maskWriter
}

func (d *deployment) run(ctx context.Context, digest manifest.Digest) (*DeployReport, error) {
	s := d.s
	result := &manifest.Result{ID: manifest.NewRunID(), Project: d.release.Project, Version: d.release.Version, Release: digest,
		Site: s.Name(), Environment: d.req.Environment, Actor: s.actor, Started: manifest.NewTime(s.now())}
	for _, p := range d.release.Packages {
		result.Packages = append(result.Packages, manifest.ResultPackage{Name: p.Name, Version: p.Version, SHA256: p.SHA256})
	}
	if err := s.record(ctx, manifest.Fact{DeployStarted: &manifest.DeployStarted{ID: result.ID, Project: result.Project,
		Version: result.Version, Release: digest, Environment: result.Environment, Actor: result.Actor, Started: result.Started}}); err != nil {
		return nil, err
	}
	// From here on the deployment ends with a result, also when it is
	// cancelled.
	done := context.WithoutCancel(ctx)
	d.folder = filepath.Join(s.work, "deployments", fmt.Sprintf("%s-%s-%s-%s", result.Project, result.Environment, result.Version, result.ID[:8]))
	if err := os.MkdirAll(d.folder, 0o700); err != nil {
		return nil, err
	}
	logFile, err := os.OpenFile(filepath.Join(d.folder, "log.txt"), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	defer logFile.Close()
	out := io.Writer(logFile)
	if d.req.Output != nil {
		out = io.MultiWriter(logFile, &onlooker{w: d.req.Output})
	}
	d.log = newMaskWriter(out, d.secrets())
	d.perform(ctx, result)
	if err := d.log.Close(); err != nil && result.Status == manifest.StatusSucceeded {
		result.Status, result.Message = manifest.StatusFailed, fmt.Sprintf("its log could not be written: %v", err)
	}
	result.Ended = manifest.NewTime(s.now())
	if result.Ended.Before(result.Started.Time) {
		result.Ended = result.Started // the clock was set back meanwhile
	}
	report, err := d.conclude(done, result, logFile)
	if err != nil {
		return nil, err
	}
	if result.Status == manifest.StatusSucceeded && !d.req.Keep {
		if err := os.RemoveAll(d.folder); err == nil {
			report.Folder = ""
		}
	}
	return report, nil
}

// onlooker is a reader of the log who may go away: that is no reason to break
// off a deployment.
type onlooker struct {
	w    io.Writer
	gone bool
}

func (o *onlooker) Write(p []byte) (int, error) {
	if !o.gone {
		_, err := o.w.Write(p)
		o.gone = err != nil
	}
	return len(p), nil
}

// conclude stores the log and the signed result.
func (d *deployment) conclude(ctx context.Context, result *manifest.Result, logFile *os.File) (*DeployReport, error) {
	s := d.s
	ref, sum, err := s.storeFile(ctx, logFile)
	if err != nil {
		return nil, err
	}
	result.Log = manifest.ResultLog{Size: sum.Size, SHA256: sum.SHA256, Content: ref}
	_, digest, err := s.sign(ctx, resultsDir, result)
	if err != nil {
		return nil, err
	}
	if err := s.record(ctx, manifest.Fact{DeployEnded: &manifest.DeployEnded{ID: result.ID, Result: digest,
		Status: result.Status, Ended: result.Ended, Message: result.Message}}); err != nil {
		return nil, err
	}
	return &DeployReport{Result: result, Digest: digest, Folder: d.folder}, nil
}

func (d *deployment) secrets() []string {
	var secrets []string
	for _, name := range slices.Sorted(maps.Keys(d.values)) {
		if v := d.values[name]; v.sensitive {
			secrets = append(secrets, v.value)
		}
	}
	return secrets
}

func (d *deployment) say(format string, args ...any) {
	fmt.Fprintf(d.log, "davit: "+format+"\n", args...)
}

// perform writes the files and runs the steps, and sets how it ended.
func (d *deployment) perform(ctx context.Context, result *manifest.Result) {
	fail := func(status, format string, args ...any) {
		result.Status, result.Message = status, clip(d.log.mask(fmt.Sprintf(format, args...)))
		d.say("%s: %s", result.Status, result.Message)
	}
	d.say("deploying %s %s to %s", result.Project, result.Version, result.Environment)
	files := filepath.Join(d.folder, "release")
	report, err := d.s.materialize(ctx, d.release, MaterializeRequest{Dir: files, Progress: d.req.Progress})
	if err != nil {
		if ctx.Err() != nil {
			fail(manifest.StatusInterrupted, "interrupted while the files were written")
			return
		}
		fail(manifest.StatusFailed, "the files could not be written: %v", err)
		return
	}
	d.say("files of the release: %d, with %d bytes", report.Files, report.Bytes)
	for i, step := range d.release.Process.Steps {
		d.say("step %d of %d: %s", i+1, len(d.release.Process.Steps), step.Name)
		r := d.step(ctx, step, files)
		result.Steps = append(result.Steps, r)
		if r.Status != manifest.StatusSucceeded {
			fail(r.Status, "step %q %s", step.Name, r.Message)
			return
		}
	}
	result.Status = manifest.StatusSucceeded
	d.say("succeeded")
}

// clip keeps a message within what documents allow.
func clip(s string) string {
	const most = 1000
	s = strings.Map(func(r rune) rune {
		if r < ' ' {
			return ' '
		}
		return r
	}, s)
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

// step runs one command to its end or its timeout.
func (d *deployment) step(ctx context.Context, step manifest.Step, files string) manifest.ResultStep {
	now := d.s.now
	r := manifest.ResultStep{Name: step.Name, Exit: -1, Started: manifest.NewTime(now())}
	timeout := time.Duration(step.Timeout) * time.Second
	limited, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, step.Run[0], step.Run[1:]...)
	cmd.Dir = filepath.Join(files, filepath.FromSlash(step.Directory))
	cmd.Env = d.environment(step, files)
	cmd.Stdout, cmd.Stderr = d.log, d.log
	// A program of the release itself is meant relative to the step's folder.
	if strings.ContainsRune(step.Run[0], '/') && !filepath.IsAbs(step.Run[0]) {
		cmd.Path = filepath.Join(cmd.Dir, filepath.FromSlash(step.Run[0]))
		cmd.Err = nil
	}
	cmd.WaitDelay = 5 * time.Second // for output held open by children
	killGroup(cmd)
	err := cmd.Run()
	r.Ended = manifest.NewTime(now())
	if r.Ended.Before(r.Started.Time) {
		r.Ended = r.Started
	}
	if cmd.ProcessState != nil {
		r.Exit = cmd.ProcessState.ExitCode()
	}
	var exit *exec.ExitError
	if errors.Is(err, exec.ErrWaitDelay) && r.Exit == 0 {
		d.say("the step ended, and something that it started goes on; its output is not followed any further")
		err = nil
	}
	switch {
	case err == nil:
		r.Status = manifest.StatusSucceeded
	case ctx.Err() != nil:
		r.Status, r.Message = manifest.StatusInterrupted, "was interrupted"
	case limited.Err() != nil:
		r.Status, r.Message = manifest.StatusTimedOut, fmt.Sprintf("ran out of its time of %s and was stopped", timeout)
	case errors.As(err, &exit) && r.Exit >= 0:
		r.Status, r.Message = manifest.StatusFailed, fmt.Sprintf("ended with exit code %d", r.Exit)
	default:
		r.Status, r.Message = manifest.StatusFailed, clip(d.log.mask(fmt.Sprintf("could not be run: %v", err)))
	}
	return r
}

// environment is what a step sees: little of the caller's, so that a
// deployment depends on the release and the site's values alone.
func (d *deployment) environment(step manifest.Step, files string) []string {
	env := map[string]string{
		"DAVIT_PROJECT": d.release.Project, "DAVIT_VERSION": d.release.Version,
		"DAVIT_ENVIRONMENT": d.req.Environment, "DAVIT_SITE": d.s.Name(), "DAVIT_RELEASE": files,
	}
	for _, name := range inheritedEnv {
		if v, ok := os.LookupEnv(name); ok {
			env[name] = v
		}
	}
	for name, v := range d.values {
		env[name] = v.value
	}
	maps.Copy(env, step.Environment)
	var list []string
	for _, name := range slices.Sorted(maps.Keys(env)) {
		list = append(list, name+"="+env[name])
	}
	return list
}

var inheritedEnv = []string{"PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "TZ", "TMPDIR",
	"SystemRoot", "ComSpec", "PATHEXT", "TEMP", "TMP", "USERPROFILE", "ProgramFiles"}

// endInterrupted gives a result to deployments that a crash left without one.
// The caller holds the deployment lock, so nobody is at work on them.
func (s *Site) endInterrupted(ctx context.Context, project, environment string) error {
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{Project: project, Environment: environment, Site: index.Here})
	if err != nil {
		return err
	}
	for _, run := range runs {
		if run.Status != index.StatusDeploying {
			continue
		}
		r, err := s.release(ctx, run.Release)
		if err != nil {
			return err
		}
		result := &manifest.Result{ID: run.ID, Project: run.Project, Version: run.Version, Release: run.Release, Site: s.Name(),
			Environment: run.Environment, Actor: run.Actor, Started: manifest.NewTime(run.Started), Ended: manifest.NewTime(run.Started),
			Status: manifest.StatusInterrupted, Message: "davit was stopped while it was deploying; how far it came is not known"}
		if now := s.now(); now.After(run.Started) {
			result.Ended = manifest.NewTime(now)
		}
		for _, p := range r.Packages {
			result.Packages = append(result.Packages, manifest.ResultPackage{Name: p.Name, Version: p.Version, SHA256: p.SHA256})
		}
		d := &deployment{s: s}
		d.folder = filepath.Join(s.work, "deployments", fmt.Sprintf("%s-%s-%s-%s", run.Project, run.Environment, run.Version, run.ID[:8]))
		logFile, err := os.Open(filepath.Join(d.folder, "log.txt"))
		if err != nil { // it did not come as far as having a log
			if logFile, err = os.CreateTemp(s.work, "davit-log-*"); err != nil {
				return err
			}
			defer os.Remove(logFile.Name())
		}
		_, err = d.conclude(ctx, result, logFile)
		logFile.Close()
		if err != nil {
			return err
		}
	}
	return nil
}

// EndInterrupted gives a result to every deployment here that a crash left
// without one and that nobody is at work on.
func (s *Site) EndInterrupted(ctx context.Context) error {
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{Site: index.Here})
	if err != nil {
		return err
	}
	for _, run := range runs {
		if run.Status != index.StatusDeploying {
			continue
		}
		lock, ok, err := durable.TryLockExclusive(s.deployLock(run.Project, run.Environment))
		if err != nil {
			return err
		}
		if !ok {
			continue
		}
		err = s.endInterrupted(ctx, run.Project, run.Environment)
		lock.Unlock()
		if err != nil {
			return err
		}
	}
	return nil
}

// Log opens the log of a deployment, here or settled from a peer. The
// beginning of an id will do where it fits only one.
func (s *Site) Log(ctx context.Context, id string) (io.ReadCloser, *manifest.Result, error) {
	runs, err := s.Index.Deployments(ctx, index.DeploymentFilter{})
	if err != nil {
		return nil, nil, err
	}
	runs = slices.DeleteFunc(runs, func(d index.Deployment) bool { return !strings.HasPrefix(d.ID, id) })
	switch {
	case len(runs) == 0 || id == "":
		return nil, nil, notFound("there is no deployment %q; see: davit status", id)
	case len(runs) > 1:
		return nil, nil, fmt.Errorf("%q fits %d deployments; give more of the id", id, len(runs))
	}
	run := runs[0]
	if run.Result.IsZero() {
		return nil, nil, fmt.Errorf("deployment %s has not ended: %w", id, ErrNotFound)
	}
	e, err := s.envelope(ctx, resultsDir, run.Result)
	if err != nil {
		return nil, nil, err
	}
	result, err := manifest.Peek[manifest.Result](e)
	if err != nil {
		return nil, nil, err
	}
	return s.Store.Open(ctx, result.Log.Content), result, nil
}

// SetValue puts a value into the site's overlay for a project; environment ""
// means all. A sensitive one is sealed to the site's own keys at once.
func (s *Site) SetValue(ctx context.Context, project, environment, name, value string, sensitive bool) error {
	err := errors.Join(manifest.CheckProject(project), manifest.CheckParameter(name))
	if environment != "" {
		err = errors.Join(err, manifest.CheckEnvironment(environment))
	}
	if err != nil {
		return fmt.Errorf("set value: %w", err)
	}
	declared, err := s.declared(ctx, project, name)
	if err != nil {
		return fmt.Errorf("set value: %w", err)
	}
	if declared != nil {
		sensitive = sensitive || declared.Sensitive
		if value != "" {
			if err := declared.CheckValue(value); err != nil {
				return fmt.Errorf("set value: %w", &ValueError{name, environment, err})
			}
		}
	}
	fact := &manifest.ValueSet{Project: project, Environment: environment, Name: name, Sensitive: sensitive}
	if sensitive {
		if fact.Sealed, err = manifest.SealValue(value, s.Card.Recipients); err != nil {
			return fmt.Errorf("set value: %w", err)
		}
	} else {
		fact.Value = value
	}
	return s.record(ctx, manifest.Fact{ValueSet: fact})
}

// UnsetValue takes a value out of the overlay.
func (s *Site) UnsetValue(ctx context.Context, project, environment, name string) error {
	return s.record(ctx, manifest.Fact{ValueUnset: &manifest.ValueUnset{Project: project, Environment: environment, Name: name}})
}

// Declared returns how the newest release of a project that declares a
// parameter declares it, releases in the inbox included; nil when none does.
func (s *Site) declared(ctx context.Context, project, name string) (*manifest.Parameter, error) {
	releases, err := s.Index.Releases(ctx, project)
	if err != nil {
		return nil, err
	}
	items, err := s.Index.InboxOpen(ctx)
	if err != nil {
		return nil, err
	}
	var digests []manifest.Digest
	for _, r := range releases {
		digests = append(digests, r.Digest)
	}
	for _, it := range items {
		if it.Project == project {
			digests = append(digests, it.Release)
		}
	}
	// A secret stays one when any release says so, also one that nobody has
	// accepted; what else is said of it, the newest accepted one says.
	var found *manifest.Parameter
	sensitive := false
	for i, digest := range slices.Backward(digests) {
		r, err := s.release(ctx, digest)
		if err != nil {
			return nil, err
		}
		for _, p := range r.Parameters {
			if p.Name != name {
				continue
			}
			sensitive = sensitive || p.Sensitive
			if found == nil || i == len(releases)-1 {
				found = &p
			}
		}
	}
	if found != nil {
		found.Sensitive = sensitive
	}
	return found, nil
}

// IsSensitive reports whether a parameter is declared sensitive by any release
// known here.
func (s *Site) IsSensitive(ctx context.Context, project, name string) (bool, error) {
	p, err := s.declared(ctx, project, name)
	return p != nil && p.Sensitive, err
}

// Missing lists the required parameters of a release that have no value here
// for an environment. Their values are not looked at otherwise.
func (s *Site) Missing(ctx context.Context, r *manifest.Release, environment string) ([]string, error) {
	_, err := s.resolve(ctx, r, environment)
	var missing *MissingValuesError
	if errors.As(err, &missing) {
		return missing.Names, nil
	}
	return nil, err
}
