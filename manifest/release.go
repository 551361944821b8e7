package manifest

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"davit/store/chunk"
)

// Kinds of packages.
const (
	PackageFile = "file"
	PackageTree = "tree"
)

// Types of parameters.
const (
	ParameterString = "string"
	ParameterInt    = "int"
	ParameterBool   = "bool"
)

// Release is an immutable version of a project: what it consists of, how it is
// deployed, and the evidence for it. It is the predicate of an in-toto
// statement whose subjects are the packages.
type Release struct {
	Project     string       `json:"project"`
	Version     string       `json:"version"`
	Site        string       `json:"site"` // where it was created
	Created     Time         `json:"created"`
	Notes       string       `json:"notes,omitempty"`
	Packages    []Package    `json:"packages"`
	Attachments []Attachment `json:"attachments,omitempty"`
	Parameters  []Parameter  `json:"parameters,omitempty"`
	Process     Process      `json:"process,omitzero"`
}

// Package is one file or one directory tree of a release.
type Package struct {
	Name      string     `json:"name"`
	Version   string     `json:"version"`
	MediaType string     `json:"mediaType,omitempty"`
	Path      string     `json:"path"` // where it is put in a materialized release
	Kind      string     `json:"kind"`
	Mode      uint32     `json:"mode,omitempty"` // permission bits, files only
	Size      int64      `json:"size"`           // bytes of all its files
	Files     int64      `json:"files"`          // number of its files; 1 for a file
	SHA256    Digest     `json:"sha256"`         // of a file's content, or of a tree's listing
	Content   chunk.Ref  `json:"content"`        // the file, or the tree's files in listing order
	Tree      *chunk.Ref `json:"tree,omitempty"` // the tree's listing
	// CaseSensitive says that the tree holds names that differ only in case,
	// so that it cannot be put on a file system that takes them for one.
	CaseSensitive bool `json:"caseSensitive,omitempty"`
}

// Attachment is evidence or paper that travels with a release.
type Attachment struct {
	Name      string    `json:"name"`
	Type      string    `json:"type"` // sbom, attestation, licence, other …
	MediaType string    `json:"mediaType,omitempty"`
	Size      int64     `json:"size"`
	SHA256    Digest    `json:"sha256"`
	Content   chunk.Ref `json:"content"`
}

// Parameter declares a value that the deploying site may or must give.
type Parameter struct {
	Name         string            `json:"name"`
	Type         string            `json:"type"`
	Description  string            `json:"description,omitempty"`
	Default      *string           `json:"default,omitempty"`
	Required     bool              `json:"required,omitempty"`
	Sensitive    bool              `json:"sensitive,omitempty"`    // then no value may stand in the release
	Environments map[string]string `json:"environments,omitempty"` // defaults by environment
}

// Process says how a release is deployed: its steps, one after another.
type Process struct {
	Steps []Step `json:"steps,omitempty"`
}

// IsZero reports whether there is nothing to run; then the process is left out
// of the document.
func (p Process) IsZero() bool { return len(p.Steps) == 0 }

// Step is one command of a process.
type Step struct {
	Name        string            `json:"name"`
	Run         []string          `json:"run"`                 // program and arguments; no shell
	Timeout     int64             `json:"timeout"`             // seconds
	Directory   string            `json:"directory,omitempty"` // in the materialized release
	Environment map[string]string `json:"environment,omitempty"`
}

// Bounds of a release.
const (
	MaxPackages    = 10_000
	MaxAttachments = 1_000
	MaxParameters  = 1_000
	MaxSteps       = 200
	MaxNotes       = 64 << 10
	MaxTimeout     = 7 * 24 * 60 * 60 // seconds
	maxArguments   = 1_000
	maxVariables   = 1_000
	maxStepName    = 128
)

var (
	mediaTypeForm      = regexp.MustCompile(`^[a-z0-9][a-z0-9!#$&^_.+-]{0,62}/[a-z0-9][a-z0-9!#$&^_.+-]{0,126}$`)
	attachmentTypeForm = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,31}$`)
)

// PayloadType implements Document.
func (r *Release) PayloadType() string { return PayloadInToto }

func (r *Release) predicateType() string { return PredicateRelease }

func (r *Release) subjects() []subject {
	subjects := make([]subject, len(r.Packages))
	for i, p := range r.Packages {
		subjects[i] = subject{p.Name, subjectDigest{p.SHA256}}
	}
	return subjects
}

// Size is the sum of the packages' and attachments' sizes.
func (r *Release) Size() int64 {
	var n int64
	for _, p := range r.Packages {
		n += p.Size
	}
	for _, a := range r.Attachments {
		n += a.Size
	}
	return n
}

// Validate implements Document.
func (r *Release) Validate() error {
	return at("release",
		CheckProject(r.Project),
		CheckVersion(r.Version),
		at("site", CheckSite(r.Site)),
		at("created", r.Created.Validate()),
		at("notes", checkText(r.Notes, MaxNotes)),
		r.checkPackages(),
		r.checkAttachments(),
		r.checkParameters(),
		at("process", r.Process.check()),
	)
}

func (r *Release) checkPackages() error {
	if err := list("packages", len(r.Packages), 1, MaxPackages); err != nil {
		return err
	}
	names := seen[string]{}
	var total int64
	paths := make([]string, len(r.Packages))
	for i := range r.Packages {
		p := &r.Packages[i]
		if err := item("package", i, p.Name, p.check(), at("name", names.add(p.Name)), at("size", between(p.Size, 0, MaxSize-total))); err != nil {
			return err
		}
		total += p.Size
		paths[i] = FoldPath(p.Path)
	}
	// In this order whatever lies below a path follows it at once.
	slices.SortFunc(paths, ComparePaths)
	for i := 1; i < len(paths); i++ {
		switch a, b := paths[i-1], paths[i]; {
		case a == b:
			return fmt.Errorf("two packages have the path %q", b)
		case strings.HasPrefix(b, a+"/"):
			return fmt.Errorf("the path %q of one package lies within the path %q of another", b, a)
		}
	}
	return nil
}

func (p *Package) check() error {
	if err := first(
		CheckPackage(p.Name),
		CheckVersion(p.Version),
		checkMediaType(p.MediaType),
		CheckPath(p.Path),
		at("kind", oneOf(p.Kind, PackageFile, PackageTree)),
		at("content", p.Content.Validate()),
		at("sha256", present(p.SHA256)),
	); err != nil {
		return err
	}
	if p.Content.Size != p.Size {
		return fmt.Errorf("size %d, but its content has %d", p.Size, p.Content.Size)
	}
	if p.Kind == PackageFile {
		return first(
			at("mode", between(int64(p.Mode), 0, 0o777)),
			at("files", between(p.Files, 1, 1)),
			checkContent(p.Size, p.SHA256, p.Content),
			absent("tree", p.Tree != nil),
			absent("caseSensitive", p.CaseSensitive),
		)
	}
	if p.Tree == nil {
		return errors.New("a tree without its listing")
	}
	return first(
		at("mode", between(int64(p.Mode), 0, 0)),
		at("files", between(p.Files, 0, MaxTreeEntries)),
		absent("a size without files", p.Files == 0 && p.Size > 0),
		at("tree", list("bytes", int(min(p.Tree.Size, 1)), 1, 1)),
		at("tree", checkContent(p.Tree.Size, p.SHA256, *p.Tree)),
	)
}

// checkContent refuses a reference that contradicts what is said of the bytes
// it leads to.
func checkContent(size int64, sum Digest, ref chunk.Ref) error {
	if err := at("content", ref.Validate(), between(ref.Size, 0, MaxSize)); err != nil {
		return err
	}
	switch {
	case ref.Size != size:
		return fmt.Errorf("size %d, but its content has %d", size, ref.Size)
	case sum.IsZero():
		return errors.New("sha256 is missing")
	case size == 0 && sum != DigestOf(nil):
		return errors.New("sha256 is not that of an empty file")
	case size > 0 && ref.Depth == 0 && Digest(ref.Root) != sum:
		return errors.New("sha256 is not the name of its only chunk")
	}
	return nil
}

func checkMediaType(s string) error {
	if s != "" && !mediaTypeForm.MatchString(s) {
		return fmt.Errorf("media type %q: want type/subtype in lower case, without parameters", clip(s))
	}
	return nil
}

func (r *Release) checkAttachments() error {
	if err := list("attachments", len(r.Attachments), 0, MaxAttachments); err != nil {
		return err
	}
	names := seen[string]{}
	for i, a := range r.Attachments {
		if err := item("attachment", i, a.Name,
			at("name", CheckPath(a.Name), names.add(FoldPath(a.Name))),
			checkForm("type", a.Type, attachmentTypeForm, "a word such as sbom, attestation, licence or other"),
			checkMediaType(a.MediaType),
			checkContent(a.Size, a.SHA256, a.Content),
		); err != nil {
			return err
		}
	}
	return nil
}

func (r *Release) checkParameters() error {
	if err := list("parameters", len(r.Parameters), 0, MaxParameters); err != nil {
		return err
	}
	names := seen[string]{}
	for i := range r.Parameters {
		p := &r.Parameters[i]
		if err := item("parameter", i, p.Name, p.check(), names.add(p.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parameter) check() error {
	if err := first(
		CheckParameter(p.Name),
		at("type", oneOf(p.Type, ParameterString, ParameterInt, ParameterBool)),
		at("description", checkText(p.Description, maxMessage)),
		list("environments", len(p.Environments), 0, maxVariables),
	); err != nil {
		return err
	}
	if p.Sensitive && (p.Default != nil || len(p.Environments) > 0) {
		return errors.New("a sensitive parameter cannot have its value in a release")
	}
	if p.Default != nil {
		if err := at("default", p.CheckValue(*p.Default)); err != nil {
			return err
		}
	}
	for environment, value := range p.Environments {
		if err := first(CheckEnvironment(environment), p.CheckValue(value)); err != nil {
			return at("environments", err)
		}
	}
	return nil
}

// CheckValue refuses values that are not of the parameter's type. The value
// never stands in the error, since it may be a secret.
func (p Parameter) CheckValue(value string) error {
	if err := checkFree(value); err != nil {
		return fmt.Errorf("parameter %s: %w", p.Name, err)
	}
	switch p.Type {
	case ParameterString:
		return nil
	case ParameterInt:
		if n, err := strconv.ParseInt(value, 10, 64); err != nil || strconv.FormatInt(n, 10) != value {
			return fmt.Errorf("parameter %s: the value is not a whole number", p.Name)
		}
		return nil
	case ParameterBool:
		if value != "true" && value != "false" {
			return fmt.Errorf("parameter %s: the value is neither true nor false", p.Name)
		}
		return nil
	}
	return fmt.Errorf("parameter %s: type %q is unknown", p.Name, clip(p.Type))
}

func (p Process) check() error {
	if err := list("steps", len(p.Steps), 0, MaxSteps); err != nil {
		return err
	}
	names := seen[string]{}
	for i := range p.Steps {
		s := &p.Steps[i]
		if err := item("step", i, s.Name, s.check(), names.add(s.Name)); err != nil {
			return err
		}
	}
	return nil
}

func (s *Step) check() error {
	if err := first(
		at("name", checkLine(s.Name, 1, maxStepName)),
		list("words to run", len(s.Run), 1, maxArguments),
		at("timeout", between(s.Timeout, 1, MaxTimeout)),
		list("environment variables", len(s.Environment), 0, maxVariables),
	); err != nil {
		return err
	}
	if s.Run[0] == "" {
		return errors.New("run: the program is not named")
	}
	for _, word := range s.Run {
		if err := at("run", checkFree(word)); err != nil {
			return err
		}
	}
	if s.Directory != "" {
		if err := at("directory", CheckPath(s.Directory)); err != nil {
			return err
		}
	}
	for name, value := range s.Environment {
		if err := at("environment", CheckParameter(name), checkFree(value)); err != nil {
			return err
		}
	}
	return nil
}
