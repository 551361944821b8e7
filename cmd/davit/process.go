package main

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/goccy/go-yaml/ast"

	"davit/manifest"
)

// processFile is the YAML that release create --process reads.
type processFile struct {
	Steps      []stepText      `yaml:"steps"`
	Parameters []parameterText `yaml:"parameters"`
}

type stepText struct {
	Name        string            `yaml:"name"`
	Run         commandText       `yaml:"run"`
	Timeout     scalar            `yaml:"timeout"`
	Directory   string            `yaml:"directory"`
	Environment map[string]scalar `yaml:"environment"`
}

type parameterText struct {
	Name         string            `yaml:"name"`
	Type         string            `yaml:"type"`
	Description  string            `yaml:"description"`
	Default      *scalar           `yaml:"default"`
	Required     bool              `yaml:"required"`
	Sensitive    bool              `yaml:"sensitive"`
	Environments map[string]scalar `yaml:"environments"`
}

// scalar is a value as it is written: 1.10 stays "1.10" and 007 "007".
type scalar string

// UnmarshalYAML takes the text of any scalar.
func (s *scalar) UnmarshalYAML(n ast.Node) error {
	switch v := n.(type) {
	case *ast.StringNode:
		*s = scalar(v.Value)
	case *ast.LiteralNode:
		*s = scalar(v.Value.Value)
	case *ast.IntegerNode, *ast.FloatNode, *ast.BoolNode, *ast.InfinityNode, *ast.NanNode:
		*s = scalar(n.GetToken().Value)
	case *ast.NullNode:
		return atLine(n, errors.New("a value is missing; write \"\" for an empty one"))
	default:
		return atLine(n, errors.New("a single value is wanted here, not a list or map"))
	}
	return nil
}

// commandText is a program with its arguments, or one line for the shell.
type commandText []string

// UnmarshalYAML reads a list, or a string for /bin/sh.
func (c *commandText) UnmarshalYAML(n ast.Node) error {
	list, ok := n.(*ast.SequenceNode)
	if !ok {
		var line scalar
		if err := line.UnmarshalYAML(n); err != nil {
			return err
		}
		*c = commandText{"/bin/sh", "-c", string(line)}
		return nil
	}
	for _, v := range list.Values {
		var arg scalar
		if err := arg.UnmarshalYAML(v); err != nil {
			return err
		}
		*c = append(*c, string(arg))
	}
	return nil
}

const defaultTimeout = 15 * time.Minute

// readProcess reads a process file.
func readProcess(path string) (manifest.Process, []manifest.Parameter, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return manifest.Process{}, nil, failf(exitUnreachable, "the process file %s cannot be read: %v", path, plain(err))
	}
	process, parameters, err := parseProcess(data)
	if err != nil {
		return manifest.Process{}, nil, usagef("%s: %v", path, err)
	}
	return process, parameters, nil
}

func parseProcess(data []byte) (manifest.Process, []manifest.Parameter, error) {
	var (
		text       processFile
		process    manifest.Process
		parameters []manifest.Parameter
	)
	if err := decodeYAML(data, &text); err != nil {
		return process, nil, err
	}
	for i, s := range text.Steps {
		if s.Name == "" {
			return process, nil, fmt.Errorf("step %d has no name", i+1)
		}
		if len(s.Run) == 0 {
			return process, nil, fmt.Errorf("step %q has nothing to run", s.Name)
		}
		timeout, err := parseTimeout(string(s.Timeout))
		if err != nil {
			return process, nil, fmt.Errorf("step %q: %w", s.Name, err)
		}
		process.Steps = append(process.Steps, manifest.Step{Name: s.Name, Run: s.Run, Timeout: timeout,
			Directory: s.Directory, Environment: texts(s.Environment)})
	}
	for i, t := range text.Parameters {
		if t.Name == "" {
			return process, nil, fmt.Errorf("parameter %d has no name", i+1)
		}
		q := manifest.Parameter{Name: t.Name, Type: t.Type, Description: t.Description, Default: (*string)(t.Default),
			Required: t.Required, Sensitive: t.Sensitive, Environments: texts(t.Environments)}
		if q.Type == "" {
			q.Type = manifest.ParameterString
		}
		if q.Sensitive && (q.Default != nil || len(q.Environments) > 0) {
			return process, nil, fmt.Errorf("parameter %s is sensitive: no value of it may stand in a release, where every site can read it. Take the default out, and set it where it is deployed: davit set PROJECT %s --env ENVIRONMENT", q.Name, q.Name)
		}
		parameters = append(parameters, q)
	}
	return process, parameters, nil
}

func texts(m map[string]scalar) map[string]string {
	if len(m) == 0 {
		return nil
	}
	out := make(map[string]string, len(m))
	for k, v := range m {
		out[k] = string(v)
	}
	return out
}

// parseTimeout reads "90s", "15m" or "1h30m" into whole seconds.
func parseTimeout(s string) (int64, error) {
	if s == "" {
		return int64(defaultTimeout / time.Second), nil
	}
	d, err := time.ParseDuration(strings.TrimSpace(s))
	if err != nil {
		return 0, fmt.Errorf("timeout %q is none; write for instance 90s, 15m or 1h30m", s)
	}
	if d < time.Second || d%time.Second != 0 || d > manifest.MaxTimeout*time.Second {
		return 0, fmt.Errorf("timeout %q is none; it takes whole seconds, from 1s to 168h", s)
	}
	return int64(d / time.Second), nil
}
